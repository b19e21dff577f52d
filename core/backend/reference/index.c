/* The reference kernels of op/index.c. Index values were checked by the shape rules. */
#include "backend/reference/remap.h"

static pr_status select_maps(pr_call *c, prK_remap *m) {
  int axis;
  PRK_LOAD(index, c->in[1]);
  PR_TRY(prO_dim(c, 0, c->in[0]->dim, &axis));
  PR_TRY(prK_remap_start(c, c->in[0], c->out[0], m));
  for (int64_t i = 0; i < m->out[axis]; i++) m->map[axis][i] = (int64_t)index[i];
  return PR_OK;
}

PR_KERNEL(reference, index_select, forward)
{
  prK_remap m;
  PR_TRY(select_maps(c, &m));
  return prK_remap_forward(c, &m, c->in[0], c->out[0], 0);
}

PR_KERNEL(reference, index_select, backward)
{
  prK_remap m;
  PR_TRY(select_maps(c, &m));
  return prK_remap_backward(c, &m, c->grad_out[0], c->grad_in[0]);
}

/* From an element of row-major `index` to the place in row-major `in` with the same coordinates, or with
 * another one on `axis`. */
typedef struct pointing {
  int dim, axis;
  int64_t size[PR_MAX_DIM], stride[PR_MAX_DIM];
} pointing;

static void pointing_start(pointing *p, const pr_tensor *index, const pr_tensor *in, int axis) {
  *p = (pointing){ .dim = in->dim, .axis = axis };
  int64_t stride = 1;
  for (int d = in->dim - 1; d >= 0; d--) {
    p->size[d] = index->shape[d], p->stride[d] = stride;
    stride *= in->shape[d];
  }
}

/* `along` takes the place of the coordinate on the axis; negative: the coordinate itself. */
static int64_t pointed(const pointing *p, int64_t element, int64_t along) {
  int64_t place = 0;
  for (int d = p->dim - 1; d >= 0; d--) {
    int64_t size = p->size[d] > 0 ? p->size[d] : 1, at = element % size;
    place += (d == p->axis && along >= 0 ? along : at) * p->stride[d];
    element /= size;
  }
  return place;
}

PR_KERNEL(reference, gather, forward)
{
  PRK_LOAD(x, c->in[0]);
  PRK_LOAD(index, c->in[1]);
  int axis;
  pointing p;
  PR_TRY(prO_dim(c, 0, c->in[0]->dim, &axis));
  pointing_start(&p, c->in[1], c->in[0], axis);
  int64_t n = pr_numel(c->out[0]);
  PRK_ROOM(y, n);
  for (int64_t i = 0; i < n; i++) y[i] = x[pointed(&p, i, (int64_t)index[i])];
  return prK_store(c->out[0], y);
}

PR_KERNEL(reference, gather, backward)
{
  PRK_LOAD(index, c->in[1]);
  PRK_LOAD(dy, c->grad_out[0]);
  int axis;
  pointing p;
  PR_TRY(prO_dim(c, 0, c->in[0]->dim, &axis));
  pointing_start(&p, c->in[1], c->in[0], axis);
  int64_t n = pr_numel(c->in[0]), indices = pr_numel(c->in[1]);
  PRK_ROOM(dx, n);
  for (int64_t i = 0; i < n; i++) dx[i] = 0;
  for (int64_t i = 0; i < indices; i++) dx[pointed(&p, i, (int64_t)index[i])] += dy[i];
  return prK_store(c->grad_in[0], dx);
}

PR_KERNEL(reference, scatter_add, forward)
{
  PRK_LOAD(x, c->in[0]);
  PRK_LOAD(index, c->in[1]);
  PRK_LOAD(from, c->in[2]);
  int axis;
  pointing target, source;
  PR_TRY(prO_dim(c, 0, c->in[0]->dim, &axis));
  pointing_start(&target, c->in[1], c->in[0], axis);
  pointing_start(&source, c->in[1], c->in[2], axis);
  int64_t n = pr_numel(c->out[0]), indices = pr_numel(c->in[1]);
  PRK_ROOM(y, n);
  for (int64_t i = 0; i < n; i++) y[i] = x[i];
  for (int64_t i = 0; i < indices; i++)
    y[pointed(&target, i, (int64_t)index[i])] += from[pointed(&source, i, -1)];
  return prK_store(c->out[0], y);
}

PR_KERNEL(reference, masked_select, forward)
{
  PRK_LOAD(x, c->in[0]);
  PRK_LOAD(mask, c->in[1]);
  int64_t n = pr_numel(c->in[0]), taken = 0, room = pr_numel(c->out[0]);
  PRK_ROOM(y, room);
  for (int64_t i = 0; i < n && taken < room; i++)
    if (mask[i] != 0) y[taken++] = x[i];
  return prK_store(c->out[0], y);
}

PR_KERNEL(reference, masked_select, backward)
{
  PRK_LOAD(mask, c->in[1]);
  PRK_LOAD(dy, c->grad_out[0]);
  int64_t n = pr_numel(c->in[0]), taken = 0;
  PRK_ROOM(dx, n);
  for (int64_t i = 0; i < n; i++) dx[i] = mask[i] != 0 ? dy[taken++] : 0;
  return prK_store(c->grad_in[0], dx);
}

PR_KERNEL(reference, nonzero, forward)
{
  const pr_tensor *t = c->in[0];
  PRK_LOAD(x, t);
  int64_t n = pr_numel(t), found = 0, room = c->out[0]->shape[0];
  PRK_ROOM(index, pr_numel(c->out[0]));
  for (int64_t i = 0; i < n && found < room; i++) {
    if (x[i] == 0) continue;
    int64_t rest = i;
    for (int d = t->dim - 1; d >= 0; d--) {
      index[found * t->dim + d] = (double)(rest % t->shape[d]);
      rest /= t->shape[d];
    }
    found++;
  }
  return prK_store(c->out[0], index);
}
