/* wanda.c - weights times the norm of what they meet (Wanda, Sun et al. 2023), for units: s = sum over the
 * weights of the next layers that read unit u of |w| times |x|_2, the norm over samples and places of the
 * input that the weight multiplies. Units that no weight reads but other activations (widths of queries and
 * keys): the sum of |x|_2 wherever they are read. */
#include "prune/criterion.h"

#include "autograd/parameter.h"
#include "base/memory.h"
#include "prune/position_sums.h"

#include <math.h>
#include <string.h>

enum { NORMALIZER };

static pr_status observe(const prP_map *map, const pr_arg *args, double *value) {
  (void)args;
  int64_t n = map->height * map->width;
  for (int64_t p = 0; p < map->positions; p++)
    for (int64_t i = 0; i < n; i++) value[p] += map->x[p * n + i] * map->x[p * n + i];
  return PR_OK;
}

static void magnitudes(const double *w, const double *g, int64_t n, double p, double *term) {
  (void)g, (void)p;
  for (int64_t i = 0; i < n; i++) term[i] = fabs(w[i]);
}

/* One layer that reads the group: the positions of a unit in its input meet those in its weight one by one,
 * in order. */
typedef struct meeting {
  const int32_t *place;  /* unit -> number in the group, or -1 */
  const pr_part *part;   /* of the weight */
  const double *weights; /* sum of |w| at each position of the weight's axis */
  const double *squares; /* sum of x^2 at each position of the input's axis */
  double *product, *norm;
  int32_t *met;
} meeting;

static void meet(void *ctx, int64_t position, int32_t unit) {
  meeting *m = ctx;
  int32_t u = m->place[unit];
  if (u < 0) return;
  double norm = sqrt(m->squares[position]);
  int64_t at = m->part->start[u] + m->met[u]++;
  if (at < m->part->start[u + 1]) m->product[u] += norm * m->weights[m->part->position[at]];
  m->norm[u] += norm;
}

/* Where input and weight have unequal numbers of positions (convolution in groups): the mean norm. */
static void settle(const meeting *m, int32_t n, double *score) {
  for (int32_t u = 0; u < n; u++) {
    const pr_part *part = m->part;
    double weights = 0;
    for (int64_t i = part->start[u]; i < part->start[u + 1]; i++) weights += m->weights[part->position[i]];
    bool paired = m->met[u] == part->start[u + 1] - part->start[u];
    score[u] += paired ? m->product[u] : m->met[u] ? weights * m->norm[u] / m->met[u] : 0;
  }
}

static pr_status add_layer(const pr_group *group, const pr_part *part, const pr_site *site, meeting *m,
                           double *score) {
  pr_tensor *w = pr_parameter_value(group->pruning->graph->values[part->value].tensor);
  if (!w) return pr_error_last()->code;
  int64_t size = w->shape[part->axis];
  double *sum = PRB_ARRAY(double, size);
  pr_status status =
      sum ? prP_position_sums(w, NULL, part->axis, 0, size, magnitudes, 0, sum) : PR_ERR_MEMORY;
  if (!status) {
    memset(m->met, 0, (size_t)group->size * sizeof *m->met);
    memset(m->product, 0, 2 * (size_t)group->size * sizeof *m->product);
    m->part = part, m->weights = sum, m->squares = site->sum;
    prP_each_unit(group->pruning, site->value, site->axis, meet, m);
    settle(m, group->size, score);
  }
  PRB_ARRAY_FREE(sum, size);
  return status;
}

static bool is_read_by(const pr_graph_node *node, int value) {
  for (int i = 0; i < node->n_in; i++)
    if (node->in[i] == value) return true;
  return false;
}

static void meet_nothing(void *ctx, int64_t position, int32_t unit) {
  meeting *m = ctx;
  int32_t u = m->place[unit];
  if (u >= 0) m->norm[u] += sqrt(m->squares[position]), m->met[u]++;
}

/* Where no weight reads the units: the norms of what is read. */
static pr_status add_norms(const pr_group *group, const pr_statistics *s, meeting *m, double *score) {
  memset(m->met, 0, (size_t)group->size * sizeof *m->met);
  memset(m->norm, 0, (size_t)group->size * sizeof *m->norm);
  for (int i = 0; i < s->n_sites; i++) {
    m->squares = s->site[i].sum;
    prP_each_unit(group->pruning, s->site[i].value, s->site[i].axis, meet_nothing, m);
  }
  for (int32_t u = 0; u < group->size; u++) {
    if (!m->met[u])
      return pr_fail(PR_ERR_UNSUPPORTED,
                     "wanda: no layer shows what units of this group do; leave it out (option ignore) or use "
                     "another criterion");
    score[u] = m->norm[u];
  }
  return PR_OK;
}

static pr_status add_layers(const pr_group *group, const pr_statistics *s, const pr_part *parts, int n,
                            meeting *m, double *score) {
  int layers = 0;
  for (int p = 0; p < n; p++)
    for (int i = 0; i < s->n_sites && parts[p].consumer; i++) {
      if (!is_read_by(&group->pruning->graph->nodes[s->site[i].node], parts[p].value)) continue;
      PR_TRY(add_layer(group, &parts[p], &s->site[i], m, score));
      layers++;
    }
  return layers == 0 ? add_norms(group, s, m, score) : PR_OK;
}

static pr_status score(const pr_group *group, const pr_arg *args, const pr_statistics *s, double *out) {
  if (!s || s->samples == 0)
    return pr_fail(PR_ERR_STATE, "wanda needs data: give option data (and batches); labels are not needed");
  PR_TRY(prP_statistics_current(s));
  pr_part *parts;
  int n, units = group->pruning->units.count, size = group->size;
  PR_TRY(pr_group_parts(group, &parts, &n));
  int32_t *place = PRB_ARRAY(int32_t, units), *met = PRB_ARRAY(int32_t, size);
  double *room = PRB_ARRAY(double, 2 * size);
  pr_status status = place && met && room ? PR_OK : PR_ERR_MEMORY;
  if (!status) {
    memset(out, 0, (size_t)size * sizeof *out);
    for (int u = 0; u < units; u++) place[u] = -1;
    for (int u = 0; u < size; u++) place[group->unit[u]] = u;
    meeting m = { .place = place, .product = room, .norm = room + size, .met = met };
    status = add_layers(group, s, parts, n, &m, out);
  }
  PRB_ARRAY_FREE(place, units);
  PRB_ARRAY_FREE(met, size);
  PRB_ARRAY_FREE(room, 2 * size);
  pr_parts_free(parts, n, group->size);
  return status ? status : prP_normalize(args + NORMALIZER, out, group->size);
}

PR_CRITERION(wanda) = {
  .name = "wanda",
  .args = { PRP_NORMALIZING(PRP_BY_MEAN) },
  .needs = PR_NEED_INPUTS,
  .observe = observe,
  .score = score,
  .help =
      "Sum of |w| |x|, over the weights of the next layers that read a unit, |x| the norm of what they read "
      "(Wanda, Sun et al. 2023). Needs data, no labels.",
};
