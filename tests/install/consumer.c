/* A program that uses the core as any C library: it makes a tensor, and it sees a failure as a status with a
 * message. */
#include <stdio.h>
#include <string.h>

#include <prune.h>

int main(void) {
  const int64_t shape[] = { 2, 3 }, wrong[] = { 2, -3 };
  pr_tensor *t = pr_tensor_new(PR_F32, PR_CPU, 2, shape);
  if (!t) return 1;
  pr_release(t);

  if (pr_tensor_new(PR_F32, PR_CPU, 2, wrong)) return 2;
  if (pr_error_last()->code != PR_ERR_ARGUMENT && pr_error_last()->code != PR_ERR_SHAPE) return 3;
  if (!strstr(pr_error_last()->message, "-3")) return 4;

  pr_memory_stats memory;
  pr_cache_empty();
  pr_memory_get(&memory);
  if (memory.live != 0) {
    fprintf(stderr, "%zu bytes were not freed\n", memory.live);
    return 5;
  }
  return 0;
}
