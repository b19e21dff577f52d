#include "backend/cpu/conv_direct.h"

#include "backend/cpu/parallel.h"
#include "backend/cpu/tile.h"

#include <string.h>

enum {
  MAX_TAPS = 1024,
  ROOM = 64,      /* floats past the end of a buffer, for reads of whole vectors */
  PACK_BLOCK = 16 /* channels whose weights, of all outputs of a panel, fit the first-level cache */
};

/* One side of a pass: channels-last activations, and their regrouped copy [position][image][line]. */
typedef struct side {
  int64_t positions, channels, line;
} side;

static int64_t area(const int64_t size[2]) { return size[0] * size[1]; }

static int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Rows whose distance is a multiple of 4 KiB share few cache sets, so such lines get some extra length. */
static int64_t line_length(int64_t channels) { return channels % 512 == 0 ? channels + 16 : channels; }

static side input_side(const prK_conv *p) { return (side){ area(p->in), p->c_in, line_length(p->c_in) }; }

static side output_side(const prK_conv *p) { return (side){ area(p->out), p->c_out, line_length(p->c_out) }; }

static int64_t side_floats(const prK_conv *p, side s) { return s.positions * p->batch * s.line + ROOM; }

/* Where tap (ky, kx) of output position `o` falls on the input, or -1 for the padding. */
static int64_t input_position(const prK_conv *p, int64_t o, int64_t tap) {
  int64_t y = o / p->out[1] * p->stride[0] - p->padding[0] + tap / p->kernel[1] * p->dilation[0];
  int64_t x = o % p->out[1] * p->stride[1] - p->padding[1] + tap % p->kernel[1] * p->dilation[1];
  return y < 0 || y >= p->in[0] || x < 0 || x >= p->in[1] ? -1 : y * p->in[1] + x;
}

/* The output position whose tap falls on input position `i`, or -1. */
static int64_t output_position(const prK_conv *p, int64_t i, int64_t tap) {
  int64_t y = i / p->in[1] + p->padding[0] - tap / p->kernel[1] * p->dilation[0];
  int64_t x = i % p->in[1] + p->padding[1] - tap % p->kernel[1] * p->dilation[1];
  if (y < 0 || x < 0 || y % p->stride[0] || x % p->stride[1]) return -1;
  y /= p->stride[0], x /= p->stride[1];
  return y >= p->out[0] || x >= p->out[1] ? -1 : y * p->out[1] + x;
}

static void find_used_taps(const prK_conv *p, bool used[MAX_TAPS]) {
  for (int64_t t = 0; t < area(p->kernel); t++) {
    used[t] = false;
    for (int64_t o = 0; o < area(p->out) && !used[t]; o++) used[t] = input_position(p, o, t) >= 0;
  }
}

/* Few channels in a group make short dot products; a row of the filter over the padded image makes longer
 * ones. */
static bool is_narrow(const prK_conv *p) {
  return p->groups == 1 && p->c_in < 16 && p->dilation[1] == 1 && p->kernel[1] > 1;
}

bool prK_direct_suits(const prK_conv *p, prK_conv_pass pass) {
  if (area(p->kernel) > MAX_TAPS) return false;
  if (is_narrow(p) && pass != PRK_CONV_DATA) return p->out[1] >= 4;
  return p->batch >= 8 && p->c_in / p->groups >= 8 && p->c_out / p->groups >= 8;
}

/* Of the products of taps and outputs along one axis, the share that is not with padding. */
static double useful_share(const prK_conv *p, int axis) {
  int64_t pairs = 0;
  for (int64_t k = 0; k < p->kernel[axis]; k++)
    for (int64_t o = 0; o < p->out[axis]; o++) {
      const int64_t at = o * p->stride[axis] - p->padding[axis] + k * p->dilation[axis];
      pairs += at >= 0 && at < p->in[axis];
    }
  return (double)pairs / (double)(p->kernel[axis] * p->out[axis]);
}

/* Work that is saved, against what tiles with few rows lose. On 1x1 filters nothing is saved, but libraries
 * are weak on tiny images. */
