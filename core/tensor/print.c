/* print.c - tensors as text for people: matrices in aligned columns, one format for all that is shown, at
 * most a screen. */
#include "tensor/tensor.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
  FULL = 1000,     /* elements up to which all are shown ... */
  FULL_LINES = 60, /* ... if they need no more lines than this */
  PER_LINE = 12,   /* elements that usually fit on a line */
  EDGE = 3,        /* rows, columns or matrices at either end of a long axis */
  WIDTH = 100      /* characters of a line */
};

typedef struct printer {
  const pr_tensor *t;
  void (*put)(void *ctx, const char *text);
  void *ctx;
  bool whole;
  int rows_axis, columns_axis;  /* the last two axes; rows_axis -1 for a vector */
  int64_t rows, columns, outer; /* outer: matrices */
  bool scientific;
  int decimals, width;
} printer;

/* --- which indices of an axis are shown ----------------------------------------------------------------- */

/* The k-th shown index of an axis of n; -1 stands for "..."; -2 is past the end. */
static int64_t shown(const printer *p, int64_t n, int64_t edge, int64_t k) {
  if (p->whole || n <= 2 * edge + 1) return k < n ? k : -2;
  return k < edge ? k : k == edge ? -1 : k <= 2 * edge ? n - (2 * edge + 1) + k : -2;
}

static int64_t column_edge(const printer *p) { return p->rows_axis < 0 ? 2 * EDGE : EDGE; }
static int64_t outer_edge(const printer *p) { return p->rows > 4 ? 1 : 2; }

static int64_t position(const printer *p, int64_t outer, int64_t row, int64_t column) {
  const pr_tensor *t = p->t;
  int64_t at = 0;
  for (int d = p->rows_axis - 1; d >= 0; d--) {
    at += outer % t->shape[d] * t->stride[d];
    outer /= t->shape[d];
  }
  if (p->rows_axis >= 0) at += row * t->stride[p->rows_axis];
  if (p->columns_axis >= 0) at += column * t->stride[p->columns_axis];
  return at;
}

/* --- one element ---------------------------------------------------------------------------------------- */

static int cell(const printer *p, int64_t at, char text[64]) {
  const pr_tensor *t = p->t;
  double v = prT_get(t, at);
  if (t->dtype == PR_BOOL) return snprintf(text, 64, "%s", v != 0 ? "true" : "false");
  if (t->dtype == PR_I64) /* a double would lose digits */
    return snprintf(text, 64, "%lld", (long long)((const int64_t *)t->storage->data)[t->offset + at]);
  if (isnan(v)) return snprintf(text, 64, "nan");
  if (isinf(v)) return snprintf(text, 64, v > 0 ? "inf" : "-inf");
  return snprintf(text, 64, p->scientific ? "%.*e" : "%.*f", p->decimals, v);
}

typedef struct extent {
  double least, most; /* magnitudes of the finite non-zero values */
  bool integral;
} extent;

/* Call f for every element that will be shown. */
static void each(printer *p, void (*f)(printer *p, int64_t at, void *ctx), void *ctx) {
  int64_t o, r, c;
  for (int64_t i = 0; (o = shown(p, p->outer, outer_edge(p), i)) != -2; i++)
    for (int64_t j = 0; o >= 0 && (r = shown(p, p->rows, EDGE, j)) != -2; j++)
      for (int64_t k = 0; r >= 0 && (c = shown(p, p->columns, column_edge(p), k)) != -2; k++)
        if (c >= 0) f(p, position(p, o, r, c), ctx);
}

static void measure_value(printer *p, int64_t at, void *ctx) {
  extent *e = ctx;
  double v = fabs(prT_get(p->t, at));
  if (!isfinite(v) || v == 0) return;
  if (v < e->least) e->least = v;
  if (v > e->most) e->most = v;
  if (v != floor(v)) e->integral = false;
}

static void measure_width(printer *p, int64_t at, void *ctx) {
  (void)ctx;
  char text[64];
  int width = cell(p, at, text);
  if (width > p->width) p->width = width;
}

/* One format for all: whole numbers without decimals, else four of them, or an exponent where four would hide
 * the values. */
