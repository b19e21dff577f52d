/* couple.c - the axes of one node. */
#include "couple/couple.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void value_open(prC_value *value, int dim, const int64_t *shape) {
  *value = (prC_value){ .dim = dim, .number = NAN };
  for (int a = 0; a < dim; a++) value->shape[a] = shape[a], value->dead[a] = NAN;
}

void prC_value_activation(prC_value *value, int dim, const int64_t *shape) { value_open(value, dim, shape); }

void prC_value_parameter(prC_value *value, int dim, const int64_t *shape) {
  value_open(value, dim, shape);
  value->is_parameter = value->is_weight = true;
  for (int a = 0; a < dim; a++) {
    value->dead[a] = 0;
    if (shape[a] != 1) value->unmet |= (uint8_t)(1u << a);
  }
}

void prC_value_constant(prC_value *value, int dim, const int64_t *shape) {
  prC_value_parameter(value, dim, shape);
  value->is_constant = true;
  value->consumer = UINT8_MAX;
}

void prC_value_replay(prC_algebra *algebra, const prC_value *before, const unsigned char *dead,
                      prC_value *value) {
  *value = *before;
  for (int a = 0; a < before->dim; a++) {
    const pr_label *label = before->label[a];
    value->label[a] = NULL;
    if (!label || label->pinned) continue;
    value->shape[a] = prC_live(algebra, label, before->shape[a], dead);
    pr_label *live = value->shape[a] == 1 ? NULL : prC_blank(algebra, value->shape[a]);
    for (int32_t i = 0, k = 0; live && i < label->n; i++)
      if (prC_alive(algebra, label->id[i], dead)) live->id[k++] = label->id[i];
    value->label[a] = live;
  }
}

void prC_mark_weights(pr_coupling *c) {
  bool all = c->inputs > 0;
  for (int i = 0; i < c->inputs; i++) all &= !c->in[i] || c->in[i]->is_weight;
  for (int k = 0; k < c->outputs; k++) c->out[k]->is_weight = all;
}

void prC_value_pin(prC_algebra *algebra, prC_value *value) {
  for (int a = 0; a < value->dim; a++) {
    prC_pin_label(algebra, value->label[a]);
    if (!algebra->strict) value->label[a] = NULL;
  }
  value->unmet = 0;
}

prC_value *prC_at(const pr_coupling *c, int v) {
  if (v == PRC_NONE) return NULL;
  if (v >= 0) return v < c->inputs ? c->in[v] : NULL;
  return -1 - v < c->outputs ? c->out[-1 - v] : NULL;
}

bool prC_has(const pr_coupling *c, int v) { return prC_at(c, v) != NULL; }

int prC_dim(const pr_coupling *c, int v) {
  const prC_value *value = prC_at(c, v);
  return value ? value->dim : 0;
}

/* The value and its axis, counted from the front; NULL where there is no such tensor or axis. */
static prC_value *axis_at(const pr_coupling *c, int v, int *axis) {
  prC_value *value = prC_at(c, v);
  if (!value) return NULL;
  if (*axis < 0) *axis += value->dim;
  return *axis >= 0 && *axis < value->dim ? value : NULL;
}

int64_t prC_size(const pr_coupling *c, int v, int axis) {
  const prC_value *value = axis_at(c, v, &axis);
  return value ? value->shape[axis] : 0;
}

static bool unmet(const prC_value *value, int axis) { return value->unmet >> axis & 1; }

static void meet(prC_value *value, int axis, pr_label *label) {
  value->label[axis] = prC_unpinned(label);
  value->unmet &= (uint8_t) ~(1u << axis);
}

bool prC_unmet(const pr_coupling *c, int v, int axis) {
  const prC_value *value = axis_at(c, v, &axis);
  return value && unmet(value, axis);
}

pr_label *prC_label(pr_coupling *c, int v, int axis) {
  prC_value *value = axis_at(c, v, &axis);
  if (!value) return NULL;
  if (unmet(value, axis)) meet(value, axis, prC_fresh(c->algebra, value->shape[axis]));
  return prC_unpinned(value->label[axis]);
}

