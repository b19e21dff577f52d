/* test_data.c - data sets: what every kind of source yields, and what is refused with which words. */
#define _GNU_SOURCE
#include "data_files.h"

#include "base/random.h"
#include "data/dataset.h"

static pr_dataset *open_part(const char *path, pr_split part) {
  pr_dataset *d;
  assert_ok(pr_dataset_open(path, part, NULL, &d));
  return d;
}

static void refused(const char *path, pr_split part, pr_status status, const char *text) {
  pr_dataset *d = (pr_dataset *)files_root;
  assert_fails(pr_dataset_open(path, part, NULL, &d), status, text);
  assert_null(d);
}

static void assert_shape(const pr_dataset *d, int64_t count, int channels, int height, int width,
                         int classes) {
  int64_t shape[3];
  pr_dataset_shape(d, shape);
  assert_int_equal(pr_dataset_size(d), count);
  assert_int_equal(shape[0], channels);
  assert_int_equal(shape[1], height);
  assert_int_equal(shape[2], width);
  assert_int_equal(pr_dataset_classes(d), classes);
}

/* --- the digits --- */

static void digits_need_no_file(void **state) {
  (void)state;
  pr_dataset *train, *test;
  assert_ok(pr_dataset_digits(PR_TRAIN, &train));
  assert_ok(pr_dataset_digits(PR_TEST, &test));
  assert_shape(train, 1437, 1, 8, 8, 10);
  assert_shape(test, 360, 1, 8, 8, 10);
  assert_string_equal(pr_dataset_class_name(train, 7), "7");
  assert_true(pr_dataset_divisor(train) == 16 && pr_dataset_divisor(test) == 16);

  static const uint8_t first_row[] = { 0, 0, 5, 13, 9, 1, 0, 0 };
  prL_decoder decoder = { 0 };
  const uint8_t *pixels;
  assert_ok(prL_dataset_image(train, &decoder, 0, &pixels));
  assert_memory_equal(pixels, first_row, 8);
  for (int i = 0; i < 10; i++) assert_int_equal(pr_dataset_label(train, i), i);
  assert_int_equal(pr_dataset_label(test, 359), 8);
  pr_dataset_release(train);
  pr_dataset_release(test);
}

/* The same digits, read as a foreign file, are cut in the same place. */
static void digits_file_is_cut_alike(void **state) {
  (void)state;
  char path[512];
  snprintf(path, sizeof path, "%s/examples/digits.h5",
           getenv("PRUNELUA_SOURCE") ? getenv("PRUNELUA_SOURCE") : ".");
  for (int part = 0; part < 2; part++) {
    pr_dataset *own, *file = open_part(path, part);
    assert_ok(pr_dataset_digits(part, &own));
    assert_int_equal(pr_dataset_size(own), pr_dataset_size(file));
    assert_true(pr_dataset_divisor(file) == 255);
    prL_decoder decoder = { 0 };
    for (int64_t i = 0; i < pr_dataset_size(own); i++) {
      const uint8_t *a, *b;
      assert_ok(prL_dataset_image(own, &decoder, i, &a));
      assert_ok(prL_dataset_image(file, &decoder, i, &b));
      assert_memory_equal(a, b, 64);
      assert_int_equal(pr_dataset_label(own, i), pr_dataset_label(file, i));
    }
    pr_dataset_release(own);
    pr_dataset_release(file);
  }
}

/* --- HDF5 --- */

static void hdf5_with_test_part(void **state) {
  (void)state;
  const char *path = files_path("with_test.h5");
  hid_t file = files_hdf5_new(path);
  files_hdf5_part(file, "images", "labels", 20, 5, 4, 3, 7, true);
  files_hdf5_part(file, "test_images", "test_labels", 6, 5, 4, 3, 3, false);
  H5Fclose(file);
  pr_dataset *train = open_part(path, PR_TRAIN), *test = open_part(path, PR_TEST);
  assert_shape(train, 20, 3, 5, 4, 7);
  assert_shape(test, 6, 3, 5, 4, 7); /* classes are those of the training part */
  prL_decoder decoder = { 0 };
  const uint8_t *pixels;
  assert_ok(prL_dataset_image(train, &decoder, 19, &pixels));
  for (uint32_t i = 0; i < 60; i++) assert_int_equal(pixels[i], files_byte(19 * 60 + i));
  assert_int_equal(pr_dataset_label(train, 19), 19 % 7);
  pr_dataset_release(train);
  pr_dataset_release(test);
}

