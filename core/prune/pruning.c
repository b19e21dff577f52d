/* pruning.c - coupling a graph, and groups of its units. */
#include "prune/pruning.h"

#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- coupling ---------------------------------------------------------------------------------------------------------- */

pr_status prP_node_coupling(pr_pruning *pruning, int n, pr_call *call, prC_value **room,
                            pr_coupling *coupling) {
  const pr_graph_node *node = &pruning->graph->nodes[n];
  PR_TRY(prG_node_call(pruning->graph, node, call));
  *coupling = (pr_coupling){ .algebra = &pruning->algebra,
                             .call = call,
                             .node = n,
                             .inputs = node->n_in,
                             .outputs = node->n_out,
                             .in = room,
                             .out = room + node->n_in,
                             .slots = pruning->slots[n] };
  for (int i = 0; i < node->n_in; i++) room[i] = node->in[i] < 0 ? NULL : &pruning->values[node->in[i]];
  for (int k = 0; k < node->n_out; k++) room[node->n_in + k] = &pruning->values[node->out[k]];
  return PR_OK;
}

static void couple_node(pr_pruning *pruning, int n, pr_coupling *coupling) {
  const pr_graph_node *node = &pruning->graph->nodes[n];
  if (node->op->couple) {
    node->op->couple(coupling);
  } else {
    char reason[96];
    snprintf(reason, sizeof reason, "%s has no coupling rule", node->op->name);
    for (int i = 0; i < node->n_in; i++)
      if (node->in[i] >= 0) prC_pin_all(coupling, PRC_IN(i), reason);
  }
  prC_mark_weights(coupling);
  pruning->slots[n] = coupling->slots;
}

static int most_tensors(const pr_graph *graph) {
  int most = 1;
  for (int n = 0; n < graph->n_nodes; n++)
    if (graph->nodes[n].n_in + graph->nodes[n].n_out > most)
      most = graph->nodes[n].n_in + graph->nodes[n].n_out;
  return most;
}

static void constant_open(const pr_graph_value *value, prC_value *of) {
  const pr_tensor *t = value->tensor;
  prC_value_constant(of, value->dim, value->shape);
  if (t && t->storage && t->device == PR_CPU && pr_numel(t) == 1) of->number = prT_get(t, 0);
}

pr_status prP_couple(pr_pruning *pruning, void (*after)(void *ctx, int node), void *ctx) {
  const pr_graph *graph = pruning->graph;
  for (int v = 0; v < graph->n_values; v++) {
    const pr_graph_value *value = &graph->values[v];
    if (value->kind == PR_VALUE_PARAMETER)
      prC_value_parameter(&pruning->values[v], value->dim, value->shape);
    else if (value->kind == PR_VALUE_CONSTANT)
      constant_open(value, &pruning->values[v]);
    else
      prC_value_activation(&pruning->values[v], value->dim, value->shape);
  }
  int most = most_tensors(graph);
  prC_value **room = PRB_ARRAY(prC_value *, most);
  pr_status status = room ? PR_OK : PR_ERR_MEMORY;
  for (int n = 0; n < graph->n_nodes && !status; n++) {
    pr_call call;
    pr_coupling coupling;
    if ((status = prP_node_coupling(pruning, n, &call, room, &coupling))) break;
    couple_node(pruning, n, &coupling);
    prG_call_free(&call);
    if (after) after(ctx, n);
    status = pruning->algebra.status;
  }
  for (int k = 0; k < graph->n_outputs; k++)
    prC_value_pin(&pruning->algebra, &pruning->values[graph->outputs[k]]);
  PRB_ARRAY_FREE(room, most);
  return status ? status : pruning->algebra.status;
}

static uint64_t last_generation;

