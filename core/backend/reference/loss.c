/* loss.c - element-wise losses: a value and two derivatives per pair, then a sum, a mean or nothing. */
#include <math.h>

#include "backend/backend.h"

enum { X, TARGET };
enum { Y };
enum { REDUCTION, BETA };
enum { MEAN, SUM, NONE, BATCH_MEAN };

/* The loss of (x, t); *dx and *dt its derivatives. */
typedef double pair_loss(const pr_call *c, double x, double t, double *dx, double *dt);

static double squared(const pr_call *c, double x, double t, double *dx, double *dt) {
  (void)c;
  *dx = 2 * (x - t);
  *dt = -*dx;
  return (x - t) * (x - t);
}

static double absolute(const pr_call *c, double x, double t, double *dx, double *dt) {
  (void)c;
  *dx = (double)((x > t) - (x < t));
  *dt = -*dx;
  return fabs(x - t);
}

static double smooth(const pr_call *c, double x, double t, double *dx, double *dt) {
  double beta = c->args[BETA].real, d = x - t;
  *dx = fabs(d) < beta ? d / beta : (double)((d > 0) - (d < 0));
  *dt = -*dx;
  return fabs(d) < beta ? d * d / (2 * beta) : fabs(d) - beta / 2;
}

/* max(x, 0) - x t + log(1 + exp(-|x|)): no exp can overflow. */
static double binary(const pr_call *c, double x, double t, double *dx, double *dt) {
  (void)c;
  *dx = (x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x))) - t;
  *dt = -x;
  return (x > 0 ? x : 0) - x * t + log1p(exp(-fabs(x)));
}

static double divergence(const pr_call *c, double x, double t, double *dx, double *dt) {
  (void)c;
  *dx = -t;
  *dt = t > 0 ? log(t) + 1 - x : -x;
  return t > 0 ? t * (log(t) - x) : t == 0 ? -0.0 * x : NAN;
}

static double divisor(const pr_call *c) {
  const pr_tensor *x = c->in[X];
  int64_t reduction = c->args[REDUCTION].integer;
  if (reduction == MEAN) return (double)pr_numel(x);
  if (reduction == BATCH_MEAN) return x->dim ? (double)x->shape[0] : 1;
  return 1;
}

static pr_status forward(pr_call *c, pair_loss *loss) {
  PRK_LOAD(x, c->in[X]);
  PRK_LOAD(t, c->in[TARGET]);
  int64_t n = pr_numel(c->in[X]);
  PRK_ROOM(y, n + 1);
  double sum = 0, dx, dt;
  for (int64_t i = 0; i < n; i++) sum += y[i] = loss(c, x[i], t[i], &dx, &dt);
  if (c->args[REDUCTION].integer != NONE) y[0] = sum / divisor(c);
  return prK_store(c->out[Y], y);
}

static pr_status backward(pr_call *c, pair_loss *loss) {
  PRK_LOAD(x, c->in[X]);
  PRK_LOAD(t, c->in[TARGET]);
  PRK_LOAD(gy, c->grad_out[Y]);
  int64_t n = pr_numel(c->in[X]);
  PRK_ROOM(gx, n);
  PRK_ROOM(gt, n);
  double whole = divisor(c);
  for (int64_t i = 0; i < n; i++) {
    double g = c->args[REDUCTION].integer == NONE ? gy[i] : gy[0] / whole;
    loss(c, x[i], t[i], &gx[i], &gt[i]);
    gx[i] *= g;
    gt[i] *= g;
  }
  if (c->grad_in[X]) PR_TRY(prK_store(c->grad_in[X], gx));
  if (c->grad_in[TARGET]) PR_TRY(prK_store(c->grad_in[TARGET], gt));
  return PR_OK;
}

PR_KERNEL(reference, mse_loss, forward)
{ return forward(c, squared); }
PR_KERNEL(reference, mse_loss, backward)
{ return backward(c, squared); }
PR_KERNEL(reference, l1_loss, forward)
{ return forward(c, absolute); }
PR_KERNEL(reference, l1_loss, backward)
{ return backward(c, absolute); }
PR_KERNEL(reference, smooth_l1_loss, forward)
{ return forward(c, smooth); }
PR_KERNEL(reference, smooth_l1_loss, backward)
{ return backward(c, smooth); }
PR_KERNEL(reference, binary_cross_entropy_with_logits, forward)
{ return forward(c, binary); }
PR_KERNEL(reference, binary_cross_entropy_with_logits, backward)
{ return backward(c, binary); }
PR_KERNEL(reference, kl_div, forward)
{ return forward(c, divergence); }
PR_KERNEL(reference, kl_div, backward)
{ return backward(c, divergence); }
