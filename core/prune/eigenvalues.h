/* eigenvalues.h - of a symmetric matrix: what ranks and nuclear norms of feature maps come from. */
#ifndef PR_PRUNE_EIGENVALUES_H
#define PR_PRUNE_EIGENVALUES_H

#include "base/error.h"

/* All eigenvalues of the symmetric a [n, n], in no order, into value [n]; the error is of the size of the
 * rounding error of the largest. `a` is destroyed; room [2 n]. */
void prP_eigenvalues(double *a, int64_t n, double *value, double *room);

/* The inner products of the rows of x [rows, columns] where there are fewer rows than columns, else those of
 * its columns; into gram [n, n]; returns n, the lesser number. Its eigenvalues are squared singular values of
 * x. */
int64_t prP_gram(const double *x, int64_t rows, int64_t columns, double *gram);

#endif
