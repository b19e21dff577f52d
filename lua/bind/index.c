/* index.c - t[key] and t[key] = value.
 *
 *   t[2], t[-1]               one position of the first axis, which goes away
 *   t[{ 2, {}, { 1, 3 } }]    per axis: a position, all, first to last (and a step: { 1, 9, 2 })
 *   t[{ {}, indices }]        per axis also a tensor of positions or a bool tensor (a mask of the axis)
 *   t[mask]                   the elements where a bool tensor of t's shape is true, as one axis; a mask with
 * one axis picks along the first t[indices]                positions of the first axis, given as an integer
 * tensor
 *
 * Reading goes through operators, so gradients flow; what needs no list shares memory with t. Writing writes
 * into t.
 */
#include "bind.h"

#include "base/memory.h"

#include <stdio.h>

typedef enum pick_kind { ALL, AT, RANGE, LIST } pick_kind;

typedef struct pick {
  pick_kind kind;
  int64_t start, length, step; /* 0-based */
  int64_t *list;               /* userdata on the Lua stack */
} pick;

typedef struct picks {
  int n; /* axes that are spoken of */
  pick axis[PR_MAX_DIM];
} picks;

/* --- reading a key ----------------------------------------------------------------------------------------------------- */

static void read_range(lua_State *L, int index, int64_t size, pick *p, const char *what) {
  int length = (int)lua_rawlen(L, index);
  if (length == 0) return;
  if (length > 3 || length < 2)
    bind_error(L, "%s: a range is { first, last } or { first, last, step }", what);
  lua_rawgeti(L, index, 1), lua_rawgeti(L, index, 2), lua_rawgeti(L, index, 3);
  int64_t first = bind_integer(L, -3, what), last = bind_integer(L, -2, what);
  int64_t step = lua_isnil(L, -1) ? 1 : bind_integer(L, -1, what);
  lua_pop(L, 3);
  if (step < 1) bind_error(L, "%s: the step must be at least 1, not %lld", what, (long long)step);
  int64_t start = first < 0 ? first + size : first - 1, stop = last < 0 ? last + size : last - 1;
  bool empty = stop == start - 1 && start >= 0 && start <= size;
  if (!empty && (start < 0 || stop >= size || start > stop))
    bind_error(L, "%s: the range %lld to %lld does not lie within 1 to %lld", what, (long long)first,
               (long long)last, (long long)size);
  *p = (pick){ .kind = RANGE, .start = start, .length = (stop - start) / step + 1, .step = step };
  if (empty) p->length = 0;
}

/* Positions from an integer tensor, or the true places of a mask. */
static void read_list(lua_State *L, pr_tensor *t, int64_t size, pick *p, const char *what) {
  char shape[PR_SHAPE_TEXT];
  t = bind_value(L, t, "indexing");
  bool mask = t->dtype == PR_BOOL;
  if (pr_dtype_is_float(t->dtype))
    bind_error(L, "%s: a tensor index is bool or whole numbers, not %s", what, pr_dtype_name(t->dtype));
  if (t->dim != 1 || (mask && t->shape[0] != size))
    bind_error(L, "%s: a tensor index has one axis%s, not shape %s", what, mask ? " of the axis' size" : "",
               pr_shape_text(t, shape));
  luaL_checkstack(L, 8, NULL);
  int64_t n = t->shape[0], count = 0;
  p->list = lua_newuserdatauv(L, (size_t)(n ? n : 1) * sizeof *p->list, 0);
  for (int64_t i = 0; i < n; i++) {
    double value = prT_get(t, i * t->stride[0]);
    if (mask && value == 0) continue;
    int64_t at = mask ? i : value < 0 ? (int64_t)value + size : (int64_t)value - 1;
    if (at < 0 || at >= size)
      bind_error(L, "%s: position %lld is out of range: it must be 1 to %lld", what, (long long)value,
                 (long long)size);
    p->list[count++] = at;
  }
  p->kind = LIST, p->length = count;
}

static void read_pick(lua_State *L, int index, int64_t size, int axis, pick *p) {
  char what[48];
  snprintf(what, sizeof what, "index of axis %d", axis + 1);
  *p = (pick){ .kind = ALL };
  if (lua_istable(L, index))
    read_range(L, index, size, p, what);
  else if (lua_type(L, index) == LUA_TNUMBER)
    *p = (pick){ .kind = AT, .start = bind_position(L, index, size, what) };
  else if (bind_test_tensor(L, index))
    read_list(L, bind_test_tensor(L, index), size, p, what);
  else
    bind_type_error(L, index, what, "a number, a range such as { 1, 3 }, {} for all, or a tensor");
}

