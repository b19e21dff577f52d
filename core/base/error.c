/* error.c - the thread's failure record, and the nearest spelling of a word. */
#include "base/error.h"

#include "base/scope.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int pr_index_base = 0;

static _Thread_local pr_error last;

pr_status(pr_fail)(pr_status code, const char *format, ...) {
  char message[sizeof last.message]; /* the arguments may point into the record itself */
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  last.code = code;
  memcpy(last.message, message, sizeof message);
  snprintf(last.path, sizeof last.path, "%s", pr_scope_path());
  return code;
}

const pr_error *pr_error_last(void) { return &last; }

pr_status pr_error_set(const pr_error *error) {
  last = *error;
  return last.code;
}

const char *pr_status_name(pr_status code) {
  static const char *const names[] = {
    "ok",    "argument", "shape",  "dtype",       "index",       "memory",
    "state", "io",       "format", "unsupported", "interrupted", "declined"
  };
  return (unsigned)code < sizeof names / sizeof *names ? names[code] : "unknown";
}

enum { LONGEST_WORD = 64 };

/* Optimal string alignment: insertions, deletions, substitutions, swaps of neighbours. */
static int distance(const char *a, const char *b) {
  int na = (int)strlen(a), nb = (int)strlen(b);
  if (na >= LONGEST_WORD || nb >= LONGEST_WORD) return LONGEST_WORD;
  int rows[3][LONGEST_WORD];
  int *before = rows[0], *above = rows[1], *row = rows[2];
  for (int j = 0; j <= nb; j++) above[j] = j;
  for (int i = 1; i <= na; i++) {
    row[0] = i;
    for (int j = 1; j <= nb; j++) {
      int best = above[j - 1] + (a[i - 1] != b[j - 1]);
      if (above[j] + 1 < best) best = above[j] + 1;
      if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best)
        best = before[j - 2] + 1;
      row[j] = best;
    }
    int *spare = before;
    before = above, above = row, row = spare;
  }
  return above[nb];
}

const char *pr_nearest(const char *word, const char *const *names, int n) {
  const char *best = NULL;
  int least = (int)strlen(word) / 3 + 2; /* farther than this is another word, not a slip */
  for (int i = 0; i < n; i++) {
    int d = distance(word, names[i]);
    if (d < least) least = d, best = names[i];
  }
  return best;
}
