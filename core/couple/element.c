/* element.c - union-find with conjunctions.
 *
 * Invariants. A derived root is never linked under anything but 0 or the single entry that it has come to
 * equal, so its definition is not lost; primitives are linked under derived roots. Definitions are acyclic:
 * prC_define takes factors that do not depend on the element. Derived elements are chains whose right factor
 * was primitive when it was made, so depth stays near the number of entries.
 */
#include "couple/element.h"

#include <string.h>

enum { BLOCK = 1 << 16, WALK = 4096 };

typedef struct prC_block {
  struct prC_block *next;
  size_t size, used; /* size: of the whole block */
  _Alignas(16) unsigned char byte[];
} prC_block;

pr_status prC_algebra_open(prC_algebra *algebra) {
  *algebra = (prC_algebra){ 0 };
  PR_TRY(PRB_RESERVE(algebra->node, algebra->node_capacity, 1024));
  algebra->node[0] = (prC_node){ .up = 0, .a = -1, .b = -1, .set = -1 };
  algebra->count = 1;
  return PR_OK;
}

void prC_algebra_close(prC_algebra *algebra) {
  for (prC_block *block = algebra->blocks, *next; block; block = next) {
    next = block->next;
    prB_resize(block, block->size, 0);
  }
  PRB_ARRAY_FREE(algebra->node, algebra->node_capacity);
  PRB_ARRAY_FREE(algebra->set, algebra->set_capacity);
  PRB_ARRAY_FREE(algebra->note, algebra->note_capacity);
  PRB_ARRAY_FREE(algebra->name, algebra->name_capacity);
  PRB_ARRAY_FREE(algebra->mark, algebra->mark_capacity);
  PRB_ARRAY_FREE(algebra->tally, algebra->tally_capacity);
  *algebra = (prC_algebra){ 0 };
}

static void keep_status(prC_algebra *algebra, pr_status status) {
  if (!algebra->status) algebra->status = status;
}

void *prC_arena(prC_algebra *algebra, size_t size) {
  size = (size + 15) & ~(size_t)15;
  prC_block *block = algebra->blocks;
  if (!block || block->size - sizeof *block - block->used < size) {
    size_t bytes = sizeof *block + (size > BLOCK ? size : BLOCK);
    block = prB_resize(NULL, 0, bytes);
    if (!block) return keep_status(algebra, PR_ERR_MEMORY), NULL;
    *block = (prC_block){ .size = bytes };
    if (size > BLOCK && algebra->blocks) { /* a block of its own, behind the one that still has room */
      block->next = algebra->blocks->next;
      algebra->blocks->next = block;
    } else {
      block->next = algebra->blocks;
      algebra->blocks = block;
    }
  }
  void *memory = block->byte + block->used;
  block->used += size;
  return memset(memory, 0, size);
}

static bool room(prC_algebra *algebra, int64_t n) {
  size_t need = algebra->count + (size_t)n;
  if (n < 0 || need > INT32_MAX)
    return keep_status(algebra, pr_fail(PR_ERR_UNSUPPORTED, "more than 2^31 positions to couple")), false;
  pr_status status = PRB_RESERVE(algebra->node, algebra->node_capacity, need);
  if (status) keep_status(algebra, status);
  return !status;
}

pr_element prC_primitives(prC_algebra *algebra, int64_t n) {
  pr_status status = PRB_RESERVE(algebra->set, algebra->set_capacity, algebra->sets + 1);
  if (status) return keep_status(algebra, status), 0;
  if (!room(algebra, n)) return 0;
  pr_element first = (pr_element)algebra->count;
  int32_t set = (int32_t)algebra->sets;
  algebra->set[algebra->sets++] = (prC_index_set){ .size = (int32_t)n };
  for (int64_t i = 0; i < n; i++)
    algebra->node[first + i] = (prC_node){ .up = (pr_element)(first + i), .a = -1, .b = -1, .set = set };
  algebra->count += (size_t)n;
  return first;
}

/* Append the entries of x that are not there yet. False: too many entries, or a walk so long that they are
 * not worth having. */
static bool collect(prC_algebra *algebra, pr_element x, pr_element *entries, int *n, int *walk) {
  x = prC_find(algebra, x);
  if (x == 0) return true;
  if (++*walk > WALK) return false;
  const prC_node *node = &algebra->node[x];
  if (node->a >= 0)
    return collect(algebra, node->a, entries, n, walk) && collect(algebra, node->b, entries, n, walk);
  for (int i = 0; i < *n; i++)
    if (entries[i] == x) return true;
  if (*n == PRC_MONO) return false;
  entries[(*n)++] = x;
  return true;
}

