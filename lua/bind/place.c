/* place.c - units as positions along an axis of a parameter, and back: how the history of a model names them.
 */
#include "bind_graph.h"

#include <stdlib.h>
#include <string.h>

/* Of the units of `graph` those all of whose positions along (v, axis) are marked, into a new list on top of
 * the stack; returns the positions that they cover. */
static int64_t push_units_within(lua_State *L, const prC_units *units, int v, int axis,
                                 unsigned char *marked) {
  int64_t covered = 0;
  lua_Integer count = 0;
  lua_newtable(L);
  for (int32_t u = 0; u < units->count; u++) {
    int64_t within = 0, beyond = 0;
    for (int64_t m = units->start[u]; m < units->start[u + 1]; m++) {
      const prC_member *member = &units->member[m];
      if (member->parameter != v || member->axis != axis) continue;
      *(marked[member->position] ? &within : &beyond) += 1;
    }
    if (!within || beyond) continue;
    lua_pushinteger(L, u + 1), lua_rawseti(L, -2, ++count);
    for (int64_t m = units->start[u]; m < units->start[u + 1]; m++) {
      const prC_member *member = &units->member[m];
      if (member->parameter != v || member->axis != axis) continue;
      covered += marked[member->position] == 1;
      marked[member->position] = 2;
    }
  }
  return covered;
}

/* graph:units_within(parameter or name, dim, indices) -> numbers of the units that lie within these positions
 * and make them up: heads where the positions are those of heads */
static int units_within(lua_State *L) {
  bind_graph *box = bind_check_graph_box(L, 1);
  pr_pruning *pruning = bind_check_pruning(L, 1);
  int v = bind_find_value(L, box->graph, 2);
  int axis = bind_axis(L, 3, box->graph->values[v].dim, "units_within: the dimension");
  int64_t n, size = box->graph->values[v].shape[axis], *list = bind_read_indices(L, 4, size, &n),
             distinct = 0;
  unsigned char *marked = lua_newuserdatauv(L, (size_t)size + 1, 0);
  memset(marked, 0, (size_t)size + 1);
  for (int64_t i = 0; i < n; i++) distinct += !marked[list[i]], marked[list[i]] = 1;
  if (push_units_within(L, &pruning->units, v, axis, marked) != distinct)
    return bind_error(L, "units_within: the indices of '%s' are not those of whole units",
                      prG_value_name(box->graph, v));
  return 1;
}

/* The parameter and axis that name a scope: the first that makes its units, else the first. */
static void naming_axis(const pr_pruning *pruning, int32_t unit, int *v, int *axis) {
  const prC_units *units = &pruning->units;
  const prC_member *first = &units->member[units->start[unit]];
  *v = first->parameter, *axis = first->axis;
  for (int64_t m = units->start[unit]; m < units->start[unit + 1]; m++) {
    const prC_member *member = &units->member[m];
    if (!(pruning->values[member->parameter].producer >> member->axis & 1)) continue;
    *v = member->parameter, *axis = member->axis;
    return;
  }
}

/* { parameter =, dim =, kind =, indices = } of the marked units of a scope: `place` has room for the axis. */
static void push_place(lua_State *L, const pr_pruning *pruning, int scope, const unsigned char *gone,
                       unsigned char *place) {
  const prC_units *units = &pruning->units;
  int v, axis;
  naming_axis(pruning, units->scope_unit[units->scope_start[scope]], &v, &axis);
  int64_t size = pruning->values[v].shape[axis];
  memset(place, 0, (size_t)size);
  for (int32_t i = units->scope_start[scope]; i < units->scope_start[scope + 1]; i++) {
    int32_t u = units->scope_unit[i];
    for (int64_t m = units->start[u]; gone[u] && m < units->start[u + 1]; m++)
      if (units->member[m].parameter == v && units->member[m].axis == axis)
        place[units->member[m].position] = 1;
  }
  lua_createtable(L, 0, 4);
  lua_pushstring(L, prG_value_name(pruning->graph, v)), lua_setfield(L, -2, "parameter");
  lua_pushinteger(L, axis + 1), lua_setfield(L, -2, "dim");
  bind_push_word(L, PRC_KINDS, units->kind[scope]), lua_setfield(L, -2, "kind");
  lua_newtable(L);
  lua_Integer count = 0;
  for (int64_t p = 0; p < size; p++)
    if (place[p]) lua_pushinteger(L, p + 1), lua_rawseti(L, -2, ++count);
  lua_setfield(L, -2, "indices");
}

