/* observe.c - running a graph over data and looking at its sites; scores from what was seen. */
#include "prune/criterion.h"

#include "autograd/autograd.h"
#include "base/memory.h"
#include "base/thread.h"
#include "op/call.h"

#include <math.h>
#include <string.h>

/* --- one tensor, sample by sample ------------------------------------------------------------------------------------- */

/* A site's tensor as samples x outer x positions x inner. */
typedef struct layout {
  int64_t samples, outer, positions, inner, height, width;
} layout;

/* Samples lie along the first axis, one or several rows each; where they do not, all is one sample. */
static layout layout_of(const pr_tensor *t, int axis, int64_t batch) {
  bool along_first = axis > 0 && t->shape[0] % batch == 0;
  layout l = {
    .samples = along_first ? batch : 1, .outer = 1, .positions = t->shape[axis], .inner = 1, .height = 1
  };
  int space = 0;
  for (int d = 0; d < t->dim; d++) {
    if (d == axis) continue;
    *(d < axis ? &l.outer : &l.inner) *= t->shape[d];
    if ((d > 0 || !along_first) && space++ == 0) l.height = t->shape[d];
  }
  l.outer /= l.samples;
  if (space < 2) l.height = 1;
  l.width = l.outer * l.inner / (l.height > 0 ? l.height : 1);
  return l;
}

static void read_sample(const pr_tensor *flat, const layout *l, int64_t sample, double *to) {
  int64_t columns = l->outer * l->inner, at = sample * columns * l->positions;
  const float *f32 = (const float *)prT_data(flat);
  const double *f64 = (const double *)prT_data(flat);
  for (int64_t o = 0; o < l->outer; o++)
    for (int64_t p = 0; p < l->positions; p++) {
      double *row = to + p * columns + o * l->inner;
      for (int64_t i = 0; i < l->inner; i++, at++) row[i] = flat->dtype == PR_F32 ? (double)f32[at] : f64[at];
    }
}

/* Row-major, f32 or f64. */
static pr_tensor *plain(pr_tensor *t) {
  pr_tensor *wide = t->dtype == PR_F32 || t->dtype == PR_F64 ? pr_retain(t) : pr_to_dtype(t, PR_F64);
  pr_tensor *flat = wide ? pr_contiguous(wide) : NULL;
  pr_release(wide);
  return flat;
}

/* Call the criterion's observer for every sample of x (and dx) and hand its numbers to `take`. */
typedef void (*take_values)(pr_statistics *s, const pr_site *site, int64_t sample, const double *value);

static pr_status look(pr_statistics *s, const pr_site *site, pr_tensor *x, pr_tensor *dx, take_values take) {
  layout l = layout_of(x, site->axis, s->batch);
  if (dx && l.samples != s->batch)
    return pr_fail(
        PR_ERR_UNSUPPORTED,
        "what %s at '%s' reads has no batch axis in front; this criterion then needs batches of one",
        s->pruning->graph->nodes[site->node].op->name, s->pruning->graph->nodes[site->node].path);
  int64_t count = l.positions * l.outer * l.inner;
  pr_tensor *flat = plain(x), *slope = dx ? plain(dx) : NULL;
  double *map = PRB_ARRAY(double, 2 * count), *value = PRB_ARRAY(double, l.positions);
  pr_status status = flat && (slope || !dx) && map && value ? PR_OK : PR_ERR_MEMORY;
  for (int64_t n = 0; n < l.samples && !status; n++) {
    read_sample(flat, &l, n, map);
    if (dx) read_sample(slope, &l, n, map + count);
    prP_map seen = { l.positions, l.height, l.width, map, dx ? map + count : NULL };
    memset(value, 0, (size_t)l.positions * sizeof *value);
    if ((status = s->criterion->observe(&seen, s->args, value))) break;
    for (int64_t p = 0; p < l.positions && l.samples < s->batch; p++) value[p] *= (double)s->batch;
    take(s, site, n, value);
    status = prB_interrupted();
  }
  PRB_ARRAY_FREE(map, 2 * count);
  PRB_ARRAY_FREE(value, l.positions);
  pr_release(flat), pr_release(slope);
  return status;
}

