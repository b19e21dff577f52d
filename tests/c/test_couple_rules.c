/* Units of the networks that are hard to couple: heads, grouped queries, rotary halves, groups, shuffles,
 * flattens, products. The counts are what exactness allows; a smaller one would be over-coupling, which no
 * test of exactness sees. */
#include "couple_net.h"

/* conv -> batch norm -> conv with a shortcut */
static void convolutions_share_channels_with_norms_and_consumers(void **state) {
  (void)state;
  net n;
  open_net(&n);
  int x = tensor(&n, INPUT, SHAPE(2, 3, 8, 8));
  int w1 = tensor(&n, PARAMETER, SHAPE(6, 3, 3, 3)), b1 = tensor(&n, PARAMETER, SHAPE(6));
  int g = tensor(&n, PARAMETER, SHAPE(6)), mean = tensor(&n, CONSTANT, SHAPE(6));
  int w2 = tensor(&n, PARAMETER, SHAPE(6, 6, 3, 3)), w3 = tensor(&n, PARAMETER, SHAPE(4, 6, 1, 1));
  int y = conv(&n, x, w1, b1);
  prC_channel_norm norm = { 1, PRC_NONE, 2, PRC_NONE };
  prC_rule_batch_norm(node(&n, y, g, mean, SHAPE(2, 6, 8, 8)), 0, &norm, PRC_OUT(0), false);
  int z = last(&n);
  assert_true(n.value[z].dead[1] == 0);
  z = conv(&n, add(&n, z, conv(&n, z, w2, ABSENT)), w3, ABSENT);
  assert_int_equal(finish(&n, z), 6);
  for (int u = 0; u < 6; u++) {
    assert_int_equal(members(&n, u, w1, 0), 1);
    assert_int_equal(members(&n, u, b1, 0), 1);
    assert_int_equal(members(&n, u, g, 0), 1);
    assert_int_equal(members(&n, u, mean, 0), 1);
    assert_int_equal(members(&n, u, w2, 0), 1);
    assert_int_equal(members(&n, u, w2, 1), 1);
    assert_int_equal(members(&n, u, w3, 1), 1);
    assert_int_equal(members(&n, u, w3, 0), 0);
    assert_int_equal(n.units.start[u + 1] - n.units.start[u], 7);
  }
  assert_int_equal(n.units.scopes, 1);
  assert_int_equal(n.algebra.notes, 0);
  close_net(&n);
}

/* --- 4.1, 4.2, 4.3: attention ------------------------------------------------------------------------------------------- */

static int project_out(net *n, int y, int wo, int64_t tokens, int64_t width) {
  y = permute(n, y, (int[]){ 0, 2, 1, 3 });
  return linear(n, reshape(n, y, SHAPE(2, tokens, width)), wo, ABSENT);
}

static void packed_qkv_frees_heads_and_dims(void **state) {
  (void)state;
  net n;
  open_net(&n);
  int x = tensor(&n, INPUT, SHAPE(2, 5, 8)), w = tensor(&n, PARAMETER, SHAPE(48, 8)),
      b = tensor(&n, PARAMETER, SHAPE(48)), wo = tensor(&n, PARAMETER, SHAPE(8, 16));
  int p = permute(&n, reshape(&n, linear(&n, x, w, b), SHAPE(2, 5, 3, 4, 4)), (int[]){ 2, 0, 3, 1, 4 });
  int q = select_at(&n, p, 0, 0), k = select_at(&n, p, 0, 1), v = select_at(&n, p, 0, 2);
  assert_int_equal(finish(&n, project_out(&n, attention(&n, q, k, v), wo, 5, 16)), 4 + 4);
  assert_int_equal(units_with(&n, w, 0, 12), 8);
  assert_int_equal(units_with(&n, b, 0, 12), 8);
  assert_int_equal(units_with(&n, wo, 1, 4), 8);
  assert_int_equal(n.units.scopes, 2);
  /* heads and dims are twins of equal size: dims are what is offered by default */
  int head = unit_at(&n, w, 0, 0, 0), dim = unit_at(&n, w, 0, 0, 1);
  assert_false(n.units.primary[n.units.scope[head]]);
  assert_true(n.units.primary[n.units.scope[dim]]);
  close_net(&n);
}

