/* layer_norm.c - layer, RMS and group normalization: blocks of consecutive elements of row-major x share
 * their statistics. */
#include <math.h>

#include "backend/backend.h"

enum { X, WEIGHT, BIAS };

/* Block k of `count` spans elements start[k % kinds] .. start[k % kinds + 1] of its sample of `sample`
 * elements. Element e of a sample has the entry e / run of weight and bias. Layer norm: one block per sample,
 * run 1. Group norm: a block per group, run = plane. */
typedef struct blocks {
  int64_t samples, sample, kinds, run, entries; /* run: at least 1 */
  const int64_t *start;
  bool centred;
} blocks;

static pr_status layer_blocks(pr_call *c, const pr_tensor *statistics, bool centred, blocks *b) {
  int64_t *start = prK_scratch(c, 2 * sizeof *start);
  if (!start) return PR_ERR_MEMORY;
  int64_t samples = pr_numel(statistics);
  start[0] = 0;
  start[1] = 1;
  for (int d = statistics->dim; d < c->in[X]->dim; d++) start[1] *= c->in[X]->shape[d];
  *b = (blocks){ samples, start[1], 1, 1, start[1], start, centred };
  return PR_OK;
}

enum { GROUPS, GROUP_EPS, BOUNDS };

static pr_status group_blocks(pr_call *c, blocks *b) {
  const pr_tensor *x = c->in[X];
  const pr_arg *bounds = &c->args[BOUNDS];
  int64_t plane = 1, groups = bounds->count ? bounds->count : c->args[GROUPS].integer;
  int64_t *start = prK_scratch(c, (size_t)(groups + 1) * sizeof *start);
  if (!start) return PR_ERR_MEMORY;
  for (int d = 2; d < x->dim; d++) plane *= x->shape[d];
  start[0] = 0;
  for (int64_t k = 1; k <= groups; k++)
    start[k] = plane * (bounds->count ? bounds->list[k - 1] : x->shape[1] / groups * k);
  *b = (blocks){ x->shape[0], x->shape[1] * plane, groups, plane > 0 ? plane : 1, x->shape[1], start, true };
  return PR_OK;
}

static pr_status forward(pr_call *c, const blocks *b, double eps) {
  PRK_LOAD(x, c->in[X]);
  PRK_LOAD(weight, c->in[WEIGHT]);
  const pr_tensor *bias_tensor = b->centred ? c->in[BIAS] : NULL;
  PRK_LOAD(bias, bias_tensor);
  PRK_ROOM(y, pr_numel(c->in[X]));
  PRK_ROOM(mean, b->samples * b->kinds);
  PRK_ROOM(invstd, b->samples * b->kinds);
  for (int64_t k = 0; k < b->samples * b->kinds; k++) {
    int64_t from = b->start[k % b->kinds], to = b->start[k % b->kinds + 1], first = k / b->kinds * b->sample;
    double average = 0, square = 0, count = (double)(to - from);
    for (int64_t e = from; e < to && b->centred; e++) average += x[first + e] / count;
    for (int64_t e = from; e < to; e++) square += (x[first + e] - average) * (x[first + e] - average) / count;
    mean[k] = average;
    invstd[k] = 1 / sqrt(square + eps);
    for (int64_t e = from; e < to; e++)
      y[first + e] = (x[first + e] - average) * invstd[k] * (weight ? weight[e / b->run] : 1) +
                     (bias ? bias[e / b->run] : 0);
  }
  if (b->centred) PR_TRY(prK_store(c->out[1], mean));
  PR_TRY(prK_store(c->out[b->centred ? 2 : 1], invstd));
  return prK_store(c->out[0], y);
}

/* gx = invstd (g - avg(g) - h avg(g h)) with h = (x - mean) invstd and g = gy weight; RMS norm lacks the term
 * avg(g). */
static void block_gradient(const blocks *b, int64_t k, const double *x, const double *gy,
                           const double *weight, double mean, double invstd, double *gx) {
  int64_t from = b->start[k % b->kinds], to = b->start[k % b->kinds + 1], first = k / b->kinds * b->sample;
  double sum = 0, product = 0, count = (double)(to - from);
  for (int64_t e = from; e < to; e++) {
    double g = gy[first + e] * (weight ? weight[e / b->run] : 1);
    if (b->centred) sum += g / count;
    product += g * (x[first + e] - mean) * invstd / count;
  }
  for (int64_t e = from; e < to; e++) {
    double g = gy[first + e] * (weight ? weight[e / b->run] : 1);
    gx[first + e] = invstd * (g - sum - (x[first + e] - mean) * invstd * product);
  }
}

static pr_status backward(pr_call *c, const blocks *b) {
  PRK_LOAD(x, c->in[X]);
  PRK_LOAD(weight, c->in[WEIGHT]);
  PRK_LOAD(gy, c->grad_out[0]);
  const pr_tensor *mean_tensor = b->centred ? c->out[1] : NULL;
  PRK_LOAD(mean, mean_tensor);
  PRK_LOAD(invstd, c->out[b->centred ? 2 : 1]);
  PRK_ROOM(gx, pr_numel(c->in[X]));
  PRK_ZEROS(gw, b->entries);
  PRK_ZEROS(gb, b->entries);
  for (int64_t k = 0; k < b->samples * b->kinds; k++) {
    int64_t from = b->start[k % b->kinds], to = b->start[k % b->kinds + 1], first = k / b->kinds * b->sample;
    double centre = mean ? mean[k] : 0;
    for (int64_t e = from; e < to; e++) {
      gw[e / b->run] += gy[first + e] * (x[first + e] - centre) * invstd[k];
      gb[e / b->run] += gy[first + e];
    }
    block_gradient(b, k, x, gy, weight, centre, invstd[k], gx);
  }
  if (c->grad_in[X]) PR_TRY(prK_store(c->grad_in[X], gx));
  if (c->grad_in[WEIGHT]) PR_TRY(prK_store(c->grad_in[WEIGHT], gw));
  if (b->centred && c->grad_in[BIAS]) PR_TRY(prK_store(c->grad_in[BIAS], gb));
  return PR_OK;
}

enum { EPS };

PR_KERNEL(reference, layer_norm, forward)
{
  blocks b;
  PR_TRY(layer_blocks(c, c->out[1], true, &b));
  return forward(c, &b, c->args[EPS].real);
}
PR_KERNEL(reference, layer_norm, backward)
{
  blocks b;
  PR_TRY(layer_blocks(c, c->out[1], true, &b));
  return backward(c, &b);
}
PR_KERNEL(reference, rms_norm, forward)
{
  blocks b;
  PR_TRY(layer_blocks(c, c->out[1], false, &b));
  return forward(c, &b, c->args[EPS].real);
}
PR_KERNEL(reference, rms_norm, backward)
{
  blocks b;
  PR_TRY(layer_blocks(c, c->out[1], false, &b));
  return backward(c, &b);
}
PR_KERNEL(reference, group_norm, forward)
{
  blocks b;
  PR_TRY(group_blocks(c, &b));
  return forward(c, &b, c->args[GROUP_EPS].real);
}
PR_KERNEL(reference, group_norm, backward)
{
  blocks b;
  PR_TRY(group_blocks(c, &b));
  return backward(c, &b);
}
