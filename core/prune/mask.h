/* mask.h - masks that zero entries of parameters and keep shapes: what torch.nn.utils.prune does, exactly,
 * with these differences: of equal scores the lower index goes first; a share of all (PR_SPARSITY) can be
 * asked for beside an amount of what is alive; the masks of a user hold only 0 and 1.
 *
 * Repeated pruning acts on what is still alive. An entry is alive where its mask is not 0 (everywhere without
 * a mask), a slice if one of its entries is. Scores are taken of the masked value unless the user gives some
 * of the parameter's shape; only their magnitude counts. Every function leaves all parameters unchanged when
 * it fails, and gives them a mask (of ones, if nothing goes) when it does not.
 */
#ifndef PR_PRUNE_MASK_H
#define PR_PRUNE_MASK_H

#include "prune/lowest.h"
#include "tensor/tensor.h"

typedef enum pr_mask_method {
  PR_MASK_LOWEST, /* least |score|, or least norm of a slice */
  PR_MASK_RANDOM  /* uniform, from the process's generator */
} pr_mask_method;

/* Mask single entries of n parameters, ranked together. `scores`: [n], NULL or with NULL entries for the
 * values themselves. Positions in messages are those in the list. *gone (may be NULL): entries that went now.
 */
pr_status pr_mask_unstructured(pr_tensor *const *parameter, pr_tensor *const *scores, int n,
                               pr_mask_method method, const pr_amount *amount, int64_t *gone);

/* Of the k lowest magnitudes among the tensors together, how many stand in each: counts[n]. Ties as above. */
pr_status pr_count_lowest(pr_tensor *const *scores, int n, int64_t k, int64_t *counts);

/* Mask whole slices along an axis of a parameter with at least two. Lowest: by the `norm`-norm of each slice,
 * (sum |x|^norm)^(1/norm); infinity: largest magnitude, -infinity: least, 0: count of entries that are not 0.
 * *gone: slices. */
pr_status pr_mask_structured(pr_tensor *parameter, const pr_tensor *scores, int axis, pr_mask_method method,
                             double norm, const pr_amount *amount, int64_t *gone);

/* A mask of ones where there is none. */
pr_status pr_mask_identity(pr_tensor *parameter);
/* Multiply a mask of zeros and ones (any dtype) onto the parameter's own. */
pr_status pr_mask_custom(pr_tensor *parameter, const pr_tensor *mask);

/* Entries that read as zero: zero values, or mask 0. */
pr_status pr_count_zeros(const pr_tensor *t, int64_t *zeros);

#endif
