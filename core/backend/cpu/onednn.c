#include "backend/cpu/onednn.h"

#include "backend/cpu/parallel.h"

#include <oneapi/dnnl/dnnl.h>
#include <pthread.h>
#include <string.h>

/* --- cached primitives
 * ------------------------------------------------------------------------------------------------ */

enum { MOST_CACHED = 128 };

typedef struct key {
  prK_conv problem;
  int64_t pass, with_bias, threads;
} key;

/* A primitive, what its weights look like inside, and the reorder between that and the plain form (NULL: the
 * same). */
typedef struct entry {
  key key;
  bool filled, unsupported;
  int users;
  uint64_t used;
  dnnl_primitive_t primitive, reorder;
  dnnl_memory_desc_t x, y, bias, weight, plain;
  size_t scratch, weight_bytes;
} entry;

static struct {
  pthread_mutex_t lock;
  dnnl_engine_t engine;
  dnnl_stream_t stream;
  uint64_t clock;
  entry entries[MOST_CACHED];
} cache = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void empty_entry(entry *e) {
  if (e->primitive) dnnl_primitive_destroy(e->primitive);
  if (e->reorder) dnnl_primitive_destroy(e->reorder);
  memset(e, 0, sizeof *e);
}

static pr_status failed(const char *what, dnnl_status_t status) {
  return status == dnnl_out_of_memory ? pr_fail(PR_ERR_MEMORY, "oneDNN: %s: out of memory", what)
                                      : PR_DECLINED;
}

#define TRY(what, call)                                                                                      \
  do {                                                                                                       \
    dnnl_status_t status_ = (call);                                                                          \
    if (status_ != dnnl_success) return failed(what, status_);                                               \
  } while (0)

/* --- descriptions
 * ----------------------------------------------------------------------------------------------------- */

static pr_status describe(const prK_conv *p, entry *e, dnnl_memory_desc_t *any_weight) {
  const dnnl_dims_t x = { p->batch, p->c_in, p->in[0], p->in[1] },
                    y = { p->batch, p->c_out, p->out[0], p->out[1] };
  const dnnl_dims_t w = { p->groups, p->c_out / p->groups, p->c_in / p->groups, p->kernel[0], p->kernel[1] };
  const dnnl_dims_t ungrouped = { p->c_out, p->c_in, p->kernel[0], p->kernel[1] }, bias = { p->c_out };
  TRY("x", dnnl_memory_desc_init_by_tag(&e->x, 4, x, dnnl_f32, dnnl_nhwc));
  TRY("y", dnnl_memory_desc_init_by_tag(&e->y, 4, y, dnnl_f32, dnnl_nhwc));
  TRY("bias", dnnl_memory_desc_init_by_tag(&e->bias, 1, bias, dnnl_f32, dnnl_a));
  if (p->groups > 1) {
    TRY("weight", dnnl_memory_desc_init_by_tag(&e->plain, 5, w, dnnl_f32, dnnl_goihw));
    TRY("weight", dnnl_memory_desc_init_by_tag(any_weight, 5, w, dnnl_f32, dnnl_format_tag_any));
  } else {
    TRY("weight", dnnl_memory_desc_init_by_tag(&e->plain, 4, ungrouped, dnnl_f32, dnnl_oihw));
    TRY("weight", dnnl_memory_desc_init_by_tag(any_weight, 4, ungrouped, dnnl_f32, dnnl_format_tag_any));
  }
  return PR_OK;
}

/* The far side's padding, such that oneDNN's count of outputs is ours. */
static void far_padding(const prK_conv *p, dnnl_dims_t right) {
  for (int k = 0; k < 2; k++) {
    const int64_t range = p->dilation[k] * (p->kernel[k] - 1) + 1;
    right[k] = p->padding[k];
    if ((p->in[k] - range + 2 * p->padding[k]) / p->stride[k] + 1 != p->out[k])
      right[k] = (p->out[k] - 1) * p->stride[k] + range - p->in[k] - p->padding[k];
  }
}

static pr_status describe_pass(const key *k, entry *e, dnnl_convolution_desc_t *desc,
                               dnnl_memory_desc_t *weight) {
  const prK_conv *p = &k->problem;
  const dnnl_dims_t stride = { p->stride[0], p->stride[1] }, left = { p->padding[0], p->padding[1] };
  const dnnl_dims_t dilation = { p->dilation[0] - 1, p->dilation[1] - 1 };
  dnnl_dims_t right;
  far_padding(p, right);
  if (k->pass == PRK_CONV_FORWARD)
    TRY("forward", dnnl_dilated_convolution_forward_desc_init(
                       desc, dnnl_forward_training, dnnl_convolution_direct, &e->x, weight,
                       k->with_bias ? &e->bias : NULL, &e->y, stride, dilation, left, right));
  else if (k->pass == PRK_CONV_DATA)
    TRY("data", dnnl_dilated_convolution_backward_data_desc_init(desc, dnnl_convolution_direct, &e->x, weight,
                                                                 &e->y, stride, dilation, left, right));
  else
    TRY("weights",
        dnnl_dilated_convolution_backward_weights_desc_init(desc, dnnl_convolution_direct, &e->x, weight,
                                                            NULL, &e->y, stride, dilation, left, right));
  return PR_OK;
}

