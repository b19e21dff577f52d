/* random.c - uniform numbers: the baseline that every criterion must beat. Drawn from the process's
 * generator, so a seed repeats them. */
#include "prune/criterion.h"

#include "base/random.h"

static pr_status score(const pr_group *group, const pr_arg *args, const pr_statistics *statistics,
                       double *out) {
  (void)args, (void)statistics;
  uint64_t step = prB_next_step();
  for (int32_t u = 0; u < group->size; u++)
    out[u] = prB_uniform(pr_seed_get(), PR_STREAM_OPERATOR, step, (uint64_t)u);
  return PR_OK;
}

PR_CRITERION(random) = {
  .name = "random",
  .score = score,
  .help = "Uniform random numbers from the process's generator (prune.seed).",
};
