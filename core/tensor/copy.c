/* copy.c - moving elements between layouts and dtypes.
 *
 * A copy is first brought to its simplest form: axes of size 1 dropped, the rest ordered by the destination's
 * strides, neighbours that both sides walk in one stride joined. Equal layouts are then one row; what is left
 * is a set of rows, or, where the source runs along another axis than the destination (N C H W to N H W C), a
 * set of transposes done in blocks that fit the first cache level.
 */
#include "tensor/tensor.h"

#include "tensor/bf16.h"

#include <string.h>

enum {
  PARALLEL = 1 << 15, /* elements from which a copy is worth several threads */
  CHUNK = 1 << 14,    /* elements of one row that a thread takes at a time */
  BLOCK = 16          /* side of a transposed block: 16 f32 are one cache line */
};

/* --- rows: n elements with a stride on either side ------------------------------------------------------ */

typedef void copy_row(void *dst, int64_t dst_stride, const void *src, int64_t src_stride, int64_t n);

/* Constant strides in the common cases let the compiler use vector instructions. */
#define ROW(name, D, S, convert)                                                                             \
  static void name(void *dst, int64_t ds, const void *src, int64_t ss, int64_t n) {                          \
    D *restrict d = dst;                                                                                     \
    const S *restrict s = src;                                                                               \
    if (ds == 1 && ss == 1)                                                                                  \
      for (int64_t i = 0; i < n; i++) d[i] = convert(s[i]);                                                  \
    else if (ds == 1 && ss == 0) {                                                                           \
      const D value = convert(*s);                                                                           \
      for (int64_t i = 0; i < n; i++) d[i] = value;                                                          \
    } else                                                                                                   \
      for (int64_t i = 0; i < n; i++) d[i * ds] = convert(s[i * ss]);                                        \
  }

/* Out of range saturates, nan gives 0: conversions that C leaves undefined. Integers wrap as in C. */
static inline int64_t to_i64(double v) {
  return v >= 0x1p63 ? INT64_MAX : v <= -0x1p63 ? INT64_MIN : v != v ? 0 : (int64_t)v;
}

typedef uint8_t truth; /* a bool's byte */
typedef uint16_t bf16;
#define AS_IS(v)     (v)
#define TO_F32(v)    ((float)(v))
#define TO_F64(v)    ((double)(v))
#define BF16_F32(v)  prT_from_bf16(v)
#define BF16_F64(v)  ((double)prT_from_bf16(v))
#define F32_BF16(v)  prT_to_bf16(v)
#define ANY_BF16(v)  prT_double_to_bf16((double)(v))
#define REAL_I64(v)  to_i64((double)(v))
#define REAL_I32(v)  ((int32_t)to_i64((double)(v)))
#define REAL_U8(v)   ((uint8_t)to_i64((double)(v)))
#define BF16_I64(v)  to_i64((double)prT_from_bf16(v))
#define BF16_I32(v)  ((int32_t)to_i64((double)prT_from_bf16(v)))
#define BF16_U8(v)   ((uint8_t)to_i64((double)prT_from_bf16(v)))
#define BF16_TRUE(v) (((v)&0x7fff) != 0)
#define TO_I64(v)    ((int64_t)(v))
#define TO_I32(v)    ((int32_t)(v))
#define TO_U8(v)     ((uint8_t)(v))
#define TO_TRUE(v)   ((v) != 0)

ROW(move1, uint8_t, uint8_t, AS_IS)
ROW(move2, uint16_t, uint16_t, AS_IS)
ROW(move4, uint32_t, uint32_t, AS_IS)
ROW(move8, uint64_t, uint64_t, AS_IS)

