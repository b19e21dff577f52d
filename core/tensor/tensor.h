/* tensor.h - n-dimensional arrays: a strided view on a counted storage.
 *
 * Logical order of images is N C H W; 4-D activations are usually kept channels-last in memory, which only their strides show. Shapes, strides
 * and offsets count elements. A tensor on PR_META has a shape and no storage: it stands for a value while a model is traced.
 *
 * Handles are counted: functions that return a tensor give the caller one reference (or NULL with pr_fail done); arguments are
 * borrowed. A handle is an identity: a parameter keeps its handle when pruning gives it a smaller storage.
 */
#ifndef PR_TENSOR_TENSOR_H
#define PR_TENSOR_TENSOR_H

#include "base/error.h"

enum { PR_MAX_DIM = 8 };

typedef enum pr_dtype { PR_F32, PR_F64, PR_BF16, PR_I64, PR_I32, PR_U8, PR_BOOL, PR_DTYPES } pr_dtype;
typedef enum pr_device { PR_CPU, PR_CUDA, PR_META, PR_DEVICES } pr_device;

typedef struct pr_storage {
  _Atomic int refs;
  pr_device device;
  size_t bytes;
  void *data;
  uint64_t version; /* counts writes; never the same for two storages'"'"' contents (a process-wide counter) */
} pr_storage;

typedef struct pr_tensor {
  _Atomic int refs;
  pr_dtype dtype;
  pr_device device;
  int dim;
  int64_t shape[PR_MAX_DIM];
  int64_t stride[PR_MAX_DIM]; /* in elements; 0 along an expanded axis */
  int64_t offset;             /* of the first element */
  pr_storage *storage;        /* NULL on PR_META */

  /* What lower rooms hang on a tensor; the tensor room only releases it, through prT_released. */
  bool requires_grad;
  int creator_output;             /* which output of creator this is */
  struct prA_step *creator;       /* the tape step that made it; NULL for leaves */
  struct pr_tensor *grad;         /* accumulated gradient of a leaf, or NULL */
  struct prA_hooks *hooks;        /* functions called with its gradient, or NULL */
  struct pr_parameter *parameter; /* attachments of a parameter, or NULL (autograd/parameter.h) */
  uint64_t trace_id;              /* trace that gave it a value number; 0 none */
  int trace_value;
} pr_tensor;

/* --- dtypes ------------------------------------------------------------------------------------------------------- */

const char *pr_dtype_name(pr_dtype dtype); /* "f32", "f64", "bf16", "i64", "i32", "u8", "bool" */
size_t pr_dtype_size(pr_dtype dtype);
bool pr_dtype_is_float(pr_dtype dtype);
pr_status pr_dtype_parse(const char *name, pr_dtype *dtype);
const char *pr_device_name(pr_device device); /* "cpu", "cuda", "meta" */

/* --- making and counting ------------------------------------------------------------------------------------------ */

/* A new row-major tensor, not filled. Negative or overflowing sizes fail. */
pr_tensor *pr_tensor_new(pr_dtype dtype, pr_device device, int dim, const int64_t *shape);
/* As above with the axes ordered in memory as in `like` (same dim; broadcast or non-dense `like`: row-major). */
pr_tensor *prT_new_like(const pr_tensor *like, pr_dtype dtype, int dim, const int64_t *shape);
/* A new tensor with N H W C order in memory (dim 4), or N L C (dim 3). */
pr_tensor *prT_new_channels_last(pr_dtype dtype, pr_device device, int dim, const int64_t *shape);
/* Filled with zeros / with one value. */
pr_tensor *pr_tensor_zeros(pr_dtype dtype, pr_device device, int dim, const int64_t *shape);
pr_tensor *pr_tensor_full(pr_dtype dtype, pr_device device, int dim, const int64_t *shape, double value);
/* A 0-dimensional tensor. */
pr_tensor *pr_tensor_scalar(pr_dtype dtype, double value);
/* A row-major copy of numbers given in C order. */
pr_tensor *pr_tensor_from(pr_dtype dtype, int dim, const int64_t *shape, const double *values);

