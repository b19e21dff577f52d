/* test_checkpoint.c - checkpoints keep every bit of a model, and damaged files are refused before the HDF5
 * library sees them. */
#include "testing.h"

#include "io/checkpoint.h"
#include "io/file.h"
#include "base/random.h"
#include "io/hdf5.h"
#include "io/sparse.h"
#include "prune.h"

#include <fcntl.h>
#include <hdf5.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

static char folder[64];

static const char *in_folder(const char *name) {
  static char paths[4][128];
  static unsigned next;
  char *path = paths[next++ % 4];
  snprintf(path, sizeof paths[0], "%s/%s", folder, name);
  return path;
}

static pr_tensor *numbers(pr_dtype dtype, int dim, const int64_t *shape, double scale) {
  pr_tensor *t = pr_tensor_new(dtype, PR_CPU, dim, shape);
  assert_non_null(t);
  for (int64_t i = 0; i < pr_numel(t); i++)
    prT_set(t, i, dtype == PR_BOOL ? i % 3 == 0 : scale * (double)(i + 1));
  return t;
}

static void assert_same_bits(const pr_tensor *a, const pr_tensor *b) {
  assert_int_equal(a->dtype, b->dtype);
  assert_int_equal(a->dim, b->dim);
  for (int d = 0; d < a->dim; d++) {
    assert_int_equal(a->shape[d], b->shape[d]);
    assert_int_equal(a->stride[d], b->stride[d]);
  }
  assert_memory_equal(prT_data(a), prT_data(b), a->storage->bytes);
}

/* A parameter in channels-last layout with a mask and state, a buffer, and a scalar; what is under the mask
 * is kept or not. */
static void write_sample_as(const char *path, bool dense) {
  pr_checkpoint_writer *w = pr_checkpoint_begin();
  assert_non_null(w);
  if (dense) pr_checkpoint_keep_dense(w);
  const int64_t shape[] = { 3, 2, 2, 2 };
  pr_tensor *weight = prT_new_channels_last(PR_F32, PR_CPU, 4, shape);
  for (int64_t i = 0; i < 24; i++) prT_set(weight, i, 0.1 * (double)i);
  assert_ok(pr_parameter_make(weight, false));
  pr_tensor *mask = pr_tensor_full(PR_F32, PR_CPU, 4, shape, 1);
  prT_set(mask, 5, 0);
  assert_ok(pr_parameter_mask(weight, mask));
  pr_tensor *momentum = numbers(PR_F32, 4, shape, 0.25), *steps = pr_tensor_scalar(PR_I64, 7);
  assert_ok(pr_parameter_slot_set(weight, "momentum_buffer", momentum));
  assert_ok(pr_parameter_slot_set(weight, "step", steps));
  pr_tensor *mean = numbers(PR_F64, 1, shape, 1.5);
  assert_ok(pr_parameter_make(mean, true));
  assert_ok(pr_checkpoint_put_tensor(w, "layer 1/0.weight", weight, true));
  assert_ok(pr_checkpoint_put_tensor(w, "layer1.running_mean", mean, true));
  assert_ok(pr_checkpoint_put_text(w, "progress", "{epoch=3}", 9));
  assert_ok(pr_checkpoint_finish(w, path));
  pr_release(weight), pr_release(mask), pr_release(momentum), pr_release(steps), pr_release(mean);
}

static void write_sample(const char *path) { write_sample_as(path, true); }

static void keeps_everything(void **state) {
  (void)state;
  write_sample(in_folder("sample.h5"));
  pr_checkpoint *c = pr_checkpoint_read(in_folder("sample.h5"));
  assert_ok(c ? PR_OK : pr_error_last()->code);
  assert_int_equal(c->n_tensors, 2);
  pr_tensor *weight = pr_checkpoint_find_tensor(c, "layer 1/0.weight");
  assert_non_null(weight);
  assert_true(prT_is_channels_last(weight));
  for (int64_t i = 0; i < 24; i++) assert_true(prT_get(weight, i) == (double)(float)(0.1 * (double)i));
  assert_true(weight->requires_grad);
  assert_true(prT_get(weight->parameter->mask, 5) == 0 && prT_get(weight->parameter->mask, 4) == 1);
  assert_true(prT_get(pr_parameter_slot(weight, "momentum_buffer", false), 23) == 6);
  assert_true(prT_get(pr_parameter_slot(weight, "step", false), 0) == 7);
  assert_int_equal(pr_parameter_slot(weight, "step", false)->dtype, PR_I64);
  assert_true(pr_checkpoint_find_tensor(c, "layer1.running_mean")->parameter->is_buffer);
  const pr_checkpoint_text *text = pr_checkpoint_find_text(c, "progress");
  assert_string_equal(text->text, "{epoch=3}");
  assert_null(pr_checkpoint_graph(c));
  pr_checkpoint_free(c);
}

