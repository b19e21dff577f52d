/* parameter.c - parameters and buffers: what modules register, masks, optimiser state. */
#include "bind.h"

#include "optim/optim.h"

#include <string.h>

/* --- making --------------------------------------------------------------------------------------------------------- */

static int make(lua_State *L, bool is_buffer) {
  pr_tensor *t = bind_check_tensor(L, 1);
  if (!is_buffer && !pr_dtype_is_float(t->dtype))
    return bind_error(L, "a parameter must be a float tensor, this one is %s", pr_dtype_name(t->dtype));
  bind_check(L, pr_parameter_make(t, is_buffer));
  lua_settop(L, 1);
  return 1;
}

static int parameter(lua_State *L) { return make(L, false); }
static int buffer(lua_State *L) { return make(L, true); }

/* A copy of value, mask and kind, without gradient and optimiser state; of a plain tensor, a plain copy. */
static int clone_parameter(lua_State *L) {
  pr_tensor *t = bind_check_tensor(L, 1);
  pr_tensor **slot = bind_slot(L), *copy = pr_clone(t);
  if (!copy) return bind_raise(L);
  pr_status status = t->parameter ? pr_parameter_make(copy, t->parameter->is_buffer) : PR_OK;
  if (!status && t->parameter && t->parameter->mask) status = pr_parameter_mask(copy, t->parameter->mask);
  if (status) {
    pr_release(copy);
    return bind_raise(L);
  }
  copy->requires_grad = t->requires_grad && !t->creator;
  bind_fill(L, slot, copy);
  return 1;
}

/* Convert the content of the handle itself: parameters keep their identity. Gradient and optimiser state are
 * dropped, a mask stays. */
static int to_in_place(lua_State *L) {
  pr_tensor *t = bind_check_tensor(L, 1);
  const char *word = luaL_checkstring(L, 2);
  pr_dtype dtype;
  if (strcmp(word, pr_device_name(t->device)) == 0) return lua_settop(L, 1), 1;
  bind_check(L, pr_dtype_parse(word, &dtype));
  if (pr_dtype_is_float(t->dtype) && pr_dtype_is_float(dtype) && dtype != t->dtype) {
    pr_tensor *converted = pr_to_dtype(t, dtype);
    if (!converted) return bind_raise(L);
    prT_swap_content(t, converted);
    pr_release(converted);
    pr_zero_grad(t);
    pr_parameter_slots_clear(t);
    if (t->parameter) pr_release(t->parameter->masked), t->parameter->masked = NULL;
  }
  lua_settop(L, 1);
  return 1;
}

static int value(lua_State *L) {
  pr_tensor *t = bind_check_tensor(L, 1), *read = pr_parameter_value(t);
  if (!read) return bind_raise(L);
  pr_tensor **slot = bind_slot(L);
  bind_fill(L, slot, pr_detach(read));
  return 1;
}

/* The dense value beside a mask: a view without history. */
static int dense(lua_State *L) {
  pr_tensor *t = bind_check_tensor(L, 1);
  pr_tensor **slot = bind_slot(L);
  bind_fill(L, slot, pr_detach(t));
  return 1;
}

/* --- masks ---------------------------------------------------------------------------------------------------------- */

static int set_mask(lua_State *L) {
  bind_check(L, pr_parameter_mask(bind_check_tensor(L, 1), bind_opt_tensor(L, 2)));
  lua_settop(L, 1);
  return 1;
}

/* mask_back(parameter, mask): a mask that it had, from its field mask; this cannot fail for want of memory.
 */
static int mask_back(lua_State *L) {
  pr_tensor *t = bind_check_tensor(L, 1), *mask = bind_opt_tensor(L, 2);
  if (!t->parameter) return bind_error(L, "mask_back: only parameters have masks");
  if (mask && (mask->dtype != PR_F32 || !pr_same_shape(mask, t)))
    return bind_error(L, "mask_back: this was no mask of the parameter");
  pr_parameter_mask_back(t, mask);
  return 0;
}

static int finalize(lua_State *L) {
  bind_check(L, pr_parameter_finalize(bind_check_tensor(L, 1)));
  lua_settop(L, 1);
  return 1;
}

