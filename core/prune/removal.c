/* removal.c - see removal.h. Everything that can fail happens before or is undone by exchanging the same
 * handles again. */
#include "prune/removal.h"

#include "autograd/parameter.h"
#include "base/memory.h"

#include <string.h>

extern pr_op pr_op_var, pr_op_std;

enum { UNBIASED = 2 }; /* their argument */

/* --- what stays --------------------------------------------------------------------------------------------------------- */

/* Live indices of every axis of one tensor; kept[d] NULL: all of them. */
typedef struct keep {
  int64_t *index[PR_MAX_DIM];
  int64_t count[PR_MAX_DIM], size[PR_MAX_DIM];
  int dim;
  bool any;
  bool moved; /* its values are positions of an axis that becomes shorter */
} keep;

static void keep_free(keep *k) {
  for (int d = 0; d < k->dim; d++) PRB_ARRAY_FREE(k->index[d], k->size[d]);
}

static pr_status keep_make(pr_pruning *pruning, int v, const unsigned char *dead, keep *k) {
  const prC_value *value = &pruning->values[v];
  const pr_label *positions = value->positions;
  *k = (keep){ .dim = value->dim };
  for (int d = 0; d < value->dim; d++) {
    int64_t n = value->shape[d];
    k->count[d] = k->size[d] = n;
    if (!value->label[d]) continue;
    if ((k->count[d] = prC_live(&pruning->algebra, value->label[d], n, dead)) == n) continue;
    if (!(k->index[d] = PRB_ARRAY(int64_t, n))) return keep_free(k), PR_ERR_MEMORY;
    prC_kept(&pruning->algebra, value->label[d], n, dead, k->index[d]);
    k->any = true;
  }
  k->moved = positions && prC_live(&pruning->algebra, positions, positions->n, dead) < positions->n;
  return PR_OK;
}

/* Copy the kept positions of axes `d` and after; from and to are advanced by whole blocks. The innermost run
 * past the last sliced axis is one memcpy. */
static char *slice_axes(const keep *k, const int64_t *stride, int d, int last, const char *from, char *to) {
  size_t block = (size_t)stride[d];
  if (d > last) return memcpy(to, from, block * (size_t)k->size[d]), to + block * (size_t)k->size[d];
  if (d == last && !k->index[d])
    return memcpy(to, from, block * (size_t)k->size[d]), to + block * (size_t)k->size[d];
  for (int64_t i = 0; i < k->count[d]; i++) {
    const char *at = from + block * (size_t)(k->index[d] ? k->index[d][i] : i);
    if (d == last)
      memcpy(to, at, block), to += block;
    else
      to = slice_axes(k, stride, d + 1, last, at, to);
  }
  return to;
}

static pr_tensor *slice(pr_tensor *t, const keep *k) {
  pr_tensor *small = pr_tensor_new(t->dtype, t->device, k->dim, k->count), *flat = pr_contiguous(t);
  if (small && flat && t->storage && pr_numel(small)) {
    int64_t stride[PR_MAX_DIM]; /* in bytes */
    int last = 0;
    int64_t bytes = (int64_t)pr_dtype_size(t->dtype);
    for (int d = k->dim - 1; d >= 0; d--) stride[d] = bytes, bytes *= k->size[d];
    for (int d = 0; d < k->dim; d++)
      if (k->index[d]) last = d;
    slice_axes(k, stride, 0, last, prT_data(flat), prT_data(small));
  }
  pr_release(flat);
  if (!flat) pr_release(small), small = NULL;
  return small;
}

/* --- one parameter's change --------------------------------------------------------------------------------------------- */

/* What will be exchanged with the parameter's own; exchanging twice undoes it. */
typedef struct change {
  pr_tensor *target; /* borrowed from the graph */
  pr_tensor *value, *grad, *dense_grad, *mask;
  pr_tensor **slots; /* NULL entries: not of the parameter's shape, stay */
  int n_slots;
  bool value_only; /* written to, not sliced: all else stays */
} change;

static void change_free(change *c) {
  pr_release(c->value), pr_release(c->grad), pr_release(c->dense_grad), pr_release(c->mask);
  for (int i = 0; i < c->n_slots; i++) pr_release(c->slots[i]);
  PRB_ARRAY_FREE(c->slots, c->n_slots);
}

