#include "backend/cpu/update.h"

#include "backend/cpu/clones.h"
#include "backend/cpu/parallel.h"

#include <math.h>

enum { PARALLEL = 1 << 14 };

/* --- SGD -------------------------------------------------------------------------------------------------------------- */

/* p -= rate (gain g + ahead m'), m' = momentum m + take g, where g includes the decay. */
PRK_CLONES static void sgd_momentum(int64_t n, float *restrict p, const float *restrict g, float *restrict m,
                                    float rate, float momentum, float take, float decay, float gain,
                                    float ahead) {
  for (int64_t i = 0; i < n; i++) {
    const float slope = g[i] + decay * p[i];
    m[i] = momentum * m[i] + take * slope;
    p[i] -= rate * (gain * slope + ahead * m[i]);
  }
}

PRK_CLONES static void sgd_first(int64_t n, float *restrict p, const float *restrict g, float *restrict m,
                                 float rate, float decay, float gain, float ahead) {
  for (int64_t i = 0; i < n; i++) {
    const float slope = g[i] + decay * p[i];
    m[i] = slope;
    p[i] -= rate * (gain * slope + ahead * m[i]);
  }
}

PRK_CLONES static void sgd_plain(int64_t n, float *restrict p, const float *restrict g, float rate,
                                 float decay) {
  for (int64_t i = 0; i < n; i++) p[i] -= rate * (g[i] + decay * p[i]);
}

void prK_update_sgd(int64_t n, float *p, const float *g, float *m, const prK_sgd *o) {
  const float rate = (float)o->rate, momentum = (float)o->momentum, decay = (float)o->decay;
  const float gain = o->nesterov ? 1 : 0, ahead = o->nesterov ? momentum : 1;
#pragma omp parallel if (n >= PARALLEL)
  {
    int64_t begin, end;
    prK_share(n, &begin, &end);
    const int64_t count = end - begin;
    if (o->momentum == 0)
      sgd_plain(count, p + begin, g + begin, rate, decay);
    else if (o->first)
      sgd_first(count, p + begin, g + begin, m + begin, rate, decay, gain, ahead);
    else
      sgd_momentum(count, p + begin, g + begin, m + begin, rate, momentum, (float)(1 - o->dampening), decay,
                   gain, ahead);
  }
}

/* --- Adam ------------------------------------------------------------------------------------------------------------- */

PRK_CLONES static void adam_run(int64_t n, float *restrict p, const float *restrict g, float *restrict m,
                                float *restrict v, float b1, float b2, float keep, float decay, float rate,
                                float root, float eps) {
  for (int64_t i = 0; i < n; i++) {
    const float old = p[i] * keep, slope = g[i] + decay * old;
    m[i] += (1 - b1) * (slope - m[i]);
    v[i] = b2 * v[i] + (1 - b2) * slope * slope;
    p[i] = old - rate * m[i] / (sqrtf(v[i]) * root + eps);
  }
}

void prK_update_adam(int64_t n, float *p, const float *g, float *m, float *v, const prK_adam *o) {
  const float keep = o->decoupled ? (float)(1 - o->rate * o->decay) : 1,
              decay = o->decoupled ? 0 : (float)o->decay;
  const float rate = (float)(o->rate / (1 - pow(o->beta1, (double)o->step)));
  const float root = (float)(1 / sqrt(1 - pow(o->beta2, (double)o->step)));
#pragma omp parallel if (n >= PARALLEL)
  {
    int64_t begin, end;
    prK_share(n, &begin, &end);
    adam_run(end - begin, p + begin, g + begin, m + begin, v + begin, (float)o->beta1, (float)o->beta2, keep,
             decay, rate, root, (float)o->eps);
  }
}

/* --- RMSprop ---------------------------------------------------------------------------------------------------------- */

PRK_CLONES static void rmsprop_run(int64_t n, float *restrict p, const float *restrict g, float *restrict v,
                                   float *restrict m, float rate, float alpha, float eps, float momentum,
                                   float decay) {
  if (m)
    for (int64_t i = 0; i < n; i++) {
      const float slope = g[i] + decay * p[i];
      v[i] = alpha * v[i] + (1 - alpha) * slope * slope;
      m[i] = momentum * m[i] + slope / (sqrtf(v[i]) + eps);
      p[i] -= rate * m[i];
    }
  else
    for (int64_t i = 0; i < n; i++) {
      const float slope = g[i] + decay * p[i];
      v[i] = alpha * v[i] + (1 - alpha) * slope * slope;
      p[i] -= rate * slope / (sqrtf(v[i]) + eps);
    }
}

void prK_update_rmsprop(int64_t n, float *p, const float *g, float *v, float *m, const prK_rmsprop *o) {
  float *buffer = o->momentum > 0 ? m : 0;
#pragma omp parallel if (n >= PARALLEL)
  {
    int64_t begin, end;
    prK_share(n, &begin, &end);
    rmsprop_run(end - begin, p + begin, g + begin, v + begin, buffer ? buffer + begin : 0, (float)o->rate,
                (float)o->alpha, (float)o->eps, (float)o->momentum, (float)o->decay);
  }
}

/* --- norms ------------------------------------------------------------------------------------------------------------ */

enum { LANES = 16, PIECE = 4096, PIECES = 64 };

PRK_CLONES static double piece_square_sum(int64_t n, const float *x) {
  double lane[LANES] = { 0 }, sum = 0;
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES)
    for (int k = 0; k < LANES; k++) lane[k] += (double)x[i + k] * x[i + k];
  for (; i < n; i++) sum += (double)x[i] * x[i];
  for (int k = 0; k < LANES; k++) sum += lane[k];
  return sum;
}

double prK_square_sum(int64_t n, const float *x) {
  double part[PIECES], sum = 0;
  const int64_t pieces = n / PIECE < 1 ? 1 : n / PIECE > PIECES ? PIECES : n / PIECE;
#pragma omp parallel for schedule(static) if (pieces > 1)
  for (int64_t p = 0; p < pieces; p++) {
    const int64_t begin = p * n / pieces, end = (p + 1) * n / pieces;
    part[p] = piece_square_sum(end - begin, x + begin);
  }
  for (int64_t p = 0; p < pieces; p++) sum += part[p];
  return sum;
}
