/* trace.c - from a run on shapes to a Graph, and what depends on the batch.
 *
 * A tensor belongs to the running trace when its trace_id is the trace's; then trace_value is its number.
 * Constants are numbered too, but a call on constants alone is not traced: it runs for real, which folds it.
 */
#include "graph/graph.h"

#include "autograd/parameter.h"
#include "base/memory.h"
#include "base/scope.h"

#include <stdio.h>
#include <string.h>

struct pr_trace {
  prD_tracer tracer; /* first: what dispatch calls */
  prD_tracer *outer; /* tracer that was installed before */
  uint64_t id;
  pr_graph *graph;
};

static uint64_t last_id;

static bool knows(prD_tracer *tracer, const pr_tensor *t) {
  const pr_trace *trace = (const pr_trace *)tracer;
  return t->trace_id == trace->id && trace->graph->values[t->trace_value].kind != PR_VALUE_CONSTANT;
}

static int mark(pr_trace *trace, pr_tensor *t, pr_value_kind kind) {
  int value = prG_add_value(trace->graph, kind, t);
  if (value >= 0) t->trace_id = trace->id, t->trace_value = value;
  return value;
}

/* The number of an input: known, or a constant met for the first time. */
static int number_of(pr_trace *trace, const pr_call *c, int i) {
  pr_tensor *t = c->in[i];
  char name[32];
  if (t->trace_id == trace->id) return t->trace_value;
  if (t->device == PR_META && t->trace_id) { /* without one it is a shape that was made as such: a constant */
    prO_fail(c, PR_ERR_STATE, "input '%s' comes from another trace", prO_input_name(c->op, i, name));
    return -1;
  }
  int value = mark(trace, t, PR_VALUE_CONSTANT);
  if (value >= 0) trace->graph->values[value].tensor = pr_retain(t);
  return value;
}

static pr_status fill_node(pr_trace *trace, pr_graph_node *node, const pr_call *c) {
  for (int i = 0; i < c->n_in; i++)
    if ((node->in[i] = c->in[i] ? number_of(trace, c, i) : -1) < 0 && c->in[i]) return pr_error_last()->code;
  for (int k = 0; k < c->n_out; k++) {
    if ((node->out[k] = mark(trace, c->out[k], PR_VALUE_RESULT)) < 0) return PR_ERR_MEMORY;
    pr_graph_value *value = &trace->graph->values[node->out[k]];
    value->node = trace->graph->n_nodes - 1, value->output = k;
  }
  node->path = prB_string(pr_scope_path()), node->type = prB_string(pr_scope_type());
  return node->path && node->type ? PR_OK : PR_ERR_MEMORY;
}

/* All or nothing: after a lack of memory the call is tried again. */
static pr_status record(prD_tracer *tracer, const pr_call *c) {
  pr_trace *trace = (pr_trace *)tracer;
  pr_graph_node *node = prG_add_node(trace->graph, c->op, c->args, c->n_in, c->n_out);
  if (!node) return PR_ERR_MEMORY;
  pr_status status = fill_node(trace, node, c);
  if (status) prG_drop_last_node(trace->graph);
  return status;
}

pr_trace *pr_trace_begin(int n_inputs, pr_tensor *const *inputs, int64_t batch, pr_tensor **stand_ins) {
  pr_trace *trace = PRB_NEW(pr_trace);
  if (!trace) return NULL;
  trace->tracer = (prD_tracer){ knows, record };
  trace->id = ++last_id;
  bool failed = !(trace->graph = prG_new());
  for (int i = 0; i < n_inputs; i++) stand_ins[i] = NULL;
  for (int i = 0; i < n_inputs && !failed; i++) {
    char name[24];
    snprintf(name, sizeof name, "input%d", i + 1);
    stand_ins[i] = pr_tensor_new(inputs[i]->dtype, PR_META, inputs[i]->dim, inputs[i]->shape);
    int value = stand_ins[i] ? mark(trace, stand_ins[i], PR_VALUE_INPUT) : -1;
    failed = value < 0 || !(trace->graph->values[value].name = prB_string(name)) ||
             prG_add_input(trace->graph, value);
  }
  if (failed) {
    for (int i = 0; i < n_inputs; i++) pr_release(stand_ins[i]), stand_ins[i] = NULL;
    pr_graph_free(trace->graph);
    PRB_FREE(trace);
    return NULL;
  }
  trace->graph->batch = batch;
  trace->outer = prD_tracer_set(&trace->tracer);
  return trace;
}

pr_status pr_trace_parameter(pr_trace *trace, const char *name, pr_tensor *t) {
  if (t->trace_id == trace->id) return PR_OK; /* a tied parameter keeps its first name */
  int value = mark(trace, t, PR_VALUE_PARAMETER);
  if (value < 0) return PR_ERR_MEMORY;
  pr_graph_value *v = &trace->graph->values[value];
  v->tensor = pr_retain(t);
  v->is_buffer = t->parameter && t->parameter->is_buffer;
  return (v->name = prB_string(name)) ? PR_OK : PR_ERR_MEMORY;
}

pr_status pr_trace_module(pr_trace *trace, const char *path, const char *type) {
  return prG_add_module(trace->graph, path, type);
}

static pr_graph *detach(pr_trace *trace) {
  pr_graph *graph = trace->graph;
  for (int v = 0; v < graph->n_values; v++) /* shapes that are the model's own belong to no trace */
    if (graph->values[v].tensor && graph->values[v].tensor->device == PR_META &&
        graph->values[v].kind == PR_VALUE_CONSTANT)
      graph->values[v].tensor->trace_id = 0;
  prD_tracer_set(trace->outer);
  PRB_FREE(trace);
  return graph;
}

