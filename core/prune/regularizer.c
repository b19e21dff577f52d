/* regularizer.c - finding regularisers by name, and what they have in common: reading weights by unit and
 * adding to gradients. All that can fail is done before the first gradient changes. */
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

/* --- parameters ------------------------------------------------------------------------------------------------------- */

static bool is_trained(const pr_tensor *t) { return t->grad && t->requires_grad && pr_numel(t) > 0; }

/* Row-major numbers: f64 as they are, all others as f32. */
static pr_tensor *as_numbers(pr_tensor *t) {
  pr_tensor *converted = pr_to_dtype(t, t->dtype == PR_F64 ? PR_F64 : PR_F32);
  pr_tensor *flat = converted ? pr_contiguous(converted) : NULL;
  pr_release(converted);
  return flat;
}

/* A trained parameter. */
typedef struct trained {
  pr_tensor *parameter; /* borrowed; NULL: takes no part */
  pr_tensor *weight;    /* what the model reads, as row-major numbers */
  pr_tensor *grad;      /* the same of the gradient: its own where it is so already, else a copy */
} trained;

static pr_status trained_open(trained *p, pr_tensor *t) {
  char text[PR_SHAPE_TEXT];
  if (t->device != PR_CPU)
    return pr_fail(PR_ERR_STATE, "a parameter of shape %s is on device '%s': it has no values to regularize",
                   pr_shape_text(t, text), pr_device_name(t->device));
  p->parameter = t;
  pr_tensor *read = pr_parameter_value(t);
  if (!read || !(p->weight = as_numbers(read)) || !(p->grad = as_numbers(t->grad)))
    return pr_error_last()->code;
  /* a copy goes back unchanged: where it cannot, that shows now */
  return p->grad == t->grad ? PR_OK : pr_copy(t->grad, p->grad);
}

static void trained_write(trained *p) {
  if (!p->parameter) return;
  if (p->grad != p->parameter->grad) (void)pr_copy(p->parameter->grad, p->grad);
  prT_touch(p->parameter->grad);
}

static void trained_free(trained *list, int n) {
  for (int i = 0; list && i < n; i++) pr_release(list[i].weight), pr_release(list[i].grad);
  PRB_ARRAY_FREE(list, n);
}

/* --- reading and writing units ------------------------------------------------------------------------------------------ */

/* A part of a group as the model reads it: outer x size x inner, the axis in the middle. */
typedef struct view {
  const pr_part *part;
  const void *weight;
  void *grad;
  bool wide; /* f64 */
  int64_t outer, size, inner;
} view;

static view view_of(const trained *p, const pr_part *part) {
  const pr_tensor *w = p->weight;
  view v = { part, prT_data(w), prT_data(p->grad), w->dtype == PR_F64, 1, w->shape[part->axis], 1 };
  for (int d = 0; d < part->axis; d++) v.outer *= w->shape[d];
  for (int d = part->axis + 1; d < w->dim; d++) v.inner *= w->shape[d];
  return v;
}

/* sum[p]: squares of all entries at position p, which come in as 0. Every position is summed by one thread in
 * one order, so that the result does not depend on their number; blocks of positions lie side by side in
 * memory. */
