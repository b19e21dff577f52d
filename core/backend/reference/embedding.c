/* embedding.c - rows picked by index, and one-hot vectors. */
#include "backend/backend.h"

enum { INDEX, WEIGHT };
enum { Y };

PR_KERNEL(reference, embedding, forward)
{
  PRK_LOAD(index, c->in[INDEX]);
  PRK_LOAD(weight, c->in[WEIGHT]);
  PRK_ROOM(y, pr_numel(c->out[Y]));
  int64_t width = c->in[WEIGHT]->shape[1], n = pr_numel(c->in[INDEX]);
  for (int64_t i = 0; i < n; i++)
    for (int64_t k = 0; k < width; k++) y[i * width + k] = weight[(int64_t)index[i] * width + k];
  return prK_store(c->out[Y], y);
}

PR_KERNEL(reference, embedding, backward)
{
  PRK_LOAD(index, c->in[INDEX]);
  PRK_LOAD(gy, c->grad_out[Y]);
  PRK_ZEROS(gw, pr_numel(c->grad_in[WEIGHT]));
  int64_t width = c->grad_in[WEIGHT]->shape[1], n = pr_numel(c->in[INDEX]);
  for (int64_t i = 0; i < n; i++)
    for (int64_t k = 0; k < width; k++) gw[(int64_t)index[i] * width + k] += gy[i * width + k];
  return prK_store(c->grad_in[WEIGHT], gw);
}

PR_KERNEL(reference, one_hot, forward)
{
  PRK_LOAD(index, c->in[INDEX]);
  PRK_ZEROS(y, pr_numel(c->out[Y]));
  int64_t classes = c->args[0].integer, n = pr_numel(c->in[INDEX]);
  for (int64_t i = 0; i < n; i++) y[i * classes + (int64_t)index[i]] = 1;
  return prK_store(c->out[Y], y);
}
