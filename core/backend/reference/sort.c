/* The reference kernels of op/sort.c. */
#include <math.h>
#include <stdlib.h>

#include "backend/reference/rows.h"

typedef struct entry {
  double value;
  int64_t index;
} entry;

static int by_index(const entry *a, const entry *b) { return (a->index > b->index) - (a->index < b->index); }

static int by_value(const entry *a, const entry *b) {
  if (isnan(a->value) || isnan(b->value)) return (isnan(a->value) != 0) - (isnan(b->value) != 0);
  return (a->value > b->value) - (a->value < b->value);
}

static int ascending(const void *a, const void *b) {
  int order = by_value(a, b);
  return order ? order : by_index(a, b);
}

static int descending(const void *a, const void *b) {
  int order = by_value(b, a);
  return order ? order : by_index(a, b);
}

/* The first k of each row, in order, into the two outputs. */
static pr_status order(pr_call *c, int axis, bool largest_first) {
  bool along[PR_MAX_DIM] = { false };
  prK_rows x;
  along[axis] = true;
  int64_t k = c->out[0]->shape[axis];
  PR_TRY(prK_rows_load(c, c->in[0], along, &x));
  PRK_ROOM(values, x.rows * k);
  PRK_ROOM(index, x.rows * k);
  entry *row = prK_scratch(c, (size_t)(x.length ? x.length : 1) * sizeof *row);
  if (!row) return PR_ERR_MEMORY;
  for (int64_t r = 0; r < x.rows; r++) {
    for (int64_t i = 0; i < x.length; i++) row[i] = (entry){ x.values[r * x.length + i], i };
    qsort(row, (size_t)x.length, sizeof *row, largest_first ? descending : ascending);
    for (int64_t i = 0; i < k; i++) values[r * k + i] = row[i].value, index[r * k + i] = (double)row[i].index;
  }
  PR_TRY(prK_rows_store(c, c->out[0], along, values));
  return prK_rows_store(c, c->out[1], along, index);
}

/* Each gradient goes back to where its value came from. */
static pr_status order_backward(pr_call *c, int axis) {
  bool along[PR_MAX_DIM] = { false };
  prK_rows dy, index;
  along[axis] = true;
  PR_TRY(prK_rows_load(c, c->grad_out[0], along, &dy));
  PR_TRY(prK_rows_load(c, c->out[1], along, &index));
  int64_t length = c->in[0]->shape[axis], n = dy.rows * length;
  PRK_ROOM(dx, n);
  for (int64_t i = 0; i < n; i++) dx[i] = 0;
  for (int64_t r = 0; r < dy.rows; r++)
    for (int64_t i = 0; i < dy.length; i++)
      dx[r * length + (int64_t)index.values[r * dy.length + i]] += dy.values[r * dy.length + i];
  return prK_rows_store(c, c->grad_in[0], along, dx);
}

PR_KERNEL(reference, sort, forward)
{
  int axis;
  PR_TRY(prO_dim(c, 0, c->in[0]->dim, &axis));
  return order(c, axis, c->args[1].integer);
}

PR_KERNEL(reference, sort, backward)
{
  int axis;
  PR_TRY(prO_dim(c, 0, c->in[0]->dim, &axis));
  return order_backward(c, axis);
}

PR_KERNEL(reference, topk, forward)
{
  int axis;
  PR_TRY(prO_dim(c, 1, c->in[0]->dim, &axis));
  return order(c, axis, c->args[2].integer);
}

PR_KERNEL(reference, topk, backward)
{
  int axis;
  PR_TRY(prO_dim(c, 1, c->in[0]->dim, &axis));
  return order_backward(c, axis);
}
