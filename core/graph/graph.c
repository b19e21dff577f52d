/* graph.c - memory of graphs, look-ups, copies. */
#include "graph/graph.h"

#include "base/memory.h"

#include <stdio.h>
#include <string.h>

pr_graph *prG_new(void) { return PRB_NEW(pr_graph); }

static void free_node(pr_graph_node *node) {
  for (int a = 0; a < PR_MAX_ARGS; a++) {
    if (node->scale[a]) PRB_ARRAY_FREE(node->scale[a], node->args[a].count > 0 ? node->args[a].count : 1);
  }
  pr_args_free(node->args);
  PRB_ARRAY_FREE(node->in, node->n_in);
  PRB_ARRAY_FREE(node->out, node->n_out);
  prB_string_free(node->path);
  prB_string_free(node->type);
}

void pr_graph_free(pr_graph *graph) {
  if (!graph) return;
  for (int v = 0; v < graph->n_values; v++)
    pr_release(graph->values[v].tensor), prB_string_free(graph->values[v].name);
  for (int n = 0; n < graph->n_nodes; n++) free_node(&graph->nodes[n]);
  for (int m = 0; m < graph->n_modules; m++)
    prB_string_free(graph->modules[m].path), prB_string_free(graph->modules[m].type);
  PRB_ARRAY_FREE(graph->values, graph->value_room);
  PRB_ARRAY_FREE(graph->nodes, graph->node_room);
  PRB_ARRAY_FREE(graph->modules, graph->module_room);
  PRB_ARRAY_FREE(graph->inputs, graph->input_room);
  PRB_ARRAY_FREE(graph->outputs, graph->output_room);
  PRB_FREE(graph);
}

int prG_add_value(pr_graph *graph, pr_value_kind kind, const pr_tensor *like) {
  if (PRB_RESERVE(graph->values, graph->value_room, (size_t)graph->n_values + 1)) return -1;
  pr_graph_value *value = &graph->values[graph->n_values];
  *value = (pr_graph_value){ .kind = kind, .dtype = like->dtype, .dim = like->dim, .node = -1 };
  memcpy(value->shape, like->shape, sizeof value->shape);
  return graph->n_values++;
}

pr_graph_node *prG_add_node(pr_graph *graph, const pr_op *op, const pr_arg *args, int n_in, int n_out) {
  if (PRB_RESERVE(graph->nodes, graph->node_room, (size_t)graph->n_nodes + 1)) return NULL;
  pr_graph_node *node = &graph->nodes[graph->n_nodes];
  *node = (pr_graph_node){ .op = op, .n_in = n_in, .n_out = n_out };
  node->in = PRB_ARRAY(int, n_in), node->out = PRB_ARRAY(int, n_out);
  /* Defaults stand in what is not given, for rules that read arguments: a graph from text has only what was
   * written. */
  if (!node->in || !node->out || pr_args_copy(op, args, node->args) || prO_args_complete(op, node->args)) {
    free_node(node);
    return NULL;
  }
  graph->n_nodes++; /* from here pr_graph_free takes care of it */
  return node;
}

void prG_drop_last_node(pr_graph *graph) {
  while (graph->n_values > 0 && graph->values[graph->n_values - 1].kind == PR_VALUE_RESULT &&
         graph->values[graph->n_values - 1].node == graph->n_nodes - 1)
    graph->n_values--;
  free_node(&graph->nodes[--graph->n_nodes]);
}

pr_status prG_add_module(pr_graph *graph, const char *path, const char *type) {
  PR_TRY(PRB_RESERVE(graph->modules, graph->module_room, (size_t)graph->n_modules + 1));
  pr_graph_module module = { prB_string(path), prB_string(type) };
  if (!module.path || !module.type) {
    prB_string_free(module.path), prB_string_free(module.type);
    return PR_ERR_MEMORY;
  }
  graph->modules[graph->n_modules++] = module;
  return PR_OK;
}

pr_status prG_add_output(pr_graph *graph, int value) {
  PR_TRY(PRB_RESERVE(graph->outputs, graph->output_room, (size_t)graph->n_outputs + 1));
  graph->outputs[graph->n_outputs++] = value;
  return PR_OK;
}

pr_status prG_add_input(pr_graph *graph, int value) {
  PR_TRY(PRB_RESERVE(graph->inputs, graph->input_room, (size_t)graph->n_inputs + 1));
  graph->inputs[graph->n_inputs++] = value;
  return PR_OK;
}

/* --- looking ------------------------------------------------------------------------------------------------------------- */

int pr_graph_find(const pr_graph *graph, const pr_tensor *t) {
  for (int v = 0; v < graph->n_values; v++)
    if (graph->values[v].kind == PR_VALUE_PARAMETER && graph->values[v].tensor == t) return v;
  pr_fail(PR_ERR_ARGUMENT,
          "this tensor is not a parameter of the graph; give a parameter of the traced model, or its name");
  return -1;
}

int pr_graph_find_name(const pr_graph *graph, const char *name) {
  for (int v = 0; v < graph->n_values; v++)
    if (graph->values[v].kind == PR_VALUE_PARAMETER && strcmp(graph->values[v].name, name) == 0) return v;
  const char *nearest = NULL;
  const char **names = PRB_ARRAY(const char *, graph->n_values);
  if (!names) return -1;
  int n = 0;
  for (int v = 0; v < graph->n_values; v++)
    if (graph->values[v].kind == PR_VALUE_PARAMETER) names[n++] = graph->values[v].name;
  nearest = pr_nearest(name, names, n);
  PRB_ARRAY_FREE(names, graph->n_values);
  if (nearest)
    pr_fail(PR_ERR_ARGUMENT, "the graph has no parameter '%s'; did you mean '%s'?", name, nearest);
  else
    pr_fail(PR_ERR_ARGUMENT, "the graph has no parameter '%s'", name);
  return -1;
}

