/* criterion.c - from terms of weights to scores of units: parts, reductions, normalisers. */
#include "prune/criterion.h"

#include "autograd/parameter.h"
#include "base/memory.h"
#include "base/thread.h"
#include "prune/position_sums.h"

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
static prP_role find_role(const pr_graph *graph, int v) {
  const pr_graph_value *value = &graph->values[v];
  if (value->kind != PR_VALUE_PARAMETER || value->is_buffer) return PRP_BUFFER;
  for (int n = 0; n < graph->n_nodes; n++) {
    const pr_graph_node *node = &graph->nodes[n];
    for (int i = 0; i < node->n_in; i++) {
      char name[32];
      if (node->in[i] != v) continue;
      prO_input_name(node->op, i, name);
      if (strncmp(name, "bias", 4) == 0) return PRP_BIAS;
      return strstr(node->op->name, "_norm") ? PRP_SCALE : PRP_WEIGHT;
    }
  }
  return PRP_WEIGHT;
}

prP_role prP_role_of(const pr_pruning *pruning, int value) {
  unsigned char *known = &pruning->role[value];
  if (*known == PRP_UNKNOWN) *known = (unsigned char)find_role(pruning->graph, value);
  return (prP_role)*known;
}

/* --- one part --------------------------------------------------------------------------------------------------------------- */

/* The tensor that goes with a parameter: gathered, or what the parameter itself has. */
static pr_tensor *companion(const pr_group *group, const pr_part *part, const prP_scoring *how) {
  const pr_graph *graph = group->pruning->graph;
  pr_tensor *t = graph->values[part->value].tensor, *found = NULL;
  const char *name = prG_value_name(graph, part->value);
  if (how->statistics) {
    found = how->statistics->tensor[part->value];
    if (!found) pr_fail(PR_ERR_STATE, "the %s of '%s' were not gathered", pr_need_names[how->needs], name);
  } else if (how->needs == PR_NEED_GRADIENTS) {
    found = t->grad;
    if (!found)
      pr_fail(PR_ERR_STATE,
              "'%s' has no gradient; this criterion needs a backward pass first (option data, or "
              "loss:backward())",
              name);
  } else if (how->needs == PR_NEED_MOVEMENT) {
    found = pr_parameter_slot(t, "movement", false);
    if (!found)
      pr_fail(PR_ERR_STATE,
              "'%s' has no movement; let the criterion watch the training (criterion:apply(net) between "
              "backward and step), or give option data",
              name);
  } else {
    pr_fail(PR_ERR_STATE, "this criterion needs data: give option data (and batches, loss)");
  }
  return found;
}

static pr_status score_rows(const pr_group *group, const pr_part *part, const prP_scoring *how,
                            const pr_tensor *value, double *score) {
  pr_tensor *rows = pr_part_rows(group, part, value), *wide = rows ? pr_to_dtype(rows, PR_F64) : NULL;
  pr_status status = wide ? how->rows(wide, score) : PR_ERR_MEMORY;
  pr_release(rows), pr_release(wide);
  return status;
}

static pr_status score_part(const pr_group *group, const pr_part *part, const prP_scoring *how,
                            double *score) {
  pr_tensor *value = pr_parameter_value(group->pruning->graph->values[part->value].tensor), *with = NULL;
  if (!value) return pr_error_last()->code;
  if (how->rows) return score_rows(group, part, how, value, score);
  if (how->needs != PR_NEED_NOTHING && !(with = companion(group, part, how))) return pr_error_last()->code;
  int64_t first = INT64_MAX, last = 0; /* of a concatenation the group may touch a small part */
  for (int64_t m = 0; m < part->count; m++) {
    if (part->position[m] < first) first = part->position[m];
    if (part->position[m] > last) last = part->position[m];
  }
  int64_t count = part->count > 0 ? last - first + 1 : 0;
  double *sum = PRB_ARRAY(double, count);
  pr_status status = !sum && count > 0 ? PR_ERR_MEMORY : PR_OK;
  if (!status && count > 0)
    status = prP_position_sums(value, with, part->axis, first, count, how->terms, how->p, sum);
  for (int32_t u = 0; u < group->size && !status; u++) {
    score[u] = 0;
    for (int64_t m = part->start[u]; m < part->start[u + 1]; m++) score[u] += sum[part->position[m] - first];
    if (how->absolute) score[u] = fabs(score[u]);
  }
  PRB_ARRAY_FREE(sum, count);
  return status;
}

/* --- all parts ---------------------------------------------------------------------------------------------------------------- */

enum { REDUCTION, NORMALIZER }; /* of PRP_OPTIONS */

