/* label.c - arrays of elements: moving them, and cutting and joining axes. */
#include "couple/label.h"

#include <math.h>
#include <string.h>

pr_label *prC_unpinned(pr_label *label) { return label && !label->pinned ? label : NULL; }

pr_label *prC_blank(prC_algebra *algebra, int64_t n) {
  pr_label *label = prC_arena(algebra, sizeof *label + (size_t)n * sizeof *label->id);
  if (label) label->n = (int32_t)n;
  return label;
}

void prC_name(prC_algebra *algebra, pr_label *label, prC_kind kind) {
  if (!prC_unpinned(label)) return;
  pr_status status = PRB_RESERVE(algebra->name, algebra->name_capacity, algebra->names + 1);
  if (status) {
    if (!algebra->status) algebra->status = status;
    return;
  }
  algebra->name[algebra->names++] = (prC_name_entry){ label, kind };
}

pr_label *prC_fresh(prC_algebra *algebra, int64_t n) {
  pr_element first = prC_primitives(algebra, n);
  pr_label *label = first ? prC_blank(algebra, n) : NULL;
  for (int64_t i = 0; label && i < n; i++) label->id[i] = (pr_element)(first + i);
  return label;
}

void prC_pin_label(prC_algebra *algebra, pr_label *label) {
  if (!prC_unpinned(label)) return;
  for (int32_t i = 0; i < label->n; i++) prC_pin_element(algebra, label->id[i]);
  label->pinned = !algebra->strict;
}

void prC_unite(prC_algebra *algebra, pr_label *a, pr_label *b) {
  a = prC_unpinned(a), b = prC_unpinned(b);
  if (a == b) return;
  if (!a || !b) {
    prC_pin_label(algebra, a ? a : b);
    return;
  }
  for (int32_t i = 0; i < a->n && i < b->n; i++) prC_unite_elements(algebra, a->id[i], b->id[i]);
}

pr_label *prC_unite_runs(prC_algebra *algebra, pr_label *label, int64_t n, int64_t run) {
  if (!prC_unpinned(label)) return NULL;
  for (int64_t i = 0; i < n; i++) {
    if (i % run) prC_unite_elements(algebra, label->id[i - i % run], label->id[i]);
  }
  return prC_sub(algebra, label, 0, run, n / run);
}

/* --- moving ------------------------------------------------------------------------------------------ */

pr_label *prC_sub(prC_algebra *algebra, pr_label *label, int64_t start, int64_t step, int64_t n) {
  if (!prC_unpinned(label)) return NULL;
  if (start == 0 && step == 1 && n == label->n) return label;
  pr_label *out = prC_blank(algebra, n);
  for (int64_t i = 0; out && i < n; i++) out->id[i] = label->id[start + i * step];
  return out;
}

pr_label *prC_gather(prC_algebra *algebra, pr_label *label, const int64_t *index, int64_t n) {
  if (!prC_unpinned(label)) return NULL;
  pr_label *out = prC_blank(algebra, n);
  for (int64_t i = 0; out && i < n; i++) out->id[i] = label->id[index[i]];
  return out;
}

pr_label *prC_concat(prC_algebra *algebra, int parts, pr_label *const *label, const int64_t *n) {
  int64_t total = 0, at = 0;
  bool any = false;
  for (int p = 0; p < parts; p++) total += n[p], any |= prC_unpinned(label[p]) != NULL;
  pr_label *out = any ? prC_blank(algebra, total) : NULL;
  for (int p = 0; out && p < parts; at += n[p++]) {
    if (prC_unpinned(label[p])) memcpy(out->id + at, label[p]->id, (size_t)n[p] * sizeof *out->id);
  }
  return out;
}

pr_label *prC_tile(prC_algebra *algebra, pr_label *label, int64_t n, int64_t times) {
  label = prC_unpinned(label);
  if (!label || times == 1) return label;
  pr_label *out = prC_blank(algebra, n * times);
  for (int64_t t = 0; out && t < times; t++) memcpy(out->id + t * n, label->id, (size_t)n * sizeof *out->id);
  return out;
}