static void hdf5_last_fifth_is_the_test_part(void **state) {
  (void)state;
  const char *path = files_path("without_test.h5");
  hid_t file = files_hdf5_new(path);
  files_hdf5_part(file, "images", "labels", 13, 6, 6, 0, 4, false);
  H5Fclose(file);
  pr_dataset *train = open_part(path, PR_TRAIN), *test = open_part(path, PR_TEST);
  assert_shape(train, 10, 1, 6, 6, 4);
  assert_shape(test, 3, 1, 6, 6, 4);
  prL_decoder decoder = { 0 };
  const uint8_t *pixels;
  assert_ok(prL_dataset_image(test, &decoder, 0, &pixels));
  for (uint32_t i = 0; i < 36; i++) assert_int_equal(pixels[i], files_byte(10 * 36 + i));
  assert_int_equal(pr_dataset_label(test, 0), 10 % 4);
  pr_dataset_release(train);
  pr_dataset_release(test);
}

/* A file with these labels for 4 images of 2 x 2, and test labels where `test` is given. */
static const char *labelled(const int32_t labels[4], const int32_t *test) {
  const char *path = files_path("labelled.h5");
  const hsize_t shape[3] = { 4, 2, 2 };
  const uint8_t bytes[16] = { 1 };
  hid_t file = files_hdf5_new(path);
  files_hdf5_put(file, "images", H5T_NATIVE_UINT8, 3, shape, bytes, false);
  files_hdf5_put(file, "labels", H5T_NATIVE_INT32, 1, shape, labels, false);
  if (test) {
    files_hdf5_put(file, "test_images", H5T_NATIVE_UINT8, 3, shape, bytes, false);
    files_hdf5_put(file, "test_labels", H5T_NATIVE_INT32, 1, shape, test, false);
  }
  H5Fclose(file);
  return path;
}

static void hdf5_labels_out_of_range(void **state) {
  (void)state;
  const int32_t good[4] = { 0, 1, 2, 1 }, negative[4] = { 0, -1, 2, 1 }, high[4] = { 0, 1, 1, 3 },
                huge[4] = { 0, 1, 1, 1 << 30 };
  refused(labelled(negative, NULL), PR_TRAIN, PR_ERR_FORMAT, "label of image 1 is -1");
  refused(labelled(huge, NULL), PR_TRAIN, PR_ERR_FORMAT, "label of image 3 is 1073741824");
  refused(labelled(good, high), PR_TEST, PR_ERR_FORMAT,
          "label of image 3 is 3; with 3 classes labels are 0 to 2");
  pr_dataset *d = open_part(labelled(good, high), PR_TRAIN);
  assert_shape(d, 4, 1, 2, 2, 3);
  pr_dataset_release(d);
}

static void hdf5_with_wrong_content(void **state) {
  (void)state;
  const hsize_t shape[5] = { 5, 3, 3, 9, 2 };
  float values[5 * 3 * 3] = { 0 };
  const char *path = files_path("wrong.h5");
  hid_t file = files_hdf5_new(path);
  files_hdf5_part(file, "images", "labels", 5, 3, 3, 0, 2, false);
  files_hdf5_part(file, "test_images", "unused", 5, 3, 3, 0, 2, false);
  H5Fclose(file);
  refused(path, PR_TRAIN, PR_ERR_FORMAT, "has `test_images` but no `test_labels`");

  file = files_hdf5_new(path);
  files_hdf5_put(file, "images", H5T_NATIVE_FLOAT, 3, shape, values, false);
  files_hdf5_put(file, "labels", H5T_NATIVE_FLOAT, 1, shape, values, false);
  H5Fclose(file);
  refused(path, PR_TRAIN, PR_ERR_FORMAT, "`images` must hold bytes (uint8), it holds float32");

  file = files_hdf5_new(path);
  files_hdf5_put(file, "images", H5T_NATIVE_UINT8, 3, shape, values, false);
  files_hdf5_put(file, "labels", H5T_NATIVE_FLOAT, 1, shape, values, false);
  H5Fclose(file);
  refused(path, PR_TRAIN, PR_ERR_FORMAT, "`labels` must hold integers, it holds float32");

  file = files_hdf5_new(path);
  files_hdf5_put(file, "images", H5T_NATIVE_UINT8, 3, shape, values, false);
  files_hdf5_put(file, "labels", H5T_NATIVE_UINT8, 1, shape + 1, values, false);
  H5Fclose(file);
  refused(path, PR_TRAIN, PR_ERR_FORMAT, "`labels` must be one axis of 5 labels");

  file = files_hdf5_new(path);
  files_hdf5_put(file, "images", H5T_NATIVE_UINT8, 4, shape, NULL, false);
  files_hdf5_put(file, "labels", H5T_NATIVE_UINT8, 1, shape, values, false);
  H5Fclose(file);
  refused(path, PR_TRAIN, PR_ERR_FORMAT, "1 to 4 channels");

  file = files_hdf5_new(path);
  files_hdf5_put(file, "labels", H5T_NATIVE_UINT8, 1, shape, values, false);
  H5Fclose(file);
  refused(path, PR_TRAIN, PR_ERR_FORMAT, "there is no dataset `images`");
}

