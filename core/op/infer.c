/* infer.c - what shape rules are made of: outputs, views, checks, broadcasting. */
#include "op/op.h"

#include "base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* --- failures ------------------------------------------------------------------------------------------------------ */

pr_status prO_fail(const pr_call *c, pr_status code, const char *format, ...) {
  char message[640], shapes[320];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  size_t used = 0;
  shapes[0] = 0;
  for (int i = 0; i < c->n_in && used < sizeof shapes - 64; i++) {
    char name[32], shape[PR_SHAPE_TEXT];
    if (!c->in[i]) continue;
    used += (size_t)snprintf(shapes + used, sizeof shapes - used, "%s%s %s", used ? ", " : "",
                             prO_input_name(c->op, i, name), pr_shape_text(c->in[i], shape));
    if (used >= sizeof shapes) break;
  }
  if (!shapes[0]) return pr_fail(code, "%s: %s", c->op->name, message);
  return pr_fail(code, "%s: %s (%s)", c->op->name, message, shapes);
}

/* --- arguments ------------------------------------------------------------------------------------------------------- */

pr_status prO_check_ints(const pr_call *c, int arg, int n) {
  int count = c->args[arg].count;
  if (count == 0 || count == 1 || count == n) return PR_OK;
  return prO_fail(c, PR_ERR_ARGUMENT, "option '%s' takes 1 or %d numbers, got %d", c->op->args[arg].name, n,
                  count);
}

pr_status prO_need_int(const pr_call *c, int arg, int k, int64_t least) {
  const int64_t most = 1 << 30;
  int64_t value = prO_int(c, arg, k);
  if (value >= least && value <= most) return PR_OK;
  return prO_fail(c, PR_ERR_ARGUMENT, "option '%s' must be at least %lld%s, got %lld", c->op->args[arg].name,
                  (long long)least, value > most ? " and at most 2^30" : "", (long long)value);
}

static pr_status axis_of(const pr_call *c, int arg, int64_t value, int dim, int *axis) {
  int64_t at = value < 0 ? value + dim : value;
  if (at >= 0 && at < dim) {
    *axis = (int)at;
    return PR_OK;
  }
  long long shown = value < 0 ? (long long)value : PR_INDEX(value);
  return prO_fail(c, PR_ERR_INDEX, "option '%s' is axis %lld, but the tensor has %d axes",
                  c->op->args[arg].name, shown, dim);
}

pr_status prO_dim(const pr_call *c, int arg, int dim, int *axis) {
  return axis_of(c, arg, c->args[arg].integer, dim, axis);
}

pr_status prO_dims(const pr_call *c, int arg, int dim, bool mask[PR_MAX_DIM]) {
  const pr_arg *a = &c->args[arg];
  memset(mask, a->count == 0, PR_MAX_DIM * sizeof *mask);
  for (int k = 0; k < a->count; k++) {
    int axis = 0;
    PR_TRY(axis_of(c, arg, a->list[k], dim, &axis));
    if (mask[axis])
      return prO_fail(c, PR_ERR_ARGUMENT, "option '%s' names axis %lld twice", c->op->args[arg].name,
                      PR_INDEX(axis));
    mask[axis] = true;
  }
  return PR_OK;
}

/* --- outputs --------------------------------------------------------------------------------------------------------- */

pr_status prO_outputs(pr_call *c, int n) {
  if (n == c->n_out && c->out) return PR_OK;
  pr_tensor **out = prB_resize(c->out, (size_t)c->n_out * sizeof *out, (size_t)n * sizeof *out);
  if (!out && n) return PR_ERR_MEMORY;
  for (int k = c->n_out; out && k < n; k++) out[k] = NULL;
  c->out = out, c->n_out = n;
  return PR_OK;
}

pr_status prO_give(pr_call *c, int k, pr_tensor *t) {
  if (!t) return pr_error_last()->code;
  pr_release(c->out[k]);
  c->out[k] = t;
  return PR_OK;
}

pr_status prO_output(pr_call *c, int k, pr_dtype dtype, int dim, const int64_t *shape) {
  return prO_give(c, k, pr_tensor_new(dtype, PR_META, dim, shape));
}

