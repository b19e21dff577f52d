/* fill.c - tensors from nothing but arguments and random numbers; dropout. They are made on the CPU,
 * row-major. */
#include <math.h>

#include "couple/rules.h"
#include "op/call.h"

#define DTYPES "f32 f64 bf16 i64 i32 u8 bool" /* in the order of pr_dtype */
#define SHAPE                                                                                                \
  { "shape", PR_ARG_INTS, .required = true, .symbolic = true }
#define DTYPE                                                                                                \
  { "dtype", PR_ARG_CHOICE, .choices = DTYPES }

static pr_status infer_shape(pr_call *c, const pr_arg *shape, int64_t dtype) {
  if (shape->count > PR_MAX_DIM)
    return prO_fail(c, PR_ERR_SHAPE, "a tensor has at most %d axes, not %d", PR_MAX_DIM, shape->count);
  return prO_output(c, 0, (pr_dtype)dtype, shape->count, shape->list);
}

/* --- constants
 * ----------------------------------------------------------------------------------------------------------
 */

static pr_status full_infer(pr_call *c) { return infer_shape(c, &c->args[0], c->args[2].integer); }

/* Its positions are free: they follow what the tensor meets. */
static void full_couple(pr_coupling *k) {
  for (int d = 0; d < prC_dim(k, PRC_OUT(0)); d++) {
    int64_t n = prC_size(k, PRC_OUT(0), d);
    if (n > 1) prC_set(k, PRC_OUT(0), d, prC_fresh(k->algebra, n), k->call->args[1].real);
  }
  prC_at(k, PRC_OUT(0))->number = k->call->args[1].real;
}

static pr_status full_rewrite(pr_coupling *k, pr_arg *args) {
  for (int d = 0; d < args[0].count; d++) args[0].list[d] = prC_live_axis(k, PRC_OUT(0), d);
  return PR_OK;
}

PR_OP(full) = {
  .name = "full",
  .inputs = "",
  .outputs = "y",
  .args = { SHAPE, { "value", PR_ARG_REAL, .required = true }, DTYPE },
  .flags = PR_OP_FILL,
  .infer = full_infer,
  .couple = full_couple,
  .rewrite = full_rewrite,
  .onnx = "ConstantOfShape",
  .examples = "shape=2,3 value=0.5\nshape= value=1",
  .help = "a tensor of one value",
};

static pr_status filled(pr_call *c, double value) {
  PR_TRY(prO_outputs(c, 1));
  return prO_give(c, 0, prO_call(&pr_op_full, PRO_ARGS(c->args[0], PRO_REAL(value), c->args[1]), 0));
}

static pr_status zeros(pr_call *c) { return filled(c, 0); }
static pr_status ones(pr_call *c) { return filled(c, 1); }

PR_OP(zeros) = { .name = "zeros",
                 .inputs = "",
                 .outputs = "y",
                 .args = { SHAPE, DTYPE },
                 .compose = zeros,
                 .examples = "shape=2,3",
                 .help = "a tensor of zeros" };
PR_OP(ones) = { .name = "ones",
                .inputs = "",
                .outputs = "y",
                .args = { SHAPE, DTYPE },
                .compose = ones,
                .examples = "shape=2,3 dtype=i64",
                .help = "a tensor of ones" };

static pr_status eye_infer(pr_call *c) {
  int64_t shape[] = { c->args[0].integer, c->args[1].given ? c->args[1].integer : c->args[0].integer };
  return prO_output(c, 0, (pr_dtype)c->args[2].integer, 2, shape);
}

PR_OP(eye) = {
  .name = "eye",
  .inputs = "",
  .outputs = "y",
  .args = { { "rows", PR_ARG_INT, .required = true },
            { "columns", PR_ARG_INT, .help = "as many as rows unless given" },
            DTYPE },
  .infer = eye_infer,
  .examples = "rows=3\nrows=2 columns=4",
  .help = "ones on the diagonal, zeros elsewhere: y [rows, columns]",
};

