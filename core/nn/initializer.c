/* initializer.c - filling row-major memory block by block; other layouts and dtypes through such a copy. */
#include "nn/initializer.h"

#include "backend/cpu/clones.h"
#include "base/random.h"

#include <float.h>
#include <math.h>
#include <string.h>

typedef struct filling {
  bool normal, truncated;
  double a, b; /* low, high or mean, std */
  uint64_t seed, step;
} filling;

/* In (0, 1): never an end, so that a logarithm can be taken. */
static inline double open_unit(uint32_t r) { return (r + 0.5) * 0x1p-32; }
static inline double unit53(uint32_t high, uint32_t low) {
  return ((double)((((uint64_t)high << 32) | low) >> 12) + 0.5) * 0x1p-52;
}

static inline void polar(double u, double v, double mean, double std, double out[2]) {
  double radius = std * sqrt(-2 * log(u)), angle = 6.283185307179586476925 * v;
  out[0] = mean + radius * cos(angle), out[1] = mean + radius * sin(angle);
}

/* --- single precision: many blocks at once, in loops that the compiler turns into vector code ------------------------- */

enum { LANES = 32, CHUNK = 4 * LANES }; /* blocks of Philox at a time; the numbers that they give */

/* log(u) by the series of atanh: u = 2^e m, sqrt(1/2) <= m < sqrt(2). */
static inline float log_f32(float u) {
  int32_t bits, e;
  memcpy(&bits, &u, sizeof bits);
  e = (bits - 0x3f3504f3) >> 23;
  bits -= (int32_t)((uint32_t)e << 23);
  memcpy(&u, &bits, sizeof u);
  float s = (u - 1) / (u + 1), z = s * s;
  return (float)e * 0.693147181f + 2 * s * (1 + z * (1 / 3.f + z * (1 / 5.f + z * (1 / 7.f + z / 9.f))));
}

/* Cosine and sine of v turns, 0 <= v <= 1, by their series within an eighth of a turn of a quarter's end. */
static inline void turn_f32(float v, float *cosine, float *sine) {
  int32_t quarter = (int32_t)(4 * v + 0.5f);
  float x = (4 * v - (float)quarter) * 1.570796327f, z = x * x;
  float s = x * (1 - z / 6 * (1 - z / 20 * (1 - z / 42 * (1 - z / 72))));
  float c = 1 - z / 2 * (1 - z / 12 * (1 - z / 30 * (1 - z / 56 * (1 - z / 90))));
  float to_x = quarter & 1 ? s : c, to_y = quarter & 1 ? c : s;
  *cosine = (quarter + 1) & 2 ? -to_x : to_x;
  *sine = quarter & 2 ? -to_y : to_y;
}

/* The Philox blocks first, first + 1, ...: number i of block l is r[i][l], the same as prB_philox gives. */
static inline void philox_lanes(const filling *how, uint64_t first, uint32_t r[4][LANES]) {
  uint32_t k0 = (uint32_t)how->seed ^ (PR_STREAM_OPERATOR * 0x9E3779B9u), k1 = (uint32_t)(how->seed >> 32);
  for (uint32_t l = 0; l < LANES; l++) {
    r[0][l] = (uint32_t)(first + l), r[1][l] = (uint32_t)((first + l) >> 32);
    r[2][l] = (uint32_t)how->step, r[3][l] = (uint32_t)(how->step >> 32);
  }
  for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
    for (int l = 0; l < LANES; l++) {
      uint64_t p0 = (uint64_t)0xD2511F53u * r[0][l], p1 = (uint64_t)0xCD9E8D57u * r[2][l];
      r[0][l] = (uint32_t)(p1 >> 32) ^ r[1][l] ^ k0, r[1][l] = (uint32_t)p1;
      r[2][l] = (uint32_t)(p0 >> 32) ^ r[3][l] ^ k1, r[3][l] = (uint32_t)p0;
    }
  }
}

static inline void normal_lanes(const filling *how, uint32_t r[4][LANES], float *out) {
  const float mean = (float)how->a, std = (float)how->b;
  float pair[4][LANES];
  for (int p = 0; p < 4; p += 2) {
    for (int l = 0; l < LANES; l++) {
      float u = (float)(int32_t)(r[p][l] >> 1) * 0x1p-31f + 0x1p-33f, cosine, sine;
      float radius = std * sqrtf(-2 * log_f32(u));
      turn_f32((float)(int32_t)(r[p + 1][l] >> 8) * 0x1p-24f, &cosine, &sine);
      pair[p][l] = mean + radius * cosine, pair[p + 1][l] = mean + radius * sine;
    }
  }
  for (int l = 0; l < LANES; l++)
    for (int i = 0; i < 4; i++) out[4 * l + i] = pair[i][l];
}

/* For an element that fell outside the two standard deviations: numbers of blocks that no other element takes
 * (fewer than 2^48 blocks are row-major memory), until one is inside. */
static double inside(const filling *how, int64_t element) {
  for (uint64_t attempt = 1;; attempt++) {
    uint32_t r[4];
    double out[2];
    prB_philox(how->seed, PR_STREAM_OPERATOR, how->step, attempt << 48 | (uint64_t)element, r);
    polar(unit53(r[0], r[1]), unit53(r[2], r[3]), how->a, how->b, out);
    if (fabs(out[0] - how->a) <= 2 * how->b) return out[0];
    if (fabs(out[1] - how->a) <= 2 * how->b) return out[1];
  }
}

