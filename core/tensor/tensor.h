/* tensor.h - n-dimensional arrays: a strided view on a counted storage.
 *
 * Logical order of images is N C H W; 4-D activations are usually kept channels-last in memory, which only
 * their strides show. Shapes, strides and offsets count elements. A tensor on PR_META has a shape and no
 * storage: it stands for a value while a model is traced.
 *
 * Handles are counted: functions that return a tensor give the caller one reference (or NULL with pr_fail
 * done); arguments are borrowed. A handle is an identity: a parameter keeps its handle when pruning gives it
 * a smaller storage.
 */
#ifndef PR_TENSOR_TENSOR_H
#define PR_TENSOR_TENSOR_H

#include "base/error.h"

enum { PR_MAX_DIM = 8 };

typedef enum pr_dtype { PR_F32, PR_F64, PR_BF16, PR_I64, PR_I32, PR_U8, PR_BOOL, PR_DTYPES } pr_dtype;
typedef enum pr_device { PR_CPU, PR_CUDA, PR_META, PR_DEVICES } pr_device;

typedef struct pr_storage {
  _Atomic int refs;
  pr_device device;
  size_t bytes;
  void *data;
  uint64_t version; /* counts writes; never the same for two storages' contents (a process-wide counter) */
} pr_storage;

typedef struct pr_tensor {
  _Atomic int refs;
  pr_dtype dtype;
  pr_device device;
  int dim;
  int64_t shape[PR_MAX_DIM];
  int64_t stride[PR_MAX_DIM]; /* in elements; 0 along an expanded axis */
  int64_t offset;             /* of the first element */
  pr_storage *storage;        /* NULL on PR_META */

  /* What lower rooms hang on a tensor; the tensor room only releases it, through prT_released. */
  bool requires_grad;
  int creator_output;             /* which output of creator this is */
  struct prA_step *creator;       /* the tape step that made it; NULL for leaves */
  struct pr_tensor *grad;         /* accumulated gradient of a leaf, or NULL */
  struct prA_hooks *hooks;        /* functions called with its gradient, or NULL */
  struct pr_parameter *parameter; /* attachments of a parameter, or NULL (autograd/parameter.h) */
  uint64_t trace_id;              /* trace that gave it a value number; 0 none */
  int trace_value;
} pr_tensor;

/* --- dtypes ------------------------------------------------------------------------------------------------------- */

const char *pr_dtype_name(pr_dtype dtype); /* "f32", "f64", "bf16", "i64", "i32", "u8", "bool" */
size_t pr_dtype_size(pr_dtype dtype);
bool pr_dtype_is_float(pr_dtype dtype);
pr_status pr_dtype_parse(const char *name, pr_dtype *dtype);
const char *pr_device_name(pr_device device); /* "cpu", "cuda", "meta" */

/* --- making and counting ------------------------------------------------------------------------------------------ */

/* A new row-major tensor, not filled. Negative or overflowing sizes fail. */
pr_tensor *pr_tensor_new(pr_dtype dtype, pr_device device, int dim, const int64_t *shape);
/* As above with the axes ordered in memory as in `like` (same dim; broadcast or non-dense `like`: row-major).
 */
pr_tensor *prT_new_like(const pr_tensor *like, pr_dtype dtype, int dim, const int64_t *shape);
/* A new tensor with N H W C order in memory (dim 4), or N L C (dim 3). */
pr_tensor *prT_new_channels_last(pr_dtype dtype, pr_device device, int dim, const int64_t *shape);
/* Filled with zeros / with one value. */
pr_tensor *pr_tensor_zeros(pr_dtype dtype, pr_device device, int dim, const int64_t *shape);
pr_tensor *pr_tensor_full(pr_dtype dtype, pr_device device, int dim, const int64_t *shape, double value);
/* A 0-dimensional tensor. */
pr_tensor *pr_tensor_scalar(pr_dtype dtype, double value);
/* A row-major copy of numbers given in C order. */
pr_tensor *pr_tensor_from(pr_dtype dtype, int dim, const int64_t *shape, const double *values);

pr_tensor *pr_retain(pr_tensor *t); /* returns t; NULL stays NULL */
void pr_release(pr_tensor *t);      /* NULL is fine */

/* A tensor that shares `base`'s storage. No gradient, no attachments. */
pr_tensor *prT_view(const pr_tensor *base, int dim, const int64_t *shape, const int64_t *stride,
                    int64_t offset);
