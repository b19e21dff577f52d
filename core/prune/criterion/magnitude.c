/* magnitude.c - s = sum of |w|^p over a unit's weights, on both sides of the coupling (Li et al. 2017;
 * DepGraph, Fang et al. 2023, without the p-th root). Normalisation scales count, biases do not. */
#include "prune/criterion.h"

#include <math.h>

enum { P, REDUCTION, NORMALIZER };

static double row(const double *w, const double *g, int64_t n, double p) {
  (void)g;
  double sum = 0;
  if (p == 1)
    for (int64_t i = 0; i < n; i++) sum += fabs(w[i]);
  else if (p == 2)
    for (int64_t i = 0; i < n; i++) sum += w[i] * w[i];
  else
    for (int64_t i = 0; i < n; i++) sum += pow(fabs(w[i]), p);
  return sum;
}

static pr_status score(const pr_group *group, const pr_arg *args, double *out) {
  if (!(args[P].real > 0))
    return pr_fail(PR_ERR_ARGUMENT, "magnitude: p must be above 0, got %g", args[P].real);
  prP_scoring how = { .row = row,
                      .p = args[P].real,
                      .weights = true,
                      .scales = true,
                      .reduction = (int)args[REDUCTION].integer,
                      .normalizer = (int)args[NORMALIZER].integer };
  return prP_score(group, &how, out);
}

PR_CRITERION(magnitude) = {
  .name = "magnitude",
  .args = { { "p", PR_ARG_REAL, .real = 2, .help = "power" },
            { "reduction", PR_ARG_CHOICE, .integer = 1, .choices = PRP_REDUCTIONS,
              .help = "how a group's parts are put together" },
            { "normalizer", PR_ARG_CHOICE, .integer = 2, .choices = PRP_NORMALIZERS,
              .help = "over the units of a group" } },
  .score = score,
  .help = "Sum of |w|^p over the weights of a unit (Li et al. 2017); over coupled layers as in DepGraph "
          "(Fang et al. 2023).",
};
