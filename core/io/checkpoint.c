/* checkpoint.c - checking and reading checkpoints. checkpoint_write.c makes them. */
#include "io/checkpoint.h"

#include "autograd/parameter.h"
#include "base/memory.h"
#include "io/file.h"
#include "io/hdf5.h"
#include "io/sparse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static const char magic[] = "prunelua-checkpoint ";

/* --- the block in front ------------------------------------------------------------------------------------------------- */

void prI_checkpoint_header(const void *rest, size_t size, int version, char header[PR_CHECKPOINT_HEADER]) {
  XXH128_canonical_t digest;
  XXH128_canonicalFromHash(&digest, XXH3_128bits(rest, size - PR_CHECKPOINT_HEADER));
  char text[PR_CHECKPOINT_HEADER];
  int n = snprintf(text, sizeof text, "%s%d\nbytes %zu\nxxh3-128 ", magic, version, size);
  for (size_t i = 0; i < sizeof digest.digest; i++)
    n += snprintf(text + n, sizeof text - (size_t)n, "%02x", digest.digest[i]);
  memset(header, ' ', PR_CHECKPOINT_HEADER);
  memcpy(header, text, (size_t)n);
  header[n] = '\n';
  header[PR_CHECKPOINT_HEADER - 1] = '\n';
}

/* What the file may be instead, by its first bytes. */
static pr_status foreign(const char *name, const unsigned char *bytes, size_t size) {
  static const struct {
    const char *start;
    size_t length;
    const char *what;
  } kinds[] = {
    { "\x89HDF\r\n\x1a\n", 8, "an HDF5 file of another program" },
    { "PK\x03\x04", 4, "a zip archive (.npz, or a state dict of PyTorch)" },
    { "\x93NUMPY", 6, "a NumPy array" },
    { "\x80\x02", 2, "a Python pickle" },
  };
  if (size == 0) return pr_fail(PR_ERR_FORMAT, "%s: is not a prunelua checkpoint: it is empty", name);
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
    if (size >= kinds[i].length && memcmp(bytes, kinds[i].start, kinds[i].length) == 0)
      return pr_fail(PR_ERR_FORMAT, "%s: is not a prunelua checkpoint but %s", name, kinds[i].what);
  return pr_fail(PR_ERR_FORMAT, "%s: is not a prunelua checkpoint", name);
}

/* The format version that the first line gives. */
static pr_status check_version(const char *bytes, size_t size, const char *name, int *version) {
  size_t length = strlen(magic), digits = 0;
  if (size < length || memcmp(bytes, magic, length) != 0)
    return foreign(name, (const unsigned char *)bytes, size);
  char number[8] = "";
  while (length + digits < size && digits < 6 && bytes[length + digits] >= '0' &&
         bytes[length + digits] <= '9')
    number[digits] = bytes[length + digits], digits++;
  *version = atoi(number);
  if (*version > PR_CHECKPOINT_VERSION && length + digits < size && bytes[length + digits] == '\n')
    return pr_fail(
        PR_ERR_UNSUPPORTED,
        "%s: is a checkpoint of format %d; this program reads formats up to %d: use a newer prunelua", name,
        *version, PR_CHECKPOINT_VERSION);
  if (*version < 1 || *version > PR_CHECKPOINT_VERSION)
    return pr_fail(PR_ERR_FORMAT, "%s: is damaged: its first line is not that of a checkpoint", name);
  return PR_OK;
}

pr_status pr_checkpoint_check(const void *bytes, size_t size, const char *name) {
  const char *text = bytes;
  char expected[PR_CHECKPOINT_HEADER];
  int version;
  PR_TRY(check_version(text, size, name, &version));
  if (size <= PR_CHECKPOINT_HEADER)
    return pr_fail(PR_ERR_FORMAT, "%s: is damaged: it ends after %zu bytes", name, size);
  prI_checkpoint_header(text + PR_CHECKPOINT_HEADER, size, version, expected);
  if (memcmp(text, expected, PR_CHECKPOINT_HEADER) == 0) return PR_OK;
  char copy[64];
  unsigned long long says = 0;
  const char *line = memchr(text, '\n', PR_CHECKPOINT_HEADER);
  snprintf(copy, sizeof copy, "%.*s", 40, line ? line + 1 : "");
  if (sscanf(copy, "bytes %20llu\n", &says) == 1 && says != size)
    return pr_fail(PR_ERR_FORMAT, "%s: is damaged: it should be %llu bytes long and is %zu", name, says,
                   size);
  return pr_fail(PR_ERR_FORMAT, "%s: is damaged: its content does not match its digest", name);
}

