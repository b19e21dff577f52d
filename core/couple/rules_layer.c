/* rules_layer.c - layers with parameters: convolution, linear, embedding, norms, recurrent cells, attention.
 */
#include "couple/rules.h"

/* Does something add to y whatever was removed elsewhere? A bias that is not 0 turns a dead row of another
 * axis into the bias. */
static prC_keep past_bias(const pr_coupling *c, int bias) {
  return prC_has(c, bias) ? PRC_DEAD_UNKNOWN : PRC_DEAD_ZERO;
}

/* x's axis and w's axis are contracted with each other: tied, and one of them is 0 where dead. */
static void contract(pr_coupling *c, int x, int axis, int w, int other) {
  prC_adopt(c, w, other, prC_label(c, x, axis));
  prC_consumer(c, w, other);
  if (prC_dead(c, w, other) != 0) prC_need_zero(c, x, axis, "contracts");
}

/* The value of a dead row of w in y: its product is 0, and so must the bias be. */
static double dead_row(const pr_coupling *c, int w, int axis, int bias) {
  bool zero = prC_dead(c, w, axis) == 0 && (!prC_has(c, bias) || prC_dead(c, bias, 0) == 0);
  return zero ? 0 : NAN;
}

/* --- convolution ------------------------------------------------------------------------------------- */

/* Label of y's channels when x's are in groups: w's row o of group a lives where the group lives and o lives.
 * The rows of an ordinary convolution are axis 0 of w, which already holds all groups; a transposed one has
 * one group's on axis 1. */
static pr_label *grouped_rows(pr_coupling *c, int w, pr_label *group, int64_t groups, bool transposed) {
  if (transposed) return prC_merge(c->algebra, group, groups, prC_label(c, w, 1), prC_size(c, w, 1));
  int64_t rows = prC_size(c, w, 0), each = rows / groups;
  if (prC_unmet(c, w, 0)) {
    pr_label *o = each > 1 ? prC_fresh(c->algebra, each) : NULL;
    prC_name(c->algebra, o, PRC_POSITION);
    prC_adopt(c, w, 0, prC_merge(c->algebra, group, groups, o, each));
  } else {
    pr_label *outer, *inner;
    prC_split(c->algebra, prC_label(c, w, 0), groups, each, &outer, &inner);
    prC_unite(c->algebra, outer, group);
  }
  return prC_label(c, w, 0);
}

static void conv_space(pr_coupling *c, int x, int w, int y, int spatial, prC_keep keep) {
  for (int a = -spatial; a < 0; a++) {
    /* A kernel of size 1 that keeps the size has stride 1 and no padding: positions do not meet. */
    bool point = prC_size(c, w, a) == 1 && prC_size(c, x, a) == prC_size(c, y, a);
    prC_pin(c, w, a, "kernel of a convolution");
    if (point)
      prC_pass_axis(c, y, a, x, a, keep);
    else
      prC_pin(c, x, a, "space of a convolution");
  }
}

void prC_rule_conv(pr_coupling *c, int x, int w, int bias, int y, int spatial, int64_t groups,
                   bool transposed) {
  int channel = prC_dim(c, x) - spatial - 1, rows = transposed ? 1 : 0;
  int64_t channels = prC_size(c, x, channel);
  bool depthwise = groups > 1 && groups == channels;
  pr_label *out;
  if (groups == 1) {
    contract(c, x, channel, w, 1 - rows);
    out = prC_label(c, w, rows);
  } else {
    pr_label *group, *position;
    prC_split(c->algebra, prC_label(c, x, channel), groups, channels / groups, &group, &position);
    prC_record(c, 0, group, groups);
    if (!depthwise) {
      prC_name(c->algebra, group, PRC_GROUP);
      prC_name(c->algebra, position, PRC_POSITION);
    }
    if (transposed)
      prC_adopt(c, w, 0, prC_label(c, x, channel));
    else
      prC_adopt(c, w, 1, position);
    if (!depthwise) prC_consumer(c, w, 1 - rows);
    if (prC_dead(c, w, 1 - rows) != 0) prC_need_zero(c, x, channel, "contracts");
    out = grouped_rows(c, w, group, groups, transposed);
  }
  if (!depthwise) prC_producer(c, w, rows);
  prC_keep keep = past_bias(c, bias);
  prC_adopt(c, bias, 0, out);
  prC_set(c, y, channel, out, dead_row(c, w, rows, bias));
  for (int a = 0; a < channel; a++) prC_pass_axis(c, y, a, x, a, keep);
  conv_space(c, x, w, y, spatial, keep);
}

