/* storage.c - counted blocks of numbers and the cache that keeps large ones for the next step.
 *
 * Small blocks come and go through malloc, which is good at them. Large ones it would map and unmap each
 * time, and the kernel would clear every page again, so released large blocks wait in a cache: bins by size
 * class (eight per power of two: at most 12.5 % waste), all of them also in one list from the latest used to
 * the earliest. A cached block holds its own links. The cache is bounded so that live and cached bytes
 * together stay below 1.5 times the recent peak of live bytes. (With the peak itself as the bound, the moment
 * of the peak empties the cache, and a training step of ResNet-18 asks the system for 10 MB each time.)
 * Blocks that nobody asked for go first.
 *
 * Under AddressSanitizer nothing is cached, so that a use after release shows.
 */
#include "tensor/tensor.h"

#include "base/memory.h"

#include <pthread.h>
#include <stdatomic.h>

#if defined(__SANITIZE_ADDRESS__) || defined(PRUNELUA_FUZZ)
enum { CACHE = 0 };
#else
enum { CACHE = 1 };
#endif

enum {
  LEAST_CACHED = 64 << 10, /* smaller blocks are not cached */
  CLASSES_PER_POWER = 8,
  BINS = 64 * CLASSES_PER_POWER,
  WINDOW = 1024 /* large allocations over which a peak is remembered, once more as long as the one before */
};

typedef struct block {
  struct block *newer, *older;   /* all cached blocks by time of release */
  struct block *before, *behind; /* the same bin */
  size_t size;
  int bin;
} block;

static struct {
  pthread_mutex_t lock;
  block *bins[BINS];
  block *newest, *oldest;
  size_t cached;          /* bytes in the cache */
  size_t live;            /* bytes of large blocks in use */
  size_t peak, last_peak; /* most of `live` in this window and the one before */
  int allocations;        /* in this window */
} cache = { .lock = PTHREAD_MUTEX_INITIALIZER };

static atomic_size_t live_bytes;
static _Atomic uint64_t versions = 1;

uint64_t prT_new_version(void) { return atomic_fetch_add_explicit(&versions, 1, memory_order_relaxed); }

size_t pr_storage_live(void) { return atomic_load_explicit(&live_bytes, memory_order_relaxed); }

/* The size of the class that `bytes` belongs to, and its bin. */
static size_t size_class(size_t bytes, int *bin) {
  int power = 63 - __builtin_clzll(bytes);
  size_t step = (size_t)1 << (power - 3);
  size_t eighths = (bytes + step - 1) / step; /* 8..16; 16 is the next power's first class */
  *bin = power * CLASSES_PER_POWER + (int)eighths - CLASSES_PER_POWER;
  return eighths * step;
}

static void unlink_block(block *b) {
  if (b->newer)
    b->newer->older = b->older;
  else
    cache.newest = b->older;
  if (b->older)
    b->older->newer = b->newer;
  else
    cache.oldest = b->newer;
  if (b->before)
    b->before->behind = b->behind;
  else
    cache.bins[b->bin] = b->behind;
  if (b->behind) b->behind->before = b->before;
  cache.cached -= b->size;
}

static void link_block(block *b) {
  b->newer = NULL, b->older = cache.newest;
  if (cache.newest)
    cache.newest->newer = b;
  else
    cache.oldest = b;
  cache.newest = b;
  b->before = NULL, b->behind = cache.bins[b->bin];
  if (b->behind) b->behind->before = b;
  cache.bins[b->bin] = b;
  cache.cached += b->size;
}

/* Take blocks out, earliest first, until live and cached bytes fit in `limit`; a chain through ->behind. */
static block *evict(size_t limit) {
  block *out = NULL;
  while (cache.oldest && cache.live + cache.cached > limit) {
    block *b = cache.oldest;
    unlink_block(b);
    b->behind = out, out = b;
  }
  return out;
}

static void free_chain(block *chain) {
  while (chain) {
    block *next = chain->behind;
    prB_aligned_free(chain, chain->size);
    chain = next;
  }
}

static void count_large(size_t size) {
  cache.live += size;
  if (++cache.allocations >= WINDOW) cache.last_peak = cache.peak, cache.peak = 0, cache.allocations = 0;
  if (cache.live > cache.peak) cache.peak = cache.live;
}

static size_t most_bytes(void) {
  size_t peak = cache.peak > cache.last_peak ? cache.peak : cache.last_peak;
  return peak + peak / 2;
}

static void *large_new(size_t bytes) {
  int bin;
  size_t size = size_class(bytes, &bin);
  pthread_mutex_lock(&cache.lock);
  block *b = cache.bins[bin];
  if (b) unlink_block(b);
  count_large(size);
  block *surplus = evict(most_bytes());
  bool more = cache.cached > 0;
  pthread_mutex_unlock(&cache.lock);
  free_chain(surplus);
  if (b) return b;
  void *fresh = prB_aligned(size);
  if (!fresh && more) { /* what the cache holds may be what is missing */
    pr_cache_empty();
    fresh = prB_aligned(size);
  }
  if (!fresh) {
    pthread_mutex_lock(&cache.lock);
    cache.live -= size;
    pthread_mutex_unlock(&cache.lock);
  }
  return fresh;
}

static void large_release(void *data, size_t bytes) {
  block *b = data;
  pthread_mutex_lock(&cache.lock);
  b->size = size_class(bytes, &b->bin);
  cache.live -= b->size;
  link_block(b);
  block *surplus = evict(most_bytes());
  pthread_mutex_unlock(&cache.lock);
  free_chain(surplus);
}

void pr_cache_empty(void) {
  pthread_mutex_lock(&cache.lock);
  block *all = evict(0);
  cache.peak = cache.live, cache.last_peak = 0;
  pthread_mutex_unlock(&cache.lock);
  free_chain(all);
}

static bool is_large(size_t bytes) { return CACHE && bytes >= LEAST_CACHED; }

pr_storage *prT_storage_new(pr_device device, size_t bytes) {
  if (device != PR_CPU)
    return pr_fail(PR_ERR_UNSUPPORTED, "no memory on device '%s' in this build", pr_device_name(device)),
           NULL;
  if (bytes > PTRDIFF_MAX / 2) return pr_fail(PR_ERR_MEMORY, "out of memory: %zu bytes wanted", bytes), NULL;
  pr_storage *s = PRB_NEW(pr_storage);
  if (!s) return NULL;
  s->data = is_large(bytes) ? large_new(bytes) : prB_aligned(bytes);
  if (!s->data) return PRB_FREE(s), NULL;
  s->refs = 1;
  s->device = device, s->bytes = bytes, s->version = prT_new_version();
  atomic_fetch_add_explicit(&live_bytes, bytes, memory_order_relaxed);
  return s;
}

void prT_storage_release(pr_storage *s) {
  if (!s || atomic_fetch_sub(&s->refs, 1) > 1) return;
  atomic_fetch_sub_explicit(&live_bytes, s->bytes, memory_order_relaxed);
  if (is_large(s->bytes))
    large_release(s->data, s->bytes);
  else
    prB_aligned_free(s->data, s->bytes);
  PRB_FREE(s);
}
