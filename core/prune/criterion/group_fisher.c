/* group_fisher.c - the empirical Fisher information of a mask on the unit (Liu et al. 2021): every layer that
 * reads the unit reads it times m_u = 1, the same m_u everywhere; for sample n, dL_n/dm_u = sum over these
 * layers, places and positions of x dL_n/dx, x what the layer reads and the gradient the one that comes back
 * through this layer. s = mean over n of (dL_n/dm_u)^2 / 2, divided by what the unit's removal saves: MACs,
 * or entries of the feature maps that its layers make. */
#include "prune/criterion.h"

#include "base/memory.h"
#include "prune/select.h"

enum { COST, NORMALIZER };
enum { BY_NOTHING, BY_MACS, BY_MEMORY };

static pr_status observe(const prP_map *map, const pr_arg *args, double *value) {
  (void)args;
  int64_t n = map->height * map->width;
  for (int64_t p = 0; p < map->positions; p++)
    for (int64_t i = 0; i < n; i++) value[p] += map->x[p * n + i] * map->dx[p * n + i];
  return PR_OK;
}

/* --- what a unit costs ------------------------------------------------------------------------------------------- */

/* Units that touch the same axes cost the same: a hash of these tells when to measure anew. */
static uint64_t kind_of(const prC_units *units, int32_t unit) {
  uint64_t hash = 14695981039346656037u;
  for (int64_t m = units->start[unit]; m < units->start[unit + 1]; m++)
    hash =
        (hash ^ (uint64_t)(units->member[m].parameter * PR_MAX_DIM + units->member[m].axis)) * 1099511628211u;
  return hash;
}

static pr_status macs_saved(const pr_group *group, double *saved) {
  pr_pruning *pruning = group->pruning;
  int32_t units = pruning->units.count;
  unsigned char *dead = PRB_ARRAY(unsigned char, units);
  pr_outcome before, after;
  pr_status status = dead ? pr_outcome_of(pruning, dead, &before) : PR_ERR_MEMORY;
  for (int32_t u = 0; u < group->size && !status; u++) {
    int32_t unit = group->unit[u];
    if (u > 0 && kind_of(&pruning->units, unit) == kind_of(&pruning->units, group->unit[u - 1])) {
      saved[u] = saved[u - 1];
      continue;
    }
    dead[unit] = 1;
    status = pr_outcome_of(pruning, dead, &after);
    dead[unit] = 0;
    saved[u] = (double)(before.macs - after.macs);
  }
  PRB_ARRAY_FREE(dead, units);
  return status;
}

typedef struct filling {
  const int32_t *place;
  double entries, *saved;
} filling;

static void fill(void *ctx, int64_t position, int32_t unit) {
  filling *f = ctx;
  (void)position;
  if (f->place[unit] >= 0) f->saved[f->place[unit]] += f->entries;
}

/* Does the layer make units of the group's scope: has it a parameter axis that is a producer? */
static bool is_layer(const pr_pruning *pruning, const pr_graph_node *node) {
  for (int i = 0; i < node->n_in; i++)
    if (node->in[i] >= 0 && pruning->values[node->in[i]].producer) return true;
  return false;
}

static pr_status entries_saved(const pr_group *group, double *saved) {
  pr_pruning *pruning = group->pruning;
  const pr_graph *graph = pruning->graph;
  int32_t units = pruning->units.count, *place = PRB_ARRAY(int32_t, units);
  if (!place) return PR_ERR_MEMORY;
  for (int32_t u = 0; u < units; u++) place[u] = -1;
  for (int32_t u = 0; u < group->size; u++) place[group->unit[u]] = u, saved[u] = 0;
  for (int n = 0; n < graph->n_nodes; n++) {
    if (!is_layer(pruning, &graph->nodes[n]) || graph->nodes[n].n_out == 0) continue;
    int v = graph->nodes[n].out[0];
    double entries = 1;
    for (int d = 0; d < graph->values[v].dim; d++) entries *= (double)graph->values[v].shape[d];
    for (int a = 0; a < graph->values[v].dim; a++) {
      filling f = { place, entries / (double)graph->values[v].shape[a], saved };
      prP_each_unit(pruning, v, a, fill, &f);
    }
  }
  PRB_ARRAY_FREE(place, units);
  return PR_OK;
}

static pr_status divide_by_cost(const pr_group *group, int cost, double *out) {
  if (cost == BY_NOTHING) return PR_OK;
  double *saved = PRB_ARRAY(double, group->size);
  pr_status status = !saved            ? PR_ERR_MEMORY
                     : cost == BY_MACS ? macs_saved(group, saved)
                                       : entries_saved(group, saved);
  for (int32_t u = 0; u < group->size && !status; u++)
    if (saved[u] > 0) out[u] /= saved[u];
  PRB_ARRAY_FREE(saved, group->size);
  return status;
}

static pr_status score(const pr_group *group, const pr_arg *args, const pr_statistics *s, double *out) {
  pr_arg plain[3] = { { .integer = PRP_SUM }, { .integer = PRP_AS_IT_IS } };
  PR_TRY(prP_score_sites(group, s, plain, out)); /* fails where no layer reads a unit */
  for (int32_t u = 0; u < group->size; u++) out[u] = 0.5 * s->squared[group->unit[u]] / (double)s->samples;
  PR_TRY(divide_by_cost(group, (int)args[COST].integer, out));
  return prP_normalize(args + NORMALIZER, out, group->size);
}

PR_CRITERION(group_fisher) = {
  .name = "group_fisher",
  .args = { { "cost", PR_ARG_CHOICE, .integer = BY_MACS, .choices = "none macs memory",
              .help = "what divides the score: nothing, MACs or feature-map entries that the unit's removal "
                      "saves" },
            PRP_NORMALIZING(PRP_AS_IT_IS) },
  .needs = PR_NEED_MASK_GRADIENTS,
  .observe = observe,
  .score = score,
  .help =
      "Fisher information of a mask on the unit, over all layers that read it, per MAC or memory saved (Liu "
      "et al. 2021): for global ranking. Needs data and a loss that is a mean over the batch.",
};
