/* The fast CPU kernels against the reference: every case runs an operator forward and backward on both
 * backends with the same f32 numbers. The reference computes in double with plain loops, so a difference is
 * the fast kernel's. */
#include "testing.h"

#include "backend/cpu/conv_direct.h"
#include "backend/cpu/conv_im2col.h"
#include "backend/cpu/layout.h"
#include "backend/cpu/tile.h"
#include "base/random.h"
#include "base/thread.h"
#include "prune.h"

/* --- cases ------------------------------------------------------------------------------------------------------------ */

/* "x:8x3x9x9 weight:4x3x3x3": sizes; then maybe
 *   c    channels-last in memory      t    axes reversed in memory     %n   labels below n     +    values
 * above 0.1 */
typedef struct test_case {
  const char *op, *tensors, *args;
} test_case;

enum { MOST_TENSORS = 6 };

static double value_of(uint64_t seed, int64_t i) { return 2 * prB_uniform(seed, 9, 0, (uint64_t)i) - 1; }

static pr_dtype floats = PR_F32; /* of the tensors that are made */

static pr_tensor *make(int dim, const int64_t *shape, const char *mark, uint64_t seed) {
  const pr_dtype dtype = *mark == '%' ? PR_I64 : floats;
  pr_tensor *t = NULL;
  if (*mark == 'c')
    t = prT_new_channels_last(dtype, PR_CPU, dim, shape);
  else if (*mark == 't') {
    int64_t reversed[PR_MAX_DIM], stride[PR_MAX_DIM], step = 1;
    for (int d = 0; d < dim; d++) reversed[d] = shape[dim - 1 - d], stride[d] = step, step *= shape[d];
    pr_tensor *base = pr_tensor_new(dtype, PR_CPU, dim, reversed);
    assert_non_null(base);
    t = prT_view(base, dim, shape, stride, 0);
    pr_release(base);
  } else
    t = pr_tensor_new(dtype, PR_CPU, dim, shape);
  assert_non_null(t);
  const int64_t n = pr_numel(t);
  double *values = calloc((size_t)n + 1, sizeof *values);
  for (int64_t i = 0; i < n; i++) {
    values[i] = value_of(seed, i);
    if (*mark == '+') values[i] = fabs(values[i]) + 0.1;
    if (*mark == '%') values[i] = floor((values[i] + 1) / 2 * atof(mark + 1));
  }
  assert_ok(prT_from_doubles(t, values));
  free(values);
  return t;
}

static int make_all(const char *text, pr_tensor **in, const char *op_inputs) {
  int n = 0;
  memset(in, 0, sizeof *in * MOST_TENSORS);
  while (*text) {
    char name[32] = "", word[32];
    int64_t shape[PR_MAX_DIM];
    int dim = 0, used = 0, at = -1, number = 0;
    assert_int_equal(sscanf(text, " %31[a-z_]:%n", name, &used), 1);
    text += used;
    while (*text >= '0' && *text <= '9') {
      shape[dim++] = strtoll(text, (char **)&text, 10);
      if (*text == 'x') text++;
    }
    for (const char *names = op_inputs; sscanf(names, " %31[a-z_]%n", word, &used) == 1; number++) {
      if (!strcmp(word, name)) at = number;
      names += used;
      while (*names && *names != ' ') names++;
    }
    assert_true(at >= 0);
    in[at] = make(dim, shape, text, (uint64_t)at + 1);
    if (at >= n) n = at + 1;
    while (*text && *text != ' ') text++;
    while (*text == ' ') text++;
  }
  return n;
}

typedef struct results {
  pr_tensor *y, *gradient[MOST_TENSORS], *in[MOST_TENSORS];
  char forward[16], backward[16]; /* which backend did it */
} results;

