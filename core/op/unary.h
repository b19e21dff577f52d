/* unary.h - y = f(x), element by element: the scalar functions and their derivatives, from which the
 * reference kernels, the coupling rule (value of a dead entry) and the engine work.
 */
#ifndef PR_OP_UNARY_H
#define PR_OP_UNARY_H

#include "op/op.h"

typedef struct prO_unary {
  const char *name;
  double (*value)(double x, const pr_arg *args);
  double (*slope)(double x, double y,
                  const pr_arg *args); /* dy/dx from what the operator saves; NULL: no gradient */
} prO_unary;

/* The row of an operator of this family, or NULL for another operator. */
const prO_unary *prO_unary_row(const pr_op *op);

#endif
