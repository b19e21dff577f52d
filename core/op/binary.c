/* binary.c - arithmetic, comparisons and logic on two tensors that broadcast, one row each; and the choices
 * between tensors: where, masked_fill, lerp, prelu.
 *
 * Both operands have the same dtype, except that a tensor without axes (a number) takes the other's dtype.
 * Where that would cut a fraction off (integers and a float number) the result is f32. Two numbers of unlike
 * dtypes give the wider one.
 */
#include <math.h>
#include <string.h>

#include "couple/rules.h"
#include "op/binary.h"
#include "op/call.h"

extern pr_op pr_op_maximum, pr_op_lt, pr_op_le;

enum { X, Y, Z };

/* --- scalar functions --------------------------------------------------------------------------------- */

#define FUNCTION(name, result)                                                                               \
  static double f_##name(double x, double y) { return result; }

/* Of the sign of y (floor), as in Python and Lua; fmod has the sign of x. */
static double modulo(double x, double y) {
  double r = fmod(x, y);
  return r != 0 && (r < 0) != (y < 0) ? r + y : r;
}

FUNCTION(add, x + y)
FUNCTION(sub, x - y)
FUNCTION(mul, x *y)
FUNCTION(div, x / y)
FUNCTION(maximum, x != x || x > y ? x : y)
FUNCTION(minimum, x != x || x < y ? x : y)
FUNCTION(pow2, pow(x, y))
FUNCTION(fmod, fmod(x, y))
FUNCTION(remainder, modulo(x, y))
FUNCTION(atan2, atan2(x, y))
FUNCTION(eq, x == y)
FUNCTION(ne, x != y)
FUNCTION(lt, x < y)
FUNCTION(le, x <= y)
FUNCTION(gt, x > y)
FUNCTION(ge, x >= y)
FUNCTION(logical_and, x != 0 && y != 0)
FUNCTION(logical_or, x != 0 || y != 0)
FUNCTION(logical_xor, (x != 0) != (y != 0))

