/* graph_net.h - a small residual network made of operator calls, for the tests of graphs and pruning. */
#ifndef PRUNELUA_GRAPH_NET_H
#define PRUNELUA_GRAPH_NET_H

#include "prune.h"

#include "graph/graph.h"

enum { NET_TENSORS = 10 };
static const char *const net_names[NET_TENSORS] = { "conv1.weight", "bn.weight",    "bn.bias",
                                                    "bn.mean",      "bn.var",       "conv2.weight",
                                                    "conv2.bias",   "conv3.weight", "fc.weight",
                                                    "fc.bias" };

typedef struct net {
  pr_tensor *t[NET_TENSORS];
} net;

static inline void net_free(net *n) {
  for (int i = 0; i < NET_TENSORS; i++) pr_release(n->t[i]), n->t[i] = NULL;
}

/* Numbers in -0.5..0.5 from the process's seed 1; variances positive. */
static inline pr_status net_make(net *n, pr_dtype dtype) {
  static const int64_t shapes[NET_TENSORS][4] = { { 6, 2, 3, 3 }, { 6 }, { 6 },          { 6 },     { 6 },
                                                  { 6, 6, 3, 3 }, { 6 }, { 4, 6, 1, 1 }, { 3, 36 }, { 3 } };
  static const int dims[NET_TENSORS] = { 4, 1, 1, 1, 1, 4, 1, 4, 2, 1 };
  memset(n, 0, sizeof *n);
  for (int i = 0; i < NET_TENSORS; i++) {
    if (!(n->t[i] = pr_tensor_zeros(dtype, PR_CPU, dims[i], shapes[i]))) return net_free(n), PR_ERR_MEMORY;
    int64_t count = pr_numel(n->t[i]);
    for (int64_t k = 0; k < count; k++)
      prT_set(n->t[i], k, prB_uniform(1, 9, (uint64_t)i, (uint64_t)k) - (i == 4 ? -0.5 : 0.5));
    pr_status status = pr_parameter_make(n->t[i], i == 3 || i == 4);
    if (status) return net_free(n), status;
  }
  return PR_OK;
}

/* One call; takes over nothing, gives a new reference or NULL. */
static inline pr_tensor *net_call(const char *name, const char *args, int n, pr_tensor **in) {
  const pr_op *op = pr_op_find(name);
  pr_arg parsed[PR_MAX_ARGS];
  pr_tensor *out = NULL;
  int n_out = 1;
  if (!op || pr_args_parse(op, args, parsed)) return NULL;
  if (pr_apply(op, parsed, in, n, &out, &n_out)) out = NULL;
  pr_args_free(parsed);
  return out;
}

/* x [n, 2, 5, 5] -> [n, 3]: convolution, norm, relu, residual convolution, 1x1 convolution, pool, flatten,
 * linear. */
static inline pr_tensor *net_forward(const net *n, pr_tensor *x) {
  pr_tensor *const *t = n->t;
  pr_tensor *a = net_call("conv2d", "padding=1", 2, (pr_tensor *[]){ x, t[0] });
  pr_tensor *b =
      a ? net_call("batch_norm", "training=0", 5, (pr_tensor *[]){ a, t[1], t[2], t[3], t[4] }) : NULL;
  pr_tensor *c = b ? net_call("relu", "", 1, &b) : NULL;
  pr_tensor *d = c ? net_call("conv2d", "padding=1", 3, (pr_tensor *[]){ c, t[5], t[6] }) : NULL;
  pr_tensor *e = d ? net_call("add", "", 2, (pr_tensor *[]){ c, d }) : NULL;
  pr_tensor *f = e ? net_call("conv2d", "", 2, (pr_tensor *[]){ e, t[7] }) : NULL;
  pr_tensor *g = f ? net_call("max_pool2d", "kernel_size=3 stride=1", 1, &f) : NULL;
  pr_tensor *h = NULL, *y = NULL;
  if (g) {
    char args[64];
    snprintf(args, sizeof args, "shape=%lld,-1", (long long)g->shape[0]);
    h = net_call("reshape", args, 1, &g);
  }
  if (h) y = net_call("linear", "", 3, (pr_tensor *[]){ h, t[8], t[9] });
  pr_tensor *all[] = { a, b, c, d, e, f, g, h };
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) pr_release(all[i]);
  return y;
}

