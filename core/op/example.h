/* example.h - the examples of a descriptor, made into calls: what the automatic tests run and what help
 * shows.
 *
 * `.examples` has one call per line, words separated by spaces:
 *     x:2x3x4          an input of this shape, random numbers in [-2, 2)
 *     x:3x4>0.1        random numbers in [0.1, 4.1)
 *     labels:5%7       random integers in [0, 7), as i64
 *     x:scalar         an input without axes (x:scalar>0.1, x:scalar%7 too)
 *     xs:2x3 xs:2x1    the elements of a list input, in order
 *     stride=2 dims=0,1  options, as pr_args_parse reads them
 * Inputs may be absent where the operator allows it.
 */
#ifndef PR_OP_EXAMPLE_H
#define PR_OP_EXAMPLE_H

#include "op/op.h"

enum { PRO_EXAMPLE_INPUTS = 16, PRO_EXAMPLE_TEXT = 400 };

typedef struct pr_example {
  pr_tensor *in[PRO_EXAMPLE_INPUTS]; /* NULL where absent */
  int n_in;
  pr_arg args[PR_MAX_ARGS];
} pr_example;

int pr_example_count(const pr_op *op);
/* Line k, without the newline. */
const char *pr_example_text(const pr_op *op, int k, char text[PRO_EXAMPLE_TEXT]);
/* Make the call that `text` describes; its float inputs get `dtype`. The numbers follow from `seed` alone. */
pr_status pr_example_parse(const pr_op *op, const char *text, pr_dtype dtype, uint64_t seed,
                           pr_example *example);
void pr_example_free(pr_example *example);

#endif
