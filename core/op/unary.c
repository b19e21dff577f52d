/* unary.c - operators that map a number to a number, one row each. `x` and `y` have any shape. */
#include <math.h>
#include <string.h>

#include "couple/rules.h"
#include "op/call.h"
#include "op/unary.h"

static const double sqrt_half = 0.70710678118654752440;        /* 1 / sqrt(2) */
static const double sqrt_two_over_pi = 0.79788456080286535588; /* sqrt(2 / pi) */
static const double selu_scale = 1.0507009873554804934193, selu_alpha = 1.6732632423543772848170;

/* FUNCTION(name, y from x, dy/dx from x and y). Comparisons are written so that a NaN passes through. */
#define FUNCTION(name, value, slope)                                                                         \
  static double f_##name(double x, const pr_arg *a) {                                                        \
    (void)a;                                                                                                 \
    return value;                                                                                            \
  }                                                                                                          \
  static double d_##name(double x, double y, const pr_arg *a) {                                              \
    (void)x, (void)y, (void)a;                                                                               \
    return slope;                                                                                            \
  }
#define PREDICATE(name, value)                                                                               \
  static double f_##name(double x, const pr_arg *a) {                                                        \
    (void)a;                                                                                                 \
    return value;                                                                                            \
  }

static double logistic(double x) {
  if (x >= 0) return 1 / (1 + exp(-x));
  double e = exp(x);
  return e / (1 + e);
}

static double softplus(double x, double beta, double threshold) {
  return x * beta > threshold ? x : log1p(exp(x * beta)) / beta;
}

static double gelu(double x, bool tanh_form) {
  if (tanh_form) return 0.5 * x * (1 + tanh(sqrt_two_over_pi * (x + 0.044715 * x * x * x)));
  return 0.5 * x * (1 + erf(x * sqrt_half));
}

static double gelu_slope(double x, bool tanh_form) {
  if (!tanh_form) return 0.5 * (1 + erf(x * sqrt_half)) + x * exp(-0.5 * x * x) * 0.5 * sqrt_two_over_pi;
  double t = tanh(sqrt_two_over_pi * (x + 0.044715 * x * x * x));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * sqrt_two_over_pi * (1 + 3 * 0.044715 * x * x);
}

static double mish_slope(double x) {
  double t = tanh(softplus(x, 1, 20));
  return t + x * (1 - t * t) * logistic(x);
}

static double cast_to(pr_dtype dtype, double x) {
  if (dtype == PR_BOOL) return x != 0;
  return pr_dtype_is_float(dtype) ? x : trunc(x);
}

/* d x^p / dx; 0 for p = 0 also at x = 0, where p x^(p-1) would be 0 * inf. */
static double power_slope(double x, double p) { return p == 0 ? 0 : p * pow(x, p - 1); }

static double bounded(double x, double low, double high) { return x < low ? low : x > high ? high : x; }

