/* parallel.h - how kernels divide work among OpenMP's threads. */
#ifndef PR_BACKEND_CPU_PARALLEL_H
#define PR_BACKEND_CPU_PARALLEL_H

#include <stdint.h>
#ifdef _OPENMP
#include <omp.h>
#endif

static inline int prK_thread(void) {
#ifdef _OPENMP
  return omp_get_thread_num();
#else
  return 0;
#endif
}

/* Threads of the running parallel region. */
static inline int prK_team(void) {
#ifdef _OPENMP
  return omp_get_num_threads();
#else
  return 1;
#endif
}

/* Threads that a parallel region would have. */
static inline int prK_most_threads(void) {
#ifdef _OPENMP
  return omp_get_max_threads();
#else
  return 1;
#endif
}

/* This thread's part of `tasks`, one run of neighbours: begin <= task < end. */
static inline void prK_share(int64_t tasks, int64_t *begin, int64_t *end) {
  const int64_t thread = prK_thread(), team = prK_team();
  *begin = tasks * thread / team;
  *end = tasks * (thread + 1) / team;
}

#endif
