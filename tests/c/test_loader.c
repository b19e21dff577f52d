/* test_loader.c - batches: their order, their content, their threads, and how errors reach the consumer. */
#define _GNU_SOURCE
#include "data_files.h"

#include "base/random.h"
#include "base/thread.h"
#include "data/loader.h"

enum { HEIGHT = 6, WIDTH = 5, CHANNELS = 3, PIXELS = HEIGHT * WIDTH * CHANNELS };

static const pr_normalization plain = { { 0, 0, 0, 0 }, { 1, 1, 1, 1 } };

static pr_dataset *dataset_of(int count) {
  uint8_t *images = malloc((size_t)count * PIXELS);
  int32_t *labels = malloc((size_t)count * sizeof *labels);
  for (int i = 0; i < count * PIXELS; i++) images[i] = files_byte((uint32_t)i);
  for (int i = 0; i < count; i++) labels[i] = i % 10;
  pr_dataset *d;
  assert_ok(pr_dataset_memory(images, labels, count, HEIGHT, WIDTH, CHANNELS, 10, 255, &d));
  free(images), free(labels);
  return d;
}

static pr_loader *loader_of(pr_dataset *d, pr_loader_options options) {
  pr_loader *l;
  assert_ok(pr_loader_open(d, &options, &l));
  return l;
}

static void assert_batches(int count, int batch, const int *sizes) {
  pr_dataset *d = dataset_of(count);
  pr_loader *l = loader_of(d, (pr_loader_options){ .batch = batch, .threads = 1, .normalization = plain });
  int n = 0;
  for (pr_batch b;; n++) {
    assert_ok(pr_loader_next(l, &b));
    assert_int_equal(b.count, sizes[n]);
    if (!b.count) break;
    assert_int_equal(b.number, n);
  }
  assert_int_equal(pr_loader_batches(l), n);
  assert_int_equal(pr_loader_samples(l), count);
  pr_loader_close(l);
  pr_dataset_release(d);
}

static void the_last_batch_holds_the_rest(void **state) {
  (void)state;
  assert_batches(12, 4, (int[]){ 4, 4, 4, 0 });
  assert_batches(14, 4, (int[]){ 4, 4, 4, 2, 0 });
  assert_batches(13, 4, (int[]){ 4, 4, 5, 0 }); /* a single one joins the batch before */
  assert_batches(5, 4, (int[]){ 5, 0 });
  assert_batches(3, 8, (int[]){ 3, 0 });
  assert_batches(1, 8, (int[]){ 1, 0 });
  assert_batches(3, 1, (int[]){ 1, 1, 1, 0 });
}

static void values_are_normalised_bytes(void **state) {
  (void)state;
  pr_dataset *d = dataset_of(7);
  pr_normalization n = { { 0.5f, 0.25f, 0.1f }, { 0.2f, 0.3f, 2 } };
  pr_loader *l = loader_of(d, (pr_loader_options){ .batch = 3, .threads = 2, .normalization = n });
  int sample = 0;
  for (pr_batch b;;) {
    assert_ok(pr_loader_next(l, &b));
    if (!b.count) break;
    for (int i = 0; i < b.count; i++, sample++) {
      assert_int_equal(b.labels[i], sample % 10);
      for (int k = 0; k < PIXELS; k++) {
        float byte = files_byte((uint32_t)(sample * PIXELS + k));
        assert_true(b.images[i * PIXELS + k] == (byte / 255.f - n.mean[k % 3]) / n.std[k % 3]);
      }
    }
  }
  assert_int_equal(sample, 7);
  pr_loader_close(l);
  pr_dataset_release(d);
}

/* All of an epoch's images and labels in one row. */
typedef struct record {
  float images[41 * PIXELS];
  int64_t labels[41];
  int count;
} record;

static void run(pr_loader *l, record *out) {
  out->count = 0;
  for (pr_batch b;;) {
    assert_ok(pr_loader_next(l, &b));
    if (!b.count) return;
    memcpy(out->images + out->count * PIXELS, b.images, (size_t)b.count * PIXELS * sizeof(float));
    memcpy(out->labels + out->count, b.labels, (size_t)b.count * sizeof *b.labels);
    out->count += b.count;
  }
}

static const pr_loader_options augmented = {
  .batch = 4, .shuffle = true, .crop_padding = 2, .flip = true, .seed = 11, .normalization = plain
};

