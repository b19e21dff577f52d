/* pool.c - maximum and average over windows, and over as many windows as the output has places (adaptive).
 * One or two spatial axes. */
#include "op/op.h"

#include "couple/rules.h"

enum { X };
enum { Y, INDEX };

/* --- windows of a fixed size ----------------------------------------------------------------------------- */

enum { KERNEL, STRIDE, PADDING, CEIL, DILATION, COUNT_PAD = DILATION };

static pr_status output(pr_call *c, int k, pr_dtype dtype, int dim, const int64_t *shape) {
  return dim == 4 ? prO_output_channels_last(c, k, dtype, dim, shape) : prO_output(c, k, dtype, dim, shape);
}

/* Size of the output along one axis. With ceil_mode a last window may reach past the padding, but must start
 * before it. */
static pr_status windows(const pr_call *c, int axis, bool dilated, int64_t size, int64_t *count) {
  PR_TRY(prO_need_int(c, KERNEL, axis, 1));
  PR_TRY(prO_need_int(c, STRIDE, axis, 0));
  PR_TRY(prO_need_int(c, PADDING, axis, 0));
  if (dilated) PR_TRY(prO_need_int(c, DILATION, axis, 1));
  int64_t kernel = prO_int(c, KERNEL, axis), stride = prO_int(c, STRIDE, axis),
          padding = prO_int(c, PADDING, axis);
  int64_t dilation = dilated ? prO_int(c, DILATION, axis) : 1;
  if (stride == 0) stride = kernel;
  if (2 * padding > kernel)
    return prO_fail(c, PR_ERR_ARGUMENT, "padding (%lld) must be at most half of kernel_size (%lld)",
                    (long long)padding, (long long)kernel);
  int64_t room = size + 2 * padding - dilation * (kernel - 1) - 1;
  if (room < 0)
    return prO_fail(
        c, PR_ERR_SHAPE, "the window spans %lld, more than the padded input's %lld (spatial axis %lld)",
        (long long)(dilation * (kernel - 1) + 1), (long long)(size + 2 * padding), PR_INDEX(axis));
  bool up = c->args[CEIL].integer;
  *count = (room + (up ? stride - 1 : 0)) / stride + 1;
  if (up && (*count - 1) * stride >= size + padding) --*count;
  return PR_OK;
}

static pr_status infer(pr_call *c, int space, bool maximum) {
  PR_TRY(prO_need_dim(c, X, space + 2, space + 2));
  PR_TRY(prO_need_float(c, X));
  for (int arg = KERNEL; arg <= PADDING; arg++) PR_TRY(prO_check_ints(c, arg, space));
  if (maximum) PR_TRY(prO_check_ints(c, DILATION, space));
  const pr_tensor *x = c->in[X];
  int64_t shape[4] = { x->shape[0], x->shape[1] };
  for (int k = 0; k < space; k++) PR_TRY(windows(c, k, maximum, x->shape[2 + k], &shape[2 + k]));
  PR_TRY(output(c, Y, x->dtype, space + 2, shape));
  return maximum ? output(c, INDEX, PR_I32, space + 2, shape) : PR_OK;
}

static pr_status max_infer1(pr_call *c) { return infer(c, 1, true); }
static pr_status max_infer2(pr_call *c) { return infer(c, 2, true); }
static pr_status avg_infer1(pr_call *c) { return infer(c, 1, false); }
static pr_status avg_infer2(pr_call *c) { return infer(c, 2, false); }

/* Padding never wins a maximum, but its zeros enter a mean. */
static void max_couple(pr_coupling *k) {
  prC_rule_spatial(k, PRC_IN(X), PRC_OUT(Y), prC_dim(k, PRC_IN(X)) - 2, PRC_DEAD_VALUE);
}
static void avg_couple(pr_coupling *k) {
  prC_rule_spatial(k, PRC_IN(X), PRC_OUT(Y), prC_dim(k, PRC_IN(X)) - 2, PRC_DEAD_ZERO);
}