int prC_mono(prC_algebra *algebra, pr_element x, pr_element *entries) {
  x = prC_find(algebra, x);
  if (x == 0) return 0;
  if (algebra->node[x].a < 0) return entries[0] = x, 1;
  int n = 0, walk = 0;
  if (!collect(algebra, x, entries, &n, &walk)) {
    prC_pin_element(algebra, x);
    return 0;
  }
  if (n < 2) algebra->node[x].up = n ? entries[0] : 0;
  return n;
}

static bool held(const prC_algebra *algebra, pr_element root) {
  return algebra->strict && root != 0 && root < algebra->strict_from;
}

static void mismatch(prC_algebra *algebra, pr_element x, pr_element y) {
  algebra->mismatches++;
  algebra->mismatch[0] = x, algebra->mismatch[1] = y;
}

/* A held primitive that is the only live one of its index set. */
static bool shrunk(const prC_algebra *algebra, pr_element root) {
  int32_t set = algebra->node[root].set;
  return held(algebra, root) && set >= 0 && algebra->set[set].live == 1;
}

static void pin_walk(prC_algebra *algebra, pr_element x, bool factor) {
  x = prC_find(algebra, x);
  if (x == 0) return;
  prC_node *node = &algebra->node[x];
  if (node->a >= 0) {
    pin_walk(algebra, node->a, true);
    pin_walk(algebra, algebra->node[x].b, true);
    if (held(algebra, x)) return;
  } else if (held(algebra, x)) {
    if (!factor || !shrunk(algebra, x)) mismatch(algebra, x, 0);
    return;
  }
  algebra->node[x].up = 0; /* also a derived one: it has no entry left, and is not walked again */
}

void prC_pin_element(prC_algebra *algebra, pr_element x) { pin_walk(algebra, x, false); }

static pr_element conjunction(prC_algebra *algebra, pr_element x, pr_element y) {
  if (!room(algebra, 1)) return 0;
  pr_element made = (pr_element)algebra->count++;
  algebra->node[made] = (prC_node){ .up = made, .a = x, .b = y, .set = -1 };
  return made;
}

pr_element prC_and(prC_algebra *algebra, pr_element x, pr_element y) {
  x = prC_find(algebra, x), y = prC_find(algebra, y);
  if (x == 0 || x == y) return y;
  if (y == 0) return x;
  if (algebra->node[x].a < 0 && algebra->node[y].a < 0) return conjunction(algebra, x, y);
  pr_element entries[PRC_MONO];
  int n = prC_mono(algebra, y, entries);
  for (int i = 0; i < n; i++) x = conjunction(algebra, x, entries[i]);
  /* One entry or none can be left (y pinned by its length, y among the entries of x), or more than a
   * conjunction may have: mono settles it. */
  n = prC_mono(algebra, x, entries);
  return n == 0 ? 0 : n == 1 ? entries[0] : x;
}

bool prC_define(prC_algebra *algebra, pr_element x, const pr_element *factors, int n) {
  if (held(algebra, x)) return mismatch(algebra, x, n ? factors[0] : 0), false;
  pr_element all = 0;
  for (int i = 0; i < n - 1; i++) all = prC_and(algebra, all, factors[i]);
  pr_element last = n ? prC_find(algebra, factors[n - 1]) : 0;
  if (all == 0 || last == 0) {
    algebra->node[x].up = all ? all : last;
  } else {
    algebra->node[x].a = all, algebra->node[x].b = last;
  }
  return true;
}

/* Link two primitive roots; older ones stay, so that classes do not depend on the order of later ties. */
static void link(prC_algebra *algebra, pr_element x, pr_element y) {
  if (x == y) return;
  pr_element older = x < y ? x : y, newer = x < y ? y : x;
  if (held(algebra, newer)) {
    mismatch(algebra, x, y);
  } else {
    algebra->node[newer].up = older;
  }
}

static bool contains(const pr_element *entries, int n, pr_element x) {
  for (int i = 0; i < n; i++)
    if (entries[i] == x) return true;
  return false;
}

