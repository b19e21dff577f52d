/* couple.h - what an operator's coupling rule sees: the tensors of one node, and the ties to make among their
 * axes.
 *
 * Every axis of every tensor of a traced graph has a label (label.h: which of its positions live and die
 * together with which others) and a dead value: what a dead entry holds in the masked model, where parameters
 * are zero at dead positions. NaN: not known. A rule reads the labels of the inputs and sets those of the
 * outputs; most outputs take a label by reference:
 *
 *     static void couple(pr_coupling *c) {                               batch_norm
 *       for (int p = WEIGHT; p <= VAR; p++) prC_tie(c, PRC_IN(p), 0, PRC_IN(X), 1);
 *       prC_pass(c, PRC_OUT(0), PRC_IN(X), PRC_DEAD_UNKNOWN);
 *       prC_set_dead(c, PRC_OUT(0), 1, 0);
 *     }
 *
 * rules.h has a function for every family of operators. What holds everywhere:
 *   - A parameter axis has no label until a rule looks at it; then it adopts the label at hand (no union), or
 * gets fresh elements.
 *   - An axis of size 1 is pinned and never tied: that makes broadcasting right.
 *   - Inputs of the model have all axes pinned; outputs of the model are pinned at the end (prC_value_pin).
 *   - NULL labels are right for kernel, space and index axes. An output axis that a rule does not set is
 * pinned.
 *   - A sum or contraction over an axis is exact only where some operand is surely 0 at dead positions, else
 * the axis is pinned (prC_need_zero).
 *   - Rules run once per node, in order; a later pin or tie reaches earlier labels by itself.
 */
#ifndef PR_COUPLE_COUPLE_H
#define PR_COUPLE_COUPLE_H

#include "couple/label.h"

#include <math.h>

struct pr_call; /* the operator's call, defined by core/op */

enum { PRC_SLOTS = 8 };

/* A traced tensor as coupling sees it. */
typedef struct prC_value {
  int dim;
  int64_t shape[PRC_DIMS];
  pr_label *label[PRC_DIMS]; /* NULL: pinned, or not met yet */
  double dead[PRC_DIMS];     /* NaN: not known; meaningless where the label is NULL */
  bool is_parameter; /* parameter, buffer or folded constant: sliced by removal, zero at dead positions */
  bool is_constant;  /* such a parameter that makes no unit on its own */
  double number;     /* what every entry of a constant of one number holds; NaN: not known */
  bool is_weight; /* a parameter, or computed from nothing else: 0 / 0 at a dead position of it counts as 0 */
  bool has_positions;  /* such a parameter of whole numbers that are positions along an axis: removal gives
                          them their new places */
  pr_label *positions; /* of that axis; NULL: pinned */
  uint8_t unmet;       /* bit a: no rule has looked at axis a of this parameter yet */
  uint8_t producer;    /* bit a: axis a makes units (out axis of a convolution, ...): enters a unit's scope */
  uint8_t consumer;    /* bit a: axis a only takes in what others make */
} prC_value;

/* How the values of a graph begin. An activation is what a node gives or the model takes in: pinned until a
 * rule sets its labels. A constant is a parameter that makes no unit on its own. */
void prC_value_activation(prC_value *value, int dim, const int64_t *shape);
void prC_value_parameter(prC_value *value, int dim, const int64_t *shape);
void prC_value_constant(prC_value *value, int dim, const int64_t *shape);
/* A parameter as it is after removal, its axes carrying the elements that they had: how a replay in strict
 * mode begins. */
void prC_value_replay(prC_algebra *algebra, const prC_value *before, const unsigned char *dead,
                      prC_value *value);
/* Pin every axis: what is done to the model's outputs at the end. */
void prC_value_pin(prC_algebra *algebra, prC_value *value);

/* Labels that a node's rule recorded for the rewriting of its arguments: groups, heads, copies. */
typedef struct prC_slots {
  pr_label *label[PRC_SLOTS];
  int64_t size[PRC_SLOTS]; /* 0: nothing recorded */
} prC_slots;

typedef struct pr_coupling {
  prC_algebra *algebra;
  const struct pr_call *call; /* arguments; core/op only */
  int node;                   /* index of the node, for notes */
  int inputs, outputs;
  prC_value **in, **out;     /* NULL entries: absent optional inputs */
  prC_slots *slots;          /* set by the first prC_record; owned by the algebra. NULL at first */
  const unsigned char *dead; /* rewriting only: which primitive roots are gone */
} pr_coupling;

