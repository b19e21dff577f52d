/* eigendamage.c - optimal brain damage of whole filters (OBD-C in the code of EigenDamage, Wang et al. 2019):
 * s = sum over a filter's weights of w^2 (F + 1e-10), F as in obd.c. Only the layers that make the units
 * count, convolutions and linear layers alike. */
#include "prune/criterion.h"

enum { SHARED };

static void terms(const double *w, const double *squares, int64_t n, double p, double *term) {
  (void)p;
  for (int64_t i = 0; i < n; i++) term[i] = w[i] * w[i] * (squares[i] + 1e-10);
}

static pr_status score(const pr_group *group, const pr_arg *args, const pr_statistics *statistics,
                       double *out) {
  prP_scoring how = { .terms = terms,
                      .statistics = statistics,
                      .needs = PR_NEED_SQUARES,
                      .weights = true,
                      .producers = true,
                      .options = args + SHARED };
  return prP_score(group, &how, out);
}

PR_CRITERION(eigendamage) = {
  .name = "eigendamage",
  .args = { PRP_OPTIONS(PRP_MEAN, PRP_BY_MEAN) },
  .needs = PR_NEED_SQUARES,
  .score = score,
  .help =
      "Optimal brain damage of filters (OBD-C, Wang et al. 2019): sum of w^2 F over the weights that make a "
      "unit. Needs data; runs every sample alone.",
};
