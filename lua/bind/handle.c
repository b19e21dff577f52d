/* handle.c - tensors as Lua userdata, failures as Lua errors, and what Lua's collector is told of tensor
 * memory.
 *
 * A userdata holds one reference. A table with weak values remembers which userdata stands for which tensor,
 * so that a tensor that comes out of the core twice (a parameter, a gradient) is the same Lua value.
 */
#include "bind.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char handles_key; /* its address names the table of userdata by tensor in the registry */

/* --- failures ------------------------------------------------------------------------------------------------------- */

/* "file.lua:12: " of the innermost Lua function that is not part of prunelua; nothing where there is none (a
 * tail call took its place): a line of prunelua's own would mislead. */
static void push_where(lua_State *L) {
  lua_Debug frame;
  for (int level = 1; lua_getstack(L, level, &frame); level++) {
    lua_getinfo(L, "Sl", &frame);
    if (frame.currentline <= 0) continue;
    if (strncmp(frame.source, "@prune/", 7) == 0 || strstr(frame.source, "/lua/prune/")) continue;
    lua_pushfstring(L, "%s:%d: ", frame.short_src, frame.currentline);
    return;
  }
  lua_pushliteral(L, "");
}

int bind_raise(lua_State *L) {
  const pr_error *error = pr_error_last();
  push_where(L);
  if (*error->path)
    lua_pushfstring(L, "%s: %s", error->path, error->message);
  else
    lua_pushstring(L, error->message);
  lua_concat(L, 2);
  return lua_error(L);
}

void bind_check(lua_State *L, pr_status status) {
  if (status) bind_raise(L);
}

int bind_error(lua_State *L, const char *format, ...) {
  char message[1024];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  push_where(L);
  lua_pushstring(L, message);
  lua_concat(L, 2);
  return lua_error(L);
}

int bind_type_error(lua_State *L, int index, const char *what, const char *expected) {
  const char *got = luaL_typename(L, index);
  if (luaL_getmetafield(L, index, "__name") == LUA_TSTRING) got = lua_tostring(L, -1);
  return bind_error(L, "%s must be %s, not %s", what, expected,
                    strcmp(got, "no value") == 0 ? "absent" : got);
}

/* --- tensors -------------------------------------------------------------------------------------------------------- */

pr_tensor *bind_test_tensor(lua_State *L, int index) {
  pr_tensor **slot = luaL_testudata(L, index, BIND_TENSOR);
  if (!slot) return NULL;
  if (!*slot) bind_error(L, "this tensor is released");
  return *slot;
}

pr_tensor *bind_check_tensor(lua_State *L, int index) {
  pr_tensor **slot = luaL_checkudata(L, index, BIND_TENSOR);
  if (!*slot) bind_error(L, "this tensor is released");
  return *slot;
}

pr_tensor *bind_opt_tensor(lua_State *L, int index) {
  return lua_isnoneornil(L, index) ? NULL : bind_check_tensor(L, index);
}

static void push_handles(lua_State *L) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &handles_key) == LUA_TTABLE) return;
  lua_pop(L, 1);
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "v");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &handles_key);
}

pr_tensor **bind_slot(lua_State *L) {
  luaL_checkstack(L, 6, NULL);
  pr_tensor **slot = lua_newuserdatauv(L, sizeof *slot, 0);
  *slot = NULL;
  luaL_setmetatable(L, BIND_TENSOR);
  return slot;
}

void bind_fill(lua_State *L, pr_tensor **slot, pr_tensor *t) {
  if (!t) bind_raise(L);
  *slot = t;
  push_handles(L);
  if (lua_rawgetp(L, -1, t) == LUA_TUSERDATA) { /* a handle exists already: it takes the slot's place */
    *slot = NULL;
    pr_release(t);
    lua_replace(L, -3);
    lua_pop(L, 1);
    return;
  }
  lua_pop(L, 1);
  lua_pushvalue(L, -2);
  lua_rawsetp(L, -2, t);
  lua_pop(L, 1);
  bool own = t->storage && t->storage->refs == 1; /* views weigh nothing */
  bind_pressure(L, sizeof *t + (own ? t->storage->bytes : 0));
}

void bind_push(lua_State *L, pr_tensor *t) {
  pr_tensor **slot = t ? bind_slot(L) : NULL;
  bind_fill(L, slot, t);
}

void bind_push_borrowed(lua_State *L, pr_tensor *t) {
  if (!t)
    lua_pushnil(L);
  else
    bind_push(L, pr_retain(t));
}

/* __gc and __close: again and again without effect. */
static int release(lua_State *L) {
  pr_tensor **slot = luaL_testudata(L, 1, BIND_TENSOR), *t = slot ? *slot : NULL;
  if (!t) return 0;
  *slot = NULL;
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &handles_key) == LUA_TTABLE &&
      lua_rawgetp(L, -1, t) == LUA_TUSERDATA && lua_touserdata(L, -1) == slot) {
    lua_pushnil(L);
    lua_rawsetp(L, -3, t);
  }
  pr_release(t);
  return 0;
}

void bind_open_handle(lua_State *L) {
  static const luaL_Reg functions[] = { { "__gc", release }, { "__close", release }, { NULL, NULL } };
  luaL_newmetatable(L, BIND_TENSOR);
  luaL_setfuncs(L, functions, 0);
  lua_pop(L, 1);
}

pr_tensor *bind_value(lua_State *L, pr_tensor *t, const char *what) {
  bind_check(L, prD_need_values(t, what));
  pr_tensor *value = prD_value && t->parameter ? prD_value(t) : t;
  if (!value) bind_raise(L);
  return value;
}

