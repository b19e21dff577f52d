/* recurrent.c - LSTM and GRU over time, and backpropagation through time (Werbos 1990). The two differ in
 * their cell only. */
#include <math.h>
#include <string.h>

#include "backend/backend.h"

enum { X, WEIGHT_IH, WEIGHT_HH, BIAS_IH, BIAS_HH, H0, C0 };
enum { Y, H_N, C_N };
enum { REVERSE };

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

/* One unit at one step. `ax`, `ah`: its pre-activations from x and from h, one per gate; `record`: four
 * numbers for the way back. */
typedef struct unit {
  double ax[4], ah[4], record[4];
  double h,
      c; /* states: before the step for forward, which leaves those after it; before the step for backward */
  double c_new, gh, gc, gax[4], gah[4];
} unit;

static void lstm_forward(unit *u) {
  for (int k = 0; k < 4; k++)
    u->record[k] = k == 2 ? tanh(u->ax[k] + u->ah[k]) : sigmoid(u->ax[k] + u->ah[k]);
  u->c = u->record[1] * u->c + u->record[0] * u->record[2];
  u->h = u->record[3] * tanh(u->c);
}

/* In: gh, gc of the states after the step. Out: gradients of the pre-activations; gh and gc of the states
 * before it, as far as they do not pass through the weights. */
static void lstm_backward(unit *u) {
  double i = u->record[0], f = u->record[1], g = u->record[2], o = u->record[3], t = tanh(u->c_new);
  double gc = u->gc + u->gh * o * (1 - t * t);
  u->gax[0] = gc * g * i * (1 - i);
  u->gax[1] = gc * u->c * f * (1 - f);
  u->gax[2] = gc * i * (1 - g * g);
  u->gax[3] = u->gh * t * o * (1 - o);
  memcpy(u->gah, u->gax, sizeof u->gah);
  u->gc = gc * f;
  u->gh = 0;
}

static void gru_forward(unit *u) {
  double r = sigmoid(u->ax[0] + u->ah[0]), z = sigmoid(u->ax[1] + u->ah[1]),
         n = tanh(u->ax[2] + r * u->ah[2]);
  u->record[0] = r, u->record[1] = z, u->record[2] = n, u->record[3] = u->ah[2];
  u->h = (1 - z) * n + z * u->h;
}

static void gru_backward(unit *u) {
  double r = u->record[0], z = u->record[1], n = u->record[2], from_h = u->record[3];
  double gn = u->gh * (1 - z) * (1 - n * n);
  u->gax[0] = u->gah[0] = gn * from_h * r * (1 - r);
  u->gax[1] = u->gah[1] = u->gh * (u->h - n) * z * (1 - z);
  u->gax[2] = gn;
  u->gah[2] = gn * r;
  u->gh *= z;
}

typedef struct layer {
  int64_t batch, steps, inputs, hidden;
  int gates;
  bool reverse, cells;
  void (*forward)(unit *), (*backward)(unit *);
} layer;

static layer layer_of(const pr_call *c, bool lstm) {
  const pr_tensor *x = c->in[X];
  return (layer){ x->shape[0],
                  x->shape[1],
                  x->shape[2],
                  c->in[WEIGHT_HH]->shape[1],
                  lstm ? 4 : 3,
                  c->args[REVERSE].integer,
                  lstm,
                  lstm ? lstm_forward : gru_forward,
                  lstm ? lstm_backward : gru_backward };
}

/* Number of the place that step s visits, for sample n. */
static int64_t place(const layer *l, int64_t n, int64_t s) {
  return n * l->steps + (l->reverse ? l->steps - 1 - s : s);
}

static double dot(const double *a, const double *b, int64_t n) {
  double sum = 0;
  for (int64_t k = 0; k < n; k++) sum += a[k] * b[k];
  return sum;
}

