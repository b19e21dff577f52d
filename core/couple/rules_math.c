/* rules_math.c - arithmetic: entry by entry, reductions, products over letters. */
#include "couple/rules.h"

#include <stdio.h>
#include <string.h>

/* --- entry by entry ---------------------------------------------------------------------------------- */

static void set_or_pin(pr_coupling *c, int y, int axis, pr_label *label, double value, bool known) {
  if (known && !isfinite(value)) {
    if (prC_unpinned(label))
      prC_note(c, "axis %lld, where removed entries would not be finite", PR_INDEX(axis));
    prC_pin_label(c->algebra, label);
    label = NULL;
  }
  prC_set(c, y, axis, label, known ? value : NAN);
}

void prC_rule_unary(pr_coupling *c, int x, int y, double (*f)(double, const void *), const void *context) {
  for (int a = 0; a < prC_dim(c, y); a++) {
    double dead = prC_dead(c, x, a);
    bool known = !isnan(dead);
    set_or_pin(c, y, a, prC_label(c, x, a), known ? f(dead, context) : NAN, known);
  }
}

enum { OPERANDS = 16 };

/* The operand's axis that lies under y's axis, or -1 where the operand is broadcast along it. */
static int under(const pr_coupling *c, int operand, int y, int axis) {
  int own = axis - prC_dim(c, y) + prC_dim(c, operand);
  return own >= 0 && prC_size(c, operand, own) != 1 && prC_size(c, operand, own) == prC_size(c, y, axis) ? own
                                                                                                         : -1;
}

/* The label that all operands of full size along the axis share. An operand that has one lends it to those
 * that are unmet. */
static pr_label *shared_label(pr_coupling *c, int n, const int *operand, int y, int axis) {
  int lender = -1, lender_axis = 0;
  for (int i = 0; i < n; i++) {
    int own = under(c, operand[i], y, axis);
    if (own < 0 || (lender >= 0 && prC_unmet(c, operand[i], own))) continue;
    if (lender >= 0 && !prC_unmet(c, operand[lender], lender_axis)) continue;
    lender = i, lender_axis = own;
  }
  if (lender < 0) return NULL;
  for (int i = 0; i < n; i++) {
    int own = under(c, operand[i], y, axis);
    if (own >= 0 && i != lender) prC_tie(c, operand[i], own, operand[lender], lender_axis);
  }
  return prC_label(c, operand[lender], lender_axis);
}

/* Dead values of the operands along y's axis; NaN for the broadcast ones, unless they are a constant number
 * (the 1 of elu + 1). True if all are known. */
static bool dead_values(const pr_coupling *c, int n, const int *operand, int y, int axis, double *value) {
  bool all = true;
  for (int i = 0; i < n; i++) {
    int own = under(c, operand[i], y, axis);
    value[i] = own < 0 ? prC_at(c, operand[i])->number : prC_dead(c, operand[i], own);
    all &= !isnan(value[i]);
  }
  return all;
}

void prC_rule_elementwise(pr_coupling *c, int n, const int *operand, int y, prC_elementwise kind,
                          double (*f)(const double *, const void *), const void *context) {
  int present[OPERANDS], m = 0;
  bool weights = kind == PRC_DIVIDE; /* 0 / 0 counts as 0 in weights: v / |v| of a dead row */
  for (int i = 0; i < n && m < OPERANDS; i++)
    if (prC_has(c, operand[i])) weights &= prC_at(c, operand[i])->is_weight, present[m++] = operand[i];
  for (int a = 0; a < prC_dim(c, y); a++) {
    double value[OPERANDS], result = 0;
    pr_label *label = shared_label(c, m, present, y, a);
    bool known = dead_values(c, m, present, y, a, value);
    if (kind == PRC_MULTIPLY) {
      result = 1;
      for (int i = 0; i < m; i++) result *= value[i];
      for (int i = 0; i < m; i++)
        if (value[i] == 0) result = 0, known = true;
    } else if (kind == PRC_DIVIDE || kind == PRC_REMAINDER) {
      result = f ? f(value, context) : value[0] / value[1];
      if (value[0] == 0 && under(c, present[1], y, a) < 0) result = 0, known = true;
      if (value[1] == 0)
        result = value[0] == 0 && weights ? 0 : INFINITY, known = true; /* whatever it divides */
    } else if (known && f) {
      result = f(value, context);
    } else {
      known = false;
    }
    set_or_pin(c, y, a, label, result, known);
  }
}

