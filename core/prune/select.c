/* select.c - one list of units in the order in which they would go, walked until the target is met. */
#include "prune/select.h"

#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct entry {
  double when, score;
  int32_t unit, group;
} entry;

static int by_score(const void *a, const void *b) {
  const entry *x = a, *y = b;
  if (x->score != y->score) return x->score > y->score ? 1 : -1;
  return (x->unit > y->unit) - (x->unit < y->unit);
}

static int by_when(const void *a, const void *b) {
  const entry *x = a, *y = b;
  if (x->when != y->when) return x->when > y->when ? 1 : -1;
  return by_score(a, b);
}

typedef struct chooser {
  prP_costs costs;
  const pr_selection *how;
  const pr_contender *group;
  int n, pools;
  int32_t total;   /* units of all groups */
  int32_t *first;  /* [n + 1] where a group begins in `local` */
  entry *local;    /* units by group, lowest first */
  int32_t *start;  /* [pools + 1] where a pool begins in `path` */
  entry *path;     /* units by pool, lowest first; then in the order in which they go */
  int32_t *wish;   /* [n] units that a group loses before rounding */
  int32_t *next;   /* [n] position in `local` up to which a group's units were tried */
  int32_t *gone;   /* [n] units that it loses */
  int32_t *killed; /* [kills] in order */
  int32_t kills;
} chooser;

static void chooser_free(chooser *c) {
  prP_costs_close(&c->costs);
  PRB_ARRAY_FREE(c->first, c->n + 1);
  PRB_ARRAY_FREE(c->local, c->total);
  PRB_ARRAY_FREE(c->start, c->pools + 1);
  PRB_ARRAY_FREE(c->path, c->total);
  PRB_ARRAY_FREE(c->wish, c->n);
  PRB_ARRAY_FREE(c->next, c->n);
  PRB_ARRAY_FREE(c->killed, c->total);
}

/* --- lists ---------------------------------------------------------------------------------------------------------------- */

static int32_t size_of(const chooser *c, int g) { return c->first[g + 1] - c->first[g]; }

/* Pools by number, -1 behind them one by one. Groups of their own pool keep the order of `local`. */
static int pool_of(const chooser *c, int g, int *alone) {
  return c->group[g].pool >= 0 ? c->group[g].pool : (*alone)++;
}

static void count_pools(chooser *c) {
  for (int g = 0; g < c->n; g++)
    if (c->group[g].pool >= c->pools) c->pools = c->group[g].pool + 1;
  for (int g = 0; g < c->n; g++) c->pools += c->group[g].pool < 0;
}

static pr_status make_local(chooser *c, const double *score) {
  int32_t at = 0;
  for (int g = 0; g < c->n; g++) {
    for (int32_t i = 0; i < c->group[g].size; i++) {
      int32_t unit = c->group[g].unit[i];
      if (isnan(score[unit]))
        return pr_fail(PR_ERR_ARGUMENT, "the criterion gives NaN for unit %lld", PR_INDEX(unit));
      c->local[at++] = (entry){ 0, score[unit], unit, g };
    }
    c->first[g + 1] = at, c->next[g] = c->first[g];
    qsort(c->local + c->first[g], (size_t)size_of(c, g), sizeof *c->local, by_score);
  }
  return PR_OK;
}

static int first_pool_alone(const chooser *c) {
  int alone = c->pools;
  for (int g = 0; g < c->n; g++) alone -= c->group[g].pool < 0;
  return alone;
}

static pr_status make_path(chooser *c) {
  int32_t *next = PRB_ARRAY(int32_t, c->pools + 1), *groups = PRB_ARRAY(int32_t, c->pools + 1);
  pr_status status = next && groups ? PR_OK : PR_ERR_MEMORY;
  int alone = first_pool_alone(c), again = alone;
  for (int g = 0; g < c->n && !status; g++) c->start[pool_of(c, g, &alone) + 1] += size_of(c, g);
  for (int p = 0; p < c->pools && !status; p++) c->start[p + 1] += c->start[p], next[p] = c->start[p];
  for (int g = 0; g < c->n && !status; g++) {
    int pool = pool_of(c, g, &again);
    memcpy(c->path + next[pool], c->local + c->first[g], (size_t)size_of(c, g) * sizeof *c->path);
    next[pool] += size_of(c, g), groups[pool]++;
  }
  for (int p = 0; p < c->pools && !status; p++)
    if (groups[p] > 1)
      qsort(c->path + c->start[p], (size_t)(c->start[p + 1] - c->start[p]), sizeof *c->path, by_score);
  PRB_ARRAY_FREE(next, c->pools + 1);
  PRB_ARRAY_FREE(groups, c->pools + 1);
  return status;
}

