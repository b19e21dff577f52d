/* hdf5.c - arrays out of HDF5 files, in this process. hdf5_foreign.c wraps it in a child for files that
 * nobody vouches for. */
#include "io/hdf5.h"

#include "base/memory.h"

#include <hdf5.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

struct pr_hdf5 {
  hid_t id;
  char *name;
};

struct prI_hdf5_source {
  hid_t dataset, space, memory_type;
  int rank;
  hsize_t shape[PR_HDF5_RANK];
  int64_t piece;
  const char *file, *name; /* borrowed */
};

static const struct {
  const char *name;
  size_t size;
} types[] = {
  { "uint8", 1 }, { "int8", 1 },   { "uint16", 2 }, { "int16", 2 },   { "uint32", 4 },
  { "int32", 4 }, { "uint64", 8 }, { "int64", 8 },  { "float32", 4 }, { "float64", 8 },
};

size_t pr_hdf5_type_size(pr_hdf5_type type) { return types[type].size; }
const char *pr_hdf5_type_name(pr_hdf5_type type) { return types[type].name; }

void pr_hdf5_array_free(pr_hdf5_array *array) {
  prB_aligned_free(array->data, array->bytes);
  *array = (pr_hdf5_array){ 0 };
}

static void start(void) {
  H5dont_atexit(); /* first of all: closing files at exit can crash after a failed write */
  H5open();
  H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
  H5PLset_loading_state(0); /* no code from filter plug-ins */
}

void prI_hdf5_start(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, start);
}

static herr_t innermost(unsigned n, const H5E_error2_t *error, void *data) {
  (void)n;
  const char **reason = data;
  if (!*reason && error->desc && *error->desc) *reason = error->desc;
  return 0;
}

const char *prI_hdf5_reason(void) {
  static char text[200];
  const char *reason = NULL;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, innermost, &reason);
  snprintf(text, sizeof text, "%s", reason ? reason : "no reason given");
  return text;
}

/* --- files --- */

static pr_status take(hid_t id, const char *name, pr_hdf5 **out) {
  *out = NULL;
  if (id < 0) return pr_fail(PR_ERR_FORMAT, "%s: cannot be opened as HDF5: %s", name, prI_hdf5_reason());
  pr_hdf5 *file = PRB_NEW(pr_hdf5);
  char *copy = file ? prB_string(name) : NULL;
  if (!copy) {
    PRB_FREE(file);
    H5Fclose(id);
    return PR_ERR_MEMORY;
  }
  file->id = id, file->name = copy;
  *out = file;
  return PR_OK;
}

pr_status pr_hdf5_open(const char *path, pr_hdf5 **out) {
  prI_hdf5_start();
  return take(H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT), path, out);
}

void prI_hdf5_label(char label[PRI_HDF5_LABEL]) {
  static _Atomic unsigned count;
  snprintf(label, PRI_HDF5_LABEL, "/dev/null/image.%u", count++);
}

pr_status pr_hdf5_open_bytes(const void *bytes, size_t size, const char *name, pr_hdf5 **out) {
  prI_hdf5_start();
  char label[PRI_HDF5_LABEL];
  prI_hdf5_label(label);
  hid_t id = -1, access = H5Pcreate(H5P_FILE_ACCESS);
  /* the library copies the image; its signature lacks the const */
  if (access >= 0 && H5Pset_fapl_core(access, 1 << 16, 0) >= 0 &&
      H5Pset_file_image(access, (void *)bytes, size) >= 0)
    id = H5Fopen(label, H5F_ACC_RDONLY, access);
  pr_status status = take(id, name, out);
  if (access >= 0) H5Pclose(access);
  return status;
}

void pr_hdf5_close(pr_hdf5 *file) {
  if (!file) return;
  H5Fclose(file->id);
  prB_string_free(file->name);
  PRB_FREE(file);
}

/* Soft and external links could lead to other files, so every step of the path must be a hard link. */
bool pr_hdf5_has(pr_hdf5 *file, const char *name) {
  char prefix[512];
  size_t length = strlen(name);
  if (length == 0 || length >= sizeof prefix) return false;
  for (size_t i = 1; i <= length; i++) {
    if (name[i] && name[i] != '/') continue;
    H5L_info_t link;
    memcpy(prefix, name, i);
    prefix[i] = 0;
    if (H5Lexists(file->id, prefix, H5P_DEFAULT) <= 0) return false;
    if (H5Lget_info(file->id, prefix, &link, H5P_DEFAULT) < 0 || link.type != H5L_TYPE_HARD) return false;
  }
  return H5Oexists_by_name(file->id, name, H5P_DEFAULT) > 0;
}

/* --- one dataset --- */

