/* source_hdf5.c - data sets in HDF5 files, and the digits that the library carries. */
#include "base/memory.h"
#include "data/digits.h"
#include "data/source.h"
#include "io/hdf5.h"

#include <string.h>

static pr_status image_shape(const pr_hdf5_array *images, const char *path, const char *name, int shape[3]) {
  bool sides = (images->rank == 3 || images->rank == 4) && images->shape[1] <= PRL_MAX_SIDE &&
               images->shape[2] <= PRL_MAX_SIDE;
  bool channels = images->rank != 4 || (images->shape[3] >= 1 && images->shape[3] <= 4);
  if (images->type != PR_HDF5_U8)
    return pr_fail(PR_ERR_FORMAT, "%s: `%s` must hold bytes (uint8), it holds %s", path, name,
                   pr_hdf5_type_name(images->type));
  if (!sides || !channels)
    return pr_fail(PR_ERR_FORMAT,
                   "%s: `%s` must be N x H x W or N x H x W x C with 1 to 4 channels, it has %d axes%s", path,
                   name, images->rank, images->rank == 3 || images->rank == 4 ? " of other sizes" : "");
  shape[0] = (int)images->shape[1], shape[1] = (int)images->shape[2];
  shape[2] = images->rank == 4 ? (int)images->shape[3] : 1;
  return PR_OK;
}

static int64_t integer_at(const pr_hdf5_array *a, int64_t i) {
  switch (a->type) {
  case PR_HDF5_U8: return ((const uint8_t *)a->data)[i];
  case PR_HDF5_I8: return ((const int8_t *)a->data)[i];
  case PR_HDF5_U16: return ((const uint16_t *)a->data)[i];
  case PR_HDF5_I16: return ((const int16_t *)a->data)[i];
  case PR_HDF5_U32: return ((const uint32_t *)a->data)[i];
  case PR_HDF5_I32: return ((const int32_t *)a->data)[i];
  default: return ((const int64_t *)a->data)[i]; /* beyond int64 turns negative, which is refused */
  }
}

static pr_status check_labels(const pr_hdf5_array *labels, const char *path, const char *name,
                              int64_t count) {
  if (labels->type > PR_HDF5_I64)
    return pr_fail(PR_ERR_FORMAT, "%s: `%s` must hold integers, it holds %s", path, name,
                   pr_hdf5_type_name(labels->type));
  if (labels->rank != 1 || labels->shape[0] != count)
    return pr_fail(
        PR_ERR_FORMAT,
        "%s: `%s` must be one axis of %lld labels, one per image; it has %d axes and %lld elements", path,
        name, (long long)count, labels->rank, (long long)labels->count);
  for (int64_t i = 0; i < count; i++) {
    int64_t label = integer_at(labels, i);
    if (label < 0 || label >= PRL_MAX_CLASSES)
      return pr_fail(PR_ERR_FORMAT, "%s: `%s`: the label of image %lld is %lld; labels count from 0", path,
                     name, PR_INDEX(i), (long long)label);
  }
  return PR_OK;
}

static int classes_of(const pr_hdf5_array *labels) {
  int64_t most = -1;
  for (int64_t i = 0; i < labels->count; i++)
    if (integer_at(labels, i) > most) most = integer_at(labels, i);
  return (int)most + 1;
}

/* Rows first .. first + count - 1 become the data set. Where that is all of them, the array's memory moves
 * over. */
static pr_status take_rows(pr_dataset *d, const char *path, pr_hdf5_array *images,
                           const pr_hdf5_array *labels, int64_t first, int64_t count, const int shape[3]) {
  size_t one = (size_t)shape[0] * (size_t)shape[1] * (size_t)shape[2];
  bool whole = count == images->shape[0] && images->data;
  PR_TRY(prL_allocate(d, path, whole ? 1 : count, shape[0], shape[1], shape[2]));
  if (whole) {
    prB_aligned_free(d->block, d->block_bytes);
    d->block = images->data, d->block_bytes = images->bytes, d->pixels = images->data;
    *images = (pr_hdf5_array){ 0 };
    d->count = count;
    PR_TRY(PRB_RESERVE(d->labels, d->label_capacity, (size_t)count));
  } else {
    memcpy(d->block, (const uint8_t *)images->data + (size_t)first * one, (size_t)count * one);
  }
  for (int64_t i = 0; i < count; i++) d->labels[i] = (int32_t)integer_at(labels, first + i);
  return PR_OK;
}

