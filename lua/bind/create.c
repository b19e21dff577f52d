/* create.c - making tensors: of zeros, from tables of numbers, at random.
 *
 * A shape is given as numbers or as a table, options in that table or in one after it: zeros(2, 3), zeros {
 * 2, 3, dtype = "f64" }, zeros({ 2, 3 }, { dtype = "f64" }).
 */
#include "bind.h"

#include "base/memory.h"
#include "base/random.h"
#include "nn/initializer.h"

#include <math.h>
#include <string.h>

/* --- shapes with options ---------------------------------------------------------------------------------------------- */

typedef struct spec {
  int dim, next; /* next: stack index of the first value after the shape */
  int64_t shape[PR_MAX_DIM];
  pr_dtype dtype;
  pr_device device;
  int options[2]; /* stack indices of tables with options; 0: none */
} spec;

static void read_options(lua_State *L, spec *s, int index, const char *what) {
  static const char *const names[] = { "dtype", "device", "value", "requires_grad", NULL };
  bind_check_names(L, index, names, what);
  lua_getfield(L, index, "dtype");
  s->dtype = bind_dtype(L, -1, s->dtype);
  if (lua_getfield(L, index, "device") != LUA_TNIL) {
    const char *name = luaL_checkstring(L, -1);
    if (strcmp(name, "cpu") != 0 && strcmp(name, "meta") != 0)
      bind_error(L, "%s: there is no device '%s' in this build; it has: cpu, meta (shapes only)", what, name);
    s->device = strcmp(name, "cpu") == 0 ? PR_CPU : PR_META;
  }
  lua_pop(L, 2);
}

/* How many calls of meta(f) are under way: tensors of a given shape are made on PR_META in them. What is
 * listed or counted up (tensor, arange, ...) has values all the same: tables of positions must be known. */
static int shapes_only;

static bool makes_shapes(const spec *s) { return s->device == PR_META; }

/* meta(f, ...) -> results of f */
static int meta(lua_State *L) {
  luaL_checktype(L, 1, LUA_TFUNCTION);
  shapes_only++;
  int failed = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
  shapes_only--;
  return failed ? lua_error(L) : lua_gettop(L);
}

/* The shape from stack index `first`, then options; `extra` values may stand between them. */
static spec read_spec(lua_State *L, int first, int extra, const char *what) {
  spec s = { .dtype = PR_F32, .device = shapes_only ? PR_META : PR_CPU };
  s.dim = bind_shape(L, first, s.shape, &s.next);
  int after = s.next + extra, k = 0;
  if (lua_istable(L, first)) s.options[k++] = first;
  if (lua_istable(L, after))
    s.options[k++] = after;
  else if (!lua_isnoneornil(L, after))
    bind_type_error(L, after, what, "followed by a table of options");
  for (int i = 0; i < k; i++) read_options(L, &s, s.options[i], what);
  return s;
}

static bool wants_gradient(lua_State *L, const spec *s) {
  bool wanted = false;
  for (int i = 0; i < 2 && s->options[i]; i++) {
    lua_getfield(L, s->options[i], "requires_grad");
    wanted = wanted || lua_toboolean(L, -1);
    lua_pop(L, 1);
  }
  return wanted;
}

/* Push the finished tensor. */
static int finish(lua_State *L, const spec *s, pr_tensor **slot, pr_tensor *t) {
  bind_fill(L, slot, t);
  if (wants_gradient(L, s)) bind_check(L, pr_require_grad(t, true));
  return 1;
}

/* --- constant values ----------------------------------------------------------------------------------------------------- */

/* While a model is traced the operator stands in for the values, so that a shape that follows the input does
 * so in the graph as well. Whole numbers may be positions, which count from 1 here and from 0 in the graph:
 * they stay values, which the call that uses them converts. */
static pr_tensor *filled(spec *s, double value) {
  if (makes_shapes(s)) return pr_tensor_new(s->dtype, PR_META, s->dim, s->shape);
  if (!prD_tracer_get() || !pr_dtype_is_float(s->dtype))
    return pr_tensor_full(s->dtype, PR_CPU, s->dim, s->shape, value);
  const pr_op *op = pr_op_find("full");
  if (!op) return NULL;
  pr_arg args[PR_MAX_ARGS] = { 0 };
  for (int i = 0; i < PR_MAX_ARGS && op->args[i].name; i++) {
    const char *name = op->args[i].name;
    args[i].given = true;
    if (strcmp(name, "shape") == 0 || strcmp(name, "sizes") == 0)
      args[i].count = s->dim, args[i].list = s->shape;
    else if (strcmp(name, "value") == 0)
      args[i].real = value;
    else if (strcmp(name, "dtype") == 0)
      args[i].integer = s->dtype; /* the choices are the dtypes in order */
    else
      args[i].given = false;
  }
  return prO_call(op, args, 0);
}

