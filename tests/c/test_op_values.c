/* What operators promise beyond formulas: which memory is shared, the order of equal elements, dtypes of
 * results, and random numbers that depend on the seed alone. */
#include "testing.h"

#include "autograd/autograd.h"
#include "autograd/parameter.h"
#include "base/random.h"
#include "op/call.h"

extern pr_op pr_op_sort, pr_op_topk, pr_op_argmax, pr_op_amax, pr_op_flatten, pr_op_transpose, pr_op_slice,
    pr_op_select, pr_op_rand, pr_op_randn, pr_op_randint, pr_op_randperm, pr_op_bernoulli, pr_op_dropout,
    pr_op_masked_select, pr_op_nonzero, pr_op_mean, pr_op_arange, pr_op_linspace, pr_op_gather, pr_op_pad,
    pr_op_relu, pr_op_round;

static pr_tensor *list(pr_dtype dtype, int64_t n, const double *values) {
  pr_tensor *t = pr_tensor_from(dtype, 1, &n, values);
  assert_non_null(t);
  return t;
}

/* One call through text arguments; fails the test with the core's message. */
static pr_tensor *call(const pr_op *op, const char *options, int n_in, pr_tensor **in, pr_tensor **second) {
  pr_arg args[PR_MAX_ARGS];
  pr_tensor *out[2] = { NULL, NULL };
  int n_out = 2;
  assert_ok(pr_args_parse(op, options, args));
  assert_ok(pr_apply(op, args, in, n_in, out, &n_out));
  pr_args_free(args);
  if (second)
    *second = out[1];
  else
    pr_release(out[1]);
  return out[0];
}

static void assert_values(pr_tensor *t, int64_t n, const double *expected) {
  double values[64];
  assert_int_equal(pr_numel(t), n);
  assert_ok(prT_to_doubles(t, values));
  for (int64_t i = 0; i < n; i++) assert_close(values[i], expected[i], 1e-6);
  pr_release(t);
}

#define VALUES(t, ...)                                                                                       \
  assert_values(t, (int64_t)(sizeof((double[]){ __VA_ARGS__ }) / sizeof(double)), (double[]){ __VA_ARGS__ })

/* --- order -------------------------------------------------------------------------------------------- */

static void equal_elements_keep_their_order(void **state) {
  (void)state;
  pr_tensor *x = list(PR_F32, 5, (double[]){ 2, 1, 2, 1, 3 }), *order;
  VALUES(call(&pr_op_sort, "", 1, &x, &order), 1, 1, 2, 2, 3);
  VALUES(order, 1, 3, 0, 2, 4);
  VALUES(call(&pr_op_sort, "descending=true", 1, &x, &order), 3, 2, 2, 1, 1);
  VALUES(order, 4, 0, 2, 1, 3);
  VALUES(call(&pr_op_topk, "k=2 largest=false", 1, &x, &order), 1, 1);
  VALUES(order, 1, 3);
  VALUES(call(&pr_op_argmax, "", 1, &x, NULL), 4);
  pr_release(x);
}

static void nan_counts_as_the_largest(void **state) {
  (void)state;
  pr_tensor *x = list(PR_F32, 4, (double[]){ 1, NAN, 3, -1 }), *order;
  VALUES(call(&pr_op_sort, "", 1, &x, &order), -1, 1, 3, NAN);
  VALUES(order, 3, 0, 2, 1);
  VALUES(call(&pr_op_argmax, "", 1, &x, NULL), 1);
  VALUES(call(&pr_op_amax, "", 1, &x, NULL), NAN);
  VALUES(call(&pr_op_relu, "", 1, &x, NULL), 1, NAN, 3, 0);
  pr_release(x);
}

static void equal_extremes_share_the_gradient(void **state) {
  (void)state;
  pr_tensor *x = list(PR_F64, 3, (double[]){ 5, 5, 1 });
  assert_ok(pr_require_grad(x, true));
  pr_tensor *y = call(&pr_op_amax, "", 1, &x, NULL);
  assert_ok(pr_backward(y, NULL));
  VALUES(pr_retain(x->grad), 0.5, 0.5, 0);
  pr_release(y), pr_release(x);
}

/* --- shared memory ------------------------------------------------------------------------------------ */

