/* pruning.h - the coupling of a graph: its units, its groups, and how to ask for them.
 *
 * A unit is what must go together: a convolution's output channel with its bias, its batch-norm entries and
 * the next layers' input slices. Units that the same producers make form a scope; "groups" of a model are
 * these scopes. A pr_group is any list of units of one pruning: a whole scope, or the few that are to be
 * removed. The algorithm and the rules of operators are described in couple/.
 */
#ifndef PR_PRUNE_PRUNING_H
#define PR_PRUNE_PRUNING_H

#include "couple/units.h"
#include "graph/graph.h"

typedef struct pr_pruning {
  pr_graph *graph; /* borrowed; must outlive this */
  prC_algebra algebra;
  prC_value *values; /* [graph->n_values] */
  prC_slots **slots; /* [graph->n_nodes] labels that rules recorded, or NULL */
  prC_units units;
  unsigned char *role; /* [graph->n_values] prP_role of parameters that criteria have asked for */
  uint64_t generation; /* changes with every removal: older groups are refused */
} pr_pruning;

/* Couple a graph. NULL on failure. */
pr_pruning *pr_pruning_new(pr_graph *graph);
void pr_pruning_free(pr_pruning *pruning);

/* Some units, in ascending order of number. */
typedef struct pr_group {
  pr_pruning *pruning;
  uint64_t generation;
  int32_t size;
  int32_t *unit;
} pr_group;

/* The units of positions `index` (0-based) along an axis of a parameter (a value number of the graph). A
 * position that is a product of factors (a row that is a head and a dim) stands for its unit in the primary
 * scope. Fails for pinned positions, saying why. */
pr_group *pr_group_of(pr_pruning *pruning, int value, int axis, const int64_t *index, int64_t n);
/* All units of a scope, 0 <= scope < pruning->units.scopes. */
pr_group *pr_group_scope(pr_pruning *pruning, int scope);
/* The same units in the scopes of the full key: only what touches the same axes of the same parameters
 * equally often is ranked together. `fine` is closed by the caller (prC_units_close); its units have the
 * numbers of pruning->units. */
pr_status pr_pruning_scopes_by_members(pr_pruning *pruning, prC_units *fine);
/* All units of a scope of `units`, which are those of `pruning` or `fine`. */
pr_group *pr_group_scope_of(pr_pruning *pruning, const prC_units *units, int scope);
/* A group with the units at `positions` (ascending, within the group) of another. */
pr_group *pr_group_pick(const pr_group *group, const int32_t *positions, int32_t n);
void pr_group_free(pr_group *group);
/* Fails for a group from before the latest removal. */
pr_status prP_group_check(const pr_group *group);

/* A part of a group: one parameter axis that its units touch. Positions of unit u of the group:
 * position[start[u]] ... position[start[u + 1] - 1]. */
typedef struct pr_part {
  int value, axis;
  bool producer;     /* the axis makes the units (out axis of a convolution or linear layer) */
  bool consumer;     /* the axis takes in what others make */
  int64_t *start;    /* [size + 1] */
  int64_t *position; /* ascending within a unit */
  int64_t count;     /* positions in all */
} pr_part;

/* Parts in the order in which the model's parameters stand. Freed with pr_parts_free. */
pr_status pr_group_parts(const pr_group *group, pr_part **parts, int *n);
void pr_parts_free(pr_part *parts, int n, int32_t group_size);

/* The sorted distinct positions of a part (room for part->count); returns how many. */
int64_t pr_part_indices(const pr_part *part, int64_t *index);

/* A part as units x everything else: row u holds the slices of unit u, f64 or the parameter's dtype, zeros
 * where a unit has fewer positions than others. `source`: the parameter's tensor, its gradient, its mask -
 * anything of its shape. New tensor [size, columns]. */
pr_tensor *pr_part_rows(const pr_group *group, const pr_part *part, const pr_tensor *source);

/* Why a position is what it is (why.c), as text in pieces: "pinned" and by which operator of which layer,
 * followed back to where that comes from; or the members of its unit, of each of its units where it is a
 * product of several. */
pr_status pr_pruning_why(pr_pruning *pruning, int value, int axis, int64_t index,
                         void (*put)(void *ctx, const char *text), void *ctx);

/* --- shared inside the room -------------------------------------------------------------------------------------------- */

/* Run every operator's coupling rule over the graph into `pruning` (values, slots, algebra); `after` (may be
 * NULL) is called after each node's. */
pr_status prP_couple(pr_pruning *pruning, void (*after)(void *ctx, int node), void *ctx);
/* Prepare the coupling of node n with its call on shapes; prG_call_free(call) afterwards. in and out point
 * into `room`, which has room for all. */
pr_status prP_node_coupling(pr_pruning *pruning, int n, pr_call *call, prC_value **room,
                            pr_coupling *coupling);

#endif
