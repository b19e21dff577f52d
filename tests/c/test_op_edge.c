/* test_op_edge.c - layers' operators at the edges of what they take: shapes that do not fit are refused in
 * words that name operator and shapes, values out of range are found, and the smallest inputs (no sample, one
 * pixel, one channel) work. */
#include "testing.h"

#include "autograd/autograd.h"
#include "backend/backend.h"
#include "base/scope.h"

enum { MOST = 8 };

/* A tensor of the shape "2x3x4" filled with `start`, `start + step`, ...; "" is a scalar. */
static pr_tensor *filled(pr_dtype dtype, const char *shape, double start, double step) {
  int64_t sizes[PR_MAX_DIM];
  int dim = 0;
  for (const char *at = shape; *at; at += *at == 'x') sizes[dim++] = strtoll(at, (char **)&at, 10);
  pr_tensor *t = pr_tensor_zeros(dtype, PR_CPU, dim, sizes);
  assert_non_null(t);
  int64_t n = pr_numel(t);
  for (int64_t i = 0; i < n; i++) prT_set(t, i, start + step * (double)i);
  return t;
}

static pr_tensor *floats(const char *shape) { return filled(PR_F32, shape, -0.7, 0.13); }

typedef struct call {
  const pr_op *op;
  pr_arg args[PR_MAX_ARGS];
  pr_tensor *in[MOST], *out[MOST];
  int n_in, n_out;
} call;

/* "x weight" shapes as text; labels are given by the caller. Inputs are released by done(). */
static pr_status apply(call *c, const char *op, const char *args, int n, pr_tensor *const *in) {
  memset(c, 0, sizeof *c);
  c->op = pr_op_find(op);
  assert_non_null(c->op);
  assert_ok(pr_args_parse(c->op, args, c->args));
  for (int i = 0; i < n; i++) c->in[i] = in[i];
  c->n_in = n;
  c->n_out = MOST;
  pr_status status = pr_apply(c->op, c->args, c->in, n, c->out, &c->n_out);
  if (status) c->n_out = 0;
  return status;
}

static void done(call *c) {
  for (int i = 0; i < c->n_in; i++) pr_release(c->in[i]);
  for (int i = 0; i < c->n_out; i++) pr_release(c->out[i]);
  pr_args_free(c->args);
  pr_cache_empty();
}

#define APPLY(c, op, args, ...)                                                                              \
  apply((c), (op), (args), (int)(sizeof((pr_tensor *[]){ __VA_ARGS__ }) / sizeof(pr_tensor *)),              \
        (pr_tensor *[]){ __VA_ARGS__ })

static void assert_shape(const pr_tensor *t, const char *shape) {
  char text[PR_SHAPE_TEXT];
  assert_string_equal(pr_shape_text(t, text), shape);
}

static double at(const pr_tensor *t, int64_t row_major) {
  double values[256];
  assert_true(pr_numel(t) <= 256 && row_major < pr_numel(t));
  assert_ok(prT_to_doubles(t, values));
  return values[row_major];
}

/* Each of these must fail with this status and every one of these texts in the message. */
typedef struct refusal {
  const char *op, *args, *x, *weight, *bias;
  pr_status status;
  const char *texts[4];
} refusal;