pr_label *prC_repeat_each(prC_algebra *algebra, pr_label *label, int64_t n, int64_t times) {
  label = prC_unpinned(label);
  if (!label || times == 1) return label;
  pr_label *out = prC_blank(algebra, n * times);
  for (int64_t i = 0; out && i < n; i++)
    for (int64_t t = 0; t < times; t++) out->id[i * times + t] = label->id[i];
  return out;
}

pr_label *prC_roll(prC_algebra *algebra, pr_label *label, int64_t n, int64_t shift) {
  if (!prC_unpinned(label) || n == 0) return NULL;
  pr_label *out = prC_blank(algebra, n);
  shift = (shift % n + n) % n;
  for (int64_t i = 0; out && i < n; i++) out->id[(i + shift) % n] = label->id[i];
  return out;
}

pr_label *prC_flip(prC_algebra *algebra, pr_label *label, int64_t n) {
  return prC_sub(algebra, label, n - 1, -1, n);
}

/* --- merge and split --------------------------------------------------------------------------------- */

pr_label *prC_merge(prC_algebra *algebra, pr_label *a, int64_t na, pr_label *b, int64_t nb) {
  a = prC_unpinned(a), b = prC_unpinned(b);
  if (!a) return prC_tile(algebra, b, nb, na);
  if (!b) return prC_repeat_each(algebra, a, na, nb);
  pr_label *out = prC_blank(algebra, na * nb);
  for (int64_t i = 0; out && i < na; i++)
    for (int64_t j = 0; j < nb; j++) out->id[i * nb + j] = prC_and(algebra, a->id[i], b->id[j]);
  return out;
}

/* Lists of entries, one after another: list k is entry[start[k]] .. entry[start[k + 1] - 1]. */
typedef struct lists {
  pr_element *entry;
  size_t capacity;
  int64_t *start;
  int64_t count, used;
} lists;

static bool lists_open(lists *l, int64_t count) {
  *l = (lists){ .start = PRB_ARRAY(int64_t, count + 1), .count = count };
  return l->start != NULL;
}

static void lists_close(lists *l) {
  PRB_ARRAY_FREE(l->entry, l->capacity);
  PRB_ARRAY_FREE(l->start, l->count + 1);
}

static bool lists_push(lists *l, const pr_element *entries, int n) {
  if (PRB_RESERVE(l->entry, l->capacity, (size_t)(l->start[l->used] + n))) return false;
  if (n) memcpy(l->entry + l->start[l->used], entries, (size_t)n * sizeof *entries);
  l->start[l->used + 1] = l->start[l->used] + n;
  l->used++;
  return true;
}

static const pr_element *list(const lists *l, int64_t k, int *n) {
  *n = (int)(l->start[k + 1] - l->start[k]);
  return l->entry + l->start[k];
}

static bool listed(const lists *l, int64_t k, pr_element x) {
  int n;
  const pr_element *entries = list(l, k, &n);
  for (int i = 0; i < n; i++)
    if (entries[i] == x) return true;
  return false;
}

static bool monos(prC_algebra *algebra, const pr_label *label, int64_t n, lists *out) {
  pr_element entries[PRC_MONO];
  /* A conjunction that is too long pins its entries, which may be in lists that were taken before: settle
   * them all first. */
  for (int64_t i = 0; i < n; i++) prC_mono(algebra, label->id[i], entries);
  if (!lists_open(out, n)) return false;
  for (int64_t i = 0; i < n; i++)
    if (!lists_push(out, entries, prC_mono(algebra, label->id[i], entries))) return false;
  return true;
}

/* For each of `lines` (rows or columns) the entries that all its `length` positions share; position k of line
 * l is l * across + k * along. */
static bool common(prC_algebra *algebra, const lists *m, int64_t lines, int64_t length, int64_t across,
                   int64_t along, lists *out) {
  if (!lists_open(out, lines)) return false;
  for (int64_t l = 0; l < lines; l++) {
    int32_t mark = prC_marks(algebra);
    if (!mark) return false;
    pr_element shared[PRC_MONO];
    int n, count = 0;
    for (int64_t k = 0; k < length; k++) {
      const pr_element *e = list(m, l * across + k * along, &n);
      for (int i = 0; i < n; i++) {
        if (algebra->mark[e[i]] != mark) algebra->mark[e[i]] = mark, algebra->tally[e[i]] = 0;
        algebra->tally[e[i]]++;
      }
    }
    const pr_element *first = list(m, l * across, &n);
    for (int i = 0; i < n; i++)
      if (algebra->tally[first[i]] == length) shared[count++] = first[i];
    if (!lists_push(out, shared, count)) return false;
  }
  return true;
}

