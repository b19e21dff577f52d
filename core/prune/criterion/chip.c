/* chip.c - channel independence (CHIP, Sui et al. 2021): with the matrix A [channels, height * width] of a
 * sample's feature maps, s_c = |A|_* - |A without row c|_*, nuclear norms (sums of singular values), averaged
 * over samples. A channel that is a combination of others changes the norm least. Costs one eigenvalue
 * problem of size min(channels, height * width) per channel and sample. */
#include "prune/criterion.h"

#include "base/memory.h"
#include "prune/eigenvalues.h"

#include <math.h>
#include <string.h>

enum { SHARED };

/* room [3 n]; destroys the matrix */
static double nuclear_norm(double *gram, int64_t n, double *room) {
  double sum = 0;
  prP_eigenvalues(gram, n, room, room + n);
  for (int64_t i = 0; i < n; i++) sum += room[i] > 0 ? sqrt(room[i]) : 0;
  return sum;
}

/* The inner products without row c of x: its row and column are gone, or its part of every sum. */
static int64_t without(const double *gram, int64_t n, const double *x, int64_t rows, int64_t columns,
                       int64_t c, double *out) {
  if (rows >= columns) {
    for (int64_t i = 0; i < n; i++)
      for (int64_t j = 0; j < n; j++)
        out[i * n + j] = gram[i * n + j] - x[c * columns + i] * x[c * columns + j];
    return n;
  }
  for (int64_t i = 0, to = 0; i < n; i++)
    for (int64_t j = 0; j < n; j++)
      if (i != c && j != c) out[to++] = gram[i * n + j];
  return n - 1;
}

enum { SLABS = 16 }; /* of channels: each has room of its own */

static pr_status observe(const prP_map *map, const pr_arg *args, double *value) {
  (void)args;
  int64_t rows = map->positions, columns = map->height * map->width, n = rows < columns ? rows : columns;
  int64_t room = n * n + 3 * n;
  double *rooms = PRB_ARRAY(double, (SLABS + 1) * room), *gram = rooms + SLABS * room;
  if (!rooms) return PR_ERR_MEMORY;
  prP_gram(map->x, rows, columns, gram);
  memcpy(rooms, gram, (size_t)(n * n) * sizeof *gram);
  double whole = nuclear_norm(rooms, n, rooms + n * n);
#pragma omp parallel for schedule(static)
  for (int s = 0; s < SLABS; s++)
    for (int64_t c = rows * s / SLABS; c < rows * (s + 1) / SLABS; c++) {
      double *own = rooms + s * room;
      int64_t left = without(gram, n, map->x, rows, columns, c, own);
      value[c] = whole - nuclear_norm(own, left, own + n * n);
    }
  PRB_ARRAY_FREE(rooms, (SLABS + 1) * room);
  return PR_OK;
}

static pr_status score(const pr_group *group, const pr_arg *args, const pr_statistics *statistics,
                       double *out) {
  return prP_score_sites(group, statistics, args + SHARED, out);
}

PR_CRITERION(chip) = {
  .name = "chip",
  .args = { PRP_OPTIONS(PRP_MEAN, PRP_AS_IT_IS) },
  .needs = PR_NEED_MAPS,
  .observe = observe,
  .score = score,
  .help =
      "Channel independence: how much the nuclear norm of the feature maps falls without the unit (CHIP, Sui "
      "et al. 2021). Needs data, no labels.",
};