static void keeps_all_dtypes_and_shapes(void **state) {
  (void)state;
  static const int64_t shapes[][3] = { { 1, 1, 1 }, { 2, 3, 4 }, { 2, 0, 4 } };
  pr_tensor *put[PR_DTYPES][4];
  char name[32];
  pr_checkpoint_writer *w = pr_checkpoint_begin();
  for (int d = 0; d < PR_DTYPES; d++)
    for (int s = 0; s < 4; s++) {
      put[d][s] = numbers((pr_dtype)d, s == 3 ? 0 : 3, shapes[s % 3], 0.5);
      snprintf(name, sizeof name, "%s.%d", pr_dtype_name((pr_dtype)d), s);
      assert_ok(pr_checkpoint_put_tensor(w, name, put[d][s], true));
    }
  assert_ok(pr_checkpoint_finish(w, in_folder("dtypes.h5")));
  pr_checkpoint *c = pr_checkpoint_read(in_folder("dtypes.h5"));
  assert_ok(c ? PR_OK : pr_error_last()->code);
  for (int d = 0; d < PR_DTYPES; d++)
    for (int s = 0; s < 4; s++) {
      snprintf(name, sizeof name, "%s.%d", pr_dtype_name((pr_dtype)d), s);
      assert_same_bits(pr_checkpoint_find_tensor(c, name), put[d][s]);
      pr_release(put[d][s]);
    }
  pr_checkpoint_free(c);
}

/* Several chunks, and values that pack. */
static void keeps_large_tensors(void **state) {
  (void)state;
  const int64_t shape[] = { 700, 1001 };
  pr_tensor *dense = numbers(PR_F32, 2, shape, 1e-3), *sparse = pr_tensor_zeros(PR_F32, PR_CPU, 2, shape);
  for (int64_t i = 0; i < pr_numel(sparse); i += 7) prT_set(sparse, i, (double)i);
  pr_checkpoint_writer *w = pr_checkpoint_begin();
  assert_ok(pr_checkpoint_put_tensor(w, "dense", dense, true));
  assert_ok(pr_checkpoint_put_tensor(w, "sparse", sparse, true));
  assert_ok(pr_checkpoint_finish(w, in_folder("large.h5")));
  struct stat info;
  assert_int_equal(stat(in_folder("large.h5"), &info), 0);
  assert_true(info.st_size < 700 * 1001 * 4 * 3 / 2); /* the sparse half packs to less than half its size */
  pr_checkpoint *c = pr_checkpoint_read(in_folder("large.h5"));
  assert_non_null(c);
  assert_same_bits(pr_checkpoint_find_tensor(c, "dense"), dense);
  assert_same_bits(pr_checkpoint_find_tensor(c, "sparse"), sparse);
  pr_release(dense), pr_release(sparse);
  pr_checkpoint_free(c);
  pr_cache_empty();
}

static void equal_content_gives_equal_bytes(void **state) {
  (void)state;
  void *a, *b;
  size_t m, n;
  write_sample(in_folder("a.h5"));
  for (time_t second = time(NULL); time(NULL) == second;) usleep(20000); /* HDF5 likes to store times */
  write_sample(in_folder("b.h5"));
  assert_ok(pr_file_read(in_folder("a.h5"), &a, &m));
  assert_ok(pr_file_read(in_folder("b.h5"), &b, &n));
  assert_int_equal(m, n);
  assert_memory_equal(a, b, n);
  prB_aligned_free(a, m), prB_aligned_free(b, n);
}

