/* conv_im2col.h - convolutions of any shape as matrix products through OpenBLAS: the patches that the filter
 * sees are copied to the rows of a matrix, a block of output rows at a time. */
#ifndef PR_BACKEND_CPU_CONV_IM2COL_H
#define PR_BACKEND_CPU_CONV_IM2COL_H

#include "backend/backend.h"
#include "backend/cpu/conv_direct.h"

/* One pass, arguments as in prK_onednn_conv; `bias` (or NULL) is added to what the forward or the data pass
 * writes. */
pr_status prK_im2col_conv(pr_call *c, const prK_conv *p, prK_conv_pass pass, float *x, float *weight,
                          const float *bias, float *y);

#endif
