/* function.c - operators written in Lua (prune/nn/function.lua): a descriptor whose rules call Lua functions.
 *
 * Every call into Lua is protected: what it raises becomes a failure of the core, which lets go of what it
 * holds and raises again at the door. What a forward function leaves in its context hangs on the tape as an
 * attachment: a reference in Lua's registry.
 */
#include "bind.h"

#include "base/memory.h"
#include "couple/rules.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define OPERATOR "prune.Operator"
#define TIES     "prune.Ties"

enum { MOST = 32 };
enum { SHAPE, FORWARD, BACKWARD, COUPLE, FUNCTIONS };

typedef struct lua_operator {
  pr_op op; /* first: what the core calls */
  lua_State *main;
  int function[FUNCTIONS]; /* references; LUA_NOREF where there is none */
} lua_operator;

static const lua_operator *operator_of(const pr_op *op) { return (const lua_operator *)op; }

/* --- into Lua ------------------------------------------------------------------------------------------------------- */

/* Run f(L) with `context` as its argument (a light userdata), protected. */
static pr_status protect(const pr_op *op, const char *what, lua_CFunction f, void *context) {
  lua_State *L = bind_running ? bind_running : operator_of(op)->main;
  if (!lua_checkstack(L, 8)) return pr_fail(PR_ERR_MEMORY, "%s finds no room on Lua's stack", op->name);
  lua_pushcfunction(L, f);
  lua_pushlightuserdata(L, context);
  if (lua_pcall(L, 1, 0, 0) == LUA_OK) return PR_OK;
  const char *message = luaL_tolstring(L, -1, NULL);
  pr_status status = pr_fail(PR_ERR_STATE, "%s, %s: %s", op->name, what, message);
  lua_pop(L, 2);
  return status;
}

static void push_function(lua_State *L, const pr_op *op, int which) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, operator_of(op)->function[which]);
}

static void push_options(lua_State *L, const pr_call *c) {
  lua_newtable(L);
  for (int a = 0; a < PR_MAX_ARGS && c->op->args[a].name; a++) {
    if (c->op->args[a].kind == PR_ARG_BOOL)
      lua_pushboolean(L, c->args[a].integer != 0);
    else
      lua_pushnumber(L, c->args[a].real);
    lua_setfield(L, -2, c->op->args[a].name);
  }
}

/* --- shapes --------------------------------------------------------------------------------------------------------- */

/* What the shape function returned for output k: a table of sizes, perhaps with dtype. */
static void read_shape(lua_State *L, pr_call *c, int k, int index) {
  int64_t shape[PR_MAX_DIM];
  if (!lua_istable(L, index))
    bind_type_error(L, index, "what it returns", "a table of sizes for each output");
  int dim = (int)lua_rawlen(L, index);
  if (dim > PR_MAX_DIM) luaL_error(L, "a shape has at most %d axes, got %d", PR_MAX_DIM, dim);
  for (int d = 0; d < dim; d++) {
    lua_rawgeti(L, index, d + 1);
    shape[d] = bind_integer(L, -1, "a size");
    if (shape[d] < 0) luaL_error(L, "a size must not be negative");
    lua_pop(L, 1);
  }
  lua_getfield(L, index, "dtype");
  pr_dtype dtype = bind_dtype(L, -1, c->in[0]->dtype);
  lua_pop(L, 1);
  if (prO_output(c, k, dtype, dim, shape)) bind_raise(L);
}

static int call_shape(lua_State *L) {
  pr_call *c = lua_touserdata(L, 1);
  luaL_checkstack(L, c->n_in + 8, NULL);
  push_function(L, c->op, SHAPE);
  for (int i = 0; i < c->n_in; i++) bind_push_integers(L, c->in[i]->dim, c->in[i]->shape);
  push_options(L, c);
  lua_call(L, c->n_in + 1, LUA_MULTRET);
  int n = lua_gettop(L) - 1;
  if (n < 1 || n > MOST) luaL_error(L, "it must return 1 to %d shapes, got %d", MOST, n);
  if (prO_outputs(c, n)) bind_raise(L);
  for (int k = 0; k < n; k++) read_shape(L, c, k, 2 + k);
  return 0;
}

