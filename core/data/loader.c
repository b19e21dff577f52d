/* loader.c - the ring of batches between the preparing threads and the one that trains.
 *
 * Batch b lies in slot b % slots. Under the lock: workers claim the next number while its slot is free, that
 * is while it is less than `slots` ahead of the oldest batch that the consumer has not given back. A claimed
 * slot belongs to its worker until it is ready, then to the consumer.
 */
#include "data/loader.h"

#include "base/memory.h"
#include "base/random.h"
#include "base/thread.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

enum { MOST_THREADS = 64, MOST_PADDING = 1024 };

typedef struct slot {
  bool ready;
  pr_status status;
  pr_error error;
  int count;
  float *images;
  int64_t *labels;
} slot;

struct pr_loader {
  pr_dataset *dataset;
  pr_loader_options options;
  int64_t shape[3]; /* channels, height, width */
  size_t pixels;    /* values of one image */
  float values[PR_MAX_CHANNELS][256];
  int64_t samples, batches;
  int64_t *chosen; /* the samples of every epoch; both arrays have the data set's size */
  int64_t *order;  /* the same, in this epoch's order */
  size_t order_size;
  int capacity; /* samples that a slot has room for */
  int slots;
  slot *ring;
  prL_decoder decoder; /* the consumer's, for threads = 0 */

  int64_t epoch, next; /* next: the batch that the consumer takes next */
  pthread_mutex_t lock;
  pthread_cond_t work, ready;
  bool locks_made;
  int threads; /* running */
  pthread_t ids[MOST_THREADS];
  int64_t claimed, returned; /* the next number to claim; the oldest batch not given back */
  int busy;
  bool started, closing;
  atomic_bool dropping; /* what is being prepared will not be wanted */
};

int64_t pr_loader_samples(const pr_loader *loader) { return loader->samples; }
int64_t pr_loader_batches(const pr_loader *loader) { return loader->batches; }

/* --- one batch --- */

/* Out pixel (y, x) is source pixel (y + dy, x' + dx) where x' is x, or its mirror image; zero bytes outside.
 */
static void place(const pr_loader *l, const uint8_t *from, int dy, int dx, bool flip, float *out) {
  int channels = (int)l->shape[0], height = (int)l->shape[1], width = (int)l->shape[2];
  for (int y = 0; y < height; y++) {
    int sy = y + dy;
    for (int x = 0; x < width; x++, out += channels) {
      int sx = (flip ? width - 1 - x : x) + dx;
      bool inside = sy >= 0 && sy < height && sx >= 0 && sx < width;
      const uint8_t *pixel = inside ? from + ((int64_t)sy * width + sx) * channels : NULL;
      for (int c = 0; c < channels; c++) out[c] = l->values[c][pixel ? pixel[c] : 0];
    }
  }
}

static void augment(const pr_loader *l, const uint8_t *from, int64_t sample, float *out) {
  uint32_t r[4], span = 2 * (uint32_t)l->options.crop_padding + 1;
  if (span == 1 && !l->options.flip) {
    place(l, from, 0, 0, false, out);
    return;
  }
  prB_philox(l->options.seed, PR_STREAM_AUGMENT, (uint64_t)l->epoch, (uint64_t)sample, r);
  int dy = (int)((uint64_t)r[0] * span >> 32) - l->options.crop_padding;
  int dx = (int)((uint64_t)r[1] * span >> 32) - l->options.crop_padding;
  place(l, from, dy, dx, l->options.flip && r[2] >> 31, out);
}

static int64_t batch_end(const pr_loader *l, int64_t batch) {
  return batch + 1 == l->batches ? l->samples : (batch + 1) * l->options.batch;
}

static void prepare(pr_loader *l, prL_decoder *decoder, int64_t batch, slot *s) {
  int64_t first = batch * l->options.batch, end = batch_end(l, batch);
  s->status = PR_OK;
  s->count = (int)(end - first);
  for (int64_t i = first; i < end && !s->status && !atomic_load(&l->dropping); i++) {
    const uint8_t *pixels;
    s->status = prL_dataset_image(l->dataset, decoder, l->order[i], &pixels);
    if (s->status) break;
    augment(l, pixels, l->order[i], s->images + (size_t)(i - first) * l->pixels);
    s->labels[i - first] = pr_dataset_label(l->dataset, l->order[i]);
  }
  if (s->status) s->error = *pr_error_last();
}

/* --- the threads --- */

static bool can_claim(const pr_loader *l) {
  return l->started && !atomic_load(&l->dropping) && l->claimed < l->batches &&
         l->claimed < l->returned + l->slots;
}

