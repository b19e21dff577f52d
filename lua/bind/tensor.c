/* tensor.c - methods of tensors that are no operators: asking, reading and writing values, copies, printing;
 * and metamethods. */
#include "bind.h"

#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- asking --------------------------------------------------------------------------------------------------------- */

static int sizes_or_one(lua_State *L, const pr_tensor *t, const int64_t *values) {
  if (lua_isnoneornil(L, 2)) return bind_push_integers(L, t->dim, values), 1;
  lua_pushinteger(L, values[bind_axis(L, 2, t->dim, "axis")]);
  return 1;
}

static int size(lua_State *L) {
  const pr_tensor *t = bind_check_tensor(L, 1);
  return sizes_or_one(L, t, t->shape);
}

static int stride(lua_State *L) {
  const pr_tensor *t = bind_check_tensor(L, 1);
  return sizes_or_one(L, t, t->stride);
}

static int dim(lua_State *L) { return lua_pushinteger(L, bind_check_tensor(L, 1)->dim), 1; }
static int numel(lua_State *L) { return lua_pushinteger(L, pr_numel(bind_check_tensor(L, 1))), 1; }
static int is_contiguous(lua_State *L) {
  return lua_pushboolean(L, pr_is_contiguous(bind_check_tensor(L, 1))), 1;
}

static int is_channels_last(lua_State *L) {
  return lua_pushboolean(L, prT_is_channels_last(bind_check_tensor(L, 1))), 1;
}

static int shares_storage(lua_State *L) {
  const pr_tensor *a = bind_check_tensor(L, 1), *b = bind_check_tensor(L, 2);
  return lua_pushboolean(L, a->storage && a->storage == b->storage), 1;
}

static int length(lua_State *L) {
  const pr_tensor *t = bind_check_tensor(L, 1);
  if (t->dim == 0) bind_error(L, "a tensor without axes has no length");
  return lua_pushinteger(L, t->shape[0]), 1;
}

static int field_shape(lua_State *L) {
  const pr_tensor *t = bind_check_tensor(L, 1);
  return bind_push_integers(L, t->dim, t->shape), 1;
}

static int field_dtype(lua_State *L) {
  return lua_pushstring(L, pr_dtype_name(bind_check_tensor(L, 1)->dtype)), 1;
}
static int field_device(lua_State *L) {
  return lua_pushstring(L, pr_device_name(bind_check_tensor(L, 1)->device)), 1;
}

/* --- reading values --------------------------------------------------------------------------------------------------- */

static void push_element(lua_State *L, const pr_tensor *t, int64_t at) {
  if (t->dtype == PR_BOOL)
    lua_pushboolean(L, prT_get(t, at) != 0);
  else if (t->dtype == PR_I64)
    lua_pushinteger(L, ((const int64_t *)t->storage->data)[t->offset + at]);
  else if (pr_dtype_is_float(t->dtype))
    lua_pushnumber(L, prT_get(t, at));
  else
    lua_pushinteger(L, (lua_Integer)prT_get(t, at));
}

static int item(lua_State *L) {
  pr_tensor *t = bind_value(L, bind_check_tensor(L, 1), "item");
  double value;
  bind_check(L, pr_item(t, &value));
  push_element(L, t, 0);
  return 1;
}

static void push_nested(lua_State *L, const pr_tensor *t, int axis, int64_t at) {
  if (axis == t->dim) {
    push_element(L, t, at);
    return;
  }
  luaL_checkstack(L, 4, NULL);
  lua_createtable(L, (int)t->shape[axis], 0);
  for (int64_t i = 0; i < t->shape[axis]; i++) {
    push_nested(L, t, axis + 1, at + i * t->stride[axis]);
    lua_rawseti(L, -2, i + 1);
  }
}

static int totable(lua_State *L) {
  push_nested(L, bind_value(L, bind_check_tensor(L, 1), "totable"), 0, 0);
  return 1;
}

static void add_text(void *ctx, const char *text) { luaL_addstring(ctx, text); }

