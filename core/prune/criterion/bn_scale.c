/* bn_scale.c - s = |gamma| of a unit's normalisation (network slimming, Liu et al. 2017). */
#include "prune/criterion.h"

#include <math.h>

enum { SHARED };

static void terms(const double *w, const double *g, int64_t n, double p, double *term) {
  (void)g, (void)p;
  for (int64_t i = 0; i < n; i++) term[i] = fabs(w[i]);
}

static pr_status score(const pr_group *group, const pr_arg *args, const pr_statistics *statistics,
                       double *out) {
  (void)statistics;
  prP_scoring how = { .terms = terms, .scales = true, .options = args + SHARED };
  return prP_score(group, &how, out);
}

PR_CRITERION(bn_scale) = {
  .name = "bn_scale",
  .args = { PRP_OPTIONS(PRP_MEAN, PRP_AS_IT_IS) },
  .score = score,
  .help = "|gamma| of a unit's normalisation (network slimming, Liu et al. 2017). Groups without one are an "
          "error.",
};
