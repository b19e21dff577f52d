/* reduce.c - operators that turn an axis, or several, into one number per remaining position. */
#include <string.h>

#include "couple/rules.h"
#include "op/call.h"

/* --- over a list of axes ------------------------------------------------------------------------------ */

/* The arguments that all of these begin with. */
enum { DIM, KEEPDIM };
#define AXES_ARGS                                                                                            \
  { "dim", PR_ARG_DIMS, .empty = true, .help = "axes; none: all" }, {                                        \
    "keepdim", PR_ARG_BOOL, .help = "keep them with size 1"                                                  \
  }

static int reduced_shape(const pr_tensor *x, const bool gone[PR_MAX_DIM], bool keep,
                         int64_t shape[PR_MAX_DIM]) {
  int dim = 0;
  for (int d = 0; d < x->dim; d++)
    if (!gone[d])
      shape[dim++] = x->shape[d];
    else if (keep)
      shape[dim++] = 1;
  return dim;
}

static pr_status infer_as(pr_call *c, pr_dtype dtype) {
  bool gone[PR_MAX_DIM];
  int64_t shape[PR_MAX_DIM];
  PR_TRY(prO_dims(c, DIM, c->in[0]->dim, gone));
  int dim = reduced_shape(c->in[0], gone, c->args[KEEPDIM].integer, shape);
  return prO_output(c, 0, dtype, dim, shape);
}

/* Sums of integers and of truth values are i64. */
static pr_status infer_total(pr_call *c) {
  return infer_as(c, pr_dtype_is_float(c->in[0]->dtype) ? c->in[0]->dtype : PR_I64);
}

static pr_status infer_float(pr_call *c) {
  PR_TRY(prO_need_float(c, 0));
  return infer_as(c, c->in[0]->dtype);
}

static pr_status infer_bool(pr_call *c) { return infer_as(c, PR_BOOL); }

/* There is no largest element of nothing. */
static pr_status infer_element(pr_call *c) {
  bool gone[PR_MAX_DIM];
  PR_TRY(prO_dims(c, DIM, c->in[0]->dim, gone));
  for (int d = 0; d < c->in[0]->dim; d++)
    if (gone[d] && c->in[0]->shape[d] == 0)
      return prO_fail(c, PR_ERR_SHAPE, "axis %lld is empty and has no such element", PR_INDEX(d));
  return infer_as(c, c->in[0]->dtype);
}

/* The reduced axes, one bit each; the call has been checked. */
static unsigned axes_of(const pr_call *c) {
  bool gone[PR_MAX_DIM];
  unsigned axes = 0;
  if (prO_dims(c, DIM, c->in[0]->dim, gone)) return ~0u;
  for (int d = 0; d < c->in[0]->dim; d++) axes |= (unsigned)gone[d] << d;
  return axes;
}

#define COUPLING(name, kind)                                                                                 \
  static void name(pr_coupling *k) { prC_rule_reduce(k, PRC_IN(0), PRC_OUT(0), axes_of(k->call), kind); }
COUPLING(sum_couple, PRC_SUM)
COUPLING(mean_couple, PRC_MEAN)
COUPLING(extreme_couple, PRC_MAX)
COUPLING(prod_couple, PRC_PROD)
COUPLING(other_couple, PRC_ARG)
COUPLING(var_couple, PRC_VAR)
COUPLING(norm_couple, PRC_NORM)

#define REDUCTION(word, shape_rule, saved, onnx_name)                                                        \
  .name = word, .inputs = "x", .outputs = "y", .saves = saved, .infer = shape_rule, .onnx = onnx_name
#define ALL_FORMS "x:2x3x4\nx:2x3x4 dim=1 keepdim=true\nx:2x3x4 dim=-1,0"
#define SHAPES    "x without the axes `dim` (with size 1 where keepdim); no axes: a number"

