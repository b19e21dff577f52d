/* checkpoint_write.c - building a checkpoint in memory and putting it on disk.
 *
 * HDF5's core driver keeps the file in a block of memory that it gets from callbacks, so when it closes the
 * file the block is taken instead of freed. (H5Fget_file_image would give a superblock with a wrong checksum
 * in this format, libhdf5 1.10.8.) The library never touches the disk: it handles a full one badly.
 */
#include "io/checkpoint.h"

#include "autograd/parameter.h"
#include "base/memory.h"
#include "io/file.h"
#include "io/hdf5.h"
#include "io/sparse.h"

#include <hdf5.h>
#include <stdio.h>
#include <string.h>

enum { GROWTH = 4 << 20, CHUNK = 1 << 20, LONGEST_NAME = 400, LONGEST_SLOT = 64 };

/* The one block of the one file of a writer. */
typedef struct image {
  void *data;
  size_t size;
  bool failed;
} image;

struct pr_checkpoint_writer {
  image image;
  hid_t file, links, groups; /* the latter two property lists; -1 when not open */
  char *index;
  size_t length, room;
  int version;
  bool keep_dense, failed;
  pr_error reason;
};

/* --- the image ---------------------------------------------------------------------------------------------------------- */

static void *image_malloc(size_t size, H5FD_file_image_op_t op, void *udata) {
  (void)op;
  image *m = udata;
  m->data = prB_resize(NULL, 0, size);
  m->size = m->data ? size : 0, m->failed |= !m->data;
  return m->data;
}

static void *image_memcpy(void *to, const void *from, size_t size, H5FD_file_image_op_t op, void *udata) {
  (void)op, (void)udata;
  return memcpy(to, from, size);
}

static void *image_realloc(void *block, size_t size, H5FD_file_image_op_t op, void *udata) {
  (void)op, (void)block;
  image *m = udata;
  void *larger = prB_resize(m->data, m->size, size);
  if (!larger) return m->failed = true, NULL;
  m->data = larger, m->size = size;
  return larger;
}

/* The block stays where it is: the writer takes it. */
static herr_t image_free(void *block, H5FD_file_image_op_t op, void *udata) {
  (void)block, (void)op, (void)udata;
  return 0;
}

static void *image_share(void *udata) { return udata; }
static herr_t image_unshare(void *udata) {
  (void)udata;
  return 0;
}

/* --- beginning and failing ---------------------------------------------------------------------------------------------- */

static pr_status fail(pr_checkpoint_writer *w, pr_status status) {
  if (!status) return PR_OK;
  w->failed = true, w->reason = *pr_error_last();
  return status;
}

static pr_status library(pr_checkpoint_writer *w, const char *what) {
  const char *reason = prI_hdf5_reason();
  return fail(w, w->image.failed
                     ? pr_fail(PR_ERR_MEMORY, "checkpoint: out of memory at %zu bytes", w->image.size)
                     : pr_fail(PR_ERR_IO, "checkpoint: %s cannot be stored: %s", what, reason));
}

static hid_t file_access(image *m) {
  H5FD_file_image_callbacks_t callbacks = {
    image_malloc, image_memcpy, image_realloc, image_free, image_share, image_unshare, m
  };
  hid_t access = H5Pcreate(H5P_FILE_ACCESS);
  if (access < 0) return -1;
  if (H5Pset_fapl_core(access, GROWTH, 0) >= 0 && H5Pset_file_image_callbacks(access, &callbacks) >= 0 &&
      H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110) >= 0 &&
      H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0)
    return access;
  H5Pclose(access);
  return -1;
}

static hid_t create_file(image *m) {
  hid_t access = file_access(m), creation = H5Pcreate(H5P_FILE_CREATE), file = -1;
  char label[PRI_HDF5_LABEL];
  prI_hdf5_label(label);
  if (access >= 0 && creation >= 0 && H5Pset_userblock(creation, PR_CHECKPOINT_HEADER) >= 0 &&
      H5Pset_obj_track_times(creation, 0) >= 0)
    file = H5Fcreate(label, H5F_ACC_TRUNC, creation, access);
  if (access >= 0) H5Pclose(access);
  if (creation >= 0) H5Pclose(creation);
  return file;
}

