/* test_images.c - decoding of JPEG and PNG, scaling, and folders of images. */
#define _GNU_SOURCE
#include "data_files.h"

#include "data/dataset.h"

/* --- scaling needs no decoder --- */

/* A constant picture stays constant, whatever the sizes: the weights of every output pixel sum to one. */
static void scaling_keeps_constants(void **state) {
  (void)state;
  static const int sizes[][2] = { { 7, 31 }, { 64, 33 }, { 32, 32 }, { 300, 200 }, { 1, 9 } };
  prL_decoder decoder = { 0 };
  uint8_t *pixels = malloc(300 * 200 * 3), out[32 * 32 * 3];
  memset(pixels, 201, 300 * 200 * 3);
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    prL_image image = { sizes[i][0], sizes[i][1], 3, pixels };
    memset(out, 0, sizeof out);
    assert_ok(prL_image_fit(&decoder, &image, 32, out));
    for (size_t k = 0; k < sizeof out; k++) assert_int_equal(out[k], 201);
  }
  free(pixels);
  prL_decoder_close(&decoder);
}

/* At the wanted size already: the picture itself, cut in the centre. */
static void scaling_by_one_is_a_centre_crop(void **state) {
  (void)state;
  prL_decoder decoder = { 0 };
  uint8_t pixels[8 * 13 * 3], out[8 * 8 * 3];
  files_picture(pixels, 13, 8, 3, 2);
  assert_ok(prL_image_fit(&decoder, &(prL_image){ 13, 8, 3, pixels }, 8, out));
  for (int y = 0; y < 8; y++) /* (13 - 8) / 2 = 2.5 goes to the even 2 */
    assert_memory_equal(out + y * 24, pixels + (y * 13 + 2) * 3, 24);
  prL_decoder_close(&decoder);
}

/* Halving: the triangle filter of radius 2 weighs 1 3 3 1 over 8 inside; at the border what is left is
 * normalised: 3 3 1 over 7. */
static void halving_weighs_as_the_triangle_filter(void **state) {
  (void)state;
  prL_decoder decoder = { 0 };
  uint8_t row[8], pixels[64], out[16];
  for (int i = 0; i < 8; i++) row[i] = (uint8_t)(i * i * 4);
  for (int y = 0; y < 8; y++) memcpy(pixels + 8 * y, row, 8);
  assert_ok(prL_image_fit(&decoder, &(prL_image){ 8, 8, 1, pixels }, 4, out));
  const double expected[4] = { (3 * row[0] + 3 * row[1] + row[2]) / 7.0,
                               (row[1] + 3 * row[2] + 3 * row[3] + row[4]) / 8.0,
                               (row[3] + 3 * row[4] + 3 * row[5] + row[6]) / 8.0,
                               (row[5] + 3 * row[6] + 3 * row[7]) / 7.0 };
  for (int y = 0; y < 4; y++)
    for (int x = 0; x < 4; x++) assert_true(fabs(out[4 * y + x] - expected[x]) <= 0.5001);
  prL_decoder_close(&decoder);
}

#if defined(PRUNELUA_JPEG) && defined(PRUNELUA_PNG)

static pr_status decode(prL_decoder *decoder, const char *path, int channels, prL_image *out) {
  size_t size;
  PR_TRY(prL_read_file(decoder, path, &size));
  return prL_image_decode(decoder, decoder->file, size, path, channels, out);
}

/* --- decoding --- */

static void png_is_exact(void **state) {
  (void)state;
  prL_decoder decoder = { 0 };
  prL_image image;
  uint8_t pixels[9 * 5 * 4];
  const char *path = files_path("exact.png");
  files_png(path, 9, 5, 3, 4);
  files_picture(pixels, 9, 5, 3, 4);
  assert_ok(decode(&decoder, path, 3, &image));
  assert_int_equal(image.width, 9);
  assert_int_equal(image.height, 5);
  assert_memory_equal(image.pixels, pixels, 9 * 5 * 3);

  files_png(path, 9, 5, 1, 4); /* gray becomes three equal channels */
  files_picture(pixels, 9, 5, 1, 4);
  assert_ok(decode(&decoder, path, 3, &image));
  for (int i = 0; i < 45; i++)
    for (int c = 0; c < 3; c++) assert_int_equal(image.pixels[3 * i + c], pixels[i]);
  assert_ok(decode(&decoder, path, 1, &image));
  assert_memory_equal(image.pixels, pixels, 45);

  files_png(path, 9, 5, 4, 4); /* transparency is dropped */
  files_picture(pixels, 9, 5, 4, 4);
  assert_ok(decode(&decoder, path, 3, &image));
  for (int i = 0; i < 45; i++)
    for (int c = 0; c < 3; c++) assert_int_equal(image.pixels[3 * i + c], pixels[4 * i + c]);
  prL_decoder_close(&decoder);
}