static void reduce(int reduction, int parts_before, double *total, const double *score, int32_t n) {
  for (int32_t u = 0; u < n; u++) {
    if (parts_before == 0 || reduction == PRP_LAST)
      total[u] = score[u];
    else if (reduction == PRP_MAX)
      total[u] = fmax(total[u], score[u]);
    else if (reduction == PRP_PROD)
      total[u] *= score[u];
    else if (reduction != PRP_FIRST)
      total[u] += score[u];
  }
}

static bool counts(const prP_scoring *how, const pr_part *part, prP_role role) {
  if (role == PRP_WEIGHT && ((how->producers && !part->producer) || (how->consumers && !part->consumer)))
    return false;
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
  for (int32_t u = 0; u < n; u++)
    if (score[u] < 0)
      return pr_fail(PR_ERR_ARGUMENT,
                     "normalizer lamp needs scores of at least 0, that of unit %lld is %g; take another "
                     "normalizer",
                     PR_INDEX(u), score[u]);
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

static pr_status quantile(const double *score, int32_t n, double q, double *value) {
  if (!(q >= 0 && q <= 1)) return pr_fail(PR_ERR_ARGUMENT, "quantile must be in 0..1, got %g", q);
  double *sorted = PRB_ARRAY(double, n);
  if (!sorted) return PR_ERR_MEMORY;
  memcpy(sorted, score, (size_t)n * sizeof *sorted);
  qsort(sorted, (size_t)n, sizeof *sorted, compare);
  int32_t at = (int32_t)(q * n);
  *value = sorted[at < n ? at : n - 1];
  PRB_ARRAY_FREE(sorted, n);
  return PR_OK;
}

pr_status prP_normalize(const pr_arg *options, double *score, int32_t n) {
  int normalizer = (int)options[0].integer;
  double sum = 0, least = HUGE_VAL, most = -HUGE_VAL, square = 0, shift = 0, scale = 1;
  for (int32_t u = 0; u < n; u++)
    if (!isfinite(score[u]))
      return pr_fail(PR_ERR_STATE,
                     "the score of unit %lld is %s: its weights, or what data tell of them, are not finite",
                     PR_INDEX(u), isnan(score[u]) ? "NaN" : "infinite");
  if (n == 0 || normalizer == PRP_AS_IT_IS) return PR_OK;
  if (normalizer == PRP_LAMP) return lamp(score, n);
  for (int32_t u = 0; u < n; u++) sum += score[u], least = fmin(least, score[u]), most = fmax(most, score[u]);
  double mean = sum / n;
  for (int32_t u = 0; u < n; u++) square += (score[u] - mean) * (score[u] - mean);
  switch (normalizer) {
  case PRP_BY_SUM: scale = sum; break;
  case PRP_BY_MEAN: scale = mean; break;
  case PRP_BY_MAX: scale = most; break;
  case PRP_MINMAX: shift = least, scale = most - least + 1e-8; break;
  case PRP_GAUSSIAN: shift = mean, scale = (n > 1 ? sqrt(square / (n - 1)) : 0) + 1e-8; break;
  case PRP_QUANTILE: PR_TRY(quantile(score, n, options[1].real, &scale)); break;
  default: break;
  }
  /* The order must stay: signed scores may have a divisor below 0, and a divisor of 0 is none. */
  scale = scale != 0 ? fabs(scale) : 1;
  for (int32_t u = 0; u < n; u++) score[u] = (score[u] - shift) / scale;
  return PR_OK;
}

static pr_status score_parts(const pr_group *group, const prP_scoring *how, const pr_part *parts, int n,
                             double *one, double *score) {
  int counted = 0, reduction = (int)how->options[REDUCTION].integer;
  for (int i = 0; i < n; i++) {
    if (!counts(how, &parts[i], prP_role_of(group->pruning, parts[i].value))) continue;
    PR_TRY(prB_interrupted());
    PR_TRY(score_part(group, &parts[i], how, one));
    reduce(reduction, counted++, score, one, group->size);
  }
  if (counted == 0)
    return pr_fail(PR_ERR_UNSUPPORTED, "the criterion finds no parameter to score in this group; leave it "
                                       "out (option ignore) or use another criterion");
  for (int32_t u = 0; u < group->size && reduction == PRP_MEAN; u++) score[u] /= counted;
  return PR_OK;
}

pr_status prP_score(const pr_group *group, const prP_scoring *how, double *score) {
  pr_part *parts;
  int n;
  PR_TRY(pr_group_parts(group, &parts, &n));
  double *one = PRB_ARRAY(double, group->size);
  pr_status status = one ? score_parts(group, how, parts, n, one, score) : PR_ERR_MEMORY;
  pr_parts_free(parts, n, group->size);
  PRB_ARRAY_FREE(one, group->size);
  return status ? status : prP_normalize(how->options + NORMALIZER, score, group->size);
}
