/* regrow.h - masks that entries may come back from: what dynamic sparse training does.
 *
 * Both functions leave everything unchanged when they fail; a NaN among the scores is a failure. Of equal
 * scores the lower index goes first (pr_mask_rank) or comes back first (pr_mask_exchange).
 */
#ifndef PR_PRUNE_REGROW_H
#define PR_PRUNE_REGROW_H

#include "tensor/tensor.h"

/* New masks for n parameters, ranked together, whatever was masked before: the entries of lowest score go, so
 * many that the share `sparsity` of all is masked (rounded half to even). Scores count with their sign. */
pr_status pr_mask_rank(pr_tensor *const *parameter, pr_tensor *const *scores, int n, double sparsity);

/* Mask the `count` entries of least magnitude of what is alive, then let as many of what is then masked come
 * back: those of largest |score|, or random ones where scores is NULL. Entries that were masked before come
 * back as 0, and 0 in the optimiser's state; those that went and came at once keep theirs. */
pr_status pr_mask_exchange(pr_tensor *parameter, pr_tensor *scores, int64_t count);

#endif
