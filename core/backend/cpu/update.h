/* update.h - steps of optimisers over runs of f32 parameters: one pass over parameter, gradient and state. In
 * parallel.
 *
 * The formulas are PyTorch's (torch.optim); `decay` is added to the gradient as decay * parameter before all
 * else, except where said.
 */
#ifndef PR_BACKEND_CPU_UPDATE_H
#define PR_BACKEND_CPU_UPDATE_H

#include <stdbool.h>
#include <stdint.h>

/* g += decay p; with momentum: m = momentum m + g (m = g on the `first` step), g = m, or g + momentum m with
 * `nesterov`; p -= rate g. m may be NULL where momentum is 0. (Sutskever et al. 2013.) */
typedef struct prK_sgd {
  double rate, momentum, decay, dampening;
  bool nesterov, first;
} prK_sgd;
void prK_update_sgd(int64_t n, float *p, const float *g, float *m, const prK_sgd *o);

/* m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, p -= rate (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps).
 * `decoupled`: p *= 1 - rate decay first, instead of adding to the gradient (AdamW). (Kingma & Ba 2015;
 * Loshchilov & Hutter 2019.) */
typedef struct prK_adam {
  double rate, beta1, beta2, eps, decay;
  int64_t step; /* t, from 1 */
  bool decoupled;
} prK_adam;
void prK_update_adam(int64_t n, float *p, const float *g, float *m, float *v, const prK_adam *o);

/* v = alpha v + (1 - alpha) g^2, g / (sqrt(v) + eps) is what moves p, through a momentum buffer m if momentum
 * is not 0 (m may be NULL otherwise). (Tieleman & Hinton 2012.) */
typedef struct prK_rmsprop {
  double rate, alpha, eps, momentum, decay;
} prK_rmsprop;
void prK_update_rmsprop(int64_t n, float *p, const float *g, float *v, float *m, const prK_rmsprop *o);

/* The sum of squares, in double, in an order that depends on n alone (for clipping). */
double prK_square_sum(int64_t n, const float *x);

#endif
