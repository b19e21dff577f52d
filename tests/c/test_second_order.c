/* Second-order pruning against exact answers: least squares solved anew, costs by definition, patterns by
 * counting. */
#include "testing.h"

#include "base/random.h"
#include "prune.h"
#include "prune/cholesky.h"

enum { SAMPLES = 40, N = 7 };

/* --- small matrices -------------------------------------------------------------------------------------------------------- */

static double draw(uint64_t seed, uint64_t i) { return prB_normal(seed, 1, 0, i); }

/* Correlated inputs: each column follows the one before it. */
static pr_tensor *inputs(int64_t samples, int64_t n, uint64_t seed) {
  int64_t shape[2] = { samples, n };
  pr_tensor *x = pr_tensor_new(PR_F64, PR_CPU, 2, shape);
  assert_non_null(x);
  double *v = prT_data(x);
  for (int64_t i = 0; i < samples * n; i++) v[i] = draw(seed, (uint64_t)i) + (i % n ? 0.8 * v[i - 1] : 0);
  return x;
}

static pr_tensor *zeros(pr_dtype dtype, int64_t rows, int64_t columns) {
  int64_t shape[2] = { rows, columns };
  pr_tensor *t = pr_tensor_zeros(dtype, PR_CPU, rows ? 2 : 1, rows ? shape : shape + 1);
  assert_non_null(t);
  return t;
}

static pr_tensor *gram_of(const pr_tensor *x) {
  pr_tensor *h = zeros(PR_F64, x->shape[1], x->shape[1]);
  assert_ok(prP_gram_add(h, x));
  return h;
}

/* Elimination with pivots: x of a x = b, for a [n, n] that is kept. */
static void solve(const double *a, const double *b, int64_t n, double *x) {
  double m[64][65];
  for (int64_t i = 0; i < n; i++) {
    for (int64_t j = 0; j < n; j++) m[i][j] = a[i * n + j];
    m[i][n] = b[i];
  }
  for (int64_t k = 0; k < n; k++) {
    int64_t best = k;
    for (int64_t i = k + 1; i < n; i++)
      if (fabs(m[i][k]) > fabs(m[best][k])) best = i;
    for (int64_t j = 0; j <= n; j++) {
      double t = m[k][j];
      m[k][j] = m[best][j], m[best][j] = t;
    }
    for (int64_t i = k + 1; i < n; i++) {
      double factor = m[i][k] / m[k][k];
      for (int64_t j = k; j <= n; j++) m[i][j] -= factor * m[k][j];
    }
  }
  for (int64_t i = n - 1; i >= 0; i--) {
    x[i] = m[i][n];
    for (int64_t j = i + 1; j < n; j++) x[i] -= m[i][j] * x[j];
    x[i] /= m[i][i];
  }
}

/* The weights with zeros where `stays` is 0 whose outputs on the inputs of h are nearest to those of w: h_ss
 * v = h_s w. */
static double best_without(const double *h, const double *w, const bool *stays, int64_t n, double *v) {
  double a[N * N] = { 0 }, b[N] = { 0 }, x[N] = { 0 }, error = 0;
  int64_t at[N], m = 0;
  for (int64_t i = 0; i < n; i++)
    if (stays[i]) at[m++] = i;
  for (int64_t i = 0; i < m; i++) {
    b[i] = 0;
    for (int64_t j = 0; j < n; j++) b[i] += h[at[i] * n + j] * w[j];
    for (int64_t j = 0; j < m; j++) a[i * m + j] = h[at[i] * n + at[j]];
  }
  solve(a, b, m, x);
  for (int64_t i = 0; i < n; i++) v[i] = 0;
  for (int64_t i = 0; i < m; i++) v[at[i]] = x[i];
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < n; j++) error += (v[i] - w[i]) * h[i * n + j] * (v[j] - w[j]);
  return error;
}

/* --- linear algebra -------------------------------------------------------------------------------------------------------- */

