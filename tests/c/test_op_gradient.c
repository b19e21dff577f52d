/* Every operator keeps the promises that its descriptor makes: its examples run on every backend with the
 * same results, its gradients are those of central differences, calls that make no sense fail with a reason,
 * and no call leaks or crashes where memory runs out. A descriptor without examples or help fails. */
#include "testing.h"

#include "autograd/autograd.h"
#include "autograd/parameter.h"
#include "backend/backend.h"
#include "base/random.h"
#include "op/example.h"

enum { MOST_OUTPUTS = 32 };

/* A list of results. */
typedef struct results {
  int n;
  pr_tensor *t[MOST_OUTPUTS];
} results;

static void results_free(results *r) {
  for (int k = 0; k < r->n; k++) pr_release(r->t[k]);
  r->n = 0;
}

static pr_status apply(const pr_op *op, const pr_example *e, results *r) {
  r->n = MOST_OUTPUTS;
  pr_random_restore(1, 0);
  pr_status status = pr_apply(op, e->args, e->in, e->n_in, r->t, &r->n);
  if (status) r->n = 0;
  return status;
}

/* Run `check` on all examples of all operators; failures name the operator and the example. */
typedef bool example_check(const pr_op *op, const char *text);

static void for_examples(example_check *check) {
  int failures = 0;
  for (int i = 0; i < pr_op_count; i++) {
    char text[PRO_EXAMPLE_TEXT];
    for (int k = 0; k < pr_example_count(pr_op_list[i]); k++) {
      if (check(pr_op_list[i], pr_example_text(pr_op_list[i], k, text))) continue;
      print_error("  in %s: %s\n", pr_op_list[i]->name, text);
      failures++;
    }
  }
  pr_cache_empty();
  if (failures) fail_msg("%d examples failed", failures);
}

static bool complain(const char *what) {
  print_error("%s: %s\n", what, pr_error_last()->message);
  return false;
}

/* --- descriptors -------------------------------------------------------------------------------------- */

static void descriptors_are_complete(void **state) {
  (void)state;
  for (int i = 0; i < pr_op_count; i++) {
    const pr_op *op = pr_op_list[i];
    if (pr_example_count(op) == 0) fail_msg("operator %s has no examples", op->name);
    if (!op->help || !*op->help) fail_msg("operator %s has no help", op->name);
    if (!op->infer == !op->compose)
      fail_msg("operator %s needs a shape rule or a composition, not both", op->name);
    bool differentiable = !(op->flags & PR_OP_NO_GRADIENT) && prO_inputs_declared(op) > 0;
    if (!op->compose && differentiable && !op->backward && !prK_has(op, PR_backward))
      fail_msg("operator %s has no backward rule", op->name);
    assert_ptr_equal(pr_op_find(op->name), op);
    assert_int_equal(prO_number(op), i);
  }
}

/* --- gradients ---------------------------------------------------------------------------------------- */

static bool has_float_output(const results *r) {
  for (int k = 0; k < r->n; k++)
    if (pr_dtype_is_float(r->t[k]->dtype)) return true;
  return false;
}

static bool gradient_is_right(const pr_op *op, const char *text) {
  pr_example e;
  results r;
  double worst = 0;
  if (op->flags & PR_OP_NO_GRADIENT) return true;
  if (pr_example_parse(op, text, PR_F64, 7, &e)) return complain("the example cannot be read");
  pr_status status = apply(op, &e, &r);
  bool float_inputs = false, differentiable = !status && has_float_output(&r);
  for (int i = 0; i < e.n_in; i++)
    float_inputs = float_inputs || (e.in[i] && pr_dtype_is_float(e.in[i]->dtype));
  results_free(&r);
  if (differentiable && float_inputs) status = pr_gradient_check(op, e.args, e.in, e.n_in, 1e-5, &worst);
  pr_example_free(&e);
  if (status) return complain("the call failed");
  if (worst <= 1e-6) return true;
  print_error("%s: its gradient is off by %g of the largest\n", op->name, worst);
  return false;
}

