/* view.c - the same elements under another shape. Results share the input's storage (expand, permute, select,
 * ...: always; reshape and contiguous: where the strides allow, else they are copies).
 *
 * Own operators are those that a graph records; the others are put together from them. Sizes of the batch
 * axis are left to -1 where that is possible, so that a traced graph holds for every batch size.
 */
#include <string.h>

#include "couple/rules.h"
#include "op/call.h"

enum { X };

/* --- reshape ------------------------------------------------------------------------------------------ */

/* Strides under which t's elements, in order, have `shape`; false where a copy is needed. Axes of t are taken
 * in runs that lie behind each other in memory; each run must be cut exactly by new axes. */
static bool view_strides(const pr_tensor *t, int dim, const int64_t *shape, int64_t *stride) {
  int at = dim - 1;
  int64_t run = 1, base = 1; /* elements of the run, stride of its last axis */
  bool open = false;
  if (pr_numel(t) == 0) {
    for (int d = dim - 1; d >= 0; d--)
      stride[d] = d == dim - 1 ? 1 : stride[d + 1] * (shape[d + 1] > 1 ? shape[d + 1] : 1);
    return true;
  }
  for (int d = t->dim - 1; d >= -1; d--) {
    if (d >= 0 && t->shape[d] == 1) continue;
    if (open && (d < 0 || t->stride[d] != run * base)) { /* the run ends: cut it */
      int64_t taken = 1;
      while (at >= 0 && (taken < run || shape[at] == 1)) {
        stride[at] = taken * base;
        taken *= shape[at--];
      }
      if (taken != run) return false;
      open = false;
    }
    if (d < 0) break;
    if (!open) run = 1, base = t->stride[d], open = true;
    run *= t->shape[d];
  }
  while (at >= 0) stride[at--] = 1; /* axes of size 1 */
  return true;
}

/* The shape argument with its -1 replaced. */
static pr_status wanted_shape(const pr_call *c, int *dim, int64_t shape[PR_MAX_DIM]) {
  const pr_arg *a = &c->args[0];
  char text[PR_SHAPE_TEXT];
  int64_t known = 1, all = pr_numel(c->in[X]);
  int unknown = -1;
  *dim = a->count;
  if (a->count > PR_MAX_DIM)
    return prO_fail(c, PR_ERR_SHAPE, "a tensor has at most %d axes, not %d", PR_MAX_DIM, a->count);
  for (int d = 0; d < a->count; d++) {
    shape[d] = a->list[d];
    if (shape[d] == -1 && unknown >= 0) return prO_fail(c, PR_ERR_ARGUMENT, "only one size can be -1");
    if (shape[d] < -1) return prO_fail(c, PR_ERR_ARGUMENT, "a size cannot be %lld", (long long)shape[d]);
    if (shape[d] == -1)
      unknown = d;
    else if (__builtin_mul_overflow(known, shape[d], &known))
      return prO_fail(c, PR_ERR_SHAPE, "the sizes overflow");
  }
  prT_sizes_text(a->count, a->list, text);
  if (unknown >= 0 && (known == 0 || all % known != 0))
    return prO_fail(c, PR_ERR_SHAPE, "%lld elements do not fit shape %s for any size in place of -1",
                    (long long)all, text);
  if (unknown >= 0)
    shape[unknown] = all / known;
  else if (known != all)
    return prO_fail(c, PR_ERR_SHAPE, "%lld elements do not fit shape %s, which has %lld", (long long)all,
                    text, (long long)known);
  return PR_OK;
}

static pr_status reshape_infer(pr_call *c) {
  const pr_tensor *x = c->in[X];
  int64_t shape[PR_MAX_DIM], stride[PR_MAX_DIM];
  int dim;
  PR_TRY(wanted_shape(c, &dim, shape));
  if (view_strides(x, dim, shape, stride)) return prO_view(c, 0, X, dim, shape, stride, x->offset);
  return prO_output(c, 0, x->dtype, dim, shape);
}

/* g in the shape of the input. */
static pr_tensor *shaped_back(const pr_call *c, pr_tensor *g) {
  int64_t shape[PR_MAX_DIM];
  memcpy(shape, c->in[X]->shape, sizeof shape);
  return prO_call(&pr_op_reshape, PRO_ARGS(PRO_LIST(c->in[X]->dim, shape)), 1, g);
}

