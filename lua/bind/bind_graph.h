/* bind_graph.h - graphs and groups for the other files of the binding. */
#ifndef PRUNELUA_BIND_GRAPH_H
#define PRUNELUA_BIND_GRAPH_H

#include "bind.h"

#include "prune/criterion.h"

#define BIND_GRAPH "prune.Graph"
#define BIND_GROUP "prune.Group"

/* What a graph's userdata holds: the graph and, from the first question about coupling on, its pruning. */
typedef struct bind_graph {
  pr_graph *graph;
  pr_pruning *pruning;
} bind_graph;

/* What is at `index`: the userdata, the graph in it, its coupling (made at the first question), a group. All
 * raise for other values. */
bind_graph *bind_check_graph_box(lua_State *L, int index);
pr_graph *bind_check_graph(lua_State *L, int index);
pr_pruning *bind_check_pruning(lua_State *L, int index);
pr_group *bind_check_group(lua_State *L, int index);

/* Push the given arguments of a node as a table by name, positions counted from 1. */
void bind_push_args(lua_State *L, const pr_graph_node *node);
/* Options of criteria and regularisers: push their description as a list { name =, help =, kind =, choices =
 * }; read the table at `index` (or nil) into args, raising in the name of `what` for values of the wrong
 * kind. Unknown names were refused on the Lua side. */
void bind_push_options(lua_State *L, const pr_arg_spec *specs);
void bind_read_options(lua_State *L, int index, const char *what, const pr_arg_spec *specs,
                       pr_arg args[PR_MAX_ARGS]);
/* Append text to the luaL_Buffer `ctx`: for functions of the core that put text. */
void bind_put_text(void *ctx, const char *text);
/* Make the metatable of a type of userdata. */
void bind_open_type(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction gc);

/* Marks, one per value of the graph, for values that hold positions: those that come from an input and end as
 * one, and those that an operator makes and an output shows. Only marks of graph inputs (outputs) are meant
 * to be read. */
void bind_graph_index_inputs(const pr_graph *graph, bool *marked);
void bind_graph_index_outputs(const pr_graph *graph, bool *marked);
/* The constants that reach a position through such operators. */
void bind_graph_index_constants(const pr_graph *graph, bool *marked);

/* 1-based indices of the table, integer tensor or number at `index`: 0-based, in a userdata on top of the
 * stack; raises for those outside 1 ... size. */
int64_t *bind_read_indices(lua_State *L, int index, int64_t size, int64_t *n);
/* Value number of the parameter, or name of one, at `index`. */
int bind_find_value(lua_State *L, const pr_graph *graph, int index);
/* Push one of the words of a list that are parted by spaces. */
void bind_push_word(lua_State *L, const char *words, int number);
/* The statistics at `index`, or NULL for nil; raises for other values. */
pr_statistics *bind_opt_statistics(lua_State *L, int index);
void bind_open_statistics(lua_State *L);

/* group.c: questions to a graph about its groups (methods of graphs), and the type of groups. */
extern const luaL_Reg bind_group_graph_methods[];
void bind_open_group(lua_State *L);

/* place.c: units as positions along parameters (methods of graphs). */
extern const luaL_Reg bind_place_graph_methods[];

/* removal.c: removing units (a method of graphs), and the type of removals. */
extern const luaL_Reg bind_removal_graph_methods[];
void bind_open_removal(lua_State *L);

#endif