void prC_rule_where(pr_coupling *c, int chooser, int a, int b, double fill, int y) {
  int operand[3] = { a, chooser, b }, n = prC_has(c, b) ? 3 : 2;
  for (int axis = 0; axis < prC_dim(c, y); axis++) {
    double value[3];
    pr_label *label = shared_label(c, n, operand, y, axis);
    dead_values(c, n, operand, y, axis, value);
    prC_set(c, y, axis, label, prC_agree(value[0], n == 3 ? value[2] : fill));
  }
}

void prC_rule_glu(pr_coupling *c, int x, int y, int axis) {
  if (axis < 0) axis += prC_dim(c, x);
  prC_algebra *algebra = c->algebra;
  int64_t half = prC_size(c, x, axis) / 2;
  pr_label *both = prC_label(c, x, axis), *gated = prC_sub(algebra, both, 0, 1, half);
  prC_unite(algebra, gated, prC_sub(algebra, both, half, 1, half));
  if (half == 1) prC_pin(c, x, axis, "one gate is left");
  for (int a = 0; a < prC_dim(c, y); a++) {
    double v = prC_dead(c, x, a);
    prC_set(c, y, a, a == axis ? gated : prC_label(c, x, a), isnan(v) ? NAN : v / (1 + exp(-v)));
  }
}

void prC_rule_unknown(pr_coupling *c, const char *name) {
  char reason[96];
  snprintf(reason, sizeof reason, "%s has no coupling rule", name);
  for (int i = 0; i < c->inputs; i++) prC_pin_all(c, PRC_IN(i), reason);
  for (int i = 0; i < c->outputs; i++) prC_pin_all(c, PRC_OUT(i), NULL);
}

/* --- reductions -------------------------------------------------------------------------------------- */

static void reduced_axis(pr_coupling *c, int x, int axis, prC_reduction kind) {
  switch (kind) {
  case PRC_SUM: prC_need_zero(c, x, axis, "sums over"); break;
  case PRC_NORM: prC_need_zero(c, x, axis, "norm over"); break;
  case PRC_MEAN:
  case PRC_VAR:
    if (c->algebra->pin_means)
      prC_pin(c, x, axis, "mean over the axis");
    else
      prC_label(c, x, axis); /* a parameter's axis is met all the same */
    break;
  case PRC_MAX: prC_pin(c, x, axis, "extremum over the axis"); break;
  case PRC_PROD: prC_pin(c, x, axis, "product over the axis"); break;
  default: prC_pin(c, x, axis, "reduced axis");
  }
}

/* What a slice whose entries are all `dead` reduces to. */
static double reduced_value(double dead, prC_reduction kind) {
  switch (kind) {
  case PRC_SUM:
  case PRC_NORM: return prC_kept_value(dead, PRC_DEAD_ZERO);
  case PRC_MEAN:
  case PRC_MAX: return dead;
  case PRC_VAR: return prC_kept_value(dead, PRC_DEAD_VANISH);
  case PRC_PROD: return dead == 0 || dead == 1 ? dead : NAN;
  default: return NAN;
  }
}

void prC_rule_reduce(pr_coupling *c, int x, int y, unsigned axes, prC_reduction kind) {
  bool kept = prC_dim(c, y) == prC_dim(c, x);
  for (int a = 0, b = 0; a < prC_dim(c, x); a++) {
    if (axes >> a & 1)
      reduced_axis(c, x, a, kind);
    else
      prC_set(c, y, b, prC_label(c, x, a), reduced_value(prC_dead(c, x, a), kind));
    b += kept || !(axes >> a & 1);
  }
}

void prC_rule_along(pr_coupling *c, int x, int y, int axis, prC_keep keep) {
  if (axis < 0) axis += prC_dim(c, x);
  prC_pin(c, x, axis, "entries along the axis are mixed");
  for (int a = 0; a < prC_dim(c, y); a++)
    if (a != axis) prC_pass_axis(c, y, a, x, a, keep);
}

void prC_rule_normalize(pr_coupling *c, int x, int y, int axis) {
  prC_need_zero(c, x, axis, "norm over");
  prC_pass(c, y, x, PRC_DEAD_ZERO);
}

/* --- products over letters --------------------------------------------------------------------------- */

typedef struct letter_use {
  int count;
  int operand[2 * OPERANDS]; /* handle and axis of each place where the letter has full size */
  int axis[2 * OPERANDS];
  int64_t size;
} letter_use;

