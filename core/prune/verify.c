/* verify.c - running the ablated and the pruned model side by side, on copies. */
#include "prune/verify.h"

#include "autograd/parameter.h"
#include "base/memory.h"
#include "prune/removal.h"

#include <math.h>
#include <string.h>

extern pr_op pr_op_index_select, pr_op_cat, pr_op_mul, pr_op_sum, pr_op_add, pr_op_div;

/* A graph over copies of the tensors: masked values, converted, with gradients wanted. */
static pr_graph *private_copy(const pr_graph *graph, pr_dtype dtype) {
  pr_graph *copy = pr_graph_clone(graph, false);
  for (int v = 0; copy && v < copy->n_values; v++) {
    pr_graph_value *value = &copy->values[v];
    bool is_float = pr_dtype_is_float(value->dtype);
    if (is_float) value->dtype = dtype;
    if (!value->tensor) continue;
    pr_tensor *read = pr_parameter_value(value->tensor), *own = NULL;
    if (read && (own = pr_tensor_new(is_float ? dtype : read->dtype, PR_CPU, read->dim, read->shape)) &&
        pr_copy(own, read))
      pr_release(own), own = NULL;
    if (!own) return pr_graph_free(copy), NULL;
    pr_release(value->tensor);
    value->tensor = own;
    own->requires_grad = is_float && value->kind == PR_VALUE_PARAMETER && !value->is_buffer;
  }
  return copy;
}

/* --- what is alive ---------------------------------------------------------------------------------------------------------- */

typedef struct ablation {
  pr_pruning *pruning; /* of the private copy */
  const unsigned char *dead;
  pr_tensor **values;
} ablation;

static int64_t live_count(const ablation *a, int v, int axis) {
  const prC_value *value = &a->pruning->values[v];
  return prC_live(&a->pruning->algebra, value->label[axis], value->shape[axis], a->dead);
}

/* Zero every entry of parameters and buffers at a dead position. */
static pr_status zero_dead(const ablation *a, int v) {
  const prC_value *value = &a->pruning->values[v];
  pr_tensor *t = a->pruning->graph->values[v].tensor;
  if (value->has_positions) return PR_OK; /* what is dead is read from what is dead */
  for (int d = 0; d < value->dim; d++) {
    if (!value->label[d] || live_count(a, v, d) == value->shape[d]) continue;
    for (int64_t i = 0; i < value->shape[d]; i++) {
      if (prC_live_in(&a->pruning->algebra, value->label[d], i, i + 1, a->dead)) continue;
      int64_t shape[PR_MAX_DIM];
      memcpy(shape, t->shape, sizeof shape);
      shape[d] = 1;
      pr_tensor *slice = prT_view(t, t->dim, shape, t->stride, t->offset + i * t->stride[d]);
      pr_status status = slice ? pr_fill(slice, 0) : PR_ERR_MEMORY;
      pr_release(slice);
      PR_TRY(status);
    }
  }
  return PR_OK;
}

static pr_tensor *index_tensor(int64_t n, const int64_t *index) {
  int64_t shape[1] = { n };
  pr_tensor *t = pr_tensor_new(PR_I64, PR_CPU, 1, shape);
  if (t) memcpy(prT_data(t), index, (size_t)n * sizeof *index);
  return t;
}

static pr_tensor *select_axis(pr_tensor *t, int axis, int64_t n, const int64_t *index) {
  pr_tensor *positions = index_tensor(n, index);
  pr_arg args[PR_MAX_ARGS] = { { .integer = axis, .given = true } };
  pr_tensor *picked = positions ? prO_call(&pr_op_index_select, args, 2, t, positions) : NULL;
  pr_release(positions);
  return picked;
}

