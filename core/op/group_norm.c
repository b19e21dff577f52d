/* group_norm.c - normalization over groups of channels of each sample. Groups are equal parts of the
 * channels, or, after a removal, the parts that stored bounds say: statistics then run over the channels that
 * are left of each original group. */
#include "op/op.h"

enum { X, WEIGHT, BIAS };
enum { Y, MEAN, INVSTD };
enum { GROUPS, EPS, BOUNDS };

static pr_status check_groups(const pr_call *c, int64_t *groups) {
  const pr_arg *bounds = &c->args[BOUNDS];
  int64_t channels = c->in[X]->shape[1], before = 0;
  *groups = c->args[GROUPS].integer;
  if (bounds->count == 0) {
    if (*groups >= 1 && channels % *groups == 0) return PR_OK;
    return prO_fail(c, PR_ERR_SHAPE, "x's %lld channels do not divide into %lld groups", (long long)channels,
                    (long long)*groups);
  }
  for (int k = 0; k < bounds->count; k++) {
    if (bounds->list[k] <= before)
      return prO_fail(c, PR_ERR_ARGUMENT, "bounds must increase: %lld does not come after %lld",
                      (long long)bounds->list[k], (long long)before);
    before = bounds->list[k];
  }
  if (before != channels)
    return prO_fail(c, PR_ERR_SHAPE, "the last of bounds (%lld) must be x's number of channels (%lld)",
                    (long long)before, (long long)channels);
  *groups = bounds->count;
  return PR_OK;
}

static pr_status infer(pr_call *c) {
  PR_TRY(prO_need_dim(c, X, 2, PR_MAX_DIM));
  PR_TRY(prO_need_float(c, X));
  const pr_tensor *x = c->in[X];
  int64_t shape[2] = { x->shape[0] };
  PR_TRY(check_groups(c, &shape[1]));
  for (int i = WEIGHT; i <= BIAS; i++) {
    if (!c->in[i]) continue;
    PR_TRY(prO_need_dim(c, i, 1, 1));
    PR_TRY(prO_need_float(c, i));
    PR_TRY(prO_need_size(c, i, 0, x->shape[1], "one per channel of x"));
  }
  if (!(c->args[EPS].real >= 0)) return prO_fail(c, PR_ERR_ARGUMENT, "eps must not be negative");
  pr_dtype statistics = x->dtype == PR_F64 ? PR_F64 : PR_F32;
  if (x->dim == 4)
    PR_TRY(prO_output_channels_last(c, Y, x->dtype, 4, x->shape));
  else
    PR_TRY(prO_output_like(c, Y, x));
  PR_TRY(prO_output(c, MEAN, statistics, 2, shape));
  return prO_output(c, INVSTD, statistics, 2, shape);
}

PR_OP(group_norm)
= {
  .name = "group_norm",
  .inputs = "x weight? bias?",
  .outputs = "y .mean .invstd",
  .saves = "x weight mean invstd",
  .args = { { "groups", PR_ARG_INT, .integer = 1, .help = "number of equal groups of channels" },
            { "eps", PR_ARG_REAL, .real = 1e-5, .help = "added to the variance" },
            { "bounds", PR_ARG_INTS, .empty = true,
              .help = "unequal groups: channels up to the end of each group" } },
  .infer = infer,
  .onnx = "GroupNormalization",
  .examples = "x:2x4x3x2 weight:4 bias:4 groups=2\n"
              "x:2x6x3 weight:6 bias:6 groups=3\n"
              "x:2x4 groups=1\n"
              "x:2x5x2x2 weight:5 bias:5 bounds=2,5",
  .help = "Normalization over groups of channels: x [N, C, ...], weight and bias [C] -> y like x\n"
          "y = (x - mean) / sqrt(var + eps) * weight + bias, with mean and (biased) variance over the "
          "channels of a group and\n"
          "all places of one sample. Wu and He, \"Group normalization\", ECCV 2018.",
};
