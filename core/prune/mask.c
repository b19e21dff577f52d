/* mask.c - single entries, slices, and masks of the user. draft.c has what all masks share. */
#include "prune/mask.h"

#include "autograd/parameter.h"
#include "base/memory.h"
#include "base/random.h"
#include "prune/draft.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { PARALLEL_FROM = 1 << 16 };

/* --- scores -------------------------------------------------------------------------------------------------------- */

/* Of the value's dense part: dead entries take no part in an unstructured choice, so their scores do not
 * matter. */
static pr_status draft_score(prP_draft *d, const pr_tensor *given, bool wide) {
  d->score = prP_numbers(given ? given : d->parameter, wide);
  return d->score ? PR_OK : pr_error_last()->code;
}

/* 32 random bits as the bits of an f32: selection looks at bits only. `first`: index of the first entry among
 * all. */
static pr_status draft_random(prP_draft *d, uint64_t step, uint64_t first) {
  const pr_tensor *t = d->parameter;
  if (!(d->score = pr_tensor_new(PR_F32, PR_CPU, t->dim, t->shape))) return PR_ERR_MEMORY;
  int64_t n = pr_numel(t);
  uint32_t *bits = prT_data(d->score);
  uint64_t seed = pr_seed_get();
#pragma omp parallel for schedule(static) if (n >= PARALLEL_FROM)
  for (int64_t block = 0; block < (n + 3) / 4; block++) {
    uint32_t four[4];
    prB_philox(seed, PR_STREAM_OPERATOR, step, first + (uint64_t)block, four);
    for (int64_t i = block * 4; i < n && i < block * 4 + 4; i++) bits[i] = four[i & 3];
  }
  return PR_OK;
}

/* --- entries --------------------------------------------------------------------------------------------------------- */

static pr_status make_drafts(prP_draft *d, pr_tensor *const *parameter, pr_tensor *const *scores, int n,
                             pr_mask_method method, bool wide) {
  uint64_t step = method == PR_MASK_RANDOM ? prB_next_step() : 0, first = 0;
  for (int i = 0; i < n; i++) {
    d[i].parameter = parameter[i];
    if (!(d[i].mask = prP_draft_mask(parameter[i]))) return pr_error_last()->code;
    if (method == PR_MASK_RANDOM)
      PR_TRY(draft_random(&d[i], step, first));
    else
      PR_TRY(draft_score(&d[i], scores ? scores[i] : NULL, wide));
    first += (uint64_t)(pr_numel(parameter[i]) + 3) / 4;
  }
  return PR_OK;
}

pr_status pr_mask_unstructured(pr_tensor *const *parameter, pr_tensor *const *scores, int n,
                               pr_mask_method method, const pr_amount *amount, int64_t *gone) {
  bool wide = false;
  int64_t count = 0;
  PR_TRY(pr_amount_check(amount));
  if (gone) *gone = 0;
  if (n == 0) return PR_OK;
  PR_TRY(prP_check_distinct(parameter, n));
  for (int i = 0; i < n; i++) {
    PR_TRY(prP_check_parameter(parameter[i], i, n));
    PR_TRY(prP_check_scores(parameter[i], scores ? scores[i] : NULL));
    wide = wide || (method == PR_MASK_LOWEST && prP_is_wide(scores && scores[i] ? scores[i] : parameter[i]));
  }
  prP_draft *d = PRB_ARRAY(prP_draft, n);
  prP_span *span = PRB_ARRAY(prP_span, n);
  pr_status status = d && span ? make_drafts(d, parameter, scores, n, method, wide) : PR_ERR_MEMORY;
  if (!status) {
    for (int i = 0; i < n; i++)
      span[i] = (prP_span){ prT_data(d[i].score), prT_data(d[i].mask), pr_numel(parameter[i]) };
    status = prP_zero_lowest(span, n, wide, amount, "entries", &count);
  }
  for (int i = 0; i < n && !status; i++)
    if (count > 0 || !parameter[i]->parameter->mask) prP_draft_commit(&d[i]);
  if (gone) *gone = count;
  if (d) prP_drafts_free(d, n);
  PRB_ARRAY_FREE(d, n);
  PRB_ARRAY_FREE(span, n);
  return status;
}