pr_tensor *pr_retain(pr_tensor *t); /* returns t; NULL stays NULL */
void pr_release(pr_tensor *t);      /* NULL is fine */

/* A tensor that shares `base`'"'"'s storage. No gradient, no attachments. */
pr_tensor *prT_view(const pr_tensor *base, int dim, const int64_t *shape, const int64_t *stride, int64_t offset);
/* The same values without history: shares the storage. */
pr_tensor *pr_detach(const pr_tensor *t);

/* Give a meta tensor (the specification that an operator'"'"'s shape rule made) memory in its own layout. */
pr_status prT_allocate(pr_tensor *t, pr_device device);

/* Exchange dtype, shape, layout and storage of two handles (what removal does to a parameter); attachments stay. */
void prT_swap_content(pr_tensor *a, pr_tensor *b);

/* Note a write: gives the storage a new version. */
void prT_touch(pr_tensor *t);
uint64_t prT_new_version(void);

/* Called by pr_release when a tensor with a creator, gradient, hooks or parameter dies (filled in by autograd). */
extern void (*prT_released)(pr_tensor *t);

/* --- asking ------------------------------------------------------------------------------------------------------- */

int64_t pr_numel(const pr_tensor *t);
void *prT_data(const pr_tensor *t);                             /* address of the first element; NULL on meta */
bool pr_is_contiguous(const pr_tensor *t);                      /* row-major, no holes */
bool prT_is_channels_last(const pr_tensor *t);                  /* dim 3 or 4, N [H] W C order, no holes */
bool prT_is_dense(const pr_tensor *t);                          /* some order of axes without holes or overlaps */
bool prT_same_layout(const pr_tensor *a, const pr_tensor *b);   /* same shape, dense, same strides (size-1 axes aside) */
bool pr_same_shape(const pr_tensor *a, const pr_tensor *b);
/* "[2, 3, 8, 9]" into `text`; returns text. */
enum { PR_SHAPE_TEXT = 160 };
const char *pr_shape_text(const pr_tensor *t, char text[PR_SHAPE_TEXT]);
const char *prT_sizes_text(int dim, const int64_t *sizes, char text[PR_SHAPE_TEXT]);

/* --- numbers in and out (CPU tensors; slow, exact) ---------------------------------------------------------------- */

double prT_get(const pr_tensor *t, int64_t element);              /* element: storage position relative to offset 0 */
void prT_set(pr_tensor *t, int64_t element, double value);        /* conversion as in C; bool: value != 0 */
pr_status pr_item(const pr_tensor *t, double *value);             /* of a tensor with one element */
pr_status prT_to_doubles(const pr_tensor *t, double *values);     /* row-major */
pr_status prT_from_doubles(pr_tensor *t, const double *values);   /* row-major; notes the write */

/* dst := src, broadcast to dst'"'"'s shape and converted to its dtype. Same device. Notes the write. */
pr_status pr_copy(pr_tensor *dst, const pr_tensor *src);
pr_status pr_fill(pr_tensor *t, double value);
/* A row-major copy (or the tensor itself, retained, when it is row-major already). */
pr_tensor *pr_contiguous(pr_tensor *t);
/* A copy in the same layout / another dtype. */
pr_tensor *pr_clone(const pr_tensor *t);
pr_tensor *pr_to_dtype(pr_tensor *t, pr_dtype dtype); /* t itself, retained, when it has that dtype */

/* Walk the elements of `t` in row-major order: calls step(ctx, position) with storage positions relative to offset 0. */
typedef struct prT_walk {
  int dim;
  int64_t shape[PR_MAX_DIM], stride[PR_MAX_DIM], at[PR_MAX_DIM], position, left;
} prT_walk;
void prT_walk_start(prT_walk *w, const pr_tensor *t);
static inline void prT_walk_next(prT_walk *w) {
  w->left--;
  for (int d = w->dim - 1; d >= 0; d--) {
    w->position += w->stride[d];
    if (++w->at[d] < w->shape[d]) return;
    w->position -= w->at[d] * w->stride[d];
    w->at[d] = 0;
  }
}

