/* run.c - running a graph, and inferring its shapes anew. */
#include "graph/graph.h"

#include "base/memory.h"
#include "base/scope.h"

#include <string.h>

/* Arguments of a node for a batch size and mode; lists that change are copied into `lists`. */
pr_status prG_node_args(const pr_graph *graph, const pr_graph_node *node, int64_t batch, int training,
                        pr_arg args[PR_MAX_ARGS]) {
  PR_TRY(pr_args_copy(node->op, node->args, args));
  for (int a = 0; a < PR_MAX_ARGS && node->op->args[a].name; a++) {
    if (node->op->args[a].kind == PR_ARG_MODE && training >= 0)
      args[a].integer = training, args[a].given = true;
    if (!node->scale[a] || batch == graph->batch) continue;
    int count = args[a].count;
    if (count == 0 && node->scale[a][0]) args[a].integer = node->scale[a][0] * batch;
    for (int i = 0; i < count; i++)
      if (node->scale[a][i]) args[a].list[i] = node->scale[a][i] * batch;
  }
  return PR_OK;
}

enum { FEW = 16 };

static pr_status show_inputs(const pr_graph *graph, const pr_graph_node *node, const pr_graph_watch *watch,
                             pr_tensor **in) {
  for (int i = 0; i < node->n_in && watch; i++)
    if (in[i]) PR_TRY(watch->reads(watch->ctx, (int)(node - graph->nodes), i, &in[i]));
  return PR_OK;
}

static pr_status run_node(const pr_graph *graph, const pr_graph_node *node, int64_t batch, int training,
                          const pr_graph_watch *watch, pr_tensor **values) {
  pr_tensor *few[2 * FEW], **room = few;
  int total = node->n_in + node->n_out, n_out = node->n_out;
  if (total > 2 * FEW && !(room = PRB_ARRAY(pr_tensor *, total))) return PR_ERR_MEMORY;
  pr_tensor **in = room, **out = room + node->n_in;
  pr_arg args[PR_MAX_ARGS];
  for (int i = 0; i < node->n_in; i++) in[i] = node->in[i] < 0 ? NULL : values[node->in[i]];
  pr_status status = show_inputs(graph, node, watch, in);
  if (!status) status = prG_node_args(graph, node, batch, training, args);
  if (!status) {
    int depth = pr_scope_enter(node->path, node->type);
    status = pr_apply(node->op, args, in, node->n_in, out, &n_out);
    pr_scope_leave(depth);
    pr_args_free(args);
  }
  for (int k = 0; k < n_out && !status; k++) values[node->out[k]] = out[k]; /* hidden outputs stay NULL */
  for (int i = 0; i < node->n_in; i++)
    if (in[i] && in[i] != values[node->in[i]]) pr_release(in[i]); /* what a watch put there */
  if (room != few) PRB_ARRAY_FREE(room, total);
  return status;
}

/* last[v]: the last node that reads value v; outputs of the graph are never dropped. */
static void last_uses(const pr_graph *graph, int *last) {
  for (int v = 0; v < graph->n_values; v++) last[v] = -1;
  for (int n = 0; n < graph->n_nodes; n++) {
    const pr_graph_node *node = &graph->nodes[n];
    for (int k = 0; k < node->n_out; k++) last[node->out[k]] = n;
    for (int i = 0; i < node->n_in; i++)
      if (node->in[i] >= 0) last[node->in[i]] = n;
  }
  for (int k = 0; k < graph->n_outputs; k++) last[graph->outputs[k]] = graph->n_nodes;
}

static void drop_finished(const pr_graph *graph, int n, const int *last, pr_tensor **values) {
  const pr_graph_node *node = &graph->nodes[n];
  for (int i = 0; i < node->n_in + node->n_out; i++) {
    int v = i < node->n_in ? node->in[i] : node->out[i - node->n_in];
    if (v < 0 || last[v] != n || graph->values[v].kind != PR_VALUE_RESULT) continue;
    pr_release(values[v]);
    values[v] = NULL;
  }
}

static pr_status check_inputs(const pr_graph *graph, pr_tensor *const *inputs, int64_t *batch) {
  *batch = graph->batch;
  for (int i = 0; i < graph->n_inputs; i++) {
    const pr_graph_value *want = &graph->values[graph->inputs[i]];
    char got[PR_SHAPE_TEXT], shape[PR_SHAPE_TEXT];
    bool fits = inputs[i]->dim == want->dim;
    for (int d = 0; d < want->dim && fits; d++)
      fits = inputs[i]->shape[d] == want->shape[d] ||
             (d == 0 && graph->batch > 0 && want->shape[0] == graph->batch);
    if (!fits)
      return pr_fail(
          PR_ERR_SHAPE, "input %lld has shape %s, the graph was traced with %s (the first axis is the batch)",
          PR_INDEX(i), pr_shape_text(inputs[i], got), prT_sizes_text(want->dim, want->shape, shape));
    if (want->dim && graph->batch > 0 && want->shape[0] == graph->batch) *batch = inputs[i]->shape[0];
  }
  return PR_OK;
}