/* After removal of a head and of a dim a rectangle is left, and positions count once. */
static void product_axes_lose_rectangles(void **state) {
  (void)state;
  net n;
  open_net(&n);
  int x = tensor(&n, INPUT, SHAPE(2, 5, 8)), w = tensor(&n, PARAMETER, SHAPE(6, 8)),
      wo = tensor(&n, PARAMETER, SHAPE(8, 6));
  int p = permute(&n, reshape(&n, linear(&n, x, w, ABSENT), SHAPE(2, 5, 2, 3)), (int[]){ 0, 2, 1, 3 });
  finish(&n, project_out(&n, attention(&n, p, p, p), wo, 5, 6));
  int head = unit_at(&n, w, 0, 3, 0), dim = unit_at(&n, w, 0, 2, 1);
  unsigned char dead_unit[8] = { 0 }, dead[256];
  int64_t kept[6];
  dead_unit[head] = 1;
  prC_units_dead(&n.units, dead_unit, dead);
  assert_int_equal(prC_kept(&n.algebra, n.value[w].label[0], 6, dead, kept), 3);
  assert_int_equal(kept[2], 2);
  dead_unit[dim] = 1;
  prC_units_dead(&n.units, dead_unit, dead);
  assert_int_equal(prC_kept(&n.algebra, n.value[w].label[0], 6, dead, kept), 2);
  assert_int_equal(kept[1], 1);
  assert_int_equal(prC_live(&n.algebra, n.value[p].label[1], 2, dead), 1);
  assert_int_equal(prC_live(&n.algebra, n.value[p].label[3], 3, dead), 2);
  close_net(&n);
}

static void chunked_qkv_separates_key_and_value_dims(void **state) {
  (void)state;
  net n;
  open_net(&n);
  int x = tensor(&n, INPUT, SHAPE(2, 5, 8)), w = tensor(&n, PARAMETER, SHAPE(48, 8)),
      wo = tensor(&n, PARAMETER, SHAPE(8, 16));
  int p = linear(&n, x, w, ABSENT), part[3];
  for (int i = 0; i < 3; i++)
    part[i] =
        permute(&n, reshape(&n, slice(&n, p, 2, 16 * i, 1, 16), SHAPE(2, 5, 4, 4)), (int[]){ 0, 2, 1, 3 });
  int y = project_out(&n, attention(&n, part[0], part[1], part[2]), wo, 5, 16);
  assert_int_equal(finish(&n, y), 4 + 4 + 4);
  assert_int_equal(units_with(&n, w, 0, 12), 4); /* heads */
  assert_int_equal(units_with(&n, w, 0, 8), 4);  /* dims of queries and keys */
  assert_int_equal(units_with(&n, w, 0, 4), 4);  /* dims of values */
  assert_int_equal(n.units.scopes, 3);
  close_net(&n);
}

static int repeat_heads(net *n, int k, int form) { /* [2, 2, 5, 4] -> [2, 6, 5, 4] */
  if (form == 0) return k;                         /* the attention operator's own grouping */
  if (form == 1) {
    prC_rule_repeat_each(node(n, k, ABSENT, ABSENT, SHAPE(2, 6, 5, 4)), 0, PRC_OUT(0), 1);
    return last(n);
  }
  k = reshape(n, k, SHAPE(2, 2, 1, 5, 4));
  prC_rule_expand(node(n, k, ABSENT, ABSENT, SHAPE(2, 2, 3, 5, 4)), 0, PRC_OUT(0));
  return reshape(n, last(n), SHAPE(2, 6, 5, 4));
}

static void grouped_queries_free_kv_heads_copies_and_dims(void **state) {
  (void)state;
  for (int form = 0; form < 3; form++) {
    net n;
    open_net(&n);
    int x = tensor(&n, INPUT, SHAPE(2, 5, 8)), wq = tensor(&n, PARAMETER, SHAPE(24, 8)),
        wk = tensor(&n, PARAMETER, SHAPE(8, 8)), wv = tensor(&n, PARAMETER, SHAPE(8, 8)),
        wo = tensor(&n, PARAMETER, SHAPE(8, 24));
    const int order[] = { 0, 2, 1, 3 };
    int q = permute(&n, reshape(&n, linear(&n, x, wq, ABSENT), SHAPE(2, 5, 6, 4)), order);
    int k = permute(&n, reshape(&n, linear(&n, x, wk, ABSENT), SHAPE(2, 5, 2, 4)), order);
    int v = permute(&n, reshape(&n, linear(&n, x, wv, ABSENT), SHAPE(2, 5, 2, 4)), order);
    k = repeat_heads(&n, k, form), v = repeat_heads(&n, v, form);
    assert_int_equal(finish(&n, project_out(&n, attention(&n, q, k, v), wo, 5, 24)), 2 + 3 + 4 + 4);
    int kv_head = unit_at(&n, wk, 0, 0, 0);
    assert_int_equal(members(&n, kv_head, wk, 0), 4);
    assert_int_equal(members(&n, kv_head, wv, 0), 4);
    assert_int_equal(members(&n, kv_head, wq, 0), 12);
    assert_int_equal(members(&n, kv_head, wo, 1), 12);
    assert_int_equal(units_with(&n, wq, 0, 8), 3); /* one copy of every kv head */
    assert_int_equal(units_with(&n, wk, 0, 2), 4); /* dims of queries and keys */
    assert_int_equal(units_with(&n, wv, 0, 2), 4); /* dims of values */
    close_net(&n);
  }
}