pr_checkpoint_writer *pr_checkpoint_begin(void) {
  prI_hdf5_start();
  pr_checkpoint_writer *w = PRB_NEW(pr_checkpoint_writer);
  if (!w) return NULL;
  w->version = 1;
  w->file = create_file(&w->image);
  w->links = H5Pcreate(H5P_LINK_CREATE), w->groups = H5Pcreate(H5P_GROUP_CREATE);
  if (w->file < 0 || w->links < 0 || w->groups < 0 || H5Pset_char_encoding(w->links, H5T_CSET_UTF8) < 0 ||
      H5Pset_obj_track_times(w->groups, 0) < 0) {
    library(w, "the file");
    pr_checkpoint_cancel(w);
    return NULL;
  }
  return w;
}

void pr_checkpoint_keep_dense(pr_checkpoint_writer *w) { w->keep_dense = true; }

/* Closing a file whose writing failed may fail too; the block is ours in any case. */
static bool close_file(pr_checkpoint_writer *w) {
  bool closed = w->file < 0 || H5Fclose(w->file) >= 0;
  if (w->links >= 0) H5Pclose(w->links);
  if (w->groups >= 0) H5Pclose(w->groups);
  w->file = w->links = w->groups = -1;
  return closed;
}

void pr_checkpoint_cancel(pr_checkpoint_writer *w) {
  if (!w) return;
  close_file(w);
  prB_resize(w->image.data, w->image.size, 0);
  PRB_ARRAY_FREE(w->index, w->room);
  PRB_FREE(w);
}

/* --- arrays ------------------------------------------------------------------------------------------------------------- */

typedef struct array {
  hid_t stored, memory; /* types */
  size_t size;          /* of an element */
  int dim;
  hsize_t shape[PR_MAX_DIM];
  const void *data;
  bool pack;         /* shuffle and deflate */
  const char *dtype; /* an attribute for types that HDF5 does not have, or NULL */
} array;

static size_t count_of(const array *a) {
  size_t count = 1;
  for (int d = 0; d < a->dim; d++) count *= a->shape[d];
  return count;
}

/* Chunks of about a megabyte; only chunks carry checksums. Scalars and empty arrays cannot have any. */
static hid_t storage_of(const array *a) {
  hid_t storage = H5Pcreate(H5P_DATASET_CREATE);
  if (storage < 0) return -1;
  size_t bytes = count_of(a) * a->size;
  bool good = H5Pset_obj_track_times(storage, 0) >= 0;
  if (a->dim > 0 && bytes > 0) {
    hsize_t chunk[PR_MAX_DIM];
    memcpy(chunk, a->shape, sizeof chunk);
    for (int d = 0; d < a->dim; d++)
      for (; chunk[d] > 1 && bytes > CHUNK; bytes = bytes / 2 + 1) chunk[d] = (chunk[d] + 1) / 2;
    good = good && H5Pset_chunk(storage, a->dim, chunk) >= 0;
    if (a->pack) good = good && H5Pset_shuffle(storage) >= 0 && H5Pset_deflate(storage, 1) >= 0;
    good = good && H5Pset_fletcher32(storage) >= 0;
  }
  if (good) return storage;
  H5Pclose(storage);
  return -1;
}

static bool put_attribute(hid_t dataset, const char *value) {
  hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR), attribute = -1;
  bool good = type >= 0 && space >= 0 && H5Tset_size(type, strlen(value)) >= 0;
  if (good) attribute = H5Acreate2(dataset, "dtype", type, space, H5P_DEFAULT, H5P_DEFAULT);
  good = attribute >= 0 && H5Awrite(attribute, type, value) >= 0;
  if (attribute >= 0) H5Aclose(attribute);
  if (space >= 0) H5Sclose(space);
  if (type >= 0) H5Tclose(type);
  return good;
}