static pr_status reshape_backward(pr_call *c) { return prO_gradient(c, X, shaped_back(c, c->grad_out[0])); }

static void reshape_couple(pr_coupling *k) { prC_rule_reshape(k, PRC_IN(X), PRC_OUT(0)); }
static void pass_couple(pr_coupling *k) { prC_pass(k, PRC_OUT(0), PRC_IN(X), PRC_DEAD_VALUE); }

/* Sizes are the live counts of the result; -1 stays. */
static pr_status rewrite_sizes(pr_coupling *k, pr_arg *args) {
  for (int d = 0; d < args[0].count; d++)
    if (args[0].list[d] != -1) args[0].list[d] = prC_live_axis(k, PRC_OUT(0), d);
  return PR_OK;
}

PR_OP(reshape) = {
  .name = "reshape",
  .inputs = "x",
  .outputs = "y",
  .args = { { "shape", PR_ARG_INTS, .required = true, .symbolic = true,
              .help = "sizes; one may be -1: what is left" } },
  .infer = reshape_infer,
  .backward = reshape_backward,
  .couple = reshape_couple,
  .rewrite = rewrite_sizes,
  .onnx = "Reshape",
  .examples = "x:2x3x4 shape=2,12\nx:2x3x4 shape=4,-1\nx:6 shape=1,2,1,3",
  .help = "x's elements in row-major order under another shape; shares memory where strides allow",
};

/* Join the axes from start to end into one; -1 stands for the first axis unless it is cut itself. */
static pr_status flatten(pr_call *c) {
  const pr_tensor *x = c->in[X];
  int64_t shape[PR_MAX_DIM + 1];
  int start = 0, end = 0, dim = 0;
  if (x->dim) {
    PR_TRY(prO_dim(c, 0, x->dim, &start));
    PR_TRY(prO_dim(c, 1, x->dim, &end));
  }
  if (start > end)
    return prO_fail(c, PR_ERR_ARGUMENT, "start_dim %lld is after end_dim %lld", PR_INDEX(start),
                    PR_INDEX(end));
  for (int d = 0; d < x->dim; d++)
    if (d > start && d <= end)
      shape[dim - 1] *= x->shape[d];
    else
      shape[dim++] = x->shape[d];
  if (dim == 0) shape[dim++] = 1;
  if (pr_numel(x)) shape[0] = -1;
  PR_TRY(prO_outputs(c, 1));
  return prO_give(c, 0, prO_call(&pr_op_reshape, PRO_ARGS(PRO_LIST(dim, shape)), 1, x));
}

PR_OP(flatten) = {
  .name = "flatten",
  .inputs = "x",
  .outputs = "y",
  .args = { { "start_dim", PR_ARG_DIM, .integer = 0 }, { "end_dim", PR_ARG_DIM, .integer = -1 } },
  .compose = flatten,
  .examples = "x:2x3x4\nx:2x3x4 start_dim=1\nx:2x3x4x2 start_dim=1 end_dim=2",
  .help = "the axes from start_dim to end_dim joined into one; a reshape",
};

static pr_status unflatten(pr_call *c) {
  const pr_tensor *x = c->in[X];
  const pr_arg *sizes = &c->args[1];
  int64_t shape[2 * PR_MAX_DIM];
  int axis, dim = 0;
  PR_TRY(prO_dim(c, 0, x->dim, &axis));
  if (x->dim - 1 + sizes->count > PR_MAX_DIM)
    return prO_fail(c, PR_ERR_SHAPE, "a tensor has at most %d axes", PR_MAX_DIM);
  int64_t known = 1, rest = x->shape[axis];
  for (int k = 0; k < sizes->count; k++)
    if (sizes->list[k] != -1) known *= sizes->list[k];
  for (int d = 0; d < x->dim; d++) {
    if (d != axis) shape[dim++] = x->shape[d];
    for (int k = 0; d == axis && k < sizes->count; k++)
      shape[dim++] = sizes->list[k] == -1 && known > 0 ? rest / known : sizes->list[k];
  }
  int64_t product = 1;
  for (int k = 0; k < sizes->count; k++) product *= shape[axis + k];
  if (product != rest)
    return prO_fail(c, PR_ERR_SHAPE, "axis %lld of size %lld does not split into the given sizes",
                    PR_INDEX(axis), (long long)rest);
  if (axis > 0 && pr_numel(x)) shape[0] = -1;
  PR_TRY(prO_outputs(c, 1));
  return prO_give(c, 0, prO_call(&pr_op_reshape, PRO_ARGS(PRO_LIST(dim, shape)), 1, x));
}

