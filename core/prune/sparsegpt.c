/* sparsegpt.c - see sparsegpt.h. Rows are independent of each other inside of a block of columns. */
#include "prune/sparsegpt.h"

#include "base/memory.h"
#include "prune/cholesky.h"
#include "prune/lowest.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

enum { BLOCK = 128, PARALLEL_FROM = 1 << 14 };

typedef struct work {
  const pr_sparsegpt_options *options;
  int64_t rows, columns;
  double *w;     /* [rows, columns], the weight */
  float *mask;   /* [rows, columns] */
  double *u;     /* [columns, columns] */
  bool *idle;    /* [columns]: inputs that were always 0 cost nothing */
  double *left;  /* [rows, widest block]: what was taken out, over u_jj */
  double *score; /* [rows * widest block] */
  float *alive;  /* [rows * widest block] */
  int64_t widest;
} work;

/* --- groups and blocks of columns --------------------------------------------------------------------------------------- */

/* The end of the group of `of` columns that starts at column j. */
static int64_t group_end(const work *k, int64_t j) {
  int64_t of = k->options->of, run = k->options->run, end = j + of < k->columns ? j + of : k->columns;
  if (run > 0 && j / run * run + run < end) end = j / run * run + run;
  return end;
}

/* The end of the block that starts at column `from`: where no group is cut. */
static int64_t block_end(const work *k, int64_t from) {
  int64_t size = k->options->block > 0 ? k->options->block : BLOCK;
  int64_t end = from + size < k->columns ? from + size : k->columns;
  if (k->options->of <= 0) return end;
  int64_t last = from;
  while (last < end) last = group_end(k, last);
  return last;
}

/* --- choosing ------------------------------------------------------------------------------------------------------------- */

static double cost(const work *k, int64_t row, int64_t j) {
  double ratio = k->w[row * k->columns + j] / k->u[j * k->columns + j];
  return k->idle[j] ? 0 : ratio * ratio;
}

/* Mask so many entries of columns from..to that the share is met over all columns up to `to`. */
static pr_status choose(work *k, int64_t from, int64_t to, int64_t *masked) {
  int64_t width = to - from, dead = 0, gone;
  for (int64_t r = 0; r < k->rows; r++)
    for (int64_t j = from; j < to; j++) {
      int64_t at = r * width + j - from;
      k->score[at] = cost(k, r, j);
      k->alive[at] = k->mask[r * k->columns + j];
      dead += k->alive[at] == 0;
    }
  int64_t want = (int64_t)rint(k->options->sparsity * (double)(k->rows * to)) - *masked - dead;
  int64_t most = k->rows * width - dead;
  pr_amount amount = { .kind = PR_AMOUNT_COUNT, .count = want < 0 ? 0 : want > most ? most : want };
  PR_TRY(prP_zero_lowest(&(prP_span){ k->score, k->alive, k->rows * width }, 1, true, &amount, "entries",
                         &gone));
  for (int64_t r = 0; r < k->rows; r++)
    for (int64_t j = from; j < to; j++)
      if (k->alive[r * width + j - from] == 0) k->mask[r * k->columns + j] = 0;
  *masked += dead + gone;
  return PR_OK;
}

/* Of the columns from..to of a row at most `keep` stay: as long as more are alive, the cheapest goes. */
static void choose_group(work *k, int64_t row, int64_t from, int64_t to) {
  float *mask = k->mask + row * k->columns;
  int64_t alive = 0;
  for (int64_t j = from; j < to; j++) alive += mask[j] != 0;
  for (; alive > k->options->keep; alive--) {
    int64_t least = -1;
    for (int64_t j = from; j < to; j++)
      if (mask[j] != 0 && (least < 0 || cost(k, row, j) < cost(k, row, least))) least = j;
    mask[least] = 0;
  }
}

/* --- taking out ------------------------------------------------------------------------------------------------------------ */

/* One row through one block. Returns what it cost. */
static double sweep(work *k, int64_t row, int64_t from, int64_t to) {
  double *w = k->w + row * k->columns, *left = k->left + row * k->widest, sum = 0;
  int64_t next_group = from;
  for (int64_t j = from; j < to; j++) {
    const double *u = k->u + j * k->columns;
    if (k->options->of > 0 && j == next_group) {
      next_group = group_end(k, j);
      choose_group(k, row, j, next_group);
    }
    left[j - from] = 0;
    if (k->mask[row * k->columns + j] != 0) continue;
    double out = w[j] / u[j];
    w[j] = 0;
    if (k->idle[j]) continue;
    left[j - from] = out;
    sum += out * out;
    for (int64_t c = j + 1; c < to; c++) w[c] -= out * u[c];
  }
  return sum;
}

static pr_status run(work *k, double *error) {
  int64_t masked = 0;
  *error = 0;
  for (int64_t from = 0, to; from < k->columns; from = to) {
    double sum = 0;
    to = block_end(k, from);
    if (k->options->of <= 0) PR_TRY(choose(k, from, to, &masked));
#pragma omp parallel for schedule(static) reduction(+ : sum) if (k->rows * (to - from) >= PARALLEL_FROM)
    for (int64_t r = 0; r < k->rows; r++) sum += sweep(k, r, from, to);
    *error += sum;
    if (to < k->columns && k->rows > 0)
      cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)k->rows, (int)(k->columns - to),
                  (int)(to - from), -1, k->left, (int)k->widest, k->u + from * k->columns + to,
                  (int)k->columns, 1, k->w + to, (int)k->columns);
  }
  return PR_OK;
}

