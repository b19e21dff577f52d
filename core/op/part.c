/* part.c - parts of a tensor along one axis, as views: select, narrow, slice, split, chunk, unbind. */
#include <string.h>

#include "base/memory.h"
#include "couple/rules.h"
#include "op/call.h"

enum { X };

/* y with y[from, from + step, ...] = part along an axis, 0 elsewhere; of the input's shape. Borrows `part`.
 */
typedef struct placement {
  int axis;
  int64_t from, step;
} placement;

static pr_status place(pr_tensor *whole, placement at, const pr_tensor *part, bool keeps_axis) {
  int64_t shape[PR_MAX_DIM], stride[PR_MAX_DIM];
  int dim = 0;
  for (int d = 0; d < whole->dim; d++) {
    if (d == at.axis && !keeps_axis) continue;
    shape[dim] = part->shape[dim];
    stride[dim++] = whole->stride[d] * (d == at.axis ? at.step : 1);
  }
  pr_tensor *target = prT_view(whole, dim, shape, stride, whole->offset + at.from * whole->stride[at.axis]);
  if (!target) return PR_ERR_MEMORY;
  pr_status status = pr_copy(target, part);
  pr_release(target);
  return status;
}

/* Zeros in the shape and memory order of the input. */
static pr_tensor *zeros_like_input(const pr_call *c) {
  const pr_tensor *x = c->in[X];
  pr_tensor *t = prT_new_like(x, c->grad_out[0]->dtype, x->dim, x->shape);
  if (!t) return NULL;
  if (prT_allocate(t, c->grad_out[0]->device) == PR_OK && pr_fill(t, 0) == PR_OK) return t;
  pr_release(t);
  return NULL;
}

static pr_status part_backward(pr_call *c, placement at, bool keeps_axis) {
  pr_tensor *whole = zeros_like_input(c);
  if (!whole) return pr_error_last()->code;
  pr_status status = place(whole, at, c->grad_out[0], keeps_axis);
  if (status) return pr_release(whole), status;
  return prO_gradient(c, X, whole);
}

/* View [start, start + length * step) of an axis as output k. */
static pr_status part_view(pr_call *c, int k, int axis, int64_t start, int64_t length, int64_t step) {
  const pr_tensor *x = c->in[X];
  int64_t shape[PR_MAX_DIM], stride[PR_MAX_DIM];
  memcpy(shape, x->shape, sizeof shape);
  memcpy(stride, x->stride, sizeof stride);
  shape[axis] = length;
  if (length > 1) stride[axis] *= step; /* the step of one position is not taken, and may be anything */
  return prO_view(c, k, X, x->dim, shape, stride, x->offset + (length ? start * x->stride[axis] : 0));
}

/* --- select
 * ----------------------------------------------------------------------------------------------------------
 */

static pr_status selected(const pr_call *c, placement *at) {
  const pr_tensor *x = c->in[X];
  PR_TRY(prO_dim(c, 0, x->dim, &at->axis));
  int64_t index = c->args[1].integer, size = x->shape[at->axis];
  at->from = index < 0 ? index + size : index, at->step = 1;
  if (at->from < 0 || at->from >= size)
    return prO_fail(c, PR_ERR_INDEX, "index %lld is outside axis %lld of size %lld",
                    index < 0 ? (long long)index : PR_INDEX(index), PR_INDEX(at->axis), (long long)size);
  return PR_OK;
}

static pr_status select_infer(pr_call *c) {
  const pr_tensor *x = c->in[X];
  int64_t shape[PR_MAX_DIM], stride[PR_MAX_DIM];
  placement at;
  int dim = 0;
  PR_TRY(selected(c, &at));
  for (int d = 0; d < x->dim; d++)
    if (d != at.axis) shape[dim] = x->shape[d], stride[dim++] = x->stride[d];
  return prO_view(c, 0, X, dim, shape, stride, x->offset + at.from * x->stride[at.axis]);
}

static pr_status select_backward(pr_call *c) {
  placement at;
  PR_TRY(selected(c, &at));
  return part_backward(c, at, false);
}

