/* Criteria in C: eigenvalues, statistics gathered by hand, and every allocation failing once. */
#include "testing.h"

#include "graph_net.h"
#include "prune/criterion.h"
#include "prune/eigenvalues.h"

#include <math.h>

/* --- eigenvalues --------------------------------------------------------------------------------------------------------- */

static double random_number(int64_t k) { return prB_uniform(7, 9, 1, (uint64_t)k) - 0.5; }

static void eigenvalues_have_the_moments_of_their_matrix(void **state) {
  (void)state;
  enum { N = 40 };
  static double a[N * N], copy[N * N], value[N], room[2 * N];
  for (int64_t n = 1; n <= N; n++) {
    double trace = 0, squares = 0, sum = 0, square_sum = 0;
    for (int64_t i = 0; i < n; i++)
      for (int64_t j = 0; j <= i; j++) a[i * n + j] = a[j * n + i] = random_number(n * N * N + i * N + j);
    for (int64_t i = 0; i < n; i++) trace += a[i * n + i];
    for (int64_t i = 0; i < n * n; i++) squares += a[i] * a[i], copy[i] = a[i];
    prP_eigenvalues(copy, n, value, room);
    for (int64_t i = 0; i < n; i++) sum += value[i], square_sum += value[i] * value[i];
    assert_true(fabs(sum - trace) < 1e-12 * N);
    assert_true(fabs(square_sum - squares) < 1e-12 * N * N);
  }
}

static void eigenvalues_of_known_matrices_are_found(void **state) {
  (void)state;
  double room[8], value[4];
  double diagonal[] = { 3, 0, 0, 0, 7, 0, 0, 0, -2 };
  prP_eigenvalues(diagonal, 3, value, room);
  assert_true(fabs(value[0] * value[1] * value[2] + 42) < 1e-12 &&
              fabs(value[0] + value[1] + value[2] - 8) < 1e-12);
  double ones[16];
  for (int i = 0; i < 16; i++) ones[i] = 1;
  prP_eigenvalues(ones, 4, value, room);
  double most = 0;
  for (int i = 0; i < 4; i++) most = fmax(most, fabs(value[i]));
  assert_true(fabs(most - 4) < 1e-12);
  double zeros[16] = { 0 };
  prP_eigenvalues(zeros, 4, value, room);
  for (int i = 0; i < 4; i++) assert_true(value[i] == 0);
}

/* --- criteria ------------------------------------------------------------------------------------------------------------- */

/* A batch with a backward pass of the mean of all outputs; then the tensors of ones that others take. */
static pr_status gather(model *m, pr_statistics *s) {
  pr_tensor *x = net_input(PR_F64, 2), *y = NULL, *mean = NULL;
  pr_status status = x ? pr_statistics_run(s, &x, &y) : PR_ERR_MEMORY;
  if (!status && s->criterion->needs == PR_NEED_MASK_GRADIENTS) {
    mean = net_call("mean", "", 1, &y);
    status = mean ? pr_backward(mean, NULL) : PR_ERR_MEMORY;
    if (!status) status = pr_statistics_finish(s);
  }
  for (int v = 0; v < m->graph->n_values && !status; v++) {
    if (m->graph->values[v].kind != PR_VALUE_PARAMETER) continue;
    pr_tensor *ones = pr_tensor_full(PR_F64, PR_CPU, m->graph->values[v].dim, m->graph->values[v].shape, 1);
    status = ones ? pr_statistics_set(s, v, ones) : PR_ERR_MEMORY;
    pr_release(ones);
  }
  pr_release(x), pr_release(y), pr_release(mean);
  return status;
}