static const refusal refusals[] = {
  { "conv2d", "", "2x3x8x9", "4x5x3x3", NULL, PR_ERR_SHAPE, { "conv2d", "[2, 3, 8, 9]", "[4, 5, 3, 3]" } },
  { "conv2d",
    "groups=3",
    "2x4x8x9",
    "4x2x3x3",
    NULL,
    PR_ERR_SHAPE,
    { "4 channels", "2 per group", "groups" } },
  { "conv2d", "", "2x4x5x5", "3x2x3x3", NULL, PR_ERR_SHAPE, { "3 output channels", "2 groups" } },
  { "conv2d", "", "2x3x2x9", "4x3x3x3", NULL, PR_ERR_SHAPE, { "conv2d", "spans 3", "2", "[2, 3, 2, 9]" } },
  { "conv2d", "dilation=4 padding=1", "2x3x5x9", "4x3x3x3", NULL, PR_ERR_SHAPE, { "spans 9", "7" } },
  { "conv2d", "", "3x8x9", "4x3x3x3", NULL, PR_ERR_SHAPE, { "x must have 4 axes, has 3" } },
  { "conv2d", "stride=0", "2x3x8x9", "4x3x3x3", NULL, PR_ERR_ARGUMENT, { "'stride' must be at least 1" } },
  { "conv2d",
    "padding=9223372036854775807",
    "2x3x8x9",
    "4x3x3x3",
    NULL,
    PR_ERR_ARGUMENT,
    { "'padding'", "2^30" } },
  { "conv2d", "groups=9223372036854775807", "2x3x8x9", "4x3x3x3", NULL, PR_ERR_SHAPE, { "3 channels" } },
  { "conv2d", "stride=1,2,3", "2x3x8x9", "4x3x3x3", NULL, PR_ERR_ARGUMENT, { "stride", "3" } },
  { "conv2d", "", "2x3x8x9", "4x3x3x3", "5", PR_ERR_SHAPE, { "bias", "4", "5" } },
  { "conv1d", "", "2x3x8", "4x2x3", NULL, PR_ERR_SHAPE, { "conv1d", "[2, 3, 8]", "[4, 2, 3]" } },
  { "conv_transpose2d",
    "",
    "2x3x8x9",
    "4x3x3x3",
    NULL,
    PR_ERR_SHAPE,
    { "conv_transpose2d", "[4, 3, 3, 3]" } },
  { "conv_transpose2d", "groups=2", "2x3x8x9", "3x3x3x3", NULL, PR_ERR_SHAPE, { "3 channels", "2 groups" } },
  { "conv_transpose2d",
    "output_padding=1",
    "2x3x8x9",
    "3x3x3x3",
    NULL,
    PR_ERR_ARGUMENT,
    { "output_padding (1)" } },
  { "conv_transpose2d", "padding=3", "2x3x2x2", "3x3x3x3", NULL, PR_ERR_SHAPE, { "padding is too large" } },
  { "linear", "", "4x7", "5x6", NULL, PR_ERR_SHAPE, { "linear", "[4, 7]", "[5, 6]", "7 features" } },
  { "linear", "", "4x6", "5x6", "6", PR_ERR_SHAPE, { "bias", "one per row" } },
  { "matmul", "", "2x3x4", "2x5x4", NULL, PR_ERR_SHAPE, { "matmul", "[2, 3, 4]", "[2, 5, 4]" } },
  { "matmul", "", "2x3x4", "3x4x5", NULL, PR_ERR_SHAPE, { "batch axes 2 and 3" } },
  { "batch_norm", "", "2x3x4x4", "4", NULL, PR_ERR_SHAPE, { "batch_norm", "weight", "[2, 3, 4, 4]", "[4]" } },
  { "batch_norm", "momentum=1.5", "2x3x4x4", "3", NULL, PR_ERR_ARGUMENT, { "momentum" } },
  { "layer_norm", "", "2x3x4", "3", NULL, PR_ERR_SHAPE, { "layer_norm", "[2, 3, 4]", "[3]" } },
  { "layer_norm", "dims=4", "2x3x4", NULL, NULL, PR_ERR_SHAPE, { "last 4 axes" } },
  { "rms_norm", "", "2x3x4", "3x3", NULL, PR_ERR_SHAPE, { "rms_norm", "[3, 3]" } },
  { "group_norm", "groups=4", "2x6x3x3", NULL, NULL, PR_ERR_SHAPE, { "6 channels", "4 groups" } },
  { "group_norm", "bounds=2,2,6", "2x6x3x3", NULL, NULL, PR_ERR_ARGUMENT, { "bounds must increase" } },
  { "group_norm", "bounds=2,5", "2x6x3x3", NULL, NULL, PR_ERR_SHAPE, { "bounds (5)", "(6)" } },
  { "max_pool2d",
    "kernel_size=4",
    "2x3x3x9",
    NULL,
    NULL,
    PR_ERR_SHAPE,
    { "max_pool2d", "spans 4", "[2, 3, 3, 9]" } },
  { "max_pool2d", "", "2x3x3x9", NULL, NULL, PR_ERR_ARGUMENT, { "kernel_size" } },
  { "avg_pool2d", "kernel_size=2 padding=2", "2x3x9x9", NULL, NULL, PR_ERR_ARGUMENT, { "half" } },
  { "adaptive_avg_pool2d", "output_size=-1", "2x3x9x9", NULL, NULL, PR_ERR_ARGUMENT, { "output_size" } },
  { "softmax", "dim=2", "2x3", NULL, NULL, PR_ERR_INDEX, { "softmax", "axis" } },
  { "mse_loss", "", "2x3", "3x2", NULL, PR_ERR_SHAPE, { "mse_loss", "[2, 3]", "[3, 2]" } },
  { "scaled_dot_product_attention", "", "2x3x4", "2x5x3", "2x5x3", PR_ERR_SHAPE, { "width", "[2, 3, 4]" } },
  { "scaled_dot_product_attention", "", "2x3x4", "2x5x4", "2x6x4", PR_ERR_SHAPE, { "length", "[2, 6, 4]" } },
  { "scaled_dot_product_attention", "", "3x3x4", "2x5x4", "2x5x4", PR_ERR_SHAPE, { "heads" } },
  { "lstm", "", "2x3x4", "8x3", "8x2", PR_ERR_SHAPE, { "lstm", "features of x", "[8, 3]" } },
  { "gru", "", "2x3x4", "8x4", "6x2", PR_ERR_SHAPE, { "gru", "6", "8" } },
  { "interpolate", "", "2x3x4x4", NULL, NULL, PR_ERR_ARGUMENT, { "size or scale_factor" } },
  { "interpolate", "scale_factor=1e300", "2x3x4x4", NULL, NULL, PR_ERR_ARGUMENT, { "scale_factor", "2^20" } },
  { "interpolate", "scale_factor=nan", "2x3x4x4", NULL, NULL, PR_ERR_ARGUMENT, { "scale_factor" } },
  { "interpolate", "scale_factor=0.1", "2x3x4x4", NULL, NULL, PR_ERR_SHAPE, { "from size 4 to 0" } },
  { "unfold", "kernel_size=5", "2x3x4x4", NULL, NULL, PR_ERR_SHAPE, { "spans 5" } },
  { "fold",
    "kernel_size=2 output_size=3,3",
    "2x8x5",
    NULL,
    NULL,
    PR_ERR_SHAPE,
    { "fold", "one column per window" } },
};

