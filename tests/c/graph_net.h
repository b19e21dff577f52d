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

#endif
