/* mask.c - masks as functions of prune.core; prune/mask.lua gives them names and options. */
#include "bind.h"

#include "prune/mask.h"
#include "prune/regrow.h"

#include <string.h>

/* The amount in the words at index and index + 1: "amount" (a float is a share, an integer a count) or
 * "sparsity" (a share). */
static pr_amount read_amount(lua_State *L, int index) {
  static const char *const words[] = { "amount", "sparsity", NULL };
  bool sparsity = luaL_checkoption(L, index, NULL, words) == 1;
  if (lua_type(L, index + 1) != LUA_TNUMBER) bind_type_error(L, index + 1, words[sparsity], "a number");
  pr_amount amount = { .kind = sparsity ? PR_SPARSITY : PR_AMOUNT_SHARE,
                       .share = lua_tonumber(L, index + 1) };
  if (!sparsity && lua_isinteger(L, index + 1))
    amount.kind = PR_AMOUNT_COUNT, amount.count = lua_tointeger(L, index + 1);
  bind_check(L, pr_amount_check(&amount));
  return amount;
}

static pr_mask_method read_method(lua_State *L, int index) {
  static const char *const words[] = { "lowest", "random", NULL };
  return (pr_mask_method)luaL_checkoption(L, index, NULL, words);
}

/* The tensors of the list at `index`, borrowed, as an array in a userdata on top of the stack; `n` of them.
 */
static pr_tensor **read_list(lua_State *L, int index, int n, const char *what) {
  pr_tensor **list = lua_newuserdatauv(L, (size_t)(n + 1) * sizeof *list, 0);
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, index, i + 1);
    if (!bind_test_tensor(L, -1)) {
      char name[64];
      snprintf(name, sizeof name, "%s %d of the list", what, i + 1);
      bind_type_error(L, -1, name, "a tensor");
    }
    list[i] = bind_check_tensor(L, -1);
    lua_pop(L, 1);
  }
  return list;
}

/* The list of scores at `index`, parallel to `n` parameters, or NULL for nil. */
static pr_tensor **read_scores(lua_State *L, int index, int n) {
  if (lua_isnoneornil(L, index)) return NULL;
  luaL_checktype(L, index, LUA_TTABLE);
  int given = (int)lua_rawlen(L, index);
  if (given != n) bind_error(L, "the list has %d parameters, but there are scores for %d", n, given);
  pr_tensor **scores = read_list(L, index, n, "scores");
  for (int i = 0; i < n; i++) scores[i] = bind_value(L, scores[i], "scores");
  return scores;
}

/* mask_unstructured(list of parameters, list of scores or nil, method, "amount" or "sparsity", number) ->
 * entries gone */
static int unstructured(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 5);
  int n = (int)lua_rawlen(L, 1);
  pr_mask_method method = read_method(L, 3);
  pr_amount amount = read_amount(L, 4);
  pr_tensor **parameters = read_list(L, 1, n, "parameter"), **scores = read_scores(L, 2, n);
  int64_t gone;
  bind_check(L, pr_mask_unstructured(parameters, scores, n, method, &amount, &gone));
  lua_pushinteger(L, gone);
  return 1;
}

/* count_lowest(list of tensors, k) -> list: how many of the k lowest magnitudes stand in each */
static int count_lowest(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_Integer k = bind_integer(L, 2, "the count");
  int n = (int)lua_rawlen(L, 1);
  pr_tensor **scores = read_list(L, 1, n, "scores");
  for (int i = 0; i < n; i++) scores[i] = bind_value(L, scores[i], "scores");
  int64_t *counts = lua_newuserdatauv(L, (size_t)(n + 1) * sizeof *counts, 0);
  bind_check(L, pr_count_lowest(scores, n, k, counts));
  bind_push_integers(L, n, counts);
  return 1;
}

