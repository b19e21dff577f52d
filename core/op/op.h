/* op.h - what the program knows of an operator: one descriptor, in one file of this folder.
 *
 * A file declares its operator with a line that begins with PR_OP(name); the build collects these lines into
 * pr_op_list. The Lua function, argument parsing, help, gradient test, prune test, checkpoint form and ONNX
 * mapping all derive from the descriptor.
 *
 *     enum { X, WEIGHT, BIAS };
 *     enum { STRIDE, PADDING };
 *     PR_OP(conv2d) = {
 *       .name = "conv2d", .inputs = "x weight bias?", .outputs = "y", .saves = "x weight",
 *       .args = { { "stride", PR_ARG_INTS, .integer = 1, .help = "..." }, { "padding", PR_ARG_INTS } },
 *       .infer = infer, .couple = couple, .macs = macs, .examples = "x:2x3x5x5 weight:4x3x3x3 bias:4
 * padding=1", .help = "...",
 *     };
 */
#ifndef PR_OP_OP_H
#define PR_OP_OP_H

#include "tensor/tensor.h"

enum { PR_MAX_ARGS = 10 };

typedef enum pr_arg_kind {
  PR_ARG_INT,    /* a count or size */
  PR_ARG_REAL,   /* a number */
  PR_ARG_BOOL,   /* true or false (stored in .integer) */
  PR_ARG_MODE,   /* a bool that follows the model's train/eval mode when a graph runs */
  PR_ARG_CHOICE, /* one word of .choices, stored as its number in .integer */
  PR_ARG_INTS, /* a list of sizes; a single integer stands for all (prO_int gives element k of either form) */
  PR_ARG_DIM,  /* an axis; C counts from 0, negative from the end; the Lua form counts from 1 */
  PR_ARG_DIMS, /* a list of axes, same convention */
  PR_ARG_INDEX,  /* a position along an axis: 0-based here, 1-based in Lua */
  PR_ARG_INDICES /* a list of positions */
} pr_arg_kind;

/* An argument's value. Lists are owned by whoever made the array of arguments. */
typedef struct pr_arg {
  int64_t integer;
  double real;
  int count;     /* of list; 0 for an empty list or one that was not given */
  int64_t *list; /* PR_ARG_INTS, DIMS, INDICES */
  bool given;    /* false: the default stands here */
} pr_arg;

typedef struct pr_arg_spec {
  const char *name; /* NULL ends the list */
  pr_arg_kind kind;
  int64_t integer; /* default of INT, BOOL, MODE, CHOICE, DIM, INDEX, and of every element of INTS */
  double real;     /* default of REAL */
  bool required;   /* no default */
  bool empty;      /* a list's default is the empty list: "all" or "not given" */
  bool symbolic;   /* may depend on the batch size (shape-like lists): the tracer may fit it as a multiple of
                      the batch */
  const char *choices; /* "nearest bilinear" */
  const char *help;    /* a few words */
} pr_arg_spec;

struct pr_coupling; /* couple/couple.h */

/* What the forward of an operator defined at run time keeps for its backward, beside tensors. Whoever holds
 * it last calls drop(data). */
typedef struct pr_attachment {
  void *data;
  void (*drop)(void *data); /* NULL: nothing is held */
} pr_attachment;

/* One application of an operator: what shape rules, kernels and backward rules get. */
typedef struct pr_call {
  const struct pr_op *op;
  int n_in, n_out;
  pr_tensor **in;  /* NULL where an optional input is absent */
  pr_tensor **out; /* made by infer */
  pr_tensor *
      *grad_out; /* backward: gradient of each output; only those of outputs that nothing used are NULL */
  pr_tensor **grad_in; /* backward: to be filled; see `wanted` */
  const bool *wanted;  /* backward: which inputs need a gradient */
  pr_arg args[PR_MAX_ARGS];
  uint64_t random_step;      /* of an operator with PR_OP_RANDOM */
  bool meta;                 /* shapes only: no kernel will run */
  pr_attachment attachment;  /* set by op->forward, there again in backward */
  struct prK_block *scratch; /* memory of the running kernel (backend.h) */
} pr_call;

enum {
  PR_OP_VIEW = 1,        /* outputs share the first input's storage: infer makes them, no kernel */
  PR_OP_NO_GRADIENT = 2, /* not differentiable (comparison, argmax, ...) */
  PR_OP_RANDOM = 4,      /* takes a step of the generator */
  PR_OP_FILL = 8,        /* cheap to repeat, and of a size that may depend on the batch: traced as a node also
                            without an input of        the model (zeros, full, expand) */
  PR_OP_READS_VALUES = 16, /* its output's shape depends on values: refused while tracing */
  PR_OP_LIVE_STATISTICS =
      32 /* statistics over an axis that may be pruned run over its live indices (prune/verify.h) */
};

