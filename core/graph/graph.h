/* graph.h - the narrow waist: a model as a list of operators over named parameters.
 *
 * Tracing runs a model once on shapes (pr_trace_begin ... pr_trace_end) and yields a Graph. Everything that
 * looks at a model reads it: summary and MACs, coupling and pruning, the checkpoint, the dot picture. A Graph
 * also runs: operators in order, through pr_apply, so that it trains.
 *
 * Values are numbered; nodes stand in the order in which they ran, so every value is made before it is used.
 */
#ifndef PR_GRAPH_GRAPH_H
#define PR_GRAPH_GRAPH_H

#include "dispatch/dispatch.h"

typedef enum pr_value_kind {
  PR_VALUE_INPUT,     /* of the model */
  PR_VALUE_PARAMETER, /* a named parameter or buffer of the model */
  PR_VALUE_CONSTANT,  /* a tensor that the model's code brought along */
  PR_VALUE_RESULT     /* of a node */
} pr_value_kind;

typedef struct pr_graph_value {
  pr_value_kind kind;
  pr_dtype dtype;
  int dim;
  int64_t shape[PR_MAX_DIM]; /* as traced, with the graph's batch size */
  int node, output;          /* of a RESULT: who makes it */
  pr_tensor *tensor;         /* of a PARAMETER or CONSTANT: the model's own handle, retained */
  char *name;                /* of a PARAMETER ("layer1.0.conv1.weight") or INPUT ("input1"); else NULL */
  bool is_buffer;            /* a PARAMETER that is not trained */
} pr_graph_value;

typedef struct pr_graph_node {
  const pr_op *op;
  pr_arg args[PR_MAX_ARGS];
  uint16_t
      scaled; /* bit a: argument a depends on the batch: its values marked in `scale` are multiples of it */
  int64_t
      *scale[PR_MAX_ARGS]; /* per list element: k if the element is k * batch, else 0; NULL when not scaled */
  int n_in, n_out;
  int *in, *out; /* value numbers; -1 for an absent input */
  char *path;    /* of the module whose forward made the call ("layer1.0.conv1"; "" the root) */
  char *type;    /* its class ("Conv2d") */
} pr_graph_node;

typedef struct pr_graph_module {
  char *path, *type;
} pr_graph_module;

typedef struct pr_graph {
  pr_graph_value *values;
  pr_graph_node *nodes;
  pr_graph_module *modules; /* the module tree, parents first */
  int *inputs, *outputs;    /* value numbers */
  int n_values, n_nodes, n_modules, n_inputs, n_outputs;
  int64_t batch; /* batch size of the trace; 0 when no axis is the batch */
  size_t value_room, node_room, module_room, input_room, output_room;
} pr_graph;

/* --- tracing ----------------------------------------------------------------------------------------------------------- */

/* Start tracing on this thread. `inputs` are shapes (any device; only shape and dtype are looked at) whose
 * first axis is `batch` long; stand-ins on PR_META are returned in `stand_ins` (new references) and must be
 * given to the model. Parameters are given next by pr_trace_parameter; then the model runs; then pr_trace_end
 * (or pr_trace_cancel after a failure). */
typedef struct pr_trace pr_trace;
pr_trace *pr_trace_begin(int n_inputs, pr_tensor *const *inputs, int64_t batch, pr_tensor **stand_ins);
pr_status pr_trace_parameter(pr_trace *trace, const char *name, pr_tensor *t);
pr_status pr_trace_module(pr_trace *trace, const char *path, const char *type);
/* The finished graph with these outputs, or NULL. Frees the trace in either case. */
pr_graph *pr_trace_end(pr_trace *trace, int n_outputs, pr_tensor *const *outputs);
void pr_trace_cancel(pr_trace *trace);

/* Find out which arguments depend on the batch: `other` is the same model traced with another batch size.
 * Arguments that differ must be multiples of the batch in both. Fails, naming operator and layer, when the
 * graphs differ otherwise (a literal batch size, a path that depends on it). */
pr_status pr_graph_fit_batch(pr_graph *graph, const pr_graph *other);

void pr_graph_free(pr_graph *graph);

/* --- looking ------------------------------------------------------------------------------------------------------------- */

