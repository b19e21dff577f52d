/* text.c - a graph as lines of text, and back.
 *
 *   prunelua-graph 1 BATCH
 *   module PATH TYPE
 *   input DTYPE SHAPE NAME
 *   tensor KIND NAME                    KIND: parameter, buffer, constant; shape and dtype are the tensor's
 *   node OP PATH TYPE IN,IN,... ARGS    values are numbered in order of their lines; a node's results follow
 * those before it output VALUE
 *
 * Words are separated by spaces; an empty path or type is "-", and bytes that would break a word are written
 * as %XX. ARGS are name=value as pr_args_parse reads them; a list element that is a multiple k of the batch
 * is written k*, which only this file knows.
 */
#include "graph/put.h"

#include "autograd/parameter.h"
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- writing --------------------------------------------------------------------------------------------------------- */

static void put_word(prG_writer *w, const char *word) {
  if (!*word)
    w->put(w->ctx, " -");
  else
    w->put(w->ctx, " ");
  for (; *word; word++) {
    unsigned char c = (unsigned char)*word;
    if (c <= 32 || c == '%' || c == 127 || (c == '-' && !word[1]))
      prG_put(w, "%%%02X", c);
    else
      prG_put(w, "%c", c);
  }
}

static void put_integer(prG_writer *w, int64_t value, int64_t scale) {
  if (scale)
    prG_put(w, "%lld*", (long long)scale);
  else
    prG_put(w, "%lld", (long long)value);
}

static void put_choice(prG_writer *w, const char *choices, int64_t number) {
  for (; number > 0 && *choices; number--) choices += strcspn(choices, " ") + 1;
  prG_put(w, "%.*s", (int)strcspn(choices, " "), choices);
}

static void put_args(prG_writer *w, const pr_graph_node *node) {
  for (int a = 0; a < PR_MAX_ARGS && node->op->args[a].name; a++) {
    const pr_arg_spec *spec = &node->op->args[a];
    const pr_arg *arg = &node->args[a];
    if (!arg->given) continue;
    prG_put(w, " %s=", spec->name);
    if (spec->kind == PR_ARG_REAL)
      prG_put(w, "%.17g", arg->real);
    else if (spec->kind == PR_ARG_CHOICE)
      put_choice(w, spec->choices, arg->integer);
    else if (!prO_arg_is_list(spec->kind))
      put_integer(w, arg->integer, node->scale[a] ? node->scale[a][0] : 0);
    else if (arg->count == 0 && !spec->empty)
      put_integer(w, arg->integer, node->scale[a] ? node->scale[a][0] : 0);
    for (int i = 0; i < arg->count; i++) {
      if (i) w->put(w->ctx, ",");
      put_integer(w, arg->list[i], node->scale[a] ? node->scale[a][i] : 0);
    }
  }
}

