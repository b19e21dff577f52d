/* graph.c - graphs as Lua values: tracing, looking, running.
 *
 * A graph's userdata owns the pr_graph and, from the first question about coupling on, its pr_pruning. Its
 * user value is a table for the Lua side (prune/graph.lua): the model and the function that traces it again.
 */
#include "bind_graph.h"

#include <stdlib.h>
#include <string.h>

bind_graph *bind_check_graph_box(lua_State *L, int index) {
  bind_graph *box = luaL_checkudata(L, index, BIND_GRAPH);
  if (!box->graph) bind_error(L, "this graph is released");
  return box;
}

static bind_graph *graph_slot(lua_State *L) {
  bind_graph *box = lua_newuserdatauv(L, sizeof *box, 1);
  *box = (bind_graph){ 0 };
  luaL_setmetatable(L, BIND_GRAPH);
  lua_newtable(L);
  lua_setiuservalue(L, -2, 1);
  return box;
}

static int graph_gc(lua_State *L) {
  bind_graph *box = luaL_checkudata(L, 1, BIND_GRAPH);
  pr_pruning_free(box->pruning);
  pr_graph_free(box->graph);
  *box = (bind_graph){ 0 };
  return 0;
}

/* --- tracing -------------------------------------------------------------------------------------------------------- */

static pr_status add_parameters(lua_State *L, int index, pr_trace *trace) {
  int n = (int)lua_rawlen(L, index);
  for (int i = 1; i <= n; i++) {
    lua_rawgeti(L, index, i);
    lua_rawgeti(L, -1, 1);
    lua_rawgeti(L, -2, 2);
    pr_tensor **t = luaL_testudata(L, -1, BIND_TENSOR);
    const char *name = lua_tostring(L, -2);
    pr_status status = t && *t && name
                           ? pr_trace_parameter(trace, name, *t)
                           : pr_fail(PR_ERR_ARGUMENT, "trace: parameter %d is not { name, tensor }", i);
    lua_pop(L, 3);
    PR_TRY(status);
  }
  return PR_OK;
}

static pr_status add_modules(lua_State *L, int index, pr_trace *trace) {
  int n = (int)lua_rawlen(L, index);
  for (int i = 1; i <= n; i++) {
    lua_rawgeti(L, index, i);
    lua_rawgeti(L, -1, 1);
    lua_rawgeti(L, -2, 2);
    const char *path = lua_tostring(L, -2), *type = lua_tostring(L, -1);
    pr_status status = path && type ? pr_trace_module(trace, path, type)
                                    : pr_fail(PR_ERR_ARGUMENT, "trace: module %d is not { path, type }", i);
    lua_pop(L, 3);
    PR_TRY(status);
  }
  return PR_OK;
}

enum { MOST_TENSORS = 64 };

static int by_name(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Pushes what a table holds: 1..n in order, then what has a name, by name. */
static pr_status push_entries(lua_State *L, int table) {
  const char *name[MOST_TENSORS];
  int count = (int)lua_rawlen(L, table), names = 0;
  if (!lua_checkstack(L, count + MOST_TENSORS + 4))
    return pr_fail(PR_ERR_UNSUPPORTED, "the model has too many outputs");
  for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1)) {
    if (lua_isinteger(L, -2) && lua_tointeger(L, -2) >= 1 && lua_tointeger(L, -2) <= count) continue;
    if (lua_type(L, -2) != LUA_TSTRING || names == MOST_TENSORS) {
      lua_pop(L, 2);
      return pr_fail(PR_ERR_UNSUPPORTED,
                     names == MOST_TENSORS
                         ? "the model has too many outputs"
                         : "the model returns a table whose keys are neither 1..n nor names");
    }
    name[names++] = lua_tostring(L, -2);
  }
  qsort(name, (size_t)names, sizeof *name, by_name);
  for (int k = 1; k <= count; k++) lua_rawgeti(L, table, k);
  for (int k = 0; k < names; k++) lua_pushstring(L, name[k]), lua_rawget(L, table);
  return PR_OK;
}

