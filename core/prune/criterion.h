/* criterion.h - what makes a unit important: a score per unit of a group. The lowest go first.
 *
 * One criterion is one file in criterion/, which declares it with a line that begins with PR_CRITERION(name).
 * It scores a group part by part (a part is one coupled parameter axis, seen as units x everything else);
 * prP_score puts the parts together and normalises.
 */
#ifndef PR_PRUNE_CRITERION_H
#define PR_PRUNE_CRITERION_H

#include "prune/pruning.h"

typedef struct pr_criterion {
  const char *name;
  pr_arg_spec args[PR_MAX_ARGS + 1]; /* options, as operators have them */
  bool needs_gradients;
  pr_status (*score)(const pr_group *group, const pr_arg *args, double *score); /* score [group->size] */
  const char *help;                                                             /* formula and source */
} pr_criterion;

#define PR_CRITERION(name) const pr_criterion pr_criterion_##name

extern const pr_criterion *const pr_criterion_list[]; /* NULL-terminated; made by the build */
const pr_criterion *pr_criterion_find(const char *name);

/* --- for criteria ---------------------------------------------------------------------------------------------------------- */

/* What a part's parameter is to the operators that read it. */
typedef enum prP_role {
  PRP_WEIGHT, /* weight of a convolution, linear layer, embedding, recurrent layer, or a bare parameter */
  PRP_SCALE,  /* weight of a normalisation */
  PRP_BIAS,
  PRP_BUFFER /* running statistics, constants: never scored */
} prP_role;
prP_role prP_part_role(const pr_pruning *pruning, const pr_part *part);

/* Score of one row (a unit's slice of a part): values w, gradients g (NULL unless asked for), n of each. */
typedef double (*prP_row_score)(const double *w, const double *g, int64_t n, double p);

typedef struct prP_scoring {
  prP_row_score row;
  double p;
  bool gradients;               /* rows come with gradients; a parameter without one fails */
  bool weights, scales, biases; /* which roles count */
  int reduction;                /* of PRP_REDUCTIONS */
  int normalizer;               /* of PRP_NORMALIZERS */
} prP_scoring;

/* Options that criteria made of parts share, and their words. Formulas: with s_j the score of part j, J
 * parts: sum, mean (sum / J), max, prod, first, last. Then over the units of the group: none; sum s / sum(s);
 * mean s / mean(s); max s / max(s); minmax (s - min) / (max - min + 1e-8); gaussian (s - mean) / (std +
 * 1e-8), unbiased std; quantile s / (the median); lamp: in ascending order, s_i / sum of s_l for l >= i (Lee
 * et al. 2021). */
#define PRP_REDUCTIONS  "sum mean max prod first last"
#define PRP_NORMALIZERS "none sum mean max minmax gaussian quantile lamp"

/* Fails when no part of the group counts. */
pr_status prP_score(const pr_group *group, const prP_scoring *how, double *score);

#endif
