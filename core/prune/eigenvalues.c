/* eigenvalues.c - Householder's reduction to a tridiagonal matrix, then QR steps with Wilkinson's shift
 * (Golub and Van Loan, Matrix Computations, 8.3). */
#include "prune/eigenvalues.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* One reflection: makes column k zero below the first off-diagonal entry, which is returned. v and q are
 * scratch. */
static double reflect(double *a, int64_t n, int64_t k, double *v, double *q) {
  double norm = 0, inner = 0, length = 0;
  for (int64_t i = k + 1; i < n; i++) v[i] = a[i * n + k], norm += v[i] * v[i];
  norm = sqrt(norm);
  if (norm == 0) return 0;
  double off = v[k + 1] > 0 ? -norm : norm;
  v[k + 1] -= off;
  for (int64_t i = k + 1; i < n; i++) length += v[i] * v[i];
  length = sqrt(length);
  for (int64_t i = k + 1; i < n; i++) v[i] /= length;
  for (int64_t i = k + 1; i < n; i++) {
    double s = 0;
    for (int64_t j = k + 1; j < n; j++) s += a[i * n + j] * v[j];
    q[i] = s, inner += s * v[i];
  }
  for (int64_t i = k + 1; i < n; i++) q[i] -= inner * v[i];
  for (int64_t i = k + 1; i < n; i++)
    for (int64_t j = k + 1; j < n; j++) a[i * n + j] -= 2 * (v[i] * q[j] + q[i] * v[j]);
  return off;
}

/* One QR step on rows low .. high of the tridiagonal matrix with diagonal d and off-diagonal e. */
static void step(double *d, double *e, int64_t low, int64_t high) {
  double half = (d[high - 1] - d[high]) / 2, last = e[high - 1];
  double shift = d[high] - last * last / (half + copysign(hypot(half, last), half));
  double x = d[low] - shift, z = e[low];
  for (int64_t k = low; k < high; k++) {
    double r = hypot(x, z), c = r > 0 ? x / r : 1, s = r > 0 ? z / r : 0;
    double a = d[k], b = e[k], g = d[k + 1];
    if (k > low) e[k - 1] = r;
    d[k] = c * c * a + 2 * c * s * b + s * s * g;
    d[k + 1] = s * s * a - 2 * c * s * b + c * c * g;
    e[k] = (c * c - s * s) * b + c * s * (g - a);
    if (k + 1 < high) x = e[k], z = s * e[k + 1], e[k + 1] *= c;
  }
}

void prP_eigenvalues(double *a, int64_t n, double *value, double *room) {
  double *e = room, *scratch = room + n, size = 0;
  for (int64_t k = 0; k + 1 < n; k++)
    e[k] = k + 2 < n ? reflect(a, n, k, value, scratch) : a[(k + 1) * n + k];
  for (int64_t k = 0; k < n; k++) value[k] = a[k * n + k];
  for (int64_t k = 0; k < n; k++) size = fmax(size, fabs(value[k]) + (k + 1 < n ? fabs(e[k]) : 0));
  int64_t steps = 0;
  for (int64_t high = n - 1; high > 0 && steps < 60 * n;) {
    int64_t low = high;
    while (low > 0 && fabs(e[low - 1]) > DBL_EPSILON * size) low--;
    if (low == high)
      high--;
    else
      step(value, e, low, high), steps++;
  }
}

int64_t prP_gram(const double *x, int64_t rows, int64_t columns, double *gram) {
  int64_t n = rows < columns ? rows : columns;
  memset(gram, 0, (size_t)(n * n) * sizeof *gram);
  if (rows < columns) {
    for (int64_t i = 0; i < n; i++)
      for (int64_t j = 0; j <= i; j++) {
        double s = 0;
        for (int64_t c = 0; c < columns; c++) s += x[i * columns + c] * x[j * columns + c];
        gram[i * n + j] = gram[j * n + i] = s;
      }
  } else {
    for (int64_t r = 0; r < rows; r++)
      for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) gram[i * n + j] += x[r * columns + i] * x[r * columns + j];
  }
  return n;
}
