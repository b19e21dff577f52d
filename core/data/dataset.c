/* dataset.c - telling the kind of a source, and what all kinds share. */
#define _GNU_SOURCE /* qsort_r */
#include "base/memory.h"
#include "data/source.h"
#include "io/hdf5.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const pr_dataset_options pr_dataset_defaults = { .resize = 0, .cache_bytes = (size_t)2 << 30 };

/* --- lists of names --- */

pr_status prL_names_add(prL_names *names, const char *directory, const char *name) {
  size_t front = directory ? strlen(directory) + 1 : 0, back = strlen(name) + 1;
  PR_TRY(PRB_RESERVE(names->text, names->text_capacity, names->used + front + back));
  PR_TRY(PRB_RESERVE(names->at, names->at_capacity, names->count + 1));
  char *to = names->text + names->used;
  if (front) {
    memcpy(to, directory, front - 1);
    to[front - 1] = '/';
  }
  memcpy(to + front, name, back);
  names->at[names->count++] = names->used;
  names->used += front + back;
  return PR_OK;
}

const char *prL_name(const prL_names *names, size_t i) { return names->text + names->at[i]; }

static int by_bytes(const void *a, const void *b, void *text) {
  return strcmp((char *)text + *(const size_t *)a, (char *)text + *(const size_t *)b);
}

void prL_names_sort(prL_names *names, size_t from) {
  if (names->count > from)
    qsort_r(names->at + from, names->count - from, sizeof *names->at, by_bytes, names->text);
}

void prL_names_free(prL_names *names) {
  PRB_ARRAY_FREE(names->text, names->text_capacity);
  PRB_ARRAY_FREE(names->at, names->at_capacity);
  *names = (prL_names){ 0 };
}

/* --- what the readers share --- */

bool prL_join(char *out, size_t size, const char *directory, const char *name) {
  return (size_t)snprintf(out, size, "%s/%s", directory, name) < size;
}

bool prL_is_file(const char *path) {
  struct stat info;
  return !stat(path, &info) && S_ISREG(info.st_mode);
}

bool prL_is_directory(const char *path) {
  struct stat info;
  return !stat(path, &info) && S_ISDIR(info.st_mode);
}

pr_status prL_number_classes(pr_dataset *d, int classes) {
  char name[16];
  for (int i = 0; i < classes; i++) {
    snprintf(name, sizeof name, "%d", i);
    PR_TRY(prL_names_add(&d->class_names, NULL, name));
  }
  d->classes = classes;
  return PR_OK;
}

pr_status prL_check_labels(const pr_dataset *d, const char *path) {
  for (int64_t i = 0; i < d->count; i++)
    if (d->labels[i] < 0 || d->labels[i] >= d->classes)
      return pr_fail(PR_ERR_FORMAT, "%s: the label of image %lld is %d; with %d classes labels are 0 to %d",
                     path, PR_INDEX(i), d->labels[i], d->classes, d->classes - 1);
  return PR_OK;
}

pr_status prL_allocate(pr_dataset *d, const char *path, int64_t count, int height, int width, int channels) {
  if (count < 1) return pr_fail(PR_ERR_FORMAT, "%s: holds no images", path);
  if (height < 1 || width < 1 || height > PRL_MAX_SIDE || width > PRL_MAX_SIDE || channels < 1 ||
      channels > 4)
    return pr_fail(PR_ERR_FORMAT,
                   "%s: images of %d x %d pixels with %d channels cannot be used (1 to %d pixels a side, 1 "
                   "to 4 channels)",
                   path, height, width, channels, PRL_MAX_SIDE);
  size_t one = (size_t)height * (size_t)width * (size_t)channels;
  if ((size_t)count > ((size_t)1 << 48) / one)
    return pr_fail(PR_ERR_FORMAT, "%s: claims %lld images", path, (long long)count);
  d->count = count, d->height = height, d->width = width, d->channels = channels, d->divisor = 255;
  d->block_bytes = one * (size_t)count;
  d->block = prB_aligned(d->block_bytes);
  if (!d->block) return PR_ERR_MEMORY;
  d->pixels = d->block;
  return PRB_RESERVE(d->labels, d->label_capacity, (size_t)count);
}

/* --- opening --- */