static void select_couple(pr_coupling *k) {
  placement at;
  if (selected(k->call, &at) == PR_OK) prC_rule_select(k, PRC_IN(X), PRC_OUT(0), at.axis, at.from);
}

/* A position from the start or, negative, from the end: counted among those that stay. */
static int64_t moved_position(const pr_coupling *k, int axis, int64_t given) {
  int64_t size = prC_size(k, PRC_IN(X), axis);
  if (given < 0) return -prC_live_part(k, PRC_IN(X), axis, size + given, size);
  return prC_live_part(k, PRC_IN(X), axis, 0, given);
}

static pr_status select_rewrite(pr_coupling *k, pr_arg *args) {
  int axis;
  PR_TRY(prO_dim(k->call, 0, prC_dim(k, PRC_IN(X)), &axis));
  args[1].integer = moved_position(k, axis, args[1].integer);
  return PR_OK;
}

PR_OP(select) = {
  .name = "select",
  .inputs = "x",
  .outputs = "y",
  .args = { { "dim", PR_ARG_DIM, .required = true }, { "index", PR_ARG_INDEX, .required = true } },
  .flags = PR_OP_VIEW,
  .infer = select_infer,
  .backward = select_backward,
  .couple = select_couple,
  .rewrite = select_rewrite,
  .examples = "x:2x3x4 dim=1 index=2\nx:5 dim=0 index=-1",
  .help = "one position of an axis, which goes: x without dim; shares memory",
};

/* --- narrow, slice ------------------------------------------------------------------------------------ */

enum { DIM, START, LENGTH, STEP, INDEX };

static pr_status narrowed(const pr_call *c, placement *at, int64_t *length) {
  const pr_tensor *x = c->in[X];
  PR_TRY(prO_dim(c, DIM, x->dim, &at->axis));
  int64_t size = x->shape[at->axis], start = c->args[START].integer;
  at->from = start < 0 ? start + size : start, at->step = c->args[STEP].integer;
  *length = c->args[LENGTH].integer;
  if (at->step < 1)
    return prO_fail(c, PR_ERR_ARGUMENT, "step must be at least 1, not %lld", (long long)at->step);
  bool inside = at->from >= 0 && at->from <= size && *length >= 0;
  if (inside && *length > 0) inside = at->from < size && *length - 1 <= (size - 1 - at->from) / at->step;
  if (inside) return PR_OK;
  return prO_fail(c, PR_ERR_INDEX,
                  "%lld positions from %lld on in steps of %lld do not lie inside axis %lld of size %lld",
                  (long long)*length, PR_INDEX(at->from), (long long)at->step, PR_INDEX(at->axis),
                  (long long)size);
}

/* Uneven positions cannot be a view: they are copied. */
static pr_status listed(pr_call *c) {
  const pr_tensor *x = c->in[X];
  const pr_arg *index = &c->args[INDEX];
  int64_t shape[PR_MAX_DIM];
  int axis;
  PR_TRY(prO_dim(c, DIM, x->dim, &axis));
  for (int k = 0; k < index->count; k++)
    if (index->list[k] < 0 || index->list[k] >= x->shape[axis])
      return prO_fail(c, PR_ERR_INDEX, "position %lld is outside axis %lld of size %lld",
                      PR_INDEX(index->list[k]), PR_INDEX(axis), (long long)x->shape[axis]);
  memcpy(shape, x->shape, sizeof shape);
  shape[axis] = index->count;
  return prO_output_ordered(c, 0, x->dtype, x->dim, shape, x);
}

static pr_status narrow_infer(pr_call *c) {
  placement at;
  int64_t length;
  if (c->args[INDEX].count) return listed(c);
  PR_TRY(narrowed(c, &at, &length));
  return part_view(c, 0, at.axis, at.from, length, at.step);
}