static int zeros(lua_State *L) {
  spec s = read_spec(L, 1, 0, "zeros");
  pr_tensor **slot = bind_slot(L);
  return finish(L, &s, slot, filled(&s, 0));
}

static int ones(lua_State *L) {
  spec s = read_spec(L, 1, 0, "ones");
  pr_tensor **slot = bind_slot(L);
  return finish(L, &s, slot, filled(&s, 1));
}

static int empty(lua_State *L) {
  spec s = read_spec(L, 1, 0, "empty");
  pr_tensor **slot = bind_slot(L);
  return finish(L, &s, slot, pr_tensor_new(s.dtype, s.device, s.dim, s.shape));
}

/* full({ 2, 3 }, 7), full { 2, 3, value = 7 } */
static int full(lua_State *L) {
  if (!lua_istable(L, 1)) bind_type_error(L, 1, "full: the shape", "a table");
  bool number = lua_type(L, 2) == LUA_TNUMBER || lua_isboolean(L, 2);
  spec s = read_spec(L, 1, number, "full");
  if (number)
    lua_pushvalue(L, 2);
  else
    lua_getfield(L, 1, "value");
  if (lua_type(L, -1) != LUA_TNUMBER && !lua_isboolean(L, -1))
    bind_type_error(L, -1, "full: the value", "a number");
  double value = lua_isboolean(L, -1) ? lua_toboolean(L, -1) : lua_tonumber(L, -1);
  pr_tensor **slot = bind_slot(L);
  return finish(L, &s, slot, filled(&s, value));
}

static int eye(lua_State *L) {
  spec s = read_spec(L, 1, 0, "eye");
  if (s.dim == 1) s.shape[s.dim++] = s.shape[0];
  if (s.dim != 2) bind_error(L, "eye: one or two sizes are needed, not %d", s.dim);
  pr_tensor **slot = bind_slot(L), *t = makes_shapes(&s) ? pr_tensor_new(s.dtype, PR_META, 2, s.shape)
                                                         : pr_tensor_zeros(s.dtype, PR_CPU, 2, s.shape);
  for (int64_t i = 0; t && t->storage && i < s.shape[0] && i < s.shape[1]; i++)
    prT_set(t, i * (s.shape[1] + 1), 1);
  return finish(L, &s, slot, t);
}

/* --- progressions ------------------------------------------------------------------------------------------------------- */

static double number(lua_State *L, int index, const char *what) {
  if (lua_type(L, index) != LUA_TNUMBER) bind_type_error(L, index, what, "a number");
  return lua_tonumber(L, index);
}

static int progression(lua_State *L, spec *s, int64_t n, double first, double step, double last) {
  s->dim = 1, s->shape[0] = n;
  pr_tensor **slot = bind_slot(L), *t = pr_tensor_new(s->dtype, s->device, 1, s->shape);
  for (int64_t i = 0; t && t->storage && i < n; i++)
    prT_set(t, i, i == n - 1 && n > 1 ? last : first + (double)i * step);
  return finish(L, s, slot, t);
}

/* arange(last), arange(first, last[, step]): as a for loop of Lua counts, the last one included. */
static int arange(lua_State *L) {
  int numbers = 0;
  while (numbers < 3 && lua_type(L, numbers + 1) == LUA_TNUMBER) numbers++;
  spec s = { .dtype = PR_F32 };
  if (lua_istable(L, numbers + 1)) s.options[0] = numbers + 1, read_options(L, &s, numbers + 1, "arange");
  double first = numbers > 1 ? number(L, 1, "arange: the first number") : 1;
  double last = number(L, numbers > 1 ? 2 : 1, "arange: the last number"),
         step = numbers > 2 ? number(L, 3, "step") : 1;
  double count = floor((last - first) / step * (1 + 1e-12) + 1e-9) + 1;
  if (step == 0 || isnan(count) || count > 1e15)
    bind_error(L, "arange: from %g to %g in steps of %g is no progression", first, last, step);
  int64_t n = count > 0 ? (int64_t)count : 0;
  return progression(L, &s, n, first, step, first + (double)(n - 1) * step);
}

/* linspace(first, last, n) */
static int linspace(lua_State *L) {
  spec s = { .dtype = PR_F32 };
  double first = number(L, 1, "linspace: the first number"), last = number(L, 2, "linspace: the last number");
  int64_t n = bind_integer(L, 3, "linspace: the count");
  if (n < 0) bind_error(L, "linspace: the count is negative: %lld", (long long)n);
  if (lua_istable(L, 4)) s.options[0] = 4, read_options(L, &s, 4, "linspace");
  return progression(L, &s, n, first, n > 1 ? (last - first) / (double)(n - 1) : 0, last);
}

