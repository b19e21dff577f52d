/* apply.c - the one door through which every operator runs. */
#include "dispatch/dispatch.h"

#include "backend/backend.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/thread.h"

#include <string.h>

pr_status (*prD_record_step)(pr_call *c, pr_tensor *const *read) = NULL;
pr_tensor *(*prD_value)(pr_tensor *t) = NULL;

static _Thread_local bool grad_disabled;
static _Thread_local prD_tracer *tracer;

bool pr_grad_mode(bool enabled) {
  bool old = !grad_disabled;
  grad_disabled = !enabled;
  return old;
}

bool pr_grad_enabled(void) { return !grad_disabled; }

prD_tracer *prD_tracer_set(prD_tracer *next) {
  prD_tracer *old = tracer;
  tracer = next;
  return old;
}

prD_tracer *prD_tracer_get(void) { return tracer; }

pr_status prD_need_values(const pr_tensor *t, const char *what) {
  if (t->device != PR_META) return PR_OK;
  if (!tracer)
    return pr_fail(PR_ERR_STATE,
                   "%s needs the values of a tensor, but it is on the meta device, which has shapes only "
                   "(prune.meta)",
                   what);
  return pr_fail(PR_ERR_STATE,
                 "%s needs the values of a tensor, but while a model is traced there are only shapes; "
                 "make the model's path independent of values",
                 what);
}

/* --- steps of a call -------------------------------------------------------------------------------------------------- */

static pr_status check_inputs(const pr_call *c) {
  int declared = prO_inputs_declared(c->op);
  bool variadic = prO_variadic(c->op);
  char name[32];
  if (c->n_in > declared && !variadic)
    return prO_fail(c, PR_ERR_ARGUMENT, "takes %d tensors, got %d", declared, c->n_in);
  if (variadic && c->n_in < declared)
    return prO_fail(c, PR_ERR_ARGUMENT, "needs at least one tensor in its list");
  for (int i = 0; i < c->n_in; i++) {
    if (!c->in[i] && !prO_input_optional(c->op, i))
      return prO_fail(c, PR_ERR_ARGUMENT, "input '%s' is missing", prO_input_name(c->op, i, name));
  }
  return PR_OK;
}

/* Is the call to be done on shapes only? One device for all that have values. */
static pr_status choose_device(pr_call *c, pr_device *device) {
  const pr_tensor *first = NULL;
  for (int i = 0; i < c->n_in; i++) {
    const pr_tensor *t = c->in[i];
    if (!t) continue;
    c->meta = c->meta || t->device == PR_META || (tracer && tracer->knows(tracer, t));
    if (t->device == PR_META) continue;
    if (first && first->device != t->device)
      return prO_fail(c, PR_ERR_DTYPE, "tensors are on %s and %s; move one with :to",
                      pr_device_name(first->device), pr_device_name(t->device));
    if (!first) first = t;
  }
  if (tracer && (c->op->flags & PR_OP_FILL)) c->meta = true;
  *device = c->meta ? PR_META : first ? first->device : PR_CPU;
  if (c->meta && (c->op->flags & PR_OP_READS_VALUES))
    return pr_fail(PR_ERR_STATE,
                   "%s: the shape of its result depends on values, which do not exist while tracing",
                   c->op->name);
  return PR_OK;
}

/* Masked parameters are read as their masked value; the graph and the tape see the parameter itself. */
static pr_status read_masks(const pr_call *c, pr_tensor **values) {
  for (int i = 0; i < c->n_in; i++) {
    values[i] = c->in[i];
    if (c->in[i] && c->in[i]->parameter && prD_value && !(values[i] = prD_value(c->in[i])))
      return pr_error_last()->code;
  }
  return PR_OK;
}

/* Inputs that an operator with a mode may write are written in training only: running statistics. */
static bool writes(const pr_call *c) {
  for (int a = 0; a < PR_MAX_ARGS && c->op->args[a].name; a++)
    if (c->op->args[a].kind == PR_ARG_MODE && !c->args[a].integer) return false;
  return true;
}

static pr_status run_kernel(pr_call *c, pr_device device) {
  bool work = false;
  for (int k = 0; k < c->n_out; k++) {
    if (c->out[k]->storage) continue; /* a view */
    PR_TRY(prT_allocate(c->out[k], device));
    work = true;
  }
  if (!work) return PR_OK;
  PR_TRY(prK_run(c, PR_forward));
  for (int i = 0; i < c->n_in && writes(c); i++)
    if (c->in[i] && c->in[i]->storage && prO_writes_input(c->op, i)) prT_touch(c->in[i]);
  return PR_OK;
}