/* Positions in a list are placed one by one. */
static pr_status listed_backward(pr_call *c) {
  const pr_arg *index = &c->args[INDEX];
  pr_tensor *whole = zeros_like_input(c), *g = c->grad_out[0];
  placement at = { 0, 0, 1 };
  if (!whole) return pr_error_last()->code;
  pr_status status = prO_dim(c, DIM, whole->dim, &at.axis);
  for (int k = 0; k < index->count && !status; k++) {
    pr_tensor *part = prO_call(&pr_op_narrow, PRO_ARGS(PRO_INT(at.axis), PRO_INT(k), PRO_INT(1)), 1, g);
    at.from = index->list[k];
    status = part ? place(whole, at, part, true) : pr_error_last()->code;
    pr_release(part);
  }
  if (status) return pr_release(whole), status;
  return prO_gradient(c, X, whole);
}

static pr_status narrow_backward(pr_call *c) {
  placement at;
  int64_t length;
  if (c->args[INDEX].count) return listed_backward(c);
  PR_TRY(narrowed(c, &at, &length));
  return part_backward(c, at, true);
}

static void narrow_couple(pr_coupling *k) {
  const pr_arg *index = &k->call->args[INDEX];
  placement at;
  int64_t length;
  if (prO_dim(k->call, DIM, k->call->in[X]->dim, &at.axis)) return;
  if (index->count)
    prC_rule_gather(k, PRC_IN(X), PRC_OUT(0), at.axis, index->list, PRC_NONE);
  else if (narrowed(k->call, &at, &length) == PR_OK)
    prC_rule_slice(k, PRC_IN(X), PRC_OUT(0), at.axis, at.from, at.step);
}

/* The taken positions that stay, as ranks among all that stay; how many there are. */
static int kept_ranks(const pr_coupling *k, const pr_arg *args, int axis, int64_t start, int64_t *ranks) {
  int64_t length = prC_size(k, PRC_OUT(0), axis);
  int n = 0;
  for (int64_t i = 0; i < length; i++) {
    int64_t position = args[INDEX].count ? args[INDEX].list[i] : start + i * args[STEP].integer;
    if (!prC_live_position(k, PRC_IN(X), axis, position)) continue;
    ranks[n++] = prC_live_part(k, PRC_IN(X), axis, 0, position);
  }
  return n;
}

/* Is it start, start + step, ... with a step of at least 1? A single position keeps the step that there was.
 */
static bool evenly_spaced(const int64_t *ranks, int n, int64_t *step) {
  if (n > 1) *step = ranks[1] - ranks[0];
  for (int i = 2; i < n; i++)
    if (ranks[i] - ranks[i - 1] != *step) return false;
  return *step >= 1;
}

/* args with these positions: as start, length and step where they are evenly spaced, else as a list. */
static pr_status set_positions(pr_coupling *k, pr_arg *args, int axis, const int64_t *ranks, int n) {
  int64_t step = args[STEP].integer, start = moved_position(k, axis, args[START].integer), *list = NULL;
  bool even = n == 0 || (!args[INDEX].count && evenly_spaced(ranks, n, &step));
  if (!even && !(list = PRB_ARRAY(int64_t, n))) return PR_ERR_MEMORY;
  for (int i = 0; list && i < n; i++) list[i] = ranks[i];
  PRB_ARRAY_FREE(args[INDEX].list, args[INDEX].count);
  args[INDEX] = (pr_arg){ .list = list, .count = list ? n : 0, .given = list != NULL };
  args[LENGTH].integer = n;
  args[START].integer = start;
  if (!even || n == 0) return PR_OK;
  /* the first position taken may be gone */
  args[START].integer = start < 0 ? ranks[0] - prC_live_axis(k, PRC_IN(X), axis) : ranks[0];
  args[STEP].integer = step, args[STEP].given = args[STEP].given || step != 1;
  return PR_OK;
}

static pr_status narrow_rewrite(pr_coupling *k, pr_arg *args) {
  int axis;
  PR_TRY(prO_dim(k->call, DIM, prC_dim(k, PRC_IN(X)), &axis));
  int64_t room = prC_size(k, PRC_OUT(0), axis), start = args[START].integer;
  if (start < 0) start += prC_size(k, PRC_IN(X), axis);
  int64_t *ranks = PRB_ARRAY(int64_t, room);
  if (!ranks) return PR_ERR_MEMORY;
  int n = kept_ranks(k, args, axis, start, ranks);
  pr_status status = set_positions(k, args, axis, ranks, n);
  PRB_ARRAY_FREE(ranks, room);
  return status;
}

