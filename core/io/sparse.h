/* sparse.h - an array with many zeros as bits and values: one bit per entry in row-major order, lowest bit of
 * a byte first and spare bits 0; then the entries whose bit is 1, in that order. Shared inside of core/io. */
#ifndef PR_IO_SPARSE_H
#define PR_IO_SPARSE_H

#include "io/hdf5.h"

static inline size_t prI_bits_bytes(int64_t entries) { return (size_t)(entries / 8 + (entries % 8 != 0)); }

/* Fill `bits` and return how many are 1: where a mask is 1 (-1: it holds other numbers than 0 and 1), or
 * where an entry of `size` bytes has a byte that is not 0. So -0.0 counts as an entry, and every bit of it is
 * kept. */
int64_t prI_bits_of_mask(const float *mask, int64_t entries, unsigned char *bits);
int64_t prI_bits_of_entries(const void *data, size_t size, int64_t entries, unsigned char *bits);

/* The entries whose bit is 1, one after the other. */
void prI_gather(const void *data, size_t size, const unsigned char *bits, int64_t entries, void *values);

/* Put together the array of shape `shape` ("64,3,3,3") from its bits and values; PR_ERR_FORMAT, with the
 * reason as the message, where they do not fit each other. The caller frees `out`. */
pr_status prI_expand(const pr_hdf5_array *values, const pr_hdf5_array *bits, const char *shape,
                     pr_hdf5_array *out);

/* A mask of zeros and ones from the bits of `entries` entries; PR_ERR_FORMAT where they are more or fewer. */
pr_status prI_expand_mask(const pr_hdf5_array *bits, int64_t entries, float *mask);

#endif
