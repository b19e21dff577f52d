/* units.h - the result of coupling: units, their members, their scopes, and the floors.
 *
 * A unit is a class of primitives that touches a parameter: what must be removed together. A member
 * (parameter, axis, position) belongs to each unit of its position's conjunction: a row of a projection is a
 * member of its head and of its dim. A unit whose members are all consumers' input slices is not offered:
 * nothing would make it.
 *
 * Scopes are what units are ranked in: units with the same multiset of producer members (parameter, axis,
 * place in the conjunction). Norms, biases, depthwise kernels and consumers do not enter; a unit without a
 * producer is keyed by all its members. With the full key every unit is. Twin scopes share a parameter axis
 * as factors of a product (heads and dims, groups and positions): of these the one with more units is primary
 * (on a tie the inner factor), which is what is offered by default.
 *
 * Floors: every axis of every tensor keeps a live position. prC_floors counts live positions per distinct
 * label.
 */
#ifndef PR_COUPLE_UNITS_H
#define PR_COUPLE_UNITS_H

#include "couple/couple.h"

typedef struct prC_member {
  int32_t parameter; /* index in the array that was given to prC_units_open */
  int32_t position;
  int16_t axis;
  int16_t place; /* of this unit in the position's conjunction: 0 is the outermost factor */
} prC_member;

typedef struct prC_units {
  prC_algebra *algebra;
  int32_t count;
  pr_element *root;   /* [count] the primitive root of each unit; order: first appearance among parameters */
  int64_t *start;     /* [count + 1] unit u has the members start[u] .. start[u + 1] - 1 */
  prC_member *member; /* [members] in order of parameter, axis, position */
  int64_t members;
  int32_t *scope; /* [count] */
  int32_t scopes;
  int32_t *scope_start; /* [scopes + 1] into scope_unit */
  int32_t *scope_unit;  /* [count] units by scope */
  unsigned char *kind;  /* [scopes] prC_kind */
  bool *primary;        /* [scopes] false: a twin that is offered on request only */
  int32_t *unit_of;     /* [elements] unit of a primitive root, -1: none */
  size_t elements;
} prC_units;

/* `value` are all tensors of the graph, in order; those with is_parameter make members, under their index.
 * full_key: see above. */
pr_status prC_units_open(prC_units *units, prC_algebra *algebra, const prC_value *value, int values,
                         bool full_key);
void prC_units_close(prC_units *units);

/* dead_unit [count] -> dead [algebra->count], as prC_live and prC_kept read it. */
void prC_units_dead(const prC_units *units, const unsigned char *dead_unit, unsigned char *dead);

typedef struct prC_floors {
  const prC_units *units;
  int32_t labels; /* distinct labels of all tensors */
  int32_t *live;  /* [labels] live positions */
  int64_t *start; /* [count + 1] unit -> its entries */
  int32_t *entry; /* [entries] global position */
  int64_t entries;
  int32_t *label_of; /* [positions] label of a global position */
  int32_t *dead_of;  /* [positions] dead units in its conjunction */
  int64_t positions;
  unsigned char *dead; /* [count] dead units */
  int32_t *number;     /* [values * PRC_DIMS] the label of an axis of a value; -1: pinned */
  int values;
} prC_floors;

pr_status prC_floors_open(prC_floors *floors, const prC_units *units, const prC_value *value, int values);
void prC_floors_close(prC_floors *floors);
/* Kill a unit unless some axis of some tensor would lose its last live position: then false, and nothing
 * changes. */
bool prC_floors_kill(prC_floors *floors, int32_t unit);
void prC_floors_revive(prC_floors *floors, int32_t unit);

#endif
