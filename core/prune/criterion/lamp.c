/* lamp.c - layer-adaptive magnitude (Lee et al. 2021), for units: with a unit's magnitude m = sum of w^2, its
 * score is m divided by the sum of all m in the group that are not smaller (ties by index). The largest of
 * every group scores 1, so that scores of all groups can be ranked together. */
#include "prune/criterion.h"

enum { SHARED };

static void terms(const double *w, const double *g, int64_t n, double p, double *term) {
  (void)g, (void)p;
  for (int64_t i = 0; i < n; i++) term[i] = w[i] * w[i];
}

static pr_status score(const pr_group *group, const pr_arg *args, const pr_statistics *statistics,
                       double *out) {
  (void)statistics;
  prP_scoring how = { .terms = terms, .weights = true, .scales = true, .options = args + SHARED };
  return prP_score(group, &how, out);
}

PR_CRITERION(lamp) = {
  .name = "lamp",
  .args = { PRP_OPTIONS(PRP_MEAN, PRP_LAMP) },
  .score = score,
  .help =
      "Squared magnitude as a share of all magnitudes in the group that are not smaller (LAMP, Lee et al. "
      "2021): for global ranking.",
};