static void run_case(const test_case *t, const char *backend, results *r) {
  memset(r, 0, sizeof *r);
  const pr_op *op = pr_op_find(t->op);
  assert_non_null(op);
  pr_arg args[PR_MAX_ARGS] = { 0 };
  assert_ok(pr_args_parse(op, t->args, args));
  const int n = make_all(t->tensors, r->in, op->inputs);
  for (int i = 0; i < n; i++)
    if (r->in[i] && r->in[i]->dtype == floats && !prO_writes_input(op, i))
      assert_ok(pr_require_grad(r->in[i], true));
  assert_ok(pr_backend_use(backend));
  int outputs = 1;
  assert_ok(pr_apply(op, args, r->in, n, &r->y, &outputs));
  strcpy(r->forward, prK_last_backend());
  if (!(op->flags & PR_OP_NO_GRADIENT)) {
    pr_tensor *g = prT_new_like(r->y, r->y->dtype, r->y->dim, r->y->shape);
    double *values = calloc((size_t)pr_numel(g) + 1, sizeof *values);
    for (int64_t i = 0; i < pr_numel(g); i++) values[i] = value_of(77, i);
    assert_ok(prT_from_doubles(g, values));
    free(values);
    assert_ok(pr_backward(r->y, g));
    strcpy(r->backward, prK_last_backend());
    pr_release(g);
    for (int i = 0; i < n; i++)
      if (r->in[i]) r->gradient[i] = pr_retain(r->in[i]->grad);
  }
  assert_ok(pr_backend_use("cpu"));
  pr_args_free(args);
}

static void drop(results *r) {
  pr_release(r->y);
  for (int i = 0; i < MOST_TENSORS; i++) pr_release(r->gradient[i]), pr_release(r->in[i]);
}

/* Largest difference over the largest magnitude. */
static double distance(const pr_tensor *a, const pr_tensor *b) {
  const int64_t n = pr_numel(b);
  double *x = calloc((size_t)n + 1, sizeof *x), *y = calloc((size_t)n + 1, sizeof *y), worst = 0,
         largest = 1e-30;
  assert_true(pr_same_shape(a, b));
  assert_ok(prT_to_doubles(a, x));
  assert_ok(prT_to_doubles(b, y));
  for (int64_t i = 0; i < n; i++) {
    if (!(fabs(x[i] - y[i]) <= worst)) worst = fabs(x[i] - y[i]);
    if (fabs(y[i]) > largest) largest = fabs(y[i]);
  }
  free(x), free(y);
  return worst / largest;
}

static void check_close(const test_case *t, const char *what, const pr_tensor *a, const pr_tensor *b) {
  if (!b) return;
  assert_non_null(a);
  const double d = distance(a, b);
  if (d <= (floats == PR_F64 ? 1e-13 : 1e-5)) return;
  print_error("%s %s %s: %s differs by %g\n", t->op, t->tensors, t->args, what, d);
  fail();
}

static void check_case(const test_case *t) {
  results fast, plain;
  run_case(t, "cpu", &fast);
  run_case(t, "reference", &plain);
  if (strcmp(fast.forward, "cpu") || (*fast.backward && strcmp(fast.backward, "cpu"))) {
    print_error("%s %s %s: ran on %s and %s\n", t->op, t->tensors, t->args, fast.forward, fast.backward);
    fail();
  }
  check_close(t, "the result", fast.y, plain.y);
  for (int i = 0; i < MOST_TENSORS; i++) {
    char what[40];
    snprintf(what, sizeof what, "gradient %d", i);
    check_close(t, what, fast.gradient[i], plain.gradient[i]);
    check_close(t, "an input after the call", fast.in[i], plain.in[i]);
  }
  drop(&fast), drop(&plain);
}

static void check_cases(const test_case *t) {
  for (; t->op; t++) check_case(t);
  pr_cache_empty();
}

/* --- the cases -------------------------------------------------------------------------------------------------------- */

