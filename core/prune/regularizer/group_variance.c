/* group_variance.c - strength / (variance of ||w_u|| over the units of a group + eps), the variance over all
 * n units (sum / n): units are driven apart, into some that matter and some that do not (the variance form of
 * group regularisation of Zmora et al. 2019, Neural Network Distiller). Gradient
 * -strength / (variance + eps)^2 * 2 / n * (||w_u|| - mean) * w / ||w_u||: none where all norms are equal. */
#include "prune/regularizer.h"

#include <math.h>

enum { STRENGTH, EPS };

static double weigh(prP_weighed *units, const pr_arg *args) {
  double mean = 0, variance = 0;
  for (int32_t u = 0; u < units->n; u++) mean += sqrt(units->square[u]) / units->n;
  for (int32_t u = 0; u < units->n; u++) variance += pow(sqrt(units->square[u]) - mean, 2) / units->n;
  double penalty = args[STRENGTH].real / (variance + args[EPS].real);
  for (int32_t u = 0; u < units->n; u++) {
    double norm = sqrt(units->square[u]);
    units->factor[u] =
        norm > 0 ? -penalty / (variance + args[EPS].real) * 2 / units->n * (norm - mean) / norm : 0;
  }
  return penalty;
}

static const char *check(const pr_arg *args) { return args[EPS].real > 0 ? NULL : "eps must be above 0"; }

PR_REGULARIZER(group_variance) = {
  .name = "group_variance",
  .args = { { "strength", PR_ARG_REAL, .real = 1e-4, .help = "weight of the term" },
            { "eps", PR_ARG_REAL, .real = 1e-2,
              .help = "added to the variance, above 0: keeps the term of nearly equal norms finite" } },
  .check = check,
  .weigh = weigh,
  .help = "strength / (variance + eps) of the norms of a group's dependency units, which drives them apart "
          "(Zmora et al. 2019).",
};
