/* regularizer.c - finding regularisers by name, and what they have in common: reading weights by unit and
 * adding to gradients. */
#include "prune/regularizer.h"

#include "autograd/parameter.h"
#include "base/memory.h"

#include <math.h>
#include <string.h>

enum { STRENGTH };
enum { PARALLEL_FROM = 1 << 14, BLOCK = 32 };

const pr_regularizer *pr_regularizer_find(const char *name) {
  const char *names[64];
  int n = 0;
  for (const pr_regularizer *const *r = pr_regularizer_list; *r && n < 64; r++) {
    if (strcmp((*r)->name, name) == 0) return *r;
    names[n++] = (*r)->name;
  }
  const char *nearest = pr_nearest(name, names, n);
  pr_fail(PR_ERR_ARGUMENT, "there is no regularizer '%s'%s%s%s", name, nearest ? "; did you mean '" : "",
          nearest ? nearest : "", nearest ? "'?" : "");
  return NULL;
}

pr_status pr_regularizer_check(const pr_regularizer *regularizer, const pr_arg *args) {
  if (!(args[STRENGTH].real >= 0 && isfinite(args[STRENGTH].real)))
    return pr_fail(PR_ERR_ARGUMENT, "%s: strength must be a number of at least 0, got %g", regularizer->name,
                   args[STRENGTH].real);
  const char *complaint = regularizer->check ? regularizer->check(args) : NULL;
  return complaint ? pr_fail(PR_ERR_ARGUMENT, "%s: %s", regularizer->name, complaint) : PR_OK;
}

/* --- reading and writing -------------------------------------------------------------------------------------------- */

static bool is_trained(const pr_tensor *t) { return t->grad && t->requires_grad && pr_numel(t) > 0; }

/* Row-major numbers: f64 as they are, all others as f32. */
static pr_tensor *as_numbers(pr_tensor *t) {
  pr_tensor *converted = pr_to_dtype(t, t->dtype == PR_F64 ? PR_F64 : PR_F32);
  pr_tensor *flat = converted ? pr_contiguous(converted) : NULL;
  pr_release(converted);
  return flat;
}

/* A part as the model reads it: outer x size x inner, the axis in the middle. */
typedef struct view {
  const pr_part *part;
  pr_tensor *parameter; /* borrowed */
  pr_tensor *weight;    /* row-major numbers; NULL: the part takes no part */
  int64_t outer, size, inner;
} view;

static pr_status view_open(view *v, const pr_group *group, const pr_part *part) {
  const pr_graph_value *value = &group->pruning->graph->values[part->value];
  *v = (view){ .part = part, .parameter = value->tensor, .outer = 1, .inner = 1 };
  if (value->kind != PR_VALUE_PARAMETER || value->is_buffer || !is_trained(value->tensor)) return PR_OK;
  pr_tensor *read = pr_parameter_value(v->parameter);
  if (!read || !(v->weight = as_numbers(read))) return pr_error_last()->code;
  v->size = read->shape[part->axis];
  for (int d = 0; d < part->axis; d++) v->outer *= read->shape[d];
  for (int d = part->axis + 1; d < read->dim; d++) v->inner *= read->shape[d];
  return PR_OK;
}

/* sum[p]: squares of all entries at position p, which come in as 0. Every position is summed by one thread in
 * one order, so that the result does not depend on their number; blocks of positions lie side by side in
 * memory. */
#define SUM_SQUARES(type, name)                                                                              \
  static void name(const view *v, double *sum) {                                                             \
    const type *w = prT_data(v->weight);                                                                     \
    _Pragma("omp parallel for schedule(static) if (v->outer * v->size * v->inner >= PARALLEL_FROM)") for (   \
        int64_t block = 0; block < v->size;                                                                  \
        block += BLOCK) for (int64_t o = 0; o < v->outer; o++) for (int64_t p = block;                       \
                                                                    p < v->size && p < block + BLOCK; p++) { \
      const type *run = w + (o * v->size + p) * v->inner;                                                    \
      double total = 0;                                                                                      \
      for (int64_t i = 0; i < v->inner; i++) total += (double)run[i] * (double)run[i];                       \
      sum[p] += total;                                                                                       \
    }                                                                                                        \
  }
SUM_SQUARES(float, sum_squares_f32)
SUM_SQUARES(double, sum_squares_f64)

