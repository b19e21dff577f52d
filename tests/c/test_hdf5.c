/* test_hdf5.c - the reader of HDF5 arrays: what it yields, and that a file nobody vouches for can do no harm.
 */
#define _GNU_SOURCE
#include "data_files.h"

#include "base/thread.h"
#include "io/hdf5.h"

#include <signal.h>
#include <sys/wait.h>

static pr_status read_one(const char *path, const char *name, pr_hdf5_array *out) {
  return pr_hdf5_read_foreign(path, &(pr_hdf5_wanted){ .name = name }, 1, out);
}

/* Both doors give the same. */
static void read_both(const char *path, const char *name, pr_hdf5_array *out) {
  pr_hdf5_array other;
  pr_hdf5 *file;
  assert_ok(read_one(path, name, out));
  assert_ok(pr_hdf5_open(path, &file));
  assert_ok(pr_hdf5_read(file, name, &other));
  pr_hdf5_close(file);
  assert_int_equal(out->type, other.type);
  assert_int_equal(out->rank, other.rank);
  assert_int_equal(out->bytes, other.bytes);
  assert_memory_equal(out->shape, other.shape, sizeof out->shape);
  if (out->bytes) assert_memory_equal(out->data, other.data, out->bytes);
  pr_hdf5_array_free(&other);
}

static void every_number_type(void **state) {
  (void)state;
  const char *path = files_path("types.h5");
  const hsize_t shape[2] = { 2, 2 };
  hid_t file = files_hdf5_new(path);
  const struct {
    const char *name;
    hid_t type;
    pr_hdf5_type expected;
    double values[4];
  } cases[] = {
    { "u8", H5T_STD_U8LE, PR_HDF5_U8, { 0, 1, 2, 255 } },
    { "i8", H5T_STD_I8LE, PR_HDF5_I8, { 0, 1, -2, -128 } },
    { "u16", H5T_STD_U16BE, PR_HDF5_U16, { 0, 1, 2, 65535 } },
    { "i16", H5T_STD_I16LE, PR_HDF5_I16, { 0, 1, -2, 32767 } },
    { "u32", H5T_STD_U32LE, PR_HDF5_U32, { 0, 1, 2, 4294967295.0 } },
    { "i32", H5T_STD_I32BE, PR_HDF5_I32, { 0, 1, -2, 70000 } },
    { "u64", H5T_STD_U64LE, PR_HDF5_U64, { 0, 1, 2, 1e15 } },
    { "i64", H5T_STD_I64BE, PR_HDF5_I64, { 0, 1, -2, -1e15 } },
    { "f32", H5T_IEEE_F32LE, PR_HDF5_F32, { 0, 0.5, -2, 1e10 } },
    { "f64", H5T_IEEE_F64BE, PR_HDF5_F64, { 0, 0.1, -2, 1e300 } },
  };
  enum { CASES = sizeof cases / sizeof *cases };
  for (int i = 0; i < CASES; i++) {
    double values[4];
    memcpy(values, cases[i].values, sizeof values);
    H5Tconvert(H5T_NATIVE_DOUBLE, cases[i].type, 4, values, NULL, H5P_DEFAULT);
    files_hdf5_put(file, cases[i].name, cases[i].type, 2, shape, values, i % 2);
  }
  H5Fclose(file);
  for (int i = 0; i < CASES; i++) {
    pr_hdf5_array a;
    read_both(path, cases[i].name, &a);
    assert_int_equal(a.type, cases[i].expected);
    assert_true(a.rank == 2 && a.shape[0] == 2 && a.shape[1] == 2 && a.count == 4);
    for (int k = 0; k < 4; k++) {
      double got = 0;
      switch (a.type) {
      case PR_HDF5_U8: got = ((uint8_t *)a.data)[k]; break;
      case PR_HDF5_I8: got = ((int8_t *)a.data)[k]; break;
      case PR_HDF5_U16: got = ((uint16_t *)a.data)[k]; break;
      case PR_HDF5_I16: got = ((int16_t *)a.data)[k]; break;
      case PR_HDF5_U32: got = ((uint32_t *)a.data)[k]; break;
      case PR_HDF5_I32: got = ((int32_t *)a.data)[k]; break;
      case PR_HDF5_U64: got = (double)((uint64_t *)a.data)[k]; break;
      case PR_HDF5_I64: got = (double)((int64_t *)a.data)[k]; break;
      case PR_HDF5_F32: got = ((float *)a.data)[k]; break;
      case PR_HDF5_F64: got = ((double *)a.data)[k]; break;
      }
      assert_close(got, cases[i].values[k], 1e-7);
    }
    pr_hdf5_array_free(&a);
  }
}

