/* prune_in_c.c - the core without Lua: a small network learns digits, loses half of its channels, and goes
 * on.
 *
 * Four steps, in the order of main: train by calling operators; trace the same function into a graph; choose
 * units and remove them; check that the smaller network computes what zeroing would have computed. Every
 * function of the core that can fail gives a status (or NULL); what went wrong is in pr_error_last().
 */
#include <prune.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- operators by name -------------------------------------------------------------------------------------- */

/* Apply an operator with one output; arguments are text. New reference or NULL. */
static pr_tensor *call(const char *name, const char *arguments, int n_in, pr_tensor *const *in) {
  pr_arg args[PR_MAX_ARGS] = { 0 };
  pr_tensor *out = NULL;
  int n_out = 1;
  const pr_op *op = pr_op_find(name);
  if (op && !pr_args_parse(op, arguments, args) && pr_apply(op, args, in, n_in, &out, &n_out)) out = NULL;
  pr_args_free(args);
  return out;
}

/* The same for chains: takes over `x`, where NULL, a failure before, passes through; borrows the other
 * inputs. */
static pr_tensor *apply(const char *name, const char *arguments, pr_tensor *x, int n_more,
                        pr_tensor *const *more) {
  pr_tensor *in[8] = { x };
  for (int i = 0; i < n_more; i++) in[1 + i] = more[i];
  pr_tensor *out = x ? call(name, arguments, 1 + n_more, in) : NULL;
  pr_release(x);
  return out;
}

static pr_tensor *apply1(const char *name, const char *arguments, pr_tensor *x) {
  return apply(name, arguments, x, 0, NULL);
}

/* --- the network -------------------------------------------------------------------------------------------- */

/* Two blocks of convolution, batch norm and ReLU, then a linear layer. */
enum { CONV1, NORM1, NORM1_BIAS, MEAN1, VAR1, CONV2, NORM2, NORM2_BIAS, MEAN2, VAR2, FC, FC_BIAS, TENSORS };

static const struct {
  const char *name;
  int dim;
  int64_t shape[4];
  double
      normal; /* standard deviation of random values (He et al. 2015: sqrt(2 / inputs)); 0: all are `value` */
  double value;
  bool is_buffer;
} layout[TENSORS] = {
  [CONV1] = { "conv1.weight", 4, { 16, 1, 3, 3 }, 0.47, 0, false },
  [NORM1] = { "norm1.weight", 1, { 16 }, 0, 1, false },
  [NORM1_BIAS] = { "norm1.bias", 1, { 16 }, 0, 0, false },
  [MEAN1] = { "norm1.running_mean", 1, { 16 }, 0, 0, true },
  [VAR1] = { "norm1.running_var", 1, { 16 }, 0, 1, true },
  [CONV2] = { "conv2.weight", 4, { 32, 16, 3, 3 }, 0.12, 0, false },
  [NORM2] = { "norm2.weight", 1, { 32 }, 0, 1, false },
  [NORM2_BIAS] = { "norm2.bias", 1, { 32 }, 0, 0, false },
  [MEAN2] = { "norm2.running_mean", 1, { 32 }, 0, 0, true },
  [VAR2] = { "norm2.running_var", 1, { 32 }, 0, 1, true },
  [FC] = { "fc.weight", 2, { 10, 32 }, 0.18, 0, false },
  [FC_BIAS] = { "fc.bias", 1, { 10 }, 0, 0, false },
};

typedef struct network {
  pr_tensor *t[TENSORS];
  bool training;
} network;

/* Normal random numbers. */
static pr_tensor *random_normal(int dim, const int64_t *shape) {
  char text[128];
  int length = snprintf(text, sizeof text, "shape=%lld", (long long)shape[0]);
  for (int d = 1; d < dim; d++)
    length += snprintf(text + length, sizeof text - (size_t)length, ",%lld", (long long)shape[d]);
  return call("randn", text, 0, NULL);
}

