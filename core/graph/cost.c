/* cost.c - multiply-accumulates by operators' own rules, and ptflops' convention on top. */
#include "graph/graph.h"

#include <string.h>

static int64_t elements(const pr_graph_value *value) {
  int64_t n = 1;
  for (int d = 0; d < value->dim; d++) n *= value->shape[d];
  return n;
}

/* What ptflops 0.7.5 adds per element for operators that have no products: normalisation 2 with affine
 * parameters, else 1, by its input; activations and pooling 2, since it counts the module and the function
 * that the module calls: activations by their output, pooling by its input. */
static int64_t ptflops_extra(const pr_graph *graph, const pr_graph_node *node) {
  static const char *const norms[] = { "batch_norm", "instance_norm", "group_norm", "layer_norm", NULL };
  static const char *const activations[] = { "relu", "relu6", "prelu",     "elu", "leaky_relu",
                                             "gelu", "silu",  "hardswish", NULL };
  static const char *const pools[] = { "max_pool1d",          "max_pool2d",
                                       "avg_pool1d",          "avg_pool2d",
                                       "adaptive_avg_pool1d", "adaptive_avg_pool2d",
                                       "adaptive_max_pool2d", NULL };
  const char *name = node->op->name;
  for (int i = 0; norms[i]; i++)
    if (strcmp(name, norms[i]) == 0)
      return elements(&graph->values[node->in[0]]) * (node->n_in > 1 && node->in[1] >= 0 ? 2 : 1);
  for (int i = 0; activations[i]; i++)
    if (strcmp(name, activations[i]) == 0) return 2 * elements(&graph->values[node->out[0]]);
  for (int i = 0; pools[i]; i++)
    if (strcmp(name, pools[i]) == 0) return 2 * elements(&graph->values[node->in[0]]);
  return 0;
}

pr_status pr_graph_node_cost(const pr_graph *graph, int n, pr_cost *cost) {
  const pr_graph_node *node = &graph->nodes[n];
  int64_t batch = graph->batch > 0 ? graph->batch : 1;
  pr_call call;
  *cost = (pr_cost){ 0 };
  if (node->op->macs) {
    PR_TRY(prG_node_call(graph, node, &call));
    cost->macs = node->op->macs(&call) / batch;
    prG_call_free(&call);
  }
  cost->macs_ptflops = cost->macs + ptflops_extra(graph, node) / batch;
  return PR_OK;
}

pr_status pr_graph_cost(const pr_graph *graph, pr_cost *total) {
  *total = (pr_cost){ 0 };
  for (int n = 0; n < graph->n_nodes; n++) {
    pr_cost cost;
    PR_TRY(pr_graph_node_cost(graph, n, &cost));
    total->macs += cost.macs, total->macs_ptflops += cost.macs_ptflops;
  }
  return PR_OK;
}