/* --- damage ------------------------------------------------------------------------------------------------------------- */

static void refuses_every_flipped_bit(void **state) {
  (void)state;
  void *data;
  size_t size;
  write_sample(in_folder("sample.h5"));
  assert_ok(pr_file_read(in_folder("sample.h5"), &data, &size));
  unsigned char *bytes = data;
  assert_ok(pr_checkpoint_check(bytes, size, "sample"));
  for (uint64_t trial = 0; trial < 1000 + 8 * PR_CHECKPOINT_HEADER; trial++) {
    /* 1,000 anywhere, and every bit of the block in front */
    uint64_t bit = trial < 1000 ? prB_below(1, 9, 0, trial, 8 * size) : trial - 1000;
    bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
    pr_status status = pr_checkpoint_check(bytes, size, "sample");
    assert_true(status == PR_ERR_FORMAT || status == PR_ERR_UNSUPPORTED);
    bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
  }
  assert_ok(pr_checkpoint_check(bytes, size, "sample"));
  prB_aligned_free(data, size);
}

static void refuses_every_truncation(void **state) {
  (void)state;
  void *data;
  size_t size;
  write_sample(in_folder("sample.h5"));
  assert_ok(pr_file_read(in_folder("sample.h5"), &data, &size));
  for (size_t length = 0; length < size; length++)
    assert_fails(pr_checkpoint_check(data, length, "sample"), PR_ERR_FORMAT, "sample: is");
  assert_fails(pr_checkpoint_check(data, size - 1, "sample"), PR_ERR_FORMAT, "it should be");
  assert_ok(pr_file_write(in_folder("short.h5"), data, size - 9));
  assert_null(pr_checkpoint_read(in_folder("short.h5")));
  assert_non_null(strstr(pr_error_last()->message, "is damaged"));
  prB_aligned_free(data, size);
}

static void says_what_a_foreign_file_is(void **state) {
  (void)state;
  static const struct {
    const char *content, *message;
    pr_status status;
  } cases[] = {
    { "\x89HDF\r\n\x1a\n    ", "HDF5 file of another program", PR_ERR_FORMAT },
    { "PK\x03\x04      ", "zip archive", PR_ERR_FORMAT },
    { "local prune = require 'prune'", "is not a prunelua checkpoint", PR_ERR_FORMAT },
    { "", "it is empty", PR_ERR_FORMAT },
    { "prunelua-checkpoint 3\n", "use a newer prunelua", PR_ERR_UNSUPPORTED },
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    assert_ok(pr_file_write(in_folder("foreign"), cases[i].content, strlen(cases[i].content)));
    assert_null(pr_checkpoint_read(in_folder("foreign")));
    assert_int_equal(pr_error_last()->code, cases[i].status);
    assert_non_null(strstr(pr_error_last()->message, cases[i].message));
  }
  assert_null(pr_checkpoint_read(in_folder("absent.h5")));
  assert_int_equal(pr_error_last()->code, PR_ERR_IO);
}

/* --- compressed arrays ---------------------------------------------------------------------------------------------------- */

static void masks_leave_out_what_nobody_reads(void **state) {
  (void)state;
  write_sample_as(in_folder("masked.h5"), false);
  write_sample(in_folder("dense.h5"));
  pr_checkpoint *masked = pr_checkpoint_read(in_folder("masked.h5")),
                *dense = pr_checkpoint_read(in_folder("dense.h5"));
  assert_non_null(masked);
  assert_non_null(dense);
  pr_tensor *a = pr_checkpoint_find_tensor(masked, "layer 1/0.weight");
  pr_tensor *b = pr_checkpoint_find_tensor(dense, "layer 1/0.weight");
  assert_same_bits(a->parameter->mask, b->parameter->mask);
  assert_same_bits(pr_parameter_value(a), pr_parameter_value(b));
  assert_same_bits(pr_parameter_slot(a, "momentum_buffer", false),
                   pr_parameter_slot(b, "momentum_buffer", false));
  for (int64_t i = 0; i < 24; i++) { /* the mask's one zero */
    double x = prT_get(a, i), y = prT_get(b, i);
    if (x != y) assert_true(x == 0);
  }
  assert_same_bits(pr_checkpoint_find_tensor(masked, "layer1.running_mean"),
                   pr_checkpoint_find_tensor(dense, "layer1.running_mean"));
  pr_checkpoint_free(masked), pr_checkpoint_free(dense);
}

