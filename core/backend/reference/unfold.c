/* unfold.c - windows as columns, and columns summed into an image: each is the other's gradient. */
#include "backend/backend.h"

enum { X };
enum { Y };
enum { KERNEL, STRIDE, PADDING, DILATION };

/* Image [N, C, H, W] and columns [N, C KH KW, windows], both row-major. To the columns: copied; to the image:
 * added. */
static void exchange(const pr_call *c, const pr_tensor *shape, double *image, double *columns,
                     bool to_image) {
  int64_t height = shape->shape[2], width = shape->shape[3], kernel[2], out[2];
  for (int k = 0; k < 2; k++) {
    kernel[k] = prO_int(c, KERNEL, k);
    int64_t room =
        shape->shape[2 + k] + 2 * prO_int(c, PADDING, k) - prO_int(c, DILATION, k) * (kernel[k] - 1) - 1;
    out[k] = room / prO_int(c, STRIDE, k) + 1;
  }
  int64_t taps = kernel[0] * kernel[1], windows = out[0] * out[1];
  for (int64_t row = 0; row < shape->shape[0] * shape->shape[1] * taps; row++) {
    double *plane = image + row / taps * height * width;
    int64_t u = row % taps / kernel[1], v = row % kernel[1];
    for (int64_t at = 0; at < windows; at++) {
      int64_t y = at / out[1] * prO_int(c, STRIDE, 0) - prO_int(c, PADDING, 0) + u * prO_int(c, DILATION, 0);
      int64_t x = at % out[1] * prO_int(c, STRIDE, 1) - prO_int(c, PADDING, 1) + v * prO_int(c, DILATION, 1);
      bool inside = y >= 0 && y < height && x >= 0 && x < width;
      if (!to_image)
        columns[row * windows + at] = inside ? plane[y * width + x] : 0;
      else if (inside)
        plane[y * width + x] += columns[row * windows + at];
    }
  }
}

static pr_status to_columns(pr_call *c, const pr_tensor *image, pr_tensor *columns) {
  PRK_LOAD(from, image);
  PRK_ROOM(to, pr_numel(columns));
  exchange(c, image, (double *)from, to, false);
  return prK_store(columns, to);
}

static pr_status to_image(pr_call *c, const pr_tensor *columns, pr_tensor *image) {
  PRK_LOAD(from, columns);
  PRK_ZEROS(to, pr_numel(image));
  exchange(c, image, to, (double *)from, true);
  return prK_store(image, to);
}

PR_KERNEL(reference, unfold, forward)
{ return to_columns(c, c->in[X], c->out[Y]); }
PR_KERNEL(reference, unfold, backward)
{ return to_image(c, c->grad_out[Y], c->grad_in[X]); }
PR_KERNEL(reference, fold, forward)
{ return to_image(c, c->in[X], c->out[Y]); }
PR_KERNEL(reference, fold, backward)
{ return to_columns(c, c->grad_out[Y], c->grad_in[X]); }
