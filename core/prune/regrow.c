/* regrow.c - new masks are made beside the old ones and put in place when nothing can fail any more.
 *
 * prP_zero_lowest compares the bits of numbers without their sign. So scores are turned into f64 whose bits
 * stand in the order that is wanted: for ranking with sign, that of the numbers (the last bit of an f64 is
 * lost, none of an f32); for "largest first", the reverse.
 */
#include "prune/regrow.h"

#include "autograd/parameter.h"
#include "base/memory.h"
#include "base/random.h"
#include "prune/draft.h"

#include <math.h>
#include <string.h>

/* Row-major doubles of a tensor of the parameter's shape. */
static double *read(const pr_tensor *parameter, const pr_tensor *scores) {
  char a[PR_SHAPE_TEXT], b[PR_SHAPE_TEXT];
  if (!pr_same_shape(parameter, scores)) {
    pr_fail(PR_ERR_SHAPE, "the scores have shape %s, the parameter %s", pr_shape_text(scores, a),
            pr_shape_text(parameter, b));
    return NULL;
  }
  if (!scores->storage || scores->device != PR_CPU) {
    pr_fail(PR_ERR_STATE, "the scores have no values (device %s)", pr_device_name(scores->device));
    return NULL;
  }
  int64_t n = pr_numel(scores);
  double *numbers = PRB_ARRAY(double, n + 1);
  if (numbers && prT_to_doubles(scores, numbers)) PRB_ARRAY_FREE(numbers, n + 1);
  for (int64_t i = 0; numbers && i < n; i++) {
    if (!isnan(numbers[i])) continue;
    pr_fail(PR_ERR_ARGUMENT, "the score of entry %lld is not a number; masks stay as they were", PR_INDEX(i));
    PRB_ARRAY_FREE(numbers, n + 1);
  }
  return numbers;
}

static uint64_t bits_of(double x) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

