/* snip.c - connection sensitivity (SNIP, Lee et al. 2019), for units: s = sum of |w g| over the weights of a
 * unit in all coupled layers, not normalised per group, for global ranking at initialisation. (The paper's
 * division by the sum over all weights of the net does not change an order.) */
#include "prune/criterion.h"

#include <math.h>

enum { SHARED };

static void terms(const double *w, const double *g, int64_t n, double p, double *term) {
  (void)p;
  for (int64_t i = 0; i < n; i++) term[i] = fabs(w[i] * g[i]);
}

static pr_status score(const pr_group *group, const pr_arg *args, const pr_statistics *statistics,
                       double *out) {
  prP_scoring how = { .terms = terms,
                      .statistics = statistics,
                      .needs = PR_NEED_GRADIENTS,
                      .weights = true,
                      .options = args + SHARED };
  return prP_score(group, &how, out);
}

PR_CRITERION(snip) = {
  .name = "snip",
  .args = { PRP_OPTIONS(PRP_SUM, PRP_AS_IT_IS) },
  .needs = PR_NEED_GRADIENTS,
  .score = score,
  .help = "Connection sensitivity: sum of |w g| over the weights of a unit, for pruning at initialisation "
          "(SNIP, Lee et al. 2019). Needs data or a backward pass.",
};