pr_status pr_graph_run(const pr_graph *graph, pr_tensor *const *inputs, bool training, pr_tensor **outputs) {
  return pr_graph_run_watched(graph, inputs, training, NULL, outputs);
}

pr_status pr_graph_run_watched(const pr_graph *graph, pr_tensor *const *inputs, bool training,
                               const pr_graph_watch *watch, pr_tensor **outputs) {
  int64_t batch;
  PR_TRY(check_inputs(graph, inputs, &batch));
  pr_tensor **values = PRB_ARRAY(pr_tensor *, graph->n_values);
  int *last = PRB_ARRAY(int, graph->n_values);
  pr_status status = values && last ? PR_OK : PR_ERR_MEMORY;
  if (!status) {
    last_uses(graph, last);
    for (int v = 0; v < graph->n_values; v++) values[v] = graph->values[v].tensor;
    for (int i = 0; i < graph->n_inputs; i++) values[graph->inputs[i]] = inputs[i];
  }
  for (int n = 0; n < graph->n_nodes && !status; n++) {
    status = run_node(graph, &graph->nodes[n], batch, training, watch, values);
    if (!status) drop_finished(graph, n, last, values);
  }
  for (int k = 0; k < graph->n_outputs && !status; k++) outputs[k] = pr_retain(values[graph->outputs[k]]);
  for (int v = 0; values && v < graph->n_values; v++)
    if (graph->values[v].kind == PR_VALUE_RESULT) pr_release(values[v]);
  PRB_ARRAY_FREE(values, graph->n_values);
  PRB_ARRAY_FREE(last, graph->n_values);
  return status;
}

/* --- shapes anew ------------------------------------------------------------------------------------------------------------- */

/* Shapes run through the operators' own rules: every input is made a stand-in on PR_META. Hidden outputs are
 * not returned by pr_apply, so the rule is called directly. */
static pr_status infer_node(const pr_graph *graph, const pr_graph_node *node, pr_tensor **values) {
  pr_call c = { .op = node->op, .n_in = node->n_in, .meta = true };
  if (!(c.in = PRB_ARRAY(pr_tensor *, node->n_in)) && node->n_in) return PR_ERR_MEMORY;
  for (int i = 0; i < node->n_in; i++) c.in[i] = node->in[i] < 0 ? NULL : values[node->in[i]];
  int depth = pr_scope_enter(node->path, node->type);
  pr_status status = prG_node_args(graph, node, graph->batch, -1, c.args);
  if (!status) {
    status = prO_args_complete(node->op, c.args);
    if (!status) status = prO_outputs(&c, prO_outputs_declared(node->op));
    if (!status) status = node->op->infer(&c);
    if (!status && c.n_out != node->n_out)
      status = prO_fail(&c, PR_ERR_SHAPE, "gives %d results where the graph has %d", c.n_out, node->n_out);
    for (int k = 0; k < c.n_out; k++) {
      if (!status)
        values[node->out[k]] = c.out[k];
      else
        pr_release(c.out[k]);
    }
    pr_args_free(c.args);
    prB_resize(c.out, (size_t)c.n_out * sizeof *c.out, 0);
  }
  pr_scope_leave(depth);
  PRB_ARRAY_FREE(c.in, node->n_in);
  return status;
}

pr_status pr_graph_reshape(pr_graph *graph) {
  pr_tensor **values = PRB_ARRAY(pr_tensor *, graph->n_values);
  if (!values) return PR_ERR_MEMORY;
  pr_status status = PR_OK;
  for (int v = 0; v < graph->n_values && !status; v++) {
    const pr_graph_value *value = &graph->values[v];
    if (value->kind == PR_VALUE_RESULT) continue;
    const int64_t *shape = value->tensor ? value->tensor->shape : value->shape;
    values[v] = pr_tensor_new(value->dtype, PR_META, value->tensor ? value->tensor->dim : value->dim, shape);
    if (!values[v]) status = PR_ERR_MEMORY;
  }
  for (int n = 0; n < graph->n_nodes && !status; n++) status = infer_node(graph, &graph->nodes[n], values);
  for (int v = 0; v < graph->n_values; v++) {
    if (!status && values[v]) {
      graph->values[v].dim = values[v]->dim;
      memcpy(graph->values[v].shape, values[v]->shape, sizeof graph->values[v].shape);
    }
    pr_release(values[v]);
  }
  PRB_ARRAY_FREE(values, graph->n_values);
  return status;
}
