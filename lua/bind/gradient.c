/* gradient.c - tensors and autograd: requires_grad, grad, backward, hooks, gradient mode. */
#include "bind.h"

#include "base/memory.h"

/* --- fields ----------------------------------------------------------------------------------------------------------- */

static int get_requires_grad(lua_State *L) {
  const pr_tensor *t = bind_check_tensor(L, 1);
  return lua_pushboolean(L, t->requires_grad || t->creator), 1;
}

static int set_requires_grad(lua_State *L) {
  pr_tensor *t = bind_check_tensor(L, 1);
  if (!lua_isboolean(L, 2)) bind_type_error(L, 2, "requires_grad", "true or false");
  bind_check(L, pr_require_grad(t, lua_toboolean(L, 2)));
  return 0;
}

static int get_grad(lua_State *L) { return bind_push_borrowed(L, bind_check_tensor(L, 1)->grad), 1; }

static int set_grad(lua_State *L) {
  char a[PR_SHAPE_TEXT], b[PR_SHAPE_TEXT];
  pr_tensor *t = bind_check_tensor(L, 1), *grad = bind_opt_tensor(L, 2);
  if (grad && (!pr_same_shape(t, grad) || t->dtype != grad->dtype))
    bind_error(L, "the gradient of a tensor %s %s cannot be %s %s", pr_dtype_name(t->dtype),
               pr_shape_text(t, a), pr_dtype_name(grad->dtype), pr_shape_text(grad, b));
  pr_retain(grad);
  pr_zero_grad(t);
  t->grad = grad;
  return 0;
}

static int is_leaf(lua_State *L) { return lua_pushboolean(L, !bind_check_tensor(L, 1)->creator), 1; }

/* --- backward ---------------------------------------------------------------------------------------------------------- */

static int backward(lua_State *L) {
  pr_tensor *t = bind_check_tensor(L, 1), *grad = bind_opt_tensor(L, 2);
  lua_State *before = bind_running;
  bind_running = L;
  pr_status status = pr_backward(t, grad);
  bind_running = before;
  bind_check(L, status);
  bind_relieve(L); /* the values between are garbage now */
  return 0;
}

static int zero_grad(lua_State *L) {
  pr_zero_grad(bind_check_tensor(L, 1));
  return lua_settop(L, 1), 1;
}

/* --- hooks -------------------------------------------------------------------------------------------------------------- */

/* A hook's context is the number of its function in the registry. It may be dropped while Lua collects or
 * closes. */
static lua_State *main_state(lua_State *L) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  lua_State *main = lua_tothread(L, -1);
  lua_pop(L, 1);
  return main;
}

typedef struct hook {
  lua_State *main;
  int function;
} hook;

typedef struct hook_call {
  hook *hook;
  pr_tensor *grad, **replacement;
} hook_call;

static int call_hook(lua_State *L) {
  hook_call *call = lua_touserdata(L, 1);
  lua_rawgeti(L, LUA_REGISTRYINDEX, call->hook->function);
  bind_push_borrowed(L, call->grad);
  lua_call(L, 1, 1);
  if (lua_isnil(L, -1)) return 0;
  if (!bind_test_tensor(L, -1)) bind_type_error(L, -1, "what a gradient hook returns", "a tensor or nil");
  *call->replacement = pr_retain(bind_test_tensor(L, -1));
  return 0;
}

static pr_status run_hook(void *ctx, pr_tensor *grad, pr_tensor **replacement) {
  hook_call call = { ctx, grad, replacement };
  lua_State *L = bind_running ? bind_running : call.hook->main;
  if (!lua_checkstack(L, 4)) return pr_fail(PR_ERR_MEMORY, "a gradient hook finds no room on Lua's stack");
  lua_pushcfunction(L, call_hook);
  lua_pushlightuserdata(L, &call);
  if (lua_pcall(L, 1, 0, 0) == LUA_OK) return PR_OK;
  const char *message = lua_tostring(L, -1);
  pr_status status = pr_fail(PR_ERR_STATE, "gradient hook: %s", message ? message : "failed");
  lua_pop(L, 1);
  return status;
}