/* --- printing ----------------------------------------------------------------------------------------------------- */

/* Write `t` for people: at most a screen; over 1,000 elements only the edges with "...", then a line "f32 [64, 3, 3, 3] cpu". `put`
 * receives pieces of text. Touches only the elements it shows. */
pr_status pr_print(const pr_tensor *t, void (*put)(void *ctx, const char *text), void *ctx);

/* --- the caching allocator of storages ----------------------------------------------------------------------------- */

pr_storage *prT_storage_new(pr_device device, size_t bytes);
void prT_storage_release(pr_storage *s);
void pr_cache_empty(void); /* give cached blocks back */
size_t pr_storage_live(void); /* bytes of live storages; what the binding tells Lua'"'"'s collector */

#endif
E
cat > core/op/op.h <<'"'"'E'"'"'
/* op.h - what the program knows of an operator: one descriptor, in one file of this folder.
 *
 * A file declares its operator with a line that begins with PR_OP(name); the build collects these lines into pr_op_list. The Lua function,
 * argument parsing, help, gradient test, prune test, checkpoint form and ONNX mapping all derive from the descriptor.
 *
 *     enum { X, WEIGHT, BIAS };
 *     enum { STRIDE, PADDING };
 *     PR_OP(conv2d) = {
 *       .name = "conv2d", .inputs = "x weight bias?", .outputs = "y", .saves = "x weight",
 *       .args = { { "stride", PR_ARG_INTS, .integer = 1, .help = "..." }, { "padding", PR_ARG_INTS } },
 *       .infer = infer, .couple = couple, .macs = macs, .examples = "x:2x3x5x5 weight:4x3x3x3 bias:4 padding=1", .help = "...",
 *     };
 */
#ifndef PR_OP_OP_H
#define PR_OP_OP_H

#include "tensor/tensor.h"

enum { PR_MAX_ARGS = 10 };

typedef enum pr_arg_kind {
  PR_ARG_INT,     /* a count or size */
  PR_ARG_REAL,    /* a number */
  PR_ARG_BOOL,    /* true or false (stored in .integer) */
  PR_ARG_MODE,    /* a bool that follows the model'"'"'s train/eval mode when a graph runs */
  PR_ARG_CHOICE,  /* one word of .choices, stored as its number in .integer */
  PR_ARG_INTS,    /* a list of sizes; a single integer stands for all (prO_int gives element k of either form) */
  PR_ARG_DIM,     /* an axis; C counts from 0, negative from the end; the Lua form counts from 1 */
  PR_ARG_DIMS,    /* a list of axes, same convention */
  PR_ARG_INDEX,   /* a position along an axis: 0-based here, 1-based in Lua */
  PR_ARG_INDICES  /* a list of positions */
} pr_arg_kind;

/* An argument'"'"'s value. Lists are owned by whoever made the array of arguments. */
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
  bool empty;      /* a list'"'"'s default is the empty list: "all" or "not given" */
  bool symbolic;   /* may depend on the batch size (shape-like lists): the tracer may fit it as a multiple of the batch */
  const char *choices; /* "nearest bilinear" */
  const char *help;    /* a few words */
} pr_arg_spec;

/* One application of an operator: what shape rules, kernels and backward rules get. */
typedef struct pr_call {
  const struct pr_op *op;
  int n_in, n_out;
  pr_tensor **in;       /* NULL where an optional input is absent */
  pr_tensor **out;      /* made by infer */
  pr_tensor **grad_out; /* backward: gradient of each output; only those of outputs that nothing used are NULL */
  pr_tensor **grad_in;  /* backward: to be filled; see `wanted` */
  const bool *wanted;   /* backward: which inputs need a gradient */
  pr_arg args[PR_MAX_ARGS];
  uint64_t random_step; /* of an operator with PR_OP_RANDOM */
  bool meta;            /* shapes only: no kernel will run */
  struct prK_block *scratch; /* memory of the running kernel (backend.h) */
} pr_call;