static bool is_outside(const filling *how, double x) {
  return how->truncated && fabs(x - how->a) > 2 * how->b;
}

/* Rounding to the dtype may reach high, which is not among the numbers. */
static inline void uniform_lanes(const filling *how, uint32_t r[4][LANES], float *out) {
  const float below = nextafterf((float)how->b, -FLT_MAX);
  const double low = how->a, width = how->b - how->a;
  for (int l = 0; l < LANES; l++) {
    for (int i = 0; i < 4; i++) {
      float x = (float)(low + width * open_unit(r[i][l]));
      out[4 * l + i] = x < how->b ? x : below;
    }
  }
}

/* The numbers from chunk * CHUNK on. */
PRK_CLONES static void fill_chunk(const filling *how, int64_t chunk, float *out) {
  uint32_t r[4][LANES];
  philox_lanes(how, (uint64_t)chunk * LANES, r);
  if (how->normal)
    normal_lanes(how, r, out);
  else
    uniform_lanes(how, r, out);
  for (int i = 0; how->truncated && i < CHUNK; i++)
    if (is_outside(how, out[i])) out[i] = (float)inside(how, chunk * CHUNK + i);
}

static void fill_f32(const filling *how, float *y, int64_t n) {
#pragma omp parallel for schedule(static) if (n > 16384)
  for (int64_t chunk = 0; chunk < (n + CHUNK - 1) / CHUNK; chunk++) {
    int64_t left = n - chunk * CHUNK;
    float last[CHUNK];
    fill_chunk(how, chunk, left < CHUNK ? last : y + chunk * CHUNK);
    if (left < CHUNK) memcpy(y + chunk * CHUNK, last, (size_t)left * sizeof *y);
  }
}

/* --- double precision ------------------------------------------------------------------------------------------------- */

static void fill_f64(const filling *how, double *y, int64_t n) {
  const double below = how->normal ? 0 : nextafter(how->b, -DBL_MAX);
#pragma omp parallel for schedule(static) if (n > 16384)
  for (int64_t block = 0; block < (n + 1) / 2; block++) {
    uint32_t r[4];
    double out[2];
    prB_philox(how->seed, PR_STREAM_OPERATOR, how->step, (uint64_t)block, r);
    double u = unit53(r[0], r[1]), v = unit53(r[2], r[3]);
    if (how->normal) {
      polar(u, v, how->a, how->b, out);
    } else {
      out[0] = how->a + (how->b - how->a) * u, out[1] = how->a + (how->b - how->a) * v;
      for (int i = 0; i < 2; i++)
        if (!(out[i] < how->b)) out[i] = below;
    }
    for (int64_t i = 0; i < 2 && block * 2 + i < n; i++)
      y[block * 2 + i] = is_outside(how, out[i]) ? inside(how, block * 2 + i) : out[i];
  }
}

static void fill_row_major(const filling *how, pr_tensor *t) {
  if (t->dtype == PR_F64)
    fill_f64(how, prT_data(t), pr_numel(t));
  else
    fill_f32(how, prT_data(t), pr_numel(t));
  prT_touch(t);
}

static pr_status fill(filling *how, pr_tensor *t, const char *what) {
  if (!pr_dtype_is_float(t->dtype))
    return pr_fail(PR_ERR_DTYPE, "%s: a float tensor is needed, this one is %s", what,
                   pr_dtype_name(t->dtype));
  if (t->device != PR_CPU)
    return pr_fail(PR_ERR_UNSUPPORTED, "%s: a tensor on the CPU is needed, this one is on %s", what,
                   pr_device_name(t->device));
  how->seed = pr_seed_get(), how->step = prB_next_step();
  if (pr_is_contiguous(t) && t->dtype != PR_BF16) {
    fill_row_major(how, t);
    return PR_OK;
  }
  pr_tensor *numbers = pr_tensor_new(t->dtype == PR_F64 ? PR_F64 : PR_F32, PR_CPU, t->dim, t->shape);
  if (!numbers) return PR_ERR_MEMORY;
  fill_row_major(how, numbers);
  pr_status status = pr_copy(t, numbers);
  pr_release(numbers);
  return status;
}

pr_status pr_init_uniform(pr_tensor *t, double low, double high) {
  if (!isfinite(low) || !isfinite(high) || !isfinite(high - low) || high < low)
    return pr_fail(PR_ERR_ARGUMENT, "uniform: low <= high is needed, both finite; got %g and %g", low, high);
  if (low == high) return pr_fill(t, low);
  return fill(&(filling){ .a = low, .b = high }, t, "uniform");
}

static pr_status normal(pr_tensor *t, double mean, double std, bool truncated, const char *what) {
  if (!isfinite(mean) || !isfinite(std) || std < 0)
    return pr_fail(PR_ERR_ARGUMENT,
                   "%s: a finite mean and a standard deviation >= 0 are needed, got %g and %g", what, mean,
                   std);
  return fill(&(filling){ .normal = true, .truncated = truncated, .a = mean, .b = std }, t, what);
}

pr_status pr_init_normal(pr_tensor *t, double mean, double std) {
  return normal(t, mean, std, false, "normal");
}

pr_status pr_init_truncated_normal(pr_tensor *t, double mean, double std) {
  return normal(t, mean, std, true, "truncated_normal");
}
