/* blas.c - see blas.h. */
#include "backend/cpu/blas.h"

#include <cblas.h>

enum { OWN_THREADS = 1 }; /* what openblas_get_parallel says of the pthread flavour: 0 sequential, 2 OpenMP */

void prK_blas_start(void) {
  if (openblas_get_parallel() == OWN_THREADS) openblas_set_num_threads(1);
}