/* --- random numbers ------------------------------------------------------------------------------------------------------ */

typedef struct dice {
  uint64_t seed, step, range;
  double low;
} dice;

typedef double draw(const dice *d, uint64_t i);
static double draw_uniform(const dice *d, uint64_t i) {
  return prB_uniform(d->seed, PR_STREAM_OPERATOR, d->step, i);
}
static double draw_normal(const dice *d, uint64_t i) {
  return prB_normal(d->seed, PR_STREAM_OPERATOR, d->step, i);
}
static double draw_integer(const dice *d, uint64_t i) {
  return d->low + (double)prB_below(d->seed, PR_STREAM_OPERATOR, d->step, i, d->range);
}

static dice next_dice(void) { return (dice){ .seed = pr_seed_get(), .step = prB_next_step() }; }

static pr_tensor *drawn(const spec *s, const dice *d, draw *f) {
  if (makes_shapes(s)) return pr_tensor_new(s->dtype, PR_META, s->dim, s->shape);
  pr_tensor *t = pr_tensor_new(s->dtype, PR_CPU, s->dim, s->shape);
  int64_t n = t ? pr_numel(t) : 0;
#pragma omp parallel for schedule(static) if (n > 4096)
  for (int64_t i = 0; i < n; i++) prT_set(t, i, f(d, (uint64_t)i));
  return t;
}

static int random_floats(lua_State *L, const char *what, draw *f) {
  spec s = read_spec(L, 1, 0, what);
  if (!pr_dtype_is_float(s.dtype))
    bind_error(L, "%s: the dtype must be a float, not %s", what, pr_dtype_name(s.dtype));
  dice d = next_dice();
  pr_tensor **slot = bind_slot(L);
  return finish(L, &s, slot, drawn(&s, &d, f));
}

static int rand_uniform(lua_State *L) { return random_floats(L, "rand", draw_uniform); }
static int rand_normal(lua_State *L) { return random_floats(L, "randn", draw_normal); }

/* fill_uniform(t, low, high), fill_normal(t, mean, std), fill_truncated_normal(t, mean, std): in
 * place; give t */
static int fill_random(lua_State *L, const char *what, pr_status (*f)(pr_tensor *t, double a, double b)) {
  pr_tensor *t = bind_check_tensor(L, 1);
  for (int i = 2; i <= 3; i++)
    if (lua_type(L, i) != LUA_TNUMBER) bind_type_error(L, i, what, "two numbers");
  if (bind_is_shape(t)) return lua_settop(L, 1), 1;
  bind_check_writable(L, t, what);
  bind_check(L, f(t, lua_tonumber(L, 2), lua_tonumber(L, 3)));
  return lua_settop(L, 1), 1;
}

static int fill_uniform(lua_State *L) { return fill_random(L, "uniform", pr_init_uniform); }
static int fill_normal(lua_State *L) { return fill_random(L, "normal", pr_init_normal); }
static int fill_truncated_normal(lua_State *L) {
  return fill_random(L, "truncated_normal", pr_init_truncated_normal);
}

/* randint(low, high, shape...): whole numbers from low to high, both included (i64 unless said). */
static int rand_integer(lua_State *L) {
  int64_t low = bind_integer(L, 1, "randint: the lowest number"),
          high = bind_integer(L, 2, "randint: the highest number");
  if (low > high)
    bind_error(L, "randint: there is no number from %lld to %lld", (long long)low, (long long)high);
  spec s = { .dtype = PR_I64, .device = shapes_only ? PR_META : PR_CPU };
  s.dim = bind_shape(L, 3, s.shape, &s.next);
  if (lua_istable(L, 3))
    s.options[0] = 3, read_options(L, &s, 3, "randint");
  else if (lua_istable(L, s.next))
    s.options[0] = s.next, read_options(L, &s, s.next, "randint");
  dice d = next_dice();
  d.low = (double)low, d.range = (uint64_t)(high - low) + 1;
  pr_tensor **slot = bind_slot(L);
  return finish(L, &s, slot, drawn(&s, &d, draw_integer));
}

