/* hdf5_foreign.c - HDF5 files that nobody vouches for, read by a child process.
 *
 * The child answers every wanted dataset with a `reply`, and where it found one with the array's bytes. The
 * parent believes nothing: it checks each reply against the file's size before it takes memory, and treats a
 * short stream, whatever the cause, as damage.
 */
#define _GNU_SOURCE
#include "base/memory.h"
#include "base/thread.h"
#include "io/hdf5.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct reply {
  pr_status status; /* of opening, when not PR_OK `error` says why */
  pr_error error;
  pr_hdf5_array head; /* data is meaningless */
} reply;

bool pr_hdf5_signature(const char *path) {
  static const unsigned char signature[8] = { 0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n' };
  unsigned char bytes[8];
  struct stat info;
  if (stat(path, &info) || !S_ISREG(info.st_mode)) return false;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  bool found = false;
  for (off_t at = 0; fd >= 0 && !found && at < info.st_size && at <= (off_t)1 << 40; at = at ? at * 2 : 512)
    found = pread(fd, bytes, sizeof bytes, at) == (ssize_t)sizeof bytes &&
            !memcmp(bytes, signature, sizeof bytes);
  if (fd >= 0) close(fd);
  return found;
}

/* --- the child --- */

/* The soft limit sends SIGXCPU, which says more than the hard limit's SIGKILL. */
static void limit(int resource, rlim_t value) {
  struct rlimit now;
  if (getrlimit(resource, &now)) return;
  rlim_t hard = resource == RLIMIT_CPU ? value + 2 : value;
  if (hard > now.rlim_max) hard = now.rlim_max;
  if (value > hard) value = hard;
  setrlimit(resource, &(struct rlimit){ value, hard });
}

static rlim_t mapped_now(void) {
  unsigned long pages = 0;
  FILE *f = fopen("/proc/self/statm", "re");
  if (f) {
    if (fscanf(f, "%lu", &pages) != 1) pages = 0;
    fclose(f);
  }
  return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

/* A crash shall end the child silently, not run the parent's handlers, and leave nothing behind. */
static void confine(off_t file_bytes) {
  for (int s = 1; s < NSIG; s++)
    if (s != SIGKILL && s != SIGSTOP) signal(s, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGINT, SIG_IGN); /* Ctrl-C reaches both; the parent ends the child */
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd = 0; null >= 0 && fd < 3; fd++) dup2(null, fd);
  rlim_t mapped = mapped_now();
  if (mapped) limit(RLIMIT_AS, mapped + ((rlim_t)3 << 30));
  limit(RLIMIT_CPU, 10 + (rlim_t)(file_bytes / 5000000));
  limit(RLIMIT_FSIZE, 0); /* pipes are not counted */
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_NPROC, 0);
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
}

