/* The reference kernels of op/fill.c. Random numbers depend on the position in row-major order only, not on
 * layout or threads. */
#include "backend/backend.h"
#include "base/random.h"

PR_KERNEL(reference, full, forward)
{ return pr_fill(c->out[0], c->args[1].real); }

PR_KERNEL(reference, eye, forward)
{
  int64_t n = pr_numel(c->out[0]), columns = c->out[0]->shape[1];
  PRK_ROOM(y, n);
  for (int64_t i = 0; i < n; i++) y[i] = i / columns == i % columns;
  return prK_store(c->out[0], y);
}

PR_KERNEL(reference, arange, forward)
{
  int64_t n = pr_numel(c->out[0]);
  PRK_ROOM(y, n);
  for (int64_t i = 0; i < n; i++) y[i] = c->args[0].real + (double)i * c->args[2].real;
  return prK_store(c->out[0], y);
}

/* Counted from the nearer end, so that both ends are exact. */
PR_KERNEL(reference, linspace, forward)
{
  int64_t n = pr_numel(c->out[0]);
  double start = c->args[0].real, stop = c->args[1].real, step = n > 1 ? (stop - start) / (double)(n - 1) : 0;
  PRK_ROOM(y, n);
  for (int64_t i = 0; i < n; i++)
    y[i] = i < n / 2 || n == 1 ? start + (double)i * step : stop - (double)(n - 1 - i) * step;
  return prK_store(c->out[0], y);
}

static double uniform(const pr_call *c, int64_t i) {
  return prB_uniform(pr_seed_get(), PR_STREAM_OPERATOR, c->random_step, (uint64_t)i);
}

/* In f32 a number just below 1 would round to 1. */
PR_KERNEL(reference, rand, forward)
{
  int64_t n = pr_numel(c->out[0]);
  double most = c->out[0]->dtype == PR_F64 ? 1 : c->out[0]->dtype == PR_F32 ? 1 - 0x1p-24 : 1 - 0x1p-8;
  PRK_ROOM(y, n);
  for (int64_t i = 0; i < n; i++) {
    double u = uniform(c, i);
    y[i] = u > most ? most : u;
  }
  return prK_store(c->out[0], y);
}

PR_KERNEL(reference, randn, forward)
{
  int64_t n = pr_numel(c->out[0]);
  PRK_ROOM(y, n);
  for (int64_t i = 0; i < n; i++)
    y[i] = prB_normal(pr_seed_get(), PR_STREAM_OPERATOR, c->random_step, (uint64_t)i);
  return prK_store(c->out[0], y);
}

static uint64_t below(const pr_call *c, int64_t i, uint64_t n) {
  return prB_below(pr_seed_get(), PR_STREAM_OPERATOR, c->random_step, (uint64_t)i, n);
}

PR_KERNEL(reference, randint, forward)
{
  int64_t n = pr_numel(c->out[0]), low = c->args[0].integer, span = c->args[1].integer - low;
  PRK_ROOM(y, n);
  for (int64_t i = 0; i < n; i++) y[i] = (double)(low + (int64_t)below(c, i, (uint64_t)span));
  return prK_store(c->out[0], y);
}

/* Fisher and Yates, from the end. */
PR_KERNEL(reference, randperm, forward)
{
  int64_t n = pr_numel(c->out[0]);
  PRK_ROOM(order, n);
  for (int64_t i = 0; i < n; i++) order[i] = (double)i;
  for (int64_t i = n - 1; i > 0; i--) {
    int64_t j = (int64_t)below(c, i, (uint64_t)i + 1);
    double kept = order[i];
    order[i] = order[j], order[j] = kept;
  }
  return prK_store(c->out[0], order);
}

PR_KERNEL(reference, bernoulli, forward)
{
  PRK_LOAD(p, c->in[0]);
  int64_t n = pr_numel(c->out[0]);
  PRK_ROOM(y, n);
  for (int64_t i = 0; i < n; i++) y[i] = uniform(c, i) < p[i];
  return prK_store(c->out[0], y);
}

/* In training only: otherwise both results are views. */
PR_KERNEL(reference, dropout, forward)
{
  PRK_LOAD(x, c->in[0]);
  int64_t n = pr_numel(c->out[0]);
  double p = c->args[0].real;
  int64_t together = c->args[2].integer && n ? n / c->in[0]->shape[0] : 1;
  PRK_ROOM(y, n);
  PRK_ROOM(factor, n);
  for (int64_t i = 0; i < n; i++) {
    factor[i] = uniform(c, i / together) < p ? 0 : 1 / (1 - p);
    y[i] = factor[i] == 0 ? 0 : x[i] * factor[i];
  }
  PR_TRY(prK_store(c->out[0], y));
  return prK_store(c->out[1], factor);
}