/* mask_structured(parameter, scores or nil, method, "amount" or "sparsity", number, dim, n) -> slices gone */
static int structured(lua_State *L) {
  pr_tensor *t = bind_check_tensor(L, 1), *scores = bind_opt_tensor(L, 2);
  pr_mask_method method = read_method(L, 3);
  pr_amount amount = read_amount(L, 4);
  lua_Integer dim = bind_integer(L, 6, "dim");
  int64_t gone;
  if (dim < 0) dim += t->dim + 1;
  if (scores) scores = bind_value(L, scores, "scores");
  int axis = dim < 1 || dim > PR_MAX_DIM ? -1 : (int)dim - 1;
  if (axis < 0 && t->dim >= 2)
    return bind_error(L, "dim %lld is out of range for a parameter of %d dimensions",
                      (long long)lua_tointeger(L, 6), t->dim);
  bind_check(L, pr_mask_structured(t, scores, axis, method, luaL_checknumber(L, 7), &amount, &gone));
  lua_pushinteger(L, gone);
  return 1;
}

static int read_axis(lua_State *L, int index, int dim) {
  bool matrix = lua_type(L, index) == LUA_TSTRING && strcmp(lua_tostring(L, index), "matrix") == 0;
  return matrix ? PR_AS_MATRIX : bind_axis(L, index, dim, "dim");
}

/* mask_nm(parameter, scores or nil, dim or "matrix", n, m) -> entries gone */
static int nm(lua_State *L) {
  pr_tensor *t = bind_check_tensor(L, 1), *scores = bind_opt_tensor(L, 2);
  int axis = read_axis(L, 3, t->dim);
  int64_t n = bind_integer(L, 4, "n"), m = bind_integer(L, 5, "m"), gone;
  if (scores) scores = bind_value(L, scores, "scores");
  bind_check(L, pr_mask_nm(t, scores, axis, n, m, &gone));
  lua_pushinteger(L, gone);
  return 1;
}

/* mask_lines(parameter, scores or nil, dim or "matrix", sparsity) -> entries gone */
static int lines(lua_State *L) {
  pr_tensor *t = bind_check_tensor(L, 1), *scores = bind_opt_tensor(L, 2);
  int axis = read_axis(L, 3, t->dim);
  double sparsity = luaL_checknumber(L, 4);
  int64_t gone;
  if (scores) scores = bind_value(L, scores, "scores");
  bind_check(L, pr_mask_lines(t, scores, axis, sparsity, &gone));
  lua_pushinteger(L, gone);
  return 1;
}

/* mask_blocks(list of parameters, list of scores or nil, method, "amount" or "sparsity", number, pool,
 * matrix?, list of extents) -> blocks gone */
static int blocks(lua_State *L) {
  static const char *const pools[] = { "mean", "max", "rms", NULL };
  luaL_checktype(L, 1, LUA_TTABLE);
  luaL_checktype(L, 8, LUA_TTABLE);
  int n = (int)lua_rawlen(L, 1), dim = (int)lua_rawlen(L, 8);
  pr_mask_method method = read_method(L, 3);
  pr_amount amount = read_amount(L, 4);
  pr_blocks b = { .matrix = lua_toboolean(L, 7), .pool = (pr_pool)luaL_checkoption(L, 6, NULL, pools) };
  if (dim > PR_MAX_DIM) return bind_error(L, "a block has at most %d dimensions, got %d", PR_MAX_DIM, dim);
  for (int d = 0; d < dim; d++) {
    lua_rawgeti(L, 8, d + 1);
    b.extent[d] = bind_integer(L, -1, "size");
    lua_pop(L, 1);
  }
  pr_tensor **parameters = read_list(L, 1, n, "parameter"), **scores = read_scores(L, 2, n);
  int64_t gone;
  bind_check(L, pr_mask_blocks(parameters, scores, n, &b, method, &amount, &gone));
  lua_pushinteger(L, gone);
  return 1;
}

static int identity(lua_State *L) {
  bind_check(L, pr_mask_identity(bind_check_tensor(L, 1)));
  return 0;
}

/* mask_custom(parameter, mask) */
static int custom(lua_State *L) {
  pr_tensor *t = bind_check_tensor(L, 1), *mask = bind_value(L, bind_check_tensor(L, 2), "a mask");
  bind_check(L, pr_mask_custom(t, mask));
  return 0;
}

/* count_zeros(tensor) -> how many entries read as zero, how many there are */
static int count_zeros(lua_State *L) {
  const pr_tensor *t = bind_check_tensor(L, 1);
  int64_t zeros;
  bind_check(L, pr_count_zeros(t, &zeros));
  lua_pushinteger(L, zeros);
  lua_pushinteger(L, pr_numel(t));
  return 2;
}

