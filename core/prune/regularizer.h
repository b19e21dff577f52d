/* regularizer.h - terms that make a model easy to prune: they act on gradients, between backward and the
 * optimiser's step.
 *
 * One regulariser is one file in regularizer/, which declares it with a line that begins with
 * PR_REGULARIZER(name). It either weighs units - of each unit it is told how large its weights are, and it
 * answers by which factor of the weights their gradients grow - or it is given the entries of single tensors.
 * pr_regularize does the rest: parameters that are frozen or have no gradient are left alone, masked entries
 * stay without gradient, and pinned units are never touched.
 */
#ifndef PR_PRUNE_REGULARIZER_H
#define PR_PRUNE_REGULARIZER_H

#include "prune/pruning.h"

/* The units of one scope. A unit's weights are all its entries of trained parameters, on both sides of the
 * coupling; an entry that two axes give to the unit counts twice. */
typedef struct prP_weighed {
  int32_t n;
  const double *square; /* [n] sum of the squares of a unit's weights */
  const int64_t *count; /* [n] how many weights */
  double *factor;       /* [n] to be written: gradient += factor * weight */
  double *strength;     /* [n] what the report tells of each unit; holds option `strength`, may be changed */
  double *state;        /* [n] numbers that the regulariser keeps from step to step, or NULL */
  int64_t step;         /* how often it acted before; 0: `state` is not set yet */
} prP_weighed;

typedef struct pr_regularizer {
  const char *name;
  pr_arg_spec args[PR_MAX_ARGS + 1]; /* the first is `strength` */
  enum { PR_ON_UNITS, PR_ON_SCALES, PR_ON_WEIGHTS } acts_on;
  bool keeps_state;                         /* units only */
  const char *(*check)(const pr_arg *args); /* what is wrong with the options, or NULL; may be absent */
  /* Both give the value of the term. The second is for the entries of one scale of a batch norm or of one
   * weight: masked and pinned ones come as 0; slope [n] is what the gradients grow by. */
  double (*weigh)(prP_weighed *units, const pr_arg *args);
  double (*entries)(const double *value, int64_t n, const pr_arg *args, double *slope);
  const char *help; /* formula and source */
} pr_regularizer;

#define PR_REGULARIZER(name) const pr_regularizer pr_regularizer_##name

extern const pr_regularizer *const pr_regularizer_list[]; /* NULL-terminated; made by the build */
const pr_regularizer *pr_regularizer_find(const char *name);
/* Fails for options out of range. */
pr_status pr_regularizer_check(const pr_regularizer *regularizer, const pr_arg *args);

/* What a regulariser acts on. */
typedef struct pr_regularized {
  pr_tensor *const *tensors; /* for PR_ON_SCALES, PR_ON_WEIGHTS */
  int n;
  pr_pruning *pruning;  /* for PR_ON_UNITS; for scales it tells which are pinned, or is NULL */
  double *const *state; /* for keeps_state: an array per scope */
  int64_t step;
} pr_regularized;

/* What was done to one scope or tensor. */
typedef struct pr_term {
  double penalty;     /* value of the term */
  double least, most; /* range of the strength over units */
  int64_t touched;    /* units (scopes) or entries (tensors) that take part; 0: frozen, without gradient, or
                         the twin of a product */
} pr_term;

/* Add to the gradients. term: [n] for tensors, [scopes] for units. All or nothing: a failure leaves
 * gradients, state and terms as they were. A tensor that comes twice takes part once. */
pr_status pr_regularize(const pr_regularizer *regularizer, const pr_regularized *model, const pr_arg *args,
                        pr_term *term);

#endif
