/* initializer.c - filling row-major memory block by block; other layouts and dtypes through such a copy. */
#include "nn/initializer.h"

#include "base/random.h"

#include <float.h>
#include <math.h>

typedef struct filling {
  bool normal;
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

/* The same in single precision, four times as fast: what f32 can hold of it. */
static inline void polar_f32(uint32_t u, uint32_t v, float mean, float std, float out[2]) {
  float radius = std * sqrtf(-2 * logf((float)open_unit(u))),
        angle = 6.28318530717958647f * (float)open_unit(v);
  out[0] = mean + radius * cosf(angle), out[1] = mean + radius * sinf(angle);
}

/* Rounding to the dtype may reach high, which is not among the numbers. */
static void fill_f32(const filling *how, float *y, int64_t n) {
  const float below = how->normal ? 0 : nextafterf((float)how->b, -FLT_MAX);
  const double low = how->a, width = how->b - how->a;
#pragma omp parallel for schedule(static) if (n > 16384)
  for (int64_t block = 0; block < (n + 3) / 4; block++) {
    uint32_t r[4];
    float out[4];
    prB_philox(how->seed, PR_STREAM_OPERATOR, how->step, (uint64_t)block, r);
    if (how->normal) {
      polar_f32(r[0], r[1], (float)how->a, (float)how->b, out);
      polar_f32(r[2], r[3], (float)how->a, (float)how->b, out + 2);
    } else {
      for (int i = 0; i < 4; i++) {
        float x = (float)(low + width * open_unit(r[i]));
        out[i] = x < how->b ? x : below;
      }
    }
    for (int64_t i = 0; i < 4 && block * 4 + i < n; i++) y[block * 4 + i] = out[i];
  }
}

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
    y[block * 2] = out[0];
    if (block * 2 + 1 < n) y[block * 2 + 1] = out[1];
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

pr_status pr_init_normal(pr_tensor *t, double mean, double std) {
  if (!isfinite(mean) || !isfinite(std) || std < 0)
    return pr_fail(PR_ERR_ARGUMENT,
                   "normal: a finite mean and a standard deviation >= 0 are needed, got %g and %g", mean,
                   std);
  return fill(&(filling){ .normal = true, .a = mean, .b = std }, t, "normal");
}
