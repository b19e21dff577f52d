/* call.h - for operators that are made of others: arguments as values, and the operators that they call.
 *
 *   pr_tensor *y = prO_call(&pr_op_permute, PRO_ARGS(PRO_LIST(3, order)), 1, x);
 */
#ifndef PR_OP_CALL_H
#define PR_OP_CALL_H

#include "op/op.h"

/* Arguments in the order of the called operator's specs; PRO_UNSET leaves the default. Lists are borrowed for
 * the call. */
#define PRO_ARGS(...)           ((pr_arg[PR_MAX_ARGS]){ __VA_ARGS__ })
#define PRO_UNSET               ((pr_arg){ .given = false })
#define PRO_INT(value)          ((pr_arg){ .integer = (value), .given = true })
#define PRO_REAL(value)         ((pr_arg){ .real = (value), .given = true })
#define PRO_LIST(length, array) ((pr_arg){ .count = (length), .list = (array), .given = true })

extern pr_op pr_op_add, pr_op_sub, pr_op_mul, pr_op_div, pr_op_neg, pr_op_log, pr_op_pow2, pr_op_square,
    pr_op_floor, pr_op_clamp, pr_op_eq, pr_op_ge, pr_op_gt, pr_op_ne, pr_op_cast, pr_op_logical_not,
    pr_op_masked_fill, pr_op_sign, pr_op_sigmoid, pr_op_full, pr_op_sum, pr_op_reshape, pr_op_permute,
    pr_op_squeeze, pr_op_squeeze_dims, pr_op_unsqueeze, pr_op_expand, pr_op_narrow, pr_op_split, pr_op_cat,
    pr_op_contiguous, pr_op_fmod, pr_op_remainder;

/* f(x, value) for a binary operator and a number, as a 0-dimensional tensor of x's dtype. */
pr_tensor *prO_call_scalar(const pr_op *op, pr_tensor *x, double value);
/* The same operators where an operand is handed over: releases `x` (and `y`); NULL in, NULL out. */
pr_tensor *prO_take1(const pr_op *op, pr_tensor *x);
pr_tensor *prO_take2(const pr_op *op, pr_tensor *x, pr_tensor *y);
pr_tensor *prO_take_scalar(const pr_op *op, pr_tensor *x, double value);

#endif
