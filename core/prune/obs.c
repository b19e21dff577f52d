/* obs.c - see obs.h. Blocks are independent of each other and run in parallel. */
#include "prune/obs.h"

#include "base/memory.h"
#include "base/thread.h"
#include "prune/cholesky.h"
#include "prune/draft.h"

#include <math.h>
#include <string.h>

/* --- arguments ----------------------------------------------------------------------------------------------------------- */

static pr_status check_fisher(const pr_tensor *f, int64_t n) {
  char text[PR_SHAPE_TEXT];
  if (f->dim == 3 && f->dtype == PR_F64 && f->storage && f->device == PR_CPU && pr_is_contiguous(f) &&
      f->shape[1] > 0 && f->shape[1] == f->shape[2] && f->shape[0] == (n + f->shape[1] - 1) / f->shape[1])
    return PR_OK;
  return pr_fail(PR_ERR_SHAPE,
                 "obs: the Fisher matrix of %lld entries must be [blocks, size, size] in f64, got %s %s",
                 (long long)n, pr_dtype_name(f->dtype), pr_shape_text(f, text));
}

static pr_status check_list(const pr_tensor *t, pr_dtype dtype, int64_t n, const char *what) {
  char text[PR_SHAPE_TEXT];
  if (t->dim == 1 && t->shape[0] == n && t->dtype == dtype && t->storage && t->device == PR_CPU &&
      pr_is_contiguous(t))
    return PR_OK;
  return pr_fail(PR_ERR_SHAPE, "obs: the %s must be a row-major list of %lld entries in %s, got %s %s", what,
                 (long long)n, pr_dtype_name(dtype), pr_dtype_name(t->dtype), pr_shape_text(t, text));
}

static pr_status check_damp(double damp) {
  if (damp >= 0 && damp < HUGE_VAL) return PR_OK;
  return pr_fail(PR_ERR_ARGUMENT, "obs: damp must be a number of at least 0, got %g", damp);
}

/* --- the Fisher matrix ----------------------------------------------------------------------------------------------------- */

pr_status pr_fisher_add(pr_tensor *fisher, const pr_tensor *gradient) {
  int64_t n = pr_numel(gradient);
  PR_TRY(check_fisher(fisher, n));
  if (!gradient->storage || gradient->device != PR_CPU)
    return pr_fail(PR_ERR_STATE, "obs: the gradient has no values (device %s)",
                   pr_device_name(gradient->device));
  pr_tensor *numbers = prP_numbers(gradient, true);
  if (!numbers) return pr_error_last()->code;
  const double *g = prT_data(numbers);
  int64_t size = fisher->shape[1];
  double *all = prT_data(fisher);
#pragma omp parallel for schedule(static) if (n * size >= 1 << 16)
  for (int64_t b = 0; b < fisher->shape[0]; b++) {
    double *f = all + b * size * size;
    int64_t first = b * size, count = n - first < size ? n - first : size;
    for (int64_t i = 0; i < count; i++)
      for (int64_t j = 0; j < count; j++) f[i * size + j] += g[first + i] * g[first + j];
  }
  prT_touch(fisher);
  pr_release(numbers);
  return PR_OK;
}

/* --- one block ------------------------------------------------------------------------------------------------------------- */

/* Room for one thread: the part of the damped matrix that belongs to some entries, which those are, and
 * numbers. */
typedef struct room {
  double *matrix, *numbers;
  int64_t *at;
} room;

typedef struct work {
  int64_t n, size;
  const double *fisher;
  double damp;
  room *rooms;
  int threads;
} work;

static void release(work *k) {
  for (int t = 0; k->rooms && t < k->threads; t++) {
    PRB_ARRAY_FREE(k->rooms[t].matrix, k->size * k->size);
    PRB_ARRAY_FREE(k->rooms[t].numbers, 2 * k->size);
    PRB_ARRAY_FREE(k->rooms[t].at, k->size);
  }
  PRB_ARRAY_FREE(k->rooms, k->threads);
}

static pr_status prepare(work *k, const pr_tensor *fisher, int64_t n, double damp) {
  *k = (work){ n, fisher->shape[1], prT_data(fisher), damp, NULL, pr_threads() };
  k->rooms = PRB_ARRAY(room, k->threads);
  for (int t = 0; k->rooms && t < k->threads; t++) {
    room *r = &k->rooms[t];
    r->matrix = PRB_ARRAY(double, k->size * k->size);
    r->numbers = PRB_ARRAY(double, 2 * k->size);
    r->at = PRB_ARRAY(int64_t, k->size);
    if (!r->matrix || !r->numbers || !r->at) return PR_ERR_MEMORY;
  }
  return k->rooms ? PR_OK : PR_ERR_MEMORY;
}

/* Entry i, j (positions in the block) of the damped matrix. */
static double damped(const work *k, const double *f, double add, int64_t i, int64_t j) {
  return f[i * k->size + j] + (i == j ? add : 0);
}

/* What is added to the diagonal of the block of `count` entries; 1 where there is no curvature at all. */
static double addition(const work *k, const double *f, int64_t count) {
  double trace = 0;
  for (int64_t i = 0; i < count; i++) trace += f[i * k->size + i];
  return trace > 0 ? k->damp * trace / (double)count : 1;
}

