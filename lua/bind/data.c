/* data.c - data sets and loaders as Lua userdata. lua/prune/data.lua makes the objects of prune.data of them.
 * Epochs, batches and labels count from 1 here. */
#include "bind.h"

#include "data/loader.h"

#include <stdio.h>
#include <string.h>

#define DATASET "prune.Dataset"
#define LOADER  "prune.Loader"

/* --- reading options: fields of the table at `index` --- */

static int64_t integer_field(lua_State *L, int index, const char *name, int64_t otherwise) {
  char what[64];
  if (lua_getfield(L, index, name) != LUA_TNIL) {
    snprintf(what, sizeof what, "the option %s", name);
    otherwise = bind_integer(L, -1, what);
  }
  lua_pop(L, 1);
  return otherwise;
}

/* The core checks ranges of int; what does not fit is out of all of them. */
static int int_field(lua_State *L, int index, const char *name, int otherwise) {
  int64_t value = integer_field(L, index, name, otherwise);
  return value > INT32_MAX ? INT32_MAX : value < INT32_MIN ? INT32_MIN : (int)value;
}

static bool boolean_field(lua_State *L, int index, const char *name) {
  int type = lua_getfield(L, index, name);
  if (type != LUA_TNIL && type != LUA_TBOOLEAN) {
    char what[64];
    snprintf(what, sizeof what, "the option %s", name);
    bind_type_error(L, -1, what, "true or false");
  }
  bool value = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return value;
}

/* --- data sets --- */

static pr_dataset *check_dataset(lua_State *L, int index) {
  pr_dataset **slot = luaL_checkudata(L, index, DATASET);
  if (!*slot) bind_error(L, "this data set is closed");
  return *slot;
}

/* dataset_open(path, part, { resize =, cache = }): part is "train" or "test", path "" the embedded digits. */
static int dataset_open(lua_State *L) {
  static const char *const parts[] = { "train", "test", NULL };
  const char *path = luaL_checkstring(L, 1);
  pr_split part = luaL_checkoption(L, 2, "train", parts) == 0 ? PR_TRAIN : PR_TEST;
  pr_dataset_options options = pr_dataset_defaults;
  if (!lua_isnoneornil(L, 3)) {
    luaL_checktype(L, 3, LUA_TTABLE);
    options.resize = int_field(L, 3, "resize", options.resize);
    int64_t cache = integer_field(L, 3, "cache", (int64_t)options.cache_bytes);
    if (cache < 0) bind_error(L, "the option cache is a number of bytes, not %lld", (long long)cache);
    options.cache_bytes = (size_t)cache;
  }
  if (!*path && options.resize)
    bind_error(L, "resize is for folders of images; the embedded digits are none");
  pr_dataset **slot = lua_newuserdatauv(L, sizeof *slot, 0);
  *slot = NULL;
  luaL_setmetatable(L, DATASET);
  bind_check(L, *path ? pr_dataset_open(path, part, &options, slot) : pr_dataset_digits(part, slot));
  return 1;
}

static int dataset_size(lua_State *L) { return lua_pushinteger(L, pr_dataset_size(check_dataset(L, 1))), 1; }

static int dataset_shape(lua_State *L) {
  int64_t shape[3];
  pr_dataset_shape(check_dataset(L, 1), shape);
  bind_push_integers(L, 3, shape);
  return 1;
}

