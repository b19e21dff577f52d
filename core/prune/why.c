/* why.c - what couples or pins a position of a parameter.
 *
 * Classes do not remember what tied them. So the question is answered by coupling the graph once more and
 * looking at the position after every operator: the one after which it is pinned did it, by a rule of its own
 * (its note says which) or because it ties the position to one that was pinned before, which is asked in
 * turn.
 */
#include "base/memory.h"
#include "prune/pruning.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct place {
  int value, axis;
  int64_t index;
} place;

enum { STEPS = 8, SHOWN = 16, LINE = 512 };

typedef struct inquiry {
  pr_pruning trial;
  place at;
  int culprit; /* the node after which it was pinned; -1: none */
  place from;  /* what the culprit ties it to, pinned before; value -1: nothing */
  char note[LINE];
  void (*put)(void *ctx, const char *text);
  void *ctx;
} inquiry;

static void say(const inquiry *q, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(const inquiry *q, const char *format, ...) {
  char line[LINE];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  q->put(q->ctx, line);
}

/* --- who pinned it ------------------------------------------------------------------------------------ */

static bool is_pinned(pr_pruning *pruning, const place *at) {
  const prC_value *value = &pruning->values[at->value];
  pr_element mono[PRC_MONO];
  if (value->unmet >> at->axis & 1) return false;
  const pr_label *label = prC_unpinned(value->label[at->axis]);
  return !label || prC_mono(&pruning->algebra, label->id[at->index], mono) == 0;
}

/* An axis of the node's other tensors that is as long and pinned at the same place. */
static place tied_to(inquiry *q, const pr_graph_node *node) {
  const pr_graph *graph = q->trial.graph;
  const pr_graph_value *own = &graph->values[q->at.value];
  bool is_kernel = strncmp(node->op->name, "conv", 4) == 0 && own->kind != PR_VALUE_RESULT && q->at.axis >= 2;
  if (is_kernel) return (place){ -1, 0, 0 };
  bool is_result = own->kind == PR_VALUE_RESULT && own->node == q->culprit;
  for (int i = 0; i < node->n_in + (is_result ? 0 : node->n_out); i++) {
    int v = i < node->n_in ? node->in[i] : node->out[i - node->n_in];
    if (v < 0 || v == q->at.value) continue;
    for (int a = graph->values[v].dim - 1; a >= 0; a--) { /* features stand behind, the batch in front */
      place other = { v, a, q->at.index };
      if (graph->values[v].shape[a] == own->shape[q->at.axis] && is_pinned(&q->trial, &other)) return other;
    }
  }
  return (place){ -1, 0, 0 };
}

static void look(void *ctx, int n) {
  inquiry *q = ctx;
  const pr_graph *graph = q->trial.graph;
  const pr_graph_value *value = &graph->values[q->at.value];
  if (q->culprit >= 0 || (value->kind == PR_VALUE_RESULT && n < value->node) || !is_pinned(&q->trial, &q->at))
    return;
  q->culprit = n;
  const prC_algebra *algebra = &q->trial.algebra;
  for (size_t i = 0; i < algebra->notes; i++) {
    if (algebra->note[i].node != n) continue;
    size_t used = strlen(q->note);
    snprintf(q->note + used, sizeof q->note - used, "%s%s", used ? "; " : "", algebra->note[i].text);
  }
  if (!q->note[0]) q->from = tied_to(q, &graph->nodes[n]);
}

static pr_status inquire(inquiry *q, place at) {
  pr_pruning *trial = &q->trial;
  q->at = at, q->culprit = -1, q->from.value = -1, q->note[0] = 0;
  PR_TRY(prC_algebra_open(&trial->algebra));
  trial->values = PRB_ARRAY(prC_value, trial->graph->n_values);
  trial->slots = PRB_ARRAY(prC_slots *, trial->graph->n_nodes);
  pr_status status = trial->values && trial->slots ? prP_couple(trial, look, q) : PR_ERR_MEMORY;
  PRB_ARRAY_FREE(trial->values, trial->graph->n_values);
  PRB_ARRAY_FREE(trial->slots, trial->graph->n_nodes);
  prC_algebra_close(&trial->algebra);
  return status;
}

/* --- saying it ---------------------------------------------------------------------------------------- */

static bool same_axis(const place *a, const place *b) { return a->value == b->value && a->axis == b->axis; }

static void say_node(const inquiry *q, const char *begin) {
  const pr_graph_node *node = &q->trial.graph->nodes[q->culprit];
  say(q, "\n  %s%s at '%s'%s%s%s", begin, node->op->name, node->path, node->type[0] ? " (" : "", node->type,
      node->type[0] ? ")" : "");
}

static void say_pinned(const inquiry *q) {
  const pr_graph *graph = q->trial.graph;
  if (q->culprit < 0) {
    say(q, "\n  the model's outputs stay as they are, and it is among what they hold");
  } else if (q->note[0]) {
    say_node(q, "by ");
    say(q, ": %s", q->note);
  } else if (q->from.value >= 0) {
    say_node(q, "");
    say(q, " ties it to axis %lld of %s", PR_INDEX(q->from.axis), prG_value_name(graph, q->from.value));
  } else {
    say_node(q, "by ");
    say(q, ": kernel, space, batch and what is mixed along an axis stay");
  }
}

static pr_status explain(inquiry *q, place at) {
  const pr_graph *graph = q->trial.graph;
  place seen[STEPS];
  q->put(q->ctx, "pinned");
  for (int step = 0; step < STEPS && at.value >= 0; step++) {
    const pr_graph_value *value = &graph->values[at.value];
    if (value->shape[at.axis] == 1) return say(q, "\n  an axis of size 1 stays"), PR_OK;
    if (value->kind == PR_VALUE_INPUT) return say(q, "\n  inputs of the model stay as they are"), PR_OK;
    for (int i = 0; i < step; i++)
      if (same_axis(&seen[i], &at)) return PR_OK;
    seen[step] = at;
    PR_TRY(inquire(q, at));
    say_pinned(q);
    at = q->from;
  }
  return PR_OK;
}

static pr_status say_unit(const inquiry *q, pr_pruning *pruning, int32_t unit) {
  pr_group one = { pruning, pruning->generation, 1, &unit };
  pr_part *parts;
  int n;
  PR_TRY(pr_group_parts(&one, &parts, &n));
  say(q, "goes together with");
  for (int i = 0; i < n; i++) {
    say(q, "\n  %s axis %lld:", prG_value_name(pruning->graph, parts[i].value), PR_INDEX(parts[i].axis));
    for (int64_t m = 0; m < parts[i].count && m < SHOWN; m++) say(q, " %lld", PR_INDEX(parts[i].position[m]));
    if (parts[i].count > SHOWN) say(q, " ...");
  }
  pr_parts_free(parts, n, 1);
  return PR_OK;
}

static void say_kind(const inquiry *q, const prC_units *units, int32_t unit) {
  const char *word = PRC_KINDS;
  for (int k = units->kind[units->scope[unit]]; k > 0; k--) word += strcspn(word, " ") + 1;
  say(q, "\n%.*s, of %d: ", (int)strcspn(word, " "), word,
      units->scope_start[units->scope[unit] + 1] - units->scope_start[units->scope[unit]]);
}

pr_status pr_pruning_why(pr_pruning *pruning, int value, int axis, int64_t index,
                         void (*put)(void *ctx, const char *text), void *ctx) {
  inquiry q = { .trial = { .graph = pruning->graph }, .put = put, .ctx = ctx };
  place at = { value, axis, index };
  pr_element factor[PRC_MONO];
  const prC_value *v = &pruning->values[value];
  if (v->unmet >> axis & 1) return say(&q, "no operator that the model runs looks at it"), PR_OK;
  const pr_label *label = prC_unpinned(v->label[axis]);
  int n = label ? prC_mono(&pruning->algebra, label->id[index], factor) : 0, units = 0;
  int32_t unit[PRC_MONO];
  if (n == 0) return explain(&q, at);
  for (int i = 0; i < n; i++) {
    int32_t u = (size_t)factor[i] < pruning->units.elements ? pruning->units.unit_of[factor[i]] : -1;
    if (u >= 0) unit[units++] = u;
  }
  if (units == 0)
    return say(&q, "free, but no layer makes it: it is only an input slice of those that read it"), PR_OK;
  if (units == 1) return say_unit(&q, pruning, unit[0]);
  say(&q, "lives where all of these %d live", units);
  for (int i = 0; i < units; i++) {
    say_kind(&q, &pruning->units, unit[i]);
    PR_TRY(say_unit(&q, pruning, unit[i]));
  }
  return PR_OK;
}
