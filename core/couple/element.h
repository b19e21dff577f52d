/* element.h - elements: booleans "this index is alive", tied by union-find, some of them conjunctions of
 * others.
 *
 * An element is an id. Element 0 is alive for ever ("pinned"). A *primitive* is a free variable: its class is
 * what removal can take away. A *derived* element lives where all the primitives it is made of live: row h *
 * d + k of a projection that is viewed as (heads, d) lives where head h and dim k live. Both kinds can be
 * tied later, in any order, and every label that holds the element sees it.
 *
 * All operations are sound: whatever their outcome, every assignment of alive and dead to the remaining
 * primitives fulfils every tie, product and pin that was asked for. A worse outcome only means bigger
 * classes.
 *
 *   mono(x)      the ordered, distinct primitive roots whose conjunction is x; empty: pinned
 *   pin(x)       pins every entry of mono(x)
 *   unite(x, y)  M = mono(x), N = mono(y) without their common entries are R and Q:
 *                  both empty               nothing to do
 *                  one empty                pin the rest (x implies r: "x and r = x")
 *                  one and one              link them
 *                  one and many             the one is defined as the conjunction of the many
 *                  equally many, of index sets of equal sizes, place by place   unite place by place
 *                  else                     pin all of both
 *
 * Strict mode (the replay check: a model's code is run again after removal, its parameters carrying the
 * elements they had): elements from before prC_strict are never changed; where a tie, a pin or a split would
 * change one, a mismatch is counted instead. An entry of a conjunction that is the only live one of its index
 * set is exempt: a factor that shrank to size 1 has no axis any more.
 *
 * Failure: memory runs out in the middle of a rule. The algebra then keeps the status, answers "pinned" from
 * there on, and whoever drives the rules reads `status` at the end. Rules need not look at it.
 */
#ifndef PR_COUPLE_ELEMENT_H
#define PR_COUPLE_ELEMENT_H

#include "base/memory.h"

typedef int32_t pr_element; /* 0: alive for ever */

enum { PRC_MONO = 16 }; /* entries of the longest conjunction; a longer one is pinned */

typedef struct prC_node {
  pr_element up; /* parent in the union-find; a root points to itself */
  pr_element a,
      b;       /* a < 0: primitive; else a root (or what was tied under one) that lives where a and b live */
  int32_t set; /* the index set it was made for; -1 for a derived element */
} prC_node;

typedef struct prC_index_set {
  int32_t size; /* positions */
  int32_t live; /* live classes when strict mode began */
} prC_index_set;

typedef struct prC_note_entry {
  int node;         /* the node whose rule wrote it */
  const char *text; /* owned by the algebra */
} prC_note_entry;

typedef struct prC_name_entry {
  struct pr_label *label;
  int kind; /* prC_kind */
} prC_name_entry;

struct prC_block; /* of the arena that labels, notes and slots live in */

/* Everything that one analysis of one graph makes; labels, notes and recorded slots are freed with it. */
typedef struct prC_algebra {
  prC_node *node;
  size_t count, node_capacity;
  prC_index_set *set;
  size_t sets, set_capacity;
  pr_status status; /* first failure */

  bool strict;
  pr_element strict_from; /* elements below are held */
  int64_t mismatches;
  pr_element mismatch[2]; /* the latest pair (second 0: pinned) */

  prC_note_entry *note;
  size_t notes, note_capacity;
  prC_name_entry *name; /* what rules call the positions of labels */
  size_t names, name_capacity;
  bool pin_means; /* policy: mean, var and std over an axis pin it (for consumers that cannot count live
                     entries) */

  struct prC_block *blocks;
  int32_t *mark, *tally; /* scratch by element id */
  size_t mark_capacity, tally_capacity;
  int32_t generation;
} prC_algebra;

pr_status prC_algebra_open(prC_algebra *algebra);
void prC_algebra_close(prC_algebra *algebra);

/* `size` bytes that live as long as the algebra, cleared; NULL on failure (status set). */
void *prC_arena(prC_algebra *algebra, size_t size);

/* `n` new primitives of one index set, with consecutive ids. Returns the first; 0 (pinned) on failure. */
pr_element prC_primitives(prC_algebra *algebra, int64_t n);

/* The representative of x's class. Equal representatives are equally alive. */
static inline pr_element prC_find(prC_algebra *algebra, pr_element x) {
  prC_node *node = algebra->node;
  while (node[x].up != x) x = node[x].up = node[node[x].up].up;
  return x;
}

/* Write mono(x) to `entries` (room for PRC_MONO) and return how many. x itself is tied to 0 or to the single
 * entry if it comes to that. */
int prC_mono(prC_algebra *algebra, pr_element x, pr_element *entries);

void prC_pin_element(prC_algebra *algebra, pr_element x);
void prC_unite_elements(prC_algebra *algebra, pr_element x, pr_element y);

/* An element that lives where x and y live. */
pr_element prC_and(prC_algebra *algebra, pr_element x, pr_element y);

/* Make primitive root x the conjunction of others (none of which may depend on x). In strict mode a held x is
 * a mismatch; false. */
bool prC_define(prC_algebra *algebra, pr_element x, const pr_element *factors, int n);

/* Is x alive when the primitive roots r with dead[r] != 0 are dead? `dead` has algebra->count entries; NULL:
 * none is dead. */
bool prC_alive(prC_algebra *algebra, pr_element x, const unsigned char *dead);

/* Enter strict mode. `dead` (as above) says which primitive roots were removed; it is read here only.
 * prC_strict_end leaves it and drops the elements made meanwhile: labels from in between are void. */
void prC_strict(prC_algebra *algebra, const unsigned char *dead);
void prC_strict_end(prC_algebra *algebra);

/* Scratch marks by element id, valid until the next call or the next new element: prC_marks starts a fresh
 * generation g (returned), mark[x] == g says that x was marked, tally[x] is the caller's. 0 on failure. */
int32_t prC_marks(prC_algebra *algebra);

#endif
