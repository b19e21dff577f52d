/* statistics.c - what data tell a criterion, as a Lua value; prune/criterion.lua gathers them. Its user value
 * is the graph. */
#include "bind_graph.h"

#include <string.h>

#define BIND_STATISTICS "prune.Statistics"

pr_statistics *bind_opt_statistics(lua_State *L, int index) {
  if (lua_isnoneornil(L, index)) return NULL;
  return *(pr_statistics **)luaL_checkudata(L, index, BIND_STATISTICS);
}

static int statistics_gc(lua_State *L) {
  pr_statistics **box = luaL_checkudata(L, 1, BIND_STATISTICS);
  pr_statistics_free(*box);
  *box = NULL;
  return 0;
}

static pr_statistics *check(lua_State *L, int index) {
  pr_statistics *statistics = bind_opt_statistics(L, index);
  if (!statistics) bind_error(L, "statistics: these are released");
  return statistics;
}

/* statistics(graph, criterion's name, options) */
static int statistics(lua_State *L) {
  pr_pruning *pruning = bind_check_pruning(L, 1);
  const pr_criterion *criterion = pr_criterion_find(luaL_checkstring(L, 2));
  if (!criterion) return bind_raise(L);
  pr_arg args[PR_MAX_ARGS];
  bind_read_options(L, 3, criterion->name, criterion->args, args);
  pr_statistics **box = lua_newuserdatauv(L, sizeof(pr_statistics *), 1);
  *box = NULL;
  luaL_setmetatable(L, BIND_STATISTICS);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  if (!(*box = pr_statistics_new(pruning, criterion, args))) return bind_raise(L);
  return 1;
}

/* statistics:set(parameter, tensor): the tensor that goes with a parameter of the graph; others are ignored
 */
static int set(lua_State *L) {
  pr_statistics *s = check(L, 1);
  const pr_tensor *parameter = bind_check_tensor(L, 2);
  pr_tensor *t = bind_check_tensor(L, 3);
  const pr_graph *graph = s->pruning->graph;
  for (int v = 0; v < graph->n_values; v++)
    if (graph->values[v].tensor == parameter) bind_check(L, pr_statistics_set(s, v, t));
  return 0;
}

/* statistics:finish(): after backward */
static int finish(lua_State *L) {
  bind_check(L, pr_statistics_finish(check(L, 1)));
  return 0;
}

/* parameter_roles(graph) -> table: name -> "weight", "scale", "bias" or "buffer" */
static int parameter_roles(lua_State *L) {
  static const char *const words[] = { "unknown", "weight", "scale", "bias", "buffer" };
  pr_pruning *pruning = bind_check_pruning(L, 1);
  lua_newtable(L);
  for (int v = 0; v < pruning->graph->n_values; v++) {
    if (pruning->graph->values[v].kind != PR_VALUE_PARAMETER) continue;
    lua_pushstring(L, words[prP_role_of(pruning, v)]);
    lua_setfield(L, -2, pruning->graph->values[v].name);
  }
  return 1;
}

const luaL_Reg bind_statistics_functions[] = {
  { "statistics", statistics },
  { "parameter_roles", parameter_roles },
  { NULL, NULL },
};

static const luaL_Reg methods[] = {
  { "set", set },
  { "finish", finish },
  { NULL, NULL },
};

void bind_open_statistics(lua_State *L) { bind_open_type(L, BIND_STATISTICS, methods, statistics_gc); }
