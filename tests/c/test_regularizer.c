/* Regularisers in C: all or nothing, whichever allocation fails and whatever the gradients look like. */
#include "testing.h"

#include "graph_net.h"
#include "prune/regularizer.h"

enum { UNITS = 64, TERMS = 16 };

/* What the regularisers work on: the units of a model, or all its tensors, and one array of state. */
typedef struct work {
  model *m;
  pr_regularized of;
  double numbers[UNITS], *state[TERMS];
  pr_term term[TERMS];
} work;

static void work_make(work *w, model *m, const pr_regularizer *regularizer) {
  const prC_units *units = &m->pruning->units;
  *w = (work){ .m = m, .of = { .tensors = m->n.t, .n = NET_TENSORS, .pruning = m->pruning, .step = 10 } };
  if (regularizer->acts_on == PR_ON_SCALES) w->of.tensors = &m->n.t[1], w->of.n = 1;
  assert_true(units->count <= UNITS && units->scopes <= TERMS);
  for (int s = 0; s < units->scopes; s++) w->state[s] = w->numbers + units->scope_start[s];
  for (int u = 0; u < UNITS; u++) w->numbers[u] = 0.25;
  w->of.state = w->state;
  for (int i = 0; i < TERMS; i++) w->term[i] = (pr_term){ .penalty = -1, .touched = -1 };
}

static pr_status regularize(work *w, const pr_regularizer *regularizer) {
  pr_arg args[PR_MAX_ARGS];
  args_default(regularizer->args, args);
  args[0].real = 0.5;
  return pr_regularize(regularizer, &w->of, args, w->term);
}

static void check_every_failure(model *m, const pr_regularizer *regularizer) {
  static double whole[NET_NUMBERS], wanted[NET_NUMBERS], now[NET_NUMBERS];
  work before, w;
  net_dress(&m->n, 5);
  size_t numbers = net_numbers(&m->n, whole);
  work_make(&w, m, regularizer);
  assert_ok(regularize(&w, regularizer));
  assert_int_equal(net_numbers(&m->n, wanted), numbers);
  assert_memory_not_equal(whole, wanted, numbers * sizeof *whole);

  net_dress(&m->n, 5);
  work_make(&w, m, regularizer);
  work_make(&before, m, regularizer);
  pr_status status = PR_ERR_MEMORY;
  int failures = 0;
  for (size_t n = 1; status && n < 3000; n++) {
    pr_memory_fail_after(n, true);
    status = regularize(&w, regularizer);
    pr_memory_fail_after(0, false);
    if (!status) break;
    failures++;
    assert_int_equal(status, PR_ERR_MEMORY);
    assert_true(net_numbers(&m->n, now) == numbers);
    assert_memory_equal(now, whole, numbers * sizeof *now);
    assert_memory_equal(w.numbers, before.numbers, sizeof w.numbers);
    assert_memory_equal(w.term, before.term, sizeof w.term);
  }
  assert_ok(status);
  assert_true(failures >= 3);
  assert_true(net_numbers(&m->n, now) == numbers);
  assert_memory_equal(now, wanted, numbers * sizeof *now);
}

static void a_failing_allocation_leaves_gradients_and_state(void **state) {
  (void)state;
  static const pr_dtype dtypes[] = { PR_F32, PR_F64, PR_BF16 };
  for (size_t d = 0; d < sizeof dtypes / sizeof *dtypes; d++) {
    model m;
    model_make(&m, dtypes[d]);
    for (const pr_regularizer *const *r = pr_regularizer_list; *r; r++) check_every_failure(&m, *r);
    model_free(&m);
  }
  pr_cache_empty();
}

/* The last parameter cannot take its new gradient: those before it keep theirs. */
static void a_gradient_that_cannot_be_written_leaves_all(void **state) {
  (void)state;
  static double whole[NET_NUMBERS], now[NET_NUMBERS];
  model m;
  model_make(&m, PR_F32);
  for (const pr_regularizer *const *r = pr_regularizer_list; *r; r++) {
    work w;
    net_dress(&m.n, -1);
    int last = (*r)->acts_on == PR_ON_SCALES ? 1 : 8; /* fc.weight is the last whose units can go */
    pr_tensor *t = m.n.t[last], *one = pr_tensor_scalar(t->dtype, 1);
    pr_release(t->grad);
    t->grad = prT_view(one, t->dim, t->shape, (int64_t[]){ 0, 0 }, 0); /* expanded */
    pr_release(one);
    size_t numbers = net_numbers(&m.n, whole);
    work_make(&w, &m, *r);
    assert_fails(regularize(&w, *r), PR_ERR_STATE, "expanded");
    assert_int_equal(net_numbers(&m.n, now), numbers);
    assert_memory_equal(now, whole, numbers * sizeof *now);
  }
  model_free(&m);
  pr_cache_empty();
}

/* One parameter under two names is one parameter. */
static void a_tensor_that_comes_twice_takes_part_once(void **state) {
  (void)state;
  static double once[NET_NUMBERS], twice[NET_NUMBERS];
  const pr_regularizer *hoyer = pr_regularizer_find("hoyer");
  assert_non_null(hoyer);
  model m;
  model_make(&m, PR_F32);
  for (int copies = 1; copies <= 2; copies++) {
    work w;
    net_dress(&m.n, 0);
    work_make(&w, &m, hoyer);
    w.of.tensors = (pr_tensor *[]){ m.n.t[0], m.n.t[0] }, w.of.n = copies;
    assert_ok(regularize(&w, hoyer));
    assert_int_equal(w.term[0].touched, pr_numel(m.n.t[0]));
    if (copies == 2) assert_int_equal(w.term[1].touched, 0);
    net_numbers(&m.n, copies == 1 ? once : twice);
  }
  assert_memory_equal(once, twice, sizeof once);
  model_free(&m);
  pr_cache_empty();
}

int main(void) {
  const struct CMUnitTest tests[] = {
    memory_test(a_failing_allocation_leaves_gradients_and_state),
    memory_test(a_gradient_that_cannot_be_written_leaves_all),
    memory_test(a_tensor_that_comes_twice_takes_part_once),
  };
  if (pr_start()) return 1;
  return cmocka_run_group_tests(tests, NULL, NULL);
}