/* Live part of a value along every axis (new reference). */
static pr_tensor *shrink(const ablation *a, int v, pr_tensor *t) {
  const prC_value *value = &a->pruning->values[v];
  pr_tensor *now = pr_retain(t);
  for (int d = 0; d < value->dim && now; d++) {
    int64_t n = value->shape[d];
    if (!value->label[d] || live_count(a, v, d) == n) continue;
    int64_t *index = PRB_ARRAY(int64_t, n),
            kept = index ? prC_kept(&a->pruning->algebra, value->label[d], n, a->dead, index) : 0;
    pr_tensor *next = index ? select_axis(now, d, kept, index) : NULL;
    PRB_ARRAY_FREE(index, n);
    pr_release(now);
    now = next;
  }
  return now;
}

/* Back to full shape with zeros at dead positions: a zero slice is appended, and dead positions point to it.
 */
static pr_tensor *widen(const ablation *a, int v, pr_tensor *t) {
  const prC_value *value = &a->pruning->values[v];
  pr_tensor *now = pr_retain(t);
  for (int d = 0; d < value->dim && now; d++) {
    int64_t n = value->shape[d], live = value->label[d] ? live_count(a, v, d) : n, next_live = 0;
    if (live == n) continue;
    int64_t shape[PR_MAX_DIM], *index = PRB_ARRAY(int64_t, n);
    memcpy(shape, now->shape, sizeof shape);
    shape[d] = 1;
    pr_tensor *zero = pr_tensor_zeros(now->dtype, PR_CPU, now->dim, shape);
    pr_arg args[PR_MAX_ARGS] = { { .integer = d, .given = true } };
    pr_tensor *longer = zero ? prO_call(&pr_op_cat, args, 2, now, zero) : NULL, *full = NULL;
    for (int64_t i = 0; index && i < n; i++)
      index[i] = prC_live_in(&a->pruning->algebra, value->label[d], i, i + 1, a->dead) ? next_live++ : live;
    if (index && longer) full = select_axis(longer, d, n, index);
    PRB_ARRAY_FREE(index, n);
    pr_release(zero), pr_release(longer), pr_release(now);
    now = full;
  }
  return now;
}

/* --- the ablated run --------------------------------------------------------------------------------------------------------- */

static pr_status ablated_args(const ablation *a, int n, prC_value **room, pr_arg args[PR_MAX_ARGS]) {
  const pr_graph_node *node = &a->pruning->graph->nodes[n];
  pr_call call;
  pr_coupling coupling;
  if (!(node->op->flags & PR_OP_LIVE_STATISTICS) || !node->op->rewrite) return PR_OK;
  PR_TRY(prP_node_coupling(a->pruning, n, &call, room, &coupling));
  coupling.dead = a->dead;
  pr_status status = node->op->rewrite(&coupling, args);
  prG_call_free(&call);
  return status;
}

enum { MOST = 256 };

/* Does the node run on what is live? Statistics do; and quotients of weights, where 0 / 0 at a dead position
 * counts as 0. */
static bool runs_on_live(const ablation *a, const pr_graph_node *node) {
  if (node->op->flags & PR_OP_LIVE_STATISTICS) return true;
  return node->op == &pr_op_div && a->pruning->values[node->out[0]].is_weight;
}

static pr_status ablate_node(const ablation *a, int n, int64_t batch) {
  const pr_graph_node *node = &a->pruning->graph->nodes[n];
  bool live = runs_on_live(a, node);
  pr_tensor *in[MOST], *out[MOST] = { NULL };
  prC_value *room[2 * MOST];
  pr_arg args[PR_MAX_ARGS];
  int n_out = node->n_out;
  if (node->n_in > MOST || node->n_out > MOST)
    return pr_fail(PR_ERR_UNSUPPORTED, "verify: %s has too many tensors", node->op->name);
  PR_TRY(prG_node_args(a->pruning->graph, node, batch, 0, args));
  pr_status status = ablated_args(a, n, room, args);
  int made = 0;
  for (; made < node->n_in && !status; made++) {
    pr_tensor *t = node->in[made] < 0 ? NULL : a->values[node->in[made]];
    in[made] = t && live ? shrink(a, node->in[made], t) : pr_retain(t);
    if (t && !in[made]) status = pr_error_last()->code;
  }
  if (!status) status = pr_apply(node->op, args, in, node->n_in, out, &n_out);
  for (int k = 0; k < n_out && !status; k++) {
    a->values[node->out[k]] = live ? widen(a, node->out[k], out[k]) : pr_retain(out[k]);
    if (!a->values[node->out[k]]) status = pr_error_last()->code;
  }
  for (int i = 0; i < made; i++) pr_release(in[i]);
  for (int k = 0; k < MOST; k++) pr_release(out[k]);
  pr_args_free(args);
  return status;
}

