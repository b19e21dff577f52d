/* backward.c - the walk over the tape, newest step first (a heap by sequence number). */
#include "autograd/tape.h"

#include "autograd/parameter.h"
#include "backend/backend.h"
#include "base/memory.h"
#include "base/scope.h"
#include "base/thread.h"

#include <stdatomic.h>

extern pr_op pr_op_add, pr_op_mul;

/* --- the queue --------------------------------------------------------------------------------------------------------- */

typedef struct queue {
  prA_step **heap; /* retained; the largest sequence number on top */
  size_t count, capacity;
} queue;

static pr_status push(queue *q, prA_step *step) {
  if (step->queued) return PR_OK;
  PR_TRY(PRB_RESERVE(q->heap, q->capacity, q->count + 1));
  atomic_fetch_add(&step->refs, 1);
  step->queued = true;
  size_t at = q->count++;
  while (at > 0 && q->heap[(at - 1) / 2]->sequence < step->sequence)
    q->heap[at] = q->heap[(at - 1) / 2], at = (at - 1) / 2;
  q->heap[at] = step;
  return PR_OK;
}

static prA_step *pop(queue *q) {
  prA_step *top = q->heap[0], *last = q->heap[--q->count];
  size_t at = 0;
  for (;;) {
    size_t child = 2 * at + 1;
    if (child >= q->count) break;
    if (child + 1 < q->count && q->heap[child + 1]->sequence > q->heap[child]->sequence) child++;
    if (q->heap[child]->sequence <= last->sequence) break;
    q->heap[at] = q->heap[child], at = child;
  }
  if (q->count) q->heap[at] = last;
  top->queued = false;
  return top;
}

/* --- gradients --------------------------------------------------------------------------------------------------------- */

/* *sum += g. Takes over g. Gradients may be shared or be views, so the sum is a new tensor. */
static pr_status gather(pr_tensor **sum, pr_tensor *g) {
  if (!*sum) {
    *sum = g;
    return PR_OK;
  }
  pr_tensor *both = prO_call(&pr_op_add, NULL, 2, *sum, g);
  pr_release(g);
  if (!both) return pr_error_last()->code;
  pr_release(*sum);
  *sum = both;
  return PR_OK;
}

/* A leaf's gradient has the leaf's layout and memory of its own, so that optimisers may walk both side by
 * side. */
static pr_status give_leaf(pr_tensor *leaf, pr_tensor *g) {
  if (leaf->parameter && leaf->parameter->mask) {
    if (leaf->parameter->keeps_dense_grad) {
      pr_status status = gather(&leaf->parameter->dense_grad, pr_retain(g));
      if (status) return pr_release(g), status;
    }
    pr_tensor *mask = pr_to_dtype(leaf->parameter->mask, g->dtype);
    pr_tensor *masked = mask ? prO_call(&pr_op_mul, NULL, 2, g, mask) : NULL;
    pr_release(mask), pr_release(g);
    if (!(g = masked)) return pr_error_last()->code;
  }
  pr_status status = prA_hooks_run(leaf->hooks, &g);
  if (!status && (!prT_same_layout(g, leaf) || g->refs > 1 || g->storage->refs > 1)) {
    pr_tensor *own = prT_new_like(leaf, g->dtype, leaf->dim, leaf->shape);
    if (own && !prT_allocate(own, g->device))
      status = pr_copy(own, g);
    else
      status = PR_ERR_MEMORY;
    pr_release(g);
    g = own;
  }
  if (status) return pr_release(g), status;
  return gather(&leaf->grad, g);
}

/* --- one step ---------------------------------------------------------------------------------------------------------- */

static pr_status check_versions(const prA_step *step) {
  for (int i = 0; i < step->n_in + step->n_out; i++) {
    const pr_tensor *t = i < step->n_in ? step->in[i] : step->out[i - step->n_in];
    if (t && t->storage && t->storage->version != step->versions[i])
      return pr_fail(
          PR_ERR_STATE,
          "%s: a value that backward needs was overwritten after the forward pass; run forward again",
          step->op->name);
  }
  for (int i = 0; i < step->n_in; i++) {
    const prA_edge *edge = &step->edges[i];
    char name[32];
    if (edge->leaf && (!edge->leaf->storage || edge->leaf->storage->version != edge->leaf_version))
      return pr_fail(
          PR_ERR_STATE,
          "%s: '%s' was changed (by an optimiser step, a mask or pruning) after the forward pass; run "
          "forward again before backward",
          step->op->name, prO_input_name(step->op, i, name));
  }
  return PR_OK;
}

/* Outputs that nothing used have the gradient zero. */
static pr_status fill_missing(prA_step *step) {
  int visible = prO_outputs_listed(step->op) ? step->n_out : prO_outputs_visible(step->op);
  for (int k = 0; k < visible; k++) {
    const pr_tensor *out = step->out[k];
    if (step->grad[k] || !pr_dtype_is_float(out->dtype)) continue;
    if (!(step->grad[k] = pr_tensor_zeros(out->dtype, PR_CPU, out->dim, out->shape))) return PR_ERR_MEMORY;
  }
  return PR_OK;
}

static pr_status run_rule(pr_call *c) {
  if (c->op->backward) return c->op->backward(c);
  for (int i = 0; i < c->n_in; i++) {
    if (!c->wanted[i]) continue;
    pr_tensor *g = prT_new_like(c->in[i], c->in[i]->dtype, c->in[i]->dim, c->in[i]->shape);
    if (!g) return PR_ERR_MEMORY;
    c->grad_in[i] = g;
    if (!g->storage)
      PR_TRY(prT_allocate(g, c->grad_out[0]->device)); /* inputs that are saved have a device already */
  }
  return prK_run(c, PR_backward);
}

