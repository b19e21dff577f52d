/* op.c - one trampoline for all operators, which reads a call from the descriptor.
 *
 * Inputs come first, in order: tensors; nil for an absent optional one; a table of tensors for a list; a
 * number where a tensor is needed becomes a tensor without axes. Arguments follow, positional in the
 * descriptor's order (a table without names, or all numbers in a row, are one list argument), and at the end
 * a table with names, whose list part is positional. Names of inputs may stand in that table as well. Axes
 * and positions are 1-based or count from the end.
 *
 * Reading may raise; what is read is kept on the Lua stack or in the plan, which owns nothing. Running then
 * owns tensors and does not raise.
 */
#include "bind.h"

#include "base/memory.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { FEW = 16, MOST_OUTPUTS = 4096 };

lua_State *bind_running;

typedef struct input {
  pr_tensor *tensor; /* borrowed from the Lua stack; NULL: absent, or a number */
  bool number, whole;
  double value;
} input;

typedef struct plan {
  lua_State *L;
  const pr_op *op;
  int top; /* arguments are at 1..top */
  int at;  /* the next value to read */
  int n_in, declared;
  input few[FEW], *in;
  pr_arg args[PR_MAX_ARGS]; /* lists are userdata on the Lua stack */
} plan;

/* --- arguments ------------------------------------------------------------------------------------------------------ */

static void wrong(plan *p, const pr_arg_spec *spec, int index, const char *expected) {
  char what[96];
  snprintf(what, sizeof what, "%s: option '%s'", p->op->name, spec->name);
  bind_type_error(p->L, index, what, expected);
}

static int64_t whole_number(plan *p, const pr_arg_spec *spec, int index) {
  char what[96];
  snprintf(what, sizeof what, "%s: option '%s'", p->op->name, spec->name);
  return bind_integer(p->L, index, what);
}

/* From Lua's count to C's, where the argument is an axis or a position. */
static int64_t converted(plan *p, const pr_arg_spec *spec, int64_t value) {
  bool axis = spec->kind == PR_ARG_DIM || spec->kind == PR_ARG_DIMS;
  if (!axis && spec->kind != PR_ARG_INDEX && spec->kind != PR_ARG_INDICES) return value;
  if (value == 0)
    bind_error(p->L, "%s: option '%s' is 0, but %s count from 1 (or from -1 backwards)", p->op->name,
               spec->name, axis ? "axes" : "positions");
  return value > 0 ? value - 1 : value;
}

static int64_t choice(plan *p, const pr_arg_spec *spec, int index) {
  if (lua_type(p->L, index) != LUA_TSTRING) wrong(p, spec, index, "a word");
  const char *word = lua_tostring(p->L, index);
  char words[256];
  const char *names[32];
  int n = 0;
  snprintf(words, sizeof words, "%s", spec->choices);
  for (char *rest, *w = strtok_r(words, " ", &rest); w && n < 32; w = strtok_r(NULL, " ", &rest)) {
    if (strcmp(w, word) == 0) return n;
    names[n++] = w;
  }
  const char *near = pr_nearest(word, names, n);
  if (near)
    bind_error(p->L, "%s: option '%s' cannot be '%s'; did you mean '%s'?", p->op->name, spec->name, word,
               near);
  return bind_error(p->L, "%s: option '%s' cannot be '%s'; it is one of: %s", p->op->name, spec->name, word,
                    spec->choices);
}

/* Room for a list on the Lua stack, below the value that is being read. */
static int64_t *list_room(plan *p, int count) {
  luaL_checkstack(p->L, 4, NULL);
  return lua_newuserdatauv(p->L, (size_t)(count ? count : 1) * sizeof(int64_t), 0);
}

/* A table of numbers, or one number. Leaves the list's userdata on the stack. */
static void read_list(plan *p, const pr_arg_spec *spec, int index, pr_arg *arg) {
  lua_State *L = p->L;
  pr_tensor *t = bind_test_tensor(L, index);
  if (t) { /* indices as a tensor: topk's result, for example */
    if (t->dim != 1 || pr_dtype_is_float(t->dtype)) wrong(p, spec, index, "a list of whole numbers");
    t = bind_value(L, t, spec->name);
    arg->list = list_room(p, (int)t->shape[0]), arg->count = (int)t->shape[0];
    for (int i = 0; i < arg->count; i++)
      arg->list[i] = converted(p, spec, (int64_t)prT_get(t, i * t->stride[0]));
    return;
  }
  if (!lua_istable(L, index) && lua_type(L, index) != LUA_TNUMBER)
    wrong(p, spec, index, "a number or a list of numbers");
  bool single = !lua_istable(L, index);
  arg->count = single ? 1 : (int)lua_rawlen(L, index);
  arg->list = list_room(p, arg->count);
  for (int i = 0; i < arg->count; i++) {
    if (single)
      lua_pushvalue(L, index);
    else
      lua_rawgeti(L, index, i + 1);
    arg->list[i] = converted(p, spec, whole_number(p, spec, -1));
    lua_pop(L, 1);
  }
}

