/* Rules of operators that move, copy, mix or choose entries: position by position, which element of the input
 * an output position carries. */
#include "couple_net.h"

#include <math.h>

/* A tensor whose axes are all free. */
static int free_tensor(net *n, int dim, const int64_t *shape) {
  int x = tensor(n, INPUT, dim, shape);
  for (int a = 0; a < dim; a++) {
    n->value[x].label[a] = shape[a] == 1 ? NULL : prC_fresh(&n->algebra, shape[a]);
    n->value[x].dead[a] = 0;
  }
  return x;
}

static pr_element at(net *n, int v, int axis, int64_t position) {
  const pr_label *label = prC_unpinned(n->value[v].label[axis]);
  return label ? prC_find(&n->algebra, label->id[position]) : 0;
}

static bool free_axis(net *n, int v, int axis) {
  for (int64_t i = 0; i < n->value[v].shape[axis]; i++)
    if (at(n, v, axis, i) == 0) return false;
  return true;
}

static bool same_axis(net *n, int v, int axis, int w, int other) {
  if (n->value[v].shape[axis] != n->value[w].shape[other]) return false;
  for (int64_t i = 0; i < n->value[v].shape[axis]; i++)
    if (at(n, v, axis, i) != at(n, w, other, i)) return false;
  return true;
}

/* Axis `axis` of y carries x's elements in the order of `from`; the other axes pass. */
static void check_order(net *n, int x, int y, int axis, const int *from) {
  for (int64_t i = 0; i < n->value[y].shape[axis]; i++)
    assert_int_equal(at(n, y, axis, i), at(n, x, axis, from[i]));
  for (int a = 0; a < n->value[y].dim; a++)
    if (a != axis) assert_true(same_axis(n, y, a, x, a) && free_axis(n, y, a));
}

static void moves_along_one_axis(void **state) {
  (void)state;
  net n;
  open_net(&n);
  int x = free_tensor(&n, SHAPE(2, 6, 3));
  const int64_t index[] = { 5, 5, 0, 2 };
  prC_rule_gather(node(&n, x, ABSENT, ABSENT, SHAPE(2, 4, 3)), 0, PRC_OUT(0), 1, index, PRC_NONE);
  check_order(&n, x, last(&n), 1, (int[]){ 5, 5, 0, 2 });
  prC_rule_roll(node(&n, x, ABSENT, ABSENT, SHAPE(2, 6, 3)), 0, PRC_OUT(0), -2, 2);
  check_order(&n, x, last(&n), 1, (int[]){ 4, 5, 0, 1, 2, 3 });
  prC_rule_flip(node(&n, x, ABSENT, ABSENT, SHAPE(2, 6, 3)), 0, PRC_OUT(0), 1u << 1);
  check_order(&n, x, last(&n), 1, (int[]){ 5, 4, 3, 2, 1, 0 });
  check_order(&n, x, slice(&n, x, 1, 1, 2, 3), 1, (int[]){ 1, 3, 5 });
  check_order(&n, x, slice(&n, x, 1, 4, -2, 2), 1, (int[]){ 4, 2 });
  prC_rule_channel_shuffle(node(&n, x, ABSENT, ABSENT, SHAPE(2, 6, 3)), 0, PRC_OUT(0), 2);
  check_order(&n, x, last(&n), 1, (int[]){ 0, 3, 1, 4, 2, 5 });
  int p = permute(&n, x, (int[]){ 2, 0, 1 });
  assert_true(same_axis(&n, p, 0, x, 2) && same_axis(&n, p, 1, x, 0) && same_axis(&n, p, 2, x, 1));
  assert_int_equal(n.algebra.notes, 0);
  close_net(&n);
}