static pr_status ablate(ablation *a, pr_tensor *const *inputs, pr_tensor **outputs) {
  const pr_graph *graph = a->pruning->graph;
  int64_t batch = inputs[0]->dim ? inputs[0]->shape[0] : graph->batch;
  pr_status status = PR_OK;
  if (!(a->values = PRB_ARRAY(pr_tensor *, graph->n_values))) return PR_ERR_MEMORY;
  for (int v = 0; v < graph->n_values && !status; v++) {
    a->values[v] = pr_retain(graph->values[v].tensor);
    if (graph->values[v].tensor) status = zero_dead(a, v);
  }
  for (int i = 0; i < graph->n_inputs; i++) a->values[graph->inputs[i]] = pr_retain(inputs[i]);
  for (int n = 0; n < graph->n_nodes && !status; n++) status = ablate_node(a, n, batch);
  for (int k = 0; k < graph->n_outputs && !status; k++) outputs[k] = pr_retain(a->values[graph->outputs[k]]);
  for (int v = 0; v < graph->n_values; v++) pr_release(a->values[v]);
  PRB_ARRAY_FREE(a->values, graph->n_values);
  return status;
}

/* --- comparing --------------------------------------------------------------------------------------------------------------- */

/* Entries at a time as doubles, so that large tensors need no copy of themselves. */
enum { SLAB = 4096 };

static pr_status slab_to_doubles(pr_tensor *t, int64_t from, int64_t count, double *values) {
  pr_tensor *slab = prT_view(t, 1, &count, (int64_t[]){ 1 }, t->offset + from);
  pr_status status = slab ? prT_to_doubles(slab, values) : PR_ERR_MEMORY;
  pr_release(slab);
  return status;
}

static pr_status compare(pr_tensor *a, pr_tensor *b, double *difference, double *largest) {
  if (!pr_same_shape(a, b))
    return pr_fail(PR_ERR_SHAPE, "verify: the pruned and the ablated model give other shapes");
  pr_tensor *x = pr_contiguous(a), *y = x ? pr_contiguous(b) : NULL;
  pr_status status = y ? PR_OK : PR_ERR_MEMORY;
  for (int64_t from = 0, n = pr_numel(a); from < n && !status; from += SLAB) {
    double u[SLAB], v[SLAB];
    int64_t count = n - from < SLAB ? n - from : SLAB;
    if (!(status = slab_to_doubles(x, from, count, u))) status = slab_to_doubles(y, from, count, v);
    for (int64_t i = 0; i < count && !status; i++) {
      double off = fabs(u[i] - v[i]);
      if (!(off <= *difference)) *difference = off; /* also takes a NaN */
      if (fabs(u[i]) > *largest) *largest = fabs(u[i]);
    }
  }
  pr_release(x), pr_release(y);
  return status;
}

/* sum(weight * y) with fixed weights, as a new tensor; or NULL. */
static pr_tensor *weighted_sum(pr_tensor *y) {
  pr_tensor *weight = pr_tensor_zeros(y->dtype, PR_CPU, y->dim, y->shape);
  if (!weight) return NULL;
  int64_t count = pr_numel(weight);
  for (int64_t i = 0; i < count; i++) prT_set(weight, i, sin(1.0 + 0.7 * (double)i));
  pr_tensor *product = prO_call(&pr_op_mul, NULL, 2, y, weight);
  pr_tensor *sum = product ? prO_call(&pr_op_sum, NULL, 1, product) : NULL;
  pr_release(weight), pr_release(product);
  return sum;
}

