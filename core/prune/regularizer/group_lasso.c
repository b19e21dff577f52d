/* group_lasso.c - strength * sum over units of ||w_u||: gradient strength * w / ||w_u||, w_u all weights of a
 * unit on both sides of the coupling (Yuan and Lin 2006; for structures of networks Wen et al. 2016). With
 * size_factor each unit's term is multiplied by the root of its number of weights. A unit that is zero
 * already gets no gradient. */
#include "prune/regularizer.h"

#include "autograd/parameter.h"
#include "base/memory.h"

#include <math.h>

enum { STRENGTH, SIZE_FACTOR };

/* The entries of a part that belong to a unit, one after another: outer x positions x inner, in row-major
 * order of `t`. */
typedef struct walk {
  int64_t outer, inner, size; /* of the axes before and after, and of the axis itself */
} walk;

static walk walk_of(const pr_tensor *t, int axis) {
  walk w = { 1, 1, t->shape[axis] };
  for (int d = 0; d < axis; d++) w.outer *= t->shape[d];
  for (int d = axis + 1; d < t->dim; d++) w.inner *= t->shape[d];
  return w;
}

static bool is_trained(const pr_group *group, const pr_part *part) {
  const pr_graph_value *value = &group->pruning->graph->values[part->value];
  return value->kind == PR_VALUE_PARAMETER && !value->is_buffer && value->tensor->grad;
}

/* Row-major number i of a contiguous tensor. */
static double get(const pr_tensor *t, int64_t i) {
  return t->dtype == PR_F32 ? ((const float *)prT_data(t))[i] : prT_get(t, i);
}

static void add(pr_tensor *t, int64_t i, double amount) {
  if (t->dtype == PR_F32)
    ((float *)prT_data(t))[i] += (float)amount;
  else
    prT_set(t, i, prT_get(t, i) + amount);
}

static void sum_squares(const pr_group *group, const pr_part *part, const pr_tensor *w, double *square,
                        int64_t *count) {
  walk k = walk_of(w, part->axis);
  for (int32_t u = 0; u < group->size; u++)
    for (int64_t m = part->start[u]; m < part->start[u + 1]; m++)
      for (int64_t o = 0; o < k.outer; o++) {
        int64_t from = (o * k.size + part->position[m]) * k.inner;
        for (int64_t i = from; i < from + k.inner; i++) square[u] += get(w, i) * get(w, i);
        count[u] += k.inner;
      }
}

static void add_gradients(const pr_group *group, const pr_part *part, const pr_tensor *w, pr_tensor *grad,
                          const double *factor) {
  walk k = walk_of(w, part->axis);
  for (int32_t u = 0; u < group->size; u++)
    for (int64_t m = part->start[u]; m < part->start[u + 1]; m++)
      for (int64_t o = 0; o < k.outer; o++) {
        int64_t from = (o * k.size + part->position[m]) * k.inner;
        for (int64_t i = from; i < from + k.inner; i++)
          add(grad, i, factor[u] * get(w, i)); /* masked entries are 0 in w */
      }
}

/* Values are read as the model reads them. Parameters lie row-major in memory, and so do their gradients. */
static pr_status read_part(const pr_group *group, const pr_part *part, pr_tensor **w) {
  pr_tensor *t = group->pruning->graph->values[part->value].tensor, *read = pr_parameter_value(t);
  if (!read) return pr_error_last()->code;
  if (!pr_is_contiguous(t->grad))
    return pr_fail(PR_ERR_UNSUPPORTED, "group_lasso: '%s' does not lie row-major in memory",
                   prG_value_name(group->pruning->graph, part->value));
  *w = pr_contiguous(read);
  return *w ? PR_OK : pr_error_last()->code;
}

static pr_status apply_parts(const pr_group *group, const pr_part *parts, int n, const pr_arg *args,
                             double *square, int64_t *count, double *penalty) {
  for (int i = 0; i < n; i++) {
    pr_tensor *w;
    if (!is_trained(group, &parts[i])) continue;
    PR_TRY(read_part(group, &parts[i], &w));
    sum_squares(group, &parts[i], w, square, count);
    pr_release(w);
  }
  for (int32_t u = 0; u < group->size; u++) { /* square becomes the factor of w in the gradient */
    double norm = sqrt(square[u]),
           strength = args[STRENGTH].real * (args[SIZE_FACTOR].integer ? sqrt((double)count[u]) : 1);
    *penalty += strength * norm;
    square[u] = norm > 0 ? strength / norm : 0;
  }
  for (int i = 0; i < n; i++) {
    pr_tensor *w;
    if (!is_trained(group, &parts[i])) continue;
    PR_TRY(read_part(group, &parts[i], &w));
    add_gradients(group, &parts[i], w, group->pruning->graph->values[parts[i].value].tensor->grad, square);
    pr_release(w);
  }
  return PR_OK;
}

static pr_status apply_group(const pr_group *group, const pr_arg *args, double *penalty) {
  pr_part *parts;
  int n;
  PR_TRY(pr_group_parts(group, &parts, &n));
  double *square = PRB_ARRAY(double, group->size);
  int64_t *count = PRB_ARRAY(int64_t, group->size);
  pr_status status =
      square && count ? apply_parts(group, parts, n, args, square, count, penalty) : PR_ERR_MEMORY;
  PRB_ARRAY_FREE(square, group->size);
  PRB_ARRAY_FREE(count, group->size);
  pr_parts_free(parts, n, group->size);
  return status;
}

static pr_status apply(const pr_regularized *model, const pr_arg *args, double *penalty) {
  const prC_units *units = &model->pruning->units;
  for (int s = 0; s < units->scopes; s++) {
    penalty[s] = 0;
    if (!units->primary[s]) continue;
    pr_group *group = pr_group_scope(model->pruning, s);
    if (!group) return PR_ERR_MEMORY;
    pr_status status = apply_group(group, args, &penalty[s]);
    pr_group_free(group);
    PR_TRY(status);
  }
  return PR_OK;
}

PR_REGULARIZER(group_lasso) = {
  .name = "group_lasso",
  .args = { { "strength", PR_ARG_REAL, .real = 1e-4, .help = "weight of the term" },
            { "size_factor", PR_ARG_BOOL,
              .help = "multiply a unit's term by the root of its number of weights" } },
  .needs_groups = true,
  .apply = apply,
  .help = "strength * sum over dependency units of the Euclidean norm of all their weights (Yuan and Lin "
          "2006; Wen et al. 2016).",
};
