/* data_files.h - a scratch folder, and small files of every kind that data sets come in, for the tests of
 * core/data. */
#ifndef PRUNELUA_TESTS_DATA_FILES_H
#define PRUNELUA_TESTS_DATA_FILES_H

#include "testing.h"

#include <ftw.h>
#include <hdf5.h>
#include <sys/stat.h>
#include <zlib.h>
#ifdef PRUNELUA_JPEG
#include <turbojpeg.h>
#endif
#ifdef PRUNELUA_PNG
#include <png.h>
#endif

static char files_root[256];

static inline int files_remove(const char *path, const struct stat *info, int type, struct FTW *walk) {
  (void)info, (void)type, (void)walk;
  return remove(path);
}

static inline int files_end(void **state) {
  (void)state;
  return *files_root ? nftw(files_root, files_remove, 16, FTW_DEPTH | FTW_PHYS) : 0;
}

static inline int files_begin(void **state) {
  (void)state;
  snprintf(files_root, sizeof files_root, "%s/prunelua-data-XXXXXX",
           getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
  return mkdtemp(files_root) ? 0 : 1;
}

/* A path in the scratch folder, its folders made. Valid until the eighth next call. */
static inline const char *files_path(const char *format, ...) {
  static char paths[8][512];
  static unsigned next;
  char *path = paths[next++ % 8];
  int n = snprintf(path, sizeof paths[0], "%s/", files_root);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(path + n, sizeof paths[0] - (size_t)n, format, arguments);
  va_end(arguments);
  for (char *slash = path + n; (slash = strchr(slash, '/')); *slash++ = '/') {
    *slash = 0;
    mkdir(path, 0755);
  }
  return path;
}

/* A new file each time: some file systems write a file that is cut and written again to disk at once, which
 * is slow. */
static inline void files_write(const char *path, const void *bytes, size_t size) {
  remove(path);
  FILE *f = fopen(path, "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(bytes, 1, size, f), size);
  assert_int_equal(fclose(f), 0);
}

static inline void files_write_gz(const char *path, const void *bytes, size_t size) {
  gzFile f = gzopen(path, "wb");
  assert_non_null(f);
  assert_int_equal(gzwrite(f, bytes, (unsigned)size), (int)size);
  assert_int_equal(gzclose(f), Z_OK);
}

/* malloc'ed */
static inline uint8_t *files_read(const char *path, size_t *size) {
  FILE *f = fopen(path, "rb");
  assert_non_null(f);
  fseek(f, 0, SEEK_END);
  *size = (size_t)ftell(f);
  rewind(f);
  uint8_t *bytes = malloc(*size + 1);
  assert_int_equal(fread(bytes, 1, *size, f), *size);
  fclose(f);
  return bytes;
}

/* A repeatable byte. */
static inline uint8_t files_byte(uint32_t i) {
  i = (i ^ (i >> 15)) * 2246822519u;
  i = (i ^ (i >> 13)) * 3266489917u;
  return (uint8_t)(i >> 16);
}

/* A smooth picture, so that JPEG keeps it nearly as it is. */
static inline void files_picture(uint8_t *pixels, int width, int height, int channels, int phase) {
  for (int y = 0; y < height; y++)
    for (int x = 0; x < width; x++)
      for (int c = 0; c < channels; c++)
        *pixels++ = (uint8_t)(40 + (x * 5 + y * 3 + c * 20 + phase * 11) % 160);
}

#ifdef PRUNELUA_JPEG
static inline void files_jpeg(const char *path, int width, int height, int phase) {
  uint8_t *pixels = malloc((size_t)width * (size_t)height * 3), *jpeg = NULL;
  unsigned long size = 0;
  files_picture(pixels, width, height, 3, phase);
  tjhandle handle = tjInitCompress();
  assert_int_equal(tjCompress2(handle, pixels, width, 0, height, TJPF_RGB, &jpeg, &size, TJSAMP_444, 95, 0),
                   0);
  files_write(path, jpeg, size);
  tjFree(jpeg);
  tjDestroy(handle);
  free(pixels);
}
#endif

#ifdef PRUNELUA_PNG
static inline void files_png(const char *path, int width, int height, int channels, int phase) {
  uint8_t *pixels = malloc((size_t)width * (size_t)height * (size_t)channels);
  files_picture(pixels, width, height, channels, phase);
  png_image image = { .version = PNG_IMAGE_VERSION,
                      .width = (png_uint_32)width,
                      .height = (png_uint_32)height,
                      .format = channels == 1   ? PNG_FORMAT_GRAY
                                : channels == 3 ? PNG_FORMAT_RGB
                                                : PNG_FORMAT_RGBA };
  assert_int_equal(png_image_write_to_file(&image, path, 0, pixels, 0, NULL), 1);
  free(pixels);
}
#endif

/* --- HDF5 --- */

static inline void files_hdf5_put(hid_t file, const char *name, hid_t type, int rank, const hsize_t *shape,
                                  const void *data, bool packed) {
  hid_t space = H5Screate_simple(rank, shape, NULL), properties = H5Pcreate(H5P_DATASET_CREATE);
  if (packed) {
    hsize_t chunk[8];
    for (int i = 0; i < rank; i++) chunk[i] = shape[i] > 3 ? 3 : shape[i];
    H5Pset_chunk(properties, rank, chunk);
    H5Pset_shuffle(properties);
    H5Pset_deflate(properties, 6);
  }
  hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, properties, H5P_DEFAULT);
  assert_true(set >= 0);
  if (data) assert_true(H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
  H5Dclose(set), H5Sclose(space), H5Pclose(properties);
}

/* `count` images of height x width (x channels where it is not 0) and labels i % classes, in the datasets of
 * these names. */
static inline void files_hdf5_part(hid_t file, const char *images, const char *labels, int count, int height,
                                   int width, int channels, int classes, bool packed) {
  hsize_t shape[4] = { (hsize_t)count, (hsize_t)height, (hsize_t)width, (hsize_t)channels };
  size_t size = (size_t)count * (size_t)height * (size_t)width * (size_t)(channels ? channels : 1);
  uint8_t *bytes = malloc(size);
  int64_t *label = malloc((size_t)count * sizeof *label);
  for (size_t i = 0; i < size; i++) bytes[i] = files_byte((uint32_t)i);
  for (int i = 0; i < count; i++) label[i] = i % classes;
  files_hdf5_put(file, images, H5T_NATIVE_UINT8, channels ? 4 : 3, shape, bytes, packed);
  files_hdf5_put(file, labels, H5T_NATIVE_INT64, 1, shape, label, false);
  free(bytes), free(label);
}

static inline hid_t files_hdf5_new(const char *path) {
  H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
  hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  assert_true(file >= 0);
  return file;
}

/* --- MNIST and CIFAR-10 --- */

static inline size_t files_idx(uint8_t *out, int rank, uint32_t a, uint32_t b, uint32_t c) {
  const uint32_t sizes[3] = { a, b, c };
  size_t n = 4, bytes = 1;
  memcpy(out, (uint8_t[]){ 0, 0, 8, (uint8_t)rank }, 4);
  for (int i = 0; i < rank; i++) {
    for (int shift = 24; shift >= 0; shift -= 8) out[n++] = (uint8_t)(sizes[i] >> shift);
    bytes *= sizes[i];
  }
  for (size_t i = 0; i < bytes; i++) out[n++] = rank == 1 ? (uint8_t)(i % 4) : files_byte((uint32_t)i);
  return n;
}

/* Both parts of a small MNIST: 12 and 5 images of 6 x 7, labels 0 to 3 in turn. */
static inline void files_mnist(const char *folder, bool packed) {
  static uint8_t bytes[4096];
  for (int test = 0; test < 2; test++)
    for (int labels = 0; labels < 2; labels++) {
      size_t size = files_idx(bytes, labels ? 1 : 3, test ? 5 : 12, 6, 7);
      const char *path = files_path("%s/%s-%s-ubyte%s", folder, test ? "t10k" : "train",
                                    labels ? "labels-idx1" : "images-idx3", packed ? ".gz" : "");
      packed ? files_write_gz(path, bytes, size) : files_write(path, bytes, size);
    }
}

static inline void files_cifar(const char *folder, const char *name, int records) {
  uint8_t *bytes = malloc((size_t)records * 3073);
  for (int i = 0; i < records * 3073; i++)
    bytes[i] = i % 3073 ? files_byte((uint32_t)i) : (uint8_t)(i / 3073 % 10);
  files_write(files_path("%s/%s", folder, name), bytes, (size_t)records * 3073);
  free(bytes);
}

#endif