pr_status pr_graph_write(const pr_graph *graph, void (*put)(void *ctx, const char *text), void *ctx) {
  prG_writer writing = { graph, put, ctx }, *w = &writing;
  int *number = PRB_ARRAY(int, graph->n_values), next = 0; /* value -> number in the text */
  if (!number) return PR_ERR_MEMORY;
  prG_put(w, "prunelua-graph 1 %lld\n", (long long)graph->batch);
  for (int m = 0; m < graph->n_modules; m++) {
    put(ctx, "module");
    put_word(w, graph->modules[m].path), put_word(w, graph->modules[m].type);
    put(ctx, "\n");
  }
  for (int i = 0; i < graph->n_inputs; i++) {
    const pr_graph_value *value = &graph->values[graph->inputs[i]];
    number[graph->inputs[i]] = next++;
    prG_put(w, "input %s ", pr_dtype_name(value->dtype));
    for (int d = 0; d < value->dim; d++) prG_put(w, d ? ",%lld" : "%lld", (long long)value->shape[d]);
    put_word(w, value->name);
    put(ctx, "\n");
  }
  for (int v = 0; v < graph->n_values; v++) {
    const pr_graph_value *value = &graph->values[v];
    if (!value->tensor) continue;
    number[v] = next++;
    prG_put(w, "tensor %s",
            value->kind == PR_VALUE_CONSTANT ? "constant"
            : value->is_buffer               ? "buffer"
                                             : "parameter");
    put_word(w, prG_value_name(graph, v));
    put(ctx, "\n");
  }
  for (int n = 0; n < graph->n_nodes; n++) {
    const pr_graph_node *node = &graph->nodes[n];
    prG_put(w, "node %s", node->op->name);
    put_word(w, node->path), put_word(w, node->type);
    put(ctx, node->n_in ? " " : " -");
    for (int i = 0; i < node->n_in; i++)
      prG_put(w, i ? ",%d" : "%d", node->in[i] < 0 ? -1 : number[node->in[i]]);
    put_args(w, node);
    put(ctx, "\n");
    for (int k = 0; k < node->n_out; k++) number[node->out[k]] = next++;
  }
  for (int k = 0; k < graph->n_outputs; k++) prG_put(w, "output %d\n", number[graph->outputs[k]]);
  PRB_ARRAY_FREE(number, graph->n_values);
  return PR_OK;
}

/* --- reading --------------------------------------------------------------------------------------------------------- */

enum { LONGEST_LINE = 1 << 20, LONGEST_WORD = 512, MOST_VALUES = 1 << 20, MOST_INPUTS = 4096 };

typedef struct reader {
  const char *at, *end;
  int line;
  pr_graph *graph;
  pr_tensor **shapes; /* a stand-in on PR_META for every value so far */
  size_t shape_room;
  pr_tensor *(*find)(void *ctx, const char *name);
  void *ctx;
} reader;

static pr_status bad(const reader *r, const char *what) {
  return pr_fail(PR_ERR_FORMAT, "graph text, line %d: %s", r->line, what);
}

/* The next word of the line, unescaped; false at the end of the line. */
static bool word(reader *r, char text[LONGEST_WORD]) {
  int n = 0;
  while (r->at < r->end && *r->at == ' ') r->at++;
  while (r->at < r->end && *r->at != ' ' && *r->at != '\n') {
    char c = *r->at++;
    unsigned code;
    if (c == '%' && r->end - r->at >= 2 && sscanf(r->at, "%2X", &code) == 1)
      c = (char)code, r->at += 2;
    else if (c == '-' && n == 0 && (r->at == r->end || *r->at == ' ' || *r->at == '\n'))
      return text[0] = 0, true;
    if (n < LONGEST_WORD - 1) text[n++] = c;
  }
  text[n] = 0;
  return n > 0;
}

static pr_status parse_integers(reader *r, const char *text, int64_t *list, int most, int *n) {
  for (*n = 0; *text;) {
    char *stop;
    if (*n == most) return bad(r, "too many numbers");
    list[(*n)++] = strtoll(text, &stop, 10);
    if (stop == text || (*stop && *stop != ',')) return bad(r, "a list of numbers is damaged");
    text = *stop ? stop + 1 : stop;
  }
  return PR_OK;
}

static pr_status add_value(reader *r, pr_value_kind kind, pr_tensor *shape) {
  if (!shape) return PR_ERR_MEMORY;
  if (r->graph->n_values >= MOST_VALUES) return bad(r, "too many values");
  PR_TRY(PRB_RESERVE(r->shapes, r->shape_room, (size_t)r->graph->n_values + 1));
  int v = prG_add_value(r->graph, kind, shape);
  if (v < 0) return PR_ERR_MEMORY;
  r->shapes[v] = pr_retain(shape);
  return PR_OK;
}