void prC_rule_linear(pr_coupling *c, int x, int w, int bias, int y) {
  contract(c, x, -1, w, 1);
  pr_label *out = prC_label(c, w, 0);
  prC_producer(c, w, 0);
  prC_adopt(c, bias, 0, out);
  prC_keep keep = past_bias(c, bias);
  for (int a = 0; a < prC_dim(c, y) - 1; a++) prC_pass_axis(c, y, a, x, a, keep);
  prC_set(c, y, -1, out, dead_row(c, w, 0, bias));
}

void prC_rule_embedding(pr_coupling *c, int index, int w, int y) {
  prC_pin(c, w, 0, "vocabulary of an embedding");
  prC_producer(c, w, 1);
  for (int a = 0; a < prC_dim(c, y) - 1; a++) prC_pass_axis(c, y, a, index, a, PRC_DEAD_UNKNOWN);
  prC_set(c, y, -1, prC_label(c, w, 1), prC_dead(c, w, 1));
}

/* --- norms ------------------------------------------------------------------------------------------- */

void prC_rule_batch_norm(pr_coupling *c, int x, const prC_channel_norm *norm, int y, bool instance) {
  const int vectors[] = { norm->weight, norm->bias, norm->mean, norm->variance };
  for (int i = 0; i < 4; i++) prC_tie(c, vectors[i], 0, x, 1);
  for (int a = 2; instance && a < prC_dim(c, x); a++) prC_pin(c, x, a, "statistics over space");
  prC_pass(c, y, x, PRC_DEAD_UNKNOWN);
  /* (x - mean) / deviation * weight + bias: a weight of 0 settles it; else x - mean must be 0. */
  bool stored = prC_has(c, norm->mean);
  double dead = prC_kept_value(prC_dead(c, x, 1), stored ? PRC_DEAD_ZERO : PRC_DEAD_VANISH);
  prC_set_dead(c, y, 1, prC_has(c, norm->weight) ? dead_row(c, norm->weight, 0, norm->bias) : dead);
}

void prC_rule_layer_norm(pr_coupling *c, int x, int w, int bias, int y, int k, bool centred) {
  int rank = prC_dim(c, x);
  prC_keep other = prC_has(c, bias) ? PRC_DEAD_UNKNOWN : centred ? PRC_DEAD_VANISH : PRC_DEAD_ZERO;
  for (int a = 0; a < rank - k; a++) prC_pass_axis(c, y, a, x, a, other);
  for (int a = -k; a < 0; a++) {
    prC_tie(c, w, a + k, x, a);
    prC_tie(c, bias, a + k, x, a);
    prC_pass_axis(c, y, a, x, a, centred || prC_has(c, bias) ? PRC_DEAD_UNKNOWN : PRC_DEAD_ZERO);
    bool zero = prC_has(c, w) && prC_dead(c, w, a + k) == 0;
    if (zero && (!prC_has(c, bias) || prC_dead(c, bias, a + k) == 0)) prC_set_dead(c, y, a, 0);
  }
}

void prC_rule_group_norm(pr_coupling *c, int x, int w, int bias, int y) {
  prC_tie(c, w, 0, x, 1);
  prC_tie(c, bias, 0, x, 1);
  for (int a = 2; a < prC_dim(c, x); a++) prC_pin(c, x, a, "statistics over space");
  prC_pass(c, y, x, PRC_DEAD_UNKNOWN);
  if (prC_has(c, w)) prC_set_dead(c, y, 1, dead_row(c, w, 0, bias));
}

void prC_rule_prelu(pr_coupling *c, int x, int w, int y) {
  if (prC_size(c, w, 0) > 1) prC_tie(c, w, 0, x, prC_dim(c, x) > 1 ? 1 : 0);
  prC_pass(c, y, x, PRC_DEAD_ZERO);
}