static int rotary_half(net *n, int x, int cosine, int sine) {
  int half = 4;
  int turned = cat(n, slice(n, x, 3, half, 1, half), slice(n, x, 3, 0, 1, half), 3);
  return add(n, mul(n, x, cosine), mul(n, turned, sine));
}

static int rotary_interleaved(net *n, int x, int cosine, int sine) {
  int even = slice(n, x, 3, 0, 2, 4), odd = slice(n, x, 3, 1, 2, 4);
  int a = add(n, mul(n, even, cosine), mul(n, odd, sine)),
      b = add(n, mul(n, odd, cosine), mul(n, even, sine));
  prC_rule_stack(node(n, a, b, ABSENT, SHAPE(2, 2, 5, 4, 2)), 2, (int[]){ 0, 1 }, PRC_OUT(0), 4);
  return reshape(n, last(n), SHAPE(2, 2, 5, 8));
}

static void rotary_ties_pairs_and_slices_its_tables(void **state) {
  (void)state;
  for (int interleaved = 0; interleaved < 2; interleaved++) {
    net n;
    open_net(&n);
    int x = tensor(&n, INPUT, SHAPE(2, 5, 8)), w[3], part[3], wo = tensor(&n, PARAMETER, SHAPE(8, 16));
    int cosine = tensor(&n, CONSTANT, SHAPE(5, interleaved ? 4 : 8)),
        sine = tensor(&n, CONSTANT, SHAPE(5, interleaved ? 4 : 8));
    for (int i = 0; i < 3; i++) {
      w[i] = tensor(&n, PARAMETER, SHAPE(16, 8));
      part[i] =
          permute(&n, reshape(&n, linear(&n, x, w[i], ABSENT), SHAPE(2, 5, 2, 8)), (int[]){ 0, 2, 1, 3 });
      if (i == 2) continue;
      part[i] = (interleaved ? rotary_interleaved : rotary_half)(&n, part[i], cosine, sine);
    }
    int y = project_out(&n, attention(&n, part[0], part[1], part[2]), wo, 5, 16);
    assert_int_equal(finish(&n, y), 2 + 4 + 8);
    assert_int_equal(units_with(&n, w[0], 0, 4), 4); /* a pair in each of two heads */
    assert_int_equal(units_with(&n, cosine, 1, interleaved ? 1 : 2), 4);
    assert_int_equal(units_with(&n, w[2], 0, 2), 8);
    close_net(&n);
  }
}

static void packed_heads_operator_agrees_with_the_views(void **state) {
  (void)state;
  net n;
  open_net(&n);
  int x = tensor(&n, INPUT, SHAPE(2, 5, 8)), w[3], part[3], wo = tensor(&n, PARAMETER, SHAPE(8, 24));
  for (int i = 0; i < 3; i++) {
    w[i] = tensor(&n, PARAMETER, SHAPE(i ? 8 : 24, 8));
    part[i] = linear(&n, x, w[i], ABSENT);
  }
  pr_coupling *c = node(&n, part[0], part[1], part[2], SHAPE(2, 5, 24));
  prC_rule_attention_packed(c, 0, 1, 2, PRC_NONE, PRC_OUT(0), 6, 2, false);
  prC_slots *slots = c->slots;
  int y = last(&n);
  assert_int_equal(finish(&n, linear(&n, y, wo, ABSENT)), 2 + 3 + 4 + 4);
  unsigned char dead_unit[16] = { 0 }, dead[512];
  dead_unit[unit_at(&n, w[1], 0, 0, 0)] = 1;
  prC_units_dead(&n.units, dead_unit, dead);
  pr_coupling after = { .algebra = &n.algebra, .slots = slots, .dead = dead };
  assert_int_equal(prC_live_slot(&after, 0), 3); /* query heads */
  assert_int_equal(prC_live_slot(&after, 1), 1);
  assert_int_equal(prC_live_slot(&after, 7), -1);
  close_net(&n);
}

