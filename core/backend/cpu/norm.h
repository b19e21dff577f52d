/* norm.h - batch normalisation (Ioffe & Szegedy 2015) of f32 rows of channels: x is [rows, channels], which
 * is what a channels-last activation of any dimension is in memory.
 *
 * Statistics are sums over blocks of 32 rows in float, relative to the first row, collected in double: as
 * good as two passes. Rows are cut into parts by the shapes alone: the same bits for any number of threads.
 */
#ifndef PR_BACKEND_CPU_NORM_H
#define PR_BACKEND_CPU_NORM_H

#include "base/error.h"

/* Bytes of scratch that each of the functions below needs. */
size_t prK_norm_scratch(int64_t rows, int64_t channels);

/* Mean and biased variance of each channel. */
void prK_channel_statistics(int64_t rows, int64_t channels, const float *x, double *mean, double *variance,
                            void *scratch);

/* y = x * scale + shift per channel, then max(0, .) when `relu`. y may be x. */
void prK_channel_affine(int64_t rows, int64_t channels, const float *x, const float *scale,
                        const float *shift, bool relu, float *y);

/* sum_dy[c] = sum of dy, sum_dy_x[c] = sum of dy * (x - mean[c]). */
void prK_channel_products(int64_t rows, int64_t channels, const float *dy, const float *x, const float *mean,
                          double *sum_dy, double *sum_dy_x, void *scratch);

/* dx = a * dy + b * x + c per channel. */
void prK_channel_combine(int64_t rows, int64_t channels, const float *dy, const float *x, const float *a,
                         const float *b, const float *c, float *dx);

/* Sum of each channel (the gradient of a bias). */
void prK_channel_sums(int64_t rows, int64_t channels, const float *x, double *sums, void *scratch);

#endif