static void gradients_agree_with_differences(void **state) {
  (void)state;
  pr_backend_use("reference");
  for_examples(gradient_is_right);
  pr_backend_use("cpu");
}

/* --- layouts ------------------------------------------------------------------------------------------ */

/* The same values with the axes the other way round in memory. */
static pr_tensor *reversed_layout(const pr_tensor *t) {
  int64_t shape[PR_MAX_DIM], stride[PR_MAX_DIM];
  for (int d = 0; d < t->dim; d++) shape[d] = t->shape[t->dim - 1 - d];
  pr_tensor *base = pr_tensor_new(t->dtype, PR_CPU, t->dim, shape), *view = NULL;
  for (int d = 0; base && d < t->dim; d++) stride[d] = base->stride[t->dim - 1 - d];
  if (base) view = prT_view(base, t->dim, t->shape, stride, 0);
  pr_release(base);
  if (view && pr_copy(view, t)) pr_release(view), view = NULL;
  return view;
}

static bool same_values(const pr_tensor *a, const pr_tensor *b, double tolerance) {
  if (!pr_same_shape(a, b) || a->dtype != b->dtype) return false;
  prT_walk v, w;
  prT_walk_start(&v, a), prT_walk_start(&w, b);
  double off = 0, largest = 1e-6;
  for (; v.left > 0; prT_walk_next(&v), prT_walk_next(&w)) {
    double x = prT_get(a, v.position), y = prT_get(b, w.position);
    if (x == y || (isnan(x) && isnan(y))) continue;
    if (!(fabs(x - y) <= off)) off = fabs(x - y);
    largest = fmax(largest, fabs(x));
  }
  return off <= tolerance * largest;
}

static bool same_results(const results *a, const results *b, double tolerance) {
  if (a->n != b->n) return false;
  for (int k = 0; k < a->n; k++)
    if (!same_values(a->t[k], b->t[k], tolerance)) return false;
  return true;
}

/* f32, on all backends and in both layouts: what the reference computes. */
static bool backends_and_layouts_agree(const pr_op *op, const char *text) {
  pr_example e, turned;
  results expected, plain, other;
  bool good = true;
  if (pr_example_parse(op, text, PR_F32, 7, &e) || pr_example_parse(op, text, PR_F32, 7, &turned))
    return complain("the example cannot be read");
  for (int i = 0; i < e.n_in; i++) {
    if (!e.in[i]) continue;
    pr_release(turned.in[i]);
    assert_non_null(turned.in[i] = reversed_layout(e.in[i]));
  }
  pr_example fresh; /* operators that write their inputs must not see each other's writes */
  assert_ok(pr_example_parse(op, text, PR_F32, 7, &fresh));
  pr_backend_use("reference");
  if (apply(op, &fresh, &expected)) good = complain("the reference failed");
  pr_backend_use("cpu");
  if (apply(op, &e, &plain)) good = complain("the backends failed");
  if (apply(op, &turned, &other)) good = complain("another layout failed");
  if (good && !same_results(&expected, &plain, 2e-6)) good = complain("backends differ");
  if (good && !same_results(&expected, &other, 2e-6)) good = complain("layouts differ");
  results_free(&expected), results_free(&plain), results_free(&other);
  pr_example_free(&e), pr_example_free(&turned), pr_example_free(&fresh);
  return good;
}

static void backends_and_layouts_give_the_same(void **state) {
  (void)state;
  for_examples(backends_and_layouts_agree);
}

/* --- shapes without values ---------------------------------------------------------------------------- */

