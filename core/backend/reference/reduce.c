/* The reference kernels of the reductions: per operator a function of a row of numbers, and its gradient. */
#include <math.h>

#include "backend/reference/rows.h"

/* Arguments of the reductions: see op/reduce.c. */
enum { DIM, KEEPDIM, EXTRA };

typedef double reduction(const double *x, int64_t n, const pr_arg *args);
/* dx from the row and the result (where the operator does not save these they say nothing) and the result's
 * gradient. */
typedef void reduction_gradient(const double *x, int64_t n, double y, double dy, const pr_arg *args,
                                double *dx);

static pr_status forward(pr_call *c, reduction *f) {
  bool along[PR_MAX_DIM];
  prK_rows x;
  PR_TRY(prO_dims(c, DIM, c->in[0]->dim, along));
  PR_TRY(prK_rows_load(c, c->in[0], along, &x));
  PRK_ROOM(y, x.rows);
  for (int64_t r = 0; r < x.rows; r++) y[r] = f(x.values + r * x.length, x.length, c->args);
  return prK_store(c->out[0], y);
}

static pr_status backward(pr_call *c, reduction_gradient *f) {
  bool along[PR_MAX_DIM];
  prK_rows x;
  PR_TRY(prO_dims(c, DIM, c->in[0]->dim, along));
  PR_TRY(prK_rows_load(c, c->in[0], along, &x));
  PRK_LOAD(y, prO_saves_output(c->op, 0) ? c->out[0] : NULL);
  PRK_LOAD(dy, c->grad_out[0]);
  PRK_ROOM(dx, x.rows * x.length);
  for (int64_t r = 0; r < x.rows; r++) {
    int64_t start = r * x.length;
    f(x.values ? x.values + start : dx + start, x.length, y ? y[r] : 0, dy[r], c->args, dx + start);
  }
  return prK_rows_store(c, c->grad_in[0], along, dx);
}

/* --- functions of a row ------------------------------------------------------------------------------- */

static double sum(const double *x, int64_t n, const pr_arg *args) {
  (void)args;
  double total = 0;
  for (int64_t i = 0; i < n; i++) total += x[i];
  return total;
}

static void sum_gradient(const double *x, int64_t n, double y, double dy, const pr_arg *args, double *dx) {
  (void)x, (void)y, (void)args;
  for (int64_t i = 0; i < n; i++) dx[i] = dy;
}

static double mean(const double *x, int64_t n, const pr_arg *args) { return sum(x, n, args) / (double)n; }

static void mean_gradient(const double *x, int64_t n, double y, double dy, const pr_arg *args, double *dx) {
  sum_gradient(x, n, y, dy / (double)n, args, dx);
}

/* A NaN is taken and stays. */
static double amax(const double *x, int64_t n, const pr_arg *args) {
  (void)args;
  double best = x[0];
  for (int64_t i = 1; i < n; i++)
    if (x[i] > best || isnan(x[i])) best = x[i];
  return best;
}

static double amin(const double *x, int64_t n, const pr_arg *args) {
  (void)args;
  double best = x[0];
  for (int64_t i = 1; i < n; i++)
    if (x[i] < best || isnan(x[i])) best = x[i];
  return best;
}

static void extreme_gradient(const double *x, int64_t n, double y, double dy, const pr_arg *args,
                             double *dx) {
  (void)args;
  int64_t equal = 0;
  for (int64_t i = 0; i < n; i++) equal += x[i] == y;
  for (int64_t i = 0; i < n; i++) dx[i] = x[i] == y ? dy / (double)equal : 0;
}

static double prod(const double *x, int64_t n, const pr_arg *args) {
  (void)args;
  double product = 1;
  for (int64_t i = 0; i < n; i++) product *= x[i];
  return product;
}

/* The product of the others, from both ends, so that zeros do no harm. */
static void prod_gradient(const double *x, int64_t n, double y, double dy, const pr_arg *args, double *dx) {
  (void)y, (void)args;
  double before = dy, after = 1;
  for (int64_t i = 0; i < n; i++) dx[i] = before, before *= x[i];
  for (int64_t i = n - 1; i >= 0; i--) dx[i] *= after, after *= x[i];
}

static double logsumexp(const double *x, int64_t n, const pr_arg *args) {
  double top = n ? amax(x, n, args) : -INFINITY, total = 0;
  if (!isfinite(top)) return top;
  for (int64_t i = 0; i < n; i++) total += exp(x[i] - top);
  return top + log(total);
}

static void logsumexp_gradient(const double *x, int64_t n, double y, double dy, const pr_arg *args,
                               double *dx) {
  (void)args;
  for (int64_t i = 0; i < n; i++) dx[i] = isfinite(y) ? dy * exp(x[i] - y) : 0;
}

static double any(const double *x, int64_t n, const pr_arg *args) {
  (void)args;
  for (int64_t i = 0; i < n; i++)
    if (x[i] != 0) return 1;
  return 0;
}

static double all(const double *x, int64_t n, const pr_arg *args) {
  (void)args;
  for (int64_t i = 0; i < n; i++)
    if (x[i] == 0) return 0;
  return 1;
}

static double degrees(int64_t n, const pr_arg *args) { return (double)n - (args[EXTRA].integer ? 1 : 0); }

static double var(const double *x, int64_t n, const pr_arg *args) {
  double centre = mean(x, n, args), total = 0;
  for (int64_t i = 0; i < n; i++) total += (x[i] - centre) * (x[i] - centre);
  return total / degrees(n, args);
}