pr_pruning *pr_pruning_new(pr_graph *graph) {
  pr_pruning *pruning = PRB_NEW(pr_pruning);
  if (!pruning) return NULL;
  pruning->graph = graph, pruning->generation = ++last_generation;
  if (prC_algebra_open(&pruning->algebra)) {
    PRB_FREE(pruning);
    return NULL;
  }
  pruning->values = PRB_ARRAY(prC_value, graph->n_values);
  pruning->slots = PRB_ARRAY(prC_slots *, graph->n_nodes);
  pruning->role = PRB_ARRAY(unsigned char, graph->n_values);
  pr_status status =
      pruning->values && pruning->slots && pruning->role ? prP_couple(pruning, NULL, NULL) : PR_ERR_MEMORY;
  if (!status)
    status = prC_units_open(&pruning->units, &pruning->algebra, pruning->values, graph->n_values, false);
  if (!status) return pruning;
  pr_pruning_free(pruning);
  return NULL;
}

void pr_pruning_free(pr_pruning *pruning) {
  if (!pruning) return;
  prC_units_close(&pruning->units);
  prC_algebra_close(&pruning->algebra);
  PRB_ARRAY_FREE(pruning->values, pruning->graph->n_values);
  PRB_ARRAY_FREE(pruning->slots, pruning->graph->n_nodes);
  PRB_ARRAY_FREE(pruning->role, pruning->graph->n_values);
  PRB_FREE(pruning);
}

/* --- groups ------------------------------------------------------------------------------------------------------------ */

static pr_group *group_new(pr_pruning *pruning, int32_t size) {
  pr_group *group = PRB_NEW(pr_group);
  if (!group) return NULL;
  group->pruning = pruning, group->generation = pruning->generation, group->size = size;
  if ((group->unit = PRB_ARRAY(int32_t, size))) return group;
  PRB_FREE(group);
  return NULL;
}

void pr_group_free(pr_group *group) {
  if (!group) return;
  PRB_ARRAY_FREE(group->unit, group->size);
  PRB_FREE(group);
}

pr_status prP_group_check(const pr_group *group) {
  if (group->generation == group->pruning->generation) return PR_OK;
  return pr_fail(PR_ERR_STATE,
                 "the graph was pruned after this group was made; ask the graph for the group again");
}

/* Why position `index` has no unit: the note of a rule that pinned its label, else what is pinned everywhere.
 */
static pr_status pinned(pr_pruning *pruning, int value, int axis, int64_t index) {
  return pr_fail(PR_ERR_ARGUMENT,
                 "index %lld of axis %lld of '%s' cannot be removed: it is pinned (inputs and outputs of the "
                 "model, kernel and space axes, and what "
                 "an operator mixes with other values stay; graph:why tells more)",
                 PR_INDEX(index), PR_INDEX(axis), prG_value_name(pruning->graph, value));
}

/* The unit that a position stands for, or -1. */
static int32_t unit_at(pr_pruning *pruning, int value, int axis, int64_t index) {
  const pr_label *label = pruning->values[value].label[axis];
  if (!label) return -1;
  enum { MOST_FACTORS = 64 };
  pr_element factors[MOST_FACTORS];
  int n = prC_mono(&pruning->algebra, label->id[index], factors);
  int32_t best = -1;
  for (int i = 0; i < n && i < MOST_FACTORS; i++) {
    int32_t unit = (size_t)factors[i] < pruning->units.elements ? pruning->units.unit_of[factors[i]] : -1;
    if (unit >= 0 && (best < 0 || pruning->units.primary[pruning->units.scope[unit]])) best = unit;
  }
  return best;
}

static int ascending(const void *a, const void *b) {
  int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
  return (x > y) - (x < y);
}