static int to_text(lua_State *L) {
  pr_tensor **slot = luaL_checkudata(L, 1, BIND_TENSOR), *t = *slot;
  if (!t) return lua_pushliteral(L, "a released tensor"), 1;
  if (t->storage && t->parameter) t = bind_value(L, t, "tostring");
  luaL_Buffer text;
  luaL_buffinit(L, &text);
  bind_check(L, pr_print(t, add_text, &text));
  luaL_buffsub(&text, 1); /* the last newline */
  luaL_pushresult(&text);
  return 1;
}

/* --- comparing ---------------------------------------------------------------------------------------------------------- */

static int equal(lua_State *L) {
  pr_tensor *a = bind_value(L, bind_check_tensor(L, 1), "equal"),
            *b = bind_value(L, bind_check_tensor(L, 2), "equal");
  bool same = pr_same_shape(a, b) && a->dtype == b->dtype;
  prT_walk i, j;
  prT_walk_start(&i, a), prT_walk_start(&j, b);
  for (; same && i.left > 0; prT_walk_next(&i), prT_walk_next(&j))
    same = prT_get(a, i.position) == prT_get(b, j.position);
  return lua_pushboolean(L, same), 1;
}

static double number_field(lua_State *L, int index, const char *name, double otherwise) {
  if (!lua_istable(L, index)) return otherwise;
  if (lua_getfield(L, index, name) != LUA_TNIL) {
    if (lua_type(L, -1) != LUA_TNUMBER) bind_type_error(L, -1, name, "a number");
    otherwise = lua_tonumber(L, -1);
  }
  lua_pop(L, 1);
  return otherwise;
}

/* |a - b| <= atol + rtol |b| everywhere; equal infinities are close, nan is close to nothing. */
static int allclose(lua_State *L) {
  static const char *const names[] = { "rtol", "atol", NULL };
  char x[PR_SHAPE_TEXT], y[PR_SHAPE_TEXT];
  pr_tensor *a = bind_value(L, bind_check_tensor(L, 1), "allclose"),
            *b = bind_value(L, bind_check_tensor(L, 2), "allclose");
  bind_check_names(L, 3, names, "allclose");
  double rtol = number_field(L, 3, "rtol", 1e-5), atol = number_field(L, 3, "atol", 1e-8);
  if (!pr_same_shape(a, b))
    bind_error(L, "allclose: the shapes %s and %s differ", pr_shape_text(a, x), pr_shape_text(b, y));
  bool close = true;
  prT_walk i, j;
  prT_walk_start(&i, a), prT_walk_start(&j, b);
  for (; close && i.left > 0; prT_walk_next(&i), prT_walk_next(&j)) {
    double p = prT_get(a, i.position), q = prT_get(b, j.position);
    close = p == q || fabs(p - q) <= atol + rtol * fabs(q);
    if (isinf(p) || isinf(q)) close = p == q;
  }
  return lua_pushboolean(L, close), 1;
}

/* --- writing ------------------------------------------------------------------------------------------------------------ */

static double number_value(lua_State *L, int index, const char *what) {
  if (lua_isboolean(L, index)) return lua_toboolean(L, index);
  if (lua_type(L, index) != LUA_TNUMBER) bind_type_error(L, index, what, "a number");
  return lua_tonumber(L, index);
}

static int fill(lua_State *L) {
  pr_tensor *t = bind_check_tensor(L, 1);
  double value = number_value(L, 2, "fill: the value");
  if (bind_is_shape(t)) return lua_settop(L, 1), 1;
  bind_check_writable(L, t, "fill");
  bind_check(L, pr_fill(t, value));
  return lua_settop(L, 1), 1;
}

static int copy(lua_State *L) {
  pr_tensor *t = bind_check_tensor(L, 1), *from = bind_check_tensor(L, 2);
  if (bind_is_shape(t)) return lua_settop(L, 1), 1;
  from = bind_value(L, from, "copy");
  bind_check_writable(L, t, "copy");
  bind_check(L, pr_copy(t, from));
  return lua_settop(L, 1), 1;
}

/* --- making others of it ------------------------------------------------------------------------------------------------ */