bool bind_is_shape(const pr_tensor *t) { return t->device == PR_META && !prD_tracer_get(); }

void bind_check_writable(lua_State *L, pr_tensor *t, const char *what) {
  bind_check(L, prD_need_values(t, what));
  if (t->creator && pr_grad_enabled())
    bind_error(L,
               "%s: this tensor was recorded for backward, and a write in place would make its gradient "
               "wrong; use :clone() or "
               ":detach(), or write inside prune.no_grad",
               what);
}

/* --- memory that the collector does not see ---------------------------------------------------------------------------- */

/* Lua's own pace follows the size of Lua's heap, where a tensor of a gigabyte is a few bytes; and its
 * incremental steps need a whole cycle to reach a tensor. So tensors have a pace of their own: a full
 * collection (milliseconds) after as many bytes as half of what was live after the last one, at least PACE,
 * and at least twice Lua's heap, which a collection has to walk. */
enum { PACE = 64 << 20 };

static size_t allocated, limit = PACE; /* bytes of new tensors since the last collection */

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

static void collect(lua_State *L) {
  allocated = 0;
  if (!lua_gc(L, LUA_GCISRUNNING)) return;
  lua_gc(L, LUA_GCCOLLECT);
  size_t heap = (size_t)lua_gc(L, LUA_GCCOUNT) << 10;
  limit = larger(larger(pr_storage_live() / 2, 2 * heap), PACE);
  allocated = 0;
}

void bind_pressure(lua_State *L, size_t bytes) {
  allocated += bytes;
  if (allocated > limit) collect(L);
}

void bind_relieve(lua_State *L) {
  if (allocated > limit / 2) collect(L);
}

/* --- numbers and names ---------------------------------------------------------------------------------------------- */

lua_Integer bind_integer(lua_State *L, int index, const char *what) {
  int whole;
  lua_Integer value = lua_tointegerx(L, index, &whole);
  if (whole && lua_type(L, index) == LUA_TNUMBER) return value;
  if (lua_type(L, index) == LUA_TNUMBER)
    return bind_error(L, "%s must be a whole number, not %g", what, lua_tonumber(L, index));
  return bind_type_error(L, index, what, "a whole number");
}

int64_t bind_position(lua_State *L, int index, int64_t size, const char *what) {
  int64_t at = bind_integer(L, index, what);
  if (at > 0 && at <= size) return at - 1;
  if (at < 0 && at >= -size) return at + size;
  return bind_error(L, "%s %lld is out of range: it must be 1 to %lld (or -1 to -%lld from the end)", what,
                    (long long)at, (long long)size, (long long)size);
}

int bind_axis(lua_State *L, int index, int dim, const char *what) {
  return (int)bind_position(L, index, dim, what);
}

static void shape_size(lua_State *L, int index, int64_t shape[PR_MAX_DIM], int *dim) {
  char what[64];
  snprintf(what, sizeof what, "size %d of the shape", *dim + 1);
  lua_Integer size = bind_integer(L, index, what);
  if (*dim == PR_MAX_DIM) bind_error(L, "a tensor has at most %d axes", PR_MAX_DIM);
  if (size < 0) bind_error(L, "%s is negative: %lld", what, (long long)size);
  shape[(*dim)++] = size;
}

int bind_shape(lua_State *L, int index, int64_t shape[PR_MAX_DIM], int *next) {
  int dim = 0;
  if (lua_istable(L, index)) {
    for (lua_Integer i = 1; lua_rawgeti(L, index, i) != LUA_TNIL; i++) {
      shape_size(L, -1, shape, &dim);
      lua_pop(L, 1);
    }
    lua_pop(L, 1);
    *next = index + 1;
    return dim;
  }
  if (!lua_isnoneornil(L, index) && lua_type(L, index) != LUA_TNUMBER)
    bind_type_error(L, index, "the shape", "numbers or a table of them");
  for (; lua_type(L, index) == LUA_TNUMBER; index++) shape_size(L, index, shape, &dim);
  *next = index;
  return dim;
}

pr_dtype bind_dtype(lua_State *L, int index, pr_dtype otherwise) {
  if (lua_isnoneornil(L, index)) return otherwise;
  if (lua_type(L, index) != LUA_TSTRING) bind_type_error(L, index, "dtype", "a name such as 'f32'");
  bind_check(L, pr_dtype_parse(lua_tostring(L, index), &otherwise));
  return otherwise;
}

void bind_check_names(lua_State *L, int index, const char *const *names, const char *what) {
  if (lua_isnoneornil(L, index)) return;
  if (!lua_istable(L, index)) bind_type_error(L, index, what, "a table of options");
  index = lua_absindex(L, index);
  int n = 0;
  while (names[n]) n++;
  for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
    if (lua_type(L, -2) != LUA_TSTRING) continue;
    const char *name = lua_tostring(L, -2);
    int k = 0;
    while (k < n && strcmp(names[k], name) != 0) k++;
    if (k < n) continue;
    const char *near = pr_nearest(name, names, n);
    if (near) bind_error(L, "%s: there is no option '%s'; did you mean '%s'?", what, name, near);
    bind_error(L, "%s: there is no option '%s'", what, name);
  }
}

void bind_push_integers(lua_State *L, int n, const int64_t *values) {
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    lua_pushinteger(L, values[i]);
    lua_rawseti(L, -2, i + 1);
  }
}
