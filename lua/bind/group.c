/* group.c - groups and their parts as Lua values, and removal. A group's user value is its graph. */
#include "bind_graph.h"

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

int bind_find_value(lua_State *L, const pr_graph *graph, int index) {
  int v = lua_type(L, index) == LUA_TSTRING ? pr_graph_find_name(graph, lua_tostring(L, index))
                                            : pr_graph_find(graph, bind_check_tensor(L, index));
  if (v < 0) bind_raise(L);
  return v;
}

int64_t *bind_read_indices(lua_State *L, int index, int64_t size, int64_t *n) {
  pr_tensor *t = bind_test_tensor(L, index);
  bool number = lua_isinteger(L, index);
  if (!t && !number && !lua_istable(L, index))
    bind_type_error(L, index, "group: the indices", "a table, an integer tensor or a number");
  if (t && pr_dtype_is_float(t->dtype))
    bind_error(L, "group: the indices must be integers, this tensor is %s", pr_dtype_name(t->dtype));
  *n = t ? pr_numel(t) : number ? 1 : luaL_len(L, index);
  if (*n < 0) *n = 0; /* a length of one's own */
  int64_t *list = lua_newuserdatauv(L, (size_t)(*n > 0 ? *n : 1) * sizeof *list, 0);
  if (t) {
    prT_walk walk;
    int64_t i = 0;
    for (prT_walk_start(&walk, t); walk.left > 0; prT_walk_next(&walk))
      list[i++] = (int64_t)prT_get(t, walk.position);
  }
  for (int64_t i = 0; i < *n && !t; i++) {
    if (number)
      lua_pushvalue(L, index);
    else
      lua_rawgeti(L, index, i + 1);
    list[i] = bind_integer(L, -1, "group: an index");
    lua_pop(L, 1);
  }
  for (int64_t i = 0; i < *n; i++) {
    if (list[i] < 1 || list[i] > size)
      bind_error(L, "group: index %lld is outside 1..%lld", (long long)list[i], (long long)size);
    list[i]--;
  }
  return list;
}

void bind_push_word(lua_State *L, const char *words, int number) {
  for (; number > 0; number--) words += strcspn(words, " ") + 1;
  lua_pushlstring(L, words, strcspn(words, " "));
}

/* graph:group(parameter or name, dim, indices) -> group */
static int group(lua_State *L) {
  bind_graph *box = bind_check_graph_box(L, 1);
  pr_pruning *pruning = bind_check_pruning(L, 1);
  int v = bind_find_value(L, box->graph, 2);
  int axis = bind_axis(L, 3, box->graph->values[v].dim, "group: the dimension");
  int64_t n, *list = bind_read_indices(L, 4, box->graph->values[v].shape[axis], &n);
  group_box *slot = group_slot(L, 1);
  if (!(slot->group = pr_group_of(pruning, v, axis, list, n))) return bind_raise(L);
  return 1;
}

static int close_units(lua_State *L) {
  prC_units_close(lua_touserdata(L, 1));
  return 0;
}

