/* The reference kernels of the unary operators: op/unary.h has the functions. */
#include "backend/backend.h"
#include "op/unary.h"

static pr_status forward(pr_call *c) {
  const prO_unary *f = prO_unary_row(c->op);
  PRK_LOAD(x, c->in[0]);
  int64_t n = pr_numel(c->out[0]);
  PRK_ROOM(y, n);
  for (int64_t i = 0; i < n; i++) y[i] = f->value(x[i], c->args);
  return prK_store(c->out[0], y);
}

/* Only what the operator saves has values. */
static pr_status backward(pr_call *c) {
  const prO_unary *f = prO_unary_row(c->op);
  PRK_LOAD(x, prO_saves_input(c->op, 0) ? c->in[0] : NULL);
  PRK_LOAD(y, prO_saves_output(c->op, 0) ? c->out[0] : NULL);
  PRK_LOAD(dy, c->grad_out[0]);
  int64_t n = pr_numel(c->grad_in[0]);
  PRK_ROOM(dx, n);
  for (int64_t i = 0; i < n; i++) dx[i] = dy[i] * f->slope(x ? x[i] : 0, y ? y[i] : 0, c->args);
  return prK_store(c->grad_in[0], dx);
}

PR_KERNEL(reference, relu, forward)
{ return forward(c); }
PR_KERNEL(reference, relu, backward)
{ return backward(c); }
PR_KERNEL(reference, relu6, forward)
{ return forward(c); }
PR_KERNEL(reference, relu6, backward)
{ return backward(c); }
PR_KERNEL(reference, sigmoid, forward)
{ return forward(c); }
PR_KERNEL(reference, sigmoid, backward)
{ return backward(c); }
PR_KERNEL(reference, tanh, forward)
{ return forward(c); }
PR_KERNEL(reference, tanh, backward)
{ return backward(c); }
PR_KERNEL(reference, silu, forward)
{ return forward(c); }
PR_KERNEL(reference, silu, backward)
{ return backward(c); }
PR_KERNEL(reference, hardsigmoid, forward)
{ return forward(c); }
PR_KERNEL(reference, hardsigmoid, backward)
{ return backward(c); }
PR_KERNEL(reference, hardswish, forward)
{ return forward(c); }
PR_KERNEL(reference, hardswish, backward)
{ return backward(c); }
PR_KERNEL(reference, gelu, forward)
{ return forward(c); }
PR_KERNEL(reference, gelu, backward)
{ return backward(c); }
PR_KERNEL(reference, elu, forward)
{ return forward(c); }
PR_KERNEL(reference, elu, backward)
{ return backward(c); }
PR_KERNEL(reference, selu, forward)
{ return forward(c); }
PR_KERNEL(reference, selu, backward)
{ return backward(c); }
PR_KERNEL(reference, softplus, forward)
{ return forward(c); }
PR_KERNEL(reference, softplus, backward)
{ return backward(c); }
PR_KERNEL(reference, leaky_relu, forward)
{ return forward(c); }
PR_KERNEL(reference, leaky_relu, backward)
{ return backward(c); }
PR_KERNEL(reference, mish, forward)
{ return forward(c); }
PR_KERNEL(reference, mish, backward)
{ return backward(c); }
PR_KERNEL(reference, hardtanh, forward)
{ return forward(c); }
PR_KERNEL(reference, hardtanh, backward)
{ return backward(c); }
PR_KERNEL(reference, exp, forward)
{ return forward(c); }
PR_KERNEL(reference, exp, backward)
{ return backward(c); }
PR_KERNEL(reference, log, forward)
{ return forward(c); }
PR_KERNEL(reference, log, backward)
{ return backward(c); }
PR_KERNEL(reference, log1p, forward)
{ return forward(c); }
PR_KERNEL(reference, log1p, backward)
{ return backward(c); }
PR_KERNEL(reference, sqrt, forward)
{ return forward(c); }
PR_KERNEL(reference, sqrt, backward)
{ return backward(c); }
PR_KERNEL(reference, rsqrt, forward)
{ return forward(c); }
PR_KERNEL(reference, rsqrt, backward)
{ return backward(c); }
PR_KERNEL(reference, abs, forward)
{ return forward(c); }
PR_KERNEL(reference, abs, backward)
{ return backward(c); }
PR_KERNEL(reference, neg, forward)
{ return forward(c); }
PR_KERNEL(reference, neg, backward)
{ return backward(c); }
PR_KERNEL(reference, square, forward)
{ return forward(c); }
PR_KERNEL(reference, square, backward)
{ return backward(c); }
PR_KERNEL(reference, reciprocal, forward)
{ return forward(c); }
PR_KERNEL(reference, reciprocal, backward)
{ return backward(c); }
PR_KERNEL(reference, sin, forward)
{ return forward(c); }
PR_KERNEL(reference, sin, backward)
{ return backward(c); }
PR_KERNEL(reference, cos, forward)
{ return forward(c); }
PR_KERNEL(reference, cos, backward)
{ return backward(c); }
PR_KERNEL(reference, erf, forward)
{ return forward(c); }
PR_KERNEL(reference, erf, backward)
{ return backward(c); }
PR_KERNEL(reference, sign, forward)
{ return forward(c); }
PR_KERNEL(reference, sign, backward)
{ return backward(c); }
PR_KERNEL(reference, floor, forward)
{ return forward(c); }
PR_KERNEL(reference, floor, backward)
{ return backward(c); }
PR_KERNEL(reference, ceil, forward)
{ return forward(c); }
PR_KERNEL(reference, ceil, backward)
{ return backward(c); }
PR_KERNEL(reference, round, forward)
{ return forward(c); }
PR_KERNEL(reference, round, backward)
{ return backward(c); }
PR_KERNEL(reference, clamp, forward)
{ return forward(c); }
PR_KERNEL(reference, clamp, backward)
{ return backward(c); }
PR_KERNEL(reference, pow, forward)
{ return forward(c); }
PR_KERNEL(reference, pow, backward)
{ return backward(c); }

PR_KERNEL(reference, cast, forward)
{ return pr_copy(c->out[0], c->in[0]); }
PR_KERNEL(reference, logical_not, forward)
{ return forward(c); }
PR_KERNEL(reference, isnan, forward)
{ return forward(c); }
PR_KERNEL(reference, isfinite, forward)
{ return forward(c); }
