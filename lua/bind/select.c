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

/* criteria() -> list of { name =, help =, needs = (a word of pr_need_names), options = list of { name =, help
 * =, kind =, choices = } } */
static int criteria(lua_State *L) {
  lua_newtable(L);
  int n = 0;
  for (const pr_criterion *const *c = pr_criterion_list; *c; c++) {
    lua_createtable(L, 0, 4);
    lua_pushstring(L, (*c)->name), lua_setfield(L, -2, "name");
    lua_pushstring(L, (*c)->help), lua_setfield(L, -2, "help");
    lua_pushstring(L, pr_need_names[(*c)->needs]), lua_setfield(L, -2, "needs");
    bind_push_options(L, (*c)->args);
    lua_setfield(L, -2, "options");
    lua_rawseti(L, -2, ++n);
  }
  return 1;
}

static int64_t read_choice(lua_State *L, const char *what, const pr_arg_spec *spec) {
  int64_t number = 0;
  if (lua_type(L, -1) != LUA_TSTRING)
    bind_error(L, "%s: option '%s' is one of '%s', got a %s", what, spec->name, spec->choices,
               luaL_typename(L, -1));
  const char *word = lua_tostring(L, -1);
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
        args[a].integer = read_choice(L, what, spec);
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

/* score(name, options, group, statistics or nil) -> f64 tensor of one score per unit */
static int score(lua_State *L) {
  const pr_criterion *criterion = pr_criterion_find(luaL_checkstring(L, 1));
  if (!criterion) return bind_raise(L);
  pr_arg args[PR_MAX_ARGS];
  bind_read_options(L, 2, criterion->name, criterion->args, args);
  const pr_group *group = bind_check_group(L, 3);
  const pr_statistics *statistics = bind_opt_statistics(L, 4);
  if (statistics && statistics->criterion != criterion)
    return bind_error(L, "%s: these statistics were gathered for %s", criterion->name,
                      statistics->criterion->name);
  if (statistics && statistics->pruning != group->pruning)
    return bind_error(L, "%s: these statistics are of another graph", criterion->name);
  int64_t shape[1] = { group->size };
  pr_tensor **slot = bind_slot(L), *scores = pr_tensor_zeros(PR_F64, PR_CPU, 1, shape);
  if (!scores) return bind_raise(L);
  pr_status status = criterion->score(group, args, statistics, prT_data(scores));
  if (status) {
    pr_release(scores);
    return bind_raise(L);
  }
  bind_fill(L, slot, scores);
  return 1;
}

static void push_outcome(lua_State *L, const pr_outcome *outcome) {
  lua_createtable(L, 0, 4);
  lua_pushinteger(L, outcome->macs), lua_setfield(L, -2, "macs");
  lua_pushinteger(L, outcome->params), lua_setfield(L, -2, "params");
  lua_pushinteger(L, outcome->bytes), lua_setfield(L, -2, "bytes");
  lua_pushinteger(L, outcome->units), lua_setfield(L, -2, "units");
}

static pr_selection read_selection(lua_State *L, int index) {
  static const char *const targets[] = { "counts", "units", "macs", "params", "bytes", NULL },
                           *const roundings[] = { "down", "up", "nearest", NULL };
  pr_selection how = { .round_to = 1 };
  luaL_checktype(L, index, LUA_TTABLE);
  lua_getfield(L, index, "target"), how.target = (pr_target)luaL_checkoption(L, -1, NULL, targets);
  lua_getfield(L, index, "amount"), how.amount = luaL_optnumber(L, -1, 0);
  lua_getfield(L, index, "rounding"), how.rounding = (pr_rounding)luaL_checkoption(L, -1, "down", roundings);
  if (lua_getfield(L, index, "round_to") != LUA_TNIL) {
    lua_Integer k = bind_integer(L, -1, "round_to");
    if (k < 1 || k > 1 << 20) bind_error(L, "round_to must be at least 1, got %lld", (long long)k);
    how.round_to = (int)k;
  }
  lua_pop(L, 4);
  return how;
}

static int32_t count_field(lua_State *L, int index, const char *name, int32_t other) {
  lua_Integer value = other;
  if (lua_getfield(L, index, name) != LUA_TNIL) value = bind_integer(L, -1, name);
  lua_pop(L, 1);
  return (int32_t)(value < -1 ? -1 : value > INT32_MAX ? INT32_MAX : value);
}

/* The list of shares in field `curve` of the table at `index`, which lives as long as a new userdata, left on
 * the stack. */
static void read_curve(lua_State *L, int index, pr_contender *contender) {
  lua_getfield(L, index, "curve");
  int n = lua_istable(L, -1) ? (int)lua_rawlen(L, -1) : 0;
  double *curve = lua_newuserdatauv(L, (size_t)(n + 1) * sizeof *curve, 0);
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, -2, i + 1);
    curve[i] = lua_tonumber(L, -1);
    lua_pop(L, 1);
  }
  lua_remove(L, -2);
  contender->curve = n ? curve : NULL, contender->points = n;
}

