/* resize.c - bilinear scaling with antialiasing: a triangle filter of radius max(1, reduction), normalised
 * per output pixel, applied to columns and then to rows. Only what the centre crop keeps is computed. */
#include "base/memory.h"
#include "data/image.h"

#include <math.h>

typedef struct span {
  int first, count;
  float *weights;
} span;

/* Output pixel `at` of an axis of `size` pixels that is scaled by 1 / `reduction`. */
static span taps(int at, int size, double reduction, float *weights) {
  double radius = reduction > 1 ? reduction : 1, centre = (at + 0.5) * reduction, total = 0;
  int first = (int)lround(centre - radius), end = (int)lround(centre + radius);
  if (first < 0) first = 0;
  if (end > size) end = size;
  for (int i = first; i < end; i++) {
    double w = 1 - fabs((i + 0.5 - centre) / radius);
    total += weights[i - first] = w > 0 ? (float)w : 0;
  }
  for (int i = 0; i < end - first; i++) weights[i] = (float)(weights[i] / total);
  return (span){ first, end - first, weights };
}

static uint8_t to_byte(float x) { return x <= 0 ? 0 : x >= 255 ? 255 : (uint8_t)lroundf(x); }

/* The sizes after scaling and the corner of the crop, in scaled pixels. Half offsets go to the even
 * neighbour. */
static void plan(int size, int shorter, int side, double *reduction, int *corner) {
  int scaled = size == shorter ? side : (int)((double)side * size / shorter);
  *reduction = (double)size / scaled;
  *corner = (int)nearbyint((scaled - side) / 2.0);
}

pr_status prL_image_fit(prL_decoder *decoder, const prL_image *image, int side, uint8_t *out) {
  int shorter = image->width < image->height ? image->width : image->height, left, top;
  double across, down;
  plan(image->width, shorter, side, &across, &left);
  plan(image->height, shorter, side, &down, &top);

  /* rows of the source that the crop needs: a band, horizontally scaled, rounded to bytes as Pillow does
   * between its passes */
  size_t c = (size_t)image->channels, longest = (size_t)(2 * fmax(fmax(across, down), 1)) + 3;
  double radius = down > 1 ? down : 1;
  int first = (int)floor((top + 0.5) * down - radius) - 1,
      end = (int)ceil((top + side - 0.5) * down + radius) + 1;
  if (first < 0) first = 0;
  if (end > image->height) end = image->height;
  size_t band = (size_t)(end - first) * (size_t)side * c;
  PR_TRY(PRB_RESERVE(decoder->rows, decoder->row_capacity, band + longest));
  float *weights = decoder->rows, *rows = weights + longest;

  for (int x = 0; x < side; x++) {
    span s = taps(x + left, image->width, across, weights);
    for (int y = first; y < end; y++)
      for (size_t k = 0; k < c; k++) {
        const uint8_t *from = image->pixels + ((size_t)y * (size_t)image->width + (size_t)s.first) * c + k;
        float sum = 0;
        for (int i = 0; i < s.count; i++) sum += s.weights[i] * from[(size_t)i * c];
        rows[((size_t)(y - first) * (size_t)side + (size_t)x) * c + k] = to_byte(sum);
      }
  }
  size_t row = (size_t)side * c;
  for (int y = 0; y < side; y++) {
    span s = taps(y + top, image->height, down, weights);
    for (size_t j = 0; j < row; j++) {
      float sum = 0;
      for (int i = 0; i < s.count; i++) sum += s.weights[i] * rows[(size_t)(s.first - first + i) * row + j];
      out[(size_t)y * row + j] = to_byte(sum);
    }
  }
  return PR_OK;
}