/* Tensors without values give results without values, of the same shape and dtype. */
static bool shapes_are_enough(const pr_op *op, const char *text) {
  pr_example e;
  results real, meta;
  if (prO_inputs_declared(op) == 0) return true;
  if (pr_example_parse(op, text, PR_F32, 7, &e)) return complain("the example cannot be read");
  bool good = apply(op, &e, &real) == PR_OK;
  for (int i = 0; i < e.n_in; i++) {
    if (!e.in[i]) continue;
    pr_tensor *shape = pr_tensor_new(e.in[i]->dtype, PR_META, e.in[i]->dim, e.in[i]->shape);
    pr_release(e.in[i]);
    assert_non_null(e.in[i] = shape);
  }
  pr_status status = apply(op, &e, &meta);
  if (op->flags & PR_OP_READS_VALUES)
    good = good && status == PR_ERR_STATE;
  else
    good = good && status == PR_OK && real.n == meta.n;
  for (int k = 0; good && k < meta.n; k++)
    good = meta.t[k]->device == PR_META && pr_same_shape(real.t[k], meta.t[k]) &&
           real.t[k]->dtype == meta.t[k]->dtype;
  results_free(&real), results_free(&meta);
  pr_example_free(&e);
  return good ? true : complain("shapes alone give something else");
}

static void shapes_can_be_traced(void **state) {
  (void)state;
  for_examples(shapes_are_enough);
}

/* --- calls that make no sense ------------------------------------------------------------------------- */

/* Succeed or fail with a message: nothing else. */
static bool survives(const pr_op *op, pr_example *e, const char *what) {
  results r;
  pr_status status = apply(op, e, &r);
  results_free(&r);
  if (status == PR_OK || (status != PR_DECLINED && *pr_error_last()->message)) return true;
  print_error("%s: no reason for the failure of %s\n", op->name, what);
  return false;
}

/* Each input in turn: absent, without axes, with too many, with another size, empty, of another dtype. */
static bool bad_inputs_are_refused(const pr_op *op, const char *text) {
  static const int64_t ones[PR_MAX_DIM] = { 1, 1, 1, 1, 1, 1, 1, 1 };
  bool good = true;
  for (int i = 0; i < PRO_EXAMPLE_INPUTS; i++) {
    for (int form = 0; form < 7; form++) {
      pr_example e;
      if (pr_example_parse(op, text, PR_F32, 7, &e)) return complain("the example cannot be read");
      pr_tensor *old = i < e.n_in ? e.in[i] : NULL, *bad = NULL;
      if (!old) {
        pr_example_free(&e);
        continue;
      }
      int64_t shape[PR_MAX_DIM];
      memcpy(shape, old->shape, sizeof shape);
      if (form == 3 && old->dim) shape[old->dim - 1] += 1;
      if (form == 4 && old->dim) shape[0] += 1;
      if (form == 5 && old->dim) shape[old->dim / 2] = 0;
      if (form == 1)
        bad = pr_tensor_zeros(old->dtype, PR_CPU, 0, NULL);
      else if (form == 2)
        bad = pr_tensor_zeros(old->dtype, PR_CPU, PR_MAX_DIM, ones);
      else if (form > 2)
        bad = pr_tensor_zeros(form == 6 ? PR_BOOL : old->dtype, PR_CPU, old->dim, shape);
      e.in[i] = bad;
      good = survives(op, &e, "a changed input") && good;
      if (form == 0 && !prO_input_optional(op, i)) {
        results r;
        if (apply(op, &e, &r) == PR_OK)
          good = false, print_error("%s: input %d may be absent\n", op->name, i);
        results_free(&r);
      }
      pr_release(old);
      pr_example_free(&e);
    }
  }
  return good;
}

/* Each argument in turn: extreme numbers, lists that are empty or too long, nothing where something is
 * required. */