/* Row-major numbers and a run of ones for each tensor; freed by the caller, also after a failure. */
static pr_status ones_and_numbers(pr_tensor *const *scores, int n, bool wide, prP_draft *d, prP_span *span) {
  for (int i = 0; i < n; i++) {
    if (!scores[i]->storage || scores[i]->device != PR_CPU)
      return pr_fail(PR_ERR_STATE, "scores %lld have no values (device %s)", PR_INDEX(i),
                     pr_device_name(scores[i]->device));
    if (!(d[i].score = prP_numbers(scores[i], wide)) ||
        !(d[i].mask = pr_tensor_full(PR_F32, PR_CPU, scores[i]->dim, scores[i]->shape, 1)))
      return pr_error_last()->code;
    span[i] = (prP_span){ prT_data(d[i].score), prT_data(d[i].mask), pr_numel(scores[i]) };
  }
  return PR_OK;
}

pr_status pr_count_lowest(pr_tensor *const *scores, int n, int64_t k, int64_t *counts) {
  pr_amount amount = { .kind = PR_AMOUNT_COUNT, .count = k };
  int64_t gone;
  bool wide = false;
  PR_TRY(pr_amount_check(&amount));
  for (int i = 0; i < n; i++) wide = wide || prP_is_wide(scores[i]);
  prP_draft *d = PRB_ARRAY(prP_draft, n + 1);
  prP_span *span = PRB_ARRAY(prP_span, n + 1);
  pr_status status = d && span ? ones_and_numbers(scores, n, wide, d, span) : PR_ERR_MEMORY;
  if (!status) status = prP_zero_lowest(span, n, wide, &amount, "scores", &gone);
  for (int i = 0; i < n && !status; i++) {
    counts[i] = 0;
    for (int64_t e = 0; e < span[i].n; e++) counts[i] += span[i].mask[e] == 0;
  }
  if (d) prP_drafts_free(d, n);
  PRB_ARRAY_FREE(d, n + 1);
  PRB_ARRAY_FREE(span, n + 1);
  return status;
}

/* --- slices ------------------------------------------------------------------------------------------------------------ */

/* A parameter as outer x slices x inner in row-major order. */
typedef struct slices {
  int64_t outer, count, inner;
} slices;

static slices slices_of(const pr_tensor *t, int axis) {
  slices s = { 1, t->shape[axis], 1 };
  for (int d = 0; d < axis; d++) s.outer *= t->shape[d];
  for (int d = axis + 1; d < t->dim; d++) s.inner *= t->shape[d];
  return s;
}

/* One more magnitude of a slice. Comparisons are written so that a NaN stays. */
static double add_magnitude(double sum, double x, double norm) {
  if (norm == 2) return sum + x * x;
  if (norm == 1) return sum + x;
  if (norm == HUGE_VAL) return x > sum || x != x ? x : sum;
  if (norm == -HUGE_VAL) return x < sum || x != x ? x : sum;
  if (norm == 0) return sum + (x != 0);
  return sum + pow(x, norm);
}

/* Norms up to a growing function; the root matters for negative norms only, where the order turns around. */
static double slice_norm(const double *x, const slices *s, int64_t c, double norm) {
  double sum = norm == -HUGE_VAL ? HUGE_VAL : 0;
  for (int64_t o = 0; o < s->outer; o++) {
    const double *row = x + (o * s->count + c) * s->inner;
    for (int64_t i = 0; i < s->inner; i++) sum = add_magnitude(sum, fabs(row[i]), norm);
  }
  return norm < 0 && norm != -HUGE_VAL ? pow(sum, 1 / norm) : sum;
}

static bool slice_alive(const float *mask, const slices *s, int64_t c) {
  for (int64_t o = 0; o < s->outer; o++) {
    const float *row = mask + (o * s->count + c) * s->inner;
    for (int64_t i = 0; i < s->inner; i++)
      if (row[i] != 0) return true;
  }
  return false;
}

