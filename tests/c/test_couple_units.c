/* What removal may rely on: dead values that would be mixed in pin, units are offered and scoped as
 * documented, floors hold, and a replay finds code whose constants no longer fit. */
#include "couple_net.h"

#include <math.h>

static double sigmoid(double x, const void *context) { return (void)context, 1 / (1 + exp(-x)); }
static double relu(double x, const void *context) { return (void)context, x > 0 ? x : 0; }
static double logarithm(double x, const void *context) { return (void)context, log(x); }

static int unary(net *n, int x, double (*f)(double, const void *)) {
  prC_rule_unary(node(n, x, ABSENT, ABSENT, n->value[x].dim, n->value[x].shape), 0, PRC_OUT(0), f, NULL);
  return last(n);
}

static int reduce(net *n, int x, int axis, prC_reduction kind) {
  int64_t shape[PRC_DIMS];
  memcpy(shape, n->value[x].shape, sizeof shape);
  shape[axis] = 1;
  prC_rule_reduce(node(n, x, ABSENT, ABSENT, n->value[x].dim, shape), 0, PRC_OUT(0), 1u << axis, kind);
  return last(n);
}

/* --- dead values -------------------------------------------------------------------------------------------------------- */

typedef int channel_operation(net *n, int x);

static int sum_channels(net *n, int x) { return reduce(n, x, 1, PRC_SUM); }
static int sigmoid_sum(net *n, int x) { return reduce(n, unary(n, x, sigmoid), 1, PRC_SUM); }
static int relu_norm(net *n, int x) { return reduce(n, unary(n, x, relu), 1, PRC_NORM); }
static int sigmoid_mean(net *n, int x) { return reduce(n, unary(n, x, sigmoid), 1, PRC_MEAN); }
static int maximum(net *n, int x) { return reduce(n, x, 1, PRC_MAX); }
static int gate_sum(net *n, int x) { return reduce(n, mul(n, x, unary(n, x, sigmoid)), 1, PRC_SUM); }
static int log_of_zero(net *n, int x) { return unary(n, x, logarithm); }
static int softmax(net *n, int x) {
  prC_rule_along(node(n, x, ABSENT, ABSENT, n->value[x].dim, n->value[x].shape), 0, PRC_OUT(0), 1,
                 PRC_DEAD_UNKNOWN);
  return last(n);
}
static int divided_by_itself(net *n, int x) { return binary(n, x, x, PRC_DIVIDE); }
static int shifted_by_one_sum(net *n, int x) {
  int one = tensor(n, INPUT, SHAPE(1));
  return reduce(n, add(n, x, one), 1, PRC_SUM);
}

static void what_is_not_surely_zero_pins(void **state) {
  (void)state;
  const struct {
    channel_operation *f;
    int units;
    const char *note;
  } rows[] = {
    { sum_channels, 6, NULL },
    { sigmoid_sum, 0, "sums over" }, /* dead entries hold 0.5 */
    { relu_norm, 6, NULL },
    { sigmoid_mean, 6, NULL }, /* means run over live entries */
    { maximum, 0, "extremum" },
    { gate_sum, 6, NULL }, /* 0 * 0.5 */
    { log_of_zero, 0, "finite" },
    { softmax, 0, "mixed" },
    { divided_by_itself, 0, "finite" },
    { shifted_by_one_sum, 0, "sums over" },
  };
  for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
    net n;
    open_net(&n);
    int x = tensor(&n, INPUT, SHAPE(2, 3, 8, 8)), w = tensor(&n, PARAMETER, SHAPE(6, 3, 3, 3)),
        b = tensor(&n, PARAMETER, SHAPE(6)), fc = tensor(&n, PARAMETER, SHAPE(4, 6, 1, 1));
    int y = conv(&n, x, w, b);
    int z = rows[r].f(&n, y); /* one branch mixes, the other is an ordinary consumer */
    prC_value_pin(&n.algebra, &n.value[conv(&n, y, fc, ABSENT)]);
    if (z && n.value[z].shape[1] > 1) z = conv(&n, z, tensor(&n, PARAMETER, SHAPE(4, 6, 1, 1)), ABSENT);
    assert_int_equal(finish(&n, z), rows[r].units);
    if (rows[r].note)
      assert_true(n.algebra.notes && strstr(n.algebra.note[0].text, rows[r].note));
    else
      assert_int_equal(n.algebra.notes, 0);
    close_net(&n);
  }
}

