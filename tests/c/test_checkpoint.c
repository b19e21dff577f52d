/* test_checkpoint.c - checkpoints keep every bit of a model, and damaged files are refused before the HDF5
 * library sees them. */
#include "testing.h"

#include "io/checkpoint.h"
#include "io/file.h"
#include "io/hdf5.h"
#include "prune.h"

#include <fcntl.h>
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

/* A parameter in channels-last layout with a mask and state, a buffer, and a scalar. */
static void write_sample(const char *path) {
  pr_checkpoint_writer *w = pr_checkpoint_begin();
  assert_non_null(w);
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
    { "prunelua-checkpoint 2\n", "use a newer prunelua", PR_ERR_UNSUPPORTED },
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

/* --- saving ------------------------------------------------------------------------------------------------------------- */

static void every_allocation_may_fail(void **state) {
  (void)state;
  const int64_t shape[] = { 40, 50 };
  pr_tensor *t = numbers(PR_F32, 2, shape, 1);
  assert_ok(pr_parameter_make(t, false));
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
  pr_release(t);
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
    memory_test(every_allocation_may_fail),
    memory_test(a_failed_save_leaves_the_old_file),
    memory_test(refuses_what_is_no_file),
    memory_test(follows_links),
    memory_test(survives_kill),
  };
  return cmocka_run_group_tests(tests, begin, end);
}