static pr_status infer(pr_call *c) {
  if (operator_of(c->op)->function[SHAPE] != LUA_NOREF) return protect(c->op, "shape", call_shape, c);
  PR_TRY(prO_outputs(c, 1));
  return prO_output(c, 0, c->in[0]->dtype, c->in[0]->dim, c->in[0]->shape);
}

/* --- forward -------------------------------------------------------------------------------------------------------- */

typedef struct context {
  lua_State *main;
  int table;
} context;

static void drop_context(void *data) {
  context *held = data;
  luaL_unref(held->main, LUA_REGISTRYINDEX, held->table);
  PRB_FREE(held);
}

/* A tensor of the function as a result of its own: no name for one that others have, no memory of an input.
 */
static pr_tensor *own_result(const pr_call *c, pr_tensor *t) {
  for (int i = 0; i < c->n_in; i++)
    if (c->in[i]->storage == t->storage) return pr_clone(t);
  return pr_detach(t);
}

/* The value at `index` must be a tensor like `like`. */
static pr_tensor *check_like(lua_State *L, int index, const pr_tensor *like, const char *what) {
  char got[PR_SHAPE_TEXT], want[PR_SHAPE_TEXT];
  pr_tensor *t = bind_test_tensor(L, index);
  if (!t) bind_type_error(L, index, what, "a tensor");
  if (t->device == PR_META || !pr_same_shape(t, like) || t->dtype != like->dtype) {
    pr_shape_text(t, got), pr_shape_text(like, want);
    luaL_error(L, "%s is %s %s, it must be %s %s", what, pr_dtype_name(t->dtype), got,
               pr_dtype_name(like->dtype), want);
  }
  return t;
}

static int call_forward(lua_State *L) {
  pr_call *c = lua_touserdata(L, 1);
  char what[32];
  luaL_checkstack(L, c->n_in + c->n_out + 8, NULL);
  push_function(L, c->op, FORWARD);
  push_options(L, c); /* the context begins with them */
  context *held = PRB_NEW(context);
  if (!held) bind_raise(L);
  lua_pushvalue(L, -1);
  *held = (context){ operator_of(c->op)->main, LUA_NOREF };
  c->attachment = (pr_attachment){ held, drop_context };
  held->table = luaL_ref(L, LUA_REGISTRYINDEX);
  for (int i = 0; i < c->n_in; i++) bind_push_borrowed(L, c->in[i]);
  lua_call(L, c->n_in + 1, LUA_MULTRET);
  int n = lua_gettop(L) - 1;
  if (n != c->n_out)
    luaL_error(L, "it returns %d values, %d expected (definition.shape gives a table of sizes for each)", n,
               c->n_out);
  for (int k = 0; k < n; k++) {
    snprintf(what, sizeof what, "result %d", k + 1);
    if (prO_give(c, k, own_result(c, check_like(L, 2 + k, c->out[k], what)))) bind_raise(L);
  }
  return 0;
}

static pr_status forward(pr_call *c) { return protect(c->op, "forward", call_forward, c); }

/* --- backward ------------------------------------------------------------------------------------------------------- */

