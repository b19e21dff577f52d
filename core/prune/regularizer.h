/* regularizer.h - terms that make a model easy to prune: they act on gradients, between backward and the
 * optimiser's step.
 *
 * One regulariser is one file in regularizer/, which declares it with a line that begins with
 * PR_REGULARIZER(name). Parameters without a gradient are left alone, masked entries stay without gradient,
 * and pinned units are never touched.
 */
#ifndef PR_PRUNE_REGULARIZER_H
#define PR_PRUNE_REGULARIZER_H

#include "prune/pruning.h"

/* What a regulariser acts on. */
typedef struct pr_regularized {
  pr_tensor *const *scales; /* weights of the model's batch norms */
  int n_scales;
  pr_pruning *pruning; /* dependency groups; NULL unless needs_groups */
} pr_regularized;

typedef struct pr_regularizer {
  const char *name;
  pr_arg_spec args[PR_MAX_ARGS + 1];
  bool needs_groups; /* acts on the scopes of `pruning`, else on `scales` */
  /* Add to the gradients. penalty[i]: value of the term for scale i or scope i (scopes: twins of products
   * left out, 0). */
  pr_status (*apply)(const pr_regularized *model, const pr_arg *args, double *penalty);
  const char *help; /* formula and source */
} pr_regularizer;

#define PR_REGULARIZER(name) const pr_regularizer pr_regularizer_##name

extern const pr_regularizer *const pr_regularizer_list[]; /* NULL-terminated; made by the build */
const pr_regularizer *pr_regularizer_find(const char *name);

#endif