static double of_bits(uint64_t bits) {
  double x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

enum { SIGN_SHIFT = 63 };

static double in_order(double x) {
  if (x == 0) x = 0; /* -0 */
  uint64_t bits = bits_of(x), sign = UINT64_C(1) << SIGN_SHIFT;
  return of_bits((bits & sign ? ~bits : bits | sign) >> 1);
}

static double in_reverse_of_magnitude(double x) { return of_bits(INT64_MAX - bits_of(fabs(x))); }

/* Put a new mask in place; cannot fail. Takes over `mask`. */
static void commit(pr_tensor *t, pr_tensor *mask) {
  prP_draft_commit(&(prP_draft){ .parameter = t, .mask = mask });
  pr_release(mask);
}

/* --- ranking -------------------------------------------------------------------------------------------------------------- */

static pr_status rank(pr_tensor *const *parameter, pr_tensor *const *scores, int n, double sparsity,
                      pr_tensor **mask, prP_span *span) {
  pr_amount amount = { .kind = PR_SPARSITY, .share = sparsity };
  int64_t gone;
  PR_TRY(pr_amount_check(&amount));
  for (int i = 0; i < n; i++) {
    PR_TRY(prP_check_parameter(parameter[i], i, n));
    double *numbers = read(parameter[i], scores[i]);
    if (!numbers) return pr_error_last()->code;
    span[i] = (prP_span){ numbers, NULL, pr_numel(parameter[i]) };
    for (int64_t k = 0; k < span[i].n; k++) numbers[k] = in_order(numbers[k]);
    if (!(mask[i] = pr_tensor_full(PR_F32, PR_CPU, parameter[i]->dim, parameter[i]->shape, 1)))
      return PR_ERR_MEMORY;
    span[i].mask = prT_data(mask[i]);
  }
  return prP_zero_lowest(span, n, true, &amount, "entries", &gone);
}

pr_status pr_mask_rank(pr_tensor *const *parameter, pr_tensor *const *scores, int n, double sparsity) {
  pr_tensor **mask = PRB_ARRAY(pr_tensor *, n + 1);
  prP_span *span = PRB_ARRAY(prP_span, n + 1);
  pr_status status = mask && span ? rank(parameter, scores, n, sparsity, mask, span) : PR_ERR_MEMORY;
  for (int i = 0; i < n && mask && span; i++) {
    double *numbers = (double *)span[i].value;
    PRB_ARRAY_FREE(numbers, span[i].n + 1);
    if (status)
      pr_release(mask[i]);
    else
      commit(parameter[i], mask[i]);
  }
  PRB_ARRAY_FREE(mask, n + 1);
  PRB_ARRAY_FREE(span, n + 1);
  return status;
}

/* --- exchange ---------------------------------------------------------------------------------------------------------- */

static double *random_scores(int64_t n) {
  double *numbers = PRB_ARRAY(double, n + 1);
  uint64_t step = prB_next_step(), seed = pr_seed_get();
  for (int64_t i = 0; numbers && i < n; i++)
    numbers[i] = prB_uniform(seed, PR_STREAM_OPERATOR, step, (uint64_t)i);
  return numbers;
}

/* alive [n] of 1 and 0, changed in place; came [n] of 1, and 0 for what comes back and was masked before. */
static pr_status exchange(double *magnitude, double *score, float *alive, float *came, int64_t n,
                          int64_t count) {
  pr_amount amount = { .kind = PR_AMOUNT_COUNT, .count = count };
  int64_t moved;
  for (int64_t i = 0; i < n; i++) came[i] = alive[i] = alive[i] != 0;
  prP_span span = { magnitude, alive, n };
  PR_TRY(prP_zero_lowest(&span, 1, true, &amount, "entries", &moved));
  for (int64_t i = 0; i < n; i++) alive[i] = 1 - alive[i], score[i] = in_reverse_of_magnitude(score[i]);
  span.value = score;
  PR_TRY(prP_zero_lowest(&span, 1, true, &amount, "masked entries", &moved));
  for (int64_t i = 0; i < n; i++) alive[i] = 1 - alive[i], came[i] = came[i] != 0 || alive[i] == 0;
  return PR_OK;
}

/* 0 where entries came back; t has the shape of `came`. */
static void clear(pr_tensor *t, const float *came) {
  prT_walk walk;
  int64_t i = 0;
  for (prT_walk_start(&walk, t); walk.left > 0; prT_walk_next(&walk), i++)
    if (came[i] == 0) prT_set(t, walk.position, 0);
  prT_touch(t);
}

pr_status pr_mask_exchange(pr_tensor *t, pr_tensor *scores, int64_t count) {
  PR_TRY(prP_check_parameter(t, 0, 1));
  int64_t n = pr_numel(t);
  double *magnitude = read(t, t), *score = !magnitude ? NULL : scores ? read(t, scores) : random_scores(n);
  pr_tensor *alive = score ? pr_tensor_full(PR_F32, PR_CPU, t->dim, t->shape, 1) : NULL;
  pr_tensor *came = alive ? pr_tensor_full(PR_F32, PR_CPU, t->dim, t->shape, 1) : NULL;
  pr_status status = came ? PR_OK : pr_error_last()->code;
  if (!status && t->parameter->mask) status = pr_copy(alive, t->parameter->mask);
  if (!status) status = exchange(magnitude, score, prT_data(alive), prT_data(came), n, count);
  if (!status) {
    clear(t, prT_data(came));
    for (pr_slot *slot = t->parameter->slots; slot; slot = slot->next)
      if (pr_same_shape(slot->tensor, t)) clear(slot->tensor, prT_data(came));
    commit(t, pr_retain(alive));
  }
  pr_release(alive), pr_release(came);
  PRB_ARRAY_FREE(magnitude, n + 1);
  PRB_ARRAY_FREE(score, n + 1);
  return status;
}
