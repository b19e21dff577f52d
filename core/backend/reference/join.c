/* The reference kernels of op/view.c, op/part.c and op/join.c: those that copy. */
#include "backend/reference/remap.h"

PR_KERNEL(reference, contiguous, forward)
{ return pr_copy(c->out[0], c->in[0]); }

/* Copied in the input's order under the input's shape: the result is row-major, so that its memory has both
 * shapes. */
PR_KERNEL(reference, reshape, forward)
{
  const pr_tensor *x = c->in[0];
  int64_t stride[PR_MAX_DIM], next = 1;
  for (int d = x->dim - 1; d >= 0; d--) stride[d] = next, next *= x->shape[d];
  pr_tensor *target = prT_view(c->out[0], x->dim, x->shape, stride, c->out[0]->offset);
  if (!target) return PR_ERR_MEMORY;
  pr_status status = pr_copy(target, x);
  pr_release(target);
  return status;
}

PR_KERNEL(reference, cat, forward)
{
  pr_tensor *y = c->out[0];
  int axis;
  int64_t offset = y->offset;
  PR_TRY(prO_dim(c, 0, y->dim, &axis));
  for (int i = 0; i < c->n_in; i++) {
    const pr_tensor *x = c->in[i];
    if (pr_numel(x) == 0) continue;
    pr_tensor *part = prT_view(y, x->dim, x->shape, y->stride, offset);
    if (!part) return PR_ERR_MEMORY;
    pr_status status = pr_copy(part, x);
    pr_release(part);
    PR_TRY(status);
    offset += x->shape[axis] * y->stride[axis];
  }
  return PR_OK;
}

/* Only a list of positions comes here: see op/part.c. */
PR_KERNEL(reference, narrow, forward)
{
  prK_remap m;
  int axis;
  PR_TRY(prO_dim(c, 0, c->in[0]->dim, &axis));
  PR_TRY(prK_remap_start(c, c->in[0], c->out[0], &m));
  for (int64_t i = 0; i < m.out[axis]; i++) m.map[axis][i] = c->args[4].list[i];
  return prK_remap_forward(c, &m, c->in[0], c->out[0], 0);
}

static pr_status tile_maps(pr_call *c, prK_remap *m) {
  PR_TRY(prK_remap_start(c, c->in[0], c->out[0], m));
  for (int d = 0; d < m->dim; d++)
    for (int64_t i = 0; i < m->out[d]; i++) m->map[d][i] = i % m->in[d];
  return PR_OK;
}

PR_KERNEL(reference, tile, forward)
{
  prK_remap m;
  PR_TRY(tile_maps(c, &m));
  return prK_remap_forward(c, &m, c->in[0], c->out[0], 0);
}

PR_KERNEL(reference, tile, backward)
{
  prK_remap m;
  PR_TRY(tile_maps(c, &m));
  return prK_remap_backward(c, &m, c->grad_out[0], c->grad_in[0]);
}

static pr_status repeat_maps(pr_call *c, prK_remap *m) {
  int axis;
  PR_TRY(prO_dim(c, 1, c->in[0]->dim, &axis));
  PR_TRY(prK_remap_start(c, c->in[0], c->out[0], m));
  for (int64_t i = 0; i < m->out[axis]; i++) m->map[axis][i] = i / c->args[0].integer;
  return PR_OK;
}

PR_KERNEL(reference, repeat_interleave, forward)
{
  prK_remap m;
  PR_TRY(repeat_maps(c, &m));
  return prK_remap_forward(c, &m, c->in[0], c->out[0], 0);
}

PR_KERNEL(reference, repeat_interleave, backward)
{
  prK_remap m;
  PR_TRY(repeat_maps(c, &m));
  return prK_remap_backward(c, &m, c->grad_out[0], c->grad_in[0]);
}
