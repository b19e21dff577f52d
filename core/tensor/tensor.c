/* tensor.c - making, counting, viewing and asking tensors. */
#include "tensor/tensor.h"

#include "base/memory.h"
#include "tensor/bf16.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* --- dtypes and devices --------------------------------------------------------------------------------- */

static const char *const dtype_names[PR_DTYPES] = { "f32", "f64", "bf16", "i64", "i32", "u8", "bool" };
static const unsigned char dtype_sizes[PR_DTYPES] = { 4, 8, 2, 8, 4, 1, 1 };

const char *pr_dtype_name(pr_dtype dtype) { return dtype_names[dtype]; }
size_t pr_dtype_size(pr_dtype dtype) { return dtype_sizes[dtype]; }
bool pr_dtype_is_float(pr_dtype dtype) { return dtype == PR_F32 || dtype == PR_F64 || dtype == PR_BF16; }

pr_status pr_dtype_parse(const char *name, pr_dtype *dtype) {
  for (int i = 0; i < PR_DTYPES; i++)
    if (strcmp(name, dtype_names[i]) == 0) return *dtype = (pr_dtype)i, PR_OK;
  const char *near = pr_nearest(name, dtype_names, PR_DTYPES);
  return pr_fail(PR_ERR_ARGUMENT, "unknown dtype '%s'%s%s%s: it is one of f32, f64, bf16, i64, i32, u8, bool",
                 name, near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "");
}

const char *pr_device_name(pr_device device) {
  static const char *const names[PR_DEVICES] = { "cpu", "cuda", "meta" };
  return (unsigned)device < PR_DEVICES ? names[device] : "unknown";
}

/* --- making
 * ---------------------------------------------------------------------------------------------------------
 */

void (*prT_released)(pr_tensor *t);

/* A handle with shape and strides, whose axes lie in memory in the order `order` (outermost first), and no
 * storage. */
static pr_tensor *handle(pr_dtype dtype, int dim, const int64_t *shape, const int *order) {
  char text[PR_SHAPE_TEXT];
  if (dim < 0 || dim > PR_MAX_DIM)
    return pr_fail(PR_ERR_SHAPE, "a tensor has 0 to %d axes, not %d", PR_MAX_DIM, dim), NULL;
  int64_t stride[PR_MAX_DIM] = { 0 }, count = 1;
  for (int k = dim - 1; k >= 0; k--) {
    int d = order ? order[k] : k;
    if (shape[d] < 0)
      return pr_fail(PR_ERR_SHAPE, "negative size in shape %s", prT_sizes_text(dim, shape, text)), NULL;
    stride[d] = count;
    if (__builtin_mul_overflow(count, shape[d] ? shape[d] : 1, &count) ||
        count > PTRDIFF_MAX / 2 / (int64_t)pr_dtype_size(dtype))
      return pr_fail(PR_ERR_SHAPE, "shape %s is too large", prT_sizes_text(dim, shape, text)), NULL;
  }
  pr_tensor *t = PRB_NEW(pr_tensor);
  if (!t) return NULL;
  t->refs = 1;
  t->dtype = dtype, t->device = PR_META, t->dim = dim;
  if (dim) memcpy(t->shape, shape, (size_t)dim * sizeof *shape);
  memcpy(t->stride, stride, sizeof stride);
  return t;
}

/* Gives the handle memory, or drops it. */
static pr_tensor *with_memory(pr_tensor *t, pr_device device) {
  if (!t || device == PR_META || prT_allocate(t, device) == PR_OK) return t;
  pr_release(t);
  return NULL;
}

pr_status prT_allocate(pr_tensor *t, pr_device device) {
  if (t->storage && t->device == device) return PR_OK;
  int64_t extent = pr_numel(t) ? 1 : 0;
  for (int d = 0; extent && d < t->dim; d++) extent += (t->shape[d] - 1) * t->stride[d];
  t->storage = prT_storage_new(device, (size_t)extent * pr_dtype_size(t->dtype));
  if (!t->storage) return pr_error_last()->code;
  t->device = device, t->offset = 0;
  return PR_OK;
}

pr_tensor *pr_tensor_new(pr_dtype dtype, pr_device device, int dim, const int64_t *shape) {
  return with_memory(handle(dtype, dim, shape, NULL), device);
}

/* The axes from the outermost in memory to the innermost. Where strides are equal one of the sizes is 1, and
 * that axis is the inner one: so an image of one channel remembers whether it is channels-last. */
static void axis_order(const pr_tensor *t, int order[PR_MAX_DIM]) {
  for (int d = 0; d < t->dim; d++) {
    int k = d;
    for (; k > 0; k--) {
      int e = order[k - 1];
      bool outer = t->stride[d] > t->stride[e] ||
                   (t->stride[d] == t->stride[e] && t->shape[e] == 1 && t->shape[d] > 1);
      if (!outer) break;
      order[k] = e;
    }
    order[k] = d;
  }
}