enum {
  PR_OP_VIEW = 1,         /* outputs share the first input'"'"'s storage: infer makes them, no kernel */
  PR_OP_NO_GRADIENT = 2,  /* not differentiable (comparison, argmax, ...) */
  PR_OP_RANDOM = 4,       /* takes a step of the generator */
  PR_OP_FILL = 8,         /* makes a tensor from nothing but arguments, cheap to repeat: traced as a node (zeros, full) */
  PR_OP_READS_VALUES = 16 /* its output'"'"'s shape depends on values: refused while tracing */
};

typedef struct pr_op {
  const char *name;
  const char *inputs;  /* names in order; "bias?" may be absent, "xs*" is a list (then the only input, or the last) */
  const char *outputs; /* names; ".mean" is seen by backward only; "ys*": infer or compose decides how many */
  pr_arg_spec args[PR_MAX_ARGS + 1];
  const char *saves;  /* inputs and outputs whose *values* backward reads ("x y"); of the others only shapes are kept */
  const char *writes; /* inputs that are updated in place ("running_mean running_var") */
  unsigned flags;

  /* Check inputs and arguments, make the outputs with prO_output* (specifications without memory) or prO_view. */
  pr_status (*infer)(pr_call *c);
  /* Alternative to all else: do the work by calling other operators through pr_apply and set c->out with prO_give. Such an operator needs no
   * infer, kernel, backward or coupling rule, and never appears in a graph. */
  pr_status (*compose)(pr_call *c);
  /* Fill c->grad_in[i] (a new reference) for every wanted i. NULL: the backend'"'"'s backward kernel does, into tensors that look like the
   * inputs. Runs without recording, so it may use pr_apply freely. */
  pr_status (*backward)(pr_call *c);
  /* Which indices must go together (couple/couple.h). NULL pins every axis. */
  void (*couple)(struct pr_coupling *k);
  /* After removal: set the arguments that shapes cannot tell from the live counts of labels. NULL: nothing to do. */
  pr_status (*rewrite)(struct pr_coupling *k, pr_arg *args);
  /* Multiply-accumulates of one call, from the shapes of c->in and c->out. NULL: none. */
  int64_t (*macs)(const pr_call *c);

  const char *onnx;     /* name of the ONNX operator, or NULL */
  const char *examples; /* calls for the automatic tests, one per line: "x:2x3x5x5 weight:4x3x3x3 padding=1"; "labels:5%7" are integers below 7,
                           "x:3x4>0.1" is a tensor of values above 0.1 */
  const char *help;     /* first line: what it computes, with shapes; then details and the source of the formula */
} pr_op;

#define PR_OP(name) pr_op pr_op_##name

extern pr_op *const pr_op_list[]; /* sorted by name; made by the build */
extern const int pr_op_count;

/* The operator called `name`, or NULL with pr_fail (and the nearest spelling). */
const pr_op *pr_op_find(const char *name);
/* Its position in pr_op_list: what kernel tables are indexed by. */
int prO_number(const pr_op *op);

/* The one door (lives in dispatch/; declared here because backward rules and composed operators go through it too): check, infer shapes, record when
 * tracing, run the kernel of the tensors'"'"' device, push the backward step when a gradient is wanted. `args` NULL: all defaults; else one per spec, in
 * order, where args[i].given is set. On success *out are new references; operators with a fixed number of visible outputs fill that many; for
 * "ys*" pass n_out'"'"'s capacity in and get the count. */
pr_status pr_apply(const pr_op *op, const pr_arg *args, pr_tensor *const *in, int n_in, pr_tensor **out, int *n_out);

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
bool prO_variadic(const pr_op *op);        /* last input is a list */
/* Name of input i ("xs" for all of a list); is it optional, saved, written. */
const char *prO_input_name(const pr_op *op, int i, char text[32]);
bool prO_input_optional(const pr_op *op, int i);
bool prO_saves_input(const pr_op *op, int i);
bool prO_saves_output(const pr_op *op, int i);
bool prO_writes_input(const pr_op *op, int i);

/* --- for infer ------------------------------------------------------------------------------------------------------ */

