#include "backend/cpu/conv_im2col.h"

#include <cblas.h>
#include <string.h>

/* A patch is [group][ky][kx][c_in / groups], so that its copies are runs of channels; weights are brought to
 * [c_out][ky][kx][c]. Rows of patches are output positions, `rows` at a time. */
typedef struct plan {
  const prK_conv *p;
  int64_t taps, depth, outs; /* depth: channels of a group; outs: output channels of a group */
  int64_t positions, rows;   /* of all images; in a block */
  float *patches, *weight;
} plan;

enum { BLOCK_FLOATS = 1 << 20 };

static pr_status make_plan(pr_call *c, const prK_conv *p, plan *m) {
  *m = (plan){ p,
               p->kernel[0] * p->kernel[1],
               p->c_in / p->groups,
               p->c_out / p->groups,
               p->batch * p->out[0] * p->out[1],
               0,
               NULL,
               NULL };
  const int64_t row = m->taps * p->c_in;
  m->rows = BLOCK_FLOATS / row < 16 ? 16 : BLOCK_FLOATS / row;
  if (m->rows > m->positions) m->rows = m->positions;
  m->patches = prK_scratch(c, sizeof(float) * (size_t)(m->rows * row));
  m->weight = prK_scratch(c, sizeof(float) * (size_t)(p->c_out * m->taps * m->depth));
  return m->patches && m->weight ? PR_OK : PR_ERR_MEMORY;
}

/* [c_out][c][tap] to [c_out][tap][c], or back. */
static void turn_weights(const plan *m, const float *from, float *to, bool back) {
  for (int64_t o = 0; o < m->p->c_out; o++, from += m->taps * m->depth, to += m->taps * m->depth)
    for (int64_t t = 0; t < m->taps; t++)
      for (int64_t i = 0; i < m->depth; i++)
        if (back)
          to[i * m->taps + t] = from[t * m->depth + i];
        else
          to[t * m->depth + i] = from[i * m->taps + t];
}

/* The input position under tap t of output position `at` (of all images), as an index of its channels, or -1.
 */
static int64_t under(const prK_conv *p, int64_t at, int64_t t) {
  const int64_t plane = p->out[0] * p->out[1], n = at / plane, o = at % plane;
  const int64_t y = o / p->out[1] * p->stride[0] - p->padding[0] + t / p->kernel[1] * p->dilation[0];
  const int64_t x = o % p->out[1] * p->stride[1] - p->padding[1] + t % p->kernel[1] * p->dilation[1];
  return y < 0 || y >= p->in[0] || x < 0 || x >= p->in[1] ? -1
                                                          : ((n * p->in[0] + y) * p->in[1] + x) * p->c_in;
}

static void gather(const plan *m, int64_t from, int64_t rows, const float *x) {
  const prK_conv *p = m->p;
  const int64_t group = m->taps * m->depth;
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < rows; r++)
    for (int64_t t = 0; t < m->taps; t++) {
      const int64_t source = under(p, from + r, t);
      float *to = m->patches + r * group * p->groups + t * m->depth;
      for (int64_t g = 0; g < p->groups; g++, to += group)
        if (source < 0)
          memset(to, 0, sizeof(float) * (size_t)m->depth);
        else
          memcpy(to, x + source + g * m->depth, sizeof(float) * (size_t)m->depth);
    }
}

/* Patches overlap only within an image, so images are what threads share out. */
static void scatter_add(const plan *m, int64_t from, int64_t rows, float *x) {
  const prK_conv *p = m->p;
  const int64_t group = m->taps * m->depth, plane = p->out[0] * p->out[1];
#pragma omp parallel for schedule(static)
  for (int64_t n = from / plane; n <= (from + rows - 1) / plane; n++) {
    const int64_t begin = n * plane < from ? from : n * plane, end = (n + 1) * plane;
    for (int64_t at = begin; at < end && at < from + rows; at++)
      for (int64_t t = 0; t < m->taps; t++) {
        const int64_t to = under(p, at, t);
        const float *source = m->patches + (at - from) * group * p->groups + t * m->depth;
        for (int64_t g = 0; to >= 0 && g < p->groups; g++, source += group)
          for (int64_t i = 0; i < m->depth; i++) x[to + g * m->depth + i] += source[i];
      }
  }
}

static void fill_rows(float *rows, int64_t n, int64_t channels, const float *bias) {
  if (!bias) memset(rows, 0, sizeof(float) * (size_t)(n * channels));
  for (int64_t r = 0; bias && r < n; r++) memcpy(rows + r * channels, bias, sizeof(float) * (size_t)channels);
}

/* One block's products, a group at a time. y points at the block's first row. */
static void multiply(const plan *m, prK_conv_pass pass, int64_t rows, float *y, bool first) {
  const prK_conv *p = m->p;
  const int group = (int)(m->taps * m->depth), n = (int)rows, outs = (int)m->outs;
  const int all = group * (int)p->groups, line = (int)p->c_out;
  for (int64_t g = 0; g < p->groups; g++) {
    float *patch = m->patches + g * group, *w = m->weight + g * outs * group, *out = y + g * outs;
    if (pass == PRK_CONV_FORWARD)
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, outs, group, 1, patch, all, w, group, 1, out,
                  line);
    else if (pass == PRK_CONV_DATA)
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, group, outs, 1, out, line, w, group, 0, patch,
                  all);
    else
      cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, outs, group, n, 1, out, line, patch, all,
                  first ? 0 : 1, w, group);
  }
}

pr_status prK_im2col_conv(pr_call *c, const prK_conv *p, prK_conv_pass pass, float *x, float *weight,
                          const float *bias, float *y) {
  plan m;
  if (p->kernel[0] * p->kernel[1] * p->c_in > INT32_MAX || p->c_out > INT32_MAX) return PR_DECLINED;
  PR_TRY(make_plan(c, p, &m));
  if (pass != PRK_CONV_WEIGHTS) turn_weights(&m, weight, m.weight, false);
  if (pass == PRK_CONV_FORWARD) fill_rows(y, m.positions, p->c_out, bias);
  if (pass == PRK_CONV_DATA) fill_rows(x, p->batch * p->in[0] * p->in[1], p->c_in, bias);
  for (int64_t at = 0; at < m.positions; at += m.rows) {
    const int64_t rows = m.positions - at < m.rows ? m.positions - at : m.rows;
    if (pass != PRK_CONV_DATA) gather(&m, at, rows, x);
    multiply(&m, pass, rows, y + at * p->c_out, at == 0);
    if (pass == PRK_CONV_DATA) scatter_add(&m, at, rows, x);
  }
  if (pass == PRK_CONV_WEIGHTS) turn_weights(&m, m.weight, weight, true);
  return PR_OK;
}
