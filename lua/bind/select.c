/* select.c - criteria and the choice of units as functions of prune.core; prune/structured.lua makes plans of
 * them. */
#include "bind.h"

#include "bind_graph.h"
#include "prune/criterion.h"
#include "prune/select.h"
#include "prune/verify.h"

#include <string.h>

void bind_push_options(lua_State *L, const pr_arg_spec *specs) {
  lua_newtable(L);
  for (int a = 0; a < PR_MAX_ARGS && specs[a].name; a++) {
    const pr_arg_spec *spec = &specs[a];
    lua_createtable(L, 0, 4);
    lua_pushstring(L, spec->name), lua_setfield(L, -2, "name");
    lua_pushstring(L, spec->help ? spec->help : ""), lua_setfield(L, -2, "help");
    lua_pushstring(L, spec->kind == PR_ARG_CHOICE ? "choice"
                      : spec->kind == PR_ARG_BOOL ? "boolean"
                      : spec->kind == PR_ARG_INT  ? "integer"
                                                  : "number");
    lua_setfield(L, -2, "kind");
    if (spec->choices) lua_pushstring(L, spec->choices), lua_setfield(L, -2, "choices");
    lua_rawseti(L, -2, a + 1);
  }
}

/* criteria() -> list of { name =, help =, needs_gradients =, options = list of { name =, help =, choices = }
 * } */
static int criteria(lua_State *L) {
  lua_newtable(L);
  int n = 0;
  for (const pr_criterion *const *c = pr_criterion_list; *c; c++) {
    lua_createtable(L, 0, 4);
    lua_pushstring(L, (*c)->name), lua_setfield(L, -2, "name");
    lua_pushstring(L, (*c)->help), lua_setfield(L, -2, "help");
    lua_pushboolean(L, (*c)->needs_gradients), lua_setfield(L, -2, "needs_gradients");
    bind_push_options(L, (*c)->args);
    lua_setfield(L, -2, "options");
    lua_rawseti(L, -2, ++n);
  }
  return 1;
}

static int64_t read_choice(lua_State *L, const char *what, const pr_arg_spec *spec, const char *word) {
  int64_t number = 0;
  for (const char *at = spec->choices; *at; number++) {
    size_t length = strcspn(at, " ");
    if (strlen(word) == length && strncmp(at, word, length) == 0) return number;
    at += length + (at[length] != 0);
  }
  return bind_error(L, "%s: option '%s' is one of '%s', got '%s'", what, spec->name, spec->choices, word);
}

void bind_read_options(lua_State *L, int index, const char *what, const pr_arg_spec *specs,
                       pr_arg args[PR_MAX_ARGS]) {
  memset(args, 0, PR_MAX_ARGS * sizeof *args);
  for (int a = 0; a < PR_MAX_ARGS && specs[a].name; a++) {
    const pr_arg_spec *spec = &specs[a];
    args[a] = (pr_arg){ .integer = spec->integer, .real = spec->real };
    int type = lua_istable(L, index) ? lua_getfield(L, index, spec->name) : (lua_pushnil(L), LUA_TNIL);
    if (type != LUA_TNIL) {
      args[a].given = true;
      if (spec->kind == PR_ARG_CHOICE)
        args[a].integer = read_choice(L, what, spec, luaL_checkstring(L, -1));
      else if (spec->kind == PR_ARG_BOOL && type != LUA_TBOOLEAN)
        bind_error(L, "%s: option '%s' must be true or false, got %s", what, spec->name,
                   luaL_typename(L, -1));
      else if (spec->kind == PR_ARG_BOOL)
        args[a].integer = lua_toboolean(L, -1);
      else if (type != LUA_TNUMBER)
        bind_error(L, "%s: option '%s' must be a number, got %s", what, spec->name, luaL_typename(L, -1));
      else if (spec->kind == PR_ARG_INT && !lua_isinteger(L, -1))
        bind_error(L, "%s: option '%s' must be an integer, got %g", what, spec->name, lua_tonumber(L, -1));
      else
        args[a].real = lua_tonumber(L, -1), args[a].integer = (int64_t)args[a].real;
    }
    lua_pop(L, 1);
  }
}