static void reshape_copies_only_where_it_must(void **state) {
  (void)state;
  int64_t shape[] = { 2, 3, 2, 2 };
  pr_tensor *x = pr_tensor_zeros(PR_F32, PR_CPU, 4, shape),
            *image = prT_new_channels_last(PR_F32, PR_CPU, 4, shape);
  for (int64_t i = 0; i < 24; i++) prT_set(x, i, (double)i);
  assert_ok(pr_copy(image, x));
  pr_tensor *flat = call(&pr_op_flatten, "start_dim=1", 1, &x, NULL),
            *copy = call(&pr_op_flatten, "start_dim=1", 1, &image, NULL);
  assert_ptr_equal(flat->storage, x->storage);
  assert_ptr_not_equal(copy->storage, image->storage);
  double a[24], b[24];
  assert_ok(prT_to_doubles(flat, a));
  assert_ok(prT_to_doubles(copy, b));
  assert_memory_equal(a, b, sizeof a);
  pr_tensor *turned = call(&pr_op_transpose, "dim1=0 dim2=3", 1, &x, NULL),
            *merged = call(&pr_op_reshape, "shape=2,-1", 1, &turned, NULL);
  assert_ptr_equal(turned->storage, x->storage);
  assert_ptr_not_equal(merged->storage, x->storage);
  assert_close(prT_get(merged, 1), 12, 0); /* the next element of axis 0 of x */
  pr_release(merged), pr_release(turned), pr_release(copy), pr_release(flat), pr_release(image),
      pr_release(x);
}

static void parts_are_views_counted_from_either_end(void **state) {
  (void)state;
  pr_tensor *x = list(PR_F32, 6, (double[]){ 0, 1, 2, 3, 4, 5 });
  VALUES(call(&pr_op_slice, "dim=0 start=1 stop=5 step=2", 1, &x, NULL), 1, 3, 5);
  VALUES(call(&pr_op_slice, "dim=0 start=-2", 1, &x, NULL), 4, 5);
  VALUES(call(&pr_op_slice, "dim=0 stop=-5", 1, &x, NULL), 0, 1);
  VALUES(call(&pr_op_select, "dim=0 index=-1", 1, &x, NULL), 5);
  VALUES(call(&pr_op_narrow, "dim=0 start=0 length=3 index=0,3,4", 1, &x, NULL), 0, 3, 4);
  VALUES(call(&pr_op_pad, "pad=-2,1 value=9", 1, &x, NULL), 2, 3, 4, 5, 9);
  pr_tensor *part = call(&pr_op_slice, "dim=0 start=4", 1, &x, NULL);
  assert_ptr_equal(part->storage, x->storage);
  pr_release(part), pr_release(x);
}

/* --- dtypes ------------------------------------------------------------------------------------------- */

static void numbers_take_the_dtype_of_tensors(void **state) {
  (void)state;
  pr_tensor *whole = list(PR_I64, 2, (double[]){ 3, 4 }), *single = list(PR_F32, 2, (double[]){ 3, 4 });
  pr_tensor *half = pr_tensor_scalar(PR_F64, 0.5), *two = pr_tensor_scalar(PR_I64, 2), *y;
  const struct {
    const pr_op *op;
    pr_tensor *a, *b;
    pr_dtype dtype;
    double first;
  } cases[] = {
    { &pr_op_mul, single, half, PR_F32, 1.5 }, { &pr_op_mul, half, single, PR_F32, 1.5 },
    { &pr_op_mul, whole, two, PR_I64, 6 },     { &pr_op_mul, whole, half, PR_F32, 1.5 }, /* not cut to 0 */
    { &pr_op_div, whole, two, PR_F32, 1.5 },   { &pr_op_ge, whole, half, PR_BOOL, 1 },
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    assert_non_null(y = prO_call(cases[i].op, NULL, 2, cases[i].a, cases[i].b));
    assert_int_equal(y->dtype, cases[i].dtype);
    assert_close(prT_get(y, 0), cases[i].first, 1e-7);
    pr_release(y);
  }
  pr_tensor *mixed[] = { whole, single };
  int one = 1;
  assert_fails(pr_apply(&pr_op_add, NULL, mixed, 2, &y, &one), PR_ERR_DTYPE, "x is i64 but y is f32");
  pr_release(whole), pr_release(single), pr_release(half), pr_release(two);
}