PR_OP(unflatten) = {
  .name = "unflatten",
  .inputs = "x",
  .outputs = "y",
  .args = { { "dim", PR_ARG_DIM, .required = true },
            { "sizes", PR_ARG_INTS, .required = true, .symbolic = true, .help = "one may be -1" } },
  .compose = unflatten,
  .examples = "x:2x6 dim=1 sizes=2,3\nx:6x2 dim=0 sizes=-1,2",
  .help = "axis dim split into several, the reverse of flatten; a reshape",
};

static pr_status contiguous_infer(pr_call *c) {
  const pr_tensor *x = c->in[X];
  if (pr_is_contiguous(x)) return prO_view(c, 0, X, x->dim, x->shape, x->stride, x->offset);
  return prO_output(c, 0, x->dtype, x->dim, x->shape);
}

static pr_status pass_backward(pr_call *c) { return prO_gradient(c, X, pr_retain(c->grad_out[0])); }

PR_OP(contiguous) = {
  .name = "contiguous",
  .inputs = "x",
  .outputs = "y",
  .infer = contiguous_infer,
  .backward = pass_backward,
  .couple = pass_couple,
  .onnx = "Identity",
  .examples = "x:2x3",
  .help = "x with row-major memory: itself where it is so already, else a copy",
};

/* --- order of axes ------------------------------------------------------------------------------------ */

static pr_status permutation(const pr_call *c, int order[PR_MAX_DIM]) {
  const pr_arg *a = &c->args[0];
  int dim = c->in[X]->dim;
  bool seen[PR_MAX_DIM];
  if (a->count != dim)
    return prO_fail(c, PR_ERR_ARGUMENT, "dims must name each of the %d axes once, got %d", dim, a->count);
  if (dim) PR_TRY(prO_dims(c, 0, dim, seen)); /* in range, none twice */
  for (int k = 0; k < dim; k++) order[k] = (int)(a->list[k] < 0 ? a->list[k] + dim : a->list[k]);
  return PR_OK;
}

static pr_status permute_infer(pr_call *c) {
  const pr_tensor *x = c->in[X];
  int order[PR_MAX_DIM];
  int64_t shape[PR_MAX_DIM], stride[PR_MAX_DIM];
  PR_TRY(permutation(c, order));
  for (int k = 0; k < x->dim; k++) shape[k] = x->shape[order[k]], stride[k] = x->stride[order[k]];
  return prO_view(c, 0, X, x->dim, shape, stride, x->offset);
}

static pr_status permute_backward(pr_call *c) {
  int order[PR_MAX_DIM];
  int64_t inverse[PR_MAX_DIM];
  PR_TRY(permutation(c, order));
  for (int k = 0; k < c->in[X]->dim; k++) inverse[order[k]] = k;
  return prO_gradient(
      c, X, prO_call(&pr_op_permute, PRO_ARGS(PRO_LIST(c->in[X]->dim, inverse)), 1, c->grad_out[0]));
}

static void permute_couple(pr_coupling *k) {
  int order[PR_MAX_DIM];
  if (permutation(k->call, order) == PR_OK) prC_rule_permute(k, PRC_IN(X), PRC_OUT(0), order);
}

PR_OP(permute) = {
  .name = "permute",
  .inputs = "x",
  .outputs = "y",
  .args = { { "dims", PR_ARG_DIMS, .required = true, .help = "axis k of y is this axis of x" } },
  .flags = PR_OP_VIEW,
  .infer = permute_infer,
  .backward = permute_backward,
  .couple = permute_couple,
  .onnx = "Transpose",
  .examples = "x:2x3x4 dims=2,0,1\nx:2x3 dims=1,0",
  .help = "axes in another order; shares memory",
};

