/* op.c - finding operators and reading the name lists of their descriptors. */
#include "op/op.h"

#include "base/memory.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { MOST_NAMES = 12 };

/* A parsed list such as "x weight bias?" or "y .mean". */
typedef struct name_list {
  int count;
  char name[MOST_NAMES][24];
  bool optional[MOST_NAMES], list[MOST_NAMES], index[MOST_NAMES], hidden[MOST_NAMES];
  bool saved[MOST_NAMES], written[MOST_NAMES];
} name_list;

struct prO_names {
  name_list in, out;
};

static struct prO_names *all_names;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void parse(name_list *names, const char *text) {
  while (text && *text && names->count < MOST_NAMES) {
    while (*text == ' ') text++;
    if (!*text) break;
    int k = names->count++, length = 0;
    if (*text == '.') names->hidden[k] = true, text++;
    for (; *text && *text != ' '; text++) {
      if (*text == '?')
        names->optional[k] = true;
      else if (*text == '*')
        names->list[k] = true;
      else if (*text == '#')
        names->index[k] = true;
      else if (length < 23)
        names->name[k][length++] = *text;
    }
  }
}

/* Is `name` one of the words of `list`? */
static bool among(const char *list, const char *name) {
  size_t length = strlen(name);
  for (const char *at = list; at && (at = strstr(at, name)); at += length)
    if ((at == list || at[-1] == ' ') && (at[length] == 0 || at[length] == ' ')) return true;
  return false;
}

static void parse_op(pr_op *op, struct prO_names *names) {
  op->names = names;
  parse(&names->in, op->inputs);
  parse(&names->out, op->outputs);
  for (int k = 0; k < names->in.count; k++) {
    names->in.saved[k] = among(op->saves, names->in.name[k]);
    names->in.written[k] = among(op->writes, names->in.name[k]);
  }
  for (int k = 0; k < names->out.count; k++) names->out.saved[k] = among(op->saves, names->out.name[k]);
}

/* The tables live as long as the program and are small, so they come straight from static-like memory. */
static void parse_all(void) {
  static struct prO_names storage[256];
  all_names = storage;
  for (int i = 0; i < pr_op_count && i < 256; i++) {
    pr_op_list[i]->number = i + 1;
    parse_op(pr_op_list[i], &storage[i]);
  }
}

static const struct prO_names *names_of(const pr_op *op) {
  if (!op->names) pthread_once(&once, parse_all);
  return op->names;
}

int prO_number(const pr_op *op) {
  names_of(op);
  return op->number - 1;
}

/* --- operators defined at run time: the latest first ------------------------------------------------------------------ */

typedef struct registered {
  pr_op *op;
  struct registered *next;
} registered;

static registered *newest;

static const pr_op *find_registered(const char *name) {
  for (const registered *r = newest; r; r = r->next)
    if (strcmp(r->op->name, name) == 0) return r->op;
  return NULL;
}

pr_status pr_op_register(pr_op *op) {
  for (int i = 0; i < pr_op_count; i++)
    if (strcmp(pr_op_list[i]->name, op->name) == 0)
      return pr_fail(PR_ERR_ARGUMENT, "there is a built-in operator '%s'; choose another name", op->name);
  registered *entry = PRB_NEW(registered);
  struct prO_names *names = entry ? PRB_NEW(struct prO_names) : NULL;
  if (!names) {
    if (entry) PRB_FREE(entry);
    return PR_ERR_MEMORY;
  }
  parse_op(op, names);
  *entry = (registered){ op, newest };
  newest = entry;
  return PR_OK;
}

const pr_op *pr_op_find(const char *name) {
  int low = 0, high = pr_op_count - 1;
  while (low <= high) {
    int middle = (low + high) / 2, order = strcmp(name, pr_op_list[middle]->name);
    if (order == 0) return pr_op_list[middle];
    if (order < 0)
      high = middle - 1;
    else
      low = middle + 1;
  }
  const pr_op *own = find_registered(name);
  if (own) return own;
  const char *names[256];
  for (int i = 0; i < pr_op_count && i < 256; i++) names[i] = pr_op_list[i]->name;
  const char *nearest = pr_nearest(name, names, pr_op_count < 256 ? pr_op_count : 256);
  if (nearest)
    pr_fail(PR_ERR_ARGUMENT, "there is no operator '%s'; did you mean '%s'?", name, nearest);
  else
    pr_fail(PR_ERR_ARGUMENT, "there is no operator '%s'", name);
  return NULL;
}

/* Inputs past the declared ones belong to the list at the end. */
static int input_slot(const pr_op *op, int i) {
  int last = names_of(op)->in.count - 1;
  return i < last ? i : last;
}

/* Outputs past the declared ones belong to the list "ys*". */
static int output_slot(const pr_op *op, int i) {
  int last = names_of(op)->out.count - 1;
  return i < last ? i : last;
}

int prO_inputs_declared(const pr_op *op) { return names_of(op)->in.count; }
int prO_outputs_declared(const pr_op *op) { return names_of(op)->out.count; }

int prO_outputs_visible(const pr_op *op) {
  const name_list *out = &names_of(op)->out;
  int n = 0;
  while (n < out->count && !out->hidden[n]) n++;
  return n;
}

bool prO_variadic(const pr_op *op) {
  const name_list *in = &names_of(op)->in;
  return in->count && in->list[in->count - 1];
}

bool prO_outputs_listed(const pr_op *op) {
  const name_list *out = &names_of(op)->out;
  return out->count && out->list[out->count - 1];
}

const char *prO_input_name(const pr_op *op, int i, char text[32]) {
  const name_list *in = &names_of(op)->in;
  int k = input_slot(op, i);
  if (k < 0)
    snprintf(text, 32, "input %lld", PR_INDEX(i));
  else if (in->list[k])
    snprintf(text, 32, "%.16s[%d]", in->name[k], (int)PR_INDEX(i - k));
  else
    snprintf(text, 32, "%s", in->name[k]);
  return text;
}

#define OF_INPUT(op, i, field)  (input_slot(op, i) >= 0 && names_of(op)->in.field[input_slot(op, i)])
#define OF_OUTPUT(op, i, field) (output_slot(op, i) >= 0 && names_of(op)->out.field[output_slot(op, i)])

bool prO_input_optional(const pr_op *op, int i) { return OF_INPUT(op, i, optional); }
bool prO_saves_input(const pr_op *op, int i) { return OF_INPUT(op, i, saved); }
bool prO_writes_input(const pr_op *op, int i) { return OF_INPUT(op, i, written); }
bool prO_input_is_index(const pr_op *op, int i) { return OF_INPUT(op, i, index); }
bool prO_saves_output(const pr_op *op, int i) { return OF_OUTPUT(op, i, saved); }
bool prO_output_is_index(const pr_op *op, int i) { return OF_OUTPUT(op, i, index); }
