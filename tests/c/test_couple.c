/* The label algebra against brute force: whatever sequence of operations ran, every assignment of alive and
 * dead to the primitives that are left must fulfil every tie, product and pin that was asked for. And where
 * exactness is due, no freedom may be lost. */
#include "couple/label.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { LABELS = 24, DEMANDS = 8192, PRIMITIVES = 512 };

typedef struct demand { /* kind 0: x = y; 1: x = y and z; 2: x is alive */
  int kind;
  pr_element x, y, z;
} demand;

typedef struct world {
  prC_algebra algebra;
  pr_label *label[LABELS];
  int64_t size[LABELS];
  int labels;
  demand demand[DEMANDS];
  int demands;
  uint32_t state;
} world;

static uint32_t next_random(world *w) { /* xorshift32 (Marsaglia 2003) */
  w->state ^= w->state << 13, w->state ^= w->state >> 17, w->state ^= w->state << 5;
  return w->state;
}

static int64_t below(world *w, int64_t n) { return next_random(w) % n; }

static void open_world(world *w, uint32_t seed) {
  memset(w, 0, sizeof *w);
  w->state = seed * 2654435761u + 1;
  assert_int_equal(prC_algebra_open(&w->algebra), PR_OK);
}

static pr_element id_of(const pr_label *label, int64_t i) {
  return label && !label->pinned ? label->id[i] : 0;
}

static void ask(world *w, int kind, pr_element x, pr_element y, pr_element z) {
  assert_true(w->demands < DEMANDS);
  w->demand[w->demands++] = (demand){ kind, x, y, z };
}

static int keep(world *w, pr_label *label, int64_t n) {
  int at = w->labels < LABELS ? w->labels++ : (int)below(w, LABELS);
  w->label[at] = label, w->size[at] = n;
  return at;
}

static int roots(world *w, pr_element *root) {
  int n = 0;
  for (size_t x = 1; x < w->algebra.count; x++) {
    const prC_node *node = &w->algebra.node[x];
    if (node->up != (pr_element)x || node->a >= 0) continue;
    assert_true(n < PRIMITIVES);
    root[n++] = (pr_element)x;
  }
  return n;
}

static void check_assignment(world *w, const unsigned char *dead) {
  for (int d = 0; d < w->demands; d++) {
    const demand *q = &w->demand[d];
    bool x = prC_alive(&w->algebra, q->x, dead), y = prC_alive(&w->algebra, q->y, dead),
         z = prC_alive(&w->algebra, q->z, dead);
    if (q->kind == 0)
      assert_int_equal(x, y);
    else if (q->kind == 1)
      assert_int_equal(x, y && z);
    else
      assert_true(x);
  }
}

/* All assignments where there are few primitives; else all single deaths, and random ones. */
static void check_world(world *w) {
  static unsigned char dead[1 << 16];
  pr_element root[PRIMITIVES];
  assert_int_equal(w->algebra.status, PR_OK);
  assert_true(w->algebra.count < sizeof dead);
  /* Long conjunctions pin elements when they are first looked at: settle them. */
  pr_element mono[PRC_MONO];
  for (size_t x = 1; x < w->algebra.count; x++) prC_mono(&w->algebra, (pr_element)x, mono);
  int n = roots(w, root);
  int trials = n <= 6 ? 1 << n : n + 40;
  for (int t = 0; t < trials; t++) {
    memset(dead, 0, w->algebra.count);
    uint32_t bits = 0;
    for (int k = 0; k < n; k++) {
      if (k % 32 == 0) bits = next_random(w) & (t & 1 ? next_random(w) : UINT32_MAX);
      dead[root[k]] = n <= 6 ? t >> k & 1 : t < n ? k == t : bits >> k % 32 & 1;
    }
    check_assignment(w, dead);
  }
}

/* --- single operations ------------------------------------------------------------------------------------------------- */

static int free_classes(world *w) {
  pr_element root[PRIMITIVES];
  return roots(w, root);
}

