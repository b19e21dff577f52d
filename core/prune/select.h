/* select.h - which units go: from scores to a choice that meets counts or a target of costs.
 *
 * Groups take part in pools; the units of a pool are ranked together, lowest score first, of equal scores the
 * lower number. A unit that may not go is passed over, and the next in rank takes its place: one whose
 * removal would empty some axis of the model (floors), or one of a group that has lost all it may lose
 * (most).
 *
 * A target of costs is met by the shortest prefix of one list of all units: the unit of rank i of a pool of N
 * goes when the share (i + 1) / N of the pool is to go, so all pools lose the same share; of a group with a
 * curve, when the share that the curve gives the group reaches it. One unit less (a multiple less, with
 * round_to) would miss the target.
 */
#ifndef PR_PRUNE_SELECT_H
#define PR_PRUNE_SELECT_H

#include "prune/cost.h"

typedef enum pr_target {
  PR_TARGET_COUNTS, /* every pool loses what its groups want */
  PR_TARGET_UNITS,  /* so many units go in all, or as many as can */
  PR_TARGET_MACS,   /* what is left, absolute */
  PR_TARGET_PARAMS,
  PR_TARGET_BYTES
} pr_target;

typedef enum pr_rounding { PR_ROUND_DOWN, PR_ROUND_UP, PR_ROUND_NEAREST } pr_rounding;

typedef struct pr_selection {
  pr_target target;
  double amount;        /* of all targets but COUNTS */
  int round_to;         /* kept counts become multiples of this (1: any number) */
  pr_rounding rounding; /* of kept counts; see pr_contender */
} pr_selection;

/* A group that takes part: units that no other group has. With round_to it keeps at least one multiple, or
 * all of it where it has no more; and all of it where it is alone in its pool and what it wants would round
 * to nothing. */
typedef struct pr_contender {
  const int32_t *unit; /* [size] borrowed, ascending */
  int32_t size;
  int pool;            /* groups with the same number are ranked together; -1: by itself, its `want` units go
                          before a target of costs is looked at */
  int32_t before;      /* units that it has lost in earlier steps: shares are of all it had */
  int32_t most;        /* at most so many units go now */
  int32_t want;        /* units that go now; of a pool the sum over its groups */
  const double *curve; /* [points] NULL, or the share that it loses when 0, 1/(points - 1) ... 1 goes on the
                          whole: ascending */
  int points;
} pr_contender;

/* Choose among the units of n groups, whose scores are score[unit] (by unit number). Fills dead_unit
 * [units.count] and gone [n], the units that each group loses. Fails where more is asked than can go, telling
 * how much can; a single pool may fall short of what its groups want. */
pr_status pr_select(pr_pruning *pruning, const pr_selection *how, const pr_contender *group, int n,
                    const double *score, unsigned char *dead_unit, int32_t *gone, pr_outcome *outcome);

/* Costs (all but the bytes) with dead_unit gone, nothing changed. */
pr_status pr_outcome_of(pr_pruning *pruning, const unsigned char *dead_unit, pr_outcome *outcome);

#endif
