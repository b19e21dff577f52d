/* linear.c - matrix products in plain loops: linear and matmul. */
#include "backend/backend.h"

/* c [m, n] += a [m, k] b [k, n], each read through (row, column) strides, so that a transpose costs nothing.
 */
typedef struct matrix {
  double *at;
  int64_t row, column;
} matrix;

static void multiply_add(int64_t m, int64_t n, int64_t k, matrix y, matrix a, matrix b) {
  for (int64_t i = 0; i < m; i++)
    for (int64_t l = 0; l < k; l++) {
      double factor = a.at[i * a.row + l * a.column];
      for (int64_t j = 0; j < n; j++)
        y.at[i * y.row + j * y.column] += factor * b.at[l * b.row + j * b.column];
    }
}

/* --- linear ---------------------------------------------------------------------------------------------- */

enum { X, WEIGHT, BIAS };

PR_KERNEL(reference, linear, forward)
{
  PRK_LOAD(x, c->in[X]);
  PRK_LOAD(weight, c->in[WEIGHT]);
  PRK_LOAD(bias, c->in[BIAS]);
  PRK_ROOM(y, pr_numel(c->out[0]));
  int64_t out = c->in[WEIGHT]->shape[0], in = c->in[WEIGHT]->shape[1];
  int64_t rows = out ? pr_numel(c->out[0]) / out : 0;
  for (int64_t i = 0; i < rows * out; i++) y[i] = bias ? bias[i % out] : 0;
  multiply_add(rows, out, in, (matrix){ y, out, 1 }, (matrix){ (double *)x, in, 1 },
               (matrix){ (double *)weight, 1, in });
  return prK_store(c->out[0], y);
}

PR_KERNEL(reference, linear, backward)
{
  PRK_LOAD(gy, c->grad_out[0]);
  int64_t out = c->in[WEIGHT]->shape[0], in = c->in[WEIGHT]->shape[1];
  int64_t rows = out ? pr_numel(c->grad_out[0]) / out : 0;
  if (c->grad_in[X]) {
    PRK_LOAD(weight, c->in[WEIGHT]);
    PRK_ZEROS(gx, pr_numel(c->grad_in[X]));
    multiply_add(rows, in, out, (matrix){ gx, in, 1 }, (matrix){ (double *)gy, out, 1 },
                 (matrix){ (double *)weight, in, 1 });
    PR_TRY(prK_store(c->grad_in[X], gx));
  }
  if (c->grad_in[WEIGHT]) {
    PRK_LOAD(x, c->in[X]);
    PRK_ZEROS(gw, pr_numel(c->grad_in[WEIGHT]));
    multiply_add(out, in, rows, (matrix){ gw, in, 1 }, (matrix){ (double *)gy, 1, out },
                 (matrix){ (double *)x, in, 1 });
    PR_TRY(prK_store(c->grad_in[WEIGHT], gw));
  }
  if (c->grad_in[BIAS]) {
    PRK_ZEROS(gb, pr_numel(c->grad_in[BIAS]));
    for (int64_t i = 0; i < rows * out; i++) gb[i % out] += gy[i];
    PR_TRY(prK_store(c->grad_in[BIAS], gb));
  }
  return PR_OK;
}

/* --- matmul ---------------------------------------------------------------------------------------------- */

enum { A, B };

typedef struct product {
  int64_t m, n, k, batches;
  int batch_dim;
  int64_t batch[PR_MAX_DIM], a_step[PR_MAX_DIM],
      b_step[PR_MAX_DIM]; /* elements per step of a batch axis; 0: broadcast */
} product;

static void batch_steps(const product *p, const pr_tensor *t, int64_t *step) {
  int own = t->dim > 2 ? t->dim - 2 : 0;
  int64_t size = t->dim > 1 ? t->shape[t->dim - 1] * t->shape[t->dim - 2] : t->shape[0];
  for (int d = p->batch_dim - 1; d >= 0; d--) {
    int axis = d - (p->batch_dim - own);
    step[d] = axis >= 0 && t->shape[axis] > 1 ? size : 0;
    if (axis >= 0) size *= t->shape[axis];
  }
}

static product product_of(const pr_call *c, const pr_tensor *y) {
  const pr_tensor *a = c->in[A], *b = c->in[B];
  product p = { .m = a->dim > 1 ? a->shape[a->dim - 2] : 1,
                .n = b->dim > 1 ? b->shape[b->dim - 1] : 1,
                .k = a->shape[a->dim - 1],
                .batches = 1 };
  p.batch_dim = y->dim - (a->dim > 1) - (b->dim > 1);
  for (int d = 0; d < p.batch_dim; d++) p.batches *= p.batch[d] = y->shape[d];
  batch_steps(&p, a, p.a_step);
  batch_steps(&p, b, p.b_step);
  return p;
}

static int64_t batch_offset(const product *p, const int64_t *step, int64_t index) {
  int64_t offset = 0;
  for (int d = p->batch_dim - 1; d >= 0; d--) {
    offset += index % p->batch[d] * step[d];
    index /= p->batch[d];
  }
  return offset;
}

PR_KERNEL(reference, matmul, forward)
{
  PRK_LOAD(a, c->in[A]);
  PRK_LOAD(b, c->in[B]);
  PRK_ZEROS(y, pr_numel(c->out[0]));
  product p = product_of(c, c->out[0]);
  for (int64_t i = 0; i < p.batches; i++)
    multiply_add(p.m, p.n, p.k, (matrix){ y + i * p.m * p.n, p.n, 1 },
                 (matrix){ (double *)a + batch_offset(&p, p.a_step, i), p.k, 1 },
                 (matrix){ (double *)b + batch_offset(&p, p.b_step, i), p.n, 1 });
  return prK_store(c->out[0], y);
}

PR_KERNEL(reference, matmul, backward)
{
  PRK_LOAD(gy, c->grad_out[0]);
  product p = product_of(c, c->grad_out[0]);
  if (c->grad_in[A]) {
    PRK_LOAD(b, c->in[B]);
    PRK_ZEROS(ga, pr_numel(c->grad_in[A]));
    for (int64_t i = 0; i < p.batches; i++)
      multiply_add(p.m, p.k, p.n, (matrix){ ga + batch_offset(&p, p.a_step, i), p.k, 1 },
                   (matrix){ (double *)gy + i * p.m * p.n, p.n, 1 },
                   (matrix){ (double *)b + batch_offset(&p, p.b_step, i), 1, p.n });
    PR_TRY(prK_store(c->grad_in[A], ga));
  }
  if (c->grad_in[B]) {
    PRK_LOAD(a, c->in[A]);
    PRK_ZEROS(gb, pr_numel(c->grad_in[B]));
    for (int64_t i = 0; i < p.batches; i++)
      multiply_add(p.k, p.n, p.m, (matrix){ gb + batch_offset(&p, p.b_step, i), p.n, 1 },
                   (matrix){ (double *)a + batch_offset(&p, p.a_step, i), 1, p.k },
                   (matrix){ (double *)gy + i * p.m * p.n, p.n, 1 });
    PR_TRY(prK_store(c->grad_in[B], gb));
  }
  return PR_OK;
}