/* The plain words of the header: pad with zeros, cut at an offset, mirror. */
static void augmentation_is_pad_cut_mirror(void **state) {
  (void)state;
  enum { PAD = 2, TALL = HEIGHT + 2 * PAD, WIDE = WIDTH + 2 * PAD };
  static uint8_t padded[TALL][WIDE][CHANNELS];
  static record got;
  pr_dataset *d = dataset_of(40);
  pr_loader_options options = augmented;
  options.shuffle = false, options.threads = 2;
  pr_loader *l = loader_of(d, options);
  const int64_t epoch = 5;
  int flips = 0, offsets[2 * PAD + 1] = { 0 };
  assert_ok(pr_loader_start(l, epoch, 0));
  run(l, &got);
  for (int i = 0; i < 40; i++) {
    memset(padded, 0, sizeof padded);
    for (int y = 0; y < HEIGHT; y++)
      for (int x = 0; x < WIDTH; x++)
        for (int c = 0; c < CHANNELS; c++)
          padded[y + PAD][x + PAD][c] = files_byte((uint32_t)(i * PIXELS + (y * WIDTH + x) * CHANNELS + c));
    uint32_t r[4];
    prB_philox(11, PR_STREAM_AUGMENT, epoch, (uint64_t)i, r);
    int top = (int)((uint64_t)r[0] * (2 * PAD + 1) >> 32), left = (int)((uint64_t)r[1] * (2 * PAD + 1) >> 32);
    bool mirror = r[2] >> 31;
    flips += mirror, offsets[top]++;
    for (int y = 0; y < HEIGHT; y++)
      for (int x = 0; x < WIDTH; x++)
        for (int c = 0; c < CHANNELS; c++) {
          float expected = (float)padded[top + y][left + (mirror ? WIDTH - 1 - x : x)][c] / 255.f;
          assert_true(got.images[i * PIXELS + (y * WIDTH + x) * CHANNELS + c] == expected);
        }
  }
  assert_in_range(flips, 10, 30);
  for (int i = 0; i <= 2 * PAD; i++) assert_true(offsets[i] > 0);
  pr_loader_close(l);
  pr_dataset_release(d);
}

static void threads_do_not_change_a_bit(void **state) {
  (void)state;
  static record first, other;
  pr_dataset *d = dataset_of(41);
  for (int epoch = 0; epoch < 3; epoch++)
    for (int threads = 0; threads <= 4; threads++) {
      pr_loader_options options = augmented;
      options.threads = threads;
      pr_loader *l = loader_of(d, options);
      assert_ok(pr_loader_start(l, epoch, 0));
      run(l, threads ? &other : &first);
      if (threads) assert_memory_equal(&first, &other, sizeof first);
      pr_loader_close(l);
    }
  pr_dataset_release(d);
}

static void every_epoch_is_another_permutation(void **state) {
  (void)state;
  static record a, b, c;
  pr_dataset *d = dataset_of(41);
  pr_loader_options options = augmented;
  options.threads = 2;
  pr_loader *l = loader_of(d, options);
  run(l, &a);
  assert_ok(pr_loader_start(l, 1, 0));
  run(l, &b);
  assert_ok(pr_loader_start(l, 0, 0)); /* and back */
  run(l, &c);
  assert_memory_equal(&a, &c, sizeof a);
  assert_memory_not_equal(a.labels, b.labels, sizeof a.labels);
  int seen[2][10] = { { 0 } };
  for (int i = 0; i < 41; i++) seen[0][a.labels[i]]++, seen[1][b.labels[i]]++;
  for (int k = 0; k < 10; k++) assert_true(seen[0][k] == 4 + (k == 0) && seen[1][k] == seen[0][k]);
  pr_loader_close(l);
  options.seed++;
  l = loader_of(d, options);
  run(l, &c);
  assert_memory_not_equal(a.labels, c.labels, sizeof a.labels);
  pr_loader_close(l);
  pr_dataset_release(d);
}