void prC_rule_weight_norm(pr_coupling *c, int g, int v, int y, int axis) {
  if (axis < 0) axis += prC_dim(c, v);
  int g_axis = prC_dim(c, g) == 1 ? 0 : axis;
  prC_tie(c, g, g_axis, v, axis);
  for (int a = 0; a < prC_dim(c, v); a++) {
    if (a != axis) prC_need_zero(c, v, a, "sums the squares along");
    prC_pass_axis(c, y, a, v, a, PRC_DEAD_ZERO);
  }
}

/* --- recurrent cells --------------------------------------------------------------------------------- */

/* Rows g * H + j of all gates and the state's entry j. A dead unit has zero rows and biases and starts at 0,
 * so it stays 0: c = .5 c + .5 * 0 in an LSTM, h = .5 * 0 + .5 h in a GRU. */
void prC_rule_recurrent(pr_coupling *c, const prC_recurrent *r) {
  prC_algebra *algebra = c->algebra;
  int64_t hidden = prC_size(c, r->w_ih, 0) / r->gates;
  bool projected = prC_has(c, r->w_hr), known = !projected && !prC_unmet(c, r->w_hh, 1);
  pr_label *h = hidden == 1 ? NULL : known ? prC_label(c, r->w_hh, 1) : prC_fresh(algebra, hidden);
  pr_label *rows = prC_tile(algebra, h, hidden, r->gates);
  contract(c, r->x, -1, r->w_ih, 1);
  const int with_rows[] = { r->w_ih, r->w_hh, r->b_ih, r->b_hh };
  for (int i = 0; i < 4; i++) prC_adopt(c, with_rows[i], 0, rows);
  prC_producer(c, r->w_ih, 0);
  prC_producer(c, r->w_hh, 0);
  pr_label *out = h;
  if (projected) {
    prC_adopt(c, r->w_hr, 1, h);
    prC_consumer(c, r->w_hr, 1);
    prC_producer(c, r->w_hr, 0);
    out = prC_label(c, r->w_hr, 0);
  }
  prC_adopt(c, r->w_hh, 1, out);
  prC_consumer(c, r->w_hh, 1);
  prC_adopt(c, r->h0, -1, out);
  prC_adopt(c, r->c0, -1, h);
  const int with_batch[] = { r->x, r->h0, r->c0 };
  for (int i = 0; i < 3; i++)
    for (int a = 0; a < prC_dim(c, with_batch[i]) - 1; a++)
      prC_pin(c, with_batch[i], a, "batch and steps of a recurrent layer");
  bool zero_start = !prC_has(c, r->h0) || prC_dead(c, r->h0, -1) == 0;
  zero_start &= !prC_has(c, r->c0) || prC_dead(c, r->c0, -1) == 0;
  prC_set(c, r->y, -1, out, zero_start ? 0 : NAN);
  prC_set(c, r->h_last, -1, out, zero_start ? 0 : NAN);
  prC_set(c, r->c_last, -1, h, zero_start ? 0 : NAN);
}

/* --- attention --------------------------------------------------------------------------------------- */

/* Row masks: mask's axis is tied with the axis of the scores that it covers. */
static void tie_mask(pr_coupling *c, int mask, int axis, pr_label *label) {
  if (prC_has(c, mask) && prC_dim(c, mask) + axis >= 0) prC_adopt(c, mask, axis, label);
}

static void attention_lengths(pr_coupling *c, int q, int k, int v, int mask, int y, int axis, bool causal) {
  prC_pin(c, k, axis, "softmax over keys");
  prC_pin(c, v, axis, "softmax over keys");
  if (prC_has(c, mask)) prC_pin(c, mask, -1, "softmax over keys");
  if (causal) prC_pin(c, q, axis, "causal attention");
  tie_mask(c, mask, -2, prC_label(c, q, axis));
  prC_pass_axis(c, y, axis, q, axis, PRC_DEAD_UNKNOWN);
}

static void attention_scores(pr_coupling *c, pr_label *qd, double q_dead, pr_label *kd, double k_dead) {
  prC_unite(c->algebra, qd, kd);
  if (q_dead == 0 || k_dead == 0 || (!prC_unpinned(qd) && !prC_unpinned(kd))) return;
  prC_note(c, "head width of queries and keys, where removed entries would not be 0");
  prC_pin_label(c->algebra, qd);
  prC_pin_label(c->algebra, kd);
}

