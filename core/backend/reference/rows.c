#include "backend/reference/rows.h"

/* Row-major strides of t's axes in the order of the matrix: axes that count rows first. */
static int matrix_order(const pr_tensor *t, const bool along[PR_MAX_DIM], int64_t shape[PR_MAX_DIM],
                        int64_t stride[PR_MAX_DIM]) {
  int n = 0;
  for (int pass = 0; pass < 2; pass++) {
    for (int d = 0; d < t->dim; d++) {
      if (along[d] != (pass == 1)) continue;
      shape[n] = t->shape[d], stride[n] = 1;
      for (int e = d + 1; e < t->dim; e++) stride[n] *= t->shape[e];
      n++;
    }
  }
  return n;
}

/* matrix[i] = array[position of i], or the reverse, over the row-major elements of t. */
static void move(const pr_tensor *t, const bool along[PR_MAX_DIM], double *matrix, double *array, bool back) {
  int64_t shape[PR_MAX_DIM], stride[PR_MAX_DIM], at[PR_MAX_DIM] = { 0 }, position = 0, n = pr_numel(t);
  int dim = matrix_order(t, along, shape, stride);
  for (int64_t i = 0; i < n; i++) {
    if (back)
      array[position] = matrix[i];
    else
      matrix[i] = array[position];
    for (int d = dim - 1; d >= 0; d--) {
      position += stride[d];
      if (++at[d] < shape[d]) break;
      position -= at[d] * stride[d], at[d] = 0;
    }
  }
}

pr_status prK_rows_load(pr_call *c, const pr_tensor *t, const bool along[PR_MAX_DIM], prK_rows *rows) {
  *rows = (prK_rows){ .rows = 1, .length = 1 };
  for (int d = 0; d < t->dim; d++) *(along[d] ? &rows->length : &rows->rows) *= t->shape[d];
  if (!t->storage) return PR_OK;
  PRK_LOAD(array, t);
  PRK_ROOM(matrix, pr_numel(t));
  move(t, along, matrix, (double *)array, false);
  rows->values = matrix;
  return PR_OK;
}

pr_status prK_rows_store(pr_call *c, pr_tensor *t, const bool along[PR_MAX_DIM], const double *values) {
  PRK_ROOM(array, pr_numel(t));
  move(t, along, (double *)values, array, true);
  return prK_store(t, array);
}