static void shapes_that_do_not_fit_are_named(void **state) {
  (void)state;
  for (size_t k = 0; k < sizeof refusals / sizeof *refusals; k++) {
    const refusal *r = &refusals[k];
    call c;
    const char *const shapes[3] = { r->x, r->weight, r->bias };
    pr_tensor *in[3];
    int n = 0;
    for (; n < 3 && shapes[n]; n++) in[n] = floats(shapes[n]);
    pr_status status = apply(&c, r->op, r->args, n, in);
    for (int i = 0; i < 4 && r->texts[i]; i++) {
      testing_assert_fails(status, r->status, r->texts[i], r->op, __FILE__, __LINE__);
    }
    done(&c);
  }
}

static void dtypes_do_not_mix(void **state) {
  (void)state;
  call c;
  assert_fails(APPLY(&c, "linear", "", floats("2x3"), filled(PR_F64, "4x3", 0, 1)), PR_ERR_DTYPE,
               "weight is f64");
  done(&c);
  assert_fails(APPLY(&c, "linear", "", filled(PR_I64, "2x3", 0, 1), floats("4x3")), PR_ERR_DTYPE,
               "x must be a float");
  done(&c);
  assert_fails(APPLY(&c, "cross_entropy", "", floats("2x3"), floats("2")), PR_ERR_DTYPE, "labels");
  done(&c);
}

/* --- indices ---------------------------------------------------------------------------------------------------------- */

static void labels_out_of_range_are_found(void **state) {
  (void)state;
  call c;
  pr_tensor *labels = filled(PR_I64, "4", 0, 1); /* 0 1 2 3 */
  assert_fails(APPLY(&c, "cross_entropy", "", floats("4x3"), labels), PR_ERR_INDEX,
               "label 3 is out of range");
  assert_non_null(strstr(pr_error_last()->message, "element 3"));
  int base = pr_index_base;
  pr_index_base = 1; /* as Lua counts */
  c.n_out = MOST;
  pr_status status = pr_apply(c.op, c.args, c.in, 2, c.out, &c.n_out);
  pr_index_base = base;
  c.n_out = 0;
  assert_fails(status, PR_ERR_INDEX, "label 4 is out of range: it must be 1 to 3 (labels, element 4)");
  done(&c);
  assert_fails(APPLY(&c, "nll_loss", "", floats("2x3"), filled(PR_I64, "2", -1, 1)), PR_ERR_INDEX,
               "label -1");
  done(&c);
  assert_fails(APPLY(&c, "embedding", "", filled(PR_I32, "2x2", 0, 2), floats("5x3")), PR_ERR_INDEX, "row 6");
  done(&c);
  assert_fails(APPLY(&c, "one_hot", "num_classes=2", filled(PR_U8, "3", 0, 1)), PR_ERR_INDEX, "class 2");
  done(&c);
}

