/* Removal: exact, complete, all or nothing. */
#include "testing.h"

#include "graph_net.h"
#include "prune/removal.h"
#include "prune/verify.h"

static pr_group *group_of(model *m, const char *name, int axis, int n, const int64_t *index) {
  int value = pr_graph_find_name(m->graph, name);
  assert_true(value >= 0);
  return pr_group_of(m->pruning, value, axis, index, n);
}

static void units_are_counted_and_coupled(void **state) {
  (void)state;
  model m;
  model_make(&m, PR_F64);
  /* conv1 and conv2 share their channels through the sum: 6 units; conv3: 4 units with 9 columns of fc each
   */
  assert_int_equal(m.pruning->units.count, 10);
  assert_int_equal(m.pruning->units.scopes, 2);
  pr_group *group = group_of(&m, "conv3.weight", 0, 1, (int64_t[]){ 2 });
  pr_part *parts;
  int n, seen = 0;
  assert_non_null(group);
  assert_ok(pr_group_parts(group, &parts, &n));
  for (int i = 0; i < n; i++) {
    if (strcmp(m.graph->values[parts[i].value].name, "fc.weight") != 0) continue;
    assert_int_equal(parts[i].count, 9);
    for (int64_t k = 0; k < 9; k++) assert_int_equal(parts[i].position[k], 18 + k);
    seen++;
  }
  assert_int_equal(seen, 1);
  pr_parts_free(parts, n, group->size);
  pr_group_free(group);
  model_free(&m);
}

static void what_cannot_go_is_refused(void **state) {
  (void)state;
  model m;
  model_make(&m, PR_F64);
  assert_null(group_of(&m, "fc.weight", 0, 1, (int64_t[]){ 0 })); /* the outputs */
  assert_non_null(strstr(pr_error_last()->message, "pinned"));
  assert_null(group_of(&m, "conv1.weight", 1, 1, (int64_t[]){ 0 })); /* the inputs */
  assert_null(group_of(&m, "conv1.weight", 0, 1, (int64_t[]){ 6 }));
  assert_int_equal(pr_error_last()->code, PR_ERR_INDEX);
  pr_group *all = group_of(&m, "conv1.weight", 0, 6, (int64_t[]){ 0, 1, 2, 3, 4, 5 });
  assert_fails(pr_remove(m.pruning, all->unit, all->size, NULL, NULL), PR_ERR_ARGUMENT,
               "nothing would be left");
  assert_int_equal(m.n.t[0]->shape[0], 6);
  pr_group_free(all);
  model_free(&m);
}

/* Entry of a tensor by its four (or fewer) indices. */
static double at(const pr_tensor *t, int64_t a, int64_t b, int64_t c, int64_t d) {
  int64_t index[4] = { a, b, c, d }, position = 0;
  for (int k = 0; k < t->dim; k++) position += index[k] * t->stride[k];
  return prT_get(t, position);
}

static pr_tensor *ramp(const pr_tensor *like, double from) {
  pr_tensor *t = pr_tensor_zeros(like->dtype, PR_CPU, like->dim, like->shape);
  for (int64_t i = 0; i < pr_numel(t); i++) prT_set(t, i, from + (double)i);
  return t;
}

static void values_gradients_masks_and_state_follow_bit_by_bit(void **state) {
  (void)state;
  model m;
  model_make(&m, PR_F64);
  pr_tensor *w = m.n.t[5]; /* conv2.weight: both axes shrink */
  pr_tensor *old = pr_clone(w), *momentum = ramp(w, 1000),
            *mask = pr_tensor_full(PR_F32, PR_CPU, 4, w->shape, 1);
  prT_set(mask, 5, 0);
  w->grad = ramp(w, 500);
  pr_tensor *old_grad = pr_clone(w->grad);
  assert_ok(pr_parameter_slot_set(w, "momentum_buffer", momentum));
  assert_ok(pr_parameter_mask(w, mask));
  pr_group *group = group_of(&m, "conv1.weight", 0, 2, (int64_t[]){ 1, 4 });
  assert_ok(pr_remove(m.pruning, group->unit, group->size, NULL, NULL));
  static const int64_t kept[] = { 0, 2, 3, 5 };
  assert_int_equal(w->shape[0], 4);
  assert_int_equal(w->shape[1], 4);
  for (int64_t a = 0; a < 4; a++)
    for (int64_t b = 0; b < 4; b++)
      for (int64_t k = 0; k < 9; k++) {
        assert_true(at(w, a, b, k / 3, k % 3) == at(old, kept[a], kept[b], k / 3, k % 3));
        assert_true(at(w->grad, a, b, k / 3, k % 3) == at(old_grad, kept[a], kept[b], k / 3, k % 3));
        assert_true(at(pr_parameter_slot(w, "momentum_buffer", false), a, b, k / 3, k % 3) ==
                    at(momentum, kept[a], kept[b], k / 3, k % 3));
        assert_true(at(w->parameter->mask, a, b, k / 3, k % 3) == at(mask, kept[a], kept[b], k / 3, k % 3));
      }
  assert_int_equal(m.n.t[3]->shape[0], 4); /* running statistics too */
  assert_fails(prP_group_check(group), PR_ERR_STATE, "ask the graph");
  pr_group_free(group);
  pr_release(old), pr_release(old_grad), pr_release(momentum), pr_release(mask);
  model_free(&m);
}

