/* random.c - Philox4x32-10 and the distributions made of it. Constants are those of the paper (table 2 and
 * section 4). */
#include "base/random.h"

#include <math.h>

void prB_philox(uint64_t seed, uint32_t stream, uint64_t step, uint64_t index, uint32_t out[4]) {
  uint32_t k0 = (uint32_t)seed ^ (stream * 0x9E3779B9u), k1 = (uint32_t)(seed >> 32);
  uint32_t c0 = (uint32_t)index, c1 = (uint32_t)(index >> 32), c2 = (uint32_t)step,
           c3 = (uint32_t)(step >> 32);
  for (int round = 0; round < 10; round++) {
    uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
    c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, c1 = (uint32_t)p1;
    c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1, c3 = (uint32_t)p0;
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

static double unit(uint32_t high, uint32_t low) {
  return (double)((((uint64_t)high << 32) | low) >> 11) * 0x1p-53;
}

double prB_uniform(uint64_t seed, uint32_t stream, uint64_t step, uint64_t index) {
  uint32_t r[4];
  prB_philox(seed, stream, step, index, r);
  return unit(r[0], r[1]);
}

double prB_normal(uint64_t seed, uint32_t stream, uint64_t step, uint64_t index) {
  uint32_t r[4];
  prB_philox(seed, stream, step, index, r);
  return sqrt(-2.0 * log(1.0 - unit(r[0], r[1]))) * cos(6.283185307179586476925 * unit(r[2], r[3]));
}

uint64_t prB_below(uint64_t seed, uint32_t stream, uint64_t step, uint64_t index, uint64_t n) {
  uint32_t r[4];
  prB_philox(seed, stream, step, index, r);
  return (uint64_t)(((unsigned __int128)(((uint64_t)r[0] << 32) | r[1]) * n) >> 64);
}

static uint64_t process_seed = 0, process_step = 0;

void pr_seed(uint64_t seed) { process_seed = seed, process_step = 0; }
uint64_t pr_seed_get(void) { return process_seed; }
uint64_t prB_next_step(void) { return process_step++; }
uint64_t pr_random_step(void) { return process_step; }
void pr_random_restore(uint64_t seed, uint64_t step) { process_seed = seed, process_step = step; }
