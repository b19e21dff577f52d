/* layout.h - memory orders of f32 tensors, and copies between them.
 *
 * Kernels of this folder want activations as dense rows of channels: [N, space.., C] in memory. Anything else
 * (an image as it comes from a file, an expanded gradient) is copied to that order first; results go the
 * other way.
 */
#ifndef PR_BACKEND_CPU_LAYOUT_H
#define PR_BACKEND_CPU_LAYOUT_H

#include "backend/backend.h"

/* dst[i] = src[i] for all i of `shape`; strides in elements, any order; dst without overlaps. In parallel. */
void prK_copy_floats(int dim, const int64_t *shape, const float *src, const int64_t *src_stride, float *dst,
                     const int64_t *dst_stride);

/* Are the elements dense in memory in the order N, space.., C (axes of size 1 aside)? Axis 1 is C; dim 2 is
 * [N, C]. */
bool prK_is_channels_last(const pr_tensor *t);

/* The values of an f32 tensor in that order: its own memory, or a scratch copy. NULL on failure. */
const float *prK_channels_last(pr_call *c, const pr_tensor *t);
/* Where to write the result `t` in that order, and how to finish: copies to t's memory when that is ordered
 * otherwise. */
float *prK_channels_last_room(pr_call *c, pr_tensor *t);
void prK_channels_last_finish(pr_tensor *t, const float *room);

/* The same for row-major order. */
const float *prK_row_major(pr_call *c, const pr_tensor *t);
float *prK_row_major_room(pr_call *c, pr_tensor *t);
void prK_row_major_finish(pr_tensor *t, const float *room);

/* The values of an f32 tensor, broadcast to the shape of the dense tensor `like`, in its memory order: its
 * own memory where that is the same, or a scratch copy. NULL on failure. */
const float *prK_like(pr_call *c, const pr_tensor *t, const pr_tensor *like);

/* All present tensors of a list have this dtype? f32? */
bool prK_all_of(pr_tensor *const *t, int n, pr_dtype dtype);
bool prK_all_f32(pr_tensor *const *t, int n);

#endif