static pr_tensor *initial(int i) {
  if (layout[i].normal == 0)
    return pr_tensor_full(PR_F32, PR_CPU, layout[i].dim, layout[i].shape, layout[i].value);
  pr_tensor *deviation = pr_tensor_scalar(PR_F32, layout[i].normal);
  pr_tensor *t =
      deviation ? apply("mul", "", random_normal(layout[i].dim, layout[i].shape), 1, &deviation) : NULL;
  pr_release(deviation);
  return t;
}

static pr_status network_open(network *net) {
  memset(net, 0, sizeof *net);
  for (int i = 0; i < TENSORS; i++) {
    if (!(net->t[i] = initial(i))) return pr_error_last()->code;
    PR_TRY(pr_parameter_make(net->t[i], layout[i].is_buffer));
  }
  return PR_OK;
}

static void network_close(network *net) {
  for (int i = 0; i < TENSORS; i++) pr_release(net->t[i]);
}

/* Images [N, 1, 8, 8] -> scores [N, 10]. No size is written down here: all are read off the tensors, so the
 * same function serves before and after pruning. */
static pr_tensor *forward(network *net, pr_tensor *images) {
  pr_tensor **t = net->t, *x = pr_retain(images);
  const char *mode = net->training ? "training=true" : "training=false";
  x = apply("conv2d", "padding=1", x, 1, &t[CONV1]);
  x = apply("batch_norm", mode, x, 4, &t[NORM1]);
  x = apply1("max_pool2d", "kernel_size=2", apply1("relu", "", x));
  x = apply("conv2d", "padding=1", x, 1, &t[CONV2]);
  x = apply("batch_norm", mode, x, 4, &t[NORM2]);
  x = apply1("adaptive_avg_pool2d", "output_size=1", apply1("relu", "", x));
  return apply("linear", "", apply1("flatten", "start_dim=1", x), 2, &t[FC]);
}

/* --- training and measuring ---------------------------------------------------------------------------------- */

/* The loader's batch as tensors. It gives N x H x W x C floats; with one channel that is N x C x H x W as
 * well. */
static pr_status to_tensors(const pr_batch *batch, pr_tensor **images, pr_tensor **labels) {
  const int64_t shape[4] = { batch->count, 1, 8, 8 };
  *images = pr_tensor_new(PR_F32, PR_CPU, 4, shape);
  *labels = pr_tensor_new(PR_I64, PR_CPU, 1, shape);
  if (!*images || !*labels) return PR_ERR_MEMORY;
  memcpy((*images)->storage->data, batch->images, (size_t)pr_numel(*images) * sizeof(float));
  memcpy((*labels)->storage->data, batch->labels, (size_t)batch->count * sizeof(int64_t));
  return PR_OK;
}

static pr_status train_batch(network *net, pr_tensor *images, pr_tensor *labels) {
  pr_optim sgd = pr_optim_defaults(PR_SGD);
  sgd.lr = 0.05, sgd.momentum = 0.9;
  for (int i = 0; i < TENSORS; i++) pr_zero_grad(net->t[i]);
  pr_tensor *loss = apply("cross_entropy", "", forward(net, images), 1, &labels);
  pr_status status = loss ? pr_backward(loss, NULL) : pr_error_last()->code;
  pr_release(loss);
  for (int i = 0; i < TENSORS && !status; i++)
    if (!layout[i].is_buffer) status = pr_optim_step(&sgd, net->t[i]);
  return status;
}

static pr_status count_right(network *net, pr_tensor *images, pr_tensor *labels, double *right) {
  double here = 0;
  pr_tensor *hits = apply("eq", "", apply1("argmax", "dim=1", forward(net, images)), 1, &labels);
  hits = apply1("sum", "", hits);
  pr_status status = hits ? pr_item(hits, &here) : pr_error_last()->code;
  pr_release(hits);
  *right += here;
  return status;
}

/* One epoch of training (`right` NULL), or counting what is right. */
static pr_status run_epoch(network *net, pr_loader *loader, int64_t epoch, double *right) {
  pr_batch batch;
  net->training = !right;
  bool recording = pr_grad_mode(net->training);
  pr_status status = pr_loader_start(loader, epoch, 0);
  while (!status && !(status = pr_loader_next(loader, &batch)) && batch.count > 0) {
    pr_tensor *images = NULL, *labels = NULL;
    status = to_tensors(&batch, &images, &labels);
    if (!status) status = right ? count_right(net, images, labels, right) : train_batch(net, images, labels);
    pr_release(images);
    pr_release(labels);
  }
  pr_grad_mode(recording);
  return status;
}

