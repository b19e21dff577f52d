/* cost.c - live counts as shapes, and operators' own cost rules on them. */
#include "prune/cost.h"

#include "base/memory.h"

static pr_status open_calls(prP_costs *costs) {
  const pr_graph *graph = costs->pruning->graph;
  costs->call = PRB_ARRAY(pr_call, graph->n_nodes);
  costs->node = PRB_ARRAY(int, graph->n_nodes);
  if (!costs->call || !costs->node) return PR_ERR_MEMORY;
  for (int n = 0; n < graph->n_nodes; n++) {
    if (!graph->nodes[n].op->macs) continue;
    PR_TRY(prG_node_call(graph, &graph->nodes[n], &costs->call[costs->calls]));
    costs->node[costs->calls++] = n;
  }
  return PR_OK;
}

pr_status prP_costs_open(prP_costs *costs, pr_pruning *pruning) {
  *costs = (prP_costs){ .pruning = pruning };
  pr_status status =
      prC_floors_open(&costs->floors, &pruning->units, pruning->values, pruning->graph->n_values);
  if (!status) status = open_calls(costs);
  if (status) prP_costs_close(costs);
  return status;
}

void prP_costs_close(prP_costs *costs) {
  int nodes = costs->pruning ? costs->pruning->graph->n_nodes : 0;
  for (int i = 0; i < costs->calls; i++) prG_call_free(&costs->call[i]);
  PRB_ARRAY_FREE(costs->call, nodes);
  PRB_ARRAY_FREE(costs->node, nodes);
  prC_floors_close(&costs->floors);
  prP_stored_close(&costs->stored);
  *costs = (prP_costs){ 0 };
}

bool prP_costs_kill(prP_costs *costs, int32_t unit) {
  if (costs->floors.dead[unit]) return true;
  if (!prC_floors_kill(&costs->floors, unit)) return false;
  costs->gone++;
  return true;
}

void prP_costs_revive(prP_costs *costs, int32_t unit) {
  if (!costs->floors.dead[unit]) return;
  prC_floors_revive(&costs->floors, unit);
  costs->gone--;
}

static int64_t live_size(const prP_costs *costs, int value, int axis) {
  int32_t label = costs->floors.number[value * PRC_DIMS + axis];
  return label < 0 ? costs->pruning->values[value].shape[axis] : costs->floors.live[label];
}

static void take_shape(const prP_costs *costs, int value, pr_tensor *t) {
  for (int d = 0; t && d < t->dim; d++) t->shape[d] = live_size(costs, value, d);
}

void prP_costs_read(prP_costs *costs, pr_outcome *outcome) {
  const pr_graph *graph = costs->pruning->graph;
  int64_t batch = graph->batch > 0 ? graph->batch : 1;
  *outcome = (pr_outcome){ .units = costs->gone };
  for (int i = 0; i < costs->calls; i++) {
    const pr_graph_node *node = &graph->nodes[costs->node[i]];
    for (int k = 0; k < node->n_in; k++)
      if (node->in[k] >= 0) take_shape(costs, node->in[k], costs->call[i].in[k]);
    for (int k = 0; k < node->n_out; k++) take_shape(costs, node->out[k], costs->call[i].out[k]);
    outcome->macs += node->op->macs(&costs->call[i]) / batch;
  }
  for (int v = 0; v < graph->n_values; v++) {
    const pr_graph_value *value = &graph->values[v];
    if (value->kind != PR_VALUE_PARAMETER || value->is_buffer) continue;
    int64_t count = 1;
    for (int d = 0; d < value->dim; d++) count *= live_size(costs, v, d);
    outcome->params += count;
  }
}

pr_status prP_costs_bytes(prP_costs *costs, int64_t *bytes) {
  if (!costs->stored.pruning) PR_TRY(prP_stored_open(&costs->stored, costs->pruning, &costs->floors));
  *bytes = prP_stored_bytes(&costs->stored, &costs->floors);
  return PR_OK;
}
