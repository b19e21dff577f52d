/* convolution.c - conv1d, conv2d and their transposed forms. In f32: the project's own kernels where they
 * suit, else oneDNN, else im2col and OpenBLAS; in f64 im2col and OpenBLAS. A transposed convolution is the
 * data pass of the convolution from its result to its input. */
#include "backend/cpu/conv_direct.h"
#include "backend/cpu/conv_double.h"
#include "backend/cpu/conv_im2col.h"
#include "backend/cpu/layout.h"
#include "backend/cpu/norm.h"
#ifdef PRUNELUA_ONEDNN
#include "backend/cpu/onednn.h"
#endif

enum { X, WEIGHT, BIAS };
enum { STRIDE, PADDING, DILATION }; /* the first arguments of all four operators */

/* The convolution that ties image, weight and result; a transposed one makes the image from the result. */
static prK_conv problem_of(const pr_call *c, const pr_tensor *image, const pr_tensor *result) {
  const pr_tensor *weight = c->in[WEIGHT];
  prK_conv p = { .batch = image->shape[0], .c_in = image->shape[1], .c_out = result->shape[1] };
  p.groups = weight->shape[1] > 0 ? p.c_in / weight->shape[1] : 0;
  const int space = image->dim - 2;
  for (int k = 0; k < 2; k++) {
    const int from = k - (2 - space), axis = from + 2;
    p.in[k] = from < 0 ? 1 : image->shape[axis];
    p.out[k] = from < 0 ? 1 : result->shape[axis];
    p.kernel[k] = from < 0 ? 1 : weight->shape[axis];
    p.stride[k] = from < 0 ? 1 : prO_int(c, STRIDE, from);
    p.padding[k] = from < 0 ? 0 : prO_int(c, PADDING, from);
    p.dilation[k] = from < 0 ? 1 : prO_int(c, DILATION, from);
  }
  return p;
}

static bool is_empty(const prK_conv *p) {
  return p->batch < 1 || p->c_in < 1 || p->c_out < 1 || p->groups < 1 || p->in[0] * p->in[1] < 1 ||
         p->out[0] * p->out[1] < 1 || p->kernel[0] * p->kernel[1] < 1;
}

/* --- f64 ---------------------------------------------------------------------------------------------------------------- */

static pr_status double_forward(pr_call *c, const prK_conv *p, bool transposed) {
  double *x = (double *)prK_load(c, c->in[X]), *weight = (double *)prK_load(c, c->in[WEIGHT]);
  const double *bias = prK_load(c, c->in[BIAS]);
  double *y = prK_doubles(c, pr_numel(c->out[0]));
  if (!x || !weight || !y || (c->in[BIAS] && !bias)) return PR_ERR_MEMORY;
  PR_TRY(transposed ? prK_double_conv(c, p, PRK_CONV_DATA, y, weight, bias, x)
                    : prK_double_conv(c, p, PRK_CONV_FORWARD, x, weight, bias, y));
  return prK_store(c->out[0], y);
}

static pr_status double_bias(pr_call *c, const double *dy) {
  const int64_t channels = c->grad_out[0]->shape[1], batch = c->grad_out[0]->shape[0];
  const int64_t plane = pr_numel(c->grad_out[0]) / (batch * channels);
  PRK_ZEROS(sums, channels);
  for (int64_t i = 0; i < batch * channels; i++)
    for (int64_t k = 0; k < plane; k++) sums[i % channels] += dy[i * plane + k];
  return prK_store(c->grad_in[BIAS], sums);
}

static pr_status double_backward(pr_call *c, const prK_conv *p, bool transposed) {
  double *dy = (double *)prK_load(c, c->grad_out[0]), *weight = (double *)prK_load(c, c->in[WEIGHT]);
  if (!dy || !weight) return PR_ERR_MEMORY;
  if (c->grad_in[X]) {
    PRK_ROOM(dx, pr_numel(c->in[X]));
    PR_TRY(transposed ? prK_double_conv(c, p, PRK_CONV_FORWARD, dy, weight, NULL, dx)
                      : prK_double_conv(c, p, PRK_CONV_DATA, dx, weight, NULL, dy));
    PR_TRY(prK_store(c->grad_in[X], dx));
  }
  if (c->grad_in[WEIGHT]) {
    double *x = (double *)prK_load(c, c->in[X]);
    PRK_ROOM(dw, pr_numel(c->in[WEIGHT]));
    if (!x) return PR_ERR_MEMORY;
    PR_TRY(prK_double_conv(c, p, PRK_CONV_WEIGHTS, transposed ? dy : x, dw, NULL, transposed ? x : dy));
    PR_TRY(prK_store(c->grad_in[WEIGHT], dw));
  }
  return c->n_in > BIAS && c->grad_in[BIAS] ? double_bias(c, dy) : PR_OK;
}

/* --- f32 ---------------------------------------------------------------------------------------------------------------- */

static pr_status run_direct(pr_call *c, const prK_conv *p, prK_conv_pass pass, float *x, float *weight,
                            const float *bias, float *y) {
  void *room = prK_scratch(c, prK_direct_scratch(p, pass));
  if (!room) return PR_ERR_MEMORY;
  switch (pass) {
  case PRK_CONV_FORWARD: prK_direct_forward(p, x, weight, bias, y, room); break;
  case PRK_CONV_DATA: prK_direct_data(p, y, weight, bias, x, room); break;
  case PRK_CONV_WEIGHTS: prK_direct_weights(p, x, y, weight, room); break;
  }
  return PR_OK;
}

