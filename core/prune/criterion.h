/* criterion.h - what makes a unit important: a score per unit of a group. The lowest go first.
 *
 * One criterion is one file in criterion/, which declares it with a line that begins with PR_CRITERION(name).
 * Most score a group part by part (a part is one coupled parameter axis, seen as units x everything else):
 * every weight adds a term to the score of its unit, and prP_score puts the parts together and normalises.
 * Others score what data make of a unit's activations (statistics.h): prP_score_sites.
 */
#ifndef PR_PRUNE_CRITERION_H
#define PR_PRUNE_CRITERION_H

#include "prune/statistics.h"

typedef struct pr_criterion {
  const char *name;
  pr_arg_spec args[PR_MAX_ARGS + 1]; /* options, as operators have them */
  pr_need needs;
  /* Of criteria that look at activations: what one sample's map adds to each position of its axis, `value`
   * [map->positions]. */
  pr_status (*observe)(const prP_map *map, const pr_arg *args, double *value);
  /* score [group->size]; `statistics`: what was needed, of this group's pruning; NULL: nothing was gathered.
   */
  pr_status (*score)(const pr_group *group, const pr_arg *args, const pr_statistics *statistics,
                     double *score);
  const char *help; /* formula and source */
} pr_criterion;

#define PR_CRITERION(name) const pr_criterion pr_criterion_##name

extern const pr_criterion *const pr_criterion_list[]; /* NULL-terminated; made by the build */
const pr_criterion *pr_criterion_find(const char *name);

/* --- for criteria: parts ---------------------------------------------------------------------------------- */

/* What a parameter is to the operators that read it. */
typedef enum prP_role {
  PRP_UNKNOWN,
  PRP_WEIGHT, /* weight of a convolution, linear layer, embedding, recurrent layer, or a bare parameter */
  PRP_SCALE,  /* weight of a normalisation */
  PRP_BIAS,
  PRP_BUFFER /* running statistics, constants: never scored */
} prP_role;
prP_role prP_role_of(const pr_pruning *pruning, int value);

/* The term of each of n weights: w their values, g those of the tensor that goes with them (NULL where the
 * criterion needs none). */
typedef void (*prP_terms)(const double *w, const double *g, int64_t n, double p, double *term);

typedef struct prP_scoring {
  prP_terms terms;
  /* In place of terms: the scores of the units from their rows [units, columns]. */
  pr_status (*rows)(const pr_tensor *rows, double *score);
  double p;
  const pr_statistics *statistics;
  pr_need needs;                /* which tensor goes with the weights: of PR_NEED_GRADIENTS ... _MOVEMENT */
  bool absolute;                /* |sum of terms| instead of their sum */
  bool weights, scales, biases; /* which roles count */
  bool producers;               /* only axes that make units */
  bool consumers;               /* only axes that take in what others make */
  const pr_arg *options;        /* the three of PRP_OPTIONS */
} prP_scoring;

/* Options that criteria share, the last three of their list. Formulas: with s_j the score of part j, J parts:
 * sum, mean (sum / J), max, prod, first, last. Then over the units of the group: none; sum s / sum(s); mean s
 * / mean(s); max s / max(s); minmax (s - min) / (max - min + 1e-8); gaussian (s - mean) / (std + 1e-8),
 * unbiased std; quantile s / (the element at floor(q n) of the ascending scores); lamp: in ascending order,
 * s_i / sum of s_l for l >= i (Lee et al. 2021). Of scores below 0 the magnitude of the sum, mean, max or
 * quantile divides, so that the order stays; lamp refuses them. Where a divisor is 0 nothing is divided. */
enum { PRP_SUM, PRP_MEAN, PRP_MAX, PRP_PROD, PRP_FIRST, PRP_LAST };
enum { PRP_AS_IT_IS, PRP_BY_SUM, PRP_BY_MEAN, PRP_BY_MAX, PRP_MINMAX, PRP_GAUSSIAN, PRP_QUANTILE, PRP_LAMP };
#define PRP_OPTIONS(reduced, normalized)                                                                     \
  { "reduction", PR_ARG_CHOICE, .integer = (reduced), .choices = "sum mean max prod first last",             \
    .help = "how a group's parts are put together" },                                                        \
      PRP_NORMALIZING(normalized)
/* The latter two alone. */
#define PRP_NORMALIZING(normalized)                                                                          \
  { "normalizer", PR_ARG_CHOICE, .integer = (normalized),                                                    \
    .choices = "none sum mean max minmax gaussian quantile lamp", .help = "over the units of a group" },     \
  {                                                                                                          \
    "quantile", PR_ARG_REAL, .real = 0.5, .help = "which quantile divides, for normalizer quantile"          \
  }

/* Fails when no part of the group counts. */
pr_status prP_score(const pr_group *group, const prP_scoring *how, double *score);

/* --- for criteria: activations ---------------------------------------------------------------------------- */

/* Mean over samples of what `observe` gave, over a unit's positions at a site, and reduced over sites. Fails
 * where no activation shows the group's units. */
pr_status prP_score_sites(const pr_group *group, const pr_statistics *statistics, const pr_arg *options,
                          double *score);
/* `options`: the two of PRP_NORMALIZING. */
pr_status prP_normalize(const pr_arg *options, double *score, int32_t n);

#endif