/* Tensors among the values from `first` to the top, those inside tables in order too. */
static pr_status gather_outputs(lua_State *L, int first, pr_tensor **out, int *n) {
  for (int i = first; i <= lua_gettop(L); i++) {
    pr_tensor **t = luaL_testudata(L, i, BIND_TENSOR);
    if (t && *t) {
      if (*n == MOST_TENSORS)
        return pr_fail(PR_ERR_UNSUPPORTED, "the model has more than %d outputs", MOST_TENSORS);
      out[(*n)++] = *t;
    } else if (lua_istable(L, i)) {
      int top = lua_gettop(L);
      pr_status status = push_entries(L, i);
      if (!status) status = gather_outputs(L, top + 1, out, n);
      lua_settop(L, top);
      PR_TRY(status);
    } else {
      return pr_fail(PR_ERR_ARGUMENT, "the model returns a %s; tensors (or tables of tensors) are traced",
                     luaL_typename(L, i));
    }
  }
  if (*n == 0) return pr_fail(PR_ERR_ARGUMENT, "the model returns nothing");
  return PR_OK;
}

/* Positions are 0-based in a graph. What an operator takes as positions was shifted on its way in; a constant
 * that others hand on to it was not. */
static pr_status shift_constants(lua_State *L, pr_graph *graph) {
  bool *marked = lua_newuserdatauv(L, (size_t)graph->n_values * sizeof *marked, 0);
  bind_graph_index_constants(graph, marked);
  for (int v = 0; v < graph->n_values; v++) {
    pr_graph_value *value = &graph->values[v];
    if (!marked[v]) continue;
    pr_tensor *shifted = bind_shift(value->tensor, -1);
    if (!shifted) return pr_error_last()->code;
    pr_release(value->tensor);
    value->tensor = shifted, value->dtype = shifted->dtype;
  }
  lua_pop(L, 1);
  return PR_OK;
}

/* trace(inputs, batch, parameters, modules, run) -> graph. `run` gets the stand-ins. */
static int trace(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_Integer batch = luaL_checkinteger(L, 2);
  luaL_checktype(L, 3, LUA_TTABLE);
  luaL_checktype(L, 4, LUA_TTABLE);
  luaL_checktype(L, 5, LUA_TFUNCTION);
  lua_settop(L, 5);
  int n = (int)lua_rawlen(L, 1);
  if (n < 1 || n > 16) return bind_error(L, "trace: a model takes 1 to 16 inputs, got %d", n);
  pr_tensor *inputs[16], *stand_ins[16], *outputs[MOST_TENSORS];
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, 1, i + 1);
    inputs[i] = bind_check_tensor(L, -1);
    lua_pop(L, 1);
  }
  bind_graph *box = graph_slot(L); /* at 6 */
  luaL_checkstack(L, n + 16, NULL);
  pr_tensor **slots[16];
  for (int i = 0; i < n; i++) slots[i] = bind_slot(L);
  pr_trace *tracing = pr_trace_begin(n, inputs, batch, stand_ins);
  if (!tracing) return bind_raise(L);
  for (int i = 0; i < n; i++)
    *slots[i] = stand_ins[i]; /* not through the table of handles: they live for this call only */
  pr_status status = add_parameters(L, 3, tracing);
  if (!status) status = add_modules(L, 4, tracing);
  bool recording = pr_grad_mode(false);
  int base = lua_gettop(L);
  lua_pushvalue(L, 5);
  for (int i = 0; i < n; i++) lua_pushvalue(L, 7 + i);
  int failed = status ? LUA_OK : lua_pcall(L, n, LUA_MULTRET, 0);
  pr_grad_mode(recording);
  int n_out = 0;
  if (!status && !failed) status = gather_outputs(L, base + 1, outputs, &n_out);
  if (status || failed) {
    pr_trace_cancel(tracing);
    return failed ? lua_error(L) : bind_raise(L);
  }
  box->graph = pr_trace_end(tracing, n_out, outputs);
  if (!box->graph) return bind_raise(L);
  bind_check(L, shift_constants(L, box->graph));
  lua_settop(L, 6);
  return 1;
}

/* graph:fit_batch(other) */
static int fit_batch(lua_State *L) {
  bind_check(L, pr_graph_fit_batch(bind_check_graph_box(L, 1)->graph, bind_check_graph_box(L, 2)->graph));
  lua_settop(L, 1);
  return 1;
}

/* graph:state() -> the table of the Lua side */
static int state(lua_State *L) {
  bind_check_graph_box(L, 1);
  lua_getiuservalue(L, 1, 1);
  return 1;
}

/* --- looking -------------------------------------------------------------------------------------------------------- */

