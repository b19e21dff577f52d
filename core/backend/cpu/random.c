/* random.c - random fills of row-major tensors in parallel. Element i takes number i of the step, so the
 * values are the reference's whatever the number of threads. */
#include "backend/backend.h"
#include "base/random.h"

enum { P, TRAINING, SAMPLES };
enum { PARALLEL = 1 << 12 };

/* --- f32 and f64 ------------------------------------------------------------------------------------------------------ */

static bool is_ours(const pr_tensor *t) {
  return (t->dtype == PR_F32 || t->dtype == PR_F64) && pr_is_contiguous(t);
}

static void put(const pr_tensor *t, void *data, int64_t i, double value) {
  if (t->dtype == PR_F64)
    ((double *)data)[i] = value;
  else
    ((float *)data)[i] = (float)value;
}

PR_KERNEL(cpu, rand, forward)
{
  const pr_tensor *y = c->out[0];
  if (!is_ours(y)) return PR_DECLINED;
  const double most = y->dtype == PR_F64 ? 1 : 1 - 0x1p-24; /* what would round to 1 */
  const uint64_t seed = pr_seed_get();
  const int64_t n = pr_numel(y);
  void *data = prT_data(y);
#pragma omp parallel for schedule(static) if (n >= PARALLEL)
  for (int64_t i = 0; i < n; i++) {
    const double u = prB_uniform(seed, PR_STREAM_OPERATOR, c->random_step, (uint64_t)i);
    put(y, data, i, u > most ? most : u);
  }
  return PR_OK;
}

PR_KERNEL(cpu, randn, forward)
{
  const pr_tensor *y = c->out[0];
  if (!is_ours(y)) return PR_DECLINED;
  const uint64_t seed = pr_seed_get();
  const int64_t n = pr_numel(y);
  void *data = prT_data(y);
#pragma omp parallel for schedule(static) if (n >= PARALLEL)
  for (int64_t i = 0; i < n; i++)
    put(y, data, i, prB_normal(seed, PR_STREAM_OPERATOR, c->random_step, (uint64_t)i));
  return PR_OK;
}

PR_KERNEL(cpu, dropout, forward)
{
  const pr_tensor *x = c->in[0], *y = c->out[0];
  if (x->dtype != PR_F32 || !pr_is_contiguous(x) || !pr_is_contiguous(y)) return PR_DECLINED;
  const double p = c->args[P].real;
  const float kept = (float)(1 / (1 - p)), *from = prT_data(x);
  const uint64_t seed = pr_seed_get();
  const int64_t n = pr_numel(y), together = c->args[SAMPLES].integer && n ? n / x->shape[0] : 1;
  float *to = prT_data(y), *factor = prT_data(c->out[1]);
#pragma omp parallel for schedule(static) if (n >= PARALLEL)
  for (int64_t i = 0; i < n; i++) {
    const uint64_t number = (uint64_t)(together == 1 ? i : i / together);
    const bool drop = prB_uniform(seed, PR_STREAM_OPERATOR, c->random_step, number) < p;
    factor[i] = drop ? 0 : kept;
    to[i] = drop ? 0 : from[i] * kept;
  }
  return PR_OK;
}