static void *worker(void *argument) {
  pr_loader *l = argument;
  prL_decoder decoder = { 0 };
  pthread_mutex_lock(&l->lock);
  while (!l->closing) {
    if (!can_claim(l)) {
      pthread_cond_wait(&l->work, &l->lock);
      continue;
    }
    int64_t batch = l->claimed++;
    slot *s = &l->ring[batch % l->slots];
    l->busy++;
    pthread_mutex_unlock(&l->lock);
    prepare(l, &decoder, batch, s);
    pthread_mutex_lock(&l->lock);
    l->busy--;
    s->ready = true;
    pthread_cond_signal(&l->ready); /* one waits at most: the consumer */
  }
  pthread_mutex_unlock(&l->lock);
  prL_decoder_close(&decoder);
  return NULL;
}

/* A tenth of a second at most, so that an interrupt is seen. */
static void wait_a_little(pr_loader *l) {
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_nsec += 100000000;
  if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
  pthread_cond_timedwait(&l->ready, &l->lock, &until);
}

/* Signals are for the thread that trains; new threads inherit the mask. */
static pr_status start_threads(pr_loader *l) {
  pthread_condattr_t monotonic;
  sigset_t all, before;
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_mutex_init(&l->lock, NULL);
  pthread_cond_init(&l->work, NULL);
  pthread_cond_init(&l->ready, &monotonic);
  pthread_condattr_destroy(&monotonic);
  l->locks_made = true;

  int code = 0;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  while (!code && l->threads < l->options.threads)
    if (!(code = pthread_create(&l->ids[l->threads], NULL, worker, l))) l->threads++;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return code ? pr_fail(PR_ERR_IO, "loader thread %d of %d cannot be started: %s", l->threads + 1,
                        l->options.threads, strerror(code))
              : PR_OK;
}

/* --- opening and closing --- */

static pr_status check(const pr_dataset *dataset, const pr_loader_options *o) {
  int64_t shape[3];
  pr_dataset_shape(dataset, shape);
  if (o->batch < 1) return pr_fail(PR_ERR_ARGUMENT, "batch must be 1 or more, got %d", o->batch);
  if (o->threads < 0 || o->threads > MOST_THREADS)
    return pr_fail(PR_ERR_ARGUMENT, "loader threads must be 0 to %d, got %d", MOST_THREADS, o->threads);
  if (o->crop_padding < 0 || o->crop_padding > MOST_PADDING)
    return pr_fail(PR_ERR_ARGUMENT, "crop_padding must be 0 to %d, got %d", MOST_PADDING, o->crop_padding);
  if (o->limit < 0)
    return pr_fail(PR_ERR_ARGUMENT, "limit must be 0 (all) or more, got %lld", (long long)o->limit);
  for (int c = 0; c < shape[0]; c++)
    if (!(o->normalization.std[c] > 0))
      return pr_fail(PR_ERR_ARGUMENT, "the deviation of channel %lld must be positive, got %g", PR_INDEX(c),
                     (double)o->normalization.std[c]);
  return PR_OK;
}

static void fill_values(pr_loader *l) {
  float divisor = pr_dataset_divisor(l->dataset);
  for (int c = 0; c < l->shape[0]; c++)
    for (int b = 0; b < 256; b++)
      l->values[c][b] =
          ((float)b / divisor - l->options.normalization.mean[c]) / l->options.normalization.std[c];
}

static pr_status make_ring(pr_loader *l) {
  int64_t rest = l->samples % l->options.batch;
  l->batches = l->samples / l->options.batch + (rest > 1 || l->samples < l->options.batch);
  int64_t room =
      rest == 1 && l->batches * l->options.batch < l->samples ? l->options.batch + 1 : l->options.batch;
  l->capacity = (int)(room < l->samples ? room : l->samples);
  l->slots = l->options.threads ? l->options.threads + 2 : 1;
  l->ring = PRB_ARRAY(slot, l->slots);
  if (!l->ring) return PR_ERR_MEMORY;
  for (int i = 0; i < l->slots; i++) {
    slot *s = &l->ring[i];
    s->images = prB_aligned((size_t)l->capacity * l->pixels * sizeof *s->images);
    if (s->images) s->labels = PRB_ARRAY(int64_t, l->capacity);
    if (!s->labels) return PR_ERR_MEMORY;
  }
  return PR_OK;
}

static pr_status fill(pr_loader *l, pr_dataset *dataset, const pr_loader_options *options) {
  l->dataset = pr_dataset_retain(dataset);
  l->options = *options;
  pr_dataset_shape(dataset, l->shape);
  l->pixels = (size_t)(l->shape[0] * l->shape[1] * l->shape[2]);
  fill_values(l);
  l->order_size = (size_t)pr_dataset_size(dataset);
  l->chosen = PRB_ARRAY(int64_t, l->order_size);
  l->order = l->chosen ? PRB_ARRAY(int64_t, l->order_size) : NULL;
  if (!l->order) return PR_ERR_MEMORY;
  PR_TRY(prL_dataset_order(dataset, options->limit, l->chosen, &l->samples));
  PR_TRY(make_ring(l));
  if (options->threads) PR_TRY(start_threads(l));
  return pr_loader_start(l, 0, 0);
}