static pr_status give_permuted(pr_call *c, int64_t order[PR_MAX_DIM]) {
  PR_TRY(prO_outputs(c, 1));
  return prO_give(c, 0, prO_call(&pr_op_permute, PRO_ARGS(PRO_LIST(c->in[X]->dim, order)), 1, c->in[X]));
}

static pr_status transpose(pr_call *c) {
  int64_t order[PR_MAX_DIM];
  int a, b;
  PR_TRY(prO_dim(c, 0, c->in[X]->dim, &a));
  PR_TRY(prO_dim(c, 1, c->in[X]->dim, &b));
  for (int d = 0; d < PR_MAX_DIM; d++) order[d] = d == a ? b : d == b ? a : d;
  return give_permuted(c, order);
}

PR_OP(transpose) = {
  .name = "transpose",
  .inputs = "x",
  .outputs = "y",
  .args = { { "dim1", PR_ARG_DIM, .integer = -2 }, { "dim2", PR_ARG_DIM, .integer = -1 } },
  .compose = transpose,
  .examples = "x:2x3\nx:2x3x4 dim1=0 dim2=2",
  .help = "two axes exchanged (the last two unless named); a permute",
};

static pr_status movedim(pr_call *c) {
  int64_t order[PR_MAX_DIM];
  int from, to, dim = c->in[X]->dim;
  PR_TRY(prO_dim(c, 0, dim, &from));
  PR_TRY(prO_dim(c, 1, dim, &to));
  for (int d = 0, other = 0; d < dim; d++) {
    if (other == from) other++;
    order[d] = d == to ? from : other++;
  }
  return give_permuted(c, order);
}

PR_OP(movedim) = {
  .name = "movedim",
  .inputs = "x",
  .outputs = "y",
  .args = { { "source", PR_ARG_DIM, .required = true }, { "destination", PR_ARG_DIM, .required = true } },
  .compose = movedim,
  .examples = "x:2x3x4 source=0 destination=2\nx:2x3x4 source=-1 destination=0",
  .help = "axis source moved to place destination, the others keep their order; a permute",
};

/* --- axes of size 1 ----------------------------------------------------------------------------------- */

static pr_status squeeze_dims_infer(pr_call *c) {
  const pr_tensor *x = c->in[X];
  int64_t shape[PR_MAX_DIM], stride[PR_MAX_DIM];
  bool gone[PR_MAX_DIM];
  int dim = 0;
  PR_TRY(prO_dims(c, 0, x->dim, gone));
  for (int d = 0; d < x->dim; d++) {
    if (gone[d])
      PR_TRY(prO_need_size(c, X, d, 1, "it is squeezed"));
    else
      shape[dim] = x->shape[d], stride[dim++] = x->stride[d];
  }
  return prO_view(c, 0, X, dim, shape, stride, x->offset);
}

PR_OP(squeeze_dims) = {
  .name = "squeeze_dims",
  .inputs = "x",
  .outputs = "y",
  .args = { { "dims", PR_ARG_DIMS, .required = true, .help = "axes, each of size 1" } },
  .flags = PR_OP_VIEW,
  .infer = squeeze_dims_infer,
  .backward = reshape_backward,
  .couple = reshape_couple,
  .onnx = "Squeeze",
  .examples = "x:2x1x3x1 dims=1,3\nx:1x4 dims=0",
  .help = "x without the axes dims, which must have size 1; shares memory",
};

/* Which axes go is decided once, by the shape at hand: an axis that pruning leaves with one position stays an
 * axis. */
static pr_status squeeze(pr_call *c) {
  const pr_tensor *x = c->in[X];
  bool named[PR_MAX_DIM];
  int64_t dims[PR_MAX_DIM];
  int n = 0;
  PR_TRY(prO_dims(c, 0, x->dim, named));
  for (int d = 0; d < x->dim; d++)
    if (named[d] && x->shape[d] == 1) dims[n++] = d;
  PR_TRY(prO_outputs(c, 1));
  if (!n) return prO_give(c, 0, pr_retain(c->in[X]));
  return prO_give(c, 0, prO_call(&pr_op_squeeze_dims, PRO_ARGS(PRO_LIST(n, dims)), 1, x));
}