/* Pruned networks have odd numbers of channels; small images have most of a filter in the padding. */
static void convolutions_equal_the_reference(void **state) {
  (void)state;
  static const test_case cases[] = {
    { "conv2d", "x:9x3x18x18 weight:20x3x7x7", "stride=2 padding=3" },
    { "conv2d", "x:9x3x18x17c weight:33x3x7x7 bias:33", "stride=2 padding=3" },
    { "conv2d", "x:9x23x5x5c weight:45x23x3x3 bias:45", "padding=1" },
    { "conv2d", "x:17x33x7x6c weight:33x33x3x3", "stride=2 padding=1" },
    { "conv2d", "x:30x64x5x5c weight:64x64x1x1 bias:64", "stride=2" },
    { "conv2d", "x:8x512x1x1c weight:33x512x3x3", "padding=1" },
    { "conv2d", "x:12x20x1x1c weight:20x20x3x3", "padding=1" },
    { "conv2d", "x:10x36x4x4c weight:54x12x3x3 bias:54", "padding=1" },
    { "conv2d", "x:10x10x6x6 weight:54x10x3x3", "padding=1 dilation=2" },
    { "conv2d", "x:1x23x9x9c weight:45x23x3x3 bias:45", "padding=1" },
    { "conv2d", "x:1x64x8x8c weight:32x64x3x3", "padding=1 stride=2" },
    { "conv2d", "x:3x33x9x8c weight:33x1x3x3 bias:33", "padding=1" },
    { "conv2d", "x:9x48x6x6c weight:48x1x3x3", "padding=1 stride=2" },
    { "conv2d", "x:9x33x6x6c weight:66x1x5x3", "padding=2,1" },
    { "conv2d", "x:2x5x11x11t weight:40x5x5x3 bias:40", "padding=3,0 stride=3,1" },
    { "conv2d", "x:2x6x7x7c weight:9x2x3x3", "padding=1 dilation=2,1" },
    { "conv1d", "x:9x23x15 weight:45x23x3 bias:45", "padding=1" },
    { "conv1d", "x:2x3x31 weight:40x3x5", "stride=2" },
    { "conv_transpose2d", "x:9x23x4x4c weight:23x45x3x3 bias:45", "stride=2 padding=1 output_padding=1" },
    { "conv_transpose2d", "x:2x6x4x4 weight:6x3x3x3 bias:6", "groups=2 dilation=2" },
    { "conv_transpose2d", "x:1x33x4x5c weight:33x20x2x2", "stride=2" },
    { "conv_transpose1d", "x:9x23x4 weight:23x45x3 bias:45", "stride=3 padding=1 output_padding=2" },
    { 0 },
  };
  check_cases(cases);
}

static void convolutions_in_double_precision_equal_the_reference(void **state) {
  (void)state;
  static const test_case cases[] = {
    { "conv2d", "x:2x3x18x17 weight:20x3x7x7 bias:20", "stride=2 padding=3" },
    { "conv2d", "x:3x23x5x5c weight:45x23x3x3 bias:45", "padding=1" },
    { "conv2d", "x:2x33x7x6t weight:33x33x1x1 bias:33", "" },
    { "conv2d", "x:2x33x7x6 weight:33x33x1x1", "stride=2,1" },
    { "conv2d", "x:2x512x1x1c weight:33x512x3x3", "padding=1" },
    { "conv2d", "x:2x36x4x4 weight:54x12x3x3 bias:54", "padding=1" },
    { "conv2d", "x:1x10x3x40 weight:54x10x3x3", "padding=3 dilation=2,5 stride=1,3" },
    { "conv2d", "x:2x5x11x11 weight:40x5x5x3 bias:40", "padding=3,0 stride=3,1" },
    { "conv1d", "x:3x23x15 weight:45x23x3 bias:45", "padding=1" },
    { "conv_transpose2d", "x:2x23x4x4 weight:23x45x3x3 bias:45", "stride=2 padding=1 output_padding=1" },
    { "conv_transpose2d", "x:2x16x4x4c weight:16x9x3x3 bias:18", "groups=2 dilation=2" },
    { "conv_transpose1d", "x:3x23x4 weight:23x45x3 bias:45", "stride=3 padding=1 output_padding=2" },
    { 0 },
  };
  floats = PR_F64;
  check_cases(cases);
  floats = PR_F32;
}

static void pooling_equals_the_reference(void **state) {
  (void)state;
  static const test_case cases[] = {
    { "max_pool2d", "x:5x23x16x16c", "kernel_size=3 stride=2 padding=1" },
    { "max_pool2d", "x:5x45x9x8", "kernel_size=2" },
    { "max_pool2d", "x:2x33x9x8c", "kernel_size=2,3 stride=2,1 ceil_mode=true" },
    { "max_pool2d", "x:2x3x6x6c", "kernel_size=2 stride=1 dilation=2" },
    { "max_pool1d", "x:3x23x17", "kernel_size=3 stride=2 padding=1" },
    { "avg_pool2d", "x:5x23x16x16c", "kernel_size=3 stride=2 padding=1" },
    { "avg_pool2d", "x:5x23x7x6", "kernel_size=3 stride=2 padding=1 count_include_pad=false ceil_mode=true" },
    { "avg_pool1d", "x:3x23x17", "kernel_size=3 stride=2 padding=1" },
    { "adaptive_avg_pool2d", "x:5x512x1x1c", "" },
    { "adaptive_avg_pool2d", "x:5x45x7x5c", "" },
    { "adaptive_avg_pool2d", "x:5x45x7x5c", "output_size=3,2" },
    { "adaptive_avg_pool1d", "x:5x45x7", "output_size=3" },
    { "adaptive_max_pool2d", "x:5x45x7x5c", "output_size=3,2" },
    { 0 },
  };
  check_cases(cases);
}

