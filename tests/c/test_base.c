/* What every room stands on: counted memory, errors by thread, the path of the running layer, random numbers,
 * threads. */
#include "testing.h"

#include <pthread.h>

#include "base/random.h"
#include "base/scope.h"
#include "base/thread.h"

static pr_memory_stats memory(void) {
  pr_memory_stats now;
  pr_memory_get(&now);
  return now;
}

/* Live bytes and blocks follow every kind of allocation exactly, also of empty arrays. */
static void memory_is_counted(void **state) {
  (void)state;
  pr_memory_stats before = memory();
  int *numbers = PRB_ARRAY(int, 10), *none = PRB_ARRAY(int, 0);
  double *values = prB_aligned(100 * sizeof(double));
  char *text = prB_string("four");
  assert_non_null(none);
  assert_int_equal((uintptr_t)values % 64, 0);
  for (int i = 0; i < 10; i++) assert_int_equal(numbers[i], 0);
  assert_int_equal(memory().live - before.live, 10 * sizeof(int) + 800 + 5);
  assert_int_equal(memory().blocks - before.blocks, 4);

  size_t capacity = 10;
  assert_ok(PRB_RESERVE(numbers, capacity, 11));
  assert_int_equal(capacity, 20);
  assert_int_equal(memory().live - before.live, 20 * sizeof(int) + 805);
  assert_int_equal(memory().blocks - before.blocks, 4);

  PRB_ARRAY_FREE(numbers, capacity);
  PRB_ARRAY_FREE(none, 0);
  prB_aligned_free(values, 100 * sizeof(double));
  prB_string_free(text);
}

static void peak_is_the_most_ever_live(void **state) {
  (void)state;
  pr_memory_reset_peak();
  size_t live = memory().live;
  void *large = prB_aligned(1 << 20);
  prB_aligned_free(large, 1 << 20);
  void *small = prB_aligned(64);
  assert_int_equal(memory().peak - live, 1 << 20);
  prB_aligned_free(small, 64);
}

/* The nth allocation fails with a reason and leaves what was there; sizes that overflow are refused. */
static void allocations_fail_cleanly(void **state) {
  (void)state;
  size_t capacity = 4;
  int *numbers = PRB_ARRAY(int, capacity);
  numbers[3] = 7;
  pr_memory_fail_after(1, false);
  assert_fails(PRB_RESERVE(numbers, capacity, 5), PR_ERR_MEMORY, "out of memory");
  assert_int_equal(capacity, 4);
  assert_int_equal(numbers[3], 7);
  assert_ok(PRB_RESERVE(numbers, capacity, 5));

  pr_memory_fail_after(2, true);
  void *first = prB_aligned(8), *second = prB_aligned(8), *third = prB_string("x");
  assert_non_null(first);
  assert_null(second);
  assert_null(third);
  pr_memory_fail_after(0, false);
  prB_aligned_free(first, 8);

  assert_null(prB_zeroed(SIZE_MAX / 2, 3));
  assert_int_equal(pr_error_last()->code, PR_ERR_MEMORY);
  PRB_ARRAY_FREE(numbers, capacity);
}

static void *fail_elsewhere(void *unused) {
  pr_fail(PR_ERR_IO, "of another thread");
  return unused;
}

/* The record belongs to its thread, carries the layer's path, and over-long messages are cut, not overrun. */
static void errors_are_recorded(void **state) {
  (void)state;
  int depth = pr_scope_enter("", "Net");
  pr_scope_enter("layer1", "Sequential");
  pr_scope_enter("conv", "Conv2d");
  assert_string_equal(pr_scope_path(), "layer1.conv");
  assert_string_equal(pr_scope_type(), "Conv2d");
  assert_fails(pr_fail(PR_ERR_SHAPE, "axis %d", 3), PR_ERR_SHAPE, "axis 3");
  assert_string_equal(pr_error_last()->path, "layer1.conv");
  pr_scope_leave(depth);
  assert_string_equal(pr_scope_path(), "");

  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, fail_elsewhere, NULL), 0);
  pthread_join(thread, NULL);
  assert_string_equal(pr_error_last()->message, "axis 3");

  char text[4000];
  memset(text, 'x', sizeof text - 1);
  text[sizeof text - 1] = 0;
  pr_fail(PR_ERR_ARGUMENT, "%s", text);
  assert_int_equal(strlen(pr_error_last()->message), sizeof pr_error_last()->message - 1);
  for (int i = 0; i < 200; i++) pr_scope_enter("a_rather_long_name_of_a_layer", "Type");
  assert_true(strlen(pr_scope_path()) < 192);
  pr_scope_leave(0);
  assert_string_equal(pr_scope_path(), "");
}

