/* position_sums.h - the sum of every weight's term at each position of an axis, in one pass over memory. */
#ifndef PR_PRUNE_POSITION_SUMS_H
#define PR_PRUNE_POSITION_SUMS_H

#include "prune/criterion.h"

/* Positions first ... first + count - 1 of the axis; sum [count]. `g` has w's shape, or is NULL. The result
 * does not depend on the number of threads. */
pr_status prP_position_sums(const pr_tensor *w, const pr_tensor *g, int axis, int64_t first, int64_t count,
                            prP_terms terms, double p, double *sum);

#endif