/* One pass; `bias` is added to what the pass writes. */
static pr_status run_pass(pr_call *c, const prK_conv *p, prK_conv_pass pass, float *x, float *weight,
                          const float *bias, float *y) {
#ifdef PRUNELUA_ONEDNN
  const bool able = pass == PRK_CONV_FORWARD || !bias;
  if (able && !prK_direct_leads(p, pass)) {
    pr_status status = prK_onednn_conv(c, p, pass, x, weight, (float *)bias, y);
    if (status != PR_DECLINED) return status;
  }
#endif
  if (prK_direct_suits(p, pass)) return run_direct(c, p, pass, x, weight, bias, y);
  return prK_im2col_conv(c, p, pass, x, weight, bias, y);
}

static float *vector(pr_call *c, const pr_tensor *t) { return t ? (float *)prK_row_major(c, t) : NULL; }

static pr_status forward(pr_call *c, bool transposed) {
  const prK_conv p = transposed ? problem_of(c, c->out[0], c->in[X]) : problem_of(c, c->in[X], c->out[0]);
  if (is_empty(&p)) return PR_DECLINED;
  if (prK_all_of(c->in, c->n_in, PR_F64) && prK_double_suits(&p)) return double_forward(c, &p, transposed);
  if (!prK_all_f32(c->in, c->n_in)) return PR_DECLINED;
  float *x = (float *)prK_channels_last(c, c->in[X]), *weight = vector(c, c->in[WEIGHT]),
        *bias = vector(c, c->in[BIAS]);
  float *y = prK_channels_last_room(c, c->out[0]);
  if (!x || !weight || !y || (c->in[BIAS] && !bias)) return PR_ERR_MEMORY;
  PR_TRY(transposed ? run_pass(c, &p, PRK_CONV_DATA, y, weight, bias, x)
                    : run_pass(c, &p, PRK_CONV_FORWARD, x, weight, bias, y));
  prK_channels_last_finish(c->out[0], y);
  return PR_OK;
}

static pr_status bias_gradient(pr_call *c, const float *dy) {
  const int64_t channels = c->grad_out[0]->shape[1], rows = pr_numel(c->grad_out[0]) / channels;
  double *sums = prK_doubles(c, channels);
  void *room = prK_scratch(c, prK_norm_scratch(rows, channels));
  if (!sums || !room) return PR_ERR_MEMORY;
  prK_channel_sums(rows, channels, dy, sums, room);
  float *to = prT_data(c->grad_in[BIAS]);
  for (int64_t i = 0; i < channels; i++) to[i * c->grad_in[BIAS]->stride[0]] = (float)sums[i];
  return PR_OK;
}

static pr_status data_gradient(pr_call *c, const prK_conv *p, bool transposed, float *dy) {
  float *weight = vector(c, c->in[WEIGHT]), *dx = prK_channels_last_room(c, c->grad_in[X]);
  if (!weight || !dx) return PR_ERR_MEMORY;
  PR_TRY(transposed ? run_pass(c, p, PRK_CONV_FORWARD, dy, weight, NULL, dx)
                    : run_pass(c, p, PRK_CONV_DATA, dx, weight, NULL, dy));
  prK_channels_last_finish(c->grad_in[X], dx);
  return PR_OK;
}

static pr_status weight_gradient(pr_call *c, const prK_conv *p, bool transposed, float *dy) {
  float *x = (float *)prK_channels_last(c, c->in[X]), *dw = prK_row_major_room(c, c->grad_in[WEIGHT]);
  if (!x || !dw) return PR_ERR_MEMORY;
  PR_TRY(run_pass(c, p, PRK_CONV_WEIGHTS, transposed ? dy : x, dw, NULL, transposed ? x : dy));
  prK_row_major_finish(c->grad_in[WEIGHT], dw);
  return PR_OK;
}

static pr_status backward(pr_call *c, bool transposed) {
  const prK_conv p =
      transposed ? problem_of(c, c->grad_out[0], c->in[X]) : problem_of(c, c->in[X], c->grad_out[0]);
  if (is_empty(&p)) return PR_DECLINED;
  const bool doubles = prK_all_of(c->in, c->n_in, PR_F64) && prK_all_of(c->grad_out, 1, PR_F64);
  if (doubles && prK_double_suits(&p)) return double_backward(c, &p, transposed);
  if (!prK_all_f32(c->in, c->n_in) || !prK_all_f32(c->grad_out, 1)) return PR_DECLINED;
  float *dy = (float *)prK_channels_last(c, c->grad_out[0]);
  if (!dy) return PR_ERR_MEMORY;
  if (c->grad_in[X]) PR_TRY(data_gradient(c, &p, transposed, dy));
  if (c->grad_in[WEIGHT]) PR_TRY(weight_gradient(c, &p, transposed, dy));
  if (c->n_in > BIAS && c->grad_in[BIAS]) PR_TRY(bias_gradient(c, dy));
  return PR_OK;
}

PR_KERNEL(cpu, conv1d, forward)
{ return forward(c, false); }
PR_KERNEL(cpu, conv1d, backward)
{ return backward(c, false); }
PR_KERNEL(cpu, conv2d, forward)
{ return forward(c, false); }
PR_KERNEL(cpu, conv2d, backward)
{ return backward(c, false); }
PR_KERNEL(cpu, conv_transpose1d, forward)
{ return forward(c, true); }
PR_KERNEL(cpu, conv_transpose1d, backward)
{ return backward(c, true); }
PR_KERNEL(cpu, conv_transpose2d, forward)
{ return forward(c, true); }
PR_KERNEL(cpu, conv_transpose2d, backward)
{ return backward(c, true); }
