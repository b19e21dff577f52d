/* obs.h - the optimal brain surgeon with a Fisher matrix in blocks (Hassibi and Stork 1993; WoodFisher, Singh
 * and Alistarh 2020; oBERT, Kurtic et al. 2022), for a weight read as a list of entries.
 *
 * The loss is taken as quadratic around the weight w with the Hessian f, the sum of g g^T over gradients g,
 * between entries of one block of consecutive ones. Taking out entry i costs w_i^2 / (2 [f^-1]_ii). What is
 * taken out together is made up for by the entries that stay: the change d of least d^T f d / 2 with d = -w
 * where entries go. Only entries that are alive take part.
 */
#ifndef PR_PRUNE_OBS_H
#define PR_PRUNE_OBS_H

#include "tensor/tensor.h"

/* fisher [blocks, size, size] f64 += g g^T in each block of `size` entries of the gradient (f32 or f64). The
 * last block may be longer than what is left of the gradient; the rest of it stays as it is. */
pr_status pr_fisher_add(pr_tensor *fisher, const pr_tensor *gradient);

/* What taking out each entry alone would cost, into scores [n] f64; 0 for those with mask 0. `damp` times the
 * mean of a block's diagonal is added to its diagonal. weight [n] f64, mask [n] f32. */
pr_status pr_obs_scores(const pr_tensor *fisher, const pr_tensor *weight, const pr_tensor *mask, double damp,
                        pr_tensor *scores);

/* Set weight [n] f64 to 0 where `after` is 0 and change what stays so that the loss rises least. Entries with
 * `before` 0 were gone already: they do not move. *cost (may be NULL): d^T f d / 2. After a failure the
 * weight is as it was. */
pr_status pr_obs_update(const pr_tensor *fisher, pr_tensor *weight, const pr_tensor *before,
                        const pr_tensor *after, double damp, double *cost);

#endif