pr_group *pr_group_of(pr_pruning *pruning, int value, int axis, const int64_t *index, int64_t n) {
  const pr_graph_value *v = &pruning->graph->values[value];
  if (v->tensor && !(v->tensor->dim == v->dim &&
                     memcmp(v->tensor->shape, v->shape, (size_t)v->dim * sizeof *v->shape) == 0)) {
    pr_fail(PR_ERR_STATE,
            "'%s' has changed its shape since the graph was made; trace the model again (prune.graph)",
            prG_value_name(pruning->graph, value));
    return NULL;
  }
  if (axis < 0) axis += v->dim;
  if (axis < 0 || axis >= v->dim) {
    pr_fail(PR_ERR_INDEX, "'%s' has %d axes, there is no axis %lld", prG_value_name(pruning->graph, value),
            v->dim, PR_INDEX(axis));
    return NULL;
  }
  pr_group *group = group_new(pruning, (int32_t)n);
  if (!group) return NULL;
  int32_t kept = 0;
  for (int64_t i = 0; i < n; i++) {
    if (index[i] < 0 || index[i] >= v->shape[axis]) {
      pr_fail(PR_ERR_INDEX, "index %lld is outside axis %lld of '%s', which has size %lld",
              PR_INDEX(index[i]), PR_INDEX(axis), prG_value_name(pruning->graph, value),
              (long long)v->shape[axis]);
      return pr_group_free(group), NULL;
    }
    int32_t unit = unit_at(pruning, value, axis, index[i]);
    if (unit < 0) {
      pinned(pruning, value, axis, index[i]);
      return pr_group_free(group), NULL;
    }
    group->unit[kept++] = unit;
  }
  qsort(group->unit, (size_t)kept, sizeof *group->unit, ascending);
  int32_t distinct = 0;
  for (int32_t i = 0; i < kept; i++)
    if (i == 0 || group->unit[i] != group->unit[i - 1]) group->unit[distinct++] = group->unit[i];
  pr_group *exact = group_new(pruning, distinct);
  if (exact) memcpy(exact->unit, group->unit, (size_t)distinct * sizeof *exact->unit);
  pr_group_free(group);
  return exact;
}

pr_status pr_pruning_scopes_by_members(pr_pruning *pruning, prC_units *fine) {
  return prC_units_open(fine, &pruning->algebra, pruning->values, pruning->graph->n_values, true);
}

pr_group *pr_group_scope(pr_pruning *pruning, int scope) {
  return pr_group_scope_of(pruning, &pruning->units, scope);
}

pr_group *pr_group_scope_of(pr_pruning *pruning, const prC_units *units, int scope) {
  int32_t from = units->scope_start[scope], n = units->scope_start[scope + 1] - from;
  pr_group *group = group_new(pruning, n);
  if (group) memcpy(group->unit, units->scope_unit + from, (size_t)n * sizeof *group->unit);
  return group;
}

pr_group *pr_group_pick(const pr_group *group, const int32_t *positions, int32_t n) {
  pr_group *picked = group_new(group->pruning, n);
  if (!picked) return NULL;
  picked->generation = group->generation;
  for (int32_t i = 0; i < n; i++) picked->unit[i] = group->unit[positions[i]];
  return picked;
}

/* --- parts ------------------------------------------------------------------------------------------------------------- */

void pr_parts_free(pr_part *parts, int n, int32_t group_size) {
  for (int i = 0; i < n; i++) {
    PRB_ARRAY_FREE(parts[i].start, group_size + 1);
    PRB_ARRAY_FREE(parts[i].position, parts[i].count);
  }
  PRB_ARRAY_FREE(parts, n);
}

/* A part's key is value * PR_MAX_DIM + axis. Counts the members of each in `slot` and lists the keys that
 * have some, in ascending order; returns how many. */
static int collect_keys(const pr_group *group, int32_t *slot, int *key) {
  const prC_units *units = &group->pruning->units;
  int n = 0;
  for (int32_t u = 0; u < group->size; u++) {
    for (int64_t m = units->start[group->unit[u]]; m < units->start[group->unit[u] + 1]; m++) {
      int k = units->member[m].parameter * PR_MAX_DIM + units->member[m].axis;
      if (slot[k]++ == 0) key[n++] = k;
    }
  }
  qsort(key, (size_t)n, sizeof *key, ascending);
  return n;
}

/* `slot`: members of each key; afterwards part numbers + 1. */
static pr_status make_parts(const pr_group *group, pr_part *parts, int32_t *slot, const int *key, int n) {
  for (int p = 0; p < n; p++) {
    int k = key[p];
    const prC_value *value = &group->pruning->values[k / PR_MAX_DIM];
    pr_part *part = &parts[p];
    part->value = k / PR_MAX_DIM, part->axis = k % PR_MAX_DIM, part->count = slot[k];
    part->producer = value->producer >> part->axis & 1, part->consumer = value->consumer >> part->axis & 1;
    part->start = PRB_ARRAY(int64_t, group->size + 1), part->position = PRB_ARRAY(int64_t, part->count);
    if (!part->start || !part->position) return PR_ERR_MEMORY;
    slot[k] = p + 1;
  }
  const prC_units *units = &group->pruning->units;
  for (int32_t u = 0; u < group->size; u++) {
    for (int i = 0; i < n; i++) parts[i].start[u + 1] = parts[i].start[u];
    for (int64_t m = units->start[group->unit[u]]; m < units->start[group->unit[u] + 1]; m++) {
      const prC_member *member = &units->member[m];
      pr_part *part = &parts[slot[member->parameter * PR_MAX_DIM + member->axis] - 1];
      part->position[part->start[u + 1]++] = member->position;
    }
  }
  return PR_OK;
}