static void single_positions_are_pinned_and_the_others_stay_free(void **state) {
  (void)state;
  for (int form = 0; form < 3; form++) {
    net n;
    open_net(&n);
    int x = free_tensor(&n, SHAPE(2, 6, 3));
    const int64_t index[] = { 4 };
    if (form == 0)
      select_at(&n, x, 1, 4);
    else if (form == 1)
      slice(&n, x, 1, 4, 1, 1);
    else
      prC_rule_gather(node(&n, x, ABSENT, ABSENT, SHAPE(2, 1, 3)), 0, PRC_OUT(0), 1, index, PRC_NONE);
    int y = last(&n);
    for (int i = 0; i < 6; i++) assert_int_equal(at(&n, x, 1, i) == 0, i == 4);
    assert_true(same_axis(&n, y, n.value[y].dim - 1, x, 2) && free_axis(&n, x, 2));
    assert_int_equal(n.algebra.notes, 1);
    close_net(&n);
  }
}

/* y[i] = x[index[i]]: what index names, as often as it does; the list itself follows. */
static void constant_indices_choose_from_the_label(void **state) {
  (void)state;
  net n;
  open_net(&n);
  const int64_t index[5] = { 3, 1, 1, 0, 3 };
  int x = tensor(&n, INPUT, SHAPE(2, 4)), w = tensor(&n, PARAMETER, SHAPE(6, 4)),
      after = tensor(&n, PARAMETER, SHAPE(3, 5)), list = tensor(&n, CONSTANT, SHAPE(5));
  int y = linear(&n, x, w, ABSENT);
  prC_rule_gather(node(&n, y, list, ABSENT, SHAPE(2, 5)), 0, PRC_OUT(0), 1, index, 1);
  assert_true(n.value[list].has_positions && n.value[list].positions == n.value[y].label[1]);
  assert_int_equal(finish(&n, linear(&n, last(&n), after, ABSENT)), 6);
  assert_int_equal(units_with(&n, w, 0, 1), 6);
  assert_int_equal(units_with(&n, after, 1, 2), 2); /* rows 1 and 3 */
  assert_int_equal(units_with(&n, after, 1, 1), 1); /* row 0 */
  assert_int_equal(units_with(&n, list, 0, 2), 2);
  close_net(&n);
}

static void one_list_of_indices_for_two_axes_pins_both(void **state) {
  (void)state;
  net n;
  open_net(&n);
  const int64_t index[2] = { 2, 0 };
  int x = tensor(&n, INPUT, SHAPE(2, 4)), a = tensor(&n, PARAMETER, SHAPE(6, 4)),
      b = tensor(&n, PARAMETER, SHAPE(6, 4)), list = tensor(&n, CONSTANT, SHAPE(2)),
      after = tensor(&n, PARAMETER, SHAPE(3, 2));
  int p = linear(&n, x, a, ABSENT), q = linear(&n, x, b, ABSENT);
  prC_rule_gather(node(&n, p, list, ABSENT, SHAPE(2, 2)), 0, PRC_OUT(0), 1, index, 1);
  int first = last(&n);
  prC_rule_gather(node(&n, p, list, ABSENT, SHAPE(2, 2)), 0, PRC_OUT(0), 1, index, 1);
  int again = last(&n); /* the same axis: fine */
  assert_non_null(prC_unpinned(n.value[list].positions));
  prC_rule_gather(node(&n, q, list, ABSENT, SHAPE(2, 2)), 0, PRC_OUT(0), 1, index, 1);
  int sum = add(&n, add(&n, first, again), last(&n));
  assert_int_equal(finish(&n, linear(&n, sum, after, ABSENT)), 0);
  assert_string_equal(n.algebra.note[0].text, "the same constant indexes another axis");
  close_net(&n);
}

