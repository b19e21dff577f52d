/* source_folder.c - folders of images: one folder per class. */
#include "base/memory.h"
#include "data/source.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { DEEPEST = 32 };

/* A scan of one folder adds its files to `files` and its folders to `folders`, both sorted; hidden entries do
 * not count. */
static pr_status list(const char *directory, prL_names *files, prL_names *folders) {
  char path[PATH_MAX];
  size_t from = files->count;
  DIR *dir = opendir(directory);
  if (!dir) return pr_fail(PR_ERR_IO, "%s: cannot be opened: %s", directory, strerror(errno));
  pr_status status = PR_OK;
  for (struct dirent *e; !status && (errno = 0, e = readdir(dir));) {
    if (e->d_name[0] == '.') continue;
    if (!prL_join(path, sizeof path, directory, e->d_name))
      status = pr_fail(PR_ERR_IO, "%s/%s: the path is too long", directory, e->d_name);
    else if (e->d_type == DT_DIR || (e->d_type != DT_REG && prL_is_directory(path)))
      status = prL_names_add(folders, NULL, e->d_name);
    else
      status = prL_names_add(files, directory, e->d_name);
  }
  if (!status && errno) status = pr_fail(PR_ERR_IO, "%s: cannot be read: %s", directory, strerror(errno));
  closedir(dir);
  prL_names_sort(files, from);
  prL_names_sort(folders, 0);
  return status;
}

static pr_status check_endings(const prL_names *files, size_t from) {
  for (size_t i = from; i < files->count; i++) {
    const char *path = prL_name(files, i), *dot = strrchr(strrchr(path, '/'), '.');
    if (!dot ||
        (strcasecmp(dot, ".jpg") != 0 && strcasecmp(dot, ".jpeg") != 0 && strcasecmp(dot, ".png") != 0))
      return pr_fail(PR_ERR_UNSUPPORTED,
                     "%s: is not an image that can be read (.jpg, .jpeg, .png); convert it or move it away",
                     path);
  }
  return PR_OK;
}

/* All images at any depth: a folder's own first, then those of its folders. */
static pr_status collect(const char *directory, prL_names *files, int depth) {
  char path[PATH_MAX];
  size_t from = files->count;
  if (depth > DEEPEST)
    return pr_fail(PR_ERR_FORMAT, "%s: folders lie more than %d deep (a link in a circle?)", directory,
                   DEEPEST);
  prL_names folders = { 0 };
  pr_status status = list(directory, files, &folders);
  if (!status) status = check_endings(files, from);
  for (size_t i = 0; i < folders.count && !status; i++)
    status = prL_join(path, sizeof path, directory, prL_name(&folders, i))
                 ? collect(path, files, depth + 1)
                 : pr_fail(PR_ERR_IO, "%s: the path is too long", path);
  prL_names_free(&folders);
  return status;
}

/* The class folders of DIR/train or DIR/test. A file beside them belongs to no class. */
static pr_status list_classes(const char *directory, prL_names *classes) {
  prL_names files = { 0 };
  pr_status status = list(directory, &files, classes);
  if (!status && files.count)
    status = pr_fail(PR_ERR_FORMAT, "%s: lies in no class folder; images belong in %s/CLASS/",
                     prL_name(&files, 0), directory);
  if (!status && !classes->count) status = pr_fail(PR_ERR_FORMAT, "%s: has no class folders", directory);
  if (!status && classes->count > PRL_MAX_CLASSES)
    status = pr_fail(PR_ERR_FORMAT, "%s: has too many class folders", directory);
  prL_names_free(&files);
  return status;
}

static pr_status same_classes(const char *directory, const prL_names *train) {
  prL_names test = { 0 };
  pr_status status = list_classes(directory, &test);
  for (size_t i = 0, j = 0; !status && (i < train->count || j < test.count); i++, j++) {
    int order = i == train->count ? 1 : j == test.count ? -1 : strcmp(prL_name(train, i), prL_name(&test, j));
    if (order < 0)
      status = pr_fail(PR_ERR_FORMAT, "%s: has no folder for the class `%s`", directory, prL_name(train, i));
    if (order > 0)
      status =
          pr_fail(PR_ERR_FORMAT, "%s/%s: is no class of the training part", directory, prL_name(&test, j));
  }
  prL_names_free(&test);
  return status;
}

