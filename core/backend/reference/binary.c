/* The reference kernels of the operators on tensors that broadcast: op/binary.h has the functions. */
#include "backend/backend.h"
#include "op/binary.h"

/* Where each of up to three row-major operands stands while the result is walked in row-major order. */
typedef struct broadcast {
  int n, dim;
  int64_t shape[PR_MAX_DIM], at[PR_MAX_DIM], stride[3][PR_MAX_DIM], position[3];
} broadcast;

static void broadcast_start(broadcast *b, const pr_tensor *out, int n, pr_tensor *const *in) {
  *b = (broadcast){ .n = n, .dim = out->dim };
  for (int d = 0; d < out->dim; d++) b->shape[d] = out->shape[d];
  for (int i = 0; i < n; i++) {
    int64_t stride = 1;
    for (int d = out->dim - 1, own = in[i]->dim - 1; own >= 0; d--, own--) {
      b->stride[i][d] = in[i]->shape[own] == 1 ? 0 : stride;
      stride *= in[i]->shape[own];
    }
  }
}

static void broadcast_next(broadcast *b) {
  for (int d = b->dim - 1; d >= 0; d--) {
    for (int i = 0; i < b->n; i++) b->position[i] += b->stride[i][d];
    if (++b->at[d] < b->shape[d]) return;
    for (int i = 0; i < b->n; i++) b->position[i] -= b->at[d] * b->stride[i][d];
    b->at[d] = 0;
  }
}

static pr_status forward(pr_call *c) {
  const prO_binary *f = prO_binary_row(c->op);
  PRK_LOAD(x, c->in[0]);
  PRK_LOAD(y, c->in[1]);
  int64_t n = pr_numel(c->out[0]);
  PRK_ROOM(z, n);
  broadcast b;
  broadcast_start(&b, c->out[0], 2, c->in);
  for (int64_t i = 0; i < n; i++, broadcast_next(&b)) z[i] = f->value(x[b.position[0]], y[b.position[1]]);
  return prK_store(c->out[0], z);
}

PR_KERNEL(reference, add, forward)
{ return forward(c); }
PR_KERNEL(reference, sub, forward)
{ return forward(c); }
PR_KERNEL(reference, mul, forward)
{ return forward(c); }
PR_KERNEL(reference, div, forward)
{ return forward(c); }
PR_KERNEL(reference, maximum, forward)
{ return forward(c); }
PR_KERNEL(reference, minimum, forward)
{ return forward(c); }
PR_KERNEL(reference, pow2, forward)
{ return forward(c); }
PR_KERNEL(reference, fmod, forward)
{ return forward(c); }
PR_KERNEL(reference, remainder, forward)
{ return forward(c); }
PR_KERNEL(reference, atan2, forward)
{ return forward(c); }
PR_KERNEL(reference, eq, forward)
{ return forward(c); }
PR_KERNEL(reference, ne, forward)
{ return forward(c); }
PR_KERNEL(reference, lt, forward)
{ return forward(c); }
PR_KERNEL(reference, le, forward)
{ return forward(c); }
PR_KERNEL(reference, gt, forward)
{ return forward(c); }
PR_KERNEL(reference, ge, forward)
{ return forward(c); }
PR_KERNEL(reference, logical_and, forward)
{ return forward(c); }
PR_KERNEL(reference, logical_or, forward)
{ return forward(c); }
PR_KERNEL(reference, logical_xor, forward)
{ return forward(c); }

PR_KERNEL(reference, where, forward)
{
  PRK_LOAD(condition, c->in[0]);
  PRK_LOAD(x, c->in[1]);
  PRK_LOAD(y, c->in[2]);
  int64_t n = pr_numel(c->out[0]);
  PRK_ROOM(z, n);
  broadcast b;
  broadcast_start(&b, c->out[0], 3, c->in);
  for (int64_t i = 0; i < n; i++, broadcast_next(&b))
    z[i] = condition[b.position[0]] != 0 ? x[b.position[1]] : y[b.position[2]];
  return prK_store(c->out[0], z);
}

PR_KERNEL(reference, masked_fill, forward)
{
  PRK_LOAD(x, c->in[0]);
  PRK_LOAD(mask, c->in[1]);
  int64_t n = pr_numel(c->out[0]);
  PRK_ROOM(y, n);
  broadcast b;
  broadcast_start(&b, c->out[0], 2, c->in);
  for (int64_t i = 0; i < n; i++, broadcast_next(&b))
    y[i] = mask[b.position[1]] != 0 ? c->args[0].real : x[b.position[0]];
  return prK_store(c->out[0], y);
}

/* Elements per entry of the weight along x [N, C, inner...]. */
static int64_t prelu_inner(const pr_tensor *x) {
  int64_t inner = 1;
  for (int d = 2; d < x->dim; d++) inner *= x->shape[d];
  return inner;
}

PR_KERNEL(reference, prelu, forward)
{
  PRK_LOAD(x, c->in[0]);
  PRK_LOAD(weight, c->in[1]);
  int64_t n = pr_numel(c->in[0]), channels = c->in[1]->shape[0], inner = prelu_inner(c->in[0]);
  PRK_ROOM(y, n);
  for (int64_t i = 0; i < n; i++) y[i] = x[i] > 0 ? x[i] : weight[i / inner % channels] * x[i];
  return prK_store(c->out[0], y);
}

PR_KERNEL(reference, prelu, backward)
{
  PRK_LOAD(x, c->in[0]);
  PRK_LOAD(weight, c->in[1]);
  PRK_LOAD(dy, c->grad_out[0]);
  int64_t n = pr_numel(c->in[0]), channels = c->in[1]->shape[0], inner = prelu_inner(c->in[0]);
  PRK_ROOM(dx, n);
  PRK_ROOM(dweight, channels);
  for (int64_t j = 0; j < channels; j++) dweight[j] = 0;
  for (int64_t i = 0; i < n; i++) {
    int64_t j = i / inner % channels;
    dx[i] = x[i] > 0 ? dy[i] : weight[j] * dy[i];
    if (x[i] <= 0) dweight[j] += x[i] * dy[i];
  }
  if (c->grad_in[0]) PR_TRY(prK_store(c->grad_in[0], dx));
  return c->grad_in[1] ? prK_store(c->grad_in[1], dweight) : PR_OK;
}