/* All types, sizes around whole bytes of bits, and shares of zeros from none to all; -0.0 and NaN keep their
 * bits. */
static void zeros_are_left_out_without_loss(void **state) {
  (void)state;
  const int64_t sizes[] = { 0, 1, 63, 64, 65, 200, 1000 };
  for (int dtype = 0; dtype < PR_DTYPES; dtype++)
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
      for (int64_t every = 1; every <= 1000; every *= 10) {
        pr_tensor *t = pr_tensor_zeros((pr_dtype)dtype, PR_CPU, 2, (int64_t[]){ sizes[s], 3 });
        for (int64_t i = 0; i < pr_numel(t); i += every) prT_set(t, i, (double)(i + 1));
        if (pr_dtype_is_float(t->dtype) && sizes[s] > 2) prT_set(t, 3, -0.0), prT_set(t, 4, NAN);
        pr_checkpoint_writer *w = pr_checkpoint_begin();
        assert_ok(pr_checkpoint_put_tensor(w, "t", t, true));
        assert_ok(pr_checkpoint_finish(w, in_folder("zeros.h5")));
        pr_checkpoint *c = pr_checkpoint_read(in_folder("zeros.h5"));
        assert_non_null(c);
        assert_same_bits(pr_checkpoint_find_tensor(c, "t"), t);
        pr_checkpoint_free(c);
        pr_release(t);
      }
  pr_cache_empty();
}

/* A tenth of the values stays: the file is about a tenth plus one bit per entry. */
static void a_sparse_file_is_small(void **state) {
  (void)state;
  enum { ROWS = 500, COLUMNS = 640, ENTRIES = ROWS * COLUMNS };
  for (int masked = 0; masked < 2; masked++) {
    pr_tensor *t = numbers(PR_F32, 2, (int64_t[]){ ROWS, COLUMNS }, 1e-3);
    pr_tensor *mask = pr_tensor_full(PR_F32, PR_CPU, 2, t->shape, 1);
    for (int64_t i = 0; i < ENTRIES; i++) prT_set(mask, i, prB_uniform(3, 1, 0, (uint64_t)i) < 0.1);
    assert_ok(pr_parameter_make(t, false));
    assert_ok(pr_parameter_mask(t, mask));
    if (!masked) assert_ok(pr_parameter_finalize(t));
    pr_checkpoint_writer *w = pr_checkpoint_begin();
    assert_ok(pr_checkpoint_put_tensor(w, "t", t, true));
    assert_ok(pr_checkpoint_finish(w, in_folder("tenth.h5")));
    struct stat info;
    assert_int_equal(stat(in_folder("tenth.h5"), &info), 0);
    assert_true(info.st_size < ENTRIES * 4 / 10 + ENTRIES / 8 + 16384);
    pr_checkpoint *c = pr_checkpoint_read(in_folder("tenth.h5"));
    assert_non_null(c);
    pr_tensor *again = pr_checkpoint_find_tensor(c, "t");
    assert_same_bits(pr_parameter_value(again), pr_parameter_value(t));
    assert_int_equal(again->parameter->mask != NULL, masked);
    pr_checkpoint_free(c);
    pr_release(t), pr_release(mask);
  }
  pr_cache_empty();
}