static pr_status add_class(pr_dataset *d, const char *directory, size_t label) {
  char path[PATH_MAX];
  size_t before = d->files.count;
  if (!prL_join(path, sizeof path, directory, prL_name(&d->class_names, label)))
    return pr_fail(PR_ERR_IO, "%s: the path is too long", path);
  PR_TRY(collect(path, &d->files, 0));
  if (d->files.count == before)
    return pr_fail(PR_ERR_FORMAT, "%s: the class has no images; fill the folder or remove it", path);
  PR_TRY(PRB_RESERVE(d->labels, d->label_capacity, d->files.count));
  for (size_t i = before; i < d->files.count; i++) d->labels[i] = (int32_t)label;
  return PR_OK;
}

/* Without resize all images must be as large as the first of the training part. */
static pr_status find_size(pr_dataset *d, const char *train) {
  char path[PATH_MAX];
  prL_names files = { 0 };
  prL_decoder decoder = { 0 };
  size_t size;
  if (!prL_join(path, sizeof path, train, prL_name(&d->class_names, 0)))
    return pr_fail(PR_ERR_IO, "%s: the path is too long", path);
  pr_status status = collect(path, &files, 0);
  if (!status && !files.count)
    status = pr_fail(PR_ERR_FORMAT, "%s: the class has no images; fill the folder or remove it", path);
  if (!status) status = prL_read_file(&decoder, prL_name(&files, 0), &size);
  if (!status)
    status = prL_image_size(&decoder, decoder.file, size, prL_name(&files, 0), &d->width, &d->height);
  if (!status && (d->width < 1 || d->height < 1 || d->width > PRL_MAX_SIDE || d->height > PRL_MAX_SIDE))
    status = pr_fail(PR_ERR_FORMAT, "%s: its header says %d x %d pixels", prL_name(&files, 0), d->width,
                     d->height);
  prL_decoder_close(&decoder);
  prL_names_free(&files);
  return status;
}

/* The memory is taken once; pages that are never written cost nothing. */
static pr_status make_cache(pr_dataset *d, size_t most) {
  size_t one = (size_t)d->width * (size_t)d->height * (size_t)d->channels;
  d->cached = d->count;
  if ((size_t)d->count > most / one) d->cached = (int64_t)(most / one);
  if (!d->cached) return PR_OK;
  d->states = PRB_ARRAY(_Atomic unsigned char, d->cached);
  if (!d->states) return d->cached = 0, PR_ERR_MEMORY;
  d->cache_bytes = one * (size_t)d->cached;
  d->cache = prB_aligned(d->cache_bytes);
  return d->cache ? PR_OK : PR_ERR_MEMORY;
}

pr_status prL_open_folder(pr_dataset *d, const char *path, pr_split part, const pr_dataset_options *options) {
  char train[PATH_MAX], own[PATH_MAX];
  if (!prL_join(train, sizeof train, path, "train") ||
      !prL_join(own, sizeof own, path, part == PR_TRAIN ? "train" : "test"))
    return pr_fail(PR_ERR_IO, "%s: the path is too long", path);
  if (!prL_is_directory(own) && (!prL_join(own, sizeof own, path, "val") || !prL_is_directory(own)))
    return pr_fail(PR_ERR_IO, "%s: has neither test/ nor val/ beside train/", path);
  PR_TRY(list_classes(train, &d->class_names));
  if (part == PR_TEST) PR_TRY(same_classes(own, &d->class_names));
  d->classes = (int)d->class_names.count;
  d->channels = 3, d->divisor = 255, d->by_class = true;
  d->resize = d->width = d->height = options->resize;
  if (!d->resize) PR_TRY(find_size(d, train));
  for (size_t c = 0; c < d->class_names.count; c++) PR_TRY(add_class(d, own, c));
  d->count = (int64_t)d->files.count;
  return make_cache(d, options->cache_bytes);
}
