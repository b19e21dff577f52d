/* join.c - larger tensors from smaller ones: cat, stack, tile, repeat_interleave. */
#include <string.h>

#include "base/memory.h"
#include "couple/rules.h"
#include "op/call.h"

/* --- cat
 * --------------------------------------------------------------------------------------------------------------
 */

static pr_status cat_infer(pr_call *c) {
  const pr_tensor *first = c->in[0];
  int64_t shape[PR_MAX_DIM];
  int axis;
  PR_TRY(prO_dim(c, 0, first->dim, &axis));
  memcpy(shape, first->shape, sizeof shape);
  for (int i = 1; i < c->n_in; i++) {
    PR_TRY(prO_need_same_dtype(c, i, 0));
    PR_TRY(prO_need_dim(c, i, first->dim, first->dim));
    for (int d = 0; d < first->dim; d++)
      if (d != axis) PR_TRY(prO_need_size(c, i, d, first->shape[d], "as the first tensor has"));
    if (__builtin_add_overflow(shape[axis], c->in[i]->shape[axis], &shape[axis]))
      return prO_fail(c, PR_ERR_SHAPE, "the sizes overflow");
  }
  return prO_output_ordered(c, 0, first->dtype, first->dim, shape, first);
}

/* Each input's part of the gradient, as a view of it. */
static pr_status cat_backward(pr_call *c) {
  int axis;
  int64_t from = 0;
  PR_TRY(prO_dim(c, 0, c->in[0]->dim, &axis));
  for (int i = 0; i < c->n_in; i++) {
    int64_t size = c->in[i]->shape[axis];
    if (c->wanted[i])
      PR_TRY(prO_gradient(
          c, i,
          prO_call(&pr_op_narrow, PRO_ARGS(PRO_INT(axis), PRO_INT(from), PRO_INT(size)), 1, c->grad_out[0])));
    from += size;
  }
  return PR_OK;
}

static void cat_couple(pr_coupling *k) {
  int axis, *operands = PRB_ARRAY(int, k->inputs);
  for (int i = 0; operands && i < k->inputs; i++) operands[i] = PRC_IN(i);
  bool known = operands && prO_dim(k->call, 0, k->call->in[0]->dim, &axis) == PR_OK;
  if (known) prC_rule_cat(k, k->inputs, operands, PRC_OUT(0), axis);
  for (int i = 0; !known && i < k->inputs; i++) prC_pin_all(k, PRC_IN(i), "there was no memory for its rule");
  PRB_ARRAY_FREE(operands, operands ? k->inputs : 0);
}

PR_OP(cat) = {
  .name = "cat",
  .inputs = "xs*",
  .outputs = "y",
  .args = { { "dim", PR_ARG_DIM, .integer = 0 } },
  .infer = cat_infer,
  .backward = cat_backward,
  .couple = cat_couple,
  .onnx = "Concat",
  .examples = "xs:2x3 xs:2x1 xs:2x2 dim=1\nxs:3 xs:2\nxs:1x2x3x2 xs:1x4x3x2 dim=-3",
  .help = "tensors one after the other along dim; their other axes agree",
};

/* --- stack
 * ------------------------------------------------------------------------------------------------------------
 */

static pr_status unsqueeze_all(pr_call *c, int axis, pr_tensor **parts) {
  for (int i = 0; i < c->n_in; i++) {
    if (!pr_same_shape(c->in[i], c->in[0]))
      return prO_fail(c, PR_ERR_SHAPE, "stacked tensors need one shape");
    parts[i] = prO_call(&pr_op_unsqueeze, PRO_ARGS(PRO_INT(axis)), 1, c->in[i]);
    if (!parts[i]) return pr_error_last()->code;
  }
  return PR_OK;
}

static pr_status stack(pr_call *c) {
  int axis, one = 1;
  PR_TRY(prO_dim(c, 0, c->in[0]->dim + 1, &axis));
  PR_TRY(prO_outputs(c, 1));
  pr_tensor **parts = PRB_ARRAY(pr_tensor *, c->n_in);
  if (!parts) return PR_ERR_MEMORY;
  pr_status status = unsqueeze_all(c, axis, parts);
  if (!status) status = pr_apply(&pr_op_cat, PRO_ARGS(PRO_INT(axis)), parts, c->n_in, c->out, &one);
  for (int i = 0; i < c->n_in; i++) pr_release(parts[i]);
  PRB_ARRAY_FREE(parts, c->n_in);
  return status;
}