#define FROM_FLOAT(name, S, to_bf16)                                                                         \
  ROW(name##_f32, float, S, TO_F32)                                                                          \
  ROW(name##_f64, double, S, TO_F64)                                                                         \
  ROW(name##_bf16, bf16, S, to_bf16)                                                                         \
  ROW(name##_i64, int64_t, S, REAL_I64)                                                                      \
  ROW(name##_i32, int32_t, S, REAL_I32)                                                                      \
  ROW(name##_u8, uint8_t, S, REAL_U8)                                                                        \
  ROW(name##_bool, truth, S, TO_TRUE)
#define FROM_INTEGER(name, S)                                                                                \
  ROW(name##_f32, float, S, TO_F32)                                                                          \
  ROW(name##_f64, double, S, TO_F64)                                                                         \
  ROW(name##_bf16, bf16, S, ANY_BF16)                                                                        \
  ROW(name##_i64, int64_t, S, TO_I64)                                                                        \
  ROW(name##_i32, int32_t, S, TO_I32)                                                                        \
  ROW(name##_u8, uint8_t, S, TO_U8)                                                                          \
  ROW(name##_bool, truth, S, TO_TRUE)

FROM_FLOAT(f32, float, F32_BF16)
FROM_FLOAT(f64, double, ANY_BF16)
ROW(bf16_f32, float, bf16, BF16_F32)
ROW(bf16_f64, double, bf16, BF16_F64)
ROW(bf16_i64, int64_t, bf16, BF16_I64)
ROW(bf16_i32, int32_t, bf16, BF16_I32)
ROW(bf16_u8, uint8_t, bf16, BF16_U8)
ROW(bf16_bool, truth, bf16, BF16_TRUE)
FROM_INTEGER(i64, int64_t)
FROM_INTEGER(i32, int32_t)
FROM_INTEGER(u8, uint8_t)

/* [source][destination]; equal dtypes move bytes. A bool's byte is 0 or 1, which reads as u8. */
#define TARGETS(name)                                                                                        \
  { name##_f32, name##_f64, name##_bf16, name##_i64, name##_i32, name##_u8, name##_bool }
static copy_row *row_function(pr_dtype dst, pr_dtype src) {
  static copy_row *const moves[] = { [1] = move1, [2] = move2, [4] = move4, [8] = move8 };
  static copy_row *const rows[PR_DTYPES][PR_DTYPES] = {
    TARGETS(f32), TARGETS(f64), { bf16_f32, bf16_f64, move2, bf16_i64, bf16_i32, bf16_u8, bf16_bool },
    TARGETS(i64), TARGETS(i32), TARGETS(u8),
    TARGETS(u8),
  };
  return dst == src ? moves[pr_dtype_size(dst)] : rows[src][dst];
}

/* --- the plan: axes in the destination's memory order --------------------------------------------------- */

typedef struct plan {
  int dim;
  int64_t size[PR_MAX_DIM], dst[PR_MAX_DIM], src[PR_MAX_DIM];
  char *to;
  const char *from;
  int64_t dst_bytes, src_bytes; /* of an element */
  copy_row *row;
} plan;

static void make_plan(plan *p, const pr_tensor *dst, const pr_tensor *src) {
  *p = (plan){ .to = prT_data(dst), .from = prT_data(src), .row = row_function(dst->dtype, src->dtype) };
  p->dst_bytes = (int64_t)pr_dtype_size(dst->dtype), p->src_bytes = (int64_t)pr_dtype_size(src->dtype);
  for (int d = 0; d < dst->dim; d++) { /* insertion by falling stride of the destination */
    if (dst->shape[d] == 1) continue;
    int s = d - (dst->dim - src->dim);
    int64_t stride = s < 0 || src->shape[s] == 1 ? 0 : src->stride[s];
    int k = p->dim++;
    for (; k > 0 && p->dst[k - 1] < dst->stride[d]; k--)
      p->size[k] = p->size[k - 1], p->dst[k] = p->dst[k - 1], p->src[k] = p->src[k - 1];
    p->size[k] = dst->shape[d], p->dst[k] = dst->stride[d], p->src[k] = stride;
  }
  int last = 0;
  for (int k = 1; k < p->dim; k++) {
    if (p->dst[last] == p->dst[k] * p->size[k] && p->src[last] == p->src[k] * p->size[k])
      p->size[last] *= p->size[k], p->dst[last] = p->dst[k], p->src[last] = p->src[k];
    else
      last++, p->size[last] = p->size[k], p->dst[last] = p->dst[k], p->src[last] = p->src[k];
  }
  if (p->dim)
    p->dim = last + 1;
  else
    p->dim = 1, p->size[0] = 1, p->dst[0] = p->src[0] = 1;
}

/* Byte offsets of the n-th index over the outer `dims` axes. */
static void locate(const plan *p, int dims, int64_t n, int64_t *dst, int64_t *src) {
  int64_t to = 0, from = 0;
  for (int d = dims - 1; d >= 0; d--) {
    int64_t i = n % p->size[d];
    n /= p->size[d];
    to += i * p->dst[d], from += i * p->src[d];
  }
  *dst = to * p->dst_bytes, *src = from * p->src_bytes;
}

static int64_t outer_count(const plan *p, int dims) {
  int64_t n = 1;
  for (int d = 0; d < dims; d++) n *= p->size[d];
  return n;
}

/* Jobs are runs of whole rows, or parts of a row where rows are long. */
static void run_rows(const plan *p) {
  int inner = p->dim - 1, under = inner > 0 ? inner - 1 : 0;
  int64_t n = p->size[inner], rows = inner > 0 ? p->size[under] : 1;
  int64_t row_dst = inner > 0 ? p->dst[under] : 0, row_src = inner > 0 ? p->src[under] : 0;
  int64_t ds = p->dst[inner], ss = p->src[inner];
  int64_t parts = (n + CHUNK - 1) / CHUNK, part = (n + parts - 1) / parts;
  int64_t together = parts > 1 ? 1 : CHUNK / n < rows ? CHUNK / n : rows;
  int64_t groups = (rows + together - 1) / together, jobs = outer_count(p, under) * groups * parts;
#pragma omp parallel for schedule(static) if (jobs > 1 && jobs * together * part >= PARALLEL)
  for (int64_t job = 0; job < jobs; job++) {
    int64_t to, from, start = job % parts * part, group = job / parts;
    int64_t first = group % groups * together, past = first + together < rows ? first + together : rows;
    int64_t count = n - start < part ? n - start : part;
    locate(p, under, group / groups, &to, &from);
    for (int64_t r = first; count > 0 && r < past; r++)
      p->row(p->to + to + (r * row_dst + start * ds) * p->dst_bytes, ds,
             p->from + from + (r * row_src + start * ss) * p->src_bytes, ss, count);
  }
}

/* The destination runs along the last axis, the source along `axis`: blocks of both. */
static void run_transposed(const plan *original, int axis) {
  plan moved = *original, *p = &moved;
  int inner = p->dim - 1;
  int64_t n = p->size[axis], ds = p->dst[axis];
  for (int d = axis; d < inner - 1; d++)
    p->size[d] = p->size[d + 1], p->dst[d] = p->dst[d + 1], p->src[d] = p->src[d + 1];
  int64_t m = p->size[inner] = original->size[inner], ss = original->src[inner];
  int64_t blocks = (n + BLOCK - 1) / BLOCK, jobs = outer_count(p, inner - 1) * blocks;
#pragma omp parallel for schedule(static) if (jobs * BLOCK * m >= PARALLEL)
  for (int64_t job = 0; job < jobs; job++) {
    int64_t to, from, i0 = job % blocks * BLOCK, i1 = i0 + BLOCK < n ? i0 + BLOCK : n;
    locate(p, inner - 1, job / blocks, &to, &from);
    for (int64_t j = 0; j < m; j += BLOCK) {
      int64_t width = m - j < BLOCK ? m - j : BLOCK;
      for (int64_t i = i0; i < i1; i++)
        p->row(p->to + to + (i * ds + j) * p->dst_bytes, 1, p->from + from + (i + j * ss) * p->src_bytes, ss,
               width);
    }
  }
}

static void run(const plan *p) {
  int inner = p->dim - 1;
  if (inner > 0 && p->dst[inner] == 1 && p->src[inner] > 1 && p->size[inner] > 1)
    for (int d = 0; d < inner; d++)
      if (p->src[d] == 1 && p->size[d] > 3) {
        run_transposed(p, d);
        return;
      }
  run_rows(p);
}

/* --- the public functions ------------------------------------------------------------------------------- */

/* The first and last byte that a tensor may touch. */
static void span(const pr_tensor *t, const char **first, const char **last) {
  *first = *last = prT_data(t);
  for (int d = 0; d < t->dim; d++) {
    int64_t reach = (t->shape[d] - 1) * t->stride[d] * (int64_t)pr_dtype_size(t->dtype);
    if (reach < 0)
      *first += reach;
    else
      *last += reach;
  }
  *last += pr_dtype_size(t->dtype) - 1;
}

static bool overlap(const pr_tensor *a, const pr_tensor *b) {
  if (a->storage != b->storage) return false;
  const char *a0, *a1, *b0, *b1;
  span(a, &a0, &a1), span(b, &b0, &b1);
  return a0 <= b1 && b0 <= a1;
}

static pr_status check(const pr_tensor *dst, const pr_tensor *src) {
  char a[PR_SHAPE_TEXT], b[PR_SHAPE_TEXT];
  bool fits = src->dim <= dst->dim;
  for (int d = 0; fits && d < src->dim; d++) {
    int64_t size = src->shape[d];
    fits = size == 1 || size == dst->shape[d + dst->dim - src->dim];
  }
  if (!fits)
    return pr_fail(PR_ERR_SHAPE, "copy: a tensor of shape %s does not broadcast to shape %s",
                   pr_shape_text(src, b), pr_shape_text(dst, a));
  if (dst->device != PR_CPU || src->device != PR_CPU)
    return pr_fail(PR_ERR_STATE, "copy: %s %s on '%s' from '%s': there are no values to copy",
                   pr_dtype_name(dst->dtype), pr_shape_text(dst, a), pr_device_name(dst->device),
                   pr_device_name(src->device));
  for (int d = 0; d < dst->dim; d++)
    if (dst->stride[d] == 0 && dst->shape[d] > 1)
      return pr_fail(
          PR_ERR_STATE,
          "copy: axis %lld of the destination %s is expanded: its elements share memory; clone it first",
          PR_INDEX(d), pr_shape_text(dst, a));
  return PR_OK;
}

pr_status pr_copy(pr_tensor *dst, const pr_tensor *src) {
  PR_TRY(check(dst, src));
  if (pr_numel(dst) == 0) return PR_OK;
  pr_tensor *apart = NULL;
  if (overlap(dst, src)) {
    if (dst->dtype == src->dtype && dst->offset == src->offset && prT_same_layout(dst, src)) return PR_OK;
    if (!(apart = pr_clone(src))) return pr_error_last()->code;
    src = apart;
  }
  if (dst->dtype == src->dtype && prT_same_layout(dst, src) && pr_numel(dst) < PARALLEL)
    memcpy(prT_data(dst), prT_data(src), (size_t)pr_numel(dst) * pr_dtype_size(dst->dtype));
  else {
    plan p;
    make_plan(&p, dst, src);
    run(&p);
  }
  prT_touch(dst);
  pr_release(apart);
  return PR_OK;
}

pr_status pr_fill(pr_tensor *t, double value) {
  int64_t room = 0;
  pr_storage storage = { .refs = 1, .device = PR_CPU, .bytes = sizeof room, .data = &room };
  pr_tensor scalar = { .refs = 1, .dtype = t->dtype, .device = PR_CPU, .storage = &storage };
  prT_set(&scalar, 0, value);
  return pr_copy(t, &scalar);
}

pr_tensor *pr_contiguous(pr_tensor *t) {
  if (pr_is_contiguous(t)) return pr_retain(t);
  pr_tensor *row_major = pr_tensor_new(t->dtype, t->device, t->dim, t->shape);
  if (row_major && t->device != PR_META && pr_copy(row_major, t)) pr_release(row_major), row_major = NULL;
  return row_major;
}

static pr_tensor *copy_as(const pr_tensor *t, pr_dtype dtype) {
  pr_tensor *copy = prT_new_like(t, dtype, t->dim, t->shape);
  if (copy && t->device != PR_META && pr_copy(copy, t)) pr_release(copy), copy = NULL;
  return copy;
}

pr_tensor *pr_clone(const pr_tensor *t) { return copy_as(t, t->dtype); }

pr_tensor *pr_to_dtype(pr_tensor *t, pr_dtype dtype) {
  return t->dtype == dtype ? pr_retain(t) : copy_as(t, dtype);
}
