/* removal.h - making a model smaller: slicing every tensor that a group's units touch, all or nothing.
 *
 * Values, gradients, masks and optimiser state of parameters follow; the graph's arguments that shapes cannot
 * tell (view sizes, heads, chunk sizes) are rewritten from live counts; then the graph's shapes are inferred
 * anew, and the model's own code is traced again (replay) and must yield the same graph: a constant in the
 * code that no longer fits is found there. Any failure puts everything back.
 */
#ifndef PR_PRUNE_REMOVAL_H
#define PR_PRUNE_REMOVAL_H

#include "prune/pruning.h"

/* Trace the model's code again: a new graph. `next` is the graph after the removal, which it must equal;
 * modules that keep an argument as state (attention heads) take it from there. With `undo`, put such state
 * back to `next` and return NULL. */
typedef pr_graph *(*pr_replay)(void *ctx, const pr_graph *next, bool undo);

/* Remove the units. `replay` NULL: the graph is the model. On success the pruning is coupled anew and older
 * groups are refused. */
pr_status pr_remove(pr_pruning *pruning, const int32_t *unit, int32_t n, pr_replay replay, void *ctx);

/* Live counts without removing: shapes of all values of the graph if these units were gone, into `sizes`
 * [n_values][PR_MAX_DIM]. */
pr_status prP_sizes_after(pr_pruning *pruning, const unsigned char *dead_unit, int64_t (*sizes)[PR_MAX_DIM]);

#endif