static inline pr_tensor *net_input(pr_dtype dtype, int64_t batch) {
  int64_t shape[4] = { batch, 2, 5, 5 };
  pr_tensor *x = pr_tensor_zeros(dtype, PR_CPU, 4, shape);
  for (int64_t i = 0; x && i < pr_numel(x); i++) prT_set(x, i, prB_normal(2, 9, 0, (uint64_t)i));
  return x;
}

static inline pr_graph *net_trace_at(const net *n, int64_t batch) {
  pr_tensor *x = net_input(n->t[0]->dtype, batch), *stand_in = NULL, *y = NULL;
  pr_trace *trace = x ? pr_trace_begin(1, &x, batch, &stand_in) : NULL;
  pr_status status = trace ? pr_trace_module(trace, "", "Net") : PR_ERR_MEMORY;
  for (int i = 0; i < NET_TENSORS && !status; i++) status = pr_trace_parameter(trace, net_names[i], n->t[i]);
  if (!status) y = net_forward(n, stand_in);
  pr_graph *graph = NULL;
  if (trace && y)
    graph = pr_trace_end(trace, 1, &y);
  else if (trace)
    pr_trace_cancel(trace);
  pr_release(x), pr_release(stand_in), pr_release(y);
  return graph;
}

static inline pr_graph *net_trace(const net *n) {
  pr_graph *two = net_trace_at(n, 2), *three = two ? net_trace_at(n, 3) : NULL;
  if (!three || pr_graph_fit_batch(two, three)) pr_graph_free(two), two = NULL;
  pr_graph_free(three);
  return two;
}

/* --- the network with its units ------------------------------------------------------------------------------------------- */

typedef struct model {
  net n;
  pr_graph *graph;
  pr_pruning *pruning;
} model;

static inline void model_make(model *m, pr_dtype dtype) {
  assert_ok(net_make(&m->n, dtype));
  assert_non_null(m->graph = net_trace(&m->n));
  assert_non_null(m->pruning = pr_pruning_new(m->graph));
}

static inline void model_free(model *m) {
  pr_pruning_free(m->pruning);
  pr_graph_free(m->graph);
  net_free(&m->n);
}

/* The defaults of options that have numbers. */
static inline void args_default(const pr_arg_spec *spec, pr_arg args[PR_MAX_ARGS]) {
  memset(args, 0, PR_MAX_ARGS * sizeof *args);
  for (int a = 0; spec[a].name; a++) args[a] = (pr_arg){ .integer = spec[a].integer, .real = spec[a].real };
}

/* A gradient for every parameter, of `t[last]` in N H W C order, and a mask for the second convolution. */
static inline void net_dress(net *n, int last) {
  for (int i = 0; i < NET_TENSORS; i++) {
    pr_tensor *t = n->t[i];
    if (t->parameter->is_buffer) continue;
    pr_tensor *grad = i == last ? prT_new_channels_last(t->dtype, PR_CPU, t->dim, t->shape)
                                : pr_tensor_zeros(t->dtype, PR_CPU, t->dim, t->shape);
    assert_non_null(grad);
    for (int64_t k = 0; k < pr_numel(t); k++) prT_set(grad, k, prB_uniform(3, 9, (uint64_t)i, (uint64_t)k));
    pr_release(t->grad);
    t->grad = grad;
  }
  pr_tensor *mask = pr_tensor_full(PR_F32, PR_CPU, n->t[5]->dim, n->t[5]->shape, 1);
  assert_non_null(mask);
  for (int64_t k = 0; k < pr_numel(mask); k += 3) prT_set(mask, k, 0);
  assert_ok(pr_parameter_mask(n->t[5], mask));
  pr_release(mask);
}

/* Values, masks and gradients of all tensors, to see that they stay. */
enum { NET_NUMBERS = 4096 };
static inline size_t net_numbers(const net *n, double numbers[NET_NUMBERS]) {
  size_t used = 0;
  for (int i = 0; i < NET_TENSORS; i++) {
    const pr_tensor *all[] = { n->t[i], n->t[i]->parameter->mask, n->t[i]->grad };
    for (int k = 0; k < 3; k++) {
      if (!all[k]) continue;
      assert_true(used + (size_t)pr_numel(all[k]) <= NET_NUMBERS);
      assert_ok(prT_to_doubles(all[k], numbers + used));
      used += (size_t)pr_numel(all[k]);
    }
  }
  return used;
}

#endif