/* Lists stay on the stack above. */
static void read_key(lua_State *L, const pr_tensor *t, int index, picks *k) {
  char shape[PR_SHAPE_TEXT];
  *k = (picks){ .n = 1 };
  bool table = lua_istable(L, index);
  if (table) k->n = (int)lua_rawlen(L, index);
  if (k->n > t->dim)
    bind_error(L, "%d indices for a tensor with %d axes, shape %s", k->n, t->dim, pr_shape_text(t, shape));
  if (!table) {
    read_pick(L, index, t->shape[0], 0, &k->axis[0]);
    return;
  }
  for (int d = 0; d < k->n; d++) {
    luaL_checkstack(L, 8, NULL);
    lua_rawgeti(L, index, d + 1);
    read_pick(L, lua_gettop(L), t->shape[d], d, &k->axis[d]);
  }
}

/* A bool tensor that speaks of single elements? */
static pr_tensor *element_mask(lua_State *L, const pr_tensor *t, int index) {
  char a[PR_SHAPE_TEXT], b[PR_SHAPE_TEXT];
  pr_tensor *mask = bind_test_tensor(L, index);
  if (!mask || mask->dtype != PR_BOOL) return NULL;
  if (pr_same_shape(mask, t)) return bind_value(L, mask, "indexing");
  if (mask->dim == 1 && t->dim > 1) return NULL;
  bind_error(L, "a mask of shape %s does not fit a tensor of shape %s", pr_shape_text(mask, a),
             pr_shape_text(t, b));
  return NULL;
}

/* --- reading values ------------------------------------------------------------------------------------------------------ */

extern pr_op pr_op_select, pr_op_narrow, pr_op_index_select, pr_op_reshape;

#define INTEGER(value) ((pr_arg){ .integer = (value), .given = true })

static pr_tensor *take_list(pr_tensor *t, int axis, const pick *p) {
  pr_tensor *positions = pr_tensor_new(PR_I64, PR_CPU, 1, &p->length);
  if (!positions) return NULL;
  for (int64_t i = 0; i < p->length; i++) ((int64_t *)prT_data(positions))[i] = p->list[i];
  pr_arg args[PR_MAX_ARGS] = { INTEGER(axis) };
  pr_tensor *taken = prO_call(&pr_op_index_select, args, 2, t, positions);
  pr_release(positions);
  return taken;
}

static pr_tensor *take(pr_tensor *t, int axis, const pick *p) {
  pr_arg at[PR_MAX_ARGS] = { INTEGER(axis), INTEGER(p->start) };
  pr_arg range[PR_MAX_ARGS] = { INTEGER(axis), INTEGER(p->start), INTEGER(p->length), INTEGER(p->step) };
  switch (p->kind) {
  case AT: return prO_call(&pr_op_select, at, 1, t);
  case RANGE: return prO_call(&pr_op_narrow, range, 1, t);
  case LIST: return take_list(t, axis, p);
  default: return pr_retain(t);
  }
}

static pr_tensor *take_all(pr_tensor *t, const picks *k) {
  pr_tensor *now = pr_retain(t);
  for (int d = 0, axis = 0; now && d < k->n; d++) {
    pr_tensor *next = take(now, axis, &k->axis[d]);
    pr_release(now);
    now = next;
    axis += k->axis[d].kind != AT;
  }
  return now;
}

static pr_tensor *take_masked(pr_tensor *t, const pr_tensor *mask) {
  int64_t n = pr_numel(t), flat[1] = { n }, i = 0;
  pick p = { .kind = LIST, .list = n ? PRB_ARRAY(int64_t, n) : NULL };
  if (n && !p.list) return NULL;
  prT_walk w;
  for (prT_walk_start(&w, mask); w.left > 0; prT_walk_next(&w), i++)
    if (prT_get(mask, w.position) != 0) p.list[p.length++] = i;
  pr_arg args[PR_MAX_ARGS] = { { .count = 1, .list = flat, .given = true } };
  pr_tensor *row = prO_call(&pr_op_reshape, args, 1, t), *taken = row ? take_list(row, 0, &p) : NULL;
  pr_release(row);
  if (n) PRB_ARRAY_FREE(p.list, n);
  return taken;
}

int bind_index(lua_State *L) {
  pr_tensor *t = bind_check_tensor(L, 1), *mask = element_mask(L, t, 2);
  picks k = { 0 };
  if (!mask) read_key(L, t, 2, &k);
  pr_tensor **slot = bind_slot(L);
  return bind_fill(L, slot, mask ? take_masked(t, mask) : take_all(t, &k)), 1;
}

/* --- writing values ------------------------------------------------------------------------------------------------------ */

/* A view of the part of `t` that is meant, lists as whole axes; *axis is the axis of the view with the list,
 * or -1. */