/* score(name, options, group) -> f64 tensor of one score per unit */
static int score(lua_State *L) {
  const pr_criterion *criterion = pr_criterion_find(luaL_checkstring(L, 1));
  if (!criterion) return bind_raise(L);
  pr_arg args[PR_MAX_ARGS];
  bind_read_options(L, 2, criterion->name, criterion->args, args);
  const pr_group *group = bind_check_group(L, 3);
  int64_t shape[1] = { group->size };
  pr_tensor **slot = bind_slot(L), *scores = pr_tensor_zeros(PR_F64, PR_CPU, 1, shape);
  if (!scores) return bind_raise(L);
  pr_status status = criterion->score(group, args, prT_data(scores));
  if (status) {
    pr_release(scores);
    return bind_raise(L);
  }
  bind_fill(L, slot, scores);
  return 1;
}

/* Scores of the groups (a list), which are whole scopes, into score[unit]; their scopes into `scopes`. */
static void read_scores(lua_State *L, int groups, int scores, pr_pruning *pruning, int n, int *scopes,
                        double *score) {
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, groups, i + 1);
    const pr_group *group = bind_check_group(L, -1);
    lua_rawgeti(L, scores, i + 1);
    const pr_tensor *t = bind_check_tensor(L, -1);
    bind_check(L, prP_group_check(group));
    if (group->pruning != pruning) bind_error(L, "select: group %d is of another graph", i + 1);
    if (pr_numel(t) != group->size)
      bind_error(L, "the criterion must give one score per unit: group %d has %d units, got %d scores", i + 1,
                 (int)group->size, (int)pr_numel(t));
    scopes[i] = group->size ? pruning->units.scope[group->unit[0]] : 0;
    prT_walk walk;
    int32_t u = 0;
    for (prT_walk_start(&walk, t); walk.left > 0; prT_walk_next(&walk))
      score[group->unit[u++]] = prT_get(t, walk.position);
    lua_pop(L, 2);
  }
}

static void push_outcome(lua_State *L, const pr_outcome *outcome) {
  lua_createtable(L, 0, 3);
  lua_pushinteger(L, outcome->macs), lua_setfield(L, -2, "macs");
  lua_pushinteger(L, outcome->params), lua_setfield(L, -2, "params");
  lua_pushinteger(L, outcome->units), lua_setfield(L, -2, "units");
}

static pr_selection read_selection(lua_State *L, int index) {
  static const char *const targets[] = { "ratio", "macs", "params", NULL }, *const roundings[] = {
    "down", "up", "nearest", NULL
  };
  pr_selection how = { .round_to = 1 };
  luaL_checktype(L, index, LUA_TTABLE);
  lua_getfield(L, index, "target"), how.target = (pr_target)luaL_checkoption(L, -1, "ratio", targets);
  lua_getfield(L, index, "amount"), how.amount = luaL_checknumber(L, -1);
  lua_getfield(L, index, "global"), how.global = lua_toboolean(L, -1);
  lua_getfield(L, index, "rounding"), how.rounding = (pr_rounding)luaL_checkoption(L, -1, "down", roundings);
  if (lua_getfield(L, index, "round_to") != LUA_TNIL) {
    lua_Integer k = bind_integer(L, -1, "round_to");
    if (k < 1 || k > 1 << 20) bind_error(L, "round_to must be at least 1, got %lld", (long long)k);
    how.round_to = (int)k;
  }
  lua_pop(L, 5);
  return how;
}

/* select(graph, { target =, amount =, global =, round_to =, rounding = }, groups, scores) -> list of unit
 * numbers, outcome */
static int choose(lua_State *L) {
  pr_pruning *pruning = bind_check_pruning(L, 1);
  pr_selection how = read_selection(L, 2);
  luaL_checktype(L, 3, LUA_TTABLE);
  luaL_checktype(L, 4, LUA_TTABLE);
  lua_settop(L, 4);
  int n = (int)lua_rawlen(L, 3);
  int32_t units = pruning->units.count;
  int *scopes = lua_newuserdatauv(L, (size_t)(n + 1) * sizeof *scopes, 0);
  double *scores = lua_newuserdatauv(L, (size_t)(units + 1) * sizeof *scores, 0);
  unsigned char *dead = lua_newuserdatauv(L, (size_t)units + 1, 0);
  memset(scores, 0, (size_t)(units + 1) * sizeof *scores);
  read_scores(L, 3, 4, pruning, n, scopes, scores);
  pr_outcome outcome;
  bind_check(L, pr_select(pruning, &how, scopes, n, scores, dead, &outcome));
  lua_newtable(L);
  int count = 0;
  for (int32_t u = 0; u < units; u++)
    if (dead[u]) lua_pushinteger(L, u + 1), lua_rawseti(L, -2, ++count);
  push_outcome(L, &outcome);
  return 2;
}