/* Learned tokens are free to go until a bias makes removed ones count. */
static void a_bias_wakes_removed_tokens(void **state) {
  (void)state;
  for (int with_bias = 0; with_bias < 2; with_bias++) {
    net n;
    open_net(&n);
    int prompts = tensor(&n, PARAMETER, SHAPE(4, 8)), w = tensor(&n, PARAMETER, SHAPE(6, 8)),
        b = tensor(&n, PARAMETER, SHAPE(6));
    int y = reduce(&n, linear(&n, prompts, w, with_bias ? b : ABSENT), 0, PRC_SUM);
    finish(&n, y);
    assert_int_equal(units_with(&n, prompts, 0, 1), with_bias ? 0 : 4);
    close_net(&n);
  }
}

static void padding_and_joining_change_the_other_axes(void **state) {
  (void)state;
  for (int value = 0; value < 2; value++) {
    net n;
    open_net(&n);
    int x = tensor(&n, INPUT, SHAPE(2, 3, 8, 8)), w = tensor(&n, PARAMETER, SHAPE(6, 3, 3, 3));
    int y = conv(&n, x, w, ABSENT);
    int64_t none[4] = { 0 }, one[] = { 0, 0, 1, 1 };
    prC_rule_pad(node(&n, y, ABSENT, ABSENT, SHAPE(2, 6, 9, 9)), 0, PRC_OUT(0), none, one, true, value);
    int padded = last(&n);
    assert_int_equal(n.value[padded].dead[1] == 0, value == 0);
    int both = cat(&n, y, unary(&n, y, sigmoid), 2);
    assert_true(isnan(n.value[both].dead[1]));
    assert_true(n.value[cat(&n, y, y, 2)].dead[1] == 0);
    close_net(&n);
  }
}

static void norms_settle_dead_values(void **state) {
  (void)state;
  net n;
  open_net(&n);
  int x = tensor(&n, INPUT, SHAPE(2, 5, 8)), w = tensor(&n, PARAMETER, SHAPE(6, 8)),
      g = tensor(&n, PARAMETER, SHAPE(6)), b = tensor(&n, PARAMETER, SHAPE(6));
  int y = unary(&n, linear(&n, x, w, ABSENT), sigmoid);
  assert_true(n.value[y].dead[2] == 0.5);
  prC_rule_layer_norm(node(&n, y, g, b, SHAPE(2, 5, 6)), 0, 1, 2, PRC_OUT(0), 1, true);
  assert_true(n.value[last(&n)].dead[2] == 0);
  prC_rule_layer_norm(node(&n, y, ABSENT, ABSENT, SHAPE(2, 5, 6)), 0, 1, 2, PRC_OUT(0), 1, true);
  assert_true(isnan(n.value[last(&n)].dead[2])); /* (0.5 - mean) / deviation */
  assert_true(n.value[last(&n)].label[2] == n.value[y].label[2]);
  close_net(&n);
}

static void computed_weights_need_a_zero_on_one_side(void **state) {
  (void)state;
  net n;
  open_net(&n);
  int x = tensor(&n, INPUT, SHAPE(2, 5, 8)), wa = tensor(&n, PARAMETER, SHAPE(6, 8)),
      wb = tensor(&n, PARAMETER, SHAPE(6, 8));
  int a = unary(&n, linear(&n, x, wa, ABSENT), sigmoid), b = linear(&n, x, wb, ABSENT);
  int bt = permute(&n, b, (int[]){ 0, 2, 1 });
  prC_rule_matmul(node(&n, a, bt, ABSENT, SHAPE(2, 5, 5)), 0, 1, PRC_OUT(0));
  assert_int_equal(finish(&n, last(&n)), 6); /* 0.5 * 0 */
  prC_units_close(&n.units);
  int at = permute(&n, a, (int[]){ 0, 2, 1 });
  prC_rule_matmul(node(&n, a, at, ABSENT, SHAPE(2, 5, 5)), 0, 1, PRC_OUT(0));
  assert_int_equal(finish(&n, last(&n)), 0); /* 0.5 * 0.5 */
  close_net(&n);
}

/* --- units, scopes, floors ---------------------------------------------------------------------------------------------- */

