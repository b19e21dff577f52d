/* file.c - whole files: read at once, replaced whole. */
#include "io/file.h"

#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

enum { LONGEST_PATH = 4096 };

/* --- reading --- */

static pr_status open_regular(const char *path, int *fd, size_t *size) {
  struct stat info;
  *fd = open(path, O_RDONLY | O_CLOEXEC);
  if (*fd < 0) return pr_fail(PR_ERR_IO, "%s: cannot be opened: %s", path, strerror(errno));
  if (fstat(*fd, &info) == 0 && S_ISREG(info.st_mode)) return *size = (size_t)info.st_size, PR_OK;
  close(*fd);
  return pr_fail(PR_ERR_IO, "%s: is not a file", path);
}

/* Reads until `size` bytes or the end. */
static pr_status read_bytes(const char *path, int fd, char *data, size_t size, size_t *got) {
  for (*got = 0; *got < size;) {
    ssize_t n = read(fd, data + *got, size - *got);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return pr_fail(PR_ERR_IO, "%s: cannot be read: %s", path, strerror(errno));
    if (n == 0) break;
    *got += (size_t)n;
  }
  return PR_OK;
}

pr_status pr_file_head(const char *path, void *data, size_t most, size_t *size) {
  int fd;
  size_t total;
  PR_TRY(open_regular(path, &fd, &total));
  pr_status status = read_bytes(path, fd, data, most, size);
  close(fd);
  return status;
}

pr_status pr_file_read(const char *path, void **data, size_t *size) {
  int fd;
  size_t got;
  *data = NULL;
  PR_TRY(open_regular(path, &fd, size));
  pr_status status = PR_OK;
  if (*size && !(*data = prB_aligned(*size))) status = PR_ERR_MEMORY;
  if (!status && *size) {
    status = read_bytes(path, fd, *data, *size, &got);
    if (!status && got < *size) status = pr_fail(PR_ERR_IO, "%s: became shorter while it was read", path);
  }
  close(fd);
  if (!status) return PR_OK;
  prB_aligned_free(*data, *size);
  *data = NULL;
  return status;
}

/* --- writing --- */

typedef struct target {
  char path[LONGEST_PATH];      /* where the file goes, links followed */
  char folder[LONGEST_PATH];    /* ends in a slash */
  char temporary[LONGEST_PATH]; /* in the same folder */
  const char *given;            /* for messages */
} target;

static pr_status find_target(const char *path, target *t) {
  struct stat info;
  t->given = path;
  if (!*path) return pr_fail(PR_ERR_ARGUMENT, "the path of the file to write is empty");
  if (strlen(path) >= LONGEST_PATH - 16)
    return pr_fail(PR_ERR_ARGUMENT, "%.64s...: the path is too long", path);
  strcpy(t->path, path);
  if (lstat(path, &info) == 0 && S_ISLNK(info.st_mode)) {
    char *real = realpath(path, NULL);
    if (!real) return pr_fail(PR_ERR_IO, "%s: is a link that leads nowhere: %s", path, strerror(errno));
    bool fits = strlen(real) < LONGEST_PATH - 16;
    if (fits) strcpy(t->path, real);
    free(real);
    if (!fits) return pr_fail(PR_ERR_ARGUMENT, "%s: leads to a path that is too long", path);
  }
  if (stat(t->path, &info) == 0 && !S_ISREG(info.st_mode))
    return pr_fail(PR_ERR_IO, "%s: cannot be written: it is %s", path,
                   S_ISDIR(info.st_mode) ? "a folder" : "not a regular file");
  const char *slash = strrchr(t->path, '/'), *name = slash ? slash + 1 : t->path;
  if (!*name) return pr_fail(PR_ERR_IO, "%s: cannot be written: it names a folder", path);
  snprintf(t->folder, LONGEST_PATH, "%.*s", slash ? (int)(name - t->path) : 2, slash ? t->path : "./");
  size_t length = strlen(t->folder);
  memcpy(t->temporary, t->folder, length);
  snprintf(t->temporary + length, LONGEST_PATH - length, ".%s.saving", name);
  return PR_OK;
}

/* The temporary file, open and locked. Between opening and locking, its owner may have renamed it: then what
 * is locked is the finished file, which must not be touched. */
