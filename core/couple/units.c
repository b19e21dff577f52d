/* units.c - from labels to lists of members, scopes and floors. */
#include "couple/units.h"

#include <stdlib.h>
#include <string.h>

/* The conjunctions of all positions of distinct labels, one label after another. */
typedef struct table {
  prC_algebra *algebra;
  pr_label **label;
  size_t labels, label_capacity;
  int64_t *first;    /* [labels + 1] global position where a label begins */
  int64_t *start;    /* [positions + 1] into entry */
  pr_element *entry; /* primitive roots; later units */
  size_t entry_capacity;
  int64_t positions;
} table;

static void table_close(table *t) {
  for (size_t l = 0; l < t->labels; l++) t->label[l]->tag = 0;
  PRB_ARRAY_FREE(t->first, t->labels + 1);
  PRB_ARRAY_FREE(t->start, t->positions + 1);
  PRB_ARRAY_FREE(t->entry, t->entry_capacity);
  PRB_ARRAY_FREE(t->label, t->label_capacity);
}

static pr_status gather_labels(table *t, const prC_value *value, int values, bool parameters_only) {
  for (int v = 0; v < values; v++) {
    if (parameters_only && !value[v].is_parameter) continue;
    for (int a = 0; a < value[v].dim; a++) {
      pr_label *label = prC_unpinned(value[v].label[a]);
      if (!label || label->tag) continue;
      PR_TRY(PRB_RESERVE(t->label, t->label_capacity, t->labels + 1));
      t->label[t->labels++] = label;
      label->tag = (int32_t)t->labels;
      t->positions += label->n;
    }
  }
  return PR_OK;
}

static bool is_product(prC_algebra *algebra, pr_element x) {
  return algebra->node[prC_find(algebra, x)].a >= 0;
}

static pr_status table_open(table *t, prC_algebra *algebra, const prC_value *value, int values,
                            bool parameters_only) {
  *t = (table){ .algebra = algebra };
  pr_status status = gather_labels(t, value, values, parameters_only);
  t->first = PRB_ARRAY(int64_t, t->labels + 1);
  t->start = PRB_ARRAY(int64_t, t->positions + 1);
  if (status || !t->first || !t->start) return PR_ERR_MEMORY;
  pr_element mono[PRC_MONO];
  /* A conjunction that is too long pins elements of others: settle all before any is written down. */
  for (size_t l = 0; l < t->labels; l++)
    for (int32_t i = 0; i < t->label[l]->n; i++)
      if (is_product(algebra, t->label[l]->id[i])) prC_mono(algebra, t->label[l]->id[i], mono);
  PR_TRY(PRB_RESERVE(t->entry, t->entry_capacity, (size_t)t->positions + 1));
  int64_t at = 0;
  for (size_t l = 0; l < t->labels; l++) {
    t->first[l] = at;
    for (int32_t i = 0; i < t->label[l]->n; i++, at++) {
      pr_element x = t->label[l]->id[i];
      int n;
      if (is_product(algebra, x)) {
        n = prC_mono(algebra, x, mono);
      } else {
        mono[0] = prC_find(algebra, x), n = mono[0] != 0;
      }
      PR_TRY(PRB_RESERVE(t->entry, t->entry_capacity, (size_t)(t->start[at] + n)));
      if (n) memcpy(t->entry + t->start[at], mono, (size_t)n * sizeof *mono);
      t->start[at + 1] = t->start[at] + n;
    }
  }
  t->first[t->labels] = at;
  return PR_OK;
}

/* The label number of a value's axis, or -1 where it is pinned. */
static int64_t number_of(const prC_value *value, int axis) {
  const pr_label *label = prC_unpinned(value->label[axis]);
  return label ? label->tag - 1 : -1;
}

/* --- units and members ------------------------------------------------------------------------------- */

static bool is_bit(uint8_t bits, int axis) { return bits >> axis & 1; }

/* Is the axis more than the input slice of a consumer? */
static bool makes_unit(const prC_value *value, int axis) {
  return !is_bit(value->consumer, axis) || is_bit(value->producer, axis);
}

enum { UNSEEN = -1, OFFERED = -2 };

