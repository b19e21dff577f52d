/* select.h - which units go: from scores to a choice that meets a ratio or a target.
 *
 * Scopes are ranked on their own (local) or together (global). All counts are integers: of n units,
 * floor(ratio n + 1e-6) go; of equal scores the lower index goes first. A unit whose removal would empty some
 * axis of the model stays (floors).
 */
#ifndef PR_PRUNE_SELECT_H
#define PR_PRUNE_SELECT_H

#include "prune/pruning.h"

typedef enum pr_target { PR_TARGET_RATIO, PR_TARGET_MACS, PR_TARGET_PARAMS } pr_target;
typedef enum pr_rounding { PR_ROUND_DOWN, PR_ROUND_UP, PR_ROUND_NEAREST } pr_rounding;

typedef struct pr_selection {
  pr_target target;
  double amount; /* RATIO: share of units that go; MACS, PARAMS: what is left, absolute */
  bool global;
  int round_to; /* kept counts become multiples of this (1: any); a group that would vanish stays whole */
  pr_rounding rounding;
} pr_selection;

/* Costs of the model with some units gone. */
typedef struct pr_outcome {
  int64_t macs, params;
  int32_t units; /* gone */
} pr_outcome;

/* Choose among the units of `n` scopes (numbers `scope`), whose scores are score[unit] (by unit number).
 * Fills dead_unit [units.count]. Fails where the target cannot be met, telling the most that can be had. */
pr_status pr_select(pr_pruning *pruning, const pr_selection *how, const int *scope, int n,
                    const double *score, unsigned char *dead_unit, pr_outcome *outcome);

/* Costs with dead_unit gone, nothing changed. */
pr_status pr_outcome_of(pr_pruning *pruning, const unsigned char *dead_unit, pr_outcome *outcome);

#endif