static void jpeg_is_near(void **state) {
  (void)state;
  prL_decoder decoder = { 0 };
  prL_image image;
  uint8_t pixels[16 * 12 * 3];
  const char *path = files_path("near.jpg");
  files_jpeg(path, 16, 12, 0);
  files_picture(pixels, 16, 12, 3, 0);
  assert_ok(decode(&decoder, path, 3, &image));
  assert_int_equal(image.width, 16);
  assert_int_equal(image.height, 12);
  double off = 0;
  for (int i = 0; i < 16 * 12 * 3; i++) off += abs(image.pixels[i] - pixels[i]);
  assert_true(off / (16 * 12 * 3) < 4);
  prL_decoder_close(&decoder);
}

static void damaged_images_name_file_and_reason(void **state) {
  (void)state;
  prL_decoder decoder = { 0 };
  prL_image image;
  size_t size;
  const char *jpeg = files_path("damaged.jpg"), *png = files_path("damaged.png");
  files_jpeg(jpeg, 16, 16, 0);
  uint8_t *bytes = files_read(jpeg, &size);
  files_write(jpeg, bytes, size / 2 + size / 4);
  assert_fails(decode(&decoder, jpeg, 3, &image), PR_ERR_FORMAT, "damaged.jpg: damaged JPEG: ");
  free(bytes);

  files_png(png, 16, 16, 3, 0);
  bytes = files_read(png, &size);
  files_write(png, bytes, size - 20);
  assert_fails(decode(&decoder, png, 3, &image), PR_ERR_FORMAT, "damaged.png: damaged PNG: it ends early");
  bytes[size - 20] ^= 1;
  files_write(png, bytes, size);
  assert_fails(decode(&decoder, png, 3, &image), PR_ERR_FORMAT, "damaged.png: damaged PNG: ");
  free(bytes);

  files_write(png, "GIF89a", 6);
  assert_fails(decode(&decoder, png, 3, &image), PR_ERR_FORMAT, "damaged.png: is neither JPEG nor PNG");
  files_write(png, "", 0);
  assert_fails(decode(&decoder, png, 3, &image), PR_ERR_FORMAT, "damaged.png: is empty");
  assert_fails(decode(&decoder, files_path("none.png"), 3, &image), PR_ERR_IO, "none.png: cannot be opened");
  prL_decoder_close(&decoder);
}

/* A header may say what it likes: the memory is not taken. */
static void claims_are_checked_before_memory_is_taken(void **state) {
  (void)state;
  prL_decoder decoder = { 0 };
  prL_image image;
  size_t size;
  const char *jpeg = files_path("large.jpg"), *png = files_path("large.png");
  files_jpeg(jpeg, 16, 16, 0);
  uint8_t *bytes = files_read(jpeg, &size);
  uint8_t *frame = memmem(bytes, size, (uint8_t[]){ 0xff, 0xc0 }, 2);
  assert_non_null(frame);
  memcpy(frame + 5, (uint8_t[]){ 0xf0, 0, 0xf0, 0 }, 4); /* height and width */
  files_write(jpeg, bytes, size);
  pr_memory_reset_peak();
  assert_fails(decode(&decoder, jpeg, 3, &image), PR_ERR_FORMAT,
               "large.jpg: its header says 61440 x 61440 pixels");
  free(bytes);

  files_png(png, 16, 16, 3, 0);
  bytes = files_read(png, &size);
  memcpy(bytes + 16, (uint8_t[]){ 0, 0, 0x20, 0, 0, 0, 0x20, 0 }, 8); /* 8192 x 8192 */
  uint32_t sum = (uint32_t)crc32(0, bytes + 12, 17);
  for (int i = 0; i < 4; i++) bytes[29 + i] = (uint8_t)(sum >> (24 - 8 * i));
  files_write(png, bytes, size);
  assert_fails(decode(&decoder, png, 3, &image), PR_ERR_FORMAT,
               "large.png: damaged PNG: its header claims more pixels");
  free(bytes);
  pr_memory_stats stats;
  pr_memory_get(&stats);
  assert_in_range(stats.peak, 0, 1 << 20);
  prL_decoder_close(&decoder);
}