/* A specification with the layout of a freshly made tensor `like` (which is on PR_META itself). */
pr_status prO_output_ordered(pr_call *c, int k, pr_dtype dtype, int dim, const int64_t *shape,
                             const pr_tensor *like) {
  pr_tensor *t = pr_tensor_new(dtype, PR_META, dim, shape);
  if (!t) return PR_ERR_MEMORY;
  if (like->dim == dim && prT_is_dense(like)) {
    /* axes of `like` from the slowest to the fastest; equal strides (size 1) keep their order */
    int order[PR_MAX_DIM] = { 0 };
    for (int d = 0; d < dim; d++) {
      int at = d;
      while (at > 0 && like->stride[order[at - 1]] < like->stride[d]) order[at] = order[at - 1], at--;
      order[at] = d;
    }
    int64_t stride = 1;
    for (int r = dim - 1; r >= 0; r--)
      t->stride[order[r]] = stride, stride *= shape[order[r]] > 0 ? shape[order[r]] : 1;
  }
  return prO_give(c, k, t);
}

pr_status prO_output_like(pr_call *c, int k, const pr_tensor *like) {
  return prO_output_ordered(c, k, like->dtype, like->dim, like->shape, like);
}

pr_status prO_output_channels_last(pr_call *c, int k, pr_dtype dtype, int dim, const int64_t *shape) {
  pr_tensor *t = prT_new_channels_last(dtype, PR_META, dim, shape);
  return prO_give(c, k, t);
}

pr_status prO_view(pr_call *c, int k, int i, int dim, const int64_t *shape, const int64_t *stride,
                   int64_t offset) {
  return prO_give(c, k, prT_view(c->in[i], dim, shape, stride, offset));
}

/* --- checks ---------------------------------------------------------------------------------------------------------- */

pr_status prO_need_dim(const pr_call *c, int i, int least, int most) {
  char name[32];
  int dim = c->in[i]->dim;
  if (dim >= least && dim <= most) return PR_OK;
  prO_input_name(c->op, i, name);
  if (least == most) return prO_fail(c, PR_ERR_SHAPE, "%s must have %d axes, has %d", name, least, dim);
  return prO_fail(c, PR_ERR_SHAPE, "%s must have %d to %d axes, has %d", name, least, most, dim);
}

pr_status prO_need_float(const pr_call *c, int i) {
  char name[32];
  if (pr_dtype_is_float(c->in[i]->dtype)) return PR_OK;
  return prO_fail(c, PR_ERR_DTYPE, "%s must be a float tensor, is %s; convert it with :to \"f32\"",
                  prO_input_name(c->op, i, name), pr_dtype_name(c->in[i]->dtype));
}

pr_status prO_need_dtype(const pr_call *c, int i, pr_dtype dtype) {
  char name[32];
  if (c->in[i]->dtype == dtype) return PR_OK;
  return prO_fail(c, PR_ERR_DTYPE, "%s must be %s, is %s", prO_input_name(c->op, i, name),
                  pr_dtype_name(dtype), pr_dtype_name(c->in[i]->dtype));
}

pr_status prO_need_same_dtype(const pr_call *c, int i, int j) {
  char a[32], b[32];
  if (!c->in[i] || !c->in[j] || c->in[i]->dtype == c->in[j]->dtype) return PR_OK;
  return prO_fail(c, PR_ERR_DTYPE, "%s is %s but %s is %s; convert one of them", prO_input_name(c->op, i, a),
                  pr_dtype_name(c->in[i]->dtype), prO_input_name(c->op, j, b),
                  pr_dtype_name(c->in[j]->dtype));
}

pr_status prO_need_size(const pr_call *c, int i, int axis, int64_t size, const char *because) {
  char name[32];
  if (c->in[i]->shape[axis] == size) return PR_OK;
  return prO_fail(c, PR_ERR_SHAPE, "%s must have size %lld along axis %lld (%s), has %lld",
                  prO_input_name(c->op, i, name), (long long)size, PR_INDEX(axis), because,
                  (long long)c->in[i]->shape[axis]);
}

pr_status prO_broadcast(const pr_call *c, int i, int j, int *dim, int64_t shape[PR_MAX_DIM]) {
  const pr_tensor *a = c->in[i], *b = c->in[j];
  *dim = a->dim > b->dim ? a->dim : b->dim;
  for (int d = 0; d < *dim; d++) {
    int da = d - (*dim - a->dim), db = d - (*dim - b->dim);
    int64_t na = da < 0 ? 1 : a->shape[da], nb = db < 0 ? 1 : b->shape[db];
    if (na != nb && na != 1 && nb != 1)
      return prO_fail(c, PR_ERR_SHAPE, "shapes do not broadcast: %lld and %lld along axis %lld",
                      (long long)na, (long long)nb, PR_INDEX(d));
    shape[d] = na == 1 ? nb : na;
  }
  return PR_OK;
}
