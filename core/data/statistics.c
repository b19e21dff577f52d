/* statistics.c - mean and deviation of a data set's channels, measured or published. */
#include "base/memory.h"
#include "base/thread.h"
#include "data/loader.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

static const struct {
  const char *name;
  int channels; /* 0: any */
  pr_normalization values;
} published[] = {
  { "cifar10", 3, { { 0.4914f, 0.4822f, 0.4465f }, { 0.2023f, 0.1994f, 0.2010f } } },
  { "imagenet", 3, { { 0.485f, 0.456f, 0.406f }, { 0.229f, 0.224f, 0.225f } } },
  { "mnist", 1, { { 0.1307f }, { 0.3081f } } },
  { "none", 0, { { 0, 0, 0, 0 }, { 1, 1, 1, 1 } } },
};
enum { PUBLISHED = sizeof published / sizeof *published };

pr_status pr_normalization_named(const char *name, int channels, pr_normalization *out) {
  const char *names[PUBLISHED];
  for (int i = 0; i < PUBLISHED; i++) {
    names[i] = published[i].name;
    if (strcmp(name, names[i]) != 0) continue;
    if (published[i].channels && published[i].channels != channels)
      return pr_fail(PR_ERR_ARGUMENT, "the constants of `%s` are for %d channels, the images have %d", name,
                     published[i].channels, channels);
    *out = published[i].values;
    return PR_OK;
  }
  const char *nearest = pr_nearest(name, names, PUBLISHED);
  return pr_fail(PR_ERR_ARGUMENT,
                 "no normalization constants `%s`%s%s%s; known are cifar10, imagenet, mnist, none", name,
                 nearest ? " (did you mean `" : "", nearest ? nearest : "", nearest ? "`?)" : "");
}

/* Sums of bytes are integers: their order does not matter, so threads may take samples as they come. */
typedef struct tally {
  pr_dataset *dataset;
  const int64_t *order;
  int64_t count, pixels;
  int channels;
  atomic_int_least64_t next;
  atomic_bool stop;
  pthread_mutex_t lock;
  uint64_t sum[PR_MAX_CHANNELS], squares[PR_MAX_CHANNELS];
  pr_status status;
  int64_t
      failed; /* the lowest sample that could not be read, so that the message does not depend on threads */
  pr_error error;
} tally;

static void add_image(const uint8_t *pixel, int64_t pixels, int channels, uint64_t *sum, uint64_t *squares) {
  for (int64_t i = 0; i < pixels; i++)
    for (int c = 0; c < channels; c++, pixel++) {
      sum[c] += *pixel;
      squares[c] += (uint64_t)*pixel * *pixel;
    }
}

static void fail_at(tally *t, int64_t at, pr_status status) {
  pthread_mutex_lock(&t->lock);
  if (!t->status || at < t->failed) t->status = status, t->failed = at, t->error = *pr_error_last();
  pthread_mutex_unlock(&t->lock);
  atomic_store(&t->stop, true);
}

static void *count_samples(void *argument) {
  tally *t = argument;
  prL_decoder decoder = { 0 };
  uint64_t sum[PR_MAX_CHANNELS] = { 0 }, squares[PR_MAX_CHANNELS] = { 0 };
  while (!atomic_load(&t->stop) && !pr_interrupt_pending()) {
    const uint8_t *pixels;
    int64_t i = atomic_fetch_add(&t->next, 1);
    if (i >= t->count) break;
    pr_status status = prL_dataset_image(t->dataset, &decoder, t->order[i], &pixels);
    if (status)
      fail_at(t, i, status);
    else
      add_image(pixels, t->pixels, t->channels, sum, squares);
  }
  pthread_mutex_lock(&t->lock);
  for (int c = 0; c < t->channels; c++) t->sum[c] += sum[c], t->squares[c] += squares[c];
  pthread_mutex_unlock(&t->lock);
  prL_decoder_close(&decoder);
  return NULL;
}

/* This thread counts too; where helpers cannot be started it counts alone. */
static pr_status count_all(tally *t, int threads) {
  pthread_t ids[64];
  sigset_t all, before;
  int started = 0;
  pthread_mutex_init(&t->lock, NULL);
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  while (started < threads - 1 && !pthread_create(&ids[started], NULL, count_samples, t)) started++;
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  count_samples(t);
  for (int i = 0; i < started; i++) pthread_join(ids[i], NULL);
  pthread_mutex_destroy(&t->lock);
  PR_TRY(prB_interrupted());
  return t->status ? pr_error_set(&t->error) : PR_OK;
}

pr_status pr_dataset_statistics(pr_dataset *dataset, int64_t limit, int threads, pr_normalization *out) {
  int64_t shape[3];
  tally t = { .dataset = dataset };
  if (threads < 1 || threads > 64)
    return pr_fail(PR_ERR_ARGUMENT, "threads must be 1 to 64, got %d", threads);
  pr_dataset_shape(dataset, shape);
  t.channels = (int)shape[0], t.pixels = shape[1] * shape[2];
  int64_t size = pr_dataset_size(dataset), *order = PRB_ARRAY(int64_t, size);
  if (!order) return PR_ERR_MEMORY;
  t.order = order;
  pr_status status = prL_dataset_order(dataset, limit, order, &t.count);
  if (!status) status = count_all(&t, threads);
  PRB_ARRAY_FREE(order, size);
  if (status) return status;

  double n = (double)t.count * (double)t.pixels, divisor = pr_dataset_divisor(dataset);
  for (int c = 0; c < t.channels; c++) {
    double mean = (double)t.sum[c] / n, variance = (double)t.squares[c] / n - mean * mean;
    out->mean[c] = (float)(mean / divisor);
    out->std[c] = variance > 1e-9 ? (float)(sqrt(variance) / divisor) : 1;
  }
  return PR_OK;
}