static void gram_matrices_are_sums_of_products(void **state) {
  (void)state;
  int64_t shape[2] = { 5, 3 };
  pr_tensor *x = pr_tensor_new(PR_F32, PR_CPU, 2, shape), *h = zeros(PR_F64, 3, 3), *g = zeros(PR_F64, 5, 5);
  for (int64_t i = 0; i < 15; i++) prT_set(x, i, draw(3, (uint64_t)i));
  pr_tensor *turned = prT_view(x, 2, (int64_t[]){ 3, 5 }, (int64_t[]){ 1, 3 }, 0);
  for (int twice = 0; twice < 2; twice++) assert_ok(prP_gram_add(h, x));
  assert_ok(prP_gram_add(g, turned));
  for (int64_t i = 0; i < 3; i++)
    for (int64_t j = 0; j < 3; j++) {
      double sum = 0;
      for (int64_t s = 0; s < 5; s++) sum += prT_get(x, s * 3 + i) * prT_get(x, s * 3 + j);
      assert_close(prT_get(h, i * 3 + j), 2 * sum, 1e-12);
    }
  for (int64_t i = 0; i < 5; i++)
    for (int64_t j = 0; j < 5; j++) {
      double sum = 0;
      for (int64_t s = 0; s < 3; s++) sum += prT_get(x, i * 3 + s) * prT_get(x, j * 3 + s);
      assert_close(prT_get(g, i * 5 + j), sum, 1e-12);
    }
  assert_fails(prP_gram_add(h, turned), PR_ERR_SHAPE, "[3, 5]");
  pr_release(turned), pr_release(x), pr_release(h), pr_release(g);
}

static void factors_and_inverses_multiply_to_one(void **state) {
  (void)state;
  pr_tensor *x = inputs(SAMPLES, N, 1), *h = gram_of(x);
  double inverse[N * N], u[N * N], *a = prT_data(h);
  memcpy(inverse, a, sizeof inverse), memcpy(u, a, sizeof u);
  assert_ok(prP_inverse(inverse, N));
  assert_ok(prP_cholesky_of_inverse(u, N));
  for (int64_t i = 0; i < N; i++)
    for (int64_t j = 0; j < N; j++) {
      double one = 0, square = 0;
      for (int64_t k = 0; k < N; k++)
        one += a[i * N + k] * inverse[k * N + j], square += u[k * N + i] * u[k * N + j];
      assert_close(one, i == j, 1e-10);
      assert_close(square, inverse[i * N + j], 1e-10);
      if (j < i) assert_true(u[i * N + j] == 0);
    }
  double bad[4] = { 1, 2, 2, 1 }, nan[4] = { NAN, 0, 0, 1 };
  assert_fails(prP_inverse(bad, 2), PR_ERR_ARGUMENT, "not positive definite");
  assert_fails(prP_cholesky(nan, 2), PR_ERR_ARGUMENT, "not positive definite");
  pr_release(x), pr_release(h);
}

/* --- the optimal brain surgeon ----------------------------------------------------------------------------------------------- */

static void a_removed_weight_leaves_the_least_squares_optimum(void **state) {
  (void)state;
  pr_tensor *x = inputs(SAMPLES, N, 2), *h = gram_of(x), *w = zeros(PR_F64, 0, N),
            *scores = zeros(PR_F64, 0, N);
  pr_tensor *f = prT_view(h, 3, (int64_t[]){ 1, N, N }, (int64_t[]){ N * N, N, 1 }, 0);
  pr_tensor *before = pr_tensor_full(PR_F32, PR_CPU, 1, (int64_t[]){ N }, 1), *after = pr_clone(before);
  double start[N], expected[N], cost;
  for (int64_t sets = 1; sets < 1 << N; sets++) { /* every set of weights that goes together */
    bool stays[N];
    int64_t gone = 0, one = 0;
    for (int64_t i = 0; i < N; i++) {
      stays[i] = !(sets >> i & 1), gone += !stays[i], one = stays[i] ? one : i;
      prT_set(w, i, start[i] = draw(5, (uint64_t)i));
      prT_set(after, i, stays[i]);
    }
    double error = best_without(prT_data(h), start, stays, N, expected);
    assert_ok(pr_obs_scores(f, w, before, 0, scores));
    assert_ok(pr_obs_update(f, w, before, after, 0, &cost));
    assert_close(cost, error / 2, 1e-9);
    if (gone == 1) assert_close(prT_get(scores, one), error / 2, 1e-9);
    for (int64_t i = 0; i < N; i++) assert_close(prT_get(w, i), expected[i], 1e-9);
  }
  pr_release(f), pr_release(h), pr_release(x), pr_release(w), pr_release(scores), pr_release(before);
  pr_release(after);
}

