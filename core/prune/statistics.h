/* statistics.h - what data tell about a model: tensors that go with its parameters, and what its activations
 * do.
 *
 * A criterion says what it needs. Tensors (gradients, squared gradients, ...) are computed by who has the
 * loss, and handed over with pr_statistics_set. Activations are observed where the model's graph runs: at a
 * site, an input of an operator one of whose axes carries units (what the next layers read; where none does,
 * what first reads what a layer makes). pr_statistics_run runs a batch; where gradients of activations are
 * needed, the caller then computes a loss and calls pr_backward, and pr_statistics_finish takes them. The
 * model runs in evaluation mode, so nothing of it changes but gradients of parameters.
 */
#ifndef PR_PRUNE_STATISTICS_H
#define PR_PRUNE_STATISTICS_H

#include "prune/pruning.h"

typedef enum pr_need {
  PR_NEED_NOTHING,
  /* a tensor of each parameter's shape */
  PR_NEED_GRADIENTS, /* of the loss, mean over batches; without statistics, those that parameters hold */
  PR_NEED_SQUARES,   /* squared gradient of one sample's loss, mean over samples: the Fisher diagonal */
  PR_NEED_HESSIAN,   /* Hessian of the loss times its gradient */
  PR_NEED_FLOW,      /* gradients of the synaptic flow; takes no data */
  PR_NEED_MOVEMENT,  /* -w g summed over steps; without statistics, the parameters' slot "movement" */
  /* activations */
  PR_NEED_INPUTS,        /* exactly what the next layers read */
  PR_NEED_MAPS,          /* the same, before it was flattened */
  PR_NEED_MASK_GRADIENTS /* inputs with their gradients: the gradient of a mask on each unit, per sample */
} pr_need;

/* The words by which the binding knows the needs; NULL-terminated, in order. */
extern const char *const pr_need_names[];

/* One sample's activations at a site: a matrix [positions, height * width] of values and, where they are
 * needed, of gradients. A position's row is an image of height x width (1 x 1 without space axes). */
typedef struct prP_map {
  int64_t positions, height, width;
  const double *x, *dx;
} prP_map;

typedef struct pr_site {
  int node, input; /* this input of this node ... */
  int value, axis; /* ... and this axis of that value */
  int64_t size;    /* of the axis */
  double *sum;     /* [size] over samples, of what the criterion observes */
} pr_site;

/* A site in the batch that is under way. */
typedef struct prP_seen {
  pr_tensor *x, *dx;
  int64_t hook; /* on x, which gives dx; 0: none */
} prP_seen;

struct pr_criterion;

typedef struct pr_statistics {
  pr_pruning *pruning; /* borrowed; must outlive this */
  uint64_t generation;
  const struct pr_criterion *criterion;
  pr_arg args[PR_MAX_ARGS]; /* its options; no lists */
  int values, units;        /* of graph and pruning when it was made */
  pr_tensor **tensor;       /* [values] that goes with a parameter, retained */
  double *squared;          /* [units] MASK_GRADIENTS: (gradient of the unit's mask)^2 over samples */
  pr_site *site;
  prP_seen *seen; /* [n_sites] */
  int n_sites;
  size_t site_room;
  int64_t samples;
  int64_t batch; /* samples of the batch that is under way ... */
  double *slope; /* ... and the gradients of its masks [batch, units], while they are added up */
} pr_statistics;

/* For a criterion with these options. NULL on failure. */
pr_statistics *pr_statistics_new(pr_pruning *pruning, const struct pr_criterion *criterion,
                                 const pr_arg *args);
void pr_statistics_free(pr_statistics *statistics);

/* The tensor that goes with parameter `value`; of its shape, finite. */
pr_status pr_statistics_set(pr_statistics *statistics, int value, pr_tensor *t);

/* Run the graph on a batch in evaluation mode and observe. Outputs are new references. */
pr_status pr_statistics_run(pr_statistics *statistics, pr_tensor *const *inputs, pr_tensor **outputs);
/* After backward of a loss that is the mean over the batch: for PR_NEED_MASK_GRADIENTS only. */
pr_status pr_statistics_finish(pr_statistics *statistics);

/* Fails for statistics from before the latest removal. */
pr_status prP_statistics_current(const pr_statistics *statistics);

/* Forget the batch that is under way. */
void prP_forget_batch(pr_statistics *statistics);

/* Call visit for each unit that a position of an axis stands for, positions ascending. */
void prP_each_unit(pr_pruning *pruning, int value, int axis,
                   void (*visit)(void *ctx, int64_t position, int32_t unit), void *ctx);

#endif