/* A mask with other numbers than 0 and 1 is kept as it is, with all values. */
static void other_masks_keep_all_values(void **state) {
  (void)state;
  pr_tensor *t = numbers(PR_F32, 1, (int64_t[]){ 100 }, 1),
            *mask = pr_tensor_zeros(PR_F32, PR_CPU, 1, t->shape);
  prT_set(mask, 7, 0.5);
  assert_ok(pr_parameter_make(t, false));
  assert_ok(pr_parameter_mask(t, mask));
  pr_checkpoint_writer *w = pr_checkpoint_begin();
  assert_ok(pr_checkpoint_put_tensor(w, "t", t, true));
  assert_ok(pr_checkpoint_finish(w, in_folder("half.h5")));
  pr_checkpoint *c = pr_checkpoint_read(in_folder("half.h5"));
  assert_non_null(c);
  assert_same_bits(pr_checkpoint_find_tensor(c, "t"), t);
  assert_same_bits(pr_checkpoint_find_tensor(c, "t")->parameter->mask, mask);
  pr_checkpoint_free(c), pr_release(t), pr_release(mask);
}

static pr_hdf5_array bytes_of(unsigned char *data, int64_t n) {
  return (pr_hdf5_array){
    .type = PR_HDF5_U8, .rank = 1, .shape = { n }, .count = n, .bytes = (size_t)n, .data = data
  };
}

static void bits_and_values_that_do_not_fit_are_refused(void **state) {
  (void)state;
  unsigned char set[2] = { 0x05, 0x02 }, three[3] = { 1, 2, 3 }, spare[2] = { 0x05, 0x12 };
  pr_hdf5_array values = bytes_of(three, 3), bits = bytes_of(set, 2), out;
  assert_ok(prI_expand(&values, &bits, "3,4", &out));
  assert_int_equal(out.rank, 2);
  assert_memory_equal(out.data, ((unsigned char[]){ 1, 0, 2, 0, 0, 0, 0, 0, 0, 3, 0, 0 }), 12);
  pr_hdf5_array_free(&out);
  static const char *const shapes[] = {
    "",      "-",  "3,", ",4", "3,,4", "3 4", "-3,-4", "1,1,1,1,1,1,1,1,12", "3x4", "4294967296,4294967296",

    "0x3,4", "+12"
  };
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
    assert_fails(prI_expand(&values, &bits, shapes[i], &out), PR_ERR_FORMAT, "is not a shape");
  assert_fails(prI_expand(&values, &bits, "3,8", &out), PR_ERR_FORMAT,
               "24 entries have 3 bytes of bits, not 2");
  assert_fails(prI_expand(&values, &bits, "2,4", &out), PR_ERR_FORMAT, "8 entries have 1 bytes");
  assert_fails(prI_expand(&values, &bits, "9223372036854775807", &out), PR_ERR_FORMAT, "bytes of bits");
  assert_fails(prI_expand(&values, &bits, "0", &out), PR_ERR_FORMAT, "0 entries have 0 bytes");
  pr_hdf5_array wrong = bytes_of(spare, 2), few = bytes_of(three, 2);
  assert_fails(prI_expand(&values, &wrong, "3,4", &out), PR_ERR_FORMAT, "behind the last entry");
  assert_fails(prI_expand(&few, &bits, "3,4", &out), PR_ERR_FORMAT, "3 bits are set, there are 2 values");
  wrong = bits, wrong.type = PR_HDF5_I8;
  assert_fails(prI_expand(&values, &wrong, "3,4", &out), PR_ERR_FORMAT, "not a list of bytes");
  wrong = values, wrong.rank = 2;
  assert_fails(prI_expand(&wrong, &bits, "3,4", &out), PR_ERR_FORMAT, "values");
  float mask[24];
  assert_ok(prI_expand_mask(&bits, 12, mask));
  for (int i = 0; i < 12; i++) assert_true(mask[i] == (i == 0 || i == 2 || i == 9));
  assert_fails(prI_expand_mask(&bits, 24, mask), PR_ERR_FORMAT, "bytes of bits");
}

/* Write into an array of a checkpoint and make its digest true again, as whoever forges one would. */
static void forge(const char *path, const char *dataset, size_t at, const void *bytes, size_t length) {
  hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT), data = H5Dopen2(file, dataset, H5P_DEFAULT);
  unsigned char content[4096];
  assert_true(data >= 0 && H5Dget_storage_size(data) < sizeof content);
  hid_t type = H5Dget_type(data);
  assert_true(H5Dread(data, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, content) >= 0);
  memcpy(content + at, bytes, length);
  assert_true(H5Dwrite(data, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, content) >= 0);
  H5Tclose(type), H5Dclose(data), H5Fclose(file);
  void *all;
  size_t size;
  assert_ok(pr_file_read(path, &all, &size));
  prI_checkpoint_header((char *)all + PR_CHECKPOINT_HEADER, size, 2, all);
  assert_ok(pr_file_write(path, all, size));
  prB_aligned_free(all, size);
}

