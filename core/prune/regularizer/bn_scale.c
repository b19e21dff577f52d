/* bn_scale.c - strength * sum |gamma| over batch-norm scales: gradient strength * sign(gamma) (network
 * slimming, Liu et al. 2017). Channels whose scale goes to zero can be removed at little cost. */
#include "prune/regularizer.h"

#include "autograd/parameter.h"

#include <math.h>

enum { STRENGTH };

static double sign(double x) { return (x > 0) - (x < 0); }

static pr_status apply(const pr_regularized *model, const pr_arg *args, double *penalty) {
  double strength = args[STRENGTH].real;
  for (int i = 0; i < model->n_scales; i++) {
    pr_tensor *gamma = model->scales[i], *mask = gamma->parameter ? gamma->parameter->mask : NULL;
    penalty[i] = 0;
    if (!gamma->grad) continue;
    for (int64_t k = 0; k < gamma->shape[0]; k++) {
      double value = prT_get(gamma, k * gamma->stride[0]);
      if (mask && prT_get(mask, k * mask->stride[0]) == 0) continue;
      penalty[i] += strength * fabs(value);
      int64_t at = k * gamma->grad->stride[0];
      prT_set(gamma->grad, at, prT_get(gamma->grad, at) + strength * sign(value));
    }
    prT_touch(gamma->grad);
  }
  return PR_OK;
}

PR_REGULARIZER(bn_scale) = {
  .name = "bn_scale",
  .args = { { "strength", PR_ARG_REAL, .real = 1e-4, .help = "weight of the term" } },
  .apply = apply,
  .help = "strength * sum |gamma| over the scales of batch norms (network slimming, Liu et al. 2017).",
};
