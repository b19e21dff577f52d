/* sparsegpt.h - pruning a layer so that what it computes changes least (SparseGPT; Frantar and Alistarh, ICML
 * 2023), for weights w [rows, columns] whose rows all read the same inputs x.
 *
 * The squared change of the outputs is a quadratic in each row with the Hessian h = sum of x x^T (its scale
 * does not matter). Columns are visited from left to right. With u the upper Cholesky factor of the damped
 * h^-1, taking out entry j of a row costs (w_j / u_jj)^2 and is made up for best by w_k -= w_j / u_jj u_jk in
 * the columns to the right. Which entries go is chosen for 128 columns at a time, so that later choices see
 * the changes.
 */
#ifndef PR_PRUNE_SPARSEGPT_H
#define PR_PRUNE_SPARSEGPT_H

#include "tensor/tensor.h"

typedef struct pr_sparsegpt_options {
  double sparsity;  /* share of all entries that is masked afterwards; what was masked before counts */
  int64_t keep, of; /* or, with of > 0: at most `keep` of every `of` columns stay, in each row */
  int64_t run;      /* groups of `of` columns start anew every `run` columns; 0: they do not */
  int64_t block;    /* columns whose entries are chosen together; 0: 128 */
  double damp;      /* share of the mean of h's diagonal that is added to it */
} pr_sparsegpt_options;

/* weight [rows, columns] f64 and mask [rows, columns] f32, both row-major, are changed; masked entries of the
 * weight become 0, those that were masked before as well, and are made up for too where they were not 0.
 * hessian [columns, columns] f64. *error (may be NULL): the squared change in the metric of the damped
 * Hessian. After a failure the weight and the mask are as they were. */
pr_status pr_sparsegpt(pr_tensor *weight, pr_tensor *mask, const pr_tensor *hessian,
                       const pr_sparsegpt_options *options, double *error);

#endif