pr_tensor *prT_new_like(const pr_tensor *like, pr_dtype dtype, int dim, const int64_t *shape) {
  int order[PR_MAX_DIM];
  bool ordered = like->dim == dim && prT_is_dense(like);
  if (ordered) axis_order(like, order);
  return with_memory(handle(dtype, dim, shape, ordered ? order : NULL), like->device);
}

static const int *channels_last_order(int dim) {
  static const int images[] = { 0, 2, 3, 1 }, sequences[] = { 0, 2, 1 };
  return dim == 4 ? images : dim == 3 ? sequences : NULL;
}

pr_tensor *prT_new_channels_last(pr_dtype dtype, pr_device device, int dim, const int64_t *shape) {
  return with_memory(handle(dtype, dim, shape, channels_last_order(dim)), device);
}

pr_tensor *pr_tensor_full(pr_dtype dtype, pr_device device, int dim, const int64_t *shape, double value) {
  pr_tensor *t = pr_tensor_new(dtype, device, dim, shape);
  if (t && device != PR_META && pr_fill(t, value)) pr_release(t), t = NULL;
  return t;
}

pr_tensor *pr_tensor_zeros(pr_dtype dtype, pr_device device, int dim, const int64_t *shape) {
  return pr_tensor_full(dtype, device, dim, shape, 0);
}

pr_tensor *pr_tensor_scalar(pr_dtype dtype, double value) {
  return pr_tensor_full(dtype, PR_CPU, 0, NULL, value);
}

pr_tensor *pr_tensor_from(pr_dtype dtype, int dim, const int64_t *shape, const double *values) {
  pr_tensor *t = pr_tensor_new(dtype, PR_CPU, dim, shape);
  if (t && prT_from_doubles(t, values)) pr_release(t), t = NULL;
  return t;
}

/* --- counting and views --------------------------------------------------------------------------------- */

pr_tensor *pr_retain(pr_tensor *t) {
  if (t) atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
  return t;
}

void pr_release(pr_tensor *t) {
  if (!t || atomic_fetch_sub(&t->refs, 1) > 1) return;
  if (prT_released && (t->creator || t->grad || t->hooks || t->parameter)) prT_released(t);
  prT_storage_release(t->storage);
  PRB_FREE(t);
}

pr_tensor *prT_view(const pr_tensor *base, int dim, const int64_t *shape, const int64_t *stride,
                    int64_t offset) {
  pr_tensor *t = handle(base->dtype, dim, shape, NULL);
  if (!t) return NULL;
  if (dim) memcpy(t->stride, stride, (size_t)dim * sizeof *stride);
  t->offset = offset, t->device = base->device, t->storage = base->storage;
  if (t->storage) atomic_fetch_add_explicit(&t->storage->refs, 1, memory_order_relaxed);
  return t;
}

pr_tensor *pr_detach(const pr_tensor *t) { return prT_view(t, t->dim, t->shape, t->stride, t->offset); }

void prT_swap_content(pr_tensor *a, pr_tensor *b) {
  pr_tensor old = *a;
#define TAKE(field)                                                                                          \
  memcpy(&a->field, &b->field, sizeof a->field), memcpy(&b->field, &old.field, sizeof b->field)
  TAKE(dtype), TAKE(device), TAKE(dim), TAKE(shape), TAKE(stride), TAKE(offset), TAKE(storage);
#undef TAKE
}

void prT_touch(pr_tensor *t) {
  if (t->storage) t->storage->version = prT_new_version();
}

/* --- asking
 * ---------------------------------------------------------------------------------------------------------
 */

int64_t pr_numel(const pr_tensor *t) {
  int64_t n = 1;
  for (int d = 0; d < t->dim; d++) n *= t->shape[d];
  return n;
}

void *prT_data(const pr_tensor *t) {
  return t->storage ? (char *)t->storage->data + t->offset * (int64_t)pr_dtype_size(t->dtype) : NULL;
}

/* Without holes when the axes lie in memory in this order? Axes of size 1 may have any stride. */
static bool packed(const pr_tensor *t, const int *order) {
  int64_t expected = 1;
  if (pr_numel(t) == 0) return true;
  for (int k = t->dim - 1; k >= 0; k--) {
    int d = order ? order[k] : k;
    if (t->shape[d] != 1 && t->stride[d] != expected) return false;
    expected *= t->shape[d];
  }
  return true;
}

bool pr_is_contiguous(const pr_tensor *t) { return packed(t, NULL); }

bool prT_is_channels_last(const pr_tensor *t) {
  const int *order = channels_last_order(t->dim);
  return order && packed(t, order);
}

