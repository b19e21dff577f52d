/* grasp.c - gradient signal preservation (GraSP, Wang et al. 2020). Removing w changes the squared norm of
 * the gradient by S = -2 w (H g) to first order; what lowers it least, or raises it, may go: the paper
 * removes the highest -w (H g), so here, where the lowest go, s = sum of w (H g) over a unit's weights. */
#include "prune/criterion.h"

enum { SHARED };

static void terms(const double *w, const double *hg, int64_t n, double p, double *term) {
  (void)p;
  for (int64_t i = 0; i < n; i++) term[i] = w[i] * hg[i];
}

static pr_status score(const pr_group *group, const pr_arg *args, const pr_statistics *statistics,
                       double *out) {
  prP_scoring how = { .terms = terms,
                      .statistics = statistics,
                      .needs = PR_NEED_HESSIAN,
                      .weights = true,
                      .options = args + SHARED };
  return prP_score(group, &how, out);
}

PR_CRITERION(grasp) = {
  .name = "grasp",
  .args = { PRP_OPTIONS(PRP_SUM, PRP_AS_IT_IS) },
  .needs = PR_NEED_HESSIAN,
  .score = score,
  .help = "Gradient signal preservation: sum of w (H g), H the Hessian and g the gradient of the loss, for "
          "pruning at initialisation (GraSP, Wang et al. 2020). Needs data.",
};
