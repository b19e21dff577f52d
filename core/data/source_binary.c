/* source_binary.c - the binary files of CIFAR-10 and MNIST. */
#include "base/memory.h"
#include "data/source.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

/* --- CIFAR-10: records of one label and 32 x 32 pixels, plane by plane (Krizhevsky 2009) --- */

enum { SIDE = 32, PLANE = SIDE * SIDE, RECORD = 1 + 3 * PLANE };

static pr_status cifar_records(const char *path, int64_t *count) {
  struct stat info;
  if (stat(path, &info)) return pr_fail(PR_ERR_IO, "%s: cannot be opened: %s", path, strerror(errno));
  if (!S_ISREG(info.st_mode) || info.st_size == 0 || info.st_size % RECORD)
    return pr_fail(PR_ERR_FORMAT,
                   "%s: has %lld bytes, not a multiple of %d: it is cut off or no binary file of CIFAR-10",
                   path, (long long)info.st_size, RECORD);
  *count = info.st_size / RECORD;
  return PR_OK;
}

static pr_status cifar_read(pr_dataset *d, const char *path, int64_t first, int64_t count) {
  uint8_t record[RECORD];
  FILE *f = fopen(path, "rbe");
  if (!f) return pr_fail(PR_ERR_IO, "%s: cannot be opened: %s", path, strerror(errno));
  pr_status status = PR_OK;
  for (int64_t i = 0; i < count && !status; i++) {
    if (fread(record, 1, RECORD, f) != RECORD)
      status = pr_fail(PR_ERR_IO, "%s: cannot be read: %s", path,
                       ferror(f) ? strerror(errno) : "it got shorter meanwhile");
    else if (record[0] > 9)
      status = pr_fail(PR_ERR_FORMAT, "%s: the label of image %lld is %d; labels are 0 to 9", path,
                       PR_INDEX(i), record[0]);
    if (status) break;
    d->labels[first + i] = record[0];
    uint8_t *pixel = (uint8_t *)d->block + (size_t)(first + i) * 3 * PLANE;
    for (int p = 0; p < PLANE; p++)
      for (int c = 0; c < 3; c++) *pixel++ = record[1 + c * PLANE + p];
  }
  fclose(f);
  return status;
}

static bool cifar_batch(char *out, const char *path, int number) {
  char name[32];
  snprintf(name, sizeof name, number ? "data_batch_%d.bin" : "test_batch.bin", number);
  return prL_join(out, PATH_MAX, path, name);
}

bool prL_is_cifar10(const char *path) {
  char file[PATH_MAX];
  for (int i = 0; i <= 5; i++)
    if (cifar_batch(file, path, i) && prL_is_file(file)) return true;
  return false;
}

pr_status prL_open_cifar10(pr_dataset *d, const char *path, pr_split part) {
  static const char *const classes[] = { "airplane", "automobile", "bird",  "cat",  "deer",
                                         "dog",      "frog",       "horse", "ship", "truck" };
  char file[PATH_MAX];
  int64_t counts[6] = { 0 }, total = 0;
  int first = part == PR_TEST ? 0 : 1, last = part == PR_TEST ? 0 : 5;
  for (int i = first; i <= last; i++) {
    if (!cifar_batch(file, path, i)) return pr_fail(PR_ERR_IO, "%s: the path is too long", path);
    if (part == PR_TRAIN && !prL_is_file(file)) continue;
    PR_TRY(cifar_records(file, &counts[i]));
    total += counts[i];
  }
  if (!total) return pr_fail(PR_ERR_IO, "%s: none of data_batch_1.bin to data_batch_5.bin lies there", path);
  PR_TRY(prL_allocate(d, path, total, SIDE, SIDE, 3));
  int64_t at = 0;
  for (int i = first; i <= last; at += counts[i++])
    if (counts[i] && cifar_batch(file, path, i)) PR_TRY(cifar_read(d, file, at, counts[i]));
  for (int c = 0; c < 10; c++) PR_TRY(prL_names_add(&d->class_names, NULL, classes[c]));
  d->classes = 10;
  return PR_OK;
}

/* --- IDX, the form of MNIST: 0 0 type rank, sizes as big-endian 32 bits, then the bytes --- */

/* The plain file, or the one with .gz; zlib reads both. */
static bool idx_file(char *out, const char *path, pr_split part, bool images) {
  const char *set = part == PR_TRAIN ? "train" : "t10k",
             *kind = images ? "images-idx3-ubyte" : "labels-idx1-ubyte";
  char name[64];
  for (int packed = 0; packed < 2; packed++) {
    snprintf(name, sizeof name, "%s-%s%s", set, kind, packed ? ".gz" : "");
    if (prL_join(out, PATH_MAX, path, name) && prL_is_file(out)) return true;
  }
  return false;
}

bool prL_is_idx(const char *path) {
  char file[PATH_MAX];
  return idx_file(file, path, PR_TRAIN, true) || idx_file(file, path, PR_TEST, true);
}

typedef struct idx {
  gzFile file;
  char path[PATH_MAX];
  int64_t sizes[3];
  int rank;
} idx;

static pr_status idx_read(idx *f, void *out, size_t size) {
  for (char *at = out; size;) {
    unsigned step = size > 1 << 24 ? 1 << 24 : (unsigned)size;
    int n = gzread(f->file, at, step), code;
    if (n <= 0) {
      const char *reason = gzerror(f->file, &code);
      return pr_fail(PR_ERR_FORMAT, "%s: is damaged: %s", f->path,
                     code == Z_OK || code == Z_BUF_ERROR ? "it ends early" : reason);
    }
    at += n, size -= (size_t)n;
  }
  return PR_OK;
}