PR_OP(narrow) = {
  .name = "narrow",
  .inputs = "x",
  .outputs = "y",
  .args = { { "dim", PR_ARG_DIM, .required = true },
            { "start", PR_ARG_INDEX, .required = true },
            { "length", PR_ARG_INT, .required = true },
            { "step", PR_ARG_INT, .integer = 1 },
            { "index", PR_ARG_INDICES, .empty = true,
              .help = "different positions, instead of start, length and step" } },
  .infer = narrow_infer,
  .backward = narrow_backward,
  .couple = narrow_couple,
  .rewrite = narrow_rewrite,
  .examples = "x:2x5x3 dim=1 start=1 length=3\nx:7 dim=0 start=0 length=3 step=3\nx:2x5 dim=1 start=0 "
              "length=3 index=0,1,4",
  .help = "length positions of an axis, from start in steps of step; shares memory\n"
          "Removal of positions may leave uneven steps: then index lists the positions, and the result is a "
          "copy.",
};

/* From start to stop, both included. */
static pr_status slice(pr_call *c) {
  const pr_tensor *x = c->in[X];
  int axis;
  PR_TRY(prO_dim(c, 0, x->dim, &axis));
  int64_t size = x->shape[axis], start = c->args[1].integer, stop = c->args[2].integer,
          step = c->args[3].integer;
  if (start < 0) start += size;
  if (stop < 0) stop += size;
  if (step < 1) return prO_fail(c, PR_ERR_ARGUMENT, "step must be at least 1, not %lld", (long long)step);
  if (start < 0 || start > size || stop < start - 1 || stop >= size)
    return prO_fail(c, PR_ERR_INDEX, "positions %lld to %lld do not lie inside axis %lld of size %lld",
                    PR_INDEX(start), PR_INDEX(stop), PR_INDEX(axis), (long long)size);
  int64_t length = stop < start ? 0 : (stop - start) / step + 1;
  PR_TRY(prO_outputs(c, 1));
  return prO_give(
      c, 0,
      prO_call(&pr_op_narrow, PRO_ARGS(PRO_INT(axis), PRO_INT(start), PRO_INT(length), PRO_INT(step)), 1, x));
}

PR_OP(slice) = {
  .name = "slice",
  .inputs = "x",
  .outputs = "y",
  .args = { { "dim", PR_ARG_DIM, .required = true },
            { "start", PR_ARG_INDEX, .integer = 0 },
            { "stop", PR_ARG_INDEX, .integer = -1,
              .help = "last position, itself included; negative: from the end" },
            { "step", PR_ARG_INT, .integer = 1 } },
  .compose = slice,
  .examples = "x:2x9x4 dim=1 start=1 stop=6 step=2\nx:5 dim=0 start=2\nx:5 dim=0 stop=-2",
  .help = "the positions start to stop of an axis, stop included, in steps of step; a narrow",
};

/* --- split, chunk, unbind ----------------------------------------------------------------------------- */

/* Size of part k, and how many parts there are: a list of sizes, or one size for all (the last part may be
 * smaller). */
static int64_t part_size(const pr_call *c, int64_t size, int k) {
  const pr_arg *sizes = &c->args[0];
  if (sizes->count > 1) return sizes->list[k];
  int64_t each = prO_int(c, 0, 0), left = size - k * each;
  return left < each ? left : each;
}