/* The type in memory for the type in the file; -1 for what is not a number. */
static hid_t memory_type(hid_t type, pr_hdf5_type *out) {
  static const pr_hdf5_type unsigned_types[] = { PR_HDF5_U8, PR_HDF5_U16, PR_HDF5_U32, PR_HDF5_U64 };
  static const pr_hdf5_type signed_types[] = { PR_HDF5_I8, PR_HDF5_I16, PR_HDF5_I32, PR_HDF5_I64 };
  const hid_t native[] = { H5T_NATIVE_UINT8,  H5T_NATIVE_INT8,  H5T_NATIVE_UINT16, H5T_NATIVE_INT16,
                           H5T_NATIVE_UINT32, H5T_NATIVE_INT32, H5T_NATIVE_UINT64, H5T_NATIVE_INT64,
                           H5T_NATIVE_FLOAT,  H5T_NATIVE_DOUBLE };
  size_t size = H5Tget_size(type);
  if (size < 1 || size > 8) return -1;
  int log = size > 4 ? 3 : size > 2 ? 2 : size > 1 ? 1 : 0;
  switch (H5Tget_class(type)) {
  case H5T_INTEGER: *out = H5Tget_sign(type) == H5T_SGN_NONE ? unsigned_types[log] : signed_types[log]; break;
  case H5T_FLOAT: *out = size > 4 ? PR_HDF5_F64 : PR_HDF5_F32; break;
  default: return -1;
  }
  return native[*out];
}

/* h5py stores booleans as an enumeration over one byte; its members are read as that byte. */
static hid_t number_type(hid_t dataset) {
  hid_t type = H5Dget_type(dataset);
  if (type < 0 || H5Tget_class(type) != H5T_ENUM) return type;
  hid_t base = H5Tget_size(type) == 1 ? H5Tget_super(type) : -1;
  H5Tclose(type);
  return base;
}

static const char *refused_storage(hid_t properties, int rank, hsize_t *chunk_rows, hsize_t *chunk_bytes,
                                   size_t size) {
  H5D_layout_t layout = H5Pget_layout(properties);
  if (layout != H5D_CONTIGUOUS && layout != H5D_COMPACT && layout != H5D_CHUNKED)
    return "its storage is virtual";
  if (H5Pget_external_count(properties) != 0) return "its storage lies in other files";
  *chunk_rows = 1, *chunk_bytes = 0;
  if (layout == H5D_CHUNKED) {
    hsize_t chunk[PR_HDF5_RANK];
    if (H5Pget_chunk(properties, PR_HDF5_RANK, chunk) != rank) return "its chunks do not fit its shape";
    *chunk_rows = chunk[0], *chunk_bytes = size;
    for (int i = 0; i < rank; i++)
      if (!chunk[i] || __builtin_mul_overflow(*chunk_bytes, chunk[i], chunk_bytes) ||
          *chunk_bytes > (hsize_t)1 << 30)
        return "its chunks are larger than 1 GiB";
  }
  int filters = H5Pget_nfilters(properties);
  for (int i = 0; i < filters; i++) {
    unsigned flags, config;
    size_t values = 0;
    H5Z_filter_t filter = H5Pget_filter2(properties, (unsigned)i, &flags, &values, NULL, 0, NULL, &config);
    if (filter != H5Z_FILTER_DEFLATE && filter != H5Z_FILTER_SHUFFLE && filter != H5Z_FILTER_FLETCHER32 &&
        filter != H5Z_FILTER_NBIT && filter != H5Z_FILTER_SCALEOFFSET)
      return "it uses a filter other than deflate, shuffle, fletcher32, nbit, scaleoffset";
  }
  return filters < 0 ? "its filters cannot be read" : NULL;
}