void prC_adopt(pr_coupling *c, int v, int axis, pr_label *label) {
  prC_value *value = axis_at(c, v, &axis);
  if (!value || value->shape[axis] == 1) return;
  if (unmet(value, axis)) {
    meet(value, axis, label);
    return;
  }
  prC_unite(c->algebra, value->label[axis], label);
  /* Equal position by position from here on: sharing one array keeps the distinct ones few. Not so where
   * strict mode left them apart. */
  if (!c->algebra->strict) value->label[axis] = prC_unpinned(label);
}

void prC_tie(pr_coupling *c, int v, int axis, int w, int other) {
  prC_value *a = axis_at(c, v, &axis), *b = axis_at(c, w, &other);
  if (!a || !b || a->shape[axis] == 1 || b->shape[other] == 1) return;
  if (unmet(a, axis) || !unmet(b, other))
    prC_adopt(c, v, axis, prC_label(c, w, other));
  else
    prC_adopt(c, w, other, prC_label(c, v, axis));
}

void prC_set(pr_coupling *c, int v, int axis, pr_label *label, double dead) {
  prC_value *value = axis_at(c, v, &axis);
  if (!value) return;
  value->label[axis] = value->shape[axis] == 1 ? NULL : prC_unpinned(label);
  value->dead[axis] = dead;
}

static bool any_free(prC_algebra *algebra, const pr_label *label) {
  pr_element entries[PRC_MONO];
  for (int32_t i = 0; i < label->n; i++)
    if (prC_mono(algebra, label->id[i], entries)) return true;
  return false;
}

void prC_pin(pr_coupling *c, int v, int axis, const char *reason) {
  prC_value *value = axis_at(c, v, &axis);
  if (!value) return;
  pr_label *label = prC_unpinned(value->label[axis]);
  value->unmet &= (uint8_t) ~(1u << axis);
  if (!label) return;
  if (reason && any_free(c->algebra, label)) prC_note(c, "%s", reason);
  prC_pin_label(c->algebra, label);
  if (!c->algebra->strict) value->label[axis] = NULL;
}

void prC_pin_all(pr_coupling *c, int v, const char *reason) {
  for (int a = 0; a < prC_dim(c, v); a++) prC_pin(c, v, a, reason);
}

void prC_pin_position(pr_coupling *c, int v, int axis, int64_t position, const char *reason) {
  pr_label *label = prC_label(c, v, axis);
  pr_element entries[PRC_MONO];
  if (!label || position < 0 || position >= label->n) return;
  if (prC_mono(c->algebra, label->id[position], entries) == 0) return;
  if (reason) prC_note(c, "%s", reason);
  prC_pin_element(c->algebra, label->id[position]);
}

/* --- dead values ------------------------------------------------------------------------------------- */

double prC_dead(const pr_coupling *c, int v, int axis) {
  const prC_value *value = axis_at(c, v, &axis);
  return value ? value->dead[axis] : NAN;
}

void prC_set_dead(pr_coupling *c, int v, int axis, double dead) {
  prC_value *value = axis_at(c, v, &axis);
  if (value) value->dead[axis] = dead;
}

double prC_kept_value(double dead, prC_keep keep) {
  switch (keep) {
  case PRC_DEAD_ZERO: return dead == 0 ? 0 : NAN;
  case PRC_DEAD_VALUE: return dead;
  case PRC_DEAD_VANISH: return isnan(dead) ? NAN : 0;
  default: return NAN;
  }
}

double prC_agree(double a, double b) { return a == b ? a : NAN; }

static void note_dead(pr_coupling *c, const char *what, int axis, double dead) {
  char known[40] = "";
  if (!isnan(dead)) snprintf(known, sizeof known, " (but %g)", dead);
  prC_note(c, "%s axis %lld, where removed entries would not be 0%s", what, PR_INDEX(axis), known);
}

void prC_need_zero(pr_coupling *c, int v, int axis, const char *what) {
  prC_value *value = axis_at(c, v, &axis);
  if (!value || value->dead[axis] == 0 || !prC_label(c, v, axis)) return;
  if (any_free(c->algebra, value->label[axis])) note_dead(c, what, axis, value->dead[axis]);
  prC_pin(c, v, axis, NULL);
}