/* v / |v| is 0 / 0 in a dead row: in a weight that counts as 0, in what depends on the input it pins. */
static void a_quotient_of_weights_counts_0_over_0_as_0(void **state) {
  (void)state;
  for (int computed = 0; computed < 2; computed++) {
    net n;
    open_net(&n);
    int x = tensor(&n, INPUT, SHAPE(2, 4)), v = tensor(&n, PARAMETER, SHAPE(6, 4)),
        after = tensor(&n, PARAMETER, SHAPE(3, 6));
    int row = computed ? linear(&n, x, v, ABSENT) : v;
    if (computed) {
      row = reshape(&n, row, SHAPE(2, 6));
      prC_rule_elementwise(node(&n, row, row, ABSENT, SHAPE(2, 6)), 2, (int[]){ 0, 1 }, PRC_OUT(0),
                           PRC_DIVIDE, NULL, NULL);
      assert_int_equal(finish(&n, linear(&n, last(&n), after, ABSENT)), 0);
    } else {
      prC_rule_reduce(node(&n, v, ABSENT, ABSENT, SHAPE(6, 1)), 0, PRC_OUT(0), 2, PRC_NORM);
      prC_mark_weights(&n.c);
      int norm = last(&n);
      assert_true(n.value[norm].is_weight);
      prC_rule_elementwise(node(&n, v, norm, ABSENT, SHAPE(6, 4)), 2, (int[]){ 0, 1 }, PRC_OUT(0), PRC_DIVIDE,
                           NULL, NULL);
      assert_int_equal(finish(&n, linear(&n, linear(&n, x, last(&n), ABSENT), after, ABSENT)), 6);
      assert_int_equal(units_with(&n, v, 0, 1), 6);
    }
    close_net(&n);
  }
}

static void units_that_only_cut_an_input_are_not_offered(void **state) {
  (void)state;
  net n;
  open_net(&n);
  int x = tensor(&n, INPUT, SHAPE(2, 5, 1)), w = tensor(&n, PARAMETER, SHAPE(6, 4));
  prC_rule_expand(node(&n, x, ABSENT, ABSENT, SHAPE(2, 5, 4)), 0, PRC_OUT(0));
  assert_int_equal(finish(&n, linear(&n, last(&n), w, ABSENT)),
                   0); /* four copies of nothing but the next layer's input */
  assert_true(prC_unpinned(n.value[w].label[1]) != NULL);
  close_net(&n);
}

static void scopes_are_keyed_by_producers_or_by_all_members(void **state) {
  (void)state;
  net n;
  open_net(&n);
  int x = tensor(&n, INPUT, SHAPE(2, 9)), w = tensor(&n, PARAMETER, SHAPE(12, 9)), out = ABSENT;
  int y = linear(&n, x, w, ABSENT);
  for (int i = 0; i < 3; i++) { /* chunk in 3, each with a consumer of its own */
    int part = linear(&n, slice(&n, y, 1, 4 * i, 1, 4), tensor(&n, PARAMETER, SHAPE(2, 4)), ABSENT);
    out = i ? add(&n, out, part) : part;
  }
  assert_int_equal(finish(&n, out), 12);
  assert_int_equal(n.units.scopes, 1);
  prC_units_close(&n.units);
  assert_int_equal(prC_units_open(&n.units, &n.algebra, n.value, n.values, true), PR_OK);
  assert_int_equal(n.units.scopes, 3);
  for (int s = 0; s < 3; s++) assert_int_equal(scope_sizes(&n, s), 4);
  close_net(&n);
}

static void of_twins_the_larger_is_primary(void **state) {
  (void)state;
  net n; /* 8 groups of 2 positions: groups are offered, positions on request */
  open_net(&n);
  int x = tensor(&n, INPUT, SHAPE(2, 3, 8, 8)), w0 = tensor(&n, PARAMETER, SHAPE(16, 3, 1, 1)),
      w = tensor(&n, PARAMETER, SHAPE(16, 2, 3, 3)), w2 = tensor(&n, PARAMETER, SHAPE(5, 16, 1, 1));
  int y = conv(&n, conv_grouped(&n, conv(&n, x, w0, ABSENT), w, ABSENT, 8), w2, ABSENT);
  assert_int_equal(finish(&n, y), 8 + 2 + 2);
  assert_int_equal(n.units.scopes, 3);
  for (int s = 0; s < 3; s++) assert_int_equal(n.units.primary[s], scope_sizes(&n, s) == 8);
  close_net(&n);
}

