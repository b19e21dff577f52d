/* movement.c - do weights move away from zero (Sanh et al. 2020)? S = sum over training steps of -w g:
 * positive where a step against the gradient makes |w| larger. s = sum of S over a unit's weights; the
 * lowest, which training shrinks, go first. */
#include "prune/criterion.h"

enum { SHARED };

static void terms(const double *w, const double *moved, int64_t n, double p, double *term) {
  (void)w, (void)p;
  for (int64_t i = 0; i < n; i++) term[i] = moved[i];
}

static pr_status score(const pr_group *group, const pr_arg *args, const pr_statistics *statistics,
                       double *out) {
  prP_scoring how = { .terms = terms,
                      .statistics = statistics,
                      .needs = PR_NEED_MOVEMENT,
                      .weights = true,
                      .options = args + SHARED };
  return prP_score(group, &how, out);
}

PR_CRITERION(movement) = {
  .name = "movement",
  .args = { PRP_OPTIONS(PRP_MEAN, PRP_AS_IT_IS) },
  .needs = PR_NEED_MOVEMENT,
  .score = score,
  .help = "Sum of -w g over training steps (movement pruning, Sanh et al. 2020): units that training moves "
          "towards zero go first. Watches a training, or needs data.",
};