/* --- 4.4, 4.5, 4.6: groups ---------------------------------------------------------------------------------------------- */

static void channel_shuffle_ties_as_views_but_not_as_permutation(void **state) {
  (void)state;
  for (int permutation = 0; permutation < 2; permutation++) {
    net n;
    open_net(&n);
    int x = tensor(&n, INPUT, SHAPE(2, 3, 8, 8)), w1 = tensor(&n, PARAMETER, SHAPE(8, 3, 1, 1)),
        w2 = tensor(&n, PARAMETER, SHAPE(4, 8, 1, 1));
    int y = conv(&n, x, w1, ABSENT);
    if (permutation) {
      prC_rule_channel_shuffle(node(&n, y, ABSENT, ABSENT, SHAPE(2, 8, 8, 8)), 0, PRC_OUT(0), 2);
      y = last(&n);
    } else {
      y = permute(&n, reshape(&n, y, SHAPE(2, 2, 4, 8, 8)), (int[]){ 0, 2, 1, 3, 4 });
      y = reshape(&n, y, SHAPE(2, 8, 8, 8));
    }
    assert_int_equal(finish(&n, conv(&n, y, w2, ABSENT)), permutation ? 8 : 2 + 4);
    if (permutation) { /* output channel 1 is input channel 4 */
      assert_int_equal(unit_at(&n, w2, 1, 1, 0), unit_at(&n, w1, 0, 4, 0));
    }
    close_net(&n);
  }
}

static void grouped_convolution_frees_groups_and_positions(void **state) {
  (void)state;
  net n;
  open_net(&n);
  int x = tensor(&n, INPUT, SHAPE(2, 3, 8, 8)), w0 = tensor(&n, PARAMETER, SHAPE(12, 3, 3, 3)),
      w = tensor(&n, PARAMETER, SHAPE(18, 4, 3, 3)), b = tensor(&n, PARAMETER, SHAPE(18)),
      w2 = tensor(&n, PARAMETER, SHAPE(5, 18, 1, 1));
  int y = conv_grouped(&n, conv(&n, x, w0, ABSENT), w, b, 3);
  prC_slots *slots = n.c.slots;
  assert_int_equal(finish(&n, conv(&n, y, w2, ABSENT)), 3 + 4 + 6);
  assert_int_equal(units_with(&n, w, 1, 1), 4);  /* in-positions */
  assert_int_equal(units_with(&n, w0, 0, 4), 3); /* groups */
  assert_int_equal(units_with(&n, w, 0, 6), 3);
  assert_int_equal(units_with(&n, w, 0, 3), 6); /* out-positions, once per group */
  assert_int_equal(units_with(&n, b, 0, 3), 6);
  assert_int_equal(units_with(&n, w2, 1, 6), 3);
  unsigned char dead_unit[16] = { 0 }, dead[256];
  dead_unit[unit_at(&n, w0, 0, 11, 0)] = 1;
  prC_units_dead(&n.units, dead_unit, dead);
  pr_coupling after = { .algebra = &n.algebra, .slots = slots, .dead = dead };
  assert_int_equal(prC_live_slot(&after, 0), 2);
  close_net(&n);
}

static void two_groupings_of_an_axis_nest_or_fall_back(void **state) {
  (void)state;
  const struct {
    int64_t first, second;
    int units;
  } rows[] = { { 2, 4, 2 + 2 + 3 + 3 + 6 }, { 2, 3, -1 } };
  for (int r = 0; r < 2; r++) {
    net n;
    open_net(&n);
    int x = tensor(&n, INPUT, SHAPE(2, 3, 8, 8)), w0 = tensor(&n, PARAMETER, SHAPE(12, 3, 3, 3));
    int64_t g = rows[r].first, h = rows[r].second;
    int w1 = tensor(&n, PARAMETER, SHAPE(6, 12 / g, 3, 3)),
        w2 = tensor(&n, PARAMETER, SHAPE(6 * h, 12 / h, 3, 3));
    int w3 = tensor(&n, PARAMETER, SHAPE(2, 6, 1, 1)), w4 = tensor(&n, PARAMETER, SHAPE(2, 6 * h, 1, 1));
    int y = conv(&n, x, w0, ABSENT);
    int a = conv(&n, conv_grouped(&n, y, w1, ABSENT, g), w3, ABSENT);
    int b = conv(&n, conv_grouped(&n, y, w2, ABSENT, h), w4, ABSENT);
    int units = finish(&n, add(&n, a, b));
    if (rows[r].units > 0)
      assert_int_equal(units, rows[r].units);
    else
      assert_true(units > 0 && units < 3 + 4 + 3 + 6);
    close_net(&n);
  }
}