static void floors_keep_one_position_everywhere(void **state) {
  (void)state;
  net n;
  open_net(&n);
  int x = tensor(&n, INPUT, SHAPE(2, 9)), w = tensor(&n, PARAMETER, SHAPE(8, 9)),
      wa = tensor(&n, PARAMETER, SHAPE(2, 3)), wb = tensor(&n, PARAMETER, SHAPE(2, 5));
  int y = linear(&n, x, w, ABSENT);
  int a = linear(&n, slice(&n, y, 1, 0, 1, 3), wa, ABSENT),
      b = linear(&n, slice(&n, y, 1, 3, 1, 5), wb, ABSENT);
  assert_int_equal(finish(&n, add(&n, a, b)), 8);
  prC_floors floors;
  assert_int_equal(prC_floors_open(&floors, &n.units, n.value, n.values), PR_OK);
  int killed = 0;
  for (int p = 0; p < 8; p++) killed += prC_floors_kill(&floors, unit_at(&n, w, 0, p, 0));
  assert_int_equal(killed,
                   6); /* one of the first three and one of the other five stay, though w could lose seven */
  assert_false(floors.dead[unit_at(&n, w, 0, 2, 0)]);
  prC_floors_revive(&floors, unit_at(&n, w, 0, 0, 0));
  assert_true(prC_floors_kill(&floors, unit_at(&n, w, 0, 2, 0)));
  assert_false(prC_floors_kill(&floors, unit_at(&n, w, 0, 0, 0)));
  prC_floors_close(&floors);
  close_net(&n);
}

/* --- replay ------------------------------------------------------------------------------------------------------------- */

/* Channels in two halves, swapped: `half` is what the code holds. */
static int swapped_halves(net *n, int x, int w, int w2, int64_t half) {
  int y = conv(n, x, w, ABSENT);
  int64_t all = n->value[y].shape[1];
  return conv(n, cat(n, slice(n, y, 1, half, 1, all - half), slice(n, y, 1, 0, 1, half), 1), w2, ABSENT);
}

static int64_t replay_swapped(const int *gone, int count) {
  net n;
  open_net(&n);
  int x = tensor(&n, INPUT, SHAPE(2, 3, 8, 8)), w = tensor(&n, PARAMETER, SHAPE(8, 3, 3, 3)),
      w2 = tensor(&n, PARAMETER, SHAPE(2, 8, 1, 1));
  assert_int_equal(finish(&n, swapped_halves(&n, x, w, w2, 4)), 8);
  unsigned char dead_unit[8] = { 0 }, dead[256];
  for (int i = 0; i < count; i++) dead_unit[unit_at(&n, w, 0, gone[i], 0)] = 1;
  prC_units_dead(&n.units, dead_unit, dead);
  prC_strict(&n.algebra, dead);
  int v = n.values, v2 = n.values + 1;
  n.values += 2;
  prC_value_replay(&n.algebra, &n.value[w], dead, &n.value[v]);
  prC_value_replay(&n.algebra, &n.value[w2], dead, &n.value[v2]);
  assert_int_equal(n.value[v].shape[0], 8 - count);
  int y = swapped_halves(&n, x, v, v2, (8 - count) / 2);
  prC_value_pin(&n.algebra, &n.value[y]);
  int64_t mismatches = n.algebra.mismatches;
  prC_strict_end(&n.algebra);
  close_net(&n);
  return mismatches;
}

static void replay_finds_constants_that_no_longer_fit(void **state) {
  (void)state;
  assert_int_equal(replay_swapped((int[]){ 0, 5 }, 2),
                   0); /* one of each half: the halves are still the halves */
  assert_true(replay_swapped((int[]){ 0, 1 }, 2) > 0);
  assert_true(replay_swapped((int[]){ 6, 7 }, 2) > 0);
}

/* Code that views (heads, width / heads): fits when a head goes, and when only one is left. */
static int viewed_attention(net *n, int x, const int *w, int wo, int64_t h) {
  int part[3];
  for (int i = 0; i < 3; i++) {
    int64_t d = n->value[w[i]].shape[0] / h;
    part[i] = permute(n, reshape(n, linear(n, x, w[i], ABSENT), SHAPE(2, 5, h, d)), (int[]){ 0, 2, 1, 3 });
  }
  int y = permute(n, attention(n, part[0], part[1], part[2]), (int[]){ 0, 2, 1, 3 });
  return linear(n, reshape(n, y, SHAPE(2, 5, n->value[wo].shape[1])), wo, ABSENT);
}