static pr_status change_make(change *c, pr_tensor *t, const keep *k) {
  pr_parameter *p = t->parameter;
  c->target = t;
  if (!(c->value = slice(t, k))) return PR_ERR_MEMORY;
  if (t->grad && !(c->grad = slice(t->grad, k))) return PR_ERR_MEMORY;
  if (!p) return PR_OK;
  if (p->mask && !(c->mask = slice(p->mask, k))) return PR_ERR_MEMORY;
  if (p->dense_grad && !(c->dense_grad = slice(p->dense_grad, k))) return PR_ERR_MEMORY;
  for (pr_slot *slot = p->slots; slot; slot = slot->next) c->n_slots++;
  if (!(c->slots = PRB_ARRAY(pr_tensor *, c->n_slots))) {
    c->n_slots = 0;
    return PR_ERR_MEMORY;
  }
  int i = 0;
  for (pr_slot *slot = p->slots; slot; slot = slot->next, i++)
    if (pr_same_shape(slot->tensor, t) && !(c->slots[i] = slice(slot->tensor, k))) return PR_ERR_MEMORY;
  return PR_OK;
}

static void exchange(pr_tensor **a, pr_tensor **b) {
  pr_tensor *t = *a;
  *a = *b, *b = t;
}

static void change_exchange(change *c) {
  pr_tensor *t = c->target;
  prT_swap_content(t, c->value);
  if (t->parameter) pr_release(t->parameter->masked), t->parameter->masked = NULL;
  if (c->value_only) return;
  exchange(&t->grad, &c->grad);
  if (!t->parameter) return;
  exchange(&t->parameter->mask, &c->mask);
  exchange(&t->parameter->dense_grad, &c->dense_grad);
  int i = 0;
  for (pr_slot *slot = t->parameter->slots; slot; slot = slot->next, i++)
    if (c->slots[i]) exchange(&slot->tensor, &c->slots[i]);
}

/* --- the graph's arguments ------------------------------------------------------------------------------------------------ */

/* Arguments that are multiples of the batch stay so: their factors follow from the rewritten numbers. */
static void rescale(const pr_graph *graph, pr_graph_node *node) {
  for (int a = 0; a < PR_MAX_ARGS; a++) {
    if (!node->scale[a]) continue;
    if (node->args[a].count == 0) node->scale[a][0] = node->args[a].integer / graph->batch;
    for (int i = 0; i < node->args[a].count; i++)
      if (node->scale[a][i]) node->scale[a][i] = node->args[a].list[i] / graph->batch;
  }
}

static pr_status rewrite(pr_pruning *pruning, pr_graph *next, const unsigned char *dead) {
  enum { FEW = 64 };
  for (int n = 0; n < next->n_nodes; n++) {
    pr_graph_node *node = &next->nodes[n];
    if (!node->op->rewrite) continue;
    prC_value *few[FEW], **room = few;
    int total = node->n_in + node->n_out;
    if (total > FEW && !(room = PRB_ARRAY(prC_value *, total))) return PR_ERR_MEMORY;
    pr_call call;
    pr_coupling coupling;
    pr_status status = prP_node_coupling(pruning, n, &call, room, &coupling);
    if (!status) {
      coupling.dead = dead;
      status = node->op->rewrite(&coupling, node->args);
      prG_call_free(&call);
      rescale(next, node);
    }
    if (room != few) PRB_ARRAY_FREE(room, total);
    PR_TRY(status);
  }
  return PR_OK;
}

/* --- replay ----------------------------------------------------------------------------------------------------------------- */

static pr_status mismatch(const pr_graph_node *node, const char *what, long long want, long long got) {
  return pr_fail(PR_ERR_STATE,
                 "%s at '%s' (%s): after the removal %s should be %lld, but the model's code gives %lld; a "
                 "number written in its forward function no "
                 "longer fits. Read sizes off tensors there, or prune the graph itself (graph:module())",
                 node->op->name, node->path, node->type, what, want, got);
}

