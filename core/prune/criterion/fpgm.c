/* fpgm.c - distance to the other filters (filter pruning via geometric median, He et al. 2019): s_u = sum
 * over v of |w_u - w_v|, the Euclidean distance of the units' rows. The filter that the others can stand in
 * for, near their geometric median, scores lowest. Distances come from the matrix of inner products in f64.
 */
#include "prune/criterion.h"

#include "op/op.h"

#include <math.h>

enum { NORMS, SHARED };

extern pr_op pr_op_matmul, pr_op_transpose;

static void sum_distances(const double *gram, int64_t n, double *out) {
#pragma omp parallel for schedule(static) if (n > 64)
  for (int64_t u = 0; u < n; u++) {
    out[u] = 0;
    for (int64_t v = 0; v < n; v++) {
      double square = gram[u * n + u] + gram[v * n + v] - 2 * gram[u * n + v];
      out[u] += u != v && square > 0 ? sqrt(square) : 0;
    }
  }
}

static pr_status distances(const pr_tensor *rows, double *out) {
  pr_tensor *columns = prO_call(&pr_op_transpose, NULL, 1, (pr_tensor *)rows);
  pr_tensor *gram = columns ? prO_call(&pr_op_matmul, NULL, 2, (pr_tensor *)rows, columns) : NULL;
  pr_tensor *flat = gram ? pr_contiguous(gram) : NULL;
  if (flat) sum_distances(prT_data(flat), rows->shape[0], out);
  pr_status status = flat ? PR_OK : pr_error_last()->code;
  pr_release(columns), pr_release(gram), pr_release(flat);
  return status;
}

static pr_status score(const pr_group *group, const pr_arg *args, const pr_statistics *statistics,
                       double *out) {
  (void)statistics;
  prP_scoring how = {
    .rows = distances, .weights = true, .scales = args[NORMS].integer != 0, .options = args + SHARED
  };
  bool recording = pr_grad_mode(false);
  pr_status status = prP_score(group, &how, out);
  pr_grad_mode(recording);
  return status;
}

PR_CRITERION(fpgm) = {
  .name = "fpgm",
  .args = { { "norms", PR_ARG_BOOL, .help = "count normalisation scales too" },
            PRP_OPTIONS(PRP_MEAN, PRP_BY_MEAN) },
  .score = score,
  .help = "Sum of distances to the other units' weights (geometric median, He et al. 2019): what others can "
          "stand in for goes first.",
};