static void depthwise_rows_follow_their_channel(void **state) {
  (void)state;
  for (int multiplier = 1; multiplier <= 3; multiplier += 2) {
    net n;
    open_net(&n);
    int x = tensor(&n, INPUT, SHAPE(2, 3, 8, 8)), w0 = tensor(&n, PARAMETER, SHAPE(6, 3, 3, 3)),
        w = tensor(&n, PARAMETER, SHAPE(6 * multiplier, 1, 3, 3)),
        w2 = tensor(&n, PARAMETER, SHAPE(5, 6 * multiplier, 1, 1));
    int y = conv_grouped(&n, conv(&n, x, w0, ABSENT), w, ABSENT, 6);
    assert_int_equal(finish(&n, conv(&n, y, w2, ABSENT)), multiplier == 1 ? 6 : 6 + 3);
    int channel = unit_at(&n, w0, 0, 2, 0);
    assert_int_equal(unit_at(&n, w, 0, 2 * multiplier, 0), channel); /* rows of a channel are adjacent */
    assert_int_equal(unit_at(&n, w, 0, 2 * multiplier + multiplier - 1, 0), channel);
    assert_int_equal(members(&n, channel, w2, 1), multiplier);
    close_net(&n);
  }
}

static void transposed_convolution_swaps_the_axes(void **state) {
  (void)state;
  for (int groups = 1; groups <= 2; groups++) {
    net n;
    open_net(&n);
    int x = tensor(&n, INPUT, SHAPE(2, 3, 8, 8)), w0 = tensor(&n, PARAMETER, SHAPE(6, 3, 3, 3)),
        w = tensor(&n, PARAMETER, SHAPE(6, 4, 2, 2)), b = tensor(&n, PARAMETER, SHAPE(4 * groups)),
        w2 = tensor(&n, PARAMETER, SHAPE(5, 4 * groups, 1, 1));
    int y = conv(&n, x, w0, ABSENT);
    prC_rule_conv(node(&n, y, w, b, SHAPE(2, 4 * groups, 16, 16)), 0, 1, 2, PRC_OUT(0), 2, groups, true);
    y = last(&n);
    assert_int_equal(finish(&n, conv(&n, y, w2, ABSENT)), groups == 1 ? 6 + 4 : 2 + 3 + 4);
    if (groups == 2) {
      int group = unit_at(&n, w, 0, 5, 0), o = unit_at(&n, w, 1, 1, 0);
      assert_int_equal(members(&n, group, w, 0), 3);
      assert_int_equal(members(&n, group, b, 0), 4);
      assert_int_equal(members(&n, o, b, 0), 2);
      assert_int_equal(members(&n, o, w, 1), 1);
    }
    close_net(&n);
  }
}

static void group_norm_with_bounds_ties_nothing(void **state) {
  (void)state;
  net n;
  open_net(&n);
  int x = tensor(&n, INPUT, SHAPE(2, 3, 8, 8)), wa = tensor(&n, PARAMETER, SHAPE(8, 3, 3, 3)),
      wb = tensor(&n, PARAMETER, SHAPE(4, 3, 3, 3)), g1 = tensor(&n, PARAMETER, SHAPE(8)),
      g2 = tensor(&n, PARAMETER, SHAPE(12)), w2 = tensor(&n, PARAMETER, SHAPE(5, 12, 1, 1));
  int a = conv(&n, x, wa, ABSENT), b = conv(&n, x, wb, ABSENT);
  prC_rule_group_norm(node(&n, a, g1, ABSENT, SHAPE(2, 8, 8, 8)), 0, 1, 2, PRC_OUT(0));
  int y = cat(&n, last(&n), b, 1);
  prC_rule_group_norm(node(&n, y, g2, ABSENT, SHAPE(2, 12, 8, 8)), 0, 1, 2, PRC_OUT(0));
  y = last(&n);
  assert_int_equal(finish(&n, conv(&n, y, w2, ABSENT)), 12);
  unsigned char dead_unit[16] = { 0 }, dead[256];
  dead_unit[unit_at(&n, wa, 0, 4, 0)] = dead_unit[unit_at(&n, wb, 0, 0, 0)] = 1;
  prC_units_dead(&n.units, dead_unit, dead);
  const int64_t bounds[] = { 0, 3, 6, 9, 12 }, live[] = { 3, 2, 2, 3 };
  for (int g = 0; g < 4; g++)
    assert_int_equal(prC_live_in(&n.algebra, n.value[y].label[1], bounds[g], bounds[g + 1], dead), live[g]);
  close_net(&n);
}