/* The groups that lead to `path`. (Groups that the library makes by itself hold the time.) */
static pr_status make_groups(pr_checkpoint_writer *w, const char *path) {
  char prefix[LONGEST_NAME + LONGEST_SLOT + 32];
  for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
    snprintf(prefix, sizeof prefix, "%.*s", (int)(slash - path), path);
    htri_t exists = H5Lexists(w->file, prefix, H5P_DEFAULT);
    hid_t group = exists ? -1 : H5Gcreate2(w->file, prefix, w->links, w->groups, H5P_DEFAULT);
    if (exists < 0 || (!exists && group < 0)) return library(w, prefix);
    if (group >= 0) H5Gclose(group);
  }
  return PR_OK;
}

static pr_status put_array(pr_checkpoint_writer *w, const char *path, const array *a) {
  PR_TRY(make_groups(w, path));
  hid_t space = a->dim ? H5Screate_simple(a->dim, a->shape, NULL) : H5Screate(H5S_SCALAR);
  hid_t storage = storage_of(a), dataset = -1;
  if (space >= 0 && storage >= 0)
    dataset = H5Dcreate2(w->file, path, a->stored, space, w->links, storage, H5P_DEFAULT);
  bool good = dataset >= 0 &&
              (!count_of(a) || H5Dwrite(dataset, a->memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, a->data) >= 0);
  if (good && a->dtype) good = put_attribute(dataset, a->dtype);
  pr_status status = good ? PR_OK : library(w, path);
  if (dataset >= 0 && H5Dclose(dataset) < 0 && !status) status = library(w, path);
  if (storage >= 0) H5Pclose(storage);
  if (space >= 0) H5Sclose(space);
  return status;
}

/* --- names and the index ------------------------------------------------------------------------------------------------ */

bool prI_checkpoint_escape(const char *name, char *word, size_t room) {
  size_t n = 0;
  bool dots = strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, "-") == 0;
  if (!*name) return false;
  for (; *name; name++) {
    unsigned char c = (unsigned char)*name;
    bool plain = c > 32 && c != 127 && c != '%' && c != '/' && !dots;
    if (n + 4 > room) return false;
    n += (size_t)snprintf(word + n, 4, plain ? "%c" : "%%%02X", c);
  }
  return true;
}

static pr_status add_line(pr_checkpoint_writer *w, const char *line) {
  size_t length = strlen(line);
  if (PRB_RESERVE(w->index, w->room, w->length + length + 1)) return fail(w, PR_ERR_MEMORY);
  memcpy(w->index + w->length, line, length + 1);
  w->length += length;
  return PR_OK;
}

/* --- tensors ------------------------------------------------------------------------------------------------------------ */

static array array_of(const pr_tensor *t) {
  const hid_t stored[PR_DTYPES] = { H5T_IEEE_F32LE, H5T_IEEE_F64LE, H5T_STD_U16LE, H5T_STD_I64LE,
                                    H5T_STD_I32LE,  H5T_STD_U8LE,   H5T_STD_U8LE };
  const hid_t memory[PR_DTYPES] = { H5T_NATIVE_FLOAT, H5T_NATIVE_DOUBLE, H5T_NATIVE_UINT16, H5T_NATIVE_INT64,
                                    H5T_NATIVE_INT32, H5T_NATIVE_UINT8,  H5T_NATIVE_UINT8 };
  array a = { stored[t->dtype], memory[t->dtype], pr_dtype_size(t->dtype), t->dim, .data = prT_data(t) };
  for (int d = 0; d < t->dim; d++) a.shape[d] = (hsize_t)t->shape[d];
  if (t->dtype == PR_BF16 || t->dtype == PR_BOOL) a.dtype = pr_dtype_name(t->dtype);
  return a;
}

/* Trained weights do not compress; those of a masked or pruned model do. A sample tells. */
static bool has_many_zeros(const pr_tensor *t) {
  static const char nothing[8];
  const char *data = prT_data(t);
  size_t size = pr_dtype_size(t->dtype), count = (size_t)pr_numel(t), step = count / 4096 + 1;
  size_t zeros = 0, seen = 0;
  for (size_t i = 0; i < count; i += step, seen++) zeros += memcmp(data + i * size, nothing, size) == 0;
  return seen >= 64 && zeros * 4 > seen;
}

