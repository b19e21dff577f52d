/* synflow.c - synaptic flow (Tanaka et al. 2020): with R the sum of the outputs for an input of ones, every
 * parameter replaced by its absolute value and biases left out, s = sum of |w| dR/d|w| over a unit's weights.
 * The flow through every layer that cuts the net is R, so no layer is emptied before the others. */
#include "prune/criterion.h"

#include <math.h>

enum { SHARED };

static void terms(const double *w, const double *g, int64_t n, double p, double *term) {
  (void)p;
  for (int64_t i = 0; i < n; i++) term[i] = fabs(w[i]) * g[i];
}

static pr_status score(const pr_group *group, const pr_arg *args, const pr_statistics *statistics,
                       double *out) {
  prP_scoring how = {
    .terms = terms, .statistics = statistics, .needs = PR_NEED_FLOW, .weights = true, .options = args + SHARED
  };
  return prP_score(group, &how, out);
}

PR_CRITERION(synflow) = {
  .name = "synflow",
  .args = { PRP_OPTIONS(PRP_SUM, PRP_AS_IT_IS) },
  .needs = PR_NEED_FLOW,
  .score = score,
  .help =
      "Synaptic flow: sum of |w| dR/d|w|, R the output of the absolute net for ones (SynFlow, Tanaka et al. "
      "2020). Takes no data.",
};
