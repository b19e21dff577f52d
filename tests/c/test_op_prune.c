/* Every operator's coupling rule keeps the contract: the pruned model computes what the ablated model
 * computes. An operator's example becomes a small model: its float inputs are parameters, so that all their
 * axes may shrink; a parameter is added to each result; then every axis of the result is contracted with a
 * weight. Units are removed one at a time, and several together, twice in a row. */
#include "testing.h"

#include "autograd/autograd.h"
#include "autograd/parameter.h"
#include "base/random.h"
#include "op/example.h"
#include "op/unary.h"
#include "prune/removal.h"
#include "prune/verify.h"

extern pr_op pr_op_add, pr_op_cast, pr_op_linear, pr_op_movedim;

enum { MOST = 64 };

static pr_tensor *unread; /* the models' input, which they do not read */

/* --- the model ---------------------------------------------------------------------------------------- */

typedef struct builder {
  pr_trace *trace;
  pr_tensor *owned[MOST]; /* parameters */
  int n;
} builder;

/* A new parameter with random values; or `t` itself made one. */
static pr_tensor *parameter(builder *b, pr_tensor *t, int dim, const int64_t *shape) {
  char name[16];
  assert_in_range(b->n, 0, MOST - 1);
  if (t) {
    pr_retain(t);
  } else {
    assert_non_null(t = pr_tensor_new(PR_F64, PR_CPU, dim, shape));
    double *values = prT_data(t);
    for (int64_t i = 0; i < pr_numel(t); i++)
      values[i] = 2 * prB_uniform(5, (uint32_t)b->n, 0, (uint64_t)i) - 1;
    prT_touch(t);
  }
  snprintf(name, sizeof name, "p%d", b->n);
  assert_ok(pr_trace_parameter(b->trace, name, t));
  b->owned[b->n++] = t;
  return t;
}

static pr_tensor *replace(pr_tensor *old, pr_tensor *next) {
  if (!next) fail_msg("%s", pr_error_last()->message);
  pr_release(old);
  return next;
}

/* Add a parameter, then contract the axes with weights [2, size], the last one first. Takes over y. */
static pr_tensor *consume(builder *b, pr_tensor *y) {
  if (y->dtype != PR_F64)
    y = replace(y,
                prO_call(&pr_op_cast, (pr_arg[PR_MAX_ARGS]){ { .integer = PR_F64, .given = true } }, 1, y));
  y = replace(y, prO_call(&pr_op_add, NULL, 2, y, parameter(b, NULL, y->dim, y->shape)));
  for (int d = y->dim - 1; d >= 0; d--) {
    int64_t size = y->shape[d];
    if (size < 2) continue;
    pr_arg args[PR_MAX_ARGS] = { { .integer = d, .given = true }, { .integer = -1, .given = true } };
    y = replace(y, prO_call(&pr_op_movedim, args, 1, y));
    y = replace(y, prO_call(&pr_op_linear, NULL, 2, y, parameter(b, NULL, 2, (int64_t[]){ 2, size })));
  }
  return y;
}

static pr_graph *build(const pr_op *op, const pr_example *e) {
  builder b = { 0 };
  pr_tensor *out[MOST], *stand_in;
  int n_out = MOST;
  assert_non_null(b.trace = pr_trace_begin(1, &unread, 0, &stand_in));
  pr_release(stand_in);
  for (int i = 0; i < e->n_in; i++)
    if (e->in[i] && pr_dtype_is_float(e->in[i]->dtype)) parameter(&b, e->in[i], 0, NULL);
  pr_status status = pr_apply(op, e->args, e->in, e->n_in, out, &n_out);
  if (status) {
    pr_trace_cancel(b.trace);
    print_error("%s: %s\n", op->name, pr_error_last()->message);
    return NULL;
  }
  for (int k = 0; k < n_out; k++) out[k] = consume(&b, out[k]);
  pr_graph *graph = pr_trace_end(b.trace, n_out, out);
  for (int k = 0; k < n_out; k++) pr_release(out[k]);
  for (int i = 0; i < b.n; i++) pr_release(b.owned[i]);
  assert_non_null(graph);
  return graph;
}

/* --- the contract ------------------------------------------------------------------------------------- */

typedef struct outputs {
  int n;
  pr_tensor *t[MOST];
} outputs;

static pr_status run(const pr_graph *graph, outputs *y) {
  bool recording = pr_grad_mode(false);
  pr_status status = pr_graph_run(graph, &unread, false, y->t);
  pr_grad_mode(recording);
  y->n = status ? 0 : graph->n_outputs;
  return status;
}

