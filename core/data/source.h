/* source.h - inside core/data: the data set's parts, and the readers that fill them. */
#ifndef PR_DATA_SOURCE_H
#define PR_DATA_SOURCE_H

#include "data/dataset.h"

#include <stdatomic.h>

/* A list of strings in one block of text. */
typedef struct prL_names {
  char *text;
  size_t used, text_capacity;
  size_t *at; /* where each begins */
  size_t count, at_capacity;
} prL_names;

pr_status prL_names_add(prL_names *names, const char *directory,
                        const char *name); /* "directory/name"; directory may be NULL */
const char *prL_name(const prL_names *names, size_t i);
void prL_names_sort(prL_names *names, size_t from); /* by bytes */
void prL_names_free(prL_names *names);

struct pr_dataset {
  atomic_int references;
  int channels, height, width, classes;
  int64_t count;
  float divisor;
  prL_names class_names;
  int32_t *labels;
  size_t label_capacity;

  /* either all pixels: those of sample 0 begin at `pixels` */
  const uint8_t *pixels;
  void *block; /* what pixels lies in */
  size_t block_bytes;

  /* or one file per sample, and a cache of the first `cached` decoded ones */
  bool by_class; /* samples lie class by class */
  prL_names files;
  int resize;
  uint8_t *cache;
  size_t cache_bytes;
  int64_t cached;
  _Atomic unsigned char *states; /* of cached samples: absent, being decoded, there */
};

/* Each fills an empty data set; on failure the caller releases what was filled. */
pr_status prL_open_hdf5(pr_dataset *d, const char *path, pr_split part);
pr_status prL_open_digits(pr_dataset *d, pr_split part);
pr_status prL_open_folder(pr_dataset *d, const char *path, pr_split part, const pr_dataset_options *options);
pr_status prL_open_cifar10(pr_dataset *d, const char *path, pr_split part);
pr_status prL_open_idx(pr_dataset *d, const char *path, pr_split part);

/* Is it one? */
bool prL_is_cifar10(const char *path);
bool prL_is_idx(const char *path);

enum { PRL_MAX_CLASSES = 1 << 20, PRL_MAX_SIDE = 1 << 15 };

/* What the readers share. `path` names the file in messages. */
pr_status prL_number_classes(pr_dataset *d, int classes); /* names "0", "1", ... */
pr_status prL_check_labels(const pr_dataset *d, const char *path);
pr_status prL_allocate(pr_dataset *d, const char *path, int64_t count, int height, int width,
                       int channels);                                           /* block and labels */
bool prL_join(char *out, size_t size, const char *directory, const char *name); /* false: too long */
bool prL_is_file(const char *path);
bool prL_is_directory(const char *path);

#endif
