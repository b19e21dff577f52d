/* move.c - elements moved, mirrored, padded or dropped by position: pad, flip, roll, tril, triu,
 * pixel_shuffle, pixel_unshuffle, channel_shuffle; and glu, a gate by half of the channels. */
#include <string.h>

#include "base/memory.h"
#include "couple/rules.h"
#include "op/call.h"

enum { X };

/* --- pad
 * --------------------------------------------------------------------------------------------------------------
 */

enum { PAD, MODE, VALUE };
enum { CONSTANT, REFLECT, REPLICATE };

static pr_status pad_axis(const pr_call *c, int axis, int64_t before, int64_t after, int64_t *size) {
  int64_t n = c->in[X]->shape[axis], mode = c->args[MODE].integer;
  if (mode == REFLECT && (before >= n || after >= n) && (before || after))
    return prO_fail(
        c, PR_ERR_SHAPE,
        "reflection needs more than the padding's %lld and %lld positions along axis %lld, has %lld",
        (long long)before, (long long)after, PR_INDEX(axis), (long long)n);
  if (mode == REPLICATE && n == 0 && (before || after))
    return prO_fail(c, PR_ERR_SHAPE, "axis %lld is empty and has no edge to repeat", PR_INDEX(axis));
  if (mode != CONSTANT && (before < 0 || after < 0))
    return prO_fail(c, PR_ERR_ARGUMENT, "only constant padding can be negative");
  if (__builtin_add_overflow(n, before, size) || __builtin_add_overflow(*size, after, size) || *size < 0 ||
      n + before < 0 || n + after < 0)
    return prO_fail(c, PR_ERR_SHAPE, "padding %lld and %lld does not fit axis %lld of size %lld",
                    (long long)before, (long long)after, PR_INDEX(axis), (long long)n);
  return PR_OK;
}

static pr_status pad_infer(pr_call *c) {
  const pr_tensor *x = c->in[X];
  const pr_arg *pad = &c->args[PAD];
  int64_t shape[PR_MAX_DIM];
  if (pad->count % 2 || pad->count > 2 * x->dim)
    return prO_fail(c, PR_ERR_ARGUMENT,
                    "pad takes pairs for at most %d axes from the last on, got %d numbers", x->dim,
                    pad->count);
  memcpy(shape, x->shape, sizeof shape);
  for (int k = 0; k < pad->count / 2; k++) {
    int axis = x->dim - 1 - k;
    PR_TRY(pad_axis(c, axis, pad->list[2 * k], pad->list[2 * k + 1], &shape[axis]));
  }
  return prO_output_ordered(c, 0, x->dtype, x->dim, shape, x);
}

static void pad_couple(pr_coupling *k) {
  const pr_arg *args = k->call->args, *pad = &args[PAD];
  int64_t before[PR_MAX_DIM] = { 0 }, after[PR_MAX_DIM] = { 0 };
  for (int i = 0; i < pad->count / 2; i++) {
    int axis = prC_dim(k, PRC_IN(X)) - 1 - i;
    before[axis] = pad->list[2 * i], after[axis] = pad->list[2 * i + 1];
  }
  prC_rule_pad(k, PRC_IN(X), PRC_OUT(0), before, after, args[MODE].integer == CONSTANT, args[VALUE].real);
}

/* Positions added: those of the result that stay. Positions cut off: those of the input that stay. */
static pr_status pad_rewrite(pr_coupling *k, pr_arg *args) {
  for (int i = 0; i < args[PAD].count / 2; i++) {
    int axis = prC_dim(k, PRC_IN(X)) - 1 - i;
    int64_t in = prC_size(k, PRC_IN(X), axis), out = prC_size(k, PRC_OUT(0), axis);
    int64_t *before = &args[PAD].list[2 * i], *after = before + 1;
    *before = *before < 0 ? -prC_live_part(k, PRC_IN(X), axis, 0, -*before)
                          : prC_live_part(k, PRC_OUT(0), axis, 0, *before);
    *after = *after < 0 ? -prC_live_part(k, PRC_IN(X), axis, in + *after, in)
                        : prC_live_part(k, PRC_OUT(0), axis, out - *after, out);
  }
  return PR_OK;
}