pr_graph *pr_trace_end(pr_trace *trace, int n_outputs, pr_tensor *const *outputs) {
  uint64_t id = trace->id;
  pr_graph *graph = detach(trace);
  for (int k = 0; k < n_outputs; k++) {
    pr_status status;
    if (outputs[k]->trace_id != id)
      status = pr_fail(PR_ERR_STATE, "output %lld of the model does not depend on its input or parameters",
                       PR_INDEX(k));
    else
      status = prG_add_output(graph, outputs[k]->trace_value);
    if (!status) continue;
    pr_graph_free(graph);
    return NULL;
  }
  return graph;
}

void pr_trace_cancel(pr_trace *trace) { pr_graph_free(detach(trace)); }

/* --- the batch --------------------------------------------------------------------------------------------------------------- */

static pr_status differs(const pr_graph_node *node, const char *what) {
  return pr_fail(
      PR_ERR_STATE,
      "%s at '%s' (%s): %s changes with the batch size; write the model so that it works for any batch "
      "(x:size(1) instead of a number)",
      node->op->name, node->path, node->type, what);
}

/* a and b are an argument's value at the two batch sizes: equal, or k * batch. */
static pr_status fit(const pr_graph *graph, const pr_graph *other, int64_t a, int64_t b, int64_t *k) {
  *k = 0;
  if (a == b) return PR_OK;
  if (graph->batch < 1 || a % graph->batch || b != a / graph->batch * other->batch) return PR_ERR_STATE;
  *k = a / graph->batch;
  return PR_OK;
}

static pr_status fit_arg(const pr_graph *graph, const pr_graph *other, pr_graph_node *node,
                         const pr_graph_node *twin, int a) {
  const pr_arg *x = &node->args[a], *y = &twin->args[a];
  const char *name = node->op->args[a].name;
  if (x->real != y->real || x->count != y->count) return differs(node, name);
  int count = x->count > 0 ? x->count : 1;
  int64_t *scale = PRB_ARRAY(int64_t, count);
  if (!scale) return PR_ERR_MEMORY;
  bool any = false;
  for (int i = 0; i < count; i++) {
    int64_t p = x->count ? x->list[i] : x->integer, q = y->count ? y->list[i] : y->integer;
    if (fit(graph, other, p, q, &scale[i])) {
      PRB_ARRAY_FREE(scale, count);
      return differs(node, name);
    }
    any = any || scale[i];
  }
  if (!any)
    PRB_ARRAY_FREE(scale, count);
  else
    node->scale[a] = scale, node->scaled |= (uint16_t)(1u << a);
  return PR_OK;
}

static bool at_hand(const pr_tensor *t) { return t && t->storage && t->device == PR_CPU; }

bool prG_same_numbers(const pr_tensor *a, const pr_tensor *b) {
  if (!at_hand(a) || !at_hand(b) || a == b) return true;
  prT_walk v, w;
  for (prT_walk_start(&v, a), prT_walk_start(&w, b); v.left > 0; prT_walk_next(&v), prT_walk_next(&w)) {
    double x = prT_get(a, v.position), y = prT_get(b, w.position);
    if (x != y && (x == x || y == y)) return false; /* nan is nan */
  }
  return true;
}

/* A constant that is made in the size of the batch, or from it, would hold for that size only. */
static pr_status fit_constant(const pr_graph *graph, const pr_graph *other, const pr_graph_node *node, int v,
                              int w) {
  if (v < 0 || w < 0 || graph->values[v].kind != PR_VALUE_CONSTANT) return PR_OK;
  const pr_graph_value *x = &graph->values[v], *y = &other->values[w];
  bool sized = y->kind == PR_VALUE_CONSTANT && x->dim == y->dim &&
               memcmp(x->shape, y->shape, (size_t)x->dim * sizeof *x->shape) == 0;
  if (!sized)
    return pr_fail(
        PR_ERR_STATE,
        "%s at '%s' (%s): a tensor that the model's code makes from numbers has the size of the batch; make "
        "it for one sample and expand it, or, where only training makes it, trace in evaluation mode "
        "(net:eval())",
        node->op->name, node->path, node->type);
  if (prG_same_numbers(x->tensor, y->tensor)) return PR_OK;
  return pr_fail(
      PR_ERR_STATE,
      "%s at '%s' (%s): a number that the model's code works out is %g with a batch of %lld and %g with a "
      "batch "
      "of %lld; a graph would keep the first. Compute it with operators (mean instead of a division by the "
      "batch's size)",
      node->op->name, node->path, node->type, prT_get(x->tensor, 0), (long long)graph->batch,
      prT_get(y->tensor, 0), (long long)other->batch);
}

pr_status pr_graph_fit_batch(pr_graph *graph, const pr_graph *other) {
  if (graph->n_nodes != other->n_nodes)
    return pr_fail(PR_ERR_STATE,
                   "the model runs %d operators with a batch of %lld and %d with a batch of %lld: a path "
                   "that depends on the "
                   "batch size cannot be traced",
                   graph->n_nodes, (long long)graph->batch, other->n_nodes, (long long)other->batch);
  for (int n = 0; n < graph->n_nodes; n++) {
    pr_graph_node *node = &graph->nodes[n];
    const pr_graph_node *twin = &other->nodes[n];
    if (node->op != twin->op || node->n_in != twin->n_in || node->n_out != twin->n_out)
      return differs(node, "the operator");
    for (int a = 0; a < PR_MAX_ARGS && node->op->args[a].name; a++)
      PR_TRY(fit_arg(graph, other, node, twin, a));
    for (int i = 0; i < node->n_in; i++) PR_TRY(fit_constant(graph, other, node, node->in[i], twin->in[i]));
  }
  return PR_OK;
}
