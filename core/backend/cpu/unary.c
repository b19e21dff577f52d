/* unary.c - element by element maps of f32 tensors, forward and backward. What is missing here, or has
 * another dtype, the reference does. */
#include "backend/cpu/clones.h"
#include "backend/cpu/exponential.h"
#include "backend/cpu/layout.h"
#include "backend/cpu/parallel.h"

enum { PARALLEL = 1 << 17 /* elements from which waking a thread pays */ };

/* y from x, or dx from dy and what the operator saved (x, else y; the absent one is NULL). a: the first two
 * arguments. */
typedef void forward_loop(int64_t n, const float *x, float *y, const float a[2]);
typedef void backward_loop(int64_t n, const float *x, const float *y, const float *dy, float *dx,
                           const float a[2]);

#define FORWARD(name, value)                                                                                 \
  PRK_CLONES static void f_##name(int64_t n, const float *restrict in, float *restrict out,                  \
                                  const float a[2]) {                                                        \
    const float a0 = a[0], a1 = a[1];                                                                        \
    (void)a0, (void)a1;                                                                                      \
    for (int64_t i = 0; i < n; i++) {                                                                        \
      const float x = in[i];                                                                                 \
      out[i] = value;                                                                                        \
    }                                                                                                        \
  }
/* `saved` is x or y: which of the two the slope is a function of. */
#define BACKWARD(name, saved, slope)                                                                         \
  PRK_CLONES static void d_##name(int64_t n, const float *restrict xs, const float *restrict ys,             \
                                  const float *restrict dy, float *restrict dx, const float a[2]) {          \
    const float a0 = a[0], a1 = a[1], *restrict from = saved##s;                                             \
    (void)a0, (void)a1, (void)xs, (void)ys;                                                                  \
    for (int64_t i = 0; i < n; i++) {                                                                        \
      const float saved = from[i];                                                                           \
      dx[i] = dy[i] * (slope);                                                                               \
    }                                                                                                        \
  }

PRK_INLINE float bounded(float x, float low, float high) { return x < low ? low : x > high ? high : x; }
PRK_INLINE float gelu_tanh(float x) { return prK_tanh(0.797884561f * (x + 0.044715f * x * x * x)); }
PRK_INLINE float gelu_tanh_slope(float x) {
  const float t = gelu_tanh(x);
  return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * 0.797884561f * (1 + 3 * 0.044715f * x * x);
}
PRK_INLINE float gelu_slope(float x) {
  return 0.5f * (1 + erff(x * 0.707106781f)) + x * prK_exp(-0.5f * x * x) * 0.398942280f;
}

FORWARD(relu, x <= 0 ? 0 : x)
BACKWARD(relu, y, y > 0 ? 1.0f : 0.0f)
FORWARD(relu6, bounded(x, 0, 6))
BACKWARD(relu6, y, (y > 0) & (y < 6) ? 1.0f : 0.0f)
FORWARD(sigmoid, prK_sigmoid(x))
BACKWARD(sigmoid, y, y *(1 - y))
FORWARD(tanh, prK_tanh(x))
BACKWARD(tanh, y, 1 - y * y)
FORWARD(silu, x *prK_sigmoid(x))
BACKWARD(silu, x, prK_sigmoid(x) * (1 + x * (1 - prK_sigmoid(x))))
FORWARD(hardsigmoid, bounded(x + 3, 0, 6) / 6)
BACKWARD(hardsigmoid, y, (y > 0) & (y < 1) ? 1.0f / 6 : 0.0f)
FORWARD(hardswish, x *bounded(x + 3, 0, 6) / 6)
BACKWARD(hardswish, x, x <= -3 ? 0.0f : x >= 3 ? 1.0f : (2 * x + 3) / 6)
FORWARD(leaky_relu, x > 0 ? x : a0 * x)
BACKWARD(leaky_relu, x, x > 0 ? 1.0f : a0)
FORWARD(hardtanh, bounded(x, a0, a1))
BACKWARD(hardtanh, x, (x > a0) & (x < a1) ? 1.0f : 0.0f)
FORWARD(clamp, bounded(x, a0, a1))
BACKWARD(clamp, x, (x >= a0) & (x <= a1) ? 1.0f : 0.0f)
FORWARD(exp, prK_exp(x))
BACKWARD(exp, y, y)
FORWARD(sqrt, sqrtf(x))
BACKWARD(sqrt, y, 0.5f / y)
FORWARD(abs, fabsf(x))
BACKWARD(abs, x, x > 0 ? 1.0f : x < 0 ? -1.0f : 0.0f)
FORWARD(square, x *x)
BACKWARD(square, x, 2 * x)
FORWARD(reciprocal, 1 / x)
BACKWARD(reciprocal, y, -y *y)
FORWARD(log, logf(x))
BACKWARD(log, x, 1 / x)
FORWARD(gelu_erf, 0.5f * x * (1 + erff(x * 0.707106781f)))
BACKWARD(gelu_erf, x, gelu_slope(x))
FORWARD(gelu_tanh, 0.5f * x * (1 + gelu_tanh(x)))
BACKWARD(gelu_tanh, x, gelu_tanh_slope(x))

PRK_CLONES static void f_neg(int64_t n, const float *restrict x, float *restrict y, const float a[2]) {
  (void)a;
  for (int64_t i = 0; i < n; i++) y[i] = -x[i];
}

static void d_neg(int64_t n, const float *x, const float *y, const float *dy, float *dx, const float a[2]) {
  (void)x, (void)y;
  f_neg(n, dy, dx, a);
}

