/* group_norm.c - normalization over groups of channels of each sample. Groups are equal parts of the
 * channels, or, after a removal, the parts that stored bounds say: statistics then run over the channels that
 * are left of each original group. */
#include "op/op.h"

#include "base/memory.h"
#include "couple/rules.h"

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
  pr_dtype statistics = prO_statistics_dtype(x);
  if (x->dim == 4)
    PR_TRY(prO_output_channels_last(c, Y, x->dtype, 4, x->shape));
  else
    PR_TRY(prO_output_like(c, Y, x));
  PR_TRY(prO_output(c, MEAN, statistics, 2, shape));
  return prO_output(c, INVSTD, statistics, 2, shape);
}

static void couple(pr_coupling *k) {
  prC_rule_group_norm(k, PRC_IN(X), PRC_IN(WEIGHT), PRC_IN(BIAS), PRC_OUT(Y));
}

/* Where the channels that are left of each group end; a group of which nothing is left is gone. Equal groups
 * need no bounds. */
static pr_status rewrite(pr_coupling *k, pr_arg *args) {
  int64_t channels = prC_size(k, PRC_IN(X), 1), from = 0, end = 0, first = 0;
  int before = args[BOUNDS].count ? args[BOUNDS].count : (int)args[GROUPS].integer, count = 0;
  int64_t *list = PRB_ARRAY(int64_t, before);
  bool equal = true;
  if (!list) return PR_ERR_MEMORY;
  for (int g = 0; g < before; g++) {
    int64_t to = args[BOUNDS].count ? args[BOUNDS].list[g] : channels / before * (g + 1);
    int64_t live = prC_live_part(k, PRC_IN(X), 1, from, to);
    from = to;
    if (live == 0) continue;
    if (count == 0) first = live;
    equal = equal && live == first;
    list[count++] = end += live;
  }
  PRB_ARRAY_FREE(args[BOUNDS].list, args[BOUNDS].count);
  args[BOUNDS] = (pr_arg){ 0 };
  args[GROUPS] = (pr_arg){ .integer = count, .given = true };
  if (!equal) {
    int64_t *bounds = PRB_ARRAY(int64_t, count);
    if (bounds) args[BOUNDS] = (pr_arg){ .list = bounds, .count = count, .given = true };
    for (int g = 0; bounds && g < count; g++) bounds[g] = list[g];
    if (!bounds) count = -1;
  }
  PRB_ARRAY_FREE(list, before);
  return count < 0 ? PR_ERR_MEMORY : PR_OK;
}

PR_OP(group_norm) = {
  .name = "group_norm",
  .inputs = "x weight? bias?",
  .outputs = "y .mean .invstd",
  .saves = "x weight mean invstd",
  .flags = PR_OP_LIVE_STATISTICS,
  .args = { { "groups", PR_ARG_INT, .integer = 1, .help = "number of equal groups of channels" },
            { "eps", PR_ARG_REAL, .real = 1e-5, .help = "added to the variance" },
            { "bounds", PR_ARG_INTS, .empty = true,
              .help = "unequal groups: channels up to the end of each group" } },
  .infer = infer,
  .couple = couple,
  .rewrite = rewrite,
  .onnx = "GroupNormalization",
  .examples = "x:2x4x3x2 weight:4 bias:4 groups=2\n"
              "x:2x6x3 weight:6 bias:6 groups=3\n"
              "x:2x4 groups=1\n"
              "x:2x5x2x2 weight:5 bias:5 bounds=2,5",
  .help = "Normalization over groups of channels: x [N, C, ...], weight and bias [C] -> y like x\n"
          "y = (x - mean) / sqrt(var + eps) * weight + bias, with mean and (biased) variance over the\n"
          "channels of a group and all places of one sample. Wu and He, \"Group normalization\", ECCV\n"
          "2018.",
};