pr_status pr_group_parts(const pr_group *group, pr_part **parts, int *n) {
  PR_TRY(prP_group_check(group));
  int keys = group->pruning->graph->n_values * PR_MAX_DIM;
  int32_t *slot = PRB_ARRAY(int32_t, keys);
  int *key = PRB_ARRAY(int, keys);
  *n = slot && key ? collect_keys(group, slot, key) : 0;
  *parts = slot && key ? PRB_ARRAY(pr_part, *n) : NULL;
  pr_status status = *parts ? make_parts(group, *parts, slot, key, *n) : PR_ERR_MEMORY;
  PRB_ARRAY_FREE(slot, keys);
  PRB_ARRAY_FREE(key, keys);
  if (status && *parts) pr_parts_free(*parts, *n, group->size), *parts = NULL;
  return status;
}

static int ascending64(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

int64_t pr_part_indices(const pr_part *part, int64_t *index) {
  bool sorted = true; /* mostly they are */
  for (int64_t i = 0; i < part->count; i++) {
    index[i] = part->position[i];
    sorted &= i == 0 || index[i - 1] <= index[i];
  }
  if (!sorted) qsort(index, (size_t)part->count, sizeof *index, ascending64);
  int64_t n = 0;
  for (int64_t i = 0; i < part->count; i++)
    if (i == 0 || index[i] != index[i - 1]) index[n++] = index[i];
  return n;
}

pr_tensor *pr_part_rows(const pr_group *group, const pr_part *part, const pr_tensor *source) {
  if (prP_group_check(group)) return NULL;
  const pr_graph_value *value = &group->pruning->graph->values[part->value];
  if (source->dim != value->dim ||
      memcmp(source->shape, value->shape, (size_t)value->dim * sizeof *value->shape)) {
    char got[PR_SHAPE_TEXT], want[PR_SHAPE_TEXT];
    pr_fail(PR_ERR_SHAPE, "'%s': the tensor has shape %s, the parameter %s",
            prG_value_name(group->pruning->graph, part->value), pr_shape_text(source, got),
            prT_sizes_text(value->dim, value->shape, want));
    return NULL;
  }
  if (prD_need_values(source, prG_value_name(group->pruning->graph, part->value))) return NULL;
  int64_t most = 0, outer = 1, inner = 1, size = source->shape[part->axis];
  for (int32_t u = 0; u < group->size; u++)
    if (part->start[u + 1] - part->start[u] > most) most = part->start[u + 1] - part->start[u];
  for (int d = 0; d < part->axis; d++) outer *= source->shape[d];
  for (int d = part->axis + 1; d < source->dim; d++) inner *= source->shape[d];
  int64_t shape[2] = { group->size, most * outer * inner };
  pr_tensor *rows = pr_tensor_zeros(source->dtype, PR_CPU, 2, shape),
            *flat = pr_contiguous((pr_tensor *)source);
  if (!rows || !flat) return pr_release(rows), pr_release(flat), NULL;
  size_t item = pr_dtype_size(source->dtype), run = (size_t)inner * item;
  const char *from = prT_data(flat);
  char *to = prT_data(rows);
  for (int32_t u = 0; u < group->size; u++) {
    char *row = to + (size_t)u * (size_t)shape[1] * item;
    for (int64_t m = part->start[u]; m < part->start[u + 1]; m++)
      for (int64_t o = 0; o < outer; o++, row += run)
        memcpy(row, from + (size_t)(o * size + part->position[m]) * run, run);
  }
  pr_release(flat);
  return rows;
}