static pr_status chooser_make(chooser *c, pr_pruning *pruning, const double *score) {
  for (int g = 0; g < c->n; g++) c->total += c->group[g].size;
  count_pools(c);
  c->first = PRB_ARRAY(int32_t, c->n + 1), c->start = PRB_ARRAY(int32_t, c->pools + 1);
  c->local = PRB_ARRAY(entry, c->total), c->path = PRB_ARRAY(entry, c->total);
  c->wish = PRB_ARRAY(int32_t, c->n), c->next = PRB_ARRAY(int32_t, c->n);
  c->killed = PRB_ARRAY(int32_t, c->total);
  if (!c->first || !c->start || !c->local || !c->path || !c->wish || !c->next || !c->killed)
    return PR_ERR_MEMORY;
  PR_TRY(prP_costs_open(&c->costs, pruning));
  PR_TRY(make_local(c, score));
  return make_path(c);
}

/* --- one unit more ---------------------------------------------------------------------------------------------------------- */

static int32_t multiple(const pr_selection *how, int32_t kept) {
  int32_t k = how->round_to;
  if (how->rounding == PR_ROUND_UP) return (kept + k - 1) / k * k;
  if (how->rounding == PR_ROUND_NEAREST) return (kept + k / 2) / k * k;
  return kept / k * k;
}

/* Units that go so that the rest is a multiple, when `gone` of a group should. */
static int32_t rounded(const pr_selection *how, int32_t size, int32_t gone, int32_t most) {
  int32_t k = how->round_to, least = size - most, kept = multiple(how, size - gone);
  if (gone == 0) return 0;
  if (kept < k) kept = k;
  if (kept < least) kept = (least + k - 1) / k * k;
  return kept >= size ? 0 : size - kept;
}

static bool kill(chooser *c, int32_t unit) {
  if (!prP_costs_kill(&c->costs, unit)) return false;
  c->killed[c->kills++] = unit;
  return true;
}

static void go_back(chooser *c, int32_t kills) {
  while (c->kills > kills) prP_costs_revive(&c->costs, c->killed[--c->kills]);
}

static void go_on(chooser *c, int32_t kills) {
  for (; c->kills < kills; c->kills++) prP_costs_kill(&c->costs, c->killed[c->kills]);
}

/* The lowest units of a group, as many as rounding wants for one more; false: the group has no more to give.
 */
static bool take_multiple(chooser *c, int g) {
  int32_t mark = c->kills, gone = c->gone[g], end = c->first[g + 1];
  int32_t want = rounded(c->how, size_of(c, g), c->wish[g] + 1, c->group[g].most);
  for (; gone < want && c->next[g] < end; c->next[g]++) gone += kill(c, c->local[c->next[g]].unit);
  if (gone < want) return go_back(c, mark), false;
  c->gone[g] = gone;
  return true;
}

static bool take(chooser *c, const entry *e) {
  int g = e->group;
  if (c->wish[g] >= c->group[g].most) return false;
  if (c->how->round_to > 1) {
    if (!take_multiple(c, g)) return false;
  } else {
    if (c->costs.floors.dead[e->unit] || !kill(c, e->unit)) return false;
    c->gone[g]++;
  }
  c->wish[g]++;
  return true;
}

/* Up to `want` units of path[from] .. path[to - 1]; how many were taken (before rounding). */
static int32_t take_up_to(chooser *c, int32_t from, int32_t to, int32_t want) {
  int32_t taken = 0;
  for (int32_t i = from; i < to && taken < want; i++) taken += take(c, &c->path[i]);
  return taken;
}

/* --- counts ------------------------------------------------------------------------------------------------------------------ */