static pr_status read_input(reader *r) {
  char text[LONGEST_WORD];
  pr_dtype dtype;
  int64_t shape[PR_MAX_DIM];
  int dim;
  if (!word(r, text)) return bad(r, "an input needs dtype, shape and name");
  PR_TRY(pr_dtype_parse(text, &dtype));
  if (!word(r, text)) return bad(r, "an input needs dtype, shape and name");
  PR_TRY(parse_integers(r, text, shape, PR_MAX_DIM, &dim));
  pr_tensor *t = pr_tensor_new(dtype, PR_META, dim, shape);
  if (!t) return pr_error_last()->code;
  pr_status status = add_value(r, PR_VALUE_INPUT, t);
  pr_release(t);
  PR_TRY(status);
  int v = r->graph->n_values - 1;
  if (!word(r, text)) return bad(r, "an input needs dtype, shape and name");
  if (!(r->graph->values[v].name = prB_string(text))) return PR_ERR_MEMORY;
  return prG_add_input(r->graph, v);
}

static pr_status read_tensor(reader *r) {
  char kind[LONGEST_WORD], name[LONGEST_WORD];
  if (!word(r, kind) || !word(r, name)) return bad(r, "a tensor needs kind and name");
  bool constant = strcmp(kind, "constant") == 0, buffer = strcmp(kind, "buffer") == 0;
  if (!constant && !buffer && strcmp(kind, "parameter"))
    return bad(r, "a tensor is parameter, buffer or constant");
  pr_tensor *t = r->find(r->ctx, name);
  if (!t) return pr_error_last()->code;
  pr_tensor *shape = pr_tensor_new(t->dtype, PR_META, t->dim, t->shape);
  pr_status status = add_value(r, constant ? PR_VALUE_CONSTANT : PR_VALUE_PARAMETER, shape);
  pr_release(shape);
  if (status) return pr_release(t), status;
  pr_graph_value *value = &r->graph->values[r->graph->n_values - 1];
  value->tensor = t, value->is_buffer = buffer;
  if (constant) return PR_OK;
  return (value->name = prB_string(name)) ? PR_OK : PR_ERR_MEMORY;
}

/* Split the factors "k*" off the arguments' text: what is left is for pr_args_parse; *scaled is set where
 * there was one. */
static void strip_scales(const char *text, char *plain, int64_t batch, bool *scaled) {
  *scaled = false;
  while (*text) {
    char *stop;
    if ((*text >= '0' && *text <= '9')) {
      long long k = strtoll(text, &stop, 10);
      if (*stop == '*') {
        plain += sprintf(plain, "%lld", k * (long long)batch);
        text = stop + 1, *scaled = true;
        continue;
      }
      while (text < stop) *plain++ = *text++;
      continue;
    }
    *plain++ = *text++;
  }
  *plain = 0;
}

/* Factors of the argument that `text` (name=value) gives, into the node. */
static pr_status read_scales(pr_graph_node *node, const char *text) {
  char name[64];
  size_t length = strcspn(text, "=");
  if (!text[length] || length >= sizeof name) return PR_OK;
  memcpy(name, text, length), name[length] = 0;
  int a = prO_arg_number(node->op, name);
  if (a < 0) return PR_ERR_ARGUMENT;
  int count = node->args[a].count > 0 ? node->args[a].count : 1;
  int64_t *scale = PRB_ARRAY(int64_t, count);
  if (!scale) return PR_ERR_MEMORY;
  const char *at = text + length + 1;
  for (int i = 0; i < count && *at; i++) {
    char *stop;
    long long k = strtoll(at, &stop, 10);
    if (stop == at) break;
    if (*stop == '*') scale[i] = k, stop++;
    at = *stop ? stop + 1 : stop;
  }
  if (node->scale[a]) PRB_ARRAY_FREE(node->scale[a], count);
  node->scale[a] = scale, node->scaled |= (uint16_t)(1u << a);
  return PR_OK;
}

/* The rest of the line as arguments. `copy` and `plain` have room for it, and for numbers that grow. */
static pr_status read_args(reader *r, const pr_op *op, char *copy, char *plain, pr_arg args[PR_MAX_ARGS]) {
  size_t length = 0;
  while (r->at < r->end && *r->at != '\n') copy[length++] = *r->at++;
  copy[length] = 0;
  bool scaled;
  strip_scales(copy, plain, r->graph->batch, &scaled);
  pr_status status = pr_args_parse(op, plain, args);
  return status ? bad(r, pr_error_last()->message) : PR_OK;
}