/* Entries of different blocks do not see each other, and the last block may be short. */
static void blocks_are_independent(void **state) {
  (void)state;
  pr_tensor *g = zeros(PR_F64, 0, 5), *f = pr_tensor_zeros(PR_F64, PR_CPU, 3, (int64_t[]){ 2, 3, 3 });
  for (uint64_t s = 0; s < 10; s++) {
    for (int64_t i = 0; i < 5; i++) prT_set(g, i, draw(7, s * 5 + (uint64_t)i));
    assert_ok(pr_fisher_add(f, g));
  }
  pr_tensor *w = pr_tensor_full(PR_F64, PR_CPU, 1, (int64_t[]){ 5 }, 1),
            *before = pr_tensor_full(PR_F32, PR_CPU, 1, (int64_t[]){ 5 }, 1);
  pr_tensor *after = pr_clone(before);
  prT_set(after, 3, 0);
  assert_ok(pr_obs_update(f, w, before, after, 0.01, NULL));
  for (int64_t i = 0; i < 3; i++) assert_true(prT_get(w, i) == 1);
  assert_true(prT_get(w, 3) == 0 && prT_get(w, 4) != 1);
  double f34 = prT_get(f, 9 + 1), f33 = prT_get(f, 9), f44 = prT_get(f, 9 + 4);
  assert_close(prT_get(w, 4), 1 + f34 / (f44 + 0.01 * (f33 + f44) / 2), 1e-12);
  pr_tensor *few = zeros(PR_F64, 0, 3);
  assert_fails(pr_fisher_add(f, few), PR_ERR_SHAPE, "3 entries");
  assert_fails(pr_obs_update(f, w, before, after, NAN, NULL), PR_ERR_ARGUMENT, "damp");
  assert_fails(pr_obs_scores(f, w, w, 0, w), PR_ERR_SHAPE, "mask");
  pr_release(few), pr_release(g), pr_release(f), pr_release(w), pr_release(before), pr_release(after);
}

/* --- SparseGPT ---------------------------------------------------------------------------------------------------------------- */

static pr_tensor *weights(int64_t rows, int64_t columns) {
  pr_tensor *w = zeros(PR_F64, rows, columns);
  for (int64_t i = 0; i < rows * columns; i++) prT_set(w, i, draw(11, (uint64_t)i));
  return w;
}

static pr_tensor *ones(int64_t rows, int64_t columns) {
  return pr_tensor_full(PR_F32, PR_CPU, 2, (int64_t[]){ rows, columns }, 1);
}

