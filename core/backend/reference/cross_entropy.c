/* cross_entropy.c - cross_entropy and nll_loss. Both are -sum_c q[c] l[c] per sample, with l = log
 * softmax(x), or x itself, and the target q[c] = weight[c] ((1 - smoothing) [c = label] + smoothing / C). */
#include <math.h>

#include "backend/backend.h"

enum { X, LABELS, WEIGHT };
enum { Y };
enum { REDUCTION };
enum { MEAN, SUM, NONE };
enum { SMOOTHING = 1 };

/* x as [outer, classes, inner]; sample number i = o * inner + k. */
typedef struct samples {
  int64_t count, classes, inner;
  const double *labels, *weight;
  double smoothing;
} samples;

static pr_status samples_of(pr_call *c, bool smoothed, samples *s) {
  const pr_tensor *x = c->in[X];
  PRK_LOAD(labels, c->in[LABELS]);
  PRK_LOAD(weight, c->in[WEIGHT]);
  *s = (samples){
    pr_numel(c->in[LABELS]), x->shape[x->dim > 1], 1, labels, weight, smoothed ? c->args[SMOOTHING].real : 0
  };
  for (int d = 2; d < x->dim; d++) s->inner *= x->shape[d];
  return PR_OK;
}

static int64_t first_of(const samples *s, int64_t i) {
  return i / s->inner * s->classes * s->inner + i % s->inner;
}

static double target(const samples *s, int64_t i, int64_t k) {
  double q = s->smoothing / (double)s->classes + (k == (int64_t)s->labels[i] ? 1 - s->smoothing : 0);
  return s->weight ? q * s->weight[k] : q;
}

/* log of the sum of exponentials of sample i's scores. */
static double log_sum(const samples *s, const double *x, int64_t i) {
  double most = -INFINITY, sum = 0;
  const double *row = x + first_of(s, i);
  for (int64_t k = 0; k < s->classes; k++) most = row[k * s->inner] > most ? row[k * s->inner] : most;
  for (int64_t k = 0; k < s->classes; k++) sum += exp(row[k * s->inner] - most);
  return most + log(sum);
}

static double divisor(const pr_call *c, const samples *s) {
  if (c->args[REDUCTION].integer != MEAN) return 1;
  double sum = 0;
  for (int64_t i = 0; i < s->count; i++) sum += s->weight ? s->weight[(int64_t)s->labels[i]] : 1;
  return sum;
}

static pr_status forward(pr_call *c, bool scores) {
  samples s;
  PR_TRY(samples_of(c, scores, &s));
  PRK_LOAD(x, c->in[X]);
  PRK_ROOM(y, s.count + 1);
  double total = 0;
  for (int64_t i = 0; i < s.count; i++) {
    double shift = scores ? log_sum(&s, x, i) : 0, loss = 0;
    const double *row = x + first_of(&s, i);
    for (int64_t k = 0; k < s.classes; k++) {
      double q = target(&s, i, k);
      if (q != 0) loss -= q * (row[k * s.inner] - shift);
    }
    y[i] = loss;
    total += loss;
  }
  if (c->args[REDUCTION].integer != NONE) y[0] = total / divisor(c, &s);
  return prK_store(c->out[Y], y);
}

/* The loss is A / B with A = -sum_i sum_c q[c] l[c] and, for the mean, B = sum_i weight[label]: both are
 * linear in the weights. */
static pr_status weight_gradient(pr_call *c, const samples *s, const double *x, const double *gy,
                                 bool scores) {
  samples even = *s;
  even.weight = NULL;
  PRK_ZEROS(gw, s->classes);
  PRK_ZEROS(share, s->classes);
  double total = 0, whole = divisor(c, s);
  bool none = c->args[REDUCTION].integer == NONE, mean = c->args[REDUCTION].integer == MEAN;
  for (int64_t i = 0; i < s->count; i++) {
    double shift = scores ? log_sum(s, x, i) : 0, g = none ? gy[i] : gy[0] / whole;
    for (int64_t k = 0; k < s->classes; k++) {
      double part = -target(&even, i, k) * (x[first_of(s, i) + k * s->inner] - shift);
      gw[k] += g * part;
      total += part * s->weight[k];
    }
    share[(int64_t)s->labels[i]] += 1;
  }
  for (int64_t k = 0; mean && k < s->classes; k++) gw[k] -= gy[0] * total / whole * share[k] / whole;
  return prK_store(c->grad_in[WEIGHT], gw);
}

static pr_status backward(pr_call *c, bool scores) {
  samples s;
  PR_TRY(samples_of(c, scores, &s));
  PRK_LOAD(x, c->in[X]);
  PRK_LOAD(gy, c->grad_out[Y]);
  PRK_ROOM(gx, pr_numel(c->in[X]));
  double whole = divisor(c, &s);
  if (c->grad_in[WEIGHT]) PR_TRY(weight_gradient(c, &s, x, gy, scores));
  if (!c->grad_in[X]) return PR_OK;
  for (int64_t i = 0; i < s.count; i++) {
    double g = c->args[REDUCTION].integer == NONE ? gy[i] : gy[0] / whole, mass = 0;
    double shift = scores ? log_sum(&s, x, i) : 0;
    int64_t first = first_of(&s, i);
    for (int64_t k = 0; k < s.classes; k++) mass += target(&s, i, k);
    for (int64_t k = 0; k < s.classes; k++) {
      int64_t at = first + k * s.inner;
      gx[at] = g * ((scores ? exp(x[at] - shift) * mass : 0) - target(&s, i, k));
    }
  }
  return prK_store(c->grad_in[X], gx);
}

PR_KERNEL(reference, cross_entropy, forward)
{ return forward(c, true); }
PR_KERNEL(reference, cross_entropy, backward)
{ return backward(c, true); }
PR_KERNEL(reference, nll_loss, forward)
{ return forward(c, false); }
PR_KERNEL(reference, nll_loss, backward)
{ return backward(c, false); }