static void push_arg(lua_State *L, const pr_arg_spec *spec, const pr_arg *arg) {
  bool one_based = spec->kind == PR_ARG_DIM || spec->kind == PR_ARG_DIMS || spec->kind == PR_ARG_INDEX ||
                   spec->kind == PR_ARG_INDICES;
  if (spec->kind == PR_ARG_REAL)
    lua_pushnumber(L, arg->real);
  else if (spec->kind == PR_ARG_BOOL || spec->kind == PR_ARG_MODE)
    lua_pushboolean(L, arg->integer != 0);
  else if (!prO_arg_is_list(spec->kind) || !arg->count)
    lua_pushinteger(L, arg->integer + (one_based && arg->integer >= 0));
  else {
    lua_createtable(L, arg->count, 0);
    for (int i = 0; i < arg->count; i++) {
      lua_pushinteger(L, arg->list[i] + (one_based && arg->list[i] >= 0));
      lua_rawseti(L, -2, i + 1);
    }
  }
}

/* The given arguments of a node, by name. */
void bind_push_args(lua_State *L, const pr_graph_node *node) {
  lua_newtable(L);
  for (int a = 0; a < PR_MAX_ARGS && node->op->args[a].name; a++) {
    if (!node->args[a].given) continue;
    push_arg(L, &node->op->args[a], &node->args[a]);
    lua_setfield(L, -2, node->op->args[a].name);
  }
}

static void push_value(lua_State *L, const pr_graph *graph, int v) {
  static const char *const kinds[] = { "input", "parameter", "constant", "result" };
  const pr_graph_value *value = &graph->values[v];
  lua_createtable(L, 0, 5);
  lua_pushinteger(L, v + 1);
  lua_setfield(L, -2, "number");
  lua_pushstring(L, value->kind == PR_VALUE_PARAMETER && value->is_buffer ? "buffer" : kinds[value->kind]);
  lua_setfield(L, -2, "kind");
  if (value->name) lua_pushstring(L, value->name), lua_setfield(L, -2, "name");
  lua_pushstring(L, pr_dtype_name(value->dtype));
  lua_setfield(L, -2, "dtype");
  bind_push_integers(L, value->dim, value->shape);
  lua_setfield(L, -2, "shape");
}

static void push_values(lua_State *L, const pr_graph *graph, int n, const int *numbers) {
  lua_createtable(L, n, 0);
  int count = 0;
  for (int i = 0; i < n; i++) {
    if (numbers[i] < 0) continue;
    push_value(L, graph, numbers[i]);
    lua_rawseti(L, -2, ++count);
  }
}

/* graph:nodes() -> list of { op, path, type, inputs, outputs, arguments, macs, macs_ptflops } */
static int nodes(lua_State *L) {
  const pr_graph *graph = bind_check_graph_box(L, 1)->graph;
  lua_createtable(L, graph->n_nodes, 0);
  for (int n = 0; n < graph->n_nodes; n++) {
    const pr_graph_node *node = &graph->nodes[n];
    pr_cost cost;
    lua_createtable(L, 0, 8);
    lua_pushstring(L, node->op->name), lua_setfield(L, -2, "op");
    lua_pushstring(L, node->path), lua_setfield(L, -2, "path");
    lua_pushstring(L, node->type), lua_setfield(L, -2, "type");
    push_values(L, graph, node->n_in, node->in), lua_setfield(L, -2, "inputs");
    push_values(L, graph, node->n_out, node->out), lua_setfield(L, -2, "outputs");
    bind_push_args(L, node), lua_setfield(L, -2, "arguments");
    bind_check(L, pr_graph_node_cost(graph, n, &cost));
    lua_pushinteger(L, cost.macs), lua_setfield(L, -2, "macs");
    lua_pushinteger(L, cost.macs_ptflops), lua_setfield(L, -2, "macs_ptflops");
    lua_rawseti(L, -2, n + 1);
  }
  return 1;
}

/* graph:modules() -> list of { path, type } */
static int modules(lua_State *L) {
  const pr_graph *graph = bind_check_graph_box(L, 1)->graph;
  lua_createtable(L, graph->n_modules, 0);
  for (int m = 0; m < graph->n_modules; m++) {
    lua_createtable(L, 2, 0);
    lua_pushstring(L, graph->modules[m].path), lua_rawseti(L, -2, 1);
    lua_pushstring(L, graph->modules[m].type), lua_rawseti(L, -2, 2);
    lua_rawseti(L, -2, m + 1);
  }
  return 1;
}

/* graph:tensors() -> list of { name, tensor, kind } of parameters, buffers, constants */
static int tensors(lua_State *L) {
  const pr_graph *graph = bind_check_graph_box(L, 1)->graph;
  lua_newtable(L);
  int count = 0;
  for (int v = 0; v < graph->n_values; v++) {
    if (!graph->values[v].tensor) continue;
    push_value(L, graph, v);
    lua_pushstring(L, prG_value_name(graph, v)), lua_setfield(L, -2, "name");
    bind_push_borrowed(L, graph->values[v].tensor), lua_setfield(L, -2, "tensor");
    lua_rawseti(L, -2, ++count);
  }
  return 1;
}

