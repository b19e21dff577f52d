/* core.c - the module "prune.core": functions of all rooms, the table of operators, and the metatable of
 * tensors. */
#include "bind.h"

#include "base/memory.h"
#include "base/random.h"
#include "base/scope.h"
#include "base/thread.h"

#include <string.h>

/* --- the process --------------------------------------------------------------------------------------------------------- */

static int seed(lua_State *L) {
  if (!lua_isnoneornil(L, 1)) pr_seed((uint64_t)bind_integer(L, 1, "seed: the number"));
  return lua_pushinteger(L, (lua_Integer)pr_seed_get()), 1;
}

static int random_state(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)pr_seed_get());
  lua_pushinteger(L, (lua_Integer)pr_random_step());
  return 2;
}

static int restore_random_state(lua_State *L) {
  pr_random_restore((uint64_t)bind_integer(L, 1, "the seed"), (uint64_t)bind_integer(L, 2, "the step"));
  return 0;
}

static int threads(lua_State *L) {
  if (!lua_isnoneornil(L, 1)) {
    lua_Integer n = bind_integer(L, 1, "threads: the number");
    bind_check(L, pr_threads_set(n > 1 << 16 ? 1 << 16 : n < 0 ? 0 : (int)n));
  }
  return lua_pushinteger(L, pr_threads()), 1;
}

static int backend(lua_State *L) {
  if (!lua_isnoneornil(L, 1)) bind_check(L, pr_backend_use(luaL_checkstring(L, 1)));
  return lua_pushstring(L, pr_backend_used()), 1;
}

