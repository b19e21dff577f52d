/* optim.c - update loops in f32 and f64. Parameter, gradient and state have the same dense layout, so one
 * flat loop serves. Scalars are computed in double and rounded to the dtype, as PyTorch does.
 */
#include "optim/optim.h"

#include <math.h>

enum { PARALLEL_FROM = 32768 }; /* below, starting threads costs more than the loop */

pr_optim pr_optim_defaults(pr_optim_kind kind) {
  pr_optim o = { .kind = kind, .lr = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .alpha = 0.99, .eps = 1e-8 };
  if (kind == PR_ADAMW) o.weight_decay = 1e-2;
  if (kind == PR_RMSPROP) o.lr = 1e-2;
  return o;
}

static pr_status within(double value, double low, double high, const char *name) {
  if (value >= low && value <= high) return PR_OK;
  return pr_fail(PR_ERR_ARGUMENT, "optimiser: %s must be in %g..%g, got %g", name, low, high, value);
}

pr_status pr_optim_check(const pr_optim *o) {
  PR_TRY(within(o->lr, 0, HUGE_VAL, "lr"));
  PR_TRY(within(o->weight_decay, 0, HUGE_VAL, "weight_decay"));
  PR_TRY(within(o->momentum, 0, HUGE_VAL, "momentum"));
  PR_TRY(within(o->eps, 0, HUGE_VAL, "eps"));
  PR_TRY(within(o->alpha, 0, 1, "alpha"));
  if (!(o->beta1 >= 0 && o->beta1 < 1) || !(o->beta2 >= 0 && o->beta2 < 1))
    return pr_fail(PR_ERR_ARGUMENT, "optimiser: betas must be in [0, 1), got %g and %g", o->beta1, o->beta2);
  if (o->nesterov && (o->momentum <= 0 || o->dampening != 0))
    return pr_fail(PR_ERR_ARGUMENT, "optimiser: nesterov needs momentum above 0 and no dampening");
  return PR_OK;
}

/* --- loops --------------------------------------------------------------------------------------------------------------- */

#define EACH(n)                                                                                              \
  _Pragma("omp parallel for simd schedule(static) if (n >= PARALLEL_FROM)") for (int64_t i = 0; i < n; i++)

#define SGD(T, name)                                                                                         \
  static void name(const pr_optim *o, int64_t n, T *p, const T *grad, T *buffer, bool first) {               \
    const T lr = (T)o->lr, decay = (T)o->weight_decay, momentum = (T)o->momentum,                            \
            damp = (T)(first ? 1 : 1 - o->dampening);                                                        \
    const bool nesterov = o->nesterov;                                                                       \
    if (buffer) {                                                                                            \
      EACH(n) {                                                                                              \
        T g = grad[i] + decay * p[i], b = momentum * buffer[i] + damp * g;                                   \
        buffer[i] = b, p[i] -= lr * (nesterov ? g + momentum * b : b);                                       \
      }                                                                                                      \
    } else {                                                                                                 \
      EACH(n) p[i] -= lr * (grad[i] + decay * p[i]);                                                         \
    }                                                                                                        \
  }
SGD(float, sgd_f32)
SGD(double, sgd_f64)

#define ADAM(T, name, ROOT)                                                                                  \
  static void name(const pr_optim *o, int64_t n, T *p, const T *grad, T *mean, T *square, double step) {     \
    const bool decoupled = o->kind == PR_ADAMW;                                                              \
    const T keep = (T)(decoupled ? 1 - o->lr * o->weight_decay : 1),                                         \
            decay = (T)(decoupled ? 0 : o->weight_decay);                                                    \
    const T b1 = (T)o->beta1, c1 = (T)(1 - o->beta1), b2 = (T)o->beta2, c2 = (T)(1 - o->beta2),              \
            eps = (T)o->eps;                                                                                 \
    const T size = (T)(o->lr / (1 - pow(o->beta1, step))), root = (T)sqrt(1 - pow(o->beta2, step));          \
    EACH(n) {                                                                                                \
      T value = p[i] * keep, g = grad[i] + decay * value;                                                    \
      T m = b1 * mean[i] + c1 * g, v = b2 * square[i] + c2 * g * g;                                          \
      mean[i] = m, square[i] = v, p[i] = value - size * (m / (ROOT(v) / root + eps));                        \
    }                                                                                                        \
  }
ADAM(float, adam_f32, sqrtf)
ADAM(double, adam_f64, sqrt)

#define RMSPROP(T, name, ROOT)                                                                               \
  static void name(const pr_optim *o, int64_t n, T *p, const T *grad, T *square, T *average, T *buffer) {    \
    const T lr = (T)o->lr, decay = (T)o->weight_decay, a = (T)o->alpha, c = (T)(1 - o->alpha),               \
            eps = (T)o->eps;                                                                                 \
    const T momentum = (T)o->momentum;                                                                       \
    EACH(n) {                                                                                                \
      T g = grad[i] + decay * p[i], v = a * square[i] + c * g * g, spread = v;                               \
      square[i] = v;                                                                                         \
      if (average) average[i] = a * average[i] + c * g, spread = v - average[i] * average[i];                \
      T move = g / (ROOT(spread) + eps);                                                                     \
      if (buffer) move = buffer[i] = momentum * buffer[i] + move;                                            \
      p[i] -= lr * move;                                                                                     \
    }                                                                                                        \
  }