/* What a forward function calls is not part of the tape: the operator as a whole is. */
static pr_status run_forward(pr_call *c) {
  bool recording = pr_grad_mode(false);
  pr_status status = c->op->forward(c);
  pr_grad_mode(recording);
  return status;
}

/* Views of parameters, while tracing, are shapes as all else. */
static void strip_storage(pr_call *c) {
  for (int k = 0; k < c->n_out; k++) {
    if (!c->out[k]->storage) continue;
    prT_storage_release(c->out[k]->storage);
    c->out[k]->storage = NULL, c->out[k]->device = PR_META;
  }
}

static bool wants_step(const pr_call *c, pr_tensor *const *in) {
  if (grad_disabled || c->meta || (c->op->flags & PR_OP_NO_GRADIENT)) return false;
  for (int i = 0; i < c->n_in; i++)
    if (in[i] && (in[i]->requires_grad || in[i]->creator)) return true;
  return false;
}

/* Everything between the checks of pr_apply and the hand-over of results. c->in holds the caller's tensors.
 */
static pr_status run(pr_call *c, pr_tensor **values) {
  pr_device device = PR_META;
  PR_TRY(prO_args_complete(c->op, c->args));
  PR_TRY(check_inputs(c));
  PR_TRY(choose_device(c, &device));
  if (c->op->compose) return c->op->compose(c);
  PR_TRY(prO_outputs(c, prO_outputs_declared(c->op)));
  pr_tensor **in = c->in;
  if (!c->meta)
    PR_TRY(read_masks(c, values));
  else
    memcpy(values, in, (size_t)c->n_in * sizeof *values);
  c->in = values;
  pr_status status = c->op->infer(c);
  if (!status && c->meta) strip_storage(c);
  if (!status && !c->meta) {
    if (c->op->flags & PR_OP_RANDOM) c->random_step = prB_next_step();
    status = c->op->forward ? run_forward(c) : run_kernel(c, device);
  }
  c->in = in;
  PR_TRY(status);
  if (prD_record_step && wants_step(c, in)) PR_TRY(prD_record_step(c, values));
  if (c->meta && tracer) PR_TRY(tracer->record(tracer, c));
  return PR_OK;
}

static void drop_outputs(pr_call *c) {
  for (int k = 0; k < c->n_out; k++) pr_release(c->out[k]);
  prB_resize(c->out, (size_t)c->n_out * sizeof *c->out, 0);
}

enum { FEW = 16 };

pr_status pr_apply(const pr_op *op, const pr_arg *args, pr_tensor *const *in, int n_in, pr_tensor **out,
                   int *n_out) {
  PR_TRY(prB_interrupted());
  pr_tensor *few[2 * FEW], **room = few;
  int slots =
      prO_inputs_declared(op) > n_in ? prO_inputs_declared(op) : n_in; /* absent optional inputs are NULL */
  if (slots > FEW && !(room = PRB_ARRAY(pr_tensor *, 2 * slots))) return PR_ERR_MEMORY;
  pr_call c = { .op = op, .n_in = slots, .in = room };
  if (prO_variadic(op) && n_in < slots) c.n_in = n_in;
  for (int i = 0; i < slots; i++) room[i] = i < n_in ? in[i] : NULL;
  if (args) memcpy(c.args, args, sizeof c.args);
  pr_status status = run(&c, room + slots);
  if (!status) {
    int visible = prO_outputs_listed(op) ? c.n_out : prO_outputs_visible(op);
    if (n_out && *n_out < visible && prO_outputs_listed(op))
      status =
          pr_fail(PR_ERR_ARGUMENT, "%s: gives %d tensors, there is room for %d", op->name, visible, *n_out);
    for (int k = 0; !status && k < visible; k++) {
      if (n_out && k >= *n_out) break; /* the caller wants only the first ones */
      out[k] = c.out[k], c.out[k] = NULL;
    }
    if (!status && n_out && *n_out > visible) *n_out = visible;
  }
  drop_outputs(&c);
  if (c.attachment.drop) c.attachment.drop(c.attachment.data);
  if (room != few) PRB_ARRAY_FREE(room, 2 * slots);
  return status;
}