bool prK_direct_leads(const prK_conv *p, prK_conv_pass pass) {
  if (area(p->kernel) > MAX_TAPS || p->c_in / p->groups < 8 || p->c_out / p->groups < 8)
    return prK_direct_suits(p, pass) && pass == PRK_CONV_WEIGHTS;
  if (is_narrow(p)) return pass == PRK_CONV_WEIGHTS && prK_direct_suits(p, pass);
  const double filled = p->batch < 7 ? (double)p->batch / 7 : 1;
  if (area(p->kernel) == 1) return filled == 1 && area(p->out) <= (pass == PRK_CONV_WEIGHTS ? 16 : 4);
  return useful_share(p, 0) * useful_share(p, 1) < filled * (pass == PRK_CONV_WEIGHTS ? 0.9 : 0.82);
}

/* --- regrouping
 * ------------------------------------------------------------------------------------------------------- */

/* The passes below run in one parallel region each: what it calls shares its loops out among the region's
 * threads. Every thread returns the same. `copy`: also where x has the right order already. No thread waits
 * for the others. */
static const float *regroup(const prK_conv *p, side s, bool copy, const float *x, float *to) {
  if (s.positions == 1 && s.line == s.channels && !copy) return x;
  const int64_t lines = s.positions * p->batch;
#pragma omp for schedule(static) nowait
  for (int64_t i = 0; i < lines; i++) {
    const int64_t at = i / p->batch, n = i % p->batch;
    memcpy(to + i * s.line, x + (n * s.positions + at) * s.channels, sizeof(float) * (size_t)s.channels);
  }
  return to;
}

/* Weights as panels [group][panel][tap][c_in][width] for the forward pass; taps that are never used are left
 * out (not written). */
static void pack_forward(const prK_conv *p, int width, const bool *used, const float *w, float *to) {
  const int64_t taps = area(p->kernel), depth = p->c_in / p->groups, outs = p->c_out / p->groups;
  const int64_t panels = divide_up(outs, width);
#pragma omp for schedule(static) collapse(2)
  for (int64_t g = 0; g < p->groups; g++)
    for (int64_t panel = 0; panel < panels; panel++) {
      const int64_t first = panel * width, n = outs - first < width ? outs - first : width;
      const float *from = w + (g * outs + first) * depth * taps;
      float *out = to + (g * panels + panel) * taps * depth * width;
      for (int64_t block = 0; block < depth; block += PACK_BLOCK)
        for (int64_t t = 0; t < taps; t++)
          for (int64_t c = block; used[t] && c < depth && c < block + PACK_BLOCK; c++) {
            float *cell = out + (t * depth + c) * width;
            const float *source = from + c * taps + t;
            for (int64_t o = 0; o < n; o++) cell[o] = source[o * depth * taps];
            for (int64_t o = n; o < width; o++) cell[o] = 0;
          }
    }
}

/* Weights as panels [group][panel][tap][c_out][width], the width over input channels, for the gradient of the
 * data. */
static void pack_data(const prK_conv *p, int width, const bool *used, const float *w, float *to) {
  const int64_t taps = area(p->kernel), depth = p->c_out / p->groups, ins = p->c_in / p->groups;
  const int64_t panels = divide_up(ins, width);
#pragma omp for schedule(static) collapse(2)
  for (int64_t g = 0; g < p->groups; g++)
    for (int64_t panel = 0; panel < panels; panel++) {
      const int64_t first = panel * width, n = ins - first < width ? ins - first : width;
      float *out = to + (g * panels + panel) * taps * depth * width;
      for (int64_t o = 0; o < depth; o++) {
        const float *source = w + ((g * depth + o) * ins + first) * taps;
        for (int64_t t = 0; t < taps; t++) {
          if (!used[t]) continue;
          float *cell = out + (t * depth + o) * width;
          for (int64_t c = 0; c < n; c++) cell[c] = source[c * taps + t];
          for (int64_t c = n; c < width; c++) cell[c] = 0;
        }
      }
    }
}

/* --- by position: forward and data
 * ------------------------------------------------------------------------------------ */

/* What the two passes share: sums at each position of `to` over the taps that fall on positions of `from`. */
typedef struct product_plan {
  const prK_conv *p;
  int64_t (*source)(const prK_conv *p, int64_t to_position, int64_t tap);
  side from, to;
  const float *a;      /* regrouped */
  const float *panels; /* packed weights */
  const float *bias;   /* or NULL */
  float *y;
} product_plan;

typedef struct tap_run {
  int64_t source, weights; /* where its numbers begin, in floats */
} tap_run;