static pr_label *merge(world *w, pr_label *a, int64_t na, pr_label *b, int64_t nb) {
  pr_label *m = prC_merge(&w->algebra, a, na, b, nb);
  for (int64_t i = 0; i < na * nb; i++) ask(w, 1, id_of(m, i), id_of(a, i / nb), id_of(b, i % nb));
  return m;
}

static void split(world *w, pr_label *label, int64_t p, int64_t q, pr_label **a, pr_label **b) {
  prC_split(&w->algebra, label, p, q, a, b);
  for (int64_t i = 0; i < p * q; i++) ask(w, 1, id_of(label, i), id_of(*a, i / q), id_of(*b, i % q));
}

static void moves_keep_positions(void **state) {
  (void)state;
  world w;
  open_world(&w, 1);
  prC_algebra *a = &w.algebra;
  pr_label *l = prC_fresh(a, 4);
  int64_t index[] = { 3, 0, 0 };
  const struct {
    pr_label *got;
    int n, want[8];
  } rows[] = {
    { prC_sub(a, l, 1, 2, 2), 2, { 1, 3 } },
    { prC_gather(a, l, index, 3), 3, { 3, 0, 0 } },
    { prC_tile(a, l, 4, 2), 8, { 0, 1, 2, 3, 0, 1, 2, 3 } },
    { prC_repeat_each(a, l, 4, 2), 8, { 0, 0, 1, 1, 2, 2, 3, 3 } },
    { prC_roll(a, l, 4, 1), 4, { 3, 0, 1, 2 } },
    { prC_roll(a, l, 4, -5), 4, { 1, 2, 3, 0 } },
    { prC_flip(a, l, 4), 4, { 3, 2, 1, 0 } },
    { prC_concat(a, 2, (pr_label *[]){ l, prC_sub(a, l, 0, 1, 2) }, (int64_t[]){ 4, 2 }),
      6,
      { 0, 1, 2, 3, 0, 1 } },
  };
  for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
    assert_int_equal(rows[r].got->n, rows[r].n);
    for (int i = 0; i < rows[r].n; i++) assert_int_equal(rows[r].got->id[i], l->id[rows[r].want[i]]);
  }
  /* pinned parts of a concatenation are pinned, and the label of nothing but pinned parts is NULL */
  pr_label *mixed = prC_concat(a, 2, (pr_label *[]){ NULL, l }, (int64_t[]){ 2, 4 });
  assert_int_equal(mixed->id[1], 0);
  assert_int_equal(mixed->id[2], l->id[0]);
  assert_null(prC_concat(a, 2, (pr_label *[]){ NULL, NULL }, (int64_t[]){ 2, 4 }));
  assert_null(prC_tile(a, NULL, 3, 2));
  prC_algebra_close(a);
}

static void split_of_a_fresh_axis_frees_both_factors(void **state) {
  (void)state;
  world w;
  open_world(&w, 2);
  pr_label *l = prC_fresh(&w.algebra, 24), *p, *q, *again_p, *again_q;
  split(&w, l, 4, 6, &p, &q);
  assert_int_equal(free_classes(&w), 10);
  split(&w, l, 4, 6, &again_p,
        &again_q); /* the same cut again: the same factors, no new freedom, none lost */
  for (int i = 0; i < 4; i++)
    assert_int_equal(prC_find(&w.algebra, p->id[i]), prC_find(&w.algebra, again_p->id[i]));
  for (int j = 0; j < 6; j++)
    assert_int_equal(prC_find(&w.algebra, q->id[j]), prC_find(&w.algebra, again_q->id[j]));
  assert_int_equal(free_classes(&w), 10);
  check_world(&w);
  prC_algebra_close(&w.algebra);
}