PR_OP(stack) = {
  .name = "stack",
  .inputs = "xs*",
  .outputs = "y",
  .args = { { "dim", PR_ARG_DIM, .integer = 0, .help = "place of the new axis in y" } },
  .compose = stack,
  .examples = "xs:2x3 xs:2x3 dim=1\nxs:3 xs:3 xs:3\nxs:2 xs:2 dim=-1",
  .help = "tensors of one shape along a new axis at dim; unsqueeze and cat",
};

/* --- copies
 * -----------------------------------------------------------------------------------------------------------
 */

static pr_status tile_infer(pr_call *c) {
  const pr_tensor *x = c->in[0];
  const pr_arg *copies = &c->args[0];
  int64_t shape[PR_MAX_DIM];
  int dim = copies->count > x->dim ? copies->count : x->dim;
  if (dim > PR_MAX_DIM)
    return prO_fail(c, PR_ERR_SHAPE, "a tensor has at most %d axes, not %d", PR_MAX_DIM, dim);
  for (int d = 0; d < dim; d++) {
    int own = d - (dim - x->dim), k = d - (dim - copies->count);
    int64_t times = k < 0 ? 1 : copies->list[k];
    if (times < 0)
      return prO_fail(c, PR_ERR_ARGUMENT, "the number of copies cannot be %lld", (long long)times);
    if (__builtin_mul_overflow(own < 0 ? 1 : x->shape[own], times, &shape[d]))
      return prO_fail(c, PR_ERR_SHAPE, "the sizes overflow");
  }
  return prO_output_ordered(c, 0, x->dtype, dim, shape, x);
}

static void tile_couple(pr_coupling *k) { prC_rule_repeat(k, PRC_IN(0), PRC_OUT(0)); }

static pr_status tile_rewrite(pr_coupling *k, pr_arg *args) {
  for (int i = 0; i < args[0].count; i++) {
    int64_t live = prC_live_slot(k, i + prC_dim(k, PRC_OUT(0)) - args[0].count);
    if (live >= 0) args[0].list[i] = live;
  }
  return PR_OK;
}

PR_OP(tile) = {
  .name = "tile",
  .inputs = "x",
  .outputs = "y",
  .args = { { "repeats", PR_ARG_INTS, .required = true, .symbolic = true,
              .help = "copies along each axis, aligned to the last" } },
  .infer = tile_infer,
  .couple = tile_couple,
  .rewrite = tile_rewrite,
  .onnx = "Tile",
  .examples = "x:2x3 repeats=1,2\nx:3 repeats=2,2\nx:2x1x2 repeats=3",
  .help = "x repeated as a whole along its axes: a b -> a b a b (repeat of other libraries, which is a word "
          "of Lua)",
};

static pr_status repeat_interleave_infer(pr_call *c) {
  const pr_tensor *x = c->in[0];
  int64_t shape[PR_MAX_DIM], times = c->args[0].integer;
  int axis;
  PR_TRY(prO_dim(c, 1, x->dim, &axis));
  memcpy(shape, x->shape, sizeof shape);
  if (times < 0) return prO_fail(c, PR_ERR_ARGUMENT, "the number of copies cannot be %lld", (long long)times);
  if (__builtin_mul_overflow(shape[axis], times, &shape[axis]))
    return prO_fail(c, PR_ERR_SHAPE, "the sizes overflow");
  return prO_output_ordered(c, 0, x->dtype, x->dim, shape, x);
}

static void repeat_interleave_couple(pr_coupling *k) {
  int axis;
  if (prO_dim(k->call, 1, k->call->in[0]->dim, &axis)) return;
  prC_rule_repeat_each(k, PRC_IN(0), PRC_OUT(0), axis);
}

static pr_status repeat_interleave_rewrite(pr_coupling *k, pr_arg *args) {
  int64_t live = prC_live_slot(k, 0);
  if (live >= 0) args[0].integer = live;
  return PR_OK;
}

PR_OP(repeat_interleave) = {
  .name = "repeat_interleave",
  .inputs = "x",
  .outputs = "y",
  .args = { { "repeats", PR_ARG_INT, .required = true }, { "dim", PR_ARG_DIM, .required = true } },
  .infer = repeat_interleave_infer,
  .couple = repeat_interleave_couple,
  .rewrite = repeat_interleave_rewrite,
  .examples = "x:2x3 repeats=2 dim=1\nx:3 repeats=3 dim=0",
  .help = "each position of an axis repeated: a b -> a a b b",
};