PR_OP(sum) = { REDUCTION("sum", infer_total, NULL, "ReduceSum"), .couple = sum_couple, .args = { AXES_ARGS },
               .examples = ALL_FORMS,
               .help = "sum over axes: " SHAPES "\nSums of integers and bools are i64." };
PR_OP(mean) = { REDUCTION("mean", infer_float, NULL, "ReduceMean"),
                .couple = mean_couple,
                .flags = PR_OP_LIVE_STATISTICS,
                .args = { AXES_ARGS },
                .examples = ALL_FORMS,
                .help = "mean over axes: " SHAPES };
PR_OP(amax) = { REDUCTION("amax", infer_element, "x y", "ReduceMax"), .couple = extreme_couple,
                .args = { AXES_ARGS }, .examples = ALL_FORMS,
                .help = "largest element over axes: " SHAPES "\nEqual ones share the gradient." };
PR_OP(amin) = { REDUCTION("amin", infer_element, "x y", "ReduceMin"), .couple = extreme_couple,
                .args = { AXES_ARGS }, .examples = ALL_FORMS,
                .help = "smallest element over axes: " SHAPES "\nEqual ones share the gradient." };
PR_OP(prod) = { REDUCTION("prod", infer_total, "x", "ReduceProd"), .couple = prod_couple,
                .args = { AXES_ARGS }, .examples = ALL_FORMS, .help = "product over axes: " SHAPES };
PR_OP(logsumexp) = { REDUCTION("logsumexp", infer_float, "x y", "ReduceLogSumExp"), .couple = other_couple,
                     .args = { AXES_ARGS }, .examples = ALL_FORMS,
                     .help = "log(sum(exp(x))) over axes, without overflow: " SHAPES };
PR_OP(any) = { REDUCTION("any", infer_bool, NULL, NULL),
               .couple = other_couple,
               .args = { AXES_ARGS },
               .flags = PR_OP_NO_GRADIENT,
               .examples = "x:3x4%2\nx:3x4%2 dim=1",
               .help = "is any element not 0, over axes (bool): " SHAPES };
PR_OP(all) = { REDUCTION("all", infer_bool, NULL, NULL),
               .couple = other_couple,
               .args = { AXES_ARGS },
               .flags = PR_OP_NO_GRADIENT,
               .examples = "x:3x4%2\nx:3x4%2 dim=1",
               .help = "are all elements not 0, over axes (bool): " SHAPES };

#define UNBIASED                                                                                             \
  { "unbiased", PR_ARG_BOOL, .integer = 1, .help = "divide by n - 1, not n" }
PR_OP(var) = {
  REDUCTION("var", infer_float, "x", NULL),
  .couple = var_couple,
  .flags = PR_OP_LIVE_STATISTICS,
  .args = { AXES_ARGS, UNBIASED },
  .examples = "x:2x3x4\nx:2x3x4 dim=1 keepdim=true\nx:2x3x4 dim=2,0 unbiased=false",
  .help = "variance over axes: " SHAPES "\nsum((x - mean)^2) / (n - 1), or / n where not unbiased.",
};
PR_OP(std) = {
  REDUCTION("std", infer_float, "x y", NULL),
  .couple = var_couple,
  .flags = PR_OP_LIVE_STATISTICS,
  .args = { AXES_ARGS, UNBIASED },
  .examples = "x:2x3x4\nx:2x3x4 dim=1 keepdim=true\nx:2x3x4 dim=2,0 unbiased=false",
  .help = "standard deviation over axes, the root of var: " SHAPES "\nThe gradient at 0 is 0.",
};

static pr_status infer_norm(pr_call *c) {
  double p = c->args[2].real;
  if (!(p >= 0))
    return prO_fail(c, PR_ERR_ARGUMENT, "ord must be 0 or above (inf for the maximum), not %g", p);
  return infer_float(c);
}

