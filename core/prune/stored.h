/* stored.h - how large a checkpoint of the model is with some units gone (io/checkpoint.h has the format).
 *
 * An array takes its entries; one with a mask of zeros and ones takes one bit per entry and the entries that
 * are not masked, one without a mask the bits and the entries that are not 0, where that is less. Bits are
 * deflated; what that leaves is estimated from the entropy of their bytes. What is beside the numbers (names,
 * places, checksums, the graph) is taken as a constant per array and per file. Optimiser state, dense values
 * under masks and texts of the caller are not counted.
 *
 * Entries that are left are counted exactly, among the live positions only: units that are masked already
 * save little.
 */
#ifndef PR_PRUNE_STORED_H
#define PR_PRUNE_STORED_H

#include "prune/pruning.h"

/* An array that has zeros. */
typedef struct prP_sparse {
  unsigned char *bit; /* [entries / 8] row-major: what is left; NULL: the array is stored whole */
  int64_t entries;
  bool is_masked; /* stored as bits and values, even where nothing is masked */
  uint64_t seen;  /* hash of the live positions that `bytes` was counted for */
  double bytes;   /* bits and values */
} prP_sparse;

typedef struct prP_stored {
  const pr_pruning *pruning;
  prP_sparse *array;    /* [graph->n_values] */
  int32_t *first;       /* [labels] the first of a label's positions */
  unsigned char *alive; /* [longest] positions of all axes of one array, one axis behind the other */
  int64_t longest;
  int32_t labels;
} prP_stored;

pr_status prP_stored_open(prP_stored *stored, const pr_pruning *pruning, const prC_floors *floors);
void prP_stored_close(prP_stored *stored);
/* Bytes of the file, as the floors are now. */
int64_t prP_stored_bytes(prP_stored *stored, const prC_floors *floors);

#endif
