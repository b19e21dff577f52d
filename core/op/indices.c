/* indices.c - the check that operators with an index input share. */
#include "op/op.h"

pr_status prO_need_indices(const pr_call *c, int i, int64_t size, const char *what) {
  const pr_tensor *t = c->in[i];
  char name[32];
  if (pr_dtype_is_float(t->dtype) || t->dtype == PR_BOOL)
    return prO_fail(c, PR_ERR_DTYPE, "%s holds indices and must be i64, i32 or u8, not %s",
                    prO_input_name(c->op, i, name), pr_dtype_name(t->dtype));
  if (c->meta || t->device != PR_CPU || !t->storage) return PR_OK;
  prT_walk w;
  int64_t element = 0;
  for (prT_walk_start(&w, t); w.left > 0; prT_walk_next(&w), element++) {
    double value = prT_get(t, w.position);
    if (value >= 0 && value < (double)size) continue;
    return prO_fail(c, PR_ERR_INDEX, "%s %lld is out of range: it must be %lld to %lld (%s, element %lld)",
                    what, PR_INDEX(value), PR_INDEX(0), PR_INDEX(size - 1), prO_input_name(c->op, i, name),
                    PR_INDEX(element));
  }
  return PR_OK;
}
