/* recurrent.c - one layer and direction of LSTM and GRU over a sequence, batch first. Sizes are read off
 * weight_hh. */
#include "op/op.h"

#include "couple/rules.h"

enum { X, WEIGHT_IH, WEIGHT_HH, BIAS_IH, BIAS_HH, H0, C0 };
enum { Y, H_N, C_N };
enum { REVERSE };

static pr_status check(const pr_call *c, int64_t gates, int last) {
  PR_TRY(prO_need_dim(c, X, 3, 3));
  PR_TRY(prO_need_float(c, X));
  PR_TRY(prO_need_dim(c, WEIGHT_IH, 2, 2));
  PR_TRY(prO_need_dim(c, WEIGHT_HH, 2, 2));
  for (int i = WEIGHT_IH; i <= last; i++) PR_TRY(prO_need_same_dtype(c, i, X));
  const pr_tensor *x = c->in[X];
  int64_t hidden = c->in[WEIGHT_HH]->shape[1];
  PR_TRY(prO_need_size(c, WEIGHT_IH, 1, x->shape[2], "the features of x"));
  PR_TRY(prO_need_size(c, WEIGHT_IH, 0, gates * hidden, "the gates times weight_hh's columns"));
  PR_TRY(prO_need_size(c, WEIGHT_HH, 0, gates * hidden, "the gates times its columns"));
  for (int i = BIAS_IH; i <= BIAS_HH; i++) {
    if (!c->in[i]) continue;
    PR_TRY(prO_need_dim(c, i, 1, 1));
    PR_TRY(prO_need_size(c, i, 0, gates * hidden, "one per row of the weights"));
  }
  for (int i = H0; i <= last; i++) {
    if (!c->in[i]) continue;
    PR_TRY(prO_need_dim(c, i, 2, 2));
    PR_TRY(prO_need_size(c, i, 0, x->shape[0], "the batch of x"));
    PR_TRY(prO_need_size(c, i, 1, hidden, "the columns of weight_hh"));
  }
  return PR_OK;
}

/* y [N, T, H], `states` final states [N, H], then what backward needs: four numbers per unit and step; cells
 * where there are any. */
static pr_status outputs(pr_call *c, int states, bool cells) {
  const pr_tensor *x = c->in[X];
  int64_t hidden = c->in[WEIGHT_HH]->shape[1];
  PR_TRY(prO_output(c, Y, x->dtype, 3, (int64_t[]){ x->shape[0], x->shape[1], hidden }));
  for (int k = 0; k < states; k++)
    PR_TRY(prO_output(c, H_N + k, x->dtype, 2, (int64_t[]){ x->shape[0], hidden }));
  PR_TRY(prO_output(c, H_N + states, prO_statistics_dtype(x), 3,
                    (int64_t[]){ x->shape[0], x->shape[1], 4 * hidden }));
  if (!cells) return PR_OK;
  return prO_output(c, H_N + states + 1, prO_statistics_dtype(x), 3,
                    (int64_t[]){ x->shape[0], x->shape[1], hidden });
}

/* steps * rows * (inputs + units) */
static int64_t macs(const pr_call *c) {
  const pr_tensor *x = c->in[X], *hh = c->in[WEIGHT_HH];
  return x->shape[0] * x->shape[1] * hh->shape[0] * (x->shape[2] + hh->shape[1]);
}

/* Inputs from BIAS_HH on differ: GRU has no cells. */
static void couple(pr_coupling *k, bool lstm) {
  prC_recurrent r = { .x = PRC_IN(X),
                      .w_ih = PRC_IN(WEIGHT_IH),
                      .w_hh = PRC_IN(WEIGHT_HH),
                      .b_ih = PRC_IN(BIAS_IH),
                      .b_hh = PRC_IN(BIAS_HH),
                      .w_hr = PRC_NONE,
                      .h0 = PRC_IN(H0),
                      .c0 = lstm ? PRC_IN(C0) : PRC_NONE,
                      .y = PRC_OUT(Y),
                      .h_last = PRC_OUT(H_N),
                      .c_last = lstm ? PRC_OUT(C_N) : PRC_NONE,
                      .gates = lstm ? 4 : 3 };
  prC_rule_recurrent(k, &r);
}

static void lstm_couple(pr_coupling *k) { couple(k, true); }
static void gru_couple(pr_coupling *k) { couple(k, false); }

#define REVERSE_ARG                                                                                          \
  { "reverse", PR_ARG_BOOL, .help = "step from the last place to the first" }

/* --- LSTM ------------------------------------------------------------------------------------------------ */

static pr_status lstm_infer(pr_call *c) {
  PR_TRY(check(c, 4, C0));
  return outputs(c, 2, true);
}

PR_OP(lstm) = {
  .name = "lstm",
  .inputs = "x weight_ih weight_hh bias_ih? bias_hh? h0? c0?",
  .outputs = "y h_n c_n .gates .cells",
  .saves = "x weight_ih weight_hh h0 c0 y gates cells",
  .args = { REVERSE_ARG },
  .infer = lstm_infer,
  .couple = lstm_couple,
  .macs = macs,
  .onnx = "LSTM",
  .examples = "x:2x3x4 weight_ih:8x4 weight_hh:8x2 bias_ih:8 bias_hh:8\n"
              "x:2x3x2 weight_ih:12x2 weight_hh:12x3 bias_ih:12 bias_hh:12 h0:2x3 c0:2x3 reverse=true",
  .help = "LSTM layer: x [N, T, I], weight_ih [4H, I], weight_hh [4H, H], biases [4H], h0, c0 [N, H] -> y "
          "[N, T, H], h_n, c_n [N, H]\n"
          "Rows of the weights: input, forget, cell, output gate. i, f, o = sigmoid, g = tanh of W_ih x\n"
          "+ b_ih + W_hh h + b_hh; c = f c + i g; h = o tanh(c). Absent states are 0. Hochreiter and\n"
          "Schmidhuber, \"Long short-term memory\", 1997; Gers et al., \"Learning to forget\", 2000.",
};

/* --- GRU ------------------------------------------------------------------------------------------------- */

static pr_status gru_infer(pr_call *c) {
  PR_TRY(check(c, 3, H0));
  return outputs(c, 1, false);
}

PR_OP(gru) = {
  .name = "gru",
  .inputs = "x weight_ih weight_hh bias_ih? bias_hh? h0?",
  .outputs = "y h_n .gates",
  .saves = "x weight_ih weight_hh h0 y gates",
  .args = { REVERSE_ARG },
  .infer = gru_infer,
  .couple = gru_couple,
  .macs = macs,
  .onnx = "GRU",
  .examples = "x:2x3x4 weight_ih:6x4 weight_hh:6x2 bias_ih:6 bias_hh:6\n"
              "x:2x3x2 weight_ih:9x2 weight_hh:9x3 bias_ih:9 bias_hh:9 h0:2x3 reverse=true",
  .help = "GRU layer: x [N, T, I], weight_ih [3H, I], weight_hh [3H, H], biases [3H], h0 [N, H] -> y [N, T, "
          "H], h_n [N, H]\n"
          "Rows of the weights: reset, update, new. r, z = sigmoid of W_ih x + b_ih + W_hh h + b_hh; n\n"
          "= tanh(W_ih x + b_ih + r (W_hh h + b_hh)); h = (1 - z) n + z h. An absent state is 0. Cho et\n"
          "al., \"Learning phrase representations using RNN encoder-decoder\", EMNLP 2014, with the\n"
          "reset gate after the product, as cuDNN has it.",
};