static pr_status same_args(const pr_graph_node *want, const pr_graph_node *got) {
  for (int a = 0; a < PR_MAX_ARGS && want->op->args[a].name; a++) {
    const pr_arg *x = &want->args[a], *y = &got->args[a];
    const char *name = want->op->args[a].name;
    if (x->integer != y->integer) return mismatch(want, name, (long long)x->integer, (long long)y->integer);
    if (x->real != y->real && !(x->real != x->real && y->real != y->real))
      return pr_fail(PR_ERR_STATE,
                     "%s at '%s' (%s): option %s should stay %g after the removal, but the model's code "
                     "gives %g; keep it as a number "
                     "instead of computing it from a size",
                     want->op->name, want->path, want->type, name, x->real, y->real);
    if (x->count != y->count) return mismatch(want, "the length of an option", x->count, y->count);
    for (int i = 0; i < x->count; i++)
      if (x->list[i] != y->list[i]) return mismatch(want, name, (long long)x->list[i], (long long)y->list[i]);
  }
  return PR_OK;
}

static const pr_graph_node *reader_of(const pr_graph *graph, int value) {
  for (int n = 0; n < graph->n_nodes; n++)
    for (int i = 0; i < graph->nodes[n].n_in; i++)
      if (graph->nodes[n].in[i] == value) return &graph->nodes[n];
  return NULL;
}

/* A constant of the graph must be the code's constant still: a number that is worked out from a size, or a
 * table of which other sizes make other entries, is not. */
static pr_status same_constant(const pr_pruning *pruning, const pr_graph *want, const pr_graph *got, int v) {
  const pr_graph_value *x = &want->values[v], *y = &got->values[v], *before = &pruning->graph->values[v];
  bool positions = pruning->values[v].has_positions;
  bool shrunk = memcmp(x->shape, before->shape, (size_t)x->dim * sizeof *x->shape) != 0;
  if (x->kind != PR_VALUE_CONSTANT || prG_same_numbers(x->tensor, y->tensor)) return PR_OK;
  if (positions)
    return pr_fail(
        PR_ERR_STATE,
        "after the removal positions that a list of indices in the model's code names are others; index "
        "by a layer of the model, or prune the graph itself (graph:module())");
  char shape[PR_SHAPE_TEXT];
  const pr_graph_node *reader = reader_of(want, v);
  if (!shrunk && pr_numel(x->tensor) == 1)
    return pr_fail(
        PR_ERR_STATE,
        "%s at '%s' (%s): a number should stay %g after the removal, but the model's code gives %g; "
        "keep it as a number instead of computing it from a size",
        reader ? reader->op->name : "an output", reader ? reader->path : "", reader ? reader->type : "",
        prT_get(x->tensor, 0), prT_get(y->tensor, 0));
  return pr_fail(PR_ERR_STATE,
                 "%s at '%s' (%s): its table of shape %s has other numbers when the model's code makes it "
                 "for the size after the "
                 "removal than what is left of the larger one; keep it in the model (register_buffer), or "
                 "prune the graph itself "
                 "(graph:module())",
                 reader ? reader->op->name : "an output", reader ? reader->path : "",
                 reader ? reader->type : "", prT_sizes_text(x->dim, x->shape, shape));
}

static pr_status same_graph(const pr_pruning *pruning, const pr_graph *want, const pr_graph *got) {
  if (want->n_nodes != got->n_nodes || want->n_values != got->n_values)
    return pr_fail(
        PR_ERR_STATE,
        "after the removal the model's code runs %d operators instead of %d; its path depends on sizes",
        got->n_nodes, want->n_nodes);
  for (int n = 0; n < want->n_nodes; n++) {
    const pr_graph_node *x = &want->nodes[n], *y = &got->nodes[n];
    bool wired = x->op == y->op && x->n_in == y->n_in && x->n_out == y->n_out &&
                 memcmp(x->in, y->in, (size_t)x->n_in * sizeof(int)) == 0 &&
                 memcmp(x->out, y->out, (size_t)x->n_out * sizeof(int)) == 0;
    if (!wired)
      return pr_fail(
          PR_ERR_STATE,
          "%s at '%s' (%s): after the removal the model's code runs %s there; its path depends on sizes",
          x->op->name, x->path, x->type, y->op->name);
    PR_TRY(same_args(x, y));
  }
  for (int v = 0; v < want->n_values; v++) {
    const pr_graph_value *x = &want->values[v], *y = &got->values[v];
    char a[PR_SHAPE_TEXT], b[PR_SHAPE_TEXT];
    if (x->dim != y->dim || memcmp(x->shape, y->shape, (size_t)x->dim * sizeof *x->shape))
      return pr_fail(PR_ERR_STATE, "after the removal %s should have shape %s, but the model's code gives %s",
                     prG_value_name(want, v), prT_sizes_text(x->dim, x->shape, a),
                     prT_sizes_text(y->dim, y->shape, b));
    PR_TRY(same_constant(pruning, want, got, v));
  }
  return PR_OK;
}

