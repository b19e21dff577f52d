/* regularizer.c - regularisers as functions of prune.core; prune/regularizer.lua makes objects of them. */
#include "bind_graph.h"

#include "prune/regularizer.h"

/* regularizers() -> list of { name =, help =, needs_groups =, options = } */
static int regularizers(lua_State *L) {
  lua_newtable(L);
  int n = 0;
  for (const pr_regularizer *const *r = pr_regularizer_list; *r; r++) {
    lua_createtable(L, 0, 4);
    lua_pushstring(L, (*r)->name), lua_setfield(L, -2, "name");
    lua_pushstring(L, (*r)->help), lua_setfield(L, -2, "help");
    lua_pushboolean(L, (*r)->needs_groups), lua_setfield(L, -2, "needs_groups");
    bind_push_options(L, (*r)->args), lua_setfield(L, -2, "options");
    lua_rawseti(L, -2, ++n);
  }
  return 1;
}

/* regularize(name, options, scales, graph or nil) -> list of penalties, per scale or per scope */
static int regularize(lua_State *L) {
  const pr_regularizer *regularizer = pr_regularizer_find(luaL_checkstring(L, 1));
  if (!regularizer) return bind_raise(L);
  pr_arg args[PR_MAX_ARGS];
  bind_read_options(L, 2, regularizer->name, regularizer->args, args);
  luaL_checktype(L, 3, LUA_TTABLE);
  int n = (int)luaL_len(L, 3);
  pr_tensor **scales = lua_newuserdatauv(L, (size_t)(n + 1) * sizeof *scales, 0);
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, 3, i + 1);
    scales[i] = bind_check_tensor(L, -1);
    if (scales[i]->dim != 1)
      return bind_error(L, "%s: scale %d must have one axis, has %d", regularizer->name, i + 1,
                        scales[i]->dim);
    lua_pop(L, 1);
  }
  pr_regularized model = { .scales = scales,
                           .n_scales = n,
                           .pruning = regularizer->needs_groups ? bind_check_pruning(L, 4) : NULL };
  int count = model.pruning ? model.pruning->units.scopes : n;
  double *penalty = lua_newuserdatauv(L, (size_t)(count + 1) * sizeof *penalty, 0);
  bind_check(L, regularizer->apply(&model, args, penalty));
  lua_createtable(L, count, 0);
  for (int i = 0; i < count; i++) lua_pushnumber(L, penalty[i]), lua_rawseti(L, -2, i + 1);
  return 1;
}

const luaL_Reg bind_regularizer_functions[] = { { "regularizers", regularizers },
                                                { "regularize", regularize },
                                                { NULL, NULL } };