/* Numbers units in the order in which parameters show them, and replaces roots in the table by units (-1: not
 * offered). */
static pr_status number_units(prC_units *u, table *t, const prC_value *value, int values) {
  u->elements = u->algebra->count;
  u->unit_of = PRB_ARRAY(int32_t, u->elements);
  if (!u->unit_of) return PR_ERR_MEMORY;
  memset(u->unit_of, 0xff, u->elements * sizeof *u->unit_of);
  int32_t offered = 0;
  for (int v = 0; v < values; v++) {
    for (int a = 0; a < value[v].dim && value[v].is_parameter; a++) {
      int64_t l = number_of(&value[v], a);
      if (l < 0 || !makes_unit(&value[v], a)) continue;
      for (int64_t e = t->start[t->first[l]]; e < t->start[t->first[l + 1]]; e++) {
        offered += u->unit_of[t->entry[e]] == UNSEEN;
        u->unit_of[t->entry[e]] = OFFERED;
      }
    }
  }
  u->root = PRB_ARRAY(pr_element, offered);
  if (!u->root) return PR_ERR_MEMORY;
  u->count = offered;
  int32_t next = 0;
  for (int64_t e = 0; e < t->start[t->positions];
       e++) { /* labels stand in the order in which parameters show them */
    pr_element root = t->entry[e];
    if (u->unit_of[root] == OFFERED) {
      u->root[next] = root;
      u->unit_of[root] = next++;
    }
    t->entry[e] = u->unit_of[root];
  }
  return PR_OK;
}

static pr_status list_members(prC_units *u, const table *t, const prC_value *value, int values) {
  u->start = PRB_ARRAY(int64_t, u->count + 1);
  int64_t *uses = PRB_ARRAY(int64_t, t->labels + 1);
  if (!u->start || !uses) return PRB_ARRAY_FREE(uses, t->labels + 1), PR_ERR_MEMORY;
  for (int v = 0; v < values; v++)
    for (int a = 0; a < value[v].dim && value[v].is_parameter; a++)
      if (number_of(&value[v], a) >= 0) uses[number_of(&value[v], a)]++;
  for (size_t l = 0; l < t->labels; l++)
    for (int64_t e = t->start[t->first[l]]; e < t->start[t->first[l + 1]]; e++)
      if (t->entry[e] >= 0) u->start[t->entry[e] + 1] += uses[l];
  PRB_ARRAY_FREE(uses, t->labels + 1);
  for (int32_t k = 0; k < u->count; k++) u->start[k + 1] += u->start[k];
  u->members = u->start[u->count];
  u->member = PRB_ARRAY(prC_member, u->members);
  int64_t *next = PRB_ARRAY(int64_t, u->count + 1);
  if (!u->member || !next) return PRB_ARRAY_FREE(next, u->count + 1), PR_ERR_MEMORY;
  memcpy(next, u->start, ((size_t)u->count + 1) * sizeof *next);
  for (int v = 0; v < values; v++) {
    for (int a = 0; a < value[v].dim && value[v].is_parameter; a++) {
      int64_t l = number_of(&value[v], a);
      for (int64_t p = l < 0 ? 0 : t->first[l]; l >= 0 && p < t->first[l + 1]; p++) {
        for (int64_t e = t->start[p]; e < t->start[p + 1]; e++) {
          if (t->entry[e] < 0) continue;
          u->member[next[t->entry[e]]++] =
              (prC_member){ v, (int32_t)(p - t->first[l]), (int16_t)a, (int16_t)(e - t->start[p]) };
        }
      }
    }
  }
  PRB_ARRAY_FREE(next, u->count + 1);
  return PR_OK;
}

/* --- scopes ------------------------------------------------------------------------------------------ */

typedef struct key { /* of a multiset: sums of two independent hashes of its elements; a count tells the empty
                        one */
  uint64_t a, b, count;
} key;

typedef struct keys { /* of what a label's users, or a unit's members, are */
  key producers, all;
} keys;