/* --- MNIST and CIFAR-10 --- */

static void mnist_plain_and_packed(void **state) {
  (void)state;
  for (int packed = 0; packed < 2; packed++) {
    files_mnist(packed ? "mnist_gz" : "mnist", packed);
    const char *folder = files_path(packed ? "mnist_gz" : "mnist");
    pr_dataset *train = open_part(folder, PR_TRAIN), *test = open_part(folder, PR_TEST);
    assert_shape(train, 12, 1, 6, 7, 4);
    assert_shape(test, 5, 1, 6, 7, 4);
    prL_decoder decoder = { 0 };
    const uint8_t *pixels;
    assert_ok(prL_dataset_image(train, &decoder, 11, &pixels));
    for (uint32_t i = 0; i < 42; i++) assert_int_equal(pixels[i], files_byte(11 * 42 + i));
    for (int i = 0; i < 12; i++) assert_int_equal(pr_dataset_label(train, i), i % 4);
    pr_dataset_release(train);
    pr_dataset_release(test);
  }
}

static void mnist_damage_is_named(void **state) {
  (void)state;
  uint8_t bytes[4096];
  files_mnist("broken_mnist", false);
  const char *folder = files_path("broken_mnist"),
             *images = files_path("broken_mnist/train-images-idx3-ubyte");
  size_t size = files_idx(bytes, 3, 12, 6, 7);
  files_write(images, bytes, size - 1);
  refused(folder, PR_TRAIN, PR_ERR_FORMAT, "train-images-idx3-ubyte: is damaged: it ends early");
  bytes[size] = 0;
  files_write(images, bytes, size + 1);
  refused(folder, PR_TRAIN, PR_ERR_FORMAT, "more bytes than its header says");
  bytes[4] = 0x7f;
  files_write(images, bytes, size);
  refused(folder, PR_TRAIN, PR_ERR_FORMAT, "its header claims");
  bytes[2] = 0x0d;
  files_write(images, bytes, size);
  refused(folder, PR_TRAIN, PR_ERR_FORMAT, "is not IDX with 3 axes of bytes: it begins 00 00 0d 03");
  files_write(images, bytes, files_idx(bytes, 3, 11, 6, 7));
  refused(folder, PR_TRAIN, PR_ERR_FORMAT, "holds 12 labels for 11 images");
  remove(images);
  refused(folder, PR_TRAIN, PR_ERR_IO, "there is no train-images-idx3-ubyte[.gz]");

  files_mnist("broken_gz", true);
  const char *packed = files_path("broken_gz/t10k-images-idx3-ubyte.gz");
  uint8_t *gz = files_read(packed, &size);
  gz[size - 6] ^= 1; /* in the checksum */
  files_write(packed, gz, size);
  refused(files_path("broken_gz"), PR_TEST, PR_ERR_FORMAT, "t10k-images-idx3-ubyte.gz: is damaged");
  files_write(packed, gz, size / 2);
  refused(files_path("broken_gz"), PR_TEST, PR_ERR_FORMAT,
          "t10k-images-idx3-ubyte.gz: is damaged: it ends early");
  free(gz);
}

static void mnist_test_label_beyond_the_training_labels(void **state) {
  (void)state;
  uint8_t bytes[64];
  files_mnist("mnist_label", false);
  size_t size = files_idx(bytes, 1, 5, 0, 0);
  bytes[size - 1] = 4;
  files_write(files_path("mnist_label/t10k-labels-idx1-ubyte"), bytes, size);
  refused(files_path("mnist_label"), PR_TEST, PR_ERR_FORMAT, "label of image 4 is 4; with 4 classes");
}

