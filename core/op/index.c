/* index.c - elements chosen by tensors of indices (i64, i32 or u8) or by conditions: index_select, gather,
 * scatter_add, masked_select, nonzero. */
#include <string.h>

#include "base/memory.h"
#include "couple/rules.h"
#include "op/call.h"

enum { X, INDEX, SOURCE };

/* --- indices along one axis --------------------------------------------------------------------------- */

static pr_status index_select_infer(pr_call *c) {
  const pr_tensor *x = c->in[X];
  int64_t shape[PR_MAX_DIM];
  int axis;
  PR_TRY(prO_dim(c, 0, x->dim, &axis));
  PR_TRY(prO_need_dim(c, INDEX, 1, 1));
  PR_TRY(prO_need_indices(c, INDEX, x->shape[axis], "index"));
  memcpy(shape, x->shape, sizeof shape);
  shape[axis] = c->in[INDEX]->shape[0];
  return prO_output_ordered(c, 0, x->dtype, x->dim, shape, x);
}

/* A constant has its values at hand. */
static int64_t *constant_positions(const pr_coupling *k, int64_t *n) {
  const pr_tensor *index = k->call->in[INDEX];
  *n = pr_numel(index);
  if (!index->storage || !prC_at(k, PRC_IN(INDEX))->is_constant) return NULL;
  int64_t *list = PRB_ARRAY(int64_t, *n), i = 0;
  prT_walk w;
  for (prT_walk_start(&w, index); list && w.left > 0; prT_walk_next(&w))
    list[i++] = (int64_t)prT_get(index, w.position);
  return list;
}

static void index_select_couple(pr_coupling *k) {
  int axis;
  int64_t n;
  if (prO_dim(k->call, 0, k->call->in[X]->dim, &axis)) return;
  int64_t *list = constant_positions(k, &n);
  if (list)
    prC_rule_gather(k, PRC_IN(X), PRC_OUT(0), axis, list, PRC_IN(INDEX));
  else
    prC_rule_take(k, PRC_IN(X), PRC_IN(INDEX), PRC_OUT(0), axis);
  PRB_ARRAY_FREE(list, list ? n : 0);
}

PR_OP(index_select) = {
  .name = "index_select",
  .inputs = "x index#",
  .outputs = "y",
  .saves = "index",
  .args = { { "dim", PR_ARG_DIM, .integer = 0 } },
  .infer = index_select_infer,
  .couple = index_select_couple,
  .onnx = "Gather",
  .examples = "x:4x3 index:5%4\nx:2x4x3 index:3%4 dim=1",
  .help = "positions of an axis by a list: y[i] = x[index[i]] along dim; index [N], which may repeat",
};

/* All axes of index but `dim` must fit into those of the indexed tensor. */
static pr_status check_index(const pr_call *c, const pr_tensor *indexed, int *axis) {
  const pr_tensor *index = c->in[INDEX];
  PR_TRY(prO_dim(c, 0, indexed->dim, axis));
  PR_TRY(prO_need_dim(c, INDEX, indexed->dim, indexed->dim));
  for (int d = 0; d < index->dim; d++)
    if (d != *axis && index->shape[d] > indexed->shape[d])
      return prO_fail(c, PR_ERR_SHAPE, "index has %lld positions along axis %lld, more than x's %lld",
                      (long long)index->shape[d], PR_INDEX(d), (long long)indexed->shape[d]);
  return prO_need_indices(c, INDEX, indexed->shape[*axis], "index");
}

static pr_status gather_infer(pr_call *c) {
  int axis;
  PR_TRY(check_index(c, c->in[X], &axis));
  return prO_output(c, 0, c->in[X]->dtype, c->in[INDEX]->dim, c->in[INDEX]->shape);
}

static void gather_couple(pr_coupling *k) {
  int axis;
  if (prO_dim(k->call, 0, k->call->in[X]->dim, &axis) == PR_OK)
    prC_rule_gather_entries(k, PRC_IN(X), PRC_IN(INDEX), PRC_OUT(0), axis);
}

PR_OP(gather) = {
  .name = "gather",
  .inputs = "x index#",
  .outputs = "y",
  .saves = "index",
  .args = { { "dim", PR_ARG_DIM, .required = true } },
  .infer = gather_infer,
  .couple = gather_couple,
  .onnx = "GatherElements",
  .examples = "x:3x4 index:3x2%4 dim=1\nx:3x4 index:5x4%3 dim=0",
  .help = "one index per element: y[i, j] = x[i, index[i, j]] for dim the last axis; y has index's shape",
};

