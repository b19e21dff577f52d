/* criterion.c - putting parts together. */
#include "prune/criterion.h"

#include "autograd/parameter.h"
#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const pr_criterion *pr_criterion_find(const char *name) {
  const char *names[64];
  int n = 0;
  for (const pr_criterion *const *c = pr_criterion_list; *c && n < 64; c++) {
    if (strcmp((*c)->name, name) == 0) return *c;
    names[n++] = (*c)->name;
  }
  const char *nearest = pr_nearest(name, names, n);
  if (nearest)
    pr_fail(PR_ERR_ARGUMENT, "there is no criterion '%s'; did you mean '%s'?", name, nearest);
  else
    pr_fail(PR_ERR_ARGUMENT, "there is no criterion '%s'", name);
  return NULL;
}

/* The role shows in the name of the input that the first operator to read the parameter gives it. */
prP_role prP_part_role(const pr_pruning *pruning, const pr_part *part) {
  const pr_graph *graph = pruning->graph;
  const pr_graph_value *value = &graph->values[part->value];
  if (value->kind != PR_VALUE_PARAMETER || value->is_buffer) return PRP_BUFFER;
  for (int n = 0; n < graph->n_nodes; n++) {
    const pr_graph_node *node = &graph->nodes[n];
    for (int i = 0; i < node->n_in; i++) {
      char name[32];
      if (node->in[i] != part->value) continue;
      prO_input_name(node->op, i, name);
      if (strncmp(name, "bias", 4) == 0) return PRP_BIAS;
      return strstr(node->op->name, "_norm") ? PRP_SCALE : PRP_WEIGHT;
    }
  }
  return PRP_WEIGHT;
}

/* --- one part --------------------------------------------------------------------------------------------------------------- */

static double *to_rows(const pr_group *group, const pr_part *part, const pr_tensor *source,
                       int64_t *columns) {
  pr_tensor *rows = pr_part_rows(group, part, source);
  if (!rows) return NULL;
  *columns = rows->shape[1];
  double *values = PRB_ARRAY(double, pr_numel(rows));
  if (values && prT_to_doubles(rows, values)) PRB_ARRAY_FREE(values, pr_numel(rows));
  pr_release(rows);
  return values;
}

static pr_status score_part(const pr_group *group, const pr_part *part, const prP_scoring *how,
                            double *score) {
  pr_tensor *t = group->pruning->graph->values[part->value].tensor, *value = pr_parameter_value(t);
  int64_t columns = 0;
  if (!value) return pr_error_last()->code;
  if (how->gradients && !t->grad)
    return pr_fail(
        PR_ERR_STATE,
        "'%s' has no gradient; this criterion needs a backward pass first (option data, or loss:backward())",
        prG_value_name(group->pruning->graph, part->value));
  double *w = to_rows(group, part, value, &columns),
         *g = how->gradients && w ? to_rows(group, part, t->grad, &columns) : NULL;
  size_t count = (size_t)group->size * (size_t)columns;
  pr_status status = w && (g || !how->gradients) ? PR_OK : PR_ERR_MEMORY;
  for (int32_t u = 0; u < group->size && !status; u++)
    score[u] = how->row(w + u * columns, g ? g + u * columns : NULL, columns, how->p);
  PRB_ARRAY_FREE(w, count);
  PRB_ARRAY_FREE(g, count);
  return status;
}

/* --- all parts ---------------------------------------------------------------------------------------------------------------- */

enum { SUM, MEAN, MAX, PROD, FIRST, LAST };

static void reduce(int reduction, int parts_before, double *total, const double *score, int32_t n) {
  for (int32_t u = 0; u < n; u++) {
    if (parts_before == 0 || reduction == LAST)
      total[u] = score[u];
    else if (reduction == MAX)
      total[u] = fmax(total[u], score[u]);
    else if (reduction == PROD)
      total[u] *= score[u];
    else if (reduction != FIRST)
      total[u] += score[u];
  }
}

static bool counts(const prP_scoring *how, prP_role role) {
  return (role == PRP_WEIGHT && how->weights) || (role == PRP_SCALE && how->scales) ||
         (role == PRP_BIAS && how->biases);
}