typedef struct grid {
  int64_t p, q;
  lists m, row, column; /* of positions, of rows, of columns */
  pr_element *rest;     /* [p * q] the single entry left over, 0: none */
  int64_t *row_of;      /* [p] first row that is equal; [q] likewise */
  int64_t *column_of;
  int64_t rows, columns; /* distinct ones */
} grid;

static void grid_close(grid *g) {
  lists_close(&g->m);
  lists_close(&g->row);
  lists_close(&g->column);
  PRB_ARRAY_FREE(g->rest, g->p * g->q);
  PRB_ARRAY_FREE(g->row_of, g->p);
  PRB_ARRAY_FREE(g->column_of, g->q);
}

static bool grid_open(prC_algebra *algebra, const pr_label *label, grid *g) {
  if (!monos(algebra, label, g->p * g->q, &g->m)) return false;
  if (!common(algebra, &g->m, g->p, g->q, g->q, 1, &g->row)) return false;
  if (!common(algebra, &g->m, g->q, g->p, 1, g->q, &g->column)) return false;
  g->rest = PRB_ARRAY(pr_element, g->p * g->q);
  g->row_of = PRB_ARRAY(int64_t, g->p);
  g->column_of = PRB_ARRAY(int64_t, g->q);
  return g->rest && g->row_of && g->column_of;
}

/* Fill `rest`. The most entries any position has left over: 0, 1 or more; -1 where some have one and some
 * none. */
static int left_over(grid *g) {
  int64_t with = 0;
  for (int64_t i = 0; i < g->p; i++) {
    for (int64_t j = 0; j < g->q; j++) {
      int n, left = 0;
      const pr_element *e = list(&g->m, i * g->q + j, &n);
      for (int k = 0; k < n; k++) {
        if (listed(&g->row, i, e[k]) || listed(&g->column, j, e[k])) continue;
        g->rest[i * g->q + j] = e[k], left++;
      }
      if (left > 1) return left;
      with += left;
    }
  }
  return with == 0 ? 0 : with == g->p * g->q ? 1 : -1;
}

/* Number equal lines once. Lines that share their first entry and differ elsewhere cannot become pairwise
 * distinct: false. */
static bool distinct_lines(prC_algebra *algebra, const grid *g, int64_t lines, int64_t length, int64_t across,
                           int64_t along, int64_t *line_of, int64_t *count) {
  int32_t mark = prC_marks(algebra);
  if (!mark) return false;
  *count = 0;
  for (int64_t l = 0; l < lines; l++) {
    pr_element first = g->rest[l * across];
    line_of[l] = l;
    if (algebra->mark[first] != mark) {
      algebra->mark[first] = mark, algebra->tally[first] = (int32_t)l;
      ++*count;
      continue;
    }
    line_of[l] = algebra->tally[first];
    for (int64_t k = 0; k < length; k++)
      if (g->rest[l * across + k * along] != g->rest[line_of[l] * across + k * along]) return false;
  }
  return true;
}

static bool pairwise_distinct(prC_algebra *algebra, grid *g) {
  if (!distinct_lines(algebra, g, g->p, g->q, g->q, 1, g->row_of, &g->rows)) return false;
  if (!distinct_lines(algebra, g, g->q, g->p, 1, g->q, g->column_of, &g->columns)) return false;
  int32_t mark = prC_marks(algebra);
  if (!mark) return false;
  for (int64_t i = 0; i < g->p; i++) {
    if (g->row_of[i] != i) continue;
    for (int64_t j = 0; j < g->q; j++) {
      if (g->column_of[j] != j) continue;
      pr_element x = g->rest[i * g->q + j];
      if (algebra->mark[x] == mark) return false;
      algebra->mark[x] = mark;
    }
  }
  return true;
}