/* The same values without history: shares the storage. */
pr_tensor *pr_detach(const pr_tensor *t);

/* Give a meta tensor (the specification that an operator's shape rule made) memory in its own layout. */
pr_status prT_allocate(pr_tensor *t, pr_device device);

/* Exchange dtype, shape, layout and storage of two handles (what removal does to a parameter); attachments
 * stay. */
void prT_swap_content(pr_tensor *a, pr_tensor *b);

/* Note a write: gives the storage a new version. */
void prT_touch(pr_tensor *t);
uint64_t prT_new_version(void);

/* Called by pr_release when a tensor with a creator, gradient, hooks or parameter dies (filled in by
 * autograd). */
extern void (*prT_released)(pr_tensor *t);

/* --- asking ------------------------------------------------------------------------------------------------------- */

int64_t pr_numel(const pr_tensor *t);
void *prT_data(const pr_tensor *t);            /* address of the first element; NULL on meta */
bool pr_is_contiguous(const pr_tensor *t);     /* row-major, no holes */
bool prT_is_channels_last(const pr_tensor *t); /* dim 3 or 4, N [H] W C order, no holes */
bool prT_is_dense(const pr_tensor *t);         /* some order of axes without holes or overlaps */
bool prT_same_layout(const pr_tensor *a,
                     const pr_tensor *b); /* same shape, dense, same strides (size-1 axes aside) */
bool pr_same_shape(const pr_tensor *a, const pr_tensor *b);
/* "[2, 3, 8, 9]" into `text`; returns text. */
enum { PR_SHAPE_TEXT = 160 };
const char *pr_shape_text(const pr_tensor *t, char text[PR_SHAPE_TEXT]);
const char *prT_sizes_text(int dim, const int64_t *sizes, char text[PR_SHAPE_TEXT]);

/* --- numbers in and out (CPU tensors; slow, exact) ---------------------------------------------------------------- */

double prT_get(const pr_tensor *t, int64_t element); /* element: storage position relative to offset 0 */
void prT_set(pr_tensor *t, int64_t element, double value);      /* conversion as in C; bool: value != 0 */
pr_status pr_item(const pr_tensor *t, double *value);           /* of a tensor with one element */
pr_status prT_to_doubles(const pr_tensor *t, double *values);   /* row-major */
pr_status prT_from_doubles(pr_tensor *t, const double *values); /* row-major; notes the write */

/* dst := src, broadcast to dst's shape and converted to its dtype. Same device. Notes the write. */
pr_status pr_copy(pr_tensor *dst, const pr_tensor *src);
pr_status pr_fill(pr_tensor *t, double value);
/* A row-major copy (or the tensor itself, retained, when it is row-major already). */
pr_tensor *pr_contiguous(pr_tensor *t);
/* A copy in the same layout / another dtype. */
pr_tensor *pr_clone(const pr_tensor *t);
pr_tensor *pr_to_dtype(pr_tensor *t, pr_dtype dtype); /* t itself, retained, when it has that dtype */

/* Walk the elements of `t` in row-major order: calls step(ctx, position) with storage positions relative to
 * offset 0. */
typedef struct prT_walk {
  int dim;
  int64_t shape[PR_MAX_DIM], stride[PR_MAX_DIM], at[PR_MAX_DIM], position, left;
} prT_walk;
void prT_walk_start(prT_walk *w, const pr_tensor *t);
static inline void prT_walk_next(prT_walk *w) {
  w->left--;
  for (int d = w->dim - 1; d >= 0; d--) {
    w->position += w->stride[d];
    if (++w->at[d] < w->shape[d]) return;
    w->position -= w->at[d] * w->stride[d];
    w->at[d] = 0;
  }
}

/* --- printing ----------------------------------------------------------------------------------------------------- */

/* Write `t` for people: at most a screen; over 1,000 elements only the edges with "...", then a line "f32
 * [64, 3, 3, 3] cpu". `put` receives pieces of text. Touches only the elements it shows. */
pr_status pr_print(const pr_tensor *t, void (*put)(void *ctx, const char *text), void *ctx);

/* --- the caching allocator of storages ----------------------------------------------------------------------------- */

pr_storage *prT_storage_new(pr_device device, size_t bytes);
void prT_storage_release(pr_storage *s);
void pr_cache_empty(void);    /* give cached blocks back */
size_t pr_storage_live(void); /* bytes of live storages; what the binding tells Lua's collector */

#endif
