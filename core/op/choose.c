/* choose.c - elements taken from one tensor or another: where, masked_fill; lerp between two; prelu. A
 * condition may have any dtype: not 0 is true. */
#include <string.h>

#include "couple/rules.h"
#include "op/call.h"

/* --- where
 * ----------------------------------------------------------------------------------------------------------
 */

enum { CONDITION, X, Y };

/* Three shapes broadcast: y against x first, then the condition against both. */
static pr_status where_shape(const pr_call *c, int *dim, int64_t shape[PR_MAX_DIM]) {
  PR_TRY(prO_broadcast(c, X, Y, dim, shape));
  const pr_tensor *condition = c->in[CONDITION];
  for (int d = *dim; d < condition->dim; d++) { /* room for the condition's further axes in front */
    memmove(shape + 1, shape, (size_t)d * sizeof *shape);
    shape[0] = 1;
    *dim = d + 1;
  }
  for (int d = 0; d < condition->dim; d++) {
    int at = d + *dim - condition->dim;
    if (condition->shape[d] == 1 || condition->shape[d] == shape[at]) continue;
    if (shape[at] != 1)
      return prO_fail(c, PR_ERR_SHAPE, "the condition does not broadcast: %lld and %lld along axis %lld",
                      (long long)condition->shape[d], (long long)shape[at], PR_INDEX(at));
    shape[at] = condition->shape[d];
  }
  return PR_OK;
}

static pr_status where_infer(pr_call *c) {
  int64_t shape[PR_MAX_DIM];
  int dim;
  if (c->in[X]->dim && c->in[Y]->dim) PR_TRY(prO_need_same_dtype(c, X, Y));
  PR_TRY(where_shape(c, &dim, shape));
  const pr_tensor *lead = c->in[X]->dim ? c->in[X] : c->in[Y];
  return prO_output_ordered(c, 0, lead->dtype, dim, shape, lead);
}

static pr_status where_backward(pr_call *c) {
  pr_tensor *g = c->grad_out[0], *zero = pr_tensor_scalar(g->dtype, 0);
  pr_status status = zero ? PR_OK : PR_ERR_MEMORY;
  extern pr_op pr_op_where;
  for (int i = X; i <= Y && !status; i++) {
    if (!c->wanted[i]) continue;
    pr_tensor *a = i == X ? g : zero, *b = i == X ? zero : g;
    pr_tensor *part = prO_sum_to(c, i, prO_call(&pr_op_where, NULL, 3, c->in[CONDITION], a, b));
    pr_tensor *fits = part ? pr_to_dtype(part, c->in[i]->dtype) : NULL;
    pr_release(part);
    status = prO_gradient(c, i, fits);
  }
  pr_release(zero);
  return status;
}

static void where_couple(pr_coupling *k) {
  prC_rule_where(k, PRC_IN(CONDITION), PRC_IN(X), PRC_IN(Y), 0, PRC_OUT(0));
}

PR_OP(where) = {
  .name = "where",
  .inputs = "condition x y",
  .outputs = "z",
  .saves = "condition",
  .infer = where_infer,
  .backward = where_backward,
  .couple = where_couple,
  .onnx = "Where",
  .examples = "condition:2x3%2 x:2x3 y:2x3\ncondition:2x1%2 x:3 y:scalar\ncondition:3%2 x:2x1 y:1x3",
  .help = "x where condition is not 0, else y; shapes broadcast",
};

/* --- masked_fill -------------------------------------------------------------------------------------- */

enum { FILLED, MASK };

static pr_status masked_fill_infer(pr_call *c) {
  int64_t shape[PR_MAX_DIM];
  int dim;
  PR_TRY(prO_broadcast(c, FILLED, MASK, &dim, shape));
  return prO_output_ordered(c, 0, c->in[FILLED]->dtype, dim, shape, c->in[FILLED]);
}

static pr_status masked_fill_backward(pr_call *c) {
  pr_tensor *g = prO_call(&pr_op_masked_fill, PRO_ARGS(PRO_REAL(0)), 2, c->grad_out[0], c->in[MASK]);
  return prO_gradient(c, FILLED, prO_sum_to(c, FILLED, g));
}

static void masked_fill_couple(pr_coupling *k) {
  prC_rule_where(k, PRC_IN(MASK), PRC_IN(FILLED), PRC_NONE, k->call->args[0].real, PRC_OUT(0));
}

PR_OP(masked_fill) = {
  .name = "masked_fill",
  .inputs = "x mask",
  .outputs = "y",
  .saves = "mask",
  .args = { { "value", PR_ARG_REAL, .required = true } },
  .infer = masked_fill_infer,
  .backward = masked_fill_backward,
  .couple = masked_fill_couple,
  .examples = "x:2x3 mask:2x3%2 value=-1\nx:2x3x2 mask:3x1%2 value=0.5",
  .help = "value where mask is not 0, else x; shapes broadcast",
};

/* --- lerp
 * -----------------------------------------------------------------------------------------------------------
 */

static pr_status lerp(pr_call *c) {
  pr_tensor *way = prO_call(&pr_op_sub, NULL, 2, c->in[1], c->in[0]);
  pr_tensor *part = prO_take2(&pr_op_mul, way, pr_retain(c->in[2]));
  PR_TRY(prO_outputs(c, 1));
  return prO_give(c, 0, prO_take2(&pr_op_add, pr_retain(c->in[0]), part));
}

PR_OP(lerp) = {
  .name = "lerp",
  .inputs = "x y weight",
  .outputs = "z",
  .compose = lerp,
  .examples = "x:2x3 y:2x3 weight:2x3\nx:2x3 y:3 weight:scalar",
  .help = "x + weight * (y - x); shapes broadcast",
};

/* --- prelu
 * ----------------------------------------------------------------------------------------------------------
 */

enum { INPUT, WEIGHT };

static pr_status prelu_infer(pr_call *c) {
  const pr_tensor *x = c->in[INPUT], *weight = c->in[WEIGHT];
  PR_TRY(prO_need_float(c, INPUT));
  PR_TRY(prO_need_same_dtype(c, WEIGHT, INPUT));
  PR_TRY(prO_need_dim(c, WEIGHT, 1, 1));
  int64_t channels = x->dim > 1 ? x->shape[1] : 1;
  if (weight->shape[0] != 1 && weight->shape[0] != channels)
    return prO_fail(c, PR_ERR_SHAPE, "weight must have 1 entry or one per channel (%lld), has %lld",
                    (long long)channels, (long long)weight->shape[0]);
  return prO_output_like(c, 0, x);
}

static void prelu_couple(pr_coupling *k) { prC_rule_prelu(k, PRC_IN(INPUT), PRC_IN(WEIGHT), PRC_OUT(0)); }

PR_OP(prelu) = {
  .name = "prelu",
  .inputs = "x weight",
  .outputs = "y",
  .saves = "x weight",
  .infer = prelu_infer,
  .couple = prelu_couple,
  .onnx = "PRelu",
  .examples = "x:2x3x2x2 weight:3\nx:2x3 weight:1\nx:4 weight:1",
  .help = "x where x > 0, else weight * x; x [N, C, ...], weight [C] or [1] (He et al. 2015)",
};