static void drop_hook(void *ctx) {
  hook *h = ctx;
  luaL_unref(h->main, LUA_REGISTRYINDEX, h->function);
  PRB_FREE(h);
}

static int remove_hook(lua_State *L) {
  pr_tensor **slot = lua_touserdata(L, lua_upvalueindex(1));
  if (*slot) pr_hook_remove(*slot, lua_tointeger(L, lua_upvalueindex(2)));
  return 0;
}

static int register_hook(lua_State *L) {
  pr_tensor *t = bind_check_tensor(L, 1);
  if (!lua_isfunction(L, 2)) bind_type_error(L, 2, "register_hook: the hook", "a function");
  lua_settop(L, 2);
  lua_pushvalue(L, 1);
  lua_pushinteger(L, 0);
  lua_State *main = main_state(L);
  lua_pushvalue(L, 2);
  int function = luaL_ref(L, LUA_REGISTRYINDEX);
  hook *h = PRB_NEW(hook);
  if (!h) luaL_unref(L, LUA_REGISTRYINDEX, function), bind_raise(L);
  *h = (hook){ main, function };
  int64_t id = pr_hook_add(t, run_hook, h, drop_hook);
  if (id < 0) drop_hook(h), bind_raise(L);
  lua_pop(L, 1);
  lua_pushinteger(L, id);
  lua_pushcclosure(L, remove_hook, 2);
  return 1;
}

/* --- gradient mode: a value that sets it back when its scope ends --------------------------------------------------------- */

#define GRADIENT_MODE "prune.GradientMode"

static int close_mode(lua_State *L) {
  const bool *before = luaL_checkudata(L, 1, GRADIENT_MODE);
  pr_grad_mode(*before);
  return 0;
}

static void push_guard(lua_State *L, bool enabled) {
  bool *before = lua_newuserdatauv(L, sizeof *before, 0);
  if (luaL_newmetatable(L, GRADIENT_MODE)) {
    lua_pushcfunction(L, close_mode);
    lua_setfield(L, -2, "__close");
  }
  lua_setmetatable(L, -2);
  *before = pr_grad_mode(enabled);
}

/* f(...) with recording switched; without f the guard itself, for a `local x <close>`. */
static int with_mode(lua_State *L, bool enabled) {
  if (lua_gettop(L) > 0 && lua_type(L, 1) != LUA_TFUNCTION) {
    if (luaL_getmetafield(L, 1, "__call") == LUA_TNIL)
      return bind_error(L, "%s: the first argument must be a function, got %s",
                        enabled ? "enable_grad" : "no_grad", luaL_typename(L, 1));
    lua_pop(L, 1);
  }
  push_guard(L, enabled);
  if (lua_gettop(L) == 1) return 1;
  lua_insert(L, 1);
  lua_toclose(L, 1);
  lua_call(L, lua_gettop(L) - 2, LUA_MULTRET);
  return lua_gettop(L) - 1;
}

static int no_grad(lua_State *L) { return with_mode(L, false); }
static int enable_grad(lua_State *L) { return with_mode(L, true); }
static int grad_enabled(lua_State *L) { return lua_pushboolean(L, pr_grad_enabled()), 1; }

const luaL_Reg bind_gradient_methods[] = {
  { "backward", backward },
  { "zero_grad", zero_grad },
  { "register_hook", register_hook },
  { NULL, NULL },
};
const luaL_Reg bind_gradient_fields[] = {
  { "requires_grad", get_requires_grad },
  { "grad", get_grad },
  { "is_leaf", is_leaf },
  { NULL, NULL },
};
const luaL_Reg bind_gradient_setters[] = {
  { "requires_grad", set_requires_grad },
  { "grad", set_grad },
  { NULL, NULL },
};
const luaL_Reg bind_gradient_functions[] = {
  { "no_grad", no_grad },
  { "enable_grad", enable_grad },
  { "grad_enabled", grad_enabled },
  { NULL, NULL },
};