/* What is in `from` and not in `other`; entries that shrank to a size of 1 fall out of conjunctions. */
static int rest(const prC_algebra *algebra, const pr_element *from, int n, const pr_element *other, int m,
                pr_element *out) {
  int k = 0;
  for (int i = 0; i < n; i++) {
    if (contains(other, m, from[i]) || (n > 1 && shrunk(algebra, from[i]))) continue;
    out[k++] = from[i];
  }
  return k;
}

static int32_t set_size(const prC_algebra *algebra, pr_element root) {
  int32_t set = algebra->node[root].set;
  return set < 0 ? -1 : algebra->set[set].size;
}

static bool same_sizes(const prC_algebra *algebra, const pr_element *a, const pr_element *b, int n) {
  for (int i = 0; i < n; i++)
    if (set_size(algebra, a[i]) < 0 || set_size(algebra, a[i]) != set_size(algebra, b[i])) return false;
  return true;
}

/* One primitive equals the conjunction of many others. */
static void define_one(prC_algebra *algebra, pr_element one, const pr_element *many, int n) {
  if (!held(algebra, one)) {
    prC_define(algebra, one, many, n);
    return;
  }
  mismatch(algebra, one, many[0]);
}

void prC_unite_elements(prC_algebra *algebra, pr_element x, pr_element y) {
  x = prC_find(algebra, x), y = prC_find(algebra, y);
  if (x == y) return;
  if (x && y && algebra->node[x].a < 0 && algebra->node[y].a < 0) {
    link(algebra, x, y);
    return;
  }
  pr_element m[PRC_MONO], n[PRC_MONO], r[PRC_MONO], q[PRC_MONO];
  int nm = prC_mono(algebra, x, m), nn = prC_mono(algebra, y, n);
  int nr = rest(algebra, m, nm, n, nn, r), nq = rest(algebra, n, nn, m, nm, q);
  if (nr == 0 && nq == 0) return;
  if (nr == 1 && nq == 1) {
    link(algebra, r[0], q[0]);
  } else if (nr && nq && nr == 1) {
    define_one(algebra, r[0], q, nq);
  } else if (nr && nq && nq == 1) {
    define_one(algebra, q[0], r, nr);
  } else if (nr && nr == nq && same_sizes(algebra, r, q, nr)) {
    for (int i = 0; i < nr; i++) link(algebra, prC_find(algebra, r[i]), prC_find(algebra, q[i]));
  } else {
    for (int i = 0; i < nr; i++) prC_pin_element(algebra, r[i]);
    for (int i = 0; i < nq; i++) prC_pin_element(algebra, q[i]);
  }
}

bool prC_alive(prC_algebra *algebra, pr_element x, const unsigned char *dead) {
  pr_element entries[PRC_MONO];
  if (!dead) return true;
  x = prC_find(algebra, x);
  if (x == 0 || algebra->node[x].a < 0) return !x || !dead[x];
  int n = prC_mono(algebra, x, entries);
  for (int i = 0; i < n; i++)
    if (dead[entries[i]]) return false;
  return true;
}

void prC_strict(prC_algebra *algebra, const unsigned char *dead) {
  for (size_t s = 0; s < algebra->sets; s++) algebra->set[s].live = 0;
  for (size_t x = 1; x < algebra->count; x++) {
    const prC_node *node = &algebra->node[x];
    if (node->up == (pr_element)x && node->a < 0 && !(dead && dead[x])) algebra->set[node->set].live++;
  }
  algebra->strict = true;
  algebra->strict_from = (pr_element)algebra->count;
  algebra->mismatches = 0;
}

void prC_strict_end(prC_algebra *algebra) {
  /* Nothing held points to a newer element, so the newer ones can simply go. */
  algebra->count = (size_t)algebra->strict_from;
  algebra->strict = false;
}

int32_t prC_marks(prC_algebra *algebra) {
  if (algebra->mark_capacity < algebra->count || algebra->tally_capacity < algebra->count) {
    size_t old = algebra->mark_capacity;
    pr_status status = PRB_RESERVE(algebra->mark, algebra->mark_capacity, algebra->node_capacity);
    if (!status) status = PRB_RESERVE(algebra->tally, algebra->tally_capacity, algebra->node_capacity);
    if (status) return keep_status(algebra, status), 0;
    memset(algebra->mark + old, 0, (algebra->mark_capacity - old) * sizeof *algebra->mark);
  }
  if (algebra->generation == INT32_MAX) {
    memset(algebra->mark, 0, algebra->mark_capacity * sizeof *algebra->mark);
    algebra->generation = 0;
  }
  return ++algebra->generation;
}