/* The number of steps below stop; the last one may fall on it by rounding, hence the slack of a billionth of
 * a step. */
static pr_status arange_infer(pr_call *c) {
  double start = c->args[0].real, stop = c->args[1].real, step = c->args[2].real,
         n = ceil((stop - start) / step - 1e-9);
  if (step == 0 || !isfinite(n))
    return prO_fail(c, PR_ERR_ARGUMENT, "no way from %g to %g in steps of %g", start, stop, step);
  if (n < 0) return prO_fail(c, PR_ERR_ARGUMENT, "steps of %g lead away from %g to %g", step, start, stop);
  if (n > 9e15) return prO_fail(c, PR_ERR_ARGUMENT, "%g numbers are too many", n);
  return prO_output(c, 0, (pr_dtype)c->args[3].integer, 1, (int64_t[]){ (int64_t)n });
}

PR_OP(arange) = {
  .name = "arange",
  .inputs = "",
  .outputs = "y",
  .args = { { "start", PR_ARG_REAL, .required = true },
            { "stop", PR_ARG_REAL, .required = true, .help = "not reached itself" },
            { "step", PR_ARG_REAL, .real = 1 },
            DTYPE },
  .infer = arange_infer,
  .onnx = "Range",
  .examples = "start=0 stop=5\nstart=1 stop=0 step=-0.25",
  .help = "start, start + step, ... below stop: y [ceil((stop - start) / step)]",
};

static pr_status linspace_infer(pr_call *c) {
  if (c->args[2].integer < 0)
    return prO_fail(c, PR_ERR_ARGUMENT, "steps cannot be %lld", (long long)c->args[2].integer);
  return prO_output(c, 0, (pr_dtype)c->args[3].integer, 1, &c->args[2].integer);
}

PR_OP(linspace) = {
  .name = "linspace",
  .inputs = "",
  .outputs = "y",
  .args = { { "start", PR_ARG_REAL, .required = true },
            { "stop", PR_ARG_REAL, .required = true },
            { "steps", PR_ARG_INT, .required = true },
            DTYPE },
  .infer = linspace_infer,
  .examples = "start=0 stop=1 steps=5",
  .help = "evenly spaced numbers from start to stop, both included: y [steps]",
};

/* --- random numbers ----------------------------------------------------------------------------------- */

static pr_status random_infer(pr_call *c) {
  if (!pr_dtype_is_float((pr_dtype)c->args[1].integer))
    return prO_fail(c, PR_ERR_DTYPE, "dtype must be a float type");
  return infer_shape(c, &c->args[0], c->args[1].integer);
}

#define RANDOM(word)                                                                                         \
  .name = word, .inputs = "", .outputs = "y", .flags = PR_OP_RANDOM, .args = { SHAPE, DTYPE },               \
  .infer = random_infer, .examples = "shape=2,3"

PR_OP(rand) = { RANDOM("rand"), .help = "independent numbers, uniform in [0, 1)" };
PR_OP(randn) = { RANDOM("randn"), .help = "independent numbers from the standard normal distribution" };

static pr_status randint_infer(pr_call *c) {
  int64_t low = c->args[0].integer, high = c->args[1].integer, span;
  if (high <= low || __builtin_sub_overflow(high, low, &span))
    return prO_fail(c, PR_ERR_ARGUMENT, "there is no integer from %lld to below %lld", (long long)low,
                    (long long)high);
  return infer_shape(c, &c->args[2], c->args[3].integer);
}

PR_OP(randint) = {
  .name = "randint",
  .inputs = "",
  .outputs = "y",
  .args = { { "low", PR_ARG_INT, .required = true },
            { "high", PR_ARG_INT, .required = true, .help = "not reached itself" },
            SHAPE,
            { "dtype", PR_ARG_CHOICE, .integer = PR_I64, .choices = DTYPES } },
  .flags = PR_OP_RANDOM,
  .infer = randint_infer,
  .examples = "low=-2 high=5 shape=2,3",
  .help = "independent integers, uniform from low to high - 1 (i64)",
};

