/* testing.h - the few words that the C tests share, on top of cmocka.
 *
 *   static void adds(void **state) {
 *     (void)state;
 *     assert_ok(pr_add(...));
 *     assert_fails(pr_add(...), PR_ERR_SHAPE, "[2, 3]");
 *   }
 *   int main(void) {
 *     const struct CMUnitTest tests[] = { memory_test(adds) };
 *     return cmocka_run_group_tests(tests, NULL, NULL);
 *   }
 *
 * memory_test(f) is a test after which every byte of the core's memory must be free again. The core may keep
 * caches: a test that fills them releases them at its end.
 */
#ifndef PRUNELUA_TESTING_H
#define PRUNELUA_TESTING_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/memory.h"

/* The call succeeds, else the core's own message is shown. */
#define assert_ok(call) testing_assert_ok((call), #call, __FILE__, __LINE__)

static inline void testing_assert_ok(pr_status status, const char *call, const char *file, int line) {
  if (status == PR_OK) return;
  const pr_error *error = pr_error_last();
  print_error("%s failed (%s): %s%s%s\n", call, pr_status_name(status), error->path, *error->path ? ": " : "",
              error->message);
  _fail(file, line);
}

/* The call fails with this status, and its message contains this text (NULL: any). */
#define assert_fails(call, status, text)                                                                     \
  testing_assert_fails((call), (status), (text), #call, __FILE__, __LINE__)

static inline void testing_assert_fails(pr_status status, pr_status expected, const char *text,
                                        const char *call, const char *file, int line) {
  const pr_error *error = pr_error_last();
  if (status != expected) {
    print_error("%s gave '%s', expected '%s'\n", call, pr_status_name(status), pr_status_name(expected));
    _fail(file, line);
  }
  if (text && !strstr(error->message, text)) {
    print_error("%s: the message lacks '%s': %s\n", call, text, error->message);
    _fail(file, line);
  }
}

/* |actual - expected| <= tolerance * max(1, |expected|); nan equals nan only. */
#define assert_close(actual, expected, tolerance)                                                            \
  testing_assert_close((double)(actual), (double)(expected), (tolerance), __FILE__, __LINE__)

static inline void testing_assert_close(double actual, double expected, double tolerance, const char *file,
                                        int line) {
  if (actual == expected || (isnan(actual) && isnan(expected))) return;
  if (fabs(actual - expected) <= tolerance * fmax(1.0, fabs(expected))) return;
  print_error("%.17g is not within %g of %.17g\n", actual, tolerance, expected);
  _fail(file, line);
}

#define memory_test(f) cmocka_unit_test_setup_teardown(f, testing_memory_begin, testing_memory_end)

static pr_memory_stats testing_memory_before;

static inline int testing_memory_begin(void **state) {
  (void)state;
  pr_memory_get(&testing_memory_before);
  return 0;
}

static inline int testing_memory_end(void **state) {
  (void)state;
  pr_memory_stats now;
  pr_memory_get(&now);
  if (now.live == testing_memory_before.live && now.blocks == testing_memory_before.blocks) return 0;
  print_error("memory: %zu bytes in %zu blocks before the test, %zu bytes in %zu blocks after it\n",
              testing_memory_before.live, testing_memory_before.blocks, now.live, now.blocks);
  return 1;
}

/* The path of a golden file. Where it is absent the whole program is skipped, saying so: call it in main. The
 * text stays valid until the eighth next call. */
static inline const char *testing_shared(const char *path) {
  static char paths[8][1024];
  static unsigned next;
  char *full = paths[next++ % 8];
  const char *root = getenv("PRUNELUA_SHARED");
  snprintf(full, sizeof paths[0], "%s/%s", root ? root : "$PRUNELUA_SHARED", path);
  if (access(full, R_OK) != 0) {
    printf("skipped: %s is not there\n", full);
    exit(77);
  }
  return full;
}

#endif