static void cifar_batches_are_joined(void **state) {
  (void)state;
  files_cifar("cifar", "data_batch_1.bin", 3);
  files_cifar("cifar", "data_batch_4.bin", 2); /* some may be missing */
  files_cifar("cifar", "test_batch.bin", 4);
  pr_dataset *train = open_part(files_path("cifar"), PR_TRAIN),
             *test = open_part(files_path("cifar"), PR_TEST);
  assert_shape(train, 5, 3, 32, 32, 10);
  assert_shape(test, 4, 3, 32, 32, 10);
  assert_string_equal(pr_dataset_class_name(train, 9), "truck");
  prL_decoder decoder = { 0 };
  const uint8_t *pixels;
  assert_ok(prL_dataset_image(train, &decoder, 4, &pixels)); /* record 1 of batch 4: planes become pixels */
  for (uint32_t p = 0; p < 1024; p++)
    for (uint32_t c = 0; c < 3; c++) assert_int_equal(pixels[p * 3 + c], files_byte(3073 + 1 + c * 1024 + p));
  assert_int_equal(pr_dataset_label(train, 2), 2);
  assert_int_equal(pr_dataset_label(train, 4), 1);
  pr_dataset_release(train);
  pr_dataset_release(test);
}

static void cifar_sizes_and_labels_are_checked(void **state) {
  (void)state;
  size_t size;
  files_cifar("bad_cifar", "data_batch_1.bin", 3);
  const char *folder = files_path("bad_cifar"), *batch = files_path("bad_cifar/data_batch_1.bin");
  refused(folder, PR_TEST, PR_ERR_IO, "test_batch.bin: cannot be opened");
  uint8_t *bytes = files_read(batch, &size);
  files_write(batch, bytes, size - 1);
  refused(folder, PR_TRAIN, PR_ERR_FORMAT, "data_batch_1.bin: has 9218 bytes, not a multiple of 3073");
  bytes[2 * 3073] = 10;
  files_write(batch, bytes, size);
  refused(folder, PR_TRAIN, PR_ERR_FORMAT, "the label of image 2 is 10");
  files_write(batch, bytes, 0);
  refused(folder, PR_TRAIN, PR_ERR_FORMAT, "has 0 bytes");
  free(bytes);
}

/* --- no data set at all --- */

static void other_paths_are_explained(void **state) {
  (void)state;
  files_write(files_path("notes.txt"), "hello", 5);
  refused(files_path("absent"), PR_TRAIN, PR_ERR_IO, "absent: cannot be opened: No such file");
  refused(files_path("notes.txt"), PR_TRAIN, PR_ERR_FORMAT, "notes.txt: is not an HDF5 file. A data set is");
  files_path("nothing/x");
  refused(files_path("nothing"), PR_TRAIN, PR_ERR_FORMAT, "no known data set lies in this folder");
  files_mnist("mnist_r", false);
  pr_dataset *d;
  assert_fails(pr_dataset_open(files_path("mnist_r"), PR_TRAIN, &(pr_dataset_options){ .resize = 8 }, &d),
               PR_ERR_ARGUMENT, "resize = 8 is for folders of images");
}

static void every_allocation_may_fail(void **state) {
  (void)state;
  files_mnist("mnist_memory", false);
  const char *folder = files_path("mnist_memory");
  pr_dataset *d = NULL;
  size_t n = 0;
  for (bool open = false; !open && n < 100;) {
    pr_memory_fail_after(++n, true);
    open = !pr_dataset_open(folder, PR_TRAIN, NULL, &d);
    pr_memory_fail_after(0, false);
    if (!open) assert_int_equal(pr_error_last()->code, PR_ERR_MEMORY);
  }
  assert_in_range(n, 6, 99);
  pr_dataset_release(d);
}

/* --- mutations: an error or sound data, never a crash --- */

/* Change a few bytes, or cut the file off. */
static size_t mutate(uint8_t *bytes, size_t size, uint64_t trial) {
  uint32_t r[4];
  prB_philox(2024, 9, trial, 0, r);
  if (r[0] % 5 == 0) size = r[1] % size;
  for (uint32_t i = 0; size && i <= r[2] % 4; i++) {
    uint32_t w[4];
    prB_philox(2024, 9, trial, 1 + i, w);
    bytes[w[0] % size] = w[1] & 1 ? (uint8_t)w[2] : (uint8_t)(bytes[w[0] % size] ^ (1 << w[2] % 8));
  }
  return size;
}