static uint64_t mix(uint64_t x) { /* the finaliser of SplitMix64 (Steele, Lea, Flood 2014) */
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

static void include(key *k, const key *other) {
  k->a += other->a, k->b += other->b, k->count += other->count;
}

static key member_key(int parameter, int axis, int place) {
  uint64_t id = (uint64_t)parameter << 16 | (uint64_t)axis << 8 | (uint64_t)place;
  uint64_t a = mix(id + 0x9e3779b97f4a7c15u);
  return (key){ a, mix(a ^ 0xd1b54a32d192ed03u), 1 };
}

/* What all users of a label add to the keys of the units at each place of its positions: users[label * places
 * + place]. */
static void label_keys(const prC_value *value, int values, int places, keys *users) {
  for (int v = 0; v < values; v++) {
    for (int a = 0; a < value[v].dim && value[v].is_parameter; a++) {
      int64_t l = number_of(&value[v], a);
      for (int place = 0; l >= 0 && place < places; place++) {
        key member = member_key(v, a, place);
        include(&users[l * places + place].all, &member);
        if (is_bit(value[v].producer, a)) include(&users[l * places + place].producers, &member);
      }
    }
  }
}

static int most_places(const table *t) {
  int64_t most = 1;
  for (int64_t p = 0; p < t->positions; p++)
    if (t->start[p + 1] - t->start[p] > most) most = t->start[p + 1] - t->start[p];
  return (int)most;
}

/* The key of every unit: of its producer members, where it has any and not all are asked for. */
static pr_status unit_keys(const prC_units *u, const table *t, const prC_value *value, int values,
                           bool full_key, keys *of_unit) {
  int places = most_places(t);
  keys *users = PRB_ARRAY(keys, t->labels * (size_t)places);
  if (!users) return PR_ERR_MEMORY;
  label_keys(value, values, places, users);
  for (size_t l = 0; l < t->labels; l++) {
    for (int64_t p = t->first[l]; p < t->first[l + 1]; p++) {
      for (int64_t e = t->start[p]; e < t->start[p + 1]; e++) {
        if (t->entry[e] < 0) continue;
        const keys *add = &users[l * (size_t)places + (size_t)(e - t->start[p])];
        include(&of_unit[t->entry[e]].all, &add->all);
        include(&of_unit[t->entry[e]].producers, &add->producers);
      }
    }
  }
  PRB_ARRAY_FREE(users, t->labels * (size_t)places);
  for (int32_t k = 0; k < u->count; k++)
    if (full_key || !of_unit[k].producers.count) of_unit[k].producers = of_unit[k].all;
  return PR_OK;
}

static pr_status list_scopes(prC_units *u) {
  u->scope_start = PRB_ARRAY(int32_t, u->scopes + 1);
  u->scope_unit = PRB_ARRAY(int32_t, u->count);
  int32_t *next = PRB_ARRAY(int32_t, u->scopes + 1);
  if (!u->scope_start || !u->scope_unit || !next) return PRB_ARRAY_FREE(next, u->scopes + 1), PR_ERR_MEMORY;
  for (int32_t k = 0; k < u->count; k++) u->scope_start[u->scope[k] + 1]++;
  for (int32_t s = 0; s < u->scopes; s++) u->scope_start[s + 1] += u->scope_start[s];
  memcpy(next, u->scope_start, ((size_t)u->scopes + 1) * sizeof *next);
  for (int32_t k = 0; k < u->count; k++) u->scope_unit[next[u->scope[k]]++] = k;
  PRB_ARRAY_FREE(next, u->scopes + 1);
  return PR_OK;
}

/* Units with equal keys form a scope; scopes are numbered by their first unit. */
static void number_scopes(prC_units *u, const keys *of_unit, int32_t *slot, size_t slots) {
  for (int32_t k = 0; k < u->count; k++) {
    const key *mine = &of_unit[k].producers;
    size_t at = mine->a & (slots - 1);
    for (; slot[at]; at = (at + 1) & (slots - 1)) { /* slot: 1 + first unit of a scope */
      const key *other = &of_unit[slot[at] - 1].producers;
      if (other->a == mine->a && other->b == mine->b && other->count == mine->count) break;
    }
    u->scope[k] = slot[at] ? u->scope[slot[at] - 1] : u->scopes++;
    if (!slot[at]) slot[at] = k + 1;
  }
}

static pr_status find_scopes(prC_units *u, const table *t, const prC_value *value, int values,
                             bool full_key) {
  size_t slots = 16;
  while (slots < (size_t)u->count * 2) slots *= 2;
  keys *of_unit = PRB_ARRAY(keys, u->count);
  int32_t *slot = PRB_ARRAY(int32_t, slots);
  u->scope = PRB_ARRAY(int32_t, u->count);
  pr_status status = of_unit && slot && u->scope ? PR_OK : PR_ERR_MEMORY;
  if (!status) status = unit_keys(u, t, value, values, full_key, of_unit);
  if (!status) number_scopes(u, of_unit, slot, slots);
  PRB_ARRAY_FREE(of_unit, u->count);
  PRB_ARRAY_FREE(slot, slots);
  return status ? status : list_scopes(u);
}

/* --- twins ------------------------------------------------------------------------------------------- */

typedef struct pair {
  int32_t outer, inner; /* scopes */
} pair;

static int by_pair(const void *x, const void *y) {
  const pair *a = x, *b = y;
  if (a->outer != b->outer) return a->outer < b->outer ? -1 : 1;
  return a->inner < b->inner ? -1 : a->inner > b->inner;
}

static pr_status find_pairs(const prC_units *u, const table *t, pair **pairs, size_t *count,
                            size_t *capacity) {
  for (int64_t p = 0; p < t->positions; p++) {
    for (int64_t e = t->start[p]; e < t->start[p + 1]; e++) {
      for (int64_t f = e + 1; f < t->start[p + 1]; f++) {
        if (t->entry[e] < 0 || t->entry[f] < 0) continue;
        pair found = { u->scope[t->entry[e]], u->scope[t->entry[f]] };
        if (found.outer == found.inner) continue;
        bool again = false;
        for (size_t k = *count; k > 0 && k + 4 > *count && !again; k--)
          again = !by_pair(&(*pairs)[k - 1], &found);
        if (again) continue;
        PR_TRY(prB_reserve((void **)pairs, capacity, *count + 1, sizeof **pairs));
        (*pairs)[(*count)++] = found;
      }
    }
  }
  if (!*count) return PR_OK;
  qsort(*pairs, *count, sizeof **pairs, by_pair);
  size_t kept = 1;
  for (size_t k = 1; k < *count; k++)
    if (by_pair(&(*pairs)[k], &(*pairs)[kept - 1])) (*pairs)[kept++] = (*pairs)[k];
  *count = kept;
  return PR_OK;
}

static int32_t size_of(const prC_units *u, int32_t scope) {
  return u->scope_start[scope + 1] - u->scope_start[scope];
}

typedef struct ranked {
  int32_t scope, size;
  bool inner;
} ranked;

static int by_rank(const void *x, const void *y) {
  const ranked *a = x, *b = y;
  if (a->size != b->size) return a->size > b->size ? -1 : 1;
  if (a->inner != b->inner) return a->inner ? -1 : 1;
  return a->scope < b->scope ? -1 : a->scope > b->scope;
}

/* Larger scopes first (inner factors before outer ones): a scope is primary unless a twin of it already is.
 */
static pr_status choose_primary(prC_units *u, const pair *pairs, size_t count) {
  ranked *order = PRB_ARRAY(ranked, u->scopes);
  if (!order) return PR_ERR_MEMORY;
  for (int32_t s = 0; s < u->scopes; s++) order[s] = (ranked){ s, size_of(u, s), false };
  for (size_t k = 0; k < count; k++) order[pairs[k].inner].inner = true;
  qsort(order, (size_t)u->scopes, sizeof *order, by_rank);
  for (int32_t r = 0; r < u->scopes; r++) {
    bool taken = false;
    for (size_t k = 0; k < count; k++) {
      if (pairs[k].outer == order[r].scope) taken |= u->primary[pairs[k].inner];
      if (pairs[k].inner == order[r].scope) taken |= u->primary[pairs[k].outer];
    }
    u->primary[order[r].scope] = !taken;
  }
  PRB_ARRAY_FREE(order, u->scopes);
  return PR_OK;
}

/* --- kinds ------------------------------------------------------------------------------------------- */

/* Key heads that rules saw only after their repetition: a head beside a copy. */
static void name_key_heads(prC_units *u, const int32_t *scope, int n) {
  bool copied = false;
  for (int i = 0; i < n; i++) copied |= u->kind[scope[i]] == PRC_COPY;
  for (int i = 0; i < n && copied; i++)
    if (u->kind[scope[i]] == PRC_HEAD) u->kind[scope[i]] = PRC_KV_HEAD;
}

static void name_scopes(prC_units *u, const pair *pairs, size_t count) {
  prC_algebra *algebra = u->algebra;
  pr_element mono[PRC_MONO];
  int32_t scope[PRC_MONO];
  for (size_t k = 0; k < algebra->names; k++) {
    const pr_label *label = algebra->name[k].label;
    for (int32_t i = 0; i < label->n; i++) {
      int n = prC_mono(algebra, label->id[i], mono), known = 0;
      for (int e = 0; e < n; e++) {
        int32_t unit = (size_t)mono[e] < u->elements ? u->unit_of[mono[e]] : -1;
        if (unit < 0) continue;
        scope[known++] = u->scope[unit];
        if (u->kind[u->scope[unit]] == PRC_CHANNEL)
          u->kind[u->scope[unit]] = (unsigned char)algebra->name[k].kind;
      }
      name_key_heads(u, scope, known);
    }
  }
  for (size_t k = 0; k < count; k++) {
    if (u->kind[pairs[k].outer] == PRC_CHANNEL) u->kind[pairs[k].outer] = PRC_OUTER;
    if (u->kind[pairs[k].inner] == PRC_CHANNEL) u->kind[pairs[k].inner] = PRC_INNER;
  }
}

static pr_status find_twins(prC_units *u, const table *t) {
  u->primary = PRB_ARRAY(bool, u->scopes);
  u->kind = PRB_ARRAY(unsigned char, u->scopes);
  if (!u->primary || !u->kind) return PR_ERR_MEMORY;
  pair *pairs = NULL;
  size_t count = 0, capacity = 0;
  pr_status status = find_pairs(u, t, &pairs, &count, &capacity);
  if (!status) status = choose_primary(u, pairs, count);
  if (!status) name_scopes(u, pairs, count);
  PRB_ARRAY_FREE(pairs, capacity);
  return status;
}

static pr_status build(prC_units *u, table *t, const prC_value *value, int values, bool full_key) {
  PR_TRY(table_open(t, u->algebra, value, values, true));
  PR_TRY(number_units(u, t, value, values));
  PR_TRY(list_members(u, t, value, values));
  PR_TRY(find_scopes(u, t, value, values, full_key));
  return find_twins(u, t);
}

pr_status prC_units_open(prC_units *units, prC_algebra *algebra, const prC_value *value, int values,
                         bool full_key) {
  *units = (prC_units){ .algebra = algebra };
  PR_TRY(algebra->status);
  table t;
  pr_status status = build(units, &t, value, values, full_key);
  table_close(&t);
  if (status) prC_units_close(units);
  return status;
}

void prC_units_close(prC_units *u) {
  PRB_ARRAY_FREE(u->root, u->count);
  PRB_ARRAY_FREE(u->start, u->count + 1);
  PRB_ARRAY_FREE(u->member, u->members);
  PRB_ARRAY_FREE(u->scope, u->count);
  PRB_ARRAY_FREE(u->scope_start, u->scopes + 1);
  PRB_ARRAY_FREE(u->scope_unit, u->count);
  PRB_ARRAY_FREE(u->kind, u->scopes);
  PRB_ARRAY_FREE(u->primary, u->scopes);
  PRB_ARRAY_FREE(u->unit_of, u->elements);
  *u = (prC_units){ 0 };
}

void prC_units_dead(const prC_units *units, const unsigned char *dead_unit, unsigned char *dead) {
  memset(dead, 0, units->algebra->count);
  for (int32_t k = 0; k < units->count; k++) dead[units->root[k]] = dead_unit[k];
}

/* --- floors ------------------------------------------------------------------------------------------ */

static pr_status fill_floors(prC_floors *f, const table *t) {
  const prC_units *u = f->units;
  f->labels = (int32_t)t->labels, f->positions = t->positions;
  f->live = PRB_ARRAY(int32_t, f->labels);
  f->start = PRB_ARRAY(int64_t, u->count + 1);
  f->label_of = PRB_ARRAY(int32_t, f->positions);
  f->dead_of = PRB_ARRAY(int32_t, f->positions);
  f->dead = PRB_ARRAY(unsigned char, u->count);
  if (!f->live || !f->start || !f->label_of || !f->dead_of || !f->dead) return PR_ERR_MEMORY;
  for (int64_t e = 0; e < t->start[t->positions]; e++) {
    int32_t unit = u->unit_of[t->entry[e]];
    t->entry[e] = unit;
    if (unit >= 0) f->start[unit + 1]++;
  }
  for (int32_t k = 0; k < u->count; k++) f->start[k + 1] += f->start[k];
  f->entries = f->start[u->count];
  f->entry = PRB_ARRAY(int32_t, f->entries);
  int64_t *next = PRB_ARRAY(int64_t, u->count + 1);
  if (!f->entry || !next) return PRB_ARRAY_FREE(next, u->count + 1), PR_ERR_MEMORY;
  memcpy(next, f->start, ((size_t)u->count + 1) * sizeof *next);
  for (int32_t l = 0; l < f->labels; l++) {
    f->live[l] = t->label[l]->n;
    for (int64_t p = t->first[l]; p < t->first[l + 1]; p++) {
      f->label_of[p] = l;
      for (int64_t e = t->start[p]; e < t->start[p + 1]; e++)
        if (t->entry[e] >= 0) f->entry[next[t->entry[e]]++] = (int32_t)p;
    }
  }
  PRB_ARRAY_FREE(next, u->count + 1);
  return PR_OK;
}

static pr_status number_axes(prC_floors *f, const prC_value *value, int values) {
  f->values = values;
  if (!(f->number = PRB_ARRAY(int32_t, (size_t)values * PRC_DIMS))) return PR_ERR_MEMORY;
  for (int v = 0; v < values; v++)
    for (int a = 0; a < PRC_DIMS; a++)
      f->number[v * PRC_DIMS + a] = a < value[v].dim ? (int32_t)number_of(&value[v], a) : -1;
  return PR_OK;
}

pr_status prC_floors_open(prC_floors *floors, const prC_units *units, const prC_value *value, int values) {
  *floors = (prC_floors){ .units = units };
  table t;
  pr_status status = table_open(&t, units->algebra, value, values, false);
  if (!status && t.positions > INT32_MAX)
    status = pr_fail(PR_ERR_UNSUPPORTED, "more than 2^31 positions to count");
  if (!status) status = fill_floors(floors, &t);
  if (!status) status = number_axes(floors, value, values);
  table_close(&t);
  if (status) prC_floors_close(floors);
  return status;
}

void prC_floors_close(prC_floors *f) {
  int32_t count = f->units ? f->units->count : 0;
  PRB_ARRAY_FREE(f->live, f->labels);
  PRB_ARRAY_FREE(f->start, count + 1);
  PRB_ARRAY_FREE(f->entry, f->entries);
  PRB_ARRAY_FREE(f->label_of, f->positions);
  PRB_ARRAY_FREE(f->dead_of, f->positions);
  PRB_ARRAY_FREE(f->dead, count);
  PRB_ARRAY_FREE(f->number, (size_t)f->values * PRC_DIMS);
  *f = (prC_floors){ 0 };
}

bool prC_floors_kill(prC_floors *f, int32_t unit) {
  if (f->dead[unit]) return true;
  bool holds = true;
  for (int64_t e = f->start[unit]; e < f->start[unit + 1]; e++) {
    int32_t p = f->entry[e];
    if (f->dead_of[p]++ == 0) holds &= --f->live[f->label_of[p]] > 0;
  }
  f->dead[unit] = 1;
  if (!holds) prC_floors_revive(f, unit);
  return holds;
}

void prC_floors_revive(prC_floors *f, int32_t unit) {
  if (!f->dead[unit]) return;
  for (int64_t e = f->start[unit]; e < f->start[unit + 1]; e++) {
    int32_t p = f->entry[e];
    if (--f->dead_of[p] == 0) f->live[f->label_of[p]]++;
  }
  f->dead[unit] = 0;
}
