/* batch_norm.c - batch normalisation of f32 tensors through the row kernels of norm.h. */
#include "backend/cpu/layout.h"
#include "backend/cpu/norm.h"

#include <math.h>

enum { X, WEIGHT, BIAS, RUNNING_MEAN, RUNNING_VAR };
enum { Y, MEAN, INVSTD };
enum { TRAINING, MOMENTUM, EPS };

static float entry(const pr_tensor *t, int64_t i, float absent) {
  return t ? ((const float *)prT_data(t))[i * t->stride[0]] : absent;
}

static float *address(pr_tensor *t, int64_t i) { return (float *)prT_data(t) + i * t->stride[0]; }

static void update_running(pr_call *c, int64_t rows, int64_t i, double mean, double variance) {
  const double momentum = c->args[MOMENTUM].real;
  float *m = address(c->in[RUNNING_MEAN], i), *v = address(c->in[RUNNING_VAR], i);
  *m = (float)((1 - momentum) * *m + momentum * mean);
  *v = (float)((1 - momentum) * *v + momentum * variance * (double)rows / (double)(rows - 1));
}

/* y = x * scale + shift with scale = weight / sqrt(var + eps), shift = bias - mean * scale. */
PR_KERNEL(cpu, batch_norm, forward)
{
  const pr_tensor *x = c->in[X];
  const int64_t channels = x->shape[1], rows = channels ? pr_numel(x) / channels : 0;
  if (!prK_all_f32(c->in, c->n_in) || rows < 1) return PR_DECLINED;
  const bool training = c->args[TRAINING].integer, own = training || !c->in[RUNNING_MEAN];
  const float *from = prK_channels_last(c, x);
  float *y = prK_channels_last_room(c, c->out[Y]);
  double *mean = prK_doubles(c, channels), *variance = prK_doubles(c, channels);
  float *scale = prK_scratch(c, sizeof(float) * (size_t)channels),
        *shift = prK_scratch(c, sizeof(float) * (size_t)channels);
  void *room = prK_scratch(c, prK_norm_scratch(rows, channels));
  if (!from || !y || !mean || !variance || !scale || !shift || !room) return PR_ERR_MEMORY;
  if (own) prK_channel_statistics(rows, channels, from, mean, variance, room);
  for (int64_t i = 0; i < channels; i++) {
    if (!own) mean[i] = entry(c->in[RUNNING_MEAN], i, 0), variance[i] = entry(c->in[RUNNING_VAR], i, 1);
    const double invstd = 1 / sqrt(variance[i] + c->args[EPS].real),
                 factor = invstd * entry(c->in[WEIGHT], i, 1);
    scale[i] = (float)factor;
    shift[i] = (float)(entry(c->in[BIAS], i, 0) - mean[i] * factor);
    *address(c->out[MEAN], i) = (float)mean[i];
    *address(c->out[INVSTD], i) = (float)invstd;
    if (training && c->in[RUNNING_MEAN] && rows > 1) update_running(c, rows, i, mean[i], variance[i]);
  }
  prK_channel_affine(rows, channels, from, scale, shift, false, y);
  prK_channels_last_finish(c->out[Y], y);
  return PR_OK;
}

/* With h = (x - mean) invstd: dx = weight invstd (dy - avg(dy) - h avg(dy h)), written as a dy + b x + c;
 * where the statistics are constants, dx = weight invstd dy. */
static void dx_factors(const pr_call *c, bool own, int64_t rows, int64_t i, double sum, double product,
                       float *a, float *b, float *shift) {
  const double invstd = entry(c->out[INVSTD], i, 0), mean = entry(c->out[MEAN], i, 0);
  const double factor = invstd * entry(c->in[WEIGHT], i, 1);
  const double slope = own ? -factor * invstd * invstd * product / (double)rows : 0;
  *a = (float)factor;
  *b = (float)slope;
  *shift = own ? (float)(-factor * sum / (double)rows - slope * mean) : 0;
}

PR_KERNEL(cpu, batch_norm, backward)
{
  const pr_tensor *x = c->in[X];
  const int64_t channels = x->shape[1], rows = channels ? pr_numel(x) / channels : 0;
  if (!prK_all_f32(c->in, c->n_in) || !prK_all_f32(c->grad_out, 1) || rows < 1) return PR_DECLINED;
  const bool own = c->args[TRAINING].integer || !c->in[RUNNING_MEAN];
  const float *from = prK_channels_last(c, x), *dy = prK_channels_last(c, c->grad_out[Y]);
  double *sum = prK_doubles(c, channels), *product = prK_doubles(c, channels);
  float *mean = prK_scratch(c, sizeof(float) * (size_t)channels * 4);
  void *room = prK_scratch(c, prK_norm_scratch(rows, channels));
  if (!from || !dy || !sum || !product || !mean || !room) return PR_ERR_MEMORY;
  float *a = mean + channels, *b = a + channels, *shift = b + channels;
  for (int64_t i = 0; i < channels; i++) mean[i] = entry(c->out[MEAN], i, 0);
  prK_channel_products(rows, channels, dy, from, mean, sum, product, room);
  for (int64_t i = 0; i < channels; i++) {
    dx_factors(c, own, rows, i, sum[i], product[i], a + i, b + i, shift + i);
    if (c->grad_in[WEIGHT])
      *address(c->grad_in[WEIGHT], i) = (float)(product[i] * entry(c->out[INVSTD], i, 0));
    if (c->grad_in[BIAS]) *address(c->grad_in[BIAS], i) = (float)sum[i];
  }
  if (!c->grad_in[X]) return PR_OK;
  float *dx = prK_channels_last_room(c, c->grad_in[X]);
  if (!dx) return PR_ERR_MEMORY;
  prK_channel_combine(rows, channels, dy, from, a, b, shift, dx);
  prK_channels_last_finish(c->grad_in[X], dx);
  return PR_OK;
}
