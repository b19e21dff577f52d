/* conv_double.h - convolutions in f64 as matrix products through OpenBLAS, for checks in double precision:
 * one image and group at a time, on row-major [batch, channels, height, width] arrays. */
#ifndef PR_BACKEND_CPU_CONV_DOUBLE_H
#define PR_BACKEND_CPU_CONV_DOUBLE_H

#include "backend/backend.h"
#include "backend/cpu/conv_direct.h"

/* Is a product per group worth its call? Depthwise convolutions are left to others. */
bool prK_double_suits(const prK_conv *p);

/* y (x for the data pass, the weight for the weights' pass) of one convolution; `bias` (or NULL) is added to
 * what the forward or the data pass writes. */
pr_status prK_double_conv(pr_call *c, const prK_conv *p, prK_conv_pass pass, double *x, double *weight,
                          const double *bias, double *y);

#endif
