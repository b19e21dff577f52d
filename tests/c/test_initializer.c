/* test_initializer.c - the numbers that parameters begin with are those of Philox, through Box and Muller, in
 * any piece. */
#include "testing.h"

#include "base/random.h"
#include "nn/initializer.h"

#include <math.h>

static double unit(uint32_t r) { return (r + 0.5) * 0x1p-32; }

static double philox_normal(uint64_t seed, uint64_t step, int64_t i) {
  uint32_t r[4];
  prB_philox(seed, PR_STREAM_OPERATOR, step, (uint64_t)i / 4, r);
  int pair = (int)(i % 4 / 2) * 2;
  double radius = sqrt(-2 * log(unit(r[pair]))), angle = 2 * acos(-1) * unit(r[pair + 1]);
  return radius * (i % 2 ? sin(angle) : cos(angle));
}

static double philox_uniform(uint64_t seed, uint64_t step, int64_t i) {
  uint32_t r[4];
  prB_philox(seed, PR_STREAM_OPERATOR, step, (uint64_t)i / 4, r);
  return unit(r[i % 4]);
}

/* Sizes around those of the pieces that are filled at once; n numbers are the first n of more. */
static void numbers_are_those_of_philox(void **state) {
  (void)state;
  static const int64_t sizes[] = { 1, 3, 127, 128, 129, 1000, 40003 };
  for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
    pr_tensor *t = pr_tensor_zeros(PR_F32, PR_CPU, 1, &sizes[k]);
    pr_seed(0x123456789abcdefull);
    assert_ok(pr_init_normal(t, 0.5, 2));
    for (int64_t i = 0; i < sizes[k]; i++)
      assert_close(prT_get(t, i), 0.5 + 2 * philox_normal(0x123456789abcdefull, 0, i), 2e-5);
    assert_ok(pr_init_uniform(t, -1, 3));
    for (int64_t i = 0; i < sizes[k]; i++)
      assert_close(prT_get(t, i), -1 + 4 * philox_uniform(0x123456789abcdefull, 1, i), 1e-6);
    pr_release(t);
  }
}

/* Counts within each of ten equal shares of the normal distribution. */
static void normal_numbers_are_normal(void **state) {
  (void)state;
  enum { N = 200000 };
  static const double bound[9] = { -1.281551566, -0.841621234, -0.524400513, -0.253347103, 0,
                                   0.253347103,  0.524400513,  0.841621234,  1.281551566 };
  int64_t n = N, count[10] = { 0 };
  pr_tensor *t = pr_tensor_zeros(PR_F32, PR_CPU, 1, &n);
  pr_seed(5);
  assert_ok(pr_init_normal(t, 0, 1));
  for (int64_t i = 0; i < n; i++) {
    int share = 0;
    while (share < 9 && prT_get(t, i) > bound[share]) share++;
    count[share]++;
  }
  for (int share = 0; share < 10; share++) assert_close((double)count[share] / N, 0.1, 0.004);
  pr_release(t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(numbers_are_those_of_philox),
    cmocka_unit_test(normal_numbers_are_normal),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
