/* args.c - arguments of operators: defaults, text form, copies. */
#include "op/op.h"

#include "base/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int prO_arg_count(const pr_op *op) {
  int n = 0;
  while (n < PR_MAX_ARGS && op->args[n].name) n++;
  return n;
}

bool prO_arg_is_list(pr_arg_kind kind) {
  return kind == PR_ARG_INTS || kind == PR_ARG_DIMS || kind == PR_ARG_INDICES;
}

int prO_arg_number(const pr_op *op, const char *name) {
  int n = prO_arg_count(op);
  const char *names[PR_MAX_ARGS];
  for (int i = 0; i < n; i++) {
    if (strcmp(op->args[i].name, name) == 0) return i;
    names[i] = op->args[i].name;
  }
  const char *nearest = pr_nearest(name, names, n);
  if (nearest)
    pr_fail(PR_ERR_ARGUMENT, "%s: there is no option '%s'; did you mean '%s'?", op->name, name, nearest);
  else
    pr_fail(PR_ERR_ARGUMENT, "%s: there is no option '%s'", op->name, name);
  return -1;
}

pr_status prO_args_complete(const pr_op *op, pr_arg args[PR_MAX_ARGS]) {
  for (int i = 0; i < PR_MAX_ARGS && op->args[i].name; i++) {
    const pr_arg_spec *spec = &op->args[i];
    if (args[i].given) continue;
    if (spec->required)
      return pr_fail(PR_ERR_ARGUMENT, "%s: option '%s' must be given", op->name, spec->name);
    args[i] = (pr_arg){ .integer = spec->integer, .real = spec->real };
  }
  return PR_OK;
}

/* The number of `word` in "nearest bilinear", or -1. */
static int choice(const char *choices, const char *word, size_t length) {
  for (int k = 0; *choices; k++) {
    size_t n = strcspn(choices, " ");
    if (n == length && strncmp(choices, word, n) == 0) return k;
    choices += n;
    while (*choices == ' ') choices++;
  }
  return -1;
}

static pr_status parse_list(const pr_op *op, const pr_arg_spec *spec, const char *text, const char *end,
                            pr_arg *arg) {
  int count = 1;
  for (const char *at = text; at < end; at++) count += *at == ',';
  if (text == end) count = 0;
  if (count && !(arg->list = PRB_ARRAY(int64_t, count))) return PR_ERR_MEMORY;
  arg->count = count;
  for (int k = 0; k < count; k++) {
    char *stop;
    arg->list[k] = strtoll(text, &stop, 10);
    if (stop == text || (stop < end && *stop != ','))
      return pr_fail(PR_ERR_ARGUMENT, "%s: option '%s' is a list of integers, got '%s'", op->name, spec->name,
                     text);
    text = stop + 1;
  }
  return PR_OK;
}

static pr_status parse_one(const pr_op *op, const pr_arg_spec *spec, const char *text, const char *end,
                           pr_arg *arg) {
  int length = (int)(end - text);
  char *stop = (char *)text;
  arg->given = true;
  if (prO_arg_is_list(spec->kind)) return parse_list(op, spec, text, end, arg);
  switch (spec->kind) {
  case PR_ARG_REAL: arg->real = strtod(text, &stop); break;
  case PR_ARG_BOOL:
  case PR_ARG_MODE:
    arg->integer = strncmp(text, "true", 4) == 0 || *text == '1';
    stop = (char *)end;
    break;
  case PR_ARG_CHOICE:
    arg->integer = choice(spec->choices, text, (size_t)length);
    if (arg->integer < 0)
      return pr_fail(PR_ERR_ARGUMENT, "%s: option '%s' is one of '%s', got '%.*s'", op->name, spec->name,
                     spec->choices, length, text);
    stop = (char *)end;
    break;
  default: arg->integer = strtoll(text, &stop, 10); break;
  }
  if (stop != end)
    return pr_fail(PR_ERR_ARGUMENT, "%s: option '%s' cannot be '%.*s'", op->name, spec->name, length, text);
  return PR_OK;
}

pr_status pr_args_parse(const pr_op *op, const char *text, pr_arg args[PR_MAX_ARGS]) {
  memset(args, 0, PR_MAX_ARGS * sizeof *args);
  pr_status status = PR_OK;
  while (text && *text && !status) {
    while (*text == ' ') text++;
    const char *end = text + strcspn(text, " "), *equals = memchr(text, '=', (size_t)(end - text));
    if (text == end) break;
    char name[32] = "";
    if (equals && equals - text < 31) memcpy(name, text, (size_t)(equals - text));
    int i = equals ? prO_arg_number(op, name) : -1;
    if (!equals)
      status = pr_fail(PR_ERR_ARGUMENT, "%s: options are name=value, got '%s'", op->name, text);
    else if (i < 0)
      status = PR_ERR_ARGUMENT;
    else if (args[i].given)
      status = pr_fail(PR_ERR_ARGUMENT, "%s: option '%s' is given twice", op->name, name);
    else
      status = parse_one(op, &op->args[i], equals + 1, end, &args[i]);
    text = end;
  }
  if (!status) return PR_OK;
  pr_args_free(args);
  return status;
}

pr_status pr_args_copy(const pr_op *op, const pr_arg *from, pr_arg to[PR_MAX_ARGS]) {
  memset(to, 0, PR_MAX_ARGS * sizeof *to);
  if (!from) return PR_OK;
  for (int i = 0; i < PR_MAX_ARGS && op->args[i].name; i++) {
    to[i] = from[i];
    to[i].list = NULL;
    if (!from[i].count) continue;
    if (!(to[i].list = PRB_ARRAY(int64_t, from[i].count))) {
      to[i].count = 0;
      pr_args_free(to);
      return PR_ERR_MEMORY;
    }
    memcpy(to[i].list, from[i].list, (size_t)from[i].count * sizeof(int64_t));
  }
  return PR_OK;
}

void pr_args_free(pr_arg args[PR_MAX_ARGS]) {
  for (int i = 0; i < PR_MAX_ARGS; i++) {
    if (args[i].list) PRB_ARRAY_FREE(args[i].list, args[i].count);
    args[i].count = 0;
  }
}
