/* Graphs: traced, run, written, read back; damaged text and failing allocations do no harm. */
#include "testing.h"

#include "graph_net.h"

typedef struct text {
  char *bytes;
  size_t length, room;
} text;

static void put(void *ctx, const char *piece) {
  text *t = ctx;
  size_t n = strlen(piece);
  if (t->length + n + 1 > t->room) t->bytes = realloc(t->bytes, t->room = 2 * (t->length + n + 1));
  memcpy(t->bytes + t->length, piece, n + 1);
  t->length += n;
}

static pr_tensor *find(void *ctx, const char *name) {
  const net *n = ctx;
  for (int i = 0; i < NET_TENSORS; i++)
    if (strcmp(net_names[i], name) == 0) return pr_retain(n->t[i]);
  pr_fail(PR_ERR_FORMAT, "no tensor '%s'", name);
  return NULL;
}

static void same_results(const net *n, const pr_graph *graph, int64_t batch) {
  pr_tensor *x = net_input(PR_F64, batch), *want = net_forward(n, x), *got = NULL;
  assert_non_null(want);
  assert_ok(pr_graph_run(graph, &x, false, &got));
  assert_true(pr_same_shape(want, got));
  for (int64_t i = 0; i < pr_numel(want); i++) assert_true(prT_get(want, i) == prT_get(got, i));
  pr_release(x), pr_release(want), pr_release(got);
}

static void a_graph_runs_as_the_model_does_at_any_batch_size(void **state) {
  (void)state;
  net n;
  assert_ok(net_make(&n, PR_F64));
  pr_graph *graph = net_trace(&n);
  assert_non_null(graph);
  for (int64_t batch = 1; batch <= 5; batch += 2) same_results(&n, graph, batch);
  pr_graph *copy = pr_graph_clone(graph, false);
  same_results(&n, copy, 4);
  pr_graph_free(copy), pr_graph_free(graph);
  net_free(&n);
}

static void a_graph_written_and_read_is_the_same(void **state) {
  (void)state;
  net n;
  text t = { 0 }, again = { 0 };
  assert_ok(net_make(&n, PR_F64));
  pr_graph *graph = net_trace(&n);
  assert_ok(pr_graph_write(graph, put, &t));
  pr_graph *back = pr_graph_read(t.bytes, t.length, find, &n);
  assert_non_null(back);
  same_results(&n, back, 3);
  assert_ok(pr_graph_write(back, put, &again));
  assert_string_equal(t.bytes, again.bytes);
  pr_graph_free(back), pr_graph_free(graph);
  free(t.bytes), free(again.bytes);
  net_free(&n);
}

static void damaged_text_is_refused_or_read_and_never_more(void **state) {
  (void)state;
  net n;
  text t = { 0 };
  assert_ok(net_make(&n, PR_F64));
  pr_graph *graph = net_trace(&n);
  assert_ok(pr_graph_write(graph, put, &t));
  for (size_t cut = 0; cut < t.length; cut += 3) pr_graph_free(pr_graph_read(t.bytes, cut, find, &n));
  char *damaged = malloc(t.length + 1);
  for (uint64_t i = 0; i < 3000; i++) {
    memcpy(damaged, t.bytes, t.length + 1);
    for (uint64_t k = 0; k < 1 + i % 3; k++)
      damaged[prB_below(3, 9, i, k, t.length)] =
          (char)("0123456789,-= *%\nabc\377"[prB_below(4, 9, i, k, 21)]);
    pr_graph *read = pr_graph_read(damaged, t.length, find, &n);
    pr_tensor *x = net_input(PR_F64, 2), *y = NULL;
    if (read && read->n_outputs == 1 && read->n_inputs == 1 && !pr_graph_run(read, &x, false, &y))
      pr_release(y);
    pr_release(x);
    pr_graph_free(read);
  }
  free(damaged), free(t.bytes);
  pr_graph_free(graph);
  net_free(&n);
  pr_cache_empty();
}

static void costs_are_those_of_the_formulas(void **state) {
  (void)state;
  net n;
  pr_cost cost;
  int64_t parameters, buffers;
  assert_ok(net_make(&n, PR_F64));
  pr_graph *graph = net_trace(&n);
  assert_ok(pr_graph_cost(graph, &cost));
  assert_int_equal(cost.macs, 25 * 6 * 18 + 25 * 6 * (54 + 1) + 25 * 4 * 6 + 3 * 36 + 3);
  assert_int_equal(cost.macs_ptflops, cost.macs + 2 * 150 + 2 * 150 + 2 * 100);
  pr_graph_sizes(graph, &parameters, &buffers);
  assert_int_equal(parameters, 108 + 12 + 324 + 6 + 24 + 108 + 3);
  assert_int_equal(buffers, 12);
  pr_graph_free(graph);
  net_free(&n);
}

/* Every allocation of f fails once in turn, until f succeeds; `live` bytes must be as before each time. */
static void fail_each(pr_status (*f)(void *), void *ctx) {
  for (size_t nth = 1;; nth++) {
    pr_memory_stats before, after;
    pr_cache_empty();
    pr_memory_get(&before);
    pr_memory_fail_after(nth, true);
    pr_status status = f(ctx);
    pr_memory_fail_after(0, false);
    pr_cache_empty();
    pr_memory_get(&after);
    assert_int_equal(after.live, before.live);
    if (status == PR_OK) return;
    assert_int_equal(status, PR_ERR_MEMORY);
    assert_true(nth < 100000);
  }
}

static pr_status trace_and_drop(void *ctx) {
  pr_graph *graph = net_trace(ctx);
  if (!graph) return pr_error_last()->code;
  pr_graph *copy = pr_graph_clone(graph, true);
  pr_graph_free(graph);
  if (!copy) return pr_error_last()->code;
  pr_status status = pr_graph_reshape(copy);
  pr_graph_free(copy);
  return status;
}

static void tracing_frees_all_when_memory_runs_out(void **state) {
  (void)state;
  net n;
  assert_ok(net_make(&n, PR_F32));
  fail_each(trace_and_drop, &n);
  net_free(&n);
}

int main(void) {
  pr_start();
  const struct CMUnitTest tests[] = {
    memory_test(a_graph_runs_as_the_model_does_at_any_batch_size),
    memory_test(a_graph_written_and_read_is_the_same),
    memory_test(damaged_text_is_refused_or_read_and_never_more),
    memory_test(costs_are_those_of_the_formulas),
    memory_test(tracing_frees_all_when_memory_runs_out),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