/* Scores of a group into score[unit]. */
static void read_scores(lua_State *L, const char *name, const pr_group *group, const pr_tensor *t,
                        double *score) {
  if (pr_numel(t) != group->size)
    bind_error(L, "the criterion must give one score per unit: the group of %s has %d units, got %d scores",
               name, (int)group->size, (int)pr_numel(t));
  prT_walk walk;
  int32_t u = 0;
  for (prT_walk_start(&walk, t); walk.left > 0; prT_walk_next(&walk), u++) {
    score[group->unit[u]] = prT_get(t, walk.position);
    if (score[group->unit[u]] != score[group->unit[u]])
      bind_error(L, "the criterion gives NaN for unit %d of the group of %s", (int)u + 1, name);
  }
}

/* { group =, scores =, name =, pool =, before =, most =, want =, curve = } at the top of the stack, which
 * keeps one value more. */
static void read_contender(lua_State *L, const pr_pruning *pruning, pr_contender *contender, double *score) {
  int index = lua_gettop(L);
  lua_getfield(L, index, "group");
  const pr_group *group = bind_check_group(L, -1);
  bind_check(L, prP_group_check(group));
  if (group->pruning != pruning) bind_error(L, "select: a group is of another graph");
  lua_getfield(L, index, "scores");
  lua_getfield(L, index, "name");
  read_scores(L, luaL_optstring(L, -1, "?"), group, bind_check_tensor(L, -2), score);
  lua_settop(L, index);
  *contender = (pr_contender){ .unit = group->unit,
                               .size = group->size,
                               .pool = count_field(L, index, "pool", 0) - 1,
                               .before = count_field(L, index, "before", 0),
                               .most = count_field(L, index, "most", group->size),
                               .want = count_field(L, index, "want", 0) };
  read_curve(L, index, contender);
  lua_remove(L, index);
}

/* Positions of a group's dead units within it, as a list. */
static void push_dead_of(lua_State *L, const pr_contender *group, const unsigned char *dead) {
  int count = 0;
  lua_newtable(L);
  for (int32_t i = 0; i < group->size; i++)
    if (dead[group->unit[i]]) lua_pushinteger(L, i + 1), lua_rawseti(L, -2, ++count);
}

/* select(graph, { target =, amount =, round_to =, rounding = }, contenders) -> list of unit numbers, outcome,
 * list of lists of positions within each group. Pools count from 1; 0: by itself. */
