/* sparse.c - see sparse.h. What comes from a file is checked before memory is taken for it. */
#include "io/sparse.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

/* --- taking apart --------------------------------------------------------------------------------------------------------- */

int64_t prI_bits_of_mask(const float *mask, int64_t entries, unsigned char *bits) {
  int64_t count = 0;
  memset(bits, 0, prI_bits_bytes(entries));
  for (int64_t i = 0; i < entries; i++) {
    if (mask[i] == 0) continue;
    if (mask[i] != 1) return -1;
    bits[i / 8] |= (unsigned char)(1u << i % 8), count++;
  }
  return count;
}

int64_t prI_bits_of_entries(const void *data, size_t size, int64_t entries, unsigned char *bits) {
  static const char nothing[8];
  int64_t count = 0;
  memset(bits, 0, prI_bits_bytes(entries));
  for (int64_t i = 0; i < entries; i++) {
    if (memcmp((const char *)data + (size_t)i * size, nothing, size) == 0) continue;
    bits[i / 8] |= (unsigned char)(1u << i % 8), count++;
  }
  return count;
}

static bool is_set(const unsigned char *bits, int64_t i) { return bits[i / 8] >> i % 8 & 1; }

void prI_gather(const void *data, size_t size, const unsigned char *bits, int64_t entries, void *values) {
  char *to = values;
  for (int64_t i = 0; i < entries; i++)
    if (is_set(bits, i)) memcpy(to, (const char *)data + (size_t)i * size, size), to += size;
}

/* --- putting together ------------------------------------------------------------------------------------------------------ */

/* "64,3,3,3": the sizes, and their product in *entries; false where it is no shape that an array could have.
 */
static bool read_shape(const char *text, pr_hdf5_array *a) {
  a->rank = 0, a->count = 1;
  for (;;) {
    char *stop;
    long long size = *text >= '0' && *text <= '9' ? strtoll(text, &stop, 10) : -1;
    if (size < 0 || a->rank == PR_HDF5_RANK || __builtin_mul_overflow(a->count, (int64_t)size, &a->count))
      return false;
    a->shape[a->rank++] = size;
    if (*stop == 0) return true;
    if (*stop != ',') return false;
    text = stop + 1;
  }
}

/* Bits for so many entries; *ones: how many are 1. */
static pr_status check_bits(const pr_hdf5_array *bits, int64_t entries, int64_t *ones) {
  const unsigned char *b = bits->data;
  if (bits->type != PR_HDF5_U8 || bits->rank != 1)
    return pr_fail(PR_ERR_FORMAT, "the bits are not a list of bytes");
  if ((size_t)bits->count != prI_bits_bytes(entries))
    return pr_fail(PR_ERR_FORMAT, "%lld entries have %zu bytes of bits, not %lld", (long long)entries,
                   prI_bits_bytes(entries), (long long)bits->count);
  if (entries % 8 && b[entries / 8] >> entries % 8)
    return pr_fail(PR_ERR_FORMAT, "bits behind the last entry are set");
  *ones = 0;
  for (int64_t i = 0; i < bits->count; i++) *ones += __builtin_popcount(b[i]);
  return PR_OK;
}

pr_status prI_expand(const pr_hdf5_array *values, const pr_hdf5_array *bits, const char *shape,
                     pr_hdf5_array *out) {
  int64_t ones = 0;
  size_t size = pr_hdf5_type_size(values->type);
  *out = (pr_hdf5_array){ .found = true, .type = values->type };
  if (!read_shape(shape, out)) return pr_fail(PR_ERR_FORMAT, "'%.64s' is not a shape", shape);
  PR_TRY(check_bits(bits, out->count, &ones));
  if (values->rank != 1 || values->count != ones)
    return pr_fail(PR_ERR_FORMAT, "%lld bits are set, there are %lld values", (long long)ones,
                   (long long)values->count);
  if (__builtin_mul_overflow((size_t)out->count, size, &out->bytes)) return PR_ERR_MEMORY;
  if (out->bytes == 0) return PR_OK;
  if (!(out->data = prB_aligned(out->bytes))) return PR_ERR_MEMORY;
  const char *from = values->data;
  memset(out->data, 0, out->bytes);
  for (int64_t i = 0; i < out->count; i++)
    if (is_set(bits->data, i)) memcpy((char *)out->data + (size_t)i * size, from, size), from += size;
  return PR_OK;
}

pr_status prI_expand_mask(const pr_hdf5_array *bits, int64_t entries, float *mask) {
  int64_t ones = 0;
  PR_TRY(check_bits(bits, entries, &ones));
  for (int64_t i = 0; i < entries; i++) mask[i] = is_set(bits->data, i);
  return PR_OK;
}