/* The entries of a block with this mask value or another (relative to 0), and their part of the matrix. */
static int64_t gather(const work *k, room *r, const double *f, double add, const float *mask, int64_t count) {
  int64_t alive = 0;
  for (int64_t i = 0; i < count; i++)
    if (mask[i] != 0) r->at[alive++] = i;
  for (int64_t i = 0; i < alive; i++)
    for (int64_t j = 0; j < alive; j++) r->matrix[i * alive + j] = damped(k, f, add, r->at[i], r->at[j]);
  return alive;
}

/* --- scores --------------------------------------------------------------------------------------------------------------- */

static pr_status score_block(const work *k, int64_t b, const double *w, const float *mask, double *score) {
  room *r = &k->rooms[prB_this_thread()];
  const double *f = k->fisher + b * k->size * k->size;
  int64_t first = b * k->size, count = k->n - first < k->size ? k->n - first : k->size;
  int64_t alive = gather(k, r, f, addition(k, f, count), mask + first, count);
  memset(score + first, 0, (size_t)count * sizeof *score);
  PR_TRY(prP_inverse(r->matrix, alive));
  for (int64_t i = 0; i < alive; i++) {
    double x = w[first + r->at[i]];
    score[first + r->at[i]] = x * x / (2 * r->matrix[i * alive + i]);
  }
  return PR_OK;
}

pr_status pr_obs_scores(const pr_tensor *fisher, const pr_tensor *weight, const pr_tensor *mask, double damp,
                        pr_tensor *scores) {
  int64_t n = pr_numel(weight);
  work k;
  PR_TRY(check_damp(damp));
  PR_TRY(check_fisher(fisher, n));
  PR_TRY(check_list(weight, PR_F64, n, "weight"));
  PR_TRY(check_list(mask, PR_F32, n, "mask"));
  PR_TRY(check_list(scores, PR_F64, n, "scores"));
  const double *w = prT_data(weight);
  const float *m = prT_data(mask);
  double *s = prT_data(scores);
  int failed = 0;
  pr_status status = prepare(&k, fisher, n, damp);
#pragma omp parallel for schedule(static) reduction(| : failed) if (n >= 4096)
  for (int64_t b = 0; b < (status ? 0 : fisher->shape[0]); b++)
    failed |= score_block(&k, b, w, m, s) != PR_OK;
  release(&k);
  prT_touch(scores);
  if (failed)
    return pr_fail(PR_ERR_ARGUMENT, "obs: a block of the Fisher matrix is not positive definite: raise damp");
  return status;
}

/* --- making up ------------------------------------------------------------------------------------------------------------- */

/* Of the entries that stay, d = f_ss^-1 f_sq w_q, for those that go with their weights w_q. */
static pr_status update_block(const work *k, int64_t b, double *w, const float *before, const float *after,
                              double *cost) {
  room *r = &k->rooms[prB_this_thread()];
  const double *f = k->fisher + b * k->size * k->size;
  int64_t first = b * k->size, count = k->n - first < k->size ? k->n - first : k->size;
  double add = addition(k, f, count), *d = r->numbers, *pull = r->numbers + k->size;
  w += first, before += first, after += first;
  int64_t stay = gather(k, r, f, add, after, count);
  for (int64_t s = 0; s < stay; s++) {
    pull[s] = 0;
    for (int64_t q = 0; q < count; q++)
      if (before[q] != 0 && after[q] == 0) pull[s] += damped(k, f, add, r->at[s], q) * w[q];
    d[s] = pull[s];
  }
  PR_TRY(prP_solve(r->matrix, stay, d));
  for (int64_t s = 0; s < stay; s++) *cost -= d[s] * pull[s] / 2;
  for (int64_t p = 0; p < count; p++)
    for (int64_t q = 0; q < count; q++)
      if (before[p] != 0 && after[p] == 0 && before[q] != 0 && after[q] == 0)
        *cost += w[p] * damped(k, f, add, p, q) * w[q] / 2;
  for (int64_t s = 0; s < stay; s++) w[r->at[s]] += d[s];
  for (int64_t q = 0; q < count; q++)
    if (after[q] == 0) w[q] = 0;
  return PR_OK;
}

pr_status pr_obs_update(const pr_tensor *fisher, pr_tensor *weight, const pr_tensor *before,
                        const pr_tensor *after, double damp, double *cost) {
  int64_t n = pr_numel(weight);
  work k;
  PR_TRY(check_damp(damp));
  PR_TRY(check_fisher(fisher, n));
  PR_TRY(check_list(weight, PR_F64, n, "weight"));
  PR_TRY(check_list(before, PR_F32, n, "mask"));
  PR_TRY(check_list(after, PR_F32, n, "mask"));
  double *w = PRB_ARRAY(double, n + 1), sum = 0;
  pr_status status = w ? prepare(&k, fisher, n, damp) : PR_ERR_MEMORY;
  if (!w) return status;
  if (n) memcpy(w, prT_data(weight), (size_t)n * sizeof *w);
  const float *b4 = prT_data(before), *now = prT_data(after);
  int failed = 0;
#pragma omp parallel for schedule(static) reduction(| : failed) reduction(+ : sum) if (n >= 4096)
  for (int64_t b = 0; b < (status ? 0 : fisher->shape[0]); b++)
    failed |= update_block(&k, b, w, b4, now, &sum) != PR_OK;
  if (failed)
    status =
        pr_fail(PR_ERR_ARGUMENT, "obs: a block of the Fisher matrix is not positive definite: raise damp");
  if (!status && n) memcpy(prT_data(weight), w, (size_t)n * sizeof *w), prT_touch(weight);
  if (cost) *cost = sum;
  release(&k);
  PRB_ARRAY_FREE(w, n + 1);
  return status;
}
