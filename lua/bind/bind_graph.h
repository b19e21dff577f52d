/* bind_graph.h - graphs and groups for the other files of the binding. */
#ifndef PRUNELUA_BIND_GRAPH_H
#define PRUNELUA_BIND_GRAPH_H

#include "bind.h"

#include "prune/pruning.h"

/* The graph at `index`; its coupling (made at the first question); the group at `index`. All raise for other values. */
pr_graph *bind_check_graph(lua_State *L, int index);
pr_pruning *bind_check_pruning(lua_State *L, int index);
pr_group *bind_check_group(lua_State *L, int index);

/* Marks, one per value of the graph, for values that hold positions: those that come from an input and end as one, and those that an
 * operator makes and an output shows. Only marks of graph inputs (outputs) are meant to be read. */
void bind_graph_index_inputs(const pr_graph *graph, bool *marked);
void bind_graph_index_outputs(const pr_graph *graph, bool *marked);

#endif
