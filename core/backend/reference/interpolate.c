/* interpolate.c - resizing: along each axis an output place takes from two input places with weights that sum
 * to 1. */
#include <math.h>

#include "backend/backend.h"

enum { X };
enum { Y };
enum { SIZE, SCALE, MODE, ALIGN };
enum { NEAREST, BILINEAR };

typedef struct source {
  int64_t low, high;
  double share; /* of high */
} source;

static source source_of(const pr_call *c, int64_t in, int64_t out, int64_t at) {
  double scale = c->args[SCALE].real, ratio = scale == 0 ? (double)in / (double)out : 1 / scale;
  if (c->args[MODE].integer == NEAREST) {
    int64_t low = (int64_t)floor((double)at * ratio);
    if (low > in - 1) low = in - 1;
    return (source){ low, low, 0 };
  }
  double place = ((double)at + 0.5) * ratio - 0.5;
  if (c->args[ALIGN].integer) place = out > 1 ? (double)at * (double)(in - 1) / (double)(out - 1) : 0;
  if (place < 0) place = 0;
  int64_t low = (int64_t)place;
  if (low > in - 1) low = in - 1;
  return (source){ low, low < in - 1 ? low + 1 : low, place - (double)low };
}

/* Walk all outputs; forward reads x and sets y, backward adds y's gradient to x's. */
static void resize(const pr_call *c, const pr_tensor *x_shape, const pr_tensor *y_shape, double *x, double *y,
                   bool back) {
  int64_t h = x_shape->shape[2], w = x_shape->shape[3], H = y_shape->shape[2], W = y_shape->shape[3];
  for (int64_t n = 0; n < x_shape->shape[0] * x_shape->shape[1]; n++)
    for (int64_t i = 0; i < H; i++)
      for (int64_t j = 0; j < W; j++) {
        source r = source_of(c, h, H, i), s = source_of(c, w, W, j);
        double *plane = x + n * h * w, *value = y + (n * H + i) * W + j, sum = 0;
        for (int corner = 0; corner < 4; corner++) {
          double share = (corner & 2 ? r.share : 1 - r.share) * (corner & 1 ? s.share : 1 - s.share);
          double *at = plane + (corner & 2 ? r.high : r.low) * w + (corner & 1 ? s.high : s.low);
          if (share == 0) continue;
          if (back)
            *at += share * *value;
          else
            sum += share * *at;
        }
        if (!back) *value = sum;
      }
}

PR_KERNEL(reference, interpolate, forward)
{
  PRK_LOAD(x, c->in[X]);
  PRK_ROOM(y, pr_numel(c->out[Y]));
  resize(c, c->in[X], c->out[Y], (double *)x, y, false);
  return prK_store(c->out[Y], y);
}

PR_KERNEL(reference, interpolate, backward)
{
  PRK_LOAD(gy, c->grad_out[Y]);
  PRK_ZEROS(gx, pr_numel(c->grad_in[X]));
  resize(c, c->grad_in[X], c->grad_out[Y], gx, (double *)gy, true);
  return prK_store(c->grad_in[X], gx);
}