static pr_element all_of(prC_algebra *algebra, const lists *l, int64_t k) {
  int n;
  const pr_element *e = list(l, k, &n);
  pr_element all = 0;
  for (int i = 0; i < n; i++) all = prC_and(algebra, all, e[i]);
  return all;
}

static pr_label *all_of_lines(prC_algebra *algebra, const lists *l) {
  pr_label *out = prC_blank(algebra, l->count);
  for (int64_t k = 0; out && k < l->count; k++) out->id[k] = all_of(algebra, l, k);
  return out;
}

/* Fresh factors, as many as there are distinct lines, spread over all lines. */
static pr_label *spread(prC_algebra *algebra, const int64_t *line_of, int64_t lines, int64_t distinct) {
  pr_label *fresh = prC_fresh(algebra, distinct), *out = prC_blank(algebra, lines);
  if (!fresh || !out) return NULL;
  for (int64_t l = 0, next = 0; l < lines; l++)
    out->id[l] = line_of[l] == l ? fresh->id[next++] : out->id[line_of[l]];
  return out;
}

static void split_fresh(prC_algebra *algebra, const grid *g, pr_label **outer, pr_label **inner) {
  pr_label *p = spread(algebra, g->row_of, g->p, g->rows),
           *q = spread(algebra, g->column_of, g->q, g->columns);
  if (!p || !q) return;
  for (int64_t i = 0; i < g->p; i++) {
    for (int64_t j = 0; j < g->q; j++) {
      if (g->row_of[i] != i || g->column_of[j] != j) continue;
      prC_define(algebra, g->rest[i * g->q + j], (pr_element[]){ p->id[i], q->id[j] }, 2);
    }
  }
  for (int64_t i = 0; i < g->p; i++) p->id[i] = prC_and(algebra, all_of(algebra, &g->row, i), p->id[i]);
  for (int64_t j = 0; j < g->q; j++) q->id[j] = prC_and(algebra, all_of(algebra, &g->column, j), q->id[j]);
  *outer = p, *inner = q;
}

static void split_columns(prC_algebra *algebra, pr_label *label, int64_t p, int64_t q, pr_label **inner) {
  for (int64_t j = 0; j < q; j++)
    for (int64_t i = 1; i < p; i++) prC_unite_elements(algebra, label->id[j], label->id[i * q + j]);
  *inner = prC_sub(algebra, label, 0, 1, q);
}

void prC_split(prC_algebra *algebra, pr_label *label, int64_t p, int64_t q, pr_label **outer,
               pr_label **inner) {
  label = prC_unpinned(label);
  *outer = q == 1 ? label : NULL;
  *inner = p == 1 && q != 1 ? label : NULL;
  if (!label || p == 1 || q == 1) return;
  grid g = { .p = p, .q = q };
  if (!grid_open(algebra, label, &g)) {
    if (!algebra->status) algebra->status = PR_ERR_MEMORY;
  } else {
    int left = left_over(&g);
    if (left == 0) {
      *outer = all_of_lines(algebra, &g.row), *inner = all_of_lines(algebra, &g.column);
    } else if (left == 1 && pairwise_distinct(algebra, &g)) {
      split_fresh(algebra, &g, outer, inner);
    } else {
      split_columns(algebra, label, p, q, inner);
    }
  }
  grid_close(&g);
}

/* --- reshape ----------------------------------------------------------------------------------------- */

typedef struct axis_piece { /* an axis, or a factor of one */
  int64_t size;
  pr_label *label;
  double dead;
} axis_piece;

static double agree(double a, double b) { return a == b ? a : NAN; }

static axis_piece join(prC_algebra *algebra, axis_piece a, axis_piece b) {
  pr_label *x = prC_unpinned(a.label), *y = prC_unpinned(b.label);
  return (axis_piece){ a.size * b.size, prC_merge(algebra, x, a.size, y, b.size),
                       !x   ? b.dead
                       : !y ? a.dead
                            : agree(a.dead, b.dead) };
}

/* Cumulative products from the right of both sides, sorted, each once; the count, or 0 where one does not
 * divide the next. */
