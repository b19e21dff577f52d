/* group_hoyer.c - Hoyer-square of the norms of a group's units, strength * (sum ||w_u||)^2 / sum ||w_u||^2:
 * between 1 (one unit) and the number of units (all of one norm); the structured form of Yang et al. 2020.
 * Gradient 2 strength (S / Q) (1 / ||w_u|| - S / Q) w with S = sum ||w_u|| and Q = sum ||w_u||^2. A unit that
 * is zero already gets no gradient. */
#include "prune/regularizer.h"

#include <math.h>

enum { STRENGTH };

static double weigh(prP_weighed *units, const pr_arg *args) {
  double sum = 0, square = 0;
  for (int32_t u = 0; u < units->n; u++) sum += sqrt(units->square[u]), square += units->square[u];
  if (square == 0) return 0;
  double ratio = sum / square;
  for (int32_t u = 0; u < units->n; u++)
    units->factor[u] =
        units->square[u] > 0 ? 2 * args[STRENGTH].real * ratio * (1 / sqrt(units->square[u]) - ratio) : 0;
  return args[STRENGTH].real * sum * ratio;
}

PR_REGULARIZER(group_hoyer) = {
  .name = "group_hoyer",
  .args = { { "strength", PR_ARG_REAL, .real = 1e-4, .help = "weight of the term" } },
  .weigh = weigh,
  .help = "strength * (sum ||w||)^2 / sum ||w||^2 over the dependency units of each group, Hoyer-square "
          "(Yang et al. 2020): few units, whatever their scale.",
};
