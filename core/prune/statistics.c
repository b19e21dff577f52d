/* statistics.c - gathering what criteria need: tensors beside the parameters, and the sites where the graph
 * is observed. */
#include "prune/criterion.h"

#include "autograd/autograd.h"
#include "base/memory.h"

#include <string.h>

const char *const pr_need_names[] = { "nothing",  "gradients", "squares", "hessian",        "flow",
                                      "movement", "inputs",    "maps",    "mask_gradients", NULL };

/* --- sites: where units show --------------------------------------------------------------------------------------- */

void prP_each_unit(pr_pruning *pruning, int value, int axis,
                   void (*visit)(void *ctx, int64_t position, int32_t unit), void *ctx) {
  const prC_value *v = &pruning->values[value];
  pr_element factors[PRC_MONO];
  for (int64_t p = 0; v->label[axis] && p < v->shape[axis]; p++) {
    int n = prC_mono(&pruning->algebra, v->label[axis]->id[p], factors);
    for (int i = 0; i < n; i++) {
      int32_t unit = (size_t)factors[i] < pruning->units.elements ? pruning->units.unit_of[factors[i]] : -1;
      if (unit >= 0) visit(ctx, p, unit);
    }
  }
}

/* Which scopes an axis carries: `mark` them, or look whether one is marked. */
typedef struct scope_marks {
  const int32_t *scope;
  unsigned char *mark;
  bool writes, found;
} scope_marks;

static void meet_scope(void *ctx, int64_t position, int32_t unit) {
  scope_marks *marks = ctx;
  (void)position;
  if (marks->writes) marks->mark[marks->scope[unit]] = 1;
  marks->found = marks->found || marks->mark[marks->scope[unit]];
}

static void mark_scopes(pr_pruning *pruning, int value, int axis, unsigned char *mark) {
  scope_marks marks = { pruning->units.scope, mark, true, false };
  prP_each_unit(pruning, value, axis, meet_scope, &marks);
}

/* The axis of a value that carries a marked scope, or -1. */
static int marked_axis(pr_pruning *pruning, int value, unsigned char *mark) {
  for (int a = 0; a < pruning->values[value].dim; a++) {
    scope_marks marks = { pruning->units.scope, mark, false, false };
    prP_each_unit(pruning, value, a, meet_scope, &marks);
    if (marks.found) return a;
  }
  return -1;
}

/* Operators after which a channel's image is not there any more. */
static bool folds_space(const pr_op *op) {
  static const char *const names[] = { "flatten",
                                       "reshape",
                                       "squeeze",
                                       "squeeze_dims",
                                       "adaptive_avg_pool2d",
                                       "avg_pool2d",
                                       "max_pool2d",
                                       "adaptive_max_pool2d",
                                       "adaptive_avg_pool1d",
                                       "avg_pool1d",
                                       "max_pool1d",
                                       "mean",
                                       "amax",
                                       "dropout" };
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (strcmp(op->name, names[i]) == 0) return true;
  return false;
}

/* The axis of another value that carries all scopes that a site's axis does, or -1: heads and their widths,
 * which are parted there, stay together. `room` [2 scopes]. */
static int same_axis(pr_pruning *pruning, const pr_site *site, int value, unsigned char *room) {
  size_t scopes = (size_t)pruning->units.scopes;
  unsigned char *wanted = room, *found = room + scopes;
  memset(wanted, 0, scopes);
  mark_scopes(pruning, site->value, site->axis, wanted);
  for (int a = 0; a < pruning->values[value].dim; a++) {
    memset(found, 0, scopes);
    mark_scopes(pruning, value, a, found);
    bool all = true;
    for (size_t k = 0; k < scopes && all; k++) all = found[k] || !wanted[k];
    if (all) return a;
  }
  return -1;
}

/* Go back to where the images of a site's units were not yet folded. */
static pr_status unfold(pr_statistics *s, pr_site *site) {
  const pr_graph *graph = s->pruning->graph;
  size_t scopes = (size_t)s->pruning->units.scopes;
  unsigned char *room = PRB_ARRAY(unsigned char, 2 * scopes);
  if (!room) return PR_ERR_MEMORY;
  while (graph->values[site->value].kind == PR_VALUE_RESULT) {
    int maker = graph->values[site->value].node, from = graph->nodes[maker].in[0], axis;
    if (!folds_space(graph->nodes[maker].op) || graph->values[from].kind != PR_VALUE_RESULT) break;
    if ((axis = same_axis(s->pruning, site, from, room)) < 0) break;
    *site = (pr_site){ .node = maker, .value = from, .axis = axis };
  }
  PRB_ARRAY_FREE(room, 2 * scopes);
  return PR_OK;
}

static pr_status add_site(pr_statistics *s, pr_site site) {
  const pr_graph *graph = s->pruning->graph;
  if (s->criterion->needs == PR_NEED_MAPS) PR_TRY(unfold(s, &site));
  for (int i = 0; i < s->n_sites; i++)
    if (s->site[i].node == site.node && s->site[i].input == site.input && s->site[i].axis == site.axis)
      return PR_OK;
  PR_TRY(PRB_RESERVE(s->site, s->site_room, (size_t)s->n_sites + 1));
  site.size = graph->values[site.value].shape[site.axis];
  site.sum = PRB_ARRAY(double, site.size);
  if (!site.sum) return PR_ERR_MEMORY;
  s->site[s->n_sites++] = site;
  return PR_OK;
}

