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

/* The same, and keep what was there before, so that it can be taken back: *removal, freed with
 * pr_removal_free before `pruning` is. It holds the full tensors that were sliced, with gradients, masks and
 * optimiser state, and the graph with its coupling. */
typedef struct pr_removal pr_removal;
pr_status pr_remove_kept(pr_pruning *pruning, const int32_t *unit, int32_t n, pr_replay replay, void *ctx,
                         pr_removal **removal);

/* Write to a parameter or buffer of the model as part of the removal (a repair): taken back with it. */
pr_status pr_removal_write(pr_removal *removal, pr_tensor *t, const pr_tensor *value);

/* Put everything back, bit by bit; groups from before the removal serve again. Refused, with nothing changed,
 * where the graph was pruned again or any parameter or buffer was written to since: what was learnt on the
 * small model has no place in the large one. Needs no memory. */
pr_status pr_removal_undo(pr_removal *removal, pr_replay replay, void *ctx);
size_t pr_removal_bytes(const pr_removal *removal); /* that it keeps from being freed */
void pr_removal_free(pr_removal *removal);

/* Refuses to leave nothing of an axis; dead: [elements of the algebra]. */
pr_status prP_check_floors(pr_pruning *pruning, const unsigned char *dead);

#endif
