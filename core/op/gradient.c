/* gradient.c - what backward rules are made of. */
#include "op/op.h"

#include <stdarg.h>

enum { MOST_INPUTS = 8 };

pr_tensor *prO_call(const pr_op *op, const pr_arg *args, int n_in, ...) {
  pr_tensor *in[MOST_INPUTS], *out = NULL;
  bool failed = false; /* an input that could not be made: its failure is this one's */
  va_list list;
  va_start(list, n_in);
  for (int i = 0; i < n_in; i++) {
    in[i] = va_arg(list, pr_tensor *);
    failed = failed || (!in[i] && !prO_input_optional(op, i));
  }
  va_end(list);
  int n_out = 1;
  if (failed || pr_apply(op, args, in, n_in, &out, &n_out)) return NULL;
  return out;
}

pr_status prO_gradient(pr_call *c, int i, pr_tensor *t) {
  if (!t) return pr_error_last()->code;
  pr_release(c->grad_in[i]);
  c->grad_in[i] = t;
  return PR_OK;
}

extern pr_op pr_op_sum, pr_op_reshape;

pr_tensor *prO_sum_to(const pr_call *c, int i, pr_tensor *g) {
  const pr_tensor *like = c->in[i];
  if (!g || pr_same_shape(g, like)) return g;
  int64_t dims[PR_MAX_DIM], shape[PR_MAX_DIM];
  int n = 0, lead = g->dim - like->dim;
  for (int d = 0; d < g->dim; d++)
    if (d < lead || (like->shape[d - lead] == 1 && g->shape[d] != 1)) dims[n++] = d;
  pr_tensor *summed = pr_retain(g);
  if (n) {
    pr_release(summed);
    pr_arg args[PR_MAX_ARGS] = { { .count = n, .list = dims, .given = true },
                                 { .integer = 1, .given = true } };
    summed = prO_call(&pr_op_sum, args, 1, g); /* keepdim */
  }
  pr_release(g);
  if (!summed || pr_same_shape(summed, like)) return summed;
  for (int d = 0; d < like->dim; d++) shape[d] = like->shape[d];
  pr_arg args[PR_MAX_ARGS] = { { .count = like->dim, .list = shape, .given = true } };
  pr_tensor *shaped = prO_call(&pr_op_reshape, args, 1, summed);
  pr_release(summed);
  return shaped;
}