#define ROW(name)                                                                                            \
  { #name, f_##name }
static const prO_binary rows[] = {
  ROW(add),  ROW(sub),       ROW(mul),         ROW(div),        ROW(maximum),     ROW(minimum), ROW(pow2),
  ROW(fmod), ROW(remainder), ROW(atan2),       ROW(eq),         ROW(ne),          ROW(lt),      ROW(le),
  ROW(gt),   ROW(ge),        ROW(logical_and), ROW(logical_or), ROW(logical_xor),
};

const prO_binary *prO_binary_row(const pr_op *op) {
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    if (strcmp(rows[i].name, op->name) == 0) return &rows[i];
  return NULL;
}

/* What a dead entry holds after the operator. */
static double dead_value(const double *x, const void *context) {
  const prO_binary *row = context;
  return row->value(x[0], x[1]);
}

/* 0 to a power that is not known may be infinite. */
static void pin_bases(pr_coupling *k) {
  int shift = prC_dim(k, PRC_OUT(0)) - prC_dim(k, PRC_IN(X)),
      other = prC_dim(k, PRC_OUT(0)) - prC_dim(k, PRC_IN(Y));
  for (int d = 0; d < prC_dim(k, PRC_IN(X)); d++) {
    int own = d + shift - other;
    bool known = own >= 0 && prC_size(k, PRC_IN(Y), own) > 1 && !isnan(prC_dead(k, PRC_IN(Y), own));
    known |= !isnan(prC_at(k, PRC_IN(Y))->number);
    if (prC_dead(k, PRC_IN(X), d) == 0 && !known) prC_pin(k, PRC_IN(X), d, "0 to an unknown power");
  }
}

static void couple(pr_coupling *k) {
  static const int operands[] = { PRC_IN(X), PRC_IN(Y) };
  const pr_op *op = k->call->op;
  prC_elementwise kind = PRC_FUNCTION;
  if (op == &pr_op_mul) kind = PRC_MULTIPLY;
  if (op == &pr_op_div) kind = PRC_DIVIDE;
  if (op == &pr_op_fmod || op == &pr_op_remainder) kind = PRC_REMAINDER;
  if (op == &pr_op_pow2) pin_bases(k);
  prC_rule_elementwise(k, 2, operands, PRC_OUT(0), kind, dead_value, prO_binary_row(op));
}

/* --- shape rules -------------------------------------------------------------------------------------- */

/* bool < integers < floats: a number of a higher class raises the class of the result. */
static int dtype_class(pr_dtype dtype) { return dtype == PR_BOOL ? 0 : pr_dtype_is_float(dtype) ? 2 : 1; }

static pr_status common_dtype(const pr_call *c, int i, int j, pr_dtype *dtype) {
  const pr_tensor *a = c->in[i], *b = c->in[j];
  *dtype = a->dtype;
  if (a->dtype == b->dtype) return PR_OK;
  if (a->dim && b->dim) return prO_need_same_dtype(c, i, j);
  const pr_tensor *number = a->dim ? b : a, *tensor = a->dim ? a : b;
  int rise = dtype_class(number->dtype) - dtype_class(tensor->dtype);
  bool wider = !tensor->dim && rise == 0 && pr_dtype_size(number->dtype) > pr_dtype_size(tensor->dtype);
  *dtype = rise > 0 || wider ? number->dtype : tensor->dtype;
  if (rise > 0 && number->dtype == PR_F64 && tensor->dim) *dtype = PR_F32;
  return PR_OK;
}

/* The memory order of the operand that has the result's shape. */
static pr_status broadcast_output(pr_call *c, int i, int j, pr_dtype dtype) {
  int64_t shape[PR_MAX_DIM];
  int dim;
  PR_TRY(prO_broadcast(c, i, j, &dim, shape));
  const pr_tensor *like = c->in[i];
  if (like->dim != dim || memcmp(like->shape, shape, (size_t)dim * sizeof *shape) != 0) like = c->in[j];
  return prO_output_ordered(c, 0, dtype, dim, shape, like);
}

static pr_status infer(pr_call *c) {
  pr_dtype dtype;
  PR_TRY(common_dtype(c, X, Y, &dtype));
  if (dtype == PR_BOOL) return prO_fail(c, PR_ERR_DTYPE, "bool has no arithmetic; cast it first");
  return broadcast_output(c, X, Y, dtype);
}

/* Quotients of integers are f32. */
static pr_status infer_float(pr_call *c) {
  pr_dtype dtype;
  PR_TRY(common_dtype(c, X, Y, &dtype));
  return broadcast_output(c, X, Y, pr_dtype_is_float(dtype) ? dtype : PR_F32);
}

static pr_status infer_comparison(pr_call *c) {
  pr_dtype dtype;
  PR_TRY(common_dtype(c, X, Y, &dtype));
  return broadcast_output(c, X, Y, PR_BOOL);
}

static pr_status infer_logic(pr_call *c) { return broadcast_output(c, X, Y, PR_BOOL); }

/* --- backward rules ----------------------------------------------------------------------------------- */

/* Hand `g`, of the output's shape, to input i: summed over the axes that were broadcast, in the input's
 * dtype. Takes over g. */
static pr_status give(pr_call *c, int i, pr_tensor *g) {
  pr_tensor *summed = prO_sum_to(c, i, g);
  if (!summed || summed->dtype == c->in[i]->dtype) return prO_gradient(c, i, summed);
  pr_tensor *converted = pr_to_dtype(summed, c->in[i]->dtype);
  pr_release(summed);
  return prO_gradient(c, i, converted);
}

/* f of an operand and the gradient, where the operand may be a number of another dtype. */
static pr_tensor *times(pr_tensor *g, pr_tensor *factor) { return prO_call(&pr_op_mul, NULL, 2, g, factor); }

static pr_status add_backward(pr_call *c) {
  if (c->wanted[X]) PR_TRY(give(c, X, pr_retain(c->grad_out[0])));
  if (c->wanted[Y]) PR_TRY(give(c, Y, pr_retain(c->grad_out[0])));
  return PR_OK;
}

static pr_status sub_backward(pr_call *c) {
  if (c->wanted[X]) PR_TRY(give(c, X, pr_retain(c->grad_out[0])));
  if (c->wanted[Y]) PR_TRY(give(c, Y, prO_call(&pr_op_neg, NULL, 1, c->grad_out[0])));
  return PR_OK;
}

static pr_status mul_backward(pr_call *c) {
  if (c->wanted[X]) PR_TRY(give(c, X, times(c->grad_out[0], c->in[Y])));
  if (c->wanted[Y]) PR_TRY(give(c, Y, times(c->grad_out[0], c->in[X])));
  return PR_OK;
}

/* d(x/y) = dx / y - (x/y) dy / y */
static pr_status div_backward(pr_call *c) {
  pr_tensor *over = prO_call(&pr_op_div, NULL, 2, c->grad_out[0], c->in[Y]);
  if (!over) return pr_error_last()->code;
  pr_status status = PR_OK;
  if (c->wanted[Y]) status = give(c, Y, prO_take1(&pr_op_neg, times(over, c->out[0])));
  if (c->wanted[X] && !status) status = give(c, X, pr_retain(over));
  pr_release(over);
  return status;
}

/* 1 where in[i] is the chosen one, 1/2 where both are equal, 0 elsewhere: ((a > b) + (a >= b)) / 2, or with <
 * for the minimum. */
static pr_tensor *chosen(const pr_call *c, int i, const pr_op *strict) {
  pr_dtype dtype = c->grad_out[0]->dtype;
  pr_tensor *a = c->in[i], *b = c->in[1 - i], *sum[2] = { NULL, NULL };
  const pr_op *test[2] = { strict, strict == &pr_op_gt ? &pr_op_ge : &pr_op_le };
  for (int k = 0; k < 2; k++) {
    pr_tensor *flag = prO_call(test[k], NULL, 2, a, b);
    sum[k] = flag ? prO_call(&pr_op_cast, PRO_ARGS(PRO_INT(dtype)), 1, flag) : NULL;
    pr_release(flag);
  }
  return prO_take_scalar(&pr_op_mul, prO_take2(&pr_op_add, sum[0], sum[1]), 0.5);
}

static pr_status extreme_backward(pr_call *c) {
  const pr_op *strict = c->op == &pr_op_maximum ? &pr_op_gt : &pr_op_lt;
  for (int i = X; i <= Y; i++) {
    if (!c->wanted[i]) continue;
    PR_TRY(give(c, i, prO_take2(&pr_op_mul, chosen(c, i, strict), pr_retain(c->grad_out[0]))));
  }
  return PR_OK;
}

/* dx: y x^(y-1); dy: x^y log x, which is 0 where x = 0 and y >= 0. */
static pr_status pow2_backward(pr_call *c) {
  pr_tensor *x = c->in[X], *y = c->in[Y];
  if (c->wanted[X]) {
    pr_tensor *lower = prO_call_scalar(&pr_op_sub, y, 1);
    pr_tensor *slope =
        lower ? prO_take2(&pr_op_mul, prO_take2(&pr_op_pow2, pr_retain(x), lower), pr_retain(y)) : NULL;
    PR_TRY(give(c, X, prO_take2(&pr_op_mul, slope, pr_retain(c->grad_out[0]))));
  }
  if (!c->wanted[Y]) return PR_OK;
  pr_tensor *zero = prO_call_scalar(&pr_op_eq, x, 0);
  pr_tensor *safe = zero ? prO_call(&pr_op_masked_fill, PRO_ARGS(PRO_REAL(1)), 2, x, zero) : NULL;
  pr_release(zero);
  pr_tensor *slope = prO_take2(&pr_op_mul, prO_take1(&pr_op_log, safe), pr_retain(c->out[0]));
  return give(c, Y, prO_take2(&pr_op_mul, slope, pr_retain(c->grad_out[0])));
}

/* x - q y with a constant whole q = (x - z) / y */
static pr_status modulo_backward(pr_call *c) {
  if (c->wanted[X]) PR_TRY(give(c, X, pr_retain(c->grad_out[0])));
  if (!c->wanted[Y]) return PR_OK;
  pr_tensor *rest = prO_call(&pr_op_sub, NULL, 2, c->out[0], c->in[X]);
  pr_tensor *quotient = prO_take2(&pr_op_div, rest, pr_retain(c->in[Y]));
  return give(c, Y, prO_take2(&pr_op_mul, quotient, pr_retain(c->grad_out[0])));
}

/* atan2(x, y), the angle of the point (y, x): (y dx - x dy) / (x^2 + y^2) */
static pr_status atan2_backward(pr_call *c) {
  pr_tensor *xx = prO_call(&pr_op_square, NULL, 1, c->in[X]),
            *yy = prO_call(&pr_op_square, NULL, 1, c->in[Y]);
  pr_tensor *scaled = prO_take2(&pr_op_div, pr_retain(c->grad_out[0]), prO_take2(&pr_op_add, xx, yy));
  if (!scaled) return pr_error_last()->code;
  pr_status status = PR_OK;
  if (c->wanted[X]) status = give(c, X, times(scaled, c->in[Y]));
  if (c->wanted[Y] && !status) status = give(c, Y, prO_take1(&pr_op_neg, times(scaled, c->in[X])));
  pr_release(scaled);
  return status;
}

/* --- operators ---------------------------------------------------------------------------------------- */

#define PAIR(word, shape_rule, onnx_name)                                                                    \
  .name = word, .inputs = "x y", .outputs = "z", .infer = shape_rule, .couple = couple, .onnx = onnx_name
#define BROADCASTS "x:2x3x4 y:2x3x4\nx:2x3x4 y:4\nx:1x3 y:2x1\nx:2x3x1 y:scalar"
#define COMPARES   "x:2x3 y:2x3\nx:2x3%3 y:3%3\nx:4 y:scalar"

PR_OP(add) = { PAIR("add", infer, "Add"), .backward = add_backward, .examples = BROADCASTS,
               .help = "x + y; shapes broadcast" };
PR_OP(sub) = { PAIR("sub", infer, "Sub"), .backward = sub_backward, .examples = BROADCASTS,
               .help = "x - y; shapes broadcast" };
PR_OP(mul) = { PAIR("mul", infer, "Mul"), .backward = mul_backward, .saves = "x y", .examples = BROADCASTS,
               .help = "x * y, element by element; shapes broadcast (matmul is the matrix product)" };
PR_OP(div) = { PAIR("div", infer_float, "Div"), .backward = div_backward, .saves = "y z",
               .examples = "x:2x3x4 y:2x3x4>0.2\nx:2x3x4 y:4>0.2\nx:1x3 y:2x1>0.2\nx:scalar y:3>0.2",
               .help = "x / y; shapes broadcast; quotients of integers are f32" };
PR_OP(maximum) = { PAIR("maximum", infer, "Max"), .backward = extreme_backward, .saves = "x y",
                   .examples = BROADCASTS,
                   .help = "the larger of x and y; shapes broadcast; equal ones share the gradient" };
PR_OP(minimum) = { PAIR("minimum", infer, "Min"), .backward = extreme_backward, .saves = "x y",
                   .examples = BROADCASTS,
                   .help = "the smaller of x and y; shapes broadcast; equal ones share the gradient" };
PR_OP(pow2) = { PAIR("pow2", infer, "Pow"), .backward = pow2_backward, .saves = "x y z",
                .examples = "x:2x3>0.1 y:2x3\nx:2x3>0.1 y:3\nx:3>0.1 y:scalar",
                .help = "x to the power of y, a tensor; shapes broadcast (pow takes a number)" };
PR_OP(fmod) = { PAIR("fmod", infer, NULL), .backward = modulo_backward, .saves = "x y z",
                .examples = "x:2x3 y:2x3>0.5\nx:2x3 y:3>0.5",
                .help = "rest of x / y with the sign of x; shapes broadcast" };
PR_OP(remainder) = { PAIR("remainder", infer, NULL), .backward = modulo_backward, .saves = "x y z",
                     .examples = "x:2x3 y:2x3>0.5\nx:2x3 y:3>0.5",
                     .help = "rest of x / y with the sign of y, as % in Lua; shapes broadcast" };
PR_OP(atan2) = { PAIR("atan2", infer_float, NULL), .backward = atan2_backward, .saves = "x y",
                 .examples = "x:2x3 y:2x3>0.2\nx:2x3 y:3>0.2",
                 .help = "the angle of the point (y, x), -pi to pi; shapes broadcast" };

#define COMPARISON(word, shape_rule, onnx_name)                                                              \
  PAIR(word, shape_rule, onnx_name), .flags = PR_OP_NO_GRADIENT, .examples = COMPARES
PR_OP(eq) = { COMPARISON("eq", infer_comparison, "Equal"), .help = "x == y as bool; shapes broadcast" };
PR_OP(ne) = { COMPARISON("ne", infer_comparison, NULL), .help = "x ~= y as bool; shapes broadcast" };
PR_OP(lt) = { COMPARISON("lt", infer_comparison, "Less"), .help = "x < y as bool; shapes broadcast" };
PR_OP(le) = { COMPARISON("le", infer_comparison, "LessOrEqual"), .help = "x <= y as bool; shapes broadcast" };
PR_OP(gt) = { COMPARISON("gt", infer_comparison, "Greater"), .help = "x > y as bool; shapes broadcast" };
PR_OP(ge) = { COMPARISON("ge", infer_comparison, "GreaterOrEqual"),
              .help = "x >= y as bool; shapes broadcast" };
PR_OP(logical_and) = { COMPARISON("logical_and", infer_logic, "And"),
                       .help = "x and y (not 0) as bool; shapes broadcast" };
PR_OP(logical_or) = { COMPARISON("logical_or", infer_logic, "Or"),
                      .help = "x or y (not 0) as bool; shapes broadcast" };
PR_OP(logical_xor) = { COMPARISON("logical_xor", infer_logic, "Xor"),
                       .help = "x ~= y of truth values as bool; shapes broadcast" };
