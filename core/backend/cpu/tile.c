#include "backend/cpu/tile.h"

#include <stdbool.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#define TILE_X86 1

#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512vl,avx512bw,fma")
#define TILE_NAME(x) x##_avx512
#define TILE_LANES   16
#define TILE_ROWS    14
#include "backend/cpu/tile_body.h"
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,fma")
#define TILE_NAME(x) x##_avx2
#define TILE_LANES   8
#define TILE_ROWS    6
#include "backend/cpu/tile_body.h"
#pragma GCC pop_options
#endif

#define TILE_NAME(x) x##_plain
#define TILE_LANES   4
#define TILE_ROWS    5
#include "backend/cpu/tile_body.h"

const prK_tiles *prK_tiles_form(int i) {
  static const prK_tiles plain = { 5, 8, product_plain, outer_plain };
#ifdef TILE_X86
  static const prK_tiles avx512 = { 14, 32, product_avx512, outer_avx512 };
  static const prK_tiles avx2 = { 6, 16, product_avx2, outer_avx2 };
  const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
  if (has_avx512 && i-- == 0) return &avx512;
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (has_avx2 && i-- == 0) return &avx2;
#endif
  return i == 0 ? &plain : NULL;
}
