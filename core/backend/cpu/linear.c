/* linear.c - matrix products through OpenBLAS, in f32 and f64. */
#include "backend/backend.h"
#include "backend/cpu/parallel.h"

#include <cblas.h>
#include <string.h>

/* A matrix with unit stride along one of its axes, as BLAS takes it. */
typedef struct matrix {
  char *data;
  pr_dtype dtype;
  int64_t rows, columns, row, column; /* sizes and strides */
} matrix;

static bool fits(const matrix *m) {
  if (m->rows > INT32_MAX || m->columns > INT32_MAX || m->row > INT32_MAX || m->column > INT32_MAX)
    return false;
  const bool by_row = (m->column == 1 || m->columns == 1) && (m->row >= m->columns || m->rows == 1);
  const bool by_column = (m->row == 1 || m->rows == 1) && (m->column >= m->rows || m->columns == 1);
  return by_row || by_column;
}

static bool is_transposed(const matrix *m) {
  return !((m->column == 1 || m->columns == 1) && (m->row >= m->columns || m->rows == 1));
}

/* BLAS wants a leading dimension of at least the row's length even where there is one row. */
static int leading(const matrix *m) {
  const int64_t step = is_transposed(m) ? m->column : m->row, least = is_transposed(m) ? m->rows : m->columns;
  return (int)(step > least ? step : least > 1 ? least : 1);
}

static matrix transposed(matrix m) { return (matrix){ m.data, m.dtype, m.columns, m.rows, m.column, m.row }; }

/* y = a b + beta y */
static void multiply(matrix a, matrix b, double beta, matrix y) {
  if (is_transposed(&y)) {
    multiply(transposed(b), transposed(a), beta, transposed(y));
    return;
  }
  const CBLAS_TRANSPOSE ta = is_transposed(&a) ? CblasTrans : CblasNoTrans,
                        tb = is_transposed(&b) ? CblasTrans : CblasNoTrans;
  const int m = (int)y.rows, n = (int)y.columns, k = (int)a.columns;
  if (y.dtype == PR_F64)
    cblas_dgemm(CblasRowMajor, ta, tb, m, n, k, 1, (double *)a.data, leading(&a), (double *)b.data,
                leading(&b), beta, (double *)y.data, leading(&y));
  else
    cblas_sgemm(CblasRowMajor, ta, tb, m, n, k, 1, (float *)a.data, leading(&a), (float *)b.data, leading(&b),
                (float)beta, (float *)y.data, leading(&y));
}

static bool is_ours(pr_tensor *const *t, int n, pr_dtype dtype) {
  if (dtype != PR_F32 && dtype != PR_F64) return false;
  for (int i = 0; i < n; i++)
    if (t[i] && t[i]->dtype != dtype) return false;
  return true;
}

/* --- linear
 * -----------------------------------------------------------------------------------------------------------
 */

enum { X, WEIGHT, BIAS };

/* All axes but the last as rows; false when they do not step alike. */
static bool as_rows(const pr_tensor *t, matrix *m) {
  const int last = t->dim - 1;
  *m = (matrix){ prT_data(t),    t->dtype,       pr_numel(t) / (t->shape[last] ? t->shape[last] : 1),
                 t->shape[last], t->shape[last], t->stride[last] };
  int64_t step = -1; /* an expanded axis has stride 0 */
  for (int d = last - 1; d >= 0; d--) {
    if (t->shape[d] == 1) continue;
    if (step >= 0 && t->stride[d] != step) return false;
    if (step < 0) m->row = t->stride[d];
    step = t->stride[d] * t->shape[d];
  }
  return fits(m);
}

static matrix as_matrix(const pr_tensor *t) {
  return (matrix){ prT_data(t), t->dtype, t->shape[0], t->shape[1], t->stride[0], t->stride[1] };
}

