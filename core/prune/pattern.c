/* pattern.c - N:M patterns and blocks. */
#include "prune/pattern.h"

#include "autograd/parameter.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/thread.h"
#include "prune/draft.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PARALLEL_FROM = 1 << 16, FEW = 16 };

static pr_status check_list(pr_tensor *const *parameter, pr_tensor *const *scores, int n) {
  for (int i = 0; i < n; i++) {
    PR_TRY(prP_check_parameter(parameter[i], i, n));
    PR_TRY(prP_check_scores(parameter[i], scores ? scores[i] : NULL));
  }
  return prP_check_distinct(parameter, n);
}

/* Masks to write into and scores in f64: those of the user, or the values as they read. */
static pr_status make_drafts(prP_draft *d, pr_tensor *const *parameter, pr_tensor *const *scores, int n) {
  for (int i = 0; i < n; i++) {
    const pr_tensor *read = scores && scores[i] ? scores[i] : pr_parameter_value(parameter[i]);
    d[i].parameter = parameter[i];
    if (!read || !(d[i].mask = prP_draft_mask(parameter[i])) || !(d[i].score = prP_numbers(read, true)))
      return pr_error_last()->code;
  }
  return PR_OK;
}

/* --- N of M ---------------------------------------------------------------------------------------------------------- */

/* A magnitude as an integer in the same order (NaN last), and where it stands. */
typedef struct ranked {
  uint64_t key;
  int64_t at;
} ranked;

static int by_rank(const void *a, const void *b) {
  const ranked *x = a, *y = b;
  if (x->key != y->key) return x->key > y->key ? 1 : -1;
  return (x->at > y->at) - (x->at < y->at);
}

static void sort(ranked *list, int64_t n) {
  if (n > FEW) {
    qsort(list, (size_t)n, sizeof *list, by_rank);
    return;
  }
  for (int64_t i = 1; i < n; i++) {
    ranked one = list[i];
    int64_t k = i;
    for (; k > 0 && by_rank(&list[k - 1], &one) > 0; k--) list[k] = list[k - 1];
    list[k] = one;
  }
}

/* Entries first, first + step, ...: `n` of them, of which `keep` may stay. Returns how many went. */
static int64_t thin_out(const double *score, float *mask, int64_t first, int64_t step, int64_t n,
                        int64_t keep, ranked *list) {
  int64_t alive = 0;
  for (int64_t k = 0; k < n; k++) {
    int64_t at = first + k * step;
    double magnitude = fabs(score[at]);
    if (mask[at] == 0) continue;
    memcpy(&list[alive].key, &magnitude, sizeof magnitude);
    list[alive++].at = at;
  }
  if (alive <= keep) return 0;
  sort(list, alive);
  for (int64_t k = 0; k < alive - keep; k++) mask[list[k].at] = 0;
  return alive - keep;
}

/* A tensor as outer lines x size x inner lines, the pattern along the middle. */
static void lines_of(const pr_tensor *t, int axis, int64_t *outer, int64_t *size, int64_t *inner) {
  *outer = *inner = *size = 1;
  if (axis == PR_AS_MATRIX) {
    for (int d = 0; d < t->dim; d++) *(d == 0 && t->dim > 1 ? outer : size) *= t->shape[d];
    return;
  }
  *size = t->shape[axis];
  for (int d = 0; d < axis; d++) *outer *= t->shape[d];
  for (int d = axis + 1; d < t->dim; d++) *inner *= t->shape[d];
}

/* What is asked of each line: `keep` of every `of`, or (of 0) the share that goes of all lines together. */
typedef struct demand {
  int axis;
  int64_t keep, of;
  double sparsity;
} demand;

static int64_t thin_out_line(const demand *q, const double *score, float *mask, int64_t line, int64_t size,
                             int64_t inner, ranked *list) {
  int64_t start = line / inner * size * inner + line % inner, gone = 0, of = q->of ? q->of : size,
          keep = q->keep;
  if (!q->of) {
    double before = rint(q->sparsity * (double)(line * size)),
           after = rint(q->sparsity * (double)((line + 1) * size));
    keep = size - (int64_t)(after - before);
  }
  for (int64_t k = 0; k < size; k += of)
    gone += thin_out(score, mask, start + k * inner, inner, size - k < of ? size - k : of, keep, list);
  return gone;
}

static int64_t thin_out_all(prP_draft *d, const demand *q, ranked *lists) {
  int64_t outer, size, inner, gone = 0;
  const double *score = prT_data(d->score);
  float *mask = prT_data(d->mask);
  lines_of(d->parameter, q->axis, &outer, &size, &inner);
  int64_t room = q->of > 0 && q->of < size ? q->of : size;
#pragma omp parallel for schedule(static) reduction(+ : gone) if (pr_numel(d->parameter) >= PARALLEL_FROM)
  for (int64_t line = 0; line < outer * inner; line++)
    gone += thin_out_line(q, score, mask, line, size, inner, lists + prB_this_thread() * room);
  return gone;
}

