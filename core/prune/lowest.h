/* lowest.h - zero the k entries of least magnitude among millions, without sorting.
 *
 * The bits of |x| as an unsigned integer stand in the order of |x| (infinity after all numbers, NaN after
 * infinity), so the k-th lowest is found digit by digit from histograms of 16 bits: two passes over f32, four
 * over f64, whatever the distribution. Of equal entries those with the lower index go, so the choice is exact
 * and the same for any number of threads.
 */
#ifndef PR_PRUNE_LOWEST_H
#define PR_PRUNE_LOWEST_H

#include "base/error.h"

/* A run of entries: magnitudes and what is alive of them. Only entries with mask != 0 take part. */
typedef struct prP_span {
  const void *value; /* [n] f32, or f64 when the call is wide */
  float *mask;       /* [n] */
  int64_t n;
} prP_span;

/* How many of the entries that are alive go. */
typedef enum pr_amount_kind {
  PR_AMOUNT_COUNT, /* this many of what is alive */
  PR_AMOUNT_SHARE, /* a share of what is alive, rounded half to even */
  PR_SPARSITY /* so many that this share of all is dead afterwards, rounded half to even; none if more is dead
                 already */
} pr_amount_kind;

typedef struct pr_amount {
  pr_amount_kind kind;
  double share;
  int64_t count;
} pr_amount;

/* Fails for a share outside 0..1 (or NaN) and for a negative count. */
pr_status pr_amount_check(const pr_amount *amount);
/* How many of `alive` out of `total` go; more than are alive is an error. `unit`: "entries", "slices". */
pr_status pr_amount_of(const pr_amount *amount, int64_t alive, int64_t total, const char *unit,
                       int64_t *count);

/* Write 0 into the mask of the lowest, over all spans together (their order is the order of indices). *gone:
 * how many. On failure no mask is changed. */
pr_status prP_zero_lowest(const prP_span *span, int spans, bool wide, const pr_amount *amount,
                          const char *unit, int64_t *gone);

#endif