static void splits_refine_where_they_nest_and_fall_back_where_not(void **state) {
  (void)state;
  world w;
  open_world(&w, 3);
  pr_label *l = prC_fresh(&w.algebra, 24), *p, *q;
  split(&w, l, 2, 12, &p, &q);
  split(&w, l, 6, 4, &p, &q);
  assert_int_equal(free_classes(&w), 2 + 3 + 4);
  check_world(&w);
  prC_algebra_close(&w.algebra);

  open_world(&w, 4);
  l = prC_fresh(&w.algebra, 24);
  split(&w, l, 6, 4, &p, &q);
  split(&w, l, 4, 6, &p, &q); /* does not nest: exact, coarser */
  assert_true(free_classes(&w) < 10);
  check_world(&w);
  prC_algebra_close(&w.algebra);
}

static void split_undoes_tile_repeat_and_merge(void **state) {
  (void)state;
  world w;
  open_world(&w, 5);
  prC_algebra *a = &w.algebra;
  pr_label *l = prC_fresh(a, 5), *m = prC_fresh(a, 3), *p, *q;
  split(&w, prC_tile(a, l, 5, 3), 3, 5, &p, &q);
  for (int j = 0; j < 5; j++) assert_int_equal(q->id[j], l->id[j]);
  for (int i = 0; i < 3; i++) assert_int_equal(id_of(p, i), 0);
  split(&w, prC_repeat_each(a, l, 5, 3), 5, 3, &p, &q);
  for (int i = 0; i < 5; i++) assert_int_equal(p->id[i], l->id[i]);
  split(&w, merge(&w, l, 5, m, 3), 5, 3, &p, &q);
  for (int i = 0; i < 5; i++) assert_int_equal(prC_find(a, p->id[i]), l->id[i]);
  for (int j = 0; j < 3; j++) assert_int_equal(prC_find(a, q->id[j]), m->id[j]);
  assert_int_equal(free_classes(&w), 8);
  check_world(&w);
  prC_algebra_close(a);
}

static void split_counts_equal_lines_once(void **state) {
  (void)state;
  world w;
  open_world(&w, 6);
  pr_label *l = prC_fresh(&w.algebra, 4), *p, *q; /* rows a b, a b, c d: two distinct rows */
  int64_t index[] = { 0, 1, 0, 1, 2, 3 };
  split(&w, prC_gather(&w.algebra, l, index, 6), 3, 2, &p, &q);
  assert_int_equal(prC_find(&w.algebra, p->id[0]), prC_find(&w.algebra, p->id[1]));
  assert_int_equal(free_classes(&w), 2 + 2);
  check_world(&w);
  prC_algebra_close(&w.algebra);
}

static void union_branches(void **state) {
  (void)state;
  world w;
  open_world(&w, 7);
  prC_algebra *a = &w.algebra;
  pr_label *l = prC_fresh(a, 3), *m = prC_fresh(a, 3), *n = prC_fresh(a, 4);
  pr_label *lm = merge(&w, l, 3, m, 3);
  /* x = x and r: r is pinned */
  ask(&w, 0, l->id[0], lm->id[0], 0);
  prC_unite_elements(a, l->id[0], lm->id[0]);
  assert_int_equal(prC_find(a, m->id[0]), 0);
  /* one and many: the one is defined by the many */
  ask(&w, 0, n->id[0], lm->id[4], 0);
  prC_unite_elements(a, n->id[0], lm->id[4]);
  pr_element mono[PRC_MONO];
  assert_int_equal(prC_mono(a, n->id[0], mono), 2);
  assert_int_equal(mono[0], l->id[1]);
  /* what is common drops out: l1 and m1 = l1 and n1 ties m1 with n1 */
  pr_element x = prC_and(a, l->id[1], n->id[1]);
  ask(&w, 0, x, lm->id[4], 0);
  prC_unite_elements(a, x, lm->id[4]);
  assert_int_equal(prC_find(a, n->id[1]), prC_find(a, m->id[1]));
  /* different sizes at a place: both pinned */
  x = prC_and(a, n->id[2], n->id[3]);
  ask(&w, 0, x, lm->id[8], 0);
  prC_unite_elements(a, x, lm->id[8]);
  assert_int_equal(prC_find(a, n->id[3]), 0);
  assert_int_equal(prC_find(a, l->id[2]), 0);
  check_world(&w);
  prC_algebra_close(a);
}