PR_OP(pad) = {
  .name = "pad",
  .inputs = "x",
  .outputs = "y",
  .args = { { "pad", PR_ARG_INTS, .required = true,
              .help = "before and after, from the last axis on: left, right, top, bottom" },
            { "mode", PR_ARG_CHOICE, .choices = "constant reflect replicate" },
            { "value", PR_ARG_REAL, .help = "of constant padding" } },
  .infer = pad_infer,
  .couple = pad_couple,
  .rewrite = pad_rewrite,
  .onnx = "Pad",
  .examples = "x:2x3x4 pad=1,2,0,1\nx:2x4x4 pad=1,2 mode=reflect\nx:2x3x3 pad=2,1,1,0 mode=replicate\n"
              "x:2x5 pad=-1,2,0,1 value=0.5",
  .help = "x with positions added at the ends of its last axes; negative constant padding cuts off",
};

/* --- flip, roll --------------------------------------------------------------------------------------- */

static pr_status flip_infer(pr_call *c) {
  bool flipped[PR_MAX_DIM];
  PR_TRY(prO_dims(c, 0, c->in[X]->dim, flipped));
  return prO_output_like(c, 0, c->in[X]);
}

static void flip_couple(pr_coupling *k) {
  bool flipped[PR_MAX_DIM];
  unsigned axes = 0;
  if (prO_dims(k->call, 0, k->call->in[X]->dim, flipped)) return;
  for (int d = 0; d < k->call->in[X]->dim; d++) axes |= (unsigned)flipped[d] << d;
  prC_rule_flip(k, PRC_IN(X), PRC_OUT(0), axes);
}

PR_OP(flip) = {
  .name = "flip",
  .inputs = "x",
  .outputs = "y",
  .args = { { "dims", PR_ARG_DIMS, .required = true } },
  .infer = flip_infer,
  .couple = flip_couple,
  .examples = "x:2x3x4 dims=1\nx:2x3 dims=0,-1",
  .help = "axes in reverse",
};

static pr_status roll_infer(pr_call *c) {
  bool rolled[PR_MAX_DIM];
  PR_TRY(prO_dims(c, 1, c->in[X]->dim, rolled));
  if (!c->args[1].count) return prO_fail(c, PR_ERR_ARGUMENT, "dims must name an axis");
  PR_TRY(prO_check_ints(c, 0, c->args[1].count));
  return prO_output_like(c, 0, c->in[X]);
}

static int rolled_axis(const pr_coupling *k, const pr_arg *args, int i) {
  int64_t axis = args[1].list[i];
  return (int)(axis < 0 ? axis + prC_dim(k, PRC_IN(X)) : axis);
}

static void roll_couple(pr_coupling *k) {
  prC_pass(k, PRC_OUT(0), PRC_IN(X), PRC_DEAD_VALUE);
  for (int i = 0; i < k->call->args[1].count; i++) {
    int axis = rolled_axis(k, k->call->args, i);
    int64_t n = prC_size(k, PRC_IN(X), axis);
    pr_label *label = prC_unpinned(prC_label(k, PRC_IN(X), axis));
    if (!label || n < 2) continue;
    label = prC_roll(k->algebra, label, n, prO_int(k->call, 0, i) % n);
    prC_set(k, PRC_OUT(0), axis, label, prC_dead(k, PRC_IN(X), axis));
  }
}

/* Positions that stay among those that went around: the last ones, or for a negative shift the first. */
static int64_t rolled(const pr_coupling *k, int axis, int64_t shift) {
  int64_t n = prC_size(k, PRC_IN(X), axis), live = prC_live_axis(k, PRC_IN(X), axis);
  if (n == 0) return shift;
  int64_t rounds = shift / n, rest = shift % n; /* rest has the sign of shift */
  if (rest < 0) return rounds * live - prC_live_part(k, PRC_IN(X), axis, 0, -rest);
  return rounds * live + prC_live_part(k, PRC_IN(X), axis, n - rest, n);
}