static void sums_of_truth_values_count(void **state) {
  (void)state;
  pr_tensor *flags = list(PR_BOOL, 4, (double[]){ 1, 0, 1, 1 }), *n = call(&pr_op_sum, "", 1, &flags, NULL),
            *y;
  int one = 1;
  assert_int_equal(n->dtype, PR_I64);
  VALUES(n, 3);
  assert_fails(pr_apply(&pr_op_mean, NULL, &flags, 1, &y, &one), PR_ERR_DTYPE, "float");
  pr_release(flags);
}

static void halves_round_to_even_and_casts_cut(void **state) {
  (void)state;
  pr_tensor *x = list(PR_F32, 5, (double[]){ 0.5, 1.5, 2.5, -0.5, -1.7 });
  VALUES(call(&pr_op_round, "", 1, &x, NULL), 0, 2, 2, 0, -2);
  VALUES(call(&pr_op_cast, "dtype=i64", 1, &x, NULL), 0, 1, 2, 0, -1);
  VALUES(call(&pr_op_cast, "dtype=bool", 1, &x, NULL), 1, 1, 1, 1, 1);
  pr_release(x);
}

/* --- shapes that depend on values --------------------------------------------------------------------- */

static void conditions_select(void **state) {
  (void)state;
  pr_tensor *x = list(PR_F32, 6, (double[]){ 5, 0, 7, 0, 0, 8 }),
            *grid = call(&pr_op_reshape, "shape=2,3", 1, &x, NULL);
  pr_tensor *mask = prO_call_scalar(&pr_op_gt, grid, 5), *in[] = { grid, mask };
  VALUES(call(&pr_op_masked_select, "", 2, in, NULL), 7, 8);
  VALUES(call(&pr_op_nonzero, "", 1, &grid, NULL), 0, 0, 0, 2, 1, 2);
  pr_release(mask), pr_release(grid), pr_release(x);
}

static void indices_outside_are_named(void **state) {
  (void)state;
  pr_tensor *x = list(PR_F32, 3, (double[]){ 5, 6, 7 }), *index = list(PR_I64, 2, (double[]){ 2, 3 }),
            *in[] = { x, index }, *y;
  int one = 1;
  pr_arg args[PR_MAX_ARGS] = { PRO_INT(0) };
  assert_fails(pr_apply(&pr_op_gather, args, in, 2, &y, &one), PR_ERR_INDEX,
               "index 3 is out of range: it must be 0 to 2");
  pr_release(x), pr_release(index);
}

/* --- ranges ------------------------------------------------------------------------------------------- */

static void ranges_end_where_they_should(void **state) {
  (void)state;
  VALUES(call(&pr_op_arange, "start=0 stop=0.3 step=0.1", 0, NULL, NULL), 0, 0.1, 0.2);
  VALUES(call(&pr_op_arange, "start=3 stop=0 step=-1 dtype=i64", 0, NULL, NULL), 3, 2, 1);
  VALUES(call(&pr_op_linspace, "start=-1 stop=1 steps=3", 0, NULL, NULL), -1, 0, 1);
  pr_tensor *y;
  int one = 1;
  pr_arg args[PR_MAX_ARGS] = { PRO_REAL(0), PRO_REAL(5), PRO_REAL(-1) };
  assert_fails(pr_apply(&pr_op_arange, args, NULL, 0, &y, &one), PR_ERR_ARGUMENT, "lead away");
}

/* --- random numbers ----------------------------------------------------------------------------------- */

enum { MANY = 20000 };

static void moments(pr_tensor *t, double *mean, double *variance, double *least, double *most) {
  double sum = 0, squares = 0;
  int64_t n = pr_numel(t);
  *least = INFINITY, *most = -INFINITY;
  for (int64_t i = 0; i < n; i++) {
    double x = prT_get(t, i);
    sum += x, squares += x * x, *least = fmin(*least, x), *most = fmax(*most, x);
  }
  *mean = sum / (double)n, *variance = squares / (double)n - *mean * *mean;
  pr_release(t);
}

