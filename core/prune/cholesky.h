/* cholesky.h - the linear algebra of second-order pruning, in f64 and row-major: Gram matrices, and what is
 * made of a symmetric positive definite matrix. Cholesky factors come from LAPACK, which OpenBLAS brings
 * along. */
#ifndef PR_PRUNE_CHOLESKY_H
#define PR_PRUNE_CHOLESKY_H

#include "tensor/tensor.h"

/* gram [d, d] += x^T x for x [n, d] (f32 or f64, any layout). Both halves are filled. */
pr_status prP_gram_add(pr_tensor *gram, const pr_tensor *x);

/* The functions below take the matrix a [n, n] with both halves filled, and overwrite it. They fail with
 * PR_ERR_ARGUMENT where it is not positive definite (in f64). */

/* The upper factor u of a = u^T u; below its diagonal are zeros. */
pr_status prP_cholesky(double *a, int64_t n);
/* The inverse. */
pr_status prP_inverse(double *a, int64_t n);
/* The upper factor u of the inverse: a^-1 = u^T u. */
pr_status prP_cholesky_of_inverse(double *a, int64_t n);
/* The solution x of a x = b, into b. */
pr_status prP_solve(double *a, int64_t n, double *b);

/* The same for b [n, columns], row-major. */
pr_status prP_solve_columns(double *a, int64_t n, double *b, int64_t columns);

/* Add `share` of the mean of the diagonal to the diagonal. Entries of it that are 0 stand for inputs that
 * never were anything else; they become the mean itself, and 1 where all are 0. */
void prP_damp(double *a, int64_t n, double share);

#endif
