/* dispatch.h - pr_apply (declared in op/op.h) and what hooks into it: gradient mode, the tape, the tracer,
 * parameter masks. */
#ifndef PR_DISPATCH_DISPATCH_H
#define PR_DISPATCH_DISPATCH_H

#include "op/op.h"

/* Whether operators record for backward; per thread, on at start. Returns the old setting. */
bool pr_grad_mode(bool enabled);
bool pr_grad_enabled(void);

/* Filled in by autograd: push a step for a finished call some of whose inputs require a gradient. `read` are
 * the values that the kernel read: c->in with the masks applied. */
extern pr_status (*prD_record_step)(pr_call *c, pr_tensor *const *read);
/* Filled in by autograd: what reading a tensor gives: itself, or for a masked parameter the masked value
 * (borrowed). NULL: failure. */
extern pr_tensor *(*prD_value)(pr_tensor *t);

/* A tracer sees every call of its thread while installed. */
typedef struct prD_tracer {
  /* Is this tensor a traced value or a parameter of the model being traced? Then the call is traced on shapes
   * only. */
  bool (*knows)(struct prD_tracer *tracer, const pr_tensor *t);
  pr_status (*record)(struct prD_tracer *tracer, const pr_call *c);
} prD_tracer;
prD_tracer *prD_tracer_set(prD_tracer *tracer); /* returns the one before; NULL: none */
prD_tracer *prD_tracer_get(void);

/* Fail unless the tensor has values (reading while tracing is the usual cause). */
pr_status prD_need_values(const pr_tensor *t, const char *what);

#endif
