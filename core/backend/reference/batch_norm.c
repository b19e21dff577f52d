/* batch_norm.c - normalization of (x - mean) * invstd * weight + bias, for statistics over sets of elements
 * that have one channel each (batch and instance normalization). */
#include <math.h>
#include <string.h>

#include "backend/backend.h"

enum { X, WEIGHT, BIAS, RUNNING_MEAN, RUNNING_VAR };
enum { Y, MEAN, INVSTD };
enum { TRAINING, MOMENTUM, EPS };

/* x [N, C, plane] falls into `sets` sets with one mean and variance each: element (n, c, s) belongs to set c,
 * or to n * C + c. */
typedef struct extent {
  int64_t batch, channels, plane, sets, count; /* count: elements of a set */
  bool instance, own;                          /* own: statistics of x itself, not the running ones */
} extent;

static extent extent_of(const pr_call *c, bool instance) {
  const pr_tensor *x = c->in[X];
  extent e = {
    x->shape[0], x->shape[1], 1, x->shape[1], 0, instance, c->args[TRAINING].integer || !c->in[RUNNING_MEAN]
  };
  for (int d = 2; d < x->dim; d++) e.plane *= x->shape[d];
  e.count = instance ? e.plane : e.batch * e.plane;
  if (instance) e.sets *= e.batch;
  return e;
}

/* The set of plane number `row` = n * C + c. */
static int64_t set_of(const extent *e, int64_t row) { return e->instance ? row : row % e->channels; }

static void statistics(const extent *e, const double *x, double *mean, double *var) {
  memset(mean, 0, sizeof *mean * (size_t)e->sets);
  memset(var, 0, sizeof *var * (size_t)e->sets);
  for (int64_t row = 0; row < e->batch * e->channels; row++)
    for (int64_t s = 0; s < e->plane; s++) mean[set_of(e, row)] += x[row * e->plane + s] / (double)e->count;
  for (int64_t row = 0; row < e->batch * e->channels; row++)
    for (int64_t s = 0; s < e->plane; s++) {
      double d = x[row * e->plane + s] - mean[set_of(e, row)];
      var[set_of(e, row)] += d * d / (double)e->count;
    }
}

/* running := (1 - momentum) running + momentum * (mean over the batch of the sets' values, times `scale`). */
static pr_status update_running(pr_call *c, const extent *e, int input, const double *values, double scale) {
  PRK_LOAD(old, c->in[input]);
  PRK_ROOM(running, e->channels);
  double momentum = c->args[MOMENTUM].real;
  int64_t repeats = e->channels ? e->sets / e->channels : 0;
  if (repeats == 0) return PR_OK;
  for (int64_t k = 0; k < e->channels; k++) running[k] = (1 - momentum) * old[k];
  for (int64_t set = 0; set < e->sets; set++)
    running[set % e->channels] += momentum * scale * values[set] / (double)repeats;
  return prK_store(c->in[input], running);
}

static pr_status forward(pr_call *c, bool instance) {
  extent e = extent_of(c, instance);
  PRK_LOAD(x, c->in[X]);
  PRK_LOAD(weight, c->in[WEIGHT]);
  PRK_LOAD(bias, c->in[BIAS]);
  PRK_ROOM(y, pr_numel(c->in[X]));
  PRK_ROOM(mean, e.sets);
  PRK_ROOM(var, e.sets);
  PRK_ROOM(invstd, e.sets);
  if (e.own) {
    statistics(&e, x, mean, var);
  } else {
    PRK_LOAD(running_mean, c->in[RUNNING_MEAN]);
    PRK_LOAD(running_var, c->in[RUNNING_VAR]);
    for (int64_t set = 0; set < e.sets; set++) {
      mean[set] = running_mean[set % e.channels];
      var[set] = running_var[set % e.channels];
    }
  }
  for (int64_t set = 0; set < e.sets; set++) invstd[set] = 1 / sqrt(var[set] + c->args[EPS].real);
  for (int64_t row = 0; row < e.batch * e.channels; row++) {
    int64_t set = set_of(&e, row), channel = row % e.channels;
    for (int64_t s = row * e.plane; s < (row + 1) * e.plane; s++)
      y[s] = (x[s] - mean[set]) * invstd[set] * (weight ? weight[channel] : 1) + (bias ? bias[channel] : 0);
  }
  if (c->args[TRAINING].integer && c->in[RUNNING_MEAN] && e.count > 1) {
    PR_TRY(update_running(c, &e, RUNNING_MEAN, mean, 1));
    PR_TRY(update_running(c, &e, RUNNING_VAR, var, (double)e.count / (double)(e.count - 1)));
  }
  PR_TRY(prK_store(c->out[MEAN], mean));
  PR_TRY(prK_store(c->out[INVSTD], invstd));
  return prK_store(c->out[Y], y);
}

/* With h = (x - mean) invstd and g = gy weight: gx = invstd (g - avg(g) - h avg(g h)), averages over the set;
 * gx = invstd g where the statistics are constants. */
static pr_status backward(pr_call *c, bool instance) {
  if (c->grad_in[RUNNING_MEAN] || c->grad_in[RUNNING_VAR])
    return pr_fail(PR_ERR_UNSUPPORTED, "%s: running statistics are buffers and have no gradient",
                   c->op->name);
  extent e = extent_of(c, instance);
  PRK_LOAD(x, c->in[X]);
  PRK_LOAD(weight, c->in[WEIGHT]);
  PRK_LOAD(mean, c->out[MEAN]);
  PRK_LOAD(invstd, c->out[INVSTD]);
  PRK_LOAD(gy, c->grad_out[Y]);
  PRK_ZEROS(sum, e.sets);
  PRK_ZEROS(product, e.sets);
  for (int64_t row = 0; row < e.batch * e.channels; row++) {
    int64_t set = set_of(&e, row);
    for (int64_t s = row * e.plane; s < (row + 1) * e.plane; s++) {
      sum[set] += gy[s];
      product[set] += gy[s] * (x[s] - mean[set]) * invstd[set];
    }
  }
  if (c->grad_in[X]) {
    PRK_ROOM(gx, pr_numel(c->in[X]));
    for (int64_t row = 0; row < e.batch * e.channels; row++) {
      int64_t set = set_of(&e, row);
      double factor = invstd[set] * (weight ? weight[row % e.channels] : 1), count = (double)e.count;
      for (int64_t s = row * e.plane; s < (row + 1) * e.plane; s++) {
        double h = (x[s] - mean[set]) * invstd[set];
        gx[s] = factor * (gy[s] - (e.own ? sum[set] / count + h * product[set] / count : 0));
      }
    }
    PR_TRY(prK_store(c->grad_in[X], gx));
  }
  for (int i = WEIGHT; i <= BIAS; i++) {
    if (!c->grad_in[i]) continue;
    PRK_ZEROS(g, e.channels);
    for (int64_t set = 0; set < e.sets; set++) g[set % e.channels] += (i == WEIGHT ? product : sum)[set];
    PR_TRY(prK_store(c->grad_in[i], g));
  }
  return PR_OK;
}

PR_KERNEL(reference, batch_norm, forward)
{ return forward(c, false); }
PR_KERNEL(reference, batch_norm, backward)
{ return backward(c, false); }
PR_KERNEL(reference, instance_norm, forward)
{ return forward(c, true); }
PR_KERNEL(reference, instance_norm, backward)
{ return backward(c, true); }
