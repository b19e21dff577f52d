#include "backend/cpu/norm.h"

#include "backend/cpu/clones.h"
#include "backend/cpu/parallel.h"

#include <string.h>

enum {
  BLOCK = 32,         /* rows that are summed in float */
  PARTS = 64,         /* most parts that rows are cut into */
  PART_ROWS = 128,    /* fewest rows of a part */
  PARALLEL = 1 << 16, /* elements from which waking a thread pays */
  STRIP = 64          /* channels summed at a time: their sums stay in vector registers */
};

static int64_t part_count(int64_t rows) {
  const int64_t parts = (rows + PART_ROWS - 1) / PART_ROWS;
  return parts < 1 ? 1 : parts > PARTS ? PARTS : parts;
}

size_t prK_norm_scratch(int64_t rows, int64_t channels) {
  return (size_t)(part_count(rows) * channels) * 2 * sizeof(double);
}

/* --- sums
 * -------------------------------------------------------------------------------------------------------------
 */

/* Two sums per channel over a strip of one block of rows: of u and of u * w, where w = x - origin and u = dy,
 * or u = w where there is no dy. The loop over a whole strip has a length that the compiler knows, so that
 * its sums need no memory. */
static inline __attribute__((always_inline)) void strip_sums(
    int64_t rows, int64_t channels, const int width, const float *restrict dy, const float *restrict x,
    const float *restrict origin, double *restrict to, double *restrict to_product) {
  float sum[STRIP] = { 0 }, product[STRIP] = { 0 };
  if (dy)
    for (int64_t r = 0; r < rows; r++, x += channels, dy += channels)
      for (int i = 0; i < width; i++) {
        const float w = x[i] - origin[i];
        sum[i] += dy[i];
        product[i] += dy[i] * w;
      }
  else
    for (int64_t r = 0; r < rows; r++, x += channels)
      for (int i = 0; i < width; i++) {
        const float w = x[i] - origin[i];
        sum[i] += w;
        product[i] += w * w;
      }
  for (int i = 0; i < width; i++) to[i] += sum[i], to_product[i] += product[i];
}

PRK_CLONES static void block_sums(int64_t rows, int64_t channels, const float *dy, const float *x,
                                  const float *origin, double *to, double *to_product) {
  int64_t c = 0;
  for (; c + STRIP <= channels; c += STRIP)
    strip_sums(rows, channels, STRIP, dy ? dy + c : NULL, x + c, origin + c, to + c, to_product + c);
  if (c < channels)
    strip_sums(rows, channels, (int)(channels - c), dy ? dy + c : NULL, x + c, origin + c, to + c,
               to_product + c);
}

PRK_CLONES static void block_plain_sums(int64_t rows, int64_t channels, const float *x, double *to) {
  for (int64_t c = 0; c < channels; c += STRIP) {
    float sum[STRIP] = { 0 };
    const float *from = x + c;
    if (channels - c >= STRIP)
      for (int64_t r = 0; r < rows; r++, from += channels)
        for (int i = 0; i < STRIP; i++) sum[i] += from[i];
    else
      for (int64_t r = 0; r < rows; r++, from += channels)
        for (int i = 0; i < channels - c; i++) sum[i] += from[i];
    for (int i = 0; i < STRIP && c + i < channels; i++) to[c + i] += sum[i];
  }
}

/* Sums of all parts, [part][2][channels], then one over the parts in their order. origin NULL: only sums of
 * x. */
static void all_sums(int64_t rows, int64_t channels, const float *dy, const float *x, const float *origin,
                     double *sum, double *sum_product, double *room) {
  const int64_t parts = part_count(rows);
#pragma omp parallel for schedule(static) if (rows * channels >= PARALLEL)
  for (int64_t part = 0; part < parts; part++) {
    double *to = room + part * 2 * channels;
    const int64_t end = (part + 1) * rows / parts;
    memset(to, 0, sizeof(double) * 2 * (size_t)channels);
    for (int64_t r = part * rows / parts; r < end; r += BLOCK) {
      const int64_t n = end - r < BLOCK ? end - r : BLOCK;
      if (origin)
        block_sums(n, channels, dy ? dy + r * channels : NULL, x + r * channels, origin, to, to + channels);
      else
        block_plain_sums(n, channels, x + r * channels, to);
    }
  }
  for (int64_t c = 0; c < channels; c++) {
    double first = 0, second = 0;
    for (int64_t part = 0; part < parts; part++) {
      first += room[part * 2 * channels + c];
      second += room[(part * 2 + 1) * channels + c];
    }
    sum[c] = first;
    if (sum_product) sum_product[c] = second;
  }
}

void prK_channel_statistics(int64_t rows, int64_t channels, const float *x, double *mean, double *variance,
                            void *scratch) {
  all_sums(rows, channels, NULL, x, x, mean, variance, scratch);
  for (int64_t c = 0; c < channels; c++) {
    const double shifted = mean[c] / (double)rows, spread = variance[c] / (double)rows - shifted * shifted;
    mean[c] = shifted + x[c];
    variance[c] = spread > 0 ? spread : 0;
  }
}

void prK_channel_products(int64_t rows, int64_t channels, const float *dy, const float *x, const float *mean,
                          double *sum_dy, double *sum_dy_x, void *scratch) {
  all_sums(rows, channels, dy, x, mean, sum_dy, sum_dy_x, scratch);
}

void prK_channel_sums(int64_t rows, int64_t channels, const float *x, double *sums, void *scratch) {
  all_sums(rows, channels, NULL, x, NULL, sums, NULL, scratch);
}

/* --- affine maps
 * ------------------------------------------------------------------------------------------------------ */

PRK_CLONES static void affine_rows(int64_t rows, int64_t channels, const float *x, const float *scale,
                                   const float *shift, bool relu, float *y) {
  for (int64_t r = 0; r < rows; r++, x += channels, y += channels)
    if (relu)
      for (int64_t c = 0; c < channels; c++) {
        const float v = x[c] * scale[c] + shift[c];
        y[c] = v > 0 ? v : v != v ? v : 0;
      }
    else
      for (int64_t c = 0; c < channels; c++) y[c] = x[c] * scale[c] + shift[c];
}

void prK_channel_affine(int64_t rows, int64_t channels, const float *x, const float *scale,
                        const float *shift, bool relu, float *y) {
#pragma omp parallel if (rows * channels >= PARALLEL)
  {
    int64_t begin, end;
    prK_share(rows, &begin, &end);
    affine_rows(end - begin, channels, x + begin * channels, scale, shift, relu, y + begin * channels);
  }
}

PRK_CLONES static void combine_rows(int64_t rows, int64_t channels, const float *restrict dy,
                                    const float *restrict x, const float *restrict a, const float *restrict b,
                                    const float *restrict c, float *restrict dx) {
  for (int64_t r = 0; r < rows; r++, dy += channels, x += channels, dx += channels)
    for (int64_t i = 0; i < channels; i++) dx[i] = a[i] * dy[i] + (b[i] * x[i] + c[i]);
}

void prK_channel_combine(int64_t rows, int64_t channels, const float *dy, const float *x, const float *a,
                         const float *b, const float *c, float *dx) {
#pragma omp parallel if (rows * channels >= PARALLEL)
  {
    int64_t begin, end;
    prK_share(rows, &begin, &end);
    combine_rows(end - begin, channels, dy + begin * channels, x + begin * channels, a, b, c,
                 dx + begin * channels);
  }
}