static int backends(lua_State *L) {
  lua_newtable(L);
  for (int i = 0; pr_backends()[i]; i++) {
    lua_pushstring(L, pr_backends()[i]);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

static int memory(lua_State *L) {
  pr_memory_stats stats;
  pr_memory_get(&stats);
  lua_createtable(L, 0, 5);
  lua_pushinteger(L, (lua_Integer)stats.live), lua_setfield(L, -2, "live");
  lua_pushinteger(L, (lua_Integer)stats.peak), lua_setfield(L, -2, "peak");
  lua_pushinteger(L, (lua_Integer)pr_storage_live()), lua_setfield(L, -2, "tensors");
  lua_pushinteger(L, (lua_Integer)stats.blocks), lua_setfield(L, -2, "blocks");
  lua_pushinteger(L, (lua_Integer)stats.calls), lua_setfield(L, -2, "calls");
  return 1;
}

/* fail_allocation(n, sticky): the nth allocation of the core from now on fails (and all later ones); 0: none.
 * For tests. */
static int fail_allocation(lua_State *L) {
  lua_Integer n = luaL_checkinteger(L, 1);
  pr_memory_fail_after(n > 0 ? (size_t)n : 0, lua_toboolean(L, 2));
  return 0;
}

static int reset_peak_memory(lua_State *L) { return (void)L, pr_memory_reset_peak(), 0; }
static int empty_cache(lua_State *L) { return lua_gc(L, LUA_GCCOLLECT), pr_cache_empty(), 0; }
static int clock_seconds(lua_State *L) { return lua_pushnumber(L, pr_clock()), 1; }

/* fail(message): raise it with the line of the innermost code outside of prunelua */
static int fail(lua_State *L) { return bind_error(L, "%s", luaL_checkstring(L, 1)); }

static int is_tensor(lua_State *L) {
  return lua_pushboolean(L, luaL_testudata(L, 1, BIND_TENSOR) != NULL), 1;
}

/* --- where in the model we are ------------------------------------------------------------------------------------------- */

#define SCOPE "prune.Scope"

static int scope_leave(lua_State *L) {
  const int *depth = luaL_checkudata(L, 1, SCOPE);
  return pr_scope_leave(*depth), 0;
}

/* scope_enter(name, class) gives a value that leaves again when it is closed. */
static int scope_enter(lua_State *L) {
  const char *name = luaL_checkstring(L, 1), *type = luaL_optstring(L, 2, "");
  int *depth = lua_newuserdatauv(L, sizeof *depth, 0);
  if (luaL_newmetatable(L, SCOPE)) {
    lua_pushcfunction(L, scope_leave);
    lua_setfield(L, -2, "__close");
  }
  lua_setmetatable(L, -2);
  *depth = pr_scope_enter(name, type);
  return 1;
}

static int scope_path(lua_State *L) { return lua_pushstring(L, pr_scope_path()), 1; }

/* --- what the descriptors say ---------------------------------------------------------------------------------------------- */

static void push_default(lua_State *L, const pr_arg_spec *spec) {
  char words[256];
  switch (spec->kind) {
  case PR_ARG_REAL: lua_pushnumber(L, spec->real); return;
  case PR_ARG_BOOL:
  case PR_ARG_MODE: lua_pushboolean(L, spec->integer != 0); return;
  case PR_ARG_CHOICE: {
    snprintf(words, sizeof words, "%s", spec->choices);
    char *rest, *word = strtok_r(words, " ", &rest);
    for (int64_t i = 0; word && i < spec->integer; i++) word = strtok_r(NULL, " ", &rest);
    lua_pushstring(L, word ? word : "");
    return;
  }
  case PR_ARG_DIM:
  case PR_ARG_DIMS:
  case PR_ARG_INDEX:
  case PR_ARG_INDICES: lua_pushinteger(L, spec->integer < 0 ? spec->integer : spec->integer + 1); break;
  default: lua_pushinteger(L, spec->integer);
  }
  if (!spec->empty) return;
  lua_pop(L, 1);
  lua_newtable(L);
}

static void push_arg(lua_State *L, const pr_arg_spec *spec) {
  static const char *const kinds[] = { "integer",  "number", "boolean", "boolean",  "choice",
                                       "integers", "axis",   "axes",    "position", "positions" };
  lua_createtable(L, 0, 6);
  lua_pushstring(L, spec->name), lua_setfield(L, -2, "name");
  lua_pushstring(L, kinds[spec->kind]), lua_setfield(L, -2, "kind");
  lua_pushboolean(L, spec->required), lua_setfield(L, -2, "required");
  if (!spec->required) push_default(L, spec), lua_setfield(L, -2, "default");
  if (spec->choices) lua_pushstring(L, spec->choices), lua_setfield(L, -2, "choices");
  if (spec->help) lua_pushstring(L, spec->help), lua_setfield(L, -2, "help");
}

/* describe(name): an operator's descriptor as a table, or nil. couples: it has a coupling rule; composed: it
 * calls other operators and never stands in a graph; reads_values: its shape depends on values, so it cannot
 * be traced. */
static int describe(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  for (int i = 0; i < pr_op_count; i++) {
    const pr_op *op = pr_op_list[i];
    if (strcmp(op->name, name) != 0) continue;
    lua_createtable(L, 0, 9);
    lua_pushstring(L, op->name), lua_setfield(L, -2, "name");
    lua_pushstring(L, op->inputs), lua_setfield(L, -2, "inputs");
    lua_pushstring(L, op->outputs), lua_setfield(L, -2, "outputs");
    lua_pushstring(L, op->help), lua_setfield(L, -2, "help");
    lua_pushstring(L, op->examples), lua_setfield(L, -2, "examples");
    lua_pushboolean(L, op->couple != NULL), lua_setfield(L, -2, "couples");
    lua_pushboolean(L, op->compose != NULL), lua_setfield(L, -2, "composed");
    lua_pushboolean(L, op->flags & PR_OP_READS_VALUES), lua_setfield(L, -2, "reads_values");
    lua_newtable(L);
    for (int a = 0; a < PR_MAX_ARGS && op->args[a].name; a++) {
      push_arg(L, &op->args[a]);
      lua_rawseti(L, -2, a + 1);
    }
    lua_setfield(L, -2, "args");
    return 1;
  }
  return 0;
}

static void add_default(luaL_Buffer *text, const pr_arg_spec *spec) {
  lua_State *L = text->L;
  push_default(L, spec);
  if (lua_istable(L, -1))
    lua_pop(L, 1), lua_pushliteral(L, "{}");
  else if (spec->kind == PR_ARG_CHOICE)
    lua_pushfstring(L, "\"%s\"", lua_tostring(L, -1)), lua_remove(L, -2);
  else
    luaL_tolstring(L, -1, NULL), lua_remove(L, -2);
  luaL_addvalue(text);
}

static void add_args(luaL_Buffer *text, const pr_op *op) {
  for (int a = 0; a < PR_MAX_ARGS && op->args[a].name; a++) {
    luaL_addstring(text, a ? ", " : prO_inputs_declared(op) ? ", { " : "{ ");
    luaL_addstring(text, op->args[a].name);
    luaL_addstring(text, " = ");
    if (op->args[a].required)
      luaL_addstring(text, "...");
    else
      add_default(text, &op->args[a]);
  }
  if (op->args[0].name) luaL_addstring(text, " }");
}

/* op_help(name): the call and the help text of an operator as one text, or nil. */
static int op_help(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  int i = 0;
  while (i < pr_op_count && strcmp(pr_op_list[i]->name, name) != 0) i++;
  if (i == pr_op_count) return 0;
  const pr_op *op = pr_op_list[i];
  luaL_Buffer text;
  luaL_buffinit(L, &text);
  char word[128];
  snprintf(word, sizeof word, "%s(", op->name);
  luaL_addstring(&text, word);
  for (int k = 0; k < prO_inputs_declared(op); k++) {
    char input[32];
    bool list = prO_variadic(op) && k == prO_inputs_declared(op) - 1;
    prO_input_name(op, k, input);
    if (list) input[strcspn(input, "[")] = 0;
    snprintf(word, sizeof word, "%s%s%s%s", k ? ", " : "",
             list                        ? "{ "
             : prO_input_optional(op, k) ? "["
                                         : "",
             input,
             list                        ? ", ... }"
             : prO_input_optional(op, k) ? "]"
                                         : "");
    luaL_addstring(&text, word);
  }
  add_args(&text, op);
  luaL_addstring(&text, ")\n");
  luaL_addstring(&text, op->help ? op->help : "");
  luaL_pushresult(&text);
  return 1;
}

const luaL_Reg bind_core_functions[] = {
  { "seed", seed },
  { "random_state", random_state },
  { "restore_random_state", restore_random_state },
  { "threads", threads },
  { "backend", backend },
  { "backends", backends },
  { "memory", memory },
  { "fail_allocation", fail_allocation },
  { "reset_peak_memory", reset_peak_memory },
  { "empty_cache", empty_cache },
  { "clock", clock_seconds },
  { "fail", fail },
  { "is_tensor", is_tensor },
  { "scope_enter", scope_enter },
  { "scope_path", scope_path },
  { "describe", describe },
  { "op_help", op_help },
  { NULL, NULL },
};

/* --- the metatable of tensors ----------------------------------------------------------------------------------------------- */

/* Upvalues: methods, readable fields, writable fields (functions by name). */
static int index_tensor(lua_State *L) {
  if (lua_type(L, 2) != LUA_TSTRING) return bind_index(L);
  lua_pushvalue(L, 2);
  if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) return 1;
  lua_pushvalue(L, 2);
  if (lua_rawget(L, lua_upvalueindex(2)) == LUA_TNIL)
    return 1; /* nil, so that values can be asked what they are */
  lua_pushvalue(L, 1);
  lua_call(L, 1, 1);
  return 1;
}

static int assign_tensor(lua_State *L) {
  if (lua_type(L, 2) != LUA_TSTRING) return bind_assign(L);
  lua_pushvalue(L, 2);
  if (lua_rawget(L, lua_upvalueindex(3)) == LUA_TNIL)
    bind_error(L, "a tensor has no field '%s' that can be set; it has requires_grad and grad",
               lua_tostring(L, 2));
  lua_pushvalue(L, 1);
  lua_pushvalue(L, 3);
  lua_call(L, 2, 0);
  return 0;
}

/* The names that t.name answers to, as a set: for completion at the prompt. */
static void push_field_names(lua_State *L, int first) {
  lua_newtable(L);
  for (int k = 0; k < 2; k++)
    for (lua_pushnil(L); lua_next(L, first + k); lua_pop(L, 1)) {
      lua_pushvalue(L, -2);
      lua_pushboolean(L, 1);
      lua_rawset(L, -5);
    }
}

/* Methods, fields and setters lie on the stack at `first`, first + 1, first + 2. */
static void make_metatable(lua_State *L, int first) {
  bind_open_handle(L);
  luaL_getmetatable(L, BIND_TENSOR);
  luaL_setfuncs(L, bind_tensor_meta, 0);
  const lua_CFunction functions[] = { index_tensor, assign_tensor };
  const char *const names[] = { "__index", "__newindex" };
  for (int i = 0; i < 2; i++) {
    for (int k = 0; k < 3; k++) lua_pushvalue(L, first + k);
    lua_pushcclosure(L, functions[i], 3);
    lua_setfield(L, -2, names[i]);
  }
  push_field_names(L, first);
  lua_setfield(L, -2, "__fields");
  lua_pop(L, 1);
}

/* Rooms that register functions of their own. */
static const luaL_Reg *const functions[] = {
  bind_core_functions,    bind_create_functions,       bind_gradient_functions,    bind_parameter_functions,
  bind_graph_functions,   bind_select_functions,       bind_statistics_functions,  bind_data_functions,
  bind_mask_functions,    bind_second_order_functions, bind_regularizer_functions, bind_io_functions,
  bind_function_functions
};
static const luaL_Reg *const methods_of[] = { bind_tensor_methods, bind_gradient_methods,
                                              bind_parameter_methods };
static const luaL_Reg *const fields_of[] = { bind_tensor_fields, bind_gradient_fields,
                                             bind_parameter_fields };
#define REGISTER_ALL(lists)                                                                                  \
  for (size_t i = 0; i < sizeof(lists) / sizeof *(lists); i++) luaL_setfuncs(L, (lists)[i], 0)

int luaopen_prune_core(lua_State *L) {
  pr_index_base = 1;
  bind_check(L, pr_start());
  lua_newtable(L);
  int core = lua_gettop(L);
  REGISTER_ALL(functions);
  bind_open_graph(L);
  bind_open_data(L);
  bind_open_io(L);
  bind_open_function(L);
  bind_open_ops(L);
  lua_newtable(L); /* methods: all operators, then what is written by hand */
  int methods = lua_gettop(L);
  for (lua_pushnil(L); lua_next(L, methods - 1);) {
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, methods);
  }
  REGISTER_ALL(methods_of);
  lua_newtable(L);
  REGISTER_ALL(fields_of);
  lua_newtable(L);
  luaL_setfuncs(L, bind_gradient_setters, 0);
  make_metatable(L, methods);
  lua_pop(L, 2);
  lua_setfield(L, core, "methods");
  lua_setfield(L, core, "ops");
  lua_pushliteral(L, PR_VERSION);
  lua_setfield(L, core, "version");
  return 1;
}
