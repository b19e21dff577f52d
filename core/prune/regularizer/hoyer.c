/* hoyer.c - Hoyer-square of the entries of each weight: strength * (sum |w|)^2 / sum w^2, between 1 (one
 * entry) and the number of entries (all of one magnitude); it does not change when all entries are scaled
 * (Yang et al. 2020). Gradient 2 strength (S / Q) (sign(w) - w S / Q) with S = sum |w| and Q = sum w^2:
 * entries below Q / S shrink, those above grow. */
#include "prune/regularizer.h"

#include <math.h>

enum { STRENGTH };

static double entries(const double *w, int64_t n, const pr_arg *args, double *slope) {
  double sum = 0, square = 0;
  for (int64_t i = 0; i < n; i++) sum += fabs(w[i]), square += w[i] * w[i];
  if (square == 0) return 0;
  double ratio = sum / square;
  for (int64_t i = 0; i < n; i++)
    slope[i] = 2 * args[STRENGTH].real * ratio * ((w[i] > 0) - (w[i] < 0) - w[i] * ratio);
  return args[STRENGTH].real * sum * ratio;
}

PR_REGULARIZER(hoyer) = {
  .name = "hoyer",
  .args = { { "strength", PR_ARG_REAL, .real = 1e-4, .help = "weight of the term" } },
  .acts_on = PR_ON_WEIGHTS,
  .entries = entries,
  .help =
      "strength * (sum |w|)^2 / sum w^2 of each weight, Hoyer-square: sparse entries, whatever their scale "
      "(Yang et al. 2020).",
};