static pr_status train(network *net, pr_loader *training, pr_loader *testing, int64_t first, int64_t last,
                       const char *when) {
  for (int64_t epoch = first; epoch < last; epoch++) PR_TRY(run_epoch(net, training, epoch, NULL));
  double right = 0;
  PR_TRY(run_epoch(net, testing, 0, &right));
  printf("accuracy %s: %.1f %%\n", when, 100 * right / (double)pr_loader_samples(testing));
  return PR_OK;
}

/* --- pruning ------------------------------------------------------------------------------------------------- */

/* The graph: forward run on shapes, with `batch` images. */
static pr_graph *trace(network *net, int64_t batch) {
  const int64_t shape[4] = { batch, 1, 8, 8 };
  pr_tensor *input = pr_tensor_new(PR_F32, PR_META, 4, shape), *stand_in = NULL, *output = NULL;
  pr_trace *run = input ? pr_trace_begin(1, &input, batch, &stand_in) : NULL;
  pr_graph *graph = NULL;
  if (run) {
    pr_status status = PR_OK;
    for (int i = 0; i < TENSORS && !status; i++) status = pr_trace_parameter(run, layout[i].name, net->t[i]);
    if (!status) output = forward(net, stand_in);
    if (output)
      graph = pr_trace_end(run, 1, &output);
    else
      pr_trace_cancel(run);
  }
  pr_release(output);
  pr_release(stand_in);
  pr_release(input);
  return graph;
}

/* Removal ends with tracing `forward` anew: it must give the graph that removal has computed. */
static pr_graph *trace_again(void *ctx, const pr_graph *next, bool undo) {
  return undo ? NULL : trace(ctx, next->batch);
}

/* Magnitude of all units (sum of squares over all that belongs to one), by number of the unit. */
static pr_status score_units(pr_pruning *pruning, double *score, int *scope, int *scopes) {
  const pr_criterion *magnitude = pr_criterion_find("magnitude");
  pr_arg args[PR_MAX_ARGS] = { 0 };
  for (int a = 0; magnitude && magnitude->args[a].name; a++)
    args[a] = (pr_arg){ .integer = magnitude->args[a].integer, .real = magnitude->args[a].real };
  for (int s = 0; magnitude && s < pruning->units.scopes; s++) {
    pr_group *group = pr_group_scope(pruning, s);
    double *of_group = group ? calloc((size_t)group->size, sizeof *of_group) : NULL;
    pr_status status = of_group ? magnitude->score(group, args, NULL, of_group) : PR_ERR_MEMORY;
    for (int32_t u = 0; !status && u < group->size; u++) score[group->unit[u]] = of_group[u];
    free(of_group);
    pr_group_free(group);
    if (status) return status;
    scope[(*scopes)++] = s;
  }
  return magnitude ? PR_OK : pr_error_last()->code;
}

static pr_status print_size(const char *when, const pr_graph *graph) {
  int64_t parameters, buffers;
  pr_cost cost;
  pr_graph_sizes(graph, &parameters, &buffers);
  PR_TRY(pr_graph_cost(graph, &cost));
  printf("%-7s %6lld parameters, %7lld multiply-accumulates\n", when, (long long)parameters,
         (long long)cost.macs);
  return PR_OK;
}

/* Compare in double precision, values and gradients, on random images. */
static pr_status verify(pr_pruning *pruning, const int32_t *unit, int32_t n) {
  const int64_t shape[4] = { 4, 1, 8, 8 };
  pr_verification found;
  pr_tensor *images = random_normal(4, shape);
  pr_status status =
      images ? pr_verify(pruning, unit, n, &images, PR_F64, true, &found) : pr_error_last()->code;
  pr_release(images);
  if (status) return status;
  printf("removed and zeroed differ by %.1g in outputs, %.1g in gradients\n", found.output, found.gradient);
  if (found.output > 1e-10 || found.gradient > 1e-10)
    return pr_fail(PR_ERR_STATE, "the pruned network computes something else");
  return PR_OK;
}

