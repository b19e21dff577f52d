/* autograd.h - the tape: reverse-mode differentiation of what pr_apply ran.
 *
 * Leaves are tensors with requires_grad that no operator made; their gradients accumulate in ->grad. The tape
 * is a graph of counted steps that hangs on the results. Backward walks it once, newest step first, and
 * releases what each step saved as soon as it is done; a second walk fails. A step remembers the version of
 * every value it saved: if a parameter was changed since (an optimiser step, a removal), backward fails
 * instead of giving wrong numbers.
 */
#ifndef PR_AUTOGRAD_AUTOGRAD_H
#define PR_AUTOGRAD_AUTOGRAD_H

#include "dispatch/dispatch.h"

/* Make the room's hooks known to the rooms above. Called by pr_start. */
void prA_start(void);

/* Gradients of `loss` (with `grad` as the upstream gradient; NULL: 1, for a tensor with one element) with
 * respect to all leaves. */
pr_status pr_backward(pr_tensor *loss, pr_tensor *grad);

/* Ask for a gradient of a leaf (a float tensor without creator). */
pr_status pr_require_grad(pr_tensor *t, bool wanted);
/* Forget / set the accumulated gradient. */
void pr_zero_grad(pr_tensor *t);

/* Call `fn` with the gradient of t each time one is computed; a tensor it stores in *replacement (new
 * reference) takes its place. `drop` frees ctx. Returns an id for removal. */
typedef pr_status (*pr_grad_hook)(void *ctx, pr_tensor *grad, pr_tensor **replacement);
int64_t pr_hook_add(pr_tensor *t, pr_grad_hook fn, void *ctx, void (*drop)(void *ctx));
void pr_hook_remove(pr_tensor *t, int64_t id);

/* Largest difference between analytic gradients and central differences (step `h`) of a weighted sum of the
 * operator's outputs, over all float inputs (f64), relative to the largest gradient. For tests. */
pr_status pr_gradient_check(const pr_op *op, const pr_arg *args, pr_tensor **in, int n_in, double h,
                            double *worst);

#endif