static pr_status mask_lines(pr_tensor *t, pr_tensor *scores, const demand *q, int64_t *gone) {
  char text[PR_SHAPE_TEXT];
  prP_draft d = { 0 };
  int64_t outer, size, inner, count = 0;
  if (gone) *gone = 0;
  PR_TRY(check_list(&t, &scores, 1));
  if (q->axis != PR_AS_MATRIX && (q->axis < 0 || q->axis >= t->dim))
    return pr_fail(PR_ERR_INDEX, "dim %lld is out of range for a parameter of shape %s", PR_INDEX(q->axis),
                   pr_shape_text(t, text));
  lines_of(t, q->axis, &outer, &size, &inner);
  int64_t room = pr_threads() * (q->of > 0 && q->of < size ? q->of : size);
  ranked *lists = PRB_ARRAY(ranked, room + 1);
  pr_status status = lists ? make_drafts(&d, &t, &scores, 1) : PR_ERR_MEMORY;
  if (!status) {
    count = thin_out_all(&d, q, lists);
    prP_draft_commit(&d);
  }
  if (gone) *gone = count;
  prP_drafts_free(&d, 1);
  PRB_ARRAY_FREE(lists, room + 1);
  return status;
}

pr_status pr_mask_nm(pr_tensor *t, pr_tensor *scores, int axis, int64_t keep, int64_t of, int64_t *gone) {
  if (of >= 1 && keep >= 0 && keep <= of)
    return mask_lines(t, scores, &(demand){ .axis = axis, .keep = keep, .of = of }, gone);
  return pr_fail(PR_ERR_ARGUMENT,
                 "n of every m entries stay: n must be in 0..m and m at least 1, got n = %lld, m = %lld",
                 (long long)keep, (long long)of);
}

pr_status pr_mask_lines(pr_tensor *t, pr_tensor *scores, int axis, double sparsity, int64_t *gone) {
  if (sparsity >= 0 && sparsity <= 1)
    return mask_lines(t, scores, &(demand){ .axis = axis, .sparsity = sparsity }, gone);
  return pr_fail(PR_ERR_ARGUMENT, "sparsity is a share in 0..1, got %g", sparsity);
}

/* --- blocks ---------------------------------------------------------------------------------------------------------- */

/* How one parameter is cut: its axes (or the matrix's), a block's extents, and blocks along each axis. */
typedef struct cut {
  int dim;
  int64_t shape[PR_MAX_DIM], extent[PR_MAX_DIM], blocks[PR_MAX_DIM];
  int64_t count;
} cut;

static cut cut_of(const pr_tensor *t, const pr_blocks *b) {
  cut c = { .dim = t->dim, .count = 1 };
  memcpy(c.shape, t->shape, sizeof c.shape);
  if (b->matrix) {
    c.dim = 2;
    lines_of(t, PR_AS_MATRIX, &c.shape[0], &c.shape[1], &(int64_t){ 0 });
  }
  for (int d = 0; d < c.dim; d++) {
    int64_t size = c.shape[d], extent = b->extent[d];
    c.extent[d] = extent < 1 || extent > size ? (size > 1 ? size : 1) : extent;
    c.blocks[d] = (size + c.extent[d] - 1) / c.extent[d];
    c.count *= c.blocks[d];
  }
  return c;
}

/* Row-major walk over the lines of the last axis: entry `first` of a line lies in block `block`. */
typedef struct line {
  int64_t at[PR_MAX_DIM], first, block;
} line;

static bool next_line(const cut *c, line *l, int64_t total) {
  int last = c->dim - 1;
  l->first += c->shape[last];
  if (l->first >= total) return false;
  for (int d = last - 1; d >= 0; d--) {
    if (++l->at[d] < c->shape[d]) break;
    l->at[d] = 0;
  }
  l->block = 0;
  for (int d = 0; d < last; d++) {
    int64_t extent = c->extent[d] > 1 ? c->extent[d] : 1;
    l->block = l->block * c->blocks[d] + l->at[d] / extent;
  }
  l->block *= c->blocks[last];
  return true;
}

/* One run of a line inside one block. */
static void pool_run(const double *score, const float *mask, int64_t n, pr_pool pool, double *sum,
                     double *entries, float *alive) {
  for (int64_t i = 0; i < n; i++) {
    double x = fabs(score[i]);
    if (pool == PR_POOL_MAX)
      *sum = x > *sum || x != x ? x : *sum;
    else
      *sum += pool == PR_POOL_RMS ? x * x : x;
    if (mask[i] != 0) *alive = 1;
  }
  *entries += (double)n;
}

/* Pooled scores (up to a growing function) and 1 in `alive` for the blocks that are. */
static void pool_all(const prP_draft *d, const cut *c, pr_pool pool, double *pooled, double *entries,
                     float *alive) {
  const double *score = prT_data(d->score);
  const float *mask = prT_data(d->mask);
  int64_t total = pr_numel(d->parameter), size = c->shape[c->dim - 1], extent = c->extent[c->dim - 1];
  line l = { .first = 0 };
  if (total == 0) return;
  do {
    for (int64_t i = 0, block = l.block; i < size; i += extent, block++)
      pool_run(score + l.first + i, mask + l.first + i, size - i < extent ? size - i : extent, pool,
               &pooled[block], &entries[block], &alive[block]);
  } while (next_line(c, &l, total));
  for (int64_t b = 0; b < c->count && pool != PR_POOL_MAX; b++) pooled[b] /= entries[b];
}