/* Choose half of the units of every scope, verify, remove. `score`, `dead`, `unit` have room for all units.
 */
static pr_status remove_half(network *net, pr_pruning *pruning, double *score, unsigned char *dead,
                             int32_t *unit) {
  const pr_selection half = { .target = PR_TARGET_COUNTS, .round_to = 1 };
  int scope[TENSORS], scopes = 0;
  int32_t n = 0, gone[TENSORS];
  pr_contender group[TENSORS];
  pr_outcome outcome;
  PR_TRY(score_units(pruning, score, scope, &scopes));
  for (int i = 0; i < scopes; i++) {
    int32_t from = pruning->units.scope_start[scope[i]],
            size = pruning->units.scope_start[scope[i] + 1] - from;
    group[i] = (pr_contender){
      .unit = pruning->units.scope_unit + from, .size = size, .pool = -1, .most = size - 1, .want = size / 2
    };
  }
  PR_TRY(pr_select(pruning, &half, group, scopes, score, dead, gone, &outcome));
  for (int32_t u = 0; u < pruning->units.count; u++)
    if (dead[u]) unit[n++] = u;
  printf("%d of %d units go\n", (int)n, (int)pruning->units.count);
  PR_TRY(print_size("before:", pruning->graph));
  PR_TRY(verify(pruning, unit, n));
  PR_TRY(pr_remove(pruning, unit, n, trace_again, net));
  return print_size("after:", pruning->graph);
}

static pr_status prune(network *net) {
  net->training = false;
  pr_graph *graph = trace(net, 2),
           *other = trace(net, 3); /* two batch sizes tell what depends on the batch */
  pr_status status = graph && other ? pr_graph_fit_batch(graph, other) : pr_error_last()->code;
  pr_pruning *pruning = status ? NULL : pr_pruning_new(graph);
  if (pruning) {
    size_t units = (size_t)pruning->units.count;
    double *score = calloc(units, sizeof *score);
    unsigned char *dead = calloc(units, 1);
    int32_t *unit = calloc(units, sizeof *unit);
    if (score && dead && unit)
      status = remove_half(net, pruning, score, dead, unit);
    else
      status = pr_fail(PR_ERR_MEMORY, "no memory for the choice of units");
    free(score);
    free(dead);
    free(unit);
  } else if (!status) {
    status = pr_error_last()->code;
  }
  pr_pruning_free(pruning);
  pr_graph_free(other);
  pr_graph_free(graph);
  return status;
}

/* --- all together -------------------------------------------------------------------------------------------- */

static pr_status open_loader(pr_split part, pr_loader **loader) {
  pr_loader_options options = {
    .batch = 64, .shuffle = part == PR_TRAIN, .seed = 1, .normalization = { .std = { 1 } }
  };
  pr_dataset *digits = NULL;
  PR_TRY(pr_dataset_digits(part, &digits));
  pr_status status = pr_loader_open(digits, &options, loader);
  pr_dataset_release(digits); /* the loader has its own reference */
  return status;
}

static pr_status run(network *net, pr_loader **training, pr_loader **testing) {
  PR_TRY(open_loader(PR_TRAIN, training));
  PR_TRY(open_loader(PR_TEST, testing));
  PR_TRY(network_open(net));
  PR_TRY(train(net, *training, *testing, 0, 6, "after training"));
  PR_TRY(prune(net));
  PR_TRY(train(net, *training, *testing, 6, 6, "after removal"));
  return train(net, *training, *testing, 6, 9,
               "after tuning"); /* the optimiser's momentum has been cut along */
}

int main(void) {
  network net = { 0 };
  pr_loader *training = NULL, *testing = NULL;
  pr_seed(1);
  pr_status status = pr_start();
  if (!status) status = run(&net, &training, &testing);
  pr_loader_close(training);
  pr_loader_close(testing);
  network_close(&net);
  if (!status) return 0;
  fprintf(stderr, "prune_in_c: %s (%s)\n", pr_error_last()->message, pr_status_name(status));
  return 1;
}
