/* tape.c - recording steps, and freeing them.
 *
 * A step saves detached views, never the tensors themselves: the result holds the step, so the step must not
 * hold the result. Freeing is a loop over a list, not a recursion: a tape may be as deep as the training run
 * is long.
 */
#include "autograd/tape.h"

#include "autograd/parameter.h"
#include "base/memory.h"
#include "base/scope.h"

#include <stdatomic.h>
#include <string.h>

static _Atomic uint64_t sequence;

static prA_step *step_new(int n_in, int n_out) {
  size_t bytes = sizeof(prA_step) +
                 (size_t)n_in * (sizeof(prA_edge) + sizeof(pr_tensor *) + sizeof(uint64_t)) +
                 (size_t)n_out * (3 * sizeof(pr_tensor *) + sizeof(uint64_t));
  prA_step *step = prB_zeroed(1, bytes);
  if (!step) return NULL;
  atomic_init(&step->refs, 1);
  step->bytes = bytes, step->n_in = n_in, step->n_out = n_out;
  char *at = (char *)(step + 1);
  step->edges = (prA_edge *)at, at += (size_t)n_in * sizeof(prA_edge);
  step->versions = (uint64_t *)at, at += (size_t)(n_in + n_out) * sizeof(uint64_t);
  step->in = (pr_tensor **)at, at += (size_t)n_in * sizeof(pr_tensor *);
  step->out = (pr_tensor **)at, at += (size_t)n_out * sizeof(pr_tensor *);
  step->grad = (pr_tensor **)at, at += (size_t)n_out * sizeof(pr_tensor *);
  step->hooks = (prA_hooks **)at;
  return step;
}

/* --- freeing ----------------------------------------------------------------------------------------------------------- */

static _Thread_local prA_step *dead; /* steps without references, not yet freed */
static _Thread_local bool freeing;   /* a loop over that list is running further up the stack */

void prA_step_clear(prA_step *step) {
  for (int i = 0; i < step->n_in; i++) {
    pr_release(step->in[i]), step->in[i] = NULL;
    pr_release(step->edges[i].leaf);
    prA_step_release(step->edges[i].step);
    step->edges[i] = (prA_edge){ 0 };
  }
  for (int k = 0; k < step->n_out; k++) {
    pr_release(step->out[k]), step->out[k] = NULL;
    pr_release(step->grad[k]), step->grad[k] = NULL;
    prA_hooks_release(step->hooks[k]), step->hooks[k] = NULL;
  }
  pr_args_free(step->args);
  pr_attachment attachment = step->attachment;
  step->attachment = (pr_attachment){ 0 };
  if (attachment.drop) attachment.drop(attachment.data);
  step->used = true;
}

void prA_step_release(prA_step *step) {
  if (!step || atomic_fetch_sub(&step->refs, 1) > 1) return;
  step->next_dead = dead, dead = step;
  if (freeing) return;
  freeing = true;
  while (dead) {
    prA_step *next = dead;
    dead = next->next_dead;
    prA_step_clear(next);
    prB_resize(next, next->bytes, 0);
  }
  freeing = false;
}

static void tensor_released(pr_tensor *t) {
  prA_step_release(t->creator);
  pr_release(t->grad);
  prA_hooks_release(t->hooks);
  prA_parameter_free(t->parameter);
}

/* --- recording --------------------------------------------------------------------------------------------------------- */

/* The value, without history, or only its shape. */
static pr_tensor *snapshot(const pr_tensor *t, bool value) {
  pr_tensor *copy = pr_detach(t);
  if (copy && !value && copy->storage) {
    prT_storage_release(copy->storage);
    copy->storage = NULL, copy->device = PR_META;
  }
  return copy;
}

static pr_status save(pr_tensor **slot, uint64_t *version, const pr_tensor *t, bool value) {
  if (!t) return PR_OK;
  if (!(*slot = snapshot(t, value))) return PR_ERR_MEMORY;
  if (value) *version = t->storage->version;
  return PR_OK;
}

static void set_edge(prA_edge *edge, pr_tensor *t) {
  if (!t || !pr_dtype_is_float(t->dtype)) return;
  if (t->creator) {
    atomic_fetch_add(&t->creator->refs, 1);
    edge->step = t->creator, edge->output = t->creator_output;
  } else if (t->requires_grad) {
    edge->leaf = pr_retain(t), edge->leaf_version = t->storage->version;
  }
}