static void zero_blocks(prP_draft *d, const cut *c, const float *before, const float *after) {
  float *mask = prT_data(d->mask);
  int64_t total = pr_numel(d->parameter), size = c->shape[c->dim - 1], extent = c->extent[c->dim - 1];
  line l = { .first = 0 };
  if (total == 0) return;
  do {
    for (int64_t i = 0, block = l.block; i < size; i += extent, block++)
      if (before[block] != 0 && after[block] == 0)
        memset(mask + l.first + i, 0, (size_t)(size - i < extent ? size - i : extent) * sizeof *mask);
  } while (next_line(c, &l, total));
}

/* What is worked out beside the parameters: of all blocks, one parameter's after the other's. */
typedef struct ranking {
  prP_draft *draft;
  cut *cuts;
  prP_span *span;
  double *pooled, *entries;
  float *alive, *before;
  int64_t count;
} ranking;

static void ranking_free(ranking *r, int n) {
  if (r->draft) prP_drafts_free(r->draft, n);
  PRB_ARRAY_FREE(r->draft, n + 1);
  PRB_ARRAY_FREE(r->cuts, n + 1);
  PRB_ARRAY_FREE(r->span, n + 1);
  PRB_ARRAY_FREE(r->pooled, r->count + 1);
  PRB_ARRAY_FREE(r->entries, r->count + 1);
  PRB_ARRAY_FREE(r->alive, r->count + 1);
  PRB_ARRAY_FREE(r->before, r->count + 1);
}

static pr_status ranking_make(ranking *r, pr_tensor *const *parameter, int n, const pr_blocks *blocks) {
  r->draft = PRB_ARRAY(prP_draft, n + 1);
  r->cuts = PRB_ARRAY(cut, n + 1);
  r->span = PRB_ARRAY(prP_span, n + 1);
  if (!r->draft || !r->cuts || !r->span) return PR_ERR_MEMORY;
  int64_t count = 0;
  for (int i = 0; i < n; i++) count += (r->cuts[i] = cut_of(parameter[i], blocks)).count;
  r->count = count;
  r->pooled = PRB_ARRAY(double, count + 1);
  r->entries = PRB_ARRAY(double, count + 1);
  r->alive = PRB_ARRAY(float, count + 1);
  r->before = PRB_ARRAY(float, count + 1);
  return r->pooled && r->entries && r->alive && r->before ? PR_OK : PR_ERR_MEMORY;
}

static void rank(ranking *r, int n, pr_pool pool, pr_mask_method method) {
  uint64_t step = method == PR_MASK_RANDOM ? prB_next_step() : 0, seed = pr_seed_get();
  int64_t first = 0;
  for (int i = 0; i < n; first += r->cuts[i].count, i++) {
    r->span[i] = (prP_span){ r->pooled + first, r->alive + first, r->cuts[i].count };
    pool_all(&r->draft[i], &r->cuts[i], pool, r->pooled + first, r->entries + first, r->alive + first);
  }
  for (int64_t b = 0; b < r->count && method == PR_MASK_RANDOM; b++)
    r->pooled[b] = prB_uniform(seed, PR_STREAM_OPERATOR, step, (uint64_t)b);
  memcpy(r->before, r->alive, (size_t)r->count * sizeof *r->alive);
}

static pr_status check_blocks(pr_tensor *const *parameter, int n, const pr_blocks *b) {
  for (int i = 0; i < n; i++) {
    int dim = b->matrix ? 2 : parameter[i]->dim;
    if (dim == 0) return pr_fail(PR_ERR_SHAPE, "a parameter without dimensions has no blocks");
    for (int d = 0; d < dim; d++)
      if (b->extent[d] < 0)
        return pr_fail(PR_ERR_ARGUMENT, "a block's size must not be negative, got %lld",
                       (long long)b->extent[d]);
  }
  return PR_OK;
}

pr_status pr_mask_blocks(pr_tensor *const *parameter, pr_tensor *const *scores, int n,
                         const pr_blocks *blocks, pr_mask_method method, const pr_amount *amount,
                         int64_t *gone) {
  int64_t count = 0, first = 0;
  ranking r = { 0 };
  if (gone) *gone = 0;
  PR_TRY(pr_amount_check(amount));
  PR_TRY(check_list(parameter, scores, n));
  PR_TRY(check_blocks(parameter, n, blocks));
  pr_status status = ranking_make(&r, parameter, n, blocks);
  if (!status) status = make_drafts(r.draft, parameter, scores, n);
  if (!status) {
    rank(&r, n, blocks->pool, method);
    status = prP_zero_lowest(r.span, n, true, amount, "blocks", &count);
  }
  for (int i = 0; i < n && !status; first += r.cuts[i].count, i++) {
    zero_blocks(&r.draft[i], &r.cuts[i], r.before + first, r.alive + first);
    prP_draft_commit(&r.draft[i]);
  }
  if (gone) *gone = count;
  ranking_free(&r, n);
  return status;
}
