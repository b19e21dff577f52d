#include "backend/cpu/layout.h"

#include "backend/cpu/parallel.h"

#include <string.h>

enum { TILE = 32, PARALLEL = 1 << 14 /* elements from which threads pay */ };

/* --- copies
 * -----------------------------------------------------------------------------------------------------------
 */

typedef struct axis {
  int64_t size, src, dst;
} axis;

/* Axes sorted by falling dst stride, size-1 axes dropped, neighbours that step alike joined. */
static int simplify(int dim, const int64_t *shape, const int64_t *src, const int64_t *dst, axis *axes) {
  int n = 0;
  for (int d = 0; d < dim; d++) {
    if (shape[d] == 1) continue;
    const axis a = { shape[d], src[d], dst[d] };
    int at = n++;
    for (; at > 0 && axes[at - 1].dst < a.dst; at--) axes[at] = axes[at - 1];
    axes[at] = a;
  }
  int kept = 0;
  for (int i = 0; i < n; i++) {
    axis *last = &axes[kept - 1];
    if (kept && last->src == axes[i].src * axes[i].size && last->dst == axes[i].dst * axes[i].size)
      *last = (axis){ last->size * axes[i].size, axes[i].src, axes[i].dst };
    else
      axes[kept++] = axes[i];
  }
  return kept;
}

/* A plane whose dst runs along `inner` and whose src may run along `outer`: in tiles, so that both sides'
 * lines are used whole. */
static void copy_plane(axis outer, axis inner, const float *src, float *dst) {
  if (inner.src == 1 && inner.dst == 1) {
    for (int64_t i = 0; i < outer.size; i++)
      memcpy(dst + i * outer.dst, src + i * outer.src, sizeof(float) * (size_t)inner.size);
    return;
  }
  for (int64_t i = 0; i < outer.size; i += TILE)
    for (int64_t j = 0; j < inner.size; j += TILE) {
      const int64_t rows = outer.size - i < TILE ? outer.size : i + TILE;
      const int64_t columns = inner.size - j < TILE ? inner.size : j + TILE;
      for (int64_t r = i; r < rows; r++)
        for (int64_t k = j; k < columns; k++)
          dst[r * outer.dst + k * inner.dst] = src[r * outer.src + k * inner.src];
    }
}

void prK_copy_floats(int dim, const int64_t *shape, const float *src, const int64_t *src_stride, float *dst,
                     const int64_t *dst_stride) {
  axis axes[PR_MAX_DIM + 2];
  int64_t total = 1;
  for (int d = 0; d < dim; d++) total *= shape[d];
  if (total == 0) return;
  int n = simplify(dim, shape, src_stride, dst_stride, axes);
  while (n < 2)
    axes[n] = n ? axes[0] : (axis){ 1, 1, 1 }, n ? (void)(axes[0] = (axis){ 1, 0, 0 }) : (void)0, n++;
  /* The plane: the innermost axis of dst, and that of src if it is another, else the next of dst. */
  int partner = n - 2;
  for (int d = 0; d < n - 1; d++)
    if (axes[d].src < axes[partner].src && axes[n - 1].src > 1) partner = d;
  const axis inner = axes[n - 1], outer = axes[partner];
  memmove(axes + partner, axes + partner + 1, sizeof(axis) * (size_t)(n - 1 - partner));
  n -= 2;
  int64_t planes = 1;
  for (int d = 0; d < n; d++) planes *= axes[d].size;
  /* With few planes the outer axis of the plane is cut too. */
  const int64_t cuts = planes < 8 ? (outer.size + TILE - 1) / TILE : 1;
#pragma omp parallel for schedule(static) if (total >= PARALLEL)
  for (int64_t task = 0; task < planes * cuts; task++) {
    const int64_t from = task % cuts * outer.size / cuts, to = (task % cuts + 1) * outer.size / cuts;
    int64_t rest = task / cuts, s = from * outer.src, t = from * outer.dst;
    for (int d = n - 1; d >= 0; rest /= axes[d].size, d--) {
      s += rest % axes[d].size * axes[d].src;
      t += rest % axes[d].size * axes[d].dst;
    }
    copy_plane((axis){ to - from, outer.src, outer.dst }, inner, src + s, dst + t);
  }
}