/* Backward from a fixed weighted sum of the float outputs: one walk, since they may share their history. */
static pr_status backward(int n, pr_tensor *const *outputs) {
  pr_tensor *total = NULL;
  for (int k = 0; k < n; k++) {
    if (!outputs[k]->creator) continue;
    pr_tensor *sum = weighted_sum(outputs[k]), *old = total;
    total = sum && old ? prO_call(&pr_op_add, NULL, 2, old, sum) : pr_retain(sum);
    pr_release(sum), pr_release(old);
    if (!total) return pr_error_last()->code;
  }
  if (!total) return PR_OK;
  pr_status status = pr_backward(total, NULL);
  pr_release(total);
  return status;
}

/* What the ablated model gives, without the dead parts and apart from its copy, which is freed before the
 * pruned one is made. */
typedef struct outcome {
  pr_tensor *output[MOST], **gradient; /* one gradient per value of the graph; NULL where there is none */
  int values;
} outcome;

static void outcome_free(outcome *o) {
  for (int k = 0; k < MOST; k++) pr_release(o->output[k]);
  for (int v = 0; v < o->values; v++) pr_release(o->gradient[v]);
  PRB_ARRAY_FREE(o->gradient, o->values);
}

/* The live parts of all gradients; a gradient goes when its part is taken. */
static pr_status take_gradients(const ablation *a, outcome *o) {
  for (int v = 0; v < o->values; v++) {
    pr_tensor *t = a->pruning->graph->values[v].tensor;
    if (!t || !t->grad) continue;
    if (!(o->gradient[v] = shrink(a, v, t->grad))) return pr_error_last()->code;
    pr_release(t->grad);
    t->grad = NULL;
  }
  return PR_OK;
}

static pr_status run_ablated(ablation *a, pr_tensor *const *inputs, bool gradients, outcome *o) {
  pr_tensor *output[MOST] = { NULL };
  int n = a->pruning->graph->n_outputs;
  pr_status status = ablate(a, inputs, output);
  if (!status && gradients) status = backward(n, output);
  bool recording = pr_grad_mode(false);
  for (int k = 0; k < n && !status; k++)
    if (!(o->output[k] = pr_clone(output[k]))) status = PR_ERR_MEMORY;
  if (!status && gradients) status = take_gradients(a, o);
  pr_grad_mode(recording);
  for (int k = 0; k < n; k++) pr_release(output[k]);
  return status;
}

static pr_status ablated_outcome(const pr_graph *graph, pr_dtype dtype, const int32_t *unit, int32_t n,
                                 pr_tensor *const *inputs, bool gradients, outcome *o) {
  pr_graph *copy = private_copy(graph, dtype);
  pr_pruning *pruning = copy ? pr_pruning_new(copy) : NULL;
  size_t units = pruning ? (size_t)pruning->units.count : 0, elements = pruning ? pruning->algebra.count : 0;
  unsigned char *dead_unit = pruning ? PRB_ARRAY(unsigned char, units) : NULL,
                *dead = dead_unit ? PRB_ARRAY(unsigned char, elements) : NULL;
  pr_status status = dead ? PR_OK : PR_ERR_MEMORY;
  for (int32_t i = 0; i < n && !status; i++) {
    if (unit[i] < 0 || (size_t)unit[i] >= units)
      status = pr_fail(PR_ERR_INDEX, "there is no unit %lld; the graph has %lld", PR_INDEX(unit[i]),
                       (long long)units);
    else
      dead_unit[unit[i]] = 1;
  }
  if (!status) {
    prC_units_dead(&pruning->units, dead_unit, dead);
    status = prP_check_floors(pruning, dead);
  }
  if (!status) {
    ablation a = { .pruning = pruning, .dead = dead };
    status = run_ablated(&a, inputs, gradients, o);
  }
  PRB_ARRAY_FREE(dead_unit, units);
  PRB_ARRAY_FREE(dead, elements);
  pr_pruning_free(pruning);
  pr_graph_free(copy);
  return status;
}

