/* The choice of the lowest entries against a plain sort, and masks that stay as they were when something
 * fails. */
#include "testing.h"

#include "prune.h"

enum { MOST = 200003 };

typedef struct entry {
  double magnitude;
  int64_t index;
} entry;

static int by_magnitude(const void *a, const void *b) {
  const entry *x = a, *y = b;
  if (x->magnitude != y->magnitude) return x->magnitude > y->magnitude ? 1 : -1;
  return (x->index > y->index) - (x->index < y->index);
}

/* The masks of all spans, one after another, after the `count` lowest of what is alive were sorted out. */
static void sort_out(const prP_span *span, int spans, bool wide, int64_t count, float *expected) {
  static entry order[MOST];
  int64_t alive = 0, first = 0;
  for (int s = 0; s < spans; s++) {
    for (int64_t i = 0; i < span[s].n; i++) {
      expected[first + i] = span[s].mask[i];
      if (span[s].mask[i] == 0) continue;
      double value = wide ? ((const double *)span[s].value)[i] : (double)((const float *)span[s].value)[i];
      order[alive++] = (entry){ fabs(value), first + i };
    }
    first += span[s].n;
  }
  qsort(order, (size_t)alive, sizeof *order, by_magnitude);
  for (int64_t i = 0; i < count; i++) expected[order[i].index] = 0;
}

static void compare(const prP_span *span, int spans, bool wide, int64_t count) {
  static float expected[MOST];
  pr_amount amount = { .kind = PR_AMOUNT_COUNT, .count = count };
  int64_t gone, first = 0;
  sort_out(span, spans, wide, count, expected);
  assert_ok(prP_zero_lowest(span, spans, wide, &amount, "entries", &gone));
  assert_int_equal(gone, count);
  for (int s = 0; s < spans; s++) {
    assert_memory_equal(span[s].mask, expected + first, (size_t)span[s].n * sizeof(float));
    first += span[s].n;
  }
}

/* Random numbers of kind 0: normal, 1: few distinct values of both signs, 2: all equal, 3: zeros, infinities
 * and numbers of all sizes. */
static double draw(int kind, uint64_t i) {
  double u = prB_uniform(7, 1, (uint64_t)kind, i);
  if (kind == 0) return prB_normal(7, 1, 0, i);
  if (kind == 1) return (double)(int)(u * 9) - 4;
  if (kind == 2) return -0.25;
  return u < 0.1 ? 0 : u > 0.99 ? HUGE_VAL : ldexp(u, (int)(i % 80) - 40) * (i % 2 ? 1 : -1);
}

/* Values of every distribution, in f32 and f64, over three spans of which one is longer than a block, with
 * dead entries: the entries that go are those that a stable sort puts first, round after round. */
static void selection_is_that_of_a_sort(void **state) {
  (void)state;
  static float narrow[MOST], mask[MOST];
  static double wide[MOST];
  const int64_t from[] = { 0, 150001, 150001, MOST };
  for (int kind = 0; kind < 4; kind++)
    for (int is_wide = 0; is_wide < 2; is_wide++) {
      prP_span span[3];
      int64_t alive = 0;
      for (int64_t i = 0; i < MOST; i++) {
        narrow[i] = (float)(wide[i] = draw(kind, (uint64_t)i));
        mask[i] = prB_uniform(7, 2, 0, (uint64_t)i) < 0.3 ? 0 : 1;
        alive += mask[i] != 0;
      }
      for (int s = 0; s < 3; s++)
        span[s] = (prP_span){ is_wide ? (void *)(wide + from[s]) : (void *)(narrow + from[s]), mask + from[s],
                              from[s + 1] - from[s] };
      const int64_t counts[] = { 0, 1, alive / 3, 17, alive / 2 };
      for (int k = 0; k < 5; k++) compare(span, 3, is_wide, counts[k]), alive -= counts[k];
      compare(span, 3, is_wide, alive);
    }
}

static void amounts_round_half_to_even(void **state) {
  (void)state;
  const struct {
    pr_amount amount;
    int64_t alive, total, want;
  } cases[] = { { { PR_AMOUNT_SHARE, 0.5, 0 }, 3, 3, 2 },    { { PR_AMOUNT_SHARE, 0.5, 0 }, 5, 5, 2 },
                { { PR_AMOUNT_SHARE, 0.25, 0 }, 10, 99, 2 }, { { PR_AMOUNT_SHARE, 1, 0 }, 10, 99, 10 },
                { { PR_AMOUNT_COUNT, 0, 10 }, 10, 99, 10 },  { { PR_SPARSITY, 0.5, 0 }, 8, 10, 3 },
                { { PR_SPARSITY, 0.1, 0 }, 8, 10, 0 } };
  int64_t count;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    assert_ok(pr_amount_of(&cases[i].amount, cases[i].alive, cases[i].total, "entries", &count));
    assert_int_equal(count, cases[i].want);
  }
  pr_amount many = { PR_AMOUNT_COUNT, 0, 11 }, nan = { PR_AMOUNT_SHARE, NAN, 0 };
  assert_fails(pr_amount_of(&many, 10, 99, "entries", &count), PR_ERR_ARGUMENT, "10 entries");
  assert_fails(pr_amount_check(&nan), PR_ERR_ARGUMENT, "0..1");
}

static pr_tensor *parameter(int64_t rows, int64_t columns) {
  int64_t shape[2] = { rows, columns };
  pr_tensor *t = pr_tensor_new(PR_F32, PR_CPU, 2, shape);
  assert_non_null(t);
  for (int64_t i = 0; i < rows * columns; i++) prT_set(t, i, draw(0, (uint64_t)i));
  assert_ok(pr_parameter_make(t, false));
  return t;
}