/* One index per entry pins the axis it runs along; the others go with those of the index. */
static void indices_for_each_entry_pin_their_axis_only(void **state) {
  (void)state;
  net n;
  open_net(&n);
  int x = tensor(&n, INPUT, SHAPE(2, 3, 4)), w = tensor(&n, PARAMETER, SHAPE(6, 4)),
      index = tensor(&n, INPUT, SHAPE(2, 2, 6)), constant = tensor(&n, CONSTANT, SHAPE(2, 2, 6)),
      after = tensor(&n, PARAMETER, SHAPE(3, 6));
  int y = linear(&n, x, w, ABSENT);
  prC_rule_gather_entries(node(&n, y, constant, ABSENT, SHAPE(2, 2, 6)), 0, 1, PRC_OUT(0), 1);
  int z = last(&n);
  prC_rule_scatter_add(node(&n, y, constant, z, SHAPE(2, 3, 6)), 0, 1, 2, PRC_OUT(0), 1);
  assert_int_equal(finish(&n, linear(&n, last(&n), after, ABSENT)), 6);
  assert_int_equal(units_with(&n, constant, 2, 1), 6);
  close_net(&n);
  open_net(&n); /* an index that comes from data is pinned, and pins */
  x = tensor(&n, INPUT, SHAPE(2, 3, 4)), w = tensor(&n, PARAMETER, SHAPE(6, 4)),
  index = tensor(&n, INPUT, SHAPE(2, 2, 6)), after = tensor(&n, PARAMETER, SHAPE(3, 6));
  y = linear(&n, x, w, ABSENT);
  prC_rule_gather_entries(node(&n, y, index, ABSENT, SHAPE(2, 2, 6)), 0, 1, PRC_OUT(0), 1);
  assert_int_equal(finish(&n, linear(&n, last(&n), after, ABSENT)), 0);
  close_net(&n);
}

static void parts_and_joins(void **state) {
  (void)state;
  net n;
  open_net(&n);
  int x = free_tensor(&n, SHAPE(2, 6, 3)), z = free_tensor(&n, SHAPE(2, 6, 3));
  /* split in 4 and 2 */
  prC_value *parts[2];
  parts[0] = &n.value[tensor(&n, INPUT, SHAPE(2, 4, 3))],
  parts[1] = &n.value[tensor(&n, INPUT, SHAPE(2, 2, 3))];
  pr_coupling c = { .algebra = &n.algebra, .inputs = 1, .outputs = 2, .in = n.in, .out = parts };
  n.in[0] = &n.value[x];
  prC_rule_split(&c, 0, 2, (int[]){ PRC_OUT(0), PRC_OUT(1) }, 1);
  check_order(&n, x, n.values - 2, 1, (int[]){ 0, 1, 2, 3 });
  check_order(&n, x, n.values - 1, 1, (int[]){ 4, 5 });
  /* cat ties what lies beside */
  int y = cat(&n, x, z, 1);
  assert_true(same_axis(&n, x, 0, z, 0) && same_axis(&n, x, 2, z, 2) && !same_axis(&n, x, 1, z, 1));
  for (int i = 0; i < 12; i++) assert_int_equal(at(&n, y, 1, i), at(&n, i < 6 ? x : z, 1, i % 6));
  /* stack ties all, and its new axis is pinned */
  prC_rule_stack(node(&n, x, z, ABSENT, SHAPE(2, 2, 6, 3)), 2, (int[]){ 0, 1 }, PRC_OUT(0), 1);
  y = last(&n);
  assert_true(same_axis(&n, x, 1, z, 1) && same_axis(&n, y, 2, x, 1) && same_axis(&n, y, 0, x, 0));
  assert_int_equal(at(&n, y, 1, 0), 0);
  /* unbind pins the axis that goes */
  parts[0] = &n.value[tensor(&n, INPUT, SHAPE(2, 3))];
  prC_rule_unbind(&c, 0, 1, (int[]){ PRC_OUT(0) }, 1);
  assert_int_equal(at(&n, x, 1, 3), 0);
  assert_true(same_axis(&n, n.values - 1, 1, x, 2) && free_axis(&n, x, 2));
  close_net(&n);
}

