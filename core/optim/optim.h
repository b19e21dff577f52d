/* optim.h - one step of an optimiser on one parameter.
 *
 * State (momentum and the like) hangs on the parameter as slots, so it follows when pruning makes the
 * parameter smaller, and a checkpoint finds it. A masked parameter's dense value is moved; its gradient has
 * been masked already. The formulas are those of PyTorch's torch.optim, in the same order of operations.
 */
#ifndef PR_OPTIM_OPTIM_H
#define PR_OPTIM_OPTIM_H

#include "autograd/parameter.h"

typedef enum pr_optim_kind { PR_SGD, PR_ADAM, PR_ADAMW, PR_RMSPROP } pr_optim_kind;

typedef struct pr_optim {
  pr_optim_kind kind;
  double lr;
  double weight_decay; /* L2 in the gradient; for ADAMW decoupled (Loshchilov and Hutter 2017) */
  double momentum;     /* SGD (Polyak 1964), RMSPROP; 0: none */
  double dampening;    /* SGD */
  bool nesterov;       /* SGD (Sutskever et al. 2013) */
  double beta1, beta2; /* ADAM, ADAMW (Kingma and Ba 2014) */
  double alpha;        /* RMSPROP (Hinton 2012) */
  bool centered;       /* RMSPROP (Graves 2013) */
  double eps;
} pr_optim;

/* PyTorch's defaults of a kind. */
pr_optim pr_optim_defaults(pr_optim_kind kind);
/* Negative rates, momenta outside 0..1 and the like are refused. */
pr_status pr_optim_check(const pr_optim *o);

/* Move the parameter against its gradient. One without gradient stays as it is. f32 and f64. */
pr_status pr_optim_step(const pr_optim *o, pr_tensor *p);

/* Euclidean norm of all gradients together; where it exceeds `most`, all are scaled down to it (Pascanu et
 * al. 2013; PyTorch's clip_grad_norm_: factor most / (norm + 1e-6)). most < 0: only measure. */
pr_status pr_clip_grad_norm(pr_tensor *const *p, int n, double most, double *norm);
/* Clamp every gradient entry to [-most, most]. */
pr_status pr_clip_grad_value(pr_tensor *const *p, int n, double most);

#endif
