/* growing_reg.c - a penalty that grows (Wang et al. 2021): lambda_u / 2 * ||w_u||^2, gradient lambda_u w.
 * Every lambda_u begins at `strength`; every `every` steps it grows by delta (I_max - I_u) / (I_max - I_min +
 * 1e-8), with I_u = ||w_u|| among the units of the group, until it reaches `ceiling`: what matters least is
 * pressed most, and gently at first, so that the others have time to take over. The weights of a unit are
 * those of all coupled layers, batch norms included. */
#include "prune/regularizer.h"

#include <math.h>

enum { STRENGTH, DELTA, EVERY, CEILING };

static void grow(prP_weighed *units, const pr_arg *args) {
  double least = HUGE_VAL, most = 0;
  for (int32_t u = 0; u < units->n; u++) {
    least = fmin(least, sqrt(units->square[u]));
    most = fmax(most, sqrt(units->square[u]));
  }
  for (int32_t u = 0; u < units->n; u++) {
    double grown =
        units->state[u] + args[DELTA].real * (most - sqrt(units->square[u])) / (most - least + 1e-8);
    if (units->state[u] < args[CEILING].real) units->state[u] = fmin(grown, args[CEILING].real);
  }
}

static double weigh(prP_weighed *units, const pr_arg *args) {
  double penalty = 0;
  for (int32_t u = 0; u < units->n && units->step == 0; u++) units->state[u] = args[STRENGTH].real;
  if (units->step > 0 && units->step % args[EVERY].integer == 0) grow(units, args);
  for (int32_t u = 0; u < units->n; u++) {
    units->factor[u] = units->strength[u] = units->state[u];
    penalty += units->state[u] * units->square[u] / 2;
  }
  return penalty;
}

static const char *check(const pr_arg *args) {
  if (!(args[DELTA].real >= 0)) return "delta must be at least 0";
  if (args[EVERY].integer < 1) return "every must be at least 1 step";
  return args[CEILING].real >= args[STRENGTH].real ? NULL : "ceiling must not lie below strength";
}

PR_REGULARIZER(growing_reg) = {
  .name = "growing_reg",
  .args = { { "strength", PR_ARG_REAL, .real = 1e-4, .help = "where every unit's lambda begins" },
            { "delta", PR_ARG_REAL, .real = 1e-4,
              .help = "what the least important unit's lambda grows by, others less" },
            { "every", PR_ARG_INT, .integer = 10, .help = "steps between growths" },
            { "ceiling", PR_ARG_REAL, .real = 1, .help = "lambda grows no further" } },
  .keeps_state = true,
  .check = check,
  .weigh = weigh,
  .help = "lambda / 2 * the square of the norm of a dependency unit's weights, with a lambda of each unit "
          "that grows, fastest for the least important (Wang et al. 2021).",
};