static pr_status scatter_add_infer(pr_call *c) {
  const pr_tensor *x = c->in[X], *index = c->in[INDEX], *source = c->in[SOURCE];
  int axis;
  PR_TRY(check_index(c, x, &axis));
  PR_TRY(prO_need_same_dtype(c, SOURCE, X));
  PR_TRY(prO_need_dim(c, SOURCE, x->dim, x->dim));
  for (int d = 0; d < index->dim; d++)
    if (index->shape[d] > source->shape[d])
      return prO_fail(c, PR_ERR_SHAPE, "index has %lld positions along axis %lld, more than source's %lld",
                      (long long)index->shape[d], PR_INDEX(d), (long long)source->shape[d]);
  return prO_output_like(c, 0, x);
}

/* dx = dy; d source = dy at the indices, 0 where index does not reach. */
static pr_status scatter_add_backward(pr_call *c) {
  extern pr_op pr_op_gather, pr_op_pad;
  pr_tensor *g = c->grad_out[0];
  const pr_tensor *index = c->in[INDEX], *source = c->in[SOURCE];
  if (c->wanted[X]) PR_TRY(prO_gradient(c, X, pr_retain(g)));
  if (!c->wanted[SOURCE]) return PR_OK;
  pr_tensor *part = prO_call(&pr_op_gather, c->args, 2, g, c->in[INDEX]);
  if (!part || pr_same_shape(part, source)) return prO_gradient(c, SOURCE, part);
  int64_t pad[2 * PR_MAX_DIM] = { 0 };
  for (int d = 0; d < index->dim; d++) pad[2 * (index->dim - 1 - d) + 1] = source->shape[d] - index->shape[d];
  pr_tensor *whole = prO_call(&pr_op_pad, PRO_ARGS(PRO_LIST(2 * index->dim, pad)), 1, part);
  pr_release(part);
  return prO_gradient(c, SOURCE, whole);
}

static void scatter_add_couple(pr_coupling *k) {
  int axis;
  if (prO_dim(k->call, 0, k->call->in[X]->dim, &axis) == PR_OK)
    prC_rule_scatter_add(k, PRC_IN(X), PRC_IN(INDEX), PRC_IN(SOURCE), PRC_OUT(0), axis);
}

PR_OP(scatter_add) = {
  .name = "scatter_add",
  .inputs = "x index# source",
  .outputs = "y",
  .saves = "index",
  .args = { { "dim", PR_ARG_DIM, .required = true } },
  .infer = scatter_add_infer,
  .backward = scatter_add_backward,
  .couple = scatter_add_couple,
  .onnx = "ScatterElements",
  .examples = "x:3x4 index:3x2%4 source:3x2 dim=1\nx:3x4 index:2x3%3 source:3x4 dim=0",
  .help = "x with y[i, index[i, j]] += source[i, j] for dim the last axis; y like x",
};

/* --- conditions
 * ----------------------------------------------------------------------------------------------------------
 */

static int64_t count_true(const pr_tensor *t) {
  prT_walk w;
  int64_t n = 0;
  for (prT_walk_start(&w, t); w.left > 0; prT_walk_next(&w)) n += prT_get(t, w.position) != 0;
  return n;
}

static pr_status need_host(const pr_call *c, int i) {
  if (c->in[i]->device == PR_CPU) return PR_OK;
  return prO_fail(c, PR_ERR_UNSUPPORTED, "works on the CPU only; move the tensors there with :to \"cpu\"");
}

static pr_status masked_select_infer(pr_call *c) {
  PR_TRY(need_host(c, 1));
  if (!pr_same_shape(c->in[0], c->in[1])) return prO_fail(c, PR_ERR_SHAPE, "mask must have x's shape");
  return prO_output(c, 0, c->in[0]->dtype, 1, (int64_t[]){ count_true(c->in[1]) });
}

PR_OP(masked_select) = {
  .name = "masked_select",
  .inputs = "x mask",
  .outputs = "y",
  .saves = "mask",
  .flags = PR_OP_READS_VALUES,
  .infer = masked_select_infer,
  .examples = "x:3x4 mask:3x4%2",
  .help = "the elements of x where mask is not 0, in row-major order: y [how many there are]",
};

static pr_status nonzero_infer(pr_call *c) {
  PR_TRY(need_host(c, 0));
  return prO_output(c, 0, PR_I64, 2, (int64_t[]){ count_true(c->in[0]), c->in[0]->dim });
}

PR_OP(nonzero) = {
  .name = "nonzero",
  .inputs = "x",
  .outputs = "index#",
  .flags = PR_OP_READS_VALUES | PR_OP_NO_GRADIENT,
  .infer = nonzero_infer,
  .onnx = "NonZero",
  .examples = "x:3x4%2",
  .help = "where x is not 0: index [how many there are, axes of x], in row-major order",
};
