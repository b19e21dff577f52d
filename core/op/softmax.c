/* softmax.c - softmax and its logarithm along one axis. */
#include "op/op.h"

#include "couple/rules.h"

enum { X };
enum { Y };
enum { DIM };

static pr_status infer(pr_call *c) {
  int axis;
  PR_TRY(prO_need_dim(c, X, 1, PR_MAX_DIM));
  PR_TRY(prO_need_float(c, X));
  PR_TRY(prO_dim(c, DIM, c->in[X]->dim, &axis));
  return prO_output_like(c, Y, c->in[X]);
}

static void couple(pr_coupling *k) {
  int axis = (int)k->call->args[DIM].integer;
  prC_rule_along(k, PRC_IN(X), PRC_OUT(Y), axis, PRC_DEAD_UNKNOWN);
}

PR_OP(softmax) = {
  .name = "softmax",
  .inputs = "x",
  .outputs = "y",
  .saves = "y",
  .args = { { "dim", PR_ARG_DIM, .integer = -1, .help = "the axis whose entries sum to 1" } },
  .infer = infer,
  .couple = couple,
  .onnx = "Softmax",
  .examples = "x:3x4\n"
              "x:2x3x4 dim=1",
  .help = "y = exp(x) / sum exp(x) along `dim`: x and y of any one shape",
};

PR_OP(log_softmax) = {
  .name = "log_softmax",
  .inputs = "x",
  .outputs = "y",
  .saves = "y",
  .args = { { "dim", PR_ARG_DIM, .integer = -1, .help = "the axis whose exponentials sum to 1" } },
  .infer = infer,
  .couple = couple,
  .onnx = "LogSoftmax",
  .examples = "x:3x4\n"
              "x:2x3x4 dim=1",
  .help = "y = x - log sum exp(x) along `dim`: x and y of any one shape",
};
