/* graph.c - graphs, groups and their parts as Lua values.
 *
 * A graph's userdata owns the pr_graph and, from the first question about coupling on, its pr_pruning. Its
 * user value is a table for the Lua side (prune/graph.lua): the model and the function that traces it again.
 * A group's user value is its graph.
 */
#include "bind.h"

#include "bind_graph.h"
#include "prune/removal.h"

#include <string.h>

#define BIND_GRAPH "prune.Graph"
#define BIND_GROUP "prune.Group"

typedef struct graph_box {
  pr_graph *graph;
  pr_pruning *pruning;
} graph_box;

typedef struct group_box {
  pr_group *group;
  pr_part *parts;
  int n_parts; /* -1: not asked for yet */
} group_box;

static graph_box *check_graph(lua_State *L, int index) {
  graph_box *box = luaL_checkudata(L, index, BIND_GRAPH);
  if (!box->graph) bind_error(L, "this graph is released");
  return box;
}

static pr_pruning *check_pruning(lua_State *L, graph_box *box) {
  if (!box->pruning && !(box->pruning = pr_pruning_new(box->graph))) bind_raise(L);
  return box->pruning;
}

static graph_box *graph_slot(lua_State *L) {
  graph_box *box = lua_newuserdatauv(L, sizeof *box, 1);
  *box = (graph_box){ 0 };
  luaL_setmetatable(L, BIND_GRAPH);
  lua_newtable(L);
  lua_setiuservalue(L, -2, 1);
  return box;
}

