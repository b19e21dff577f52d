/* error.h - how the core reports that something went wrong.
 *
 * Every function that can fail returns a pr_status. PR_OK is 0, so `if ((s = f())) return s;` (PR_TRY) passes
 * a failure up. The function that notices the failure calls pr_fail once: it fills the calling thread's
 * record, and whoever called reads it with pr_error_last(). The core never prints, exits, aborts or jumps.
 *
 * Messages say what was wrong, where, both shapes, and what to do. Indices inside them are written with
 * PR_INDEX(i), which counts from pr_index_base: 0 for C programs, 1 once the Lua binding has started.
 */
#ifndef PR_BASE_ERROR_H
#define PR_BASE_ERROR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum pr_status {
  PR_OK = 0,
  PR_ERR_ARGUMENT,    /* a value out of range, an unknown name */
  PR_ERR_SHAPE,       /* shapes that do not fit together */
  PR_ERR_DTYPE,       /* dtypes or devices that do not fit together */
  PR_ERR_INDEX,       /* an index outside its axis */
  PR_ERR_MEMORY,      /* an allocation failed */
  PR_ERR_STATE,       /* the call is right but not now: stale tape, reading a value while tracing, ... */
  PR_ERR_IO,          /* the operating system refused: no such file, no space, ... */
  PR_ERR_FORMAT,      /* a file that is damaged or of another kind */
  PR_ERR_UNSUPPORTED, /* understood, but this build or this operator cannot do it */
  PR_ERR_INTERRUPTED, /* pr_interrupt was raised (Ctrl-C) */
  PR_DECLINED         /* internal: a kernel passes the call on to the next backend; never reaches a caller */
} pr_status;

typedef struct pr_error {
  pr_status code;
  char path[192];     /* layer path at the time of failure ("layer1.0.conv1"), or empty */
  char message[1024]; /* without the path; no trailing newline */
} pr_error;

/* Set this thread's record and return `code`. The current layer path (scope.h) is stored along. */
pr_status pr_fail(pr_status code, const char *format, ...) __attribute__((format(printf, 2, 3)));
#ifdef __clang_analyzer__ /* shows clang-tidy, which looks at one file at a time, that a failure is not      \
                             PR_OK */
#define pr_fail(code, ...) ((pr_fail)(code, __VA_ARGS__), (code))
#endif

/* This thread's latest failure. The pointer stays valid; the content is overwritten by the next failure. */
const pr_error *pr_error_last(void);

/* Install `error` as this thread's record: how a worker thread's failure is handed to the thread that waits
 * for it. */
pr_status pr_error_set(const pr_error *error);

/* A short word for a status: "shape", "memory", ... */
const char *pr_status_name(pr_status code);

extern int pr_index_base;
#define PR_INDEX(i) ((long long)(i) + pr_index_base)

#define PR_TRY(expression)                                                                                   \
  do {                                                                                                       \
    pr_status pr_try_status_ = (expression);                                                                 \
    if (pr_try_status_) return pr_try_status_;                                                               \
  } while (0)

/* Nearest of `n` names to `word` by edit distance, or NULL when none is close. For "did you mean ...?". */
const char *pr_nearest(const char *word, const char *const *names, int n);

#endif
