/* rules_shape.c - operators that move, cut, join and copy positions. */
#include "couple/rules.h"

#include <stdio.h>
#include <string.h>

static int front(const pr_coupling *c, int v, int axis) { return axis < 0 ? axis + prC_dim(c, v) : axis; }

/* Every axis of y but one passes from x. */
static void pass_others(pr_coupling *c, int y, int x, int axis, prC_keep keep) {
  for (int a = 0; a < prC_dim(c, y); a++)
    if (a != axis) prC_pass_axis(c, y, a, x, a, keep);
}

void prC_rule_reshape(pr_coupling *c, int x, int y) {
  prC_axes from = { .dim = prC_dim(c, x) }, to = { .dim = prC_dim(c, y) };
  for (int a = 0; a < from.dim; a++) {
    from.shape[a] = prC_size(c, x, a), from.label[a] = prC_label(c, x, a), from.dead[a] = prC_dead(c, x, a);
  }
  for (int a = 0; a < to.dim; a++) to.shape[a] = prC_size(c, y, a);
  if (!prC_reshape(c->algebra, &from, &to)) prC_note(c, "the new shape cuts across the axes");
  for (int a = 0; a < to.dim; a++) prC_set(c, y, a, to.label[a], to.dead[a]);
}

void prC_rule_permute(pr_coupling *c, int x, int y, const int *order) {
  for (int a = 0; a < prC_dim(c, y); a++) prC_pass_axis(c, y, a, x, front(c, x, order[a]), PRC_DEAD_VALUE);
}

void prC_rule_expand(pr_coupling *c, int x, int y) {
  int shift = prC_dim(c, y) - prC_dim(c, x);
  for (int a = 0; a < prC_dim(c, y); a++) {
    int64_t n = prC_size(c, y, a);
    if (a >= shift && prC_size(c, x, a - shift) == n)
      prC_pass_axis(c, y, a, x, a - shift, PRC_DEAD_VALUE);
    else {
      pr_label *copy = prC_fresh(c->algebra, n);
      prC_name(c->algebra, copy, PRC_COPY);
      prC_set(c, y, a, copy, NAN); /* a dead copy still holds what was copied */
    }
  }
}

void prC_rule_repeat(pr_coupling *c, int x, int y) {
  int shift = prC_dim(c, y) - prC_dim(c, x);
  for (int a = 0; a < prC_dim(c, y); a++) {
    int64_t n = a < shift ? 1 : prC_size(c, x, a - shift), copies = n ? prC_size(c, y, a) / n : 1;
    pr_label *label = a < shift ? NULL : prC_label(c, x, a - shift);
    if (copies == 1) {
      prC_set(c, y, a, label, prC_dead(c, x, a - shift));
      continue;
    }
    pr_label *copy = prC_fresh(c->algebra, copies);
    prC_record(c, a, copy, copies);
    prC_name(c->algebra, copy, PRC_COPY);
    prC_set(c, y, a, prC_merge(c->algebra, copy, copies, label, n), NAN);
  }
}

void prC_rule_repeat_each(pr_coupling *c, int x, int y, int axis) {
  axis = front(c, x, axis);
  int64_t n = prC_size(c, x, axis), copies = n ? prC_size(c, y, axis) / n : 1;
  pass_others(c, y, x, axis, PRC_DEAD_VALUE);
  if (copies == 1) {
    prC_pass_axis(c, y, axis, x, axis, PRC_DEAD_VALUE);
    return;
  }
  pr_label *copy = prC_fresh(c->algebra, copies);
  prC_record(c, 0, copy, copies);
  prC_name(c->algebra, copy, PRC_COPY);
  prC_set(c, y, axis, prC_merge(c->algebra, prC_label(c, x, axis), n, copy, copies), NAN);
}

/* --- join and part ----------------------------------------------------------------------------------- */

/* y's axis b comes from axis b (or b - 1 behind a new axis) of all operands: they tie, and agree on a dead
 * value or none is known. */
