/* taylor.c - first-order estimate of the loss that a unit's removal costs (Molchanov et al. 2017, 2019): s =
 * sum of |w g| over its weights, or |sum of w g| (multivariable). */
#include "prune/criterion.h"

#include <math.h>

enum { MULTIVARIABLE, NORMS, SHARED };

static void separate(const double *w, const double *g, int64_t n, double p, double *term) {
  (void)p;
  for (int64_t i = 0; i < n; i++) term[i] = fabs(w[i] * g[i]);
}

static void together(const double *w, const double *g, int64_t n, double p, double *term) {
  (void)p;
  for (int64_t i = 0; i < n; i++) term[i] = w[i] * g[i];
}

static pr_status score(const pr_group *group, const pr_arg *args, const pr_statistics *statistics,
                       double *out) {
  bool multivariable = args[MULTIVARIABLE].integer != 0;
  prP_scoring how = { .terms = multivariable ? together : separate,
                      .absolute = multivariable,
                      .statistics = statistics,
                      .needs = PR_NEED_GRADIENTS,
                      .weights = true,
                      .scales = args[NORMS].integer != 0,
                      .options = args + SHARED };
  return prP_score(group, &how, out);
}

PR_CRITERION(taylor) = {
  .name = "taylor",
  .args = { { "multivariable", PR_ARG_BOOL, .help = "|sum w g| instead of sum |w g|" },
            { "norms", PR_ARG_BOOL, .help = "count normalisation scales too" },
            PRP_OPTIONS(PRP_MEAN, PRP_BY_MEAN) },
  .needs = PR_NEED_GRADIENTS,
  .score = score,
  .help = "Sum of |w g| over the weights of a unit, g the gradient of the loss (Molchanov et al. 2017). "
          "Needs data or a backward pass.",
};