static pr_status roll_rewrite(pr_coupling *k, pr_arg *args) {
  int count = args[1].count;
  int64_t *shifts = PRB_ARRAY(int64_t, count);
  if (!shifts) return PR_ERR_MEMORY;
  bool same = true;
  for (int i = 0; i < count; i++) {
    shifts[i] =
        rolled(k, rolled_axis(k, args, i), args[0].count > 1 ? args[0].list[i] : prO_int(k->call, 0, 0));
    same = same && shifts[i] == shifts[0];
  }
  if (same && args[0].count < 2) { /* one number for all axes may stay one */
    if (args[0].count)
      args[0].list[0] = shifts[0];
    else
      args[0].integer = shifts[0];
    PRB_ARRAY_FREE(shifts, count);
    return PR_OK;
  }
  PRB_ARRAY_FREE(args[0].list, args[0].count);
  args[0] = (pr_arg){ .list = shifts, .count = count, .given = true };
  return PR_OK;
}

PR_OP(roll) = {
  .name = "roll",
  .inputs = "x",
  .outputs = "y",
  .args = { { "shifts", PR_ARG_INTS, .required = true,
              .help = "per axis of dims; positive: towards higher positions" },
            { "dims", PR_ARG_DIMS, .required = true } },
  .infer = roll_infer,
  .couple = roll_couple,
  .rewrite = roll_rewrite,
  .examples = "x:2x4x3 shifts=1,-2 dims=1,2\nx:5 shifts=2 dims=0",
  .help = "axes moved around in a circle: y[i + shift] = x[i]",
};

/* --- triangles
 * ----------------------------------------------------------------------------------------------------------
 */

static pr_status triangle_infer(pr_call *c) {
  PR_TRY(prO_need_dim(c, X, 2, PR_MAX_DIM));
  return prO_output_like(c, 0, c->in[X]);
}

static pr_status triangle_backward(pr_call *c) {
  return prO_gradient(c, X, prO_call(c->op, c->args, 1, c->grad_out[0]));
}

static void triangle_couple(pr_coupling *k) { prC_rule_spatial(k, PRC_IN(X), PRC_OUT(0), 2, PRC_DEAD_ZERO); }

#define TRIANGLE(word)                                                                                       \
  .name = word, .inputs = "x", .outputs = "y", .infer = triangle_infer, .couple = triangle_couple,           \
  .backward = triangle_backward, .onnx = "Trilu",                                                            \
  .examples = "x:3x4\nx:2x3x3 diagonal=1\nx:4x3 diagonal=-1",                                                \
  .args = { { "diagonal", PR_ARG_INT, .help = "0: the main one; above it positive" } }

PR_OP(tril) = { TRIANGLE("tril"),
                .help = "the part of the last two axes on and below a diagonal, 0 elsewhere" };
PR_OP(triu) = { TRIANGLE("triu"),
                .help = "the part of the last two axes on and above a diagonal, 0 elsewhere" };

/* --- shuffles
 * ------------------------------------------------------------------------------------------------------------
 */

extern pr_op pr_op_pixel_shuffle, pr_op_pixel_unshuffle;

static pr_status need_factor(const pr_call *c) {
  PR_TRY(prO_need_dim(c, X, 4, 4));
  if (c->args[0].integer >= 1 && c->args[0].integer <= 4096) return PR_OK;
  return prO_fail(c, PR_ERR_ARGUMENT, "the factor must be 1 to 4096, not %lld",
                  (long long)c->args[0].integer);
}

static pr_status pixel_shuffle_infer(pr_call *c) {
  PR_TRY(need_factor(c));
  const pr_tensor *x = c->in[X];
  int64_t r = c->args[0].integer;
  if (x->shape[1] % (r * r))
    return prO_fail(c, PR_ERR_SHAPE, "%lld channels do not divide into blocks of %lld",
                    (long long)x->shape[1], (long long)(r * r));
  int64_t shape[] = { x->shape[0], x->shape[1] / (r * r), x->shape[2] * r, x->shape[3] * r };
  return prO_output_ordered(c, 0, x->dtype, 4, shape, x);
}