static pr_status record(pr_call *c, pr_tensor *const *read) {
  prA_step *step = step_new(c->n_in, c->n_out);
  if (!step) return PR_ERR_MEMORY;
  pr_status status = pr_args_copy(c->op, c->args, step->args);
  step->op = c->op, step->random_step = c->random_step;
  step->sequence = atomic_fetch_add(&sequence, 1);
  strncpy(step->path, pr_scope_path(), sizeof step->path - 1);
  for (int i = 0; i < c->n_in && !status; i++) {
    set_edge(&step->edges[i], c->in[i]);
    status = save(&step->in[i], &step->versions[i], read[i], prO_saves_input(c->op, i));
  }
  for (int k = 0; k < c->n_out && !status; k++)
    status = save(&step->out[k], &step->versions[c->n_in + k], c->out[k], prO_saves_output(c->op, k));
  if (status) return prA_step_release(step), status;
  step->attachment = c->attachment, c->attachment = (pr_attachment){ 0 };
  int visible = prO_outputs_listed(c->op) ? c->n_out : prO_outputs_visible(c->op);
  for (int k = 0; k < visible; k++) {
    if (!pr_dtype_is_float(c->out[k]->dtype)) continue;
    atomic_fetch_add(&step->refs, 1);
    c->out[k]->creator = step, c->out[k]->creator_output = k, c->out[k]->requires_grad = true;
  }
  prA_step_release(step);
  return PR_OK;
}

/* --- hooks ------------------------------------------------------------------------------------------------------------- */

void prA_hooks_release(prA_hooks *hooks) {
  if (!hooks || --hooks->refs > 0) return;
  while (hooks->first) {
    struct prA_hook *hook = hooks->first;
    hooks->first = hook->next;
    if (hook->drop) hook->drop(hook->ctx);
    PRB_FREE(hook);
  }
  PRB_FREE(hooks);
}

pr_status prA_hooks_run(prA_hooks *hooks, pr_tensor **grad) {
  if (!hooks) return PR_OK;
  for (struct prA_hook *hook = hooks->first; hook; hook = hook->next) {
    pr_tensor *replacement = NULL;
    PR_TRY(hook->fn(hook->ctx, *grad, &replacement));
    if (!replacement) continue;
    if (!pr_same_shape(replacement, *grad)) {
      char got[PR_SHAPE_TEXT], want[PR_SHAPE_TEXT];
      pr_shape_text(replacement, got), pr_shape_text(*grad, want);
      pr_release(replacement);
      return pr_fail(PR_ERR_SHAPE, "a gradient hook returned shape %s for a gradient of shape %s", got, want);
    }
    pr_release(*grad);
    *grad = replacement;
  }
  return PR_OK;
}

/* The hooks of a tensor live on the tensor if it is a leaf, else on its step, which backward meets. */
static prA_hooks **hooks_of(pr_tensor *t) {
  return t->creator ? &t->creator->hooks[t->creator_output] : &t->hooks;
}

int64_t pr_hook_add(pr_tensor *t, pr_grad_hook fn, void *ctx, void (*drop)(void *ctx)) {
  prA_hooks **hooks = hooks_of(t);
  if (t->creator && t->creator->used) {
    pr_fail(PR_ERR_STATE, "backward has passed this tensor already; add the hook before backward");
    return -1;
  }
  if (!*hooks) {
    if (!(*hooks = PRB_NEW(prA_hooks))) return -1;
    (*hooks)->refs = 1;
  }
  struct prA_hook *hook = PRB_NEW(struct prA_hook), **last = &(*hooks)->first;
  if (!hook) return -1;
  while (*last) last = &(*last)->next;
  *hook = (struct prA_hook){ .id = ++(*hooks)->next_id, .fn = fn, .ctx = ctx, .drop = drop };
  *last = hook;
  return hook->id;
}

void pr_hook_remove(pr_tensor *t, int64_t id) {
  prA_hooks *hooks = *hooks_of(t);
  for (struct prA_hook **at = hooks ? &hooks->first : NULL; at && *at; at = &(*at)->next) {
    if ((*at)->id != id) continue;
    struct prA_hook *hook = *at;
    *at = hook->next;
    if (hook->drop) hook->drop(hook->ctx);
    PRB_FREE(hook);
    return;
  }
}

void prA_start(void) {
  prT_released = tensor_released;
  prD_record_step = record;
  prD_value = pr_parameter_value;
}
