/* tape.h - the tape's inside, shared by the files of this room. */
#ifndef PR_AUTOGRAD_TAPE_H
#define PR_AUTOGRAD_TAPE_H

#include "autograd/autograd.h"

/* Where the gradient of an input goes: to a leaf, to an output of an older step, or nowhere (both NULL). */
typedef struct prA_edge {
  pr_tensor *leaf;       /* retained */
  uint64_t leaf_version; /* of its storage when the step was made */
  struct prA_step *step; /* retained */
  int output;
} prA_edge;

/* One operator call that may be differentiated. Lives in a single block: the arrays follow the struct. */
typedef struct prA_step {
  _Atomic int refs;
  const pr_op *op;
  uint64_t sequence; /* grows: an edge always leads to a smaller number */
  size_t bytes;      /* of the block */
  int n_in, n_out;
  pr_arg args[PR_MAX_ARGS];
  uint64_t random_step;
  pr_attachment attachment;
  bool used;                  /* backward has been here; what was saved is gone */
  bool queued;                /* in the queue of the running backward */
  struct prA_step *next_dead; /* list of steps to free */
  prA_edge *edges;            /* [n_in] */
  pr_tensor **in, **out;      /* saved values, or shapes on PR_META */
  uint64_t *versions;         /* [n_in + n_out] of the saved values' storages */
  pr_tensor **grad;           /* [n_out] gathered by the running backward */
  struct prA_hooks **hooks;   /* [n_out] */
  char path[96];              /* layer path at the time of the call */
} prA_step;

void prA_step_release(prA_step *step);
/* Drop saved values, arguments and edges; the step stays as a mark that it was used. */
void prA_step_clear(prA_step *step);

/* Hooks of one tensor. */
typedef struct prA_hooks {
  int refs;
  int64_t next_id;
  struct prA_hook {
    int64_t id;
    pr_grad_hook fn;
    void *ctx;
    void (*drop)(void *ctx);
    struct prA_hook *next;
  } * first;
} prA_hooks;

void prA_hooks_release(prA_hooks *hooks);
/* Run the hooks on *grad, which they may replace. */
pr_status prA_hooks_run(prA_hooks *hooks, pr_tensor **grad);

/* parameter.c: free attachments. */
void prA_parameter_free(struct pr_parameter *p);

#endif
