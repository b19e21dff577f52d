/* unfold.c - images as columns of windows (im2col) and back. */
#include "op/op.h"

#include "couple/rules.h"

enum { X };
enum { Y };
enum { KERNEL, STRIDE, PADDING, DILATION, OUTPUT_SIZE };

/* Number of windows along spatial axis k of an image of this size. */
static pr_status windows(const pr_call *c, int k, int64_t size, int64_t *count) {
  PR_TRY(prO_need_int(c, KERNEL, k, 1));
  PR_TRY(prO_need_int(c, STRIDE, k, 1));
  PR_TRY(prO_need_int(c, PADDING, k, 0));
  PR_TRY(prO_need_int(c, DILATION, k, 1));
  int64_t kernel = prO_int(c, KERNEL, k), stride = prO_int(c, STRIDE, k), padding = prO_int(c, PADDING, k);
  int64_t dilation = prO_int(c, DILATION, k);
  int64_t window = dilation * (kernel - 1) + 1, room = size + 2 * padding - window;
  if (room < 0)
    return prO_fail(c, PR_ERR_SHAPE,
                    "the window spans %lld, more than the padded image's %lld (spatial axis %lld)",
                    (long long)window, (long long)(room + window), PR_INDEX(k));
  *count = room / stride + 1;
  return PR_OK;
}

static pr_status check_lists(const pr_call *c) {
  for (int arg = KERNEL; arg <= DILATION; arg++) PR_TRY(prO_check_ints(c, arg, 2));
  return prO_need_float(c, X);
}

static pr_status unfold_infer(pr_call *c) {
  PR_TRY(prO_need_dim(c, X, 4, 4));
  PR_TRY(check_lists(c));
  const pr_tensor *x = c->in[X];
  int64_t rows, columns;
  PR_TRY(windows(c, 0, x->shape[2], &rows));
  PR_TRY(windows(c, 1, x->shape[3], &columns));
  int64_t taps = prO_int(c, KERNEL, 0) * prO_int(c, KERNEL, 1);
  return prO_output(c, Y, x->dtype, 3, (int64_t[]){ x->shape[0], x->shape[1] * taps, rows * columns });
}

static pr_status fold_infer(pr_call *c) {
  PR_TRY(prO_need_dim(c, X, 3, 3));
  PR_TRY(check_lists(c));
  PR_TRY(prO_check_ints(c, OUTPUT_SIZE, 2));
  const pr_tensor *x = c->in[X];
  int64_t rows, columns, height = prO_int(c, OUTPUT_SIZE, 0), width = prO_int(c, OUTPUT_SIZE, 1);
  for (int k = 0; k < 2; k++) PR_TRY(prO_need_int(c, OUTPUT_SIZE, k, 1));
  PR_TRY(windows(c, 0, height, &rows));
  PR_TRY(windows(c, 1, width, &columns));
  int64_t taps = prO_int(c, KERNEL, 0) * prO_int(c, KERNEL, 1);
  if (x->shape[1] % taps != 0)
    return prO_fail(c, PR_ERR_SHAPE, "x's %lld rows do not divide into windows of %lld places",
                    (long long)x->shape[1], (long long)taps);
  PR_TRY(prO_need_size(c, X, 2, rows * columns, "one column per window of the output"));
  return prO_output_channels_last(c, Y, x->dtype, 4,
                                  (int64_t[]){ x->shape[0], x->shape[1] / taps, height, width });
}

static int64_t taps_of(const pr_coupling *k) {
  return prO_int(k->call, KERNEL, 0) * prO_int(k->call, KERNEL, 1);
}

static void unfold_couple(pr_coupling *k) { prC_rule_unfold(k, PRC_IN(X), PRC_OUT(Y), taps_of(k)); }
static void fold_couple(pr_coupling *k) { prC_rule_fold(k, PRC_IN(X), PRC_OUT(Y), taps_of(k)); }

#define KERNEL_ARG                                                                                           \
  { "kernel_size", PR_ARG_INTS, .required = true, .help = "size of the window per spatial axis" }
#define STRIDE_ARG                                                                                           \
  { "stride", PR_ARG_INTS, .integer = 1, .help = "step of the window" }
#define PADDING_ARG                                                                                          \
  { "padding", PR_ARG_INTS, .help = "zeros on both sides of each spatial axis" }
#define DILATION_ARG                                                                                         \
  { "dilation", PR_ARG_INTS, .integer = 1, .help = "distance of places in a window" }

PR_OP(unfold) = {
  .name = "unfold",
  .inputs = "x",
  .outputs = "y",
  .args = { KERNEL_ARG, STRIDE_ARG, PADDING_ARG, DILATION_ARG },
  .infer = unfold_infer,
  .couple = unfold_couple,
  .examples = "x:2x2x3x4 kernel_size=2\n"
              "x:1x2x5x4 kernel_size=3,2 stride=2 padding=1 dilation=1,2",
  .help = "Windows as columns: x [N, C, H, W] -> y [N, C * KH * KW, windows]\n"
          "Row (c * KH + u) * KW + v holds place (u, v) of channel c of each window (im2col:\n"
          "Chellapilla et al. 2006).",
};

PR_OP(fold) = {
  .name = "fold",
  .inputs = "x",
  .outputs = "y",
  .args = { KERNEL_ARG,
            STRIDE_ARG,
            PADDING_ARG,
            DILATION_ARG,
            { "output_size", PR_ARG_INTS, .required = true, .help = "height and width of y" } },
  .infer = fold_infer,
  .couple = fold_couple,
  .examples = "x:2x8x6 kernel_size=2 output_size=3,4",
  .help = "Sum of windows: x [N, C * KH * KW, windows] -> y [N, C, H, W]\n"
          "The adjoint of unfold: every column is added to the places it was taken from.",
};
