/* convolution.c - convolution and transposed convolution over one or two spatial axes. The number of groups
 * of a convolution is read off x and weight, so that a removal needs to change nothing here. */
#include "op/op.h"

#include "couple/rules.h"

enum { X, WEIGHT, BIAS };
enum { Y };

/* --- convolution ----------------------------------------------------------------------------------------- */

enum { STRIDE, PADDING, DILATION, GROUPS };

static pr_status check_spacing(const pr_call *c, int space, const int64_t *kernel) {
  PR_TRY(prO_check_ints(c, STRIDE, space));
  PR_TRY(prO_check_ints(c, PADDING, space));
  PR_TRY(prO_check_ints(c, DILATION, space));
  for (int k = 0; k < space; k++) {
    PR_TRY(prO_need_int(c, STRIDE, k, 1));
    PR_TRY(prO_need_int(c, PADDING, k, 0));
    PR_TRY(prO_need_int(c, DILATION, k, 1));
    if (kernel[k] < 1) return prO_fail(c, PR_ERR_SHAPE, "a kernel of size 0");
  }
  return PR_OK;
}

static pr_status check_operands(const pr_call *c, int space) {
  PR_TRY(prO_need_dim(c, X, space + 2, space + 2));
  PR_TRY(prO_need_dim(c, WEIGHT, space + 2, space + 2));
  PR_TRY(prO_need_float(c, X));
  PR_TRY(prO_need_same_dtype(c, WEIGHT, X));
  if (!c->in[BIAS]) return PR_OK;
  PR_TRY(prO_need_dim(c, BIAS, 1, 1));
  return prO_need_same_dtype(c, BIAS, X);
}

static pr_status output(pr_call *c, int space, const int64_t *shape) {
  if (space == 2) return prO_output_channels_last(c, Y, c->in[X]->dtype, 4, shape);
  return prO_output(c, Y, c->in[X]->dtype, 3, shape);
}

static pr_status check_groups(const pr_call *c) {
  int64_t channels = c->in[X]->shape[1], rows = c->in[WEIGHT]->shape[0], taken = c->in[WEIGHT]->shape[1];
  int64_t groups = c->args[GROUPS].integer;
  if (groups < 0) return prO_fail(c, PR_ERR_ARGUMENT, "groups must be positive (or 0: read off the shapes)");
  if (groups > 0 ? channels % groups || channels / groups != taken
                 : taken < 1 || channels < 1 || channels % taken != 0)
    return prO_fail(c, PR_ERR_SHAPE, "x has %lld channels, but weight takes %lld%s", (long long)channels,
                    (long long)taken, groups == 1 ? "" : " per group (see groups)");
  if (groups == 0) groups = channels / taken;
  if (rows % groups != 0)
    return prO_fail(c, PR_ERR_SHAPE,
                    "x has %lld channels and weight takes %lld: %lld groups, into which its %lld output "
                    "channels do not divide",
                    (long long)channels, (long long)taken, (long long)groups, (long long)rows);
  return PR_OK;
}

static pr_status infer(pr_call *c, int space) {
  PR_TRY(check_operands(c, space));
  const pr_tensor *x = c->in[X], *weight = c->in[WEIGHT];
  PR_TRY(check_spacing(c, space, weight->shape + 2));
  PR_TRY(check_groups(c));
  if (c->in[BIAS]) PR_TRY(prO_need_size(c, BIAS, 0, weight->shape[0], "one per output channel of weight"));
  int64_t shape[4] = { x->shape[0], weight->shape[0] };
  for (int k = 0; k < space; k++) {
    int64_t window = prO_int(c, DILATION, k) * (weight->shape[2 + k] - 1) + 1;
    int64_t room = x->shape[2 + k] + 2 * prO_int(c, PADDING, k) - window;
    if (room < 0)
      return prO_fail(c, PR_ERR_SHAPE,
                      "the kernel spans %lld, more than the padded input's %lld (spatial axis %lld)",
                      (long long)window, (long long)(room + window), PR_INDEX(k));
    shape[2 + k] = room / prO_int(c, STRIDE, k) + 1;
  }
  return output(c, space, shape);
}

static pr_status infer1(pr_call *c) { return infer(c, 1); }
static pr_status infer2(pr_call *c) { return infer(c, 2); }

/* |Y| times the taps of one output: input channels per group times kernel size; a bias is one more, as in
 * linear. */
static int64_t macs(const pr_call *c) {
  const pr_tensor *weight = c->in[WEIGHT];
  if (!weight->shape[0]) return 0;
  return pr_numel(c->out[Y]) * (pr_numel(weight) / weight->shape[0] + (c->in[BIAS] != NULL));
}

