/* initializer.h - random numbers in place: how parameters begin.
 *
 * Numbers are counter-based (base/random.h): element i in row-major order is a function of the seed, the step
 * that the call takes and i, whatever the number of threads. One block of Philox gives four numbers of f32 or
 * bf16, two of f64; so these are other numbers than those of the operators rand and randn.
 */
#ifndef PR_NN_INITIALIZER_H
#define PR_NN_INITIALIZER_H

#include "tensor/tensor.h"

/* Uniform in [low, high) (bf16 may round up to high); low where both are equal. Fails for other dtypes than
 * floats, for infinite bounds or high < low. Notes the write. */
pr_status pr_init_uniform(pr_tensor *t, double low, double high);

/* Normal with this mean and standard deviation >= 0 (Box and Muller 1958). */
pr_status pr_init_normal(pr_tensor *t, double mean, double std);

/* The same, but an element further than two standard deviations from the mean is drawn anew. */
pr_status pr_init_truncated_normal(pr_tensor *t, double mean, double std);

#endif