static void batch_norm_equals_the_reference(void **state) {
  (void)state;
  static const test_case cases[] = {
    { "batch_norm", "x:9x23x7x7c weight:23 bias:23 running_mean:23 running_var:23+", "training=true" },
    { "batch_norm", "x:9x64x1x1c weight:64 bias:64 running_mean:64 running_var:64+",
      "training=true momentum=0.3" },
    { "batch_norm", "x:9x130x3x3 weight:130 bias:130 running_mean:130 running_var:130+", "training=true" },
    { "batch_norm", "x:9x23x7x7c weight:23 bias:23 running_mean:23 running_var:23+", "" },
    { "batch_norm", "x:200x45 weight:45 bias:45", "training=true" },
    { "batch_norm", "x:20x45x6", "training=true" },
    { 0 },
  };
  check_cases(cases);
}

/* The mean may be large against the deviation: sums of squares must not cancel. */
static void variance_survives_a_large_mean(void **state) {
  (void)state;
  pr_tensor *x = pr_tensor_new(PR_F32, PR_CPU, 2, (const int64_t[]){ 5000, 3 }), *y;
  double *values = calloc(15000, sizeof *values), mean = 0, square = 0;
  for (int i = 0; i < 15000; i++) values[i] = 1e4 + 0.01 * value_of(1, i);
  assert_ok(prT_from_doubles(x, values));
  pr_arg args[PR_MAX_ARGS] = { 0 };
  const pr_op *op = pr_op_find("batch_norm");
  assert_ok(pr_args_parse(op, "training=true eps=0", args));
  assert_non_null(y = prO_call(op, args, 1, x));
  assert_string_equal(prK_last_backend(), "cpu");
  assert_ok(prT_to_doubles(y, values));
  for (int i = 0; i < 15000; i += 3) mean += values[i] / 5000, square += values[i] * values[i] / 5000;
  /* y is rounded relative to x's size in units of the deviation (0.006): 1e4 * 6e-8 / 0.006 = 0.1. */
  assert_true(fabs(mean) < 0.1);
  assert_true(fabs(square - 1) < 0.05);
  pr_args_free(args), pr_release(x), pr_release(y), free(values);
  pr_cache_empty();
}

static void matrix_products_equal_the_reference(void **state) {
  (void)state;
  static const test_case cases[] = {
    { "linear", "x:17x45 weight:23x45 bias:23", "" },
    { "linear", "x:17x45t weight:23x45t", "" },
    { "linear", "x:2x3x45 weight:10x45 bias:10", "" },
    { "linear", "x:45 weight:10x45 bias:10", "" },
    { "matmul", "a:33x45 b:45x23", "" },
    { "matmul", "a:33x45t b:45x23t", "" },
    { "matmul", "a:2x3x7x9 b:2x3x9x5", "" },
    { "matmul", "a:2x1x7x9 b:3x9x5", "" },
    { "matmul", "a:4x7x9 b:9", "" },
    { "matmul", "a:9 b:4x9x5", "" },
    { "matmul", "a:9 b:9", "" },
    { 0 },
  };
  check_cases(cases);
}