/* --- reading ------------------------------------------------------------------------------------------------------------ */

typedef struct reader {
  const char *path;
  pr_hdf5 *file;
  pr_checkpoint *out;
} reader;

/* A line of the index, split and unescaped where names are. */
enum { WORDS = 6 };
typedef struct entry {
  char *word[WORDS];
  int count;
  const char *shape; /* of a compressed array, or NULL */
  char path[512];
} entry;

static pr_status inconsistent(const reader *r, const char *what, const char *name) {
  return pr_fail(PR_ERR_FORMAT, "%s: is inconsistent: %s (%.64s)", r->path, what, name);
}

static void unescape(char *word) {
  char *to = word;
  for (; *word; word++) {
    unsigned code;
    if (*word == '%' && word[1] && word[2] && sscanf(word + 1, "%2X", &code) == 1 && code)
      *to++ = (char)code, word += 2;
    else
      *to++ = *word;
  }
  *to = 0;
}

static pr_hdf5_type stored_type(pr_dtype dtype) {
  static const pr_hdf5_type types[PR_DTYPES] = { PR_HDF5_F32, PR_HDF5_F64, PR_HDF5_U16, PR_HDF5_I64,
                                                 PR_HDF5_I32, PR_HDF5_U8,  PR_HDF5_U8 };
  return types[dtype];
}

/* Strides "48,1,16,4" of a tensor without memory; false unless they order its axes without holes. */
static bool set_layout(pr_tensor *t, const char *text) {
  if (strcmp(text, "-") == 0) return true;
  for (int d = 0; d < t->dim; d++) {
    char *stop;
    long long stride = strtoll(text, &stop, 10);
    if (stop == text || *stop != (d == t->dim - 1 ? 0 : ',') || stride < 1 || stride > INT64_MAX / 2)
      return false;
    t->stride[d] = stride;
    text = stop + 1;
  }
  return t->dim > 0 && prT_is_dense(t);
}

static pr_status fill(pr_tensor *t, const pr_hdf5_array *a) {
  bool rows = pr_is_contiguous(t);
  pr_tensor *to = rows ? pr_retain(t) : pr_tensor_new(t->dtype, PR_CPU, t->dim, t->shape);
  if (!to) return PR_ERR_MEMORY;
  if (a->bytes) memcpy(prT_data(to), a->data, a->bytes);
  unsigned char *truth = t->dtype == PR_BOOL ? prT_data(to) : NULL;
  for (size_t i = 0; truth && i < a->bytes; i++) truth[i] = truth[i] != 0;
  pr_status status = rows ? PR_OK : pr_copy(t, to);
  prT_touch(t);
  pr_release(to);
  return status;
}

static pr_status make_tensor(reader *r, const entry *e, const pr_hdf5_array *a, pr_tensor **out) {
  pr_dtype dtype;
  PR_TRY(pr_dtype_parse(e->word[2], &dtype));
  if (a->type != stored_type(dtype)) return inconsistent(r, "the index has another type", e->path);
  pr_tensor *t = pr_tensor_new(dtype, PR_META, a->rank, a->shape);
  if (!t) return PR_ERR_MEMORY;
  pr_status status =
      set_layout(t, e->word[3]) ? prT_allocate(t, PR_CPU) : inconsistent(r, "a layout does not fit", e->path);
  if (!status) status = fill(t, a);
  if (status) return pr_release(t), status;
  *out = t;
  return PR_OK;
}

/* The bits of the array at `path`. */
static pr_status read_bits(reader *r, const char *path, pr_hdf5_array *bits) {
  char full[sizeof((entry *)0)->path + 8];
  snprintf(full, sizeof full, "bits/%s", path);
  return pr_hdf5_read(r->file, full, bits);
}

/* Say of a failure in sparse.c where it was. */
static pr_status misfit(const reader *r, const entry *e, pr_status status) {
  char why[160];
  if (status != PR_ERR_FORMAT) return status;
  snprintf(why, sizeof why, "%s", pr_error_last()->message);
  return inconsistent(r, why, e->path);
}

/* In the place of the list of its values, the whole array. */
static pr_status expand(reader *r, const entry *e, pr_hdf5_array *a) {
  pr_hdf5_array bits, whole;
  PR_TRY(read_bits(r, e->path, &bits));
  pr_status status = misfit(r, e, prI_expand(a, &bits, e->shape, &whole));
  pr_hdf5_array_free(&bits);
  if (status) return status;
  pr_hdf5_array_free(a);
  *a = whole;
  return PR_OK;
}