/* Open what lies at `folder` after each mutation of `file`, and look at every sample. How many could be
 * opened. */
static int trials(const char *folder, const char *file, int count) {
  size_t size;
  uint8_t *sound = files_read(file, &size), *bytes = malloc(size);
  prL_decoder decoder = { 0 };
  int opened = 0;
  for (int t = 0; t < count; t++) {
    memcpy(bytes, sound, size);
    files_write(file, bytes, mutate(bytes, size, (uint64_t)t));
    pr_dataset *d;
    if (pr_dataset_open(folder, PR_TRAIN, NULL, &d)) continue;
    opened++;
    int64_t shape[3], sum = 0;
    pr_dataset_shape(d, shape);
    for (int64_t i = 0; i < pr_dataset_size(d) && i < 50; i++) {
      const uint8_t *pixels;
      assert_in_range(pr_dataset_label(d, i), 0, pr_dataset_classes(d) - 1);
      if (prL_dataset_image(d, &decoder, i, &pixels)) continue;
      for (int64_t k = 0; k < shape[0] * shape[1] * shape[2]; k++) sum += pixels[k];
    }
    assert_true(sum >= 0);
    pr_dataset_release(d);
  }
  prL_decoder_close(&decoder);
  files_write(file, sound, size);
  free(sound), free(bytes);
  return opened;
}

static void mutated_files(void **state) {
  (void)state;
  files_mnist("mutated_mnist", false);
  assert_in_range(
      trials(files_path("mutated_mnist"), files_path("mutated_mnist/train-images-idx3-ubyte"), 1000), 100,
      999);
  files_mnist("mutated_gz", true);
  assert_in_range(trials(files_path("mutated_gz"), files_path("mutated_gz/train-images-idx3-ubyte.gz"), 1000),
                  0, 999);
  files_cifar("mutated_cifar", "data_batch_1.bin", 2);
  assert_in_range(trials(files_path("mutated_cifar"), files_path("mutated_cifar/data_batch_1.bin"), 1000),
                  100, 999);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { HDF5_TRIALS = 60 }; /* each takes a process, whose start is slow under a sanitizer */
#else
enum { HDF5_TRIALS = 1000 };
#endif

static void mutated_hdf5(void **state) {
  (void)state;
  const char *path = files_path("mutated.h5");
  hid_t file = files_hdf5_new(path);
  files_hdf5_part(file, "images", "labels", 5, 3, 3, 3, 2, true);
  H5Fclose(file);
  assert_in_range(trials(path, path, HDF5_TRIALS), HDF5_TRIALS / 10, HDF5_TRIALS - 1);
}

#ifdef PRUNELUA_JPEG
static void mutated_jpeg(void **state) {
  (void)state;
  for (int c = 0; c < 2; c++)
    for (int i = 0; i < 2; i++) files_jpeg(files_path("mutated_jpeg/train/%d/%d.jpg", c, i), 8, 8, c);
  assert_in_range(trials(files_path("mutated_jpeg"), files_path("mutated_jpeg/train/0/0.jpg"), 1000), 100,
                  999);
}
#endif

#ifdef PRUNELUA_PNG
static void mutated_png(void **state) {
  (void)state;
  files_png(files_path("mutated_png/train/a/0.png"), 8, 8, 3, 1);
  assert_in_range(trials(files_path("mutated_png"), files_path("mutated_png/train/a/0.png"), 1000), 0, 999);
}
#endif

int main(void) {
  const struct CMUnitTest tests[] = {
    memory_test(digits_need_no_file),
    memory_test(digits_file_is_cut_alike),
    memory_test(hdf5_with_test_part),
    memory_test(hdf5_last_fifth_is_the_test_part),
    memory_test(hdf5_labels_out_of_range),
    memory_test(hdf5_with_wrong_content),
    memory_test(mnist_plain_and_packed),
    memory_test(mnist_damage_is_named),
    memory_test(mnist_test_label_beyond_the_training_labels),
    memory_test(cifar_batches_are_joined),
    memory_test(cifar_sizes_and_labels_are_checked),
    memory_test(other_paths_are_explained),
    memory_test(every_allocation_may_fail),
    memory_test(mutated_files),
    memory_test(mutated_hdf5),
#ifdef PRUNELUA_JPEG
    memory_test(mutated_jpeg),
#endif
#ifdef PRUNELUA_PNG
    memory_test(mutated_png),
#endif
  };
  return cmocka_run_group_tests(tests, files_begin, files_end);
}
