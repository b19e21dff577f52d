/* io.c - checkpoints and whole files. lua/prune/checkpoint.lua says what is in a checkpoint.
 *
 * A checkpoint that is being written or read lies in a userdata, so that a Lua error on the way frees it.
 */
#include "bind.h"

#include "io/hdf5.h"

#include "bind_graph.h"
#include "io/checkpoint.h"
#include "io/file.h"

#include <string.h>

#define WRITER "prune.CheckpointWriter"
#define READER "prune.Checkpoint"

/* write_file(path, text): atomic (file.h) */
static int write_file(lua_State *L) {
  size_t length;
  const char *path = luaL_checkstring(L, 1), *text = luaL_checklstring(L, 2, &length);
  bind_check(L, pr_file_write(path, text, length));
  return 0;
}

/* is_checkpoint(path): does the file begin as a checkpoint does? Raises where it cannot be read. */
static int is_checkpoint(lua_State *L) {
  static const char magic[] = "prunelua-checkpoint ";
  char head[sizeof magic - 1];
  size_t size;
  bind_check(L, pr_file_head(luaL_checkstring(L, 1), head, sizeof head, &size));
  lua_pushboolean(L, size == sizeof head && memcmp(head, magic, sizeof head) == 0);
  return 1;
}

/* --- writing --------------------------------------------------------------------------------------------------------- */

static int writer_gc(lua_State *L) {
  pr_checkpoint_writer **slot = luaL_checkudata(L, 1, WRITER);
  pr_checkpoint_cancel(*slot);
  *slot = NULL;
  return 0;
}

static void put_tensors(lua_State *L, int index, pr_checkpoint_writer *w, bool state) {
  lua_Integer n = luaL_len(L, index);
  for (lua_Integer i = 1; i <= n; i++) {
    lua_rawgeti(L, index, i);
    lua_rawgeti(L, -1, 1);
    lua_rawgeti(L, -2, 2);
    bind_check(L, pr_checkpoint_put_tensor(w, luaL_checkstring(L, -2), bind_check_tensor(L, -1), state));
    lua_pop(L, 3);
  }
}

static void put_texts(lua_State *L, int index, pr_checkpoint_writer *w) {
  lua_Integer n = luaL_len(L, index);
  for (lua_Integer i = 1; i <= n; i++) {
    size_t length;
    lua_rawgeti(L, index, i);
    lua_rawgeti(L, -1, 1);
    lua_rawgeti(L, -2, 2);
    const char *name = luaL_checkstring(L, -2), *text = luaL_checklstring(L, -1, &length);
    bind_check(L, pr_checkpoint_put_text(w, name, text, length));
    lua_pop(L, 3);
  }
}

/* checkpoint_write(path, graph or list of { name, tensor }, list of { name, text }, with optimiser state?,
 * with what is under masks?) */
static int checkpoint_write(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  bool state = lua_toboolean(L, 4);
  luaL_checktype(L, 3, LUA_TTABLE);
  lua_settop(L, 5);
  pr_checkpoint_writer **slot = lua_newuserdatauv(L, sizeof *slot, 0);
  *slot = NULL;
  luaL_setmetatable(L, WRITER);
  if (!(*slot = pr_checkpoint_begin())) return bind_raise(L);
  if (lua_toboolean(L, 5)) pr_checkpoint_keep_dense(*slot);
  if (lua_istable(L, 2))
    put_tensors(L, 2, *slot, state);
  else
    bind_check(L, pr_checkpoint_put_graph(*slot, bind_check_graph(L, 2), state));
  put_texts(L, 3, *slot);
  pr_checkpoint_writer *w = *slot;
  *slot = NULL;
  bind_check(L, pr_checkpoint_finish(w, path));
  return 0;
}

/* --- reading --------------------------------------------------------------------------------------------------------- */

static int reader_gc(lua_State *L) {
  pr_checkpoint **slot = luaL_checkudata(L, 1, READER);
  pr_checkpoint_free(*slot);
  *slot = NULL;
  return 0;
}

/* checkpoint_read(path) -> list of { name, tensor }, texts by name. Parameters and buffers have their
 * attachments. */
static int checkpoint_read(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  pr_checkpoint **slot = lua_newuserdatauv(L, sizeof *slot, 0);
  *slot = NULL;
  luaL_setmetatable(L, READER);
  if (!(*slot = pr_checkpoint_read(path))) return bind_raise(L);
  const pr_checkpoint *c = *slot;
  lua_createtable(L, (int)c->n_tensors, 0);
  for (size_t i = 0; i < c->n_tensors; i++) {
    lua_createtable(L, 2, 0);
    lua_pushstring(L, c->tensors[i].name), lua_rawseti(L, -2, 1);
    bind_push_borrowed(L, c->tensors[i].tensor), lua_rawseti(L, -2, 2);
    lua_rawseti(L, -2, (lua_Integer)i + 1);
  }
  lua_createtable(L, 0, (int)c->n_texts);
  for (size_t i = 0; i < c->n_texts; i++) {
    lua_pushlstring(L, c->texts[i].text, c->texts[i].length);
    lua_setfield(L, -2, c->texts[i].name);
  }
  lua_pushvalue(L, -3); /* free the rest at once */
  lua_pushcfunction(L, reader_gc);
  lua_insert(L, -2);
  lua_call(L, 1, 0);
  return 2;
}