static void copies_are_free(void **state) {
  (void)state;
  net n;
  open_net(&n);
  int x = free_tensor(&n, SHAPE(3, 1, 4));
  prC_rule_expand(node(&n, x, ABSENT, ABSENT, SHAPE(5, 3, 2, 4)), 0, PRC_OUT(0));
  int y = last(&n);
  assert_true(free_axis(&n, y, 0) && free_axis(&n, y, 2) && same_axis(&n, y, 1, x, 0) &&
              same_axis(&n, y, 3, x, 2));
  assert_true(isnan(n.value[y].dead[2]) &&
              n.value[y].dead[1] == 0); /* a removed copy would still hold its entries */

  prC_rule_repeat(node(&n, x, ABSENT, ABSENT, SHAPE(6, 1, 4)), 0, PRC_OUT(0)); /* tile: a b c a b c */
  y = last(&n);
  pr_element mono[PRC_MONO], other[PRC_MONO];
  for (int i = 0; i < 6; i++) {
    assert_int_equal(prC_mono(&n.algebra, at(&n, y, 0, i), mono), 2);
    assert_int_equal(mono[1], at(&n, x, 0, i % 3));
    assert_int_equal(prC_mono(&n.algebra, at(&n, y, 0, i / 3 * 3), other), 2);
    assert_int_equal(mono[0], other[0]); /* one copy */
  }
  assert_int_equal(prC_live_slot(&n.c, 0), 2);

  prC_rule_repeat_each(node(&n, x, ABSENT, ABSENT, SHAPE(6, 1, 4)), 0, PRC_OUT(0), 0); /* a a b b c c */
  y = last(&n);
  for (int i = 0; i < 6; i++) {
    assert_int_equal(prC_mono(&n.algebra, at(&n, y, 0, i), mono), 2);
    assert_int_equal(mono[0], at(&n, x, 0, i / 2));
    assert_int_equal(prC_mono(&n.algebra, at(&n, y, 0, i % 2), other), 2);
    assert_int_equal(mono[1], other[1]);
  }
  close_net(&n);
}

static void space_is_pinned_and_channels_follow(void **state) {
  (void)state;
  net n;
  open_net(&n);
  int x = free_tensor(&n, SHAPE(2, 3, 4, 4));
  prC_rule_spatial(node(&n, x, ABSENT, ABSENT, SHAPE(2, 3, 2, 2)), 0, PRC_OUT(0), 2, PRC_DEAD_VALUE);
  assert_true(same_axis(&n, last(&n), 1, x, 1) && free_axis(&n, x, 1) && at(&n, x, 2, 1) == 0 &&
              at(&n, x, 3, 1) == 0);
  prC_rule_pixel_unshuffle(node(&n, x, ABSENT, ABSENT, SHAPE(2, 12, 2, 2)), 0, PRC_OUT(0), 2);
  for (int i = 0; i < 12; i++) assert_int_equal(at(&n, last(&n), 1, i), at(&n, x, 1, i / 4));
  prC_rule_unfold(node(&n, x, ABSENT, ABSENT, SHAPE(2, 27, 16)), 0, PRC_OUT(0), 9);
  int columns = last(&n);
  for (int i = 0; i < 27; i++) assert_int_equal(at(&n, columns, 1, i), at(&n, x, 1, i / 9));
  prC_rule_fold(node(&n, columns, ABSENT, ABSENT, SHAPE(2, 3, 4, 4)), 0, PRC_OUT(0), 9);
  assert_true(same_axis(&n, last(&n), 1, x, 1));
  /* a point convolution lets a free space pass, a wider kernel does not */
  int z = free_tensor(&n, SHAPE(2, 3, 4, 4)), w1 = tensor(&n, PARAMETER, SHAPE(5, 3, 1, 1)),
      w3 = tensor(&n, PARAMETER, SHAPE(5, 3, 3, 3));
  int y = conv(&n, z, w1, ABSENT);
  assert_true(same_axis(&n, y, 2, z, 2) && free_axis(&n, y, 2));
  conv(&n, z, w3, ABSENT);
  assert_int_equal(at(&n, y, 2, 0), 0);
  close_net(&n);
}