static void join_axis(pr_coupling *c, int n, const int *operand, int y, int b, int own) {
  int lender = 0;
  while (lender < n && prC_unmet(c, operand[lender], own)) lender++;
  if (lender == n) lender = 0;
  double dead = prC_dead(c, operand[0], own);
  for (int i = 0; i < n; i++) {
    if (i != lender) prC_tie(c, operand[i], own, operand[lender], own);
    dead = prC_agree(dead, prC_dead(c, operand[i], own));
  }
  prC_set(c, y, b, prC_label(c, operand[lender], own), dead);
}

void prC_rule_cat(pr_coupling *c, int n, const int *operand, int y, int axis) {
  axis = front(c, y, axis);
  pr_label *small[32], **label = small;
  int64_t small_size[32], *size = small_size;
  if (n > 32)
    label = prC_arena(c->algebra, (size_t)n * sizeof *label),
    size = prC_arena(c->algebra, (size_t)n * sizeof *size);
  if (n < 1 || !label || !size) return;
  for (int b = 0; b < prC_dim(c, y); b++)
    if (b != axis) join_axis(c, n, operand, y, b, b);
  double dead = NAN;
  bool first = true;
  for (int i = 0; i < n; i++) {
    label[i] = prC_label(c, operand[i], axis), size[i] = prC_size(c, operand[i], axis);
    if (!label[i]) continue; /* no position of it ever dies */
    dead = first ? prC_dead(c, operand[i], axis) : prC_agree(dead, prC_dead(c, operand[i], axis));
    first = false;
  }
  prC_set(c, y, axis, prC_concat(c->algebra, n, label, size), dead);
}

void prC_rule_stack(pr_coupling *c, int n, const int *operand, int y, int axis) {
  axis = front(c, y, axis);
  for (int b = 0; n > 0 && b < prC_dim(c, y); b++)
    if (b != axis) join_axis(c, n, operand, y, b, b - (b > axis));
}

void prC_rule_unbind(pr_coupling *c, int x, int n, const int *outputs, int axis) {
  axis = front(c, x, axis);
  char reason[64];
  snprintf(reason, sizeof reason, "the %lld positions of axis %lld are taken apart and stay",
           (long long)prC_size(c, x, axis), PR_INDEX(axis));
  prC_pin(c, x, axis, reason);
  for (int i = 0; i < n; i++)
    for (int a = 0; a < prC_dim(c, x); a++)
      if (a != axis) prC_pass_axis(c, outputs[i], a - (a > axis), x, a, PRC_DEAD_VALUE);
}

void prC_rule_split(pr_coupling *c, int x, int n, const int *outputs, int axis) {
  axis = front(c, x, axis);
  int64_t start = 0;
  for (int i = 0; i < n; i++) {
    prC_rule_slice(c, x, outputs[i], axis, start, 1);
    start += prC_size(c, outputs[i], axis);
  }
}

void prC_rule_slice(pr_coupling *c, int x, int y, int axis, int64_t start, int64_t step) {
  axis = front(c, x, axis);
  int64_t n = prC_size(c, y, axis);
  pass_others(c, y, x, axis, PRC_DEAD_VALUE);
  /* A single position becomes an axis of size 1, which is never tied: the position must stay. */
  if (n == 1 && prC_size(c, x, axis) > 1) prC_pin_position(c, x, axis, start, "one position is taken out");
  prC_set(c, y, axis, prC_sub(c->algebra, prC_label(c, x, axis), start, step, n), prC_dead(c, x, axis));
}

void prC_rule_select(pr_coupling *c, int x, int y, int axis, int64_t index) {
  axis = front(c, x, axis);
  prC_pin_position(c, x, axis, index, "one position is taken out");
  for (int a = 0; a < prC_dim(c, x); a++)
    if (a != axis) prC_pass_axis(c, y, a - (a > axis), x, a, PRC_DEAD_VALUE);
}

void prC_rule_gather(pr_coupling *c, int x, int y, int axis, const int64_t *index, int index_value) {
  axis = front(c, x, axis);
  int64_t n = prC_size(c, y, axis);
  pass_others(c, y, x, axis, PRC_DEAD_VALUE);
  if (n == 1 && prC_size(c, x, axis) > 1) prC_pin_position(c, x, axis, index[0], "one position is taken out");
  prC_positions(c, index_value, x, axis);
  pr_label *label = prC_gather(c->algebra, prC_label(c, x, axis), index, n);
  prC_adopt(c, index_value, 0, label);
  prC_set(c, y, axis, label, prC_dead(c, x, axis));
}

