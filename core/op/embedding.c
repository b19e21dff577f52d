/* embedding.c - rows picked by index, and the one-hot form of an index. */
#include "op/op.h"

#include "couple/rules.h"

enum { INDEX, WEIGHT };
enum { Y };

static pr_status infer(pr_call *c) {
  PR_TRY(prO_need_dim(c, INDEX, 0, PR_MAX_DIM - 1));
  PR_TRY(prO_need_dim(c, WEIGHT, 2, 2));
  PR_TRY(prO_need_float(c, WEIGHT));
  PR_TRY(prO_need_indices(c, INDEX, c->in[WEIGHT]->shape[0], "row"));
  const pr_tensor *index = c->in[INDEX];
  int64_t shape[PR_MAX_DIM];
  for (int d = 0; d < index->dim; d++) shape[d] = index->shape[d];
  shape[index->dim] = c->in[WEIGHT]->shape[1];
  return prO_output(c, Y, c->in[WEIGHT]->dtype, index->dim + 1, shape);
}

static void couple(pr_coupling *k) { prC_rule_embedding(k, PRC_IN(INDEX), PRC_IN(WEIGHT), PRC_OUT(Y)); }

PR_OP(embedding) = {
  .name = "embedding",
  .inputs = "index# weight",
  .outputs = "y",
  .saves = "index",
  .infer = infer,
  .couple = couple,
  .onnx = "Gather",
  .examples = "index:2x3%5 weight:5x4\n"
              "index:4%2 weight:2x3",
  .help = "Rows of a table: index [...], weight [V, D] -> y [..., D]",
};

/* --- one-hot --------------------------------------------------------------------------------------------- */

enum { CLASSES };

static pr_status one_hot_infer(pr_call *c) {
  int64_t shape[PR_MAX_DIM], classes = c->args[CLASSES].integer;
  PR_TRY(prO_need_dim(c, INDEX, 0, PR_MAX_DIM - 1));
  if (classes < 1)
    return prO_fail(c, PR_ERR_ARGUMENT, "num_classes must be at least 1, not %lld", (long long)classes);
  PR_TRY(prO_need_indices(c, INDEX, classes, "class"));
  const pr_tensor *index = c->in[INDEX];
  for (int d = 0; d < index->dim; d++) shape[d] = index->shape[d];
  shape[index->dim] = classes;
  return prO_output(c, Y, PR_F32, index->dim + 1, shape);
}

static void one_hot_couple(pr_coupling *k) {
  for (int a = 0; a < prC_dim(k, PRC_IN(INDEX)); a++)
    prC_pass_axis(k, PRC_OUT(Y), a, PRC_IN(INDEX), a, PRC_DEAD_UNKNOWN);
}

PR_OP(one_hot) = {
  .name = "one_hot",
  .inputs = "index#",
  .outputs = "y",
  .args = { { "num_classes", PR_ARG_INT, .required = true, .help = "size of the new last axis" } },
  .flags = PR_OP_NO_GRADIENT,
  .infer = one_hot_infer,
  .couple = one_hot_couple,
  .onnx = "OneHot",
  .examples = "index:2x3%4 num_classes=4",
  .help = "One-hot vectors: index [...] -> y [..., num_classes], f32, 1 at the index and 0 elsewhere",
};