/* Pushes the owner of the scopes by members. */
static const prC_units *push_fine(lua_State *L, pr_pruning *pruning) {
  prC_units *fine = lua_newuserdatauv(L, sizeof *fine, 0);
  *fine = (prC_units){ 0 };
  if (luaL_newmetatable(L, "prune.Units")) {
    lua_pushcfunction(L, close_units);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  bind_check(L, pr_pruning_scopes_by_members(pruning, fine));
  return fine;
}

/* graph:scopes(by members?) -> list of groups, one per scope; second result: list of booleans, is it offered
 * by default */
static int scopes(lua_State *L) {
  pr_pruning *pruning = bind_check_pruning(L, 1);
  bool by_members = lua_toboolean(L, 2);
  lua_settop(L, 1);
  const prC_units *units = by_members ? push_fine(L, pruning) : &pruning->units;
  lua_createtable(L, units->scopes, 0);
  lua_createtable(L, units->scopes, 0);
  for (int s = 0; s < units->scopes; s++) {
    group_box *slot = group_slot(L, 1);
    if (!(slot->group = pr_group_scope_of(pruning, units, s))) return bind_raise(L);
    lua_rawseti(L, -3, s + 1);
    lua_pushboolean(L, units->primary[s]);
    lua_rawseti(L, -2, s + 1);
  }
  return 2;
}

/* graph:why(parameter or name, dim, index) -> text */
static int why(lua_State *L) {
  bind_graph *box = bind_check_graph_box(L, 1);
  pr_pruning *pruning = bind_check_pruning(L, 1);
  int v = bind_find_value(L, box->graph, 2);
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

/* group:describe_parts() -> list of { number, name, dim, count, parameter, producer, consumer } */
static int describe_parts(lua_State *L) {
  group_box *box = check_group(L, 1);
  need_parts(L, box);
  const pr_graph *graph = box->group->pruning->graph;
  lua_createtable(L, box->n_parts, 0);
  for (int p = 0; p < box->n_parts; p++) {
    const pr_part *part = &box->parts[p];
    lua_createtable(L, 0, 9);
    lua_pushinteger(L, p + 1), lua_setfield(L, -2, "number");
    lua_pushstring(L, prG_value_name(graph, part->value)), lua_setfield(L, -2, "name");
    lua_pushinteger(L, part->axis + 1), lua_setfield(L, -2, "dim");
    bind_push_borrowed(L, graph->values[part->value].tensor), lua_setfield(L, -2, "parameter");
    lua_pushboolean(L, part->producer), lua_setfield(L, -2, "producer");
    lua_pushboolean(L, part->consumer), lua_setfield(L, -2, "consumer");
    lua_rawseti(L, -2, p + 1);
  }
  return 1;
}

static const pr_part *check_part(lua_State *L, group_box *box, int index) {
  need_parts(L, box);
  lua_Integer p = luaL_checkinteger(L, index);
  if (p < 1 || p > box->n_parts)
    bind_error(L, "the group has %d parts, there is no part %d", box->n_parts, (int)p);
  return &box->parts[p - 1];
}

/* group:indices(part number) -> positions along the part's axis, ascending */
static int indices(lua_State *L) {
  const pr_part *part = check_part(L, check_group(L, 1), 2);
  int64_t *index = lua_newuserdatauv(L, (size_t)(part->count > 0 ? part->count : 1) * sizeof *index, 0);
  int64_t n = pr_part_indices(part, index);
  for (int64_t i = 0; i < n; i++) index[i]++;
  bind_push_integers(L, (int)n, index);
  return 1;
}

/* group:kind() -> what its units are */
static int kind(lua_State *L) {
  const pr_group *group = check_group(L, 1)->group;
  bind_check(L, prP_group_check(group));
  const prC_units *units = &group->pruning->units;
  bind_push_word(L, PRC_KINDS, group->size ? units->kind[units->scope[group->unit[0]]] : PRC_CHANNEL);
  return 1;
}

/* group:rows(part number, tensor of the parameter's shape) -> [units, everything else] */
static int rows(lua_State *L) {
  group_box *box = check_group(L, 1);
  const pr_part *part = check_part(L, box, 2);
  pr_tensor *source = bind_value(L, bind_check_tensor(L, 3), "rows");
  pr_tensor **slot = bind_slot(L);
  bind_fill(L, slot, pr_part_rows(box->group, part, source));
  return 1;
}

static int group_size(lua_State *L) {
  lua_pushinteger(L, check_group(L, 1)->group->size);
  return 1;
}

/* group:pick(1-based positions) -> group of these units; group:units() -> unit numbers */
static int pick(lua_State *L) {
  group_box *box = check_group(L, 1);
  int64_t n, *list = bind_read_indices(L, 2, box->group->size, &n);
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

/* --- registration ----------------------------------------------------------------------------------------------------- */

const luaL_Reg bind_group_graph_methods[] = {
  { "group", group }, { "scopes", scopes }, { "why", why }, { "notes", notes }, { NULL, NULL },
};

static const luaL_Reg group_methods[] = {
  { "describe_parts", describe_parts },
  { "indices", indices },
  { "kind", kind },
  { "rows", rows },
  { "units", group_units },
  { "pick", pick },
  { "graph", group_graph },
  { "count", group_size },
  { NULL, NULL },
};

void bind_open_group(lua_State *L) { bind_open_type(L, BIND_GROUP, group_methods, group_gc); }
