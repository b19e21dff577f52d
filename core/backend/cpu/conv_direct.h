/* conv_direct.h - convolutions without im2col, on channels-last activations and plain [C_out, C_in / groups,
 * KH, KW] weights, in f32.
 *
 * Two ways:
 *
 * by position (batch of several images): the activations are regrouped to [position][image][channel]. For one
 * output position the taps that fall on the image are products of [images x channels] by [channels x
 * channels] matrices, summed in registers (tile.h). Taps in the padding cost nothing, which on small images
 * is most of the work: a 3x3 filter on a 1x1 image uses one tap of nine. The regrouping costs one copy.
 *
 * narrow (few input channels: the first layer): the image is padded once, so that a row of the filter meets
 * KW * C_in numbers in a row; the rows of a tile are neighbouring output columns.
 *
 * Sums are ordered by the shapes alone: the same bits for any number of threads.
 */
#ifndef PR_BACKEND_CPU_CONV_DIRECT_H
#define PR_BACKEND_CPU_CONV_DIRECT_H

#include "base/error.h"

/* Axis 0 is the height, 1 the width; a 1-D convolution has height 1. `in` and `out` are related by
 * out = (in + 2 padding - dilation (kernel - 1) - 1) / stride + 1, rounded down. */
typedef struct prK_conv {
  int64_t batch, c_in, c_out, groups;
  int64_t in[2], out[2], kernel[2], stride[2], padding[2], dilation[2];
} prK_conv;

typedef enum prK_conv_pass { PRK_CONV_FORWARD, PRK_CONV_DATA, PRK_CONV_WEIGHTS } prK_conv_pass;

/* Does this problem suit these kernels? Otherwise they would be right, but slower than im2col. */
bool prK_direct_suits(const prK_conv *p, prK_conv_pass pass);

/* Are they likely to be faster than a library's kernels that also work on the padding (measured against
 * oneDNN)? */
bool prK_direct_leads(const prK_conv *p, prK_conv_pass pass);

/* Bytes of scratch memory that the pass needs (64-byte aligned). */
size_t prK_direct_scratch(const prK_conv *p, prK_conv_pass pass);

/* y = x * weight + bias (bias may be NULL). x: [batch, in.., c_in], y: [batch, out.., c_out], both dense and
 * channels-last. */
void prK_direct_forward(const prK_conv *p, const float *x, const float *weight, const float *bias, float *y,
                        void *scratch);
/* Gradient of the input from dy. Also a transposed convolution's forward pass, with `bias` added. */
void prK_direct_data(const prK_conv *p, const float *dy, const float *weight, const float *bias, float *dx,
                     void *scratch);
/* Gradient of the weights, [c_out, c_in / groups, KH, KW]. */
void prK_direct_weights(const prK_conv *p, const float *x, const float *dy, float *dweight, void *scratch);

#endif
