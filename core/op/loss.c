/* loss.c - losses that compare two tensors of one shape element by element. */
#include "op/op.h"

enum { X, TARGET };
enum { Y };
enum { REDUCTION };
enum { MEAN, SUM, NONE };

static pr_status infer(pr_call *c) {
  PR_TRY(prO_need_float(c, X));
  PR_TRY(prO_need_same_dtype(c, TARGET, X));
  if (!pr_same_shape(c->in[X], c->in[TARGET]))
    return prO_fail(c, PR_ERR_SHAPE, "x and target must have one shape; reshape or expand one of them");
  if (c->args[REDUCTION].integer == NONE) return prO_output_like(c, Y, c->in[X]);
  return prO_output(c, Y, c->in[X]->dtype, 0, NULL);
}

#define REDUCTION_ARG                                                                                        \
  { "reduction", PR_ARG_CHOICE, .choices = "mean sum none", .help = "what becomes of the elements' losses" }
#define EXAMPLES "x:3x4 target:3x4\nx:2x3 target:2x3 reduction=sum\nx:2x3 target:2x3 reduction=none"

PR_OP(mse_loss) = {
  .name = "mse_loss",
  .inputs = "x target",
  .outputs = "y",
  .saves = "x target",
  .args = { REDUCTION_ARG },
  .infer = infer,
  .examples = EXAMPLES,
  .help = "Squared error: the mean of (x - target)^2; x and target of one shape -> y scalar (their shape "
          "with reduction none)",
};

PR_OP(l1_loss) = {
  .name = "l1_loss",
  .inputs = "x target",
  .outputs = "y",
  .saves = "x target",
  .args = { REDUCTION_ARG },
  .infer = infer,
  .examples = EXAMPLES,
  .help = "Absolute error: the mean of |x - target|; x and target of one shape -> y scalar (their shape with "
          "reduction none)",
};

enum { BETA = 1 };

static pr_status smooth_infer(pr_call *c) {
  if (!(c->args[BETA].real > 0)) return prO_fail(c, PR_ERR_ARGUMENT, "beta must be positive");
  return infer(c);
}

PR_OP(smooth_l1_loss) = {
  .name = "smooth_l1_loss",
  .inputs = "x target",
  .outputs = "y",
  .saves = "x target",
  .args = { REDUCTION_ARG, { "beta", PR_ARG_REAL, .real = 1, .help = "where the square turns into a line" } },
  .infer = smooth_infer,
  .examples = EXAMPLES "\nx:2x3 target:2x3 beta=0.3",
  .help = "Smooth absolute error: the mean of d^2 / (2 beta) where |d| = |x - target| < beta, else |d| - "
          "beta / 2 -> y scalar\n"
          "Girshick, \"Fast R-CNN\", ICCV 2015.",
};

PR_OP(binary_cross_entropy_with_logits) = {
  .name = "binary_cross_entropy_with_logits",
  .inputs = "x target",
  .outputs = "y",
  .saves = "x target",
  .args = { REDUCTION_ARG },
  .infer = infer,
  .examples = EXAMPLES,
  .help = "Loss of yes-no scores: the mean of -t log s(x) - (1 - t) log (1 - s(x)), s the sigmoid, targets t "
          "in [0, 1] -> y scalar",
};

/* --- Kullback-Leibler divergence ------------------------------------------------------------------------- */

PR_OP(kl_div) = {
  .name = "kl_div",
  .inputs = "x target",
  .outputs = "y",
  .saves = "x target",
  .args = { { "reduction", PR_ARG_CHOICE, .choices = "mean sum none batchmean",
              .help = "batchmean: the sum divided by x's first axis, the divergence proper" } },
  .infer = infer,
  .examples =
      "x:3x4 target:3x4>0.1\nx:3x4 target:3x4>0.1 reduction=batchmean\nx:3x4 target:3x4>0.1 reduction=none",
  .help =
      "Kullback-Leibler divergence: the mean of t (log t - x); log-probabilities x, probabilities t, one "
      "shape -> y scalar\n"
      "0 log 0 counts as 0. Kullback and Leibler, \"On information and sufficiency\", 1951. For knowledge "
      "distillation (Hinton et\n"
      "al. 2015): kl_div(log_softmax(student / T), softmax(teacher / T), reduction = \"batchmean\") * T^2.",
};
