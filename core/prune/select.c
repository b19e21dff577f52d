/* select.c - every choice is a count per scope; the units of lowest score make the count up. */
#include "prune/select.h"

#include "base/memory.h"
#include "prune/removal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- costs ------------------------------------------------------------------------------------------------------------------ */

static pr_status macs_of(pr_pruning *pruning, int64_t (*sizes)[PR_MAX_DIM], int64_t *macs) {
  const pr_graph *graph = pruning->graph;
  int64_t batch = graph->batch > 0 ? graph->batch : 1;
  *macs = 0;
  for (int n = 0; n < graph->n_nodes; n++) {
    const pr_graph_node *node = &graph->nodes[n];
    pr_call call;
    if (!node->op->macs) continue;
    PR_TRY(prG_node_call(graph, node, &call));
    for (int i = 0; i < node->n_in; i++)
      if (call.in[i]) memcpy(call.in[i]->shape, sizes[node->in[i]], sizeof call.in[i]->shape);
    for (int k = 0; k < node->n_out; k++)
      memcpy(call.out[k]->shape, sizes[node->out[k]], sizeof call.out[k]->shape);
    *macs += node->op->macs(&call) / batch;
    prG_call_free(&call);
  }
  return PR_OK;
}

pr_status pr_outcome_of(pr_pruning *pruning, const unsigned char *dead_unit, pr_outcome *outcome) {
  const pr_graph *graph = pruning->graph;
  *outcome = (pr_outcome){ 0 };
  int64_t(*sizes)[PR_MAX_DIM] = prB_zeroed((size_t)graph->n_values, sizeof *sizes);
  if (!sizes) return PR_ERR_MEMORY;
  pr_status status = prP_sizes_after(pruning, dead_unit, sizes);
  if (!status) status = macs_of(pruning, sizes, &outcome->macs);
  for (int v = 0; v < graph->n_values && !status; v++) {
    if (graph->values[v].kind != PR_VALUE_PARAMETER || graph->values[v].is_buffer) continue;
    int64_t count = 1;
    for (int d = 0; d < graph->values[v].dim; d++) count *= sizes[v][d];
    outcome->params += count;
  }
  for (int32_t u = 0; u < pruning->units.count; u++) outcome->units += dead_unit[u] != 0;
  prB_resize(sizes, (size_t)graph->n_values * sizeof *sizes, 0);
  return status;
}

/* --- ranking ----------------------------------------------------------------------------------------------------------------- */

typedef struct ranked {
  double score;
  int32_t unit, scope; /* scope: position in the list of scopes */
} ranked;

static int compare(const void *a, const void *b) {
  const ranked *x = a, *y = b;
  if (x->score != y->score) return x->score > y->score ? 1 : -1;
  return (x->unit > y->unit) - (x->unit < y->unit);
}

typedef struct chooser {
  pr_pruning *pruning;
  const pr_selection *how;
  int n;          /* scopes */
  int32_t *first; /* [n + 1] where a scope begins in `local` */
  ranked *local;  /* units by scope, ascending by score */
  ranked *global; /* all units, ascending by score */
  int32_t total;
  int32_t *count;      /* [n] units of each scope that go */
  unsigned char *dead; /* [units.count], the caller's */
} chooser;

static void chooser_free(chooser *c) {
  PRB_ARRAY_FREE(c->first, c->n + 1);
  PRB_ARRAY_FREE(c->local, c->total);
  PRB_ARRAY_FREE(c->global, c->total);
  PRB_ARRAY_FREE(c->count, c->n);
}

static pr_status chooser_make(chooser *c, const int *scope, const double *score) {
  const prC_units *units = &c->pruning->units;
  for (int s = 0; s < c->n; s++) c->total += units->scope_start[scope[s] + 1] - units->scope_start[scope[s]];
  c->first = PRB_ARRAY(int32_t, c->n + 1), c->count = PRB_ARRAY(int32_t, c->n);
  c->local = PRB_ARRAY(ranked, c->total), c->global = PRB_ARRAY(ranked, c->total);
  if (!c->first || !c->count || !c->local || !c->global) return PR_ERR_MEMORY;
  int32_t at = 0;
  for (int s = 0; s < c->n; s++) {
    for (int32_t i = units->scope_start[scope[s]]; i < units->scope_start[scope[s] + 1]; i++) {
      int32_t unit = units->scope_unit[i];
      if (isnan(score[unit]))
        return pr_fail(PR_ERR_ARGUMENT, "the criterion gives NaN for unit %lld", PR_INDEX(unit));
      c->local[at++] = (ranked){ score[unit], unit, s };
    }
    c->first[s + 1] = at;
    qsort(c->local + c->first[s], (size_t)(at - c->first[s]), sizeof *c->local, compare);
  }
  memcpy(c->global, c->local, (size_t)c->total * sizeof *c->global);
  qsort(c->global, (size_t)c->total, sizeof *c->global, compare);
  return PR_OK;
}

