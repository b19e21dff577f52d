/* sort.c - order along an axis: sort, topk. Of equal elements the one at the lower index comes first; NaN
 * counts as the largest. */
#include <string.h>

#include "op/call.h"

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
  .onnx = "TopK",
  .examples = "x:3x5 k=2\nx:4x3 k=3 dim=0 largest=false",
  .help = "the k largest elements along an axis, largest first: values and index (i64) [.., k, ..]",
};
