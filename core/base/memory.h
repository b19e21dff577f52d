/* memory.h - the one door to the heap.
 *
 * Every block of the core passes through prB_resize, which is told the old size, so totals and the peak are
 * exact, leaks show as bytes at the end of a test, and the nth allocation can be made to fail.
 */
#ifndef PR_BASE_MEMORY_H
#define PR_BASE_MEMORY_H

#include "base/error.h"

/* Allocate (block NULL, old 0), grow or shrink, or free (size 0). New bytes are not cleared. NULL on failure,
 * with pr_fail done and the old block untouched; size 0 always returns NULL. */
void *prB_resize(void *block, size_t old_size, size_t size);

/* The same for count * size bytes, checked for overflow; cleared to zero. */
void *prB_zeroed(size_t count, size_t size);

/* 64-byte aligned blocks for numbers; freed with the size they were made with. */
void *prB_aligned(size_t size);
void prB_aligned_free(void *block, size_t size);

/* A copy of a string; freed with prB_string_free. */
char *prB_string(const char *text);
void prB_string_free(char *text);

#define PRB_NEW(type) ((type *)prB_zeroed(1, sizeof(type)))
#define PRB_FREE(pointer)                                                                                    \
  ((void)prB_resize((pointer), (pointer) ? sizeof *(pointer) : 0, 0), (pointer) = NULL)
#define PRB_ARRAY(type, count) ((type *)prB_zeroed((size_t)(count), sizeof(type)))
#define PRB_ARRAY_FREE(pointer, count)                                                                       \
  ((void)prB_resize((pointer), (pointer) ? (size_t)(count) * sizeof *(pointer) : 0, 0), (pointer) = NULL)

/* Grow an array so that it holds at least `need` elements. `capacity` is updated. PR_ERR_MEMORY leaves both
 * as they were. */
#define PRB_RESERVE(array, capacity, need)                                                                   \
  prB_reserve((void **)&(array), &(capacity), (need), sizeof *(array))
pr_status prB_reserve(void **array, size_t *capacity, size_t need, size_t size);

typedef struct pr_memory_stats {
  size_t live;   /* bytes in use now */
  size_t peak;   /* the most ever in use since the last pr_memory_reset_peak */
  size_t blocks; /* blocks in use now */
  size_t calls;  /* allocations ever made */
} pr_memory_stats;

void pr_memory_get(pr_memory_stats *stats);
void pr_memory_reset_peak(void);

/* Make the nth allocation from now fail (1 = the next one), once, or that and all later ones if `sticky`. 0
 * switches it off. */
void pr_memory_fail_after(size_t n, bool sticky);

#endif
