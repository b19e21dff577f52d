/* removal.c - removing units from Lua, and taking it back. A removal's user values: its graph, the function
 * that replays. */
#include "bind_graph.h"

#include "prune/removal.h"

#include <string.h>

#define BIND_REMOVAL "prune.Removal"

/* --- replay --------------------------------------------------------------------------------------------------------- */

typedef struct replay_context {
  lua_State *L;
  int function; /* stack index of replay(changes, undo) -> graph */
  const pr_graph *before;
} replay_context;

static bool args_differ(const pr_graph_node *a, const pr_graph_node *b) {
  for (int i = 0; i < PR_MAX_ARGS && a->op->args[i].name; i++) {
    const pr_arg *x = &a->args[i], *y = &b->args[i];
    if (x->integer != y->integer || x->count != y->count || x->real != y->real) return true;
    if (x->count && memcmp(x->list, y->list, (size_t)x->count * sizeof *x->list)) return true;
  }
  return false;
}

/* Operators whose arguments were rewritten: { { path, op, arguments }, ... }, for modules that keep such
 * numbers as state. */
static void push_changes(lua_State *L, const pr_graph *before, const pr_graph *next) {
  lua_newtable(L);
  int count = 0;
  for (int n = 0; n < next->n_nodes && n < before->n_nodes; n++) {
    if (before != next && !args_differ(&before->nodes[n], &next->nodes[n])) continue;
    if (before == next && !next->nodes[n].op->rewrite) continue; /* undo: tell all that could have changed */
    lua_createtable(L, 3, 0);
    lua_pushstring(L, next->nodes[n].path), lua_rawseti(L, -2, 1);
    lua_pushstring(L, next->nodes[n].op->name), lua_rawseti(L, -2, 2);
    bind_push_args(L, &next->nodes[n]), lua_rawseti(L, -2, 3);
    lua_rawseti(L, -2, ++count);
  }
}

static pr_graph *replay(void *ctx, const pr_graph *next, bool undo) {
  const replay_context *context = ctx;
  lua_State *L = context->L;
  int top = lua_gettop(L);
  pr_graph *graph = NULL;
  if (!lua_checkstack(L, 16)) return pr_fail(PR_ERR_MEMORY, "the Lua stack is full"), NULL;
  lua_pushvalue(L, context->function);
  push_changes(L, context->before, next);
  lua_pushboolean(L, undo);
  if (lua_pcall(L, 2, 1, 0)) {
    const char *message = lua_tostring(L, -1);
    pr_fail(PR_ERR_STATE, "the model cannot be run after the removal: %s",
            message ? message : "error in its forward function");
  } else if (!undo) {
    bind_graph *box = luaL_testudata(L, -1, BIND_GRAPH);
    if (box)
      graph = box->graph, box->graph = NULL;
    else
      pr_fail(PR_ERR_STATE, "the model could not be traced again");
  }
  lua_settop(L, top);
  return graph;
}

/* --- removal -------------------------------------------------------------------------------------------------------- */

static pr_removal **removal_slot(lua_State *L) {
  pr_removal **slot = lua_newuserdatauv(L, sizeof *slot, 2);
  *slot = NULL;
  luaL_setmetatable(L, BIND_REMOVAL);
  lua_pushvalue(L, 1), lua_setiuservalue(L, -2, 1);
  lua_pushvalue(L, 3), lua_setiuservalue(L, -2, 2);
  return slot;
}

/* graph:remove_units(list of unit numbers, replay function or nil, keep) -> with keep, a removal that can be
 * taken back */
static int remove_units(lua_State *L) {
  lua_settop(L, 4);
  bind_graph *box = bind_check_graph_box(L, 1);
  pr_pruning *pruning = bind_check_pruning(L, 1);
  int64_t n, *list = bind_read_indices(L, 2, pruning->units.count, &n);
  int32_t *units = lua_newuserdatauv(L, (size_t)(n > 0 ? n : 1) * sizeof *units, 0);
  for (int64_t i = 0; i < n; i++) units[i] = (int32_t)list[i];
  replay_context context = { L, 3, box->graph };
  pr_replay function = lua_isfunction(L, 3) ? replay : NULL;
  if (!lua_toboolean(L, 4)) {
    bind_check(L, pr_remove(pruning, units, (int32_t)n, function, &context));
    return 0;
  }
  pr_removal **slot = removal_slot(L);
  bind_check(L, pr_remove_kept(pruning, units, (int32_t)n, function, &context, slot));
  return 1;
}

static pr_removal **check_removal(lua_State *L) {
  pr_removal **slot = luaL_checkudata(L, 1, BIND_REMOVAL);
  if (!*slot) bind_error(L, "this removal is released");
  return slot;
}

/* removal:undo() */
static int undo(lua_State *L) {
  pr_removal **slot = check_removal(L);
  lua_settop(L, 1);
  lua_getiuservalue(L, 1, 1);
  lua_getiuservalue(L, 1, 2);
  replay_context context = { L, 3, bind_check_graph_box(L, 2)->graph };
  bind_check(L, pr_removal_undo(*slot, lua_isfunction(L, 3) ? replay : NULL, &context));
  return 0;
}

/* removal:write(tensor of the model, value): a repair, taken back with the removal */
static int write_value(lua_State *L) {
  pr_removal **slot = check_removal(L);
  bind_check(L, pr_removal_write(*slot, bind_check_tensor(L, 2), bind_check_tensor(L, 3)));
  return 0;
}

/* removal:bytes() -> memory that it holds */
static int bytes(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)pr_removal_bytes(*check_removal(L)));
  return 1;
}

/* removal:release(): it cannot be taken back any more */
static int release(lua_State *L) {
  pr_removal **slot = luaL_checkudata(L, 1, BIND_REMOVAL);
  pr_removal_free(*slot);
  *slot = NULL;
  return 0;
}

static const luaL_Reg removal_methods[] = {
  { "undo", undo }, { "write", write_value }, { "bytes", bytes }, { "release", release }, { NULL, NULL }
};

const luaL_Reg bind_removal_graph_methods[] = { { "remove_units", remove_units }, { NULL, NULL } };

void bind_open_removal(lua_State *L) { bind_open_type(L, BIND_REMOVAL, removal_methods, release); }