/* The first known answer of the generator's authors: key and counter 0. */
static void random_numbers_are_philox(void **state) {
  (void)state;
  uint32_t out[4];
  prB_philox(0, 0, 0, 0, out);
  assert_int_equal(out[0], 0x6627e8d5);
  assert_int_equal(out[1], 0xe169c58d);
  assert_int_equal(out[2], 0xbc57ac4c);
  assert_int_equal(out[3], 0x9b00dbd8);
}

/* Mean and variance of 20,000 numbers, five standard errors wide; integers stay below n; streams and steps
 * differ. */
static void random_numbers_have_their_distribution(void **state) {
  (void)state;
  enum { N = 20000 };
  double sum = 0, squares = 0, normals = 0, normal_squares = 0;
  int counts[7] = { 0 };
  for (int i = 0; i < N; i++) {
    double u = prB_uniform(5, PR_STREAM_OPERATOR, 1, (uint64_t)i),
           z = prB_normal(5, PR_STREAM_OPERATOR, 2, (uint64_t)i);
    assert_true(u >= 0 && u < 1);
    sum += u, squares += u * u, normals += z, normal_squares += z * z;
    counts[prB_below(5, PR_STREAM_SHUFFLE, 0, (uint64_t)i, 7)]++;
  }
  assert_close(sum / N, 0.5, 5 * 0.289 / sqrt(N));
  assert_close(squares / N, 1.0 / 3, 5 * 0.298 / sqrt(N));
  assert_close(normals / N, 0, 5 / sqrt(N));
  assert_close(normal_squares / N, 1, 5 * sqrt(2.0 / N));
  for (int i = 0; i < 7; i++) assert_true(abs(counts[i] - N / 7) < 250);
  assert_true(prB_uniform(5, 1, 1, 0) != prB_uniform(5, 2, 1, 0));
  assert_true(prB_uniform(5, 1, 1, 0) != prB_uniform(5, 1, 2, 0));
  assert_true(prB_uniform(5, 1, 1, 0) != prB_uniform(6, 1, 1, 0));
}

static void the_generator_can_be_rewound(void **state) {
  (void)state;
  pr_seed(42);
  assert_int_equal(prB_next_step(), 0);
  assert_int_equal(prB_next_step(), 1);
  assert_int_equal(pr_random_step(), 2);
  pr_random_restore(7, 30);
  assert_int_equal(pr_seed_get(), 7);
  assert_int_equal(prB_next_step(), 30);
  pr_seed(0);
}

static void threads_and_interrupts(void **state) {
  (void)state;
  assert_int_not_equal(pr_threads_set(0), PR_OK);
  assert_ok(pr_threads_set(1));
  assert_int_equal(pr_threads(), 1);
  assert_ok(prB_interrupted());
  pr_interrupt();
  assert_true(pr_interrupt_pending());
  assert_fails(prB_interrupted(), PR_ERR_INTERRUPTED, NULL);
  assert_ok(prB_interrupted());
}

int main(void) {
  const struct CMUnitTest tests[] = {
    memory_test(memory_is_counted),
    memory_test(peak_is_the_most_ever_live),
    memory_test(allocations_fail_cleanly),
    memory_test(errors_are_recorded),
    memory_test(random_numbers_are_philox),
    memory_test(random_numbers_have_their_distribution),
    memory_test(the_generator_can_be_rewound),
    memory_test(threads_and_interrupts),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