/* When the leftmost columns go, what is to the right of them is all that stays: the result is the optimum. */
static void leading_columns_leave_the_least_squares_optimum(void **state) {
  (void)state;
  pr_tensor *x = inputs(SAMPLES, N, 3), *h = gram_of(x);
  for (int64_t k = 0; k < N; k++) {
    pr_tensor *w = weights(3, N), *start = pr_clone(w), *mask = ones(3, N);
    bool stays[N];
    double error, expected = 0, v[N];
    for (int64_t i = 0; i < N; i++) stays[i] = i >= k;
    for (int64_t r = 0; r < 3; r++)
      for (int64_t i = 0; i < k; i++) prT_set(mask, r * N + i, 0);
    assert_ok(pr_sparsegpt(w, mask, h, &(pr_sparsegpt_options){ .sparsity = 0 }, &error));
    for (int64_t r = 0; r < 3; r++) {
      expected += best_without(prT_data(h), (double *)prT_data(start) + r * N, stays, N, v);
      for (int64_t i = 0; i < N; i++) assert_close(prT_get(w, r * N + i), v[i], 1e-9);
    }
    assert_close(error, expected, 1e-9);
    pr_release(w), pr_release(start), pr_release(mask);
  }
  pr_release(x), pr_release(h);
}

/* Squared change of the outputs between two weights. */
static double change(const pr_tensor *h, const double *a, const double *b, int64_t rows, int64_t n) {
  double sum = 0;
  const double *m = prT_data(h);
  for (int64_t r = 0; r < rows; r++)
    for (int64_t i = 0; i < n; i++)
      for (int64_t j = 0; j < n; j++)
        sum += (a[r * n + i] - b[r * n + i]) * m[i * n + j] * (a[r * n + j] - b[r * n + j]);
  return sum;
}

/* Over several blocks of columns: the share is exact, the outputs change less than without making up, and the
 * reported error is the true one (without damping). */
static void the_share_is_exact_and_the_outputs_change_little(void **state) {
  (void)state;
  enum { ROWS = 5, COLUMNS = 300 };
  pr_tensor *x = inputs(600, COLUMNS, 4), *h = gram_of(x);
  for (int step = 0; step <= 4; step++) {
    pr_tensor *w = weights(ROWS, COLUMNS), *start = pr_clone(w), *mask = ones(ROWS, COLUMNS);
    double error, cut[ROWS * COLUMNS], *now = prT_data(w), *was = prT_data(start);
    int64_t zeros_now;
    assert_ok(pr_sparsegpt(w, mask, h, &(pr_sparsegpt_options){ .sparsity = step / 4.0 }, &error));
    assert_ok(pr_count_zeros(mask, &zeros_now));
    assert_int_equal(zeros_now, ROWS * COLUMNS * step / 4);
    for (int64_t i = 0; i < ROWS * COLUMNS; i++) {
      cut[i] = prT_get(mask, i) != 0 ? was[i] : 0;
      assert_true(prT_get(mask, i) != 0 || now[i] == 0);
    }
    double with = change(h, now, was, ROWS, COLUMNS), without = change(h, cut, was, ROWS, COLUMNS);
    assert_close(with, error, 1e-6 * (1 + error));
    if (step == 1 || step == 2) assert_true(with < 0.5 * without);
    pr_release(w), pr_release(start), pr_release(mask);
  }
  pr_release(x), pr_release(h);
  pr_cache_empty();
}

/* 2 of every 4 columns in each row, in groups that start anew every `run` columns and are not cut by blocks.
 */
static void patterns_hold(void **state) {
  (void)state;
  enum { ROWS = 4, COLUMNS = 42 };
  pr_tensor *x = inputs(100, COLUMNS, 5), *h = gram_of(x);
  for (int64_t run = 0; run <= 7; run += 7) {
    pr_tensor *w = weights(ROWS, COLUMNS), *mask = ones(ROWS, COLUMNS);
    pr_sparsegpt_options o = { .keep = 2, .of = 4, .run = run, .damp = 0.01, .block = 10 };
    assert_ok(pr_sparsegpt(w, mask, h, &o, NULL));
    for (int64_t r = 0; r < ROWS; r++)
      for (int64_t j = 0; j < COLUMNS;) {
        int64_t end = j + 4 < COLUMNS ? j + 4 : COLUMNS, stay = 0, size;
        if (run && (j / run + 1) * run < end) end = (j / run + 1) * run;
        size = end - j;
        for (; j < end; j++) stay += prT_get(mask, r * COLUMNS + j) != 0;
        assert_int_equal(stay, size < 2 ? size : 2);
      }
    pr_release(w), pr_release(mask);
  }
  pr_release(x), pr_release(h);
}

