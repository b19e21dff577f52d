/* pool.c - maxima and means over windows. Every kernel walks the windows of its output; one spatial axis is H
 * = 1. */
#include <math.h>

#include "backend/backend.h"

enum { X };
enum { Y, INDEX };
enum { KERNEL, STRIDE, PADDING, CEIL, DILATION, COUNT_PAD = DILATION };

/* The places of one output along one axis: from, from + step, ... below to; and how many count as divisor. */
typedef struct window {
  int64_t from, to, step, divisor;
} window;

typedef window window_rule(const pr_call *c, int axis, int64_t size, int64_t outputs, int64_t at);

static window max_window(const pr_call *c, int axis, int64_t size, int64_t outputs, int64_t at) {
  (void)outputs;
  int64_t kernel = prO_int(c, KERNEL, axis), stride = prO_int(c, STRIDE, axis),
          step = prO_int(c, DILATION, axis);
  int64_t from = at * (stride ? stride : kernel) - prO_int(c, PADDING, axis),
          to = from + (kernel - 1) * step + 1;
  if (from < 0) from += (-from + step - 1) / step * step;
  return (window){ from, to < size ? to : size, step, 1 };
}

static window avg_window(const pr_call *c, int axis, int64_t size, int64_t outputs, int64_t at) {
  (void)outputs;
  int64_t kernel = prO_int(c, KERNEL, axis), stride = prO_int(c, STRIDE, axis),
          padding = prO_int(c, PADDING, axis);
  int64_t from = at * (stride ? stride : kernel) - padding, to = from + kernel;
  if (to > size + padding) to = size + padding;
  window w = { from < 0 ? 0 : from, to < size ? to : size, 1, to - from };
  if (!c->args[COUNT_PAD].integer) w.divisor = w.to - w.from;
  return w;
}

static window adaptive_window(const pr_call *c, int axis, int64_t size, int64_t outputs, int64_t at) {
  (void)c, (void)axis;
  window w = { at * size / outputs, ((at + 1) * size + outputs - 1) / outputs, 1, 1 };
  w.divisor = w.to - w.from;
  return w;
}

/* Planes of x and y: the last one or two axes. */
typedef struct planes {
  int64_t count, in[2], out[2];
  int space;
} planes;

static planes planes_of(const pr_tensor *x, const pr_tensor *y) {
  planes p = { x->shape[0] * x->shape[1], { 1, 1 }, { 1, 1 }, x->dim - 2 };
  for (int k = 0; k < p.space; k++) {
    p.in[k + 2 - p.space] = x->shape[2 + k];
    p.out[k + 2 - p.space] = y->shape[2 + k];
  }
  return p;
}

/* The windows of output place (i, j); with one spatial axis the first has one place. */
static void windows_at(const pr_call *c, const planes *p, window_rule *rule, int64_t i, int64_t j,
                       window w[2]) {
  w[0] = p->space == 2 ? rule(c, 0, p->in[0], p->out[0], i) : (window){ 0, 1, 1, 1 };
  w[1] = rule(c, p->space - 1, p->in[1], p->out[1], j);
}

/* --- maximum --------------------------------------------------------------------------------------------- */

static pr_status max_forward(pr_call *c, window_rule *rule) {
  planes p = planes_of(c->in[X], c->out[Y]);
  PRK_LOAD(x, c->in[X]);
  PRK_ROOM(y, pr_numel(c->out[Y]));
  PRK_ROOM(index, pr_numel(c->out[Y]));
  int64_t at = 0;
  for (int64_t n = 0; n < p.count; n++)
    for (int64_t i = 0; i < p.out[0]; i++)
      for (int64_t j = 0; j < p.out[1]; j++, at++) {
        const double *plane = x + n * p.in[0] * p.in[1];
        window w[2];
        windows_at(c, &p, rule, i, j, w);
        double best = -INFINITY;
        int64_t place = w[0].from * p.in[1] + w[1].from;
        for (int64_t u = w[0].from; u < w[0].to; u += w[0].step)
          for (int64_t v = w[1].from; v < w[1].to; v += w[1].step) {
            double value = plane[u * p.in[1] + v];
            if (value > best || (isnan(value) && !isnan(best))) best = value, place = u * p.in[1] + v;
          }
        y[at] = best;
        index[at] = (double)place;
      }
  PR_TRY(prK_store(c->out[INDEX], index));
  return prK_store(c->out[Y], y);
}

