/* wait_policy.c - threads that wait for work sleep instead of spinning.
 *
 * gcc's OpenMP threads spin for milliseconds at the end of every parallel loop. On a machine that has other
 * work to do, the spinning thread keeps the one that it waits for off the processor: small networks then
 * train some fifty times slower, while an idle machine gains a few per cent at most. The only control is the
 * environment, which the OpenMP library reads before main, in its constructor. So the program starts itself
 * anew with OMP_WAIT_POLICY=passive as early as a program can act, before the constructors of libraries; that
 * costs about 10 ms, for linking twice. Who sets OMP_WAIT_POLICY or GOMP_SPINCOUNT decides for himself.
 */
#include <limits.h>
#include <string.h>
#include <unistd.h>

#if defined(_OPENMP) && defined(__linux__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

static int starts_with(const char *text, const char *beginning) {
  return strncmp(text, beginning, strlen(beginning)) == 0;
}

/* Runs before the C library has set up what needs setting up: only plain system calls, no memory from the
 * heap. */
static void start(int argc, char **argv, char **environment) {
  (void)argc;
  static char policy[] = "OMP_WAIT_POLICY=passive";
  enum { MOST = 4096 };
  static char *changed[MOST + 2];
  int n = 0;
  for (; environment[n]; n++) {
    if (n == MOST || starts_with(environment[n], "OMP_WAIT_POLICY=") ||
        starts_with(environment[n], "GOMP_SPINCOUNT="))
      return;
    changed[n] = environment[n];
  }
  changed[n] = policy;
  changed[n + 1] = NULL;

  char path[PATH_MAX];
  ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  if (length <= 0 || length == sizeof path - 1) return;
  path[length] = 0;
  execve(path, argv, changed); /* where this fails, threads spin: slower, not wrong */
}

__attribute__((section(".preinit_array"), used)) static void (*start_first)(int, char **, char **) = start;

#endif