static void labels_have_the_shape_of_the_batch(void **state) {
  (void)state;
  call c;
  assert_fails(APPLY(&c, "cross_entropy", "", floats("4x3"), filled(PR_I64, "3", 0, 1)), PR_ERR_SHAPE,
               "[4, 3]");
  done(&c);
  assert_ok(APPLY(&c, "cross_entropy", "reduction=none", floats("2x3x2x2"), filled(PR_I64, "2x2x2", 1, 0)));
  assert_shape(c.out[0], "[2, 2, 2]");
  done(&c);
}

/* --- the smallest inputs ------------------------------------------------------------------------------------------------ */

static void an_empty_batch_passes_through(void **state) {
  (void)state;
  call c;
  assert_ok(APPLY(&c, "conv2d", "padding=1", floats("0x3x5x5"), floats("4x3x3x3"), floats("4")));
  assert_shape(c.out[0], "[0, 4, 5, 5]");
  done(&c);
  assert_ok(APPLY(&c, "linear", "", floats("0x3"), floats("4x3"), floats("4")));
  assert_shape(c.out[0], "[0, 4]");
  done(&c);
  assert_ok(APPLY(&c, "batch_norm", "", floats("0x2x3x3"), floats("2"), floats("2"), floats("2"),
                  filled(PR_F32, "2", 1, 1)));
  assert_shape(c.out[0], "[0, 2, 3, 3]");
  done(&c);
  assert_ok(APPLY(&c, "max_pool2d", "kernel_size=2", floats("0x2x4x4")));
  assert_shape(c.out[0], "[0, 2, 2, 2]");
  done(&c);
  assert_ok(APPLY(&c, "adaptive_avg_pool2d", "", floats("0x2x4x4")));
  assert_shape(c.out[0], "[0, 2, 1, 1]");
  done(&c);
  assert_ok(APPLY(&c, "layer_norm", "", floats("0x3"), floats("3"), floats("3")));
  assert_shape(c.out[0], "[0, 3]");
  done(&c);
  assert_ok(APPLY(&c, "softmax", "", floats("0x3")));
  assert_shape(c.out[0], "[0, 3]");
  done(&c);
  assert_ok(APPLY(&c, "lstm", "", floats("0x3x2"), floats("8x2"), floats("8x2")));
  assert_shape(c.out[0], "[0, 3, 2]");
  done(&c);
}

static void an_empty_batch_gives_zero_gradients(void **state) {
  (void)state;
  call c;
  pr_tensor *x = floats("0x3x5x5"), *weight = floats("4x3x3x3"), *bias = floats("4");
  assert_ok(pr_require_grad(weight, true));
  assert_ok(pr_require_grad(bias, true));
  assert_ok(APPLY(&c, "conv2d", "", x, weight, bias));
  pr_tensor *up = floats("0x4x3x3");
  assert_ok(pr_backward(c.out[0], up));
  assert_non_null(weight->grad);
  for (int64_t i = 0; i < pr_numel(weight); i++) assert_true(at(weight->grad, i) == 0);
  for (int64_t i = 0; i < 4; i++) assert_true(at(bias->grad, i) == 0);
  pr_release(up);
  done(&c);
}

static void images_without_pixels_give_zero_gradients(void **state) {
  (void)state;
  call c;
  pr_tensor *weight = floats("4"), *bias = floats("4"), *up = floats("2x4x0x3");
  assert_ok(pr_require_grad(weight, true));
  assert_ok(pr_require_grad(bias, true));
  assert_ok(APPLY(&c, "group_norm", "groups=2", floats("2x4x0x3"), weight, bias));
  assert_shape(c.out[0], "[2, 4, 0, 3]");
  assert_ok(pr_backward(c.out[0], up));
  for (int64_t i = 0; i < 4; i++) assert_true(at(weight->grad, i) == 0 && at(bias->grad, i) == 0);
  pr_release(up);
  done(&c);
}

