/* attention.c - scaled dot-product attention. */
#include "op/op.h"

#include "couple/rules.h"

#include <math.h>

enum { Q, K, V, MASK };
enum { Y };
enum { CAUSAL, SCALE };

/* Batch axes of q, k and v are equal, but q may have a multiple of the heads of k and v (axis -3): query head
 * h then reads head h / (multiple). */
static pr_status check_batch(const pr_call *c) {
  const pr_tensor *q = c->in[Q], *k = c->in[K], *v = c->in[V];
  bool fits = q->dim == k->dim && q->dim == v->dim;
  for (int d = 0; fits && d < q->dim - 2; d++) {
    bool heads = d == q->dim - 3 && k->shape[d] > 0 && q->shape[d] % k->shape[d] == 0;
    fits = k->shape[d] == v->shape[d] && (q->shape[d] == k->shape[d] || heads);
  }
  if (!fits)
    return prO_fail(c, PR_ERR_SHAPE,
                    "q, k and v must agree in all but the last two axes, where q may have a multiple of the "
                    "heads (axis -3)");
  if (q->shape[q->dim - 1] != k->shape[k->dim - 1])
    return prO_fail(c, PR_ERR_SHAPE, "q and k must have the same width (last axis)");
  if (k->shape[k->dim - 2] != v->shape[v->dim - 2])
    return prO_fail(c, PR_ERR_SHAPE, "k and v must have the same length (axis -2)");
  return PR_OK;
}

static pr_status check_mask(const pr_call *c) {
  const pr_tensor *mask = c->in[MASK], *q = c->in[Q], *k = c->in[K];
  if (!mask) return PR_OK;
  if (mask->dtype != PR_BOOL) PR_TRY(prO_need_same_dtype(c, MASK, Q));
  bool fits = mask->dim <= q->dim;
  for (int d = 1; fits && d <= mask->dim; d++) {
    int64_t size = d == 1 ? k->shape[k->dim - 2] : q->shape[q->dim - d];
    fits = mask->shape[mask->dim - d] == size || mask->shape[mask->dim - d] == 1;
  }
  if (fits) return PR_OK;
  return prO_fail(c, PR_ERR_SHAPE, "mask does not broadcast to q's batch axes, q's length and k's length");
}

static pr_status infer(pr_call *c) {
  for (int i = Q; i <= V; i++) {
    PR_TRY(prO_need_dim(c, i, 2, PR_MAX_DIM));
    PR_TRY(prO_need_float(c, i));
    PR_TRY(prO_need_same_dtype(c, i, Q));
  }
  PR_TRY(check_batch(c));
  PR_TRY(check_mask(c));
  const pr_tensor *q = c->in[Q];
  int64_t shape[PR_MAX_DIM];
  for (int d = 0; d < q->dim - 1; d++) shape[d] = q->shape[d];
  shape[q->dim - 1] = c->in[V]->shape[q->dim - 1];
  return prO_output(c, Y, q->dtype, q->dim, shape);
}

/* heads * queries * keys * (width of q + width of v) */
static int64_t macs(const pr_call *c) {
  const pr_tensor *q = c->in[Q], *v = c->in[V];
  int64_t width = q->shape[q->dim - 1];
  return width ? pr_numel(q) / width * v->shape[v->dim - 2] * (width + v->shape[v->dim - 1]) : 0;
}

static void couple(pr_coupling *k) {
  bool causal = k->call->args[CAUSAL].integer;
  prC_rule_attention(k, PRC_IN(Q), PRC_IN(K), PRC_IN(V), PRC_IN(MASK), PRC_OUT(Y), causal);
}

/* A scale that was of the original width must not follow the smaller one. */
static pr_status rewrite(pr_coupling *k, pr_arg *args) {
  int64_t width = prC_size(k, PRC_IN(Q), -1);
  if (args[SCALE].real == 0 && prC_live_axis(k, PRC_IN(Q), -1) != width)
    args[SCALE] = (pr_arg){ .real = 1 / sqrt((double)width), .given = true };
  return PR_OK;
}

PR_OP(scaled_dot_product_attention) = {
  .name = "scaled_dot_product_attention",
  .inputs = "q k v mask?",
  .outputs = "y",
  .saves = "q k v mask",
  .args = { { "is_causal", PR_ARG_BOOL, .help = "query i sees keys 0 to i only" },
            { "scale", PR_ARG_REAL, .help = "factor of the products; 0: 1 / sqrt(width of q)" } },
  .infer = infer,
  .couple = couple,
  .rewrite = rewrite,
  .macs = macs,
  .onnx = "Attention",
  .examples = "q:2x2x3x4 k:2x2x5x4 v:2x2x5x3\n"
              "q:1x2x4x3 k:1x2x4x3 v:1x2x4x3 is_causal=true\n"
              "q:2x3x4 k:2x5x4 v:2x5x2 mask:3x5 scale=0.3\n"
              "q:1x4x3x2 k:1x2x3x2 v:1x2x3x2 mask:4x1x3",
  .help = "Attention: q [..., H, M, D], k [..., K, N, D], v [..., K, N, E], mask [..., M, N] -> y [..., H, "
          "M, E]\n"
          "y = softmax(scale q k^T + mask) v. A bool mask lets pass where it is true, a float mask is\n"
          "added; it broadcasts. A query that sees nothing gives 0. H may be a multiple of K (grouped\n"
          "queries: Ainslie et al., \"GQA\", EMNLP 2023). Vaswani et al., \"Attention is all you\n"
          "need\", NeurIPS 2017.",
};