/* --- folders --- */

/* train: bird 3, cat 2 (one deeper), test: 1 each; all 8 x 6. */
static const char *animals(const char *name, const char *test) {
  files_jpeg(files_path("%s/train/cat/deep/er/2.JPEG", name), 8, 6, 5);
  files_png(files_path("%s/train/cat/1.png", name), 8, 6, 1, 4);
  files_jpeg(files_path("%s/train/bird/b.jpg", name), 8, 6, 2);
  files_jpeg(files_path("%s/train/bird/a.JPG", name), 8, 6, 1);
  files_png(files_path("%s/train/bird/c.Png", name), 8, 6, 3, 3);
  files_write(files_path("%s/train/bird/.hidden", name), "x", 1);
  files_jpeg(files_path("%s/%s/cat/x.jpg", name, test), 8, 6, 6);
  files_png(files_path("%s/%s/bird/y.png", name, test), 8, 6, 3, 7);
  return files_path("%s", name);
}

static void refused(const char *path, pr_split part, pr_status status, const char *text) {
  pr_dataset *d;
  assert_fails(pr_dataset_open(path, part, NULL, &d), status, text);
}

static void folders_are_read_in_order(void **state) {
  (void)state;
  for (int name = 0; name < 2; name++) {
    const char *path = animals(name ? "animals_val" : "animals", name ? "val" : "test");
    pr_dataset *train, *test;
    int64_t shape[3];
    assert_ok(pr_dataset_open(path, PR_TRAIN, NULL, &train));
    assert_ok(pr_dataset_open(path, PR_TEST, NULL, &test));
    pr_dataset_shape(train, shape);
    assert_true(shape[0] == 3 && shape[1] == 6 && shape[2] == 8);
    assert_int_equal(pr_dataset_classes(test), 2);
    assert_string_equal(pr_dataset_class_name(train, 0), "bird");
    assert_string_equal(pr_dataset_class_name(train, 1), "cat");
    assert_int_equal(pr_dataset_size(train), 5);
    assert_int_equal(pr_dataset_size(test), 2);
    for (int i = 0; i < 5; i++) assert_int_equal(pr_dataset_label(train, i), i >= 3);

    prL_decoder decoder = { 0 };
    const uint8_t *pixels, *again;
    uint8_t expected[8 * 6 * 3];
    assert_ok(prL_dataset_image(train, &decoder, 2, &pixels)); /* c.Png */
    files_picture(expected, 8, 6, 3, 3);
    assert_memory_equal(pixels, expected, sizeof expected);
    assert_ok(prL_dataset_image(train, &decoder, 2, &again));
    assert_ptr_equal(pixels, again);                           /* decoded once */
    assert_ok(prL_dataset_image(train, &decoder, 3, &pixels)); /* 1.png comes before deep/er/2.JPEG */
    files_picture(expected, 8, 6, 1, 4);
    for (int i = 0; i < 48; i++) assert_int_equal(pixels[3 * i + 2], expected[i]);
    prL_decoder_close(&decoder);
    pr_dataset_release(train);
    pr_dataset_release(test);
  }
}

static void limits_are_balanced(void **state) {
  (void)state;
  pr_dataset *d;
  int64_t order[5], count;
  assert_ok(pr_dataset_open(animals("balanced", "test"), PR_TRAIN, NULL, &d));
  assert_ok(prL_dataset_order(d, 3, order, &count));
  assert_int_equal(count, 3);
  assert_true(order[0] == 0 && order[1] == 3 && order[2] == 1); /* bird, cat, bird */
  assert_ok(prL_dataset_order(d, 4, order, &count));
  assert_int_equal(order[3], 4);
  assert_ok(prL_dataset_order(d, 9, order, &count));
  assert_int_equal(count, 5);
  for (int i = 0; i < 5; i++) assert_int_equal(order[i], i);
  assert_fails(prL_dataset_order(d, -1, order, &count), PR_ERR_ARGUMENT, "limit");
  pr_dataset_release(d);
}

