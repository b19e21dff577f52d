/* backend.h - tables of kernels by operator and direction, one per backend.
 *
 * A kernel is a function of a pr_call with memory for its results. It may decline (PR_DECLINED: dtype, layout
 * or size that it does not do); then the next backend of the device is asked. The reference backend does
 * every operator in every layout, so a call never goes unserved. A line that begins with PR_KERNEL(backend,
 * operator, forward|backward) in a file of core/backend/BACKEND defines a kernel; the build collects these
 * lines.
 *
 * forward:  reads c->in, fills every element of every c->out.
 * backward: reads c->grad_out and the saved c->in / c->out (others are PR_META: shape only), fills every
 * element of c->grad_in[i] where it is not NULL (=, not +=). c->grad_out has a tensor for every visible
 * output.
 */
#ifndef PR_BACKEND_BACKEND_H
#define PR_BACKEND_BACKEND_H

#include "op/op.h"

typedef enum pr_direction { PR_forward, PR_backward } pr_direction;
typedef pr_status pr_kernel_function(pr_call *c);

typedef struct pr_kernel_row {
  const char *backend, *op;
  pr_direction direction;
  pr_kernel_function *run;
} pr_kernel_row;

extern const pr_kernel_row pr_kernel_rows[]; /* made by the build; ends with a row of NULLs */

#define PR_KERNEL(backend, op, direction)                                                                    \
  pr_kernel_function prK_##backend##_##op##_##direction;                                                     \
  pr_status prK_##backend##_##op##_##direction(pr_call *c)

/* Fill the table and settle the threads of libraries. Called by pr_start. */
void prK_start(void);

/* Run the first kernel of the call's device that takes it. PR_ERR_UNSUPPORTED when none does. Scratch memory
 * is freed afterwards. */
pr_status prK_run(pr_call *c, pr_direction direction);
bool prK_has(const pr_op *op, pr_direction direction);
/* The backend that took this thread's latest call ("cpu", "reference"): what a summary shows. */
const char *prK_last_backend(void);

/* Compiled-in backends in the order they are asked, "cpu reference"; NULL-terminated. */
const char *const *pr_backends(void);
/* Ask only this backend and those after it: pr_backend_use("reference") makes the oracle run everything. */
pr_status pr_backend_use(const char *name);
const char *pr_backend_used(void);

/* --- for kernels ------------------------------------------------------------------------------------------------------ */

/* Memory that lives until the kernel returns; 64-byte aligned; NULL with pr_fail done. */
void *prK_scratch(pr_call *c, size_t bytes);
/* Give it all back; prK_run does it after every kernel. */
void prK_scratch_free(pr_call *c);

/* For the reference kernels, which compute in double on row-major arrays whatever the dtype and layout: the
 * values of a tensor (NULL for a NULL tensor), room for n numbers, and the way back. PRK_LOAD declares a
 * pointer or returns the failure. */
const double *prK_load(pr_call *c, const pr_tensor *t);
double *prK_doubles(pr_call *c, int64_t n);
double *prK_zeros(pr_call *c, int64_t n); /* likewise, cleared */
pr_status prK_store(pr_tensor *t, const double *values);
#define PRK_LOAD(name, tensor)                                                                               \
  const double *name = prK_load(c, tensor);                                                                  \
  if ((tensor) && !name) return PR_ERR_MEMORY
#define PRK_ZEROS(name, count)                                                                               \
  double *name = prK_zeros(c, count);                                                                        \
  if (!name) return PR_ERR_MEMORY
#define PRK_ROOM(name, count)                                                                                \
  double *name = prK_doubles(c, count);                                                                      \
  if (!name) return PR_ERR_MEMORY

#endif
