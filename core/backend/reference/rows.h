/* rows.h - a tensor as a matrix: some of its axes, in order, run along the rows; the others count the rows.
 * What kernels that work along axes (reductions, sorting, cumulative sums) are written on.
 */
#ifndef PR_BACKEND_REFERENCE_ROWS_H
#define PR_BACKEND_REFERENCE_ROWS_H

#include "backend/backend.h"

typedef struct prK_rows {
  int64_t rows, length;
  double *values; /* rows x length */
} prK_rows;

/* The matrix of `t` (scratch memory). values is NULL, only the sizes are set, where t has no storage. */
pr_status prK_rows_load(pr_call *c, const pr_tensor *t, const bool along[PR_MAX_DIM], prK_rows *rows);
/* t := the tensor with these rows. */
pr_status prK_rows_store(pr_call *c, pr_tensor *t, const bool along[PR_MAX_DIM], const double *values);

#endif