static int field_mask(lua_State *L) {
  pr_tensor *t = bind_check_tensor(L, 1);
  bind_push_borrowed(L, t->parameter ? t->parameter->mask : NULL);
  return 1;
}

static int is_parameter(lua_State *L) {
  pr_tensor *t = bind_check_tensor(L, 1);
  lua_pushboolean(L, t->parameter && !t->parameter->is_buffer);
  return 1;
}

static int is_buffer(lua_State *L) {
  pr_tensor *t = bind_check_tensor(L, 1);
  lua_pushboolean(L, t->parameter && t->parameter->is_buffer);
  return 1;
}

static int keep_dense_grad(lua_State *L) {
  bind_check(L, pr_parameter_keep_dense_grad(bind_check_tensor(L, 1), lua_toboolean(L, 2)));
  lua_settop(L, 1);
  return 1;
}

static int field_dense_grad(lua_State *L) {
  bind_push_borrowed(L, pr_parameter_dense_grad(bind_check_tensor(L, 1)));
  return 1;
}

/* --- optimiser state --------------------------------------------------------------------------------------------------- */

/* t:slots() -> { { name, tensor }, ... } in order of creation */
static int slots(lua_State *L) {
  pr_tensor *t = bind_check_tensor(L, 1);
  lua_newtable(L);
  int i = 0;
  for (pr_slot *slot = t->parameter ? t->parameter->slots : NULL; slot; slot = slot->next) {
    lua_createtable(L, 2, 0);
    lua_pushstring(L, slot->name);
    lua_rawseti(L, -2, 1);
    bind_push_borrowed(L, slot->tensor);
    lua_rawseti(L, -2, 2);
    lua_rawseti(L, -2, ++i);
  }
  return 1;
}

/* t:set_slot(name, tensor), or nil: there is none then */
static int set_slot(lua_State *L) {
  pr_tensor *t = bind_check_tensor(L, 1);
  const char *name = luaL_checkstring(L, 2);
  if (lua_isnil(L, 3))
    pr_parameter_slot_drop(t, name);
  else
    bind_check(L, pr_parameter_slot_set(t, name, bind_check_tensor(L, 3)));
  return 0;
}

static int clear_slots(lua_State *L) {
  pr_parameter_slots_clear(bind_check_tensor(L, 1));
  return 0;
}

/* --- optimisers -------------------------------------------------------------------------------------------------------- */

static double number_field(lua_State *L, int index, const char *name, double otherwise) {
  int type = lua_getfield(L, index, name);
  double number = otherwise;
  if (type == LUA_TNUMBER)
    number = lua_tonumber(L, -1);
  else if (type != LUA_TNIL)
    bind_error(L, "optimiser: option '%s' must be a number, got %s", name, lua_typename(L, type));
  lua_pop(L, 1);
  return number;
}

static bool flag_field(lua_State *L, int index, const char *name, bool otherwise) {
  int type = lua_getfield(L, index, name);
  bool flag = otherwise;
  if (type == LUA_TBOOLEAN)
    flag = lua_toboolean(L, -1);
  else if (type == LUA_TNUMBER)
    flag = lua_tonumber(L, -1) != 0;
  else if (type != LUA_TNIL)
    bind_error(L, "optimiser: option '%s' must be true or false, got %s", name, lua_typename(L, type));
  lua_pop(L, 1);
  return flag;
}

static pr_optim read_optim(lua_State *L, int kind_index, int options_index) {
  static const char *const kinds[] = { "sgd", "adam", "adamw", "rmsprop", NULL };
  pr_optim o = pr_optim_defaults((pr_optim_kind)luaL_checkoption(L, kind_index, NULL, kinds));
  luaL_checktype(L, options_index, LUA_TTABLE);
  o.lr = number_field(L, options_index, "lr", o.lr);
  o.weight_decay = number_field(L, options_index, "weight_decay", o.weight_decay);
  o.momentum = number_field(L, options_index, "momentum", o.momentum);
  o.dampening = number_field(L, options_index, "dampening", o.dampening);
  o.nesterov = flag_field(L, options_index, "nesterov", o.nesterov);
  o.beta1 = number_field(L, options_index, "beta1", o.beta1);
  o.beta2 = number_field(L, options_index, "beta2", o.beta2);
  o.alpha = number_field(L, options_index, "alpha", o.alpha);
  o.centered = flag_field(L, options_index, "centered", o.centered);
  o.eps = number_field(L, options_index, "eps", o.eps);
  bind_check(L, pr_optim_check(&o));
  return o;
}

