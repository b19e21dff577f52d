/* cost.h - what a model costs with some units gone, kept up to date unit by unit.
 *
 * Live positions are counted per distinct label (prC_floors), so killing a unit touches its own positions
 * only; costs follow from the counts: every operator's rule is asked on the shapes that are left.
 */
#ifndef PR_PRUNE_COST_H
#define PR_PRUNE_COST_H

#include "prune/stored.h"

/* Costs of the model with some units gone. */
typedef struct pr_outcome {
  int64_t macs;   /* of one sample */
  int64_t params; /* trainable parameters */
  int64_t bytes;  /* of a checkpoint (stored.h), where asked for; else 0 */
  int32_t units;  /* gone */
} pr_outcome;

typedef struct prP_costs {
  pr_pruning *pruning;
  prC_floors floors; /* floors.dead: which units are gone */
  pr_call *call;     /* [calls] on shapes, of the operators that have MACs */
  int *node;         /* [calls] */
  int calls;
  int32_t gone;
  prP_stored stored; /* opened when bytes are asked for */
} prP_costs;

pr_status prP_costs_open(prP_costs *costs, pr_pruning *pruning);
void prP_costs_close(prP_costs *costs);

/* Kill a unit unless some axis would lose its last position: then false, and nothing changes. */
bool prP_costs_kill(prP_costs *costs, int32_t unit);
void prP_costs_revive(prP_costs *costs, int32_t unit);

/* All but the bytes. */
void prP_costs_read(prP_costs *costs, pr_outcome *outcome);
/* The bytes; fails only where they are asked for the first time. */
pr_status prP_costs_bytes(prP_costs *costs, int64_t *bytes);

#endif
