/* The reference kernels of op/move.c. */
#include "backend/reference/remap.h"

/* --- maps: for each position of the result, where it comes from --------------------------------------- */

enum { CONSTANT, REFLECT, REPLICATE };

static int64_t padded_from(int64_t at, int64_t n, int64_t mode) {
  if (at >= 0 && at < n) return at;
  if (mode == REFLECT) return at < 0 ? -at : 2 * (n - 1) - at;
  if (mode == REPLICATE) return at < 0 ? 0 : n - 1;
  return -1;
}

static pr_status pad_maps(pr_call *c, prK_remap *m) {
  const pr_arg *pad = &c->args[0];
  PR_TRY(prK_remap_start(c, c->in[0], c->out[0], m));
  for (int k = 0; k < pad->count / 2; k++) {
    int d = m->dim - 1 - k;
    for (int64_t i = 0; i < m->out[d]; i++)
      m->map[d][i] = padded_from(i - pad->list[2 * k], m->in[d], c->args[1].integer);
  }
  return PR_OK;
}

static pr_status flip_maps(pr_call *c, prK_remap *m) {
  bool flipped[PR_MAX_DIM];
  PR_TRY(prO_dims(c, 0, c->in[0]->dim, flipped));
  PR_TRY(prK_remap_start(c, c->in[0], c->out[0], m));
  for (int d = 0; d < m->dim; d++)
    for (int64_t i = 0; flipped[d] && i < m->out[d]; i++) m->map[d][i] = m->out[d] - 1 - i;
  return PR_OK;
}

static pr_status roll_maps(pr_call *c, prK_remap *m) {
  const pr_arg *dims = &c->args[1];
  PR_TRY(prK_remap_start(c, c->in[0], c->out[0], m));
  for (int k = 0; k < dims->count; k++) {
    int d = (int)(dims->list[k] < 0 ? dims->list[k] + m->dim : dims->list[k]);
    int64_t n = m->out[d], shift = prO_int(c, 0, k);
    for (int64_t i = 0; i < n; i++) m->map[d][i] = ((i - shift % n) + n) % n;
  }
  return PR_OK;
}

static pr_status shuffle_maps(pr_call *c, prK_remap *m) {
  const pr_arg *index = &c->args[1];
  int64_t groups = c->args[0].integer;
  PR_TRY(prK_remap_start(c, c->in[0], c->out[0], m));
  for (int64_t k = 0; k < m->out[1]; k++)
    m->map[1][k] = index->count ? index->list[k] : k % groups * (m->out[1] / groups) + k / groups;
  return PR_OK;
}

typedef pr_status maps_function(pr_call *c, prK_remap *m);

static pr_status forward(pr_call *c, maps_function *maps, double fill) {
  prK_remap m;
  PR_TRY(maps(c, &m));
  return prK_remap_forward(c, &m, c->in[0], c->out[0], fill);
}

static pr_status backward(pr_call *c, maps_function *maps) {
  prK_remap m;
  PR_TRY(maps(c, &m));
  return prK_remap_backward(c, &m, c->grad_out[0], c->grad_in[0]);
}

PR_KERNEL(reference, pad, forward)
{ return forward(c, pad_maps, c->args[2].real); }
PR_KERNEL(reference, pad, backward)
{ return backward(c, pad_maps); }
PR_KERNEL(reference, flip, forward)
{ return forward(c, flip_maps, 0); }
PR_KERNEL(reference, flip, backward)
{ return backward(c, flip_maps); }
PR_KERNEL(reference, roll, forward)
{ return forward(c, roll_maps, 0); }
PR_KERNEL(reference, roll, backward)
{ return backward(c, roll_maps); }
PR_KERNEL(reference, channel_shuffle, forward)
{ return forward(c, shuffle_maps, 0); }
PR_KERNEL(reference, channel_shuffle, backward)
{ return backward(c, shuffle_maps); }

/* --- triangles
 * -----------------------------------------------------------------------------------------------------------
 */

static pr_status triangle(pr_call *c, bool lower) {
  const pr_tensor *t = c->in[0];
  PRK_LOAD(x, t);
  int64_t n = pr_numel(t), rows = t->shape[t->dim - 2], columns = t->shape[t->dim - 1],
          diagonal = c->args[0].integer;
  PRK_ROOM(y, n);
  for (int64_t i = 0; i < n; i++) {
    int64_t offset = i % columns - i / columns % rows;
    y[i] = (lower ? offset <= diagonal : offset >= diagonal) ? x[i] : 0;
  }
  return prK_store(c->out[0], y);
}

PR_KERNEL(reference, tril, forward)
{ return triangle(c, true); }
PR_KERNEL(reference, triu, forward)
{ return triangle(c, false); }

/* --- space and channels ------------------------------------------------------------------------------- */

/* Between deep [N, C r r, H, W] and wide [N, C, H r, W r]. */
static pr_status pixels(pr_call *c, const pr_tensor *deep, bool widen) {
  int64_t r = c->args[0].integer, height = deep->shape[2], width = deep->shape[3], n = pr_numel(deep);
  PRK_LOAD(x, c->in[0]);
  PRK_ROOM(y, n);
  for (int64_t i = 0; i < n; i++) {
    int64_t w = i % width, h = i / width % height, channel = i / (width * height); /* n and channel in one */
    int64_t row = h * r + channel / r % r, column = w * r + channel % r;
    int64_t wide = (channel / (r * r) * height * r + row) * width * r + column;
    if (widen)
      y[wide] = x[i];
    else
      y[i] = x[wide];
  }
  return prK_store(c->out[0], y);
}

PR_KERNEL(reference, pixel_shuffle, forward)
{ return pixels(c, c->in[0], true); }
PR_KERNEL(reference, pixel_unshuffle, forward)
{ return pixels(c, c->out[0], false); }