static void slice_zero(float *mask, const slices *s, int64_t c) {
  for (int64_t o = 0; o < s->outer; o++)
    memset(mask + (o * s->count + c) * s->inner, 0, (size_t)s->inner * sizeof *mask);
}

/* Scores of all slices, and 1 in `alive` for those that are. */
static pr_status score_slices(pr_tensor *t, const pr_tensor *scores, const float *mask, const slices *s,
                              pr_mask_method method, double norm, double *score, float *alive) {
  pr_tensor *numbers = NULL;
  uint64_t step = method == PR_MASK_RANDOM ? prB_next_step() : 0, seed = pr_seed_get();
  if (method == PR_MASK_LOWEST) {
    const pr_tensor *read = scores ? scores : pr_parameter_value(t);
    if (!read || !(numbers = prP_numbers(read, true))) return pr_error_last()->code;
  }
  const double *x = numbers ? prT_data(numbers) : NULL;
#pragma omp parallel for schedule(static) if (pr_numel(t) >= PARALLEL_FROM)
  for (int64_t c = 0; c < s->count; c++) {
    score[c] = x ? slice_norm(x, s, c, norm) : prB_uniform(seed, PR_STREAM_OPERATOR, step, (uint64_t)c);
    alive[c] = slice_alive(mask, s, c);
  }
  pr_release(numbers);
  return PR_OK;
}

static pr_status check_structured(const pr_tensor *t, const pr_tensor *scores, int axis, double norm) {
  char text[PR_SHAPE_TEXT];
  PR_TRY(prP_check_parameter(t, 0, 1));
  if (t->dim < 2)
    return pr_fail(PR_ERR_SHAPE,
                   "structured masks need a parameter of at least two dimensions, this one has shape %s",
                   pr_shape_text(t, text));
  if (axis < 0 || axis >= t->dim)
    return pr_fail(PR_ERR_INDEX, "dim %lld is out of range for a parameter of shape %s", PR_INDEX(axis),
                   pr_shape_text(t, text));
  if (norm != norm) return pr_fail(PR_ERR_ARGUMENT, "n must be a number or an infinity, got nan");
  return prP_check_scores(t, scores);
}

pr_status pr_mask_structured(pr_tensor *t, const pr_tensor *scores, int axis, pr_mask_method method,
                             double norm, const pr_amount *amount, int64_t *gone) {
  PR_TRY(pr_amount_check(amount));
  PR_TRY(check_structured(t, scores, axis, norm));
  slices s = slices_of(t, axis);
  int64_t count = 0;
  prP_draft d = { t, prP_draft_mask(t), NULL };
  double *score = PRB_ARRAY(double, s.count + 1); /* + 1: an axis of size 0 is no failure */
  float *alive = PRB_ARRAY(float, 2 * s.count + 1), *before = alive ? alive + s.count : NULL;
  pr_status status = d.mask && score && alive ? PR_OK : PR_ERR_MEMORY;
  if (!status) status = score_slices(t, scores, prT_data(d.mask), &s, method, norm, score, alive);
  if (!status) {
    memcpy(before, alive, (size_t)s.count * sizeof *alive);
    status = prP_zero_lowest(&(prP_span){ score, alive, s.count }, 1, true, amount, "slices", &count);
  }
  if (!status && (count > 0 || !t->parameter->mask)) {
    for (int64_t c = 0; c < s.count; c++)
      if (before[c] != 0 && alive[c] == 0) slice_zero(prT_data(d.mask), &s, c);
    prP_draft_commit(&d);
  }
  if (gone) *gone = count;
  prP_drafts_free(&d, 1);
  PRB_ARRAY_FREE(score, s.count + 1);
  PRB_ARRAY_FREE(alive, 2 * s.count + 1);
  return status;
}

/* --- masks of the user --------------------------------------------------------------------------------------------------- */

pr_status pr_mask_identity(pr_tensor *t) {
  PR_TRY(prP_check_parameter(t, 0, 1));
  if (t->parameter->mask) return PR_OK;
  prP_draft d = { t, prP_draft_mask(t), NULL };
  if (!d.mask) return PR_ERR_MEMORY;
  prP_draft_commit(&d);
  prP_drafts_free(&d, 1);
  return PR_OK;
}