/* What a node with a parameter that takes units in reads. */
static pr_status add_consumer(pr_statistics *s, int n, unsigned char *mark, unsigned char *covered) {
  pr_pruning *pruning = s->pruning;
  const pr_graph_node *node = &pruning->graph->nodes[n];
  int scopes = pruning->units.scopes;
  memset(mark, 0, (size_t)scopes);
  for (int i = 0; i < node->n_in; i++)
    for (int a = 0; node->in[i] >= 0 && a < pruning->values[node->in[i]].dim; a++)
      if (pruning->values[node->in[i]].consumer >> a & 1) mark_scopes(pruning, node->in[i], a, mark);
  for (int i = 0; i < node->n_in; i++) {
    int v = node->in[i], axis;
    if (v < 0 || pruning->graph->values[v].kind != PR_VALUE_RESULT) continue;
    if ((axis = marked_axis(pruning, v, mark)) < 0) continue;
    PR_TRY(add_site(s, (pr_site){ .node = n, .input = i, .value = v, .axis = axis }));
    mark_scopes(pruning, v, axis, covered);
  }
  return PR_OK;
}

/* Units that no parameter takes in (queries and keys of attention): what first reads what their layer makes.
 */
static pr_status add_produced(pr_statistics *s, int n, unsigned char *mark, const unsigned char *covered) {
  pr_pruning *pruning = s->pruning;
  const pr_graph *graph = pruning->graph;
  const pr_graph_node *node = &graph->nodes[n];
  int scopes = pruning->units.scopes, v = node->n_out > 0 ? node->out[0] : -1, axis;
  memset(mark, 0, (size_t)scopes);
  for (int i = 0; i < node->n_in; i++)
    for (int a = 0; node->in[i] >= 0 && a < pruning->values[node->in[i]].dim; a++)
      if (pruning->values[node->in[i]].producer >> a & 1) mark_scopes(pruning, node->in[i], a, mark);
  for (int k = 0; k < scopes; k++) mark[k] = mark[k] && !covered[k];
  if (v < 0 || (axis = marked_axis(pruning, v, mark)) < 0) return PR_OK;
  for (int m = n + 1; m < graph->n_nodes; m++)
    for (int i = 0; i < graph->nodes[m].n_in; i++)
      if (graph->nodes[m].in[i] == v)
        return add_site(s, (pr_site){ .node = m, .input = i, .value = v, .axis = axis });
  return PR_OK;
}

static pr_status find_sites(pr_statistics *s) {
  int scopes = s->pruning->units.scopes, nodes = s->pruning->graph->n_nodes;
  unsigned char *mark = PRB_ARRAY(unsigned char, scopes), *covered = PRB_ARRAY(unsigned char, scopes);
  pr_status status = mark && covered ? PR_OK : PR_ERR_MEMORY;
  for (int n = 0; n < nodes && !status; n++) status = add_consumer(s, n, mark, covered);
  for (int n = 0; n < nodes && !status; n++) status = add_produced(s, n, mark, covered);
  PRB_ARRAY_FREE(mark, scopes);
  PRB_ARRAY_FREE(covered, scopes);
  return status;
}

/* --- making and freeing ---------------------------------------------------------------------------------------------- */

pr_statistics *pr_statistics_new(pr_pruning *pruning, const pr_criterion *criterion, const pr_arg *args) {
  pr_statistics *s = PRB_NEW(pr_statistics);
  if (!s) return NULL;
  s->pruning = pruning, s->generation = pruning->generation, s->criterion = criterion;
  memcpy(s->args, args, sizeof s->args);
  s->values = pruning->graph->n_values, s->units = pruning->units.count;
  s->tensor = PRB_ARRAY(pr_tensor *, s->values);
  s->squared = PRB_ARRAY(double, s->units);
  pr_status status = s->tensor && s->squared ? PR_OK : PR_ERR_MEMORY;
  if (!status && criterion->observe) status = find_sites(s);
  s->seen = PRB_ARRAY(prP_seen, s->n_sites);
  if (!status && (s->seen || s->n_sites == 0)) return s;
  pr_statistics_free(s);
  return NULL;
}

void prP_forget_batch(pr_statistics *s) {
  for (int i = 0; s->seen && i < s->n_sites; i++) {
    prP_seen *seen = &s->seen[i];
    if (seen->hook) pr_hook_remove(seen->x, seen->hook);
    pr_release(seen->x), pr_release(seen->dx);
    *seen = (prP_seen){ 0 };
  }
}

void pr_statistics_free(pr_statistics *s) {
  if (!s) return;
  prP_forget_batch(s);
  for (int v = 0; s->tensor && v < s->values; v++) pr_release(s->tensor[v]);
  for (int i = 0; i < s->n_sites; i++) PRB_ARRAY_FREE(s->site[i].sum, s->site[i].size);
  PRB_ARRAY_FREE(s->tensor, s->values);
  PRB_ARRAY_FREE(s->squared, s->units);
  PRB_ARRAY_FREE(s->seen, s->n_sites);
  PRB_ARRAY_FREE(s->site, s->site_room);
  PRB_FREE(s);
}

pr_status prP_statistics_current(const pr_statistics *s) {
  if (s->generation == s->pruning->generation) return PR_OK;
  return pr_fail(PR_ERR_STATE, "the graph was pruned after these statistics were begun");
}

pr_status pr_statistics_set(pr_statistics *s, int value, pr_tensor *t) {
  PR_TRY(prP_statistics_current(s));
  const pr_graph_value *v = &s->pruning->graph->values[value];
  if (t->dim != v->dim || memcmp(t->shape, v->shape, (size_t)v->dim * sizeof *v->shape) ||
      !pr_dtype_is_float(t->dtype))
    return pr_fail(PR_ERR_SHAPE, "'%s': a float tensor of the parameter's shape is needed",
                   prG_value_name(s->pruning->graph, value));
  pr_retain(t);
  pr_release(s->tensor[value]);
  s->tensor[value] = t;
  return PR_OK;
}
