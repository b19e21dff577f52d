/* put.c - see put.h. */
#include "graph/put.h"

#include <stdarg.h>
#include <stdio.h>

void prG_put(prG_writer *w, const char *format, ...) {
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  w->put(w->ctx, text);
}
