/* memory.c - counted allocation. Counters are relaxed atomics: loader threads allocate too. */
#include "base/memory.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static atomic_size_t live, peak, blocks, calls;
static atomic_size_t fail_in; /* 0: never; 1: the next one */
static atomic_bool fail_sticky;

static bool must_fail(void) {
  size_t left = atomic_load_explicit(&fail_in, memory_order_relaxed);
  if (left == 0) return false;
  if (left > 1) return atomic_store(&fail_in, left - 1), false;
  if (!atomic_load(&fail_sticky)) atomic_store(&fail_in, 0);
  return true;
}

static void count(size_t old_size, size_t size, int new_blocks) {
  size_t now = atomic_fetch_add_explicit(&live, size - old_size, memory_order_relaxed) + size - old_size;
  size_t most = atomic_load_explicit(&peak, memory_order_relaxed);
  while (now > most && !atomic_compare_exchange_weak(&peak, &most, now)) {}
  atomic_fetch_add_explicit(&blocks, (size_t)new_blocks, memory_order_relaxed);
}

static void *refuse(size_t size) {
  pr_fail(PR_ERR_MEMORY, "out of memory: %zu bytes wanted, %zu in use", size, atomic_load(&live));
  return NULL;
}

void *prB_resize(void *block, size_t old_size, size_t size) {
  if (size == 0) {
    if (block) free(block), count(old_size, 0, -1);
    return NULL;
  }
  atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
  void *fresh = must_fail() ? NULL : realloc(block, size);
  if (!fresh) return refuse(size);
  count(block ? old_size : 0, size, block == NULL);
  return fresh;
}

void *prB_zeroed(size_t n, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(n, size, &bytes)) return refuse(SIZE_MAX);
  void *block = prB_resize(NULL, 0, bytes ? bytes : 1);
  if (block && !bytes) atomic_fetch_sub(&live, 1); /* an empty array is freed as 0 bytes */
  return block ? memset(block, 0, bytes) : NULL;
}

void *prB_aligned(size_t size) {
  if (size > SIZE_MAX - 64) return refuse(size);
  size_t rounded = (size + 63) & ~(size_t)63;
  atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
  void *block = must_fail() ? NULL : aligned_alloc(64, rounded ? rounded : 64);
  if (!block) return refuse(size);
  count(0, size ? size : 64, 1);
  return block;
}

void prB_aligned_free(void *block, size_t size) {
  if (block) free(block), count(size ? size : 64, 0, -1);
}

char *prB_string(const char *text) {
  size_t size = strlen(text) + 1;
  char *copy = prB_resize(NULL, 0, size);
  return copy ? memcpy(copy, text, size) : NULL;
}

void prB_string_free(char *text) {
  if (text) prB_resize(text, strlen(text) + 1, 0);
}

pr_status prB_reserve(void **array, size_t *capacity, size_t need, size_t size) {
  if (need <= *capacity) return PR_OK;
  size_t grown = *capacity ? *capacity * 2 : 8;
  if (grown < need) grown = need;
  size_t bytes;
  if (__builtin_mul_overflow(grown, size, &bytes)) return refuse(SIZE_MAX), PR_ERR_MEMORY;
  void *fresh = prB_resize(*array, *capacity * size, bytes);
  if (!fresh) return PR_ERR_MEMORY;
  *array = fresh, *capacity = grown;
  return PR_OK;
}

void pr_memory_get(pr_memory_stats *stats) {
  *stats =
      (pr_memory_stats){ atomic_load(&live), atomic_load(&peak), atomic_load(&blocks), atomic_load(&calls) };
}

void pr_memory_reset_peak(void) { atomic_store(&peak, atomic_load(&live)); }

void pr_memory_fail_after(size_t n, bool sticky) {
  atomic_store(&fail_sticky, sticky);
  atomic_store(&fail_in, n);
}
