/* couple_net.h - small networks of coupling rules on hand-made tensors. Functions add a node and return its
 * output's number. */
#ifndef COUPLE_NET_H
#define COUPLE_NET_H

#include "couple/rules.h"
#include "couple/units.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { NET_VALUES = 96, ABSENT = -1 };

typedef struct net {
  prC_algebra algebra;
  prC_value value[NET_VALUES];
  int values, nodes;
  pr_coupling c; /* the latest node */
  prC_value *in[8], *out[8];
  prC_units units;
} net;

typedef enum tensor_kind { INPUT, PARAMETER, CONSTANT } tensor_kind;

#define SHAPE(...)                                                                                           \
  (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), (int64_t[]) { __VA_ARGS__ }

static inline int tensor(net *n, tensor_kind kind, int dim, const int64_t *shape) {
  assert_true(n->values < NET_VALUES);
  prC_value *v = &n->value[n->values];
  if (kind == INPUT)
    prC_value_activation(v, dim, shape);
  else if (kind == PARAMETER)
    prC_value_parameter(v, dim, shape);
  else
    prC_value_constant(v, dim, shape);
  return n->values++;
}

static inline void open_net(net *n) {
  memset(n, 0, sizeof *n);
  assert_int_equal(prC_algebra_open(&n->algebra), PR_OK);
}

static inline void close_net(net *n) {
  prC_units_close(&n->units);
  prC_algebra_close(&n->algebra);
}

/* A node with up to three inputs (ABSENT allowed) and one output of the given shape. */
static inline pr_coupling *node(net *n, int a, int b, int c, int dim, const int64_t *shape) {
  const int in[3] = { a, b, c };
  for (int i = 0; i < 3; i++) n->in[i] = in[i] == ABSENT ? NULL : &n->value[in[i]];
  n->out[0] = &n->value[tensor(n, INPUT, dim, shape)];
  n->c = (pr_coupling){
    .algebra = &n->algebra, .node = n->nodes++, .inputs = 3, .outputs = 1, .in = n->in, .out = n->out
  };
  return &n->c;
}

static inline int last(const net *n) { return n->values - 1; }

static inline int conv_grouped(net *n, int x, int w, int bias, int64_t groups) {
  const int64_t *s = n->value[x].shape;
  prC_rule_conv(node(n, x, w, bias, SHAPE(s[0], n->value[w].shape[0], s[2], s[3])), 0, 1, 2, PRC_OUT(0), 2,
                groups, false);
  return last(n);
}

static inline int conv(net *n, int x, int w, int bias) { return conv_grouped(n, x, w, bias, 1); }

static inline int linear(net *n, int x, int w, int bias) {
  int64_t shape[PRC_DIMS];
  int dim = n->value[x].dim;
  memcpy(shape, n->value[x].shape, sizeof shape);
  shape[dim - 1] = n->value[w].shape[0];
  prC_rule_linear(node(n, x, w, bias, dim, shape), 0, 1, 2, PRC_OUT(0));
  return last(n);
}

static inline int reshape(net *n, int x, int dim, const int64_t *shape) {
  prC_rule_reshape(node(n, x, ABSENT, ABSENT, dim, shape), 0, PRC_OUT(0));
  return last(n);
}

static inline int permute(net *n, int x, const int *order) {
  int64_t shape[PRC_DIMS];
  for (int a = 0; a < n->value[x].dim; a++) shape[a] = n->value[x].shape[order[a]];
  prC_rule_permute(node(n, x, ABSENT, ABSENT, n->value[x].dim, shape), 0, PRC_OUT(0), order);
  return last(n);
}

static inline double sum_of_two(const double *x, const void *context) { return (void)context, x[0] + x[1]; }

