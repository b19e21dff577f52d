/* taylor.c - first-order estimate of the loss that a unit's removal costs (Molchanov et al. 2017, 2019): s =
 * sum of |w g| over its weights, or |sum of w g| (multivariable). Gradients are those that are accumulated on
 * the parameters. */
#include "prune/criterion.h"

#include <math.h>

enum { MULTIVARIABLE, NORMS, REDUCTION, NORMALIZER };

static double separate(const double *w, const double *g, int64_t n, double p) {
  (void)p;
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += fabs(w[i] * g[i]);
  return sum;
}

static double together(const double *w, const double *g, int64_t n, double p) {
  (void)p;
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += w[i] * g[i];
  return fabs(sum);
}

static pr_status score(const pr_group *group, const pr_arg *args, double *out) {
  prP_scoring how = { .row = args[MULTIVARIABLE].integer ? together : separate,
                      .gradients = true,
                      .weights = true,
                      .scales = args[NORMS].integer != 0,
                      .reduction = (int)args[REDUCTION].integer,
                      .normalizer = (int)args[NORMALIZER].integer };
  return prP_score(group, &how, out);
}

PR_CRITERION(taylor) = {
  .name = "taylor",
  .args = { { "multivariable", PR_ARG_BOOL, .help = "|sum w g| instead of sum |w g|" },
            { "norms", PR_ARG_BOOL, .help = "count normalisation scales too" },
            { "reduction", PR_ARG_CHOICE, .integer = 1, .choices = PRP_REDUCTIONS,
              .help = "how a group's parts are put together" },
            { "normalizer", PR_ARG_CHOICE, .integer = 2, .choices = PRP_NORMALIZERS,
              .help = "over the units of a group" } },
  .needs_gradients = true,
  .score = score,
  .help = "Sum of |w g| over the weights of a unit, g the gradient of the loss (Molchanov et al. 2017). "
          "Needs data or a backward pass.",
};