/* --- making primitives
 * ------------------------------------------------------------------------------------------------ */

static pr_status make_reorder(const key *k, entry *e) {
  if (dnnl_memory_desc_equal(&e->plain, &e->weight)) return PR_OK;
  const bool back = k->pass == PRK_CONV_WEIGHTS;
  dnnl_primitive_desc_t d;
  TRY("reorder", dnnl_reorder_primitive_desc_create(&d, back ? &e->weight : &e->plain, cache.engine,
                                                    back ? &e->plain : &e->weight, cache.engine, NULL));
  dnnl_status_t status = dnnl_primitive_create(&e->reorder, d);
  dnnl_primitive_desc_destroy(d);
  return status == dnnl_success ? PR_OK : failed("reorder", status);
}

static pr_status make_from_descriptor(const key *k, entry *e, dnnl_primitive_desc_t d) {
  const char *name = "";
  dnnl_primitive_desc_query(d, dnnl_query_impl_info_str, 0, &name);
  if (strstr(name, "ref")) return PR_DECLINED; /* plain loops: im2col is faster */
  const dnnl_query_t which = k->pass == PRK_CONV_WEIGHTS ? dnnl_query_diff_weights_md : dnnl_query_weights_md;
  e->weight = *dnnl_primitive_desc_query_md(d, which, 0);
  e->weight_bytes = dnnl_memory_desc_get_size(&e->weight);
  e->scratch = dnnl_memory_desc_get_size(dnnl_primitive_desc_query_md(d, dnnl_query_scratchpad_md, 0));
  TRY("primitive", dnnl_primitive_create(&e->primitive, d));
  return make_reorder(k, e);
}

/* The gradients are described with the forward pass as a hint. */
static pr_status make_with_attributes(const key *k, entry *e, dnnl_primitive_attr_t attributes) {
  TRY("scratchpad", dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user));
  dnnl_memory_desc_t weight;
  PR_TRY(describe(&k->problem, e, &weight));
  dnnl_convolution_desc_t desc;
  dnnl_primitive_desc_t hint = NULL, d = NULL;
  if (k->pass != PRK_CONV_FORWARD) {
    key forward = *k;
    forward.pass = PRK_CONV_FORWARD;
    PR_TRY(describe_pass(&forward, e, &desc, &weight));
    TRY("hint", dnnl_primitive_desc_create(&hint, &desc, attributes, cache.engine, NULL));
  }
  pr_status status = describe_pass(k, e, &desc, &weight);
  dnnl_status_t made =
      status ? dnnl_success : dnnl_primitive_desc_create(&d, &desc, attributes, cache.engine, hint);
  if (!status && made != dnnl_success) status = failed("descriptor", made);
  if (!status) status = make_from_descriptor(k, e, d);
  if (d) dnnl_primitive_desc_destroy(d);
  if (hint) dnnl_primitive_desc_destroy(hint);
  return status;
}

static pr_status make_entry(const key *k, entry *e) {
  if (!cache.engine) TRY("engine", dnnl_engine_create(&cache.engine, dnnl_cpu, 0));
  if (!cache.stream)
    TRY("stream", dnnl_stream_create(&cache.stream, cache.engine, dnnl_stream_default_flags));
  dnnl_primitive_attr_t attributes;
  TRY("attributes", dnnl_primitive_attr_create(&attributes));
  pr_status status = make_with_attributes(k, e, attributes);
  dnnl_primitive_attr_destroy(attributes);
  return status;
}

/* The entry for a problem, with one more user; what oneDNN cannot do is remembered too. Called with the lock
 * held. */
static pr_status find_entry(const key *k, entry **found) {
  entry *oldest = NULL;
  for (entry *e = cache.entries; e < cache.entries + MOST_CACHED; e++) {
    if (e->filled && memcmp(&e->key, k, sizeof *k) == 0) {
      if (e->unsupported) return PR_DECLINED;
      e->used = ++cache.clock, e->users++;
      *found = e;
      return PR_OK;
    }
    if (e->users == 0 && (!oldest || e->used < oldest->used)) oldest = e;
  }
  if (!oldest) return PR_DECLINED;
  empty_entry(oldest);
  pr_status status = make_entry(k, oldest);
  if (status == PR_DECLINED) {
    empty_entry(oldest);
    oldest->unsupported = true;
  } else if (status) {
    empty_entry(oldest);
    return status;
  }
  oldest->filled = true, oldest->key = *k, oldest->used = ++cache.clock;
  if (status) return status;
  oldest->users = 1;
  *found = oldest;
  return PR_OK;
}