/* "-" for row-major, else the strides: kernels may take another path, and round otherwise, for another
 * layout. */
static void layout_text(const pr_tensor *t, char text[PR_SHAPE_TEXT]) {
  int64_t expected = 1;
  bool row_major = true;
  for (int d = t->dim - 1; d >= 0; expected *= t->shape[d] ? t->shape[d] : 1, d--)
    row_major = row_major && t->stride[d] == expected;
  strcpy(text, "-");
  if (row_major || !prT_is_dense(t)) return;
  for (int d = 0, n = 0; d < t->dim; d++)
    n += snprintf(text + n, (size_t)(PR_SHAPE_TEXT - n), d ? ",%lld" : "%lld", (long long)t->stride[d]);
}

typedef struct place {
  const char *kind;  /* word in the index */
  const char *group; /* in the file */
  const char *word;  /* the tensor's name, escaped */
  const char *slot;  /* of optimiser state, escaped, or "" */
} place;

/* Where a tensor lies in the file, and its line in the index up to the shape. */
typedef struct names {
  char path[LONGEST_NAME + LONGEST_SLOT + 32], bits[LONGEST_NAME + LONGEST_SLOT + 40];
  char line[LONGEST_NAME + LONGEST_SLOT + PR_SHAPE_TEXT + 64];
} names;

static names names_of(const place *p, const pr_tensor *t) {
  names n;
  char layout[PR_SHAPE_TEXT];
  layout_text(t, layout);
  snprintf(n.path, sizeof n.path, *p->slot ? "%s/%s/%s" : "%s/%s", p->group, p->word, p->slot);
  snprintf(n.bits, sizeof n.bits, "bits/%s", n.path);
  snprintf(n.line, sizeof n.line, "%s %s %s %s%s%s", p->kind, p->word, pr_dtype_name(t->dtype), layout,
           *p->slot ? " " : "", p->slot);
  return n;
}

static pr_status finish_line(pr_checkpoint_writer *w, const char *line, const pr_tensor *compressed) {
  PR_TRY(add_line(w, line));
  for (int d = 0; compressed && d < compressed->dim; d++) {
    char size[32];
    snprintf(size, sizeof size, d ? ",%lld" : " %lld", (long long)compressed->shape[d]);
    PR_TRY(add_line(w, size));
  }
  return add_line(w, "\n");
}

/* As bits and the `count` values where they are 1. */
static pr_status store_compressed(pr_checkpoint_writer *w, const names *n, const pr_tensor *rows,
                                  const unsigned char *bits, int64_t count) {
  array a = array_of(rows);
  array which = {
    H5T_STD_U8LE, H5T_NATIVE_UINT8, 1, 1, { prI_bits_bytes(pr_numel(rows)) }, bits, .pack = true
  };
  size_t bytes = (size_t)count * a.size;
  void *values = prB_resize(NULL, 0, bytes + 1);
  if (!values) return fail(w, PR_ERR_MEMORY);
  prI_gather(a.data, a.size, bits, pr_numel(rows), values);
  a.dim = 1, a.shape[0] = (hsize_t)count, a.data = values;
  pr_status status = put_array(w, n->path, &a);
  if (!status) status = put_array(w, n->bits, &which);
  if (!status) status = finish_line(w, n->line, rows);
  prB_resize(values, bytes + 1, 0);
  w->version = 2;
  return status;
}

/* Are bits and values well below what the whole takes? */
static bool is_worth_it(const pr_tensor *t, int64_t count) {
  int64_t entries = pr_numel(t), size = (int64_t)pr_dtype_size(t->dtype);
  return t->dim > 0 && entries >= 64 &&
         (int64_t)prI_bits_bytes(entries) + count * size < entries * size / 16 * 15;
}

/* `mask` (row-major, or NULL): what lies under its zeros is left out, and *left_out says so, if it is of
 * zeros and ones. Without one zeros are left out where there are many. */