static int64_t groups_of(const pr_coupling *k) {
  int64_t taken = prC_size(k, PRC_IN(WEIGHT), 1);
  return taken > 0 ? prC_size(k, PRC_IN(X), 1) / taken : 1;
}

static void couple(pr_coupling *k) {
  int space = prC_dim(k, PRC_IN(X)) - 2;
  prC_rule_conv(k, PRC_IN(X), PRC_IN(WEIGHT), PRC_IN(BIAS), PRC_OUT(Y), space, groups_of(k), false);
}

/* Groups that were written down must say what is left of them; 0 goes on meaning "read them off". */
static pr_status rewrite_groups(pr_coupling *k, pr_arg *groups) {
  int64_t left = prC_live_slot(k, 0);
  if (left >= 0 && groups->integer > 0) *groups = (pr_arg){ .integer = left, .given = true };
  return PR_OK;
}

static pr_status rewrite(pr_coupling *k, pr_arg *args) { return rewrite_groups(k, &args[GROUPS]); }

#define CONVOLUTION_ARGS                                                                                     \
  {                                                                                                          \
    { "stride", PR_ARG_INTS, .integer = 1, .help = "step of the kernel per spatial axis" },                  \
        { "padding", PR_ARG_INTS, .help = "zeros on both sides of each spatial axis" },                      \
        { "dilation", PR_ARG_INTS, .integer = 1, .help = "distance of neighbouring kernel taps" },           \
        { "groups", PR_ARG_INT, .help = "0: read off the shapes; else checked against them" },               \
  }

PR_OP(conv2d) = {
  .name = "conv2d",
  .inputs = "x weight bias?",
  .outputs = "y",
  .saves = "x weight",
  .args = CONVOLUTION_ARGS,
  .infer = infer2,
  .couple = couple,
  .rewrite = rewrite,
  .macs = macs,
  .onnx = "Conv",
  .examples = "x:2x3x5x4 weight:4x3x3x3 bias:4 padding=1\n"
              "x:1x3x6x7 weight:2x3x3x2 stride=2,1 padding=0,1 dilation=1,2\n"
              "x:2x4x4x4 weight:6x2x3x3 bias:6 padding=1 groups=2\n"
              "x:2x3x5x5 weight:6x1x3x3 stride=2 padding=1",
  .help =
      "2-D convolution: x [N, C, H, W], weight [O, C / groups, KH, KW], bias [O] -> y [N, O, H', W']\n"
      "y[n, o, i, j] = bias[o] + sum x[n, c, i*stride - padding + u*dilation, j*...] * weight[o, c, u, v];\n"
      "H' = floor((H + 2 padding - dilation (KH - 1) - 1) / stride) + 1. It is a cross-correlation, as in\n"
      "LeCun et al., \"Gradient-based learning applied to document recognition\", Proc. IEEE 1998.",
};

PR_OP(conv1d) = {
  .name = "conv1d",
  .inputs = "x weight bias?",
  .outputs = "y",
  .saves = "x weight",
  .args = CONVOLUTION_ARGS,
  .infer = infer1,
  .couple = couple,
  .rewrite = rewrite,
  .macs = macs,
  .onnx = "Conv",
  .examples = "x:2x3x7 weight:4x3x3 bias:4 padding=1 stride=2\n"
              "x:2x4x6 weight:4x2x2 dilation=2 groups=2",
  .help = "1-D convolution: x [N, C, L], weight [O, C / groups, K], bias [O] -> y [N, O, L']\n"
          "As conv2d with one spatial axis.",
};

/* --- transposed convolution ------------------------------------------------------------------------------ */

enum { TRANSPOSED_OUTPUT_PADDING = 3, TRANSPOSED_GROUPS = 4 };

static pr_status transposed_channels(const pr_call *c, int64_t *channels) {
  int64_t groups = c->args[TRANSPOSED_GROUPS].integer;
  PR_TRY(prO_need_size(c, WEIGHT, 0, c->in[X]->shape[1], "the channels of x"));
  if (groups < 1 || c->in[X]->shape[1] % groups != 0)
    return prO_fail(c, PR_ERR_SHAPE, "x's %lld channels do not divide into %lld groups",
                    (long long)c->in[X]->shape[1], (long long)groups);
  *channels = c->in[WEIGHT]->shape[1] * groups;
  return PR_OK;
}