static int find_runs(const product_plan *plan, int64_t at, int64_t panel_floats, tap_run *run) {
  int runs = 0;
  for (int64_t t = 0; t < area(plan->p->kernel); t++) {
    const int64_t from = plan->source(plan->p, at, t);
    if (from >= 0) run[runs++] = (tap_run){ from * plan->p->batch * plan->from.line, t * panel_floats };
  }
  return runs;
}

/* Tasks are (group, panel, position, block of images); blocks have nearly equal heights. */
static void product_tasks(const product_plan *plan, const prK_tiles *tiles, int64_t begin, int64_t end) {
  const prK_conv *p = plan->p;
  const int64_t depth = plan->from.channels / p->groups, outs = plan->to.channels / p->groups;
  const int64_t panels = divide_up(outs, tiles->width), taps = area(p->kernel);
  const int64_t blocks = divide_up(p->batch, tiles->rows), positions = plan->to.positions;
  tap_run run[MAX_TAPS];
  prK_segment segment[MAX_TAPS];
  int runs = 0;
  for (int64_t task = begin; task < end; task++) {
    const int64_t block = task % blocks, at = task / blocks % positions, part = task / blocks / positions;
    const int64_t g = part / panels, first = part % panels * tiles->width;
    const int64_t n = block * p->batch / blocks, next = (block + 1) * p->batch / blocks;
    if (block == 0 || task == begin) runs = find_runs(plan, at, depth * tiles->width, run);
    for (int r = 0; r < runs; r++)
      segment[r] = (prK_segment){ plan->a + run[r].source + n * plan->from.line + g * depth,
                                  plan->panels + part * taps * depth * tiles->width + run[r].weights, depth };
    const prK_target target = { .y = plan->y + (n * positions + at) * plan->to.channels + g * outs + first,
                                .row = positions * plan->to.channels,
                                .columns = (int)(outs - first < tiles->width ? outs - first : tiles->width),
                                .bias = plan->bias ? plan->bias + g * outs + first : NULL };
    tiles->product((int)(next - n), runs, segment, plan->from.line, &target);
  }
}

static void run_product(const product_plan *plan, const prK_tiles *tiles) {
  const prK_conv *p = plan->p;
  const int64_t panels = divide_up(plan->to.channels / p->groups, tiles->width);
  int64_t begin, end;
  prK_share(p->groups * panels * plan->to.positions * divide_up(p->batch, tiles->rows), &begin, &end);
  product_tasks(plan, tiles, begin, end);
}

static int64_t panel_floats(const prK_conv *p, int64_t from, int64_t to) {
  const int width = prK_tiles_get()->width;
  return p->groups * divide_up(to / p->groups, width) * area(p->kernel) * (from / p->groups) * width + ROOM;
}

/* --- by position: gradient of the weights
 * ----------------------------------------------------------------------------- */

/* Sums go to [tap][c_out][c_in / groups]; a tile has output channels as rows. Tasks are (tap, group, block of
 * rows, panel). Positions are taken in chunks that fit the second-level cache, all tasks over one chunk
 * before the next. */
typedef struct weights_plan {
  const prK_conv *p;
  side in, out;
  const float *x, *dy; /* regrouped */
  const bool *used;
  float *sums;
} weights_plan;

enum { CHUNK_BYTES = 400 << 10, CHUNK_POSITIONS = 64 };

static void weights_task(const weights_plan *plan, const prK_tiles *tiles, int64_t task, int64_t from,
                         int64_t to) {
  const prK_conv *p = plan->p;
  const int64_t ins = p->c_in / p->groups, outs = p->c_out / p->groups;
  const int64_t panels = divide_up(ins, tiles->width), blocks = divide_up(outs, tiles->rows);
  const int64_t panel = task % panels, block = task / panels % blocks, g = task / panels / blocks % p->groups;
  const int64_t tap = task / panels / blocks / p->groups;
  if (!plan->used[tap]) return;
  const int64_t o = block * outs / blocks, next = (block + 1) * outs / blocks, first = panel * tiles->width;
  prK_segment segment[CHUNK_POSITIONS];
  int segments = 0;
  for (int64_t at = from; at < to; at++) {
    const int64_t source = input_position(p, at, tap);
    if (source < 0) continue;
    segment[segments++] =
        (prK_segment){ plan->dy + at * p->batch * plan->out.line + g * outs + o,
                       plan->x + source * p->batch * plan->in.line + g * ins + first, p->batch };
  }
  const prK_target target = { .y = plan->sums + (tap * p->c_out + g * outs + o) * ins + first,
                              .row = ins,
                              .columns = (int)(ins - first < tiles->width ? ins - first : tiles->width),
                              .add = from > 0 };
  if (segments || from == 0)
    tiles->outer((int)(next - o), segments, segment, plan->out.line, plan->in.line, &target);
}