FUNCTION(relu, x <= 0 ? 0 : x, y > 0)
FUNCTION(relu6, bounded(x, 0, 6), y > 0 && y < 6)
FUNCTION(sigmoid, logistic(x), y *(1 - y))
FUNCTION(tanh, tanh(x), 1 - y * y)
FUNCTION(silu, x *logistic(x), logistic(x) * (1 + x * (1 - logistic(x))))
FUNCTION(hardsigmoid, bounded(x + 3, 0, 6) / 6, y > 0 && y < 1 ? 1.0 / 6 : 0)
FUNCTION(hardswish, x *bounded(x + 3, 0, 6) / 6, x <= -3 ? 0 : x >= 3 ? 1 : (2 * x + 3) / 6)
FUNCTION(gelu, gelu(x, a[0].integer == 1), gelu_slope(x, a[0].integer == 1))
FUNCTION(elu, x > 0 ? x : a[0].real * expm1(x), x > 0 ? 1 : a[0].real * exp(x))
FUNCTION(selu, selu_scale *(x > 0 ? x : selu_alpha * expm1(x)), selu_scale *(x > 0 ? 1 : selu_alpha * exp(x)))
FUNCTION(softplus, softplus(x, a[0].real, a[1].real), x *a[0].real > a[1].real ? 1 : logistic(x * a[0].real))
FUNCTION(leaky_relu, x > 0 ? x : a[0].real * x, x > 0 ? 1 : a[0].real)
FUNCTION(mish, x *tanh(softplus(x, 1, 20)), mish_slope(x))
FUNCTION(hardtanh, bounded(x, a[0].real, a[1].real), x > a[0].real && x < a[1].real)
FUNCTION(exp, exp(x), y)
FUNCTION(log, log(x), 1 / x)
FUNCTION(log1p, log1p(x), 1 / (1 + x))
FUNCTION(sqrt, sqrt(x), 0.5 / y)
FUNCTION(rsqrt, 1 / sqrt(x), -0.5 * y * y * y)
FUNCTION(abs, fabs(x), (x > 0) - (x < 0))
FUNCTION(neg, -x, -1)
FUNCTION(square, x *x, 2 * x)
FUNCTION(reciprocal, 1 / x, -y *y)
FUNCTION(sin, sin(x), cos(x))
FUNCTION(cos, cos(x), -sin(x))
FUNCTION(erf, erf(x), sqrt_two_over_pi / sqrt_half * exp(-x * x))
FUNCTION(sign, x != x ? x : (x > 0) - (x < 0), 0)
FUNCTION(floor, floor(x), 0)
FUNCTION(ceil, ceil(x), 0)
FUNCTION(round, rint(x), 0)
FUNCTION(clamp, bounded(x, a[0].real, a[1].real), x >= a[0].real && x <= a[1].real)
FUNCTION(pow, pow(x, a[0].real), power_slope(x, a[0].real))
PREDICATE(cast, cast_to((pr_dtype)a[0].integer, x))
PREDICATE(logical_not, x == 0)
PREDICATE(isnan, isnan(x) != 0)
PREDICATE(isfinite, isfinite(x) != 0)

