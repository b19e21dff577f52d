/* binary.c - arithmetic on two f32 tensors that broadcast. The backward rules are made of these and of sums.
 */
#include "backend/cpu/clones.h"
#include "backend/cpu/layout.h"
#include "backend/cpu/parallel.h"

enum { X, Y };
enum { PARALLEL = 1 << 17 };

/* z from x and y; an operand of step 0 is one number. */
typedef void loop(int64_t n, const float *x, int64_t x_step, const float *y, int64_t y_step, float *z);

#define LOOP(name, value)                                                                                    \
  PRK_CLONES static void name##_loop(int64_t n, const float *restrict xs, int64_t x_step,                    \
                                     const float *restrict ys, int64_t y_step, float *restrict zs) {         \
    if (x_step && y_step)                                                                                    \
      for (int64_t i = 0; i < n; i++) {                                                                      \
        const float x = xs[i], y = ys[i];                                                                    \
        zs[i] = value;                                                                                       \
      }                                                                                                      \
    else if (x_step) {                                                                                       \
      const float y = *ys;                                                                                   \
      for (int64_t i = 0; i < n; i++) {                                                                      \
        const float x = xs[i];                                                                               \
        zs[i] = value;                                                                                       \
      }                                                                                                      \
    } else if (n > 0) {                                                                                      \
      const float x = *xs;                                                                                   \
      for (int64_t i = 0; i < n; i++) {                                                                      \
        const float y = ys[i * y_step];                                                                      \
        zs[i] = value;                                                                                       \
      }                                                                                                      \
    }                                                                                                        \
  }

LOOP(add, x + y)
LOOP(sub, x - y)
LOOP(mul, x *y)
LOOP(div, x / y)
LOOP(maximum, (x != x) | (x > y) ? x : y)
LOOP(minimum, (x != x) | (x < y) ? x : y)

/* An operand in the order of the result: a number has step 0 and may have any dtype. */
static const float *operand(pr_call *c, int i, float *number, int64_t *step) {
  const pr_tensor *t = c->in[i];
  *step = pr_numel(t) == 1 ? 0 : 1;
  if (*step) return prK_like(c, t, c->out[0]);
  *number = (float)prT_get(t, 0);
  return number;
}

static pr_status run(pr_call *c, loop *body) {
  const int64_t n = pr_numel(c->out[0]);
  if (!prK_all_f32(c->out, 1)) return PR_DECLINED;
  for (int i = X; i <= Y; i++)
    if (c->in[i]->dtype != PR_F32 && pr_numel(c->in[i]) != 1) return PR_DECLINED;
  float numbers[2], *z = prT_data(c->out[0]);
  int64_t x_step, y_step;
  const float *x = operand(c, X, &numbers[X], &x_step), *y = operand(c, Y, &numbers[Y], &y_step);
  if (!x || !y) return PR_ERR_MEMORY;
#pragma omp parallel if (n >= PARALLEL)
  {
    int64_t begin, end;
    prK_share(n, &begin, &end);
    body(end - begin, x + begin * x_step, x_step, y + begin * y_step, y_step, z + begin);
  }
  return PR_OK;
}

PR_KERNEL(cpu, add, forward)
{ return run(c, add_loop); }
PR_KERNEL(cpu, sub, forward)
{ return run(c, sub_loop); }
PR_KERNEL(cpu, mul, forward)
{ return run(c, mul_loop); }
PR_KERNEL(cpu, div, forward)
{ return run(c, div_loop); }
PR_KERNEL(cpu, maximum, forward)
{ return run(c, maximum_loop); }
PR_KERNEL(cpu, minimum, forward)
{ return run(c, minimum_loop); }
