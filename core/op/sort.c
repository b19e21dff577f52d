/* sort.c - order along an axis: sort, topk. Of equal elements the one at the lower index comes first; NaN
 * counts as the largest. */
#include <string.h>

#include "couple/rules.h"
#include "op/call.h"

/* The sorted axis is pinned. Equal elements stay equal along the others, but their order is not known. */
static void couple_along(pr_coupling *k, int axis) {
  prC_pin(k, PRC_IN(0), axis, "it is sorted");
  for (int d = 0; d < prC_dim(k, PRC_IN(0)); d++) {
    if (d == axis) continue;
    prC_pass_axis(k, PRC_OUT(0), d, PRC_IN(0), d, PRC_DEAD_VALUE);
    prC_pass_axis(k, PRC_OUT(1), d, PRC_IN(0), d, PRC_DEAD_UNKNOWN);
  }
}

static void sort_couple(pr_coupling *k) {
  int axis;
  if (prO_dim(k->call, 0, k->call->in[0]->dim, &axis) == PR_OK) couple_along(k, axis);
}

static void topk_couple(pr_coupling *k) {
  int axis;
  if (prO_dim(k->call, 1, k->call->in[0]->dim, &axis) == PR_OK) couple_along(k, axis);
}

static pr_status sort_infer(pr_call *c) {
  const pr_tensor *x = c->in[0];
  int axis;
  PR_TRY(prO_dim(c, 0, x->dim, &axis));
  PR_TRY(prO_output_like(c, 0, x));
  return prO_output(c, 1, PR_I64, x->dim, x->shape);
}

PR_OP(sort) = {
  .name = "sort",
  .inputs = "x",
  .outputs = "values order#",
  .saves = "order",
  .args = { { "dim", PR_ARG_DIM, .integer = -1 }, { "descending", PR_ARG_BOOL } },
  .infer = sort_infer,
  .couple = sort_couple,
  .examples = "x:3x4\nx:3x4 dim=0 descending=true\nx:5",
  .help = "x in order along an axis, smallest first: values like x, order (i64) where each came from\n"
          "Equal elements keep their order; NaN comes last (descending: first).",
};

static pr_status topk_infer(pr_call *c) {
  const pr_tensor *x = c->in[0];
  int64_t shape[PR_MAX_DIM], k = c->args[0].integer;
  int axis;
  PR_TRY(prO_dim(c, 1, x->dim, &axis));
  if (k < 0 || k > x->shape[axis])
    return prO_fail(c, PR_ERR_ARGUMENT, "k must be 0 to %lld, the size of axis %lld, not %lld",
                    (long long)x->shape[axis], PR_INDEX(axis), (long long)k);
  memcpy(shape, x->shape, sizeof shape);
  shape[axis] = k;
  PR_TRY(prO_output(c, 0, x->dtype, x->dim, shape));
  return prO_output(c, 1, PR_I64, x->dim, shape);
}

PR_OP(topk) = {
  .name = "topk",
  .inputs = "x",
  .outputs = "values index#",
  .saves = "index",
  .args = { { "k", PR_ARG_INT, .required = true },
            { "dim", PR_ARG_DIM, .integer = -1 },
            { "largest", PR_ARG_BOOL, .integer = 1, .help = "else the smallest" } },
  .infer = topk_infer,
  .couple = topk_couple,
  .onnx = "TopK",
  .examples = "x:3x5 k=2\nx:4x3 k=3 dim=0 largest=false",
  .help = "the k largest elements along an axis, largest first: values and index (i64) [.., k, ..]",
};