static bool send_all(int fd, const void *data, size_t size) {
  const char *at = data;
  while (size) {
    ssize_t n = write(fd, at, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    at += n, size -= (size_t)n;
  }
  return true;
}

static pr_status send_array(int fd, prI_hdf5_source *source, const pr_hdf5_array *head) {
  int64_t rows = head->rank ? head->shape[0] : 1, piece = prI_hdf5_source_piece(source);
  size_t row = head->bytes / (size_t)rows;
  if (piece > rows) piece = rows;
  char *buffer = prB_aligned(row * (size_t)piece);
  if (!buffer) return PR_ERR_MEMORY;
  for (int64_t first = 0; first < rows; first += piece) {
    int64_t n = rows - first < piece ? rows - first : piece;
    PR_TRY(prI_hdf5_source_read(source, first, n, buffer));
    if (!send_all(fd, buffer, row * (size_t)n)) return PR_ERR_IO;
  }
  return PR_OK; /* the buffer goes with the process */
}

static pr_status answer(int fd, pr_hdf5 *file, const pr_hdf5_wanted *wanted) {
  reply r = { 0 };
  prI_hdf5_source *source = NULL;
  if (!wanted->optional || pr_hdf5_has(file, wanted->name))
    r.status = prI_hdf5_source_open(file, wanted->name, &r.head, &source);
  if (r.status) r.error = *pr_error_last();
  if (!send_all(fd, &r, sizeof r)) return PR_ERR_IO;
  return r.status || !r.head.bytes || wanted->head_only ? r.status : send_array(fd, source, &r.head);
}

static void child(int fd, const char *path, off_t bytes, const pr_hdf5_wanted *wanted, int count) {
  if (fd < 3) fd = fcntl(fd, F_DUPFD_CLOEXEC, 3); /* the parent's standard streams may be closed */
  confine(bytes);
  pr_hdf5 *file;
  pr_status status = pr_hdf5_open(path, &file);
  if (status) {
    reply r = { .status = status, .error = *pr_error_last() };
    send_all(fd, &r, sizeof r);
  }
  for (int i = 0; i < count && !status; i++) status = answer(fd, file, &wanted[i]);
  _exit(status ? 1 : 0); /* the library's own clean-up may crash; the system's does not */
}

/* --- the parent --- */

/* Read exactly `size` bytes. */
static pr_status receive(int fd, const char *path, const char *name, void *data, size_t size) {
  char *at = data;
  while (size) {
    PR_TRY(prB_interrupted());
    struct pollfd ready = { .fd = fd, .events = POLLIN };
    int events = poll(&ready, 1, 200);
    if (events == 0 || (events < 0 && errno == EINTR)) continue;
    ssize_t n = read(fd, at, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return pr_fail(PR_ERR_FORMAT, "%s: is damaged: `%s` ends early", path, name);
    at += n, size -= (size_t)n;
  }
  return PR_OK;
}

/* The child may be in the hands of the file: its words are checked like the file's. */
static pr_status check_head(const char *path, off_t file_bytes, const char *name, const pr_hdf5_array *head) {
  bool sound = head->rank >= 0 && head->rank <= PR_HDF5_RANK && (unsigned)head->type <= PR_HDF5_F64;
  size_t bytes = sound ? pr_hdf5_type_size(head->type) : 0, size = bytes;
  for (int i = 0; sound && i < head->rank; i++)
    sound = head->shape[i] >= 0 && !__builtin_mul_overflow(bytes, (size_t)head->shape[i], &bytes);
  if (!sound || bytes != head->bytes || head->count != (int64_t)(bytes / size))
    return pr_fail(PR_ERR_FORMAT, "%s: `%s` is damaged: its description contradicts itself", path, name);
  size_t most =
      ((size_t)file_bytes << 10) + ((size_t)file_bytes << 4) + 65536; /* deflate packs 1032 : 1 at best */
  if (bytes > most)
    return pr_fail(PR_ERR_FORMAT, "%s: `%s` claims %zu bytes, more than a file of %lld bytes can hold", path,
                   name, bytes, (long long)file_bytes);
  return PR_OK;
}

static pr_status receive_array(int fd, const char *path, off_t file_bytes, const pr_hdf5_wanted *wanted,
                               pr_hdf5_array *out) {
  const char *name = wanted->name;
  reply r;
  PR_TRY(receive(fd, path, name, &r, sizeof r));
  if (r.status) {
    r.error.message[sizeof r.error.message - 1] = 0;
    bool known = r.status == PR_ERR_MEMORY || r.status == PR_ERR_UNSUPPORTED;
    return pr_fail(known ? r.status : PR_ERR_FORMAT, "%s", r.error.message);
  }
  if (!r.head.found) return PR_OK;
  PR_TRY(check_head(path, file_bytes, name, &r.head));
  void *data = r.head.bytes && !wanted->head_only ? prB_aligned(r.head.bytes) : NULL;
  if (r.head.bytes && !wanted->head_only && !data) return PR_ERR_MEMORY;
  *out = r.head;
  out->data = data;
  if (!data) return PR_OK;
  return receive(fd, path, name, data, r.head.bytes);
}

/* Where the child was ended by a signal, that is the better reason. */
static void explain(const char *path, int state) {
  int by = WIFSIGNALED(state) ? WTERMSIG(state) : SIGKILL;
  if (by == SIGXCPU)
    pr_fail(PR_ERR_FORMAT, "%s: reading it as HDF5 takes longer than its size explains: the file is damaged",
            path);
  else if (by != SIGKILL)
    pr_fail(PR_ERR_FORMAT,
            "%s: the HDF5 library crashed on it (%s, in a process of its own): the file is damaged", path,
            strsignal(by));
}

static pid_t start_child(int ends[2], const char *path, off_t bytes, const pr_hdf5_wanted *wanted,
                         int count) {
  prI_hdf5_start(); /* before the fork, so that the pages are shared */
  pid_t pid = fork();
  if (pid == 0) child(ends[1], path, bytes, wanted, count);
  close(ends[1]);
  return pid;
}

pr_status pr_hdf5_read_foreign(const char *path, const pr_hdf5_wanted *wanted, int count,
                               pr_hdf5_array *arrays) {
  for (int i = 0; i < count; i++) arrays[i] = (pr_hdf5_array){ 0 };
  struct stat info;
  if (stat(path, &info)) return pr_fail(PR_ERR_IO, "%s: cannot be opened: %s", path, strerror(errno));
  if (!S_ISREG(info.st_mode)) return pr_fail(PR_ERR_FORMAT, "%s: is not a file", path);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC))
    return pr_fail(PR_ERR_IO, "%s: no pipe to read it through: %s", path, strerror(errno));
  pid_t pid = start_child(ends, path, info.st_size, wanted, count);
  if (pid < 0) {
    close(ends[0]);
    return pr_fail(PR_ERR_IO, "%s: no process to read it in: %s", path, strerror(errno));
  }
  pr_status status = PR_OK;
  for (int i = 0; i < count && !status; i++)
    status = receive_array(ends[0], path, info.st_size, &wanted[i], &arrays[i]);
  close(ends[0]);
  if (status)
    kill(pid, SIGKILL); /* it may still be busy; the cause of an end that has come already stays as it is */
  int state = 0;
  while (waitpid(pid, &state, 0) < 0 && errno == EINTR) {}
  if (status == PR_ERR_FORMAT) explain(path, state);
  for (int i = 0; i < count && status; i++) pr_hdf5_array_free(&arrays[i]);
  return status;
}
