/* onednn.h - convolutions through oneDNN, for the shapes that the project's own kernels (conv_direct.h) are
 * slow at: few images, depthwise, few channels. Compiled where CMake found the library.
 *
 * Activations are channels-last; weights are plain [c_out, c_in / groups, KH, KW] and are reordered to what
 * the primitive likes and back. Primitives are kept in a bounded cache (least recently used go first), safe
 * for several threads; their scratch memory is the caller's.
 */
#ifndef PR_BACKEND_CPU_ONEDNN_H
#define PR_BACKEND_CPU_ONEDNN_H

#include "backend/backend.h"
#include "backend/cpu/conv_direct.h"

/* One pass of a convolution in f32:
 *   forward: reads x, weight, bias (or NULL), writes y;  data: reads y (its gradient), weight, writes x (its
 * gradient); weights: reads x, y (its gradient), writes weight (its gradient). PR_DECLINED when oneDNN has no
 * optimised implementation of it. */
pr_status prK_onednn_conv(pr_call *c, const prK_conv *p, prK_conv_pass pass, float *x, float *weight,
                          float *bias, float *y);

#endif
