/* softmax.c - softmax, its logarithm and the loss of class labels on f32 rows. */
#include "backend/cpu/clones.h"
#include "backend/cpu/exponential.h"
#include "backend/cpu/layout.h"

#include <string.h>

enum { PARALLEL = 1 << 14, LANES = 16 };

/* --- rows ------------------------------------------------------------------------------------------------------------- */

PRK_CLONES static float row_max(int64_t n, const float *x) {
  float lane[LANES], best;
  for (int k = 0; k < LANES; k++) lane[k] = -INFINITY;
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES)
    for (int k = 0; k < LANES; k++) lane[k] = x[i + k] > lane[k] || x[i + k] != x[i + k] ? x[i + k] : lane[k];
  best = lane[0];
  for (int k = 1; k < LANES; k++) best = lane[k] > best || lane[k] != lane[k] ? lane[k] : best;
  for (; i < n; i++) best = x[i] > best || x[i] != x[i] ? x[i] : best;
  return best;
}

/* y = exp(x - shift); their sum. */
PRK_CLONES static float row_exp(int64_t n, const float *restrict x, float shift, float *restrict y) {
  float lane[LANES] = { 0 }, sum = 0;
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES)
    for (int k = 0; k < LANES; k++) {
      y[i + k] = prK_exp(x[i + k] - shift);
      lane[k] += y[i + k];
    }
  for (; i < n; i++) y[i] = prK_exp(x[i] - shift), sum += y[i];
  for (int k = 0; k < LANES; k++) sum += lane[k];
  return sum;
}

PRK_CLONES static float row_dot(int64_t n, const float *x, const float *y) {
  float lane[LANES] = { 0 }, sum = 0;
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES)
    for (int k = 0; k < LANES; k++) lane[k] += x[i + k] * y[i + k];
  for (; i < n; i++) sum += x[i] * y[i];
  for (int k = 0; k < LANES; k++) sum += lane[k];
  return sum;
}

PRK_CLONES static void row_affine(int64_t n, const float *x, float factor, float shift, float *y) {
  for (int64_t i = 0; i < n; i++) y[i] = x[i] * factor + shift;
}

/* y = p (dy - dot) */
PRK_CLONES static void row_softmax_slope(int64_t n, const float *y, const float *dy, float dot, float *dx) {
  for (int64_t i = 0; i < n; i++) dx[i] = y[i] * (dy[i] - dot);
}

/* dy - exp(y) sum, in dx which holds exp(y) */
PRK_CLONES static void row_log_slope(int64_t n, const float *dy, float sum, float *dx) {
  for (int64_t i = 0; i < n; i++) dx[i] = dy[i] - dx[i] * sum;
}

PRK_CLONES static float row_sum(int64_t n, const float *x) {
  float lane[LANES] = { 0 }, sum = 0;
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES)
    for (int k = 0; k < LANES; k++) lane[k] += x[i + k];
  for (; i < n; i++) sum += x[i];
  for (int k = 0; k < LANES; k++) sum += lane[k];
  return sum;
}

static void softmax_row(int64_t n, const float *x, bool log, float *y) {
  const float top = row_max(n, x), shift = top == -INFINITY ? 0 : top, sum = row_exp(n, x, shift, y);
  if (log)
    row_affine(n, x, 1, -shift - logf(sum), y);
  else
    row_affine(n, y, 1 / sum, 0, y);
}

static void softmax_slope_row(int64_t n, const float *y, const float *dy, bool log, float *dx) {
  if (log) {
    const float sum = row_sum(n, dy);
    row_exp(n, y, 0, dx);
    row_log_slope(n, dy, sum, dx);
  } else
    row_softmax_slope(n, y, dy, row_dot(n, y, dy), dx);
}

/* --- softmax along the last axis -------------------------------------------------------------------------------------- */

static bool along_last(const pr_call *c, const pr_tensor *t) {
  int axis;
  return prO_dim(c, 0, t->dim, &axis) == PR_OK && axis == t->dim - 1 && pr_numel(t) > 0;
}

static pr_status forward(pr_call *c, bool log) {
  pr_tensor *y = c->out[0];
  if (!prK_all_f32(c->in, 1) || !along_last(c, y)) return PR_DECLINED;
  const int64_t n = y->shape[y->dim - 1], rows = pr_numel(y) / n;
  const float *from = prK_row_major(c, c->in[0]);
  float *to = prK_row_major_room(c, y);
  if (!from || !to) return PR_ERR_MEMORY;
#pragma omp parallel for schedule(static) if (rows * n >= PARALLEL)
  for (int64_t r = 0; r < rows; r++) softmax_row(n, from + r * n, log, to + r * n);
  prK_row_major_finish(y, to);
  return PR_OK;
}

