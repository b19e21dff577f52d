/* regularizer.c - finding regularisers by name. */
#include "prune/regularizer.h"

#include <string.h>

const pr_regularizer *pr_regularizer_find(const char *name) {
  const char *names[64];
  int n = 0;
  for (const pr_regularizer *const *r = pr_regularizer_list; *r && n < 64; r++) {
    if (strcmp((*r)->name, name) == 0) return *r;
    names[n++] = (*r)->name;
  }
  const char *nearest = pr_nearest(name, names, n);
  pr_fail(PR_ERR_ARGUMENT, "there is no regularizer '%s'%s%s%s", name, nearest ? "; did you mean '" : "",
          nearest ? nearest : "", nearest ? "'?" : "");
  return NULL;
}