/* Files that are whole, and wrong. */
static void forged_files_are_refused(void **state) {
  (void)state;
  static const char index[] = "parameter w f32 - 5,20\nmask w bits -\n";
  static const struct {
    const char *dataset;
    size_t at;
    const char *bytes, *message;
  } cases[] = {
    { "bits/parameters/w", 0, "\xff", "bits are set, there are 50 values" },
    { "bits/parameters/w", 12, "\xf5", "bits behind the last entry are set" },
    { "index", 18, "5,30", "bytes of bits" },
    { "index", 18, "5,2x", "is not a shape" },
    { "index", 18, "5 20", "a line of the index is damaged" },
    { "index", 12, "f64", "another type" },
    { "index", 16, "1", "a layout does not fit" },
    { "index", 28, "v", "what it belongs to is missing" },
    { "index", 30, "byts", "" },
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    pr_tensor *t = numbers(PR_F32, 2, (int64_t[]){ 5, 20 }, 1),
              *mask = pr_tensor_zeros(PR_F32, PR_CPU, 2, t->shape);
    for (int64_t k = 0; k < 100; k += 2) prT_set(mask, k, 1);
    assert_ok(pr_parameter_make(t, false));
    assert_ok(pr_parameter_mask(t, mask));
    pr_checkpoint_writer *w = pr_checkpoint_begin();
    assert_ok(pr_checkpoint_put_tensor(w, "w", t, false));
    assert_ok(pr_checkpoint_finish(w, in_folder("forged.h5")));
    pr_release(t), pr_release(mask);
    forge(in_folder("forged.h5"), "index", 0, index, 0);
    pr_checkpoint *c = pr_checkpoint_read(in_folder("forged.h5"));
    assert_non_null(c);
    assert_string_equal(pr_checkpoint_find_text(c, "index")->text, index);
    pr_checkpoint_free(c);
    forge(in_folder("forged.h5"), cases[i].dataset, cases[i].at, cases[i].bytes, strlen(cases[i].bytes));
    assert_null(pr_checkpoint_read(in_folder("forged.h5")));
    if (!strstr(pr_error_last()->message, cases[i].message)) print_error("%s\n", pr_error_last()->message);
    assert_non_null(strstr(pr_error_last()->message, cases[i].message));
  }
}

/* --- saving ------------------------------------------------------------------------------------------------------------- */

static void every_allocation_may_fail(void **state) {
  (void)state;
  const int64_t shape[] = { 40, 50 };
  pr_tensor *t = numbers(PR_F32, 2, shape, 1);
  assert_ok(pr_parameter_make(t, false));
  pr_tensor *mask = numbers(PR_BOOL, 2, shape, 1); /* one in three stays */
  assert_ok(pr_parameter_mask(t, mask));
  bool done = false;
  for (size_t n = 1; !done; n++) {
    assert_true(n < 1000);
    pr_memory_fail_after(n, true);
    pr_checkpoint_writer *w = pr_checkpoint_begin();
    pr_status status = w ? pr_checkpoint_put_tensor(w, "weight", t, true) : PR_ERR_MEMORY;
    pr_status finished = w ? pr_checkpoint_finish(w, in_folder("memory.h5")) : PR_ERR_MEMORY;
    pr_checkpoint *c = finished ? NULL : pr_checkpoint_read(in_folder("memory.h5"));
    pr_memory_fail_after(0, false);
    assert_true(!status || finished); /* a failure is passed on to the end */
    done = c != NULL;
    pr_checkpoint_free(c);
  }
  pr_release(t), pr_release(mask);
}

