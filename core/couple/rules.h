/* rules.h - coupling rules of operator families: what lives and dies together, and the dead values of
 * outputs.
 *
 * Handles are those of couple.h: PRC_IN(i), PRC_OUT(i), PRC_NONE for what is absent (an input that is NULL
 * counts as absent too). Negative axes count from the end. Functions say what an operator has to rewrite in
 * its arguments after removal; sizes of outputs are always the live counts of their labels, so targets of
 * reshape, expand, and sizes of split parts follow from the output.
 */
#ifndef PR_COUPLE_RULES_H
#define PR_COUPLE_RULES_H

#include "couple/couple.h"

/* --- layers: rules_layer.c --------------------------------------------------------------------------- */

/* Convolution, any rank, x [N, C, ...] or [C, ...]. w [O, C / groups, kernel...], transposed [C, O / groups,
 * kernel...]; bias [O]. Slot 0: groups (recorded when groups > 1): after removal groups = live count of slot
 * 0. A kernel of size 1 that keeps the space lets it pass. */
void prC_rule_conv(pr_coupling *c, int x, int w, int bias, int y, int spatial, int64_t groups,
                   bool transposed);

/* y [..., out] = x [..., in] w^T + bias; w [out, in]. */
void prC_rule_linear(pr_coupling *c, int x, int w, int bias, int y);

/* y [index shape..., D] = rows of w [V, D]. */
void prC_rule_embedding(pr_coupling *c, int index, int w, int y);

/* Norms per channel: vectors (PRC_NONE or absent where there are none) go with axis 1 of x. Batch norm: space
 * passes; instance norm: its space is pinned. */
typedef struct prC_channel_norm {
  int weight, bias, mean, variance;
} prC_channel_norm;
void prC_rule_batch_norm(pr_coupling *c, int x, const prC_channel_norm *norm, int y, bool instance);

/* Statistics over the last k axes, over live entries; w and bias have these k axes. centred: layer norm; else
 * RMS norm. */
void prC_rule_layer_norm(pr_coupling *c, int x, int w, int bias, int y, int k, bool centred);

/* No ties: after removal the operator needs the bounds of its groups, live counts of [g C/G, (g + 1) C/G) of
 * x's axis 1 (prC_live_in). */
void prC_rule_group_norm(pr_coupling *c, int x, int w, int bias, int y);

/* w [1] or [C], C on axis 1 of x. */
void prC_rule_prelu(pr_coupling *c, int x, int w, int y);

/* w = g v / |v|, norm over all axes but `axis`; 0 / 0 at dead positions counts as 0. */
void prC_rule_weight_norm(pr_coupling *c, int g, int v, int y, int axis);

/* One layer, one direction. w_ih [gates H, I], w_hh [gates H, R], biases [gates H], w_hr [R, H] or absent
 * (then R = H); the feature is the last axis of x, y, states; all other axes are pinned. Absent h0, c0: zero.
 * PRC_NONE for all that the operator does not have. */
typedef struct prC_recurrent {
  int x, w_ih, w_hh, b_ih, b_hh, w_hr, h0, c0, y, h_last, c_last;
  int64_t gates; /* 4: LSTM, 3: GRU, 1: plain */
} prC_recurrent;
void prC_rule_recurrent(pr_coupling *c, const prC_recurrent *r);

/* Attention parts: q [..., H, Nq, d], k [..., Hk, Nk, d], v [..., Hk, Nk, dv], mask broadcast to [..., H, Nq,
 * Nk], y [..., H, Nq, dv]. H = copies * Hk. The scale must be an argument. Slot 0: copies (when H > Hk). */
void prC_rule_attention(pr_coupling *c, int q, int k, int v, int mask, int y, bool causal);

/* The same with heads inside the last axis: q [..., Nq, H d], k [..., Nk, Hk d], v [..., Nk, Hk dv], y [...,
 * Nq, H dv], mask broadcast to
 * [..., H, Nq, Nk] or, without heads, [Nq, Nk]. Slot 0: H, slot 1: Hk; both counts must be rewritten. */
void prC_rule_attention_packed(pr_coupling *c, int q, int k, int v, int mask, int y, int64_t heads,
                               int64_t kv_heads, bool causal);

/* --- arithmetic: rules_math.c ------------------------------------------------------------------------ */

/* y = f(x) entry by entry: dead values go through f; where f is not finite the axis is pinned. */
void prC_rule_unary(pr_coupling *c, int x, int y, double (*f)(double x, const void *context),
                    const void *context);

/* y = f(operands) with broadcasting (right-aligned); operands of full size tie, size-1 axes do not. f gets n
 * dead values and is called where all are known; NULL will do for products and quotients. A quotient 0 / 0 of
 * weights counts as 0. */
typedef enum prC_elementwise { PRC_FUNCTION, PRC_MULTIPLY, PRC_DIVIDE, PRC_REMAINDER } prC_elementwise;
void prC_rule_elementwise(pr_coupling *c, int n, const int *operand, int y, prC_elementwise kind,
                          double (*f)(const double *x, const void *context), const void *context);

/* y = one of a, b as `chooser` says (where; lerp with its weight as chooser). b PRC_NONE: the number `fill`
 * (masked_fill). */
void prC_rule_where(pr_coupling *c, int chooser, int a, int b, double fill, int y);