/* --- 4.7, 4.8, 4.9: flatten, products, refinement ----------------------------------------------------------------------- */

static void flatten_repeats_each_channel(void **state) {
  (void)state;
  net n;
  open_net(&n);
  int x = tensor(&n, INPUT, SHAPE(2, 3, 7, 7)), w = tensor(&n, PARAMETER, SHAPE(6, 3, 3, 3)),
      fc = tensor(&n, PARAMETER, SHAPE(96, 294)), back = tensor(&n, PARAMETER, SHAPE(3, 6, 3, 3));
  int y = linear(&n, reshape(&n, conv(&n, x, w, ABSENT), SHAPE(2, 294)), fc, ABSENT);
  y = conv(&n, reshape(&n, y, SHAPE(2, 6, 4, 4)), back, ABSENT);
  assert_int_equal(finish(&n, y), 6 + 6);
  int channel = unit_at(&n, w, 0, 2, 0);
  assert_int_equal(members(&n, channel, fc, 1), 49);
  assert_int_equal(unit_at(&n, fc, 1, 2 * 49 + 48, 0), channel);
  assert_int_equal(unit_at(&n, back, 1, 5, 0), unit_at(&n, fc, 0, 80, 0));
  assert_int_equal(units_with(&n, fc, 0, 16), 6); /* rows of each channel of the view */
  close_net(&n);
}

static void a_view_across_channels_pins_and_says_so(void **state) {
  (void)state;
  net n;
  open_net(&n);
  int x = tensor(&n, INPUT, SHAPE(2, 3, 4, 4)), w = tensor(&n, PARAMETER, SHAPE(6, 3, 3, 3)),
      fc = tensor(&n, PARAMETER, SHAPE(5, 24));
  int y = reshape(&n, conv(&n, x, w, ABSENT), SHAPE(2, 4, 24));
  assert_int_equal(finish(&n, linear(&n, y, fc, ABSENT)), 0);
  assert_true(n.algebra.notes == 1 && strstr(n.algebra.note[0].text, "cuts across"));
  assert_int_equal(n.algebra.note[0].node, 1);
  close_net(&n);
}

static void outer_products_keep_their_factors(void **state) {
  (void)state;
  net n;
  open_net(&n);
  int x = tensor(&n, INPUT, SHAPE(2, 9)), wa = tensor(&n, PARAMETER, SHAPE(3, 9)),
      wb = tensor(&n, PARAMETER, SHAPE(5, 9)), fc = tensor(&n, PARAMETER, SHAPE(4, 15));
  int a = linear(&n, x, wa, ABSENT), b = linear(&n, x, wb, ABSENT);
  prC_rule_einsum(node(&n, a, b, ABSENT, SHAPE(2, 3, 5)), 2, (int[]){ 0, 1 },
                  (const char *const[]){ "bi", "bj" }, PRC_OUT(0), "bij");
  int y = linear(&n, reshape(&n, last(&n), SHAPE(2, 15)), fc, ABSENT);
  assert_int_equal(finish(&n, y), 3 + 5);
  assert_int_equal(units_with(&n, fc, 1, 5), 3);
  assert_int_equal(units_with(&n, fc, 1, 3), 5);
  close_net(&n);
}

static void generated_kernels_keep_their_factors(void **state) {
  (void)state;
  net n;
  open_net(&n);
  int z = tensor(&n, INPUT, SHAPE(1, 7)), generator = tensor(&n, PARAMETER, SHAPE(5 * 4 * 9, 7));
  int x = tensor(&n, INPUT, SHAPE(2, 3, 8, 8)), w0 = tensor(&n, PARAMETER, SHAPE(4, 3, 3, 3)),
      w2 = tensor(&n, PARAMETER, SHAPE(2, 5, 1, 1));
  int kernel = reshape(&n, linear(&n, z, generator, ABSENT), SHAPE(5, 4, 3, 3));
  int y = conv(&n, conv(&n, conv(&n, x, w0, ABSENT), kernel, ABSENT), w2, ABSENT);
  assert_int_equal(finish(&n, y), 5 + 4);
  assert_int_equal(units_with(&n, generator, 0, 36), 5);
  assert_int_equal(units_with(&n, generator, 0, 45), 4);
  close_net(&n);
}