static void a_conjunction_that_grows_too_long_is_pinned(void **state) {
  (void)state;
  world w;
  open_world(&w, 8);
  pr_label *l = prC_fresh(&w.algebra, PRC_MONO + 3);
  pr_element all = 0;
  for (int i = 0; i < PRC_MONO; i++) all = prC_and(&w.algebra, all, l->id[i]);
  assert_int_not_equal(prC_find(&w.algebra, all), 0);
  pr_element more = prC_and(&w.algebra, all, l->id[PRC_MONO]);
  ask(&w, 1, more, all, l->id[PRC_MONO]);
  assert_int_equal(free_classes(&w), 2); /* the last two that nobody used */
  check_world(&w);
  prC_algebra_close(&w.algebra);
}

/* --- reshape ------------------------------------------------------------------------------------------------------------ */

/* The position along each axis of the flat index. */
static void unflatten(int64_t flat, int dim, const int64_t *shape, int64_t *at) {
  for (int a = dim - 1; a >= 0; a--) at[a] = flat % shape[a], flat /= shape[a];
}

/* Entry by entry: alive before = alive after, under every assignment. */
static void check_reshape(world *w, const prC_axes *from, const prC_axes *to) {
  int64_t total = 1, i[PRC_DIMS], j[PRC_DIMS];
  for (int a = 0; a < from->dim; a++) total *= from->shape[a];
  for (int64_t flat = 0; flat < total; flat++) {
    pr_element before = 0, after = 0;
    unflatten(flat, from->dim, from->shape, i);
    unflatten(flat, to->dim, to->shape, j);
    for (int a = 0; a < from->dim; a++) before = prC_and(&w->algebra, before, id_of(from->label[a], i[a]));
    for (int a = 0; a < to->dim; a++) after = prC_and(&w->algebra, after, id_of(to->label[a], j[a]));
    ask(w, 0, before, after, 0);
  }
}

static void reshape_keeps_every_entry(void **state) {
  (void)state;
  static const struct {
    int from_dim, to_dim;
    int64_t from[4], to[4];
    int free; /* classes that must be left */
    bool cuts;
  } rows[] = {
    { 2, 1, { 4, 6 }, { 24 }, 10, false },
    { 1, 2, { 24 }, { 4, 6 }, 10, false },
    { 3, 2, { 2, 3, 4 }, { 6, 4 }, 9, false },
    { 2, 3, { 6, 4 }, { 2, 3, 4 }, 9, false },
    { 2, 2, { 2, 12 }, { 6, 4 }, 9, false },
    { 3, 4, { 1, 6, 5 }, { 3, 1, 2, 5 }, 10, false },
    { 2, 2, { 6, 4 }, { 4, 6 }, 0, true },
    { 3, 3, { 5, 6, 4 }, { 5, 4, 6 }, 5, true },
    { 1, 4, { 24 }, { 2, 3, 2, 2 }, 9, false },
    { 4, 1, { 2, 3, 1, 4 }, { 24 }, 9, false },
    { 2, 3, { 4, 9 }, { 2, 6, 3 }, 2 + 2 + 3 + 3, false },
  };
  for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
    world w;
    open_world(&w, 100 + (uint32_t)r);
    prC_axes from = { .dim = rows[r].from_dim }, to = { .dim = rows[r].to_dim };
    for (int a = 0; a < from.dim; a++) {
      from.shape[a] = rows[r].from[a];
      from.label[a] = from.shape[a] == 1 ? NULL : prC_fresh(&w.algebra, from.shape[a]);
      from.dead[a] = 0;
    }
    for (int a = 0; a < to.dim; a++) to.shape[a] = rows[r].to[a];
    assert_int_equal(prC_reshape(&w.algebra, &from, &to), !rows[r].cuts);
    assert_int_equal(free_classes(&w), rows[r].free);
    for (int a = 0; a < to.dim; a++) {
      if (to.label[a]) assert_true(to.dead[a] == 0);
      if (to.shape[a] == 1) assert_null(to.label[a]);
    }
    check_reshape(&w, &from, &to);
    check_world(&w);
    prC_algebra_close(&w.algebra);
  }
}