RMSPROP(float, rmsprop_f32, sqrtf)
RMSPROP(double, rmsprop_f64, sqrt)

/* --- one step ------------------------------------------------------------------------------------------------------------ */

static void *slot_data(pr_tensor *p, const char *name, bool wanted, bool *failed) {
  if (!wanted) return NULL;
  pr_tensor *slot = pr_parameter_slot(p, name, true);
  if (!slot) *failed = true;
  return slot ? prT_data(slot) : NULL;
}

/* The count of steps this parameter has seen, this one included. */
static pr_status count_step(pr_tensor *p, double *step) {
  pr_tensor *slot = pr_parameter_slot(p, "step", false);
  if (!slot) {
    if (!(slot = pr_tensor_scalar(PR_F64, 0))) return PR_ERR_MEMORY;
    pr_status status = pr_parameter_slot_set(p, "step", slot);
    pr_release(slot); /* the parameter holds it */
    PR_TRY(status);
  }
  *step = *(double *)prT_data(slot) += 1;
  prT_touch(slot);
  return PR_OK;
}

pr_status pr_optim_step(const pr_optim *o, pr_tensor *p) {
  if (!p->grad) return PR_OK;
  if (p->dtype != PR_F32 && p->dtype != PR_F64)
    return pr_fail(PR_ERR_DTYPE, "optimiser: parameters are f32 or f64, got %s", pr_dtype_name(p->dtype));
  if (!prT_same_layout(p, p->grad)) {
    char a[PR_SHAPE_TEXT], b[PR_SHAPE_TEXT];
    return pr_fail(PR_ERR_SHAPE, "optimiser: the parameter has shape %s, its gradient %s",
                   pr_shape_text(p, a), pr_shape_text(p->grad, b));
  }
  bool failed = false, first = o->momentum > 0 && !pr_parameter_slot(p, "momentum_buffer", false);
  bool adam = o->kind == PR_ADAM || o->kind == PR_ADAMW, f32 = p->dtype == PR_F32;
  void *buffer = slot_data(p, "momentum_buffer", !adam && o->momentum > 0, &failed);
  void *mean = slot_data(p, "exp_avg", adam, &failed), *square = slot_data(p, "exp_avg_sq", adam, &failed);
  void *mean_square = slot_data(p, "square_avg", o->kind == PR_RMSPROP, &failed);
  void *average = slot_data(p, "grad_avg", o->kind == PR_RMSPROP && o->centered, &failed);
  double step = 0;
  if (failed) return PR_ERR_MEMORY;
  if (adam) PR_TRY(count_step(p, &step));
  int64_t n = pr_numel(p);
  void *x = prT_data(p), *g = prT_data(p->grad);
  if (o->kind == PR_SGD)
    f32 ? sgd_f32(o, n, x, g, buffer, first) : sgd_f64(o, n, x, g, buffer, first);
  else if (adam)
    f32 ? adam_f32(o, n, x, g, mean, square, step) : adam_f64(o, n, x, g, mean, square, step);
  else
    f32 ? rmsprop_f32(o, n, x, g, mean_square, average, buffer)
        : rmsprop_f64(o, n, x, g, mean_square, average, buffer);
  prT_touch(p);
  return PR_OK;
}

/* --- clipping ------------------------------------------------------------------------------------------------------------ */

static double get(const pr_tensor *t, int64_t i) {
  return t->dtype == PR_F32 ? ((float *)prT_data(t))[i] : ((double *)prT_data(t))[i];
}

static void set(pr_tensor *t, int64_t i, double value) {
  if (t->dtype == PR_F32)
    ((float *)prT_data(t))[i] = (float)value;
  else
    ((double *)prT_data(t))[i] = value;
}

pr_status pr_clip_grad_norm(pr_tensor *const *p, int n, double most, double *norm) {
  double sum = 0;
  for (int k = 0; k < n; k++) {
    const pr_tensor *g = p[k]->grad;
    int64_t count = g ? pr_numel(g) : 0;
    double part = 0;
    for (int64_t i = 0; i < count; i++) part += get(g, i) * get(g, i);
    sum += part;
  }
  *norm = sqrt(sum);
  if (most < 0 || !(*norm > most)) return PR_OK;
  double factor = most / (*norm + 1e-6);
  for (int k = 0; k < n; k++) {
    pr_tensor *g = p[k]->grad;
    int64_t count = g ? pr_numel(g) : 0;
    for (int64_t i = 0; i < count; i++) set(g, i, get(g, i) * factor);
  }
  return PR_OK;
}

pr_status pr_clip_grad_value(pr_tensor *const *p, int n, double most) {
  if (!(most >= 0)) return pr_fail(PR_ERR_ARGUMENT, "clipping: the limit must not be negative, got %g", most);
  for (int k = 0; k < n; k++) {
    pr_tensor *g = p[k]->grad;
    int64_t count = g ? pr_numel(g) : 0;
    for (int64_t i = 0; i < count; i++) set(g, i, fmin(fmax(get(g, i), -most), most));
  }
  return PR_OK;
}