bool prT_is_dense(const pr_tensor *t) {
  int order[PR_MAX_DIM];
  axis_order(t, order);
  return packed(t, order);
}

bool pr_same_shape(const pr_tensor *a, const pr_tensor *b) {
  return a->dim == b->dim && memcmp(a->shape, b->shape, (size_t)a->dim * sizeof *a->shape) == 0;
}

bool prT_same_layout(const pr_tensor *a, const pr_tensor *b) {
  if (!pr_same_shape(a, b)) return false;
  for (int d = 0; d < a->dim; d++)
    if (a->shape[d] != 1 && a->stride[d] != b->stride[d]) return false;
  return prT_is_dense(a);
}

const char *prT_sizes_text(int dim, const int64_t *sizes, char text[PR_SHAPE_TEXT]) {
  size_t used = 0;
  text[used++] = '[';
  for (int d = 0; d < dim && used < PR_SHAPE_TEXT - 24; d++)
    used += (size_t)snprintf(text + used, PR_SHAPE_TEXT - used, "%s%lld", d ? ", " : "", (long long)sizes[d]);
  text[used++] = ']', text[used] = 0;
  return text;
}

const char *pr_shape_text(const pr_tensor *t, char text[PR_SHAPE_TEXT]) {
  return prT_sizes_text(t->dim, t->shape, text);
}

void prT_walk_start(prT_walk *w, const pr_tensor *t) {
  *w = (prT_walk){ .dim = t->dim, .left = pr_numel(t) };
  memcpy(w->shape, t->shape, sizeof w->shape);
  memcpy(w->stride, t->stride, sizeof w->stride);
}

/* --- numbers in and out --------------------------------------------------------------------------------- */

/* Conversions of numbers outside the range are undefined in C; here they saturate, and nan gives 0. */
static int64_t to_i64(double v) {
  return v >= 0x1p63 ? INT64_MAX : v <= -0x1p63 ? INT64_MIN : v != v ? 0 : (int64_t)v;
}

double prT_get(const pr_tensor *t, int64_t element) {
  const void *data = t->storage->data;
  int64_t i = t->offset + element;
  switch (t->dtype) {
  case PR_F32: return ((const float *)data)[i];
  case PR_F64: return ((const double *)data)[i];
  case PR_BF16: return prT_from_bf16(((const uint16_t *)data)[i]);
  case PR_I64: return (double)((const int64_t *)data)[i];
  case PR_I32: return ((const int32_t *)data)[i];
  case PR_U8: return ((const uint8_t *)data)[i];
  default: return ((const uint8_t *)data)[i] != 0;
  }
}

void prT_set(pr_tensor *t, int64_t element, double value) {
  void *data = t->storage->data;
  int64_t i = t->offset + element;
  switch (t->dtype) {
  case PR_F32: ((float *)data)[i] = (float)value; break;
  case PR_F64: ((double *)data)[i] = value; break;
  case PR_BF16: ((uint16_t *)data)[i] = prT_double_to_bf16(value); break;
  case PR_I64: ((int64_t *)data)[i] = to_i64(value); break;
  case PR_I32: ((int32_t *)data)[i] = (int32_t)to_i64(value); break;
  case PR_U8: ((uint8_t *)data)[i] = (uint8_t)to_i64(value); break;
  default: ((uint8_t *)data)[i] = value != 0; break;
  }
}

static pr_status need_cpu(const pr_tensor *t) {
  if (t->device == PR_CPU) return PR_OK;
  char text[PR_SHAPE_TEXT];
  return pr_fail(PR_ERR_STATE, "a tensor %s on device '%s' has no values here", pr_shape_text(t, text),
                 pr_device_name(t->device));
}

pr_status pr_item(const pr_tensor *t, double *value) {
  char text[PR_SHAPE_TEXT];
  if (pr_numel(t) != 1)
    return pr_fail(PR_ERR_SHAPE, "item: a tensor with one element is needed, not one of shape %s",
                   pr_shape_text(t, text));
  PR_TRY(need_cpu(t));
  *value = prT_get(t, 0);
  return PR_OK;
}

pr_status prT_to_doubles(const pr_tensor *t, double *values) {
  PR_TRY(need_cpu(t));
  prT_walk w;
  for (prT_walk_start(&w, t); w.left > 0; prT_walk_next(&w)) *values++ = prT_get(t, w.position);
  return PR_OK;
}

pr_status prT_from_doubles(pr_tensor *t, const double *values) {
  PR_TRY(need_cpu(t));
  prT_walk w;
  for (prT_walk_start(&w, t); w.left > 0; prT_walk_next(&w)) prT_set(t, w.position, *values++);
  prT_touch(t);
  return PR_OK;
}