static void run_weights(const weights_plan *plan, const prK_tiles *tiles) {
  const prK_conv *p = plan->p;
  const int64_t tasks = area(p->kernel) * p->groups * divide_up(p->c_out / p->groups, tiles->rows) *
                        divide_up(p->c_in / p->groups, tiles->width);
  int64_t chunk = CHUNK_BYTES / (p->batch * (plan->in.line + plan->out.line) * (int64_t)sizeof(float));
  chunk = chunk < 1 ? 1 : chunk > CHUNK_POSITIONS ? CHUNK_POSITIONS : chunk;
  int64_t begin, end;
  prK_share(tasks, &begin, &end);
  for (int64_t at = 0; at < plan->out.positions; at += chunk)
    for (int64_t task = begin; task < end; task++)
      weights_task(plan, tiles, task, at,
                   at + chunk < plan->out.positions ? at + chunk : plan->out.positions);
}

/* [tap][c_out][c_in / groups] to [c_out][c_in / groups][tap]. */
static void unpack_weights(const prK_conv *p, const bool *used, const float *sums, float *dw) {
  const int64_t taps = area(p->kernel), ins = p->c_in / p->groups;
#pragma omp for schedule(static)
  for (int64_t o = 0; o < p->c_out; o++)
    for (int64_t t = 0; t < taps; t++) {
      const float *from = sums + (t * p->c_out + o) * ins;
      float *to = dw + o * ins * taps + t;
      if (used[t])
        for (int64_t c = 0; c < ins; c++) to[c * taps] = from[c];
      else
        for (int64_t c = 0; c < ins; c++) to[c * taps] = 0;
    }
}

/* --- narrow
 * -----------------------------------------------------------------------------------------------------------
 */

/* The image with its padding: `line` floats per row, rows that some output row needs. */
typedef struct narrow {
  int64_t rows, line, depth; /* depth = kernel width x channels: numbers under one row of the filter */
} narrow;

static narrow narrow_sizes(const prK_conv *p) {
  return (narrow){ (p->out[0] - 1) * p->stride[0] + (p->kernel[0] - 1) * p->dilation[0] + 1,
                   ((p->out[1] - 1) * p->stride[1] + p->kernel[1]) * p->c_in, p->kernel[1] * p->c_in };
}

static int64_t narrow_floats(const prK_conv *p) {
  narrow s = narrow_sizes(p);
  return divide_up(s.rows * s.line + ROOM, 16) * 16;
}

static void pad_image(const prK_conv *p, narrow s, const float *image, float *to) {
  const int64_t left = p->padding[1] * p->c_in, row = p->in[1] * p->c_in;
  for (int64_t y = 0; y < s.rows; y++, to += s.line) {
    const int64_t source = y - p->padding[0];
    if (source < 0 || source >= p->in[0]) {
      memset(to, 0, sizeof(float) * (size_t)s.line);
      continue;
    }
    const int64_t start = left < s.line ? left : s.line, room = s.line - start, n = row < room ? row : room;
    memset(to, 0, sizeof(float) * (size_t)start);
    memcpy(to + start, image + source * row, sizeof(float) * (size_t)n);
    memset(to + start + n, 0, sizeof(float) * (size_t)(room - n));
  }
}

/* Weights as panels [panel][ky][kx][c_in][width]. */
static void pack_narrow(const prK_conv *p, int width, const float *w, float *to) {
  bool used[MAX_TAPS];
  for (int64_t t = 0; t < area(p->kernel); t++) used[t] = true;
  pack_forward(p, width, used, w, to);
}