const char *prG_value_name(const pr_graph *graph, int value) {
  static _Thread_local char text[256];
  const pr_graph_value *v = &graph->values[value];
  if (v->name)
    snprintf(text, sizeof text, "%s", v->name);
  else if (v->kind == PR_VALUE_CONSTANT)
    snprintf(text, sizeof text, "constant.%d", value);
  else
    snprintf(text, sizeof text, "result of %s at '%s'", graph->nodes[v->node].op->name,
             graph->nodes[v->node].path);
  return text;
}

void pr_graph_sizes(const pr_graph *graph, int64_t *parameters, int64_t *buffers) {
  *parameters = *buffers = 0;
  for (int v = 0; v < graph->n_values; v++) {
    const pr_graph_value *value = &graph->values[v];
    if (value->kind != PR_VALUE_PARAMETER) continue;
    *(value->is_buffer ? buffers : parameters) += pr_numel(value->tensor);
  }
}

/* --- calls on shapes --------------------------------------------------------------------------------------------------------- */

/* A constant comes with its values: what is indexed by it is known. */
static pr_tensor *shape_of(const pr_graph *graph, int v) {
  const pr_graph_value *value = &graph->values[v];
  if (value->kind == PR_VALUE_CONSTANT) return pr_retain(value->tensor);
  return pr_tensor_new(value->dtype, PR_META, value->dim, value->shape);
}

pr_status prG_node_call(const pr_graph *graph, const pr_graph_node *node, pr_call *call) {
  *call = (pr_call){ .op = node->op, .n_in = node->n_in, .n_out = node->n_out, .meta = true };
  call->in = PRB_ARRAY(pr_tensor *, node->n_in), call->out = PRB_ARRAY(pr_tensor *, node->n_out);
  bool failed = !call->in || !call->out;
  for (int i = 0; i < node->n_in && !failed; i++)
    if (node->in[i] >= 0) failed = !(call->in[i] = shape_of(graph, node->in[i]));
  for (int k = 0; k < node->n_out && !failed; k++) failed = !(call->out[k] = shape_of(graph, node->out[k]));
  memcpy(call->args, node->args, sizeof call->args); /* lists stay the node's */
  if (!failed && !prO_args_complete(node->op, call->args)) return PR_OK;
  prG_call_free(call);
  return pr_error_last()->code;
}

void prG_call_free(pr_call *call) {
  for (int i = 0; call->in && i < call->n_in; i++) pr_release(call->in[i]);
  for (int k = 0; call->out && k < call->n_out; k++) pr_release(call->out[k]);
  PRB_ARRAY_FREE(call->in, call->n_in);
  PRB_ARRAY_FREE(call->out, call->n_out);
}

/* --- copies ------------------------------------------------------------------------------------------------------------------- */

static pr_status copy_value(pr_graph_value *to, const pr_graph_value *from, bool deep) {
  *to = *from;
  to->name = NULL;
  to->tensor = from->tensor && deep ? pr_clone(from->tensor) : pr_retain(from->tensor);
  if (from->tensor && !to->tensor) return PR_ERR_MEMORY;
  if (from->name && !(to->name = prB_string(from->name))) return PR_ERR_MEMORY;
  return PR_OK;
}

static pr_status copy_node(pr_graph *graph, const pr_graph_node *from) {
  pr_graph_node *to = prG_add_node(graph, from->op, from->args, from->n_in, from->n_out);
  if (!to) return PR_ERR_MEMORY;
  memcpy(to->in, from->in, (size_t)from->n_in * sizeof(int));
  memcpy(to->out, from->out, (size_t)from->n_out * sizeof(int));
  to->scaled = from->scaled;
  for (int a = 0; a < PR_MAX_ARGS; a++) {
    int count = from->args[a].count > 0 ? from->args[a].count : 1;
    if (!from->scale[a]) continue;
    if (!(to->scale[a] = PRB_ARRAY(int64_t, count))) return PR_ERR_MEMORY;
    memcpy(to->scale[a], from->scale[a], (size_t)count * sizeof(int64_t));
  }
  if (!(to->path = prB_string(from->path)) || !(to->type = prB_string(from->type))) return PR_ERR_MEMORY;
  return PR_OK;
}

static pr_status copy_graph(pr_graph *to, const pr_graph *from, bool deep) {
  to->batch = from->batch;
  PR_TRY(PRB_RESERVE(to->values, to->value_room, (size_t)from->n_values));
  for (int v = 0; v < from->n_values; v++) {
    to->n_values = v + 1;
    PR_TRY(copy_value(&to->values[v], &from->values[v], deep));
  }
  for (int n = 0; n < from->n_nodes; n++) PR_TRY(copy_node(to, &from->nodes[n]));
  for (int m = 0; m < from->n_modules; m++)
    PR_TRY(prG_add_module(to, from->modules[m].path, from->modules[m].type));
  for (int i = 0; i < from->n_inputs; i++) PR_TRY(prG_add_input(to, from->inputs[i]));
  for (int i = 0; i < from->n_outputs; i++) PR_TRY(prG_add_output(to, from->outputs[i]));
  return PR_OK;
}

pr_graph *pr_graph_clone(const pr_graph *graph, bool deep) {
  pr_graph *copy = prG_new();
  if (copy && copy_graph(copy, graph, deep)) pr_graph_free(copy), copy = NULL;
  return copy;
}