static int inputs(lua_State *L) {
  const pr_graph *graph = bind_check_graph_box(L, 1)->graph;
  push_values(L, graph, graph->n_inputs, graph->inputs);
  return 1;
}

static int outputs(lua_State *L) {
  const pr_graph *graph = bind_check_graph_box(L, 1)->graph;
  push_values(L, graph, graph->n_outputs, graph->outputs);
  return 1;
}

static int batch(lua_State *L) {
  lua_pushinteger(L, bind_check_graph_box(L, 1)->graph->batch);
  return 1;
}

/* graph:cost() -> MACs, MACs in ptflops' convention, parameters, buffer elements */
static int cost(lua_State *L) {
  const pr_graph *graph = bind_check_graph_box(L, 1)->graph;
  pr_cost total;
  int64_t parameters, buffers;
  bind_check(L, pr_graph_cost(graph, &total));
  pr_graph_sizes(graph, &parameters, &buffers);
  lua_pushinteger(L, total.macs);
  lua_pushinteger(L, total.macs_ptflops);
  lua_pushinteger(L, parameters);
  lua_pushinteger(L, buffers);
  return 4;
}

/* graph:run(inputs, training, statistics or nil) -> outputs; statistics observe, in evaluation mode */
enum { MOST_INPUTS = 16 };

/* Positions are 1-based on this side of the call: inputs that end as positions lose 1, outputs that are
 * positions gain 1. */
static pr_status run_shifted(const pr_graph *graph, pr_tensor *const *given, bool training,
                             pr_statistics *statistics, bool *marked, pr_tensor **out) {
  pr_tensor *in[MOST_INPUTS] = { NULL };
  pr_status status = PR_OK;
  bind_graph_index_inputs(graph, marked);
  for (int i = 0; i < graph->n_inputs && !status; i++) {
    in[i] = marked[graph->inputs[i]] ? bind_shift(given[i], -1) : pr_retain(given[i]);
    if (!in[i]) status = pr_error_last()->code;
  }
  if (!status)
    status = statistics ? pr_statistics_run(statistics, in, out) : pr_graph_run(graph, in, training, out);
  for (int i = 0; i < graph->n_inputs; i++) pr_release(in[i]);
  if (status) return status;
  bind_graph_index_outputs(graph, marked);
  for (int k = 0; k < graph->n_outputs; k++) {
    if (!marked[graph->outputs[k]]) continue;
    pr_tensor *shifted = bind_shift(out[k], 1);
    pr_release(out[k]);
    if (!(out[k] = shifted)) status = pr_error_last()->code;
  }
  for (int k = 0; status && k < graph->n_outputs; k++) pr_release(out[k]), out[k] = NULL;
  return status;
}

static int run(lua_State *L) {
  const pr_graph *graph = bind_check_graph_box(L, 1)->graph;
  luaL_checktype(L, 2, LUA_TTABLE);
  pr_statistics *statistics = bind_opt_statistics(L, 4);
  if (statistics && statistics->pruning->graph != graph)
    return bind_error(L, "these statistics are of another graph");
  pr_tensor *in[MOST_INPUTS], *out[MOST_TENSORS] = { NULL };
  if (graph->n_inputs > MOST_INPUTS || graph->n_outputs > MOST_TENSORS)
    return bind_error(L, "a graph with %d inputs and %d outputs cannot be run", graph->n_inputs,
                      graph->n_outputs);
  if ((int)luaL_len(L, 2) != graph->n_inputs)
    return bind_error(L, "the graph takes %d inputs, got %d", graph->n_inputs, (int)luaL_len(L, 2));
  for (int i = 0; i < graph->n_inputs; i++) {
    lua_rawgeti(L, 2, i + 1);
    in[i] = bind_check_tensor(L, -1);
    lua_pop(L, 1);
  }
  luaL_checkstack(L, graph->n_outputs + 8, NULL);
  int top = lua_gettop(L);
  pr_tensor **slots[MOST_TENSORS];
  for (int k = 0; k < graph->n_outputs; k++) slots[k] = bind_slot(L);
  bool *marked = lua_newuserdatauv(L, (size_t)graph->n_values * sizeof *marked, 0);
  lua_State *before = bind_running; /* an operator may be written in Lua */
  bind_running = L;
  pr_status status = run_shifted(graph, in, lua_toboolean(L, 3), statistics, marked, out);
  bind_running = before;
  lua_pop(L, 1);
  bind_check(L, status);
  for (int k = 0; k < graph->n_outputs; k++) *slots[k] = out[k];
  for (int k = 0; k < graph->n_outputs; k++) bind_pressure(L, out[k]->storage ? out[k]->storage->bytes : 0);
  return lua_gettop(L) - top;
}