static int64_t want_of(const chooser *c, int pool) {
  int64_t want = 0;
  int alone = first_pool_alone(c);
  for (int g = 0; g < c->n; g++)
    if (pool_of(c, g, &alone) == pool) want += c->group[g].want;
  return want;
}

/* Would a pool that is a single group keep less than one multiple? Then it stays whole. */
static bool would_vanish(const chooser *c, int pool) {
  int first = c->path[c->start[pool]].group;
  return c->how->round_to > 1 && c->start[pool + 1] - c->start[pool] == size_of(c, first) &&
         multiple(c->how, size_of(c, first) - c->group[first].want) == 0;
}

/* What each pool wants; from pool `first` on. `taken` of `wanted` in all. */
static void take_counts(chooser *c, int first, int64_t *taken, int64_t *wanted) {
  for (int p = first; p < c->pools; p++) {
    int64_t want = want_of(c, p);
    if (want == 0 || would_vanish(c, p)) continue;
    *wanted += want;
    *taken += take_up_to(c, c->start[p], c->start[p + 1], (int32_t)want);
  }
}

static pr_status choose_counts(chooser *c) {
  int64_t taken = 0, wanted = 0;
  take_counts(c, 0, &taken, &wanted);
  if (taken == wanted) return PR_OK;
  int32_t mark = c->kills;
  int64_t most = taken + take_up_to(c, 0, c->total, c->total);
  go_back(c, mark);
  if (most >= wanted) return PR_OK;
  return pr_fail(
      PR_ERR_ARGUMENT,
      "%lld of %lld units should go, but at most %lld can: limits on groups hold the others, and every "
      "axis keeps one",
      (long long)wanted, (long long)c->total, (long long)most);
}

/* --- costs ------------------------------------------------------------------------------------------------------------------- */

/* When the unit of rank `rank` of a group goes, by its curve; infinite: never. */
static double when_of(const pr_contender *group, int32_t size, int32_t rank) {
  double share = (group->before + rank + 1 - 1e-6) / (double)(group->before + size);
  int last = group->points - 1;
  for (int i = 0; i <= last; i++) {
    if (group->curve[i] < share) continue;
    if (i == 0) return 0;
    double rise = group->curve[i] - group->curve[i - 1];
    return (i - 1 + (share - group->curve[i - 1]) / rise) / last;
  }
  return HUGE_VAL;
}

static int32_t had_before(const chooser *c, int pool) {
  int32_t before = 0;
  for (int g = 0; g < c->n; g++)
    if (c->group[g].pool == pool) before += c->group[g].before;
  return before;
}

/* The order in which units of all pools go; those that never go are last. Returns the end of the others. */
static int32_t order_path(chooser *c) {
  int pools = first_pool_alone(c);
  for (int p = 0; p < pools; p++) {
    int32_t size = c->start[p + 1] - c->start[p], before = had_before(c, p);
    for (int32_t i = 0; i < size; i++) {
      entry *e = &c->path[c->start[p] + i];
      const pr_contender *group = &c->group[e->group];
      e->when = group->curve ? when_of(group, size, i) : (before + i + 1) / (double)(before + size);
    }
  }
  int32_t end = c->start[pools];
  if (pools > 1) qsort(c->path, (size_t)end, sizeof *c->path, by_when);
  while (end > 0 && isinf(c->path[end - 1].when)) end--;
  return end;
}

/* For bytes, prP_costs_bytes was called before, so that it cannot fail. */
static double cost_now(chooser *c) {
  pr_outcome outcome;
  if (c->how->target == PR_TARGET_BYTES)
    (void)prP_costs_bytes(&c->costs, &outcome.bytes);
  else
    prP_costs_read(&c->costs, &outcome);
  return c->how->target == PR_TARGET_MACS     ? (double)outcome.macs
         : c->how->target == PR_TARGET_PARAMS ? (double)outcome.params
                                              : (double)outcome.bytes;
}