/* --- counts -> units ----------------------------------------------------------------------------------------------------------- */

static int32_t rounded(const pr_selection *how, int32_t size, int32_t gone) {
  int32_t kept = size - gone, k = how->round_to;
  if (k <= 1 || gone == 0) return gone;
  if (how->rounding == PR_ROUND_UP)
    kept = (kept + k - 1) / k * k;
  else if (how->rounding == PR_ROUND_NEAREST)
    kept = (kept + k / 2) / k * k;
  else
    kept = kept / k * k;
  return kept <= 0 || kept > size ? 0 : size - kept; /* a group that would vanish stays whole */
}

/* Kill the lowest `count` of each scope, as far as floors allow. */
static pr_status kill(chooser *c) {
  prC_floors floors;
  memset(c->dead, 0, (size_t)c->pruning->units.count);
  PR_TRY(prC_floors_open(&floors, &c->pruning->units, c->pruning->values, c->pruning->graph->n_values));
  for (int s = 0; s < c->n; s++) {
    int32_t size = c->first[s + 1] - c->first[s], left = rounded(c->how, size, c->count[s]);
    for (int32_t i = c->first[s]; i < c->first[s + 1] && left > 0; i++) {
      if (!prC_floors_kill(&floors, c->local[i].unit)) continue;
      c->dead[c->local[i].unit] = 1, left--;
    }
  }
  prC_floors_close(&floors);
  return PR_OK;
}

static int32_t floor_count(double ratio, int32_t n) { return (int32_t)floor(ratio * n + 1e-6); }

/* How far: `step` of `steps`. Local: every scope loses the same share; global: the lowest `step` units go. */
static void set_counts(chooser *c, int64_t step, int64_t steps) {
  memset(c->count, 0, (size_t)c->n * sizeof *c->count);
  if (c->how->global) {
    for (int64_t i = 0; i < step && i < c->total; i++) c->count[c->global[i].scope]++;
  } else {
    for (int s = 0; s < c->n; s++)
      c->count[s] = floor_count((double)step / (double)steps, c->first[s + 1] - c->first[s]);
  }
}

static double measure(const pr_selection *how, const pr_outcome *outcome) {
  return how->target == PR_TARGET_MACS ? (double)outcome->macs : (double)outcome->params;
}

enum { LOCAL_STEPS = 4096 };

/* The least step that meets the target: costs fall with every step. */
static pr_status search(chooser *c, pr_outcome *outcome) {
  int64_t steps = c->how->global ? c->total : LOCAL_STEPS, low = 0, high = steps;
  set_counts(c, high, steps);
  PR_TRY(kill(c));
  PR_TRY(pr_outcome_of(c->pruning, c->dead, outcome));
  if (measure(c->how, outcome) > c->how->amount)
    return pr_fail(
        PR_ERR_ARGUMENT,
        "the target of %.0f %s cannot be met: with one unit left in every group there are still %.0f",
        c->how->amount, c->how->target == PR_TARGET_MACS ? "MACs" : "parameters", measure(c->how, outcome));
  while (low < high) {
    int64_t middle = (low + high) / 2;
    set_counts(c, middle, steps);
    PR_TRY(kill(c));
    PR_TRY(pr_outcome_of(c->pruning, c->dead, outcome));
    if (measure(c->how, outcome) <= c->how->amount)
      high = middle;
    else
      low = middle + 1;
  }
  set_counts(c, high, steps);
  PR_TRY(kill(c));
  return pr_outcome_of(c->pruning, c->dead, outcome);
}

static pr_status choose(chooser *c, pr_outcome *outcome) {
  const pr_selection *how = c->how;
  if (how->target != PR_TARGET_RATIO) return search(c, outcome);
  if (how->global)
    set_counts(c, floor_count(how->amount, c->total), c->total);
  else
    for (int s = 0; s < c->n; s++) c->count[s] = floor_count(how->amount, c->first[s + 1] - c->first[s]);
  PR_TRY(kill(c));
  return pr_outcome_of(c->pruning, c->dead, outcome);
}

pr_status pr_select(pr_pruning *pruning, const pr_selection *how, const int *scope, int n,
                    const double *score, unsigned char *dead_unit, pr_outcome *outcome) {
  if (how->target == PR_TARGET_RATIO && !(how->amount >= 0 && how->amount <= 1))
    return pr_fail(PR_ERR_ARGUMENT, "the ratio must be in 0..1, got %g", how->amount);
  if (how->target != PR_TARGET_RATIO && !(how->amount > 0))
    return pr_fail(PR_ERR_ARGUMENT, "the target must be above 0, got %g", how->amount);
  if (how->round_to < 1)
    return pr_fail(PR_ERR_ARGUMENT, "round_to must be at least 1, got %d", how->round_to);
  chooser c = { .pruning = pruning, .how = how, .n = n, .dead = dead_unit };
  pr_status status = chooser_make(&c, scope, score);
  if (!status) status = choose(&c, outcome);
  chooser_free(&c);
  return status;
}