static void read_arg(plan *p, int i, int index) {
  lua_State *L = p->L;
  const pr_arg_spec *spec = &p->op->args[i];
  pr_arg *arg = &p->args[i];
  index = lua_absindex(L, index);
  if (lua_isnil(L, index)) return;
  if (arg->given) bind_error(L, "%s: option '%s' is given twice", p->op->name, spec->name);
  switch (spec->kind) {
  case PR_ARG_REAL:
    if (lua_type(L, index) != LUA_TNUMBER) wrong(p, spec, index, "a number");
    arg->real = lua_tonumber(L, index);
    break;
  case PR_ARG_BOOL:
  case PR_ARG_MODE:
    if (!lua_isboolean(L, index)) wrong(p, spec, index, "true or false");
    arg->integer = lua_toboolean(L, index);
    break;
  case PR_ARG_CHOICE: arg->integer = choice(p, spec, index); break;
  case PR_ARG_INTS:
  case PR_ARG_DIMS:
  case PR_ARG_INDICES: read_list(p, spec, index, arg); break;
  default: arg->integer = converted(p, spec, whole_number(p, spec, index)); break;
  }
  arg->given = true;
}

/* All numbers from stack index `first` on are one list. */
static void read_numbers(plan *p, int i, int first) {
  const pr_arg_spec *spec = &p->op->args[i];
  pr_arg *arg = &p->args[i];
  int past = first;
  while (past <= p->top && lua_type(p->L, past) == LUA_TNUMBER) past++;
  arg->count = past - first, arg->list = list_room(p, arg->count), arg->given = true;
  for (int k = 0; k < arg->count; k++) arg->list[k] = converted(p, spec, whole_number(p, spec, first + k));
  p->at = past;
}

static bool has_names(lua_State *L, int index) {
  for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1))
    if (lua_type(L, -2) == LUA_TSTRING) return lua_pop(L, 2), true;
  return false;
}

static bool set_input(plan *p, const char *name, int index) {
  char text[32];
  for (int i = 0; i < p->declared; i++) {
    if (strcmp(prO_input_name(p->op, i, text), name) != 0) continue;
    if (i >= p->n_in) p->n_in = i + 1;
    if (p->in[i].tensor || p->in[i].number)
      bind_error(p->L, "%s: input '%s' is given twice", p->op->name, name);
    p->in[i].tensor = bind_test_tensor(p->L, index);
    if (!p->in[i].tensor) bind_type_error(p->L, index, name, "a tensor");
    return true;
  }
  return false;
}

/* The table of options: its list part is positional from argument `next` on, its names are arguments or
 * inputs. */
static void read_options(plan *p, int index, int next) {
  lua_State *L = p->L;
  int count = prO_arg_count(p->op), length = (int)lua_rawlen(L, index);
  if (length && next < count && prO_arg_is_list(p->op->args[next].kind)) {
    read_list(p, &p->op->args[next], index, &p->args[next]);
    p->args[next].given = true;
  } else
    for (int k = 0; k < length; k++) {
      if (next + k >= count) bind_error(L, "%s: too many arguments", p->op->name);
      luaL_checkstack(L, 4, NULL);
      lua_rawgeti(L, index, k + 1); /* stays on the stack: a list that is read from it lies above */
      read_arg(p, next + k, -1);
    }
  luaL_checkstack(L, 8 + 2 * PR_MAX_ARGS, NULL);
  const char *key = NULL;
  for (int i = 0; i < count; i++) {
    lua_getfield(L, index, p->op->args[i].name);
    read_arg(p, i, -1);
  }
  for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
    if (lua_type(L, -2) != LUA_TSTRING) continue;
    key = lua_tostring(L, -2);
    int i = 0;
    while (i < count && strcmp(p->op->args[i].name, key) != 0) i++;
    if (i < count || set_input(p, key, -1)) continue;
    prO_arg_number(p->op, key); /* fails with the nearest spelling */
    bind_raise(L);
  }
}