static void images_of_one_pixel_work(void **state) {
  (void)state;
  call c;
  pr_tensor *x = filled(PR_F32, "1x1x1x1", 2, 0), *weight = filled(PR_F32, "1x1x3x3", 1, 1);
  assert_ok(APPLY(&c, "conv2d", "padding=1", x, weight));
  assert_shape(c.out[0], "[1, 1, 1, 1]");
  assert_close(at(c.out[0], 0), 2 * 5, 1e-6); /* only the middle tap, number 5 of 9, meets the pixel */
  done(&c);
  assert_ok(APPLY(&c, "adaptive_avg_pool2d", "output_size=3", filled(PR_F32, "1x1x1x1", 2, 0)));
  for (int i = 0; i < 9; i++) assert_close(at(c.out[0], i), 2, 1e-6);
  done(&c);
  assert_ok(APPLY(&c, "max_pool2d", "kernel_size=3 padding=1", filled(PR_F32, "1x1x1x1", -2, 0)));
  assert_close(at(c.out[0], 0), -2, 1e-6); /* padding never wins */
  done(&c);
}

static void one_value_per_channel_has_no_statistics(void **state) {
  (void)state;
  call c;
  int depth = pr_scope_enter("", "Sequential");
  pr_scope_enter("bn1", "BatchNorm2d");
  assert_fails(APPLY(&c, "batch_norm", "training=true", floats("1x3x1x1"), floats("3"), floats("3")),
               PR_ERR_SHAPE, "more than one value per channel");
  assert_string_equal(pr_error_last()->path, "bn1");
  pr_scope_leave(depth);
  done(&c);
  assert_fails(APPLY(&c, "instance_norm", "", floats("4x3x1x1")), PR_ERR_SHAPE,
               "more than one value per channel");
  done(&c);
}

/* --- meaning ------------------------------------------------------------------------------------------------------------ */

static void groups_are_read_off_the_shapes(void **state) {
  (void)state;
  call c;
  assert_ok(APPLY(&c, "conv2d", "", filled(PR_F32, "1x4x1x1", 1, 1),
                  filled(PR_F32, "4x1x1x1", 1, 1))); /* depthwise */
  for (int i = 0; i < 4; i++) assert_close(at(c.out[0], i), (i + 1) * (i + 1), 1e-6);
  done(&c);
  assert_ok(
      APPLY(&c, "conv2d", "groups=2", filled(PR_F32, "1x4x1x1", 1, 1), filled(PR_F32, "2x2x1x1", 1, 0)));
  assert_close(at(c.out[0], 0), 1 + 2, 1e-6);
  assert_close(at(c.out[0], 1), 3 + 4, 1e-6);
  done(&c);
}

static void running_statistics_move_in_training_only(void **state) {
  (void)state;
  call c;
  pr_tensor *x = filled(PR_F32, "3x1", 1, 1); /* 1 2 3: mean 2, unbiased variance 1 */
  pr_tensor *mean = filled(PR_F32, "1", 0, 0), *var = filled(PR_F32, "1", 3, 0);
  assert_ok(
      APPLY(&c, "batch_norm", "training=false", pr_retain(x), NULL, NULL, pr_retain(mean), pr_retain(var)));
  assert_close(at(mean, 0), 0, 0);
  assert_close(at(var, 0), 3, 0);
  assert_close(at(c.out[0], 2), 3 / sqrt(3 + 1e-5), 1e-6);
  done(&c);
  assert_ok(APPLY(&c, "batch_norm", "training=true momentum=0.25", x, NULL, NULL, mean, var));
  assert_close(at(mean, 0), 0.25 * 2, 1e-6);
  assert_close(at(var, 0), 0.75 * 3 + 0.25 * 1, 1e-6);
  assert_close(at(c.out[0], 2), 1 / sqrt(2.0 / 3 + 1e-5), 1e-6); /* the biased one normalizes */
  done(&c);
}

