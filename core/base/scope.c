/* scope.c - one joined string per thread; each frame remembers where its part begins. */
#include "base/scope.h"

#include <string.h>

enum { DEEPEST = 64, LONGEST_PATH = 192, LONGEST_TYPE = 48 };

typedef struct frame {
  int path_length; /* of the path before this frame was entered */
  char type[LONGEST_TYPE];
} frame;

static _Thread_local struct {
  int depth; /* may exceed DEEPEST: deeper frames are counted, not stored */
  int length;
  char path[LONGEST_PATH];
  frame frames[DEEPEST];
} scope;

static int append(int at, const char *text) {
  while (*text && at < LONGEST_PATH - 1) scope.path[at++] = *text++;
  scope.path[at] = 0;
  return at;
}

int pr_scope_enter(const char *name, const char *type) {
  int depth = scope.depth++;
  if (depth >= DEEPEST) return depth;
  frame *f = &scope.frames[depth];
  f->path_length = scope.length;
  strncpy(f->type, type, LONGEST_TYPE - 1);
  f->type[LONGEST_TYPE - 1] = 0;
  if (*name) {
    if (scope.length) scope.length = append(scope.length, ".");
    scope.length = append(scope.length, name);
  }
  return depth;
}

void pr_scope_leave(int depth) {
  if (depth < 0 || depth >= scope.depth) return;
  scope.depth = depth;
  if (depth >= DEEPEST) return;
  scope.length = scope.frames[depth].path_length;
  scope.path[scope.length] = 0;
}

const char *pr_scope_path(void) { return scope.path; }

const char *pr_scope_type(void) {
  int depth = scope.depth < DEEPEST ? scope.depth : DEEPEST;
  return depth ? scope.frames[depth - 1].type : "";
}
