/* obd.c - optimal brain damage (LeCun et al. 1990) with the diagonal of the empirical Fisher matrix in place
 * of the Hessian's: s = sum of w^2 F / 2, F = mean over samples of g_n^2, g_n the gradient of one sample's
 * loss. */
#include "prune/criterion.h"

enum { NORMS, SHARED };

static void terms(const double *w, const double *squares, int64_t n, double p, double *term) {
  (void)p;
  for (int64_t i = 0; i < n; i++) term[i] = 0.5 * w[i] * w[i] * squares[i];
}

static pr_status score(const pr_group *group, const pr_arg *args, const pr_statistics *statistics,
                       double *out) {
  prP_scoring how = { .terms = terms,
                      .statistics = statistics,
                      .needs = PR_NEED_SQUARES,
                      .weights = true,
                      .scales = args[NORMS].integer != 0,
                      .options = args + SHARED };
  return prP_score(group, &how, out);
}

PR_CRITERION(obd) = {
  .name = "obd",
  .args = { { "norms", PR_ARG_BOOL, .help = "count normalisation scales too" },
            PRP_OPTIONS(PRP_MEAN, PRP_BY_MEAN) },
  .needs = PR_NEED_SQUARES,
  .score = score,
  .help =
      "Optimal brain damage: sum of w^2 F / 2, F the diagonal of the empirical Fisher matrix (LeCun et al. "
      "1990). Needs data; runs every sample alone.",
};
