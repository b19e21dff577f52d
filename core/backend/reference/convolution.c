/* convolution.c - convolution and transposed convolution as one loop nest.
 *
 * A convolution ties an image [N, I, H, W], a weight [O, I / groups, KH, KW] and a result [N, O, H', W'] in a
 * sum of products. Each of the three is computed from the other two by the same nest: the result
 * (convolution), the image (its adjoint, which is what a transposed convolution computes), the weight (its
 * gradient). Arrays are row-major doubles; one spatial axis is H = 1.
 */
#include "backend/backend.h"

enum { X, WEIGHT, BIAS };
enum { STRIDE, PADDING, DILATION };

typedef struct geometry {
  int64_t batch, image_channels, result_channels, groups;
  int64_t image[2], result[2], kernel[2], stride[2], padding[2], dilation[2];
} geometry;

static geometry geometry_of(const pr_call *c, const pr_tensor *image, const pr_tensor *result) {
  const pr_tensor *weight = c->in[WEIGHT];
  geometry g = { image->shape[0], image->shape[1], result->shape[1], 1,        { 1, 1 },
                 { 1, 1 },        { 1, 1 },        { 1, 1 },         { 0, 0 }, { 1, 1 } };
  g.groups = weight->shape[1] > 0 ? image->shape[1] / weight->shape[1] : 1;
  int space = image->dim - 2;
  for (int k = 0; k < space; k++) {
    int to = k + 2 - space;
    g.image[to] = image->shape[2 + k];
    g.result[to] = result->shape[2 + k];
    g.kernel[to] = weight->shape[2 + k];
    g.stride[to] = prO_int(c, STRIDE, k);
    g.padding[to] = prO_int(c, PADDING, k);
    g.dilation[to] = prO_int(c, DILATION, k);
  }
  return g;
}

/* Positions [*from, *to) of the result whose tap `k` lies inside the image, along one axis. */
static void inside(const geometry *g, int axis, int64_t k, int64_t *from, int64_t *to) {
  int64_t shift = g->padding[axis] - k * g->dilation[axis], stride = g->stride[axis];
  int64_t first = shift > 0 ? (shift + stride - 1) / stride : 0;
  int64_t room = g->image[axis] - 1 + shift;
  int64_t past = room < 0 ? 0 : room / stride + 1;
  *from = first;
  *to = past < g->result[axis] ? past : g->result[axis];
}

enum target { TO_RESULT, TO_IMAGE, TO_WEIGHT };

/* One tap of one channel pair: the row loop that all three share. */
static inline double tap(const geometry *g, enum target target, double *image, double *result, double w,
                         int64_t ky, int64_t kx) {
  int64_t y0, y1, x0, x1, step = g->stride[1];
  double sum = 0;
  inside(g, 0, ky, &y0, &y1);
  inside(g, 1, kx, &x0, &x1);
  for (int64_t y = y0; y < y1; y++) {
    double *from = image + (y * g->stride[0] - g->padding[0] + ky * g->dilation[0]) * g->image[1] -
                   g->padding[1] + kx * g->dilation[1];
    double *to = result + y * g->result[1];
    if (target == TO_RESULT)
      for (int64_t x = x0; x < x1; x++) to[x] += w * from[x * step];
    else if (target == TO_IMAGE)
      for (int64_t x = x0; x < x1; x++) from[x * step] += w * to[x];
    else
      for (int64_t x = x0; x < x1; x++) sum += to[x] * from[x * step];
  }
  return sum;
}

static inline void nest(const geometry *g, enum target target, double *image, double *weight,
                        double *result) {
  int64_t taken = g->image_channels / g->groups, given = g->result_channels / g->groups;
  int64_t image_plane = g->image[0] * g->image[1], result_plane = g->result[0] * g->result[1];
  int64_t taps = g->kernel[0] * g->kernel[1];
  for (int64_t n = 0; n < g->batch; n++)
    for (int64_t o = 0; o < g->result_channels; o++)
      for (int64_t i = 0; i < taken; i++) {
        double *from = image + (n * g->image_channels + o / given * taken + i) * image_plane;
        double *to = result + (n * g->result_channels + o) * result_plane;
        double *w = weight + (o * taken + i) * taps;
        for (int64_t ky = 0; ky < g->kernel[0]; ky++)
          for (int64_t kx = 0; kx < g->kernel[1]; kx++) {
            double sum = tap(g, target, from, to, w[ky * g->kernel[1] + kx], ky, kx);
            if (target == TO_WEIGHT) w[ky * g->kernel[1] + kx] += sum;
          }
      }
}

