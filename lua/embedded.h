/* embedded.h - the Lua modules inside the program, made from lua/prune by cmake/GeneratedLists.cmake. */
#ifndef PRUNELUA_EMBEDDED_H
#define PRUNELUA_EMBEDDED_H

#include <stddef.h>

typedef struct embedded_module {
  const char *name;          /* as required: "prune.repl" */
  const char *path;          /* below lua/: "prune/repl.lua" */
  const unsigned char *text; /* followed by a zero that size does not count */
  size_t size;
} embedded_module;

extern const embedded_module embedded_modules[]; /* ends with a row whose name is NULL */

#endif