static void a_small_cache_changes_nothing(void **state) {
  (void)state;
  const char *path = animals("cache", "test");
  pr_dataset *full, *half;
  assert_ok(pr_dataset_open(path, PR_TRAIN, NULL, &full));
  assert_ok(
      pr_dataset_open(path, PR_TRAIN, &(pr_dataset_options){ .cache_bytes = 2 * 8 * 6 * 3 + 5 }, &half));
  prL_decoder a = { 0 }, b = { 0 };
  for (int round = 0; round < 2; round++)
    for (int i = 0; i < 5; i++) {
      const uint8_t *x, *y;
      assert_ok(prL_dataset_image(full, &a, i, &x));
      assert_ok(prL_dataset_image(half, &b, i, &y));
      assert_memory_equal(x, y, 8 * 6 * 3);
    }
  prL_decoder_close(&a);
  prL_decoder_close(&b);
  pr_dataset_release(full);
  pr_dataset_release(half);
}

static void an_odd_size_is_named_or_brought_to_size(void **state) {
  (void)state;
  const char *path = animals("odd", "test");
  files_png(files_path("odd/train/cat/zz.png"), 9, 7, 3, 1);
  pr_dataset *d;
  prL_decoder decoder = { 0 };
  const uint8_t *pixels;
  assert_ok(pr_dataset_open(path, PR_TRAIN, NULL, &d));
  assert_fails(prL_dataset_image(d, &decoder, 4, &pixels), PR_ERR_SHAPE,
               "odd/train/cat/zz.png: is 9 x 7 pixels (width x height), the images before it 8 x 6");
  pr_dataset_release(d);

  assert_ok(
      pr_dataset_open(path, PR_TRAIN, &(pr_dataset_options){ .resize = 4, .cache_bytes = 1 << 20 }, &d));
  int64_t shape[3];
  pr_dataset_shape(d, shape);
  assert_true(shape[0] == 3 && shape[1] == 4 && shape[2] == 4);
  for (int i = 0; i < 6; i++) assert_ok(prL_dataset_image(d, &decoder, i, &pixels));
  pr_dataset_release(d);
  assert_fails(pr_dataset_open(path, PR_TRAIN, &(pr_dataset_options){ .resize = 5000 }, &d), PR_ERR_ARGUMENT,
               "got 5000");
  prL_decoder_close(&decoder);
}

static void what_a_folder_must_not_hold(void **state) {
  (void)state;
  const char *path = animals("wrong", "test");
  const char *stray = files_path("wrong/train/cat/notes.gif");
  files_write(stray, "x", 1);
  refused(path, PR_TRAIN, PR_ERR_UNSUPPORTED,
          "wrong/train/cat/notes.gif: is not an image that can be read (.jpg");
  remove(stray);
  stray = files_path("wrong/train/image.jpg");
  files_jpeg(stray, 8, 6, 1);
  refused(path, PR_TRAIN, PR_ERR_FORMAT, "wrong/train/image.jpg: lies in no class folder");
  remove(stray);

  files_path("wrong/test/dog/x");
  refused(path, PR_TEST, PR_ERR_FORMAT, "test/dog: is no class of the training part");
  files_path("wrong/train/dog/x");
  refused(path, PR_TRAIN, PR_ERR_FORMAT, "train/dog: the class has no images");
  rmdir(files_path("wrong/test/dog"));
  refused(path, PR_TEST, PR_ERR_FORMAT, "test: has no folder for the class `dog`");

  files_path("hollow/train/x");
  refused(files_path("hollow"), PR_TRAIN, PR_ERR_FORMAT, "hollow/train: has no class folders");
  refused(files_path("hollow"), PR_TEST, PR_ERR_IO, "has neither test/ nor val/ beside train/");
}

static void a_circle_of_links_ends(void **state) {
  (void)state;
  const char *path = animals("circle", "test");
  assert_int_equal(symlink("..", files_path("circle/train/cat/up")), 0);
  refused(path, PR_TRAIN, PR_ERR_FORMAT, "a link in a circle?");
}

#endif

int main(void) {
  const struct CMUnitTest tests[] = {
    memory_test(scaling_keeps_constants),
    memory_test(scaling_by_one_is_a_centre_crop),
    memory_test(halving_weighs_as_the_triangle_filter),
#if defined(PRUNELUA_JPEG) && defined(PRUNELUA_PNG)
    memory_test(png_is_exact),
    memory_test(jpeg_is_near),
    memory_test(damaged_images_name_file_and_reason),
    memory_test(claims_are_checked_before_memory_is_taken),
    memory_test(folders_are_read_in_order),
    memory_test(limits_are_balanced),
    memory_test(a_small_cache_changes_nothing),
    memory_test(an_odd_size_is_named_or_brought_to_size),
    memory_test(what_a_folder_must_not_hold),
    memory_test(a_circle_of_links_ends),
#endif
  };
  return cmocka_run_group_tests(tests, files_begin, files_end);
}
