/* label.h - labels: one element per position of an axis.
 *
 * A label is an array of elements that many axes share by reference; NULL is a label too: every position
 * pinned. An axis has its size from the tensor's shape, so functions that must work on NULL take sizes.
 * Labels are immutable and owned by the algebra; what happens to their elements (ties, pins) shows through
 * every label that holds them. On lack of memory a function returns NULL (pinned) and the algebra keeps the
 * status.
 *
 *   merge(A, B)       label of the flattened axis: position i * |B| + j lives where A[i] and B[j] live
 *   split(L, P, Q)    the two factors of an axis of P * Q positions. With M_ij = mono(L[i * Q + j]): A_i =
 * what row i has in common, B_j = what column j has in common, R_ij = M_ij - A_i - B_j. all R empty    A and
 * B are the factors: undoes a merge, a tile, a repeat all R single   equal rows and columns count once; when
 * the rest is pairwise distinct, R_ij := p_i and q_j, fresh else           the outer factor is pinned, and
 * each column is tied reshape           both shapes are cut into minimal blocks of equal product; in a block
 * the cumulative products of both sides, from the right, give the common factors when each divides the next:
 * in-axes are split to factors, factors merged to out-axes. Where they do not divide ((6, 4) -> (4, 6)) the
 * in-axes of the block are pinned.
 */
#ifndef PR_COUPLE_LABEL_H
#define PR_COUPLE_LABEL_H

#include "couple/element.h"

enum { PRC_DIMS = 8 }; /* most axes of a tensor */

typedef struct pr_label {
  int32_t n;
  bool pinned; /* every position has been pinned */
  int32_t tag; /* 0; prC_units numbers distinct labels here */
  pr_element id[];
} pr_label;

/* What the units of a scope are, for users to choose among. */
typedef enum prC_kind {
  PRC_CHANNEL,  /* of a convolution; feature of a linear layer; hidden unit: all that has no other name */
  PRC_HEAD,     /* of attention */
  PRC_HEAD_DIM, /* entry of every head's width */
  PRC_KV_HEAD,  /* key and value head with all its query heads (grouped queries) */
  PRC_COPY,     /* what is repeated: with grouped queries one query head of every key and value head */
  PRC_GROUP,    /* of a grouped convolution */
  PRC_POSITION, /* within every group of a grouped convolution */
  PRC_OUTER,    /* factors of any other product: of a view that splits an axis */
  PRC_INNER
} prC_kind;
#define PRC_KINDS "channel head head_dim kv_head copy group position outer inner"

/* Say what the positions of a label are: the first name that a scope gets counts. */
void prC_name(prC_algebra *algebra, pr_label *label, prC_kind kind);

/* NULL for NULL and for a label that was pinned as a whole, else itself. */
pr_label *prC_unpinned(pr_label *label);

pr_label *prC_fresh(prC_algebra *algebra, int64_t n);
/* A label whose positions the caller fills at once (all 0 at first). */
pr_label *prC_blank(prC_algebra *algebra, int64_t n);

void prC_pin_label(prC_algebra *algebra, pr_label *label);
/* Tie position by position; NULL pins the other. */
void prC_unite(prC_algebra *algebra, pr_label *a, pr_label *b);
/* Tie the `run` positions of each run; the label of the runs (n / run positions). */
pr_label *prC_unite_runs(prC_algebra *algebra, pr_label *label, int64_t n, int64_t run);

pr_label *prC_sub(prC_algebra *algebra, pr_label *label, int64_t start, int64_t step, int64_t n);
pr_label *prC_gather(prC_algebra *algebra, pr_label *label, const int64_t *index, int64_t n);
pr_label *prC_concat(prC_algebra *algebra, int parts, pr_label *const *label, const int64_t *n);
pr_label *prC_tile(prC_algebra *algebra, pr_label *label, int64_t n, int64_t times);        /* a b a b */
pr_label *prC_repeat_each(prC_algebra *algebra, pr_label *label, int64_t n, int64_t times); /* a a b b */
pr_label *prC_roll(prC_algebra *algebra, pr_label *label, int64_t n, int64_t shift); /* y[i] = x[i - shift] */
pr_label *prC_flip(prC_algebra *algebra, pr_label *label, int64_t n);

pr_label *prC_merge(prC_algebra *algebra, pr_label *a, int64_t na, pr_label *b, int64_t nb);
void prC_split(prC_algebra *algebra, pr_label *label, int64_t p, int64_t q, pr_label **outer,
               pr_label **inner);

/* Labels and dead values (see couple.h) of a reshaped tensor. */
typedef struct prC_axes {
  int dim;
  int64_t shape[PRC_DIMS];
  pr_label *label[PRC_DIMS];
  double dead[PRC_DIMS];
} prC_axes;
/* Fills to->label and to->dead; to->dim and to->shape say what is wanted. Returns false where a block had to
 * be pinned. */
bool prC_reshape(prC_algebra *algebra, const prC_axes *from, prC_axes *to);

/* Live positions of a label of n positions, or of its part [from, to); and the indices of the live positions
 * (room for n). */
int64_t prC_live(prC_algebra *algebra, const pr_label *label, int64_t n, const unsigned char *dead);
int64_t prC_live_in(prC_algebra *algebra, const pr_label *label, int64_t from, int64_t to,
                    const unsigned char *dead);
int64_t prC_kept(prC_algebra *algebra, const pr_label *label, int64_t n, const unsigned char *dead,
                 int64_t *index);

#endif