static void reshape_joins_dead_values(void **state) {
  (void)state;
  world w;
  open_world(&w, 9);
  prC_axes from = { .dim = 3, .shape = { 2, 3, 4 } }, to = { .dim = 2, .shape = { 6, 4 } };
  for (int a = 0; a < 3; a++) from.label[a] = prC_fresh(&w.algebra, from.shape[a]);
  from.dead[0] = 1, from.dead[1] = 1, from.dead[2] = 0.5;
  prC_reshape(&w.algebra, &from, &to);
  assert_true(to.dead[0] == 1 && to.dead[1] == 0.5);
  from.dead[1] = 0; /* a dead entry is 1 or 0, depending on which factor died */
  prC_reshape(&w.algebra, &from, &to);
  assert_true(to.dead[0] != to.dead[0]);
  from.label[0] = NULL; /* a pinned factor never dies */
  prC_reshape(&w.algebra, &from, &to);
  assert_true(to.dead[0] == 0);
  prC_algebra_close(&w.algebra);
}

/* --- random sequences --------------------------------------------------------------------------------------------------- */

typedef struct branches {
  int64_t implies, link, define, pairwise, otherwise;
} branches;

/* Which branch a union is about to take; written from the definition, not from the code. */
static void classify(world *w, pr_element x, pr_element y, branches *b) {
  pr_element m[PRC_MONO], n[PRC_MONO];
  if (!x || !y) return;
  int nm = prC_mono(&w->algebra, x, m), nn = prC_mono(&w->algebra, y, n), common = 0;
  for (int i = 0; i < nm; i++)
    for (int j = 0; j < nn; j++) common += m[i] == n[j];
  int r = nm - common, q = nn - common;
  if (r == 0 && q == 0) return;
  if (r == 0 || q == 0)
    b->implies += nm && nn;
  else if (r == 1 && q == 1)
    b->link++;
  else if (r == 1 || q == 1)
    b->define++;
  else if (r == q)
    b->pairwise++;
  else
    b->otherwise++;
}

static pr_element random_product(world *w) {
  pr_element all = 0;
  for (int64_t k = 1 + below(w, 3); k >= 0; k--) {
    int l = (int)below(w, w->labels);
    all = prC_and(&w->algebra, all, id_of(w->label[l], below(w, w->size[l])));
  }
  return all;
}

static void random_unite(world *w, branches *b) {
  if (below(w, 4) == 0) { /* labels of products are rarer, and their ties the more interesting ones */
    pr_element x = random_product(w), y = random_product(w);
    classify(w, x, y, b);
    ask(w, 0, x, y, 0);
    prC_unite_elements(&w->algebra, x, y);
    return;
  }
  for (int tries = 0; tries < 20; tries++) {
    int x = (int)below(w, w->labels), y = (int)below(w, w->labels);
    if (x == y || w->size[x] != w->size[y]) continue;
    for (int64_t i = 0; i < w->size[x]; i++) {
      pr_element ex = id_of(w->label[x], i), ey = id_of(w->label[y], i);
      classify(w, ex, ey, b);
      ask(w, 0, ex, ey, 0);
      prC_unite_elements(&w->algebra, ex, ey);
    }
    return;
  }
}

static void random_split(world *w) {
  int x = (int)below(w, w->labels);
  int64_t n = w->size[x], factor[] = { 2, 3, 4, 6 }, q = factor[below(w, 4)];
  if (n % q || n == q) return;
  pr_label *outer, *inner;
  split(w, w->label[x], n / q, q, &outer, &inner);
  keep(w, outer, n / q);
  keep(w, inner, q);
}