#define ROW(name)                                                                                            \
  { #name, f_##name, d_##name }
static const prO_unary rows[] = {
  ROW(relu),
  ROW(relu6),
  ROW(sigmoid),
  ROW(tanh),
  ROW(silu),
  ROW(hardsigmoid),
  ROW(hardswish),
  ROW(gelu),
  ROW(elu),
  ROW(selu),
  ROW(softplus),
  ROW(leaky_relu),
  ROW(mish),
  ROW(hardtanh),
  ROW(exp),
  ROW(log),
  ROW(log1p),
  ROW(sqrt),
  ROW(rsqrt),
  ROW(abs),
  ROW(neg),
  ROW(square),
  ROW(reciprocal),
  ROW(sin),
  ROW(cos),
  ROW(erf),
  ROW(sign),
  ROW(floor),
  ROW(ceil),
  ROW(round),
  ROW(clamp),
  ROW(pow),
  { "cast", f_cast, NULL },
  { "logical_not", f_logical_not, NULL },
  { "isnan", f_isnan, NULL },
  { "isfinite", f_isfinite, NULL },
};

const prO_unary *prO_unary_row(const pr_op *op) {
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    if (strcmp(rows[i].name, op->name) == 0) return &rows[i];
  return NULL;
}

/* What a dead entry holds after the operator. */
static double dead_value(double x, const void *context) {
  const pr_call *call = context;
  return prO_unary_row(call->op)->value(x, call->args);
}

static void couple(pr_coupling *k) { prC_rule_unary(k, PRC_IN(0), PRC_OUT(0), dead_value, k->call); }

/* --- shape rules -------------------------------------------------------------------------------------- */

static pr_status infer_float(pr_call *c) {
  PR_TRY(prO_need_float(c, 0));
  return prO_output_like(c, 0, c->in[0]);
}

static pr_status infer_number(pr_call *c) {
  if (c->in[0]->dtype == PR_BOOL) return prO_fail(c, PR_ERR_DTYPE, "bool has no arithmetic; cast it first");
  return prO_output_like(c, 0, c->in[0]);
}

static pr_status infer_bounds(pr_call *c) {
  if (!(c->args[0].real <= c->args[1].real))
    return prO_fail(c, PR_ERR_ARGUMENT, "lower bound %g is above upper bound %g", c->args[0].real,
                    c->args[1].real);
  return infer_number(c);
}

static pr_status infer_softplus(pr_call *c) {
  if (!(c->args[0].real > 0))
    return prO_fail(c, PR_ERR_ARGUMENT, "beta must be above 0, not %g", c->args[0].real);
  return infer_float(c);
}

static pr_status infer_bool(pr_call *c) {
  const pr_tensor *x = c->in[0];
  return prO_output_ordered(c, 0, PR_BOOL, x->dim, x->shape, x);
}

static pr_status infer_cast(pr_call *c) {
  const pr_tensor *x = c->in[0];
  return prO_output_ordered(c, 0, (pr_dtype)c->args[0].integer, x->dim, x->shape, x);
}

static pr_status cast_backward(pr_call *c) {
  return prO_gradient(c, 0, pr_to_dtype(c->grad_out[0], c->in[0]->dtype));
}

/* --- operators ---------------------------------------------------------------------------------------- */

#define MAP(word, shape_rule, saved, onnx_name, example)                                                     \
  .name = word, .inputs = "x", .outputs = "y", .saves = saved, .infer = shape_rule, .couple = couple,        \
  .onnx = onnx_name, .examples = example

PR_OP(relu) = { MAP("relu", infer_number, "y", "Relu", "x:3x4"), .help = "max(x, 0)" };
PR_OP(relu6) = { MAP("relu6", infer_number, "y", NULL, "x:3x4"), .help = "min(max(x, 0), 6)" };
PR_OP(sigmoid) = { MAP("sigmoid", infer_float, "y", "Sigmoid", "x:3x4"), .help = "1 / (1 + exp(-x))" };
PR_OP(tanh) = { MAP("tanh", infer_float, "y", "Tanh", "x:3x4"), .help = "hyperbolic tangent of x" };
PR_OP(silu) = { MAP("silu", infer_float, "x", NULL, "x:3x4"),
                .help = "x * sigmoid(x), also called swish (Ramachandran et al. 2017)" };
PR_OP(hardsigmoid) = { MAP("hardsigmoid", infer_float, "y", NULL, "x:3x4"),
                       .help = "min(max(x + 3, 0), 6) / 6" };
PR_OP(hardswish) = { MAP("hardswish", infer_float, "x", "HardSwish", "x:3x4"),
                     .help = "x * min(max(x + 3, 0), 6) / 6 (Howard et al., MobileNetV3, 2019)" };
PR_OP(gelu) = {
  MAP("gelu", infer_float, "x", "Gelu", "x:3x4\nx:5 approximate=tanh"),
  .args = { { "approximate", PR_ARG_CHOICE, .choices = "none tanh", .help = "exact, or the tanh formula" } },
  .help = "x * Phi(x), Phi the standard normal distribution (Hendrycks & Gimpel 2016)\n"
          "approximate = \"tanh\": 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))",
};
PR_OP(elu) = {
  MAP("elu", infer_float, "x", "Elu", "x:3x4 alpha=0.7"),
  .args = { { "alpha", PR_ARG_REAL, .real = 1 } },
  .help = "x where x > 0, else alpha (exp(x) - 1) (Clevert et al. 2015)",
};
PR_OP(selu) = {
  MAP("selu", infer_float, "x", "Selu", "x:3x4"),
  .help = "1.0507 * elu(x, 1.6733) (Klambauer et al., Self-normalizing neural networks, 2017)"
};
PR_OP(softplus) = {
  MAP("softplus", infer_softplus, "x", "Softplus", "x:3x4\nx:5 beta=2 threshold=1"),
  .args = { { "beta", PR_ARG_REAL, .real = 1 },
            { "threshold", PR_ARG_REAL, .real = 20, .help = "x above: y = x" } },
  .help = "log(1 + exp(beta x)) / beta; x itself where beta x > threshold",
};
PR_OP(leaky_relu) = {
  MAP("leaky_relu", infer_float, "x", "LeakyRelu", "x:3x4 negative_slope=0.1"),
  .args = { { "negative_slope", PR_ARG_REAL, .real = 0.01 } },
  .help = "x where x > 0, else negative_slope * x",
};
PR_OP(mish) = { MAP("mish", infer_float, "x", "Mish", "x:3x4"),
                .help = "x * tanh(softplus(x)) (Misra 2019)" };
PR_OP(hardtanh) = {
  MAP("hardtanh", infer_bounds, "x", "Clip", "x:3x4 min_val=-0.5 max_val=0.7"),
  .args = { { "min_val", PR_ARG_REAL, .real = -1 }, { "max_val", PR_ARG_REAL, .real = 1 } },
  .help = "x cut to min_val..max_val; no gradient at and beyond the bounds",
};
PR_OP(exp) = { MAP("exp", infer_float, "y", "Exp", "x:3x4"), .help = "e to the power x" };
PR_OP(log) = { MAP("log", infer_float, "x", "Log", "x:3x4>0.1"), .help = "natural logarithm of x" };
PR_OP(log1p) = { MAP("log1p", infer_float, "x", NULL, "x:3x4>-0.9"),
                 .help = "log(1 + x), exact for small x" };
PR_OP(sqrt) = { MAP("sqrt", infer_float, "y", "Sqrt", "x:3x4>0.1"), .help = "square root of x" };
PR_OP(rsqrt) = { MAP("rsqrt", infer_float, "y", NULL, "x:3x4>0.1"), .help = "1 / sqrt(x)" };
PR_OP(abs) = { MAP("abs", infer_number, "x", "Abs", "x:3x4"), .help = "absolute value of x" };
PR_OP(neg) = { MAP("neg", infer_number, NULL, "Neg", "x:3x4"), .help = "-x" };
PR_OP(square) = { MAP("square", infer_number, "x", NULL, "x:3x4"), .help = "x * x" };
PR_OP(reciprocal) = { MAP("reciprocal", infer_float, "y", "Reciprocal", "x:3x4>0.2"), .help = "1 / x" };
PR_OP(sin) = { MAP("sin", infer_float, "x", "Sin", "x:3x4"), .help = "sine of x (radians)" };
PR_OP(cos) = { MAP("cos", infer_float, "x", "Cos", "x:3x4"), .help = "cosine of x (radians)" };
PR_OP(erf) = { MAP("erf", infer_float, "x", "Erf", "x:3x4"), .help = "error function of x" };
PR_OP(sign) = { MAP("sign", infer_number, NULL, "Sign", "x:3x4"), .help = "-1, 0 or 1; gradient 0" };
PR_OP(floor) = { MAP("floor", infer_number, NULL, "Floor", "x:3x4"),
                 .help = "largest integer <= x; gradient 0" };
PR_OP(ceil) = { MAP("ceil", infer_number, NULL, "Ceil", "x:3x4"),
                .help = "smallest integer >= x; gradient 0" };
PR_OP(round) = { MAP("round", infer_number, NULL, "Round", "x:3x4"),
                 .help = "nearest integer, halves to even; gradient 0" };
PR_OP(clamp) = {
  MAP("clamp", infer_bounds, "x", "Clip", "x:3x4 min=-0.5 max=0.7\nx:5 min=0"),
  .args = { { "min", PR_ARG_REAL, .real = -INFINITY }, { "max", PR_ARG_REAL, .real = INFINITY } },
  .help = "x cut to min..max; gradient 1 at and inside the bounds",
};
PR_OP(pow) = {
  MAP("pow", infer_number, "x", "Pow", "x:3x4 exponent=3\nx:3x4>0.1 exponent=-0.5"),
  .args = { { "exponent", PR_ARG_REAL, .required = true } },
  .help = "x to the power of a number (pow2 takes a tensor of exponents)",
};
PR_OP(cast) = {
  MAP("cast", infer_cast, NULL, "Cast", "x:3x4 dtype=f64"),
  .args = { { "dtype", PR_ARG_CHOICE, .required = true, .choices = "f32 f64 bf16 i64 i32 u8 bool" } },
  .backward = cast_backward,
  .help = "x as another dtype; to integers cuts towards zero, to bool is x != 0",
};
PR_OP(logical_not) = { MAP("logical_not", infer_bool, NULL, "Not", "x:6%2"), .flags = PR_OP_NO_GRADIENT,
                       .help = "true where x is 0 (bool)" };
PR_OP(isnan) = { MAP("isnan", infer_bool, NULL, "IsNaN", "x:3x4"), .flags = PR_OP_NO_GRADIENT,
                 .help = "true where x is not a number (bool)" };
PR_OP(isfinite) = { MAP("isfinite", infer_bool, NULL, NULL, "x:3x4"), .flags = PR_OP_NO_GRADIENT,
                    .help = "true where x is neither infinite nor NaN (bool)" };