static pr_status check_zeros_and_ones(const float *mask, const pr_tensor *t) {
  for (int64_t i = 0, n = pr_numel(t); i < n; i++)
    if (mask[i] != 0 && mask[i] != 1)
      return pr_fail(PR_ERR_ARGUMENT,
                     "a mask holds 0 (pruned) and 1 (kept) only; entry %lld (in row-major order) is %g",
                     PR_INDEX(i), (double)mask[i]);
  return PR_OK;
}

pr_status pr_mask_custom(pr_tensor *t, const pr_tensor *mask) {
  char a[PR_SHAPE_TEXT], b[PR_SHAPE_TEXT];
  PR_TRY(prP_check_parameter(t, 0, 1));
  if (!pr_same_shape(t, mask))
    return pr_fail(PR_ERR_SHAPE, "the mask has shape %s, the parameter %s", pr_shape_text(mask, a),
                   pr_shape_text(t, b));
  if (!mask->storage || mask->device != PR_CPU)
    return pr_fail(PR_ERR_STATE, "the mask has no values (device %s)", pr_device_name(mask->device));
  pr_tensor *given = prP_numbers(mask, false);
  if (!given) return pr_error_last()->code;
  prP_draft d = { t, NULL, NULL };
  const float *new = prT_data(given);
  pr_status status = check_zeros_and_ones(new, t);
  if (!status && !(d.mask = prP_draft_mask(t))) status = PR_ERR_MEMORY;
  if (!status) {
    float *own = prT_data(d.mask);
    for (int64_t i = 0, n = pr_numel(t); i < n; i++) own[i] *= new[i];
    prP_draft_commit(&d);
  }
  prP_drafts_free(&d, 1);
  pr_release(given);
  return status;
}

/* --- counting ------------------------------------------------------------------------------------------------------------- */

#define COUNT(T, name)                                                                                       \
  static int64_t name(const T *x, const float *mask, int64_t n) {                                            \
    int64_t zeros = 0;                                                                                       \
    if (mask) {                                                                                              \
      _Pragma("omp parallel for simd schedule(static) reduction(+ : zeros) if (n >= PARALLEL_FROM)") for (   \
          int64_t i = 0; i < n; i++) zeros += (x[i] == 0) | (mask[i] == 0);                                  \
    } else {                                                                                                 \
      _Pragma("omp parallel for simd schedule(static) reduction(+ : zeros) if (n >= PARALLEL_FROM)") for (   \
          int64_t i = 0; i < n; i++) zeros += x[i] == 0;                                                     \
    }                                                                                                        \
    return zeros;                                                                                            \
  }
COUNT(float, count_f32)
COUNT(double, count_f64)

static int64_t count_any(const pr_tensor *t) {
  int64_t zeros = 0;
  prT_walk walk;
  for (prT_walk_start(&walk, t); walk.left > 0; prT_walk_next(&walk)) zeros += prT_get(t, walk.position) == 0;
  return zeros;
}

pr_status pr_count_zeros(const pr_tensor *t, int64_t *zeros) {
  if (!t->storage || t->device != PR_CPU)
    return pr_fail(PR_ERR_STATE, "zeros cannot be counted: the tensor has no values (device %s)",
                   pr_device_name(t->device));
  const pr_tensor *mask = t->parameter ? t->parameter->mask : NULL;
  bool plain = mask ? pr_is_contiguous(t) && pr_is_contiguous(mask) : prT_is_dense(t);
  if (plain && t->dtype == PR_F32) {
    *zeros = count_f32(prT_data(t), mask ? prT_data(mask) : NULL, pr_numel(t));
  } else if (plain && t->dtype == PR_F64) {
    *zeros = count_f64(prT_data(t), mask ? prT_data(mask) : NULL, pr_numel(t));
  } else {
    const pr_tensor *value = mask ? pr_parameter_value((pr_tensor *)t) : t;
    if (!value) return pr_error_last()->code;
    *zeros = count_any(value);
  }
  return PR_OK;
}
