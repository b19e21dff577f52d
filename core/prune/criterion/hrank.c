/* hrank.c - average rank of a unit's feature maps over samples (HRank, Lin et al. 2020), before pooling and
 * flattening. A map of height x width has as many ranks as singular values above max(height, width) * 2^-23
 * of the largest. */
#include "prune/criterion.h"

#include "base/memory.h"
#include "prune/eigenvalues.h"

#include <float.h>
#include <math.h>

enum { SHARED };

/* room [n * n + 3 n], n the lesser of height and width */
static double rank_of(const double *image, int64_t height, int64_t width, double *room) {
  int64_t n = prP_gram(image, height, width, room);
  double *value = room + n * n, most = 0, rank = 0;
  prP_eigenvalues(room, n, value, value + n);
  double tolerance = (double)(height > width ? height : width) * FLT_EPSILON;
  for (int64_t i = 0; i < n; i++) most = fmax(most, value[i]);
  for (int64_t i = 0; i < n; i++) rank += value[i] > tolerance * tolerance * most;
  return rank;
}

enum { SLABS = 16 }; /* of positions: each has room of its own */

static pr_status observe(const prP_map *map, const pr_arg *args, double *value) {
  (void)args;
  int64_t h = map->height, w = map->width, n = h < w ? h : w, room = n * n + 3 * n;
  double *rooms = PRB_ARRAY(double, SLABS *room);
  if (!rooms) return PR_ERR_MEMORY;
#pragma omp parallel for schedule(static)
  for (int s = 0; s < SLABS; s++)
    for (int64_t p = map->positions * s / SLABS; p < map->positions * (s + 1) / SLABS; p++)
      value[p] = rank_of(map->x + p * h * w, h, w, rooms + s * room);
  PRB_ARRAY_FREE(rooms, SLABS * room);
  return PR_OK;
}

static pr_status score(const pr_group *group, const pr_arg *args, const pr_statistics *statistics,
                       double *out) {
  return prP_score_sites(group, statistics, args + SHARED, out);
}

PR_CRITERION(hrank) = {
  .name = "hrank",
  .args = { PRP_OPTIONS(PRP_MEAN, PRP_AS_IT_IS) },
  .needs = PR_NEED_MAPS,
  .observe = observe,
  .score = score,
  .help = "Average rank of a unit's feature maps (HRank, Lin et al. 2020). Needs data, no labels.",
};
