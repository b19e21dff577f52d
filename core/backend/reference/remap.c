#include "backend/reference/remap.h"

pr_status prK_remap_start(pr_call *c, const pr_tensor *x, const pr_tensor *y, prK_remap *m) {
  *m = (prK_remap){ .dim = y->dim };
  for (int d = 0; d < y->dim; d++) {
    int own = d - (y->dim - x->dim);
    m->in[d] = own < 0 ? 1 : x->shape[own], m->out[d] = y->shape[d];
    m->map[d] = prK_scratch(c, (size_t)(m->out[d] ? m->out[d] : 1) * sizeof(int64_t));
    if (!m->map[d]) return PR_ERR_MEMORY;
    for (int64_t i = 0; i < m->out[d]; i++) m->map[d][i] = i;
  }
  return PR_OK;
}

/* The place in row-major x of element `index` of row-major y, or -1. */
static int64_t source(const prK_remap *m, int64_t index) {
  int64_t place = 0, stride = 1;
  for (int d = m->dim - 1; d >= 0; d--) {
    int64_t from = m->map[d][index % m->out[d]];
    if (from < 0) return -1;
    place += from * stride;
    stride *= m->in[d];
    index /= m->out[d];
  }
  return place;
}

pr_status prK_remap_forward(pr_call *c, const prK_remap *m, const pr_tensor *x, pr_tensor *y, double fill) {
  PRK_LOAD(from, x);
  int64_t n = pr_numel(y);
  PRK_ROOM(to, n);
  for (int64_t i = 0; i < n; i++) {
    int64_t place = source(m, i);
    to[i] = place < 0 ? fill : from[place];
  }
  return prK_store(y, to);
}

pr_status prK_remap_backward(pr_call *c, const prK_remap *m, const pr_tensor *dy, pr_tensor *dx) {
  PRK_LOAD(from, dy);
  int64_t n = pr_numel(dx), outputs = pr_numel(dy);
  PRK_ROOM(to, n);
  for (int64_t i = 0; i < n; i++) to[i] = 0;
  for (int64_t i = 0; i < outputs; i++) {
    int64_t place = source(m, i);
    if (place >= 0) to[place] += from[i];
  }
  return prK_store(dx, to);
}