static void the_pruned_model_computes_what_the_ablated_model_computes(void **state) {
  (void)state;
  model m;
  model_make(&m, PR_F64);
  pr_tensor *x = net_input(PR_F64, 3);
  for (int32_t first = 0; first < m.pruning->units.count; first++) {
    int32_t units[2] = { first, (first + 3) % m.pruning->units.count };
    pr_verification result;
    assert_ok(pr_verify(m.pruning, units, 2, &x, PR_F64, true, &result));
    assert_true(result.output < 1e-12);
    assert_true(result.gradient < 1e-12);
  }
  assert_int_equal(m.n.t[0]->shape[0], 6); /* copies were pruned, not the model */
  pr_release(x);
  model_free(&m);
}

/* The model's code, traced again after a removal; `context` makes it disagree. */
static pr_graph *trace_again(void *ctx, const pr_graph *next, bool undo) {
  (void)next;
  return undo ? NULL : net_trace_at(ctx, 2);
}

static pr_graph *trace_fails(void *ctx, const pr_graph *next, bool undo) {
  (void)ctx, (void)next;
  if (!undo) pr_fail(PR_ERR_STATE, "the code has a number that no longer fits");
  return NULL;
}

static void check_untouched(const model *m, const net *before) {
  for (int i = 0; i < NET_TENSORS; i++) {
    assert_true(pr_same_shape(m->n.t[i], before->t[i]));
    for (int64_t k = 0; k < pr_numel(before->t[i]); k++)
      assert_true(prT_get(m->n.t[i], k) == prT_get(before->t[i], k));
  }
}

static void a_replay_that_fails_puts_everything_back(void **state) {
  (void)state;
  model m;
  net before;
  model_make(&m, PR_F64);
  assert_ok(net_make(&before, PR_F64));
  pr_group *group = group_of(&m, "conv3.weight", 0, 1, (int64_t[]){ 0 });
  assert_fails(pr_remove(m.pruning, group->unit, group->size, trace_fails, NULL), PR_ERR_STATE,
               "no longer fits");
  check_untouched(&m, &before);
  assert_ok(prP_group_check(group)); /* and the group is still good */
  assert_ok(pr_remove(m.pruning, group->unit, group->size, trace_again, &m.n));
  assert_int_equal(m.n.t[8]->shape[1], 27);
  pr_group_free(group);
  net_free(&before);
  model_free(&m);
}

static void a_removal_that_runs_out_of_memory_changes_nothing(void **state) {
  (void)state;
  model m;
  net before;
  model_make(&m, PR_F64);
  assert_ok(net_make(&before, PR_F64));
  pr_group *group = group_of(&m, "conv1.weight", 0, 2, (int64_t[]){ 0, 3 });
  for (size_t nth = 1;; nth++) {
    pr_cache_empty();
    pr_memory_fail_after(nth, true);
    pr_status status = pr_remove(m.pruning, group->unit, group->size, trace_again, &m.n);
    pr_memory_fail_after(0, false);
    if (status == PR_OK) break;
    assert_int_equal(status, PR_ERR_MEMORY);
    check_untouched(&m, &before);
    assert_true(nth < 100000);
  }
  assert_int_equal(m.n.t[0]->shape[0], 4);
  pr_group_free(group);
  net_free(&before);
  model_free(&m);
}

int main(void) {
  pr_start();
  const struct CMUnitTest tests[] = {
    memory_test(units_are_counted_and_coupled),
    memory_test(what_cannot_go_is_refused),
    memory_test(values_gradients_masks_and_state_follow_bit_by_bit),
    memory_test(the_pruned_model_computes_what_the_ablated_model_computes),
    memory_test(a_replay_that_fails_puts_everything_back),
    memory_test(a_removal_that_runs_out_of_memory_changes_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
