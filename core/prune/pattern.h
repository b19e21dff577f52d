/* pattern.h - masks in patterns: N of every M along an axis, and whole blocks.
 *
 * As in mask.h: what is masked stays masked, magnitudes of scores (or of the values) decide, of equal ones
 * the lower index goes first, and a failure changes nothing. A parameter is read with its own axes or, as a
 * matrix, with all axes but the first taken together: a convolution's weight as out x (in kh kw).
 */
#ifndef PR_PRUNE_PATTERN_H
#define PR_PRUNE_PATTERN_H

#include "prune/lowest.h"
#include "prune/mask.h"

enum { PR_AS_MATRIX = -1 }; /* in the place of an axis: along the columns of the matrix */

/* Keep at most `keep` of every `of` consecutive entries along an axis. Where the size is no multiple of `of`,
 * the last group is shorter and keeps at most `keep` too, as if it were padded with zeros: this is what
 * hardware for such patterns asks. With `of` the size of a row this is a choice per row. */
pr_status pr_mask_nm(pr_tensor *parameter, pr_tensor *scores, int axis, int64_t keep, int64_t of,
                     int64_t *gone);

/* Of every line along an axis the same share goes: of the entries up to the end of each line, that share
 * rounded, so that lines differ by at most one entry and all together lose exactly the share of a whole. */
pr_status pr_mask_lines(pr_tensor *parameter, pr_tensor *scores, int axis, double sparsity, int64_t *gone);

typedef enum pr_pool {
  PR_POOL_MEAN, /* of the magnitudes in a block */
  PR_POOL_MAX,
  PR_POOL_RMS /* root of the mean square */
} pr_pool;

/* Blocks of extent[d] entries along axis d (two axes of a matrix); 0: the whole axis. The last block along an
 * axis is shorter where its size is no multiple. */
typedef struct pr_blocks {
  bool matrix;
  int64_t extent[PR_MAX_DIM];
  pr_pool pool;
} pr_blocks;

/* Mask whole blocks, those of all parameters ranked together by their pooled score. A block is alive while
 * one of its entries is; amounts count blocks. *gone: blocks. */
pr_status pr_mask_blocks(pr_tensor *const *parameter, pr_tensor *const *scores, int n,
                         const pr_blocks *blocks, pr_mask_method method, const pr_amount *amount,
                         int64_t *gone);

#endif