static pr_status backward(pr_call *c, bool log) {
  pr_tensor *dx = c->grad_in[0];
  if (!prK_all_f32(c->grad_in, 1) || !prK_all_f32(c->grad_out, 1) || !along_last(c, dx)) return PR_DECLINED;
  const int64_t n = dx->shape[dx->dim - 1], rows = pr_numel(dx) / n;
  const float *y = prK_row_major(c, c->out[0]), *dy = prK_row_major(c, c->grad_out[0]);
  float *to = prK_row_major_room(c, dx);
  if (!y || !dy || !to) return PR_ERR_MEMORY;
#pragma omp parallel for schedule(static) if (rows * n >= PARALLEL)
  for (int64_t r = 0; r < rows; r++) softmax_slope_row(n, y + r * n, dy + r * n, log, to + r * n);
  prK_row_major_finish(dx, to);
  return PR_OK;
}

PR_KERNEL(cpu, softmax, forward)
{ return forward(c, false); }
PR_KERNEL(cpu, softmax, backward)
{ return backward(c, false); }
PR_KERNEL(cpu, log_softmax, forward)
{ return forward(c, true); }
PR_KERNEL(cpu, log_softmax, backward)
{ return backward(c, true); }

/* --- cross entropy of [N, C] scores without class weights --------------------------------------------------------------- */

enum { X, LABELS, WEIGHT };
enum { REDUCTION, SMOOTHING };
enum { MEAN, SUM };

static bool takes_loss(const pr_call *c) {
  const pr_tensor *x = c->in[X], *labels = c->in[LABELS];
  const bool whole = labels->dtype == PR_I64 || labels->dtype == PR_I32;
  return x->dtype == PR_F32 && x->dim == 2 && pr_numel(x) > 0 && whole &&
         !(c->n_in > WEIGHT && c->in[WEIGHT]) && c->args[REDUCTION].integer <= SUM;
}

static int64_t label_of(const pr_tensor *labels, int64_t n) {
  const void *data = prT_data(labels);
  const int64_t at = n * labels->stride[0];
  return labels->dtype == PR_I64 ? ((const int64_t *)data)[at] : ((const int32_t *)data)[at];
}

PR_KERNEL(cpu, cross_entropy, forward)
{
  if (!takes_loss(c)) return PR_DECLINED;
  const int64_t rows = c->in[X]->shape[0], n = c->in[X]->shape[1];
  const double smoothing = c->args[SMOOTHING].real;
  const float *x = prK_row_major(c, c->in[X]);
  float *room = prK_scratch(c, sizeof(float) * (size_t)n);
  if (!x || !room) return PR_ERR_MEMORY;
  double loss = 0;
  for (int64_t r = 0; r < rows; r++, x += n) {
    softmax_row(n, x, true, room);
    loss -= (1 - smoothing) * room[label_of(c->in[LABELS], r)];
    if (smoothing > 0) loss -= smoothing / (double)n * row_sum(n, room);
  }
  *(float *)prT_data(c->out[0]) = (float)(c->args[REDUCTION].integer == MEAN ? loss / (double)rows : loss);
  return PR_OK;
}

/* dx = g (softmax - (1 - s) [label] - s / C) */
PR_KERNEL(cpu, cross_entropy, backward)
{
  pr_tensor *dx = c->grad_in[X];
  if (!takes_loss(c) || !dx || !prK_all_f32(c->grad_out, 1)) return PR_DECLINED;
  const int64_t rows = dx->shape[0], n = dx->shape[1];
  const float smoothing = (float)c->args[SMOOTHING].real;
  const float *x = prK_row_major(c, c->in[X]);
  float *to = prK_row_major_room(c, dx), g = *(const float *)prT_data(c->grad_out[0]);
  if (!x || !to) return PR_ERR_MEMORY;
  if (c->args[REDUCTION].integer == MEAN) g /= (float)rows;
  for (int64_t r = 0; r < rows; r++) {
    float *row = to + r * n;
    softmax_row(n, x + r * n, false, row);
    row_affine(n, row, g, -g * smoothing / (float)n, row);
    row[label_of(c->in[LABELS], r)] -= g * (1 - smoothing);
  }
  prK_row_major_finish(dx, to);
  return PR_OK;
}