/* --- orders
 * -----------------------------------------------------------------------------------------------------------
 */

static void channels_last_strides(const pr_tensor *t, int64_t *stride) {
  int64_t step = 1;
  for (int k = 0; k < t->dim; k++) {
    const int d = k == 0 ? 1 : k == t->dim - 1 ? 0 : t->dim - k;
    stride[d] = step;
    step *= t->shape[d];
  }
}

static void row_major_strides(const pr_tensor *t, int64_t *stride) {
  int64_t step = 1;
  for (int d = t->dim - 1; d >= 0; d--) {
    stride[d] = step;
    step *= t->shape[d];
  }
}

static bool has_strides(const pr_tensor *t, const int64_t *stride) {
  for (int d = 0; d < t->dim; d++)
    if (t->shape[d] != 1 && t->stride[d] != stride[d]) return false;
  return true;
}

static const float *read_in(pr_call *c, const pr_tensor *t, const int64_t *stride) {
  if (has_strides(t, stride)) return prT_data(t);
  float *copy = prK_scratch(c, sizeof(float) * (size_t)(pr_numel(t) + 1));
  if (copy) prK_copy_floats(t->dim, t->shape, prT_data(t), t->stride, copy, stride);
  return copy;
}

static float *write_in(pr_call *c, pr_tensor *t, const int64_t *stride) {
  return has_strides(t, stride) ? prT_data(t) : prK_scratch(c, sizeof(float) * (size_t)(pr_numel(t) + 1));
}

static void finish_in(pr_tensor *t, const float *room, const int64_t *stride) {
  if (room != prT_data(t)) prK_copy_floats(t->dim, t->shape, room, stride, prT_data(t), t->stride);
}

bool prK_is_channels_last(const pr_tensor *t) {
  int64_t stride[PR_MAX_DIM];
  if (t->dim < 2) return false;
  channels_last_strides(t, stride);
  return has_strides(t, stride);
}

const float *prK_channels_last(pr_call *c, const pr_tensor *t) {
  int64_t stride[PR_MAX_DIM];
  channels_last_strides(t, stride);
  return read_in(c, t, stride);
}

float *prK_channels_last_room(pr_call *c, pr_tensor *t) {
  int64_t stride[PR_MAX_DIM];
  channels_last_strides(t, stride);
  return write_in(c, t, stride);
}

void prK_channels_last_finish(pr_tensor *t, const float *room) {
  int64_t stride[PR_MAX_DIM];
  channels_last_strides(t, stride);
  finish_in(t, room, stride);
}

const float *prK_row_major(pr_call *c, const pr_tensor *t) {
  int64_t stride[PR_MAX_DIM];
  row_major_strides(t, stride);
  return read_in(c, t, stride);
}

float *prK_row_major_room(pr_call *c, pr_tensor *t) {
  int64_t stride[PR_MAX_DIM];
  row_major_strides(t, stride);
  return write_in(c, t, stride);
}

void prK_row_major_finish(pr_tensor *t, const float *room) {
  int64_t stride[PR_MAX_DIM];
  row_major_strides(t, stride);
  finish_in(t, room, stride);
}

const float *prK_like(pr_call *c, const pr_tensor *t, const pr_tensor *like) {
  if (prT_same_layout(t, like)) return prT_data(t);
  int64_t stride[PR_MAX_DIM];
  for (int d = 0; d < like->dim; d++) {
    const int from = d - (like->dim - t->dim);
    stride[d] = from < 0 || t->shape[from] == 1 ? 0 : t->stride[from];
  }
  float *copy = prK_scratch(c, sizeof(float) * (size_t)(pr_numel(like) + 1));
  if (copy) prK_copy_floats(like->dim, like->shape, prT_data(t), stride, copy, like->stride);
  return copy;
}

bool prK_all_f32(pr_tensor *const *t, int n) {
  for (int i = 0; i < n; i++)
    if (t[i] && t[i]->dtype != PR_F32) return false;
  return true;
}
