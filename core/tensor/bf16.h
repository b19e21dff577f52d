/* bf16.h - the 16-bit float with f32's exponent: conversions with round to nearest, ties to even. */
#ifndef PR_TENSOR_BF16_H
#define PR_TENSOR_BF16_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline float prT_from_bf16(uint16_t bits) {
  uint32_t wide = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &wide, sizeof value);
  return value;
}

static inline uint16_t prT_to_bf16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  uint32_t quiet = (bits >> 16) | 0x40; /* a nan stays a nan */
  return (uint16_t)(value != value ? quiet : rounded);
}

/* Through float this would round twice: rounding to odd in between keeps what the second rounding must know.
 */
static inline uint16_t prT_double_to_bf16(double value) {
  float narrow = (float)value;
  if (isfinite(narrow) && (double)narrow != value) {
    uint32_t bits;
    memcpy(&bits, &narrow, sizeof bits);
    if (fabs((double)narrow) > fabs(value)) bits--; /* toward zero ... */
    bits |= 1;                                      /* ... and odd */
    memcpy(&narrow, &bits, sizeof narrow);
  }
  return prT_to_bf16(narrow);
}

#endif