/* --- masks as text ------------------------------------------------------------------------------------------------------- */

/* mask_digits(mask) -> hexadecimal digits of four entries each, in row-major order, the first of them the
 * lowest bit; nil for a mask that holds other numbers than 0 and 1 */
static int digits(lua_State *L) {
  pr_tensor *mask = bind_check_tensor(L, 1), *numbers = pr_to_dtype(mask, PR_F32);
  pr_tensor **slot = bind_slot(L);
  pr_tensor *rows = numbers ? pr_contiguous(numbers) : NULL;
  pr_release(numbers);
  bind_fill(L, slot, rows);
  int64_t n = pr_numel(rows);
  size_t length = (size_t)(n + 3) / 4;
  unsigned char *text = lua_newuserdatauv(L, length + 1, 0);
  const float *value = prT_data(rows);
  memset(text, 0, length);
  for (int64_t i = 0; i < n; i++) {
    if (value[i] != 0 && value[i] != 1) return lua_pushnil(L), 1;
    if (value[i] == 1) text[i / 4] |= (unsigned char)(1 << i % 4);
  }
  for (size_t i = 0; i < length; i++) text[i] = (unsigned char)"0123456789abcdef"[text[i]];
  lua_pushlstring(L, (const char *)text, length);
  return 1;
}

static int value_of_digit(char c) {
  return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* mask_of_digits(digits, shape) -> mask */
static int of_digits(lua_State *L) {
  size_t length;
  const char *text = luaL_checklstring(L, 1, &length);
  int64_t shape[PR_MAX_DIM];
  int next, dim = bind_shape(L, 2, shape, &next);
  pr_tensor **slot = bind_slot(L), *mask = pr_tensor_new(PR_F32, PR_CPU, dim, shape);
  bind_fill(L, slot, mask);
  int64_t n = pr_numel(mask);
  float *value = prT_data(mask);
  if (length != (size_t)(n + 3) / 4)
    return bind_error(L, "a mask of %lld entries has %lld digits, not %zu", (long long)n,
                      (long long)(n + 3) / 4, length);
  for (int64_t i = 0; i < n; i++) {
    int digit = value_of_digit(text[i / 4]);
    if (digit < 0) return bind_error(L, "digit %lld of the mask is not hexadecimal", PR_INDEX(i / 4));
    value[i] = (float)(digit >> i % 4 & 1);
  }
  return 1;
}

/* --- masks that entries come back from ------------------------------------------------------------------------------- */

/* mask_rank(list of parameters, list of scores, sparsity) */
static int rank(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE), luaL_checktype(L, 2, LUA_TTABLE);
  int n = (int)lua_rawlen(L, 1);
  double sparsity = luaL_checknumber(L, 3);
  if ((int)lua_rawlen(L, 2) != n)
    return bind_error(L, "the list has %d parameters, but there are scores for %d", n, (int)lua_rawlen(L, 2));
  pr_tensor **parameters = read_list(L, 1, n, "parameter"), **scores = read_list(L, 2, n, "scores");
  for (int i = 0; i < n; i++) scores[i] = bind_value(L, scores[i], "scores");
  bind_check(L, pr_mask_rank(parameters, scores, n, sparsity));
  return 0;
}

/* mask_exchange(parameter, scores or nil, count) */
static int exchange(lua_State *L) {
  pr_tensor *t = bind_check_tensor(L, 1), *scores = bind_opt_tensor(L, 2);
  if (scores) scores = bind_value(L, scores, "scores");
  bind_check(L, pr_mask_exchange(t, scores, bind_integer(L, 3, "count")));
  return 0;
}

const luaL_Reg bind_mask_functions[] = {
  { "mask_nm", nm },
  { "mask_lines", lines },
  { "mask_blocks", blocks },
  { "mask_unstructured", unstructured },
  { "mask_structured", structured },
  { "mask_identity", identity },
  { "mask_custom", custom },
  { "mask_rank", rank },
  { "mask_exchange", exchange },
  { "mask_digits", digits },
  { "mask_of_digits", of_digits },
  { "count_zeros", count_zeros },
  { "count_lowest", count_lowest },
  { NULL, NULL },
};