#define KERNEL_ARG                                                                                           \
  { "kernel_size", PR_ARG_INTS, .required = true, .help = "size of the window per spatial axis" }
#define STRIDE_ARG                                                                                           \
  { "stride", PR_ARG_INTS, .integer = 0, .help = "step of the window; 0: kernel_size" }
#define PADDING_ARG                                                                                          \
  { "padding", PR_ARG_INTS, .help = "places added on both sides, at most half a window" }
#define CEIL_ARG                                                                                             \
  { "ceil_mode", PR_ARG_BOOL, .help = "keep a last window that is cut off by the far side" }
#define SPREAD_ARG                                                                                           \
  { "dilation", PR_ARG_INTS, .integer = 1, .help = "distance of places in a window" }
#define COUNT_ARG                                                                                            \
  { "count_include_pad", PR_ARG_BOOL, .integer = 1, .help = "padding counts in the divisor" }
#define MAX_ARGS                                                                                             \
  { KERNEL_ARG, STRIDE_ARG, PADDING_ARG, CEIL_ARG, SPREAD_ARG }
#define AVG_ARGS                                                                                             \
  { KERNEL_ARG, STRIDE_ARG, PADDING_ARG, CEIL_ARG, COUNT_ARG }

PR_OP(max_pool2d) = {
  .name = "max_pool2d",
  .inputs = "x",
  .outputs = "y .index",
  .saves = "index",
  .args = MAX_ARGS,
  .infer = max_infer2,
  .couple = max_couple,
  .onnx = "MaxPool",
  .examples = "x:2x3x5x6 kernel_size=2\n"
              "x:1x2x6x5 kernel_size=3 stride=2 padding=1\n"
              "x:1x2x5x6 kernel_size=2,3 stride=2,1 ceil_mode=true\n"
              "x:1x2x6x6 kernel_size=2 stride=1 dilation=2",
  .help = "Maximum over windows: x [N, C, H, W] -> y [N, C, H', W']\n"
          "H' = floor((H + 2 padding - dilation (kernel_size - 1) - 1) / stride) + 1, or ceil with\n"
          "ceil_mode. Padding never wins. The gradient goes to the first largest place of a window; NaN\n"
          "counts as largest.",
};

PR_OP(max_pool1d) = {
  .name = "max_pool1d",
  .inputs = "x",
  .outputs = "y .index",
  .saves = "index",
  .args = MAX_ARGS,
  .infer = max_infer1,
  .couple = max_couple,
  .onnx = "MaxPool",
  .examples = "x:2x3x7 kernel_size=3 stride=2 padding=1",
  .help = "Maximum over windows: x [N, C, L] -> y [N, C, L']\n"
          "As max_pool2d with one spatial axis.",
};

PR_OP(avg_pool2d) = {
  .name = "avg_pool2d",
  .inputs = "x",
  .outputs = "y",
  .args = AVG_ARGS,
  .infer = avg_infer2,
  .couple = avg_couple,
  .onnx = "AveragePool",
  .examples = "x:2x3x5x6 kernel_size=2\n"
              "x:1x2x6x5 kernel_size=3 stride=2 padding=1 count_include_pad=false\n"
              "x:1x2x5x6 kernel_size=2,3 stride=2,1 padding=1 ceil_mode=true",
  .help = "Mean over windows: x [N, C, H, W] -> y [N, C, H', W']\n"
          "Sizes as in max_pool2d. The divisor is the window's size inside the padded input, or only\n"
          "inside the input with count_include_pad = false.",
};

PR_OP(avg_pool1d) = {
  .name = "avg_pool1d",
  .inputs = "x",
  .outputs = "y",
  .args = AVG_ARGS,
  .infer = avg_infer1,
  .couple = avg_couple,
  .onnx = "AveragePool",
  .examples = "x:2x3x7 kernel_size=3 stride=2 padding=1",
  .help = "Mean over windows: x [N, C, L] -> y [N, C, L']\n"
          "As avg_pool2d with one spatial axis.",
};

