/* group_lasso.c - strength * sum over units of ||w_u||: gradient strength * w / ||w_u||, w_u all weights of a
 * unit on both sides of the coupling (Yuan and Lin 2006; for structures of networks Wen et al. 2016). With
 * size_factor each unit's term is multiplied by the root of its number of weights. A unit that is zero
 * already gets no gradient. */
#include "prune/regularizer.h"

#include <math.h>

enum { STRENGTH, SIZE_FACTOR };

static double weigh(prP_weighed *units, const pr_arg *args) {
  double penalty = 0;
  for (int32_t u = 0; u < units->n; u++) {
    double norm = sqrt(units->square[u]);
    if (args[SIZE_FACTOR].integer) units->strength[u] *= sqrt((double)units->count[u]);
    units->factor[u] = norm > 0 ? units->strength[u] / norm : 0;
    penalty += units->strength[u] * norm;
  }
  return penalty;
}

PR_REGULARIZER(group_lasso) = {
  .name = "group_lasso",
  .args = { { "strength", PR_ARG_REAL, .real = 1e-4, .help = "weight of the term" },
            { "size_factor", PR_ARG_BOOL,
              .help = "multiply a unit's term by the root of its number of weights" } },
  .weigh = weigh,
  .help = "strength * sum over dependency units of the Euclidean norm of all their weights (Yuan and Lin "
          "2006; Wen et al. 2016).",
};