static void random_step(world *w, branches *b) {
  int x = (int)below(w, w->labels), y = (int)below(w, w->labels);
  int64_t sizes[] = { 2, 3, 4, 6, 12 }, index[12];
  switch (below(w, 9)) {
  case 0: keep(w, prC_fresh(&w->algebra, sizes[x % 5]), sizes[x % 5]); break;
  case 1:
  case 2: random_unite(w, b); break;
  case 3:
  case 4:
    if (w->size[x] * w->size[y] <= 24)
      keep(w, merge(w, w->label[x], w->size[x], w->label[y], w->size[y]), w->size[x] * w->size[y]);
    break;
  case 5:
  case 6: random_split(w); break;
  case 7: {
    int64_t n = sizes[below(w, 5)];
    for (int64_t i = 0; i < n; i++) index[i] = below(w, w->size[x]);
    keep(w, prC_gather(&w->algebra, w->label[x], index, n), n);
    break;
  }
  default:
    if (below(w, 4) == 0 && w->label[x]) {
      int64_t i = below(w, w->size[x]);
      ask(w, 2, id_of(w->label[x], i), 0, 0);
      prC_pin_element(&w->algebra, id_of(w->label[x], i));
    } else {
      keep(w, prC_roll(&w->algebra, w->label[x], w->size[x], 1), w->size[x]);
    }
  }
}

static void random_sequences_stay_exact(void **state) {
  (void)state;
  static world w;
  branches b = { 0 };
  int64_t left = 0;
  for (uint32_t seed = 0; seed < 3000; seed++) {
    open_world(&w, seed + 1000);
    int64_t sizes[] = { 2, 3, 4, 6, 12 };
    for (int k = 0; k < 4; k++) {
      int64_t n = sizes[below(&w, 5)];
      keep(&w, prC_fresh(&w.algebra, n), n);
    }
    int steps = 4 + (int)below(&w, 20);
    for (int s = 0; s < steps; s++) random_step(&w, &b);
    check_world(&w);
    left += free_classes(&w);
    prC_algebra_close(&w.algebra);
  }
  /* every branch of union was on the way, and not everything ended up pinned */
  assert_true(b.implies > 100 && b.link > 1000 && b.define > 100 && b.pairwise > 100 && b.otherwise > 100);
  assert_true(left > 3000);
}

static void ties_of_plain_elements_lose_nothing(void **state) {
  (void)state;
  enum { N = 40 };
  for (uint32_t seed = 0; seed < 200; seed++) {
    world w;
    open_world(&w, seed + 1);
    pr_label *l = prC_fresh(&w.algebra, N);
    int class_of[N];
    for (int i = 0; i < N; i++) class_of[i] = i;
    for (int k = 0; k < 30; k++) {
      int64_t i = below(&w, N), j = below(&w, N);
      prC_unite_elements(&w.algebra, l->id[i], l->id[j]);
      int from = class_of[i], to = class_of[j];
      for (int e = 0; e < N; e++)
        if (class_of[e] == from) class_of[e] = to;
    }
    for (int i = 0; i < N; i++)
      for (int j = 0; j < N; j++)
        assert_int_equal(prC_find(&w.algebra, l->id[i]) == prC_find(&w.algebra, l->id[j]),
                         class_of[i] == class_of[j]);
    prC_algebra_close(&w.algebra);
  }
}

/* --- strict mode, memory ------------------------------------------------------------------------------------------------ */