static int call_backward(lua_State *L) {
  pr_call *c = lua_touserdata(L, 1);
  char what[48];
  luaL_checkstack(L, c->n_in + c->n_out + 8, NULL);
  push_function(L, c->op, BACKWARD);
  lua_rawgeti(L, LUA_REGISTRYINDEX, ((context *)c->attachment.data)->table);
  lua_createtable(L, c->n_in, 0);
  for (int i = 0; i < c->n_in; i++) bind_push_borrowed(L, c->in[i]), lua_rawseti(L, -2, i + 1);
  lua_setfield(L, -2, "inputs");
  for (int k = 0; k < c->n_out; k++) bind_push_borrowed(L, c->grad_out[k]);
  lua_call(L, c->n_out + 1, LUA_MULTRET);
  int n = lua_gettop(L) - 1;
  if (n > c->n_in) luaL_error(L, "it returns %d gradients for %d inputs", n, c->n_in);
  for (int i = 0; i < c->n_in; i++) {
    if (!c->wanted[i]) continue;
    pr_tensor *g;
    if (i >= n || lua_isnil(L, 2 + i)) { /* the input has no influence */
      g = pr_tensor_zeros(c->in[i]->dtype, c->in[i]->device, c->in[i]->dim, c->in[i]->shape);
    } else {
      snprintf(what, sizeof what, "the gradient of input %d", i + 1);
      g = pr_retain(check_like(L, 2 + i, c->in[i], what));
    }
    if (prO_gradient(c, i, g)) bind_raise(L);
  }
  return 0;
}

static pr_status backward(pr_call *c) { return protect(c->op, "backward", call_backward, c); }

/* --- coupling: the object that a rule gets ---------------------------------------------------------------------------- */

static pr_coupling *check_ties(lua_State *L) {
  pr_coupling **k = luaL_checkudata(L, 1, TIES);
  if (!*k) luaL_error(L, "these ties are of a rule that has ended");
  return *k;
}

/* "x1", "x2", ... the inputs; "y1", ... the outputs. */
static int check_tensor(lua_State *L, const pr_coupling *k, int index) {
  const char *name = luaL_checkstring(L, index);
  char *end;
  long number = strtol(name + (*name != 0), &end, 10);
  int most = *name == 'x' ? k->inputs : *name == 'y' ? k->outputs : 0;
  if (*end || number < 1 || number > most)
    luaL_error(L, "'%s' is not a tensor of this operator: x1 to x%d are its inputs, y1 to y%d its outputs",
               name, k->inputs, k->outputs);
  return *name == 'x' ? PRC_IN((int)number - 1) : PRC_OUT((int)number - 1);
}

static int check_axis(lua_State *L, const pr_coupling *k, int tensor, int index) {
  return bind_axis(L, index, prC_dim(k, tensor), "the axis");
}

static prC_keep check_keep(lua_State *L, int index) {
  static const char *const words[] = { "unknown", "zero", "value", "vanish", NULL };
  return (prC_keep)luaL_checkoption(L, index, "unknown", words);
}

static void need_same_sizes(lua_State *L, const pr_coupling *k, int a, int axis, int b, int other) {
  if (prC_size(k, a, axis) != prC_size(k, b, other))
    luaL_error(L, "axes of sizes %d and %d cannot be tied", (int)prC_size(k, a, axis),
               (int)prC_size(k, b, other));
}

static int ties_tie(lua_State *L) {
  pr_coupling *k = check_ties(L);
  int a = check_tensor(L, k, 2), axis = check_axis(L, k, a, 3);
  int b = check_tensor(L, k, 4), other = check_axis(L, k, b, 5);
  need_same_sizes(L, k, a, axis, b, other);
  prC_tie(k, a, axis, b, other);
  return 0;
}

static int ties_pass(lua_State *L) {
  pr_coupling *k = check_ties(L);
  int y = check_tensor(L, k, 2), x = check_tensor(L, k, 3);
  if (prC_dim(k, y) != prC_dim(k, x))
    luaL_error(L, "pass: the tensors have %d and %d axes", prC_dim(k, y), prC_dim(k, x));
  prC_pass(k, y, x, check_keep(L, 4));
  return 0;
}

static int ties_pass_axis(lua_State *L) {
  pr_coupling *k = check_ties(L);
  int y = check_tensor(L, k, 2), axis = check_axis(L, k, y, 3);
  int x = check_tensor(L, k, 4), other = check_axis(L, k, x, 5);
  need_same_sizes(L, k, y, axis, x, other);
  prC_pass_axis(k, y, axis, x, other, check_keep(L, 6));
  return 0;
}