static double relative(double difference, double largest) {
  return largest > 0 ? difference / largest : difference;
}

static pr_status compare_pruned(const pr_graph *pruned, pr_tensor *const *inputs, bool gradients,
                                const outcome *ablated, pr_verification *result) {
  pr_tensor *output[MOST] = { NULL };
  double difference = 0, largest = 0;
  int n = pruned->n_outputs;
  pr_status status = pr_graph_run(pruned, inputs, false, output);
  for (int k = 0; k < n && !status; k++)
    status = compare(ablated->output[k], output[k], &difference, &largest);
  result->output = relative(difference, largest);
  if (!status && gradients) status = backward(n, output);
  difference = largest = 0;
  for (int v = 0; v < pruned->n_values && gradients && !status; v++) {
    pr_tensor *t = pruned->values[v].tensor;
    if (t && t->grad && ablated->gradient[v])
      status = compare(ablated->gradient[v], t->grad, &difference, &largest);
  }
  result->gradient = relative(difference, largest);
  for (int k = 0; k < n; k++) pr_release(output[k]);
  return status;
}

static pr_status pruned_outcome(const pr_graph *graph, pr_dtype dtype, const int32_t *unit, int32_t n,
                                pr_tensor *const *inputs, bool gradients, const outcome *ablated,
                                pr_verification *result) {
  pr_graph *copy = private_copy(graph, dtype);
  pr_pruning *pruning = copy ? pr_pruning_new(copy) : NULL;
  pr_status status = pruning ? pr_remove(pruning, unit, n, NULL, NULL) : PR_ERR_MEMORY;
  if (!status) status = compare_pruned(copy, inputs, gradients, ablated, result);
  pr_pruning_free(pruning);
  pr_graph_free(copy);
  return status;
}

pr_status pr_verify(pr_pruning *pruning, const int32_t *unit, int32_t n, pr_tensor *const *inputs,
                    pr_dtype dtype, bool gradients, pr_verification *result) {
  *result = (pr_verification){ 0 };
  for (int v = 0; v < pruning->graph->n_values; v++)
    if (pruning->graph->values[v].tensor) PR_TRY(prD_need_values(pruning->graph->values[v].tensor, "verify"));
  if (pruning->graph->n_outputs > MOST)
    return pr_fail(PR_ERR_UNSUPPORTED, "verify: the model has more than %d outputs", MOST);
  outcome ablated = { .values = pruning->graph->n_values };
  if (!(ablated.gradient = PRB_ARRAY(pr_tensor *, ablated.values))) return PR_ERR_MEMORY;
  pr_tensor *own[16] = { NULL };
  pr_status status = PR_OK;
  for (int i = 0; i < pruning->graph->n_inputs && i < 16 && !status; i++) {
    own[i] = pr_dtype_is_float(inputs[i]->dtype) ? pr_to_dtype(inputs[i], dtype) : pr_retain(inputs[i]);
    if (!own[i]) status = pr_error_last()->code;
  }
  bool recording = pr_grad_mode(gradients);
  if (!status) status = ablated_outcome(pruning->graph, dtype, unit, n, own, gradients, &ablated);
  pr_cache_empty(); /* the pruned copy has blocks of other sizes */
  if (!status) status = pruned_outcome(pruning->graph, dtype, unit, n, own, gradients, &ablated, result);
  pr_grad_mode(recording);
  for (int i = 0; i < 16; i++) pr_release(own[i]);
  outcome_free(&ablated);
  return status;
}
