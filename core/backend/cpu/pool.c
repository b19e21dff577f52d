/* pool.c - maxima and means over windows of f32 activations in channels-last order: the loops run along the
 * channels of one place. */
#include "backend/cpu/clones.h"
#include "backend/cpu/layout.h"

#include <math.h>
#include <string.h>

enum { X };
enum { Y, INDEX };
enum { KERNEL, STRIDE, PADDING, CEIL, DILATION, COUNT_PAD = DILATION };

typedef enum pool_kind { FIXED_MAX, FIXED_MEAN, ADAPTIVE } pool_kind;

/* Places of one output along one axis: from, from + step, ... below to; `divisor` of them count. */
typedef struct window {
  int64_t from, to, step, divisor;
} window;

static window fixed_window(const pr_call *c, pool_kind kind, int axis, int64_t size, int64_t at) {
  const int64_t kernel = prO_int(c, KERNEL, axis), padding = prO_int(c, PADDING, axis);
  const int64_t stride = prO_int(c, STRIDE, axis) ? prO_int(c, STRIDE, axis) : kernel;
  const int64_t step = kind == FIXED_MAX ? prO_int(c, DILATION, axis) : 1;
  int64_t from = at * stride - padding, to = from + (kernel - 1) * step + 1;
  if (kind == FIXED_MEAN && to > size + padding) to = size + padding;
  const int64_t divisor = to - from;
  if (from < 0) from += (-from + step - 1) / step * step;
  if (to > size) to = size;
  const bool inside = kind == FIXED_MEAN && !c->args[COUNT_PAD].integer;
  return (window){ from, to, step, inside ? to - from : divisor };
}

static window window_at(const pr_call *c, pool_kind kind, int axis, int64_t size, int64_t outputs,
                        int64_t at) {
  if (axis < 0) return (window){ 0, 1, 1, 1 };
  if (kind != ADAPTIVE) return fixed_window(c, kind, axis, size, at);
  const int64_t from = at * size / outputs, to = ((at + 1) * size + outputs - 1) / outputs;
  return (window){ from, to, 1, to - from };
}

/* Sizes of input and output; with one spatial axis the first is 1. */
typedef struct extent {
  int64_t batch, channels, in[2], out[2];
  int space;
} extent;

static extent extent_of(const pr_tensor *x, const pr_tensor *y) {
  extent e = { x->shape[0], x->shape[1], { 1, 1 }, { 1, 1 }, x->dim - 2 };
  for (int k = 0; k < e.space; k++) {
    e.in[k + 2 - e.space] = x->shape[2 + k];
    e.out[k + 2 - e.space] = y->shape[2 + k];
  }
  return e;
}

static void windows_of(const pr_call *c, const extent *e, pool_kind kind, int64_t i, int64_t j, window w[2]) {
  w[0] = window_at(c, kind, e->space - 2, e->in[0], e->out[0], i);
  w[1] = window_at(c, kind, e->space - 1, e->in[1], e->out[1], j);
}

/* --- maximum
 * ----------------------------------------------------------------------------------------------------------
 */

/* The first largest wins; a NaN is larger than all, the first NaN stays. */
PRK_CLONES static void max_place(int64_t channels, const float *restrict x, int32_t place,
                                 float *restrict best, int32_t *restrict index) {
  for (int64_t k = 0; k < channels; k++) {
    const bool wins = (x[k] > best[k]) | ((x[k] != x[k]) & (best[k] == best[k]));
    best[k] = wins ? x[k] : best[k];
    index[k] = wins ? place : index[k];
  }
}

static void max_window(const extent *e, const window w[2], const float *image, float *y, int32_t *index) {
  const int32_t first = (int32_t)(w[0].from * e->in[1] + w[1].from);
  for (int64_t k = 0; k < e->channels; k++) y[k] = -INFINITY, index[k] = first;
  for (int64_t u = w[0].from; u < w[0].to; u += w[0].step)
    for (int64_t v = w[1].from; v < w[1].to; v += w[1].step) {
      const int64_t place = u * e->in[1] + v;
      max_place(e->channels, image + place * e->channels, (int32_t)place, y, index);
    }
}

static pr_status max_forward(pr_call *c, pool_kind kind) {
  pr_tensor *index_tensor = c->out[INDEX];
  if (!prK_all_f32(c->in, 1) || pr_numel(c->out[Y]) == 0) return PR_DECLINED;
  const extent e = extent_of(c->in[X], c->out[Y]);
  const float *x = prK_channels_last(c, c->in[X]);
  float *y = prK_channels_last_room(c, c->out[Y]);
  /* f32 and i32 have one size, so the copies between orders serve both. */
  int32_t *index = (int32_t *)prK_channels_last_room(c, index_tensor);
  if (!x || !y || !index) return PR_ERR_MEMORY;
#pragma omp parallel for schedule(static) collapse(2)
  for (int64_t n = 0; n < e.batch; n++)
    for (int64_t i = 0; i < e.out[0]; i++)
      for (int64_t j = 0; j < e.out[1]; j++) {
        const int64_t at = ((n * e.out[0] + i) * e.out[1] + j) * e.channels;
        window w[2];
        windows_of(c, &e, kind, i, j, w);
        max_window(&e, w, x + n * e.in[0] * e.in[1] * e.channels, y + at, index + at);
      }
  prK_channels_last_finish(c->out[Y], y);
  prK_channels_last_finish(index_tensor, (const float *)index);
  return PR_OK;
}