pr_status pr_loader_open(pr_dataset *dataset, const pr_loader_options *options, pr_loader **out) {
  *out = NULL;
  PR_TRY(check(dataset, options));
  pr_loader *l = PRB_NEW(pr_loader);
  if (!l) return PR_ERR_MEMORY;
  pr_status status = fill(l, dataset, options);
  if (status) {
    pr_error why = *pr_error_last();
    pr_loader_close(l);
    return pr_error_set(&why);
  }
  *out = l;
  return PR_OK;
}

void pr_loader_close(pr_loader *l) {
  if (!l) return;
  if (l->locks_made) {
    pthread_mutex_lock(&l->lock);
    l->closing = true;
    atomic_store(&l->dropping, true);
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
    for (int i = 0; i < l->threads; i++) pthread_join(l->ids[i], NULL);
    pthread_cond_destroy(&l->work);
    pthread_cond_destroy(&l->ready);
    pthread_mutex_destroy(&l->lock);
  }
  for (int i = 0; i < l->slots && l->ring; i++) {
    prB_aligned_free(l->ring[i].images, (size_t)l->capacity * l->pixels * sizeof(float));
    PRB_ARRAY_FREE(l->ring[i].labels, l->capacity);
  }
  PRB_ARRAY_FREE(l->ring, l->slots);
  PRB_ARRAY_FREE(l->chosen, l->order_size);
  PRB_ARRAY_FREE(l->order, l->order_size);
  prL_decoder_close(&l->decoder);
  pr_dataset_release(l->dataset);
  PRB_FREE(l);
}

/* --- an epoch --- */

/* Fisher and Yates; number i of the epoch's stream places position i. */
static void draw_order(pr_loader *l, int64_t epoch) {
  memcpy(l->order, l->chosen, (size_t)l->samples * sizeof *l->order);
  if (!l->options.shuffle) return;
  for (int64_t i = l->samples - 1; i > 0; i--) {
    uint64_t j = prB_below(l->options.seed, PR_STREAM_SHUFFLE, (uint64_t)epoch, (uint64_t)i, (uint64_t)i + 1);
    int64_t other = l->order[j];
    l->order[j] = l->order[i], l->order[i] = other;
  }
}

static void rewind_to(pr_loader *l, int64_t epoch, int64_t batch) {
  draw_order(l, epoch);
  l->epoch = epoch;
  l->next = l->claimed = l->returned = batch;
  for (int i = 0; i < l->slots; i++) l->ring[i].ready = false;
}

pr_status pr_loader_start(pr_loader *l, int64_t epoch, int64_t batch) {
  if (epoch < 0 || batch < 0 || batch > l->batches)
    return pr_fail(PR_ERR_INDEX, "no batch %lld of epoch %lld: an epoch has %lld batches", PR_INDEX(batch),
                   PR_INDEX(epoch), (long long)l->batches);
  if (!l->threads) {
    rewind_to(l, epoch, batch);
    return PR_OK;
  }
  pthread_mutex_lock(&l->lock);
  atomic_store(&l->dropping, true);
  while (l->busy) pthread_cond_wait(&l->ready, &l->lock);
  rewind_to(l, epoch, batch); /* nobody reads the order now */
  l->started = true;
  atomic_store(&l->dropping, false);
  pthread_cond_broadcast(&l->work);
  pthread_mutex_unlock(&l->lock);
  return PR_OK;
}

/* Wait for the next slot; the one handed out before becomes free. */
static pr_status take(pr_loader *l, slot **out) {
  slot *s = *out = &l->ring[l->next % l->slots];
  if (!l->threads) {
    PR_TRY(prB_interrupted());
    prepare(l, &l->decoder, l->next, s);
    return PR_OK;
  }
  pr_status status = PR_OK;
  pthread_mutex_lock(&l->lock);
  l->returned = l->next;
  pthread_cond_broadcast(&l->work);
  while (!s->ready && !(status = prB_interrupted())) wait_a_little(l);
  if (!status) s->ready = false;
  pthread_mutex_unlock(&l->lock);
  return status;
}

pr_status pr_loader_next(pr_loader *l, pr_batch *out) {
  *out = (pr_batch){ .number = l->next };
  if (l->next >= l->batches) return PR_OK;
  slot *s;
  PR_TRY(take(l, &s));
  l->next++;
  if (s->status) return pr_error_set(&s->error);
  out->count = s->count, out->images = s->images, out->labels = s->labels;
  return PR_OK;
}