static void choose_format(printer *p) {
  extent e = { HUGE_VAL, 0, true };
  each(p, measure_value, &e);
  bool empty = e.most == 0;
  p->scientific = !empty && (e.most >= (e.integral ? 1e9 : 1e6) || e.most < 1e-3);
  p->decimals = p->scientific || !e.integral ? 4 : 0;
  each(p, measure_width, NULL);
}

/* --- lines
 * ----------------------------------------------------------------------------------------------------------------
 */

static void put_row(printer *p, int64_t outer, int64_t row, int64_t first, int64_t past) {
  char text[64], padded[96];
  int64_t c;
  for (int64_t k = first; k < past && (c = shown(p, p->columns, column_edge(p), k)) != -2; k++) {
    if (c == -1) {
      p->put(p->ctx, "  ...");
      continue;
    }
    cell(p, position(p, outer, row, c), text);
    snprintf(padded, sizeof padded, "%s%*s", k > first ? "  " : " ", p->width, text);
    p->put(p->ctx, padded);
  }
  p->put(p->ctx, "\n");
}

static void put_matrix(printer *p, int64_t outer) {
  char text[96];
  int64_t count = 0, per_line = (WIDTH - 1) / (p->width + 2);
  while (shown(p, p->columns, column_edge(p), count) != -2) count++;
  if (per_line < 1) per_line = 1;
  for (int64_t first = 0; first < count; first += per_line) {
    int64_t past = first + per_line < count ? first + per_line : count;
    if (count > per_line && p->rows_axis >= 0 && p->whole) {
      snprintf(text, sizeof text, "columns %lld to %lld:\n", PR_INDEX(first), PR_INDEX(past - 1));
      p->put(p->ctx, text);
    }
    int64_t r;
    for (int64_t j = 0; (r = shown(p, p->rows, EDGE, j)) != -2; j++)
      if (r == -1)
        p->put(p->ctx, " ...\n");
      else
        put_row(p, outer, r, first, past);
  }
}

/* "(1, 3, ., .)" above each matrix of a tensor with more than two axes. */
static void put_heading(printer *p, int64_t outer) {
  char text[256];
  int64_t at[PR_MAX_DIM];
  for (int d = p->rows_axis - 1; d >= 0; d--) at[d] = outer % p->t->shape[d], outer /= p->t->shape[d];
  size_t used = 0;
  for (int d = 0; d < p->rows_axis; d++)
    used += (size_t)snprintf(text + used, sizeof text - used, "%s%lld", d ? ", " : "(", PR_INDEX(at[d]));
  snprintf(text + used, sizeof text - used, ", ., .)\n");
  p->put(p->ctx, text);
}

static void put_values(printer *p) {
  int64_t o;
  for (int64_t i = 0; (o = shown(p, p->outer, outer_edge(p), i)) != -2; i++) {
    if (o == -1) {
      p->put(p->ctx, "...\n");
      continue;
    }
    if (p->rows_axis > 0) put_heading(p, o);
    put_matrix(p, o);
  }
}

pr_status pr_print(const pr_tensor *t, void (*put)(void *ctx, const char *text), void *ctx) {
  char shape[PR_SHAPE_TEXT], footer[PR_SHAPE_TEXT + 64];
  int64_t n = pr_numel(t);
  if (t->storage && n > 0) {
    printer p = { .t = t, .put = put, .ctx = ctx, .rows_axis = t->dim - 2, .columns_axis = t->dim - 1 };
    if (p.rows_axis < 0) p.rows_axis = -1;
    p.columns = t->dim ? t->shape[t->dim - 1] : 1;
    p.rows = p.rows_axis >= 0 ? t->shape[p.rows_axis] : 1;
    p.outer = n / p.columns / p.rows;
    int64_t lines = p.rows * p.outer * ((p.columns + PER_LINE - 1) / PER_LINE) + (p.outer > 1 ? p.outer : 0);
    p.whole = n <= FULL && lines <= FULL_LINES;
    choose_format(&p);
    put_values(&p);
  }
  snprintf(footer, sizeof footer, "%s %s %s\n", pr_dtype_name(t->dtype), pr_shape_text(t, shape),
           pr_device_name(t->device));
  put(ctx, footer);
  return PR_OK;
}