static void parameters_follow_what_they_meet(void **state) {
  (void)state;
  net n;
  open_net(&n);
  int x = free_tensor(&n, SHAPE(2, 3, 4)), slope = tensor(&n, PARAMETER, SHAPE(3)),
      one = tensor(&n, PARAMETER, SHAPE(1)), position = tensor(&n, PARAMETER, SHAPE(3, 4)),
      column = tensor(&n, PARAMETER, SHAPE(3, 1));
  prC_rule_prelu(node(&n, x, slope, ABSENT, SHAPE(2, 3, 4)), 0, 1, PRC_OUT(0));
  assert_true(same_axis(&n, slope, 0, x, 1));
  prC_rule_prelu(node(&n, x, one, ABSENT, SHAPE(2, 3, 4)), 0, 1, PRC_OUT(0));
  assert_true(at(&n, one, 0, 0) == 0 && free_axis(&n, x, 1));
  int y = add(&n, x, position);
  assert_true(same_axis(&n, position, 0, x, 1) && same_axis(&n, position, 1, x, 2) &&
              same_axis(&n, y, 0, x, 0));
  mul(&n, x, column); /* an axis of size 1 is broadcast, not tied */
  assert_true(same_axis(&n, column, 0, x, 1) && free_axis(&n, x, 2));
  /* a number beside a tensor changes the dead value, the agreement of a choice keeps it */
  prC_rule_where(node(&n, x, position, ABSENT, SHAPE(2, 3, 4)), 1, 0, PRC_NONE, 0, PRC_OUT(0));
  assert_true(n.value[last(&n)].dead[1] == 0);
  prC_rule_where(node(&n, x, position, ABSENT, SHAPE(2, 3, 4)), 1, 0, PRC_NONE, -1, PRC_OUT(0));
  assert_true(isnan(n.value[last(&n)].dead[1]));
  /* two parameters that meet nothing else */
  int a = tensor(&n, PARAMETER, SHAPE(3, 4)), b = tensor(&n, PARAMETER, SHAPE(4));
  y = add(&n, a, b);
  assert_true(free_axis(&n, y, 0) && free_axis(&n, y, 1) && same_axis(&n, b, 0, a, 1));
  close_net(&n);
}

static void weight_norm_feeds_a_convolution(void **state) {
  (void)state;
  net n;
  open_net(&n);
  int x = tensor(&n, INPUT, SHAPE(2, 3, 8, 8)), w0 = tensor(&n, PARAMETER, SHAPE(4, 3, 3, 3)),
      g = tensor(&n, PARAMETER, SHAPE(6, 1, 1, 1)), v = tensor(&n, PARAMETER, SHAPE(6, 4, 3, 3)),
      w2 = tensor(&n, PARAMETER, SHAPE(5, 6, 1, 1));
  prC_rule_weight_norm(node(&n, g, v, ABSENT, SHAPE(6, 4, 3, 3)), 0, 1, PRC_OUT(0), 0);
  int w = last(&n);
  assert_int_equal(finish(&n, conv(&n, conv(&n, conv(&n, x, w0, ABSENT), w, ABSENT), w2, ABSENT)), 4 + 6);
  assert_int_equal(unit_at(&n, g, 0, 5, 0), unit_at(&n, v, 0, 5, 0));
  assert_int_equal(unit_at(&n, v, 1, 2, 0), unit_at(&n, w0, 0, 2, 0));
  close_net(&n);
}

