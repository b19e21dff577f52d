/* random.h - counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
 * 1, 2, 3", SC 2011).
 *
 * A number is a pure function of (seed, stream, step, index), so results do not depend on the number of
 * threads, and resuming needs no more than the seed and the step. Each call of a random operator takes the
 * next step of the stream PR_STREAM_OPERATOR; the data loader takes its epoch as the step and its sample as
 * the index.
 */
#ifndef PR_BASE_RANDOM_H
#define PR_BASE_RANDOM_H

#include <stdint.h>

typedef enum pr_stream { PR_STREAM_OPERATOR = 1, PR_STREAM_SHUFFLE = 2, PR_STREAM_AUGMENT = 3 } pr_stream;

/* Four 32-bit numbers for block `index` of (seed, stream, step). */
void prB_philox(uint64_t seed, uint32_t stream, uint64_t step, uint64_t index, uint32_t out[4]);

/* Uniform in [0, 1) with 53 bits, and standard normal (Box and Muller 1958): element `index` of (seed,
 * stream, step). */
double prB_uniform(uint64_t seed, uint32_t stream, uint64_t step, uint64_t index);
double prB_normal(uint64_t seed, uint32_t stream, uint64_t step, uint64_t index);

/* A uniform integer in [0, n), n > 0. */
uint64_t prB_below(uint64_t seed, uint32_t stream, uint64_t step, uint64_t index, uint64_t n);

/* The process's generator: pr_seed sets the seed and rewinds to step 0; prB_next_step takes a step. */
void pr_seed(uint64_t seed);
uint64_t pr_seed_get(void);
uint64_t prB_next_step(void);
uint64_t pr_random_step(void);
void pr_random_restore(uint64_t seed, uint64_t step);

#endif