/* An input that is always 0 goes first, costs nothing and moves nothing. */
static void idle_inputs_go_first(void **state) {
  (void)state;
  pr_tensor *x = inputs(SAMPLES, N, 6), *w = weights(2, N), *start = pr_clone(w), *mask = ones(2, N);
  for (int64_t s = 0; s < SAMPLES; s++) prT_set(x, s * N + 2, 0);
  pr_tensor *h = gram_of(x);
  double error;
  assert_ok(pr_sparsegpt(w, mask, h, &(pr_sparsegpt_options){ .sparsity = 1.0 / N }, &error));
  assert_true(error == 0);
  for (int64_t i = 0; i < 2 * N; i++) assert_true(prT_get(w, i) == (i % N == 2 ? 0 : prT_get(start, i)));
  pr_release(x), pr_release(w), pr_release(start), pr_release(mask), pr_release(h);
}

static void what_fails_changes_nothing(void **state) {
  (void)state;
  pr_tensor *x = inputs(SAMPLES, N, 8), *h = gram_of(x), *flat = zeros(PR_F64, N, N), *w = weights(2, N);
  pr_tensor *mask = ones(2, N), *start = pr_clone(w);
  for (int64_t i = 0; i < N * N; i++) prT_set(flat, i, 1);
  pr_sparsegpt_options half = { .sparsity = 0.5 }, over = { .sparsity = 1.5 }, many = { .keep = 5, .of = 4 };
  pr_sparsegpt_options nan = { .sparsity = 0.5, .damp = NAN };
  assert_fails(pr_sparsegpt(w, mask, flat, &half, NULL), PR_ERR_ARGUMENT, "raise damp");
  assert_fails(pr_sparsegpt(w, mask, h, &over, NULL), PR_ERR_ARGUMENT, "0..1");
  assert_fails(pr_sparsegpt(w, mask, h, &many, NULL), PR_ERR_ARGUMENT, "5 of 4");
  assert_fails(pr_sparsegpt(w, mask, h, &nan, NULL), PR_ERR_ARGUMENT, "damp");
  assert_fails(pr_sparsegpt(w, mask, w, &half, NULL), PR_ERR_SHAPE, "square");
  assert_fails(pr_sparsegpt(w, w, h, &half, NULL), PR_ERR_SHAPE, "mask");
  for (size_t nth = 1;; nth++) {
    pr_memory_fail_after(nth, false);
    pr_status status = pr_sparsegpt(w, mask, h, &half, NULL);
    pr_memory_fail_after(0, false);
    if (status == PR_OK) break;
    assert_int_equal(status, PR_ERR_MEMORY);
    for (int64_t i = 0; i < 2 * N; i++)
      assert_true(prT_get(w, i) == prT_get(start, i) && prT_get(mask, i) == 1);
  }
  prT_set(w, 3, INFINITY);
  assert_fails(pr_sparsegpt(w, mask, h, &half, NULL), PR_ERR_ARGUMENT, "inf");
  pr_release(x), pr_release(h), pr_release(flat), pr_release(w), pr_release(mask), pr_release(start);
  pr_cache_empty();
}

int main(void) {
  if (pr_start()) return 1;
  const struct CMUnitTest tests[] = {
    memory_test(gram_matrices_are_sums_of_products),
    memory_test(factors_and_inverses_multiply_to_one),
    memory_test(a_removed_weight_leaves_the_least_squares_optimum),
    memory_test(blocks_are_independent),
    memory_test(leading_columns_leave_the_least_squares_optimum),
    memory_test(the_share_is_exact_and_the_outputs_change_little),
    memory_test(patterns_hold),
    memory_test(idle_inputs_go_first),
    memory_test(what_fails_changes_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