static void element_kernels_equal_the_reference(void **state) {
  (void)state;
  static const test_case cases[] = {
    { "relu", "x:5x23x7x6c", "" },
    { "relu", "x:200000", "" },
    { "relu6", "x:5x23x7x6", "" },
    { "sigmoid", "x:1001", "" },
    { "tanh", "x:1001", "" },
    { "silu", "x:7x143", "" },
    { "hardsigmoid", "x:1001", "" },
    { "hardswish", "x:1001", "" },
    { "leaky_relu", "x:5x23x7x6c", "negative_slope=0.1" },
    { "hardtanh", "x:1001", "min_val=-0.5 max_val=0.7" },
    { "clamp", "x:1001", "min=-0.5" },
    { "exp", "x:1001", "" },
    { "log", "x:1001+", "" },
    { "sqrt", "x:1001+", "" },
    { "abs", "x:1001", "" },
    { "neg", "x:1001", "" },
    { "square", "x:1001", "" },
    { "reciprocal", "x:1001+", "" },
    { "gelu", "x:1001", "" },
    { "gelu", "x:1001", "approximate=tanh" },
    { "add", "x:5x23x7x6c y:5x23x7x6c", "" },
    { "add", "x:5x23x7x6c y:5x23x7x6", "" },
    { "sub", "x:5x23x7x6c y:23x1x1", "" },
    { "mul", "x:5x23x7x6 y:6", "" },
    { "mul", "x:41x1 y:1x43", "" },
    { "div", "x:200000 y:1+", "" },
    { "sub", "x:1 y:1001", "" },
    { "maximum", "x:1001 y:1001", "" },
    { "minimum", "x:7x143 y:143", "" },
    { 0 },
  };
  check_cases(cases);
}

static void sums_and_losses_equal_the_reference(void **state) {
  (void)state;
  static const test_case cases[] = {
    { "sum", "x:5x23x7x6c", "" },
    { "sum", "x:5x23x7x6c", "dim=2,3" },
    { "sum", "x:5x23x7x6c", "dim=0,2,3" },
    { "sum", "x:5x23x7x6", "dim=0,2,3 keepdim=true" },
    { "sum", "x:200x45", "dim=0" },
    { "sum", "x:200x45", "dim=1" },
    { "sum", "x:200000", "" },
    { "mean", "x:5x23x7x6c", "dim=1 keepdim=true" },
    { "mean", "x:5x23x7x6c", "dim=2,3" },
    { "mean", "x:45x200t", "dim=0" },
    { "mean", "x:5x23x7x6c", "" },
    { "softmax", "x:33x45", "" },
    { "softmax", "x:5x4x7", "dim=-1" },
    { "log_softmax", "x:33x45", "" },
    { "cross_entropy", "x:33x10 labels:33%10", "" },
    { "cross_entropy", "x:33x10t labels:33%10", "label_smoothing=0.1 reduction=sum" },
    { 0 },
  };
  check_cases(cases);
}

/* Infinities and NaN take the ways that IEEE arithmetic and the reference give them. */
static void odd_values_pass_through(void **state) {
  (void)state;
  static const char *const names[] = { "relu", "sigmoid",   "tanh",  "silu",   "exp",
                                       "gelu", "hardswish", "clamp", "softmax" };
  const double values[] = { INFINITY, -INFINITY, NAN, 0,    -0.0, 1e-30, -1e-30,
                            88.6,     -87,       200, -200, 1e-3, -0.29, 0.31 };
  enum { N = sizeof values / sizeof *values };
  const int64_t shape[2] = { N, 1 };
  for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
    const pr_op *op = pr_op_find(names[k]);
    double got[N], expected[N];
    pr_tensor *x = pr_tensor_from(PR_F32, 2, shape, values);
    pr_tensor *fast = prO_call(op, NULL, 1, x);
    assert_ok(pr_backend_use("reference"));
    pr_tensor *plain = prO_call(op, NULL, 1, x);
    assert_ok(pr_backend_use("cpu"));
    assert_ok(prT_to_doubles(fast, got));
    assert_ok(prT_to_doubles(plain, expected));
    for (int i = 0; i < N; i++) {
      if (isnan(expected[i]) && isnan(got[i])) continue;
      if (got[i] == expected[i] || fabs(got[i] - expected[i]) <= 2e-6 * fabs(expected[i]) + 1e-37) continue;
      print_error("%s(%g) is %.9g, not %.9g\n", names[k], values[i], got[i], expected[i]);
      fail();
    }
    pr_release(x), pr_release(fast), pr_release(plain);
  }
}

/* A seed gives the same numbers on both backends, so that switching between them does not change an
 * experiment. */