/* g += factor[p] * w. Masked entries are 0 in w. */
#define ADD_SCALED(type, name)                                                                               \
  static void name(const view *v, const double *factor, pr_tensor *grad) {                                   \
    const type *w = prT_data(v->weight);                                                                     \
    type *g = prT_data(grad);                                                                                \
    _Pragma("omp parallel for schedule(static) if (v->outer * v->size * v->inner >= PARALLEL_FROM)") for (   \
        int64_t k = 0; k < v->outer * v->size; k++) {                                                        \
      type f = (type)factor[k % v->size];                                                                    \
      if (f == 0) continue;                                                                                  \
      for (int64_t i = k * v->inner; i < (k + 1) * v->inner; i++) g[i] += f * w[i];                          \
    }                                                                                                        \
  }
ADD_SCALED(float, add_scaled_f32)
ADD_SCALED(double, add_scaled_f64)

/* The gradient as row-major numbers; give_back writes them into it where they are a copy. */
static pr_status give_back(pr_tensor *t, pr_tensor *numbers) {
  pr_status status = numbers == t->grad ? PR_OK : pr_copy(t->grad, numbers);
  pr_release(numbers);
  prT_touch(t->grad);
  return status;
}

/* --- units ------------------------------------------------------------------------------------------------------------ */

static pr_status gather(const view *v, int32_t units, double *square, int64_t *count) {
  double *sum = PRB_ARRAY(double, v->size);
  if (!sum) return PR_ERR_MEMORY;
  (v->weight->dtype == PR_F64 ? sum_squares_f64 : sum_squares_f32)(v, sum);
  for (int32_t u = 0; u < units; u++)
    for (int64_t m = v->part->start[u]; m < v->part->start[u + 1]; m++)
      square[u] += sum[v->part->position[m]], count[u] += v->outer * v->inner;
  PRB_ARRAY_FREE(sum, v->size);
  return PR_OK;
}

static pr_status spread(const view *v, int32_t units, const double *factor) {
  double *by_position = PRB_ARRAY(double, v->size);
  pr_tensor *grad = by_position ? as_numbers(v->parameter->grad) : NULL;
  if (!grad) return PRB_ARRAY_FREE(by_position, v->size), PR_ERR_MEMORY;
  for (int32_t u = 0; u < units; u++)
    for (int64_t m = v->part->start[u]; m < v->part->start[u + 1]; m++)
      by_position[v->part->position[m]] += factor[u];
  (v->weight->dtype == PR_F64 ? add_scaled_f64 : add_scaled_f32)(v, by_position, grad);
  PRB_ARRAY_FREE(by_position, v->size);
  return give_back(v->parameter, grad);
}

static void report(pr_term *term, double penalty, const prP_weighed *units) {
  *term = (pr_term){ .penalty = penalty, .least = HUGE_VAL, .most = -HUGE_VAL };
  for (int32_t u = 0; u < units->n; u++) {
    if (!units->count[u]) continue;
    term->touched++;
    term->least = fmin(term->least, units->strength[u]), term->most = fmax(term->most, units->strength[u]);
  }
}

static pr_status regularize_views(const pr_regularizer *regularizer, const view *views, int n,
                                  prP_weighed *units, double *square, int64_t *count, const pr_arg *args,
                                  pr_term *term) {
  int64_t weights = 0;
  for (int i = 0; i < n; i++)
    if (views[i].weight) PR_TRY(gather(&views[i], units->n, square, count));
  for (int32_t u = 0; u < units->n; u++) weights += count[u], units->strength[u] = args[STRENGTH].real;
  if (!weights) return PR_OK;
  report(term, regularizer->weigh(units, args), units);
  for (int i = 0; i < n; i++)
    if (views[i].weight) PR_TRY(spread(&views[i], units->n, units->factor));
  return PR_OK;
}

