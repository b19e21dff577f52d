/* linear.c - products of matrices: linear (a layer's x W^T + b) and matmul (any two tensors, with batch
 * axes). */
#include "op/op.h"

#include "couple/rules.h"

enum { Y };

/* --- linear ---------------------------------------------------------------------------------------------- */

enum { X, WEIGHT, BIAS };

static pr_status linear_infer(pr_call *c) {
  PR_TRY(prO_need_dim(c, X, 1, PR_MAX_DIM));
  PR_TRY(prO_need_dim(c, WEIGHT, 2, 2));
  PR_TRY(prO_need_float(c, X));
  PR_TRY(prO_need_same_dtype(c, WEIGHT, X));
  const pr_tensor *x = c->in[X], *weight = c->in[WEIGHT];
  if (x->shape[x->dim - 1] != weight->shape[1])
    return prO_fail(c, PR_ERR_SHAPE, "x's last axis has %lld features, but weight takes %lld",
                    (long long)x->shape[x->dim - 1], (long long)weight->shape[1]);
  if (c->in[BIAS]) {
    PR_TRY(prO_need_dim(c, BIAS, 1, 1));
    PR_TRY(prO_need_same_dtype(c, BIAS, X));
    PR_TRY(prO_need_size(c, BIAS, 0, weight->shape[0], "one per row of weight"));
  }
  int64_t shape[PR_MAX_DIM];
  for (int d = 0; d < x->dim; d++) shape[d] = x->shape[d];
  shape[x->dim - 1] = weight->shape[0];
  return prO_output(c, Y, x->dtype, x->dim, shape);
}

/* rows * in * out */
/* With a bias, one addition per output counts too, as in addmm. */
static int64_t linear_macs(const pr_call *c) {
  return pr_numel(c->out[Y]) * (c->in[WEIGHT]->shape[1] + (c->in[BIAS] != NULL));
}

static void linear_couple(pr_coupling *k) {
  prC_rule_linear(k, PRC_IN(X), PRC_IN(WEIGHT), PRC_IN(BIAS), PRC_OUT(Y));
}

PR_OP(linear) = {
  .name = "linear",
  .inputs = "x weight bias?",
  .outputs = "y",
  .saves = "x weight",
  .infer = linear_infer,
  .couple = linear_couple,
  .macs = linear_macs,
  .onnx = "Gemm",
  .examples = "x:4x3 weight:5x3 bias:5\n"
              "x:2x3x4 weight:2x4\n"
              "x:3 weight:2x3 bias:2",
  .help = "y = x weight^T + bias: x [..., I], weight [O, I], bias [O] -> y [..., O]",
};

/* --- matmul ---------------------------------------------------------------------------------------------- */

enum { A, B };

/* The batch axes broadcast (NumPy's rules); a vector counts as a row on the left, as a column on the right,
 * and its axis goes again. */
static pr_status matmul_infer(pr_call *c) {
  PR_TRY(prO_need_dim(c, A, 1, PR_MAX_DIM));
  PR_TRY(prO_need_dim(c, B, 1, PR_MAX_DIM));
  PR_TRY(prO_need_float(c, A));
  PR_TRY(prO_need_same_dtype(c, B, A));
  const pr_tensor *a = c->in[A], *b = c->in[B];
  int64_t inner = b->shape[b->dim > 1 ? b->dim - 2 : 0], shape[PR_MAX_DIM];
  if (a->shape[a->dim - 1] != inner)
    return prO_fail(c, PR_ERR_SHAPE, "a's last axis has %lld entries, but b has %lld rows",
                    (long long)a->shape[a->dim - 1], (long long)inner);
  int a_batch = a->dim > 2 ? a->dim - 2 : 0, b_batch = b->dim > 2 ? b->dim - 2 : 0;
  int dim = a_batch > b_batch ? a_batch : b_batch;
  for (int d = 0; d < dim; d++) {
    int from_a = d - (dim - a_batch), from_b = d - (dim - b_batch);
    int64_t p = from_a >= 0 ? a->shape[from_a] : 1, q = from_b >= 0 ? b->shape[from_b] : 1;
    if (p != q && p != 1 && q != 1)
      return prO_fail(c, PR_ERR_SHAPE, "batch axes %lld and %lld do not broadcast", (long long)p,
                      (long long)q);
    shape[d] = p == 1 ? q : p;
  }
  if (a->dim > 1) shape[dim++] = a->shape[a->dim - 2];
  if (b->dim > 1) shape[dim++] = b->shape[b->dim - 1];
  return prO_output(c, Y, a->dtype, dim, shape);
}

static int64_t matmul_macs(const pr_call *c) {
  return pr_numel(c->out[Y]) * c->in[A]->shape[c->in[A]->dim - 1];
}

static void matmul_couple(pr_coupling *k) { prC_rule_matmul(k, PRC_IN(A), PRC_IN(B), PRC_OUT(Y)); }

PR_OP(matmul) = {
  .name = "matmul",
  .inputs = "a b",
  .outputs = "y",
  .saves = "a b",
  .infer = matmul_infer,
  .couple = matmul_couple,
  .macs = matmul_macs,
  .onnx = "MatMul",
  .examples = "a:3x4 b:4x2\n"
              "a:2x3x4 b:2x4x5\n"
              "a:2x1x3x4 b:5x4x2\n"
              "a:2x3x4 b:4\n"
              "a:4 b:2x4x3\n"
              "a:4 b:4",
  .help = "Matrix product: a [..., M, K], b [..., K, N] -> y [..., M, N]\n"
          "Batch axes broadcast. A one-dimensional a is a row and a one-dimensional b a column, whose\n"
          "axis is dropped again from y (the rules of numpy.matmul).",
};