void bind_put_text(void *ctx, const char *text) { luaL_addstring(ctx, text); }

static int dot(lua_State *L) {
  bind_graph *box = bind_check_graph_box(L, 1);
  luaL_Buffer buffer;
  luaL_buffinit(L, &buffer);
  bind_check(L, pr_graph_dot(box->graph, bind_put_text, &buffer));
  luaL_pushresult(&buffer);
  return 1;
}

static int text(lua_State *L) {
  bind_graph *box = bind_check_graph_box(L, 1);
  luaL_Buffer buffer;
  luaL_buffinit(L, &buffer);
  bind_check(L, pr_graph_write(box->graph, bind_put_text, &buffer));
  luaL_pushresult(&buffer);
  return 1;
}

/* read_graph(text, tensors by name) -> graph */
static pr_tensor *find_tensor(void *ctx, const char *name) {
  lua_State *L = ctx;
  lua_pushstring(L, name);
  pr_tensor **t = lua_rawget(L, 2) == LUA_TUSERDATA ? luaL_testudata(L, -1, BIND_TENSOR) : NULL,
            *found = t ? pr_retain(*t) : NULL;
  lua_pop(L, 1);
  if (!found) pr_fail(PR_ERR_FORMAT, "the graph names a tensor '%s' that is not there", name);
  return found;
}

static int read_graph(lua_State *L) {
  size_t length;
  const char *source = luaL_checklstring(L, 1, &length);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 2);
  bind_graph *box = graph_slot(L);
  luaL_checkstack(L, 8, NULL);
  if (!(box->graph = pr_graph_read(source, length, find_tensor, L))) return bind_raise(L);
  return 1;
}

/* graph:copy() -> an independent graph over copies of the tensors */
static int copy(lua_State *L) {
  bind_graph *box = bind_check_graph_box(L, 1), *fresh = graph_slot(L);
  if (!(fresh->graph = pr_graph_clone(box->graph, true))) return bind_raise(L);
  return 1;
}

/* --- for the other files --------------------------------------------------------------------------------------------- */

pr_graph *bind_check_graph(lua_State *L, int index) { return bind_check_graph_box(L, index)->graph; }

pr_pruning *bind_check_pruning(lua_State *L, int index) {
  bind_graph *box = bind_check_graph_box(L, index);
  if (!box->pruning && !(box->pruning = pr_pruning_new(box->graph))) bind_raise(L);
  return box->pruning;
}

void bind_open_type(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction gc) {
  luaL_newmetatable(L, name);
  lua_newtable(L);
  luaL_setfuncs(L, methods, 0);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
}

static const luaL_Reg graph_methods[] = {
  { "fit_batch", fit_batch }, { "state", state },   { "nodes", nodes },     { "modules", modules },
  { "tensors", tensors },     { "inputs", inputs }, { "outputs", outputs }, { "batch", batch },
  { "cost", cost },           { "run", run },       { "dot", dot },         { "text", text },
  { "copy", copy },           { NULL, NULL },
};

const luaL_Reg bind_graph_functions[] = { { "trace", trace }, { "read_graph", read_graph }, { NULL, NULL } };

/* Also gives prune.core the metatables "Graph" and "Group", which Lua modules extend. The table is on top of
 * the stack. */
void bind_open_graph(lua_State *L) {
  bind_open_type(L, BIND_GRAPH, graph_methods, graph_gc);
  luaL_getmetatable(L, BIND_GRAPH);
  lua_getfield(L, -1, "__index");
  luaL_setfuncs(L, bind_group_graph_methods, 0);
  luaL_setfuncs(L, bind_removal_graph_methods, 0);
  luaL_setfuncs(L, bind_place_graph_methods, 0);
  lua_pop(L, 1);
  lua_setfield(L, -2, "Graph");
  bind_open_statistics(L);
  bind_open_group(L);
  bind_open_removal(L);
  luaL_getmetatable(L, BIND_GROUP);
  lua_setfield(L, -2, "Group");
}