static pr_status regularize_parts(const pr_regularizer *regularizer, const pr_group *group,
                                  const pr_part *parts, int n, prP_weighed *units, const pr_arg *args,
                                  pr_term *term) {
  view *views = PRB_ARRAY(view, n);
  double *numbers = PRB_ARRAY(double, 3 * (size_t)units->n);
  int64_t *count = PRB_ARRAY(int64_t, units->n);
  pr_status status = views && numbers && count ? PR_OK : PR_ERR_MEMORY;
  for (int i = 0; i < n && !status; i++) status = view_open(&views[i], group, &parts[i]);
  if (!status) {
    units->square = numbers, units->count = count;
    units->factor = numbers + units->n, units->strength = numbers + 2 * (size_t)units->n;
    status = regularize_views(regularizer, views, n, units, numbers, count, args, term);
  }
  for (int i = 0; views && i < n; i++) pr_release(views[i].weight);
  PRB_ARRAY_FREE(views, n);
  PRB_ARRAY_FREE(numbers, 3 * (size_t)units->n);
  PRB_ARRAY_FREE(count, units->n);
  return status;
}

static pr_status regularize_scope(const pr_regularizer *regularizer, const pr_regularized *model, int scope,
                                  const pr_arg *args, pr_term *term) {
  pr_part *parts;
  int n;
  pr_group *group = pr_group_scope(model->pruning, scope);
  if (!group) return PR_ERR_MEMORY;
  prP_weighed units = { .n = group->size,
                        .state = model->state ? model->state[scope] : NULL,
                        .step = model->step };
  pr_status status = pr_group_parts(group, &parts, &n);
  if (!status) {
    status = regularize_parts(regularizer, group, parts, n, &units, args, term);
    pr_parts_free(parts, n, group->size);
  }
  pr_group_free(group);
  return status;
}

/* --- entries ------------------------------------------------------------------------------------------------------------ */

/* Zero the values of a scale whose channels belong to no unit. */
static pr_status zero_pinned(const pr_pruning *pruning, const pr_tensor *t, double *value) {
  const pr_graph *graph = pruning->graph;
  int v = 0;
  while (v < graph->n_values && graph->values[v].tensor != t) v++;
  bool *is_free = PRB_ARRAY(bool, t->shape[0]);
  if (!is_free) return PR_ERR_MEMORY;
  for (int64_t m = 0; m < pruning->units.members; m++)
    if (pruning->units.member[m].parameter == v) is_free[pruning->units.member[m].position] = true;
  for (int64_t p = 0; p < t->shape[0]; p++)
    if (!is_free[p]) value[p] = 0;
  PRB_ARRAY_FREE(is_free, t->shape[0]);
  return PR_OK;
}

static pr_status regularize_entries(const pr_regularizer *regularizer, pr_tensor *t,
                                    const pr_pruning *pruning, const pr_arg *args, pr_term *term) {
  int64_t n = pr_numel(t);
  pr_tensor *read = pr_parameter_value(t), *grad = read ? as_numbers(t->grad) : NULL;
  double *value = grad ? PRB_ARRAY(double, n) : NULL, *slope = value ? PRB_ARRAY(double, n) : NULL;
  pr_status status = slope ? prT_to_doubles(read, value) : PR_ERR_MEMORY;
  if (!status && pruning) status = zero_pinned(pruning, t, value);
  if (!status) {
    double strength = args[STRENGTH].real;
    *term = (pr_term){ regularizer->entries(value, n, args, slope), strength, strength, n };
    for (int64_t i = 0; i < n; i++) {
      if (grad->dtype == PR_F64)
        ((double *)prT_data(grad))[i] += slope[i];
      else
        ((float *)prT_data(grad))[i] += (float)slope[i];
    }
    status = give_back(t, pr_retain(grad));
  }
  pr_release(grad);
  PRB_ARRAY_FREE(value, n);
  PRB_ARRAY_FREE(slope, n);
  return status;
}

pr_status pr_regularize(const pr_regularizer *regularizer, const pr_regularized *model, const pr_arg *args,
                        pr_term *term) {
  PR_TRY(pr_regularizer_check(regularizer, args));
  bool on_units = regularizer->acts_on == PR_ON_UNITS;
  int n = on_units ? model->pruning->units.scopes : model->n;
  for (int i = 0; i < n; i++) {
    term[i] = (pr_term){ 0 };
    if (!on_units && is_trained(model->tensors[i]))
      PR_TRY(regularize_entries(regularizer, model->tensors[i],
                                regularizer->acts_on == PR_ON_SCALES ? model->pruning : NULL, args,
                                &term[i]));
    else if (on_units && model->pruning->units.primary[i])
      PR_TRY(regularize_scope(regularizer, model, i, args, &term[i]));
  }
  return PR_OK;
}
