/* similarity.c - the cosine of the angle between vectors. */
#include "op/call.h"

enum { A, B };
enum { DIM, EPS };

extern pr_op pr_op_norm;

/* max(|x|, eps) along the axis. */
static pr_tensor *length(pr_tensor *x, int64_t axis, double eps) {
  pr_tensor *norm = prO_call(&pr_op_norm, PRO_ARGS(PRO_LIST(1, &axis)), 1, x);
  pr_tensor *y = norm ? prO_call(&pr_op_clamp, PRO_ARGS(PRO_REAL(eps)), 1, norm) : NULL;
  pr_release(norm);
  return y;
}

static pr_status cosine_similarity(pr_call *c) {
  int axis;
  PR_TRY(prO_need_dim(c, A, 1, PR_MAX_DIM));
  PR_TRY(prO_need_float(c, A));
  PR_TRY(prO_need_same_dtype(c, B, A));
  if (!pr_same_shape(c->in[A], c->in[B]))
    return prO_fail(c, PR_ERR_SHAPE, "a and b must have one shape; expand one of them");
  if (!(c->args[EPS].real > 0)) return prO_fail(c, PR_ERR_ARGUMENT, "eps must be positive");
  PR_TRY(prO_dim(c, DIM, c->in[A]->dim, &axis));
  PR_TRY(prO_outputs(c, 1));
  int64_t along = axis;
  pr_tensor *product = prO_call(&pr_op_mul, NULL, 2, c->in[A], c->in[B]);
  pr_tensor *dot = product ? prO_call(&pr_op_sum, PRO_ARGS(PRO_LIST(1, &along)), 1, product) : NULL;
  pr_release(product);
  pr_tensor *a = dot ? length(c->in[A], axis, c->args[EPS].real) : NULL;
  pr_tensor *b = a ? length(c->in[B], axis, c->args[EPS].real) : NULL;
  pr_tensor *lengths = b ? prO_take2(&pr_op_mul, a, b) : (pr_release(a), NULL);
  return prO_give(c, 0, prO_take2(&pr_op_div, dot, lengths));
}

PR_OP(cosine_similarity) = {
  .name = "cosine_similarity",
  .inputs = "a b",
  .outputs = "y",
  .args = { { "dim", PR_ARG_DIM, .integer = 1, .help = "the axis of the vectors' entries" },
            { "eps", PR_ARG_REAL, .real = 1e-8, .help = "least length that is divided by" } },
  .compose = cosine_similarity,
  .examples = "a:3x4 b:3x4\na:2x3x4 b:2x3x4 dim=-1",
  .help = "Cosine of the angle between vectors along `dim`: a and b of one shape -> y without the axis\n"
          "y = sum(a b) / (max(|a|, eps) max(|b|, eps)).",
};