static pr_status run_replay(const pr_pruning *pruning, const pr_graph *next, pr_replay replay, void *ctx) {
  if (!replay) return PR_OK;
  pr_graph *again = replay(ctx, next, false);
  pr_status status = again ? same_graph(pruning, next, again) : pr_error_last()->code;
  pr_graph_free(again);
  if (!status) return PR_OK;
  pr_error reason = *pr_error_last();
  replay(ctx, pruning->graph, true);
  return pr_error_set(&reason);
}

/* --- all together ------------------------------------------------------------------------------------------------------------ */

pr_status prP_check_floors(pr_pruning *pruning, const unsigned char *dead) {
  for (int v = 0; v < pruning->graph->n_values; v++) {
    const prC_value *value = &pruning->values[v];
    for (int d = 0; d < value->dim; d++) {
      if (!value->label[d] || value->shape[d] == 0) continue;
      if (prC_live(&pruning->algebra, value->label[d], value->shape[d], dead) == 0)
        return pr_fail(PR_ERR_ARGUMENT, "nothing would be left of axis %lld of %s; keep at least one",
                       PR_INDEX(d), prG_value_name(pruning->graph, v));
    }
  }
  return PR_OK;
}

/* Positions along an axis become ranks among those that stay. */
static pr_status renumber(pr_pruning *pruning, int v, const unsigned char *dead, pr_tensor *t) {
  const pr_label *label = pruning->values[v].positions;
  int64_t n = label->n, *rank = PRB_ARRAY(int64_t, n), live = 0, count = pr_numel(t);
  if (!rank) return PR_ERR_MEMORY;
  for (int64_t i = 0; i < n; i++) {
    rank[i] = live;
    live += prC_live_in(&pruning->algebra, label, i, i + 1, dead);
  }
  for (int64_t i = 0; t->storage && i < count; i++) prT_set(t, i, (double)rank[(int64_t)prT_get(t, i)]);
  PRB_ARRAY_FREE(rank, n);
  return PR_OK;
}

static pr_status make_changes(pr_pruning *pruning, const unsigned char *dead, change *changes, int *n) {
  for (int v = 0; v < pruning->graph->n_values; v++) {
    const pr_graph_value *value = &pruning->graph->values[v];
    keep k;
    if (!value->tensor) continue;
    if (value->tensor->dim != value->dim ||
        memcmp(value->tensor->shape, value->shape, (size_t)value->dim * sizeof *value->shape))
      return pr_fail(
          PR_ERR_STATE,
          "'%s' has changed its shape since the graph was made; trace the model again (prune.graph)",
          prG_value_name(pruning->graph, v));
    PR_TRY(keep_make(pruning, v, dead, &k));
    pr_status status = k.any || k.moved ? change_make(&changes[(*n)++], value->tensor, &k) : PR_OK;
    if (!status && k.moved) status = renumber(pruning, v, dead, changes[*n - 1].value);
    keep_free(&k);
    PR_TRY(status);
  }
  return PR_OK;
}

/* Exchange a pruning and its graph with others, addresses and all staying what they are. */
static void exchange_pruning(pr_pruning *a, pr_pruning *b) {
  pr_graph *graph_a = a->graph, *graph_b = b->graph, graph = *graph_a;
  *graph_a = *graph_b, *graph_b = graph;
  pr_pruning pruning = *a;
  *a = *b, *b = pruning;
  a->graph = graph_a, b->graph = graph_b;
  a->units.algebra = &a->algebra, b->units.algebra = &b->algebra;
}

/* What a removal did, and what is needed to take it back: exchanging it all again. */
struct pr_removal {
  pr_pruning *pruning; /* borrowed */
  uint64_t generation; /* of it after the removal */
  change *changes;
  int n, values;      /* changes, room for twice as many as the graph has values; values of the graph */
  uint64_t *versions; /* [values] of all tensors after the removal */
  pr_pruning *before; /* coupling and graph from before it */
  pr_graph *graph;
};