/* --- running
 * ----------------------------------------------------------------------------------------------------------
 */

enum { MOST_ARGUMENTS = 6 };

typedef struct arguments {
  int n;
  dnnl_exec_arg_t list[MOST_ARGUMENTS];
} arguments;

static pr_status give(arguments *a, int what, const dnnl_memory_desc_t *desc, void *data) {
  dnnl_memory_t memory;
  TRY("memory", dnnl_memory_create(&memory, desc, cache.engine, data));
  a->list[a->n++] = (dnnl_exec_arg_t){ what, memory };
  return PR_OK;
}

static void drop(arguments *a) {
  for (int i = 0; i < a->n; i++) dnnl_memory_destroy(a->list[i].memory);
  a->n = 0;
}

static pr_status execute(dnnl_primitive_t primitive, arguments *a) {
  TRY("execute", dnnl_primitive_execute(primitive, cache.stream, a->n, a->list));
  TRY("wait", dnnl_stream_wait(cache.stream));
  return PR_OK;
}

static pr_status run_reorder(const entry *e, const dnnl_memory_desc_t *from, float *source,
                             const dnnl_memory_desc_t *to, float *destination) {
  arguments a = { 0 };
  pr_status status = give(&a, DNNL_ARG_FROM, from, source);
  if (!status) status = give(&a, DNNL_ARG_TO, to, destination);
  if (!status) status = execute(e->reorder, &a);
  drop(&a);
  return status;
}

static pr_status give_all(const key *k, const entry *e, arguments *a, float *x, float *weight, float *bias,
                          float *y, void *scratch) {
  const bool forward = k->pass == PRK_CONV_FORWARD, data = k->pass == PRK_CONV_DATA;
  PR_TRY(give(a, data ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC, &e->x, x));
  PR_TRY(give(a, forward ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST, &e->y, y));
  PR_TRY(give(a, forward || data ? DNNL_ARG_WEIGHTS : DNNL_ARG_DIFF_WEIGHTS, &e->weight, weight));
  if (k->with_bias) PR_TRY(give(a, DNNL_ARG_BIAS, &e->bias, bias));
  if (!e->scratch) return PR_OK;
  const dnnl_dims_t bytes = { (dnnl_dim_t)e->scratch };
  dnnl_memory_desc_t desc;
  TRY("scratchpad", dnnl_memory_desc_init_by_tag(&desc, 1, bytes, dnnl_u8, dnnl_a));
  return give(a, DNNL_ARG_SCRATCHPAD, &desc, scratch);
}

static pr_status run_entry(pr_call *c, const key *k, const entry *e, float *x, float *weight, float *bias,
                           float *y) {
  float *inner = weight;
  void *scratch = NULL;
  if (e->scratch && !(scratch = prK_scratch(c, e->scratch))) return PR_ERR_MEMORY;
  if (e->reorder && !(inner = prK_scratch(c, e->weight_bytes))) return PR_ERR_MEMORY;
  if (e->reorder && k->pass != PRK_CONV_WEIGHTS) PR_TRY(run_reorder(e, &e->plain, weight, &e->weight, inner));
  arguments a = { 0 };
  pr_status status = give_all(k, e, &a, x, inner, bias, y, scratch);
  if (!status) status = execute(e->primitive, &a);
  drop(&a);
  if (!status && e->reorder && k->pass == PRK_CONV_WEIGHTS)
    status = run_reorder(e, &e->weight, inner, &e->plain, weight);
  return status;
}

pr_status prK_onednn_conv(pr_call *c, const prK_conv *p, prK_conv_pass pass, float *x, float *weight,
                          float *bias, float *y) {
  key k;
  memset(&k, 0, sizeof k); /* keys are compared as bytes */
  k.problem = *p, k.pass = pass, k.with_bias = bias != NULL, k.threads = pr_threads();
  entry *e = NULL;
  pthread_mutex_lock(&cache.lock);
  pr_status status = find_entry(&k, &e);
  pthread_mutex_unlock(&cache.lock);
  PR_TRY(status);
  status = run_entry(c, &k, e, x, weight, bias, y);
  pthread_mutex_lock(&cache.lock);
  e->users--;
  pthread_mutex_unlock(&cache.lock);
  return status;
}
