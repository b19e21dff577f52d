/* draft.h - masks under way: made beside the parameters' own, from scores, and put in place when nothing can
 * fail any more. Shared by the files that make masks. */
#ifndef PR_PRUNE_DRAFT_H
#define PR_PRUNE_DRAFT_H

#include "prune/lowest.h"
#include "tensor/tensor.h"

typedef struct prP_draft {
  pr_tensor *parameter; /* borrowed */
  pr_tensor *mask;      /* row-major f32; the parameter's own where no one else can see it */
  pr_tensor *score;     /* row-major f32 or f64 */
} prP_draft;

/* Fails unless parameter i of n is a parameter with values on the CPU. */
pr_status prP_check_parameter(const pr_tensor *t, int i, int n);
/* Fails for a parameter that comes twice. */
pr_status prP_check_distinct(pr_tensor *const *parameter, int n);
/* Fails unless the scores (NULL passes) have the parameter's shape, values on the CPU and no NaN. */
pr_status prP_check_scores(const pr_tensor *t, const pr_tensor *scores);

/* The mask to write into. Where the parameter's own is not seen by anyone else it is that one: so nothing may
 * fail between the first write and prP_draft_commit. */
pr_tensor *prP_draft_mask(const pr_tensor *t);
/* A tensor as row-major numbers: f64 when `wide`, else f32. */
pr_tensor *prP_numbers(const pr_tensor *t, bool wide);
/* Does a tensor need f64 to keep the order of its values? */
bool prP_is_wide(const pr_tensor *t);

void prP_draft_commit(prP_draft *d);
void prP_drafts_free(prP_draft *d, int n);

#endif
