/* draft.c - see draft.h. */
#include "prune/draft.h"

#include "autograd/parameter.h"

#include <stdio.h>

void prP_drafts_free(prP_draft *d, int n) {
  for (int i = 0; i < n; i++) pr_release(d[i].mask), pr_release(d[i].score);
}

pr_status prP_check_parameter(const pr_tensor *t, int i, int n) {
  char which[64] = "the tensor";
  if (n > 1) snprintf(which, sizeof which, "tensor %lld of the list", PR_INDEX(i));
  if (!t->parameter || t->parameter->is_buffer)
    return pr_fail(PR_ERR_ARGUMENT, "%s is not a parameter; only parameters of a module can be masked",
                   which);
  if (!t->storage || t->device != PR_CPU)
    return pr_fail(PR_ERR_STATE, "%s is on device %s; masks are made on the CPU", which,
                   pr_device_name(t->device));
  return PR_OK;
}

pr_status prP_check_distinct(pr_tensor *const *parameter, int n) {
  for (int i = 1; i < n; i++)
    for (int k = 0; k < i; k++)
      if (parameter[k] == parameter[i])
        return pr_fail(PR_ERR_ARGUMENT, "parameters %lld and %lld of the list are the same", PR_INDEX(k),
                       PR_INDEX(i));
  return PR_OK;
}

/* A mask that someone else holds (a script that read t.mask) is left to him. */
pr_tensor *prP_draft_mask(const pr_tensor *t) {
  pr_tensor *own = t->parameter->mask;
  if (!own) return pr_tensor_full(PR_F32, PR_CPU, t->dim, t->shape, 1);
  if (own->refs == 1 && own->storage->refs == 1 && pr_is_contiguous(own)) return pr_retain(own);
  pr_tensor *copy = pr_tensor_new(PR_F32, PR_CPU, t->dim, t->shape);
  if (copy && pr_copy(copy, own)) pr_release(copy), copy = NULL;
  return copy;
}

void prP_draft_commit(prP_draft *d) {
  pr_parameter *p = d->parameter->parameter;
  if (p->mask == d->mask) {
    prT_touch(p->mask);
  } else {
    pr_release(p->mask);
    p->mask = pr_retain(d->mask);
  }
  pr_release(p->masked);
  p->masked = NULL;
  prT_touch(d->parameter); /* what reading gives has changed: older tapes are stale */
}

pr_tensor *prP_numbers(const pr_tensor *t, bool wide) {
  pr_tensor *converted = pr_to_dtype((pr_tensor *)t, wide ? PR_F64 : PR_F32);
  pr_tensor *flat = converted ? pr_contiguous(converted) : NULL;
  pr_release(converted);
  return flat;
}

bool prP_is_wide(const pr_tensor *t) { return t->dtype != PR_F32 && t->dtype != PR_BF16; }

/* Position of the first NaN in row-major order, or -1; -2 without memory. */
static int64_t first_nan(const pr_tensor *t) {
  pr_tensor *numbers = prP_numbers(t, prP_is_wide(t));
  if (!numbers) return -2;
  int64_t n = pr_numel(t), found = -1;
  const float *f32 = numbers->dtype == PR_F32 ? prT_data(numbers) : NULL;
  const double *f64 = numbers->dtype == PR_F64 ? prT_data(numbers) : NULL;
  for (int64_t i = 0; i < n && found < 0; i++)
    if (f32 ? f32[i] != f32[i] : f64[i] != f64[i]) found = i;
  pr_release(numbers);
  return found;
}

pr_status prP_check_scores(const pr_tensor *t, const pr_tensor *scores) {
  char a[PR_SHAPE_TEXT], b[PR_SHAPE_TEXT];
  if (!scores) return PR_OK;
  if (!pr_same_shape(t, scores))
    return pr_fail(PR_ERR_SHAPE, "the scores have shape %s, the parameter %s", pr_shape_text(scores, a),
                   pr_shape_text(t, b));
  if (!scores->storage || scores->device != PR_CPU)
    return pr_fail(PR_ERR_STATE, "the scores have no values (device %s)", pr_device_name(scores->device));
  int64_t nan = first_nan(scores);
  if (nan == -2) return PR_ERR_MEMORY;
  if (nan < 0) return PR_OK;
  return pr_fail(PR_ERR_ARGUMENT,
                 "the scores of a parameter of shape %s hold a NaN, at entry %lld in row-major order",
                 pr_shape_text(t, b), PR_INDEX(nan));
}
