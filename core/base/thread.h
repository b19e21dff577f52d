/* thread.h - threads of arithmetic and the interrupt flag.
 *
 * OpenMP is the one pool for arithmetic: kernels use `#pragma omp parallel for`. Loader threads are plain
 * threads and never enter it.
 */
#ifndef PR_BASE_THREAD_H
#define PR_BASE_THREAD_H

#include "base/error.h"

/* Threads that kernels, OpenBLAS and oneDNN use from now on. n < 1 is refused. */
pr_status pr_threads_set(int n);
int pr_threads(void);
/* Number of the calling thread within a parallel region, from 0; 0 outside. */
int prB_this_thread(void);

/* Raise the flag from a signal handler (async-signal-safe); pr_apply and every long loop of the core poll it
 * and return PR_ERR_INTERRUPTED at the next point where nothing is half done. prB_interrupted polls; it fails
 * and lowers the flag. */
void pr_interrupt(void);
void pr_interrupt_clear(void);
bool pr_interrupt_pending(void);
pr_status prB_interrupted(void);

/* Seconds of a monotonic clock. */
double pr_clock(void);

#endif