static pr_tensor *target(pr_tensor *t, const picks *k, int *axis, const pick **list) {
  int64_t shape[PR_MAX_DIM], stride[PR_MAX_DIM], offset = t->offset;
  int dim = 0;
  *axis = -1, *list = NULL;
  for (int d = 0; d < t->dim; d++) {
    const pick *p = d < k->n ? &k->axis[d] : NULL;
    bool part = p && (p->kind == AT || p->kind == RANGE);
    if (part) offset += p->start * t->stride[d];
    if (p && p->kind == AT) continue;
    if (p && p->kind == LIST) {
      if (*list)
        return pr_fail(PR_ERR_UNSUPPORTED, "an assignment can have a tensor index along one axis only"), NULL;
      *axis = dim, *list = p;
    }
    shape[dim] = part ? p->length : t->shape[d];
    stride[dim++] = t->stride[d] * (part ? p->step : 1);
  }
  return prT_view(t, dim, shape, stride, offset);
}

/* `t` without axis `axis`, at position `at` of it. */
static pr_tensor *without_axis(const pr_tensor *t, int axis, int64_t at) {
  int64_t shape[PR_MAX_DIM], stride[PR_MAX_DIM];
  int dim = 0;
  for (int d = 0; d < t->dim; d++)
    if (d != axis) shape[dim] = t->shape[d], stride[dim++] = t->stride[d];
  return prT_view(t, dim, shape, stride, t->offset + at * t->stride[axis]);
}

/* The source for entry `i` of the list: a value with as many axes as the target has its own entries, unless
 * it is broadcast. */
static pr_status put_entry(const pr_tensor *view, int axis, const pick *list, int64_t i, pr_tensor *value) {
  int own = value->dim - (view->dim - axis); /* the value's axis that lies at the list's place */
  char a[PR_SHAPE_TEXT];
  if (own >= 0 && value->shape[own] != list->length && value->shape[own] != 1)
    return pr_fail(PR_ERR_SHAPE, "a value of shape %s for %lld positions along axis %lld",
                   pr_shape_text(value, a), (long long)list->length, PR_INDEX(axis));
  pr_tensor *dst = without_axis(view, axis, list->list[i]);
  pr_tensor *src = own < 0 ? pr_retain(value) : without_axis(value, own, value->shape[own] == 1 ? 0 : i);
  pr_status status = dst && src ? pr_copy(dst, src) : PR_ERR_MEMORY;
  pr_release(dst), pr_release(src);
  return status;
}

static pr_status put(pr_tensor *t, const picks *k, pr_tensor *value) {
  int axis;
  const pick *list;
  pr_tensor *view = target(t, k, &axis, &list);
  if (!view) return pr_error_last()->code;
  pr_status status = PR_OK;
  if (!list)
    status = pr_copy(view, value);
  else
    for (int64_t i = 0; i < list->length && !status; i++) status = put_entry(view, axis, list, i, value);
  pr_release(view);
  return status;
}

static pr_status put_masked(pr_tensor *t, const pr_tensor *mask, const pr_tensor *value) {
  char a[PR_SHAPE_TEXT];
  int64_t count = 0, i = 0;
  prT_walk w, m;
  for (prT_walk_start(&m, mask); m.left > 0; prT_walk_next(&m)) count += prT_get(mask, m.position) != 0;
  bool one = pr_numel(value) == 1;
  if (!one && (value->dim != 1 || value->shape[0] != count))
    return pr_fail(PR_ERR_SHAPE, "the mask is true in %lld places, the value has shape %s", (long long)count,
                   pr_shape_text(value, a));
  prT_walk_start(&w, t), prT_walk_start(&m, mask);
  for (; w.left > 0; prT_walk_next(&w), prT_walk_next(&m))
    if (prT_get(mask, m.position) != 0)
      prT_set(t, w.position, prT_get(value, one ? 0 : i++ * value->stride[0]));
  prT_touch(t);
  return PR_OK;
}

int bind_assign(lua_State *L) {
  pr_tensor *t = bind_check_tensor(L, 1), *mask = element_mask(L, t, 2), *value = bind_test_tensor(L, 3);
  lua_settop(L, 3);
  double number = 0;
  if (value)
    value = bind_value(L, value, "an assignment");
  else if (lua_isboolean(L, 3))
    number = lua_toboolean(L, 3);
  else if (lua_type(L, 3) == LUA_TNUMBER)
    number = lua_tonumber(L, 3);
  else
    bind_type_error(L, 3, "the assigned value", "a number or a tensor");
  picks k = { 0 };
  if (!mask) read_key(L, t, 2, &k);
  bind_check_writable(L, t, "assignment");
  pr_tensor *own = value ? pr_retain(value) : pr_tensor_scalar(PR_F64, number);
  pr_status status = !own ? PR_ERR_MEMORY : mask ? put_masked(t, mask, own) : put(t, &k, own);
  pr_release(own);
  bind_check(L, status);
  return 0;
}