static pr_status split_parts(const pr_call *c, int axis, int *parts) {
  const pr_arg *sizes = &c->args[0];
  int64_t size = c->in[X]->shape[axis], sum = 0, each = prO_int(c, 0, 0);
  if (sizes->count <= 1) {
    if (each < 1) return prO_fail(c, PR_ERR_ARGUMENT, "sizes must be at least 1, not %lld", (long long)each);
    if (size / each > 65536)
      return prO_fail(c, PR_ERR_ARGUMENT, "%lld parts are too many", (long long)(size / each));
    *parts = size ? (int)(size / each + (size % each != 0)) : 1;
    return PR_OK;
  }
  for (int k = 0; k < sizes->count; k++) {
    if (sizes->list[k] < 0)
      return prO_fail(c, PR_ERR_ARGUMENT, "a size cannot be %lld", (long long)sizes->list[k]);
    sum = sizes->list[k] > INT64_MAX - sum ? INT64_MAX : sum + sizes->list[k];
  }
  *parts = sizes->count;
  if (sum == size) return PR_OK;
  return prO_fail(c, PR_ERR_SHAPE, "the sizes sum to %lld, axis %lld has %lld", (long long)sum,
                  PR_INDEX(axis), (long long)size);
}

static pr_status split_infer(pr_call *c) {
  int axis, parts = 0;
  PR_TRY(prO_dim(c, 1, c->in[X]->dim, &axis));
  PR_TRY(split_parts(c, axis, &parts));
  PR_TRY(prO_outputs(c, parts));
  int64_t from = 0;
  for (int k = 0; k < parts; k++) {
    int64_t length = part_size(c, c->in[X]->shape[axis], k);
    PR_TRY(part_view(c, k, axis, from, length, 1));
    from += length;
  }
  return PR_OK;
}

/* All parts have a gradient: those that nothing used have zeros. */
static pr_status gather_parts(pr_call *c, int axis, bool keeps_axis) {
  pr_tensor *whole = zeros_like_input(c);
  if (!whole) return pr_error_last()->code;
  placement at = { axis, 0, 1 };
  pr_status status = PR_OK;
  for (int k = 0; k < c->n_out && !status; k++) {
    if (c->grad_out[k]) status = place(whole, at, c->grad_out[k], keeps_axis);
    at.from += keeps_axis ? c->out[k]->shape[axis] : 1;
  }
  if (status) return pr_release(whole), status;
  return prO_gradient(c, X, whole);
}

static pr_status split_backward(pr_call *c) {
  int axis;
  PR_TRY(prO_dim(c, 1, c->in[X]->dim, &axis));
  return gather_parts(c, axis, true);
}

typedef void parts_rule(pr_coupling *k, int x, int n, const int *outputs, int axis);

static void couple_parts(pr_coupling *k, int arg, parts_rule *rule) {
  int axis, *outputs = PRB_ARRAY(int, k->outputs);
  for (int i = 0; outputs && i < k->outputs; i++) outputs[i] = PRC_OUT(i);
  bool known = outputs && prO_dim(k->call, arg, k->call->in[X]->dim, &axis) == PR_OK;
  if (known)
    rule(k, PRC_IN(X), k->outputs, outputs, axis);
  else
    prC_pin_all(k, PRC_IN(X), "there was no memory for its rule");
  PRB_ARRAY_FREE(outputs, outputs ? k->outputs : 0);
}

static void split_couple(pr_coupling *k) { couple_parts(k, 1, prC_rule_split); }
static void unbind_couple(pr_coupling *k) { couple_parts(k, 0, prC_rule_unbind); }

/* Sizes are the live counts of the parts; one size for all only as long as nothing goes. */
static pr_status split_rewrite(pr_coupling *k, pr_arg *args) {
  int axis;
  PR_TRY(prO_dim(k->call, 1, prC_dim(k, PRC_IN(X)), &axis));
  if (prC_live_axis(k, PRC_IN(X), axis) == prC_size(k, PRC_IN(X), axis)) return PR_OK;
  int64_t *sizes = PRB_ARRAY(int64_t, k->outputs);
  if (!sizes) return PR_ERR_MEMORY;
  for (int i = 0; i < k->outputs; i++) sizes[i] = prC_live_axis(k, PRC_OUT(i), axis);
  PRB_ARRAY_FREE(args[0].list, args[0].count);
  args[0] = (pr_arg){ .list = sizes, .count = k->outputs, .given = true };
  return PR_OK;
}