/* After a node's rule: what is computed from parameters only is a weight. */
void prC_mark_weights(pr_coupling *c);

/* Handles of the node's tensors. */
#define PRC_IN(i)  (i)
#define PRC_OUT(i) (-1 - (i))
#define PRC_NONE   INT32_MAX

/* The tensor of a handle, NULL where absent; its axis size. Negative axes count from the end, here and below.
 */
prC_value *prC_at(const pr_coupling *c, int v);
bool prC_has(const pr_coupling *c, int v);
int prC_dim(const pr_coupling *c, int v);
int64_t prC_size(const pr_coupling *c, int v, int axis);

/* --- labels ------------------------------------------------------------------------------------------ */

/* The label of an axis; a parameter axis that was never met gets fresh elements. */
pr_label *prC_label(pr_coupling *c, int v, int axis);
bool prC_unmet(const pr_coupling *c, int v, int axis);
/* Adopt: take `label` where the axis is an unmet parameter axis, else tie with it. Absent tensors and axes of
 * size 1: nothing. */
void prC_adopt(pr_coupling *c, int v, int axis, pr_label *label);
/* The two axes live and die together, position by position; whichever is unmet adopts. */
void prC_tie(pr_coupling *c, int v, int axis, int w, int other);
/* Give an output axis its label and dead value. */
void prC_set(pr_coupling *c, int v, int axis, pr_label *label, double dead);
/* Pin an axis, or all axes of a tensor. `reason` becomes a note where something was not pinned yet; NULL: no
 * note. */
void prC_pin(pr_coupling *c, int v, int axis, const char *reason);
void prC_pin_all(pr_coupling *c, int v, const char *reason);
/* The same for one position. */
void prC_pin_position(pr_coupling *c, int v, int axis, int64_t position, const char *reason);

/* --- dead values ------------------------------------------------------------------------------------- */

typedef enum prC_keep {
  PRC_DEAD_UNKNOWN, /* anything becomes unknown */
  PRC_DEAD_ZERO,    /* 0 stays 0, anything else becomes unknown (sums, products with something) */
  PRC_DEAD_VALUE,   /* a known value stays (copies, maxima, means) */
  PRC_DEAD_VANISH   /* a known value becomes 0 (deviations) */
} prC_keep;

double prC_dead(const pr_coupling *c, int v, int axis);
void prC_set_dead(pr_coupling *c, int v, int axis, double dead);
double prC_kept_value(double dead, prC_keep keep);
/* a where both are the same known value, else unknown. */
double prC_agree(double a, double b);
/* The axis is summed over: pin it unless its dead value is 0. */
void prC_need_zero(pr_coupling *c, int v, int axis, const char *what);

/* Output axis takes the label of an input axis by reference; every axis of the same place (ranks are equal).
 * Where sizes differ the input axis is pinned. */
void prC_pass_axis(pr_coupling *c, int out, int out_axis, int in, int in_axis, prC_keep keep);
void prC_pass(pr_coupling *c, int out, int in, prC_keep keep);

/* --- for plans and removal --------------------------------------------------------------------------- */

/* Why something was pinned, for the plan to print. */
void prC_note(pr_coupling *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Mark an axis of a parameter (nothing where the tensor is not a parameter). */
void prC_producer(pr_coupling *c, int v, int axis);
void prC_consumer(pr_coupling *c, int v, int axis);
/* Keep `label` (n positions) under a small number of this node: after removal, arguments follow from its live
 * count. */
void prC_record(pr_coupling *c, int slot, pr_label *label, int64_t n);
/* The values of constant `v` are positions along x's axis. Two axes that are not tied position by position
 * cannot share a list of positions: both are pinned. */
void prC_positions(pr_coupling *c, int v, int x, int axis);

/* --- for the rewriting of arguments after a removal (c->dead is set; shapes and labels are those before it)  */

/* Positions of an axis that stay; of its part [from, to); the positions themselves (room for the size of the
 * axis). */
int64_t prC_live_axis(const pr_coupling *c, int v, int axis);
int64_t prC_live_part(const pr_coupling *c, int v, int axis, int64_t from, int64_t to);
bool prC_live_position(const pr_coupling *c, int v, int axis, int64_t position);
int64_t prC_kept_axis(const pr_coupling *c, int v, int axis, int64_t *index);
/* Live count of what this node recorded under `slot`; -1 where nothing was recorded. */
int64_t prC_live_slot(const pr_coupling *c, int slot);

#endif
