#include "backend/cpu/layout.h"

/* Handles that live on the stack stand for both sides. They have storages of their own, of which pr_copy
 * needs no memory, so it cannot fail. */
void prK_copy_floats(int dim, const int64_t *shape, const float *src, const int64_t *src_stride, float *dst,
                     const int64_t *dst_stride) {
  pr_storage storages[2] = { { .refs = 1, .data = (float *)src }, { .refs = 1, .data = dst } };
  pr_tensor from = { .refs = 1, .dtype = PR_F32, .device = PR_CPU, .dim = dim, .storage = &storages[0] },
            to = from;
  to.storage = &storages[1];
  for (int d = 0; d < dim; d++) {
    from.shape[d] = to.shape[d] = shape[d];
    from.stride[d] = src_stride[d], to.stride[d] = dst_stride[d];
  }
  (void)pr_copy(&to, &from);
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

bool prK_all_of(pr_tensor *const *t, int n, pr_dtype dtype) {
  for (int i = 0; i < n; i++)
    if (t[i] && t[i]->dtype != dtype) return false;
  return true;
}

bool prK_all_f32(pr_tensor *const *t, int n) { return prK_all_of(t, n, PR_F32); }