static void large_scores_do_not_overflow(void **state) {
  (void)state;
  call c;
  assert_ok(APPLY(&c, "cross_entropy", "", filled(PR_F32, "1x2", 5000, 100), filled(PR_I64, "1", 0, 0)));
  assert_close(at(c.out[0], 0), 100, 1e-6);
  done(&c);
  assert_ok(APPLY(&c, "softmax", "", filled(PR_F32, "1x2", 5000, 100)));
  assert_close(at(c.out[0], 1), 1, 1e-6);
  done(&c);
  assert_ok(APPLY(&c, "binary_cross_entropy_with_logits", "", filled(PR_F32, "1", -5000, 0),
                  filled(PR_F32, "1", 1, 0)));
  assert_close(at(c.out[0], 0), 5000, 1e-6);
  done(&c);
}

static void a_query_that_sees_nothing_gives_zero(void **state) {
  (void)state;
  call c;
  pr_tensor *mask = filled(PR_BOOL, "2x3", 0, 0);
  prT_set(mask, 3, 1); /* the second query sees the first key */
  assert_ok(APPLY(&c, "scaled_dot_product_attention", "", floats("1x2x4"), floats("1x3x4"),
                  filled(PR_F32, "1x3x1", 5, 1), mask));
  assert_close(at(c.out[0], 0), 0, 0);
  assert_close(at(c.out[0], 1), 5, 1e-6);
  done(&c);
}

static void half_precision_and_any_layout_are_taken(void **state) {
  (void)state;
  call c;
  const char *const ops[] = { "conv2d", "linear", "batch_norm", "max_pool2d", "layer_norm", "softmax" };
  const char *const args[] = { "padding=1", "", "training=true", "kernel_size=2", "", "" };
  const char *const weights[] = { "2x3x3x3", "5x4", NULL, NULL, "4", NULL };
  for (int k = 0; k < 6; k++) {
    pr_tensor *x = filled(PR_BF16, "2x3x4x4", -1, 0.0625), *exact = filled(PR_F64, "2x3x4x4", -1, 0.0625);
    pr_tensor *last = prT_new_channels_last(PR_F64, PR_CPU, 4, x->shape);
    assert_ok(pr_copy(last, exact));
    pr_tensor *weight = weights[k] ? filled(PR_BF16, weights[k], -0.5, 0.0625) : NULL;
    pr_tensor *wide = weights[k] ? filled(PR_F64, weights[k], -0.5, 0.0625) : NULL;
    call other;
    assert_ok(apply(&c, ops[k], args[k], weight ? 2 : 1, (pr_tensor *[]){ x, weight }));
    assert_ok(apply(&other, ops[k], args[k], weight ? 2 : 1, (pr_tensor *[]){ last, wide }));
    assert_int_equal(c.out[0]->dtype, PR_BF16);
    assert_true(pr_same_shape(c.out[0], other.out[0]));
    for (int64_t i = 0; i < pr_numel(c.out[0]); i++) assert_close(at(c.out[0], i), at(other.out[0], i), 0.02);
    pr_release(exact);
    done(&c);
    done(&other);
  }
}

/* --- costs ---------------------------------------------------------------------------------------------------------------- */

static int64_t macs_of(const char *op, const char *args, int n, const char *const *shapes) {
  pr_tensor *in[MOST] = { NULL }, *out[MOST] = { NULL };
  pr_call c = { .op = pr_op_find(op), .n_in = n, .in = in, .n_out = 1, .out = out };
  assert_non_null(c.op);
  assert_ok(pr_args_parse(c.op, args, c.args));
  assert_ok(prO_args_complete(c.op, c.args));
  for (int i = 0; i < n; i++) in[i] = floats(shapes[i]);
  call run;
  assert_ok(apply(&run, op, args, n, in));
  out[0] = run.out[0];
  int64_t macs = c.op->macs(&c);
  pr_args_free(c.args);
  done(&run);
  return macs;
}
#define MACS(op, args, ...)                                                                                  \
  macs_of(op, args, (int)(sizeof((const char *[]){ __VA_ARGS__ }) / sizeof(char *)),                         \
          (const char *[]){ __VA_ARGS__ })