static pr_status read_tensor(reader *r, const entry *e, pr_tensor **out) {
  pr_hdf5_array a;
  PR_TRY(pr_hdf5_read(r->file, e->path, &a));
  pr_status status = e->shape ? expand(r, e, &a) : PR_OK;
  if (!status) status = make_tensor(r, e, &a, out);
  pr_hdf5_array_free(&a);
  return status;
}

/* A mask that is the bits of its parameter. */
static pr_status read_mask_of_bits(reader *r, const entry *e, const pr_tensor *owner, pr_tensor **out) {
  pr_hdf5_array bits;
  char path[sizeof e->path + 16];
  snprintf(path, sizeof path, "parameters/%s", strchr(e->path, '/') + 1);
  PR_TRY(read_bits(r, path, &bits));
  pr_tensor *mask = pr_tensor_new(PR_F32, PR_CPU, owner->dim, owner->shape);
  pr_status status = mask ? PR_OK : PR_ERR_MEMORY;
  if (!status) status = misfit(r, e, prI_expand_mask(&bits, pr_numel(owner), prT_data(mask)));
  pr_hdf5_array_free(&bits);
  if (status) return pr_release(mask), status;
  *out = mask;
  return PR_OK;
}

static pr_status add_tensor(reader *r, const entry *e, bool parameter, bool buffer) {
  pr_checkpoint *c = r->out;
  if (pr_checkpoint_find_tensor(c, e->word[1])) return inconsistent(r, "a name comes twice", e->word[1]);
  PR_TRY(PRB_RESERVE(c->tensors, c->tensor_room, c->n_tensors + 1));
  pr_checkpoint_tensor *t = &c->tensors[c->n_tensors];
  *t = (pr_checkpoint_tensor){ 0 };
  PR_TRY(read_tensor(r, e, &t->tensor));
  c->n_tensors++; /* from here pr_checkpoint_free takes care of it */
  if (!(t->name = prB_string(e->word[1]))) return PR_ERR_MEMORY;
  return parameter ? pr_parameter_make(t->tensor, buffer) : PR_OK;
}

/* A mask or a slot of a tensor that was read before. */
static pr_status add_attachment(reader *r, const entry *e, bool slot) {
  pr_tensor *owner = pr_checkpoint_find_tensor(r->out, e->word[1]), *t;
  if (!owner || !owner->parameter) return inconsistent(r, "what it belongs to is missing", e->path);
  if (!slot && strcmp(e->word[2], "bits") == 0)
    PR_TRY(read_mask_of_bits(r, e, owner, &t));
  else
    PR_TRY(read_tensor(r, e, &t));
  pr_status status = slot ? pr_parameter_slot_set(owner, e->word[4], t) : pr_parameter_mask(owner, t);
  pr_release(t);
  return status;
}

static pr_status add_text(reader *r, const char *path, const char *name) {
  pr_checkpoint *c = r->out;
  pr_hdf5_array a;
  PR_TRY(PRB_RESERVE(c->texts, c->text_room, c->n_texts + 1));
  PR_TRY(pr_hdf5_read(r->file, path, &a));
  pr_checkpoint_text *t = &c->texts[c->n_texts++];
  *t = (pr_checkpoint_text){ .length = a.bytes };
  pr_status status = a.type == PR_HDF5_U8 ? PR_OK : inconsistent(r, "a text is none", name);
  if (!status && (!(t->name = prB_string(name)) || !(t->text = PRB_ARRAY(char, a.bytes + 1))))
    status = PR_ERR_MEMORY;
  if (!status && a.bytes) memcpy(t->text, a.data, a.bytes);
  pr_hdf5_array_free(&a);
  return status;
}

/* Each kind of line: where its array lies (%s: the words after the kind), and how many words it has. */
static pr_status read_entry(reader *r, entry *e) {
  static const struct {
    const char *kind, *group;
    int words;
  } kinds[] = { { "parameter", "parameters", 4 }, { "buffer", "buffers", 4 }, { "constant", "constants", 4 },
                { "mask", "masks", 4 },           { "slot", "optimizer", 5 }, { "text", "", 2 } };
  size_t k = 0, n = sizeof kinds / sizeof *kinds;
  while (k < n && strcmp(kinds[k].kind, e->word[0]) != 0) k++;
  if (k == n) return PR_OK; /* something that a later program added and this one need not know */
  bool slot = k == 4, text = k == 5, compressed = !text && e->count == kinds[k].words + 1;
  if (e->count != kinds[k].words + compressed)
    return inconsistent(r, "a line of the index is damaged", e->word[0]);
  if (compressed) e->shape = e->word[e->count - 1];
  int length = snprintf(e->path, sizeof e->path, "%s%s%s%s%s", kinds[k].group, text ? "" : "/", e->word[1],
                        slot ? "/" : "", slot ? e->word[4] : "");
  if (length >= (int)sizeof e->path) return inconsistent(r, "a name is too long", e->word[1]);
  unescape(e->word[1]);
  if (slot) unescape(e->word[4]);
  if (text) return add_text(r, e->path, e->word[1]);
  return k >= 3 ? add_attachment(r, e, slot) : add_tensor(r, e, k < 2, k == 1);
}