static bool bad_arguments_are_refused(const pr_op *op, const char *text) {
  static const int64_t numbers[] = { -1, 0, 99, -99, INT64_MAX, INT64_MIN };
  bool good = true;
  for (int a = 0; a < prO_arg_count(op); a++) {
    const pr_arg_spec *spec = &op->args[a];
    for (size_t form = 0; form < sizeof numbers / sizeof *numbers; form++) {
      int64_t list[12];
      pr_example e;
      if (spec->kind == PR_ARG_CHOICE || spec->kind == PR_ARG_MODE || spec->kind == PR_ARG_BOOL) continue;
      if (prO_inputs_declared(op) == 0 && form >= 2) continue; /* sizes of results: large ones are legal */
      if (pr_example_parse(op, text, PR_F32, 7, &e)) return complain("the example cannot be read");
      pr_arg kept = e.args[a];
      for (int k = 0; k < 12; k++)
        list[k] = form == 2 ? 9 : numbers[form]; /* 99 copies along five axes would be legal, and large */
      e.args[a] = (pr_arg){ .integer = numbers[form],
                            .real = form == 2 ? NAN : (double)numbers[form],
                            .given = true };
      if (prO_arg_is_list(spec->kind)) e.args[a].list = list, e.args[a].count = (int)form * 2 + 1;
      if (form == 0 && prO_arg_is_list(spec->kind)) e.args[a].count = 0;
      good = survives(op, &e, spec->name) && good;
      e.args[a] = kept;
      pr_example_free(&e);
    }
  }
  return good;
}

static void senseless_calls_fail_with_a_reason(void **state) {
  (void)state;
  for_examples(bad_inputs_are_refused);
  for_examples(bad_arguments_are_refused);
}

/* --- memory ------------------------------------------------------------------------------------------- */

/* Forward and backward with the nth allocation failing, for every n until one call gets through. */
static pr_status differentiate(const pr_op *op, const pr_example *e) {
  results r;
  PR_TRY(apply(op, e, &r));
  pr_status status = PR_OK;
  if (r.n && r.t[0]->creator) {
    pr_tensor *g = pr_tensor_full(r.t[0]->dtype, PR_CPU, r.t[0]->dim, r.t[0]->shape, 1);
    status = g ? pr_backward(r.t[0], g) : PR_ERR_MEMORY;
    pr_release(g);
  }
  results_free(&r);
  return status;
}

static bool memory_may_run_out(const pr_op *op, const char *text) {
  pr_status status = PR_ERR_MEMORY;
  bool good = true;
  for (size_t n = 1; status == PR_ERR_MEMORY && n < 2000; n += n < 12 ? 1 : n / 8) {
    pr_example e;
    pr_memory_stats before, after;
    pr_cache_empty();
    if (pr_example_parse(op, text, PR_F32, 7, &e)) return complain("the example cannot be read");
    for (int i = 0; i < e.n_in; i++)
      if (e.in[i] && pr_dtype_is_float(e.in[i]->dtype) && !prO_writes_input(op, i))
        assert_ok(pr_require_grad(e.in[i], true));
    pr_memory_get(&before);
    pr_memory_fail_after(n, false);
    status = differentiate(op, &e);
    pr_memory_fail_after(0, false);
    for (int i = 0; i < e.n_in; i++)
      if (e.in[i]) pr_zero_grad(e.in[i]);
    pr_cache_empty();
    pr_memory_get(&after);
    if (after.live != before.live) {
      print_error("%s: %zd bytes stay when allocation %zu fails\n", op->name,
                  (ssize_t)(after.live - before.live), n);
      good = false;
    }
    pr_example_free(&e);
  }
  if (status == PR_OK) return good;
  return complain("the call fails although memory is there");
}

static void lack_of_memory_is_survived(void **state) {
  (void)state;
  for_examples(memory_may_run_out);
}

int main(void) {
  prA_start();
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(descriptors_are_complete),           cmocka_unit_test(gradients_agree_with_differences),
    cmocka_unit_test(backends_and_layouts_give_the_same), cmocka_unit_test(shapes_can_be_traced),
    memory_test(senseless_calls_fail_with_a_reason),      memory_test(lack_of_memory_is_survived),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
