/* parallel.h - how kernels divide work among OpenMP's threads. */
#ifndef PR_BACKEND_CPU_PARALLEL_H
#define PR_BACKEND_CPU_PARALLEL_H

#include "base/thread.h"

#include <stdint.h>
#ifdef _OPENMP
#include <omp.h>
#endif

/* Threads of the running parallel region. */
static inline int prK_team(void) {
#ifdef _OPENMP
  return omp_get_num_threads();
#else
  return 1;
#endif
}

/* This thread's part of `tasks`, one run of neighbours: begin <= task < end. */
static inline void prK_share(int64_t tasks, int64_t *begin, int64_t *end) {
  const int64_t thread = prB_this_thread(), team = prK_team();
  *begin = tasks * thread / team;
  *end = tasks * (thread + 1) / team;
}

#endif