void prC_rule_take(pr_coupling *c, int x, int index, int y, int axis) {
  axis = front(c, x, axis);
  int extra = prC_dim(c, index);
  prC_pin(c, x, axis, "indexed by data");
  for (int a = 0; a < axis; a++) prC_pass_axis(c, y, a, x, a, PRC_DEAD_VALUE);
  for (int a = 0; a < extra; a++) prC_pass_axis(c, y, axis + a, index, a, PRC_DEAD_UNKNOWN);
  for (int a = axis + 1; a < prC_dim(c, x); a++) prC_pass_axis(c, y, a + extra - 1, x, a, PRC_DEAD_VALUE);
}

/* The first n positions of v's axis, where a longer tensor is read by a shorter index. */
static pr_label *first_positions(pr_coupling *c, int v, int axis, int64_t n) {
  return prC_sub(c->algebra, prC_label(c, v, axis), 0, 1, n);
}

void prC_rule_gather_entries(pr_coupling *c, int x, int index, int y, int axis) {
  axis = front(c, x, axis);
  prC_pin(c, x, axis, "indexed by data");
  for (int a = 0; a < prC_dim(c, y); a++) {
    int64_t n = prC_size(c, y, a);
    if (a == axis) {
      prC_set(c, y, a, prC_label(c, index, a), NAN);
      continue;
    }
    if (n == 1 && prC_size(c, x, a) > 1) prC_pin_position(c, x, a, 0, "one position is taken out");
    pr_label *label = first_positions(c, x, a, n);
    prC_adopt(c, index, a, label);
    prC_set(c, y, a, label, prC_dead(c, x, a));
  }
}

void prC_rule_scatter_add(pr_coupling *c, int x, int index, int source, int y, int axis) {
  axis = front(c, x, axis);
  const int all[] = { x, index, source };
  for (int i = 0; i < 3; i++) prC_pin(c, all[i], axis, "indexed by data");
  for (int a = 0; a < prC_dim(c, y); a++) {
    int64_t n = prC_size(c, x, a);
    if (a == axis) continue;
    bool equal = prC_size(c, index, a) == n && prC_size(c, source, a) == n;
    for (int i = 0; i < 3 && !equal; i++) prC_pin(c, all[i], a, "the sizes of index, source and x differ");
    if (!equal) continue;
    prC_tie(c, source, a, x, a);
    prC_tie(c, index, a, x, a);
    prC_set(c, y, a, prC_label(c, x, a), prC_dead(c, source, a) == 0 ? prC_dead(c, x, a) : NAN);
  }
}

/* --- pad, roll, flip --------------------------------------------------------------------------------- */

/* Cut or pad one axis. Padded positions of a free axis are free themselves: nothing is there that would have
 * to stay. */
static pr_label *padded(pr_coupling *c, pr_label *label, int64_t n, int64_t before, int64_t after) {
  int64_t cut = before < 0 ? -before : 0, end = after < 0 ? -after : 0;
  label = prC_sub(c->algebra, label, cut, 1, n - cut - end);
  if (!label) return NULL;
  int64_t size[3] = { before > 0 ? before : 0, n - cut - end, after > 0 ? after : 0 };
  pr_label *part[3] = { size[0] ? prC_fresh(c->algebra, size[0]) : NULL, label,
                        size[2] ? prC_fresh(c->algebra, size[2]) : NULL };
  return prC_concat(c->algebra, 3, part, size);
}

void prC_rule_pad(pr_coupling *c, int x, int y, const int64_t *before, const int64_t *after, bool constant,
                  double value) {
  bool adds = false; /* some axis gets entries of `value`, so slices of all the others do */
  for (int a = 0; a < prC_dim(c, x); a++) adds |= before[a] > 0 || after[a] > 0;
  for (int a = 0; a < prC_dim(c, x); a++) {
    int64_t n = prC_size(c, x, a);
    bool here = before[a] || after[a];
    if (here && !constant) prC_pin(c, x, a, "padded with its own entries");
    bool single = here && (prC_size(c, y, a) == 1 || n == 1);
    if (single) prC_pin(c, x, a, "padded or cut axis of size 1");
    double dead = prC_dead(c, x, a);
    if (adds && constant) dead = prC_agree(dead, value);
    prC_set(c, y, a, here ? padded(c, prC_label(c, x, a), n, before[a], after[a]) : prC_label(c, x, a), dead);
  }
}

