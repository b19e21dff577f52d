/* layer_norm.c - layer and RMS normalization: statistics over the last axes of each sample. */
#include "op/op.h"

#include "couple/rules.h"

enum { X, WEIGHT, BIAS };

/* How many last axes: those of weight or bias, else the argument's count. */
static pr_status axes_of(const pr_call *c, int vectors, int arg, int *count) {
  const pr_tensor *x = c->in[X];
  int64_t k = c->args[arg].integer;
  int given = 0;
  for (int i = WEIGHT; i < WEIGHT + vectors; i++) {
    if (!c->in[i]) continue;
    PR_TRY(prO_need_float(c, i));
    k = c->in[i]->dim;
    given = i;
  }
  if (k < 1 || k > x->dim)
    return prO_fail(c, PR_ERR_SHAPE, "cannot normalize over the last %lld axes of x", (long long)k);
  for (int i = WEIGHT; i < WEIGHT + vectors && given; i++) {
    if (!c->in[i]) continue;
    PR_TRY(prO_need_dim(c, i, (int)k, (int)k));
    for (int d = 0; d < k; d++)
      PR_TRY(prO_need_size(c, i, d, x->shape[x->dim - k + d], "x's normalized axes"));
  }
  *count = (int)k;
  return PR_OK;
}

static pr_status check(const pr_call *c, int eps) {
  PR_TRY(prO_need_dim(c, X, 1, PR_MAX_DIM));
  PR_TRY(prO_need_float(c, X));
  if (!(c->args[eps].real >= 0)) return prO_fail(c, PR_ERR_ARGUMENT, "eps must not be negative");
  return PR_OK;
}

enum { EPS, DIMS };

/* Number of normalized axes once the shapes have been checked. */
static int normalized(const pr_coupling *k, int vectors) {
  for (int i = WEIGHT; i < WEIGHT + vectors; i++)
    if (prC_has(k, PRC_IN(i))) return prC_dim(k, PRC_IN(i));
  return (int)k->call->args[DIMS].integer;
}

#define NORM_ARGS(value)                                                                                     \
  {                                                                                                          \
    { "eps", PR_ARG_REAL, .real = value, .help = "added under the root" },                                   \
        { "dims", PR_ARG_INT, .integer = 1,                                                                  \
          .help = "number of last axes to normalize over where no weight says it" },                         \
  }

/* --- layer norm ------------------------------------------------------------------------------------------ */

static pr_status layer_infer(pr_call *c) {
  int k;
  PR_TRY(check(c, EPS));
  PR_TRY(axes_of(c, 2, DIMS, &k));
  const pr_tensor *x = c->in[X];
  PR_TRY(prO_output_like(c, 0, x));
  PR_TRY(prO_output(c, 1, prO_statistics_dtype(x), x->dim - k, x->shape));
  return prO_output(c, 2, prO_statistics_dtype(x), x->dim - k, x->shape);
}

static void layer_couple(pr_coupling *k) {
  prC_rule_layer_norm(k, PRC_IN(X), PRC_IN(WEIGHT), PRC_IN(BIAS), PRC_OUT(0), normalized(k, 2), true);
}

PR_OP(layer_norm) = {
  .name = "layer_norm",
  .inputs = "x weight? bias?",
  .outputs = "y .mean .invstd",
  .saves = "x weight mean invstd",
  .flags = PR_OP_LIVE_STATISTICS,
  .args = NORM_ARGS(1e-5),
  .infer = layer_infer,
  .couple = layer_couple,
  .onnx = "LayerNormalization",
  .examples = "x:2x3x4 weight:4 bias:4\n"
              "x:2x3x4 weight:3x4\n"
              "x:3x5\n"
              "x:2x3x4 dims=2",
  .help = "Normalization over the last axes: x [..., D...], weight and bias [D...] -> y like x\n"
          "y = (x - mean) / sqrt(var + eps) * weight + bias with mean and (biased) variance over the\n"
          "axes that weight has, or the last `dims` axes without it. Ba et al., \"Layer\n"
          "normalization\", 2016.",
};

/* --- RMS norm -------------------------------------------------------------------------------------------- */

static pr_status rms_infer(pr_call *c) {
  int k;
  PR_TRY(check(c, EPS));
  PR_TRY(axes_of(c, 1, DIMS, &k));
  const pr_tensor *x = c->in[X];
  PR_TRY(prO_output_like(c, 0, x));
  return prO_output(c, 1, prO_statistics_dtype(x), x->dim - k, x->shape);
}

static void rms_couple(pr_coupling *k) {
  prC_rule_layer_norm(k, PRC_IN(X), PRC_IN(WEIGHT), PRC_NONE, PRC_OUT(0), normalized(k, 1), false);
}

PR_OP(rms_norm) = {
  .name = "rms_norm",
  .inputs = "x weight?",
  .outputs = "y .invrms",
  .saves = "x weight invrms",
  .flags = PR_OP_LIVE_STATISTICS,
  .args = NORM_ARGS(1e-6),
  .infer = rms_infer,
  .couple = rms_couple,
  .onnx = "RMSNormalization",
  .examples = "x:2x3x4 weight:4\n"
              "x:3x5\n"
              "x:2x3x4 dims=2",
  .help = "Division by the root mean square over the last axes: x [..., D...], weight [D...] -> y like x\n"
          "y = x / sqrt(mean(x^2) + eps) * weight. Zhang and Sennrich, \"Root mean square layer\n"
          "normalization\", NeurIPS 2019.",
};
