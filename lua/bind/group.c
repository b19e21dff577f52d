/* group.c - groups and their parts as Lua values, and removal. A group's user value is its graph. */
#include "bind_graph.h"

#include "prune/removal.h"

#include <string.h>

typedef struct group_box {
  pr_group *group;
  pr_part *parts;
  int n_parts; /* -1: not asked for yet */
} group_box;

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
  bind_graph *box = bind_check_graph_box(L, 1);
  pr_pruning *pruning = bind_check_pruning(L, 1);
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
  pr_pruning *pruning = bind_check_pruning(L, 1);
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
  bind_graph *box = bind_check_graph_box(L, 1);
  pr_pruning *pruning = bind_check_pruning(L, 1);
  int v = find_value(L, box->graph, 2);
  int axis = bind_axis(L, 3, box->graph->values[v].dim, "why: the dimension");
  int64_t position = bind_position(L, 4, box->graph->values[v].shape[axis], "why: the index");
  luaL_Buffer buffer;
  luaL_buffinit(L, &buffer);
  bind_check(L, pr_pruning_why(pruning, v, axis, position, bind_put_text, &buffer));
  luaL_pushresult(&buffer);
  return 1;
}

/* graph:notes() -> list of { op, path, text }: why something is pinned */
static int notes(lua_State *L) {
  bind_graph *box = bind_check_graph_box(L, 1);
  pr_pruning *pruning = bind_check_pruning(L, 1);
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
  bind_check(L, prP_group_check(box->group));
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
    bind_push_args(L, &next->nodes[n]), lua_rawseti(L, -2, 3);
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
    bind_graph *box = luaL_testudata(L, -1, BIND_GRAPH);
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
  bind_graph *box = bind_check_graph_box(L, 1);
  pr_pruning *pruning = bind_check_pruning(L, 1);
  int64_t n, *list = read_indices(L, 2, pruning->units.count, &n);
  int32_t *units = lua_newuserdatauv(L, (size_t)(n > 0 ? n : 1) * sizeof *units, 0);
  for (int64_t i = 0; i < n; i++) units[i] = (int32_t)list[i];
  replay_context context = { L, 3, box->graph };
  bool has_replay = lua_isfunction(L, 3);
  bind_check(L, pr_remove(pruning, units, (int32_t)n, has_replay ? replay : NULL, &context));
  lua_settop(L, 1);
  return 1;
}

/* graph:kept(list of unit numbers) -> by value number, by axis: the positions that stay when these units go,
 * where not all do */
static int kept(lua_State *L) {
  const pr_graph *graph = bind_check_graph(L, 1);
  pr_pruning *pruning = bind_check_pruning(L, 1);
  int64_t n, *list = read_indices(L, 2, pruning->units.count, &n), longest = 1;
  unsigned char *dead_unit = lua_newuserdatauv(L, (size_t)pruning->units.count + 1, 0),
                *dead = lua_newuserdatauv(L, pruning->algebra.count + 1, 0);
  memset(dead_unit, 0, (size_t)pruning->units.count);
  for (int64_t i = 0; i < n; i++) dead_unit[list[i]] = 1;
  prC_units_dead(&pruning->units, dead_unit, dead);
  for (int v = 0; v < graph->n_values; v++)
    for (int d = 0; d < pruning->values[v].dim; d++)
      if (pruning->values[v].shape[d] > longest) longest = pruning->values[v].shape[d];
  int64_t *index = lua_newuserdatauv(L, (size_t)longest * sizeof *index, 0);
  lua_newtable(L);
  for (int v = 0; v < graph->n_values; v++) {
    const prC_value *value = &pruning->values[v];
    bool shrinks = false;
    for (int d = 0; d < value->dim; d++) {
      int64_t count =
          value->label[d] ? prC_kept(&pruning->algebra, value->label[d], value->shape[d], dead, index) : 0;
      if (!value->label[d] || count == value->shape[d]) continue;
      if (!shrinks) lua_newtable(L);
      shrinks = true;
      for (int64_t i = 0; i < count; i++) index[i]++;
      bind_push_integers(L, (int)count, index);
      lua_rawseti(L, -2, d + 1);
    }
    if (shrinks) lua_rawseti(L, -2, v + 1);
  }
  return 1;
}

/* --- registration ----------------------------------------------------------------------------------------------------- */

const luaL_Reg bind_group_graph_methods[] = {
  { "group", group },
  { "scopes", scopes },
  { "why", why },
  { "notes", notes },
  { "remove_units", remove_units },
  { "kept", kept },
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

void bind_open_group(lua_State *L) { bind_open_type(L, BIND_GROUP, group_methods, group_gc); }