static void var_gradient(const double *x, int64_t n, double y, double dy, const pr_arg *args, double *dx) {
  (void)y;
  double centre = mean(x, n, args);
  for (int64_t i = 0; i < n; i++) dx[i] = dy * 2 * (x[i] - centre) / degrees(n, args);
}

static double deviation(const double *x, int64_t n, const pr_arg *args) { return sqrt(var(x, n, args)); }

static void deviation_gradient(const double *x, int64_t n, double y, double dy, const pr_arg *args,
                               double *dx) {
  double centre = mean(x, n, args);
  for (int64_t i = 0; i < n; i++) dx[i] = y == 0 ? 0 : dy * (x[i] - centre) / (y * degrees(n, args));
}

static double norm(const double *x, int64_t n, const pr_arg *args) {
  double p = args[EXTRA].real, total = 0;
  for (int64_t i = 0; i < n; i++) {
    double size = fabs(x[i]);
    if (isinf(p))
      total = size > total || isnan(size) ? size : total;
    else if (p == 0)
      total += size != 0;
    else if (p == 1)
      total += size;
    else if (p == 2)
      total += size * size;
    else
      total += pow(size, p);
  }
  return isinf(p) || p == 0 || p == 1 ? total : p == 2 ? sqrt(total) : pow(total, 1 / p);
}

static void norm_gradient(const double *x, int64_t n, double y, double dy, const pr_arg *args, double *dx) {
  double p = args[EXTRA].real;
  int64_t equal = 0;
  for (int64_t i = 0; isinf(p) && i < n; i++) equal += fabs(x[i]) == y;
  for (int64_t i = 0; i < n; i++) {
    double side = (x[i] > 0) - (x[i] < 0), size = fabs(x[i]);
    if (p == 0 || y == 0 || side == 0)
      dx[i] = 0;
    else if (isinf(p))
      dx[i] = size == y ? side * dy / (double)equal : 0;
    else
      dx[i] = dy * side * pow(size / y, p - 1);
  }
}

PR_KERNEL(reference, sum, forward)
{ return forward(c, sum); }
PR_KERNEL(reference, sum, backward)
{ return backward(c, sum_gradient); }
PR_KERNEL(reference, mean, forward)
{ return forward(c, mean); }
PR_KERNEL(reference, mean, backward)
{ return backward(c, mean_gradient); }
PR_KERNEL(reference, amax, forward)
{ return forward(c, amax); }
PR_KERNEL(reference, amax, backward)
{ return backward(c, extreme_gradient); }
PR_KERNEL(reference, amin, forward)
{ return forward(c, amin); }
PR_KERNEL(reference, amin, backward)
{ return backward(c, extreme_gradient); }
PR_KERNEL(reference, prod, forward)
{ return forward(c, prod); }
PR_KERNEL(reference, prod, backward)
{ return backward(c, prod_gradient); }
PR_KERNEL(reference, logsumexp, forward)
{ return forward(c, logsumexp); }
PR_KERNEL(reference, logsumexp, backward)
{ return backward(c, logsumexp_gradient); }
PR_KERNEL(reference, any, forward)
{ return forward(c, any); }
PR_KERNEL(reference, all, forward)
{ return forward(c, all); }
PR_KERNEL(reference, var, forward)
{ return forward(c, var); }
PR_KERNEL(reference, var, backward)
{ return backward(c, var_gradient); }
PR_KERNEL(reference, std, forward)
{ return forward(c, deviation); }
PR_KERNEL(reference, std, backward)
{ return backward(c, deviation_gradient); }
PR_KERNEL(reference, norm, forward)
{ return forward(c, norm); }
PR_KERNEL(reference, norm, backward)
{ return backward(c, norm_gradient); }

/* --- along one axis
 * --------------------------------------------------------------------------------------------------*/

static pr_status position(pr_call *c, double sign) {
  bool along[PR_MAX_DIM];
  int axis = 0;
  prK_rows x;
  if (c->args[DIM].given) PR_TRY(prO_dim(c, DIM, c->in[0]->dim, &axis));
  for (int d = 0; d < PR_MAX_DIM; d++) along[d] = !c->args[DIM].given || d == axis;
  PR_TRY(prK_rows_load(c, c->in[0], along, &x));
  PRK_ROOM(index, x.rows);
  for (int64_t r = 0; r < x.rows; r++) {
    const double *row = x.values + r * x.length;
    int64_t best = 0;
    for (int64_t i = 1; i < x.length && !isnan(row[best]); i++)
      if (sign * row[i] > sign * row[best] || isnan(row[i])) best = i;
    index[r] = (double)best;
  }
  return prK_store(c->out[0], index);
}

PR_KERNEL(reference, argmax, forward)
{ return position(c, 1); }
PR_KERNEL(reference, argmin, forward)
{ return position(c, -1); }

static pr_status cumulate(pr_call *c, const pr_tensor *from, pr_tensor *to, bool backwards) {
  bool along[PR_MAX_DIM] = { false };
  int axis;
  prK_rows x;
  PR_TRY(prO_dim(c, 0, from->dim, &axis));
  along[axis] = true;
  PR_TRY(prK_rows_load(c, from, along, &x));
  for (int64_t r = 0; r < x.rows; r++) {
    double *row = x.values + r * x.length, total = 0;
    for (int64_t i = 0; i < x.length; i++) {
      double *at = row + (backwards ? x.length - 1 - i : i);
      total += *at, *at = total;
    }
  }
  return prK_rows_store(c, to, along, x.values);
}

PR_KERNEL(reference, cumsum, forward)
{ return cumulate(c, c->in[0], c->out[0], false); }
PR_KERNEL(reference, cumsum, backward)
{ return cumulate(c, c->grad_out[0], c->grad_in[0], true); }