/* randperm(n): 1 to n in random order (i64). */
static int rand_permutation(lua_State *L) {
  int64_t n = bind_integer(L, 1, "randperm: the count");
  if (n < 0) bind_error(L, "randperm: the count is negative: %lld", (long long)n);
  dice d = next_dice();
  pr_tensor **slot = bind_slot(L), *t = pr_tensor_new(PR_I64, PR_CPU, 1, &n);
  int64_t *v = t ? prT_data(t) : NULL;
  for (int64_t i = 0; t && i < n; i++) { /* Fisher and Yates, inside out */
    int64_t j = (int64_t)prB_below(d.seed, PR_STREAM_OPERATOR, d.step, (uint64_t)i, (uint64_t)i + 1);
    v[i] = v[j], v[j] = i + 1;
  }
  return bind_fill(L, slot, t), 1;
}

/* --- from tables ------------------------------------------------------------------------------------------------------------ */

/* The shape is that of the first elements; all others must agree. */
static void table_shape(lua_State *L, spec *s, bool *truth) {
  lua_pushvalue(L, 1);
  while (lua_istable(L, -1)) {
    if (s->dim == PR_MAX_DIM) bind_error(L, "tensor: the table is nested more than %d deep", PR_MAX_DIM);
    s->shape[s->dim++] = (int64_t)lua_rawlen(L, -1);
    lua_rawgeti(L, -1, 1);
    lua_remove(L, -2);
  }
  *truth = lua_isboolean(L, -1);
  lua_pop(L, 1);
}

static const char *place(const int64_t *at, int depth, char text[160]) {
  size_t used = 0;
  text[0] = 0;
  for (int d = 0; d < depth; d++)
    used += (size_t)snprintf(text + used, 160 - used, "[%lld]", (long long)at[d]);
  return text;
}

/* Read the value on top of the stack, which lies `depth` deep at the 1-based position `at`. */
static void read_nested(lua_State *L, const spec *s, int depth, int64_t *at, double **out) {
  char text[160];
  if (depth == s->dim) {
    if (lua_isboolean(L, -1))
      *(*out)++ = lua_toboolean(L, -1);
    else if (lua_type(L, -1) == LUA_TNUMBER)
      *(*out)++ = lua_tonumber(L, -1);
    else
      bind_error(L, "tensor: element %s is a %s, a number is needed", place(at, depth, text),
                 luaL_typename(L, -1));
    return;
  }
  if (!lua_istable(L, -1))
    bind_error(L, "tensor: element %s is a %s, where others are tables of %lld", place(at, depth, text),
               luaL_typename(L, -1), (long long)s->shape[depth]);
  int64_t n = (int64_t)lua_rawlen(L, -1);
  if (n != s->shape[depth])
    bind_error(L, "tensor: the table is ragged: element %s has %lld elements, others have %lld",
               place(at, depth, text), (long long)n, (long long)s->shape[depth]);
  luaL_checkstack(L, 4, NULL);
  for (int64_t i = 1; i <= n; i++) {
    at[depth] = i;
    lua_rawgeti(L, -1, i);
    read_nested(L, s, depth + 1, at, out);
    lua_pop(L, 1);
  }
}

/* tensor(nested table or number, options) */
static int tensor(lua_State *L) {
  spec s = { .dtype = PR_F32 };
  bool truth;
  int64_t at[PR_MAX_DIM], n = 1;
  if (lua_isnoneornil(L, 1)) bind_type_error(L, 1, "tensor: the argument", "a number or a table of numbers");
  lua_settop(L, 2);
  table_shape(L, &s, &truth);
  if (truth) s.dtype = PR_BOOL;
  if (!lua_isnil(L, 2)) s.options[0] = 2, read_options(L, &s, 2, "tensor");
  for (int d = 0; d < s.dim; d++)
    if (__builtin_mul_overflow(n, s.shape[d], &n) || n > INT32_MAX)
      bind_error(L, "tensor: the table is too large");
  double *values = lua_newuserdatauv(L, (size_t)(n ? n : 1) * sizeof *values, 0), *end = values;
  lua_pushvalue(L, 1);
  read_nested(L, &s, 0, at, &end);
  pr_tensor **slot = bind_slot(L);
  return finish(L, &s, slot,
                makes_shapes(&s) ? pr_tensor_new(s.dtype, PR_META, s.dim, s.shape)
                                 : pr_tensor_from(s.dtype, s.dim, s.shape, values));
}

const luaL_Reg bind_create_functions[] = {
  { "zeros", zeros },
  { "ones", ones },
  { "empty", empty },
  { "full", full },
  { "eye", eye },
  { "arange", arange },
  { "linspace", linspace },
  { "rand", rand_uniform },
  { "randn", rand_normal },
  { "fill_uniform", fill_uniform },
  { "fill_normal", fill_normal },
  { "fill_truncated_normal", fill_truncated_normal },
  { "randint", rand_integer },
  { "randperm", rand_permutation },
  { "tensor", tensor },
  { "meta", meta },
  { NULL, NULL },
};