static void attention_pins_keys_and_ties_masks(void **state) {
  (void)state;
  for (int causal = 0; causal < 2; causal++) {
    net n;
    open_net(&n);
    int q = free_tensor(&n, SHAPE(2, 4, 5, 8)), kv = free_tensor(&n, SHAPE(2, 4, 7, 8)),
        mask = tensor(&n, CONSTANT, SHAPE(4, 5, 7));
    prC_value *in[] = { &n.value[q], &n.value[kv], &n.value[kv], &n.value[mask] };
    pr_coupling *c = node(&n, ABSENT, ABSENT, ABSENT, SHAPE(2, 4, 5, 8));
    c->in = in, c->inputs = 4;
    prC_rule_attention(c, 0, 1, 2, 3, PRC_OUT(0), causal);
    int y = last(&n);
    assert_int_equal(at(&n, kv, 2, 3), 0);
    assert_int_equal(at(&n, mask, 2, 3), 0);
    assert_true(same_axis(&n, mask, 0, q, 1) && same_axis(&n, mask, 1, q, 2) && same_axis(&n, y, 1, kv, 1));
    assert_true(same_axis(&n, q, 3, kv, 3) && free_axis(&n, y, 3) && free_axis(&n, y, 1));
    assert_int_equal(free_axis(&n, y, 2), !causal);
    close_net(&n);
  }
}

static void what_has_no_rule_is_pinned_with_a_note(void **state) {
  (void)state;
  net n;
  open_net(&n);
  int x = free_tensor(&n, SHAPE(2, 6)), w = tensor(&n, PARAMETER, SHAPE(6));
  prC_rule_unknown(node(&n, x, w, ABSENT, SHAPE(2, 6)), "fft");
  for (int i = 0; i < 6; i++) assert_true(at(&n, x, 1, i) == 0 && at(&n, last(&n), 1, i) == 0);
  assert_int_equal(n.value[w].unmet, 0);
  assert_int_equal(n.algebra.notes, 1);
  assert_string_equal(n.algebra.note[0].text, "fft has no coupling rule");
  int y = free_tensor(&n, SHAPE(2, 6)), index = tensor(&n, INPUT, SHAPE(3, 2));
  prC_rule_take(node(&n, y, index, ABSENT, SHAPE(2, 3, 2)), 0, 1, PRC_OUT(0), 1);
  assert_true(at(&n, y, 1, 0) == 0 && same_axis(&n, last(&n), 0, y, 0) && free_axis(&n, y, 0));
  close_net(&n);
}

static void matrix_products_broadcast_their_batches(void **state) {
  (void)state;
  net n;
  open_net(&n);
  int a = free_tensor(&n, SHAPE(4, 1, 3, 5)), b = free_tensor(&n, SHAPE(6, 5, 2)),
      vector = free_tensor(&n, SHAPE(2));
  prC_rule_matmul(node(&n, a, b, ABSENT, SHAPE(4, 6, 3, 2)), 0, 1, PRC_OUT(0));
  int y = last(&n);
  assert_true(same_axis(&n, y, 0, a, 0) && same_axis(&n, y, 1, b, 0) && same_axis(&n, y, 2, a, 2) &&
              same_axis(&n, y, 3, b, 2));
  assert_true(same_axis(&n, a, 3, b, 1) && free_axis(&n, a, 3));
  prC_rule_matmul(node(&n, y, vector, ABSENT, SHAPE(4, 6, 3)), 0, 1, PRC_OUT(0));
  assert_true(same_axis(&n, y, 3, vector, 0) && same_axis(&n, last(&n), 2, y, 2));
  close_net(&n);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(moves_along_one_axis),
    cmocka_unit_test(single_positions_are_pinned_and_the_others_stay_free),
    cmocka_unit_test(constant_indices_choose_from_the_label),
    cmocka_unit_test(one_list_of_indices_for_two_axes_pins_both),
    cmocka_unit_test(indices_for_each_entry_pin_their_axis_only),
    cmocka_unit_test(parts_and_joins),
    cmocka_unit_test(copies_are_free),
    cmocka_unit_test(space_is_pinned_and_channels_follow),
    cmocka_unit_test(parameters_follow_what_they_meet),
    cmocka_unit_test(weight_norm_feeds_a_convolution),
    cmocka_unit_test(attention_pins_keys_and_ties_masks),
    cmocka_unit_test(what_has_no_rule_is_pinned_with_a_note),
    cmocka_unit_test(matrix_products_broadcast_their_batches),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