static void one_axis_in_three_views_is_refined(void **state) {
  (void)state;
  net n;
  open_net(&n);
  int x = tensor(&n, INPUT, SHAPE(2, 9)), w = tensor(&n, PARAMETER, SHAPE(24, 9)),
      fc = tensor(&n, PARAMETER, SHAPE(4, 24));
  int y = linear(&n, x, w, ABSENT);
  int a = reshape(&n, y, SHAPE(2, 2, 12)), b = reshape(&n, y, SHAPE(2, 6, 4));
  y = add(&n, reshape(&n, a, SHAPE(2, 24)), reshape(&n, b, SHAPE(2, 24)));
  assert_int_equal(finish(&n, linear(&n, y, fc, ABSENT)), 2 + 3 + 4);
  assert_int_equal(units_with(&n, w, 0, 12), 2);
  assert_int_equal(units_with(&n, w, 0, 8), 3);
  assert_int_equal(units_with(&n, w, 0, 6), 4);
  close_net(&n);
}

/* --- 4.10, 4.11 and the rest -------------------------------------------------------------------------------------------- */

static void padded_shortcut_frees_its_padding(void **state) {
  (void)state;
  net n;
  open_net(&n);
  int x = tensor(&n, INPUT, SHAPE(2, 3, 8, 8)), w0 = tensor(&n, PARAMETER, SHAPE(8, 3, 3, 3)),
      w1 = tensor(&n, PARAMETER, SHAPE(16, 8, 3, 3)), w2 = tensor(&n, PARAMETER, SHAPE(5, 16, 1, 1));
  int y = conv(&n, x, w0, ABSENT), main = conv(&n, y, w1, ABSENT);
  int64_t around[] = { 0, 4, 0, 0 };
  prC_rule_pad(node(&n, y, ABSENT, ABSENT, SHAPE(2, 16, 8, 8)), 0, PRC_OUT(0), around, around, true, 0);
  int pad = last(&n);
  assert_true(n.value[pad].dead[1] == 0);
  assert_int_equal(finish(&n, conv(&n, add(&n, main, pad), w2, ABSENT)), 16);
  assert_int_equal(units_with(&n, w0, 0, 1), 8);
  assert_int_equal(unit_at(&n, w1, 0, 4, 0), unit_at(&n, w0, 0, 0, 0));
  assert_int_equal(members(&n, unit_at(&n, w1, 0, 3, 0), w0, 0), 0);
  close_net(&n);
}

static void recurrent_gates_go_together(void **state) {
  (void)state;
  net n;
  open_net(&n);
  int x = tensor(&n, INPUT, SHAPE(7, 2, 9)), w_ih = tensor(&n, PARAMETER, SHAPE(20, 9)),
      w_hh = tensor(&n, PARAMETER, SHAPE(20, 5)), fc = tensor(&n, PARAMETER, SHAPE(4, 5));
  prC_recurrent cell = { .x = 0,
                         .w_ih = 1,
                         .w_hh = 2,
                         .b_ih = PRC_NONE,
                         .b_hh = PRC_NONE,
                         .w_hr = PRC_NONE,
                         .h0 = PRC_NONE,
                         .c0 = PRC_NONE,
                         .y = PRC_OUT(0),
                         .h_last = PRC_NONE,
                         .c_last = PRC_NONE,
                         .gates = 4 };
  prC_rule_recurrent(node(&n, x, w_ih, w_hh, SHAPE(7, 2, 5)), &cell);
  int y = last(&n);
  assert_int_equal(finish(&n, linear(&n, y, fc, ABSENT)), 5);
  for (int u = 0; u < 5; u++) {
    assert_int_equal(members(&n, u, w_ih, 0), 4);
    assert_int_equal(members(&n, u, w_hh, 0), 4);
    assert_int_equal(members(&n, u, w_hh, 1), 1);
    assert_int_equal(members(&n, u, fc, 1), 1);
  }
  assert_int_equal(unit_at(&n, w_ih, 0, 5 + 3, 0), unit_at(&n, w_hh, 1, 3, 0));
  close_net(&n);
}

static void a_tensor_beside_itself_gives_each_unit_twice(void **state) {
  (void)state;
  net n;
  open_net(&n);
  int x = tensor(&n, INPUT, SHAPE(2, 3, 8, 8)), w = tensor(&n, PARAMETER, SHAPE(6, 3, 3, 3)),
      w2 = tensor(&n, PARAMETER, SHAPE(5, 12, 1, 1));
  int y = conv(&n, x, w, ABSENT);
  assert_int_equal(finish(&n, conv(&n, cat(&n, y, y, 1), w2, ABSENT)), 6);
  assert_int_equal(units_with(&n, w2, 1, 2), 6);
  close_net(&n);
}