/* Going on at any batch gives the batches that were left. */
static void resume_at_every_batch(void **state) {
  (void)state;
  static record whole, rest;
  pr_dataset *d = dataset_of(41);
  pr_loader_options options = augmented;
  options.threads = 2;
  pr_loader *l = loader_of(d, options);
  assert_ok(pr_loader_start(l, 3, 0));
  run(l, &whole);
  for (int at = 0; at <= pr_loader_batches(l); at++) {
    pr_batch b;
    assert_ok(pr_loader_start(l, 3, at));
    run(l, &rest);
    int skipped = at == pr_loader_batches(l) ? 41 : 4 * at;
    assert_int_equal(rest.count, 41 - skipped);
    for (int i = 0; i < rest.count; i++) assert_int_equal(rest.labels[i], whole.labels[skipped + i]);
    for (int i = 0; i < rest.count * PIXELS; i++)
      assert_true(rest.images[i] == whole.images[skipped * PIXELS + i]);
    assert_ok(pr_loader_next(l, &b)); /* past the end stays the end */
    assert_int_equal(b.count, 0);
  }
  assert_fails(pr_loader_start(l, 0, 11), PR_ERR_INDEX, "no batch 11 of epoch 0: an epoch has 10 batches");
  assert_fails(pr_loader_start(l, -1, 0), PR_ERR_INDEX, "epoch -1");
  pr_loader_close(l);
  pr_dataset_release(d);
}

static void closing_or_restarting_in_the_middle(void **state) {
  (void)state;
  pr_dataset *d = dataset_of(41);
  for (int i = 0; i < 60; i++) {
    pr_batch b;
    pr_loader_options options = augmented;
    options.threads = 1 + i % 4;
    pr_loader *l = loader_of(d, options);
    for (int k = 0; k < i % 5; k++) assert_ok(pr_loader_next(l, &b));
    if (i % 3) assert_ok(pr_loader_start(l, i, i % 10));
    if (i % 2) assert_ok(pr_loader_next(l, &b));
    pr_loader_close(l);
  }
  pr_dataset_release(d);
}

static void the_limit_is_the_first_samples(void **state) {
  (void)state;
  static record got;
  pr_dataset *d = dataset_of(41);
  pr_loader_options options = augmented;
  options.limit = 9, options.threads = 1;
  pr_loader *l = loader_of(d, options);
  run(l, &got);
  assert_int_equal(got.count, 9);
  int seen[10] = { 0 };
  for (int i = 0; i < 9; i++) seen[got.labels[i]]++;
  for (int k = 0; k < 9; k++) assert_int_equal(seen[k], 1);
  pr_loader_close(l);
  pr_dataset_release(d);
}

static void options_are_checked(void **state) {
  (void)state;
  pr_loader *l;
  pr_dataset *d = dataset_of(4);
  const struct {
    pr_loader_options options;
    const char *text;
  } wrong[] = {
    { { .batch = 0, .normalization = plain }, "batch must be 1 or more, got 0" },
    { { .batch = 1, .threads = 65, .normalization = plain }, "threads must be 0 to 64, got 65" },
    { { .batch = 1, .crop_padding = -1, .normalization = plain }, "crop_padding must be" },
    { { .batch = 1, .limit = -2, .normalization = plain }, "limit must be" },
    { { .batch = 1 }, "the deviation of channel 0 must be positive, got 0" },
  };
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
    assert_fails(pr_loader_open(d, &wrong[i].options, &l), PR_ERR_ARGUMENT, wrong[i].text);
  pr_dataset_release(d);
}

/* --- statistics --- */

static void statistics_are_those_of_a_plain_loop(void **state) {
  (void)state;
  pr_dataset *d = dataset_of(41);
  for (int64_t limit = 0; limit < 30; limit += 17) {
    pr_normalization got, again;
    assert_ok(pr_dataset_statistics(d, limit, 1, &got));
    assert_ok(pr_dataset_statistics(d, limit, 3, &again));
    assert_memory_equal(got.mean, again.mean, 3 * sizeof(float));
    assert_memory_equal(got.std, again.std, 3 * sizeof(float));
    int64_t n = limit ? limit : 41;
    for (int c = 0; c < 3; c++) {
      double mean = 0, variance = 0;
      for (int64_t i = c; i < n * PIXELS; i += 3) mean += files_byte((uint32_t)i) / 255.0 / (double)(n * 30);
      for (int64_t i = c; i < n * PIXELS; i += 3)
        variance += pow(files_byte((uint32_t)i) / 255.0 - mean, 2) / (double)(n * 30);
      assert_close(got.mean[c], mean, 1e-6);
      assert_close(got.std[c], sqrt(variance), 1e-6);
    }
  }
  pr_dataset_release(d);

  const uint8_t constant[4] = { 9, 9, 9, 9 };
  pr_normalization got;
  assert_ok(pr_dataset_memory(constant, (int32_t[]){ 0 }, 1, 2, 2, 1, 1, 16, &d));
  assert_ok(pr_dataset_statistics(d, 0, 1, &got));
  assert_true(got.mean[0] == 9 / 16.f && got.std[0] == 1);
  pr_dataset_release(d);
}

