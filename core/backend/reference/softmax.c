/* softmax.c - softmax and log-softmax, shifted by the maximum so that exp cannot overflow. */
#include <math.h>

#include "backend/backend.h"

enum { X };
enum { Y };
enum { DIM };

/* Row-major x as [outer, n, inner], softmax over n. */
typedef struct rows {
  int64_t outer, n, inner;
} rows;

static pr_status rows_of(const pr_call *c, const pr_tensor *t, rows *r) {
  int axis = 0;
  PR_TRY(prO_dim(c, DIM, t->dim, &axis));
  *r = (rows){ 1, t->shape[axis], 1 };
  for (int d = 0; d < axis; d++) r->outer *= t->shape[d];
  for (int d = axis + 1; d < t->dim; d++) r->inner *= t->shape[d];
  return PR_OK;
}

static pr_status forward(pr_call *c, bool logarithm) {
  rows r;
  PR_TRY(rows_of(c, c->in[X], &r));
  PRK_LOAD(x, c->in[X]);
  PRK_ROOM(y, pr_numel(c->in[X]));
  for (int64_t i = 0; i < r.outer * r.inner; i++) {
    int64_t start = i / r.inner * r.n * r.inner + i % r.inner, end = start + r.n * r.inner;
    double most = -INFINITY, sum = 0;
    for (int64_t k = start; k < end; k += r.inner) most = x[k] > most || isnan(x[k]) ? x[k] : most;
    for (int64_t k = start; k < end; k += r.inner) sum += exp(x[k] - most);
    for (int64_t k = start; k < end; k += r.inner)
      y[k] = logarithm ? x[k] - most - log(sum) : exp(x[k] - most) / sum;
  }
  return prK_store(c->out[Y], y);
}

/* softmax: gx = y (gy - sum(gy y)); log-softmax: gx = gy - exp(y) sum(gy). */
static pr_status backward(pr_call *c, bool logarithm) {
  rows r;
  PR_TRY(rows_of(c, c->out[Y], &r));
  PRK_LOAD(y, c->out[Y]);
  PRK_LOAD(gy, c->grad_out[Y]);
  PRK_ROOM(gx, pr_numel(c->out[Y]));
  for (int64_t i = 0; i < r.outer * r.inner; i++) {
    int64_t start = i / r.inner * r.n * r.inner + i % r.inner, end = start + r.n * r.inner;
    double sum = 0;
    for (int64_t k = start; k < end; k += r.inner) sum += logarithm ? gy[k] : gy[k] * y[k];
    for (int64_t k = start; k < end; k += r.inner)
      gx[k] = logarithm ? gy[k] - exp(y[k]) * sum : y[k] * (gy[k] - sum);
  }
  return prK_store(c->grad_in[X], gx);
}

PR_KERNEL(reference, softmax, forward)
{ return forward(c, false); }
PR_KERNEL(reference, softmax, backward)
{ return backward(c, false); }
PR_KERNEL(reference, log_softmax, forward)
{ return forward(c, true); }
PR_KERNEL(reference, log_softmax, backward)
{ return backward(c, true); }