static int64_t replay_heads(int dead_heads, int dead_dims, int64_t heads_after) {
  net n;
  open_net(&n);
  int x = tensor(&n, INPUT, SHAPE(2, 5, 8)), w[3], wo = tensor(&n, PARAMETER, SHAPE(8, 12)), after[3],
      wo_after;
  for (int i = 0; i < 3; i++) w[i] = tensor(&n, PARAMETER, SHAPE(12, 8));
  assert_int_equal(finish(&n, viewed_attention(&n, x, w, wo, 3)), 3 + 4 + 4);
  unsigned char dead_unit[16] = { 0 }, dead[512];
  for (int h = 0; h < dead_heads; h++) dead_unit[unit_at(&n, w[0], 0, 4 * h, 0)] = 1;
  for (int d = 0; d < dead_dims; d++) dead_unit[unit_at(&n, w[0], 0, d, 1)] = 1;
  prC_units_dead(&n.units, dead_unit, dead);
  prC_strict(&n.algebra, dead);
  for (int i = 0; i < 3; i++)
    prC_value_replay(&n.algebra, &n.value[w[i]], dead, &n.value[after[i] = n.values++]);
  prC_value_replay(&n.algebra, &n.value[wo], dead, &n.value[wo_after = n.values++]);
  int y = viewed_attention(&n, x, after, wo_after, heads_after);
  prC_value_pin(&n.algebra, &n.value[y]);
  int64_t mismatches = n.algebra.mismatches;
  close_net(&n);
  return mismatches;
}

static void replay_accepts_heads_down_to_one(void **state) {
  (void)state;
  assert_int_equal(replay_heads(0, 0, 3), 0);
  assert_int_equal(replay_heads(1, 0, 2), 0);
  assert_int_equal(replay_heads(2, 0, 1), 0);
  assert_int_equal(replay_heads(0, 3, 3), 0); /* one dim of queries and keys left */
  assert_int_equal(replay_heads(2, 3, 1), 0);
  assert_int_equal(replay_heads(1, 3, 2), 0);
  assert_true(replay_heads(1, 0, 4) > 0); /* the code still cuts 8 rows into 4 heads of 2 */
}

/* --- failures ----------------------------------------------------------------------------------------------------------- */

static pr_status whole_analysis(void) {
  prC_algebra algebra;
  prC_value value[5];
  PR_TRY(prC_algebra_open(&algebra));
  prC_value_activation(&value[0], SHAPE(2, 3, 8, 8));
  prC_value_parameter(&value[1], SHAPE(96, 3, 3, 3));
  prC_value_activation(&value[2], SHAPE(2, 96, 8, 8));
  prC_value_parameter(&value[3], SHAPE(96, 8, 3, 3));
  prC_value_activation(&value[4], SHAPE(2, 96, 8, 8));
  prC_value *none = NULL, *in0[] = { &value[0], &value[1], none }, *in1[] = { &value[2], &value[3], none },
            *out0[] = { &value[2] }, *out1[] = { &value[4] };
  pr_coupling c = { .algebra = &algebra, .inputs = 3, .outputs = 1, .in = in0, .out = out0 };
  prC_rule_conv(&c, 0, 1, 2, PRC_OUT(0), 2, 1, false);
  c.in = in1, c.out = out1;
  prC_rule_conv(&c, 0, 1, 2, PRC_OUT(0), 2, 12, false);
  prC_note(&c, "a note");
  prC_units units = { 0 };
  prC_floors floors = { 0 };
  pr_status status = algebra.status;
  if (!status) status = prC_units_open(&units, &algebra, value, 5, false);
  if (!status) status = prC_floors_open(&floors, &units, value, 5);
  prC_floors_close(&floors);
  prC_units_close(&units);
  prC_algebra_close(&algebra);
  return status;
}

static void every_allocation_can_fail(void **state) {
  (void)state;
  pr_memory_stats before, after;
  pr_memory_get(&before);
  pr_status status = PR_ERR_MEMORY;
  for (size_t n = 1; n < 400 && status; n++) {
    pr_memory_fail_after(n, false);
    status = whole_analysis();
    pr_memory_fail_after(0, false);
    assert_true(status == PR_OK || status == PR_ERR_MEMORY);
    pr_memory_get(&after);
    assert_int_equal(after.live, before.live);
    assert_int_equal(after.blocks, before.blocks);
  }
  assert_int_equal(status, PR_OK);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(what_is_not_surely_zero_pins),
    cmocka_unit_test(a_bias_wakes_removed_tokens),
    cmocka_unit_test(padding_and_joining_change_the_other_axes),
    cmocka_unit_test(norms_settle_dead_values),
    cmocka_unit_test(computed_weights_need_a_zero_on_one_side),
    cmocka_unit_test(a_quotient_of_weights_counts_0_over_0_as_0),
    cmocka_unit_test(units_that_only_cut_an_input_are_not_offered),
    cmocka_unit_test(scopes_are_keyed_by_producers_or_by_all_members),
    cmocka_unit_test(of_twins_the_larger_is_primary),
    cmocka_unit_test(floors_keep_one_position_everywhere),
    cmocka_unit_test(replay_finds_constants_that_no_longer_fit),
    cmocka_unit_test(replay_accepts_heads_down_to_one),
    cmocka_unit_test(every_allocation_can_fail),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