static pr_status open_temporary(const target *t, int *out) {
  for (int tries = 0; tries < 16; tries++) {
    struct stat ours, there;
    int fd = open(t->temporary, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0)
      return pr_fail(PR_ERR_IO, "%s: cannot be written: %s (in the folder %s)", t->given, strerror(errno),
                     t->folder);
    bool locked = flock(fd, LOCK_EX | LOCK_NB) == 0;
    if (!locked && errno == EWOULDBLOCK) {
      close(fd);
      return pr_fail(PR_ERR_STATE, "%s: another process is saving it now", t->given);
    }
    /* a file system without locks: there the later of two savers wins */
    if (fstat(fd, &ours) == 0 && stat(t->temporary, &there) == 0 && ours.st_ino == there.st_ino &&
        ours.st_dev == there.st_dev)
      return *out = fd, PR_OK;
    close(fd);
  }
  return pr_fail(PR_ERR_STATE, "%s: other processes are saving it now", t->given);
}

static void size_text(char text[32], double bytes) {
  static const char *const units[] = { "bytes", "kB", "MB", "GB", "TB" };
  int u = 0;
  while (bytes >= 1000 && u < 4) bytes /= 1000, u++;
  snprintf(text, 32, u ? "%.1f %s" : "%.0f %s", bytes, units[u]);
}

/* What a failed write was about: how much room was needed, how much there is. */
static pr_status no_room(const target *t, int fd, size_t size, int why) {
  char need[32], have[32];
  struct rlimit limit;
  struct statvfs room;
  size_text(need, (double)size);
  if (why == EFBIG) {
    size_text(have, getrlimit(RLIMIT_FSIZE, &limit) == 0 ? (double)limit.rlim_cur : 0);
    return pr_fail(PR_ERR_IO,
                   "%s: cannot be written: the file may not grow so large: %s are needed, %s are allowed",
                   t->given, need, have);
  }
  if ((why == ENOSPC || why == EDQUOT) && fstatvfs(fd, &room) == 0) {
    struct stat written;
    double free_bytes = (double)room.f_bavail * (double)room.f_frsize;
    if (fstat(fd, &written) == 0)
      free_bytes += 512.0 * (double)written.st_blocks; /* its own share goes back */
    size_text(have, free_bytes);
    return pr_fail(PR_ERR_IO, "%s: cannot be written: %s: %s are needed, %s are free in %s", t->given,
                   why == EDQUOT ? "the disk quota is used up" : "no space left on the device", need, have,
                   t->folder);
  }
  return pr_fail(PR_ERR_IO, "%s: cannot be written: %s (%s are needed)", t->given, strerror(why), need);
}

static int write_bytes(int fd, const char *data, size_t size) {
  while (size) {
    ssize_t n = write(fd, data, size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    data += n, size -= (size_t)n;
  }
  return 0;
}

/* A write past the process's file size limit sends SIGXFSZ, which would end the process: the signal is held
 * back and taken away, so that the call fails with EFBIG instead. */
static int write_guarded(int fd, const char *data, size_t size) {
  sigset_t too_large, before, waiting;
  sigemptyset(&too_large);
  sigaddset(&too_large, SIGXFSZ);
  sigpending(&waiting);
  pthread_sigmask(SIG_BLOCK, &too_large, &before);
  int failed = ftruncate(fd, 0) ? errno : write_bytes(fd, data, size);
  if (!failed && fsync(fd)) failed = errno;
  if (failed == EFBIG && !sigismember(&waiting, SIGXFSZ)) {
    struct timespec now = { 0, 0 };
    while (sigtimedwait(&too_large, NULL, &now) < 0 && errno == EINTR) {}
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return failed;
}

/* The new name must reach the disk too. File systems that cannot sync a folder say EINVAL. */
static pr_status sync_folder(const target *t) {
  int fd = open(t->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return errno == EACCES ? PR_OK : pr_fail(PR_ERR_IO, "%s: %s", t->folder, strerror(errno));
  int failed = fsync(fd) && errno != EINVAL && errno != EROFS ? errno : 0;
  close(fd);
  if (failed) return pr_fail(PR_ERR_IO, "%s: cannot be synced: %s", t->folder, strerror(failed));
  return PR_OK;
}

pr_status pr_file_write(const char *path, const void *data, size_t size) {
  target t;
  int fd = -1;
  PR_TRY(find_target(path, &t));
  PR_TRY(open_temporary(&t, &fd));
  int why = write_guarded(fd, data, size);
  pr_status status = why ? no_room(&t, fd, size, why) : PR_OK;
  if (!status && rename(t.temporary, t.path))
    status = pr_fail(PR_ERR_IO, "%s: cannot be replaced: %s", path, strerror(errno));
  if (status) unlink(t.temporary);
  close(fd); /* and the lock with it; the bytes are synced, so closing has nothing left to report */
  return status ? status : sync_folder(&t);
}