static void costs_are_products_of_sizes(void **state) {
  (void)state;
  assert_int_equal(MACS("conv2d", "padding=1", "2x3x5x4", "7x3x3x3"), 2 * 7 * 5 * 4 * 3 * 9);
  assert_int_equal(MACS("conv2d", "padding=1", "2x6x5x4", "6x1x3x3"), 2 * 6 * 5 * 4 * 9);
  assert_int_equal(MACS("conv_transpose2d", "stride=2", "2x3x5x4", "3x7x2x2"), 2 * 3 * 5 * 4 * 7 * 4);
  assert_int_equal(MACS("conv2d", "padding=1", "2x3x5x4", "7x3x3x3", "7"), 2 * 7 * 5 * 4 * (3 * 9 + 1));
  assert_int_equal(MACS("conv_transpose2d", "stride=2", "2x3x5x4", "3x7x2x2", "7"),
                   2 * 3 * 5 * 4 * 7 * 4 + 2 * 7 * 10 * 8);
  assert_int_equal(MACS("linear", "", "2x3x5", "7x5"), 2 * 3 * 5 * 7);
  assert_int_equal(MACS("linear", "", "2x3x5", "7x5", "7"), 2 * 3 * 7 * (5 + 1));
  assert_int_equal(MACS("matmul", "", "2x3x5", "5x7"), 2 * 3 * 5 * 7);
  assert_int_equal(MACS("scaled_dot_product_attention", "", "2x3x5", "2x4x5", "2x4x6"), 2 * 3 * 4 * (5 + 6));
  assert_int_equal(MACS("lstm", "", "2x3x5", "8x5", "8x2"), 2 * 3 * 8 * (5 + 2));
  assert_int_equal(MACS("gru", "", "2x3x5", "6x5", "6x2"), 2 * 3 * 6 * (5 + 2));
}

/* --- memory ------------------------------------------------------------------------------------------------------------------ */

static void every_allocation_may_fail(void **state) {
  (void)state;
  const char *const ops[] = {
    "conv2d", "batch_norm", "max_pool2d", "linear", "lstm", "group_norm", "softmax"
  };
  const char *const args[] = { "padding=1", "training=true", "kernel_size=2", "", "", "bounds=1,3", "" };
  const char *const x[] = { "2x3x4x4", "2x3x4x4", "2x3x4x4", "2x3", "2x3x2", "2x3x4", "2x3" };
  const char *const second[] = { "2x3x3x3", "3", NULL, "4x3", "8x2", "3", NULL };
  for (int k = 0; k < 7; k++) {
    size_t failures = 0;
    for (size_t nth = 1; nth < 200; nth++) {
      pr_tensor *in[3] = { floats(x[k]), second[k] ? floats(second[k]) : NULL,
                           k == 4 ? floats("8x2") : NULL };
      call c = { .op = pr_op_find(ops[k]), .n_out = MOST, .n_in = 3 };
      memcpy(c.in, in, sizeof in);
      assert_ok(pr_args_parse(c.op, args[k], c.args));
      pr_cache_empty();
      int n = k == 4 ? 3 : second[k] ? 2 : 1;
      pr_memory_fail_after(nth, false);
      pr_status status = pr_apply(c.op, c.args, c.in, n, c.out, &c.n_out);
      pr_memory_fail_after(0, false);
      if (status) c.n_out = 0;
      done(&c);
      if (status == PR_OK) break;
      assert_int_equal(status, PR_ERR_MEMORY);
      failures++;
    }
    assert_true(failures > 0);
  }
}

int main(void) {
  prA_start();
  const struct CMUnitTest tests[] = {
    memory_test(shapes_that_do_not_fit_are_named),
    memory_test(dtypes_do_not_mix),
    memory_test(labels_out_of_range_are_found),
    memory_test(labels_have_the_shape_of_the_batch),
    memory_test(an_empty_batch_passes_through),
    memory_test(an_empty_batch_gives_zero_gradients),
    memory_test(images_without_pixels_give_zero_gradients),
    memory_test(images_of_one_pixel_work),
    memory_test(one_value_per_channel_has_no_statistics),
    memory_test(groups_are_read_off_the_shapes),
    memory_test(running_statistics_move_in_training_only),
    memory_test(large_scores_do_not_overflow),
    memory_test(a_query_that_sees_nothing_gives_zero),
    memory_test(half_precision_and_any_layout_are_taken),
    memory_test(costs_are_products_of_sizes),
    memory_test(every_allocation_may_fail),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