static void narrow_image(const prK_conv *p, const prK_tiles *tiles, const float *padded, const float *panels,
                         const float *bias, float *y) {
  const narrow s = narrow_sizes(p);
  const int64_t blocks = divide_up(p->out[1], tiles->rows);
  prK_segment segment[MAX_TAPS];
  for (int64_t first = 0; first < p->c_out;
       first += tiles->width, panels += p->kernel[0] * s.depth * tiles->width)
    for (int64_t oy = 0; oy < p->out[0]; oy++)
      for (int64_t block = 0; block < blocks; block++) {
        const int64_t ox = block * p->out[1] / blocks, next = (block + 1) * p->out[1] / blocks;
        for (int64_t ky = 0; ky < p->kernel[0]; ky++)
          segment[ky] = (prK_segment){ padded + (oy * p->stride[0] + ky * p->dilation[0]) * s.line +
                                           ox * p->stride[1] * p->c_in,
                                       panels + ky * s.depth * tiles->width, s.depth };
        const prK_target target = { .y = y + (oy * p->out[1] + ox) * p->c_out + first,
                                    .row = p->c_out,
                                    .columns = (int)(p->c_out - first < tiles->width ? p->c_out - first
                                                                                     : tiles->width),
                                    .bias = bias ? bias + first : NULL };
        tiles->product((int)(next - ox), (int)p->kernel[0], segment, p->stride[1] * p->c_in, &target);
      }
}

static void narrow_forward(const prK_conv *p, const float *x, const float *weight, const float *bias,
                           float *y, float *room) {
  const prK_tiles *tiles = prK_tiles_get();
  float *panels = room + pr_threads() * narrow_floats(p);
#pragma omp parallel
  {
    pack_narrow(p, tiles->width, weight, panels);
    float *padded = room + prB_this_thread() * narrow_floats(p);
    int64_t begin, end;
    prK_share(p->batch, &begin, &end);
    for (int64_t n = begin; n < end; n++) {
      pad_image(p, narrow_sizes(p), x + n * area(p->in) * p->c_in, padded);
      narrow_image(p, tiles, padded, panels, bias, y + n * area(p->out) * p->c_out);
    }
  }
}

/* Sums go to [ky][kx][c_in][c_out]; a tile's rows are neighbours in (kx, c_in). Tasks are (ky, block of rows,
 * panel); every thread runs its tasks over one image after the other. */
static void narrow_weights_task(const prK_conv *p, const prK_tiles *tiles, int64_t task, const float *padded,
                                const float *dy, int64_t dy_line, float *sums, bool add) {
  const narrow s = narrow_sizes(p);
  const int64_t panels = divide_up(p->c_out, tiles->width), blocks = divide_up(s.depth, tiles->rows);
  const int64_t first = task % panels * tiles->width, block = task / panels % blocks,
                ky = task / panels / blocks;
  const int64_t j = block * s.depth / blocks, next = (block + 1) * s.depth / blocks;
  enum { MOST = 64 };
  prK_segment segment[MOST];
  for (int64_t start = 0; start < p->out[0]; start += MOST) {
    const int64_t stop = start + MOST < p->out[0] ? start + MOST : p->out[0];
    for (int64_t oy = start; oy < stop; oy++)
      segment[oy - start] = (prK_segment){ padded + (oy * p->stride[0] + ky * p->dilation[0]) * s.line + j,
                                           dy + oy * p->out[1] * dy_line + first, p->out[1] };
    const prK_target target = { .y = sums + (ky * s.depth + j) * p->c_out + first,
                                .row = p->c_out,
                                .columns =
                                    (int)(p->c_out - first < tiles->width ? p->c_out - first : tiles->width),
                                .add = add || start > 0 };
    tiles->outer((int)(next - j), (int)(stop - start), segment, p->stride[1] * p->c_in, dy_line, &target);
  }
}

/* Tiles read whole vectors, so rows of dy that are no multiple of the width are copied to where that is safe.
 */
static int64_t narrow_dy_floats(const prK_conv *p, int width) {
  return p->c_out % width ? divide_up(area(p->out) * p->c_out + ROOM, 16) * 16 : 0;
}

static void narrow_weights(const prK_conv *p, const float *x, const float *dy, float *dweight, float *room) {
  const prK_tiles *tiles = prK_tiles_get();
  const narrow s = narrow_sizes(p);
  const int64_t own = narrow_floats(p) + narrow_dy_floats(p, tiles->width), image = area(p->out) * p->c_out;
  const int64_t tasks = p->kernel[0] * divide_up(s.depth, tiles->rows) * divide_up(p->c_out, tiles->width);
  float *sums = room + pr_threads() * own;
#pragma omp parallel
  {
    float *padded = room + prB_this_thread() * own, *copy = padded + narrow_floats(p);
    int64_t begin, end;
    prK_share(tasks, &begin, &end);
    for (int64_t n = 0; n < p->batch && begin < end; n++) {
      const float *from = dy + n * image;
      pad_image(p, s, x + n * area(p->in) * p->c_in, padded);
      if (own > narrow_floats(p)) from = memcpy(copy, from, sizeof(float) * (size_t)image);
      for (int64_t task = begin; task < end; task++)
        narrow_weights_task(p, tiles, task, padded, from, p->c_out, sums, n > 0);
    }
  }
  for (int64_t o = 0; o < p->c_out; o++)
    for (int64_t c = 0; c < p->c_in; c++)
      for (int64_t t = 0; t < area(p->kernel); t++)
        dweight[(o * p->c_in + c) * area(p->kernel) + t] = sums[(t * p->c_in + c) * p->c_out + o];
}