static inline int binary(net *n, int a, int b, prC_elementwise kind) {
  const prC_value *wide = &n->value[n->value[a].dim >= n->value[b].dim ? a : b];
  int64_t shape[PRC_DIMS];
  memcpy(shape, wide->shape, sizeof shape);
  for (int k = 0; k < 2; k++) {
    const prC_value *v = &n->value[k ? b : a];
    for (int i = 0; i < v->dim; i++)
      if (v->shape[i] > 1) shape[wide->dim - v->dim + i] = v->shape[i];
  }
  prC_rule_elementwise(node(n, a, b, ABSENT, wide->dim, shape), 2, (int[]){ 0, 1 }, PRC_OUT(0), kind,
                       sum_of_two, NULL);
  return last(n);
}

static inline int add(net *n, int a, int b) { return binary(n, a, b, PRC_FUNCTION); }

static inline int mul(net *n, int a, int b) { return binary(n, a, b, PRC_MULTIPLY); }

static inline int slice(net *n, int x, int axis, int64_t start, int64_t step, int64_t length) {
  int64_t shape[PRC_DIMS];
  memcpy(shape, n->value[x].shape, sizeof shape);
  shape[axis] = length;
  prC_rule_slice(node(n, x, ABSENT, ABSENT, n->value[x].dim, shape), 0, PRC_OUT(0), axis, start, step);
  return last(n);
}

static inline int cat(net *n, int a, int b, int axis) {
  int64_t shape[PRC_DIMS];
  memcpy(shape, n->value[a].shape, sizeof shape);
  shape[axis] += n->value[b].shape[axis];
  prC_rule_cat(node(n, a, b, ABSENT, n->value[a].dim, shape), 2, (int[]){ 0, 1 }, PRC_OUT(0), axis);
  return last(n);
}

static inline int select_at(net *n, int x, int axis, int64_t index) {
  int64_t shape[PRC_DIMS];
  int dim = 0;
  for (int a = 0; a < n->value[x].dim; a++)
    if (a != axis) shape[dim++] = n->value[x].shape[a];
  prC_rule_select(node(n, x, ABSENT, ABSENT, dim, shape), 0, PRC_OUT(0), axis, index);
  return last(n);
}

static inline int attention(net *n, int q, int k, int v) {
  int64_t shape[PRC_DIMS];
  int dim = n->value[q].dim;
  memcpy(shape, n->value[q].shape, sizeof shape);
  shape[dim - 1] = n->value[v].shape[dim - 1];
  prC_rule_attention(node(n, q, k, v, dim, shape), 0, 1, 2, PRC_NONE, PRC_OUT(0), false);
  return last(n);
}

/* Pin the output and take the units. */
static inline int finish(net *n, int output) {
  prC_value_pin(&n->algebra, &n->value[output]);
  assert_int_equal(prC_units_open(&n->units, &n->algebra, n->value, n->values, false), PR_OK);
  return n->units.count;
}

/* How many members of a unit lie on an axis of a parameter. */
static inline int members(const net *n, int unit, int parameter, int axis) {
  int count = 0;
  for (int64_t m = n->units.start[unit]; m < n->units.start[unit + 1]; m++)
    count += n->units.member[m].parameter == parameter && n->units.member[m].axis == axis;
  return count;
}

/* Units with exactly `each` members on an axis of a parameter. */
static inline int units_with(const net *n, int parameter, int axis, int each) {
  int count = 0;
  for (int u = 0; u < n->units.count; u++) count += members(n, u, parameter, axis) == each;
  return count;
}

/* The unit whose member is this position, at this place of the conjunction. */
static inline int unit_at(const net *n, int parameter, int axis, int position, int place) {
  for (int u = 0; u < n->units.count; u++) {
    for (int64_t m = n->units.start[u]; m < n->units.start[u + 1]; m++) {
      const prC_member *e = &n->units.member[m];
      if (e->parameter == parameter && e->axis == axis && e->position == position && e->place == place)
        return u;
    }
  }
  fail_msg("no unit at parameter %d, axis %d, position %d, place %d", parameter, axis, position, place);
  return 0;
}

static inline int scope_sizes(const net *n, int scope) {
  return n->units.scope_start[scope + 1] - n->units.scope_start[scope];
}

#endif