static uint64_t version_of(const pr_tensor *t) { return t && t->storage ? t->storage->version : 0; }

static int64_t entries_of(const pr_graph_value *value) {
  int64_t n = 1;
  for (int d = 0; d < value->dim; d++) n *= value->shape[d];
  return n;
}

/* How many entries each result of a reduction is made of. */
static int64_t reduced_entries(const pr_graph *graph, int n) {
  const pr_graph_node *node = &graph->nodes[n];
  int64_t results = entries_of(&graph->values[node->out[0]]);
  return results ? entries_of(&graph->values[node->in[0]]) / results : 0;
}

/* An unbiased variance of one entry is 0 / 0: a model that had none would give nan from here on. */
static pr_status check_variances(const pr_graph *before, const pr_graph *next) {
  for (int n = 0; n < next->n_nodes; n++) {
    const pr_graph_node *node = &next->nodes[n];
    if (node->op != &pr_op_var && node->op != &pr_op_std) continue;
    bool unbiased = node->args[UNBIASED].integer;
    if (unbiased && reduced_entries(next, n) == 1 && reduced_entries(before, n) > 1)
      return pr_fail(PR_ERR_ARGUMENT,
                     "%s at '%s' (%s): nothing would be left to take a variance of but one entry, and the "
                     "unbiased one divides by 0; "
                     "keep at least two (min_units = 2), or give the operator unbiased = false",
                     node->op->name, node->path, node->type);
  }
  return PR_OK;
}

static pr_status remove_dead(pr_removal *r, const unsigned char *dead, pr_replay replay, void *ctx) {
  pr_pruning *pruning = r->pruning;
  PR_TRY(prP_check_floors(pruning, dead));
  PR_TRY(make_changes(pruning, dead, r->changes, &r->n));
  pr_graph *next = r->graph = pr_graph_clone(pruning->graph, false);
  if (!next) return PR_ERR_MEMORY;
  PR_TRY(rewrite(pruning, next, dead));
  for (int i = 0; i < r->n; i++) change_exchange(&r->changes[i]);
  pr_status status = pr_graph_reshape(next);
  if (!status) status = check_variances(pruning->graph, next);
  if (!status) status = run_replay(pruning, next, replay, ctx);
  if (!status && !(r->before = pr_pruning_new(next))) {
    status = pr_error_last()->code;
    if (replay) {
      pr_error reason = *pr_error_last();
      replay(ctx, pruning->graph, true);
      pr_error_set(&reason);
    }
  }
  if (!status)
    exchange_pruning(pruning, r->before);
  else
    for (int i = 0; i < r->n; i++) change_exchange(&r->changes[i]);
  return status;
}

static pr_status mark_units(const pr_pruning *pruning, const int32_t *unit, int32_t n,
                            unsigned char *dead_unit) {
  for (int32_t i = 0; i < n; i++) {
    if (unit[i] < 0 || unit[i] >= pruning->units.count)
      return pr_fail(PR_ERR_INDEX, "there is no unit %lld; the graph has %d", PR_INDEX(unit[i]),
                     pruning->units.count);
    dead_unit[unit[i]] = 1;
  }
  return PR_OK;
}

void pr_removal_free(pr_removal *r) {
  if (!r) return;
  for (int i = 0; i < r->n; i++) change_free(&r->changes[i]);
  PRB_ARRAY_FREE(r->changes, 2 * r->values);
  PRB_ARRAY_FREE(r->versions, r->values);
  pr_pruning_free(r->before);
  pr_graph_free(r->graph);
  PRB_FREE(r);
}

static pr_removal *removal_new(pr_pruning *pruning) {
  pr_removal *r = PRB_NEW(pr_removal);
  if (!r) return NULL;
  r->pruning = pruning, r->values = pruning->graph->n_values;
  r->changes = PRB_ARRAY(change, 2 * r->values), r->versions = PRB_ARRAY(uint64_t, r->values);
  if (r->changes && r->versions) return r;
  return pr_removal_free(r), NULL;
}