/* Value number of a parameter by handle or name; -1 with pr_fail (and the nearest name). */
int pr_graph_find(const pr_graph *graph, const pr_tensor *t);
int pr_graph_find_name(const pr_graph *graph, const char *name);
const char *prG_value_name(const pr_graph *graph,
                           int value); /* for messages: a name, or "result of conv2d at layer1.0.conv1" */

/* A call on shapes as the node ran, for cost and coupling rules. `in` and `out` are new meta tensors,
 * constants themselves; prG_call_free frees them. */
pr_status prG_node_call(const pr_graph *graph, const pr_graph_node *node, pr_call *call);
void prG_call_free(pr_call *call);

/* Multiply-accumulates per sample. */
typedef struct pr_cost {
  int64_t macs;         /* convolutions, linear layers (bias included, as in addmm) and matrix products */
  int64_t macs_ptflops; /* as ptflops 0.7.5 counts: also normalisation (2 per element with affine parameters)
                           and, once in the module's hook and once in the function that it calls, activations
                           and pooling */
} pr_cost;
pr_status pr_graph_node_cost(const pr_graph *graph, int node, pr_cost *cost);
pr_status pr_graph_cost(const pr_graph *graph, pr_cost *total);
/* Sizes of trainable parameters; buffers apart. */
void pr_graph_sizes(const pr_graph *graph, int64_t *parameters, int64_t *buffers);

/* The graph in Graphviz's language: operators grouped by module, shapes on the edges, parameters with their
 * sizes. */
pr_status pr_graph_dot(const pr_graph *graph, void (*put)(void *ctx, const char *text), void *ctx);

/* --- running ------------------------------------------------------------------------------------------------------------- */

/* Run on inputs of any batch size. MODE arguments (batch norm, dropout) follow `training`. Outputs are new
 * references. */
pr_status pr_graph_run(const pr_graph *graph, pr_tensor *const *inputs, bool training, pr_tensor **outputs);

/* The same, watched: before a node reads an input, `reads` is told and may put another tensor in its place (a
 * new reference, which the run releases). */
typedef struct pr_graph_watch {
  void *ctx;
  pr_status (*reads)(void *ctx, int node, int input, pr_tensor **value);
} pr_graph_watch;
pr_status pr_graph_run_watched(const pr_graph *graph, pr_tensor *const *inputs, bool training,
                               const pr_graph_watch *watch, pr_tensor **outputs);

/* A node's arguments for a batch size and mode (training < 0: as recorded); freed with pr_args_free. */
pr_status prG_node_args(const pr_graph *graph, const pr_graph_node *node, int64_t batch, int training,
                        pr_arg args[PR_MAX_ARGS]);

/* --- changing ------------------------------------------------------------------------------------------------------------ */

/* Shapes of all values anew from those of inputs and parameters: after parameters have changed size. Nothing
 * changes on failure. */
pr_status pr_graph_reshape(pr_graph *graph);

/* A copy over the same tensors; or over copies of them when `deep`. */
pr_graph *pr_graph_clone(const pr_graph *graph, bool deep);

/* --- text: what a checkpoint stores ----------------------------------------------------------------------------------------- */

/* One line per module, value and node. Tensors are not included; parameters and constants go by name
 * ("constant.N" for the latter). */
pr_status pr_graph_write(const pr_graph *graph, void (*put)(void *ctx, const char *text), void *ctx);
/* Read it back. `find` gives the tensor (new reference) of a name, or NULL with pr_fail. Untrusted text:
 * bounded, checked, and traced anew on shapes. */
pr_graph *pr_graph_read(const char *text, size_t length, pr_tensor *(*find)(void *ctx, const char *name),
                        void *ctx);

/* --- shared inside the room ---------------------------------------------------------------------------------------------------- */

pr_graph *prG_new(void);
/* Do two tensors of one shape hold the same numbers? True also where one's are not at hand (on the meta
 * device). */
bool prG_same_numbers(const pr_tensor *a, const pr_tensor *b);
int prG_add_value(pr_graph *graph, pr_value_kind kind, const pr_tensor *like); /* -1 on failure */
pr_graph_node *prG_add_node(pr_graph *graph, const pr_op *op, const pr_arg *args, int n_in, int n_out);
void prG_drop_last_node(pr_graph *graph); /* with its results, which must be the last values */
pr_status prG_add_module(pr_graph *graph, const char *path, const char *type);
pr_status prG_add_output(pr_graph *graph, int value);
pr_status prG_add_input(pr_graph *graph, int value);

#endif
