/* reduce.c - sums and means of f32 tensors over axes. Sums run in blocks of float whose totals are added in
 * double; how they are cut depends on the shapes alone. */
#include "backend/cpu/clones.h"
#include "backend/cpu/layout.h"
#include "backend/cpu/norm.h"

#include <string.h>

enum { DIM };
enum { LANES = 32, BLOCK = 2048, PIECE = 1 << 16 };

/* --- sums of runs ----------------------------------------------------------------------------------------------------- */

PRK_CLONES static double block_sum(int64_t n, const float *x) {
  float lane[LANES] = { 0 };
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES)
    for (int k = 0; k < LANES; k++) lane[k] += x[i + k];
  double sum = 0;
  for (; i < n; i++) sum += x[i];
  for (int k = 0; k < LANES; k++) sum += lane[k];
  return sum;
}

static double run_sum(int64_t n, const float *x) {
  double sum = 0;
  for (int64_t i = 0; i < n; i += BLOCK) sum += block_sum(n - i < BLOCK ? n - i : BLOCK, x + i);
  return sum;
}

/* One long run: pieces in parallel, added in their order. */
static pr_status long_sum(pr_call *c, int64_t n, const float *x, double *sum) {
  const int64_t pieces = (n + PIECE - 1) / PIECE;
  double *part = prK_doubles(c, pieces);
  if (!part) return PR_ERR_MEMORY;
#pragma omp parallel for schedule(static) if (pieces > 1)
  for (int64_t p = 0; p < pieces; p++)
    part[p] = run_sum(n - p * PIECE < PIECE ? n - p * PIECE : PIECE, x + p * PIECE);
  *sum = 0;
  for (int64_t p = 0; p < pieces; p++) *sum += part[p];
  return PR_OK;
}

static void row_sums(int64_t rows, int64_t n, const float *x, double *sums) {
#pragma omp parallel for schedule(static) if (rows * n >= PIECE)
  for (int64_t r = 0; r < rows; r++) sums[r] = run_sum(n, x + r * n);
}

/* --- what is summed --------------------------------------------------------------------------------------------------- */

/* The numbers of x as [kept][gone] in row-major order, a copy where x is not so. */
static const float *rows_of(pr_call *c, const pr_tensor *x, const bool gone[PR_MAX_DIM], int64_t *rows,
                            int64_t *length) {
  int64_t shape[PR_MAX_DIM], from[PR_MAX_DIM], to[PR_MAX_DIM], step = 1;
  int n = 0;
  *rows = *length = 1;
  for (int pass = 0; pass < 2; pass++)
    for (int d = 0; d < x->dim; d++) {
      if (gone[d] != (pass == 1)) continue;
      shape[n] = x->shape[d], from[n++] = x->stride[d];
      *(pass ? length : rows) *= x->shape[d];
    }
  bool ordered = true;
  for (int d = n - 1; d >= 0; step *= shape[d], d--) {
    to[d] = step;
    ordered = ordered && (shape[d] == 1 || from[d] == step);
  }
  if (ordered) return prT_data(x);
  float *copy = prK_scratch(c, sizeof(float) * (size_t)(step + 1));
  if (copy) prK_copy_floats(n, shape, prT_data(x), from, copy, to);
  return copy;
}

/* Are the kept axes the innermost in memory, in their order, and the others dense around them? Then sums run
 * down columns. */
static bool kept_innermost(const pr_tensor *x, const bool gone[PR_MAX_DIM]) {
  int64_t kept = 1, step = 1, largest = 0;
  for (int d = x->dim - 1; d >= 0; d--) {
    if (gone[d] || x->shape[d] == 1) continue;
    if (x->stride[d] != step) return false;
    step *= x->shape[d];
  }
  kept = step;
  for (int d = 0; d < x->dim; d++)
    if (gone[d] && x->shape[d] > 1 && x->stride[d] > largest) largest = x->stride[d];
  return kept > 1 && largest >= kept && prT_is_dense(x);
}

static pr_status sums(pr_call *c, const bool gone[PR_MAX_DIM], double *to) {
  const pr_tensor *x = c->in[0];
  const int64_t total = pr_numel(x), kept = pr_numel(c->out[0]);
  if (kept == 1 && prT_is_dense(x)) return long_sum(c, total, prT_data(x), to);
  if (kept_innermost(x, gone)) {
    void *room = prK_scratch(c, prK_norm_scratch(total / kept, kept));
    if (!room) return PR_ERR_MEMORY;
    prK_channel_sums(total / kept, kept, prT_data(x), to, room);
    return PR_OK;
  }
  int64_t rows, length;
  const float *values = rows_of(c, x, gone, &rows, &length);
  if (!values) return PR_ERR_MEMORY;
  row_sums(rows, length, values, to);
  return PR_OK;
}

static pr_status forward(pr_call *c, bool mean) {
  bool gone[PR_MAX_DIM];
  const pr_tensor *x = c->in[0];
  const int64_t total = pr_numel(x), kept = pr_numel(c->out[0]);
  if (!prK_all_f32(c->in, 1) || !prK_all_f32(c->out, 1) || total == 0) return PR_DECLINED;
  PR_TRY(prO_dims(c, DIM, x->dim, gone));
  double *values = prK_doubles(c, kept), share = mean ? 1 / ((double)total / (double)kept) : 1;
  if (!values) return PR_ERR_MEMORY;
  PR_TRY(sums(c, gone, values));
  float *y = prT_data(c->out[0]); /* the shape rule makes it row-major */
  for (int64_t i = 0; i < kept; i++) y[i] = (float)(values[i] * share);
  return PR_OK;
}

PRK_CLONES static void scale(int64_t n, float factor, float *x) {
  for (int64_t i = 0; i < n; i++) x[i] *= factor;
}

/* Every element of dx gets the gradient of the sum it went into. */
static pr_status backward(pr_call *c, bool mean) {
  bool gone[PR_MAX_DIM];
  const pr_tensor *dy = c->grad_out[0];
  pr_tensor *dx = c->grad_in[0];
  const int64_t total = pr_numel(dx);
  if (!prK_all_f32(c->grad_in, 1) || !prK_all_f32(c->grad_out, 1) || total == 0) return PR_DECLINED;
  PR_TRY(prO_dims(c, DIM, dx->dim, gone));
  const bool kept_axes = dy->dim == dx->dim;
  int64_t stride[PR_MAX_DIM], kept = 1;
  for (int d = 0, at = 0; d < dx->dim; d++) {
    stride[d] = gone[d] ? 0 : dy->stride[kept_axes ? d : at];
    if (!gone[d]) kept *= dx->shape[d], at++;
  }
  prK_copy_floats(dx->dim, dx->shape, prT_data(dy), stride, prT_data(dx), dx->stride);
  if (mean) scale(total, 1 / ((float)total / (float)kept), prT_data(dx));
  return PR_OK;
}

PR_KERNEL(cpu, sum, forward)
{ return forward(c, false); }
PR_KERNEL(cpu, sum, backward)
{ return backward(c, false); }
PR_KERNEL(cpu, mean, forward)
{ return forward(c, true); }
PR_KERNEL(cpu, mean, backward)
{ return backward(c, true); }