/* optim_check(kind, options): raises for values out of range */
static int optim_check(lua_State *L) {
  read_optim(L, 1, 2);
  return 0;
}

/* optim_step(kind, options, parameters) */
static int optim_step(lua_State *L) {
  pr_optim o = read_optim(L, 1, 2);
  luaL_checktype(L, 3, LUA_TTABLE);
  lua_Integer n = luaL_len(L, 3);
  for (lua_Integer i = 1; i <= n; i++) {
    lua_rawgeti(L, 3, i);
    bind_check(L, pr_optim_step(&o, bind_check_tensor(L, -1)));
    lua_pop(L, 1);
  }
  return 0;
}

/* Parameters of the table at `index` as an array that lives in a userdata on top of the stack. */
static pr_tensor **read_parameters(lua_State *L, int index, int *n) {
  luaL_checktype(L, index, LUA_TTABLE);
  *n = (int)luaL_len(L, index);
  pr_tensor **list = lua_newuserdatauv(L, (size_t)(*n > 0 ? *n : 1) * sizeof *list, 0);
  for (int i = 0; i < *n; i++) {
    lua_rawgeti(L, index, i + 1);
    list[i] = bind_check_tensor(L, -1);
    if (list[i]->grad && list[i]->dtype != PR_F32 && list[i]->dtype != PR_F64)
      bind_error(L, "gradients to clip must be f32 or f64");
    lua_pop(L, 1);
  }
  return list;
}

static int clip_grad_norm(lua_State *L) {
  int n;
  double most = luaL_checknumber(L, 2), norm;
  pr_tensor **list = read_parameters(L, 1, &n);
  bind_check(L, pr_clip_grad_norm(list, n, most, &norm));
  lua_pushnumber(L, norm);
  return 1;
}

static int clip_grad_value(lua_State *L) {
  int n;
  double most = luaL_checknumber(L, 2);
  pr_tensor **list = read_parameters(L, 1, &n);
  bind_check(L, pr_clip_grad_value(list, n, most));
  return 0;
}

/* nearest(word, names) -> the closest spelling or nil */
static int nearest(lua_State *L) {
  const char *word = luaL_checkstring(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  int n = (int)luaL_len(L, 2);
  const char **names = lua_newuserdatauv(L, (size_t)(n > 0 ? n : 1) * sizeof *names, 0);
  int kept = 0;
  for (int i = 1; i <= n; i++) {
    if (lua_rawgeti(L, 2, i) == LUA_TSTRING)
      names[kept++] = lua_tostring(L, -1); /* the table keeps the string alive */
    lua_pop(L, 1);
  }
  const char *best = pr_nearest(word, names, kept);
  if (best)
    lua_pushstring(L, best);
  else
    lua_pushnil(L);
  return 1;
}

const luaL_Reg bind_parameter_methods[] = {
  { "value", value },
  { "dense", dense },
  { "clone_parameter", clone_parameter },
  { "to_in_place", to_in_place },
  { "set_mask", set_mask },
  { "finalize_mask", finalize },
  { "keep_dense_grad", keep_dense_grad },
  { "slots", slots },
  { "set_slot", set_slot },
  { "clear_slots", clear_slots },
  { NULL, NULL },
};

const luaL_Reg bind_parameter_fields[] = {
  { "mask", field_mask },
  { "dense_grad", field_dense_grad },
  { "is_parameter", is_parameter },
  { "is_buffer", is_buffer },
  { NULL, NULL },
};

const luaL_Reg bind_parameter_functions[] = {
  { "parameter", parameter },
  { "buffer", buffer },
  { "mask_back", mask_back },
  { "nearest", nearest },
  { "optim_check", optim_check },
  { "optim_step", optim_step },
  { "clip_grad_norm", clip_grad_norm },
  { "clip_grad_value", clip_grad_value },
  { NULL, NULL },
};