static void add_to_site(pr_statistics *s, const pr_site *site, int64_t sample, const double *value) {
  (void)s, (void)sample;
  for (int64_t p = 0; p < site->size; p++) site->sum[p] += value[p];
}

/* --- a batch ------------------------------------------------------------------------------------------------------------ */

static pr_status keep_gradient(void *ctx, pr_tensor *grad, pr_tensor **replacement) {
  prP_seen *seen = ctx;
  (void)replacement;
  pr_retain(grad);
  pr_release(seen->dx);
  seen->dx = grad;
  return PR_OK;
}

/* The same values by a name of their own, so that the gradient is that of this reader alone. */
static pr_tensor *alias(pr_tensor *t) {
  int64_t order[PR_MAX_DIM];
  for (int d = 0; d < t->dim; d++) order[d] = d;
  pr_tensor *same = prO_call(&pr_op_permute, PRO_ARGS(PRO_LIST(t->dim, order)), 1, t);
  if (same && !same->creator && pr_require_grad(same, true)) pr_release(same), same = NULL;
  return same;
}

static pr_status watch_gradient(prP_seen *seen, pr_tensor *own, pr_tensor **value) {
  if (*value == own) { /* the first site of this input */
    pr_tensor *same = alias(own);
    if (!same) return pr_error_last()->code;
    *value = same;
  }
  int64_t hook = pr_hook_add(*value, keep_gradient, seen, NULL);
  if (hook < 0) return pr_error_last()->code;
  seen->x = pr_retain(*value), seen->hook = hook;
  return PR_OK;
}

static pr_status reads(void *ctx, int node, int input, pr_tensor **value) {
  pr_statistics *s = ctx;
  pr_tensor *own = *value;
  pr_status status = PR_OK;
  for (int i = 0; i < s->n_sites && !status; i++) {
    if (s->site[i].node != node || s->site[i].input != input) continue;
    if (s->criterion->needs == PR_NEED_MASK_GRADIENTS)
      status = watch_gradient(&s->seen[i], own, value);
    else
      status = look(s, &s->site[i], own, NULL, add_to_site);
  }
  if (status && *value != own) pr_release(*value), *value = own;
  return status;
}

pr_status pr_statistics_run(pr_statistics *s, pr_tensor *const *inputs, pr_tensor **outputs) {
  PR_TRY(prP_statistics_current(s));
  prP_forget_batch(s);
  bool wants_gradients = s->criterion->needs == PR_NEED_MASK_GRADIENTS;
  s->batch = s->pruning->graph->n_inputs > 0 && inputs[0]->dim > 0 ? inputs[0]->shape[0] : 1;
  bool recording = pr_grad_mode(wants_gradients);
  pr_graph_watch watch = { s, reads };
  pr_status status = pr_graph_run_watched(s->pruning->graph, inputs, false, &watch, outputs);
  pr_grad_mode(recording);
  if (!status && !wants_gradients) s->samples += s->batch;
  if (status) prP_forget_batch(s);
  return status;
}

/* --- gradients of masks --------------------------------------------------------------------------------------------------- */

/* slope[n * units + u]: the gradient of a mask on unit u, of sample n's loss, over all sites. */
typedef struct slopes {
  const double *value;
  double *row;
  double factor;
} slopes;

static void add_slope(void *ctx, int64_t position, int32_t unit) {
  slopes *to = ctx;
  to->row[unit] += to->factor * to->value[position];
}

static void add_to_units(pr_statistics *s, const pr_site *site, int64_t sample, const double *value) {
  /* the loss is the mean over the batch; one sample's own is `batch` times its part */
  slopes to = { value, s->slope + sample * s->units, (double)s->batch };
  prP_each_unit(s->pruning, site->value, site->axis, add_slope, &to);
}