static void strict_mode_counts_and_changes_nothing(void **state) {
  (void)state;
  world w;
  open_world(&w, 10);
  prC_algebra *a = &w.algebra;
  pr_label *l = prC_fresh(a, 4), *m = prC_fresh(a, 4), *p, *q;
  prC_split(a, l, 2, 2, &p, &q);
  prC_strict(a, NULL);
  prC_unite_elements(a, l->id[0], l->id[0]);
  pr_label *fresh = prC_fresh(a, 4);
  prC_unite(a, fresh, m); /* new ones may join old ones */
  assert_int_equal(a->mismatches, 0);
  assert_int_equal(prC_find(a, fresh->id[1]), m->id[1]);
  prC_unite_elements(a, m->id[0], m->id[1]);
  assert_int_equal(a->mismatches, 1);
  prC_pin_element(a, m->id[2]);
  assert_int_equal(a->mismatches, 2);
  prC_unite_elements(a, m->id[3], l->id[0]); /* an old one cannot be defined anew */
  assert_int_equal(a->mismatches, 3);
  prC_split(a, m, 2, 2, &p, &q); /* nor can an old axis be cut */
  assert_true(a->mismatches > 3);
  for (int i = 0; i < 4; i++) assert_int_equal(prC_find(a, m->id[i]), m->id[i]);
  prC_strict_end(a);
  prC_unite_elements(a, m->id[0], m->id[1]);
  assert_int_equal(prC_find(a, m->id[1]), m->id[0]);
  prC_algebra_close(a);
}

static void strict_mode_exempts_factors_of_size_1(void **state) {
  (void)state;
  world w;
  open_world(&w, 11);
  prC_algebra *a = &w.algebra;
  pr_label *h = prC_fresh(a, 2), *k = prC_fresh(a, 3), *v = prC_fresh(a, 3);
  pr_label *hk = prC_merge(a, h, 2, k, 3), *hv = prC_merge(a, h, 2, v, 3);
  unsigned char dead[64] = { 0 };
  dead[k->id[1]] = dead[k->id[2]] = 1;
  prC_strict(a, dead);
  prC_unite_elements(a, hk->id[0], h->id[0]); /* the one k that is left has no axis any more */
  assert_int_equal(a->mismatches, 0);
  prC_unite_elements(a, hv->id[0], h->id[0]); /* of v there are three */
  assert_int_equal(a->mismatches, 1);
  prC_algebra_close(a);
}

static void every_allocation_can_fail(void **state) {
  (void)state;
  pr_memory_stats before, after;
  pr_memory_get(&before);
  bool whole = false;
  for (size_t n = 1; n < 400 && !whole; n++) {
    prC_algebra a;
    pr_memory_fail_after(n, true);
    pr_status status = prC_algebra_open(&a);
    if (!status) {
      pr_label *l = prC_fresh(&a, 4800), *p, *q;
      prC_split(&a, l, 60, 80, &p, &q);
      prC_unite(&a, prC_merge(&a, p, 60, prC_fresh(&a, 80), 80), l);
      status = a.status;
    }
    pr_memory_fail_after(0, false);
    whole = !status;
    assert_true(status == PR_OK || status == PR_ERR_MEMORY);
    prC_algebra_close(&a);
    pr_memory_get(&after);
    assert_int_equal(after.live, before.live);
  }
  assert_true(whole);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(moves_keep_positions),
    cmocka_unit_test(split_of_a_fresh_axis_frees_both_factors),
    cmocka_unit_test(splits_refine_where_they_nest_and_fall_back_where_not),
    cmocka_unit_test(split_undoes_tile_repeat_and_merge),
    cmocka_unit_test(split_counts_equal_lines_once),
    cmocka_unit_test(union_branches),
    cmocka_unit_test(a_conjunction_that_grows_too_long_is_pinned),
    cmocka_unit_test(reshape_keeps_every_entry),
    cmocka_unit_test(reshape_joins_dead_values),
    cmocka_unit_test(random_sequences_stay_exact),
    cmocka_unit_test(ties_of_plain_elements_lose_nothing),
    cmocka_unit_test(strict_mode_counts_and_changes_nothing),
    cmocka_unit_test(strict_mode_exempts_factors_of_size_1),
    cmocka_unit_test(every_allocation_can_fail),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