static int common_products(const axis_piece *in, int n, const axis_piece *out, int m, int64_t *product) {
  int count = 0, i = n - 1, j = m - 1;
  int64_t a = in[i].size, b = out[j].size;
  for (;;) {
    int64_t next = a < b ? a : b;
    if (count && next % product[count - 1]) return 0;
    product[count++] = next;
    if (a == b && i == 0 && j == 0) return count;
    bool step_in = a == next, step_out = b == next;
    if (step_in) a = i ? a * in[--i].size : INT64_MAX;
    if (step_out) b = j ? b * out[--j].size : INT64_MAX;
  }
}

static bool reshape_block(prC_algebra *algebra, axis_piece *in, int n, axis_piece *out, int m) {
  bool any = false;
  for (int i = 0; i < n; i++) any |= prC_unpinned(in[i].label) != NULL;
  if (!any) return true;
  int64_t product[2 * PRC_DIMS];
  int count = common_products(in, n, out, m, product);
  if (!count) {
    for (int i = 0; i < n; i++) prC_pin_label(algebra, in[i].label);
    return false;
  }
  axis_piece factor[2 * PRC_DIMS]; /* from the right */
  int f = 0;
  for (int i = n - 1; i >= 0; i--) {
    axis_piece left = in[i];
    while (left.size > 1) {
      int64_t size = product[f] / (f ? product[f - 1] : 1);
      factor[f] = (axis_piece){ .size = size, .dead = left.dead };
      prC_split(algebra, left.label, left.size / size, size, &left.label, &factor[f].label);
      left.size /= size;
      f++;
    }
  }
  for (int j = m - 1, k = 0; j >= 0; j--) {
    int64_t size = out[j].size;
    out[j] = factor[k++];
    while (out[j].size < size) out[j] = join(algebra, factor[k++], out[j]);
  }
  return true;
}

static int pieces(const prC_axes *axes, axis_piece *piece, int *axis_of) {
  int n = 0;
  for (int a = 0; a < axes->dim; a++) {
    if (axes->shape[a] == 1) continue;
    if (axis_of) axis_of[n] = a;
    piece[n++] =
        (axis_piece){ axes->shape[a], axis_of ? NULL : axes->label[a], axis_of ? NAN : axes->dead[a] };
  }
  return n;
}

bool prC_reshape(prC_algebra *algebra, const prC_axes *from, prC_axes *to) {
  axis_piece in[PRC_DIMS], out[PRC_DIMS];
  int axis_of[PRC_DIMS];
  int n = pieces(from, in, NULL), m = pieces(to, out, axis_of);
  for (int a = 0; a < to->dim; a++) to->label[a] = NULL, to->dead[a] = NAN;
  bool all = true;
  for (int i = 0, j = 0; i < n && j < m;) {
    int first_in = i, first_out = j;
    int64_t a = in[i++].size, b = out[j++].size;
    while (a != b) {
      if (a < b ? i == n : j == m) { /* an empty tensor, or a size that does not fit: nothing to carry over */
        for (int k = first_in; k < n; k++) prC_pin_label(algebra, in[k].label);
        return false;
      }
      if (a < b)
        a *= in[i++].size;
      else
        b *= out[j++].size;
    }
    all &= reshape_block(algebra, in + first_in, i - first_in, out + first_out, j - first_out);
  }
  for (int k = 0; k < m; k++) to->label[axis_of[k]] = out[k].label, to->dead[axis_of[k]] = out[k].dead;
  return all;
}

/* --- counting ---------------------------------------------------------------------------------------- */

int64_t prC_live_in(prC_algebra *algebra, const pr_label *label, int64_t from, int64_t to,
                    const unsigned char *dead) {
  if (!label || label->pinned || !dead) return to - from;
  int64_t live = 0;
  for (int64_t i = from; i < to; i++) live += prC_alive(algebra, label->id[i], dead);
  return live;
}

int64_t prC_live(prC_algebra *algebra, const pr_label *label, int64_t n, const unsigned char *dead) {
  return prC_live_in(algebra, label, 0, n, dead);
}

int64_t prC_kept(prC_algebra *algebra, const pr_label *label, int64_t n, const unsigned char *dead,
                 int64_t *index) {
  int64_t kept = 0;
  for (int64_t i = 0; i < n; i++)
    if (!label || label->pinned || prC_alive(algebra, label->id[i], dead)) index[kept++] = i;
  return kept;
}
