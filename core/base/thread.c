/* thread.c - the thread count (OpenBLAS and oneDNN follow OpenMP) and the interrupt flag. */
#include "base/thread.h"

#include <signal.h>
#include <time.h>
#ifdef _OPENMP
#include <omp.h>
#endif

static volatile sig_atomic_t interrupted;

#ifdef _OPENMP
pr_status pr_threads_set(int n) {
  if (n < 1 || n > 1024) return pr_fail(PR_ERR_ARGUMENT, "threads must be 1..1024, got %d", n);
  omp_set_num_threads(n);
  return PR_OK;
}
int pr_threads(void) { return omp_get_max_threads(); }
int prB_this_thread(void) { return omp_get_thread_num(); }
#else
pr_status pr_threads_set(int n) {
  if (n != 1) return pr_fail(PR_ERR_UNSUPPORTED, "this build has no OpenMP: one thread only, got %d", n);
  return PR_OK;
}
int pr_threads(void) { return 1; }
int prB_this_thread(void) { return 0; }
#endif

void pr_interrupt(void) { interrupted = 1; }
void pr_interrupt_clear(void) { interrupted = 0; }
bool pr_interrupt_pending(void) { return interrupted; }

pr_status prB_interrupted(void) {
  if (!interrupted) return PR_OK;
  interrupted = 0;
  return pr_fail(PR_ERR_INTERRUPTED, "interrupted");
}

double pr_clock(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