static void start_rows(matrix y, const pr_tensor *bias) {
  const size_t size = pr_dtype_size(y.dtype);
  const char *from = prT_data(bias);
  for (int64_t k = 0; k < y.columns; k++)
    memcpy(y.data + (size_t)k * size, from + (size_t)(k * bias->stride[0]) * size, size);
  for (int64_t r = 1; r < y.rows; r++)
    memcpy(y.data + (size_t)(r * y.columns) * size, y.data, (size_t)y.columns * size);
}

PR_KERNEL(cpu, linear, forward)
{
  matrix x, y, w = as_matrix(c->in[WEIGHT]);
  if (!is_ours(c->in, c->n_in, c->out[0]->dtype) || pr_numel(c->out[0]) == 0 || w.columns == 0)
    return PR_DECLINED;
  if (!as_rows(c->in[X], &x) || !as_rows(c->out[0], &y) || !fits(&w) || !pr_is_contiguous(c->out[0]))
    return PR_DECLINED;
  if (c->in[BIAS]) start_rows(y, c->in[BIAS]);
  multiply(x, transposed(w), c->in[BIAS] ? 1 : 0, y);
  return PR_OK;
}

static void column_sums(matrix m, pr_tensor *to) {
  const int64_t step = to->stride[0];
  for (int64_t k = 0; k < m.columns; k++) {
    double sum = 0;
    for (int64_t r = 0; r < m.rows; r++) {
      const int64_t at = r * m.row + k * m.column;
      sum += m.dtype == PR_F64 ? ((double *)m.data)[at] : (double)((float *)m.data)[at];
    }
    if (to->dtype == PR_F64)
      ((double *)prT_data(to))[k * step] = sum;
    else
      ((float *)prT_data(to))[k * step] = (float)sum;
  }
}

PR_KERNEL(cpu, linear, backward)
{
  matrix dy, x, dx;
  pr_tensor *gy = c->grad_out[0];
  if (!is_ours(c->in, c->n_in, gy->dtype) || pr_numel(gy) == 0 || c->in[WEIGHT]->shape[1] == 0)
    return PR_DECLINED;
  if (!as_rows(gy, &dy)) return PR_DECLINED;
  if (c->grad_in[WEIGHT]) {
    matrix dw = as_matrix(c->grad_in[WEIGHT]);
    if (!as_rows(c->in[X], &x) || !fits(&dw)) return PR_DECLINED;
    multiply(transposed(dy), x, 0, dw);
  }
  if (c->grad_in[X]) {
    matrix w = as_matrix(c->in[WEIGHT]);
    if (!fits(&w) || !as_rows(c->grad_in[X], &dx)) return PR_DECLINED;
    multiply(dy, w, 0, dx);
  }
  if (c->n_in > BIAS && c->grad_in[BIAS]) column_sums(dy, c->grad_in[BIAS]);
  return PR_OK;
}

/* --- matmul
 * -----------------------------------------------------------------------------------------------------------
 */

enum { A, B };

/* The last two axes of operand t (a vector is a row on the left, a column on the right) and how it steps
 * through the batch axes of the result. `side`: A, B, or 2 for the result. */
typedef struct operand {
  matrix m;
  int64_t step[PR_MAX_DIM];
} operand;

static operand operand_of(const pr_tensor *t, int side, const pr_call *c, int batch_dim) {
  const bool a_row = c->in[A]->dim == 1, b_column = c->in[B]->dim == 1;
  int used = t->dim == 1 && side < 2 ? 1 : 2;
  if (side == 2) used = 2 - a_row - b_column;
  const int at = t->dim - used;
  operand o = { { prT_data(t), t->dtype, 1, 1, 0, 0 }, { 0 } };
  const bool has_rows = side == B || !a_row;
  const bool has_columns = side == A || !b_column;
  int next = at;
  if (has_rows) o.m.rows = t->shape[next], o.m.row = t->stride[next], next++;
  if (has_columns) o.m.columns = t->shape[next], o.m.column = t->stride[next];
  if (!has_rows) o.m.row = o.m.columns;
  if (!has_columns) o.m.column = o.m.rows;
  for (int d = 0; d < batch_dim; d++) {
    const int from = d - (batch_dim - at);
    o.step[d] = from >= 0 && t->shape[from] != 1 ? t->stride[from] : 0;
  }
  return o;
}

