/* bind_graph.h - graphs and groups for the other files of the binding. */
#ifndef PRUNELUA_BIND_GRAPH_H
#define PRUNELUA_BIND_GRAPH_H

#include "bind.h"

#include "prune/pruning.h"

/* The graph at `index`; its coupling (made at the first question); the group at `index`. All raise for other values. */
pr_graph *bind_check_graph(lua_State *L, int index);
pr_pruning *bind_check_pruning(lua_State *L, int index);
pr_group *bind_check_group(lua_State *L, int index);

#endif