typedef struct pr_op {
  const char *name;
  const char *
      inputs; /* names in order; "bias?" may be absent, "xs*" is a list (the last), "labels#" holds indices */
  const char *outputs; /* names; ".mean" is seen by backward only, "order#" holds indices; "ys*": infer or
                          compose decides how many */
  pr_arg_spec args[PR_MAX_ARGS + 1];
  const char *saves;  /* inputs and outputs whose *values* backward reads ("x y"); of the others only shapes
                         are kept */
  const char *writes; /* inputs that are updated in place ("running_mean running_var") */
  unsigned flags;

  /* Check inputs and arguments, make the outputs with prO_output* (specifications without memory) or
   * prO_view. */
  pr_status (*infer)(pr_call *c);
  /* Alternative to all else: do the work by calling other operators through pr_apply and set c->out with
   * prO_give. Such an operator needs no infer, kernel, backward or coupling rule, and never appears in a
   * graph. */
  pr_status (*compose)(pr_call *c);
  /* In place of kernels: give c->out[k] tensors of the inferred shapes (prO_give). For operators defined at
   * run time. */
  pr_status (*forward)(pr_call *c);
  /* Fill c->grad_in[i] (a new reference) for every wanted i. NULL: the backend's backward kernel does, into
   * tensors that look like the inputs. Runs without recording, so it may use pr_apply freely. */
  pr_status (*backward)(pr_call *c);
  /* Which indices must go together (couple/couple.h). NULL pins every axis. */
  void (*couple)(struct pr_coupling *k);
  /* After removal: set the arguments that shapes cannot tell from the live counts of labels. NULL: nothing to
   * do. */
  pr_status (*rewrite)(struct pr_coupling *k, pr_arg *args);
  /* Multiply-accumulates of one call, from the shapes of c->in and c->out. NULL: none. */
  int64_t (*macs)(const pr_call *c);

  const char *onnx;     /* name of the ONNX operator, or NULL */
  const char *examples; /* calls for the automatic tests, one per line: "x:2x3x5x5 weight:4x3x3x3 padding=1";
                           "labels:5%7" are integers below 7, "x:3x4>0.1" is a tensor of values above 0.1 */
  const char
      *help; /* first line: what it computes, with shapes; then details and the source of the formula */

  struct prO_names *names; /* the parsed lists of names; made at first use */
  int number;              /* position in pr_op_list + 1; 0 before first use */
} pr_op;

#define PR_OP(name) pr_op pr_op_##name

extern pr_op *const pr_op_list[]; /* sorted by name; made by the build */
extern const int pr_op_count;

/* The operator called `name`, or NULL with pr_fail (and the nearest spelling). */
const pr_op *pr_op_find(const char *name);
/* Make an operator known that was defined at run time: it has infer and forward, and no kernels. It must live
 * as long as the program, since graphs and tapes refer to it. A later one takes the name of an earlier one;
 * names of built-in operators are refused. */
pr_status pr_op_register(pr_op *op);
/* Its position in pr_op_list: what kernel tables are indexed by. */
int prO_number(const pr_op *op);

/* The one door (lives in dispatch/; declared here because backward rules and composed operators go through it
 * too): check, infer shapes, record when tracing, run the kernel of the tensors' device, push the backward
 * step when a gradient is wanted. `args` NULL: all defaults; else one per spec, in order, where args[i].given
 * is set. On success *out are new references; operators with a fixed number of visible outputs fill that
 * many; for "ys*" pass n_out's capacity in and get the count. */
pr_status pr_apply(const pr_op *op, const pr_arg *args, pr_tensor *const *in, int n_in, pr_tensor **out,
                   int *n_out);

/* The same for one output: a new reference or NULL. prO_call(&pr_op_add, NULL, 2, a, b). */
pr_tensor *prO_call(const pr_op *op, const pr_arg *args, int n_in, ...);

/* Arguments from text: "stride=2 padding=1,1 mode=bilinear". Lists are allocated; pr_args_free frees them. */
pr_status pr_args_parse(const pr_op *op, const char *text, pr_arg args[PR_MAX_ARGS]);
pr_status pr_args_copy(const pr_op *op, const pr_arg *from, pr_arg to[PR_MAX_ARGS]);
void pr_args_free(pr_arg args[PR_MAX_ARGS]);
/* Set defaults where not given; check required ones, lists against nothing else. */
pr_status prO_args_complete(const pr_op *op, pr_arg args[PR_MAX_ARGS]);
int prO_arg_number(const pr_op *op, const char *name); /* or -1 with pr_fail and the nearest spelling */
int prO_arg_count(const pr_op *op);
bool prO_arg_is_list(pr_arg_kind kind);

/* --- for descriptors: inputs and names ----------------------------------------------------------------------------- */