void prC_rule_roll(pr_coupling *c, int x, int y, int axis, int64_t shift) {
  axis = front(c, x, axis);
  pass_others(c, y, x, axis, PRC_DEAD_VALUE);
  pr_label *rolled = prC_roll(c->algebra, prC_label(c, x, axis), prC_size(c, x, axis), shift);
  prC_set(c, y, axis, rolled, prC_dead(c, x, axis));
}

void prC_rule_flip(pr_coupling *c, int x, int y, unsigned axes) {
  for (int a = 0; a < prC_dim(c, x); a++) {
    pr_label *label = prC_label(c, x, a);
    if (axes >> a & 1) label = prC_flip(c->algebra, label, prC_size(c, x, a));
    prC_set(c, y, a, label, prC_dead(c, x, a));
  }
}

/* --- space and channels ------------------------------------------------------------------------------ */

void prC_rule_spatial(pr_coupling *c, int x, int y, int spatial, prC_keep keep) {
  int rank = prC_dim(c, x);
  for (int a = 0; a < rank - spatial; a++) prC_pass_axis(c, y, a, x, a, keep);
  for (int a = rank - spatial; a < rank; a++) prC_pin(c, x, a, "space that is pooled or resampled");
}

/* Axes before the channel axis pass; those behind it are space. */
static void channels_only(pr_coupling *c, int x, int y, int channel, pr_label *label, prC_keep keep) {
  for (int a = 0; a < channel; a++) prC_pass_axis(c, y, a, x, a, keep);
  for (int a = channel + 1; a < prC_dim(c, x); a++) prC_pin(c, x, a, "space that is rearranged");
  prC_set(c, y, channel, label, prC_kept_value(prC_dead(c, x, channel), keep));
}

void prC_rule_pixel_shuffle(pr_coupling *c, int x, int y, int64_t r) {
  int channel = prC_dim(c, x) - 3;
  pr_label *label = prC_unite_runs(c->algebra, prC_label(c, x, channel), prC_size(c, x, channel), r * r);
  if (prC_size(c, y, channel) == 1) prC_pin(c, x, channel, "all channels become one"), label = NULL;
  channels_only(c, x, y, channel, label, PRC_DEAD_VALUE);
}

void prC_rule_pixel_unshuffle(pr_coupling *c, int x, int y, int64_t r) {
  int channel = prC_dim(c, x) - 3;
  pr_label *label = prC_repeat_each(c->algebra, prC_label(c, x, channel), prC_size(c, x, channel), r * r);
  channels_only(c, x, y, channel, label, PRC_DEAD_VALUE);
}

void prC_rule_channel_shuffle(pr_coupling *c, int x, int y, int64_t groups) {
  int64_t n = prC_size(c, x, 1), each = n / groups;
  pr_label *label = prC_label(c, x, 1), *shuffled = label ? prC_blank(c->algebra, n) : NULL;
  for (int64_t j = 0; shuffled && j < each; j++)
    for (int64_t i = 0; i < groups; i++) shuffled->id[j * groups + i] = label->id[i * each + j];
  pass_others(c, y, x, 1, PRC_DEAD_VALUE);
  prC_set(c, y, 1, shuffled, prC_dead(c, x, 1));
}

void prC_rule_unfold(pr_coupling *c, int x, int y, int64_t kernel) {
  pr_label *label = prC_repeat_each(c->algebra, prC_label(c, x, 1), prC_size(c, x, 1), kernel);
  channels_only(c, x, y, 1, label, PRC_DEAD_ZERO); /* padding adds zeros */
}

void prC_rule_fold(pr_coupling *c, int x, int y, int64_t kernel) {
  pr_label *label = prC_unite_runs(c->algebra, prC_label(c, x, 1), prC_size(c, x, 1), kernel);
  if (prC_size(c, y, 1) == 1) prC_pin(c, x, 1, "all channels become one"), label = NULL;
  channels_only(c, x, y, 1, label, PRC_DEAD_ZERO);
}