static void random_numbers_equal_the_reference(void **state) {
  (void)state;
  static const struct {
    const char *op, *args;
    int inputs;
  } cases[] = { { "rand", "shape=77,123", 0 },
                { "randn", "shape=77,123", 0 },
                { "dropout", "p=0.3 training=true", 1 },
                { "dropout", "p=0.3 training=true samples=true", 1 } };
  pr_tensor *x = make(2, (const int64_t[]){ 77, 123 }, "", 1);
  for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
    const pr_op *op = pr_op_find(cases[k].op);
    pr_arg args[PR_MAX_ARGS] = { 0 };
    pr_tensor *y[2];
    assert_ok(pr_args_parse(op, cases[k].args, args));
    for (int b = 0; b < 2; b++) {
      assert_ok(pr_backend_use(b ? "reference" : "cpu"));
      pr_seed(5);
      assert_non_null(y[b] = prO_call(op, args, cases[k].inputs, x));
      assert_string_equal(prK_last_backend(), b ? "reference" : "cpu");
    }
    assert_ok(pr_backend_use("cpu"));
    assert_true(distance(y[0], y[1]) < 1e-7);
    pr_args_free(args), pr_release(y[0]), pr_release(y[1]);
  }
  pr_release(x);
  pr_cache_empty();
}

/* --- the paths that the cases above may not take ---------------------------------------------------------------------- */

/* Where oneDNN is built in, im2col runs seldom, so it is compared with the direct kernels here. */
static void im2col_equals_the_direct_kernels(void **state) {
  (void)state;
  static const prK_conv problems[] = {
    { 9, 12, 18, 2, { 7, 6 }, { 4, 3 }, { 3, 3 }, { 2, 2 }, { 1, 1 }, { 1, 1 } },
    { 3, 20, 33, 1, { 1, 9 }, { 1, 7 }, { 1, 3 }, { 1, 1 }, { 0, 1 }, { 1, 2 } },
    { 3, 3, 45, 1, { 17, 18 }, { 9, 9 }, { 7, 7 }, { 2, 2 }, { 3, 3 }, { 1, 1 } },
    { 20, 17, 33, 1, { 5, 5 }, { 3, 3 }, { 1, 1 }, { 2, 2 }, { 0, 0 }, { 1, 1 } },
  };
  const pr_op *op = pr_op_find("conv2d");
  for (size_t k = 0; k < sizeof problems / sizeof *problems; k++) {
    const prK_conv *p = &problems[k];
    const int64_t sizes[3] = { p->batch * p->in[0] * p->in[1] * p->c_in,
                               p->batch * p->out[0] * p->out[1] * p->c_out,
                               p->c_out * p->c_in / p->groups * p->kernel[0] * p->kernel[1] };
    pr_tensor *t[8];
    float *f[8];
    for (int i = 0; i < 8; i++) {
      t[i] = make(1, i == 6 ? &p->c_out : i == 7 ? &p->c_in : &sizes[i % 3], "", (uint64_t)i);
      f[i] = prT_data(t[i]);
    }
    pr_call c = { .op = op };
    void *room = malloc(1 << 22);
    prK_direct_forward(p, f[0], f[2], f[6], f[1], room);
    assert_ok(prK_im2col_conv(&c, p, PRK_CONV_FORWARD, f[0], f[2], f[6], f[4]));
    assert_true(distance(t[4], t[1]) < 1e-5);
    prK_direct_weights(p, f[0], f[1], f[2], room);
    assert_ok(prK_im2col_conv(&c, p, PRK_CONV_WEIGHTS, f[0], f[5], NULL, f[1]));
    assert_true(distance(t[5], t[2]) < 1e-5);
    prK_direct_data(p, f[1], f[2], f[7], f[0], room);
    assert_ok(prK_im2col_conv(&c, p, PRK_CONV_DATA, f[3], f[2], f[7], f[1]));
    assert_true(distance(t[3], t[0]) < 1e-5);
    free(room);
    prK_scratch_free(&c);
    for (int i = 0; i < 8; i++) pr_release(t[i]);
  }
  pr_cache_empty();
}

