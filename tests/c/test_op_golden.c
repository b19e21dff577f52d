/* The operators compute what PyTorch computes, forward and backward: all cases of golden/ops.h5, on the
 * reference kernels in f64 and on every backend in f32, with images in both memory orders. The error of a
 * tensor is its largest difference over its largest magnitude. */
#include "testing.h"

#include <hdf5.h>

#include "autograd/autograd.h"
#include "backend/backend.h"

extern pr_op pr_op_mul, pr_op_sum, pr_op_add, pr_op_softmax, pr_op_log_softmax;

enum { MOST = 8, ARGS_TEXT = 400 };

typedef struct golden_case {
  char name[64], op[64], args[ARGS_TEXT];
  hid_t group;
  int n_in;
  pr_tensor *in[MOST];
} golden_case;

typedef struct setting {
  const char *backend;
  pr_dtype dtype;
  bool channels_last;
  double tolerance;
} setting;

/* --- the file -------------------------------------------------------------------------------------------- */

static bool has(hid_t group, const char *name) { return H5Lexists(group, name, H5P_DEFAULT) > 0; }

/* A data set as a tensor: floats as `dtype`, integers as i64. */
static pr_tensor *read_tensor(hid_t group, const char *name, const setting *s) {
  hid_t set = H5Dopen2(group, name, H5P_DEFAULT), space = H5Dget_space(set), type = H5Dget_type(set);
  hsize_t sizes[PR_MAX_DIM];
  int64_t shape[PR_MAX_DIM];
  int dim = H5Sget_simple_extent_ndims(space);
  H5Sget_simple_extent_dims(space, sizes, NULL);
  for (int d = 0; d < dim; d++) shape[d] = (int64_t)sizes[d];
  bool whole = H5Tget_class(type) == H5T_INTEGER;
  pr_dtype dtype = whole ? PR_I64 : s->dtype;
  pr_tensor *t = dim == 4 && s->channels_last ? prT_new_channels_last(dtype, PR_CPU, dim, shape)
                                              : pr_tensor_new(dtype, PR_CPU, dim, shape);
  assert_non_null(t);
  int64_t n = pr_numel(t);
  double *values = malloc((size_t)(n ? n : 1) * sizeof *values);
  assert_true(H5Dread(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
  assert_ok(prT_from_doubles(t, values));
  free(values);
  H5Tclose(type), H5Sclose(space), H5Dclose(set);
  return t;
}

static void append(char *text, const char *piece) { strncat(text, piece, ARGS_TEXT - strlen(text) - 1); }

/* Values of an attribute as "1,2" or "0.5" or "tanh"; positions, 1-based there, become 0-based. */
static void attribute_text(hid_t attribute, bool position, char *text) {
  hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
  H5T_class_t class = H5Tget_class(type);
  if (class == H5T_STRING) {
    char *word = NULL, fixed[64] = "";
    bool variable = H5Tis_variable_str(type) > 0;
    assert_true(H5Aread(attribute, type, variable ? (void *)&word : (void *)fixed) >= 0);
    append(text, variable ? word : fixed);
    if (variable) H5free_memory(word);
  } else {
    double values[16];
    int n = (int)H5Sget_simple_extent_npoints(space);
    assert_in_range(n, 0, 16);
    assert_true(H5Aread(attribute, H5T_NATIVE_DOUBLE, values) >= 0);
    for (int i = 0; i < n; i++) {
      char number[40];
      snprintf(number, sizeof number, "%s%.17g", i ? "," : "", values[i] - (position ? 1 : 0));
      append(text, number);
    }
  }
  H5Sclose(space), H5Tclose(type);
}

static bool counts_from_one(const pr_op *op, const char *name) {
  for (int a = 0; a < prO_arg_count(op); a++)
    if (strcmp(op->args[a].name, name) == 0)
      return op->args[a].kind == PR_ARG_DIM || op->args[a].kind == PR_ARG_DIMS ||
             op->args[a].kind == PR_ARG_INDEX || op->args[a].kind == PR_ARG_INDICES;
  return false;
}

static herr_t add_attribute(hid_t group, const char *name, const H5A_info_t *info, void *ctx) {
  golden_case *g = ctx;
  (void)info;
  /* that running statistics exist shows in the inputs */
  if (!strcmp(name, "op") || !strcmp(name, "note") || !strcmp(name, "track_running_stats")) return 0;
  const pr_op *op = pr_op_find(g->op);
  hid_t attribute = H5Aopen(group, name, H5P_DEFAULT);
  append(g->args, name), append(g->args, "=");
  attribute_text(attribute, op && counts_from_one(op, name), g->args);
  append(g->args, " ");
  H5Aclose(attribute);
  return 0;
}

static void open_case(hid_t file, const char *name, const setting *s, golden_case *g) {
  *g = (golden_case){ .group = H5Gopen2(file, name, H5P_DEFAULT) };
  snprintf(g->name, sizeof g->name, "%s", name);
  hid_t attribute = H5Aopen(g->group, "op", H5P_DEFAULT);
  attribute_text(attribute, false, g->op);
  H5Aclose(attribute);
  H5Aiterate2(g->group, H5_INDEX_NAME, H5_ITER_INC, NULL, add_attribute, g);
  if (!strcmp(g->op, "kl_div")) append(g->args, "reduction=batchmean");
  for (char in[16]; g->n_in < MOST; g->n_in++) {
    snprintf(in, sizeof in, "in%d", g->n_in + 1);
    if (!has(g->group, in)) break;
    g->in[g->n_in] = read_tensor(g->group, in, s);
  }
}

static void close_case(golden_case *g) {
  for (int i = 0; i < g->n_in; i++) pr_release(g->in[i]);
  H5Gclose(g->group);
}

/* --- comparing ------------------------------------------------------------------------------------------- */

static double worst_error; /* of the running setting, for the report */

static bool close_to_golden(const golden_case *g, const char *name, const pr_tensor *t, const setting *s) {
  setting plain = { s->backend, PR_F64, false, 0 };
  pr_tensor *expected = read_tensor(g->group, name, &plain);
  bool good = t && pr_same_shape(t, expected);
  double largest = 0, off = 0;
  if (good) {
    prT_walk v, w;
    prT_walk_start(&v, t), prT_walk_start(&w, expected);
    for (; v.left > 0; prT_walk_next(&v), prT_walk_next(&w)) {
      double want = prT_get(expected, w.position), difference = fabs(prT_get(t, v.position) - want);
      if (!(difference <= off)) off = difference; /* also takes a NaN */
      largest = fmax(largest, fabs(want));
    }
  }
  double error = largest > 0 ? off / largest : off;
  char got[PR_SHAPE_TEXT], want[PR_SHAPE_TEXT];
  if (error > worst_error) worst_error = error;
  if (!good)
    print_error("%s %s: shape %s, expected %s\n", g->name, name, t ? pr_shape_text(t, got) : "(nothing)",
                pr_shape_text(expected, want));
  else if (!(error <= s->tolerance)) {
    print_error("%s %s on %s in %s: off by %g\n", g->name, name, s->backend, pr_dtype_name(s->dtype), error);
    good = false;
  }
  pr_release(expected);
  return good;
}

/* --- running --------------------------------------------------------------------------------------------- */

/* The case kl_div is of log_softmax and softmax of its inputs. */
static pr_status run(const golden_case *g, const pr_op *op, const pr_arg *args, pr_tensor **out, int *n_out) {
  if (strcmp(g->op, "kl_div")) return pr_apply(op, args, g->in, g->n_in, out, n_out);
  pr_tensor *in[2] = { prO_call(&pr_op_log_softmax, NULL, 1, g->in[0]),
                       prO_call(&pr_op_softmax, NULL, 1, g->in[1]) };
  pr_status status = in[0] && in[1] ? pr_apply(op, args, in, 2, out, n_out) : pr_error_last()->code;
  pr_release(in[0]), pr_release(in[1]);
  return status;
}

/* Sum over the outputs of gout * out, whose gradient is that of the upstream gradients. */
static pr_tensor *weighted(const golden_case *g, pr_tensor **out, int n_out, const setting *s) {
  pr_tensor *total = NULL;
  for (int k = 0; k < n_out; k++) {
    char name[16];
    snprintf(name, sizeof name, "gout%d", k + 1);
    if (!has(g->group, name)) continue;
    pr_tensor *weight = read_tensor(g->group, name, s),
              *product = prO_call(&pr_op_mul, NULL, 2, out[k], weight);
    pr_tensor *sum = product ? prO_call(&pr_op_sum, NULL, 1, product) : NULL;
    pr_tensor *both = total && sum ? prO_call(&pr_op_add, NULL, 2, total, sum) : pr_retain(sum);
    pr_release(weight), pr_release(product), pr_release(sum), pr_release(total);
    total = both;
  }
  return total;
}

static void want_gradients(golden_case *g, const pr_op *op) {
  for (int i = 0; i < g->n_in; i++)
    if (pr_dtype_is_float(g->in[i]->dtype) && !prO_writes_input(op, i))
      assert_ok(pr_require_grad(g->in[i], true));
}

/* Outputs, then what was written in place (running statistics are the further outputs of those cases), then
 * gradients. */
static bool check_results(golden_case *g, const pr_op *op, pr_tensor **out, int n_out, const setting *s) {
  bool good = true;
  char name[16];
  int written = 0;
  for (int k = 0; k < MOST; k++) {
    snprintf(name, sizeof name, "out%d", k + 1);
    if (!has(g->group, name)) break;
    pr_tensor *t = k < n_out ? out[k] : NULL;
    for (; !t && written < g->n_in; written++)
      if (prO_writes_input(op, written)) t = g->in[written];
    good = close_to_golden(g, name, t, s) && good;
  }
  pr_tensor *total = weighted(g, out, n_out, s);
  if (!total) return good;
  assert_ok(pr_backward(total, NULL));
  pr_release(total);
  for (int i = 0; i < g->n_in; i++) {
    snprintf(name, sizeof name, "gin%d", i + 1);
    if (has(g->group, name)) good = close_to_golden(g, name, g->in[i]->grad, s) && good;
  }
  return good;
}

static bool check_case(hid_t file, const char *name, const setting *s) {
  golden_case g;
  pr_arg args[PR_MAX_ARGS];
  pr_tensor *out[MOST] = { NULL };
  int n_out = MOST;
  open_case(file, name, s, &g);
  const pr_op *op = pr_op_find(g.op);
  bool good = op && pr_args_parse(op, g.args, args) == PR_OK;
  if (good) {
    want_gradients(&g, op);
    good = run(&g, op, args, out, &n_out) == PR_OK;
    if (good)
      good = check_results(&g, op, out, n_out, s);
    else
      print_error("%s: %s\n", name, pr_error_last()->message);
    for (int k = 0; k < MOST; k++) pr_release(out[k]);
    pr_args_free(args);
  } else {
    print_error("%s (%s): %s\n", name, g.args, pr_error_last()->message);
  }
  close_case(&g);
  return good;
}

typedef struct walk {
  const setting *setting;
  int cases, failures;
} walk;

static herr_t visit(hid_t file, const char *name, const H5L_info_t *info, void *ctx) {
  walk *w = ctx;
  (void)info;
  w->cases++;
  w->failures += !check_case(file, name, w->setting);
  return 0;
}

static void run_setting(const setting *s) {
  hid_t file = H5Fopen(testing_shared("golden/ops.h5"), H5F_ACC_RDONLY, H5P_DEFAULT);
  assert_true(file >= 0);
  walk w = { s, 0, 0 };
  worst_error = 0;
  assert_ok(pr_backend_use(s->backend));
  H5Literate(file, H5_INDEX_NAME, H5_ITER_INC, NULL, visit, &w);
  assert_ok(pr_backend_use(pr_backends()[0]));
  H5Fclose(file);
  pr_cache_empty();
  print_message("%s, %s%s: %d cases, largest error %.2g\n", s->backend, pr_dtype_name(s->dtype),
                s->channels_last ? ", channels last" : "", w.cases, worst_error);
  assert_int_equal(w.cases, 119);
  assert_int_equal(w.failures, 0);
}

static void the_reference_is_exact_in_f64(void **state) {
  (void)state;
  run_setting(&(setting){ "reference", PR_F64, false, 1e-6 });
}

static void every_backend_is_right_in_f32(void **state) {
  (void)state;
  for (const char *const *backend = pr_backends(); *backend; backend++) {
    run_setting(&(setting){ *backend, PR_F32, false, 1e-4 });
    run_setting(&(setting){ *backend, PR_F32, true, 1e-4 });
  }
}

int main(void) {
  testing_shared("golden/ops.h5");
  prA_start();
  const struct CMUnitTest tests[] = { cmocka_unit_test(the_reference_is_exact_in_f64),
                                      cmocka_unit_test(every_backend_is_right_in_f32) };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