#define SUM_SQUARES(type, name)                                                                              \
  static void name(const view *v, double *sum) {                                                             \
    const type *w = v->weight;                                                                               \
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
  static void name(const view *v, const double *factor) {                                                    \
    const type *w = v->weight;                                                                               \
    type *g = v->grad;                                                                                       \
    _Pragma("omp parallel for schedule(static) if (v->outer * v->size * v->inner >= PARALLEL_FROM)") for (   \
        int64_t k = 0; k < v->outer * v->size; k++) {                                                        \
      type f = (type)factor[k % v->size];                                                                    \
      if (f == 0) continue;                                                                                  \
      for (int64_t i = k * v->inner; i < (k + 1) * v->inner; i++) g[i] += f * w[i];                          \
    }                                                                                                        \
  }
ADD_SCALED(float, add_scaled_f32)
ADD_SCALED(double, add_scaled_f64)

/* by_position: room for v->size numbers. */
static void gather(const view *v, int32_t units, double *by_position, double *square, int64_t *count) {
  memset(by_position, 0, (size_t)v->size * sizeof *by_position);
  (v->wide ? sum_squares_f64 : sum_squares_f32)(v, by_position);
  for (int32_t u = 0; u < units; u++)
    for (int64_t m = v->part->start[u]; m < v->part->start[u + 1]; m++)
      square[u] += by_position[v->part->position[m]], count[u] += v->outer * v->inner;
}

static void spread(const view *v, int32_t units, double *by_position, const double *factor) {
  memset(by_position, 0, (size_t)v->size * sizeof *by_position);
  for (int32_t u = 0; u < units; u++)
    for (int64_t m = v->part->start[u]; m < v->part->start[u + 1]; m++)
      by_position[v->part->position[m]] += factor[u];
  (v->wide ? add_scaled_f64 : add_scaled_f32)(v, by_position);
}

/* --- units ------------------------------------------------------------------------------------------------------------ */

typedef struct scope {
  pr_group *group; /* NULL: takes no part */
  pr_part *parts;
  view *views; /* [n_parts] those of trained parameters */
  int n_parts, n_views;
} scope;

/* Everything that a pass over the units needs. */
typedef struct pass {
  scope *scopes;
  trained *trained;    /* [values of the graph] */
  double *by_position; /* [positions] */
  double *numbers;     /* [3 * units] square, factor and strength of the units of one scope */
  int64_t *count;      /* [units] */
  int64_t positions;   /* of the longest axis */
  int32_t units;       /* of the largest scope */
} pass;

static pr_status scope_open(pass *p, scope *s, pr_pruning *pruning, int number) {
  if (!(s->group = pr_group_scope(pruning, number))) return pr_error_last()->code;
  if (s->group->size > p->units) p->units = s->group->size;
  PR_TRY(pr_group_parts(s->group, &s->parts, &s->n_parts));
  if (!(s->views = PRB_ARRAY(view, s->n_parts))) return PR_ERR_MEMORY;
  for (int i = 0; i < s->n_parts; i++) {
    const pr_graph_value *value = &pruning->graph->values[s->parts[i].value];
    trained *of = &p->trained[s->parts[i].value];
    if (value->kind != PR_VALUE_PARAMETER || value->is_buffer || !is_trained(value->tensor)) continue;
    if (!of->parameter) PR_TRY(trained_open(of, value->tensor));
    view *v = &s->views[s->n_views++];
    *v = view_of(of, &s->parts[i]);
    if (v->size > p->positions) p->positions = v->size;
  }
  return PR_OK;
}

static pr_status pass_open(pass *p, pr_pruning *pruning) {
  p->scopes = PRB_ARRAY(scope, pruning->units.scopes);
  p->trained = PRB_ARRAY(trained, pruning->graph->n_values);
  if (!p->scopes || !p->trained) return PR_ERR_MEMORY;
  for (int s = 0; s < pruning->units.scopes; s++)
    if (pruning->units.primary[s]) PR_TRY(scope_open(p, &p->scopes[s], pruning, s));
  p->by_position = PRB_ARRAY(double, p->positions);
  p->numbers = PRB_ARRAY(double, 3 * (size_t)p->units);
  p->count = PRB_ARRAY(int64_t, p->units);
  return p->by_position && p->numbers && p->count ? PR_OK : PR_ERR_MEMORY;
}

static void pass_close(pass *p, const pr_pruning *pruning) {
  for (int i = 0; p->scopes && i < pruning->units.scopes; i++) {
    scope *s = &p->scopes[i];
    PRB_ARRAY_FREE(s->views, s->n_parts);
    if (s->parts) pr_parts_free(s->parts, s->n_parts, s->group->size);
    pr_group_free(s->group);
  }
  PRB_ARRAY_FREE(p->scopes, pruning->units.scopes);
  trained_free(p->trained, pruning->graph->n_values);
  PRB_ARRAY_FREE(p->by_position, p->positions);
  PRB_ARRAY_FREE(p->numbers, 3 * (size_t)p->units);
  PRB_ARRAY_FREE(p->count, p->units);
}

static void report(pr_term *term, double penalty, const prP_weighed *units) {
  *term = (pr_term){ .penalty = penalty, .least = HUGE_VAL, .most = -HUGE_VAL };
  for (int32_t u = 0; u < units->n; u++) {
    if (!units->count[u]) continue;
    term->touched++;
    term->least = fmin(term->least, units->strength[u]), term->most = fmax(term->most, units->strength[u]);
  }
}

static void regularize_scope(const pr_regularizer *regularizer, pass *p, const scope *s, double *state,
                             int64_t step, const pr_arg *args, pr_term *term) {
  int32_t n = s->group->size;
  double *square = p->numbers, *factor = square + n, *strength = factor + n;
  prP_weighed units = { n, square, p->count, factor, strength, state, step };
  memset(p->numbers, 0, 3 * (size_t)n * sizeof *p->numbers);
  memset(p->count, 0, (size_t)n * sizeof *p->count);
  for (int i = 0; i < s->n_views; i++) gather(&s->views[i], n, p->by_position, square, p->count);
  int64_t weights = 0;
  for (int32_t u = 0; u < n; u++) weights += p->count[u], strength[u] = args[STRENGTH].real;
  if (!weights) return;
  report(term, regularizer->weigh(&units, args), &units);
  for (int i = 0; i < s->n_views; i++) spread(&s->views[i], n, p->by_position, factor);
}

static pr_status regularize_units(const pr_regularizer *regularizer, const pr_regularized *model,
                                  const pr_arg *args, pr_term *term) {
  pass p = { 0 };
  pr_status status = pass_open(&p, model->pruning);
  for (int s = 0; !status && s < model->pruning->units.scopes; s++) {
    term[s] = (pr_term){ 0 };
    if (p.scopes[s].group)
      regularize_scope(regularizer, &p, &p.scopes[s], model->state ? model->state[s] : NULL, model->step,
                       args, &term[s]);
  }
  for (int v = 0; !status && v < model->pruning->graph->n_values; v++) trained_write(&p.trained[v]);
  pass_close(&p, model->pruning);
  return status;
}

/* --- entries ------------------------------------------------------------------------------------------------------------ */

/* Zero the values of a scale whose channels belong to no unit. is_free: room for them. */
static void zero_pinned(const pr_pruning *pruning, const pr_tensor *t, bool *is_free, double *value) {
  const pr_graph *graph = pruning->graph;
  int v = 0;
  while (v < graph->n_values && graph->values[v].tensor != t) v++;
  memset(is_free, 0, (size_t)t->shape[0] * sizeof *is_free);
  for (int64_t m = 0; m < pruning->units.members; m++)
    if (pruning->units.member[m].parameter == v) is_free[pruning->units.member[m].position] = true;
  for (int64_t p = 0; p < t->shape[0]; p++)
    if (!is_free[p]) value[p] = 0;
}

/* What the entries of one tensor at a time need: room for the longest. */
typedef struct room {
  int64_t n;
  double *value, *slope;
  bool *is_free;
} room;

static void regularize_tensor(const pr_regularizer *regularizer, const trained *p, const pr_pruning *pruning,
                              const room *r, const pr_arg *args, pr_term *term) {
  int64_t n = pr_numel(p->weight);
  bool wide = p->weight->dtype == PR_F64;
  const void *w = prT_data(p->weight);
  void *g = prT_data(p->grad);
  for (int64_t i = 0; i < n; i++) r->value[i] = wide ? ((const double *)w)[i] : ((const float *)w)[i];
  memset(r->slope, 0, (size_t)n * sizeof *r->slope);
  if (pruning) zero_pinned(pruning, p->parameter, r->is_free, r->value);
  double strength = args[STRENGTH].real;
  *term = (pr_term){ regularizer->entries(r->value, n, args, r->slope), strength, strength, n };
  for (int64_t i = 0; i < n; i++) {
    if (wide)
      ((double *)g)[i] += r->slope[i];
    else
      ((float *)g)[i] += (float)r->slope[i];
  }
}

static bool comes_earlier(pr_tensor *const *tensors, int i) {
  for (int k = 0; k < i; k++)
    if (tensors[k] == tensors[i]) return true;
  return false;
}

static pr_status regularize_tensors(const pr_regularizer *regularizer, const pr_regularized *model,
                                    const pr_arg *args, pr_term *term) {
  const pr_pruning *pruning = regularizer->acts_on == PR_ON_SCALES ? model->pruning : NULL;
  trained *list = PRB_ARRAY(trained, model->n);
  pr_status status = list ? PR_OK : PR_ERR_MEMORY;
  room r = { 0 };
  for (int i = 0; i < model->n && !status; i++) {
    if (!is_trained(model->tensors[i]) || comes_earlier(model->tensors, i)) continue;
    status = trained_open(&list[i], model->tensors[i]);
    if (pr_numel(model->tensors[i]) > r.n) r.n = pr_numel(model->tensors[i]);
  }
  if (!status) {
    r.value = PRB_ARRAY(double, r.n), r.slope = PRB_ARRAY(double, r.n), r.is_free = PRB_ARRAY(bool, r.n);
    status = r.value && r.slope && r.is_free ? PR_OK : PR_ERR_MEMORY;
  }
  for (int i = 0; i < model->n && !status; i++) {
    term[i] = (pr_term){ 0 };
    if (list[i].parameter) regularize_tensor(regularizer, &list[i], pruning, &r, args, &term[i]);
    trained_write(&list[i]);
  }
  PRB_ARRAY_FREE(r.value, r.n), PRB_ARRAY_FREE(r.slope, r.n), PRB_ARRAY_FREE(r.is_free, r.n);
  trained_free(list, model->n);
  return status;
}

pr_status pr_regularize(const pr_regularizer *regularizer, const pr_regularized *model, const pr_arg *args,
                        pr_term *term) {
  PR_TRY(pr_regularizer_check(regularizer, args));
  return (regularizer->acts_on == PR_ON_UNITS ? regularize_units : regularize_tensors)(regularizer, model,
                                                                                       args, term);
}