/* Reading past the end makes zlib compare the checksum. */
static pr_status idx_end(idx *f) {
  char byte;
  int code = Z_OK, n = gzread(f->file, &byte, 1);
  const char *reason = gzerror(f->file, &code);
  if (n > 0) return pr_fail(PR_ERR_FORMAT, "%s: is damaged: more bytes than its header says", f->path);
  if (n < 0 || code != Z_OK)
    return pr_fail(PR_ERR_FORMAT, "%s: is damaged: %s", f->path,
                   code == Z_BUF_ERROR ? "it ends early" : reason);
  return PR_OK;
}

static pr_status idx_open(idx *f, const char *path, pr_split part, bool images) {
  uint8_t head[4], word[4];
  struct stat info;
  const char *set = part == PR_TRAIN ? "train" : "t10k";
  if (!idx_file(f->path, path, part, images))
    return pr_fail(PR_ERR_IO, "%s: there is no %s-%s[.gz]", path, set,
                   images ? "images-idx3-ubyte" : "labels-idx1-ubyte");
  if (stat(f->path, &info) || !(f->file = gzopen(f->path, "rbe")))
    return pr_fail(PR_ERR_IO, "%s: cannot be opened: %s", f->path, strerror(errno));
  gzbuffer(f->file, 1 << 17);
  PR_TRY(idx_read(f, head, 4));
  f->rank = images ? 3 : 1;
  if (head[0] || head[1] || head[2] != 8 || head[3] != f->rank)
    return pr_fail(PR_ERR_FORMAT, "%s: is not IDX with %d axes of bytes: it begins %02x %02x %02x %02x",
                   f->path, f->rank, head[0], head[1], head[2], head[3]);
  double bytes = 1;
  for (int i = 0; i < f->rank; i++) {
    PR_TRY(idx_read(f, word, 4));
    f->sizes[i] =
        (int64_t)((uint32_t)word[0] << 24 | (uint32_t)word[1] << 16 | (uint32_t)word[2] << 8 | word[3]);
    bytes *= (double)f->sizes[i];
  }
  if (bytes > 1040.0 * (double)info.st_size + 65536) /* deflate packs 1032 : 1 at best */
    return pr_fail(PR_ERR_FORMAT, "%s: its header claims %.0f bytes, more than a file of %lld bytes can hold",
                   f->path, bytes, (long long)info.st_size);
  return PR_OK;
}

static pr_status idx_labels(idx *f, const char *path, pr_split part, int32_t **labels, size_t *capacity,
                            int64_t *count) {
  PR_TRY(idx_open(f, path, part, false));
  *count = f->sizes[0];
  if (*count < 1) return pr_fail(PR_ERR_FORMAT, "%s: holds no labels", f->path);
  PR_TRY(PRB_RESERVE(*labels, *capacity, (size_t)*count));
  uint8_t *bytes = (uint8_t *)*labels; /* widened in place, from the end */
  PR_TRY(idx_read(f, bytes, (size_t)*count));
  for (int64_t i = *count - 1; i >= 0; i--) (*labels)[i] = bytes[i];
  return idx_end(f);
}

static pr_status idx_images(idx *f, pr_dataset *d, const char *path, pr_split part) {
  PR_TRY(idx_open(f, path, part, true));
  if (f->sizes[1] > PRL_MAX_SIDE || f->sizes[2] > PRL_MAX_SIDE)
    return pr_fail(PR_ERR_FORMAT, "%s: images of %lld x %lld pixels", f->path, (long long)f->sizes[1],
                   (long long)f->sizes[2]);
  PR_TRY(prL_allocate(d, f->path, f->sizes[0], (int)f->sizes[1], (int)f->sizes[2], 1));
  PR_TRY(idx_read(f, d->block, d->block_bytes));
  return idx_end(f);
}

static void idx_close(idx *f) {
  if (f->file) gzclose(f->file);
  f->file = NULL;
}

/* How many classes there are is what the training labels say. */
static pr_status idx_classes(idx *f, const char *path, int *classes) {
  int32_t *labels = NULL;
  size_t capacity = 0;
  int64_t count;
  pr_status status = idx_labels(f, path, PR_TRAIN, &labels, &capacity, &count);
  *classes = 0;
  for (int64_t i = 0; i < count && !status; i++)
    if (labels[i] >= *classes) *classes = labels[i] + 1;
  PRB_ARRAY_FREE(labels, capacity);
  return status;
}

pr_status prL_open_idx(pr_dataset *d, const char *path, pr_split part) {
  idx f = { 0 };
  int64_t count = 0;
  int classes = 0;
  pr_status status = idx_images(&f, d, path, part);
  idx_close(&f);
  if (!status) {
    status = idx_labels(&f, path, part, &d->labels, &d->label_capacity, &count);
    idx_close(&f);
  }
  if (!status && count != d->count)
    status = pr_fail(PR_ERR_FORMAT, "%s: holds %lld labels for %lld images", f.path, (long long)count,
                     (long long)d->count);
  if (!status) {
    status = idx_classes(&f, path, &classes);
    idx_close(&f);
  }
  if (!status) status = prL_number_classes(d, classes);
  return status ? status : prL_check_labels(d, path);
}