/* Element k of an INTS argument, whichever form it was given in. */
static inline int64_t prO_int(const pr_call *c, int arg, int k) {
  const pr_arg *a = &c->args[arg];
  return a->count == 0 ? a->integer : a->count == 1 ? a->list[0] : a->list[k];
}
/* Fail unless the list argument has 0, 1 or n elements. */
pr_status prO_check_ints(const pr_call *c, int arg, int n);
/* A DIM argument of a tensor with `dim` axes, as 0..dim-1; fails outside. */
pr_status prO_dim(const pr_call *c, int arg, int dim, int *axis);
/* A DIMS argument as a mask of axes; the empty list means all. Duplicates fail. */
pr_status prO_dims(const pr_call *c, int arg, int dim, bool mask[PR_MAX_DIM]);

/* Output k: a specification without memory. Row-major; or with the axis order of `like`; or channels-last. */
pr_status prO_output(pr_call *c, int k, pr_dtype dtype, int dim, const int64_t *shape);
pr_status prO_output_like(pr_call *c, int k, const pr_tensor *like);
pr_status prO_output_ordered(pr_call *c, int k, pr_dtype dtype, int dim, const int64_t *shape, const pr_tensor *like);
pr_status prO_output_channels_last(pr_call *c, int k, pr_dtype dtype, int dim, const int64_t *shape);
/* Output k as a view of input `i`. */
pr_status prO_view(pr_call *c, int k, int i, int dim, const int64_t *shape, const int64_t *stride, int64_t offset);
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
/* Failure in the operator'"'"'s name: "conv2d: ..." with the shapes of all inputs appended. */
pr_status prO_fail(const pr_call *c, pr_status code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Broadcast shape of inputs i and j (NumPy'"'"'s rules). */
pr_status prO_broadcast(const pr_call *c, int i, int j, int *dim, int64_t shape[PR_MAX_DIM]);

/* --- for backward --------------------------------------------------------------------------------------------------- */

/* grad_in[i] := t (takes over the reference); NULL passes a failure on. */
pr_status prO_gradient(pr_call *c, int i, pr_tensor *t);
/* Sum `g` down to the shape of input i (the adjoint of broadcasting). Takes over g, gives a new reference. */
pr_tensor *prO_sum_to(const pr_call *c, int i, pr_tensor *g);

#endif
E
cat > core/backend/backend.h <<'"'"'E'"'"'
/* backend.h - tables of kernels by operator and direction, one per backend.
 *
 * A kernel is a function of a pr_call with memory for its results. It may decline (PR_DECLINED: dtype, layout or size that it does not do);
 * then the next backend of the device is asked. The reference backend does every operator in every layout, so a call never goes unserved.
 * A line that begins with PR_KERNEL(backend, operator, forward|backward) in a file of core/backend/BACKEND defines a kernel; the
 * build collects these lines.
 *
 * forward:  reads c->in, fills every element of every c->out.
 * backward: reads c->grad_out and the saved c->in / c->out (others are PR_META: shape only), fills every element of c->grad_in[i] where it is not
 *           NULL (=, not +=). c->grad_out has a tensor for every visible output.
 */
#ifndef PR_BACKEND_BACKEND_H
#define PR_BACKEND_BACKEND_H

#include "op/op.h"

typedef enum pr_direction { PR_forward, PR_backward } pr_direction;
typedef pr_status pr_kernel_function(pr_call *c);

typedef struct pr_kernel_row {
  const char *backend, *op;
  pr_direction direction;
  pr_kernel_function *run;
} pr_kernel_row;

extern const pr_kernel_row pr_kernel_rows[]; /* made by the build; ends with a row of NULLs */

#define PR_KERNEL(backend, op, direction)                                                                    \
  pr_kernel_function prK_##backend##_##op##_##direction;                                                     \
  pr_status prK_##backend##_##op##_##direction(pr_call *c)

/* Run the first kernel of the call'"'"'s device that takes it. PR_ERR_UNSUPPORTED when none does. Scratch memory is freed afterwards. */
pr_status prK_run(pr_call *c, pr_direction direction);
bool prK_has(const pr_op *op, pr_direction direction);
/* The backend that took this thread'"'"'s latest call ("cpu", "reference"): what a summary shows. */
const char *prK_last_backend(void);

/* Compiled-in backends in the order they are asked, "cpu reference"; NULL-terminated. */
const char *const *pr_backends(void);
/* Ask only this backend and those after it: pr_backend_use("reference") makes the oracle run everything. */
pr_status pr_backend_use(const char *name);
const char *pr_backend_used(void);

/* --- for kernels ------------------------------------------------------------------------------------------------------ */

/* Memory that lives until the kernel returns; 64-byte aligned; NULL with pr_fail done. */
void *prK_scratch(pr_call *c, size_t bytes);

/* For the reference kernels, which compute in double on row-major arrays whatever the dtype and layout: the values of a tensor (NULL for a NULL
 * tensor), room for n numbers, and the way back. PRK_LOAD declares a pointer or returns the failure. */
const double *prK_load(pr_call *c, const pr_tensor *t);
double *prK_doubles(pr_call *c, int64_t n);
pr_status prK_store(pr_tensor *t, const double *values);
#define PRK_LOAD(name, tensor)                                                                               \
  const double *name = prK_load(c, tensor);                                                                  \
  if ((tensor) && !name) return PR_ERR_MEMORY
#define PRK_ROOM(name, count)                                                                                \
  double *name = prK_doubles(c, count);                                                                      \
  if (!name) return PR_ERR_MEMORY

#endif
E
cat > core/dispatch/dispatch.h <<'"'"'E'"'"'
/* dispatch.h - pr_apply (declared in op/op.h) and what hooks into it: gradient mode, the tape, the tracer, parameter masks. */
#ifndef PR_DISPATCH_DISPATCH_H
#define PR_DISPATCH_DISPATCH_H

#include "op/op.h"

/* Whether operators record for backward; per thread, on at start. Returns the old setting. */
bool pr_grad_mode(bool enabled);
bool pr_grad_enabled(void);

/* Filled in by autograd: push a step for a finished call some of whose inputs require a gradient. */
extern pr_status (*prD_record_step)(pr_call *c);
/* Filled in by autograd: what reading a tensor gives: itself, or for a masked parameter the masked value (borrowed). NULL: failure. */
extern pr_tensor *(*prD_value)(pr_tensor *t);

/* A tracer sees every call of its thread while installed. */
typedef struct prD_tracer {
  /* Is this tensor a traced value or a parameter of the model being traced? Then the call is traced on shapes only. */
  bool (*knows)(struct prD_tracer *tracer, const pr_tensor *t);
  pr_status (*record)(struct prD_tracer *tracer, const pr_call *c);
} prD_tracer;
prD_tracer *prD_tracer_set(prD_tracer *tracer); /* returns the one before; NULL: none */
prD_tracer *prD_tracer_get(void);

/* Fail unless the tensor has values (reading while tracing is the usual cause). */
pr_status prD_need_values(const pr_tensor *t, const char *what);

#endif
E
cat > core/autograd/autograd.h <<'"'"'E'"'"'
/* autograd.h - the tape: reverse-mode differentiation of what pr_apply ran.
 *
 * Leaves are tensors with requires_grad that no operator made; their gradients accumulate in ->grad. The tape is a graph of counted steps that
 * hangs on the results. Backward walks it once, newest step first, and releases what each step saved as soon as it is done; a second walk fails. A
 * step remembers the version of every value it saved: if a parameter was changed since (an optimiser step, a removal), backward fails
 * instead of giving wrong numbers.
 */
#ifndef PR_AUTOGRAD_AUTOGRAD_H
#define PR_AUTOGRAD_AUTOGRAD_H

#include "dispatch/dispatch.h"

/* Make the room'"'"'s hooks known to the rooms above. Called by pr_start. */
void prA_start(void);

/* Gradients of `loss` (with `grad` as the upstream gradient; NULL: 1, for a tensor with one element) with respect to all leaves. */
pr_status pr_backward(pr_tensor *loss, pr_tensor *grad);

/* Ask for a gradient of a leaf (a float tensor without creator). */
pr_status pr_require_grad(pr_tensor *t, bool wanted);
/* Forget / set the accumulated gradient. */
void pr_zero_grad(pr_tensor *t);

/* Call `fn` with the gradient of t each time one is computed; a tensor it stores in *replacement (new reference) takes its place. `drop` frees
 * ctx. Returns an id for removal. */
typedef pr_status (*pr_grad_hook)(void *ctx, pr_tensor *grad, pr_tensor **replacement);
int64_t pr_hook_add(pr_tensor *t, pr_grad_hook fn, void *ctx, void (*drop)(void *ctx));
void pr_hook_remove(pr_tensor *t, int64_t id);

/* Largest difference between analytic gradients and central differences (step `h`) of a weighted sum of the operator'"'"'s outputs, over all float
 * inputs (f64), relative to the largest gradient. For tests. */
pr_status pr_gradient_check(const pr_op *op, const pr_arg *args, pr_tensor **in, int n_in, double h, double *worst);

#endif
E
cat > core/autograd/parameter.h <<'"'"'E'"'"'
/* parameter.h - what hangs on a parameter beside its value and gradient: a mask, and optimiser state.
 *
 * A parameter is a leaf tensor with attachments. Its handle stays the same for life; removal changes its content. With a mask,
 * the tensor keeps its dense value; reading it through an operator gives dense * mask, and its gradient is multiplied by the mask; the optimiser moves the
 * dense value (as torch.nn.utils.prune does with weight_orig).
 */
#ifndef PR_AUTOGRAD_PARAMETER_H
#define PR_AUTOGRAD_PARAMETER_H

#include "autograd/autograd.h"

typedef struct pr_slot {
  char *name;        /* "momentum_buffer", "exp_avg", ... */
  pr_tensor *tensor; /* of the parameter'"'"'s shape, or a scalar */
  struct pr_slot *next;
} pr_slot;

typedef struct pr_parameter {
  bool is_buffer;          /* a buffer: no gradient, but pruned and saved along */
  pr_tensor *mask;         /* f32 of the parameter'"'"'s shape, or NULL */
  pr_tensor *masked;       /* cached dense * mask */
  uint64_t masked_version; /* versions of value and mask that the cache was made from */
  uint64_t mask_version;
  pr_slot *slots;          /* optimiser state */
} pr_parameter;

/* Turn a leaf into a parameter (requires_grad for floats) or a buffer. Again: no change. */
pr_status pr_parameter_make(pr_tensor *t, bool is_buffer);

/* Borrowed: t itself, or dense * mask. NULL on failure. */
pr_tensor *pr_parameter_value(pr_tensor *t);

/* Set (copied, as f32 of the same shape) or drop (NULL) the mask. */
pr_status pr_parameter_mask(pr_tensor *t, const pr_tensor *mask);
/* Write dense * mask into the value and drop the mask. */
pr_status pr_parameter_finalize(pr_tensor *t);

/* Optimiser state by name: the slot'"'"'s tensor (borrowed) or NULL; made with zeros of the parameter'"'"'s shape when `create`. */
pr_tensor *pr_parameter_slot(pr_tensor *t, const char *name, bool create);
pr_status pr_parameter_slot_set(pr_tensor *t, const char *name, pr_tensor *value);
void pr_parameter_slots_clear(pr_tensor *t);

#endif
E
cat > core/prune.h <<'"'"'E'"'"'
/* prune.h - prunelua'"'"'s C API in one include. Each room'"'"'s header is its manual. Call pr_start first. */
#ifndef PR_PRUNE_H
#define PR_PRUNE_H

#include "autograd/autograd.h"
#include "autograd/parameter.h"
#include "backend/backend.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/scope.h"
#include "base/thread.h"
#include "op/op.h"
#include "tensor/tensor.h"

#define PR_VERSION "0.1.0"

/* Connect the rooms'"'"' hooks. Cheap; again: no effect. */
pr_status pr_start(void);

#endif
E