/* --- the whole ------------------------------------------------------------------------------------------------------------- */

static pr_status check(const pr_tensor *w, const pr_tensor *mask, const pr_tensor *h,
                       const pr_sparsegpt_options *o) {
  char a[PR_SHAPE_TEXT], b[PR_SHAPE_TEXT];
  if (w->dim != 2 || w->dtype != PR_F64 || !pr_is_contiguous(w) || !w->storage)
    return pr_fail(PR_ERR_SHAPE, "sparsegpt: the weight must be a row-major matrix in f64, got %s %s",
                   pr_dtype_name(w->dtype), pr_shape_text(w, a));
  if (!pr_same_shape(w, mask) || mask->dtype != PR_F32 || !pr_is_contiguous(mask) || !mask->storage)
    return pr_fail(PR_ERR_SHAPE, "sparsegpt: the mask must be f32 of the weight's shape %s, got %s",
                   pr_shape_text(w, a), pr_shape_text(mask, b));
  if (h->dim != 2 || h->shape[0] != w->shape[1] || h->shape[1] != w->shape[1] || h->dtype != PR_F64 ||
      !pr_is_contiguous(h) || !h->storage)
    return pr_fail(PR_ERR_SHAPE,
                   "sparsegpt: the Hessian of a weight of shape %s must be f64 and square, got %s",
                   pr_shape_text(w, a), pr_shape_text(h, b));
  if (!(o->damp >= 0 && o->damp < HUGE_VAL))
    return pr_fail(PR_ERR_ARGUMENT, "sparsegpt: damp must be a number of at least 0, got %g", o->damp);
  if (o->of > 0 ? o->keep < 0 || o->keep > o->of : !(o->sparsity >= 0 && o->sparsity <= 1))
    return pr_fail(PR_ERR_ARGUMENT,
                   "sparsegpt: sparsity must be in 0..1 (or n in 0..m), got %g (%lld of %lld)", o->sparsity,
                   (long long)o->keep, (long long)o->of);
  if (w->shape[0] > INT32_MAX || w->shape[1] > INT32_MAX)
    return pr_fail(PR_ERR_ARGUMENT, "sparsegpt: a weight of shape %s is too large", pr_shape_text(w, a));
  const double *values = prT_data(w);
  for (int64_t i = 0, n = pr_numel(w); i < n; i++)
    if (!isfinite(values[i]))
      return pr_fail(PR_ERR_ARGUMENT, "sparsegpt: the weight holds %g, at entry %lld in row-major order",
                     values[i], PR_INDEX(i));
  return PR_OK;
}

static void release(work *k, int64_t size) {
  PRB_ARRAY_FREE(k->u, k->columns * k->columns + 1);
  PRB_ARRAY_FREE(k->w, size + 1);
  PRB_ARRAY_FREE(k->mask, size + 1);
  PRB_ARRAY_FREE(k->idle, k->columns + 1);
  PRB_ARRAY_FREE(k->left, k->rows * k->widest + 1);
  PRB_ARRAY_FREE(k->score, k->rows * k->widest + 1);
  PRB_ARRAY_FREE(k->alive, k->rows * k->widest + 1);
}

/* Copies to work on: a failure on the way leaves the caller's tensors alone. */
static pr_status prepare(work *k, const pr_tensor *weight, const pr_tensor *mask, const double *h) {
  int64_t n = k->columns, size = k->rows * n;
  for (int64_t from = 0, to; from < n; from = to) {
    to = block_end(k, from);
    k->widest = to - from > k->widest ? to - from : k->widest;
  }
  k->u = PRB_ARRAY(double, n *n + 1);
  k->w = PRB_ARRAY(double, size + 1);
  k->mask = PRB_ARRAY(float, size + 1);
  k->idle = PRB_ARRAY(bool, n + 1);
  k->left = PRB_ARRAY(double, k->rows * k->widest + 1);
  k->score = PRB_ARRAY(double, k->rows * k->widest + 1);
  k->alive = PRB_ARRAY(float, k->rows * k->widest + 1);
  if (!k->u || !k->w || !k->mask || !k->idle || !k->left || !k->score || !k->alive) return PR_ERR_MEMORY;
  memcpy(k->w, prT_data(weight), (size_t)size * sizeof *k->w);
  memcpy(k->mask, prT_data(mask), (size_t)size * sizeof *k->mask);
  memcpy(k->u, h, (size_t)(n * n) * sizeof *k->u);
  for (int64_t j = 0; j < n; j++) k->idle[j] = h[j * n + j] == 0;
  prP_damp(k->u, n, k->options->damp);
  return prP_cholesky_of_inverse(k->u, n);
}

pr_status pr_sparsegpt(pr_tensor *weight, pr_tensor *mask, const pr_tensor *hessian,
                       const pr_sparsegpt_options *options, double *error) {
  double cost_of_all = 0;
  PR_TRY(check(weight, mask, hessian, options));
  work k = { .options = options, .rows = weight->shape[0], .columns = weight->shape[1] };
  int64_t size = k.rows * k.columns;
  pr_status status = prepare(&k, weight, mask, prT_data(hessian));
  if (!status) status = run(&k, &cost_of_all);
  if (!status) {
    memcpy(prT_data(weight), k.w, (size_t)size * sizeof *k.w);
    memcpy(prT_data(mask), k.mask, (size_t)size * sizeof *k.mask);
    prT_touch(weight), prT_touch(mask);
  }
  if (error) *error = cost_of_all;
  release(&k, size);
  return status;
}