PR_OP(split) = {
  .name = "split",
  .inputs = "x",
  .outputs = "ys*",
  .args = { { "sizes", PR_ARG_INTS, .required = true, .symbolic = true,
              .help = "one per part; a single one: of all parts" },
            { "dim", PR_ARG_DIM, .integer = 0 } },
  .flags = PR_OP_VIEW,
  .infer = split_infer,
  .backward = split_backward,
  .couple = split_couple,
  .rewrite = split_rewrite,
  .onnx = "Split",
  .examples = "x:2x6x3 sizes=1,3,2 dim=1\nx:5x2 sizes=2",
  .help = "parts of x one after the other along dim; share memory",
};

static pr_status chunk(pr_call *c) {
  const pr_tensor *x = c->in[X];
  int64_t chunks = c->args[0].integer;
  int axis, capacity;
  PR_TRY(prO_dim(c, 1, x->dim, &axis));
  if (chunks < 1)
    return prO_fail(c, PR_ERR_ARGUMENT, "the number of chunks must be at least 1, not %lld",
                    (long long)chunks);
  int64_t each = x->shape[axis] / chunks + (x->shape[axis] % chunks != 0),
          parts = each ? (x->shape[axis] + each - 1) / each : 1;
  if (parts > 65536) return prO_fail(c, PR_ERR_ARGUMENT, "%lld parts are too many", (long long)parts);
  PR_TRY(prO_outputs(c, capacity = (int)parts));
  int64_t *sizes = PRB_ARRAY(int64_t, parts);
  if (!sizes) return PR_ERR_MEMORY;
  for (int64_t k = 0; k < parts; k++) sizes[k] = k + 1 < parts ? each : x->shape[axis] - (parts - 1) * each;
  if (sizes[0] == 0) sizes[0] = 1; /* an empty axis: one empty part of size up to 1 */
  pr_status status = pr_apply(&pr_op_split, PRO_ARGS(PRO_LIST((int)parts, sizes), PRO_INT(axis)), c->in, 1,
                              c->out, &capacity);
  PRB_ARRAY_FREE(sizes, parts);
  return status;
}

PR_OP(chunk) = {
  .name = "chunk",
  .inputs = "x",
  .outputs = "ys*",
  .args = { { "chunks", PR_ARG_INT, .required = true }, { "dim", PR_ARG_DIM, .integer = 0 } },
  .compose = chunk,
  .examples = "x:2x9x2 chunks=3 dim=1\nx:5 chunks=2",
  .help = "x cut into chunks of equal size along dim (the last may be smaller); a split",
};

static pr_status unbind_infer(pr_call *c) {
  const pr_tensor *x = c->in[X];
  int64_t shape[PR_MAX_DIM], stride[PR_MAX_DIM];
  int axis, dim = 0;
  PR_TRY(prO_dim(c, 0, x->dim, &axis));
  if (x->shape[axis] < 1 || x->shape[axis] > 65536)
    return prO_fail(c, PR_ERR_SHAPE, "axis %lld has %lld positions; 1 to 65536 can be unbound",
                    PR_INDEX(axis), (long long)x->shape[axis]);
  for (int d = 0; d < x->dim; d++)
    if (d != axis) shape[dim] = x->shape[d], stride[dim++] = x->stride[d];
  PR_TRY(prO_outputs(c, (int)x->shape[axis]));
  for (int k = 0; k < x->shape[axis]; k++)
    PR_TRY(prO_view(c, k, X, dim, shape, stride, x->offset + k * x->stride[axis]));
  return PR_OK;
}

static pr_status unbind_backward(pr_call *c) {
  int axis;
  PR_TRY(prO_dim(c, 0, c->in[X]->dim, &axis));
  return gather_parts(c, axis, false);
}

PR_OP(unbind) = {
  .name = "unbind",
  .inputs = "x",
  .outputs = "ys*",
  .args = { { "dim", PR_ARG_DIM, .integer = 0 } },
  .flags = PR_OP_VIEW,
  .infer = unbind_infer,
  .backward = unbind_backward,
  .couple = unbind_couple,
  .examples = "x:2x3x4 dim=1\nx:3",
  .help = "the positions of an axis one by one, each x without dim; share memory",
};
