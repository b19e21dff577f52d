/* binary.h - z = f(x, y), element by element with broadcasting: the scalar functions of the family, from
 * which the reference kernels and the coupling rule (value of a dead entry) work.
 */
#ifndef PR_OP_BINARY_H
#define PR_OP_BINARY_H

#include "op/op.h"

typedef struct prO_binary {
  const char *name;
  double (*value)(double x, double y);
} prO_binary;

/* The row of an operator of this family, or NULL for another operator. */
const prO_binary *prO_binary_row(const pr_op *op);

#endif