/* --- the three passes
 * ------------------------------------------------------------------------------------------------- */

static int64_t scratch_floats(const prK_conv *p, prK_conv_pass pass) {
  const prK_tiles *tiles = prK_tiles_get();
  const int64_t weights = area(p->kernel) * p->c_out * (p->c_in / p->groups);
  switch (pass) {
  case PRK_CONV_FORWARD:
    if (is_narrow(p)) return pr_threads() * narrow_floats(p) + panel_floats(p, p->c_in, p->c_out);
    return side_floats(p, input_side(p)) + panel_floats(p, p->c_in, p->c_out);
  case PRK_CONV_DATA: return side_floats(p, output_side(p)) + panel_floats(p, p->c_out, p->c_in);
  default:
    if (is_narrow(p)) return pr_threads() * (narrow_floats(p) + narrow_dy_floats(p, tiles->width)) + weights;
    return side_floats(p, input_side(p)) + side_floats(p, output_side(p)) + weights + ROOM;
  }
}

size_t prK_direct_scratch(const prK_conv *p, prK_conv_pass pass) {
  return (size_t)scratch_floats(p, pass) * sizeof(float);
}

void prK_direct_forward(const prK_conv *p, const float *x, const float *weight, const float *bias, float *y,
                        void *scratch) {
  if (is_narrow(p)) {
    narrow_forward(p, x, weight, bias, y, scratch);
    return;
  }
  const prK_tiles *tiles = prK_tiles_get();
  float *room = scratch, *panels = room + side_floats(p, input_side(p));
  bool used[MAX_TAPS];
  find_used_taps(p, used);
#pragma omp parallel
  {
    const float *a = regroup(p, input_side(p), false, x, room);
    pack_forward(p, tiles->width, used, weight, panels); /* waits for all */
    const product_plan plan = { p, input_position, input_side(p), output_side(p), a, panels, bias, y };
    run_product(&plan, tiles);
  }
}

void prK_direct_data(const prK_conv *p, const float *dy, const float *weight, const float *bias, float *dx,
                     void *scratch) {
  const prK_tiles *tiles = prK_tiles_get();
  float *room = scratch, *panels = room + side_floats(p, output_side(p));
  bool used[MAX_TAPS];
  find_used_taps(p, used);
#pragma omp parallel
  {
    const float *a = regroup(p, output_side(p), false, dy, room);
    pack_data(p, tiles->width, used, weight, panels); /* waits for all */
    const product_plan plan = { p, output_position, output_side(p), input_side(p), a, panels, bias, dx };
    run_product(&plan, tiles);
  }
}

void prK_direct_weights(const prK_conv *p, const float *x, const float *dy, float *dweight, void *scratch) {
  if (is_narrow(p)) {
    narrow_weights(p, x, dy, dweight, scratch);
    return;
  }
  const prK_tiles *tiles = prK_tiles_get();
  float *room = scratch, *dy_room = room + side_floats(p, input_side(p));
  float *sums = dy_room + side_floats(p, output_side(p));
  /* Tiles read whole vectors of x, also of the last row's end, past which there is room in the copy only. */
  const bool copy = p->c_in / p->groups % tiles->width != 0;
  bool used[MAX_TAPS];
  find_used_taps(p, used);
#pragma omp parallel
  {
    const float *a = regroup(p, input_side(p), copy, x, room);
    const float *b = regroup(p, output_side(p), false, dy, dy_room);
#pragma omp barrier
    const weights_plan plan = { p, input_side(p), output_side(p), a, b, used, sums };
    run_weights(&plan, tiles);
#pragma omp barrier
    unpack_weights(p, used, sums, dweight);
  }
}
