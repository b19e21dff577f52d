/* activation.c - s = mean of |x| over samples and places of what the next layers read of a unit (mean
 * absolute activation; Molchanov et al. 2017 compare it with others). */
#include "prune/criterion.h"

#include <math.h>

enum { SHARED };

static pr_status observe(const prP_map *map, const pr_arg *args, double *value) {
  (void)args;
  int64_t n = map->height * map->width;
  for (int64_t p = 0; p < map->positions; p++) {
    for (int64_t i = 0; i < n; i++) value[p] += fabs(map->x[p * n + i]);
    value[p] /= (double)n;
  }
  return PR_OK;
}

static pr_status score(const pr_group *group, const pr_arg *args, const pr_statistics *statistics,
                       double *out) {
  return prP_score_sites(group, statistics, args + SHARED, out);
}

PR_CRITERION(activation) = {
  .name = "activation",
  .args = { PRP_OPTIONS(PRP_MEAN, PRP_BY_MEAN) },
  .needs = PR_NEED_INPUTS,
  .observe = observe,
  .score = score,
  .help = "Mean absolute activation of a unit, as the next layers read it. Needs data, no labels.",
};