static int dataset_class_names(lua_State *L) {
  const pr_dataset *d = check_dataset(L, 1);
  lua_createtable(L, pr_dataset_classes(d), 0);
  for (int i = 0; i < pr_dataset_classes(d); i++) {
    lua_pushstring(L, pr_dataset_class_name(d, i));
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

/* Two lists: means and deviations, one number per channel. */
static int push_normalization(lua_State *L, const pr_normalization *n, int channels) {
  const float *const lists[] = { n->mean, n->std };
  for (int k = 0; k < 2; k++) {
    lua_createtable(L, channels, 0);
    for (int c = 0; c < channels; c++) {
      lua_pushnumber(L, (lua_Number)lists[k][c]);
      lua_rawseti(L, -2, c + 1);
    }
  }
  return 2;
}

static int channels_of(const pr_dataset *d) {
  int64_t shape[3];
  pr_dataset_shape(d, shape);
  return (int)shape[0];
}

/* dataset:statistics(limit, threads): means, deviations, measured over the first `limit` images (0: all). */
static int dataset_statistics(lua_State *L) {
  pr_dataset *d = check_dataset(L, 1);
  int64_t limit = bind_integer(L, 2, "the limit"), threads = bind_integer(L, 3, "the number of threads");
  pr_normalization n;
  bind_check(L, pr_dataset_statistics(d, limit, threads < 1 ? 1 : threads > 64 ? 64 : (int)threads, &n));
  return push_normalization(L, &n, channels_of(d));
}

/* dataset:constants(name): means, deviations, as published under this name. */
static int dataset_constants(lua_State *L) {
  const pr_dataset *d = check_dataset(L, 1);
  pr_normalization n;
  bind_check(L, pr_normalization_named(luaL_checkstring(L, 2), channels_of(d), &n));
  return push_normalization(L, &n, channels_of(d));
}

static int dataset_close(lua_State *L) {
  pr_dataset **slot = luaL_checkudata(L, 1, DATASET), *d = *slot;
  *slot = NULL;
  pr_dataset_release(d);
  return 0;
}

/* --- loaders --- */

typedef struct loader {
  pr_loader *core;
  int64_t shape[3];
} loader;

static loader *check_loader(lua_State *L) {
  loader *l = luaL_checkudata(L, 1, LOADER);
  if (!l->core) bind_error(L, "this loader is closed");
  return l;
}

/* A list of one number per channel. */
static void read_numbers(lua_State *L, int index, const char *name, int channels, float *out) {
  if (lua_getfield(L, index, name) != LUA_TTABLE) bind_type_error(L, -1, name, "a list of numbers");
  lua_Integer n = luaL_len(L, -1);
  if (n != channels)
    bind_error(L, "%s must hold one number for each of the %d channels, it holds %d", name, channels, (int)n);
  for (int c = 0; c < channels; c++) {
    lua_rawgeti(L, -1, c + 1);
    if (lua_type(L, -1) != LUA_TNUMBER) bind_type_error(L, -1, name, "a list of numbers");
    out[c] = (float)lua_tonumber(L, -1);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

/* loader_open(dataset, { batch =, shuffle =, crop_padding =, flip =, threads =, seed =, limit =, mean = {},
 * std = {} }) */
static int loader_open(lua_State *L) {
  pr_dataset *d = check_dataset(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  pr_loader_options o = { .batch = int_field(L, 2, "batch", 1),
                          .shuffle = boolean_field(L, 2, "shuffle"),
                          .crop_padding = int_field(L, 2, "crop_padding", 0),
                          .flip = boolean_field(L, 2, "flip"),
                          .threads = int_field(L, 2, "threads", 1),
                          .seed = (uint64_t)integer_field(L, 2, "seed", 0),
                          .limit = integer_field(L, 2, "limit", 0) };
  int channels = channels_of(d);
  read_numbers(L, 2, "mean", channels, o.normalization.mean);
  read_numbers(L, 2, "std", channels, o.normalization.std);
  loader *l = lua_newuserdatauv(L, sizeof *l, 0);
  *l = (loader){ 0 };
  luaL_setmetatable(L, LOADER);
  pr_dataset_shape(d, l->shape);
  bind_check(L, pr_loader_open(d, &o, &l->core));
  return 1;
}

static int loader_samples(lua_State *L) {
  return lua_pushinteger(L, pr_loader_samples(check_loader(L)->core)), 1;
}

static int loader_batches(lua_State *L) {
  return lua_pushinteger(L, pr_loader_batches(check_loader(L)->core)), 1;
}

/* loader:start(epoch, batch) */
static int loader_start(lua_State *L) {
  loader *l = check_loader(L);
  lua_Integer epoch = bind_integer(L, 2, "the epoch"), batch = bind_integer(L, 3, "the batch");
  if (epoch < 1 || batch < 1) bind_error(L, "epochs and batches count from 1");
  bind_check(L, pr_loader_start(l->core, epoch - 1, batch - 1));
  return 0;
}

static pr_tensor *images_of(const loader *l, const pr_batch *b) {
  const int64_t shape[] = { b->count, l->shape[0], l->shape[1], l->shape[2] };
  pr_tensor *t = prT_new_channels_last(PR_F32, PR_CPU, 4, shape);
  if (t) memcpy(prT_data(t), b->images, (size_t)pr_numel(t) * sizeof(float));
  return t;
}

static pr_tensor *labels_of(const pr_batch *b) {
  pr_tensor *t = pr_tensor_new(PR_I64, PR_CPU, 1, (const int64_t[]){ b->count });
  int64_t *to = t ? prT_data(t) : NULL;
  for (int i = 0; i < b->count && to; i++) to[i] = b->labels[i] + 1;
  return t;
}

/* loader:next(): images [N, C, H, W] (f32, channels last in memory) and labels [N] (i64), or nil at the
 * epoch's end. */
static int loader_next(lua_State *L) {
  loader *l = check_loader(L);
  pr_batch b;
  bind_check(L, pr_loader_next(l->core, &b));
  if (!b.count) return lua_pushnil(L), 1;
  pr_tensor **images = bind_slot(L);
  bind_fill(L, images, images_of(l, &b));
  pr_tensor **labels = bind_slot(L);
  bind_fill(L, labels, labels_of(&b));
  return 2;
}

static int loader_close(lua_State *L) {
  loader *l = luaL_checkudata(L, 1, LOADER);
  pr_loader *core = l->core;
  l->core = NULL;
  pr_loader_close(core);
  return 0;
}

/* --- registration --- */

const luaL_Reg bind_data_functions[] = { { "dataset_open", dataset_open },
                                         { "loader_open", loader_open },
                                         { NULL, NULL } };

static const luaL_Reg dataset_methods[] = {
  { "size", dataset_size },
  { "shape", dataset_shape },
  { "class_names", dataset_class_names },
  { "statistics", dataset_statistics },
  { "constants", dataset_constants },
  { "close", dataset_close },
  { NULL, NULL },
};

static const luaL_Reg loader_methods[] = {
  { "samples", loader_samples }, { "batches", loader_batches }, { "start", loader_start },
  { "next", loader_next },       { "close", loader_close },     { NULL, NULL },
};

static void open_type(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction close) {
  luaL_newmetatable(L, name);
  lua_newtable(L);
  luaL_setfuncs(L, methods, 0);
  lua_setfield(L, -2, "__index");
  lua_pushcfunction(L, close), lua_setfield(L, -2, "__gc");
  lua_pushcfunction(L, close), lua_setfield(L, -2, "__close");
  lua_pop(L, 1);
}

void bind_open_data(lua_State *L) {
  open_type(L, DATASET, dataset_methods, dataset_close);
  open_type(L, LOADER, loader_methods, loader_close);
}