static int64_t longest_axis(const pr_graph *graph) {
  int64_t longest = 1;
  for (int v = 0; v < graph->n_values; v++)
    for (int d = 0; graph->values[v].kind == PR_VALUE_PARAMETER && d < graph->values[v].dim; d++)
      if (graph->values[v].shape[d] > longest) longest = graph->values[v].shape[d];
  return longest;
}

/* graph:locate(unit numbers) -> list of { parameter =, dim =, kind =, indices = }, one per scope */
static int locate(lua_State *L) {
  pr_pruning *pruning = bind_check_pruning(L, 1);
  const prC_units *units = &pruning->units;
  int64_t n, *list = bind_read_indices(L, 2, units->count, &n);
  unsigned char *gone = lua_newuserdatauv(L, (size_t)units->count + 1, 0),
                *any = lua_newuserdatauv(L, (size_t)units->scopes + 1, 0),
                *place = lua_newuserdatauv(L, (size_t)longest_axis(pruning->graph), 0);
  memset(gone, 0, (size_t)units->count + 1), memset(any, 0, (size_t)units->scopes + 1);
  for (int64_t i = 0; i < n; i++) gone[list[i]] = any[units->scope[list[i]]] = 1;
  lua_newtable(L);
  lua_Integer count = 0;
  for (int s = 0; s < units->scopes; s++) {
    if (!any[s]) continue;
    push_place(L, pruning, s, gone, place);
    lua_rawseti(L, -2, ++count);
  }
  return 1;
}

/* graph:kept(list of unit numbers) -> by value number, by axis: the positions that stay when these units go,
 * where not all do */
static int kept(lua_State *L) {
  const pr_graph *graph = bind_check_graph(L, 1);
  pr_pruning *pruning = bind_check_pruning(L, 1);
  int64_t n, *list = bind_read_indices(L, 2, pruning->units.count, &n), longest = 1;
  unsigned char *dead_unit = lua_newuserdatauv(L, (size_t)pruning->units.count + 1, 0),
                *dead = lua_newuserdatauv(L, pruning->algebra.count + 1, 0);
  memset(dead_unit, 0, (size_t)pruning->units.count);
  for (int64_t i = 0; i < n; i++) dead_unit[list[i]] = 1;
  prC_units_dead(&pruning->units, dead_unit, dead);
  for (int v = 0; v < graph->n_values; v++)
    for (int d = 0; d < pruning->values[v].dim; d++)
      if (pruning->values[v].shape[d] > longest) longest = pruning->values[v].shape[d];
  int64_t *index = lua_newuserdatauv(L, (size_t)longest * sizeof *index, 0);
  lua_newtable(L);
  for (int v = 0; v < graph->n_values; v++) {
    const prC_value *value = &pruning->values[v];
    bool shrinks = false;
    for (int d = 0; d < value->dim; d++) {
      int64_t count =
          value->label[d] ? prC_kept(&pruning->algebra, value->label[d], value->shape[d], dead, index) : 0;
      if (!value->label[d] || count == value->shape[d]) continue;
      if (!shrinks) lua_newtable(L);
      shrinks = true;
      for (int64_t i = 0; i < count; i++) index[i]++;
      bind_push_integers(L, (int)count, index);
      lua_rawseti(L, -2, d + 1);
    }
    if (shrinks) lua_rawseti(L, -2, v + 1);
  }
  return 1;
}

const luaL_Reg bind_place_graph_methods[] = {
  { "units_within", units_within },
  { "locate", locate },
  { "kept", kept },
  { NULL, NULL },
};