/* exchange(a, b): two parameters (buffers) swap their content, masks and optimiser state; gradients are
 * dropped. Cannot fail half way, and the same again undoes it. */
static int exchange(lua_State *L) {
  pr_tensor *a = bind_check_tensor(L, 1), *b = bind_check_tensor(L, 2);
  if (!a->parameter || !b->parameter)
    return bind_error(L, "exchange: both tensors must be parameters or buffers");
  prT_swap_content(a, b);
  pr_parameter *p = a->parameter, *q = b->parameter, old = *p;
  bool buffers[2] = { p->is_buffer, q->is_buffer };
  *p = *q, *q = old;
  p->is_buffer = buffers[0], q->is_buffer = buffers[1];
  pr_zero_grad(a), pr_zero_grad(b);
  return 0;
}

/* --- arrays of foreign HDF5 files ------------------------------------------------------------------------------- */

static pr_tensor *tensor_of_array(const pr_hdf5_array *array) {
  static const pr_dtype dtypes[] = {
    [PR_HDF5_U8] = PR_U8,   [PR_HDF5_I8] = PR_I32,  [PR_HDF5_U16] = PR_I32, [PR_HDF5_I16] = PR_I32,
    [PR_HDF5_U32] = PR_I64, [PR_HDF5_I32] = PR_I32, [PR_HDF5_U64] = PR_I64, [PR_HDF5_I64] = PR_I64,
    [PR_HDF5_F32] = PR_F32, [PR_HDF5_F64] = PR_F64
  };
  pr_tensor *t = pr_tensor_new(dtypes[array->type], PR_CPU, array->rank, array->shape);
  for (int64_t i = 0; t && i < array->count; i++) {
    const void *data = array->data;
    int64_t integer = 0;
    switch (array->type) {
    case PR_HDF5_U8: ((uint8_t *)prT_data(t))[i] = ((const uint8_t *)data)[i]; continue;
    case PR_HDF5_F32: ((float *)prT_data(t))[i] = ((const float *)data)[i]; continue;
    case PR_HDF5_F64: ((double *)prT_data(t))[i] = ((const double *)data)[i]; continue;
    case PR_HDF5_I8: integer = (int16_t)((const int8_t *)data)[i]; break;
    case PR_HDF5_U16: integer = ((const uint16_t *)data)[i]; break;
    case PR_HDF5_I16: integer = ((const int16_t *)data)[i]; break;
    case PR_HDF5_U32: integer = ((const uint32_t *)data)[i]; break;
    case PR_HDF5_I32: integer = ((const int32_t *)data)[i]; break;
    default: integer = ((const int64_t *)data)[i]; break;
    }
    if (t->dtype == PR_I32)
      ((int32_t *)prT_data(t))[i] = (int32_t)integer;
    else
      ((int64_t *)prT_data(t))[i] = integer;
  }
  return t;
}

enum { MOST_ARRAYS = 256 };

/* hdf5_read(path, list of names) -> tensors, in order */
static int hdf5_read(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  int n = (int)luaL_len(L, 2);
  if (n < 1 || n > MOST_ARRAYS) return bind_error(L, "hdf5_read: 1 to %d names, got %d", MOST_ARRAYS, n);
  pr_hdf5_wanted *wanted = lua_newuserdatauv(L, (size_t)n * sizeof *wanted, 0);
  pr_hdf5_array *arrays = lua_newuserdatauv(L, (size_t)n * sizeof *arrays, 0);
  luaL_checkstack(L, n + 8, NULL);
  for (int i = 0; i < n; i++) {
    if (lua_rawgeti(L, 2, i + 1) != LUA_TSTRING)
      return bind_error(L, "hdf5_read: name %d must be a string", i + 1);
    wanted[i] = (pr_hdf5_wanted){ .name = lua_tostring(L, -1) }; /* the table keeps the string alive */
    lua_pop(L, 1);
  }
  pr_tensor **slots[MOST_ARRAYS];
  for (int i = 0; i < n; i++) slots[i] = bind_slot(L);
  bind_check(L, pr_hdf5_read_foreign(path, wanted, n, arrays));
  bool failed = false;
  for (int i = 0; i < n; i++) {
    if (!failed) failed = !(*slots[i] = tensor_of_array(&arrays[i]));
    pr_hdf5_array_free(&arrays[i]);
  }
  if (failed) return bind_raise(L);
  return n;
}

const luaL_Reg bind_io_functions[] = {
  { "write_file", write_file },
  { "is_checkpoint", is_checkpoint },
  { "checkpoint_write", checkpoint_write },
  { "checkpoint_read", checkpoint_read },
  { "exchange", exchange },
  { "hdf5_read", hdf5_read },
  { NULL, NULL },
};

static void open_type(lua_State *L, const char *name, lua_CFunction gc) {
  luaL_newmetatable(L, name);
  lua_pushcfunction(L, gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
}

void bind_open_io(lua_State *L) {
  open_type(L, WRITER, writer_gc);
  open_type(L, READER, reader_gc);
}
