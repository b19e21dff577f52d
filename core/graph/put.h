/* put.h - formatted pieces of text for a caller's put function: what the files of this room write with. */
#ifndef PR_GRAPH_PUT_H
#define PR_GRAPH_PUT_H

#include "graph/graph.h"

typedef struct prG_writer {
  const pr_graph *graph;
  void (*put)(void *ctx, const char *text);
  void *ctx;
} prG_writer;

/* Longer pieces than 1,023 bytes are cut. */
void prG_put(prG_writer *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