static void read_args(plan *p) {
  lua_State *L = p->L;
  int count = prO_arg_count(p->op), i = 0;
  while (p->at <= p->top) {
    int index = p->at;
    if (lua_istable(L, index) && (has_names(L, index) || i >= count)) {
      if (index < p->top) bind_error(L, "%s: the table of options must be the last argument", p->op->name);
      read_options(p, index, i);
      return;
    }
    if (i >= count) {
      if (lua_isnil(L, index))
        p->at++;
      else if (bind_test_tensor(L, index))
        bind_error(L, "%s: takes %d tensor%s, got more", p->op->name, p->declared,
                   p->declared == 1 ? "" : "s");
      else
        bind_error(L, "%s: too many arguments", p->op->name);
      continue;
    }
    bool list = prO_arg_is_list(p->op->args[i].kind);
    if (lua_istable(L, index) && !list) { /* { 2, 3 } spread over the next arguments */
      read_options(p, index, i);
      p->at++;
      i += (int)lua_rawlen(L, index);
      continue;
    }
    if (list && lua_type(L, index) == LUA_TNUMBER)
      read_numbers(p, i, index);
    else
      read_arg(p, i, index), p->at++;
    i++;
  }
}

/* --- inputs --------------------------------------------------------------------------------------------------------- */

static void read_tensor_list(plan *p) {
  lua_State *L = p->L;
  char name[96];
  int first = p->declared - 1;
  if (!lua_istable(L, p->at)) {
    snprintf(name, sizeof name, "%s: the input", p->op->name);
    bind_type_error(L, p->at, name, "a table of tensors");
  }
  int length = (int)lua_rawlen(L, p->at), total = first + length;
  if (total > FEW) {
    luaL_checkstack(L, 4, NULL);
    input *many = lua_newuserdatauv(L, (size_t)total * sizeof *many, 0);
    memset(many, 0, (size_t)total * sizeof *many);
    memcpy(many, p->in, (size_t)first * sizeof *many);
    p->in = many;
  }
  for (int k = 0; k < length; k++) {
    lua_rawgeti(L, p->at, k + 1);
    if (!(p->in[first + k].tensor = bind_test_tensor(L, -1))) {
      snprintf(name, sizeof name, "%s: element %d of the list", p->op->name, k + 1);
      bind_type_error(L, -1, name, "a tensor");
    }
    lua_pop(L, 1); /* the table goes on holding it */
  }
  p->n_in = total;
  p->at++;
}

static void read_inputs(plan *p) {
  lua_State *L = p->L;
  char name[32], what[96];
  int single = p->declared - prO_variadic(p->op);
  for (int i = 0; i < single; i++) {
    bool optional = prO_input_optional(p->op, i);
    int type = p->at <= p->top ? lua_type(L, p->at) : LUA_TNONE;
    pr_tensor *t = type == LUA_TUSERDATA ? bind_test_tensor(L, p->at) : NULL;
    input *in = &p->in[i];
    if (t)
      in->tensor = t;
    else if (!optional && type == LUA_TNUMBER) {
      in->number = true, in->value = lua_tonumber(L, p->at);
      in->whole = in->value == floor(in->value) && fabs(in->value) < 0x1p53;
    } else if (type == LUA_TNIL || type == LUA_TNONE) {
      if (type == LUA_TNIL) p->at++;
      continue; /* absent: the core says so where it must not be */
    } else if (optional || (type == LUA_TTABLE && has_names(L, p->at)))
      continue; /* an argument */
    else {
      snprintf(what, sizeof what, "%s: input '%s'", p->op->name, prO_input_name(p->op, i, name));
      bind_type_error(L, p->at, what, "a tensor");
    }
    p->n_in = i + 1;
    p->at++;
  }
  if (prO_variadic(p->op)) read_tensor_list(p);
}

/* --- running -------------------------------------------------------------------------------------------------------- */

pr_tensor *bind_shift(pr_tensor *t, int by) {
  if (!t->storage || pr_dtype_is_float(t->dtype) || t->dtype == PR_BOOL) return pr_retain(t);
  pr_tensor *shifted = pr_tensor_new(PR_I64, t->device, t->dim, t->shape);
  if (!shifted || pr_copy(shifted, t)) return pr_release(shifted), NULL;
  int64_t *values = prT_data(shifted), n = pr_numel(shifted);
  for (int64_t i = 0; i < n; i++) values[i] += by;
  return shifted;
}