typedef enum prC_reduction {
  PRC_SUM,  /* sum: an axis whose dead value is not 0 is pinned */
  PRC_NORM, /* root of a sum of squares or absolute values: likewise */
  PRC_MEAN, /* over live entries */
  PRC_VAR,  /* variance, deviation: over live entries */
  PRC_MAX,  /* max, min, median: the axis is pinned; a known dead value of the other axes stays */
  PRC_PROD, /* pinned */
  PRC_ARG   /* argmax, logsumexp, any other: pinned, dead values of the other axes unknown */
} prC_reduction;
/* Reduce the axes whose bit is set in `axes`. y keeps them with size 1, or lacks them. */
void prC_rule_reduce(pr_coupling *c, int x, int y, unsigned axes, prC_reduction kind);

/* y has x's shape and mixes along `axis` (softmax, cumsum, sort): the axis is pinned, the others pass. */
void prC_rule_along(pr_coupling *c, int x, int y, int axis, prC_keep keep);
/* y = x / |x| along `axis`: needs a dead value of 0 there. */
void prC_rule_normalize(pr_coupling *c, int x, int y, int axis);

/* Product over letters, one label per letter; letters[i] names the axes of operand[i], `out` those of y
 * ("bik", "bkj" -> "bij"). Letters of size 1 broadcast. Letters that are not in `out` are contracted. */
void prC_rule_einsum(pr_coupling *c, int n, const int *operand, const char *const *letters, int y,
                     const char *out);
/* Matrix product with torch.matmul's ranks and broadcasting: [..., n, k] [..., k, m]; 1-D operands too. */
void prC_rule_matmul(pr_coupling *c, int a, int b, int y);

/* x gated by its own second half along `axis` (GLU). f: the value of both halves at a dead position; NULL: 0
 * stays 0. */
void prC_rule_glu(pr_coupling *c, int x, int y, int axis);

/* No rule: all axes of all inputs and outputs are pinned, with a note. */
void prC_rule_unknown(pr_coupling *c, const char *name);

/* --- shapes: rules_shape.c --------------------------------------------------------------------------- */

void prC_rule_reshape(pr_coupling *c, int x, int y); /* view, flatten, unflatten, squeeze, unsqueeze */
void prC_rule_permute(pr_coupling *c, int x, int y, const int *order); /* y's axis i is x's axis order[i] */
void prC_rule_expand(pr_coupling *c, int x, int y); /* copies are free; sizes: live counts of y */
void prC_rule_repeat(pr_coupling *c, int x, int y); /* tile; slot a: copies along y's axis a */
void prC_rule_repeat_each(pr_coupling *c, int x, int y, int axis); /* repeat_interleave; slot 0: copies */
void prC_rule_cat(pr_coupling *c, int n, const int *operand, int y, int axis);
void prC_rule_stack(pr_coupling *c, int n, const int *operand, int y, int axis);
void prC_rule_unbind(pr_coupling *c, int x, int n, const int *outputs, int axis);
void prC_rule_split(pr_coupling *c, int x, int n, const int *outputs,
                    int axis); /* chunk, split: consecutive parts */

/* y[i] = x[start + i * step] along `axis` (step < 0: from start down). After removal: start = live before
 * start, length = live count of y; positions that are no longer evenly spaced need a gather. */
void prC_rule_slice(pr_coupling *c, int x, int y, int axis, int64_t start, int64_t step);
/* y lacks `axis`: only position `index` is pinned. After removal index = live before it. */
void prC_rule_select(pr_coupling *c, int x, int y, int axis, int64_t index);
/* y[i] = x[index[i]] with constant indices; after removal they are ranks among live. index_value: the
 * constant that holds them (removal slices it and gives its values their new places), or PRC_NONE. */
void prC_rule_gather(pr_coupling *c, int x, int y, int axis, const int64_t *index, int index_value);
/* One index per entry: y[i, j] = x[i, index[i, j]] along axis 1, which is pinned; the other axes of x and
 * index go together as far as they are equally long, else index and y are pinned there. */
void prC_rule_gather_entries(pr_coupling *c, int x, int index, int y, int axis);
/* x with y[i, index[i, j]] += source[i, j] along axis 1, which is pinned; the other axes go together
 * likewise.
 */
void prC_rule_scatter_add(pr_coupling *c, int x, int index, int source, int y, int axis);
/* Indices are data: the axis is pinned; y has the index's axes in its place. */
void prC_rule_take(pr_coupling *c, int x, int index, int y, int axis);

/* before[a] and after[a] positions of `value` around axis a (negative: cut off). constant false: reflect,
 * replicate, circular - such axes are pinned. After removal: counts = live among the padded positions of y.
 */
void prC_rule_pad(pr_coupling *c, int x, int y, const int64_t *before, const int64_t *after, bool constant,
                  double value);
void prC_rule_roll(pr_coupling *c, int x, int y, int axis,
                   int64_t shift); /* shift = live among the last `shift` of x */
void prC_rule_flip(pr_coupling *c, int x, int y, unsigned axes);

/* Pooling and interpolation over the last `spatial` axes: they are pinned, the others pass. */
void prC_rule_spatial(pr_coupling *c, int x, int y, int spatial, prC_keep keep);
void prC_rule_pixel_shuffle(pr_coupling *c, int x, int y,
                            int64_t r); /* [.., C r r, H, W] -> [.., C, H r, W r] */
void prC_rule_pixel_unshuffle(pr_coupling *c, int x, int y, int64_t r); /* the reverse */
/* y's channel j * groups + i is x's channel i * C / groups + j (axis 1): a permutation, nothing is tied.
 * After removal it is a list of indices. */
void prC_rule_channel_shuffle(pr_coupling *c, int x, int y, int64_t groups);
void prC_rule_unfold(pr_coupling *c, int x, int y,
                     int64_t kernel); /* [N, C, ...] -> [N, C kernel, L]; kernel: its product */
void prC_rule_fold(pr_coupling *c, int x, int y, int64_t kernel); /* [N, C kernel, L] -> [N, C, ...] */

#endif
