/* parameter.c - attachments of parameters. */
#include "autograd/parameter.h"

#include "autograd/tape.h"
#include "base/memory.h"

#include <string.h>

extern pr_op pr_op_add, pr_op_mul;

pr_status pr_parameter_make(pr_tensor *t, bool is_buffer) {
  if (t->parameter) return PR_OK;
  if (t->creator)
    return pr_fail(PR_ERR_STATE, "a parameter must be a leaf; this tensor was made by %s (detach it first)",
                   t->creator->op->name);
  if (!(t->parameter = PRB_NEW(pr_parameter))) return PR_ERR_MEMORY;
  t->parameter->is_buffer = is_buffer;
  t->requires_grad = !is_buffer && pr_dtype_is_float(t->dtype);
  return PR_OK;
}

/* --- masks ------------------------------------------------------------------------------------------------------------- */

pr_tensor *pr_parameter_value(pr_tensor *t) {
  pr_parameter *p = t->parameter;
  if (!p || !p->mask || !t->storage) return t;
  if (p->masked && p->masked_version == t->storage->version && p->mask_version == p->mask->storage->version)
    return p->masked;
  bool recording = pr_grad_mode(false);
  pr_tensor *dense = pr_detach(t), *mask = dense ? pr_to_dtype(p->mask, t->dtype) : NULL;
  pr_tensor *masked = mask ? prO_call(&pr_op_mul, NULL, 2, dense, mask) : NULL;
  pr_grad_mode(recording);
  pr_release(dense), pr_release(mask);
  if (!masked) return NULL;
  pr_release(p->masked);
  p->masked = masked;
  p->masked_version = t->storage->version, p->mask_version = p->mask->storage->version;
  return masked;
}

pr_status pr_parameter_mask(pr_tensor *t, const pr_tensor *mask) {
  char a[PR_SHAPE_TEXT], b[PR_SHAPE_TEXT];
  pr_tensor *own = NULL;
  if (!t->parameter)
    return pr_fail(PR_ERR_STATE, "only parameters can have a mask; register the tensor in a module first");
  if (mask && !pr_same_shape(mask, t))
    return pr_fail(PR_ERR_SHAPE, "the mask has shape %s, the parameter %s", pr_shape_text(mask, a),
                   pr_shape_text(t, b));
  if (mask) {
    own = pr_tensor_new(PR_F32, PR_CPU, t->dim, t->shape);
    if (!own) return PR_ERR_MEMORY;
    pr_status status = pr_copy(own, mask);
    if (status) return pr_release(own), status;
  }
  pr_release(t->parameter->mask), pr_release(t->parameter->masked);
  t->parameter->mask = own, t->parameter->masked = NULL;
  if (t->storage) prT_touch(t); /* what reading gives has changed: older tapes are stale */
  return PR_OK;
}

void pr_parameter_mask_back(pr_tensor *t, pr_tensor *mask) {
  pr_retain(mask); /* first: it may be the one that goes */
  pr_release(t->parameter->mask), pr_release(t->parameter->masked);
  t->parameter->mask = mask, t->parameter->masked = NULL;
  if (t->storage) prT_touch(t);
}

pr_status pr_parameter_finalize(pr_tensor *t) {
  if (!t->parameter || !t->parameter->mask) return PR_OK;
  pr_tensor *masked = pr_parameter_value(t);
  if (!masked) return pr_error_last()->code;
  bool recording = pr_grad_mode(false);
  pr_tensor *zero = pr_tensor_scalar(t->dtype, 0);
  pr_tensor *plain = zero ? prO_call(&pr_op_add, NULL, 2, masked, zero) : NULL; /* -0 + 0 is 0: plain zeros */
  pr_grad_mode(recording);
  pr_status status = plain ? pr_copy(t, plain) : pr_error_last()->code;
  pr_release(zero), pr_release(plain);
  return status ? status : pr_parameter_mask(t, NULL);
}

/* --- dense gradients -------------------------------------------------------------------------------------------------- */

pr_status pr_parameter_keep_dense_grad(pr_tensor *t, bool keep) {
  if (!t->parameter || t->parameter->is_buffer)
    return pr_fail(PR_ERR_STATE, "only parameters of a module have gradients before and behind a mask");
  t->parameter->keeps_dense_grad = keep;
  if (!keep) pr_release(t->parameter->dense_grad), t->parameter->dense_grad = NULL;
  return PR_OK;
}

pr_tensor *pr_parameter_dense_grad(const pr_tensor *t) {
  if (!t->parameter || !t->parameter->keeps_dense_grad) return NULL;
  return t->parameter->mask ? t->parameter->dense_grad : t->grad;
}

/* --- optimiser state ------------------------------------------------------------------------------------------------------ */

static pr_slot *find_slot(pr_parameter *p, const char *name) {
  for (pr_slot *slot = p->slots; slot; slot = slot->next)
    if (strcmp(slot->name, name) == 0) return slot;
  return NULL;
}

pr_status pr_parameter_slot_set(pr_tensor *t, const char *name, pr_tensor *value) {
  PR_TRY(pr_parameter_make(t, false));
  pr_slot *slot = find_slot(t->parameter, name);
  if (!slot) {
    pr_slot **last = &t->parameter->slots; /* kept in order of creation, so that checkpoints are stable */
    if (!(slot = PRB_NEW(pr_slot))) return PR_ERR_MEMORY;
    if (!(slot->name = prB_string(name))) {
      PRB_FREE(slot);
      return PR_ERR_MEMORY;
    }
    while (*last) last = &(*last)->next;
    *last = slot;
  }
  pr_retain(value);
  pr_release(slot->tensor);
  slot->tensor = value;
  return PR_OK;
}

pr_tensor *pr_parameter_slot(pr_tensor *t, const char *name, bool create) {
  pr_slot *slot = t->parameter ? find_slot(t->parameter, name) : NULL;
  if (slot || !create) return slot ? slot->tensor : NULL;
  pr_tensor *zeros = prT_new_like(t, t->dtype, t->dim, t->shape);
  pr_status status = zeros ? prT_allocate(zeros, t->device) : PR_ERR_MEMORY;
  if (!status) status = pr_fill(zeros, 0);
  if (!status) status = pr_parameter_slot_set(t, name, zeros);
  pr_release(zeros); /* the slot holds it */
  return status ? NULL : zeros;
}

static void drop_slot(pr_slot **link) {
  pr_slot *slot = *link;
  *link = slot->next;
  prB_string_free(slot->name);
  pr_release(slot->tensor);
  PRB_FREE(slot);
}

static void clear_slots(pr_parameter *p) {
  while (p->slots) drop_slot(&p->slots);
}

void pr_parameter_slot_drop(pr_tensor *t, const char *name) {
  for (pr_slot **link = t->parameter ? &t->parameter->slots : NULL; link && *link; link = &(*link)->next)
    if (strcmp((*link)->name, name) == 0) {
      drop_slot(link);
      return;
    }
}

void pr_parameter_slots_clear(pr_tensor *t) {
  if (t->parameter) clear_slots(t->parameter);
}

void prA_parameter_free(pr_parameter *p) {
  if (!p) return;
  clear_slots(p);
  pr_release(p->mask), pr_release(p->masked), pr_release(p->dense_grad);
  PRB_FREE(p);
}