static void outputs_free(outputs *y) {
  for (int k = 0; k < y->n; k++) pr_release(y->t[k]);
}

/* Zero the positions that the units touch, in the parameters of `graph`, a deep copy of the pruning's. */
static void ablate(const pr_graph *graph, pr_pruning *pruning, int32_t *unit, int32_t n) {
  pr_group group = { pruning, pruning->generation, n, unit };
  pr_part *parts;
  int count;
  assert_ok(pr_group_parts(&group, &parts, &count));
  for (int p = 0; p < count; p++) {
    pr_tensor *t = graph->values[parts[p].value].tensor;
    for (int64_t i = 0; i < parts[p].count; i++) {
      int64_t shape[PR_MAX_DIM];
      memcpy(shape, t->shape, sizeof shape);
      shape[parts[p].axis] = 1;
      pr_tensor *slice =
          prT_view(t, t->dim, shape, t->stride, t->offset + parts[p].position[i] * t->stride[parts[p].axis]);
      assert_non_null(slice);
      assert_ok(pr_fill(slice, 0));
      pr_release(slice);
    }
  }
  pr_parts_free(parts, count, n);
}

static double difference(const outputs *a, const outputs *b) {
  double off = 0, largest = 1;
  for (int k = 0; k < a->n; k++) {
    if (!pr_same_shape(a->t[k], b->t[k])) return INFINITY;
    int64_t n = pr_numel(a->t[k]);
    double *x = calloc((size_t)n + 1, sizeof *x), *y = calloc((size_t)n + 1, sizeof *y);
    assert_ok(prT_to_doubles(a->t[k], x));
    assert_ok(prT_to_doubles(b->t[k], y));
    for (int64_t i = 0; i < n; i++) {
      if (!(fabs(x[i] - y[i]) <= off)) off = fabs(x[i] - y[i]); /* also takes a NaN */
      largest = fmax(largest, fabs(x[i]));
    }
    free(x), free(y);
  }
  return off / largest;
}

/* These make statistics over the batch, which no model prunes (where there are no running ones). */
static bool takes_batch_statistics(const pr_op *op) {
  return strcmp(op->name, "batch_norm") == 0 || strcmp(op->name, "instance_norm") == 0;
}

/* Statistics over what is left are not those with zeros in place of what is gone; random numbers go by
 * position; 0 / 0 in a quotient of weights counts as 0. */
static bool zeros_stand_for_removal(const pr_op *op) {
  return !(op->flags & (PR_OP_LIVE_STATISTICS | PR_OP_RANDOM)) && !takes_batch_statistics(op) &&
         strcmp(op->name, "div") != 0;
}

/* Where zeros do not stand for removal the pruned model must run, unless too little is left for statistics.
 */
static bool same_results(const pr_op *op, const pr_graph *ablated, const pr_graph *pruned) {
  outputs want, got;
  assert_ok(run(ablated, &want));
  pr_status status = run(pruned, &got);
  bool exact = zeros_stand_for_removal(op), good = status == PR_OK || (!exact && status == PR_ERR_SHAPE);
  double off = good && exact ? difference(&want, &got) : 0;
  if (!good) print_error("%s: the pruned model does not run: %s\n", op->name, pr_error_last()->message);
  if (!(off <= 1e-10)) good = false, print_error("%s: pruned and ablated differ by %g\n", op->name, off);
  outputs_free(&want), outputs_free(&got);
  return good;
}

static bool would_empty_an_axis(pr_status status) {
  return status == PR_ERR_ARGUMENT && strstr(pr_error_last()->message, "nothing would be left") != NULL;
}

/* What prune.verify says, gradients included. */
static bool verifies(const pr_op *op, pr_pruning *pruning, int32_t *unit, int32_t n) {
  pr_verification result = { 0, 0 };
  if ((op->flags & PR_OP_RANDOM) || takes_batch_statistics(op)) return true;
  pr_status status = pr_verify(pruning, unit, n, &unread, PR_F64, true, &result);
  if (would_empty_an_axis(status)) return true;
  if (status) return print_error("%s: verify failed: %s\n", op->name, pr_error_last()->message), false;
  if ((op->flags & PR_OP_LIVE_STATISTICS) && isnan(result.output))
    return true; /* one value has no deviation */
  if (result.output <= 1e-10 && result.gradient <= 1e-9) return true;
  print_error("%s: verify finds outputs off by %g, gradients by %g\n", op->name, result.output,
              result.gradient);
  return false;
}

static int removals; /* that were made for the operator at hand */

