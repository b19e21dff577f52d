/* apoz.c - average percentage of zeros (Hu et al. 2016), turned round so that the lowest go first: s = share
 * of activations of a unit, as the next layers read it, that are not zero (|x| > threshold). */
#include "prune/criterion.h"

#include <math.h>

enum { THRESHOLD, SHARED };

static pr_status observe(const prP_map *map, const pr_arg *args, double *value) {
  int64_t n = map->height * map->width;
  for (int64_t p = 0; p < map->positions; p++) {
    for (int64_t i = 0; i < n; i++) value[p] += fabs(map->x[p * n + i]) > args[THRESHOLD].real;
    value[p] /= (double)n;
  }
  return PR_OK;
}

static pr_status score(const pr_group *group, const pr_arg *args, const pr_statistics *statistics,
                       double *out) {
  if (!(args[THRESHOLD].real >= 0))
    return pr_fail(PR_ERR_ARGUMENT, "apoz: threshold must be at least 0, got %g", args[THRESHOLD].real);
  return prP_score_sites(group, statistics, args + SHARED, out);
}

PR_CRITERION(apoz) = {
  .name = "apoz",
  .args = { { "threshold", PR_ARG_REAL, .real = 0, .help = "what counts as zero: |x| up to this" },
            PRP_OPTIONS(PRP_MEAN, PRP_AS_IT_IS) },
  .needs = PR_NEED_INPUTS,
  .observe = observe,
  .score = score,
  .help =
      "Share of a unit's activations that are not zero (1 - APoZ, Hu et al. 2016). Needs data, no labels.",
};