static void published_constants(void **state) {
  (void)state;
  pr_normalization n;
  assert_ok(pr_normalization_named("cifar10", 3, &n));
  assert_true(n.mean[2] == 0.4465f && n.std[1] == 0.1994f);
  assert_ok(pr_normalization_named("mnist", 1, &n));
  assert_true(n.mean[0] == 0.1307f && n.std[0] == 0.3081f);
  assert_fails(pr_normalization_named("imagenet", 1, &n), PR_ERR_ARGUMENT,
               "are for 3 channels, the images have 1");
  assert_fails(pr_normalization_named("cifar", 3, &n), PR_ERR_ARGUMENT, "did you mean `cifar10`?");
}

/* --- errors and interrupts --- */

#ifdef PRUNELUA_PNG
static void an_error_belongs_to_its_batch(void **state) {
  (void)state;
  for (int i = 0; i < 12; i++) files_png(files_path("faulty/train/a/%02d.png", i), 4, 4, 3, i);
  files_png(files_path("faulty/train/a/05.png"), 5, 4, 3, 1);
  for (int threads = 0; threads <= 3; threads++) {
    pr_dataset *d;
    pr_batch b;
    assert_ok(pr_dataset_open(files_path("faulty"), PR_TRAIN, NULL, &d));
    pr_loader *l =
        loader_of(d, (pr_loader_options){ .batch = 2, .threads = threads, .normalization = plain });
    for (int round = 0; round < 2; round++) {
      for (int n = 0; n < 6; n++) {
        pr_status status = pr_loader_next(l, &b);
        if (n == 2) assert_fails(status, PR_ERR_SHAPE, "05.png: is 5 x 4 pixels");
        if (n != 2) assert_int_equal(b.count, 2);
      }
      assert_ok(pr_loader_start(l, 1, 0));
    }
    pr_normalization unused;
    assert_fails(pr_dataset_statistics(d, 0, 1 + threads, &unused), PR_ERR_SHAPE, "05.png");
    pr_loader_close(l);
    pr_dataset_release(d);
  }
}
#endif

static void an_interrupt_keeps_the_position(void **state) {
  (void)state;
  pr_dataset *d = dataset_of(9);
  pr_loader *l = loader_of(d, (pr_loader_options){ .batch = 3, .normalization = plain });
  pr_batch b;
  assert_ok(pr_loader_next(l, &b));
  pr_interrupt();
  assert_fails(pr_loader_next(l, &b), PR_ERR_INTERRUPTED, NULL);
  assert_ok(pr_loader_next(l, &b));
  assert_int_equal(b.number, 1);
  pr_loader_close(l);
  pr_interrupt();
  pr_normalization n;
  assert_fails(pr_dataset_statistics(d, 0, 2, &n), PR_ERR_INTERRUPTED, NULL);
  pr_dataset_release(d);
}

static void every_allocation_may_fail(void **state) {
  (void)state;
  pr_dataset *d = dataset_of(9);
  pr_loader *l = NULL;
  size_t n = 0;
  for (bool open = false; !open && n < 100;) {
    pr_memory_fail_after(++n, true);
    pr_loader_options options = { .batch = 3, .threads = 1, .normalization = plain };
    open = !pr_loader_open(d, &options, &l);
    pr_memory_fail_after(0, false);
    if (!open) assert_int_equal(pr_error_last()->code, PR_ERR_MEMORY);
  }
  assert_in_range(n, 10, 99);
  pr_loader_close(l);
  pr_dataset_release(d);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    memory_test(the_last_batch_holds_the_rest),
    memory_test(values_are_normalised_bytes),
    memory_test(augmentation_is_pad_cut_mirror),
    memory_test(threads_do_not_change_a_bit),
    memory_test(every_epoch_is_another_permutation),
    memory_test(resume_at_every_batch),
    memory_test(closing_or_restarting_in_the_middle),
    memory_test(the_limit_is_the_first_samples),
    memory_test(options_are_checked),
    memory_test(statistics_are_those_of_a_plain_loop),
    memory_test(published_constants),
#ifdef PRUNELUA_PNG
    memory_test(an_error_belongs_to_its_batch),
#endif
    memory_test(an_interrupt_keeps_the_position),
    memory_test(every_allocation_may_fail),
  };
  return cmocka_run_group_tests(tests, files_begin, files_end);
}
