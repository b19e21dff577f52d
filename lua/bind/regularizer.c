/* regularizer.c - regularisers as functions of prune.core; prune/regularizer.lua makes objects of them. */
#include "bind_graph.h"

#include "prune/regularizer.h"

static const char *const acts_on[] = { "units", "scales", "weights" };

/* regularizers() -> list of { name =, help =, acts_on =, options = } */
static int regularizers(lua_State *L) {
  lua_newtable(L);
  int n = 0;
  for (const pr_regularizer *const *r = pr_regularizer_list; *r; r++) {
    lua_createtable(L, 0, 4);
    lua_pushstring(L, (*r)->name), lua_setfield(L, -2, "name");
    lua_pushstring(L, (*r)->help), lua_setfield(L, -2, "help");
    lua_pushstring(L, acts_on[(*r)->acts_on]), lua_setfield(L, -2, "acts_on");
    bind_push_options(L, (*r)->args), lua_setfield(L, -2, "options");
    lua_rawseti(L, -2, ++n);
  }
  return 1;
}

static const pr_regularizer *read(lua_State *L, pr_arg args[PR_MAX_ARGS]) {
  const pr_regularizer *regularizer = pr_regularizer_find(luaL_checkstring(L, 1));
  if (!regularizer) bind_raise(L);
  bind_read_options(L, 2, regularizer->name, regularizer->args, args);
  bind_check(L, pr_regularizer_check(regularizer, args));
  return regularizer;
}

/* regularizer_check(name, options) raises for options out of range */
static int check(lua_State *L) {
  pr_arg args[PR_MAX_ARGS];
  read(L, args);
  return 0;
}

/* The tensors of the list at `index`, borrowed, in a userdata on top of the stack. */
static pr_tensor **read_tensors(lua_State *L, int index, const pr_regularizer *regularizer, int n) {
  pr_tensor **list = lua_newuserdatauv(L, (size_t)(n + 1) * sizeof *list, 0);
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, index, i + 1);
    list[i] = bind_check_tensor(L, -1);
    if (regularizer->acts_on == PR_ON_SCALES && list[i]->dim != 1)
      bind_error(L, "%s: scale %d must have one axis, has %d", regularizer->name, i + 1, list[i]->dim);
    lua_pop(L, 1);
  }
  return list;
}

/* State: a list of lists, one per scope, at `index`; an array per scope in a userdata on top of the stack.
 * One that does not fit the units (none yet, or of a model before a removal) is not read, and *step becomes
 * 0. */
static double **read_state(lua_State *L, int index, const prC_units *units, int64_t *step) {
  double **state = lua_newuserdatauv(
      L, (size_t)(units->scopes + 1) * sizeof *state + ((size_t)units->count + 1) * sizeof **state, 0);
  double *next = (double *)(state + units->scopes + 1);
  bool fits = lua_istable(L, index) && (int)lua_rawlen(L, index) == units->scopes;
  for (int s = 0; s < units->scopes; s++) {
    int32_t n = units->scope_start[s + 1] - units->scope_start[s];
    state[s] = next, next += n;
    for (int32_t u = 0; u < n; u++) state[s][u] = 0;
    if (!fits) continue;
    fits = lua_rawgeti(L, index, s + 1) == LUA_TTABLE && (int32_t)lua_rawlen(L, -1) == n;
    for (int32_t u = 0; u < n && fits; u++) {
      lua_rawgeti(L, -1, u + 1);
      state[s][u] = lua_tonumber(L, -1);
      lua_pop(L, 1);
    }
    lua_pop(L, 1);
  }
  if (!fits) *step = 0;
  return state;
}

static void push_state(lua_State *L, double *const *state, const prC_units *units) {
  lua_createtable(L, units->scopes, 0);
  for (int s = 0; s < units->scopes; s++) {
    int32_t n = units->scope_start[s + 1] - units->scope_start[s];
    lua_createtable(L, n, 0);
    for (int32_t u = 0; u < n; u++) lua_pushnumber(L, state[s][u]), lua_rawseti(L, -2, u + 1);
    lua_rawseti(L, -2, s + 1);
  }
}

/* regularize(name, options, tensors, graph or nil, step, state or nil) -> list of { penalty =, least =, most
 * =, touched = }, per tensor or per scope; how often it acted now; state or nil */
static int regularize(lua_State *L) {
  pr_arg args[PR_MAX_ARGS];
  lua_settop(L, 6);
  const pr_regularizer *regularizer = read(L, args);
  luaL_checktype(L, 3, LUA_TTABLE);
  pr_regularized model = { .n = (int)lua_rawlen(L, 3), .step = bind_integer(L, 5, "step") };
  model.tensors = read_tensors(L, 3, regularizer, model.n);
  if (regularizer->acts_on == PR_ON_UNITS || !lua_isnil(L, 4)) model.pruning = bind_check_pruning(L, 4);
  const prC_units *units = model.pruning ? &model.pruning->units : NULL;
  if (regularizer->keeps_state) model.state = read_state(L, 6, units, &model.step);
  int count = regularizer->acts_on == PR_ON_UNITS ? units->scopes : model.n;
  pr_term *term = lua_newuserdatauv(L, (size_t)(count + 1) * sizeof *term, 0);
  bind_check(L, pr_regularize(regularizer, &model, args, term));
  lua_createtable(L, count, 0);
  for (int i = 0; i < count; i++) {
    lua_createtable(L, 0, 4);
    lua_pushnumber(L, term[i].penalty), lua_setfield(L, -2, "penalty");
    lua_pushnumber(L, term[i].least), lua_setfield(L, -2, "least");
    lua_pushnumber(L, term[i].most), lua_setfield(L, -2, "most");
    lua_pushinteger(L, term[i].touched), lua_setfield(L, -2, "touched");
    lua_rawseti(L, -2, i + 1);
  }
  lua_pushinteger(L, model.step + 1);
  if (!model.state) return 2;
  push_state(L, model.state, units);
  return 3;
}

const luaL_Reg bind_regularizer_functions[] = { { "regularizers", regularizers },
                                                { "regularizer_check", check },
                                                { "regularize", regularize },
                                                { NULL, NULL } };
