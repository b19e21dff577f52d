/* group_norm.c - the sparse learning of DepGraph (Fang et al. 2023): strength / 2 * sum over units of
 * 2^(alpha x_u) ||w_u||^2 with x_u = (I_max - I_u) / (I_max - I_min), where I_u = ||w_u|| is a unit's
 * importance among those of its group. The weights 2^(alpha x_u) count as constants: gradient strength
 * 2^(alpha x_u) w. The least important units shrink 2^alpha times as fast as the most important one. Where
 * all are equally important, and in a group of one unit, every x_u is 0. */
#include "prune/regularizer.h"

#include <math.h>

enum { STRENGTH, ALPHA };

static double weigh(prP_weighed *units, const pr_arg *args) {
  double least = HUGE_VAL, most = 0, penalty = 0;
  for (int32_t u = 0; u < units->n; u++) {
    least = fmin(least, sqrt(units->square[u]));
    most = fmax(most, sqrt(units->square[u]));
  }
  for (int32_t u = 0; u < units->n; u++) {
    double x = most > least ? (most - sqrt(units->square[u])) / (most - least) : 0;
    units->strength[u] *= exp2(args[ALPHA].real * x);
    units->factor[u] = units->strength[u];
    penalty += units->strength[u] * units->square[u] / 2;
  }
  return penalty;
}

static const char *check(const pr_arg *args) {
  return args[ALPHA].real >= 0 && args[ALPHA].real <= 64 ? NULL : "alpha must be in 0..64";
}

PR_REGULARIZER(group_norm) = {
  .name = "group_norm",
  .args = { { "strength", PR_ARG_REAL, .real = 1e-4, .help = "weight of the term" },
            { "alpha", PR_ARG_REAL, .real = 4,
              .help = "the least important unit shrinks 2^alpha times as fast as the most important" } },
  .check = check,
  .weigh = weigh,
  .help = "strength / 2 * sum over dependency units of 2^(alpha x) times the square of the norm of their "
          "weights; x goes from 0 for the most important unit of a group to 1 for the least (Fang et al. "
          "2023).",
};