/* --- adaptive windows ------------------------------------------------------------------------------------ */

enum { OUTPUT_SIZE };

static pr_status adaptive_infer(pr_call *c, int space, bool maximum) {
  PR_TRY(prO_need_dim(c, X, space + 2, space + 2));
  PR_TRY(prO_need_float(c, X));
  PR_TRY(prO_check_ints(c, OUTPUT_SIZE, space));
  const pr_tensor *x = c->in[X];
  int64_t shape[4] = { x->shape[0], x->shape[1] };
  for (int k = 0; k < space; k++) {
    int64_t wanted = prO_int(c, OUTPUT_SIZE, k);
    PR_TRY(prO_need_int(c, OUTPUT_SIZE, k, 0));
    shape[2 + k] = wanted ? wanted : x->shape[2 + k];
    if (x->shape[2 + k] < 1) return prO_fail(c, PR_ERR_SHAPE, "x has no places along a spatial axis");
  }
  PR_TRY(output(c, Y, x->dtype, space + 2, shape));
  return maximum ? output(c, INDEX, PR_I32, space + 2, shape) : PR_OK;
}

static pr_status adaptive_infer1(pr_call *c) { return adaptive_infer(c, 1, false); }
static pr_status adaptive_infer2(pr_call *c) { return adaptive_infer(c, 2, false); }
static pr_status adaptive_max_infer2(pr_call *c) { return adaptive_infer(c, 2, true); }

static void adaptive_couple(pr_coupling *k) {
  prC_rule_spatial(k, PRC_IN(X), PRC_OUT(Y), prC_dim(k, PRC_IN(X)) - 2, PRC_DEAD_VALUE);
}

#define ADAPTIVE_ARGS                                                                                        \
  {                                                                                                          \
    { "output_size", PR_ARG_INTS, .integer = 1, .help = "size of y per spatial axis; 0: as x" }              \
  }

PR_OP(adaptive_avg_pool2d) = {
  .name = "adaptive_avg_pool2d",
  .inputs = "x",
  .outputs = "y",
  .args = ADAPTIVE_ARGS,
  .infer = adaptive_infer2,
  .couple = adaptive_couple,
  .onnx = "GlobalAveragePool",
  .examples = "x:2x3x4x5\n"
              "x:2x3x5x4 output_size=3,2",
  .help = "Mean over windows that divide the image: x [N, C, H, W] -> y [N, C, output_size...]\n"
          "Window i of n spans floor(i H / n) to ceil((i + 1) H / n). output_size 1 is the global\n"
          "average.",
};

PR_OP(adaptive_avg_pool1d) = {
  .name = "adaptive_avg_pool1d",
  .inputs = "x",
  .outputs = "y",
  .args = ADAPTIVE_ARGS,
  .infer = adaptive_infer1,
  .couple = adaptive_couple,
  .onnx = "GlobalAveragePool",
  .examples = "x:2x3x7 output_size=3",
  .help = "Mean over windows that divide the axis: x [N, C, L] -> y [N, C, output_size]\n"
          "As adaptive_avg_pool2d with one spatial axis.",
};

PR_OP(adaptive_max_pool2d) = {
  .name = "adaptive_max_pool2d",
  .inputs = "x",
  .outputs = "y .index",
  .saves = "index",
  .args = ADAPTIVE_ARGS,
  .infer = adaptive_max_infer2,
  .couple = adaptive_couple,
  .onnx = "GlobalMaxPool",
  .examples = "x:2x3x4x5\n"
              "x:2x3x5x4 output_size=3,2",
  .help = "Maximum over windows that divide the image: x [N, C, H, W] -> y [N, C, output_size...]\n"
          "Windows as in adaptive_avg_pool2d.",
};