/* Run the shape rule on stand-ins: a damaged file fails here, with the operator's own message. */
static pr_status infer(reader *r, const pr_op *op, const pr_arg *args, int n_in, const int64_t *in) {
  pr_call c = { .op = op, .n_in = n_in, .meta = true };
  if (!(c.in = PRB_ARRAY(pr_tensor *, n_in))) return PR_ERR_MEMORY;
  pr_status status = PR_OK;
  for (int i = 0; i < n_in && !status; i++) {
    if (in[i] >= r->graph->n_values || in[i] < -1)
      status = bad(r, "a node reads a value that is not made before it");
    else if (in[i] >= 0)
      c.in[i] = r->shapes[in[i]];
    else if (!prO_input_optional(op, i))
      status = bad(r, "a node lacks an input");
  }
  if (!status && (n_in < prO_inputs_declared(op) ? !prO_variadic(op) || n_in < 1
                                                 : n_in > prO_inputs_declared(op) && !prO_variadic(op)))
    status = bad(r, "a node has the wrong number of inputs");
  if (!status && (op->compose || !op->infer)) status = bad(r, "a node's operator cannot stand in a graph");
  if (!status) status = pr_args_copy(op, args, c.args);
  if (!status) {
    status = prO_args_complete(op, c.args);
    if (!status) status = prO_outputs(&c, prO_outputs_declared(op));
    if (!status) status = op->infer(&c);
    pr_args_free(c.args);
  }
  pr_graph_node *node = status ? NULL : prG_add_node(r->graph, op, args, n_in, c.n_out);
  if (!status && !node) status = PR_ERR_MEMORY;
  for (int i = 0; i < n_in && node; i++) node->in[i] = (int)in[i];
  int number = r->graph->n_nodes - 1;
  for (int k = 0; k < c.n_out; k++) {
    if (!status && !(status = add_value(r, PR_VALUE_RESULT, c.out[k]))) {
      node->out[k] = r->graph->n_values - 1;
      r->graph->values[node->out[k]].node = number, r->graph->values[node->out[k]].output = k;
    }
    pr_release(c.out[k]);
  }
  prB_resize(c.out, (size_t)c.n_out * sizeof *c.out, 0);
  PRB_ARRAY_FREE(c.in, n_in);
  return status;
}

static pr_status read_node_text(reader *r, char *copy, char *plain) {
  char name[LONGEST_WORD], path[LONGEST_WORD], type[LONGEST_WORD];
  if (!word(r, name) || !word(r, path) || !word(r, type))
    return bad(r, "a node needs operator, path, type and inputs");
  const pr_op *op = pr_op_find(name);
  if (!op)
    return pr_fail(
        PR_ERR_FORMAT,
        "graph text, line %d: there is no operator '%s'; one that was written in Lua (nn.Function) must be "
        "defined before the model is opened",
        r->line, name);
  while (r->at < r->end && *r->at == ' ') r->at++;
  size_t length = 0;
  while (r->at < r->end && *r->at != ' ' && *r->at != '\n') copy[length++] = *r->at++;
  copy[length] = 0;
  int64_t *in = PRB_ARRAY(int64_t, MOST_INPUTS);
  if (!in) return PR_ERR_MEMORY;
  int n_in = 0;
  pr_arg args[PR_MAX_ARGS];
  pr_status status = strcmp(copy, "-") == 0 ? PR_OK : parse_integers(r, copy, in, MOST_INPUTS, &n_in);
  if (!status && !(status = read_args(r, op, copy, plain, args))) {
    status = infer(r, op, args, n_in, in);
    pr_args_free(args);
  }
  PRB_ARRAY_FREE(in, MOST_INPUTS);
  PR_TRY(status);
  pr_graph_node *node = &r->graph->nodes[r->graph->n_nodes - 1];
  if (!(node->path = prB_string(path)) || !(node->type = prB_string(type))) return PR_ERR_MEMORY;
  char *rest; /* copy holds the arguments' text by now */
  for (char *arg = strtok_r(copy, " ", &rest); arg; arg = strtok_r(NULL, " ", &rest))
    if (strchr(arg, '*')) PR_TRY(read_scales(node, arg));
  return PR_OK;
}