static pr_status pixel_shuffle_backward(pr_call *c) {
  return prO_gradient(c, X, prO_call(&pr_op_pixel_unshuffle, c->args, 1, c->grad_out[0]));
}

static void pixel_shuffle_couple(pr_coupling *k) {
  prC_rule_pixel_shuffle(k, PRC_IN(X), PRC_OUT(0), k->call->args[0].integer);
}

PR_OP(pixel_shuffle) = {
  .name = "pixel_shuffle",
  .inputs = "x",
  .outputs = "y",
  .args = { { "upscale_factor", PR_ARG_INT, .required = true } },
  .infer = pixel_shuffle_infer,
  .couple = pixel_shuffle_couple,
  .backward = pixel_shuffle_backward,
  .onnx = "DepthToSpace",
  .examples = "x:2x8x2x3 upscale_factor=2",
  .help =
      "channels to space: x [N, C r r, H, W] -> y [N, C, H r, W r], r = upscale_factor (Shi et al. 2016)\n"
      "y[n, c, h r + i, w r + j] = x[n, (c r + i) r + j, h, w]",
};

static pr_status pixel_unshuffle_infer(pr_call *c) {
  PR_TRY(need_factor(c));
  const pr_tensor *x = c->in[X];
  int64_t r = c->args[0].integer;
  if (x->shape[2] % r || x->shape[3] % r)
    return prO_fail(c, PR_ERR_SHAPE, "%lld x %lld positions do not divide into blocks of %lld x %lld",
                    (long long)x->shape[2], (long long)x->shape[3], (long long)r, (long long)r);
  int64_t shape[] = { x->shape[0], x->shape[1] * r * r, x->shape[2] / r, x->shape[3] / r };
  return prO_output_ordered(c, 0, x->dtype, 4, shape, x);
}

static pr_status pixel_unshuffle_backward(pr_call *c) {
  return prO_gradient(c, X, prO_call(&pr_op_pixel_shuffle, c->args, 1, c->grad_out[0]));
}

static void pixel_unshuffle_couple(pr_coupling *k) {
  prC_rule_pixel_unshuffle(k, PRC_IN(X), PRC_OUT(0), k->call->args[0].integer);
}

PR_OP(pixel_unshuffle) = {
  .name = "pixel_unshuffle",
  .inputs = "x",
  .outputs = "y",
  .args = { { "downscale_factor", PR_ARG_INT, .required = true } },
  .infer = pixel_unshuffle_infer,
  .couple = pixel_unshuffle_couple,
  .backward = pixel_unshuffle_backward,
  .onnx = "SpaceToDepth",
  .examples = "x:2x2x4x6 downscale_factor=2",
  .help = "space to channels, the reverse of pixel_shuffle: x [N, C, H r, W r] -> y [N, C r r, H, W]",
};

static pr_status channel_shuffle_infer(pr_call *c) {
  const pr_tensor *x = c->in[X];
  const pr_arg *index = &c->args[1];
  int64_t groups = c->args[0].integer;
  PR_TRY(prO_need_dim(c, X, 2, PR_MAX_DIM));
  if (!index->count && (groups < 1 || x->shape[1] % groups))
    return prO_fail(c, PR_ERR_SHAPE, "%lld channels do not divide into %lld groups", (long long)x->shape[1],
                    (long long)groups);
  if (index->count && index->count != x->shape[1])
    return prO_fail(c, PR_ERR_SHAPE, "index lists %d channels, x has %lld", index->count,
                    (long long)x->shape[1]);
  for (int k = 0; k < index->count; k++)
    if (index->list[k] < 0 || index->list[k] >= x->shape[1])
      return prO_fail(c, PR_ERR_INDEX, "index %lld is not one of %lld channels", PR_INDEX(index->list[k]),
                      (long long)x->shape[1]);
  return prO_output_like(c, 0, x);
}