static pr_status forward(pr_call *c, bool lstm) {
  layer l = layer_of(c, lstm);
  int64_t states = l.batch * l.hidden, visits = l.batch * l.steps;
  PRK_LOAD(x, c->in[X]);
  PRK_LOAD(ih, c->in[WEIGHT_IH]);
  PRK_LOAD(hh, c->in[WEIGHT_HH]);
  PRK_LOAD(bias_ih, c->in[BIAS_IH]);
  PRK_LOAD(bias_hh, c->in[BIAS_HH]);
  PRK_LOAD(h0, c->in[H0]);
  const pr_tensor *c0_tensor = lstm ? c->in[C0] : NULL;
  PRK_LOAD(c0, c0_tensor);
  PRK_ROOM(h, states);
  PRK_ROOM(cell, states);
  PRK_ROOM(before, l.hidden);
  PRK_ROOM(y, visits * l.hidden);
  PRK_ROOM(cells, visits * l.hidden);
  PRK_ROOM(record, visits * 4 * l.hidden);
  for (int64_t k = 0; k < states; k++) h[k] = h0 ? h0[k] : 0, cell[k] = c0 ? c0[k] : 0;
  for (int64_t n = 0; n < l.batch; n++)
    for (int64_t s = 0; s < l.steps; s++) {
      int64_t at = place(&l, n, s);
      memcpy(before, h + n * l.hidden, sizeof *before * (size_t)l.hidden);
      for (int64_t j = 0; j < l.hidden; j++) {
        unit u = { .h = before[j], .c = cell[n * l.hidden + j] };
        for (int k = 0; k < l.gates; k++) {
          int64_t row = k * l.hidden + j;
          u.ax[k] = (bias_ih ? bias_ih[row] : 0) + dot(ih + row * l.inputs, x + at * l.inputs, l.inputs);
          u.ah[k] = (bias_hh ? bias_hh[row] : 0) + dot(hh + row * l.hidden, before, l.hidden);
        }
        l.forward(&u);
        y[at * l.hidden + j] = h[n * l.hidden + j] = u.h;
        cells[at * l.hidden + j] = cell[n * l.hidden + j] = u.c;
        for (int k = 0; k < 4; k++) record[(at * 4 + k) * l.hidden + j] = u.record[k];
      }
    }
  PR_TRY(prK_store(c->out[Y], y));
  PR_TRY(prK_store(c->out[H_N], h));
  if (!lstm) return prK_store(c->out[H_N + 1], record);
  PR_TRY(prK_store(c->out[C_N], cell));
  PR_TRY(prK_store(c->out[C_N + 1], record));
  return prK_store(c->out[C_N + 2], cells);
}

/* Values that backward reads and sums that it makes; gradients are zeroed. */
typedef struct pass {
  const double *x, *ih, *hh, *h0, *c0, *y, *record, *cells, *gy;
  double *gh, *gc, *gx, *gih, *ghh, *gb_ih, *gb_hh, *gax, *gah;
} pass;

/* Pre-activation gradients of all units of sample n at step s; gh and gc go one step back, except through the
 * weights. */
static void cell_back(const layer *l, const pass *p, int64_t n, int64_t s) {
  int64_t at = place(l, n, s), last = s > 0 ? place(l, n, s - 1) : 0;
  for (int64_t j = 0; j < l->hidden; j++) {
    int64_t state = n * l->hidden + j;
    unit u = { .gh = p->gh[state] + p->gy[at * l->hidden + j], .gc = p->gc[state] };
    u.h = s > 0 ? p->y[last * l->hidden + j] : p->h0 ? p->h0[state] : 0;
    if (l->cells) {
      u.c = s > 0 ? p->cells[last * l->hidden + j] : p->c0 ? p->c0[state] : 0;
      u.c_new = p->cells[at * l->hidden + j];
    }
    for (int k = 0; k < 4; k++) u.record[k] = p->record[(at * 4 + k) * l->hidden + j];
    l->backward(&u);
    p->gh[state] = u.gh;
    p->gc[state] = u.gc;
    for (int k = 0; k < l->gates; k++)
      p->gax[k * l->hidden + j] = u.gax[k], p->gah[k * l->hidden + j] = u.gah[k];
  }
}