static pr_status describe(prI_hdf5_source *s, pr_hdf5_array *head) {
  hid_t type = number_type(s->dataset);
  s->memory_type = type < 0 ? -1 : memory_type(type, &head->type);
  if (type >= 0) H5Tclose(type);
  if (s->memory_type < 0)
    return pr_fail(PR_ERR_FORMAT,
                   "%s: `%s` does not hold integers or floating-point numbers of up to 8 bytes", s->file,
                   s->name);
  s->space = H5Dget_space(s->dataset);
  H5S_class_t kind = H5Sget_simple_extent_type(s->space);
  s->rank = kind == H5S_SIMPLE || kind == H5S_SCALAR ? H5Sget_simple_extent_ndims(s->space) : -1;
  if (s->rank < 0 || s->rank > PR_HDF5_RANK)
    return pr_fail(PR_ERR_FORMAT, "%s: `%s` has no shape of at most %d axes", s->file, s->name, PR_HDF5_RANK);
  if (s->rank) H5Sget_simple_extent_dims(s->space, s->shape, NULL);

  size_t size = pr_hdf5_type_size(head->type), bytes = size, row = size;
  head->rank = s->rank;
  for (int i = 0; i < s->rank; i++) {
    if (s->shape[i] > INT64_MAX / 16 || __builtin_mul_overflow(bytes, s->shape[i], &bytes) ||
        bytes > (size_t)1 << 48)
      return pr_fail(PR_ERR_FORMAT, "%s: `%s` claims a size that no memory holds", s->file, s->name);
    head->shape[i] = (int64_t)s->shape[i];
    if (i) row *= s->shape[i];
  }
  head->found = true, head->bytes = bytes, head->count = (int64_t)(bytes / size);

  hid_t properties = H5Dget_create_plist(s->dataset);
  hsize_t chunk_rows = 1, chunk_bytes = 0;
  const char *refused = refused_storage(properties, s->rank, &chunk_rows, &chunk_bytes, size);
  H5Pclose(properties);
  if (refused) return pr_fail(PR_ERR_UNSUPPORTED, "%s: `%s` cannot be read: %s", s->file, s->name, refused);
  /* About 8 MiB at once, in whole rows of chunks, so that every chunk is unpacked once. */
  uint64_t rows = row ? ((uint64_t)8 << 20) / row : 1;
  s->piece = (int64_t)((rows + chunk_rows) / chunk_rows * chunk_rows);
  return PR_OK;
}

pr_status prI_hdf5_source_open(pr_hdf5 *file, const char *name, pr_hdf5_array *head, prI_hdf5_source **out) {
  *out = NULL;
  *head = (pr_hdf5_array){ 0 };
  if (!pr_hdf5_has(file, name))
    return pr_fail(PR_ERR_FORMAT, "%s: there is no dataset `%s` in it", file->name, name);
  prI_hdf5_source *s = PRB_NEW(prI_hdf5_source);
  if (!s) return PR_ERR_MEMORY;
  s->file = file->name, s->name = name, s->space = s->memory_type = -1;
  s->dataset = H5Dopen2(file->id, name, H5P_DEFAULT);
  pr_status status = s->dataset < 0 ? pr_fail(PR_ERR_FORMAT, "%s: `%s` cannot be opened as a dataset: %s",
                                              file->name, name, prI_hdf5_reason())
                                    : describe(s, head);
  if (status) {
    prI_hdf5_source_close(s);
    return status;
  }
  *out = s;
  return PR_OK;
}

int64_t prI_hdf5_source_piece(const prI_hdf5_source *source) { return source->piece; }

pr_status prI_hdf5_source_read(prI_hdf5_source *s, int64_t first, int64_t rows, void *out) {
  hid_t memory = H5S_ALL, file = H5S_ALL;
  if (s->rank) {
    hsize_t start_at[PR_HDF5_RANK] = { (hsize_t)first }, count[PR_HDF5_RANK];
    memcpy(count, s->shape, sizeof count);
    count[0] = (hsize_t)rows;
    file = s->space;
    memory = H5Screate_simple(s->rank, count, NULL);
    if (memory < 0 || H5Sselect_hyperslab(file, H5S_SELECT_SET, start_at, NULL, count, NULL) < 0)
      return pr_fail(PR_ERR_FORMAT, "%s: `%s` cannot be read: %s", s->file, s->name, prI_hdf5_reason());
  }
  herr_t read = H5Dread(s->dataset, s->memory_type, memory, file, H5P_DEFAULT, out);
  if (memory != H5S_ALL) H5Sclose(memory);
  return read < 0 ? pr_fail(PR_ERR_FORMAT, "%s: `%s` cannot be read: %s", s->file, s->name, prI_hdf5_reason())
                  : PR_OK;
}

void prI_hdf5_source_close(prI_hdf5_source *s) {
  if (!s) return;
  if (s->space >= 0) H5Sclose(s->space);
  if (s->dataset >= 0) H5Dclose(s->dataset);
  PRB_FREE(s);
}

pr_status pr_hdf5_read(pr_hdf5 *file, const char *name, pr_hdf5_array *out) {
  prI_hdf5_source *source;
  PR_TRY(prI_hdf5_source_open(file, name, out, &source));
  pr_status status = PR_OK;
  if (out->bytes) {
    out->data = prB_aligned(out->bytes);
    status =
        out->data ? prI_hdf5_source_read(source, 0, out->rank ? out->shape[0] : 1, out->data) : PR_ERR_MEMORY;
  }
  prI_hdf5_source_close(source);
  if (status) pr_hdf5_array_free(out);
  return status;
}