static pr_status unlike(const char *path, const char *what) {
  return pr_fail(
      PR_ERR_FORMAT,
      "%s: %s. A data set is an HDF5 file with `images` and `labels`, a folder with train/CLASS/*.jpg and "
      "test/CLASS/*.jpg, or a folder with the binary files of CIFAR-10 or MNIST",
      path, what);
}

static pr_status open_any(pr_dataset *d, const char *path, pr_split part, const pr_dataset_options *options) {
  char inner[PATH_MAX];
  struct stat info;
  if (stat(path, &info)) return pr_fail(PR_ERR_IO, "%s: cannot be opened: %s", path, strerror(errno));
  if (options->resize < 0 || options->resize > 4096)
    return pr_fail(PR_ERR_ARGUMENT, "resize must be 0 (off) or 1 to 4096, got %d", options->resize);
  bool folder =
      S_ISDIR(info.st_mode) && prL_join(inner, sizeof inner, path, "train") && prL_is_directory(inner);
  if (folder) return prL_open_folder(d, path, part, options);
  if (options->resize)
    return pr_fail(PR_ERR_ARGUMENT, "%s: resize = %d is for folders of images, and this is none", path,
                   options->resize);
  if (!S_ISDIR(info.st_mode))
    return pr_hdf5_signature(path) ? prL_open_hdf5(d, path, part) : unlike(path, "is not an HDF5 file");
  if (prL_is_cifar10(path)) return prL_open_cifar10(d, path, part);
  if (prL_is_idx(path)) return prL_open_idx(d, path, part);
  return unlike(path, "no known data set lies in this folder");
}

static pr_status finish(pr_dataset *d, pr_status status, pr_dataset **out) {
  if (status) {
    pr_dataset_release(d);
    return status;
  }
  *out = d;
  return PR_OK;
}

static pr_dataset *create(void) {
  pr_dataset *d = PRB_NEW(pr_dataset);
  if (d) atomic_init(&d->references, 1);
  return d;
}

pr_status pr_dataset_open(const char *path, pr_split part, const pr_dataset_options *options,
                          pr_dataset **out) {
  *out = NULL;
  pr_dataset *d = create();
  if (!d) return PR_ERR_MEMORY;
  return finish(d, open_any(d, path, part, options ? options : &pr_dataset_defaults), out);
}

pr_status pr_dataset_digits(pr_split part, pr_dataset **out) {
  *out = NULL;
  pr_dataset *d = create();
  if (!d) return PR_ERR_MEMORY;
  return finish(d, prL_open_digits(d, part), out);
}

static pr_status copy_in(pr_dataset *d, const uint8_t *images, const int32_t *labels, int classes,
                         float divisor) {
  if (classes < 1 || classes > PRL_MAX_CLASSES || !(divisor > 0))
    return pr_fail(PR_ERR_ARGUMENT, "%d classes and divisor %g: both must be positive", classes,
                   (double)divisor);
  memcpy(d->block, images, d->block_bytes);
  memcpy(d->labels, labels, (size_t)d->count * sizeof *labels);
  d->divisor = divisor;
  PR_TRY(prL_number_classes(d, classes));
  return prL_check_labels(d, "data set in memory");
}

pr_status pr_dataset_memory(const uint8_t *images, const int32_t *labels, int64_t count, int height,
                            int width, int channels, int classes, float divisor, pr_dataset **out) {
  *out = NULL;
  pr_dataset *d = create();
  if (!d) return PR_ERR_MEMORY;
  pr_status status = prL_allocate(d, "data set in memory", count, height, width, channels);
  if (!status) status = copy_in(d, images, labels, classes, divisor);
  return finish(d, status, out);
}

pr_dataset *pr_dataset_retain(pr_dataset *dataset) {
  atomic_fetch_add(&dataset->references, 1);
  return dataset;
}

void pr_dataset_release(pr_dataset *d) {
  if (!d || atomic_fetch_sub(&d->references, 1) > 1) return;
  prL_names_free(&d->class_names);
  prL_names_free(&d->files);
  PRB_ARRAY_FREE(d->labels, d->label_capacity);
  prB_aligned_free(d->block, d->block_bytes);
  prB_aligned_free(d->cache, d->cache_bytes);
  PRB_ARRAY_FREE(d->states, d->cached);
  PRB_FREE(d);
}