static pr_status read_node(reader *r) {
  const char *newline = memchr(r->at, '\n', (size_t)(r->end - r->at));
  size_t length = (size_t)((newline ? newline : r->end) - r->at);
  if (length > LONGEST_LINE) return bad(r, "the line is too long");
  size_t room = 24 * length + 64; /* every digit could grow to a whole number */
  char *copy = PRB_ARRAY(char, room), *plain = PRB_ARRAY(char, room);
  pr_status status = copy && plain ? read_node_text(r, copy, plain) : PR_ERR_MEMORY;
  PRB_ARRAY_FREE(copy, room);
  PRB_ARRAY_FREE(plain, room);
  return status;
}

static pr_status read_module(reader *r) {
  char path[LONGEST_WORD], type[LONGEST_WORD];
  if (!word(r, path) || !word(r, type)) return bad(r, "a module needs path and type");
  return prG_add_module(r->graph, path, type);
}

static pr_status read_output(reader *r) {
  char text[LONGEST_WORD];
  char *stop;
  if (!word(r, text)) return bad(r, "an output needs a value");
  long value = strtol(text, &stop, 10);
  if (*stop || value < 0 || value >= r->graph->n_values)
    return bad(r, "an output names a value that does not exist");
  return prG_add_output(r->graph, (int)value);
}

static pr_status read_header(reader *r) {
  char text[LONGEST_WORD];
  r->line = 1;
  if (!word(r, text) || strcmp(text, "prunelua-graph")) return bad(r, "this is not a graph");
  if (!word(r, text) || strcmp(text, "1")) return bad(r, "the graph's format is newer than this program");
  if (!word(r, text)) return bad(r, "the batch size is missing");
  r->graph->batch = strtoll(text, NULL, 10);
  return r->graph->batch >= 0 && r->graph->batch <= 1 << 20 ? PR_OK
                                                            : bad(r, "the batch size is out of range");
}

static pr_status read_lines(reader *r) {
  static const struct {
    const char *name;
    pr_status (*read)(reader *r);
  } kinds[] = {
    { "module", read_module }, { "input", read_input },   { "tensor", read_tensor },
    { "node", read_node },     { "output", read_output },
  };
  PR_TRY(read_header(r));
  for (;;) {
    while (r->at < r->end && *r->at != '\n') r->at++;
    if (r->at >= r->end || ++r->at >= r->end) break;
    char name[LONGEST_WORD];
    size_t k = 0, n = sizeof kinds / sizeof *kinds;
    r->line++;
    if (!word(r, name)) continue;
    while (k < n && strcmp(kinds[k].name, name)) k++;
    if (k == n) return bad(r, "unknown kind of line");
    PR_TRY(kinds[k].read(r));
  }
  return r->graph->n_outputs ? PR_OK : bad(r, "the graph has no output");
}

pr_graph *pr_graph_read(const char *text, size_t length, pr_tensor *(*find)(void *ctx, const char *name),
                        void *ctx) {
  reader r = { .at = text, .end = text + length, .find = find, .ctx = ctx };
  if (!(r.graph = prG_new())) return NULL;
  pr_status status = read_lines(&r);
  for (int v = 0; r.shapes && v < r.graph->n_values; v++) pr_release(r.shapes[v]);
  PRB_ARRAY_FREE(r.shapes, r.shape_room);
  if (!status) return r.graph;
  pr_graph_free(r.graph);
  return NULL;
}