static int ties_pin(lua_State *L) {
  pr_coupling *k = check_ties(L);
  int x = check_tensor(L, k, 2);
  const char *reason = luaL_optstring(L, 4, NULL);
  if (lua_isnoneornil(L, 3))
    prC_pin_all(k, x, reason);
  else
    prC_pin(k, x, check_axis(L, k, x, 3), reason);
  return 0;
}

static int ties_need_zero(lua_State *L) {
  pr_coupling *k = check_ties(L);
  int x = check_tensor(L, k, 2);
  prC_need_zero(k, x, check_axis(L, k, x, 3), k->call->op->name);
  return 0;
}

static int ties_dead(lua_State *L) {
  pr_coupling *k = check_ties(L);
  int x = check_tensor(L, k, 2), axis = check_axis(L, k, x, 3);
  if (lua_isnoneornil(L, 4)) {
    double dead = prC_dead(k, x, axis);
    if (isnan(dead))
      lua_pushnil(L);
    else
      lua_pushnumber(L, dead);
    return 1;
  }
  prC_set_dead(k, x, axis, luaL_checknumber(L, 4));
  return 0;
}

static int ties_dim(lua_State *L) {
  pr_coupling *k = check_ties(L);
  return lua_pushinteger(L, prC_dim(k, check_tensor(L, k, 2))), 1;
}

static int ties_size(lua_State *L) {
  pr_coupling *k = check_ties(L);
  int x = check_tensor(L, k, 2);
  return lua_pushinteger(L, prC_size(k, x, check_axis(L, k, x, 3))), 1;
}

static const luaL_Reg ties_methods[] = {
  { "tie", ties_tie }, { "pass", ties_pass },           { "pass_axis", ties_pass_axis },
  { "pin", ties_pin }, { "need_zero", ties_need_zero }, { "dead", ties_dead },
  { "dim", ties_dim }, { "size", ties_size },           { NULL, NULL },
};

static int call_couple(lua_State *L) {
  pr_coupling *k = lua_touserdata(L, 1);
  push_function(L, k->call->op, COUPLE);
  pr_coupling **ties = lua_newuserdatauv(L, sizeof *ties, 0);
  *ties = k;
  luaL_setmetatable(L, TIES);
  lua_pushvalue(L, -1);
  lua_insert(L, 2);
  push_options(L, k->call);
  int status = lua_pcall(L, 2, 0, 0);
  *(pr_coupling **)lua_touserdata(L, 2) = NULL; /* who keeps the object has nothing */
  return status ? lua_error(L) : 0;
}

static void couple_by_rule(pr_coupling *k) {
  pr_status status = protect(k->call->op, "coupling rule", call_couple, k);
  if (status && !k->algebra->status) k->algebra->status = status;
}

/* --- coupling: element by element --------------------------------------------------------------------------------------- */

/* What one entry becomes: the function itself is asked, with tensors of one entry. */
typedef struct question {
  const pr_call *call;
  const double *value;
  double answer;
} question;

static int ask(lua_State *L) {
  question *q = lua_touserdata(L, 1);
  const pr_call *c = q->call;
  luaL_checkstack(L, c->n_in + 8, NULL);
  push_function(L, c->op, FORWARD);
  push_options(L, c);
  for (int i = 0; i < c->n_in; i++) {
    int64_t ones[PR_MAX_DIM];
    for (int d = 0; d < c->in[i]->dim; d++) ones[d] = 1;
    pr_tensor **slot = bind_slot(L);
    bind_fill(L, slot, pr_tensor_full(c->in[i]->dtype, PR_CPU, c->in[i]->dim, ones, q->value[i]));
  }
  lua_call(L, c->n_in + 1, 1);
  pr_tensor *t = bind_test_tensor(L, -1);
  if (t && pr_numel(t) == 1 && pr_item(t, &q->answer)) bind_raise(L);
  return 0;
}

