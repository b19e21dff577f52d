/* position_sums.c - a tensor is outer x size x inner numbers, of which outer x count x inner are looked at.
 * These pass in blocks of a few thousand: converted to doubles, turned to terms, added up. */
#include "prune/position_sums.h"

#include "backend/cpu/clones.h"
#include "base/memory.h"
#include "tensor/bf16.h"

#include <string.h>

enum { BLOCK = 2048, SLABS = 8 };

typedef struct operand {
  const void *data;
  pr_dtype dtype;
} operand;

PRK_CLONES static void widen(const float *from, int64_t n, double *to) {
  for (int64_t i = 0; i < n; i++) to[i] = from[i];
}

static void load(operand from, int64_t at, int64_t n, double *to) {
  if (from.dtype == PR_F32) {
    widen((const float *)from.data + at, n, to);
  } else if (from.dtype == PR_BF16) {
    const uint16_t *values = (const uint16_t *)from.data + at;
    for (int64_t i = 0; i < n; i++) to[i] = prT_from_bf16(values[i]);
  } else {
    memcpy(to, (const double *)from.data + at, (size_t)n * sizeof *to);
  }
}

/* In lanes, so that one addition need not wait for the one before. */
PRK_CLONES static double total(const double *term, int64_t n) {
  enum { LANES = 16 };
  double lane[LANES] = { 0 }, sum = 0;
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES)
    for (int k = 0; k < LANES; k++) lane[k] += term[i + k];
  for (; i < n; i++) sum += term[i];
  for (int k = 0; k < LANES && n >= LANES; k++) sum += lane[k];
  return sum;
}

PRK_CLONES static void add_each(const double *term, int64_t n, double *sum) {
  for (int64_t i = 0; i < n; i++) sum[i] += term[i];
}

typedef struct passage {
  operand w, g;
  prP_terms terms;
  double p;
  int64_t count, inner;
  int64_t start, span, stride; /* where the numbers are: from `start`, `span` in a row, rows `stride` apart */
} passage;

/* n of the numbers that are looked at, from number `at` of these. */
static void gather(const passage *job, operand from, int64_t at, int64_t n, double *to) {
  for (int64_t run; n > 0; at += run, to += run, n -= run) {
    int64_t left = job->span - at % job->span;
    run = n < left ? n : left;
    load(from, job->start + at / job->span * job->stride + at % job->span, run, to);
  }
}

/* Add n terms, the first of which is number `from`, to the sums of their positions. */
static void scatter(const passage *job, int64_t from, const double *term, int64_t n, double *sum) {
  int64_t position = from / job->inner % job->count, left = job->inner - from % job->inner;
  for (int64_t i = 0, run; i < n; i += run) {
    if (job->inner == 1) {
      run = job->count - position < n - i ? job->count - position : n - i;
      add_each(term + i, run, sum + position);
      position = 0;
    } else {
      run = left < n - i ? left : n - i;
      sum[position] += total(term + i, run);
      left = job->inner, position = position + 1 < job->count ? position + 1 : 0;
    }
  }
}

/* Add the terms of the numbers [from, to) to the sums of their positions. */
static void pass(const passage *job, int64_t from, int64_t to, double *sum) {
  double w[BLOCK], g[BLOCK], term[BLOCK];
  for (int64_t n; from < to; from += n) {
    n = to - from < BLOCK ? to - from : BLOCK;
    gather(job, job->w, from, n, w);
    if (job->g.data) gather(job, job->g, from, n, g);
    job->terms(w, job->g.data ? g : NULL, n, job->p, term);
    scatter(job, from, term, n, sum);
  }
}

/* Work is cut in SLABS parts of fixed bounds, so that the order of additions is always the same: along the
 * outer axes, each with sums of its own; where there are none, along the axis itself. */
static pr_status pass_all(const passage *job, int64_t outer, double *sum) {
  int64_t cut = outer > 1 ? outer : job->count, step = outer > 1 ? job->count * job->inner : job->inner;
  int64_t slabs = cut < SLABS ? cut : SLABS;
  double *own = outer > 1 ? PRB_ARRAY(double, slabs * job->count) : NULL;
  if (outer > 1 && !own) return PR_ERR_MEMORY;
  bool is_large = cut * step > 1 << 16;
#pragma omp parallel for schedule(static) if (is_large)
  for (int64_t s = 0; s < slabs; s++)
    pass(job, cut * s / slabs * step, cut * (s + 1) / slabs * step, own ? own + s * job->count : sum);
  for (int64_t s = 0; own && s < slabs; s++)
    for (int64_t k = 0; k < job->count; k++) sum[k] += own[s * job->count + k];
  PRB_ARRAY_FREE(own, slabs * job->count);
  return PR_OK;
}

static pr_tensor *readable(const pr_tensor *t) {
  if (!pr_dtype_is_float(t->dtype)) return pr_fail(PR_ERR_DTYPE, "weights must be floats to be scored"), NULL;
  return pr_contiguous((pr_tensor *)t);
}

pr_status prP_position_sums(const pr_tensor *w, const pr_tensor *g, int axis, int64_t first, int64_t count,
                            prP_terms terms, double p, double *sum) {
  PR_TRY(prD_need_values(w, "scoring"));
  int64_t outer = 1, inner = 1, size = w->shape[axis];
  for (int d = 0; d < axis; d++) outer *= w->shape[d];
  for (int d = axis + 1; d < w->dim; d++) inner *= w->shape[d];
  memset(sum, 0, (size_t)count * sizeof *sum);
  if (outer * count * inner == 0) return PR_OK;
  pr_tensor *flat = readable(w), *with = g ? readable(g) : NULL;
  pr_status status = flat && (with || !g) ? PR_OK : pr_error_last()->code;
  if (!status) {
    passage job = { .w = { prT_data(flat), flat->dtype },
                    .terms = terms,
                    .p = p,
                    .count = count,
                    .inner = inner,
                    .start = first * inner,
                    .span = (count < size ? count : outer * size) * inner,
                    .stride = size * inner };
    if (with) job.g = (operand){ prT_data(with), with->dtype };
    status = pass_all(&job, outer, sum);
  }
  pr_release(flat), pr_release(with);
  return status;
}