static void a_failed_save_leaves_the_old_file(void **state) {
  (void)state;
  write_sample(in_folder("kept.h5"));
  struct rlimit limit, small;
  getrlimit(RLIMIT_FSIZE, &limit);
  small = limit;
  small.rlim_cur = 4096;
  char *large = calloc(1, 100000);
  setrlimit(RLIMIT_FSIZE, &small);
  pr_status status = pr_file_write(in_folder("kept.h5"), large, 100000);
  setrlimit(RLIMIT_FSIZE, &limit);
  free(large);
  assert_fails(status, PR_ERR_IO, "100.0 kB are needed, 4.1 kB are allowed");
  assert_non_null(strstr(pr_error_last()->message, "kept.h5"));
  assert_int_equal(access(in_folder(".kept.h5.saving"), F_OK), -1);
  pr_checkpoint *c = pr_checkpoint_read(in_folder("kept.h5"));
  assert_non_null(c);
  pr_checkpoint_free(c);
}

static void refuses_what_is_no_file(void **state) {
  (void)state;
  assert_fails(pr_file_write(folder, "x", 1), PR_ERR_IO, "it is a folder");
  assert_fails(pr_file_write("/dev/null", "x", 1), PR_ERR_IO, "not a regular file");
  assert_fails(pr_file_write(in_folder("no/such/file"), "x", 1), PR_ERR_IO, "No such file or directory");
  assert_fails(pr_file_write("", "x", 1), PR_ERR_ARGUMENT, "empty");
}

static void follows_links(void **state) {
  (void)state;
  void *data;
  size_t size;
  assert_ok(pr_file_write(in_folder("real"), "old", 3));
  unlink(in_folder("link"));
  assert_int_equal(symlink("real", in_folder("link")), 0);
  assert_ok(pr_file_write(in_folder("link"), "newer", 5));
  assert_ok(pr_file_read(in_folder("real"), &data, &size));
  assert_int_equal(size, 5);
  prB_aligned_free(data, size);
}

/* The file is whole whenever the process that saves it dies. */
static void survives_kill(void **state) {
  (void)state;
  static char pattern[2][200000];
  memset(pattern[1], 1, sizeof pattern[1]);
  assert_ok(pr_file_write(in_folder("killed"), pattern[0], sizeof pattern[0]));
  for (int kills = 0; kills < 12; kills++) {
    pid_t pid = fork();
    if (pid == 0)
      for (int i = 0;; i++) pr_file_write(in_folder("killed"), pattern[i % 2], sizeof pattern[0]);
    usleep(1000 + 700 * (unsigned)kills);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    void *data;
    size_t size;
    assert_ok(pr_file_read(in_folder("killed"), &data, &size));
    assert_int_equal(size, sizeof pattern[0]);
    assert_memory_equal(data, pattern[*(unsigned char *)data], size);
    prB_aligned_free(data, size);
  }
  assert_ok(pr_file_write(in_folder("killed"), pattern[0], 10)); /* takes over what the dead left */
  assert_int_equal(access(in_folder(".killed.saving"), F_OK), -1);
}

static int begin(void **state) {
  (void)state;
  snprintf(folder, sizeof folder, "/tmp/test_checkpoint.XXXXXX");
  return mkdtemp(folder) ? pr_start() : 1;
}

static int end(void **state) {
  (void)state;
  char command[100];
  snprintf(command, sizeof command, "rm -rf %s", folder);
  return system(command);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    memory_test(keeps_everything),
    memory_test(keeps_all_dtypes_and_shapes),
    memory_test(keeps_large_tensors),
    memory_test(equal_content_gives_equal_bytes),
    memory_test(refuses_every_flipped_bit),
    memory_test(refuses_every_truncation),
    memory_test(says_what_a_foreign_file_is),
    memory_test(masks_leave_out_what_nobody_reads),
    memory_test(zeros_are_left_out_without_loss),
    memory_test(a_sparse_file_is_small),
    memory_test(other_masks_keep_all_values),
    memory_test(bits_and_values_that_do_not_fit_are_refused),
    memory_test(forged_files_are_refused),
    memory_test(every_allocation_may_fail),
    memory_test(a_failed_save_leaves_the_old_file),
    memory_test(refuses_what_is_no_file),
    memory_test(follows_links),
    memory_test(survives_kill),
  };
  return cmocka_run_group_tests(tests, begin, end);
}