/* Every form of the tiles that this processor runs, not only the one that is chosen here. */
static void all_tiles_equal_plain_loops(void **state) {
  (void)state;
  enum { DEPTH = 37, LINE = 64, SIZE = DEPTH * LINE };
  float a[2 * SIZE], b[2 * SIZE], bias[LINE], y[16 * LINE];
  for (int i = 0; i < 2 * SIZE; i++) a[i] = (float)value_of(1, i), b[i] = (float)value_of(2, i);
  for (int i = 0; i < LINE; i++) bias[i] = (float)value_of(3, i);
  const prK_tiles *tiles;
  for (int form = 0; (tiles = prK_tiles_form(form)); form++)
    for (int rows = 1; rows <= tiles->rows; rows++)
      for (int columns = 1; columns <= tiles->width; columns++)
        for (int outer = 0; outer < 2; outer++) {
          const int add = (rows + columns) % 2, b_step = outer ? LINE : tiles->width;
          const prK_segment segment[2] = { { a, b, DEPTH }, { a + SIZE, b + SIZE, DEPTH - 5 } };
          const prK_target target = { y, LINE, columns, add, columns % 3 ? bias : NULL };
          for (int i = 0; i < 16 * LINE; i++) y[i] = 2;
          if (outer)
            tiles->outer(rows, 2, segment, LINE, b_step, &target);
          else
            tiles->product(rows, 2, segment, LINE, &target);
          for (int r = 0; r < 16; r++)
            for (int v = 0; v < LINE; v++) {
              double sum = r < rows && v < columns ? add * 2 + (target.bias ? bias[v] : 0) : 2;
              for (int s = 0; r < rows && v < columns && s < 2; s++)
                for (int k = 0; k < segment[s].depth; k++)
                  sum += (double)segment[s].a[outer ? k * LINE + r : r * LINE + k] *
                         segment[s].b[k * b_step + v];
              assert_close(y[r * LINE + v], sum, 1e-5);
            }
        }
}

/* The same bits for every number of threads. */
static void threads_do_not_change_convolutions(void **state) {
  (void)state;
  static const test_case cases[] = {
    { "conv2d", "x:33x23x5x5c weight:45x23x3x3 bias:45", "padding=1" },
    { "batch_norm", "x:90x23x7x7c weight:23 bias:23 running_mean:23 running_var:23+", "training=true" },
    { 0 },
  };
  const int before = pr_threads();
  if (pr_threads_set(3) == PR_ERR_UNSUPPORTED) skip(); /* a build with one thread */
  for (const test_case *t = cases; t->op; t++) {
    results one, three;
    assert_ok(pr_threads_set(1));
    run_case(t, "cpu", &one);
    assert_ok(pr_threads_set(3));
    run_case(t, "cpu", &three);
    assert_true(distance(three.y, one.y) == 0);
    for (int i = 0; i < MOST_TENSORS; i++)
      if (one.gradient[i]) assert_true(distance(three.gradient[i], one.gradient[i]) == 0);
    drop(&one), drop(&three);
  }
  assert_ok(pr_threads_set(before));
  pr_cache_empty();
}

static void copies_between_orders_are_exact(void **state) {
  (void)state;
  const int64_t shape[4] = { 3, 40, 5, 37 };
  int order[4] = { 0, 1, 2, 3 };
  pr_tensor *from = make(4, shape, "", 3), *to = pr_tensor_new(PR_F32, PR_CPU, 4, shape);
  for (int swaps = 0; swaps < 24; swaps++) {
    /* The next order: all 24 come up. */
    const int i = swaps % 3, keep = order[i];
    order[i] = order[i + 1], order[i + 1] = keep;
    int64_t stride[4], step = 1;
    for (int d = 0; d < 4; d++) stride[order[d]] = step, step *= shape[order[d]];
    prK_copy_floats(4, shape, prT_data(from), from->stride, prT_data(to), stride);
    pr_tensor *view = prT_view(to, 4, shape, stride, 0);
    assert_true(distance(view, from) == 0);
    pr_release(view);
  }
  pr_release(from), pr_release(to);
  pr_cache_empty();
}

int main(void) {
  assert_ok(pr_start());
  const struct CMUnitTest tests[] = {
    memory_test(convolutions_in_double_precision_equal_the_reference),
    memory_test(convolutions_equal_the_reference),
    memory_test(pooling_equals_the_reference),
    memory_test(batch_norm_equals_the_reference),
    memory_test(variance_survives_a_large_mean),
    memory_test(matrix_products_equal_the_reference),
    memory_test(element_kernels_equal_the_reference),
    memory_test(sums_and_losses_equal_the_reference),
    memory_test(odd_values_pass_through),
    memory_test(random_numbers_equal_the_reference),
    memory_test(im2col_equals_the_direct_kernels),
    memory_test(all_tiles_equal_plain_loops),
    memory_test(threads_do_not_change_convolutions),
    memory_test(copies_between_orders_are_exact),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