static void gates_tie_their_halves(void **state) {
  (void)state;
  net n;
  open_net(&n);
  int x = tensor(&n, INPUT, SHAPE(2, 9)), w = tensor(&n, PARAMETER, SHAPE(20, 9)),
      fc = tensor(&n, PARAMETER, SHAPE(4, 10));
  int y = linear(&n, x, w, ABSENT);
  prC_rule_glu(node(&n, y, ABSENT, ABSENT, SHAPE(2, 10)), 0, PRC_OUT(0), 1);
  y = last(&n);
  assert_int_equal(finish(&n, linear(&n, y, fc, ABSENT)), 10);
  assert_int_equal(unit_at(&n, w, 0, 3, 0), unit_at(&n, w, 0, 13, 0));
  close_net(&n);
}

static void pixel_shuffle_ties_runs(void **state) {
  (void)state;
  net n;
  open_net(&n);
  int x = tensor(&n, INPUT, SHAPE(2, 3, 4, 4)), w = tensor(&n, PARAMETER, SHAPE(12, 3, 3, 3)),
      w2 = tensor(&n, PARAMETER, SHAPE(2, 3, 1, 1));
  int y = conv(&n, x, w, ABSENT);
  prC_rule_pixel_shuffle(node(&n, y, ABSENT, ABSENT, SHAPE(2, 3, 8, 8)), 0, PRC_OUT(0), 2);
  y = last(&n);
  assert_int_equal(finish(&n, conv(&n, y, w2, ABSENT)), 3);
  assert_int_equal(unit_at(&n, w, 0, 7, 0), unit_at(&n, w2, 1, 1, 0));
  close_net(&n);
}

static void embedding_and_tied_output_share_the_width(void **state) {
  (void)state;
  net n;
  open_net(&n);
  int tokens = tensor(&n, INPUT, SHAPE(2, 7)), w = tensor(&n, PARAMETER, SHAPE(50, 6)),
      scale = tensor(&n, PARAMETER, SHAPE(6));
  prC_rule_embedding(node(&n, tokens, w, ABSENT, SHAPE(2, 7, 6)), 0, 1, PRC_OUT(0));
  prC_rule_layer_norm(node(&n, last(&n), scale, ABSENT, SHAPE(2, 7, 6)), 0, 1, 2, PRC_OUT(0), 1, true);
  assert_int_equal(finish(&n, linear(&n, last(&n), w, ABSENT)), 6);
  assert_int_equal(members(&n, 0, w, 1), 1);
  assert_int_equal(members(&n, 0, w, 0), 0);
  close_net(&n);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(convolutions_share_channels_with_norms_and_consumers),
    cmocka_unit_test(packed_qkv_frees_heads_and_dims),
    cmocka_unit_test(product_axes_lose_rectangles),
    cmocka_unit_test(chunked_qkv_separates_key_and_value_dims),
    cmocka_unit_test(grouped_queries_free_kv_heads_copies_and_dims),
    cmocka_unit_test(rotary_ties_pairs_and_slices_its_tables),
    cmocka_unit_test(packed_heads_operator_agrees_with_the_views),
    cmocka_unit_test(channel_shuffle_ties_as_views_but_not_as_permutation),
    cmocka_unit_test(grouped_convolution_frees_groups_and_positions),
    cmocka_unit_test(two_groupings_of_an_axis_nest_or_fall_back),
    cmocka_unit_test(depthwise_rows_follow_their_channel),
    cmocka_unit_test(transposed_convolution_swaps_the_axes),
    cmocka_unit_test(group_norm_with_bounds_ties_nothing),
    cmocka_unit_test(flatten_repeats_each_channel),
    cmocka_unit_test(a_view_across_channels_pins_and_says_so),
    cmocka_unit_test(outer_products_keep_their_factors),
    cmocka_unit_test(generated_kernels_keep_their_factors),
    cmocka_unit_test(one_axis_in_three_views_is_refined),
    cmocka_unit_test(padded_shortcut_frees_its_padding),
    cmocka_unit_test(recurrent_gates_go_together),
    cmocka_unit_test(a_tensor_beside_itself_gives_each_unit_twice),
    cmocka_unit_test(gates_tie_their_halves),
    cmocka_unit_test(pixel_shuffle_ties_runs),
    cmocka_unit_test(embedding_and_tied_output_share_the_width),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