static int call_named(lua_State *L, const char *name) {
  const pr_op *op = pr_op_find(name);
  if (!op) bind_raise(L);
  return bind_call_op(L, op);
}

static bool is_recorded(const pr_tensor *t) {
  return !t->storage || prD_tracer_get() || (pr_grad_enabled() && (t->creator || t->requires_grad));
}

/* Through an operator where history counts, so that gradients flow through the copy. */
static int clone(lua_State *L) {
  pr_tensor *t = bind_check_tensor(L, 1);
  lua_settop(L, 1);
  if (is_recorded(t)) { /* a conversion to its own dtype copies and has a gradient */
    lua_pushstring(L, pr_dtype_name(t->dtype));
    return call_named(L, "cast");
  }
  t = bind_value(L, t, "clone");
  pr_tensor **slot = bind_slot(L);
  return bind_fill(L, slot, pr_clone(t)), 1;
}

static int detach(lua_State *L) {
  pr_tensor *t = bind_check_tensor(L, 1);
  pr_tensor **slot = bind_slot(L);
  return bind_fill(L, slot, pr_detach(t)), 1;
}

static void check_device(lua_State *L, const char *name) {
  if (strcmp(name, "cpu") != 0) bind_error(L, "to: there is no device '%s' in this build; it has: cpu", name);
}

/* to "f64", to "cpu", to { dtype = "f64", device = "cpu" } */
static int to(lua_State *L) {
  static const char *const names[] = { "dtype", "device", NULL };
  pr_tensor *t = bind_check_tensor(L, 1);
  pr_dtype dtype = t->dtype;
  if (lua_istable(L, 2)) {
    bind_check_names(L, 2, names, "to");
    lua_getfield(L, 2, "dtype");
    dtype = bind_dtype(L, -1, dtype);
    if (lua_getfield(L, 2, "device") != LUA_TNIL) check_device(L, luaL_checkstring(L, -1));
  } else {
    const char *word = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : NULL;
    if (!word) bind_type_error(L, 2, "to: the argument", "a dtype, a device or a table of both");
    bool device = false;
    for (int d = 0; d < PR_DEVICES; d++) device = device || strcmp(word, pr_device_name((pr_device)d)) == 0;
    if (device)
      check_device(L, word);
    else
      dtype = bind_dtype(L, 2, dtype);
  }
  lua_settop(L, 1);
  if (dtype == t->dtype) return 1;
  lua_pushstring(L, pr_dtype_name(dtype));
  return call_named(L, "cast");
}

static int contiguous(lua_State *L) {
  pr_tensor *t = bind_check_tensor(L, 1);
  lua_settop(L, 1);
  if (pr_is_contiguous(t) && t->storage) return 1;
  return call_named(L, "contiguous");
}

/* --- lowest and highest --------------------------------------------------------------------------------------------------- */

typedef struct ranked {
  double value;
  int64_t index;
} ranked;

/* By value, then index; nan comes last. */
static int by_value(const void *x, const void *y) {
  const ranked *a = x, *b = y;
  bool nan_a = isnan(a->value), nan_b = isnan(b->value);
  if (nan_a != nan_b) return nan_a - nan_b;
  if (!nan_a && a->value != b->value) return a->value < b->value ? -1 : 1;
  return a->index < b->index ? -1 : 1;
}

static int64_t read_count(lua_State *L, int64_t n, const char *what) {
  static const char *const names[] = { "count", "ratio", NULL };
  int64_t count = -1;
  if (lua_istable(L, 2)) {
    bind_check_names(L, 2, names, what);
    bool by_count = lua_getfield(L, 2, "count") != LUA_TNIL;
    if (by_count) count = bind_integer(L, -1, "count");
    double ratio = number_field(L, 2, "ratio", -1);
    if (by_count == (ratio >= 0)) bind_error(L, "%s: give either count or ratio (0 to 1)", what);
    if (!by_count && ratio > 1) bind_error(L, "%s: ratio is a share of 0 to 1, not %g", what, ratio);
    if (!by_count) count = (int64_t)floor(ratio * (double)n + 1e-6);
  } else
    count = bind_integer(L, 2, "the count");
  if (count < 0 || count > n)
    bind_error(L, "%s: %lld of %lld elements cannot be taken", what, (long long)count, (long long)n);
  return count;
}