static pr_status max_backward(pr_call *c) {
  const pr_tensor *target = c->grad_in[X];
  planes p = planes_of(target, c->grad_out[Y]);
  PRK_LOAD(index, c->out[INDEX]);
  PRK_LOAD(gy, c->grad_out[Y]);
  PRK_ZEROS(gx, pr_numel(target));
  int64_t outputs = p.out[0] * p.out[1];
  for (int64_t at = 0; at < p.count * outputs; at++)
    gx[at / outputs * p.in[0] * p.in[1] + (int64_t)index[at]] += gy[at];
  return prK_store(c->grad_in[X], gx);
}

PR_KERNEL(reference, max_pool1d, forward)
{ return max_forward(c, max_window); }
PR_KERNEL(reference, max_pool1d, backward)
{ return max_backward(c); }
PR_KERNEL(reference, max_pool2d, forward)
{ return max_forward(c, max_window); }
PR_KERNEL(reference, max_pool2d, backward)
{ return max_backward(c); }
PR_KERNEL(reference, adaptive_max_pool2d, forward)
{ return max_forward(c, adaptive_window); }
PR_KERNEL(reference, adaptive_max_pool2d, backward)
{ return max_backward(c); }

/* --- mean ------------------------------------------------------------------------------------------------ */

/* Forward sums x over each window into y; backward spreads y's gradient over the window. */
static void average(const pr_call *c, const planes *p, window_rule *rule, double *x, double *y, bool spread) {
  int64_t at = 0;
  for (int64_t n = 0; n < p->count; n++)
    for (int64_t i = 0; i < p->out[0]; i++)
      for (int64_t j = 0; j < p->out[1]; j++, at++) {
        double *plane = x + n * p->in[0] * p->in[1], sum = 0;
        window w[2];
        windows_at(c, p, rule, i, j, w);
        double divisor = (double)(w[0].divisor * w[1].divisor);
        for (int64_t u = w[0].from; u < w[0].to; u++)
          for (int64_t v = w[1].from; v < w[1].to; v++) {
            if (spread)
              plane[u * p->in[1] + v] += y[at] / divisor;
            else
              sum += plane[u * p->in[1] + v];
          }
        if (!spread) y[at] = sum / divisor;
      }
}

static pr_status avg_forward(pr_call *c, window_rule *rule) {
  planes p = planes_of(c->in[X], c->out[Y]);
  PRK_LOAD(x, c->in[X]);
  PRK_ROOM(y, pr_numel(c->out[Y]));
  average(c, &p, rule, (double *)x, y, false);
  return prK_store(c->out[Y], y);
}

static pr_status avg_backward(pr_call *c, window_rule *rule) {
  const pr_tensor *target = c->grad_in[X];
  planes p = planes_of(target, c->grad_out[Y]);
  PRK_LOAD(gy, c->grad_out[Y]);
  PRK_ZEROS(gx, pr_numel(target));
  average(c, &p, rule, gx, (double *)gy, true);
  return prK_store(c->grad_in[X], gx);
}

PR_KERNEL(reference, avg_pool1d, forward)
{ return avg_forward(c, avg_window); }
PR_KERNEL(reference, avg_pool1d, backward)
{ return avg_backward(c, avg_window); }
PR_KERNEL(reference, avg_pool2d, forward)
{ return avg_forward(c, avg_window); }
PR_KERNEL(reference, avg_pool2d, backward)
{ return avg_backward(c, avg_window); }
PR_KERNEL(reference, adaptive_avg_pool1d, forward)
{ return avg_forward(c, adaptive_window); }
PR_KERNEL(reference, adaptive_avg_pool1d, backward)
{ return avg_backward(c, adaptive_window); }
PR_KERNEL(reference, adaptive_avg_pool2d, forward)
{ return avg_forward(c, adaptive_window); }
PR_KERNEL(reference, adaptive_avg_pool2d, backward)
{ return avg_backward(c, adaptive_window); }