static pr_status max_backward(pr_call *c) {
  if (!prK_all_f32(c->grad_out, 1) || !prK_all_f32(c->grad_in, 1) || pr_numel(c->grad_out[Y]) == 0)
    return PR_DECLINED;
  const extent e = extent_of(c->grad_in[X], c->grad_out[Y]);
  const float *dy = prK_channels_last(c, c->grad_out[Y]);
  const int32_t *index = (const int32_t *)prK_channels_last(c, c->out[INDEX]);
  float *dx = prK_channels_last_room(c, c->grad_in[X]);
  if (!dy || !index || !dx) return PR_ERR_MEMORY;
  const int64_t from = e.in[0] * e.in[1] * e.channels, outputs = e.out[0] * e.out[1];
#pragma omp parallel for schedule(static)
  for (int64_t n = 0; n < e.batch; n++) {
    float *image = dx + n * from;
    memset(image, 0, sizeof(float) * (size_t)from);
    for (int64_t at = n * outputs; at < (n + 1) * outputs; at++)
      for (int64_t k = 0; k < e.channels; k++)
        image[index[at * e.channels + k] * e.channels + k] += dy[at * e.channels + k];
  }
  prK_channels_last_finish(c->grad_in[X], dx);
  return PR_OK;
}

/* --- mean
 * -------------------------------------------------------------------------------------------------------------
 */

PRK_CLONES static void add_scaled(int64_t n, const float *restrict x, float factor, float *restrict y) {
  for (int64_t k = 0; k < n; k++) y[k] += factor * x[k];
}

PRK_CLONES static void scale(int64_t n, float factor, float *y) {
  for (int64_t k = 0; k < n; k++) y[k] *= factor;
}

/* forward: y[at] = mean of x over the window; else x += y[at] / divisor over the window. */
static void mean_window(const extent *e, const window w[2], bool forward, float *image, float *y) {
  const float share = 1 / (float)(w[0].divisor * w[1].divisor);
  if (forward) memset(y, 0, sizeof(float) * (size_t)e->channels);
  for (int64_t u = w[0].from; u < w[0].to; u++)
    for (int64_t v = w[1].from; v < w[1].to; v++) {
      float *x = image + (u * e->in[1] + v) * e->channels;
      if (forward)
        add_scaled(e->channels, x, 1, y);
      else
        add_scaled(e->channels, y, share, x);
    }
  if (forward) scale(e->channels, share, y);
}

static void mean_images(const pr_call *c, const extent *e, pool_kind kind, bool forward, float *x, float *y) {
  const int64_t from = e->in[0] * e->in[1] * e->channels, to = e->out[0] * e->out[1] * e->channels;
#pragma omp parallel for schedule(static)
  for (int64_t n = 0; n < e->batch; n++) {
    if (!forward) memset(x + n * from, 0, sizeof(float) * (size_t)from);
    for (int64_t i = 0; i < e->out[0]; i++)
      for (int64_t j = 0; j < e->out[1]; j++) {
        window w[2];
        windows_of(c, e, kind, i, j, w);
        mean_window(e, w, forward, x + n * from, y + n * to + (i * e->out[1] + j) * e->channels);
      }
  }
}

static pr_status mean_forward(pr_call *c, pool_kind kind) {
  if (!prK_all_f32(c->in, 1) || pr_numel(c->out[Y]) == 0) return PR_DECLINED;
  const extent e = extent_of(c->in[X], c->out[Y]);
  const float *x = prK_channels_last(c, c->in[X]);
  float *y = prK_channels_last_room(c, c->out[Y]);
  if (!x || !y) return PR_ERR_MEMORY;
  mean_images(c, &e, kind, true, (float *)x, y);
  prK_channels_last_finish(c->out[Y], y);
  return PR_OK;
}

static pr_status mean_backward(pr_call *c, pool_kind kind) {
  if (!prK_all_f32(c->grad_out, 1) || !prK_all_f32(c->grad_in, 1) || pr_numel(c->grad_out[Y]) == 0)
    return PR_DECLINED;
  const extent e = extent_of(c->grad_in[X], c->grad_out[Y]);
  const float *dy = prK_channels_last(c, c->grad_out[Y]);
  float *dx = prK_channels_last_room(c, c->grad_in[X]);
  if (!dy || !dx) return PR_ERR_MEMORY;
  mean_images(c, &e, kind, false, dx, (float *)dy);
  prK_channels_last_finish(c->grad_in[X], dx);
  return PR_OK;
}

PR_KERNEL(cpu, max_pool1d, forward)
{ return max_forward(c, FIXED_MAX); }
PR_KERNEL(cpu, max_pool1d, backward)
{ return max_backward(c); }
PR_KERNEL(cpu, max_pool2d, forward)
{ return max_forward(c, FIXED_MAX); }
PR_KERNEL(cpu, max_pool2d, backward)
{ return max_backward(c); }
PR_KERNEL(cpu, adaptive_max_pool2d, forward)
{ return max_forward(c, ADAPTIVE); }
PR_KERNEL(cpu, adaptive_max_pool2d, backward)
{ return max_backward(c); }
PR_KERNEL(cpu, avg_pool1d, forward)
{ return mean_forward(c, FIXED_MEAN); }
PR_KERNEL(cpu, avg_pool1d, backward)
{ return mean_backward(c, FIXED_MEAN); }
PR_KERNEL(cpu, avg_pool2d, forward)
{ return mean_forward(c, FIXED_MEAN); }
PR_KERNEL(cpu, avg_pool2d, backward)
{ return mean_backward(c, FIXED_MEAN); }
PR_KERNEL(cpu, adaptive_avg_pool1d, forward)
{ return mean_forward(c, ADAPTIVE); }
PR_KERNEL(cpu, adaptive_avg_pool1d, backward)
{ return mean_backward(c, ADAPTIVE); }
PR_KERNEL(cpu, adaptive_avg_pool2d, forward)
{ return mean_forward(c, ADAPTIVE); }
PR_KERNEL(cpu, adaptive_avg_pool2d, backward)
{ return mean_backward(c, ADAPTIVE); }
