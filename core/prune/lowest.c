/* lowest.c - selection by histograms of digits. */
#include "prune/lowest.h"

#include "backend/cpu/clones.h"
#include "base/memory.h"
#include "base/thread.h"

#include <math.h>
#include <string.h>

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

/* --- loops over keys ---------------------------------------------------------------------------------------------- */

enum { DIGIT = 16, BINS = 1 << DIGIT, RUN = 16, BLOCK = 1 << 16 };

/* For values of one width: the key of an entry; counting, by their digit at `shift`, the entries whose higher
 * digits are `prefix`; zeroing what is below `limit`. Dead entries add 0 to a bin: no branch to mispredict.
 * Below the top digit few entries match, so runs without any are passed over by vector code. */
#define KEY_LOOPS(BITS, UINT)                                                                                \
  static inline UINT key_##BITS(const void *value, int64_t i) {                                              \
    UINT bits;                                                                                               \
    memcpy(&bits, (const char *)value + (size_t)i * sizeof bits, sizeof bits);                               \
    return bits & ((UINT)-1 >> 1);                                                                           \
  }                                                                                                          \
  static void count_top_##BITS(const void *value, const float *mask, int64_t from, int64_t to,               \
                               int64_t *bins) {                                                              \
    for (int64_t i = from; i < to; i++) bins[key_##BITS(value, i) >> (BITS - DIGIT)] += mask[i] != 0;        \
  }                                                                                                          \
  PRK_CLONES static bool any_##BITS(const void *value, int64_t from, int shift, UINT prefix) {               \
    UINT found = 0;                                                                                          \
    for (int64_t i = from; i < from + RUN; i++) found |= key_##BITS(value, i) >> shift == prefix;            \
    return found != 0;                                                                                       \
  }                                                                                                          \
  static void count_##BITS(const void *value, const float *mask, int64_t from, int64_t to, int shift,        \
                           UINT prefix, int64_t *bins) {                                                     \
    for (int64_t run = from; run < to; run += RUN) {                                                         \
      if (run + RUN <= to && !any_##BITS(value, run, shift + DIGIT, prefix)) continue;                       \
      for (int64_t i = run; i < to && i < run + RUN; i++) {                                                  \
        UINT key = key_##BITS(value, i) >> shift;                                                            \
        if (key >> DIGIT == prefix) bins[key & (BINS - 1)] += mask[i] != 0;                                  \
      }                                                                                                      \
    }                                                                                                        \
  }                                                                                                          \
  PRK_CLONES static void zero_below_##BITS(const void *value, float *mask, int64_t from, int64_t to,         \
                                           UINT limit) {                                                     \
    for (int64_t i = from; i < to; i++) mask[i] = key_##BITS(value, i) < limit ? 0.0f : mask[i];             \
  }                                                                                                          \
  static int64_t zero_first_##BITS(const void *value, float *mask, int64_t n, UINT key, int64_t left) {      \
    for (int64_t i = 0; i < n && left > 0; i++)                                                              \
      if (key_##BITS(value, i) == key && mask[i] != 0) mask[i] = 0, left--;                                  \
    return left;                                                                                             \
  }
KEY_LOOPS(32, uint32_t)
KEY_LOOPS(64, uint64_t)

/* --- passes over all spans ------------------------------------------------------------------------------------------- */

static int64_t end_of(const prP_span *s, int64_t from) { return from + BLOCK < s->n ? from + BLOCK : s->n; }

/* The histogram at `shift` of the entries with these higher digits, into the first of `threads` x BINS. */
static void count(const prP_span *span, int spans, bool wide, int shift, uint64_t prefix, int64_t *bins,
                  int threads) {
  bool top = shift == (wide ? 64 : 32) - DIGIT;
  memset(bins, 0, (size_t)threads * BINS * sizeof *bins);
  for (int s = 0; s < spans; s++) {
    const void *value = span[s].value;
    const float *mask = span[s].mask;
#pragma omp parallel for schedule(static) num_threads(threads) if (span[s].n > BLOCK)
    for (int64_t from = 0; from < span[s].n; from += BLOCK) {
      int64_t to = end_of(&span[s], from), *own = bins + (size_t)prB_this_thread() * BINS;
      if (top && wide)
        count_top_64(value, mask, from, to, own);
      else if (top)
        count_top_32(value, mask, from, to, own);
      else if (wide)
        count_64(value, mask, from, to, shift, prefix, own);
      else
        count_32(value, mask, from, to, shift, (uint32_t)prefix, own);
    }
  }
  for (int t = 1; t < threads; t++)
    for (int b = 0; b < BINS; b++) bins[b] += bins[(size_t)t * BINS + b];
}

static void zero_below(const prP_span *s, bool wide, uint64_t limit) {
#pragma omp parallel for schedule(static) if (s->n > BLOCK)
  for (int64_t from = 0; from < s->n; from += BLOCK) {
    if (wide)
      zero_below_64(s->value, s->mask, from, end_of(s, from), limit);
    else
      zero_below_32(s->value, s->mask, from, end_of(s, from), (uint32_t)limit);
  }
}

/* Everything below `key` goes, and the first `equal` of those that have it. Keys leave the top bit free: key
 * + 1 does not overflow. */
static void zero(const prP_span *span, int spans, bool wide, uint64_t key, int64_t equal, bool all_equal) {
  for (int s = 0; s < spans; s++) zero_below(&span[s], wide, all_equal ? key + 1 : key);
  for (int s = 0; s < spans && !all_equal && equal > 0; s++)
    equal = wide ? zero_first_64(span[s].value, span[s].mask, span[s].n, key, equal)
                 : zero_first_32(span[s].value, span[s].mask, span[s].n, (uint32_t)key, equal);
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
  int threads = longest > BLOCK ? pr_threads() : 1, top = wide ? 3 * DIGIT : DIGIT;
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
