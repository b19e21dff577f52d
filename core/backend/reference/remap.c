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

/* The place in row-major x where the row of y with this number begins, a row being what lies along the last
 * axis; or -1. */
static int64_t row_start(const prK_remap *m, int64_t row) {
  int64_t place = 0, stride = m->in[m->dim - 1];
  for (int d = m->dim - 2; d >= 0; d--) {
    int64_t from = m->map[d][row % m->out[d]];
    if (from < 0) return -1;
    place += from * stride;
    stride *= m->in[d];
    row /= m->out[d];
  }
  return place;
}

/* The places in x of the elements of a row, -1 for the fill value. */
static void row_places(const prK_remap *m, int64_t row, int64_t *place) {
  int64_t length = m->out[m->dim - 1], start = row_start(m, row);
  const int64_t *map = m->map[m->dim - 1];
  for (int64_t j = 0; j < length; j++) place[j] = start < 0 || map[j] < 0 ? -1 : start + map[j];
}

pr_status prK_remap_forward(pr_call *c, const prK_remap *m, const pr_tensor *x, pr_tensor *y, double fill) {
  PRK_LOAD(from, x);
  int64_t n = pr_numel(y), length = m->dim ? m->out[m->dim - 1] : 1;
  PRK_ROOM(to, n);
  if (n == 0) return PR_OK;
  if (!m->dim) return prK_store(y, from);
  int64_t *place = prK_scratch(c, (size_t)length * sizeof *place);
  if (!place) return PR_ERR_MEMORY;
  for (int64_t row = 0; row < n / length; row++) {
    row_places(m, row, place);
    for (int64_t j = 0; j < length; j++) to[row * length + j] = place[j] < 0 ? fill : from[place[j]];
  }
  return prK_store(y, to);
}

pr_status prK_remap_backward(pr_call *c, const prK_remap *m, const pr_tensor *dy, pr_tensor *dx) {
  PRK_LOAD(from, dy);
  int64_t n = pr_numel(dx), outputs = pr_numel(dy), length = m->dim ? m->out[m->dim - 1] : 1;
  PRK_ROOM(to, n);
  if (!m->dim) return prK_store(dx, from);
  for (int64_t i = 0; i < n; i++) to[i] = 0;
  int64_t *place = prK_scratch(c, (size_t)(length ? length : 1) * sizeof *place);
  if (!place) return PR_ERR_MEMORY;
  for (int64_t row = 0; length && row < outputs / length; row++) {
    row_places(m, row, place);
    for (int64_t j = 0; j < length; j++)
      if (place[j] >= 0) to[place[j]] += from[row * length + j];
  }
  return prK_store(dx, to);
}
