/* exponential.h - exp and its relatives in f32, written without branches so that loops over them become
 * vector code.
 *
 * exp: x = n log 2 + r with |r| <= log(2) / 2, e^r by a polynomial of degree 6 (coefficients of the Cephes
 * library's expf, S. Moshier), 2^n by its exponent bits. Within 2 units in the last place; 0 below -103.97,
 * inf above 88.72; NaN stays NaN.
 */
#ifndef PR_BACKEND_CPU_EXPONENTIAL_H
#define PR_BACKEND_CPU_EXPONENTIAL_H

#include <math.h>
#include <stdint.h>

#define PRK_INLINE static inline __attribute__((always_inline))

PRK_INLINE float prK_power_of_two(int32_t n) {
  union {
    uint32_t bits;
    float value;
  } u = { (uint32_t)(n + 127) << 23 }; /* NaN gives an n of no meaning, and its result is not used */
  return u.value;
}

PRK_INLINE float prK_exp(float x) {
  const float low = x > -104.0f ? x : -104.0f, bounded = low > 88.8f ? 88.8f : low; /* a NaN: -104 */
  /* Adding and taking away 1.5 * 2^23 rounds to a whole number. */
  const float magic = 12582912.0f, n = (bounded * 1.44269504088896341f + magic) - magic;
  const float r = (bounded - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  /* In two steps, so that the results near the ends of the range (2^128, denormals) come out. */
  const int32_t whole = (int32_t)n, half = whole >> 1;
  const float result = p * prK_power_of_two(half) * prK_power_of_two(whole - half);
  return x != x ? x : result;
}

PRK_INLINE float prK_sigmoid(float x) { return 1.0f / (1.0f + prK_exp(-x)); }

/* tanh x = sign(x) (1 - e) / (1 + e) with e = exp(-2 |x|); near 0 by its series, where that loses digits. */
PRK_INLINE float prK_tanh(float x) {
  const float a = x < 0 ? -x : x, e = prK_exp(-2 * a), large = (1 - e) / (1 + e), s = a * a;
  const float small =
      a * (1 + s * (-0.333333333f +
                    s * (0.133333333f + s * (-0.0539682540f + s * (0.0218694885f - s * 0.00886323553f)))));
  const float y = a < 0.3f ? small : large;
  return x != x ? x : x < 0 ? -y : y;
}

#endif
