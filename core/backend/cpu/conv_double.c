#include "backend/cpu/conv_double.h"

#include <cblas.h>
#include <string.h>

/* Columns of the patch matrix are output positions; its rows are (channel, tap) of one group, in the order of
 * the weight's rows. */
typedef struct plan {
  const prK_conv *p;
  int64_t taps, depth, outs;         /* depth: channels of a group; outs: output channels of a group */
  int64_t rows, positions, in_plane; /* rows: depth * taps; positions: of one result */
  bool same;                         /* 1x1 with stride 1: the image is its own patch matrix */
  double *patches;
} plan;

bool prK_double_suits(const prK_conv *p) {
  const int64_t rows = p->c_in / p->groups * p->kernel[0] * p->kernel[1], outs = p->c_out / p->groups;
  return rows * outs > 64 && rows <= INT32_MAX && p->out[0] * p->out[1] <= INT32_MAX && p->c_out <= INT32_MAX;
}

static pr_status make_plan(pr_call *c, const prK_conv *p, plan *m) {
  *m = (plan){ .p = p, .taps = p->kernel[0] * p->kernel[1], .depth = p->c_in / p->groups };
  m->outs = p->c_out / p->groups, m->rows = m->depth * m->taps;
  m->positions = p->out[0] * p->out[1], m->in_plane = p->in[0] * p->in[1];
  m->same =
      m->taps == 1 && p->stride[0] == 1 && p->stride[1] == 1 && p->padding[0] == 0 && p->padding[1] == 0;
  if (!m->same) m->patches = prK_doubles(c, m->rows * m->positions);
  return m->same || m->patches ? PR_OK : PR_ERR_MEMORY;
}

/* The first and the number of output columns whose tap at `kx` falls on the image. */
static void columns(const prK_conv *p, int64_t kx, int64_t *first, int64_t *count) {
  const int64_t shift = kx * p->dilation[1] - p->padding[1], stride = p->stride[1];
  const int64_t begin = shift < 0 ? (-shift + stride - 1) / stride : 0;
  const int64_t end = shift >= p->in[1] ? 0 : (p->in[1] - 1 - shift) / stride + 1;
  *first = begin;
  *count = (end < p->out[1] ? end : p->out[1]) - begin;
  if (*count < 0) *count = 0, *first = 0;
}

/* Row (channel, tap) of the patches from one channel of the image, or added back to it. */
static void move_row(const plan *m, double *channel, int64_t tap, double *row, bool back) {
  const prK_conv *p = m->p;
  const int64_t ky = tap / p->kernel[1], kx = tap % p->kernel[1], stride = p->stride[1];
  const int64_t shift = kx * p->dilation[1] - p->padding[1];
  int64_t first, count;
  columns(p, kx, &first, &count);
  if (!back) memset(row, 0, sizeof *row * (size_t)m->positions);
  for (int64_t oy = 0; oy < p->out[0]; oy++) {
    const int64_t iy = oy * p->stride[0] - p->padding[0] + ky * p->dilation[0];
    if (iy < 0 || iy >= p->in[0]) continue;
    double *at = channel + iy * p->in[1] + first * stride + shift, *out = row + oy * p->out[1] + first;
    for (int64_t i = 0; i < count; i++)
      if (back)
        at[i * stride] += out[i];
      else
        out[i] = at[i * stride];
  }
}

static void gather(const plan *m, double *image) {
#pragma omp parallel for schedule(static) if (m->rows * m->positions > 16384)
  for (int64_t r = 0; r < m->rows; r++)
    move_row(m, image + r / m->taps * m->in_plane, r % m->taps, m->patches + r * m->positions, false);
}

/* Taps overlap within a channel, so channels are what threads share out. */
static void scatter_add(const plan *m, double *image) {
#pragma omp parallel for schedule(static) if (m->rows * m->positions > 16384)
  for (int64_t channel = 0; channel < m->depth; channel++)
    for (int64_t t = 0; t < m->taps; t++)
      move_row(m, image + channel * m->in_plane, t, m->patches + (channel * m->taps + t) * m->positions,
               true);
}

static void multiply(const plan *m, prK_conv_pass pass, double *patches, double *w, double *y, bool first) {
  const int rows = (int)m->rows, n = (int)m->positions, outs = (int)m->outs;
  if (pass == PRK_CONV_FORWARD)
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, outs, n, rows, 1, w, rows, patches, n, 1, y, n);
  else if (pass == PRK_CONV_DATA)
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, rows, n, outs, 1, w, rows, y, n, m->same ? 1 : 0,
                patches, n);
  else
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, outs, rows, n, 1, y, n, patches, n, first ? 0 : 1, w,
                rows);
}

static void fill(double *to, int64_t batch, int64_t channels, int64_t plane, const double *bias) {
  for (int64_t i = 0; i < batch * channels; i++)
    for (int64_t k = 0; k < plane; k++) to[i * plane + k] = bias ? bias[i % channels] : 0;
}

pr_status prK_double_conv(pr_call *c, const prK_conv *p, prK_conv_pass pass, double *x, double *weight,
                          const double *bias, double *y) {
  plan m;
  PR_TRY(make_plan(c, p, &m));
  if (pass == PRK_CONV_FORWARD) fill(y, p->batch, p->c_out, m.positions, bias);
  if (pass == PRK_CONV_DATA) fill(x, p->batch, p->c_in, m.in_plane, bias);
  for (int64_t n = 0; n < p->batch; n++) {
    for (int64_t g = 0; g < p->groups; g++) {
      double *image = x + (n * p->c_in + g * m.depth) * m.in_plane;
      double *out = y + (n * p->c_out + g * m.outs) * m.positions, *w = weight + g * m.outs * m.rows;
      if (!m.same && pass != PRK_CONV_DATA) gather(&m, image);
      multiply(&m, pass, m.same ? image : m.patches, w, out, n == 0);
      if (!m.same && pass == PRK_CONV_DATA) scatter_add(&m, image);
    }
  }
  return PR_OK;
}
