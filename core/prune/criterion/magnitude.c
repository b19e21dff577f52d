/* magnitude.c - s = sum of |w|^p over a unit's weights, on both sides of the coupling (Li et al. 2017;
 * DepGraph, Fang et al. 2023, without the p-th root). Normalisation scales count, biases do not. */
#include "prune/criterion.h"

#include <math.h>

enum { P, SHARED };

static void terms(const double *w, const double *g, int64_t n, double p, double *term) {
  (void)g;
  if (p == 1)
    for (int64_t i = 0; i < n; i++) term[i] = fabs(w[i]);
  else if (p == 2)
    for (int64_t i = 0; i < n; i++) term[i] = w[i] * w[i];
  else
    for (int64_t i = 0; i < n; i++) term[i] = pow(fabs(w[i]), p);
}

static pr_status score(const pr_group *group, const pr_arg *args, const pr_statistics *statistics,
                       double *out) {
  (void)statistics;
  if (!(args[P].real > 0 && isfinite(args[P].real)))
    return pr_fail(PR_ERR_ARGUMENT, "magnitude: p must be above 0 and finite, got %g", args[P].real);
  prP_scoring how = {
    .terms = terms, .p = args[P].real, .weights = true, .scales = true, .options = args + SHARED
  };
  return prP_score(group, &how, out);
}

PR_CRITERION(magnitude) = {
  .name = "magnitude",
  .args = { { "p", PR_ARG_REAL, .real = 2, .help = "power, above 0" }, PRP_OPTIONS(PRP_MEAN, PRP_BY_MEAN) },
  .score = score,
  .help = "Sum of |w|^p over the weights of a unit (Li et al. 2017); over coupled layers as in DepGraph "
          "(Fang et al. 2023).",
};