pr_status pr_statistics_finish(pr_statistics *s) {
  PR_TRY(prP_statistics_current(s));
  int64_t count = s->batch * s->units;
  if (!(s->slope = PRB_ARRAY(double, count)) && count > 0) return PR_ERR_MEMORY;
  pr_status status = PR_OK;
  for (int i = 0; i < s->n_sites && !status; i++) /* without dx the loss does not reach the site */
    if (s->seen[i].dx) status = look(s, &s->site[i], s->seen[i].x, s->seen[i].dx, add_to_units);
  for (int64_t k = 0; k < count && !status; k++) s->squared[k % s->units] += s->slope[k] * s->slope[k];
  if (!status) s->samples += s->batch;
  PRB_ARRAY_FREE(s->slope, count);
  prP_forget_batch(s);
  return status;
}

/* --- scores ------------------------------------------------------------------------------------------------------------------ */

enum { REDUCTION, NORMALIZER }; /* of PRP_OPTIONS */

/* Sums over the positions that a unit has at one site. */
typedef struct site_sums {
  const double *sum;
  const int32_t *place; /* [units] of the pruning -> number in the group, or -1 */
  double *total;
  int32_t *positions;
} site_sums;

static void add_position(void *ctx, int64_t position, int32_t unit) {
  site_sums *to = ctx;
  int32_t u = to->place[unit];
  if (u >= 0) to->total[u] += to->sum[position], to->positions[u]++;
}

static double put_together(int reduction, int32_t before, double total, double value) {
  if (before == 0 || reduction == PRP_LAST) return value;
  if (reduction == PRP_MAX) return fmax(total, value);
  if (reduction == PRP_PROD) return total * value;
  return reduction == PRP_FIRST ? total : total + value;
}

static pr_status unseen(const pr_statistics *s) {
  return pr_fail(
      PR_ERR_UNSUPPORTED,
      "%s: no layer shows what units of this group do (they live inside of one operator); leave it "
      "out (option ignore) or use a criterion of weights",
      s->criterion->name);
}

/* Means over a unit's positions, site by site; sites[u]: how many show unit u. */
static pr_status gather(const pr_group *group, const pr_statistics *s, int reduction, site_sums *room,
                        int32_t *sites, double *score) {
  for (int i = 0; i < s->n_sites; i++) {
    memset(room->total, 0, (size_t)group->size * sizeof *room->total);
    memset(room->positions, 0, (size_t)group->size * sizeof *room->positions);
    room->sum = s->site[i].sum;
    prP_each_unit(group->pruning, s->site[i].value, s->site[i].axis, add_position, room);
    for (int32_t u = 0; u < group->size; u++) {
      if (room->positions[u] == 0) continue;
      double value = room->total[u] / room->positions[u] / (double)s->samples;
      score[u] = put_together(reduction, sites[u]++, score[u], value);
    }
  }
  for (int32_t u = 0; u < group->size; u++) {
    if (sites[u] == 0) return unseen(s);
    if (reduction == PRP_MEAN) score[u] /= sites[u];
  }
  return PR_OK;
}

static pr_status check_gathered(const pr_group *group, const pr_statistics *s) {
  if (!s || s->samples == 0)
    return pr_fail(PR_ERR_STATE, "this criterion needs data: give option data (and batches, loss)");
  PR_TRY(prP_group_check(group));
  return prP_statistics_current(s);
}

pr_status prP_score_sites(const pr_group *group, const pr_statistics *s, const pr_arg *options,
                          double *score) {
  PR_TRY(check_gathered(group, s));
  int32_t n = group->size, units = group->pruning->units.count;
  int32_t *place = PRB_ARRAY(int32_t, units), *counts = PRB_ARRAY(int32_t, 2 * n);
  double *total = PRB_ARRAY(double, n);
  pr_status status = (place && counts && total) || n == 0 ? PR_OK : PR_ERR_MEMORY;
  if (!status && n > 0) {
    for (int32_t u = 0; u < units; u++) place[u] = -1;
    for (int32_t u = 0; u < n; u++) place[group->unit[u]] = u;
    site_sums room = { .place = place, .total = total, .positions = counts };
    status = gather(group, s, (int)options[REDUCTION].integer, &room, counts + n, score);
  }
  PRB_ARRAY_FREE(place, units);
  PRB_ARRAY_FREE(counts, 2 * n);
  PRB_ARRAY_FREE(total, n);
  return status ? status : prP_normalize(options + NORMALIZER, score, n);
}