/* Query heads: i-th copy of a key head is the row i of its run. Records the copies. */
static void tie_heads(pr_coupling *c, pr_label *q_heads, int64_t n, pr_label *k_heads, int64_t kv, int slot) {
  int64_t copies = kv ? n / kv : 1;
  if (copies > 1) {
    pr_label *copy = prC_fresh(c->algebra, copies);
    prC_record(c, slot, copy, copies);
    prC_name(c->algebra, copy, PRC_COPY);
    prC_name(c->algebra, k_heads, PRC_KV_HEAD);
    k_heads = prC_merge(c->algebra, k_heads, kv, copy, copies);
  } else {
    prC_name(c->algebra, k_heads, PRC_HEAD);
  }
  prC_unite(c->algebra, q_heads, k_heads);
}

void prC_rule_attention(pr_coupling *c, int q, int k, int v, int mask, int y, bool causal) {
  int rank = prC_dim(c, q);
  attention_lengths(c, q, k, v, mask, y, -2, causal);
  attention_scores(c, prC_label(c, q, -1), prC_dead(c, q, -1), prC_label(c, k, -1), prC_dead(c, k, -1));
  /* The weights of a row add up to 1, so a known dead value of v stays what it is. */
  prC_pass_axis(c, y, -1, v, -1, PRC_DEAD_VALUE);
  prC_name(c->algebra, prC_label(c, k, -1), PRC_HEAD_DIM);
  prC_name(c->algebra, prC_label(c, v, -1), PRC_HEAD_DIM);
  for (int a = 0; a < rank - 2; a++) {
    int64_t n = prC_size(c, q, a), kv = prC_size(c, k, a);
    prC_tie(c, v, a, k, a);
    if (a == rank - 3 && n != kv && kv)
      tie_heads(c, prC_label(c, q, a), n, prC_label(c, k, a), kv, 0);
    else
      prC_tie(c, q, a, k, a);
    if (a == rank - 3 && n == kv) prC_name(c->algebra, prC_label(c, k, a), PRC_HEAD);
    int wide = n == 1 ? k : q;
    tie_mask(c, mask, a - rank, prC_label(c, wide, a));
    prC_set(c, y, a, prC_label(c, wide, a), prC_size(c, v, a) == 1 ? NAN : prC_dead(c, v, a));
  }
}

void prC_rule_attention_packed(pr_coupling *c, int q, int k, int v, int mask, int y, int64_t heads,
                               int64_t kv_heads, bool causal) {
  prC_algebra *algebra = c->algebra;
  int rank = prC_dim(c, q);
  pr_label *qh, *qd, *kh, *kd, *vh, *vd;
  int64_t width = prC_size(c, v, -1) / kv_heads;
  prC_split(algebra, prC_label(c, q, -1), heads, prC_size(c, q, -1) / heads, &qh, &qd);
  prC_split(algebra, prC_label(c, k, -1), kv_heads, prC_size(c, k, -1) / kv_heads, &kh, &kd);
  prC_split(algebra, prC_label(c, v, -1), kv_heads, width, &vh, &vd);
  prC_record(c, 0, qh, heads);
  prC_record(c, 1, kh, kv_heads);
  prC_name(algebra, kd, PRC_HEAD_DIM);
  prC_name(algebra, vd, PRC_HEAD_DIM);
  attention_lengths(c, q, k, v, mask, y, -2, causal);
  attention_scores(c, qd, prC_dead(c, q, -1), kd, prC_dead(c, k, -1));
  if (heads > 1) {
    prC_unite(algebra, kh, vh);
    tie_heads(c, qh, heads, kh, kv_heads, 2);
    if (prC_dim(c, mask) >= 3) tie_mask(c, mask, -3, qh);
  }
  for (int a = 0; a < rank - 2; a++) {
    prC_tie(c, k, a, q, a);
    prC_tie(c, v, a, q, a);
    if (prC_dim(c, mask) >= 4) tie_mask(c, mask, a - rank - 1, prC_label(c, q, a));
    prC_pass_axis(c, y, a, q, a, PRC_DEAD_UNKNOWN);
    prC_set_dead(c, y, a, prC_size(c, v, a) == 1 ? NAN : prC_dead(c, v, a));
  }
  prC_set(c, y, -1, prC_merge(algebra, qh, heads, vd, width), prC_dead(c, v, -1));
}