/* Whichever allocation fails, either both parameters have their new masks or neither has one. */
static void a_failing_allocation_changes_nothing(void **state) {
  (void)state;
  pr_amount half = { PR_AMOUNT_SHARE, 0.5, 0 };
  for (size_t nth = 1;; nth++) {
    pr_tensor *both[2] = { parameter(4, 5), parameter(3, 7) };
    int64_t gone = 0;
    pr_memory_fail_after(nth, false);
    pr_status status = pr_mask_unstructured(both, NULL, 2, PR_MASK_LOWEST, &half, &gone);
    pr_memory_fail_after(0, false);
    for (int i = 0; i < 2; i++) assert_int_equal(both[i]->parameter->mask != NULL, status == PR_OK);
    pr_release(both[0]), pr_release(both[1]);
    if (status == PR_OK) {
      assert_int_equal(gone, 20);
      assert_true(nth > 3);
      break;
    }
    assert_int_equal(status, PR_ERR_MEMORY);
  }
  pr_cache_empty();
}

static pr_status patterns(pr_tensor **both, int64_t *gone) {
  pr_amount half = { PR_AMOUNT_SHARE, 0.5, 0 };
  pr_blocks blocks = { .matrix = true, .extent = { 2, 2 } };
  return pr_mask_blocks(both, NULL, 2, &blocks, PR_MASK_LOWEST, &half, gone);
}

/* The same for blocks of two parameters together, and for a pattern of one. */
static void a_failing_allocation_leaves_no_pattern(void **state) {
  (void)state;
  for (size_t nth = 1, done = 0; done < 2; nth++) {
    pr_tensor *both[2] = { parameter(4, 5), parameter(3, 7) };
    int64_t gone = 0;
    pr_memory_fail_after(nth, false);
    pr_status status = done ? pr_mask_nm(both[0], NULL, 1, 2, 4, &gone) : patterns(both, &gone);
    pr_memory_fail_after(0, false);
    assert_int_equal(both[0]->parameter->mask != NULL, status == PR_OK);
    assert_int_equal(both[1]->parameter->mask != NULL, status == PR_OK && !done);
    pr_release(both[0]), pr_release(both[1]);
    if (status) {
      assert_int_equal(status, PR_ERR_MEMORY);
      continue;
    }
    assert_int_equal(gone, done ? 8 : 7); /* 2 of the first 4 in 4 rows; half of 6 + 8 blocks */
    assert_true(nth > 3);
    nth = 0, done++;
  }
  pr_cache_empty();
}

/* Masks that move: when memory fails, values, masks and optimiser state are as they were. */
static void a_failing_allocation_moves_no_mask(void **state) {
  (void)state;
  for (size_t nth = 1, done = 0; done < 2; nth++) {
    pr_tensor *both[2] = { parameter(4, 5), parameter(3, 7) };
    pr_amount half = { PR_AMOUNT_SHARE, 0.5, 0 };
    int64_t before, after;
    assert_ok(pr_mask_unstructured(both, NULL, 1, PR_MASK_LOWEST, &half, NULL));
    assert_ok(pr_fill(pr_parameter_slot(both[0], "momentum_buffer", true), 1));
    assert_ok(pr_count_zeros(pr_parameter_slot(both[0], "momentum_buffer", false), &before));
    pr_memory_fail_after(nth, false);
    pr_status status = done ? pr_mask_rank(both, both, 2, 0.75) : pr_mask_exchange(both[0], NULL, 5);
    pr_memory_fail_after(0, false);
    assert_int_equal(both[1]->parameter->mask != NULL, status == PR_OK && done);
    assert_ok(pr_count_zeros(both[0]->parameter->mask, &after));
    assert_int_equal(after == 10, status != PR_OK || !done);
    assert_ok(pr_count_zeros(pr_parameter_slot(both[0], "momentum_buffer", false), &after));
    if (status || done) assert_int_equal(before, after);
    pr_release(both[0]), pr_release(both[1]);
    if (status) {
      assert_int_equal(status, PR_ERR_MEMORY);
      continue;
    }
    assert_true(nth > 3);
    nth = 0, done++;
  }
  pr_cache_empty();
}

/* A mask that a caller holds keeps its content: pruning goes on in a new one. */
static void a_held_mask_is_left_alone(void **state) {
  (void)state;
  pr_amount one = { PR_AMOUNT_COUNT, 0, 1 };
  pr_tensor *t = parameter(2, 3);
  assert_ok(pr_mask_unstructured(&t, NULL, 1, PR_MASK_LOWEST, &one, NULL));
  pr_tensor *held = pr_retain(t->parameter->mask);
  int64_t zeros;
  assert_ok(pr_mask_unstructured(&t, NULL, 1, PR_MASK_LOWEST, &one, NULL));
  assert_ok(pr_count_zeros(held, &zeros));
  assert_int_equal(zeros, 1);
  assert_ok(pr_count_zeros(t, &zeros));
  assert_int_equal(zeros, 2);
  pr_release(held), pr_release(t);
  pr_cache_empty();
}

int main(void) {
  if (pr_start()) return 1;
  const struct CMUnitTest tests[] = {
    memory_test(selection_is_that_of_a_sort),          memory_test(amounts_round_half_to_even),
    memory_test(a_failing_allocation_changes_nothing), memory_test(a_failing_allocation_leaves_no_pattern),
    memory_test(a_failing_allocation_moves_no_mask),   memory_test(a_held_mask_is_left_alone)
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
