/* bn_scale.c - s = |gamma| of a unit's normalisation (network slimming, Liu et al. 2017). */
#include "prune/criterion.h"

#include <math.h>

enum { REDUCTION, NORMALIZER };

static double row(const double *w, const double *g, int64_t n, double p) {
  (void)g, (void)p;
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += fabs(w[i]);
  return sum;
}

static pr_status score(const pr_group *group, const pr_arg *args, double *out) {
  prP_scoring how = { .row = row,
                      .scales = true,
                      .reduction = (int)args[REDUCTION].integer,
                      .normalizer = (int)args[NORMALIZER].integer };
  return prP_score(group, &how, out);
}

PR_CRITERION(bn_scale) = {
  .name = "bn_scale",
  .args = { { "reduction", PR_ARG_CHOICE, .integer = 1, .choices = PRP_REDUCTIONS,
              .help = "how a group's parts are put together" },
            { "normalizer", PR_ARG_CHOICE, .integer = 0, .choices = PRP_NORMALIZERS,
              .help = "over the units of a group" } },
  .score = score,
  .help = "|gamma| of a unit's normalisation (network slimming, Liu et al. 2017). Groups without one are an "
          "error.",
};