static pr_status score_once(model *m, const pr_criterion *c, double *score) {
  pr_arg args[PR_MAX_ARGS];
  args_default(c->args, args);
  pr_statistics *s = pr_statistics_new(m->pruning, c, args);
  pr_group *group = s ? pr_group_scope(m->pruning, 0) : NULL;
  pr_status status = group ? gather(m, s) : PR_ERR_MEMORY;
  if (!status) status = c->score(group, args, c->needs == PR_NEED_NOTHING ? NULL : s, score);
  pr_group_free(group);
  pr_statistics_free(s);
  for (int i = 0; i < NET_TENSORS && c->needs == PR_NEED_MASK_GRADIENTS; i++) pr_zero_grad(m->n.t[i]);
  return status;
}

/* Scoring never changes the model: not its values and masks, and gradients only by the backward pass of a
 * criterion that asks for one. */
static void every_criterion_survives_a_failing_allocation(void **state) {
  (void)state;
  static double whole[NET_NUMBERS], now[NET_NUMBERS];
  model m;
  model_make(&m, PR_F64);
  for (const pr_criterion *const *c = pr_criterion_list; *c; c++) {
    double wanted[8], score[8];
    bool draws = strcmp((*c)->name, "random") == 0;
    net_dress(&m.n, 0);
    assert_ok(score_once(&m, *c, wanted));
    for (int u = 0; u < 6; u++) assert_true(isfinite(wanted[u]));
    size_t numbers = net_numbers(&m.n, whole);
    pr_memory_stats before, after;
    pr_memory_get(&before);
    pr_status status = PR_ERR_MEMORY;
    for (size_t n = 1; status && n < 3000; n += n < 40 ? 1 : 7) {
      pr_memory_fail_after(n, true);
      status = score_once(&m, *c, score);
      pr_memory_fail_after(0, false);
      assert_true(!status || status == PR_ERR_MEMORY);
      assert_true(net_numbers(&m.n, now) == numbers && memcmp(now, whole, numbers * sizeof *now) == 0);
    }
    assert_ok(status);
    assert_ok(score_once(&m, *c, score));
    for (int u = 0; u < 6; u++) assert_true(draws || score[u] == wanted[u]);
    pr_memory_get(&after);
    assert_int_equal(after.live, before.live);
  }
  model_free(&m);
  pr_cache_empty();
}

static void statistics_of_an_older_graph_are_refused(void **state) {
  (void)state;
  model m;
  model_make(&m, PR_F64);
  pr_arg args[PR_MAX_ARGS];
  const pr_criterion *c = pr_criterion_find("activation");
  assert_non_null(c);
  args_default(c->args, args);
  pr_statistics *s = pr_statistics_new(m.pruning, c, args);
  assert_non_null(s);
  assert_true(s->n_sites > 0);
  m.pruning->generation++;
  assert_int_equal(gather(&m, s), PR_ERR_STATE);
  pr_statistics_free(s);
  model_free(&m);
}

static void what_was_not_gathered_is_missed(void **state) {
  (void)state;
  model m;
  model_make(&m, PR_F64);
  pr_group *group = pr_group_scope(m.pruning, 0);
  for (const pr_criterion *const *c = pr_criterion_list; *c; c++) {
    double score[8];
    pr_arg args[PR_MAX_ARGS];
    args_default((*c)->args, args);
    if ((*c)->needs == PR_NEED_NOTHING) continue;
    assert_int_equal((*c)->score(group, args, NULL, score), PR_ERR_STATE);
    pr_statistics *empty = pr_statistics_new(m.pruning, *c, args);
    assert_non_null(empty);
    assert_int_equal((*c)->score(group, args, empty, score), PR_ERR_STATE);
    pr_statistics_free(empty);
  }
  pr_group_free(group);
  model_free(&m);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(eigenvalues_have_the_moments_of_their_matrix),
    cmocka_unit_test(eigenvalues_of_known_matrices_are_found),
    memory_test(every_criterion_survives_a_failing_allocation),
    memory_test(statistics_of_an_older_graph_are_refused),
    memory_test(what_was_not_gathered_is_missed),
  };
  if (pr_start()) return 1;
  return cmocka_run_group_tests(tests, NULL, NULL);
}
