/* attention.c - scaled dot-product attention, one query row at a time; the backward pass computes the
 * probabilities again. */
#include <math.h>

#include "backend/backend.h"

enum { Q, K, V, MASK };
enum { Y };
enum { CAUSAL, SCALE };

/* Row-major q [heads, M, D], k [heads / copies, N, D], v [heads / copies, N, E]. */
typedef struct attention {
  int64_t heads, copies, queries, keys, width, value_width;
  double scale;
  bool causal, additive;
  const double *q, *k, *v, *mask;
  const pr_tensor *mask_shape, *q_shape;
} attention;

static pr_status attention_of(pr_call *c, attention *a) {
  const pr_tensor *q = c->in[Q], *v = c->in[V];
  PRK_LOAD(q_values, q);
  PRK_LOAD(k_values, c->in[K]);
  PRK_LOAD(v_values, v);
  PRK_LOAD(mask, c->in[MASK]);
  *a =
      (attention){ .heads = 1, .copies = 1, .causal = c->args[CAUSAL].integer, .scale = c->args[SCALE].real };
  a->queries = q->shape[q->dim - 2];
  a->width = q->shape[q->dim - 1];
  a->keys = v->shape[v->dim - 2];
  a->value_width = v->shape[v->dim - 1];
  for (int d = 0; d < q->dim - 2; d++) a->heads *= q->shape[d];
  if (q->dim > 2 && v->shape[q->dim - 3]) a->copies = q->shape[q->dim - 3] / v->shape[q->dim - 3];
  if (a->scale == 0) a->scale = 1 / sqrt((double)a->width);
  a->q = q_values, a->k = k_values, a->v = v_values, a->mask = mask;
  a->mask_shape = c->in[MASK], a->q_shape = q;
  a->additive = mask && c->in[MASK]->dtype != PR_BOOL;
  return PR_OK;
}

/* Place in the row-major mask of (head, query, key 0), and the step from key to key. */
static int64_t mask_row(const attention *a, int64_t head, int64_t query, int64_t *step) {
  const pr_tensor *m = a->mask_shape;
  int64_t place = 0, size = 1;
  for (int d = m->dim - 1; d >= 0; d--) {
    int axis = d + a->q_shape->dim - m->dim; /* the axis of q's shape that this one lines up with */
    int64_t at = 0;
    if (axis == a->q_shape->dim - 2) at = query;
    if (axis < a->q_shape->dim - 2) {
      int64_t rest = head;
      for (int e = a->q_shape->dim - 3; e > axis; e--) rest /= a->q_shape->shape[e];
      at = rest % a->q_shape->shape[axis];
    }
    if (axis == a->q_shape->dim - 1) *step = m->shape[d] == 1 ? 0 : 1;
    if (m->shape[d] > 1) place += at * size;
    size *= m->shape[d];
  }
  return place;
}

/* Probabilities of one query over the keys. */
static void attend(const attention *a, int64_t head, int64_t query, double *p) {
  const double *q = a->q + (head * a->queries + query) * a->width;
  int64_t kv = head / a->copies, step = 0, row = a->mask ? mask_row(a, head, query, &step) : 0;
  double most = -INFINITY, sum = 0;
  for (int64_t j = 0; j < a->keys; j++) {
    const double *k = a->k + (kv * a->keys + j) * a->width;
    double score = 0;
    for (int64_t e = 0; e < a->width; e++) score += q[e] * k[e];
    score *= a->scale;
    if (a->mask && a->additive) score += a->mask[row + j * step];
    if ((a->mask && !a->additive && a->mask[row + j * step] == 0) || (a->causal && j > query))
      score = -INFINITY;
    p[j] = score;
    most = score > most || isnan(score) ? score : most;
  }
  for (int64_t j = 0; j < a->keys; j++) sum += p[j] = most == -INFINITY ? 0 : exp(p[j] - most);
  for (int64_t j = 0; j < a->keys; j++) p[j] = sum != 0 ? p[j] / sum : 0;
}

PR_KERNEL(reference, scaled_dot_product_attention, forward)
{
  attention a;
  PR_TRY(attention_of(c, &a));
  PRK_ZEROS(y, pr_numel(c->out[Y]));
  PRK_ROOM(p, a.keys);
  for (int64_t head = 0; head < a.heads; head++)
    for (int64_t i = 0; i < a.queries; i++) {
      double *row = y + (head * a.queries + i) * a.value_width;
      attend(&a, head, i, p);
      for (int64_t j = 0; j < a.keys; j++)
        for (int64_t e = 0; e < a.value_width; e++)
          row[e] += p[j] * a.v[(head / a.copies * a.keys + j) * a.value_width + e];
    }
  return prK_store(c->out[Y], y);
}

typedef struct gradients {
  double *q, *k, *v, *mask;
} gradients;

/* With s the scores: gs[j] = p[j] (gp[j] - sum p gp), gp[j] = gy . v[j]. */
static void query_gradient(const attention *a, const gradients *g, int64_t head, int64_t i, const double *gy,
                           const double *p) {
  int64_t kv = head / a->copies * a->keys, step = 0, row = a->mask ? mask_row(a, head, i, &step) : 0;
  const double *q = a->q + (head * a->queries + i) * a->width;
  double *gq = g->q + (head * a->queries + i) * a->width, mean = 0;
  for (int64_t j = 0; j < a->keys; j++)
    for (int64_t e = 0; e < a->value_width; e++) {
      g->v[(kv + j) * a->value_width + e] += p[j] * gy[e];
      mean += p[j] * gy[e] * a->v[(kv + j) * a->value_width + e];
    }
  for (int64_t j = 0; j < a->keys; j++) {
    double gp = 0;
    for (int64_t e = 0; e < a->value_width; e++) gp += gy[e] * a->v[(kv + j) * a->value_width + e];
    double gs = p[j] * (gp - mean);
    if (g->mask) g->mask[row + j * step] += gs;
    for (int64_t e = 0; e < a->width; e++) {
      gq[e] += a->scale * gs * a->k[(kv + j) * a->width + e];
      g->k[(kv + j) * a->width + e] += a->scale * gs * q[e];
    }
  }
}

PR_KERNEL(reference, scaled_dot_product_attention, backward)
{
  attention a;
  PR_TRY(attention_of(c, &a));
  PRK_LOAD(gy, c->grad_out[Y]);
  PRK_ROOM(p, a.keys);
  gradients g = { prK_zeros(c, pr_numel(c->in[Q])), prK_zeros(c, pr_numel(c->in[K])),
                  prK_zeros(c, pr_numel(c->in[V])), NULL };
  if (!g.q || !g.k || !g.v) return PR_ERR_MEMORY;
  if (c->grad_in[MASK] && !(g.mask = prK_zeros(c, pr_numel(c->in[MASK])))) return PR_ERR_MEMORY;
  for (int64_t head = 0; head < a.heads; head++)
    for (int64_t i = 0; i < a.queries; i++) {
      attend(&a, head, i, p);
      query_gradient(&a, &g, head, i, gy + (head * a.queries + i) * a.value_width, p);
    }
  if (c->grad_in[Q]) PR_TRY(prK_store(c->grad_in[Q], g.q));
  if (c->grad_in[K]) PR_TRY(prK_store(c->grad_in[K], g.k));
  if (c->grad_in[V]) PR_TRY(prK_store(c->grad_in[V], g.v));
  if (c->grad_in[MASK]) PR_TRY(prK_store(c->grad_in[MASK], g.mask));
  return PR_OK;
}