static pr_status transposed_infer(pr_call *c, int space) {
  PR_TRY(check_operands(c, space));
  const pr_tensor *x = c->in[X], *weight = c->in[WEIGHT];
  int64_t shape[4] = { x->shape[0] };
  PR_TRY(check_spacing(c, space, weight->shape + 2));
  PR_TRY(prO_check_ints(c, TRANSPOSED_OUTPUT_PADDING, space));
  PR_TRY(transposed_channels(c, &shape[1]));
  if (c->in[BIAS]) PR_TRY(prO_need_size(c, BIAS, 0, shape[1], "one per output channel"));
  for (int k = 0; k < space; k++) {
    int64_t stride = prO_int(c, STRIDE, k), dilation = prO_int(c, DILATION, k);
    int64_t extra = prO_int(c, TRANSPOSED_OUTPUT_PADDING, k);
    PR_TRY(prO_need_int(c, TRANSPOSED_OUTPUT_PADDING, k, 0));
    if (extra >= stride && extra >= dilation)
      return prO_fail(c, PR_ERR_ARGUMENT, "output_padding (%lld) must be smaller than stride or dilation",
                      (long long)extra);
    int64_t size = (x->shape[2 + k] - 1) * stride - 2 * prO_int(c, PADDING, k) +
                   dilation * (weight->shape[2 + k] - 1) + extra + 1;
    if (x->shape[2 + k] < 1 || size < 1)
      return prO_fail(c, PR_ERR_SHAPE,
                      "the output would have size %lld (spatial axis %lld): padding is too large",
                      (long long)size, PR_INDEX(k));
    shape[2 + k] = size;
  }
  return output(c, space, shape);
}

static pr_status transposed_infer1(pr_call *c) { return transposed_infer(c, 1); }
static pr_status transposed_infer2(pr_call *c) { return transposed_infer(c, 2); }

static int64_t transposed_macs(const pr_call *c) {
  const pr_tensor *weight = c->in[WEIGHT];
  int64_t bias = c->in[BIAS] ? pr_numel(c->out[Y]) : 0;
  return bias + (weight->shape[0] ? pr_numel(c->in[X]) * (pr_numel(weight) / weight->shape[0]) : 0);
}

static void transposed_couple(pr_coupling *k) {
  int space = prC_dim(k, PRC_IN(X)) - 2;
  int64_t groups = k->call->args[TRANSPOSED_GROUPS].integer;
  prC_rule_conv(k, PRC_IN(X), PRC_IN(WEIGHT), PRC_IN(BIAS), PRC_OUT(Y), space, groups, true);
}

static pr_status transposed_rewrite(pr_coupling *k, pr_arg *args) {
  return rewrite_groups(k, &args[TRANSPOSED_GROUPS]);
}

#define TRANSPOSED_ARGS                                                                                      \
  {                                                                                                          \
    { "stride", PR_ARG_INTS, .integer = 1, .help = "distance of neighbouring inputs in the output" },        \
        { "padding", PR_ARG_INTS, .help = "cut from both sides of each spatial axis of the output" },        \
        { "dilation", PR_ARG_INTS, .integer = 1, .help = "distance of neighbouring kernel taps" },           \
        { "output_padding", PR_ARG_INTS, .help = "added to the output's far side" },                         \
        { "groups", PR_ARG_INT, .integer = 1,                                                                \
          .help = "channels are split into this many independent parts" },                                   \
  }

PR_OP(conv_transpose2d) = {
  .name = "conv_transpose2d",
  .inputs = "x weight bias?",
  .outputs = "y",
  .saves = "x weight",
  .args = TRANSPOSED_ARGS,
  .infer = transposed_infer2,
  .couple = transposed_couple,
  .rewrite = transposed_rewrite,
  .macs = transposed_macs,
  .onnx = "ConvTranspose",
  .examples = "x:2x3x4x3 weight:3x4x3x3 bias:4 stride=2 padding=1 output_padding=1\n"
              "x:1x4x3x3 weight:4x2x2x2 groups=2 dilation=2",
  .help = "Transposed 2-D convolution: x [N, C, H, W], weight [C, O / groups, KH, KW], bias [O] -> y [N, O, "
          "H', W']\n"
          "The adjoint of conv2d: every input adds a scaled kernel to the output. H' = (H - 1) stride -\n"
          "2 padding + dilation (KH - 1) + output_padding + 1. Dumoulin and Visin, \"A guide to\n"
          "convolution arithmetic for deep learning\", 2016.",
};

PR_OP(conv_transpose1d) = {
  .name = "conv_transpose1d",
  .inputs = "x weight bias?",
  .outputs = "y",
  .saves = "x weight",
  .args = TRANSPOSED_ARGS,
  .infer = transposed_infer1,
  .couple = transposed_couple,
  .rewrite = transposed_rewrite,
  .macs = transposed_macs,
  .onnx = "ConvTranspose",
  .examples = "x:2x3x4 weight:3x4x3 bias:4 stride=2 padding=1 output_padding=1",
  .help = "Transposed 1-D convolution: x [N, C, L], weight [C, O / groups, K], bias [O] -> y [N, O, L']\n"
          "As conv_transpose2d with one spatial axis.",
};
