/* batch_norm.c - batch and instance normalization: statistics per channel, over batch and space or over space
 * only. */
#include "op/op.h"

#include "couple/rules.h"

enum { X, WEIGHT, BIAS, RUNNING_MEAN, RUNNING_VAR };
enum { Y, MEAN, INVSTD };
enum { TRAINING, MOMENTUM, EPS };

static pr_status check_vectors(const pr_call *c) {
  if (!c->in[RUNNING_MEAN] != !c->in[RUNNING_VAR])
    return prO_fail(c, PR_ERR_ARGUMENT, "running_mean and running_var must be given together");
  for (int i = WEIGHT; i <= RUNNING_VAR; i++) {
    if (!c->in[i]) continue;
    PR_TRY(prO_need_dim(c, i, 1, 1));
    PR_TRY(prO_need_float(c, i));
    PR_TRY(prO_need_size(c, i, 0, c->in[X]->shape[1], "one per channel of x"));
  }
  if (!(c->args[EPS].real >= 0)) return prO_fail(c, PR_ERR_ARGUMENT, "eps must not be negative");
  if (!(c->args[MOMENTUM].real >= 0 && c->args[MOMENTUM].real <= 1))
    return prO_fail(c, PR_ERR_ARGUMENT, "momentum must be in [0, 1], not %g", c->args[MOMENTUM].real);
  return PR_OK;
}

static bool takes_statistics(const pr_call *c) { return c->args[TRAINING].integer || !c->in[RUNNING_MEAN]; }

static pr_status check_count(const pr_call *c, int64_t count, const char *over) {
  if (c->meta || count > 1 || !takes_statistics(c)) return PR_OK;
  return prO_fail(
      c, PR_ERR_SHAPE,
      "statistics need more than one value per channel, but there %s %lld over %s; use a larger batch or "
      "image, or eval mode",
      count == 1 ? "is" : "are", (long long)count, over);
}

static pr_status infer(pr_call *c, bool instance) {
  PR_TRY(prO_need_dim(c, X, instance ? 3 : 2, 5));
  PR_TRY(prO_need_float(c, X));
  PR_TRY(check_vectors(c));
  const pr_tensor *x = c->in[X];
  int64_t plane = 1;
  for (int d = 2; d < x->dim; d++) plane *= x->shape[d];
  if (instance)
    PR_TRY(check_count(c, x->shape[0] ? plane : 2, "space"));
  else
    PR_TRY(check_count(c, x->shape[0] * plane, x->dim > 2 ? "batch and space" : "the batch"));
  if (x->dim == 4)
    PR_TRY(prO_output_channels_last(c, Y, x->dtype, 4, x->shape));
  else
    PR_TRY(prO_output_like(c, Y, x));
  PR_TRY(prO_output(c, MEAN, prO_statistics_dtype(x), instance ? 2 : 1, x->shape + !instance));
  return prO_output(c, INVSTD, prO_statistics_dtype(x), instance ? 2 : 1, x->shape + !instance);
}

static pr_status batch_infer(pr_call *c) { return infer(c, false); }
static pr_status instance_infer(pr_call *c) { return infer(c, true); }

static void couple(pr_coupling *k, bool instance) {
  prC_channel_norm vectors = { PRC_IN(WEIGHT), PRC_IN(BIAS), PRC_IN(RUNNING_MEAN), PRC_IN(RUNNING_VAR) };
  prC_rule_batch_norm(k, PRC_IN(X), &vectors, PRC_OUT(Y), instance);
}

static void batch_couple(pr_coupling *k) { couple(k, false); }
static void instance_couple(pr_coupling *k) { couple(k, true); }

#define NORM_ARGS                                                                                            \
  {                                                                                                          \
    { "training", PR_ARG_MODE, .help = "statistics of this batch, and update the running ones" },            \
        { "momentum", PR_ARG_REAL, .real = 0.1, .help = "share of the new statistics in the running ones" }, \
        { "eps", PR_ARG_REAL, .real = 1e-5, .help = "added to the variance" },                               \
  }

PR_OP(batch_norm) = {
  .name = "batch_norm",
  .inputs = "x weight? bias? running_mean? running_var?",
  .outputs = "y .mean .invstd",
  .saves = "x weight mean invstd",
  .writes = "running_mean running_var",
  .args = NORM_ARGS,
  .infer = batch_infer,
  .couple = batch_couple,
  .onnx = "BatchNormalization",
  .examples = "x:3x2x3x2 weight:2 bias:2 running_mean:2 running_var:2>0.1 training=true\n"
              "x:3x2x3x2 weight:2 bias:2 running_mean:2 running_var:2>0.1\n"
              "x:5x3 weight:3 bias:3 training=true\n"
              "x:2x3x4 training=true",
  .help =
      "Normalization per channel over the batch: x [N, C, ...], the others [C] -> y like x\n"
      "y = (x - mean) / sqrt(var + eps) * weight + bias. In training, mean and (biased) variance are those "
      "of x over all axes but\n"
      "the second, and running = (1 - momentum) running + momentum new, where the running variance takes "
      "the\n"
      "unbiased one; otherwise they are the running ones (those of x where none are given).\n"
      "Ioffe and Szegedy, \"Batch normalization: accelerating deep network training by reducing internal\n"
      "covariate shift\", ICML 2015.",
};

PR_OP(instance_norm) = {
  .name = "instance_norm",
  .inputs = "x weight? bias? running_mean? running_var?",
  .outputs = "y .mean .invstd",
  .saves = "x weight mean invstd",
  .writes = "running_mean running_var",
  .args = NORM_ARGS,
  .infer = instance_infer,
  .couple = instance_couple,
  .onnx = "InstanceNormalization",
  .examples = "x:2x3x3x2 weight:3 bias:3\n"
              "x:2x3x4 weight:3 bias:3 running_mean:3 running_var:3>0.1 training=true\n"
              "x:2x3x3x2 weight:3 bias:3 running_mean:3 running_var:3>0.1",
  .help = "Normalization per image and channel: x [N, C, ...], the others [C] -> y like x\n"
          "As batch_norm with statistics over the spatial axes of each image alone; running statistics,\n"
          "where given, take the mean over the batch. Ulyanov et al., \"Instance normalization: the\n"
          "missing ingredient for fast stylization\", 2016.",
};