/* y += or = a b for every batch entry; a result that broadcasts over batch axes has step 0 there and is added
 * up. */
static void multiply_batches(int batch_dim, const int64_t *batch, operand a, operand b, operand y,
                             bool sums) {
  const size_t size = pr_dtype_size(y.m.dtype);
  int64_t total = 1;
  for (int d = 0; d < batch_dim; d++) total *= batch[d];
  const bool spread = y.m.rows * y.m.columns * a.m.columns < 1 << 16 && total > 1 && !sums;
  (void)spread; /* a build without OpenMP has no use for it */
#pragma omp parallel for schedule(static) if (spread)
  for (int64_t i = 0; i < total; i++) {
    int64_t rest = i, at[3] = { 0, 0, 0 };
    bool first = true;
    for (int d = batch_dim - 1; d >= 0; rest /= batch[d], d--) {
      const int64_t k = rest % batch[d];
      at[0] += k * a.step[d], at[1] += k * b.step[d], at[2] += k * y.step[d];
      if (k && !y.step[d]) first = false;
    }
    matrix ma = a.m, mb = b.m, my = y.m;
    ma.data += (size_t)at[0] * size, mb.data += (size_t)at[1] * size, my.data += (size_t)at[2] * size;
    multiply(ma, mb, first ? 0 : 1, my);
  }
}

static int batch_axes(const pr_call *c, const pr_tensor *y, int64_t *batch) {
  const int dim = y->dim - (c->in[A]->dim > 1) - (c->in[B]->dim > 1);
  for (int d = 0; d < dim; d++) batch[d] = y->shape[d];
  return dim;
}

PR_KERNEL(cpu, matmul, forward)
{
  int64_t batch[PR_MAX_DIM];
  if (!is_ours(c->in, 2, c->out[0]->dtype) || pr_numel(c->out[0]) == 0 || pr_numel(c->in[A]) == 0)
    return PR_DECLINED;
  const int dim = batch_axes(c, c->out[0], batch);
  operand a = operand_of(c->in[A], A, c, dim), b = operand_of(c->in[B], B, c, dim),
          y = operand_of(c->out[0], 2, c, dim);
  if (!fits(&a.m) || !fits(&b.m) || !fits(&y.m)) return PR_DECLINED;
  multiply_batches(dim, batch, a, b, y, false);
  return PR_OK;
}

static operand flipped(operand o) {
  o.m = transposed(o.m);
  return o;
}

/* da = dy b^T, db = a^T dy, summed over broadcast batch axes. */
PR_KERNEL(cpu, matmul, backward)
{
  int64_t batch[PR_MAX_DIM];
  pr_tensor *gy = c->grad_out[0];
  if (!is_ours(c->in, 2, gy->dtype) || pr_numel(gy) == 0 || pr_numel(c->in[A]) == 0) return PR_DECLINED;
  const int dim = batch_axes(c, gy, batch);
  const operand dy = operand_of(gy, 2, c, dim);
  if (!fits(&dy.m)) return PR_DECLINED;
  for (int i = A; i <= B; i++) {
    if (!c->grad_in[i]) continue;
    const operand other = operand_of(c->in[1 - i], 1 - i, c, dim), d = operand_of(c->grad_in[i], i, c, dim);
    if (!fits(&other.m) || !fits(&d.m)) return PR_DECLINED;
    bool sums = false;
    for (int k = 0; k < dim; k++) sums = sums || (batch[k] > 1 && !d.step[k]);
    if (i == A)
      multiply_batches(dim, batch, dy, flipped(other), d, sums);
    else
      multiply_batches(dim, batch, flipped(other), dy, d, sums);
  }
  return PR_OK;
}