/* --- reading --- */

int64_t pr_dataset_size(const pr_dataset *d) { return d->count; }
int pr_dataset_classes(const pr_dataset *d) { return d->classes; }
const char *pr_dataset_class_name(const pr_dataset *d, int index) {
  return prL_name(&d->class_names, (size_t)index);
}
int32_t pr_dataset_label(const pr_dataset *d, int64_t sample) { return d->labels[sample]; }
float pr_dataset_divisor(const pr_dataset *d) { return d->divisor; }
void pr_dataset_shape(const pr_dataset *d, int64_t shape[3]) {
  shape[0] = d->channels, shape[1] = d->height, shape[2] = d->width;
}

static pr_status decode(const pr_dataset *d, prL_decoder *decoder, int64_t sample, uint8_t *out) {
  const char *name = prL_name(&d->files, (size_t)sample);
  size_t size;
  prL_image image;
  PR_TRY(prL_read_file(decoder, name, &size));
  if (!d->resize) {
    int width, height;
    PR_TRY(prL_image_size(decoder, decoder->file, size, name, &width, &height));
    if (width != d->width || height != d->height)
      return pr_fail(PR_ERR_SHAPE,
                     "%s: is %d x %d pixels (width x height), the images before it %d x %d; the option "
                     "resize = N brings all to "
                     "one size",
                     name, width, height, d->width, d->height);
  }
  PR_TRY(prL_image_decode(decoder, decoder->file, size, name, d->channels, &image));
  if (d->resize) return prL_image_fit(decoder, &image, d->resize, out);
  if (image.width != d->width ||
      image.height != d->height) /* a file that was changed between the two looks */
    return pr_fail(PR_ERR_FORMAT, "%s: contradicts its own header", name);
  memcpy(out, image.pixels, (size_t)d->width * (size_t)d->height * (size_t)d->channels);
  return PR_OK;
}

enum { ABSENT, BUSY, THERE };

pr_status prL_dataset_image(pr_dataset *d, prL_decoder *decoder, int64_t sample, const uint8_t **pixels) {
  size_t one = (size_t)d->width * (size_t)d->height * (size_t)d->channels;
  if (d->pixels) {
    *pixels = d->pixels + (size_t)sample * one;
    return PR_OK;
  }
  bool kept = sample < d->cached;
  uint8_t *slot = kept ? d->cache + (size_t)sample * one : NULL;
  if (kept && atomic_load_explicit(&d->states[sample], memory_order_acquire) == THERE) {
    *pixels = slot;
    return PR_OK;
  }
  /* where another thread is at it, decode for oneself rather than wait */
  unsigned char absent = ABSENT;
  bool mine = kept && atomic_compare_exchange_strong(&d->states[sample], &absent, BUSY);
  if (!mine) {
    PR_TRY(PRB_RESERVE(decoder->image, decoder->image_capacity, one));
    slot = decoder->image;
  }
  pr_status status = decode(d, decoder, sample, slot);
  if (mine) atomic_store_explicit(&d->states[sample], status ? ABSENT : THERE, memory_order_release);
  *pixels = slot;
  return status;
}

pr_status prL_dataset_order(const pr_dataset *d, int64_t limit, int64_t *order, int64_t *count) {
  if (limit < 0)
    return pr_fail(PR_ERR_ARGUMENT, "limit must be 0 (all) or the number of images, got %lld",
                   (long long)limit);
  bool all = limit == 0 || limit >= d->count;
  *count = all ? d->count : limit;
  if (all || !d->by_class) {
    for (int64_t i = 0; i < *count; i++) order[i] = i;
    return PR_OK;
  }
  int64_t *next =
      PRB_ARRAY(int64_t, d->classes); /* the next sample of each class; its end is where the label changes */
  if (!next) return PR_ERR_MEMORY;
  for (int64_t i = d->count - 1; i >= 0; i--) next[d->labels[i]] = i;
  for (int64_t filled = 0; filled < limit;)
    for (int c = 0; c < d->classes && filled < limit; c++)
      if (next[c] < d->count && d->labels[next[c]] == c) order[filled++] = next[c]++;
  PRB_ARRAY_FREE(next, d->classes);
  return PR_OK;
}