int prO_inputs_declared(const pr_op *op);  /* names in .inputs */
int prO_outputs_declared(const pr_op *op); /* names in .outputs, hidden ones included */
int prO_outputs_visible(const pr_op *op);
bool prO_variadic(const pr_op *op);       /* last input is a list */
bool prO_outputs_listed(const pr_op *op); /* outputs are a list: "ys*" */
/* Name of input i ("xs" for all of a list); is it optional, saved, written. */
const char *prO_input_name(const pr_op *op, int i, char text[32]);
bool prO_input_optional(const pr_op *op, int i);
bool prO_saves_input(const pr_op *op, int i);
bool prO_saves_output(const pr_op *op, int i);
bool prO_writes_input(const pr_op *op, int i);
/* Does input / output i hold indices (0-based in C, shown 1-based by the binding)? */
bool prO_input_is_index(const pr_op *op, int i);
bool prO_output_is_index(const pr_op *op, int i);

/* --- for infer ------------------------------------------------------------------------------------------------------ */

/* Element k of an INTS argument, whichever form it was given in. */
static inline int64_t prO_int(const pr_call *c, int arg, int k) {
  const pr_arg *a = &c->args[arg];
  return a->count == 0 ? a->integer : a->count == 1 ? a->list[0] : a->list[k];
}
/* Fail unless the list argument has 0, 1 or n elements. */
pr_status prO_check_ints(const pr_call *c, int arg, int n);
/* Fail unless element k of an INTS argument is at least `least` (and at most 2^30, so that sums of a few
 * cannot overflow). */
pr_status prO_need_int(const pr_call *c, int arg, int k, int64_t least);
/* A DIM argument of a tensor with `dim` axes, as 0..dim-1; fails outside. */
pr_status prO_dim(const pr_call *c, int arg, int dim, int *axis);
/* A DIMS argument as a mask of axes; the empty list means all. Duplicates fail. */
pr_status prO_dims(const pr_call *c, int arg, int dim, bool mask[PR_MAX_DIM]);

/* Output k: a specification without memory. Row-major; or with the axis order of `like`; or channels-last. */
pr_status prO_output(pr_call *c, int k, pr_dtype dtype, int dim, const int64_t *shape);
pr_status prO_output_like(pr_call *c, int k, const pr_tensor *like);
pr_status prO_output_ordered(pr_call *c, int k, pr_dtype dtype, int dim, const int64_t *shape,
                             const pr_tensor *like);
pr_status prO_output_channels_last(pr_call *c, int k, pr_dtype dtype, int dim, const int64_t *shape);
/* The dtype of statistics of x that backward reads again: f64 for f64, else f32 (bf16 has too few bits). */
static inline pr_dtype prO_statistics_dtype(const pr_tensor *x) {
  return x->dtype == PR_F64 ? PR_F64 : PR_F32;
}
/* Output k as a view of input `i`. */
pr_status prO_view(pr_call *c, int k, int i, int dim, const int64_t *shape, const int64_t *stride,
                   int64_t offset);
/* How many outputs there will be (for "ys*"); the array is allocated. */
pr_status prO_outputs(pr_call *c, int n);
/* Output k of a composed operator: takes over the reference; NULL passes a failure on. */
pr_status prO_give(pr_call *c, int k, pr_tensor *t);

/* Checks with messages that name operator and input and show the shapes. */
pr_status prO_need_dim(const pr_call *c, int i, int least, int most);
pr_status prO_need_float(const pr_call *c, int i);
pr_status prO_need_dtype(const pr_call *c, int i, pr_dtype dtype);
pr_status prO_need_same_dtype(const pr_call *c, int i, int j);
pr_status prO_need_size(const pr_call *c, int i, int axis, int64_t size, const char *because);
/* Fail unless every value of the index input i (of an integer dtype) lies in 0..size-1; names the first that
 * does not as a `what` ("label"). Reads the values where they are on the CPU; on other devices only the dtype
 * is checked. */
pr_status prO_need_indices(const pr_call *c, int i, int64_t size, const char *what);
/* Failure in the operator's name: "conv2d: ..." with the shapes of all inputs appended. */
pr_status prO_fail(const pr_call *c, pr_status code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Broadcast shape of inputs i and j (NumPy's rules). */
pr_status prO_broadcast(const pr_call *c, int i, int j, int *dim, int64_t shape[PR_MAX_DIM]);

/* --- for backward --------------------------------------------------------------------------------------------------- */

/* grad_in[i] := t (takes over the reference); NULL passes a failure on. */
pr_status prO_gradient(pr_call *c, int i, pr_tensor *t);
/* Sum `g` down to the shape of input i (the adjoint of broadcasting). Takes over g, gives a new reference. */
pr_tensor *prO_sum_to(const pr_call *c, int i, pr_tensor *g);

#endif