static pr_status store_rows(pr_checkpoint_writer *w, const names *n, const pr_tensor *rows, const float *mask,
                            bool pack, bool *left_out) {
  int64_t entries = pr_numel(rows), count = -1;
  size_t bytes = prI_bits_bytes(entries) + 1;
  unsigned char *bits = prB_resize(NULL, 0, bytes);
  if (!bits) return fail(w, PR_ERR_MEMORY);
  if (mask && rows->dim > 0) count = prI_bits_of_mask(mask, entries, bits);
  *left_out = count >= 0;
  if (!*left_out) count = prI_bits_of_entries(prT_data(rows), pr_dtype_size(rows->dtype), entries, bits);
  pr_status status;
  if (*left_out || is_worth_it(rows, count)) {
    status = store_compressed(w, n, rows, bits, count);
  } else {
    array a = array_of(rows);
    a.pack = pack || has_many_zeros(rows);
    status = put_array(w, n->path, &a);
    if (!status) status = finish_line(w, n->line, NULL);
  }
  prB_resize(bits, bytes, 0);
  return status;
}

static pr_status store(pr_checkpoint_writer *w, const place *p, pr_tensor *t, const float *mask, bool pack,
                       bool *left_out) {
  if (t->device != PR_CPU || !t->storage)
    return fail(w, pr_fail(PR_ERR_DTYPE, "checkpoint: %s is on %s; move it to the cpu", p->word,
                           pr_device_name(t->device)));
  pr_tensor *rows = pr_contiguous(t);
  if (!rows) return fail(w, PR_ERR_MEMORY);
  names n = names_of(p, t);
  pr_status status = store_rows(w, &n, rows, mask, pack, left_out);
  pr_release(rows);
  return status;
}

/* A mask of zeros and ones as bytes, which pack to nearly nothing. */
static pr_status store_mask(pr_checkpoint_writer *w, const char *word, pr_tensor *mask) {
  place p = { "mask", "masks", word, "" };
  const float *value = prT_data(mask);
  int64_t n = pr_numel(mask), i = 0;
  bool row_major = pr_is_contiguous(mask), left_out;
  while (row_major && i < n && (value[i] == 0 || value[i] == 1)) i++;
  if (i < n) return store(w, &p, mask, NULL, true, &left_out);
  pr_tensor *bytes = pr_to_dtype(mask, PR_U8);
  if (!bytes) return fail(w, pr_error_last()->code);
  pr_status status = store(w, &p, bytes, NULL, true, &left_out);
  pr_release(bytes);
  return status;
}

/* A parameter's value and its mask: together, where what is under the mask need not be kept. */
static pr_status store_masked(pr_checkpoint_writer *w, const place *p, pr_tensor *t) {
  pr_tensor *mask = t->parameter->mask;
  char line[LONGEST_NAME + 16];
  bool left_out, together = !w->keep_dense && pr_is_contiguous(mask);
  PR_TRY(store(w, p, t, together ? prT_data(mask) : NULL, false, &left_out));
  if (!left_out) return store_mask(w, p->word, mask);
  snprintf(line, sizeof line, "mask %s bits -\n", p->word);
  return add_line(w, line);
}

pr_status pr_checkpoint_put_tensor(pr_checkpoint_writer *w, const char *name, pr_tensor *t, bool state) {
  static const char *const kinds[] = { "constant", "parameter", "buffer" };
  static const char *const groups[] = { "constants", "parameters", "buffers" };
  char word[LONGEST_NAME], slot_word[LONGEST_SLOT];
  if (w->failed) return pr_error_set(&w->reason);
  if (!prI_checkpoint_escape(name, word, sizeof word))
    return fail(w,
                pr_fail(PR_ERR_ARGUMENT, "checkpoint: a tensor's name is empty or too long: '%.64s'", name));
  int kind = !t->parameter ? 0 : t->parameter->is_buffer ? 2 : 1;
  place p = { kinds[kind], groups[kind], word, "" };
  bool left_out;
  if (t->parameter && t->parameter->mask)
    PR_TRY(store_masked(w, &p, t));
  else
    PR_TRY(store(w, &p, t, NULL, false, &left_out));
  if (!t->parameter) return PR_OK;
  for (pr_slot *slot = state ? t->parameter->slots : NULL; slot; slot = slot->next) {
    if (!prI_checkpoint_escape(slot->name, slot_word, sizeof slot_word))
      return fail(w,
                  pr_fail(PR_ERR_ARGUMENT, "checkpoint: optimiser state of '%s' has no usable name", name));
    place s = { "slot", "optimizer", word, slot_word };
    PR_TRY(store(w, &s, slot->tensor, NULL, false, &left_out));
  }
  return PR_OK;
}