static void channel_shuffle_couple(pr_coupling *k) {
  const pr_arg *args = k->call->args;
  if (args[1].count)
    prC_rule_gather(k, PRC_IN(X), PRC_OUT(0), 1, args[1].list, PRC_NONE);
  else
    prC_rule_channel_shuffle(k, PRC_IN(X), PRC_OUT(0), args[0].integer);
}

/* The channel of x that channel i of y is, among `channels`. */
static int64_t shuffled_from(int64_t i, int64_t channels, int64_t groups) {
  return i % groups * (channels / groups) + i / groups;
}

/* The permutation of the channels that stay: as groups where it is still such a one, else as a list. */
static pr_status channel_shuffle_rewrite(pr_coupling *k, pr_arg *args) {
  int64_t channels = prC_size(k, PRC_IN(X), 1), live = prC_live_axis(k, PRC_IN(X), 1);
  int64_t groups = args[0].integer, n = 0;
  if (live == channels) return PR_OK;
  int64_t *index = PRB_ARRAY(int64_t, live);
  if (!index) return PR_ERR_MEMORY;
  bool regular = !args[1].count && live % groups == 0;
  for (int64_t i = 0; i < channels && n < live; i++) {
    int64_t from = args[1].count ? args[1].list[i] : shuffled_from(i, channels, groups);
    if (!prC_live_position(k, PRC_IN(X), 1, from)) continue;
    index[n] = prC_live_part(k, PRC_IN(X), 1, 0, from);
    regular = regular && index[n] == shuffled_from(n, live, groups);
    n++;
  }
  if (regular) return PRB_ARRAY_FREE(index, live), PR_OK;
  PRB_ARRAY_FREE(args[1].list, args[1].count);
  args[1] = (pr_arg){ .list = index, .count = (int)live, .given = true };
  return PR_OK;
}

PR_OP(channel_shuffle) = {
  .name = "channel_shuffle",
  .inputs = "x",
  .outputs = "y",
  .args = { { "groups", PR_ARG_INT, .required = true },
            { "index", PR_ARG_INDICES, .empty = true, .help = "the permutation itself, instead of groups" } },
  .infer = channel_shuffle_infer,
  .couple = channel_shuffle_couple,
  .rewrite = channel_shuffle_rewrite,
  .examples = "x:2x6x3 groups=2\nx:2x6x2x2 groups=3\nx:2x4 groups=2 index=3,0,2,1",
  .help = "channels (axis 1) of the groups in turn: y's channel j * groups + i is x's i * C / groups + j\n"
          "A permutation of channels (Zhang et al., ShuffleNet, 2017). After removal of channels the groups "
          "may be uneven: then index\n"
          "lists for each channel of y the channel of x.",
};

/* --- glu
 * ----------------------------------------------------------------------------------------------------------------
 */

static pr_status glu(pr_call *c) {
  const pr_tensor *x = c->in[X];
  pr_tensor *half[2] = { NULL, NULL };
  int axis, two = 2;
  PR_TRY(prO_need_float(c, X));
  PR_TRY(prO_dim(c, 0, x->dim, &axis));
  if (x->shape[axis] < 2 || x->shape[axis] % 2)
    return prO_fail(c, PR_ERR_SHAPE, "axis %lld of size %lld has no two halves", PR_INDEX(axis),
                    (long long)x->shape[axis]);
  int64_t sizes[2] = { x->shape[axis] / 2, x->shape[axis] / 2 };
  PR_TRY(prO_outputs(c, 1));
  PR_TRY(pr_apply(&pr_op_split, PRO_ARGS(PRO_LIST(2, sizes), PRO_INT(axis)), c->in, 1, half, &two));
  return prO_give(c, 0, prO_take2(&pr_op_mul, half[0], prO_take1(&pr_op_sigmoid, half[1])));
}

PR_OP(glu) = {
  .name = "glu",
  .inputs = "x",
  .outputs = "y",
  .args = { { "dim", PR_ARG_DIM, .integer = -1 } },
  .compose = glu,
  .examples = "x:2x6x3 dim=1\nx:3x4",
  .help = "gated linear unit: the first half of an axis times sigmoid of the second (Dauphin et al. 2016)",
};