static pr_status cannot(const chooser *c, double before, double least) {
  static const char *const words[] = { "", "", "MACs", "parameters", "bytes" };
  return pr_fail(PR_ERR_ARGUMENT,
                 "the target of %.0f %s cannot be met: %.0f (%.1f %%) are left when all units go that may go "
                 "(limits on groups hold some, and every axis keeps one)",
                 c->how->amount, words[c->how->target], least, before > 0 ? 100 * least / before : 0);
}

/* The shortest prefix of the moves that meets the target; move m ends with end[m] kills. */
static void search(chooser *c, const int32_t *end, int32_t moves, int32_t kills) {
  int32_t low = 0, high = moves;
  while (low < high) {
    int32_t middle = low + (high - low) / 2, want = middle ? end[middle - 1] : kills;
    go_back(c, want);
    go_on(c, want);
    if (cost_now(c) <= c->how->amount)
      high = middle;
    else
      low = middle + 1;
  }
  go_back(c, high ? end[high - 1] : kills);
  go_on(c, high ? end[high - 1] : kills);
}

static pr_status choose_cost(chooser *c, double before) {
  int32_t path = order_path(c), moves = 0, settled = c->kills;
  int32_t *end = PRB_ARRAY(int32_t, c->total);
  if (!end) return PR_ERR_MEMORY;
  for (int32_t i = 0; i < path; i++)
    if (take(c, &c->path[i])) end[moves++] = c->kills;
  double least = cost_now(c);
  pr_status status = least > c->how->amount ? cannot(c, before, least) : PR_OK;
  if (!status) search(c, end, moves, settled);
  PRB_ARRAY_FREE(end, c->total);
  return status;
}

static pr_status choose(chooser *c) {
  if (c->how->target == PR_TARGET_COUNTS) return choose_counts(c);
  double before = c->how->target == PR_TARGET_UNITS ? 0 : cost_now(c);
  int64_t taken = 0, wanted = 0;
  take_counts(c, first_pool_alone(c), &taken, &wanted);
  if (c->how->target != PR_TARGET_UNITS) return choose_cost(c, before);
  int32_t end = order_path(c);
  for (int32_t i = 0; i < end && c->kills < c->how->amount; i++) take(c, &c->path[i]);
  return PR_OK;
}

static pr_status check(const pr_selection *how) {
  if (how->target != PR_TARGET_COUNTS && !(how->amount >= 0))
    return pr_fail(PR_ERR_ARGUMENT, "the target must be at least 0, got %g", how->amount);
  if (how->round_to < 1)
    return pr_fail(PR_ERR_ARGUMENT, "round_to must be at least 1, got %d", how->round_to);
  return PR_OK;
}

pr_status pr_select(pr_pruning *pruning, const pr_selection *how, const pr_contender *group, int n,
                    const double *score, unsigned char *dead_unit, int32_t *gone, pr_outcome *outcome) {
  PR_TRY(check(how));
  chooser c = { .how = how, .group = group, .n = n, .gone = gone };
  memset(gone, 0, (size_t)n * sizeof *gone);
  pr_status status = chooser_make(&c, pruning, score);
  if (!status && how->target == PR_TARGET_BYTES) status = prP_costs_bytes(&c.costs, &outcome->bytes);
  if (!status) status = choose(&c);
  if (!status) {
    prP_costs_read(&c.costs, outcome);
    status = prP_costs_bytes(&c.costs, &outcome->bytes);
    memcpy(dead_unit, c.costs.floors.dead, (size_t)pruning->units.count);
    memset(gone, 0, (size_t)n * sizeof *gone);
    for (int32_t i = 0; i < c.total; i++) gone[c.local[i].group] += dead_unit[c.local[i].unit];
  }
  chooser_free(&c);
  return status;
}

pr_status pr_outcome_of(pr_pruning *pruning, const unsigned char *dead_unit, pr_outcome *outcome) {
  prP_costs costs;
  PR_TRY(prP_costs_open(&costs, pruning));
  pr_status status = PR_OK;
  for (int32_t u = 0; u < pruning->units.count && !status; u++)
    if (dead_unit[u] && !prP_costs_kill(&costs, u))
      status = pr_fail(PR_ERR_ARGUMENT, "with these units gone nothing would be left of some axis");
  if (!status) prP_costs_read(&costs, outcome);
  prP_costs_close(&costs);
  return status;
}