void prC_pass_axis(pr_coupling *c, int out, int out_axis, int in, int in_axis, prC_keep keep) {
  if (prC_size(c, out, out_axis) != prC_size(c, in, in_axis)) {
    prC_pin(c, in, in_axis, "the size of the axis changes");
    return;
  }
  prC_set(c, out, out_axis, prC_label(c, in, in_axis), prC_kept_value(prC_dead(c, in, in_axis), keep));
}

void prC_pass(pr_coupling *c, int out, int in, prC_keep keep) {
  for (int a = 0; a < prC_dim(c, out); a++) prC_pass_axis(c, out, a, in, a, keep);
}

/* --- for plans and removal --------------------------------------------------------------------------- */

void prC_note(pr_coupling *c, const char *format, ...) {
  prC_algebra *algebra = c->algebra;
  char text[256];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  for (size_t i = algebra->notes; i-- > 0 && algebra->note[i].node == c->node;)
    if (!strcmp(algebra->note[i].text, text)) return; /* one node, one reason: once */
  char *copy = prC_arena(algebra, strlen(text) + 1);
  if (!copy) return;
  pr_status status = PRB_RESERVE(algebra->note, algebra->note_capacity, algebra->notes + 1);
  if (status) {
    if (!algebra->status) algebra->status = status;
    return;
  }
  strcpy(copy, text);
  algebra->note[algebra->notes++] = (prC_note_entry){ c->node, copy };
}

static void mark_axis(pr_coupling *c, int v, int axis, bool producer) {
  prC_value *value = axis_at(c, v, &axis);
  if (!value || !value->is_parameter || value->is_constant) return;
  *(producer ? &value->producer : &value->consumer) |= (uint8_t)(1u << axis);
}

void prC_producer(pr_coupling *c, int v, int axis) { mark_axis(c, v, axis, true); }

void prC_consumer(pr_coupling *c, int v, int axis) { mark_axis(c, v, axis, false); }

void prC_record(pr_coupling *c, int slot, pr_label *label, int64_t n) {
  if (!c->slots) c->slots = prC_arena(c->algebra, sizeof *c->slots);
  if (!c->slots || slot < 0 || slot >= PRC_SLOTS) return;
  c->slots->label[slot] = label, c->slots->size[slot] = n;
}

void prC_positions(pr_coupling *c, int v, int x, int axis) {
  prC_value *value = prC_at(c, v);
  if (!value || !value->is_constant) return;
  pr_label *label = prC_label(c, x, axis), *other = prC_unpinned(value->positions);
  if (value->has_positions && label != other) {
    if (label || other) prC_note(c, "the same constant indexes another axis");
    prC_pin_label(c->algebra, label);
    prC_pin_label(c->algebra, other);
    label = NULL;
  }
  value->has_positions = true, value->positions = label;
}

/* --- rewriting of arguments -------------------------------------------------------------------------- */

int64_t prC_live_part(const pr_coupling *c, int v, int axis, int64_t from, int64_t to) {
  const prC_value *value = axis_at(c, v, &axis);
  return value ? prC_live_in(c->algebra, value->label[axis], from, to, c->dead) : to - from;
}

int64_t prC_live_axis(const pr_coupling *c, int v, int axis) {
  return prC_live_part(c, v, axis, 0, prC_size(c, v, axis));
}

int64_t prC_live_slot(const pr_coupling *c, int slot) {
  if (!c->slots || slot < 0 || slot >= PRC_SLOTS || !c->slots->size[slot]) return -1;
  return prC_live(c->algebra, c->slots->label[slot], c->slots->size[slot], c->dead);
}

int64_t prC_kept_axis(const pr_coupling *c, int v, int axis, int64_t *index) {
  const prC_value *value = axis_at(c, v, &axis);
  return value ? prC_kept(c->algebra, value->label[axis], value->shape[axis], c->dead, index) : 0;
}

bool prC_live_position(const pr_coupling *c, int v, int axis, int64_t position) {
  return prC_live_part(c, v, axis, position, position + 1) == 1;
}