pr_status pr_remove_kept(pr_pruning *pruning, const int32_t *unit, int32_t n, pr_replay replay, void *ctx,
                         pr_removal **removal) {
  size_t units = (size_t)pruning->units.count, elements = pruning->algebra.count;
  unsigned char *dead_unit = PRB_ARRAY(unsigned char, units), *dead = PRB_ARRAY(unsigned char, elements);
  pr_removal *r = dead_unit && dead ? removal_new(pruning) : NULL;
  pr_status status = r ? mark_units(pruning, unit, n, dead_unit) : PR_ERR_MEMORY;
  if (!status) {
    prC_units_dead(&pruning->units, dead_unit, dead);
    status = remove_dead(r, dead, replay, ctx);
  }
  PRB_ARRAY_FREE(dead_unit, units);
  PRB_ARRAY_FREE(dead, elements);
  *removal = NULL;
  if (status) return pr_removal_free(r), status;
  r->generation = pruning->generation;
  for (int v = 0; v < r->values; v++) r->versions[v] = version_of(pruning->graph->values[v].tensor);
  *removal = r;
  return PR_OK;
}

pr_status pr_remove(pr_pruning *pruning, const int32_t *unit, int32_t n, pr_replay replay, void *ctx) {
  if (n == 0) return PR_OK;
  pr_removal *removal;
  pr_status status = pr_remove_kept(pruning, unit, n, replay, ctx, &removal);
  pr_removal_free(removal);
  return status;
}

static bool is_written(const pr_removal *r, const pr_tensor *t) {
  for (int i = 0; i < r->n; i++)
    if (r->changes[i].target == t && r->changes[i].value_only) return true;
  return false;
}

pr_status pr_removal_write(pr_removal *r, pr_tensor *t, const pr_tensor *value) {
  int v = pr_graph_find(r->pruning->graph, t);
  if (v < 0) return pr_error_last()->code;
  if (!is_written(r, t)) {
    change *c = &r->changes[r->n];
    if (!(c->value = pr_clone(t))) return pr_error_last()->code;
    c->target = t, c->value_only = true;
    r->n++;
    change_exchange(c);
  }
  pr_status status = pr_copy(t, value);
  prT_touch(t);
  r->versions[v] = version_of(t);
  return status;
}

/* --- taking it back ------------------------------------------------------------------------------------------------------- */

static pr_status check_undo(const pr_removal *r) {
  if (!r->before) return pr_fail(PR_ERR_STATE, "this removal was taken back already");
  if (r->pruning->generation != r->generation)
    return pr_fail(PR_ERR_STATE, "the graph was pruned again since; take that back first");
  const pr_graph *graph = r->pruning->graph;
  for (int v = 0; v < graph->n_values; v++)
    if (version_of(graph->values[v].tensor) != r->versions[v])
      return pr_fail(
          PR_ERR_STATE,
          "'%s' has changed since the removal (training, or a forward pass in training mode), so what "
          "there was before cannot come back as a whole; clone the model before pruning instead",
          prG_value_name(graph, v));
  for (int i = 0; i < r->n; i++) {
    int slots = 0;
    const pr_parameter *p = r->changes[i].target->parameter;
    for (const pr_slot *slot = p ? p->slots : NULL; slot; slot = slot->next) slots++;
    if (slots != r->changes[i].n_slots && !r->changes[i].value_only)
      return pr_fail(PR_ERR_STATE, "the optimiser's state was exchanged since the removal");
  }
  return PR_OK;
}

pr_status pr_removal_undo(pr_removal *r, pr_replay replay, void *ctx) {
  PR_TRY(check_undo(r));
  for (int i = r->n - 1; i >= 0; i--) change_exchange(&r->changes[i]);
  exchange_pruning(r->pruning, r->before);
  if (replay) replay(ctx, r->pruning->graph, true);
  pr_pruning_free(r->before), r->before = NULL;
  pr_graph_free(r->graph), r->graph = NULL;
  for (int i = 0; i < r->n; i++) change_free(&r->changes[i]);
  r->n = 0;
  return PR_OK;
}

static size_t bytes_of(const pr_tensor *t) { return t && t->storage ? t->storage->bytes : 0; }

size_t pr_removal_bytes(const pr_removal *r) {
  size_t bytes = 0;
  for (int i = 0; i < r->n; i++) {
    const change *c = &r->changes[i];
    bytes += bytes_of(c->value) + bytes_of(c->grad) + bytes_of(c->mask) + bytes_of(c->dense_grad);
    for (int k = 0; k < c->n_slots; k++) bytes += bytes_of(c->slots[k]);
  }
  return bytes;
}
