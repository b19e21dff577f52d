/* verify.h - the contract: the pruned model computes what the ablated model computes.
 *
 * The ablated model is the original on full shapes with every parameter entry of a dead unit zero, and with
 * statistics over an axis (layer, group and RMS norm, mean, variance) running over its live indices only.
 */
#ifndef PR_PRUNE_VERIFY_H
#define PR_PRUNE_VERIFY_H

#include "prune/pruning.h"

typedef struct pr_verification {
  double output;   /* largest difference of an output entry, relative to the largest output entry */
  double gradient; /* the same over the gradients of all parameters (of a fixed weighted sum of the outputs);
                      0 unless asked for */
} pr_verification;

/* Compare both on `inputs` (any batch size) in `dtype` (PR_F64: the numbers are converted), evaluation mode.
 * Works on copies: the model stays as it is. */
pr_status pr_verify(pr_pruning *pruning, const int32_t *unit, int32_t n, pr_tensor *const *inputs,
                    pr_dtype dtype, bool gradients, pr_verification *result);

#endif