static void distributions_have_their_moments(void **state) {
  (void)state;
  double mean, variance, least, most;
  pr_seed(3);
  moments(call(&pr_op_rand, "shape=20000", 0, NULL, NULL), &mean, &variance, &least, &most);
  assert_close(mean, 0.5, 0.01), assert_close(variance, 1.0 / 12, 0.005);
  assert_true(least >= 0 && most < 1);
  moments(call(&pr_op_randn, "shape=20000", 0, NULL, NULL), &mean, &variance, &least, &most);
  assert_close(mean, 0, 0.03), assert_close(variance, 1, 0.05);
  moments(call(&pr_op_randint, "low=-2 high=3 shape=20000", 0, NULL, NULL), &mean, &variance, &least, &most);
  assert_close(mean, 0, 0.05), assert_close(variance, 2, 0.1);
  assert_true(least == -2 && most == 2);
  int64_t n = MANY;
  pr_tensor *p = pr_tensor_full(PR_F32, PR_CPU, 1, &n, 0.3);
  moments(call(&pr_op_bernoulli, "", 1, &p, NULL), &mean, &variance, &least, &most);
  assert_close(mean, 0.3, 0.02);
  pr_release(p);
}

static void permutations_hold_every_index_once(void **state) {
  (void)state;
  bool seen[100] = { false };
  pr_seed(3);
  pr_tensor *order = call(&pr_op_randperm, "n=100", 0, NULL, NULL);
  int64_t moved = 0;
  for (int64_t i = 0; i < 100; i++) {
    int64_t at = (int64_t)prT_get(order, i);
    assert_in_range(at, 0, 99);
    assert_false(seen[at]);
    seen[at] = true, moved += at != i;
  }
  assert_true(moved > 80);
  pr_release(order);
}

/* The same seed gives the same numbers, the next call others. */
static void seeds_repeat(void **state) {
  (void)state;
  double a[8], b[8], c[8];
  for (int k = 0; k < 2; k++) {
    pr_seed(11);
    pr_tensor *first = call(&pr_op_randn, "shape=8", 0, NULL, NULL),
              *next = call(&pr_op_randn, "shape=8", 0, NULL, NULL);
    assert_ok(prT_to_doubles(first, k ? b : a));
    assert_ok(prT_to_doubles(next, c));
    pr_release(first), pr_release(next);
  }
  assert_memory_equal(a, b, sizeof a);
  assert_memory_not_equal(a, c, sizeof a);
}

/* Kept elements are scaled, their share is 1 - p, and the gradient passes exactly where the value did;
 * without training nothing happens. */
static void dropout_scales_what_it_keeps(void **state) {
  (void)state;
  int64_t n = MANY, kept = 0;
  pr_tensor *x = pr_tensor_full(PR_F32, PR_CPU, 1, &n, 3);
  assert_ok(pr_require_grad(x, true));
  pr_seed(3);
  pr_tensor *y = call(&pr_op_dropout, "p=0.25 training=true", 1, &x, NULL),
            *total = call(&pr_op_sum, "", 1, &y, NULL);
  assert_ok(pr_backward(total, NULL));
  for (int64_t i = 0; i < n; i++) {
    double value = prT_get(y, i);
    kept += value != 0;
    assert_close(value, value != 0 ? 4 : 0, 1e-6);
    assert_close(prT_get(x->grad, i), value / 3, 1e-6);
  }
  assert_close((double)kept / MANY, 0.75, 0.02);
  pr_release(total), pr_release(y);
  y = call(&pr_op_dropout, "p=0.25", 1, &x, NULL);
  assert_ptr_equal(y->storage, x->storage);
  pr_release(y), pr_release(x);
}

static int empty_cache(void **state) {
  (void)state;
  pr_cache_empty();
  return testing_memory_end(state);
}

#define test(f) cmocka_unit_test_setup_teardown(f, testing_memory_begin, empty_cache)

int main(void) {
  prA_start();
  const struct CMUnitTest tests[] = {
    test(equal_elements_keep_their_order),
    test(nan_counts_as_the_largest),
    test(equal_extremes_share_the_gradient),
    test(reshape_copies_only_where_it_must),
    test(parts_are_views_counted_from_either_end),
    test(numbers_take_the_dtype_of_tensors),
    test(sums_of_truth_values_count),
    test(halves_round_to_even_and_casts_cut),
    test(conditions_select),
    test(indices_outside_are_named),
    test(ranges_end_where_they_should),
    test(distributions_have_their_moments),
    test(permutations_hold_every_index_once),
    test(seeds_repeat),
    test(dropout_scales_what_it_keeps),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