/* Remove these units from the graph: true when it still computes what it should, false with a message
 * otherwise. Sets that would empty an axis are refused, and change nothing. */
static bool removal_is_exact(const pr_op *op, pr_pruning *pruning, int32_t *unit, int32_t n) {
  pr_graph *ablated = pr_graph_clone(pruning->graph, true);
  assert_non_null(ablated);
  ablate(ablated, pruning, unit, n);
  bool verified = verifies(op, pruning, unit, n);
  pr_status status = pr_remove(pruning, unit, n, NULL, NULL);
  bool good = status == PR_OK || would_empty_an_axis(status);
  if (!good) print_error("%s: removal failed: %s\n", op->name, pr_error_last()->message);
  if (status == PR_OK) removals++, good = same_results(op, ablated, pruning->graph);
  pr_graph_free(ablated);
  return good && verified;
}

/* A copy of the graph, pruned by the set, then by a set of what is left. */
static bool try_set(const pr_op *op, const pr_graph *graph, uint64_t seed, int32_t only) {
  pr_graph *copy = pr_graph_clone(graph, true);
  assert_non_null(copy);
  pr_pruning *pruning = pr_pruning_new(copy);
  assert_non_null(pruning);
  bool good = true;
  for (int round = 0; round < 2 && good; round++) {
    int32_t *unit = calloc((size_t)pruning->units.count + 1, sizeof *unit), n = 0;
    for (int32_t u = 0; u < pruning->units.count; u++)
      if (only >= 0 && round == 0 ? u == only : prB_below(seed, 9, (uint64_t)round, (uint64_t)u, 3) == 0)
        unit[n++] = u;
    if (n) good = removal_is_exact(op, pruning, unit, n);
    free(unit);
  }
  pr_pruning_free(pruning);
  pr_graph_free(copy);
  return good;
}

static int32_t count_units(pr_graph *graph) {
  pr_pruning *pruning = pr_pruning_new(graph);
  assert_non_null(pruning);
  int32_t n = pruning->units.count;
  pr_pruning_free(pruning);
  return n;
}

static bool example_keeps_the_contract(const pr_op *op, const char *text, int32_t *units) {
  pr_example e;
  bool good = true;
  assert_ok(pr_example_parse(op, text, PR_F64, 7, &e));
  pr_graph *graph = build(op, &e);
  pr_example_free(&e);
  if (!graph) return false;
  int32_t n = count_units(graph);
  *units += n;
  for (int32_t u = 0; u < n && u < 40 && good; u++) good = try_set(op, graph, 100 + (uint64_t)u, u);
  for (uint64_t seed = 0; seed < 6 && good; seed++) good = try_set(op, graph, seed, -1);
  pr_graph_free(graph);
  return good;
}

/* Then every axis must be pinned. */
static bool not_finite_at_zero(const pr_op *op) {
  const prO_unary *row = prO_unary_row(op);
  const pr_arg none[PR_MAX_ARGS] = { { 0 } };
  return row && !isfinite(row->value(0, none));
}

static void every_rule_keeps_the_contract(void **state) {
  (void)state;
  int failures = 0;
  for (int i = 0; i < pr_op_count; i++) {
    const pr_op *op = pr_op_list[i];
    char text[PRO_EXAMPLE_TEXT];
    int32_t units = 0;
    removals = 0;
    if (op->flags & PR_OP_READS_VALUES) continue;
    if (prO_inputs_declared(op) == 0 && !(op->flags & PR_OP_FILL))
      continue; /* runs while tracing: a constant */
    if (op->compose && prO_inputs_declared(op) == 0) continue;
    for (int k = 0; k < pr_example_count(op); k++) {
      if (example_keeps_the_contract(op, pr_example_text(op, k, text), &units)) continue;
      print_error("  in %s: %s\n", op->name, text);
      failures++;
    }
    if (!op->couple || not_finite_at_zero(op) || removals > 0) continue;
    print_error("%s has a rule, but nothing could be removed in its examples (%d units)\n", op->name, units);
    failures++;
  }
  pr_cache_empty();
  if (failures) fail_msg("%d failures", failures);
}

static int make_input(void **state) {
  (void)state;
  unread = pr_tensor_zeros(PR_F64, PR_CPU, 1, (int64_t[]){ 1 });
  return unread ? 0 : 1;
}

static int drop_input(void **state) {
  (void)state;
  pr_release(unread);
  return 0;
}

int main(void) {
  prA_start();
  const struct CMUnitTest tests[] = { memory_test(every_rule_keeps_the_contract) };
  return cmocka_run_group_tests(tests, make_input, drop_input);
}