static void weights_back(const layer *l, const pass *p, int64_t n, int64_t s) {
  int64_t at = place(l, n, s), H = l->hidden, I = l->inputs;
  const double *h = s > 0 ? p->y + place(l, n, s - 1) * H : p->h0 ? p->h0 + n * H : NULL;
  for (int64_t row = 0; row < l->gates * H; row++) {
    p->gb_ih[row] += p->gax[row];
    p->gb_hh[row] += p->gah[row];
    for (int64_t i = 0; i < I; i++) {
      p->gih[row * I + i] += p->gax[row] * p->x[at * I + i];
      p->gx[at * I + i] += p->gax[row] * p->ih[row * I + i];
    }
    for (int64_t j = 0; j < H; j++) {
      if (h) p->ghh[row * H + j] += p->gah[row] * h[j];
      p->gh[n * H + j] += p->gah[row] * p->hh[row * H + j];
    }
  }
}

static pr_status store_gradients(pr_call *c, const pass *p, bool lstm) {
  double *const found[] = { p->gx, p->gih, p->ghh, p->gb_ih, p->gb_hh, p->gh, p->gc };
  for (int i = X; i <= (lstm ? C0 : H0); i++)
    if (c->grad_in[i]) PR_TRY(prK_store(c->grad_in[i], found[i]));
  return PR_OK;
}

static pr_status backward(pr_call *c, bool lstm) {
  layer l = layer_of(c, lstm);
  int64_t states = l.batch * l.hidden, rows = l.gates * l.hidden;
  const pr_tensor *c0_tensor = lstm ? c->in[C0] : NULL, *cells_tensor = lstm ? c->out[C_N + 2] : NULL;
  PRK_LOAD(x, c->in[X]);
  PRK_LOAD(ih, c->in[WEIGHT_IH]);
  PRK_LOAD(hh, c->in[WEIGHT_HH]);
  PRK_LOAD(h0, c->in[H0]);
  PRK_LOAD(c0, c0_tensor);
  PRK_LOAD(y, c->out[Y]);
  PRK_LOAD(record, c->out[H_N + (lstm ? 2 : 1)]);
  PRK_LOAD(cells, cells_tensor);
  PRK_LOAD(gy, c->grad_out[Y]);
  PRK_LOAD(gh_n, c->grad_out[H_N]);
  const pr_tensor *gc_tensor = lstm ? c->grad_out[C_N] : NULL;
  PRK_LOAD(gc_n, gc_tensor);
  pass p = { x,
             ih,
             hh,
             h0,
             c0,
             y,
             record,
             cells,
             gy,
             prK_zeros(c, states),
             prK_zeros(c, states),
             prK_zeros(c, l.batch * l.steps * l.inputs),
             prK_zeros(c, rows * l.inputs),
             prK_zeros(c, rows * l.hidden),
             prK_zeros(c, rows),
             prK_zeros(c, rows),
             prK_zeros(c, rows),
             prK_zeros(c, rows) };
  if (!p.gh || !p.gc || !p.gx || !p.gih || !p.ghh || !p.gb_ih || !p.gb_hh || !p.gax || !p.gah)
    return PR_ERR_MEMORY;
  for (int64_t k = 0; k < states; k++) p.gh[k] = gh_n[k], p.gc[k] = gc_n ? gc_n[k] : 0;
  for (int64_t n = 0; n < l.batch; n++)
    for (int64_t s = l.steps - 1; s >= 0; s--) {
      cell_back(&l, &p, n, s);
      weights_back(&l, &p, n, s);
    }
  return store_gradients(c, &p, lstm);
}

PR_KERNEL(reference, lstm, forward)
{ return forward(c, true); }
PR_KERNEL(reference, lstm, backward)
{ return backward(c, true); }
PR_KERNEL(reference, gru, forward)
{ return forward(c, false); }
PR_KERNEL(reference, gru, backward)
{ return backward(c, false); }