static double value_of_dead(const double *value, const void *call) {
  question q = { call, value, NAN };
  bool recording = pr_grad_mode(false);
  prD_tracer *tracer = prD_tracer_set(NULL);
  pr_status status = protect(q.call->op, "forward", ask, &q);
  prD_tracer_set(tracer);
  pr_grad_mode(recording);
  return status ? NAN : q.answer;
}

static void couple_by_element(pr_coupling *k) {
  int operands[MOST];
  for (int i = 0; i < k->inputs && i < MOST; i++) operands[i] = PRC_IN(i);
  bool fits = k->outputs == 1;
  for (int d = 0; d < prC_dim(k, PRC_OUT(0)) && fits; d++) { /* the output must be the inputs, broadcast */
    int64_t widest = 1;
    for (int i = 0; i < k->inputs; i++) {
      int own = d - prC_dim(k, PRC_OUT(0)) + prC_dim(k, PRC_IN(i));
      if (own >= 0 && prC_size(k, PRC_IN(i), own) > widest) widest = prC_size(k, PRC_IN(i), own);
    }
    fits = widest == prC_size(k, PRC_OUT(0), d);
  }
  if (fits) {
    prC_rule_elementwise(k, k->inputs, operands, PRC_OUT(0), PRC_FUNCTION, value_of_dead, k->call);
  } else {
    for (int i = 0; i < k->inputs; i++)
      prC_pin_all(k, PRC_IN(i), "its output does not have the shape of its inputs");
  }
}

/* --- making and calling --------------------------------------------------------------------------------------------------- */

static lua_State *main_state(lua_State *L) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  lua_State *main = lua_tothread(L, -1);
  lua_pop(L, 1);
  return main;
}

/* Names of options: { { name, default }, ... } at `index`. */
static pr_status read_specs(lua_State *L, int index, pr_op *op) {
  int n = (int)lua_rawlen(L, index);
  for (int a = 0; a < n && a < PR_MAX_ARGS; a++) {
    lua_rawgeti(L, index, a + 1);
    lua_rawgeti(L, -1, 1);
    lua_rawgeti(L, -2, 2);
    bool boolean = lua_isboolean(L, -1);
    op->args[a] =
        (pr_arg_spec){ .name = prB_string(lua_tostring(L, -2)), .kind = boolean ? PR_ARG_BOOL : PR_ARG_REAL };
    if (boolean)
      op->args[a].integer = lua_toboolean(L, -1);
    else
      op->args[a].real = lua_tonumber(L, -1);
    lua_pop(L, 3);
    if (!op->args[a].name) return PR_ERR_MEMORY;
  }
  return PR_OK;
}

/* An operator that was not registered: nothing refers to it. */
static void free_operator(lua_State *L, lua_operator *own) {
  for (int f = SHAPE; f < FUNCTIONS; f++) luaL_unref(L, LUA_REGISTRYINDEX, own->function[f]);
  for (int a = 0; a < PR_MAX_ARGS; a++) prB_string_free((char *)own->op.args[a].name);
  prB_string_free((char *)own->op.name);
  PRB_FREE(own);
}

/* function_new(name, { shape, forward, backward, rule: functions or false }, elementwise, options) ->
 * operator */