/* --- normalisers ---------------------------------------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

typedef struct ranked {
  double score;
  int32_t unit;
} ranked;

static int compare_ranked(const void *a, const void *b) {
  const ranked *x = a, *y = b;
  if (x->score != y->score) return x->score > y->score ? 1 : -1;
  return (x->unit > y->unit) - (x->unit < y->unit);
}

static pr_status lamp(double *score, int32_t n) {
  ranked *order = PRB_ARRAY(ranked, n);
  if (!order) return PR_ERR_MEMORY;
  for (int32_t u = 0; u < n; u++) order[u] = (ranked){ score[u], u };
  qsort(order, (size_t)n, sizeof *order, compare_ranked);
  double rest = 0;
  for (int32_t i = n - 1; i >= 0; i--)
    rest += order[i].score, score[order[i].unit] = rest > 0 ? order[i].score / rest : 0;
  PRB_ARRAY_FREE(order, n);
  return PR_OK;
}

static pr_status median(const double *score, int32_t n, double *value) {
  double *sorted = PRB_ARRAY(double, n);
  if (!sorted) return PR_ERR_MEMORY;
  memcpy(sorted, score, (size_t)n * sizeof *sorted);
  qsort(sorted, (size_t)n, sizeof *sorted, compare);
  *value = sorted[(int32_t)(0.5 * n) < n ? (int32_t)(0.5 * n) : n - 1];
  PRB_ARRAY_FREE(sorted, n);
  return PR_OK;
}

enum { NONE, BY_SUM, BY_MEAN, BY_MAX, MINMAX, GAUSSIAN, QUANTILE, LAMP };

static pr_status normalize(int normalizer, double *score, int32_t n) {
  double sum = 0, least = HUGE_VAL, most = -HUGE_VAL, square = 0, shift = 0, scale = 1;
  if (n == 0 || normalizer == NONE) return PR_OK;
  if (normalizer == LAMP) return lamp(score, n);
  for (int32_t u = 0; u < n; u++) sum += score[u], least = fmin(least, score[u]), most = fmax(most, score[u]);
  double mean = sum / n;
  for (int32_t u = 0; u < n; u++) square += (score[u] - mean) * (score[u] - mean);
  switch (normalizer) {
  case BY_SUM: scale = sum; break;
  case BY_MEAN: scale = mean; break;
  case BY_MAX: scale = most; break;
  case MINMAX: shift = least, scale = most - least + 1e-8; break;
  case GAUSSIAN: shift = mean, scale = (n > 1 ? sqrt(square / (n - 1)) : 0) + 1e-8; break;
  case QUANTILE: PR_TRY(median(score, n, &scale)); break;
  default: break;
  }
  for (int32_t u = 0; u < n; u++) score[u] = scale != 0 ? (score[u] - shift) / scale : 0;
  return PR_OK;
}

pr_status prP_score(const pr_group *group, const prP_scoring *how, double *score) {
  pr_part *parts;
  int n, counted = 0;
  PR_TRY(pr_group_parts(group, &parts, &n));
  double *one = PRB_ARRAY(double, group->size);
  pr_status status = one ? PR_OK : PR_ERR_MEMORY;
  for (int i = 0; i < n && !status; i++) {
    if (!counts(how, prP_part_role(group->pruning, &parts[i]))) continue;
    if (!(status = score_part(group, &parts[i], how, one)))
      reduce(how->reduction, counted++, score, one, group->size);
  }
  if (!status && counted == 0) {
    pr_parts_free(parts, n, group->size);
    PRB_ARRAY_FREE(one, group->size);
    return pr_fail(PR_ERR_UNSUPPORTED, "the criterion finds no parameter to score in this group");
  }
  for (int32_t u = 0; u < group->size && !status && how->reduction == MEAN; u++) score[u] /= counted;
  pr_parts_free(parts, n, group->size);
  PRB_ARRAY_FREE(one, group->size);
  return status ? status : normalize(how->normalizer, score, group->size);
}
