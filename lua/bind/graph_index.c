/* graph_index.c - which inputs and outputs of a graph are positions: 0-based in the graph, 1-based in Lua.
 *
 * Operators say which of their inputs and outputs are positions. Between them and the edge of the graph there
 * may be operators that only move elements; and arithmetic such as ids + 1, for which it makes no difference
 * where the 1 is taken off.
 */
#include "bind_graph.h"

#include <string.h>

/* Does the operator hand the values of its input on? */
static bool moves(const pr_op *op, int input) {
  static const char *const movers[] = { "cat", "stack", "add" };
  static const char *const firsts[] = {
    "reshape",           "narrow", "contiguous", "flip",         "roll",   "tile",
    "repeat_interleave", "pad",    "sub",        "index_select", "gather", "masked_select"
  };
  if ((op->flags & PR_OP_VIEW) && input == 0) return true;
  for (size_t i = 0; i < sizeof movers / sizeof *movers; i++)
    if (strcmp(op->name, movers[i]) == 0) return true;
  for (size_t i = 0; i < sizeof firsts / sizeof *firsts; i++)
    if (input == 0 && strcmp(op->name, firsts[i]) == 0) return true;
  return false;
}

static bool whole(const pr_graph *graph, int value) {
  pr_dtype dtype = graph->values[value].dtype;
  return !pr_dtype_is_float(dtype) && dtype != PR_BOOL;
}

/* A sum takes the 1 off one of its operands only, which is an input or was shifted when it was made. */
static bool adds(const pr_op *op) { return strcmp(op->name, "add") == 0 || strcmp(op->name, "sub") == 0; }

static bool moves_to_inputs(const pr_graph *graph, const pr_graph_node *node, int i, bool out) {
  (void)graph;
  return prO_input_is_index(node->op, i) || (out && moves(node->op, i));
}

static bool moves_to_constants(const pr_graph *graph, const pr_graph_node *node, int i, bool out) {
  if (prO_input_is_index(node->op, i)) return graph->values[node->in[i]].kind != PR_VALUE_CONSTANT;
  return out && moves(node->op, i) && !adds(node->op);
}

/* From readers back to what they read; `reaches`: does index-hood reach input i of a node, `out` telling
 * whether it reached an output? */
static void mark_back(const pr_graph *graph, bool *marked,
                      bool (*reaches)(const pr_graph *, const pr_graph_node *, int i, bool out)) {
  memset(marked, 0, (size_t)graph->n_values * sizeof *marked);
  for (int n = graph->n_nodes - 1; n >= 0; n--) {
    const pr_graph_node *node = &graph->nodes[n];
    bool out = false;
    for (int k = 0; k < node->n_out; k++) out = out || marked[node->out[k]];
    for (int i = 0; i < node->n_in; i++)
      if (node->in[i] >= 0 && whole(graph, node->in[i]) && reaches(graph, node, i, out))
        marked[node->in[i]] = true;
  }
}

void bind_graph_index_inputs(const pr_graph *graph, bool *marked) {
  mark_back(graph, marked, moves_to_inputs);
}

void bind_graph_index_constants(const pr_graph *graph, bool *marked) {
  mark_back(graph, marked, moves_to_constants);
  for (int v = 0; v < graph->n_values; v++)
    marked[v] = marked[v] && graph->values[v].kind == PR_VALUE_CONSTANT;
}

void bind_graph_index_outputs(const pr_graph *graph, bool *marked) {
  memset(marked, 0, (size_t)graph->n_values * sizeof *marked);
  for (int n = 0; n < graph->n_nodes; n++) {
    const pr_graph_node *node = &graph->nodes[n];
    bool in = false;
    for (int i = 0; i < node->n_in; i++)
      in = in || (node->in[i] >= 0 && marked[node->in[i]] && moves(node->op, i));
    for (int k = 0; k < node->n_out; k++)
      if (whole(graph, node->out[k])) marked[node->out[k]] = in || prO_output_is_index(node->op, k);
  }
}