PR_OP(norm) = {
  REDUCTION("norm", infer_norm, "x y", NULL),
  .couple = norm_couple,
  .args = { AXES_ARGS,
            { "ord", PR_ARG_REAL, .real = 2, .help = "p; inf: the largest; 0: how many are not 0" } },
  .examples = "x:2x3x4\nx:2x3x4 dim=1 keepdim=true ord=1\nx:2x3x4 dim=2,0 ord=3\nx:2x3x4 dim=1 ord=inf",
  .help = "vector norm (sum |x|^p)^(1/p) over axes: " SHAPES "\nThe gradient at 0 is 0.",
};

/* --- along one axis ----------------------------------------------------------------------------------- */

static void position_couple(pr_coupling *k) {
  int axis = 0;
  bool one = k->call->args[DIM].given;
  if (one && prO_dim(k->call, DIM, k->call->in[0]->dim, &axis)) return;
  prC_rule_reduce(k, PRC_IN(0), PRC_OUT(0), one ? 1u << axis : ~0u, PRC_ARG);
}

/* Without `dim` over all elements, counted in row-major order. */
static pr_status infer_position(pr_call *c) {
  bool gone[PR_MAX_DIM];
  int64_t shape[PR_MAX_DIM];
  const pr_tensor *x = c->in[0];
  memset(gone, !c->args[DIM].given, sizeof gone);
  if (c->args[DIM].given) {
    int axis;
    PR_TRY(prO_dim(c, DIM, x->dim, &axis));
    gone[axis] = true;
  }
  for (int d = 0; d < x->dim; d++)
    if (gone[d] && x->shape[d] == 0) return prO_fail(c, PR_ERR_SHAPE, "axis %lld is empty", PR_INDEX(d));
  int dim = reduced_shape(x, gone, c->args[KEEPDIM].integer, shape);
  return prO_output(c, 0, PR_I64, dim, shape);
}

#define POSITION(word, onnx_name)                                                                            \
  .name = word, .inputs = "x", .outputs = "index#", .flags = PR_OP_NO_GRADIENT, .infer = infer_position,     \
  .couple = position_couple, .onnx = onnx_name, .examples = "x:3x4\nx:3x4 dim=1\nx:3x4 dim=0 keepdim=true",  \
  .args = { { "dim", PR_ARG_DIM, .help = "axis; none: all elements, row by row" },                           \
            { "keepdim", PR_ARG_BOOL, .help = "keep it with size 1" } }

PR_OP(argmax) = { POSITION("argmax", "ArgMax"),
                  .help = "position of the largest element along an axis (i64): x without `dim`\n"
                          "Of equal ones the first; a NaN counts as largest." };
PR_OP(argmin) = { POSITION("argmin", "ArgMin"),
                  .help = "position of the smallest element along an axis (i64): x without `dim`\n"
                          "Of equal ones the first; a NaN counts as smallest." };

static pr_status infer_cumsum(pr_call *c) {
  int axis;
  PR_TRY(prO_dim(c, 0, c->in[0]->dim, &axis));
  if (pr_dtype_is_float(c->in[0]->dtype)) return prO_output_like(c, 0, c->in[0]);
  return prO_output(c, 0, PR_I64, c->in[0]->dim, c->in[0]->shape);
}

static void cumsum_couple(pr_coupling *k) {
  int axis;
  if (prO_dim(k->call, 0, k->call->in[0]->dim, &axis)) return;
  prC_rule_along(k, PRC_IN(0), PRC_OUT(0), axis, PRC_DEAD_ZERO);
}

PR_OP(cumsum) = {
  .name = "cumsum",
  .inputs = "x",
  .outputs = "y",
  .args = { { "dim", PR_ARG_DIM, .required = true } },
  .infer = infer_cumsum,
  .couple = cumsum_couple,
  .onnx = "CumSum",
  .examples = "x:2x3x4 dim=1\nx:5 dim=-1",
  .help = "running sum along an axis, the element itself included: y like x (integers: i64)",
};