static letter_use uses_of(const pr_coupling *c, int n, const int *operand, const char *const *letters,
                          char letter) {
  letter_use use = { .size = 1 };
  for (int i = 0; i < n; i++)
    for (int a = 0; letters[i][a]; a++)
      if (letters[i][a] == letter && prC_size(c, operand[i], a) > use.size)
        use.size = prC_size(c, operand[i], a);
  for (int i = 0; i < n; i++) {
    for (int a = 0; letters[i][a] && use.count < 2 * OPERANDS; a++) {
      if (letters[i][a] != letter || prC_size(c, operand[i], a) == 1) continue;
      use.operand[use.count] = operand[i], use.axis[use.count++] = a;
    }
  }
  return use;
}

/* One label for the letter; whoever has one lends it. */
static pr_label *letter_label(pr_coupling *c, const letter_use *use) {
  int lender = 0;
  while (lender < use->count && prC_unmet(c, use->operand[lender], use->axis[lender])) lender++;
  if (lender == use->count) lender = 0;
  for (int k = 0; k < use->count; k++)
    if (k != lender) prC_tie(c, use->operand[k], use->axis[k], use->operand[lender], use->axis[lender]);
  return use->count ? prC_label(c, use->operand[lender], use->axis[lender]) : NULL;
}

static bool letter_zero(const pr_coupling *c, const letter_use *use) {
  for (int k = 0; k < use->count; k++)
    if (prC_dead(c, use->operand[k], use->axis[k]) == 0) return true;
  return false;
}

static void contracted_letter(pr_coupling *c, const letter_use *use) {
  letter_label(c, use);
  /* Of a product of two parameters (a weight in two factors) the first makes the units. */
  bool weights = true;
  for (int k = 0; k < use->count; k++) weights &= prC_at(c, use->operand[k])->is_parameter;
  for (int k = weights; k < use->count; k++) prC_consumer(c, use->operand[k], use->axis[k]);
  if (letter_zero(c, use)) return;
  for (int k = 0; k < use->count; k++) prC_need_zero(c, use->operand[k], use->axis[k], "contracts");
}

void prC_rule_einsum(pr_coupling *c, int n, const int *operand, const char *const *letters, int y,
                     const char *out) {
  char done[OPERANDS * PRC_DIMS + 1] = "";
  for (int i = 0; i < n; i++) {
    for (const char *l = letters[i]; *l; l++) {
      if (strchr(out, *l) || strchr(done, *l) || strlen(done) + 1 == sizeof done) continue;
      done[strlen(done)] = *l;
      letter_use use = uses_of(c, n, operand, letters, *l);
      contracted_letter(c, &use);
    }
  }
  for (int a = 0; out[a]; a++) {
    letter_use use = uses_of(c, n, operand, letters, out[a]);
    if (use.count == 1) prC_producer(c, use.operand[0], use.axis[0]);
    prC_set(c, y, a, letter_label(c, &use), letter_zero(c, &use) ? 0 : NAN);
  }
}

/* Letters of one operand: batch axes from the right "...BA", then the row and column letters. */
static void matrix_letters(int dim, const char *last, char *letters) {
  int matrix = (int)strlen(last), batch = dim - matrix;
  for (int a = 0; a < batch; a++) letters[a] = (char)('A' + batch - 1 - a);
  strcpy(letters + batch, last);
}

/* A product of two activations is attention written out: batch axes are heads, what is contracted and the
 * columns of the second are entries of a head. */
static void name_heads(pr_coupling *c, int a, int b) {
  const prC_value *x = prC_at(c, a), *y = prC_at(c, b);
  if (!x || !y || x->is_parameter || y->is_parameter || x->dim < 3 || y->dim < 3) return;
  for (int d = 0; d < y->dim - 2; d++) prC_name(c->algebra, prC_label(c, b, d), PRC_HEAD);
  prC_name(c->algebra, prC_label(c, b, -2), PRC_HEAD_DIM);
  prC_name(c->algebra, prC_label(c, b, -1), PRC_HEAD_DIM);
}

void prC_rule_matmul(pr_coupling *c, int a, int b, int y) {
  char la[PRC_DIMS + 3], lb[PRC_DIMS + 3], ly[PRC_DIMS + 3];
  bool vector_a = prC_dim(c, a) == 1, vector_b = prC_dim(c, b) == 1;
  matrix_letters(prC_dim(c, a), vector_a ? "k" : "nk", la);
  matrix_letters(prC_dim(c, b), vector_b ? "k" : "km", lb);
  matrix_letters(prC_dim(c, y), vector_a && vector_b ? "" : vector_a ? "m" : vector_b ? "n" : "nm", ly);
  prC_rule_einsum(c, 2, (int[]){ a, b }, (const char *const[]){ la, lb }, y, ly);
  name_heads(c, a, b);
}