/* Positions (1-based, i64) of the lowest elements; `sign` -1 turns the order round. */
static int extremes(lua_State *L, double sign, const char *what) {
  char shape[PR_SHAPE_TEXT];
  pr_tensor *t = bind_value(L, bind_check_tensor(L, 1), what);
  if (t->dim != 1)
    bind_error(L, "%s: a tensor with one axis is needed, not one of shape %s", what, pr_shape_text(t, shape));
  int64_t n = t->shape[0], count = read_count(L, n, what);
  pr_tensor **slot = bind_slot(L), *indices = pr_tensor_new(PR_I64, PR_CPU, 1, &count);
  ranked *order = indices ? PRB_ARRAY(ranked, n) : NULL;
  if (order) {
    for (int64_t i = 0; i < n; i++) order[i] = (ranked){ sign * prT_get(t, i * t->stride[0]), i };
    qsort(order, (size_t)n, sizeof *order, by_value);
    for (int64_t i = 0; i < count; i++) ((int64_t *)prT_data(indices))[i] = order[i].index + 1;
    PRB_ARRAY_FREE(order, n);
  } else
    pr_release(indices), indices = NULL;
  return bind_fill(L, slot, indices), 1;
}

static int lowest(lua_State *L) { return extremes(L, 1, "lowest"); }
static int highest(lua_State *L) { return extremes(L, -1, "highest"); }

/* --- arithmetic ----------------------------------------------------------------------------------------------------------- */

#define ARITHMETIC(name, op)                                                                                 \
  static int name(lua_State *L) { return call_named(L, op); }
ARITHMETIC(add, "add")
ARITHMETIC(sub, "sub")
ARITHMETIC(mul, "mul")
ARITHMETIC(divide, "div")
ARITHMETIC(modulo, "remainder")

/* t ^ 2 has a number as its exponent, 2 ^ t a tensor. */
static int power(lua_State *L) { return call_named(L, lua_type(L, 2) == LUA_TNUMBER ? "pow" : "pow2"); }

/* Lua passes the operand twice. */
static int negate(lua_State *L) { return lua_settop(L, 1), call_named(L, "neg"); }

static int floor_divide(lua_State *L) {
  call_named(L, "div");
  lua_replace(L, 1);
  lua_settop(L, 1);
  return call_named(L, "floor");
}

static int concat(lua_State *L) {
  luaL_tolstring(L, 1, NULL);
  luaL_tolstring(L, 2, NULL);
  lua_concat(L, 2);
  return 1;
}

/* --- tables ---------------------------------------------------------------------------------------------------------------- */

const luaL_Reg bind_tensor_methods[] = {
  { "size", size },
  { "stride", stride },
  { "dim", dim },
  { "numel", numel },
  { "is_contiguous", is_contiguous },
  { "is_channels_last", is_channels_last },
  { "item", item },
  { "totable", totable },
  { "equal", equal },
  { "allclose", allclose },
  { "fill", fill },
  { "copy", copy },
  { "clone", clone },
  { "detach", detach },
  { "to", to },
  { "contiguous", contiguous },
  { "lowest", lowest },
  { "highest", highest },
  { "shares_storage", shares_storage },
  { NULL, NULL },
};

const luaL_Reg bind_tensor_fields[] = {
  { "shape", field_shape },
  { "dtype", field_dtype },
  { "device", field_device },
  { NULL, NULL },
};

const luaL_Reg bind_tensor_meta[] = {
  { "__len", length }, { "__tostring", to_text },  { "__add", add },       { "__sub", sub },
  { "__mul", mul },    { "__div", divide },        { "__mod", modulo },    { "__pow", power },
  { "__unm", negate }, { "__idiv", floor_divide }, { "__concat", concat }, { NULL, NULL },
};