/* Every pass reads two of the three arrays and adds to the third; casting the two read ones keeps one
 * signature. */
static void to_result(const geometry *g, const double *image, const double *weight, double *result) {
  nest(g, TO_RESULT, (double *)image, (double *)weight, result);
}
static void to_image(const geometry *g, double *image, const double *weight, const double *result) {
  nest(g, TO_IMAGE, image, (double *)weight, (double *)result);
}
static void to_weight(const geometry *g, const double *image, double *weight, const double *result) {
  nest(g, TO_WEIGHT, (double *)image, weight, (double *)result);
}

static void start(double *y, const pr_tensor *t, const double *bias) {
  int64_t plane = 1, channels = t->shape[1];
  for (int d = 2; d < t->dim; d++) plane *= t->shape[d];
  for (int64_t i = 0, n = pr_numel(t); i < n; i++) y[i] = bias ? bias[i / plane % channels] : 0;
}

static pr_status bias_gradient(pr_call *c, const double *gy) {
  if (!c->grad_in[BIAS]) return PR_OK;
  const pr_tensor *t = c->grad_out[0];
  PRK_ZEROS(gb, t->shape[1]);
  int64_t plane = 1;
  for (int d = 2; d < t->dim; d++) plane *= t->shape[d];
  for (int64_t i = 0, n = pr_numel(t); i < n; i++) gb[i / plane % t->shape[1]] += gy[i];
  return prK_store(c->grad_in[BIAS], gb);
}

static pr_status forward(pr_call *c, bool transposed) {
  PRK_LOAD(x, c->in[X]);
  PRK_LOAD(weight, c->in[WEIGHT]);
  PRK_LOAD(bias, c->in[BIAS]);
  PRK_ROOM(y, pr_numel(c->out[0]));
  start(y, c->out[0], bias);
  if (transposed) {
    geometry g = geometry_of(c, c->out[0], c->in[X]);
    to_image(&g, y, weight, x);
  } else {
    geometry g = geometry_of(c, c->in[X], c->out[0]);
    to_result(&g, x, weight, y);
  }
  return prK_store(c->out[0], y);
}

static pr_status backward(pr_call *c, bool transposed) {
  PRK_LOAD(gy, c->grad_out[0]);
  geometry g =
      transposed ? geometry_of(c, c->grad_out[0], c->in[X]) : geometry_of(c, c->in[X], c->grad_out[0]);
  if (c->grad_in[X]) {
    PRK_LOAD(weight, c->in[WEIGHT]);
    PRK_ZEROS(gx, pr_numel(c->grad_in[X]));
    if (transposed)
      to_result(&g, gy, weight, gx);
    else
      to_image(&g, gx, weight, gy);
    PR_TRY(prK_store(c->grad_in[X], gx));
  }
  if (c->grad_in[WEIGHT]) {
    PRK_LOAD(x, c->in[X]);
    PRK_ZEROS(gw, pr_numel(c->grad_in[WEIGHT]));
    to_weight(&g, transposed ? gy : x, gw, transposed ? x : gy);
    PR_TRY(prK_store(c->grad_in[WEIGHT], gw));
  }
  return bias_gradient(c, gy);
}

PR_KERNEL(reference, conv1d, forward)
{ return forward(c, false); }
PR_KERNEL(reference, conv1d, backward)
{ return backward(c, false); }
PR_KERNEL(reference, conv2d, forward)
{ return forward(c, false); }
PR_KERNEL(reference, conv2d, backward)
{ return backward(c, false); }
PR_KERNEL(reference, conv_transpose1d, forward)
{ return forward(c, true); }
PR_KERNEL(reference, conv_transpose1d, backward)
{ return backward(c, true); }
PR_KERNEL(reference, conv_transpose2d, forward)
{ return forward(c, true); }
PR_KERNEL(reference, conv_transpose2d, backward)
{ return backward(c, true); }