PR_OP(squeeze) = {
  .name = "squeeze",
  .inputs = "x",
  .outputs = "y",
  .args = { { "dims", PR_ARG_DIMS, .empty = true, .help = "none: every axis of size 1" } },
  .compose = squeeze,
  .examples = "x:2x1x3x1\nx:2x1x3x1 dims=1\nx:2x3 dims=0",
  .help = "x without its axes of size 1, or without those of dims that have size 1; shares memory",
};

static pr_status unsqueeze_infer(pr_call *c) {
  const pr_tensor *x = c->in[X];
  int64_t shape[PR_MAX_DIM + 1], stride[PR_MAX_DIM + 1];
  int axis;
  if (x->dim == PR_MAX_DIM) return prO_fail(c, PR_ERR_SHAPE, "a tensor has at most %d axes", PR_MAX_DIM);
  PR_TRY(prO_dim(c, 0, x->dim + 1, &axis));
  for (int d = 0, from = 0; d <= x->dim; d++) {
    if (d == axis)
      shape[d] = 1, stride[d] = from < x->dim ? x->stride[from] * x->shape[from] : 1;
    else
      shape[d] = x->shape[from], stride[d] = x->stride[from], from++;
  }
  return prO_view(c, 0, X, x->dim + 1, shape, stride, x->offset);
}

PR_OP(unsqueeze) = {
  .name = "unsqueeze",
  .inputs = "x",
  .outputs = "y",
  .args = { { "dim", PR_ARG_DIM, .required = true, .help = "place of the new axis in y" } },
  .flags = PR_OP_VIEW,
  .infer = unsqueeze_infer,
  .backward = reshape_backward,
  .couple = reshape_couple,
  .onnx = "Unsqueeze",
  .examples = "x:2x3 dim=1\nx:2x3 dim=-1\nx:scalar dim=0",
  .help = "x with a new axis of size 1 at dim; shares memory",
};

static pr_status expand_infer(pr_call *c) {
  const pr_tensor *x = c->in[X];
  const pr_arg *sizes = &c->args[0];
  int64_t shape[PR_MAX_DIM], stride[PR_MAX_DIM];
  int lead = sizes->count - x->dim;
  if (lead < 0 || sizes->count > PR_MAX_DIM)
    return prO_fail(c, PR_ERR_SHAPE, "needs a size for each of at least %d and at most %d axes, got %d",
                    x->dim, PR_MAX_DIM, sizes->count);
  for (int d = 0; d < sizes->count; d++) {
    int64_t own = d < lead ? 1 : x->shape[d - lead];
    shape[d] = sizes->list[d] == -1 && d >= lead ? own : sizes->list[d];
    if (shape[d] < 0 || (own != 1 && shape[d] != own))
      return prO_fail(c, PR_ERR_SHAPE, "axis %lld has size %lld and cannot become %lld; only size 1 expands",
                      PR_INDEX(d), (long long)own, (long long)sizes->list[d]);
    stride[d] = d < lead || own != shape[d] ? 0 : x->stride[d - lead];
  }
  return prO_view(c, 0, X, sizes->count, shape, stride, x->offset);
}

static pr_status expand_backward(pr_call *c) {
  return prO_gradient(c, X, prO_sum_to(c, X, pr_retain(c->grad_out[0])));
}

static void expand_couple(pr_coupling *k) { prC_rule_expand(k, PRC_IN(X), PRC_OUT(0)); }

PR_OP(expand) = {
  .name = "expand",
  .inputs = "x",
  .outputs = "y",
  .args = { { "sizes", PR_ARG_INTS, .required = true, .symbolic = true,
              .help = "-1: as it is; new axes come in front" } },
  .flags = PR_OP_VIEW | PR_OP_FILL,
  .infer = expand_infer,
  .backward = expand_backward,
  .couple = expand_couple,
  .rewrite = rewrite_sizes,
  .onnx = "Expand",
  .examples = "x:2x1x3 sizes=2,4,3\nx:3 sizes=2,-1\nx:scalar sizes=2,2",
  .help = "axes of size 1 seen as larger ones, new axes in front; shares memory",
};
