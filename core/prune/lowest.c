/* lowest.c - selection by histograms of digits. */
#include "prune/lowest.h"

#include "base/memory.h"

#include <math.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#endif

/* --- amounts -------------------------------------------------------------------------------------------------- */

pr_status pr_amount_check(const pr_amount *amount) {
  if (amount->kind == PR_AMOUNT_COUNT) {
    if (amount->count >= 0) return PR_OK;
    return pr_fail(PR_ERR_ARGUMENT, "amount must not be negative, got %lld", (long long)amount->count);
  }
  if (amount->share >= 0 && amount->share <= 1) return PR_OK;
  return pr_fail(PR_ERR_ARGUMENT, "%s is a share in 0..1%s, got %g",
                 amount->kind == PR_SPARSITY ? "sparsity" : "amount",
                 amount->kind == PR_SPARSITY ? "" : " (or an integer: a count)", amount->share);
}

pr_status pr_amount_of(const pr_amount *amount, int64_t alive, int64_t total, const char *unit,
                       int64_t *count) {
  PR_TRY(pr_amount_check(amount));
  switch (amount->kind) {
  case PR_AMOUNT_COUNT: *count = amount->count; break;
  case PR_AMOUNT_SHARE: *count = (int64_t)rint(amount->share * (double)alive); break;
  case PR_SPARSITY: *count = (int64_t)rint(amount->share * (double)total) - (total - alive); break;
  }
  if (*count < 0) *count = 0;
  if (*count <= alive) return PR_OK;
  return pr_fail(PR_ERR_ARGUMENT, "amount %lld is more than the %lld %s that are still alive (of %lld)",
                 (long long)*count, (long long)alive, unit, (long long)total);
}

/* --- keys ------------------------------------------------------------------------------------------------------ */

static inline __attribute__((always_inline)) uint64_t key_at(const void *value, int64_t i, bool wide) {
  if (wide) {
    uint64_t bits;
    memcpy(&bits, (const double *)value + i, sizeof bits);
    return bits & UINT64_C(0x7fffffffffffffff);
  }
  uint32_t bits;
  memcpy(&bits, (const float *)value + i, sizeof bits);
  return bits & UINT32_C(0x7fffffff);
}

enum { DIGIT = 16, BINS = 1 << DIGIT, PARALLEL_FROM = 1 << 16 };

static int most_threads(void) {
#ifdef _OPENMP
  return omp_get_max_threads();
#else
  return 1;
#endif
}

static int this_thread(void) {
#ifdef _OPENMP
  return omp_get_thread_num();
#else
  return 0;
#endif
}

/* --- histograms -------------------------------------------------------------------------------------------------- */

/* Entries whose higher digits are `prefix`, counted by their digit at `shift`. Dead entries add 0: no branch
 * to mispredict. */
static inline __attribute__((always_inline)) void count_span(const prP_span *s, bool wide, int shift,
                                                             uint64_t prefix, int64_t *bins, int threads) {
  (void)threads;
#pragma omp parallel if (s->n >= PARALLEL_FROM) num_threads(threads)
  {
    int64_t *own = bins + (size_t)this_thread() * BINS;
#pragma omp for schedule(static)
    for (int64_t i = 0; i < s->n; i++) {
      uint64_t key = key_at(s->value, i, wide) >> shift;
      if (key >> DIGIT == prefix) own[key & (BINS - 1)] += s->mask[i] != 0;
    }
  }
}

static void count(const prP_span *span, int spans, bool wide, int shift, uint64_t prefix, int64_t *bins,
                  int threads) {
  memset(bins, 0, (size_t)threads * BINS * sizeof *bins);
  for (int s = 0; s < spans; s++) {
    if (wide)
      count_span(&span[s], true, shift, prefix, bins, threads);
    else
      count_span(&span[s], false, shift, prefix, bins, threads);
  }
  for (int t = 1; t < threads; t++)
    for (int b = 0; b < BINS; b++) bins[b] += bins[(size_t)t * BINS + b];
}

/* --- zeroing ----------------------------------------------------------------------------------------------------- */

static inline __attribute__((always_inline)) void zero_below(const prP_span *s, bool wide, uint64_t limit) {
#pragma omp parallel for simd schedule(static) if (s->n >= PARALLEL_FROM)
  for (int64_t i = 0; i < s->n; i++) s->mask[i] = key_at(s->value, i, wide) < limit ? 0.0f : s->mask[i];
}

static inline __attribute__((always_inline)) int64_t zero_first(const prP_span *s, bool wide, uint64_t key,
                                                                int64_t left) {
  for (int64_t i = 0; i < s->n && left > 0; i++) {
    if (s->mask[i] == 0 || key_at(s->value, i, wide) != key) continue;
    s->mask[i] = 0;
    left--;
  }
  return left;
}

/* Everything below `key` goes, and the first `equal` of those that have it. */
static void zero(const prP_span *span, int spans, bool wide, uint64_t key, int64_t equal, bool all_equal) {
  uint64_t limit = all_equal ? key + 1 : key;
  for (int s = 0; s < spans; s++) {
    if (wide)
      zero_below(&span[s], true, limit);
    else
      zero_below(&span[s], false, limit);
  }
  for (int s = 0; s < spans && !all_equal && equal > 0; s++)
    equal = wide ? zero_first(&span[s], true, key, equal) : zero_first(&span[s], false, key, equal);
}

/* --- selection --------------------------------------------------------------------------------------------------- */

/* The bin that holds the rank-th (from 0) entry; rank becomes its rank inside the bin. */
static int find_bin(const int64_t *bins, int64_t *rank) {
  int bin = 0;
  while (bin < BINS - 1 && *rank >= bins[bin]) *rank -= bins[bin++];
  return bin;
}

pr_status prP_zero_lowest(const prP_span *span, int spans, bool wide, const pr_amount *amount,
                          const char *unit, int64_t *gone) {
  int64_t total = 0, alive = 0, longest = 0;
  for (int s = 0; s < spans; s++) total += span[s].n, longest = span[s].n > longest ? span[s].n : longest;
  int threads = longest >= PARALLEL_FROM ? most_threads() : 1, top = wide ? 3 * DIGIT : DIGIT;
  int64_t *bins = PRB_ARRAY(int64_t, (size_t)threads * BINS);
  if (!bins) return PR_ERR_MEMORY;
  count(span, spans, wide, top, 0, bins, threads);
  for (int b = 0; b < BINS; b++) alive += bins[b];
  pr_status status = pr_amount_of(amount, alive, total, unit, gone);
  if (!status && *gone > 0) {
    int64_t rank = *gone - 1;
    uint64_t key = 0;
    for (int shift = top; shift >= 0; shift -= DIGIT) {
      if (shift < top) count(span, spans, wide, shift, key, bins, threads);
      int bin = find_bin(bins, &rank);
      key = key << DIGIT | (uint64_t)bin;
      if (shift == 0) zero(span, spans, wide, key, rank + 1, rank + 1 == bins[bin]);
    }
  }
  PRB_ARRAY_FREE(bins, (size_t)threads * BINS);
  return status;
}
