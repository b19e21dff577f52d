/* dot.c - the graph as a picture, in Graphviz's language. */
#include "graph/put.h"

#include <stdio.h>
#include <string.h>

/* Names may come from files: quotes and backslashes are escaped, control characters dropped. */
static const char *escape(const char *text, char *room, size_t size) {
  size_t n = 0;
  for (; *text && n + 2 < size; text++) {
    if ((unsigned char)*text < 32) continue;
    if (*text == '"' || *text == '\\') room[n++] = '\\';
    room[n++] = *text;
  }
  room[n] = 0;
  return room;
}

static void put_shape(prG_writer *w, const pr_graph_value *value) {
  char shape[PR_SHAPE_TEXT];
  int first =
      w->graph->batch > 0 && value->dim && value->shape[0] == w->graph->batch; /* the batch is left out */
  prG_put(w, "%s", prT_sizes_text(value->dim - first, value->shape + first, shape));
}

static void put_node(prG_writer *w, int n) {
  const pr_graph_node *node = &w->graph->nodes[n];
  char path[256];
  prG_put(w, "  n%d [label=\"%s\\n%s", n, node->op->name, escape(node->path, path, sizeof path));
  for (int i = 0; i < node->n_in; i++) {
    if (node->in[i] < 0 || w->graph->values[node->in[i]].kind != PR_VALUE_PARAMETER) continue;
    const pr_graph_value *value = &w->graph->values[node->in[i]];
    const char *name = strrchr(value->name, '.');
    prG_put(w, "\\n%s ", escape(name ? name + 1 : value->name, path, sizeof path));
    put_shape(w, value);
  }
  w->put(w->ctx, "\"];\n");
  for (int i = 0; i < node->n_in; i++) {
    if (node->in[i] < 0) continue;
    const pr_graph_value *value = &w->graph->values[node->in[i]];
    if (value->kind != PR_VALUE_RESULT && value->kind != PR_VALUE_INPUT) continue;
    if (value->kind == PR_VALUE_INPUT)
      prG_put(w, "  v%d -> n%d [label=\"", node->in[i], n);
    else
      prG_put(w, "  n%d -> n%d [label=\"", value->node, n);
    put_shape(w, value);
    w->put(w->ctx, "\"];\n");
  }
}

pr_status pr_graph_dot(const pr_graph *graph, void (*put)(void *ctx, const char *text), void *ctx) {
  prG_writer w = { graph, put, ctx };
  put(ctx, "digraph model {\n  node [shape=box, style=rounded, fontname=\"Helvetica\", fontsize=10];\n"
           "  edge [fontname=\"Helvetica\", fontsize=8];\n");
  for (int i = 0; i < graph->n_inputs; i++)
    prG_put(&w, "  v%d [label=\"%s\", shape=ellipse];\n", graph->inputs[i],
            graph->values[graph->inputs[i]].name);
  for (int n = 0; n < graph->n_nodes; n++) put_node(&w, n);
  for (int k = 0; k < graph->n_outputs; k++) {
    const pr_graph_value *value = &graph->values[graph->outputs[k]];
    prG_put(&w, "  out%d [label=\"output%d\", shape=ellipse];\n", k, k + 1);
    if (value->kind == PR_VALUE_RESULT)
      prG_put(&w, "  n%d -> out%d;\n", value->node, k);
    else
      prG_put(&w, "  v%d -> out%d;\n", graph->outputs[k], k);
  }
  put(ctx, "}\n");
  return PR_OK;
}
