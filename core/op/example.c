#include "op/example.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"

int pr_example_count(const pr_op *op) {
  if (!op->examples || !*op->examples) return 0;
  int n = 1;
  for (const char *at = op->examples; *at; at++) n += *at == '\n' && at[1];
  return n;
}

const char *pr_example_text(const pr_op *op, int k, char text[PRO_EXAMPLE_TEXT]) {
  const char *line = op->examples ? op->examples : "";
  for (; k > 0 && line; k--) line = (line = strchr(line, '\n')) ? line + 1 : NULL;
  snprintf(text, PRO_EXAMPLE_TEXT, "%.*s", line ? (int)strcspn(line, "\n") : 0, line ? line : "");
  return text;
}

/* --- inputs ------------------------------------------------------------------------------------------- */

static pr_status bad_word(const pr_op *op, const char *word) {
  return pr_fail(PR_ERR_FORMAT, "%s: cannot read '%s' in an example", op->name, word);
}

/* "2x3x4", "scalar" at *text; leaves *text behind it. */
static bool parse_shape(const char **text, int *dim, int64_t shape[PR_MAX_DIM]) {
  *dim = 0;
  if (strncmp(*text, "scalar", 6) == 0) {
    *text += 6;
    return true;
  }
  for (;;) {
    char *end;
    if (*dim == PR_MAX_DIM || **text < '0' || **text > '9') return false;
    shape[(*dim)++] = strtoll(*text, &end, 10);
    *text = end;
    if (**text != 'x') return true;
    ++*text;
  }
}

static pr_status fill_random(pr_tensor *t, double low, double span, uint64_t seed) {
  bool whole = !pr_dtype_is_float(t->dtype);
  int64_t i = 0;
  prT_walk w;
  for (prT_walk_start(&w, t); w.left > 0; prT_walk_next(&w), i++) {
    double u = prB_uniform(seed, 0, 0, (uint64_t)i);
    prT_set(t, w.position, whole ? (double)(int64_t)(u * span) : low + u * span);
  }
  prT_touch(t);
  return PR_OK;
}

/* What stands behind the colon of an input. */
static pr_status make_input(const pr_op *op, const char *text, pr_dtype dtype, uint64_t seed,
                            pr_tensor **out) {
  const char *at = text;
  int64_t shape[PR_MAX_DIM];
  int dim;
  double low = -2, span = 4;
  char *end;
  if (!parse_shape(&at, &dim, shape)) return bad_word(op, text);
  char mark = *at;
  if (mark == '>' || mark == '%') {
    double number = strtod(at + 1, &end);
    if (end == at + 1) return bad_word(op, text);
    if (mark == '>')
      low = number;
    else
      span = number, dtype = PR_I64;
    at = end;
  }
  if (*at || (mark == '%' && span < 1)) return bad_word(op, text);
  if (!(*out = pr_tensor_new(dtype, PR_CPU, dim, shape))) return pr_error_last()->code;
  return fill_random(*out, low, span, seed);
}

/* The slot of an input called `name`: the next free one for a list. -1: there is none. */
static int slot_of(const pr_op *op, const char *name, const pr_example *example) {
  int declared = prO_inputs_declared(op);
  char own[32];
  for (int i = 0; i < declared; i++) {
    prO_input_name(op, i, own);
    own[strcspn(own, "[")] = 0;
    if (strcmp(own, name) != 0) continue;
    bool list = prO_variadic(op) && i == declared - 1;
    while (list && i < PRO_EXAMPLE_INPUTS && example->in[i]) i++;
    return i < PRO_EXAMPLE_INPUTS && !example->in[i] ? i : -1;
  }
  return -1;
}

/* --- lines -------------------------------------------------------------------------------------------- */

static pr_status parse_words(const pr_op *op, char *line, pr_dtype dtype, uint64_t seed, pr_example *e) {
  char options[PRO_EXAMPLE_TEXT] = "", *rest = NULL;
  for (char *word = strtok_r(line, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
    char *colon = strchr(word, ':');
    if (!colon) { /* an option */
      size_t used = strlen(options);
      snprintf(options + used, sizeof options - used, "%s ", word);
      continue;
    }
    *colon = 0;
    int slot = slot_of(op, word, e);
    if (slot < 0) return pr_fail(PR_ERR_FORMAT, "%s: has no input '%s' left for an example", op->name, word);
    PR_TRY(make_input(op, colon + 1, dtype, seed + 1000 * (uint64_t)(slot + 1), &e->in[slot]));
    if (slot >= e->n_in) e->n_in = slot + 1;
  }
  return pr_args_parse(op, options, e->args);
}

pr_status pr_example_parse(const pr_op *op, const char *text, pr_dtype dtype, uint64_t seed,
                           pr_example *example) {
  char line[PRO_EXAMPLE_TEXT];
  *example = (pr_example){ .n_in = 0 };
  if (strlen(text) >= sizeof line)
    return pr_fail(PR_ERR_FORMAT, "%s: an example has more than %zu letters", op->name, sizeof line);
  strcpy(line, text);
  pr_status status = parse_words(op, line, dtype, seed, example);
  if (status) pr_example_free(example);
  return status;
}

void pr_example_free(pr_example *example) {
  for (int i = 0; i < example->n_in; i++) pr_release(example->in[i]);
  for (int i = 0; i < PRO_EXAMPLE_INPUTS; i++) example->in[i] = NULL;
  pr_args_free(example->args);
  example->n_in = 0;
}