/* The forms that h5py gives to booleans, half precision, scalars and empty arrays; and datasets in groups. */
static void forms_of_h5py(void **state) {
  (void)state;
  const char *path = files_path("forms.h5");
  hid_t file = files_hdf5_new(path);
  hid_t boolean = H5Tenum_create(H5T_NATIVE_INT8), half = H5Tcopy(H5T_IEEE_F32LE);
  int8_t member = 0;
  H5Tenum_insert(boolean, "FALSE", &member);
  member = 1;
  H5Tenum_insert(boolean, "TRUE", &member);
  H5Tset_fields(half, 15, 10, 5, 0, 10);
  H5Tset_size(half, 2);
  H5Tset_ebias(half, 15);
  const hsize_t three = 3, none = 0;
  const uint16_t halves[3] = { 0x3c00, 0xc000, 0x3555 }; /* 1, -2, nearly 1/3 */
  files_hdf5_put(file, "bool", boolean, 1, &three, (int8_t[]){ 1, 0, 1 }, false);
  files_hdf5_put(file, "half", half, 1, &three, halves, false);
  files_hdf5_put(file, "none", H5T_NATIVE_FLOAT, 1, &none, NULL, false);
  files_hdf5_put(file, "scalar", H5T_NATIVE_FLOAT, 0, NULL, &(float){ 7 }, false);
  H5Gclose(H5Gcreate2(file, "group", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
  files_hdf5_put(file, "group/inner", H5T_NATIVE_INT, 1, &three, (int[]){ 4, 5, 6 }, false);
  H5Tclose(boolean), H5Tclose(half), H5Fclose(file);

  pr_hdf5_array a;
  read_both(path, "bool", &a);
  assert_memory_equal(a.data, ((int8_t[]){ 1, 0, 1 }), 3);
  pr_hdf5_array_free(&a);
  read_both(path, "half", &a);
  assert_int_equal(a.type, PR_HDF5_F32);
  assert_true(((float *)a.data)[0] == 1 && ((float *)a.data)[1] == -2);
  assert_close(((float *)a.data)[2], 1 / 3.0, 1e-3);
  pr_hdf5_array_free(&a);
  read_both(path, "none", &a);
  assert_true(a.found && a.count == 0 && !a.data);
  read_both(path, "scalar", &a);
  assert_true(a.rank == 0 && a.count == 1 && *(float *)a.data == 7);
  pr_hdf5_array_free(&a);
  read_both(path, "group/inner", &a);
  assert_true(((int32_t *)a.data)[2] == 6);
  pr_hdf5_array_free(&a);
  assert_fails(read_one(path, "group", &a), PR_ERR_FORMAT, "`group` cannot be opened as a dataset");
  assert_fails(read_one(path, "group/", &a), PR_ERR_FORMAT, NULL);
  assert_fails(read_one(path, "", &a), PR_ERR_FORMAT, "there is no dataset ``");
}

/* More rows than are sent at once, and rows of chunks that do not divide them. */
static void large_datasets_arrive_in_pieces(void **state) {
  (void)state;
  const char *path = files_path("pieces.h5");
  enum { ROWS = 5000, COLUMNS = 2111 };
  const hsize_t shape[2] = { ROWS, COLUMNS }, chunk[2] = { 707, 300 };
  int16_t *values = malloc(sizeof *values * ROWS * COLUMNS);
  for (int i = 0; i < ROWS * COLUMNS; i++) values[i] = (int16_t)(i % 30011);
  hid_t file = files_hdf5_new(path), space = H5Screate_simple(2, shape, NULL),
        properties = H5Pcreate(H5P_DATASET_CREATE);
  H5Pset_chunk(properties, 2, chunk);
  H5Pset_fletcher32(properties);
  hid_t set = H5Dcreate2(file, "x", H5T_NATIVE_INT16, space, H5P_DEFAULT, properties, H5P_DEFAULT);
  assert_true(H5Dwrite(set, H5T_NATIVE_INT16, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
  H5Dclose(set), H5Pclose(properties), H5Sclose(space), H5Fclose(file);
  pr_hdf5_array a;
  assert_ok(read_one(path, "x", &a));
  assert_int_equal(a.count, ROWS * COLUMNS);
  assert_int_equal(memcmp(a.data, values, a.bytes), 0);
  pr_hdf5_array_free(&a);
  free(values);
}

static void optional_and_heads(void **state) {
  (void)state;
  const char *path = files_path("optional.h5");
  hid_t file = files_hdf5_new(path);
  files_hdf5_part(file, "images", "labels", 4, 2, 2, 0, 2, false);
  H5Fclose(file);
  const pr_hdf5_wanted wanted[] = { { .name = "absent", .optional = true },
                                    { .name = "images", .head_only = true },
                                    { .name = "labels" },
                                    { .name = "labels", .optional = true } };
  pr_hdf5_array a[4];
  assert_ok(pr_hdf5_read_foreign(path, wanted, 4, a));
  assert_true(!a[0].found && !a[0].data);
  assert_true(a[1].found && !a[1].data && a[1].rank == 3 && a[1].count == 16);
  assert_true(a[2].found && ((int64_t *)a[2].data)[3] == 1);
  assert_true(a[3].found && a[3].data != a[2].data);
  for (int i = 0; i < 4; i++) pr_hdf5_array_free(&a[i]);

  /* on failure nothing is left, also of what had arrived */
  const pr_hdf5_wanted missing[] = { { .name = "labels" }, { .name = "absent" } };
  assert_fails(pr_hdf5_read_foreign(path, missing, 2, a), PR_ERR_FORMAT, "there is no dataset `absent`");
  assert_null(a[0].data);
  assert_false(a[0].found);
}

/* A file may not lead to other files, and may not claim what it cannot hold. */
static void refused_content(void **state) {
  (void)state;
  const char *path = files_path("refused.h5"), *target = files_path("target.h5");
  hid_t file = files_hdf5_new(target);
  const hsize_t three = 3, huge[2] = { 1000000, 1000 }, beyond[3] = { 1u << 30, 1u << 30, 1u << 30 };
  files_hdf5_put(file, "x", H5T_NATIVE_INT, 1, &three, (int[]){ 1, 2, 3 }, false);
  H5Fclose(file);
  file = files_hdf5_new(path);
  files_hdf5_put(file, "x", H5T_NATIVE_INT, 1, &three, (int[]){ 1, 2, 3 }, false);
  H5Lcreate_external(target, "x", file, "external", H5P_DEFAULT, H5P_DEFAULT);
  H5Lcreate_soft("x", file, "soft", H5P_DEFAULT, H5P_DEFAULT);
  hid_t text = H5Tcopy(H5T_C_S1), properties = H5Pcreate(H5P_DATASET_CREATE);
  H5Tset_size(text, H5T_VARIABLE);
  files_hdf5_put(file, "text", text, 1, &three, NULL, false);
  H5Pset_external(properties, "/etc/hostname", 0, 12);
  hid_t space = H5Screate_simple(1, &three, NULL);
  H5Dclose(H5Dcreate2(file, "elsewhere", H5T_NATIVE_INT, space, H5P_DEFAULT, properties, H5P_DEFAULT));
  H5Pclose(properties), H5Sclose(space), H5Tclose(text);
  properties = H5Pcreate(H5P_DATASET_CREATE);
  H5Pset_chunk(properties, 2, (hsize_t[]){ 10, 10 });
  space = H5Screate_simple(2, huge, NULL);
  H5Dclose(H5Dcreate2(file, "hollow", H5T_NATIVE_INT, space, H5P_DEFAULT, properties, H5P_DEFAULT));
  H5Sclose(space), H5Pclose(properties);
  properties = H5Pcreate(H5P_DATASET_CREATE);
  H5Pset_chunk(properties, 3, (hsize_t[]){ 10, 10, 10 });
  space = H5Screate_simple(3, beyond, NULL);
  H5Dclose(H5Dcreate2(file, "beyond", H5T_NATIVE_INT, space, H5P_DEFAULT, properties, H5P_DEFAULT));
  H5Sclose(space), H5Pclose(properties), H5Fclose(file);

  pr_hdf5_array a;
  assert_fails(read_one(path, "external", &a), PR_ERR_FORMAT, "refused.h5: there is no dataset `external`");
  assert_fails(read_one(path, "soft", &a), PR_ERR_FORMAT, "there is no dataset `soft`");
  assert_fails(read_one(path, "text", &a), PR_ERR_FORMAT,
               "`text` does not hold integers or floating-point numbers");
  assert_fails(read_one(path, "elsewhere", &a), PR_ERR_UNSUPPORTED, "its storage lies in other files");
  assert_fails(read_one(path, "beyond", &a), PR_ERR_FORMAT, "claims a size that no memory holds");
  pr_memory_reset_peak();
  assert_fails(read_one(path, "hollow", &a), PR_ERR_FORMAT,
               "`hollow` claims 4000000000 bytes, more than a file of");
  pr_memory_stats stats;
  pr_memory_get(&stats);
  assert_in_range(stats.peak, 0, 100000);
}

static void what_is_no_hdf5(void **state) {
  (void)state;
  pr_hdf5_array a;
  pr_hdf5 *file = NULL;
  const char *path = files_path("none.h5");
  assert_fails(read_one(path, "x", &a), PR_ERR_IO, "none.h5: cannot be opened: No such file");
  assert_fails(read_one(files_root, "x", &a), PR_ERR_FORMAT, "is not a file");
  files_write(path, "plain text", 10);
  assert_fails(read_one(path, "x", &a), PR_ERR_FORMAT, "none.h5: cannot be opened as HDF5");
  assert_fails(pr_hdf5_open(path, &file), PR_ERR_FORMAT, "none.h5: cannot be opened as HDF5");
  assert_false(pr_hdf5_signature(path));
  assert_null(file);
  assert_fails(pr_hdf5_open_bytes("plain text", 10, "text", &file), PR_ERR_FORMAT,
               "text: cannot be opened as HDF5");
}

/* A chunked layout (version 3, class 2, 2 dimensions) that claims to be of version 1: libhdf5 1.10 divides by
 * zero over it. */
static void the_death_of_the_reader_is_an_error(void **state) {
  (void)state;
  const char *path = files_path("death.h5");
  const hsize_t three = 3;
  hid_t file = files_hdf5_new(path);
  files_hdf5_put(file, "x", H5T_NATIVE_INT, 1, &three, (int[]){ 1, 2, 3 }, true);
  H5Fclose(file);
  size_t size;
  uint8_t *bytes = files_read(path, &size), *layout = memmem(bytes, size, (uint8_t[]){ 3, 2, 2 }, 3);
  assert_non_null(layout);
  *layout = 1;
  files_write(path, bytes, size);
  free(bytes);
  pr_hdf5_array a;
  unsigned major, minor, release;
  H5get_libversion(&major, &minor, &release);
  assert_fails(read_one(path, "x", &a), PR_ERR_FORMAT,
               minor == 10 ? "death.h5: the HDF5 library crashed on it" : "death.h5");
  assert_null(a.data);
  assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child, not even a dead one */
}

/* A file that was cut off; the numbers of its dataset are gone. */
static void a_short_file(void **state) {
  (void)state;
  const char *path = files_path("short.h5");
  const hsize_t size = 1 << 20;
  uint8_t *bytes = calloc(size, 1);
  hid_t file = files_hdf5_new(path);
  files_hdf5_put(file, "x", H5T_NATIVE_UINT8, 1, &size, bytes, false);
  H5Fclose(file);
  free(bytes);
  assert_int_equal(truncate(path, 4096), 0);
  pr_hdf5_array a;
  assert_fails(read_one(path, "x", &a), PR_ERR_FORMAT, "short.h5: ");
}

static void closed_standard_streams_do_not_confuse_the_pipe(void **state) {
  (void)state;
  const char *sound = files_path("streams.h5");
  hid_t file = files_hdf5_new(sound);
  files_hdf5_part(file, "images", "labels", 4, 2, 2, 0, 2, false);
  H5Fclose(file);
  int saved = dup(0);
  close(0);
  pr_hdf5_array a;
  pr_status status = read_one(sound, "labels", &a);
  dup2(saved, 0);
  close(saved);
  assert_ok(status);
  pr_hdf5_array_free(&a);
}

/* A parent without SIGCHLD, as some programs are. */
static void ignored_children(void **state) {
  (void)state;
  const char *path = files_path("children.h5");
  hid_t file = files_hdf5_new(path);
  files_hdf5_part(file, "images", "labels", 4, 2, 2, 0, 2, false);
  H5Fclose(file);
  pr_hdf5_array a;
  signal(SIGCHLD, SIG_IGN);
  pr_status sound = read_one(path, "labels", &a);
  if (!sound) pr_hdf5_array_free(&a);
  pr_status absent = read_one(path, "absent", &a);
  signal(SIGCHLD, SIG_DFL);
  assert_int_equal(sound, PR_OK);
  assert_fails(absent, PR_ERR_FORMAT, "there is no dataset `absent`");
}

static void an_interrupt_ends_the_reading(void **state) {
  (void)state;
  const char *path = files_path("interrupt.h5");
  hid_t file = files_hdf5_new(path);
  files_hdf5_part(file, "images", "labels", 4, 2, 2, 0, 2, false);
  H5Fclose(file);
  pr_hdf5_array a;
  pr_interrupt();
  assert_fails(read_one(path, "labels", &a), PR_ERR_INTERRUPTED, NULL);
  assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
  assert_ok(read_one(path, "labels", &a));
  pr_hdf5_array_free(&a);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    memory_test(every_number_type),
    memory_test(forms_of_h5py),
    memory_test(large_datasets_arrive_in_pieces),
    memory_test(optional_and_heads),
    memory_test(refused_content),
    memory_test(what_is_no_hdf5),
    memory_test(the_death_of_the_reader_is_an_error),
    memory_test(a_short_file),
    memory_test(closed_standard_streams_do_not_confuse_the_pipe),
    memory_test(ignored_children),
    memory_test(an_interrupt_ends_the_reading),
  };
  return cmocka_run_group_tests(tests, files_begin, files_end);
}