static pr_status hand_on(prA_step *step, int i, pr_tensor *g, queue *q) {
  prA_edge *edge = &step->edges[i];
  if (edge->leaf) return give_leaf(edge->leaf, g);
  if (edge->step->used) {
    pr_release(g);
    return pr_fail(PR_ERR_STATE,
                   "%s: backward has been here already and freed what it needs; run forward again",
                   edge->step->op->name);
  }
  PR_TRY(gather(&edge->step->grad[edge->output], g));
  return push(q, edge->step);
}

enum { FEW = 16 };

static pr_status run_step(prA_step *step, queue *q) {
  PR_TRY(prB_interrupted());
  PR_TRY(check_versions(step));
  for (int k = 0; k < step->n_out; k++)
    if (step->grad[k]) PR_TRY(prA_hooks_run(step->hooks[k], &step->grad[k]));
  PR_TRY(fill_missing(step));
  pr_tensor *few[FEW] = { NULL }, **grad_in = few;
  bool few_wanted[FEW], *wanted = few_wanted;
  if (step->n_in > FEW) {
    grad_in = PRB_ARRAY(pr_tensor *, step->n_in), wanted = PRB_ARRAY(bool, step->n_in);
    if (!grad_in || !wanted) {
      if (grad_in) PRB_ARRAY_FREE(grad_in, step->n_in);
      return PR_ERR_MEMORY;
    }
  }
  for (int i = 0; i < step->n_in; i++) wanted[i] = step->edges[i].leaf || step->edges[i].step;
  pr_call c = { .op = step->op,
                .n_in = step->n_in,
                .n_out = step->n_out,
                .in = step->in,
                .out = step->out,
                .grad_out = step->grad,
                .grad_in = grad_in,
                .wanted = wanted,
                .random_step = step->random_step,
                .attachment = step->attachment };
  for (int a = 0; a < PR_MAX_ARGS; a++) c.args[a] = step->args[a];
  pr_status status = run_rule(&c);
  for (int i = 0; i < step->n_in; i++) {
    if (grad_in[i] && wanted[i] && !status)
      status = hand_on(step, i, grad_in[i], q);
    else
      pr_release(grad_in[i]);
  }
  if (grad_in != few) PRB_ARRAY_FREE(grad_in, step->n_in), PRB_ARRAY_FREE(wanted, step->n_in);
  return status;
}

/* --- the walk ---------------------------------------------------------------------------------------------------------- */

static pr_tensor *upstream(pr_tensor *loss, pr_tensor *grad) {
  char a[PR_SHAPE_TEXT], b[PR_SHAPE_TEXT];
  if (grad && !pr_same_shape(grad, loss)) {
    pr_fail(PR_ERR_SHAPE, "backward: the gradient has shape %s, the tensor %s", pr_shape_text(grad, a),
            pr_shape_text(loss, b));
    return NULL;
  }
  if (grad) return pr_to_dtype(grad, loss->dtype);
  if (pr_numel(loss) != 1) {
    pr_fail(PR_ERR_SHAPE,
            "backward: a tensor of shape %s needs an upstream gradient; or take its sum or mean",
            pr_shape_text(loss, a));
    return NULL;
  }
  return pr_tensor_full(loss->dtype, loss->device, loss->dim, loss->shape, 1.0);
}

static pr_status walk(queue *q) {
  pr_status status = PR_OK;
  while (q->count) {
    prA_step *step = pop(q);
    int depth = pr_scope_enter(step->path, "");
    if (!status) status = run_step(step, q);
    pr_scope_leave(depth);
    prA_step_clear(step); /* also after a failure: half gathered gradients must not stay */
    prA_step_release(step);
  }
  return status;
}

pr_status pr_backward(pr_tensor *loss, pr_tensor *grad) {
  if (!loss->creator && !loss->requires_grad)
    return pr_fail(PR_ERR_STATE, "backward: nothing that made this tensor requires a gradient");
  if (loss->creator && loss->creator->used)
    return pr_fail(PR_ERR_STATE,
                   "backward was called on this tensor already and freed its tape; run forward again");
  bool recording = pr_grad_mode(false);
  pr_tensor *g = upstream(loss, grad);
  pr_status status = g ? PR_OK : pr_error_last()->code;
  if (g && !loss->creator) {
    status = give_leaf(loss, g);
  } else if (g) {
    queue q = { 0 };
    loss->creator->grad[loss->creator_output] = g;
    status = push(&q, loss->creator);
    if (!status) status = walk(&q);
    PRB_ARRAY_FREE(q.heap, q.capacity);
  }
  pr_grad_mode(recording);
  return status;
}

pr_status pr_require_grad(pr_tensor *t, bool wanted) {
  if (t->creator)
    return pr_fail(PR_ERR_STATE,
                   "only leaves can be asked for a gradient; this tensor was made by %s (detach it first)",
                   t->creator->op->name);
  if (wanted && !pr_dtype_is_float(t->dtype))
    return pr_fail(PR_ERR_DTYPE, "only float tensors have gradients, this one is %s",
                   pr_dtype_name(t->dtype));
  t->requires_grad = wanted;
  return PR_OK;
}

void pr_zero_grad(pr_tensor *t) {
  pr_release(t->grad);
  t->grad = NULL;
  if (t->parameter) pr_release(t->parameter->dense_grad), t->parameter->dense_grad = NULL;
}