static pr_status read_index(reader *r, char *index) {
  char *lines;
  for (char *line = strtok_r(index, "\n", &lines); line; line = strtok_r(NULL, "\n", &lines)) {
    entry e = { .count = 0 };
    char *words, *word = strtok_r(line, " ", &words);
    for (; word && e.count < WORDS; word = strtok_r(NULL, " ", &words)) e.word[e.count++] = word;
    if (e.count == 0) continue;
    PR_TRY(read_entry(r, &e));
  }
  return PR_OK;
}

static pr_status read_file(reader *r) {
  PR_TRY(add_text(r, "index", "index"));
  pr_checkpoint_text *index = &r->out->texts[0];
  size_t length = index->length + 1;
  char *copy = PRB_ARRAY(char, length);
  if (!copy) return PR_ERR_MEMORY;
  memcpy(copy, index->text, length);
  pr_status status = read_index(r, copy);
  PRB_ARRAY_FREE(copy, length);
  return status;
}

/* A file of another kind is refused by its first bytes, without reading the rest. */
static pr_status open_checked(const char *path, pr_hdf5 **file) {
  char header[PR_CHECKPOINT_HEADER];
  void *bytes;
  size_t size;
  int version;
  PR_TRY(pr_file_head(path, header, sizeof header, &size));
  PR_TRY(check_version(header, size, path, &version));
  PR_TRY(pr_file_read(path, &bytes, &size));
  pr_status status = pr_checkpoint_check(bytes, size, path);
  if (!status) status = pr_hdf5_open_bytes(bytes, size, path, file);
  prB_aligned_free(bytes, size);
  return status;
}

pr_checkpoint *pr_checkpoint_read(const char *path) {
  reader r = { .path = path };
  if (open_checked(path, &r.file)) return NULL;
  pr_status status = (r.out = PRB_NEW(pr_checkpoint)) ? read_file(&r) : PR_ERR_MEMORY;
  pr_hdf5_close(r.file);
  if (!status) return r.out;
  pr_checkpoint_free(r.out);
  return NULL;
}

void pr_checkpoint_free(pr_checkpoint *c) {
  if (!c) return;
  for (size_t i = 0; i < c->n_tensors; i++)
    prB_string_free(c->tensors[i].name), pr_release(c->tensors[i].tensor);
  for (size_t i = 0; i < c->n_texts; i++) {
    prB_string_free(c->texts[i].name);
    PRB_ARRAY_FREE(c->texts[i].text, c->texts[i].length + 1);
  }
  PRB_ARRAY_FREE(c->tensors, c->tensor_room);
  PRB_ARRAY_FREE(c->texts, c->text_room);
  PRB_FREE(c);
}

const pr_checkpoint_text *pr_checkpoint_find_text(const pr_checkpoint *c, const char *name) {
  for (size_t i = 0; i < c->n_texts; i++)
    if (c->texts[i].name && strcmp(c->texts[i].name, name) == 0) return &c->texts[i];
  return NULL;
}

pr_tensor *pr_checkpoint_find_tensor(const pr_checkpoint *c, const char *name) {
  for (size_t i = 0; i < c->n_tensors; i++)
    if (strcmp(c->tensors[i].name, name) == 0) return c->tensors[i].tensor;
  return NULL;
}

static pr_tensor *find(void *ctx, const char *name) {
  pr_tensor *t = pr_checkpoint_find_tensor(ctx, name);
  if (!t) pr_fail(PR_ERR_FORMAT, "the graph names a tensor '%s' that the checkpoint does not have", name);
  return pr_retain(t);
}

pr_graph *pr_checkpoint_graph(const pr_checkpoint *c) {
  const pr_checkpoint_text *text = pr_checkpoint_find_text(c, "graph");
  if (text) return pr_graph_read(text->text, text->length, find, (void *)(uintptr_t)c);
  pr_fail(PR_ERR_FORMAT, "the checkpoint has no graph: its model could not be traced");
  return NULL;
}