static int graph_gc(lua_State *L) {
  graph_box *box = luaL_checkudata(L, 1, BIND_GRAPH);
  pr_pruning_free(box->pruning);
  pr_graph_free(box->graph);
  *box = (graph_box){ 0 };
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

/* Tensors among the values from `first` to the top, those inside tables in order too. */
static pr_status gather_outputs(lua_State *L, int first, pr_tensor **out, int *n) {
  for (int i = first; i <= lua_gettop(L); i++) {
    pr_tensor **t = luaL_testudata(L, i, BIND_TENSOR);
    if (t && *t) {
      if (*n == MOST_TENSORS)
        return pr_fail(PR_ERR_UNSUPPORTED, "the model has more than %d outputs", MOST_TENSORS);
      out[(*n)++] = *t;
    } else if (lua_istable(L, i)) {
      int top = lua_gettop(L), count = (int)lua_rawlen(L, i);
      if (!lua_checkstack(L, count + 4)) return pr_fail(PR_ERR_UNSUPPORTED, "the model has too many outputs");
      for (int k = 1; k <= count; k++) lua_rawgeti(L, i, k);
      pr_status status = count ? gather_outputs(L, top + 1, out, n) : PR_OK;
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
  graph_box *box = graph_slot(L); /* at 6 */
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
  lua_settop(L, 6);
  return 1;
}

/* graph:fit_batch(other) */
static int fit_batch(lua_State *L) {
  bind_check(L, pr_graph_fit_batch(check_graph(L, 1)->graph, check_graph(L, 2)->graph));
  lua_settop(L, 1);
  return 1;
}

/* graph:state() -> the table of the Lua side */
static int state(lua_State *L) {
  check_graph(L, 1);
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
static void push_args(lua_State *L, const pr_graph_node *node) {
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
  const pr_graph *graph = check_graph(L, 1)->graph;
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
    push_args(L, node), lua_setfield(L, -2, "arguments");
    bind_check(L, pr_graph_node_cost(graph, n, &cost));
    lua_pushinteger(L, cost.macs), lua_setfield(L, -2, "macs");
    lua_pushinteger(L, cost.macs_ptflops), lua_setfield(L, -2, "macs_ptflops");
    lua_rawseti(L, -2, n + 1);
  }
  return 1;
}

/* graph:modules() -> list of { path, type } */
static int modules(lua_State *L) {
  const pr_graph *graph = check_graph(L, 1)->graph;
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
  const pr_graph *graph = check_graph(L, 1)->graph;
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
  const pr_graph *graph = check_graph(L, 1)->graph;
  push_values(L, graph, graph->n_inputs, graph->inputs);
  return 1;
}

static int outputs(lua_State *L) {
  const pr_graph *graph = check_graph(L, 1)->graph;
  push_values(L, graph, graph->n_outputs, graph->outputs);
  return 1;
}

static int batch(lua_State *L) {
  lua_pushinteger(L, check_graph(L, 1)->graph->batch);
  return 1;
}

/* graph:cost() -> MACs, MACs in ptflops' convention, parameters, buffer elements */
static int cost(lua_State *L) {
  const pr_graph *graph = check_graph(L, 1)->graph;
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

/* graph:run(inputs, training) -> outputs */
enum { MOST_INPUTS = 16 };

/* Positions are 1-based on this side of the call: inputs that end as positions lose 1, outputs that are
 * positions gain 1. */
static pr_status run_shifted(const pr_graph *graph, pr_tensor *const *given, bool training, bool *marked,
                             pr_tensor **out) {
  pr_tensor *in[MOST_INPUTS] = { NULL };
  pr_status status = PR_OK;
  bind_graph_index_inputs(graph, marked);
  for (int i = 0; i < graph->n_inputs && !status; i++) {
    in[i] = marked[graph->inputs[i]] ? bind_shift(given[i], -1) : pr_retain(given[i]);
    if (!in[i]) status = pr_error_last()->code;
  }
  if (!status) status = pr_graph_run(graph, in, training, out);
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
  const pr_graph *graph = check_graph(L, 1)->graph;
  luaL_checktype(L, 2, LUA_TTABLE);
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
  pr_status status = run_shifted(graph, in, lua_toboolean(L, 3), marked, out);
  lua_pop(L, 1);
  bind_check(L, status);
  for (int k = 0; k < graph->n_outputs; k++) *slots[k] = out[k];
  for (int k = 0; k < graph->n_outputs; k++) bind_pressure(L, out[k]->storage ? out[k]->storage->bytes : 0);
  return lua_gettop(L) - top;
}

static void put_buffer(void *ctx, const char *text) { luaL_addstring(ctx, text); }

static int dot(lua_State *L) {
  graph_box *box = check_graph(L, 1);
  luaL_Buffer buffer;
  luaL_buffinit(L, &buffer);
  bind_check(L, pr_graph_dot(box->graph, put_buffer, &buffer));
  luaL_pushresult(&buffer);
  return 1;
}

static int text(lua_State *L) {
  graph_box *box = check_graph(L, 1);
  luaL_Buffer buffer;
  luaL_buffinit(L, &buffer);
  bind_check(L, pr_graph_write(box->graph, put_buffer, &buffer));
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
  graph_box *box = graph_slot(L);
  luaL_checkstack(L, 8, NULL);
  if (!(box->graph = pr_graph_read(source, length, find_tensor, L))) return bind_raise(L);
  return 1;
}

/* graph:copy() -> an independent graph over copies of the tensors */
static int copy(lua_State *L) {
  graph_box *box = check_graph(L, 1), *fresh = graph_slot(L);
  if (!(fresh->graph = pr_graph_clone(box->graph, true))) return bind_raise(L);
  return 1;
}

/* --- groups --------------------------------------------------------------------------------------------------------- */

static group_box *check_group(lua_State *L, int index) {
  group_box *box = luaL_checkudata(L, index, BIND_GROUP);
  if (!box->group) bind_error(L, "this group is released");
  return box;
}

/* The graph is at `graph_index`. */
static group_box *group_slot(lua_State *L, int graph_index) {
  group_box *box = lua_newuserdatauv(L, sizeof *box, 1);
  *box = (group_box){ .n_parts = -1 };
  luaL_setmetatable(L, BIND_GROUP);
  lua_pushvalue(L, graph_index);
  lua_setiuservalue(L, -2, 1);
  return box;
}

static int group_gc(lua_State *L) {
  group_box *box = luaL_checkudata(L, 1, BIND_GROUP);
  if (box->parts) pr_parts_free(box->parts, box->n_parts, box->group->size);
  pr_group_free(box->group);
  *box = (group_box){ .n_parts = -1 };
  return 0;
}

static int find_value(lua_State *L, const pr_graph *graph, int index) {
  int v = lua_type(L, index) == LUA_TSTRING ? pr_graph_find_name(graph, lua_tostring(L, index))
                                            : pr_graph_find(graph, bind_check_tensor(L, index));
  if (v < 0) bind_raise(L);
  return v;
}

/* 1-based indices of the table, integer tensor or number at `index`: 0-based, in a userdata on top of the
 * stack. */
static int64_t *read_indices(lua_State *L, int index, int64_t size, int64_t *n) {
  pr_tensor *t = bind_test_tensor(L, index);
  bool number = lua_isinteger(L, index);
  if (!t && !number && !lua_istable(L, index))
    bind_type_error(L, index, "group: the indices", "a table, an integer tensor or a number");
  if (t && pr_dtype_is_float(t->dtype))
    bind_error(L, "group: the indices must be integers, this tensor is %s", pr_dtype_name(t->dtype));
  *n = t ? pr_numel(t) : number ? 1 : luaL_len(L, index);
  int64_t *list = lua_newuserdatauv(L, (size_t)(*n > 0 ? *n : 1) * sizeof *list, 0);
  if (t) {
    prT_walk walk;
    int64_t i = 0;
    for (prT_walk_start(&walk, t); walk.left > 0; prT_walk_next(&walk))
      list[i++] = (int64_t)prT_get(t, walk.position) - 1;
  }
  for (int64_t i = 0; i < *n && !t; i++) {
    if (number)
      lua_pushvalue(L, index);
    else
      lua_rawgeti(L, index, i + 1);
    list[i] = bind_integer(L, -1, "group: an index") - 1;
    lua_pop(L, 1);
  }
  for (int64_t i = 0; i < *n; i++)
    if (list[i] < 0 || list[i] >= size)
      bind_error(L, "group: index %lld is outside 1..%lld", (long long)list[i] + 1, (long long)size);
  return list;
}

/* graph:group(parameter or name, dim, indices) -> group */
static int group(lua_State *L) {
  graph_box *box = check_graph(L, 1);
  pr_pruning *pruning = check_pruning(L, box);
  int v = find_value(L, box->graph, 2);
  int axis = bind_axis(L, 3, box->graph->values[v].dim, "group: the dimension");
  int64_t n, *list = read_indices(L, 4, box->graph->values[v].shape[axis], &n);
  group_box *slot = group_slot(L, 1);
  if (!(slot->group = pr_group_of(pruning, v, axis, list, n))) return bind_raise(L);
  return 1;
}

/* graph:scopes() -> list of groups, one per scope; second result: list of booleans, is it offered by default
 */
static int scopes(lua_State *L) {
  graph_box *box = check_graph(L, 1);
  pr_pruning *pruning = check_pruning(L, box);
  lua_createtable(L, pruning->units.scopes, 0);
  lua_createtable(L, pruning->units.scopes, 0);
  for (int s = 0; s < pruning->units.scopes; s++) {
    group_box *slot = group_slot(L, 1);
    if (!(slot->group = pr_group_scope(pruning, s))) return bind_raise(L);
    lua_rawseti(L, -3, s + 1);
    lua_pushboolean(L, pruning->units.primary[s]);
    lua_rawseti(L, -2, s + 1);
  }
  return 2;
}

/* graph:why(parameter or name, dim, index) -> text */
static int why(lua_State *L) {
  graph_box *box = check_graph(L, 1);
  pr_pruning *pruning = check_pruning(L, box);
  int v = find_value(L, box->graph, 2);
  int axis = bind_axis(L, 3, box->graph->values[v].dim, "why: the dimension");
  int64_t position = bind_position(L, 4, box->graph->values[v].shape[axis], "why: the index");
  luaL_Buffer buffer;
  luaL_buffinit(L, &buffer);
  bind_check(L, pr_pruning_why(pruning, v, axis, position, put_buffer, &buffer));
  luaL_pushresult(&buffer);
  return 1;
}

/* graph:notes() -> list of { op, path, text }: why something is pinned */
static int notes(lua_State *L) {
  graph_box *box = check_graph(L, 1);
  pr_pruning *pruning = check_pruning(L, box);
  lua_newtable(L);
  for (size_t i = 0; i < pruning->algebra.notes; i++) {
    const prC_note_entry *note = &pruning->algebra.note[i];
    lua_createtable(L, 0, 3);
    lua_pushstring(L, box->graph->nodes[note->node].op->name), lua_setfield(L, -2, "op");
    lua_pushstring(L, box->graph->nodes[note->node].path), lua_setfield(L, -2, "path");
    lua_pushstring(L, note->text), lua_setfield(L, -2, "text");
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  return 1;
}

static void need_parts(lua_State *L, group_box *box) {
  if (box->n_parts >= 0) {
    bind_check(L, prP_group_check(box->group));
    return;
  }
  int n;
  bind_check(L, pr_group_parts(box->group, &box->parts, &n));
  box->n_parts = n;
}

/* group:describe_parts() -> list of { number, name, dim, indices, parameter, producer, consumer } */
static int describe_parts(lua_State *L) {
  group_box *box = check_group(L, 1);
  need_parts(L, box);
  const pr_graph *graph = box->group->pruning->graph;
  lua_createtable(L, box->n_parts, 0);
  for (int p = 0; p < box->n_parts; p++) {
    const pr_part *part = &box->parts[p];
    int64_t *index = lua_newuserdatauv(L, (size_t)(part->count > 0 ? part->count : 1) * sizeof *index, 0);
    int64_t n = pr_part_indices(part, index);
    for (int64_t i = 0; i < n; i++) index[i]++;
    lua_createtable(L, 0, 7);
    lua_pushinteger(L, p + 1), lua_setfield(L, -2, "number");
    lua_pushstring(L, prG_value_name(graph, part->value)), lua_setfield(L, -2, "name");
    lua_pushinteger(L, part->axis + 1), lua_setfield(L, -2, "dim");
    bind_push_integers(L, (int)n, index), lua_setfield(L, -2, "indices");
    bind_push_borrowed(L, graph->values[part->value].tensor), lua_setfield(L, -2, "parameter");
    lua_pushboolean(L, part->producer), lua_setfield(L, -2, "producer");
    lua_pushboolean(L, part->consumer), lua_setfield(L, -2, "consumer");
    lua_remove(L, -2);
    lua_rawseti(L, -2, p + 1);
  }
  return 1;
}

/* group:rows(part number, tensor of the parameter's shape) -> [units, everything else] */
static int rows(lua_State *L) {
  group_box *box = check_group(L, 1);
  need_parts(L, box);
  lua_Integer p = luaL_checkinteger(L, 2);
  if (p < 1 || p > box->n_parts)
    return bind_error(L, "the group has %d parts, there is no part %d", box->n_parts, (int)p);
  pr_tensor *source = bind_value(L, bind_check_tensor(L, 3), "rows");
  pr_tensor **slot = bind_slot(L);
  bind_fill(L, slot, pr_part_rows(box->group, &box->parts[p - 1], source));
  return 1;
}

static int group_size(lua_State *L) {
  lua_pushinteger(L, check_group(L, 1)->group->size);
  return 1;
}

/* group:pick(1-based positions) -> group of these units; group:units() -> unit numbers */
static int pick(lua_State *L) {
  group_box *box = check_group(L, 1);
  int64_t n, *list = read_indices(L, 2, box->group->size, &n);
  int32_t *positions = lua_newuserdatauv(L, (size_t)(n > 0 ? n : 1) * sizeof *positions, 0);
  unsigned char *chosen = lua_newuserdatauv(L, (size_t)(box->group->size > 0 ? box->group->size : 1), 0);
  memset(chosen, 0, (size_t)box->group->size);
  for (int64_t i = 0; i < n; i++) chosen[list[i]] = 1;
  int32_t kept = 0;
  for (int32_t i = 0; i < box->group->size; i++)
    if (chosen[i]) positions[kept++] = i;
  lua_getiuservalue(L, 1, 1);
  group_box *slot = group_slot(L, lua_gettop(L));
  if (!(slot->group = pr_group_pick(box->group, positions, kept))) return bind_raise(L);
  return 1;
}

static int group_units(lua_State *L) {
  group_box *box = check_group(L, 1);
  lua_createtable(L, box->group->size, 0);
  for (int32_t i = 0; i < box->group->size; i++)
    lua_pushinteger(L, box->group->unit[i] + 1), lua_rawseti(L, -2, i + 1);
  return 1;
}

static int group_graph(lua_State *L) {
  check_group(L, 1);
  lua_getiuservalue(L, 1, 1);
  return 1;
}

pr_graph *bind_check_graph(lua_State *L, int index) { return check_graph(L, index)->graph; }
pr_pruning *bind_check_pruning(lua_State *L, int index) { return check_pruning(L, check_graph(L, index)); }
pr_group *bind_check_group(lua_State *L, int index) { return check_group(L, index)->group; }

/* --- removal -------------------------------------------------------------------------------------------------------- */

typedef struct replay_context {
  lua_State *L;
  int function; /* stack index of replay(changes, undo) -> graph */
  const pr_graph *before;
} replay_context;

static bool args_differ(const pr_graph_node *a, const pr_graph_node *b) {
  for (int i = 0; i < PR_MAX_ARGS && a->op->args[i].name; i++) {
    const pr_arg *x = &a->args[i], *y = &b->args[i];
    if (x->integer != y->integer || x->count != y->count || x->real != y->real) return true;
    if (x->count && memcmp(x->list, y->list, (size_t)x->count * sizeof *x->list)) return true;
  }
  return false;
}

/* Operators whose arguments were rewritten: { { path, op, arguments }, ... }, for modules that keep such
 * numbers as state. */
static void push_changes(lua_State *L, const pr_graph *before, const pr_graph *next) {
  lua_newtable(L);
  int count = 0;
  for (int n = 0; n < next->n_nodes && n < before->n_nodes; n++) {
    if (before != next && !args_differ(&before->nodes[n], &next->nodes[n])) continue;
    if (before == next && !next->nodes[n].op->rewrite) continue; /* undo: tell all that could have changed */
    lua_createtable(L, 3, 0);
    lua_pushstring(L, next->nodes[n].path), lua_rawseti(L, -2, 1);
    lua_pushstring(L, next->nodes[n].op->name), lua_rawseti(L, -2, 2);
    push_args(L, &next->nodes[n]), lua_rawseti(L, -2, 3);
    lua_rawseti(L, -2, ++count);
  }
}

static pr_graph *replay(void *ctx, const pr_graph *next, bool undo) {
  const replay_context *context = ctx;
  lua_State *L = context->L;
  int top = lua_gettop(L);
  pr_graph *graph = NULL;
  if (!lua_checkstack(L, 16)) return pr_fail(PR_ERR_MEMORY, "the Lua stack is full"), NULL;
  lua_pushvalue(L, context->function);
  push_changes(L, context->before, next);
  lua_pushboolean(L, undo);
  if (lua_pcall(L, 2, 1, 0)) {
    const char *message = lua_tostring(L, -1);
    pr_fail(PR_ERR_STATE, "the model cannot be run after the removal: %s",
            message ? message : "error in its forward function");
  } else if (!undo) {
    graph_box *box = luaL_testudata(L, -1, BIND_GRAPH);
    if (box)
      graph = box->graph, box->graph = NULL;
    else
      pr_fail(PR_ERR_STATE, "the model could not be traced again");
  }
  lua_settop(L, top);
  return graph;
}

/* graph:remove_units(list of unit numbers, replay function or nil) */
static int remove_units(lua_State *L) {
  graph_box *box = check_graph(L, 1);
  pr_pruning *pruning = check_pruning(L, box);
  int64_t n, *list = read_indices(L, 2, pruning->units.count, &n);
  int32_t *units = lua_newuserdatauv(L, (size_t)(n > 0 ? n : 1) * sizeof *units, 0);
  for (int64_t i = 0; i < n; i++) units[i] = (int32_t)list[i];
  replay_context context = { L, 3, box->graph };
  bool has_replay = lua_isfunction(L, 3);
  bind_check(L, pr_remove(pruning, units, (int32_t)n, has_replay ? replay : NULL, &context));
  lua_settop(L, 1);
  return 1;
}

/* --- registration ----------------------------------------------------------------------------------------------------- */

static const luaL_Reg graph_methods[] = {
  { "fit_batch", fit_batch },
  { "state", state },
  { "nodes", nodes },
  { "modules", modules },
  { "tensors", tensors },
  { "inputs", inputs },
  { "outputs", outputs },
  { "batch", batch },
  { "cost", cost },
  { "run", run },
  { "dot", dot },
  { "text", text },
  { "copy", copy },
  { "group", group },
  { "scopes", scopes },
  { "why", why },
  { "notes", notes },
  { "remove_units", remove_units },
  { NULL, NULL },
};

static const luaL_Reg group_methods[] = {
  { "describe_parts", describe_parts },
  { "rows", rows },
  { "units", group_units },
  { "pick", pick },
  { "graph", group_graph },
  { "count", group_size },
  { NULL, NULL },
};

const luaL_Reg bind_graph_functions[] = { { "trace", trace }, { "read_graph", read_graph }, { NULL, NULL } };

static void open_type(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction gc) {
  luaL_newmetatable(L, name);
  lua_newtable(L);
  luaL_setfuncs(L, methods, 0);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
}

/* Also gives prune.core the method tables "Graph" and "Group", which Lua modules extend. The table is on top
 * of the stack. */
void bind_open_graph(lua_State *L) {
  open_type(L, BIND_GRAPH, graph_methods, graph_gc);
  open_type(L, BIND_GROUP, group_methods, group_gc);
  luaL_getmetatable(L, BIND_GRAPH);
  lua_setfield(L, -2, "Graph");
  luaL_getmetatable(L, BIND_GROUP);
  lua_setfield(L, -2, "Group");
}