static int choose(lua_State *L) {
  pr_pruning *pruning = bind_check_pruning(L, 1);
  pr_selection how = read_selection(L, 2);
  luaL_checktype(L, 3, LUA_TTABLE);
  lua_settop(L, 3);
  int n = (int)lua_rawlen(L, 3);
  int32_t units = pruning->units.count;
  pr_contender *contenders = lua_newuserdatauv(L, (size_t)(n + 1) * sizeof *contenders, 0);
  int32_t *gone = lua_newuserdatauv(L, (size_t)(n + 1) * sizeof *gone, 0);
  double *scores = lua_newuserdatauv(L, (size_t)(units + 1) * sizeof *scores, 0);
  unsigned char *dead = lua_newuserdatauv(L, (size_t)units + 1, 0);
  memset(scores, 0, (size_t)(units + 1) * sizeof *scores);
  luaL_checkstack(L, n + 16, "too many groups");
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, 3, i + 1);
    luaL_checktype(L, -1, LUA_TTABLE);
    read_contender(L, pruning, &contenders[i], scores);
  }
  pr_outcome outcome;
  bind_check(L, pr_select(pruning, &how, contenders, n, scores, dead, gone, &outcome));
  lua_newtable(L);
  int count = 0;
  for (int32_t u = 0; u < units; u++)
    if (dead[u]) lua_pushinteger(L, u + 1), lua_rawseti(L, -2, ++count);
  push_outcome(L, &outcome);
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    push_dead_of(L, &contenders[i], dead);
    lua_rawseti(L, -2, i + 1);
  }
  return 3;
}

static pr_status read_outcome(lua_State *L, prP_costs *costs, int32_t *units, int32_t n, bool bytes) {
  pr_outcome outcome;
  for (int32_t i = 0; i < n; i++)
    if (!prP_costs_kill(costs, units[i]))
      return pr_fail(PR_ERR_ARGUMENT, "with these units gone nothing would be left of some axis");
  prP_costs_read(costs, &outcome);
  pr_status status = bytes ? prP_costs_bytes(costs, &outcome.bytes) : PR_OK;
  for (int32_t i = 0; i < n; i++) prP_costs_revive(costs, units[i]);
  if (status) return status;
  push_outcome(L, &outcome);
  if (!bytes) lua_pushnil(L), lua_setfield(L, -2, "bytes");
  return PR_OK;
}

/* outcomes(graph, list of lists of unit numbers [, bytes]) -> list of { macs =, params =, bytes =, units = }:
 * costs if the units of one list were gone; bytes = false: all but the bytes */
static int outcomes(lua_State *L) {
  pr_pruning *pruning = bind_check_pruning(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  const bool bytes = lua_isnoneornil(L, 3) || lua_toboolean(L, 3);
  int n = (int)lua_rawlen(L, 2);
  int32_t **lists = lua_newuserdatauv(L, (size_t)(n + 1) * sizeof *lists, 0),
          *sizes = lua_newuserdatauv(L, (size_t)(n + 1) * sizeof *sizes, 0);
  luaL_checkstack(L, n + 16, "too many lists");
  for (int i = 0; i < n; i++) {
    int64_t size, *list;
    lua_rawgeti(L, 2, i + 1);
    list = bind_read_indices(L, lua_gettop(L), pruning->units.count, &size);
    lists[i] = lua_newuserdatauv(L, (size_t)(size + 1) * sizeof **lists, 0), sizes[i] = (int32_t)size;
    for (int64_t k = 0; k < size; k++) lists[i][k] = (int32_t)list[k];
    lua_replace(L, -3), lua_pop(L, 1);
  }
  lua_createtable(L, n, 0);
  prP_costs costs;
  bind_check(L, prP_costs_open(&costs, pruning));
  pr_status status = PR_OK;
  for (int i = 0; i < n && !status; i++)
    if (!(status = read_outcome(L, &costs, lists[i], sizes[i], bytes))) lua_rawseti(L, -2, i + 1);
  prP_costs_close(&costs);
  bind_check(L, status);
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
  { "criteria", criteria }, { "score", score },   { "select", choose },
  { "outcomes", outcomes }, { "verify", verify }, { NULL, NULL },
};
