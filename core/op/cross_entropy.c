/* cross_entropy.c - losses of class labels: cross_entropy of scores, nll_loss of log-probabilities. */
#include "op/op.h"

enum { X, LABELS, WEIGHT };
enum { Y };
enum { REDUCTION };
enum { MEAN, SUM, NONE };
enum { SMOOTHING = 1 };

/* x [N, C, rest...] or [C]; labels [N, rest...] or a scalar. */
static pr_status check_labels(const pr_call *c) {
  const pr_tensor *x = c->in[X], *labels = c->in[LABELS];
  int batch = x->dim > 1;
  bool fits = labels->dim == x->dim - 1;
  for (int d = 0; fits && d < labels->dim; d++) fits = labels->shape[d] == x->shape[d < batch ? d : d + 1];
  if (!fits)
    return prO_fail(c, PR_ERR_SHAPE, "labels must have x's shape without its axis of classes (axis %lld)",
                    PR_INDEX(batch));
  PR_TRY(prO_need_indices(c, LABELS, x->shape[batch], "label"));
  if (!c->in[WEIGHT]) return PR_OK;
  PR_TRY(prO_need_dim(c, WEIGHT, 1, 1));
  PR_TRY(prO_need_same_dtype(c, WEIGHT, X));
  return prO_need_size(c, WEIGHT, 0, x->shape[batch], "one per class");
}

static pr_status infer(pr_call *c) {
  PR_TRY(prO_need_dim(c, X, 1, PR_MAX_DIM));
  PR_TRY(prO_need_float(c, X));
  PR_TRY(check_labels(c));
  if (c->args[REDUCTION].integer == NONE)
    return prO_output(c, Y, c->in[X]->dtype, c->in[LABELS]->dim, c->in[LABELS]->shape);
  return prO_output(c, Y, c->in[X]->dtype, 0, NULL);
}

static pr_status cross_entropy_infer(pr_call *c) {
  double smoothing = c->args[SMOOTHING].real;
  if (!(smoothing >= 0 && smoothing <= 1))
    return prO_fail(c, PR_ERR_ARGUMENT, "label_smoothing must be in [0, 1], not %g", smoothing);
  return infer(c);
}

#define REDUCTION_ARG                                                                                        \
  { "reduction", PR_ARG_CHOICE, .choices = "mean sum none", .help = "what becomes of the samples' losses" }

PR_OP(cross_entropy) = {
  .name = "cross_entropy",
  .inputs = "x labels# weight?",
  .outputs = "y",
  .saves = "x labels weight",
  .args = { REDUCTION_ARG,
            { "label_smoothing", PR_ARG_REAL,
              .help = "share of the target spread evenly over the classes" } },
  .infer = cross_entropy_infer,
  .onnx = "SoftmaxCrossEntropyLoss",
  .examples = "x:4x3 labels:4%3\n"
              "x:4x3 labels:4%3 weight:3>0.1 label_smoothing=0.1\n"
              "x:2x3x2x2 labels:2x2x2%3 weight:3>0.1\n"
              "x:4x3 labels:4%3 label_smoothing=0.2 reduction=sum\n"
              "x:4x3 labels:4%3 reduction=none",
  .help = "Loss of class labels: scores x [N, C, ...], labels [N, ...], class weights [C] -> y scalar ([N, "
          "...] with reduction none)\n"
          "The loss of a sample is -weight[label] log softmax(x)[label]; \"mean\" divides by the sum of\n"
          "the weights of the samples' labels. With label_smoothing s it is (1 - s) of that plus s / C\n"
          "times the sum of -weight[c] log softmax(x)[c] (Szegedy et al., \"Rethinking the Inception\n"
          "architecture for computer vision\", CVPR 2016).",
};

PR_OP(nll_loss) = {
  .name = "nll_loss",
  .inputs = "x labels# weight?",
  .outputs = "y",
  .saves = "x labels weight",
  .args = { REDUCTION_ARG },
  .infer = infer,
  .onnx = "NegativeLogLikelihoodLoss",
  .examples = "x:4x3 labels:4%3\n"
              "x:2x3x2 labels:2x2%3 weight:3>0.1 reduction=sum\n"
              "x:4x3 labels:4%3 reduction=none",
  .help = "Loss of class labels: log-probabilities x [N, C, ...], labels [N, ...], class weights [C] -> y "
          "scalar ([N, ...] with none)\n"
          "The loss of a sample is -weight[label] x[label]; \"mean\" divides by the sum of the weights\n"
          "of the samples' labels.",
};