static pr_status randperm_infer(pr_call *c) {
  if (c->args[0].integer < 0)
    return prO_fail(c, PR_ERR_ARGUMENT, "n cannot be %lld", (long long)c->args[0].integer);
  return prO_output(c, 0, PR_I64, 1, &c->args[0].integer);
}

PR_OP(randperm) = {
  .name = "randperm",
  .inputs = "",
  .outputs = "order#",
  .args = { { "n", PR_ARG_INT, .required = true } },
  .flags = PR_OP_RANDOM,
  .infer = randperm_infer,
  .examples = "n=7",
  .help = "n indices in random order (i64)",
};

static pr_status bernoulli_infer(pr_call *c) {
  PR_TRY(prO_need_float(c, 0));
  return prO_output_like(c, 0, c->in[0]);
}

static void pass_zero(pr_coupling *k) { prC_pass(k, PRC_OUT(0), PRC_IN(0), PRC_DEAD_ZERO); }

PR_OP(bernoulli) = {
  .name = "bernoulli",
  .inputs = "p",
  .outputs = "y",
  .flags = PR_OP_RANDOM | PR_OP_NO_GRADIENT,
  .infer = bernoulli_infer,
  .couple = pass_zero,
  .examples = "p:3x4",
  .help = "1 with probability p, else 0, per element: y like p",
};

/* --- dropout
 * -------------------------------------------------------------------------------------------------------------
 */

enum { P, TRAINING, SAMPLES };

/* Without training x itself passes, and the factors are empty. */
static pr_status dropout_infer(pr_call *c) {
  const pr_tensor *x = c->in[0];
  double p = c->args[P].real;
  PR_TRY(prO_need_float(c, 0));
  if (!(p >= 0 && p <= 1)) return prO_fail(c, PR_ERR_ARGUMENT, "p must be 0 to 1, not %g", p);
  if (c->args[SAMPLES].integer) PR_TRY(prO_need_dim(c, 0, 1, PR_MAX_DIM));
  if (c->args[TRAINING].integer) {
    PR_TRY(prO_output_like(c, 0, x));
    return prO_output_like(c, 1, x);
  }
  PR_TRY(prO_view(c, 0, 0, x->dim, x->shape, x->stride, x->offset));
  return prO_view(c, 1, 0, 1, (int64_t[]){ 0 }, (int64_t[]){ 1 }, x->offset);
}

static pr_status dropout_backward(pr_call *c) {
  if (!c->args[TRAINING].integer) return prO_gradient(c, 0, pr_retain(c->grad_out[0]));
  return prO_gradient(c, 0, prO_call(&pr_op_mul, NULL, 2, c->grad_out[0], c->out[1]));
}

PR_OP(dropout) = {
  .name = "dropout",
  .inputs = "x",
  .outputs = "y .factor",
  .saves = "factor",
  .args = { { "p", PR_ARG_REAL, .real = 0.5, .help = "share of elements that become 0" },
            { "training", PR_ARG_MODE },
            { "samples", PR_ARG_BOOL,
              .help = "one draw per position of the first axis, for all behind it" } },
  .flags = PR_OP_RANDOM,
  .infer = dropout_infer,
  .couple = pass_zero,
  .backward = dropout_backward,
  .onnx = "Dropout",
  .examples = "x:4x5 p=0.3 training=true\nx:4x5 p=0.3\nx:2x3 p=1 training=true\n"
              "x:4x3x2 training=true samples=true",
  .help = "in training each element is 0 with probability p, else x / (1 - p); otherwise y = x (Srivastava "
          "et al. 2014). With samples, whole samples go together (stochastic depth: Huang et al. 2016)",
};