/* A number takes the dtype of the first tensor, unless that would change it. */
static pr_tensor *number_tensor(const plan *p, const input *in) {
  pr_dtype dtype = PR_F32;
  for (int i = 0; i < p->n_in; i++)
    if (p->in[i].tensor) {
      dtype = p->in[i].tensor->dtype;
      break;
    }
  if (!pr_dtype_is_float(dtype) && !in->whole) dtype = PR_F32;
  if (dtype == PR_BOOL) dtype = PR_I64;
  return pr_tensor_scalar(dtype, in->value);
}

static void release_all(pr_tensor **tensors, int n) {
  for (int i = 0; i < n; i++) pr_release(tensors[i]), tensors[i] = NULL;
}

/* The core's tensors for the plan's inputs: new references. */
static pr_status make_inputs(const plan *p, pr_tensor **in) {
  for (int i = 0; i < p->n_in; i++) {
    const input *from = &p->in[i];
    bool index = from->tensor && prO_input_is_index(p->op, i);
    if (index)
      in[i] = bind_shift(from->tensor, -1);
    else if (from->number)
      in[i] = number_tensor(p, from);
    else
      in[i] = pr_retain(from->tensor);
    if (!in[i] && (from->tensor || from->number)) return release_all(in, p->n_in), pr_error_last()->code;
  }
  return PR_OK;
}

static pr_status run(lua_State *L, const plan *p, pr_tensor **in, pr_tensor **out, int *n_out) {
  memset(in, 0, (size_t)p->n_in * sizeof *in);
  PR_TRY(make_inputs(p, in));
  lua_State *before = bind_running;
  bind_running = L;
  pr_status status = pr_apply(p->op, p->args, in, p->n_in, out, n_out);
  bind_running = before;
  release_all(in, p->n_in);
  for (int k = 0; !status && k < *n_out; k++) {
    if (!out[k] || !out[k]->storage || !prO_output_is_index(p->op, k)) continue;
    pr_tensor *shifted = bind_shift(out[k], 1);
    pr_release(out[k]);
    if (!(out[k] = shifted)) release_all(out, *n_out), status = PR_ERR_MEMORY;
  }
  return status;
}

int bind_call_op(lua_State *L, const pr_op *op) {
  plan p = { .L = L, .op = op, .top = lua_gettop(L), .at = 1, .declared = prO_inputs_declared(op) };
  p.in = p.few;
  read_inputs(&p);
  read_args(&p);
  pr_tensor *few_in[FEW], **in = few_in, *few_out[FEW] = { NULL }, **out = few_out;
  int n_out = prO_outputs_visible(op);
  luaL_checkstack(L, FEW + 8, NULL);
  if (p.n_in > FEW) in = lua_newuserdatauv(L, (size_t)p.n_in * sizeof *in, 0);
  if (prO_outputs_listed(op)) {
    n_out = MOST_OUTPUTS;
    out = lua_newuserdatauv(L, MOST_OUTPUTS * sizeof *out, 0);
  }
  pr_tensor **slot = n_out == 1 ? bind_slot(L) : NULL;
  pr_status status = run(L, &p, in, out, &n_out);
  if (status == PR_ERR_MEMORY) { /* garbage may hold what is missing */
    lua_gc(L, LUA_GCCOLLECT);
    pr_cache_empty();
    status = run(L, &p, in, out, &n_out);
  }
  bind_check(L, status);
  if (slot) return bind_fill(L, slot, out[0]), 1;
  luaL_checkstack(L, n_out + 8, NULL);
  for (int k = 0; k < n_out; k++) {
    if (out[k])
      bind_push(L, out[k]);
    else
      lua_pushnil(L);
  }
  return n_out;
}

static int trampoline(lua_State *L) { return bind_call_op(L, lua_touserdata(L, lua_upvalueindex(1))); }

void bind_open_ops(lua_State *L) {
  lua_createtable(L, 0, pr_op_count);
  for (int i = 0; i < pr_op_count; i++) {
    lua_pushlightuserdata(L, pr_op_list[i]);
    lua_pushcclosure(L, trampoline, 1);
    lua_setfield(L, -2, pr_op_list[i]->name);
  }
}