/* --- texts and graphs ----------------------------------------------------------------------------------------------------- */

static pr_status store_text(pr_checkpoint_writer *w, const char *word, const char *text, size_t length) {
  array a = { H5T_STD_U8LE, H5T_NATIVE_UINT8, 1, 1, { length }, text, .pack = length > 512 };
  return put_array(w, word, &a);
}

pr_status pr_checkpoint_put_text(pr_checkpoint_writer *w, const char *name, const char *text, size_t length) {
  char word[LONGEST_SLOT], line[LONGEST_SLOT + 8];
  if (w->failed) return pr_error_set(&w->reason);
  if (!prI_checkpoint_escape(name, word, sizeof word))
    return fail(w, pr_fail(PR_ERR_ARGUMENT, "checkpoint: a text's name is empty or too long: '%.64s'", name));
  PR_TRY(store_text(w, word, text, length));
  snprintf(line, sizeof line, "text %s\n", word);
  return add_line(w, line);
}

typedef struct growing {
  char *text;
  size_t length, room;
  bool failed;
} growing;

static void append(void *ctx, const char *text) {
  growing *g = ctx;
  size_t length = strlen(text);
  if (g->failed || (g->failed = PRB_RESERVE(g->text, g->room, g->length + length + 1) != PR_OK)) return;
  memcpy(g->text + g->length, text, length + 1);
  g->length += length;
}

pr_status pr_checkpoint_put_graph(pr_checkpoint_writer *w, const pr_graph *graph, bool state) {
  if (w->failed) return pr_error_set(&w->reason);
  growing g = { 0 };
  pr_status status = pr_graph_write(graph, append, &g);
  if (!status && g.failed) status = PR_ERR_MEMORY;
  status = status ? fail(w, status) : pr_checkpoint_put_text(w, "graph", g.text, g.length);
  PRB_ARRAY_FREE(g.text, g.room);
  for (int v = 0; v < graph->n_values && !status; v++)
    if (graph->values[v].tensor)
      status = pr_checkpoint_put_tensor(w, prG_value_name(graph, v), graph->values[v].tensor, state);
  return status;
}

/* --- the file ----------------------------------------------------------------------------------------------------------- */

/* The end of the file as the superblock (version 2 or 3, after the user block) has it: the library may hold
 * more memory than that. */
static size_t end_of_file(const image *m) {
  const unsigned char *superblock = (const unsigned char *)m->data + PR_CHECKPOINT_HEADER;
  uint64_t end = 0;
  if (m->size < PR_CHECKPOINT_HEADER + 48 || superblock[8] < 2 || superblock[9] != 8) return 0;
  for (int i = 7; i >= 0; i--) end = end << 8 | superblock[28 + i];
  return end <= m->size - PR_CHECKPOINT_HEADER ? (size_t)end + PR_CHECKPOINT_HEADER : 0;
}

static pr_status finish(pr_checkpoint_writer *w, const char *path) {
  if (w->failed) return pr_error_set(&w->reason);
  PR_TRY(store_text(w, "index", w->index ? w->index : "", w->length));
  if (!close_file(w)) return library(w, "the file");
  size_t size = end_of_file(&w->image);
  if (!size) return pr_fail(PR_ERR_IO, "checkpoint: the HDF5 library made a file without an end");
  char *bytes = w->image.data;
  prI_checkpoint_header(bytes + PR_CHECKPOINT_HEADER, size, w->version, bytes);
  return pr_file_write(path, bytes, size);
}

pr_status pr_checkpoint_finish(pr_checkpoint_writer *w, const char *path) {
  pr_status status = finish(w, path);
  pr_checkpoint_cancel(w);
  return status;
}