static void arguments(const pr_call *c, float a[2]) {
  for (int i = 0; i < 2; i++) a[i] = (float)c->args[i].real;
}

static pr_status forward(pr_call *c, forward_loop *loop) {
  const int64_t n = pr_numel(c->out[0]);
  if (!prK_all_f32(c->in, 1) || !prK_all_f32(c->out, 1)) return PR_DECLINED;
  const float *x = prK_like(c, c->in[0], c->out[0]);
  float *y = prT_data(c->out[0]), a[2];
  if (!x) return PR_ERR_MEMORY;
  arguments(c, a);
#pragma omp parallel if (n >= PARALLEL)
  {
    int64_t begin, end;
    prK_share(n, &begin, &end);
    loop(end - begin, x + begin, y + begin, a);
  }
  return PR_OK;
}

static pr_status backward(pr_call *c, backward_loop *loop) {
  const int64_t n = pr_numel(c->grad_in[0]);
  if (!prK_all_f32(c->grad_in, 1) || !prK_all_f32(c->grad_out, 1)) return PR_DECLINED;
  const bool takes_x = prO_saves_input(c->op, 0), takes_y = prO_saves_output(c->op, 0);
  const float *x = takes_x ? prK_like(c, c->in[0], c->grad_in[0]) : NULL;
  const float *y = takes_y ? prK_like(c, c->out[0], c->grad_in[0]) : NULL;
  const float *dy = prK_like(c, c->grad_out[0], c->grad_in[0]);
  float *dx = prT_data(c->grad_in[0]), a[2];
  if (!dy || (takes_x && !x) || (takes_y && !y)) return PR_ERR_MEMORY;
  arguments(c, a);
#pragma omp parallel if (n >= PARALLEL)
  {
    int64_t begin, end;
    prK_share(n, &begin, &end);
    loop(end - begin, x ? x + begin : NULL, y ? y + begin : NULL, dy + begin, dx + begin, a);
  }
  return PR_OK;
}

PR_KERNEL(cpu, relu, forward)
{ return forward(c, f_relu); }
PR_KERNEL(cpu, relu, backward)
{ return backward(c, d_relu); }
PR_KERNEL(cpu, relu6, forward)
{ return forward(c, f_relu6); }
PR_KERNEL(cpu, relu6, backward)
{ return backward(c, d_relu6); }
PR_KERNEL(cpu, sigmoid, forward)
{ return forward(c, f_sigmoid); }
PR_KERNEL(cpu, sigmoid, backward)
{ return backward(c, d_sigmoid); }
PR_KERNEL(cpu, tanh, forward)
{ return forward(c, f_tanh); }
PR_KERNEL(cpu, tanh, backward)
{ return backward(c, d_tanh); }
PR_KERNEL(cpu, silu, forward)
{ return forward(c, f_silu); }
PR_KERNEL(cpu, silu, backward)
{ return backward(c, d_silu); }
PR_KERNEL(cpu, hardsigmoid, forward)
{ return forward(c, f_hardsigmoid); }
PR_KERNEL(cpu, hardsigmoid, backward)
{ return backward(c, d_hardsigmoid); }
PR_KERNEL(cpu, hardswish, forward)
{ return forward(c, f_hardswish); }
PR_KERNEL(cpu, hardswish, backward)
{ return backward(c, d_hardswish); }
PR_KERNEL(cpu, leaky_relu, forward)
{ return forward(c, f_leaky_relu); }
PR_KERNEL(cpu, leaky_relu, backward)
{ return backward(c, d_leaky_relu); }
PR_KERNEL(cpu, hardtanh, forward)
{ return forward(c, f_hardtanh); }
PR_KERNEL(cpu, hardtanh, backward)
{ return backward(c, d_hardtanh); }
PR_KERNEL(cpu, clamp, forward)
{ return forward(c, f_clamp); }
PR_KERNEL(cpu, clamp, backward)
{ return backward(c, d_clamp); }
PR_KERNEL(cpu, exp, forward)
{ return forward(c, f_exp); }
PR_KERNEL(cpu, exp, backward)
{ return backward(c, d_exp); }
PR_KERNEL(cpu, sqrt, forward)
{ return forward(c, f_sqrt); }
PR_KERNEL(cpu, sqrt, backward)
{ return backward(c, d_sqrt); }
PR_KERNEL(cpu, abs, forward)
{ return forward(c, f_abs); }
PR_KERNEL(cpu, abs, backward)
{ return backward(c, d_abs); }
PR_KERNEL(cpu, square, forward)
{ return forward(c, f_square); }
PR_KERNEL(cpu, square, backward)
{ return backward(c, d_square); }
PR_KERNEL(cpu, reciprocal, forward)
{ return forward(c, f_reciprocal); }
PR_KERNEL(cpu, reciprocal, backward)
{ return backward(c, d_reciprocal); }
PR_KERNEL(cpu, log, forward)
{ return forward(c, f_log); }
PR_KERNEL(cpu, log, backward)
{ return backward(c, d_log); }
PR_KERNEL(cpu, neg, forward)
{ return forward(c, f_neg); }
PR_KERNEL(cpu, neg, backward)
{ return backward(c, d_neg); }
PR_KERNEL(cpu, gelu, forward)
{ return forward(c, c->args[0].integer ? f_gelu_tanh : f_gelu_erf); }
PR_KERNEL(cpu, gelu, backward)
{ return backward(c, c->args[0].integer ? d_gelu_tanh : d_gelu_erf); }