/* outcome(graph, list of unit numbers) -> { macs =, params =, units = } if these were gone */
static int outcome_of(lua_State *L) {
  pr_pruning *pruning = bind_check_pruning(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  int32_t units = pruning->units.count;
  unsigned char *dead = lua_newuserdatauv(L, (size_t)units + 1, 0);
  memset(dead, 0, (size_t)units + 1);
  lua_Integer n = luaL_len(L, 2);
  for (lua_Integer i = 1; i <= n; i++) {
    lua_rawgeti(L, 2, i);
    lua_Integer u = bind_integer(L, -1, "a unit number");
    if (u < 1 || u > units) return bind_error(L, "unit %lld is outside 1..%d", (long long)u, (int)units);
    dead[u - 1] = 1;
    lua_pop(L, 1);
  }
  pr_outcome outcome;
  bind_check(L, pr_outcome_of(pruning, dead, &outcome));
  push_outcome(L, &outcome);
  return 1;
}

/* Positions among the inputs are 1-based on this side of the call. `marked` has room for the graph's values.
 */
static pr_status verify_shifted(pr_pruning *pruning, const int32_t *units, int32_t n, pr_tensor *const *given,
                                pr_dtype dtype, bool gradients, bool *marked, pr_verification *result) {
  const pr_graph *graph = pruning->graph;
  pr_tensor *inputs[16] = { NULL };
  pr_status status = PR_OK;
  bind_graph_index_inputs(graph, marked);
  for (int i = 0; i < graph->n_inputs && !status; i++) {
    inputs[i] = marked[graph->inputs[i]] ? bind_shift(given[i], -1) : pr_retain(given[i]);
    if (!inputs[i]) status = pr_error_last()->code;
  }
  if (!status) status = pr_verify(pruning, units, n, inputs, dtype, gradients, result);
  for (int i = 0; i < graph->n_inputs; i++) pr_release(inputs[i]);
  return status;
}

/* verify(graph, unit numbers, inputs, dtype, gradients) -> largest relative difference of outputs, of
 * gradients */
static int verify(lua_State *L) {
  pr_pruning *pruning = bind_check_pruning(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  luaL_checktype(L, 3, LUA_TTABLE);
  int32_t n = (int32_t)luaL_len(L, 2), *units = lua_newuserdatauv(L, (size_t)(n + 1) * sizeof *units, 0);
  for (int32_t i = 0; i < n; i++) {
    lua_rawgeti(L, 2, i + 1);
    lua_Integer u = bind_integer(L, -1, "a unit number");
    if (u < 1 || u > pruning->units.count)
      return bind_error(L, "unit %lld is outside 1..%d", (long long)u, (int)pruning->units.count);
    units[i] = (int32_t)(u - 1);
    lua_pop(L, 1);
  }
  pr_tensor *inputs[16];
  int count = (int)luaL_len(L, 3);
  if (count != pruning->graph->n_inputs || count > 16)
    return bind_error(L, "the graph takes %d inputs, got %d", pruning->graph->n_inputs, count);
  for (int i = 0; i < count; i++) {
    lua_rawgeti(L, 3, i + 1);
    inputs[i] = bind_check_tensor(L, -1);
    lua_pop(L, 1);
  }
  pr_verification result;
  pr_dtype dtype = bind_dtype(L, 4, PR_F32);
  bool *marked = lua_newuserdatauv(L, (size_t)pruning->graph->n_values * sizeof *marked, 0);
  bind_check(L, verify_shifted(pruning, units, n, inputs, dtype, lua_toboolean(L, 5), marked, &result));
  lua_pushnumber(L, result.output);
  lua_pushnumber(L, result.gradient);
  return 2;
}

const luaL_Reg bind_select_functions[] = {
  { "criteria", criteria },  { "score", score },   { "select", choose },
  { "outcome", outcome_of }, { "verify", verify }, { NULL, NULL },
};
