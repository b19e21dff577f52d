/* second_order.c - Gram and Fisher matrices, SparseGPT and the optimal brain surgeon as functions of
 * prune.core on plain tensors; prune/mask/layerwise.lua runs them over a model. */
#include "bind.h"

#include "prune/cholesky.h"
#include "prune/obs.h"
#include "prune/sparsegpt.h"

/* gram_add(gram, x): gram [d, d] f64 += x^T x for x [n, d] */
static int gram_add(lua_State *L) {
  bind_check(L, prP_gram_add(bind_check_tensor(L, 1), bind_check_tensor(L, 2)));
  return 0;
}

/* sparsegpt(weight, mask, hessian, sparsity, damp [, n, m, run]) -> squared change. n of every m columns stay
 * in the place of a sparsity where m is given. Weight (f64) and mask (f32) are changed. */
static int sparsegpt(lua_State *L) {
  pr_tensor *weight = bind_check_tensor(L, 1), *mask = bind_check_tensor(L, 2),
            *hessian = bind_check_tensor(L, 3);
  pr_sparsegpt_options o = { .sparsity = luaL_checknumber(L, 4), .damp = luaL_checknumber(L, 5) };
  if (!lua_isnoneornil(L, 7)) {
    o.keep = bind_integer(L, 6, "n"), o.of = bind_integer(L, 7, "m");
    o.run = lua_isnoneornil(L, 8) ? 0 : bind_integer(L, 8, "run");
    if (o.of < 1) return bind_error(L, "sparsegpt: m must be at least 1, got %lld", (long long)o.of);
  }
  double error;
  bind_check(L, pr_sparsegpt(weight, mask, hessian, &o, &error));
  lua_pushnumber(L, error);
  return 1;
}

/* fisher_add(fisher, gradient): fisher [blocks, size, size] f64 += g g^T block by block */
static int fisher_add(lua_State *L) {
  bind_check(L, pr_fisher_add(bind_check_tensor(L, 1), bind_check_tensor(L, 2)));
  return 0;
}

/* obs_scores(fisher, weight [n] f64, mask [n], damp) -> scores [n] f64 */
static int obs_scores(lua_State *L) {
  const pr_tensor *fisher = bind_check_tensor(L, 1), *weight = bind_check_tensor(L, 2),
                  *mask = bind_check_tensor(L, 3);
  double damp = luaL_checknumber(L, 4);
  pr_tensor **slot = bind_slot(L);
  bind_fill(L, slot, pr_tensor_new(PR_F64, PR_CPU, weight->dim, weight->shape));
  bind_check(L, pr_obs_scores(fisher, weight, mask, damp, bind_check_tensor(L, -1)));
  return 1;
}

/* obs_update(fisher, weight [n] f64, mask before, mask after, damp) -> cost. The weight is changed. */
static int obs_update(lua_State *L) {
  const pr_tensor *fisher = bind_check_tensor(L, 1), *before = bind_check_tensor(L, 3),
                  *after = bind_check_tensor(L, 4);
  double cost;
  bind_check(L, pr_obs_update(fisher, bind_check_tensor(L, 2), before, after, luaL_checknumber(L, 5), &cost));
  lua_pushnumber(L, cost);
  return 1;
}

/* solve(a, b): a x = b for a symmetric positive definite [n, n] and b [n, columns], both f64 -> x. Neither is
 * changed. */
static int solve(lua_State *L) {
  const pr_tensor *a = bind_check_tensor(L, 1), *b = bind_check_tensor(L, 2);
  char left[PR_SHAPE_TEXT], right[PR_SHAPE_TEXT];
  if (a->dim != 2 || b->dim != 2 || a->shape[0] != a->shape[1] || a->shape[0] != b->shape[0] ||
      a->dtype != PR_F64 || b->dtype != PR_F64)
    return bind_error(L, "solve: a square matrix and columns of its height are needed in f64, got %s and %s",
                      pr_shape_text(a, left), pr_shape_text(b, right));
  pr_tensor **slot = bind_slot(L);
  bind_fill(L, slot, pr_clone(b));
  pr_tensor *x = bind_check_tensor(L, -1), *own = pr_clone(a);
  if (!own) return bind_raise(L);
  pr_status status = pr_is_contiguous(own) && pr_is_contiguous(x)
                         ? prP_solve_columns(prT_data(own), a->shape[0], prT_data(x), x->shape[1])
                         : pr_fail(PR_ERR_ARGUMENT, "solve: the matrices must be contiguous");
  pr_release(own);
  bind_check(L, status);
  return 1;
}

const luaL_Reg bind_second_order_functions[] = {
  { "gram_add", gram_add },
  { "sparsegpt", sparsegpt },
  { "fisher_add", fisher_add },
  { "obs_scores", obs_scores },
  { "obs_update", obs_update },
  { "solve", solve },
  { NULL, NULL },
};
