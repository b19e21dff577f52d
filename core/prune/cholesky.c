/* cholesky.c - see cholesky.h. LAPACK's matrices are column by column: its lower triangle is our upper one.
 */
#include "prune/cholesky.h"

#include "base/memory.h"

#include <cblas.h>
#include <string.h>

/* OpenBLAS's headers declare no LAPACK functions. The last argument is the hidden length of Fortran's string.
 */
extern void dpotrf_(const char *half, const int *n, double *a, const int *stride, int *info, size_t length);
extern void dpotri_(const char *half, const int *n, double *a, const int *stride, int *info, size_t length);

/* --- Gram matrices -------------------------------------------------------------------------------------------------- */

enum { CHUNK = 1 << 21 }; /* numbers that are converted to f64 at a time */

static pr_status add_rows(double *gram, const pr_tensor *x, int64_t from, int64_t rows) {
  int64_t d = x->shape[1], shape[2] = { rows, d };
  pr_tensor *part = prT_view(x, 2, shape, x->stride, x->offset + from * x->stride[0]);
  pr_tensor *wide = part ? pr_to_dtype(part, PR_F64) : NULL, *flat = wide ? pr_contiguous(wide) : NULL;
  if (flat)
    cblas_dsyrk(CblasRowMajor, CblasUpper, CblasTrans, (int)d, (int)rows, 1, prT_data(flat), (int)d, 1, gram,
                (int)d);
  pr_release(part), pr_release(wide), pr_release(flat);
  return flat ? PR_OK : PR_ERR_MEMORY;
}

static void mirror(double *a, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = i + 1; j < n; j++) a[j * n + i] = a[i * n + j];
}

pr_status prP_gram_add(pr_tensor *gram, const pr_tensor *x) {
  char a[PR_SHAPE_TEXT], b[PR_SHAPE_TEXT];
  if (x->dim != 2 || gram->dim != 2 || gram->dtype != PR_F64 || !pr_is_contiguous(gram) ||
      gram->shape[0] != x->shape[1] || gram->shape[1] != x->shape[1] || x->shape[1] > INT32_MAX)
    return pr_fail(PR_ERR_SHAPE, "a Gram matrix of rows %s is f64 and square, got %s", pr_shape_text(x, b),
                   pr_shape_text(gram, a));
  if (!x->storage || x->device != PR_CPU || !pr_dtype_is_float(x->dtype))
    return pr_fail(PR_ERR_DTYPE, "a Gram matrix needs floating values on the CPU, got %s on %s",
                   pr_dtype_name(x->dtype), pr_device_name(x->device));
  int64_t d = x->shape[1], n = x->shape[0], step = d ? (CHUNK + d - 1) / d : 1;
  double *sum = prT_data(gram);
  for (int64_t from = 0; from < n && d > 0; from += step)
    PR_TRY(add_rows(sum, x, from, n - from < step ? n - from : step));
  mirror(sum, d);
  prT_touch(gram);
  return PR_OK;
}

/* --- factors ---------------------------------------------------------------------------------------------------------- */

static pr_status indefinite(int64_t n) {
  return pr_fail(
      PR_ERR_ARGUMENT,
      "a matrix of second derivatives (%lld x %lld) is not positive definite: raise damp, or give more data",
      (long long)n, (long long)n);
}

static pr_status factor(double *a, int64_t n) {
  int info = 0, size = (int)n;
  if (n > INT32_MAX) return pr_fail(PR_ERR_ARGUMENT, "a matrix of %lld rows is too large", (long long)n);
  for (int64_t i = 0; i < n; i++) /* LAPACK passes NaN on without a word */
    if (a[i * n + i] != a[i * n + i]) return indefinite(n);
  if (n > 0) dpotrf_("L", &size, a, &size, &info, 1);
  for (int64_t i = 0; i < n && !info; i++) info = !(a[i * n + i] > 0);
  return info ? indefinite(n) : PR_OK;
}

pr_status prP_cholesky(double *a, int64_t n) {
  PR_TRY(factor(a, n));
  for (int64_t i = 1; i < n; i++) memset(a + i * n, 0, (size_t)i * sizeof *a);
  return PR_OK;
}

pr_status prP_inverse(double *a, int64_t n) {
  int info = 0, size = (int)n;
  PR_TRY(factor(a, n));
  if (n > 0) dpotri_("L", &size, a, &size, &info, 1);
  if (info) return indefinite(n);
  mirror(a, n);
  return PR_OK;
}

pr_status prP_cholesky_of_inverse(double *a, int64_t n) {
  PR_TRY(prP_inverse(a, n));
  return prP_cholesky(a, n);
}

pr_status prP_solve(double *a, int64_t n, double *b) {
  PR_TRY(factor(a, n));
  if (n == 0) return PR_OK;
  cblas_dtrsv(CblasRowMajor, CblasUpper, CblasTrans, CblasNonUnit, (int)n, a, (int)n, b, 1);
  cblas_dtrsv(CblasRowMajor, CblasUpper, CblasNoTrans, CblasNonUnit, (int)n, a, (int)n, b, 1);
  return PR_OK;
}

pr_status prP_solve_columns(double *a, int64_t n, double *b, int64_t columns) {
  PR_TRY(factor(a, n));
  if (n == 0 || columns == 0) return PR_OK;
  if (columns > INT32_MAX) return pr_fail(PR_ERR_ARGUMENT, "%lld columns are too many", (long long)columns);
  for (int half = 0; half < 2; half++) /* u^T first, then u */
    cblas_dtrsm(CblasRowMajor, CblasLeft, CblasUpper, half ? CblasNoTrans : CblasTrans, CblasNonUnit, (int)n,
                (int)columns, 1, a, (int)n, b, (int)columns);
  return PR_OK;
}

void prP_damp(double *a, int64_t n, double share) {
  double mean = 0;
  for (int64_t i = 0; i < n; i++) mean += a[i * n + i] / (double)n;
  for (int64_t i = 0; i < n; i++)
    if (a[i * n + i] == 0)
      a[i * n + i] = mean > 0 ? mean : 1;
    else
      a[i * n + i] += share * mean;
}
