/* dot.c - the graph as a picture, in Graphviz's language. */
#include "graph/graph.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct writer {
  const pr_graph *graph;
  void (*put)(void *ctx, const char *text);
  void *ctx;
} writer;

static void put_format(writer *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void put_format(writer *w, const char *format, ...) {
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  w->put(w->ctx, text);
}

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

static void put_shape(writer *w, const pr_graph_value *value) {
  char shape[PR_SHAPE_TEXT];
  int first =
      w->graph->batch > 0 && value->dim && value->shape[0] == w->graph->batch; /* the batch is left out */
  put_format(w, "%s", prT_sizes_text(value->dim - first, value->shape + first, shape));
}

static void put_node(writer *w, int n) {
  const pr_graph_node *node = &w->graph->nodes[n];
  char path[256];
  put_format(w, "  n%d [label=\"%s\\n%s", n, node->op->name, escape(node->path, path, sizeof path));
  for (int i = 0; i < node->n_in; i++) {
    if (node->in[i] < 0 || w->graph->values[node->in[i]].kind != PR_VALUE_PARAMETER) continue;
    const pr_graph_value *value = &w->graph->values[node->in[i]];
    const char *name = strrchr(value->name, '.');
    put_format(w, "\\n%s ", escape(name ? name + 1 : value->name, path, sizeof path));
    put_shape(w, value);
  }
  w->put(w->ctx, "\"];\n");
  for (int i = 0; i < node->n_in; i++) {
    if (node->in[i] < 0) continue;
    const pr_graph_value *value = &w->graph->values[node->in[i]];
    if (value->kind != PR_VALUE_RESULT && value->kind != PR_VALUE_INPUT) continue;
    if (value->kind == PR_VALUE_INPUT)
      put_format(w, "  v%d -> n%d [label=\"", node->in[i], n);
    else
      put_format(w, "  n%d -> n%d [label=\"", value->node, n);
    put_shape(w, value);
    w->put(w->ctx, "\"];\n");
  }
}

pr_status pr_graph_dot(const pr_graph *graph, void (*put)(void *ctx, const char *text), void *ctx) {
  writer w = { graph, put, ctx };
  put(ctx, "digraph model {\n  node [shape=box, style=rounded, fontname=\"Helvetica\", fontsize=10];\n"
           "  edge [fontname=\"Helvetica\", fontsize=8];\n");
  for (int i = 0; i < graph->n_inputs; i++)
    put_format(&w, "  v%d [label=\"%s\", shape=ellipse];\n", graph->inputs[i],
               graph->values[graph->inputs[i]].name);
  for (int n = 0; n < graph->n_nodes; n++) put_node(&w, n);
  for (int k = 0; k < graph->n_outputs; k++) {
    const pr_graph_value *value = &graph->values[graph->outputs[k]];
    put_format(&w, "  out%d [label=\"output%d\", shape=ellipse];\n", k, k + 1);
    if (value->kind == PR_VALUE_RESULT)
      put_format(&w, "  n%d -> out%d;\n", value->node, k);
    else
      put_format(&w, "  v%d -> out%d;\n", graph->outputs[k], k);
  }
  put(ctx, "}\n");
  return PR_OK;
}