static int function_new(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  luaL_checktype(L, 4, LUA_TTABLE);
  lua_operator **box = lua_newuserdatauv(L, sizeof *box, 0);
  *box = NULL;
  luaL_setmetatable(L, OPERATOR);
  lua_operator *own = PRB_NEW(lua_operator);
  if (!own) return bind_raise(L);
  *own = (lua_operator){ .main = main_state(L),
                         .op = { .name = prB_string(name),
                                 .inputs = "x*",
                                 .outputs = "y*",
                                 .saves = "x",
                                 .infer = infer,
                                 .forward = forward,
                                 .help = "an operator written in Lua" } };
  for (int f = SHAPE; f <= COUPLE; f++) {
    bool present = lua_rawgeti(L, 2, f - SHAPE + 1) == LUA_TFUNCTION;
    if (!present) lua_pop(L, 1);
    own->function[f] = present ? luaL_ref(L, LUA_REGISTRYINDEX) : LUA_NOREF;
  }
  if (own->function[BACKWARD] != LUA_NOREF)
    own->op.backward = backward;
  else
    own->op.flags = PR_OP_NO_GRADIENT;
  own->op.couple = lua_toboolean(L, 3)                  ? couple_by_element
                   : own->function[COUPLE] != LUA_NOREF ? couple_by_rule
                                                        : NULL;
  pr_status status = own->op.name ? read_specs(L, 4, &own->op) : PR_ERR_MEMORY;
  if (!status) status = pr_op_register(&own->op);
  if (status) free_operator(L, own), bind_raise(L);
  *box = own;
  return 1;
}

static const pr_op *check_operator(lua_State *L) {
  lua_operator **box = luaL_checkudata(L, 1, OPERATOR);
  if (!*box) bind_error(L, "this operator could not be made");
  return &(*box)->op;
}

/* Tensors from the list at 2, numbers and booleans from the list at 3. */
static int read_call(lua_State *L, const pr_op *op, pr_tensor **in, pr_arg args[PR_MAX_ARGS]) {
  int n = (int)lua_rawlen(L, 2);
  if (n < 1 || n > MOST) bind_error(L, "%s: takes 1 to %d tensors, got %d", op->name, MOST, n);
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, 2, i + 1);
    if (!(in[i] = bind_test_tensor(L, -1)))
      bind_type_error(L, -1, op->name, "tensors, and a table of options at the end");
    lua_pop(L, 1); /* the list goes on holding it */
  }
  for (int a = 0; a < PR_MAX_ARGS && op->args[a].name; a++) {
    lua_rawgeti(L, 3, a + 1);
    args[a] = (pr_arg){ .integer = lua_toboolean(L, -1), .real = lua_tonumber(L, -1), .given = true };
    lua_pop(L, 1);
  }
  return n;
}

/* function_call(operator, inputs, values of all options) -> outputs */
static int function_call(lua_State *L) {
  const pr_op *op = check_operator(L);
  pr_tensor *in[MOST], *out[MOST] = { NULL };
  pr_arg args[PR_MAX_ARGS] = { 0 };
  int n = read_call(L, op, in, args), n_out = MOST;
  luaL_checkstack(L, MOST + 8, NULL);
  lua_State *before = bind_running;
  bind_running = L;
  pr_status status = pr_apply(op, args, in, n, out, &n_out);
  bind_running = before;
  bind_check(L, status);
  for (int k = 0; k < n_out; k++) bind_push(L, out[k]);
  return n_out;
}

/* function_check(operator, inputs, values of all options, step) -> largest relative difference of gradients
 */
static int function_check(lua_State *L) {
  const pr_op *op = check_operator(L);
  pr_tensor *in[MOST];
  pr_arg args[PR_MAX_ARGS] = { 0 };
  double worst = 0;
  int n = read_call(L, op, in, args);
  lua_State *before = bind_running;
  bind_running = L;
  pr_status status = pr_gradient_check(op, args, in, n, luaL_checknumber(L, 4), &worst);
  bind_running = before;
  bind_check(L, status);
  return lua_pushnumber(L, worst), 1;
}

const luaL_Reg bind_function_functions[] = {
  { "function_new", function_new },
  { "function_call", function_call },
  { "function_check", function_check },
  { NULL, NULL },
};

void bind_open_function(lua_State *L) {
  luaL_newmetatable(L, OPERATOR);
  lua_pop(L, 1);
  luaL_newmetatable(L, TIES);
  luaL_newlib(L, ties_methods);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
}
