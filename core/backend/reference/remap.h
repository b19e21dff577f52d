/* remap.h - operators that pick elements axis by axis: y[i, j, ...] = x[map0[i], map1[j], ...], or a fill
 * value where a map says -1. Padding, tiling, rolling, flipping and the like differ only in their maps; the
 * backward kernel adds every gradient back to where its value came from.
 */
#ifndef PR_BACKEND_REFERENCE_REMAP_H
#define PR_BACKEND_REFERENCE_REMAP_H

#include "backend/backend.h"

typedef struct prK_remap {
  int dim; /* axes of y; x's are aligned to the right */
  int64_t in[PR_MAX_DIM], out[PR_MAX_DIM];
  int64_t *map[PR_MAX_DIM]; /* one entry per position of y's axis; scratch memory */
} prK_remap;

/* Maps that copy position by position (missing axes of x: size 1), to be changed by the kernel. */
pr_status prK_remap_start(pr_call *c, const pr_tensor *x, const pr_tensor *y, prK_remap *m);
pr_status prK_remap_forward(pr_call *c, const prK_remap *m, const pr_tensor *x, pr_tensor *y, double fill);
pr_status prK_remap_backward(pr_call *c, const prK_remap *m, const pr_tensor *dy, pr_tensor *dx);

#endif
