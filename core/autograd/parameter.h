/* parameter.h - what hangs on a parameter beside its value and gradient: a mask, and optimiser state.
 *
 * A parameter is a leaf tensor with attachments. Its handle stays the same for life; removal changes its
 * content. With a mask, the tensor keeps its dense value; reading it through an operator gives dense * mask,
 * and its gradient is multiplied by the mask; the optimiser moves the dense value (as torch.nn.utils.prune
 * does with weight_orig).
 */
#ifndef PR_AUTOGRAD_PARAMETER_H
#define PR_AUTOGRAD_PARAMETER_H

#include "autograd/autograd.h"

typedef struct pr_slot {
  char *name;        /* "momentum_buffer", "exp_avg", ... */
  pr_tensor *tensor; /* of the parameter's shape, or a scalar */
  struct pr_slot *next;
} pr_slot;

typedef struct pr_parameter {
  bool is_buffer;          /* a buffer: no gradient, but pruned and saved along */
  pr_tensor *mask;         /* f32 of the parameter's shape, or NULL */
  pr_tensor *masked;       /* cached dense * mask */
  uint64_t masked_version; /* versions of value and mask that the cache was made from */
  uint64_t mask_version;
  pr_slot *slots;        /* optimiser state */
  bool keeps_dense_grad; /* gather dense_grad as well */
  pr_tensor *dense_grad; /* gradient of what is read, before the mask was multiplied onto it; or NULL */
} pr_parameter;

/* Turn a leaf into a parameter (requires_grad for floats) or a buffer. Again: no change. */
pr_status pr_parameter_make(pr_tensor *t, bool is_buffer);

/* Borrowed: t itself, or dense * mask. NULL on failure. */
pr_tensor *pr_parameter_value(pr_tensor *t);

/* Set (copied, as f32 of the same shape) or drop (NULL) the mask. */
pr_status pr_parameter_mask(pr_tensor *t, const pr_tensor *mask);

/* Give a parameter back a mask that it had, the same tensor (NULL: none). Takes no memory, so it cannot fail.
 */
void pr_parameter_mask_back(pr_tensor *t, pr_tensor *mask);
/* Write dense * mask into the value and drop the mask. */
pr_status pr_parameter_finalize(pr_tensor *t);

/* Whether backward gathers, beside the gradient of a masked parameter, what it would be without the mask: it
 * tells which masked entries would help (dynamic sparse training). Of a parameter without a mask both are the
 * same. pr_zero_grad forgets both. */
pr_status pr_parameter_keep_dense_grad(pr_tensor *t, bool keep);
/* Borrowed; NULL where none was gathered. */
pr_tensor *pr_parameter_dense_grad(const pr_tensor *t);

/* Optimiser state by name: the slot's tensor (borrowed) or NULL; made with zeros of the parameter's shape
 * when `create`. */
pr_tensor *pr_parameter_slot(pr_tensor *t, const char *name, bool create);
pr_status pr_parameter_slot_set(pr_tensor *t, const char *name, pr_tensor *value);
void pr_parameter_slot_drop(pr_tensor *t, const char *name); /* nothing where there is none */
void pr_parameter_slots_clear(pr_tensor *t);

#endif