enum { IMAGES, LABELS, TEST_IMAGES, TEST_LABELS, ARRAYS };
static const char *const names[ARRAYS] = { "images", "labels", "test_images", "test_labels" };

/* arrays: images and labels; or, for a test part of its own, also test_images and test_labels (then images is
 * not needed). */
static pr_status build(pr_dataset *d, const char *path, pr_split part, bool own_test, pr_hdf5_array *arrays) {
  int from = part == PR_TEST && own_test ? TEST_IMAGES : IMAGES, shape[3] = { 0 };
  pr_hdf5_array *images = &arrays[from], *labels = &arrays[from + 1];
  PR_TRY(image_shape(images, path, names[from], shape));
  int64_t all = images->shape[0], cut = own_test ? all : all * 4 / 5;
  PR_TRY(check_labels(labels, path, names[from + 1], all));
  if (from == TEST_IMAGES) PR_TRY(check_labels(&arrays[LABELS], path, names[LABELS], arrays[LABELS].count));
  int64_t first = part == PR_TEST && !own_test ? cut : 0, end = part == PR_TEST ? all : cut;
  PR_TRY(take_rows(d, path, images, labels, first, end - first, shape));
  PR_TRY(prL_number_classes(
      d, classes_of(&arrays[LABELS]))); /* the training labels say how many classes there are */
  return prL_check_labels(d, path);
}

/* One look at the file is enough for the training part. Whether it has a test part of its own is known after
 * that look, so the images of a test part take a second one. */
pr_status prL_open_hdf5(pr_dataset *d, const char *path, pr_split part) {
  const pr_hdf5_wanted wanted[ARRAYS] = { { names[IMAGES], .optional = part == PR_TEST,
                                            .head_only = part == PR_TEST },
                                          { .name = names[LABELS] },
                                          { names[TEST_IMAGES], .optional = true, .head_only = true },
                                          { names[TEST_LABELS], .optional = true } };
  pr_hdf5_array arrays[ARRAYS];
  PR_TRY(pr_hdf5_read_foreign(path, wanted, ARRAYS, arrays));
  bool own_test = arrays[TEST_LABELS].found;
  pr_status status = PR_OK;
  if (own_test != arrays[TEST_IMAGES].found)
    status =
        pr_fail(PR_ERR_FORMAT, "%s: has `%s` but no `%s`", path, names[own_test ? TEST_LABELS : TEST_IMAGES],
                names[own_test ? TEST_IMAGES : TEST_LABELS]);
  if (!status && part == PR_TEST) {
    int from = own_test ? TEST_IMAGES : IMAGES;
    status = pr_hdf5_read_foreign(path, &(pr_hdf5_wanted){ .name = names[from] }, 1, &arrays[from]);
  }
  if (!status) status = build(d, path, part, own_test, arrays);
  for (int i = 0; i < ARRAYS; i++) pr_hdf5_array_free(&arrays[i]);
  return status;
}

pr_status prL_open_digits(pr_dataset *d, pr_split part) {
  static const char name[] = "embedded digits";
  pr_hdf5_array arrays[ARRAYS] = { 0 };
  pr_hdf5 *file;
  PR_TRY(pr_hdf5_open_bytes(prL_digits, prL_digits_size, name, &file));
  pr_status status = pr_hdf5_read(file, "images", &arrays[IMAGES]);
  if (!status) status = pr_hdf5_read(file, "labels", &arrays[LABELS]);
  if (!status) status = build(d, name, part, false, arrays);
  pr_hdf5_close(file);
  for (int i = 0; i < ARRAYS; i++) pr_hdf5_array_free(&arrays[i]);
  d->divisor = 16; /* the bytes are 0 to 16 */
  return status;
}
