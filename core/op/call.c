#include "op/call.h"

pr_tensor *prO_call_scalar(const pr_op *op, pr_tensor *x, double value) {
  pr_tensor *number = pr_tensor_scalar(x->dtype, value);
  pr_tensor *y = number ? prO_call(op, NULL, 2, x, number) : NULL;
  pr_release(number);
  return y;
}

pr_tensor *prO_take1(const pr_op *op, pr_tensor *x) {
  pr_tensor *y = x ? prO_call(op, NULL, 1, x) : NULL;
  pr_release(x);
  return y;
}

pr_tensor *prO_take2(const pr_op *op, pr_tensor *x, pr_tensor *y) {
  pr_tensor *z = x && y ? prO_call(op, NULL, 2, x, y) : NULL;
  pr_release(x);
  pr_release(y);
  return z;
}

pr_tensor *prO_take_scalar(const pr_op *op, pr_tensor *x, double value) {
  pr_tensor *y = x ? prO_call_scalar(op, x, value) : NULL;
  pr_release(x);
  return y;
}
