/* check.c - analytic gradients against central differences, in float64. */
#include "autograd/autograd.h"

#include "base/memory.h"
#include "base/random.h"

#include <math.h>

extern pr_op pr_op_mul, pr_op_sum, pr_op_add;

enum { MOST_TENSORS = 32 };

typedef struct check {
  const pr_op *op;
  const pr_arg *args;
  pr_tensor **in;
  int n_in;
  uint64_t seed, step; /* random operators repeat their numbers */
} check;

/* Fixed weights in [-1, 1) for output k, so that no gradient cancels by symmetry. */
static pr_tensor *weights_for(const pr_tensor *y, int k) {
  pr_tensor *w = pr_tensor_zeros(PR_F64, PR_CPU, y->dim, y->shape);
  if (!w) return NULL;
  double *values = prT_data(w);
  int64_t n = pr_numel(w);
  for (int64_t i = 0; i < n; i++) values[i] = 2 * prB_uniform(12345, (uint32_t)k, 0, (uint64_t)i) - 1;
  return w;
}

/* Sum over the float outputs of weights * output: a new scalar, or NULL. */
static pr_tensor *weighted(const check *k) {
  pr_tensor *in[MOST_TENSORS], *out[MOST_TENSORS] = { NULL }, *total = NULL;
  int n_out = MOST_TENSORS;
  bool failed = false;
  for (int i = 0; i < k->n_in; i++) /* inputs that are written must start the same each time */
    in[i] = k->in[i] && prO_writes_input(k->op, i) ? pr_clone(k->in[i]) : pr_retain(k->in[i]);
  pr_random_restore(k->seed, k->step);
  if (pr_apply(k->op, k->args, in, k->n_in, out, &n_out)) failed = true, n_out = 0;
  for (int o = 0; o < n_out && !failed; o++) {
    if (!pr_dtype_is_float(out[o]->dtype)) continue;
    pr_tensor *w = weights_for(out[o], o), *product = prO_call(&pr_op_mul, NULL, 2, out[o], w);
    pr_tensor *sum = prO_call(&pr_op_sum, NULL, 1, product),
              *both = total ? prO_call(&pr_op_add, NULL, 2, total, sum) : pr_retain(sum);
    pr_release(w), pr_release(product), pr_release(sum), pr_release(total);
    total = both, failed = !total;
  }
  for (int i = 0; i < k->n_in; i++) pr_release(in[i]);
  for (int o = 0; o < n_out; o++) pr_release(out[o]);
  if (!failed && !total) pr_fail(PR_ERR_ARGUMENT, "%s: has no float output to differentiate", k->op->name);
  return total;
}

static pr_status value_at(const check *k, double *value) {
  pr_tensor *y = weighted(k);
  if (!y) return pr_error_last()->code;
  pr_status status = pr_item(y, value);
  pr_release(y);
  return status;
}

static pr_status compare_input(const check *k, pr_tensor *x, double h, double *difference, double *largest) {
  double *values = prT_data(x);
  int64_t n = pr_numel(x);
  for (int64_t i = 0; i < n; i++) {
    double centre = values[i], above, below, analytic = 0;
    values[i] = centre + h, prT_touch(x);
    PR_TRY(value_at(k, &above));
    values[i] = centre - h, prT_touch(x);
    PR_TRY(value_at(k, &below));
    values[i] = centre, prT_touch(x);
    if (x->grad) analytic = ((double *)prT_data(x->grad))[i];
    double numeric = (above - below) / (2 * h), off = fabs(analytic - numeric);
    if (!(off <= *difference)) *difference = off; /* also takes a NaN */
    if (fabs(numeric) > *largest) *largest = fabs(numeric);
  }
  return PR_OK;
}

static pr_status run(const check *k, double h, double *worst) {
  double largest = 1e-3, difference = 0;
  pr_tensor *y = weighted(k);
  if (!y) return pr_error_last()->code;
  pr_status status = pr_backward(y, NULL);
  pr_release(y);
  PR_TRY(status);
  bool recording = pr_grad_mode(false);
  for (int i = 0; i < k->n_in && !status; i++)
    if (k->in[i] && k->in[i]->requires_grad) status = compare_input(k, k->in[i], h, &difference, &largest);
  pr_grad_mode(recording);
  *worst = difference / largest;
  return status;
}

pr_status pr_gradient_check(const pr_op *op, const pr_arg *args, pr_tensor **in, int n_in, double h,
                            double *worst) {
  if (n_in > MOST_TENSORS) return pr_fail(PR_ERR_ARGUMENT, "%s: too many inputs to check", op->name);
  pr_tensor *own[MOST_TENSORS] = { NULL };
  pr_status status = PR_OK;
  for (int i = 0; i < n_in && !status; i++) {
    if (!in[i]) continue;
    bool differentiable = pr_dtype_is_float(in[i]->dtype);
    own[i] = pr_tensor_new(differentiable ? PR_F64 : in[i]->dtype, PR_CPU, in[i]->dim, in[i]->shape);
    status = own[i] ? pr_copy(own[i], in[i]) : PR_ERR_MEMORY;
    if (!status && differentiable && !prO_writes_input(op, i)) status = pr_require_grad(own[i], true);
  }
  check k = { op, args, own, n_in, pr_seed_get(), pr_random_step() };
  if (!status) status = run(&k, h, worst);
  for (int i = 0; i < n_in; i++) pr_release(own[i]);
  return status;
}
