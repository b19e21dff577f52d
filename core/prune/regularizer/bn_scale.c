/* bn_scale.c - strength * sum |gamma| over batch-norm scales: gradient strength * sign(gamma) (network
 * slimming, Liu et al. 2017). Channels whose scale goes to zero can be removed at little cost. */
#include "prune/regularizer.h"

#include <math.h>

enum { STRENGTH };

static double entries(const double *gamma, int64_t n, const pr_arg *args, double *slope) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) {
    sum += fabs(gamma[i]);
    slope[i] = args[STRENGTH].real * ((gamma[i] > 0) - (gamma[i] < 0));
  }
  return args[STRENGTH].real * sum;
}

PR_REGULARIZER(bn_scale) = {
  .name = "bn_scale",
  .args = { { "strength", PR_ARG_REAL, .real = 1e-4, .help = "weight of the term" } },
  .acts_on = PR_ON_SCALES,
  .entries = entries,
  .help = "strength * sum |gamma| over the scales of batch norms (network slimming, Liu et al. 2017).",
};
