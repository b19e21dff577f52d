/* hdf5.h - reading arrays of numbers out of HDF5 files.
 *
 * Two doors. An own file, whose content is known to be sound (its digest was checked, or it is part of the
 * program), is read in this process: pr_hdf5_open, pr_hdf5_read, pr_hdf5_close. Any other file goes through
 * pr_hdf5_read_foreign: libhdf5 can be made to crash by a damaged file, so a child process with limits on
 * memory, time and files does the reading and streams the numbers over a pipe; should it die, that is an
 * ordinary error (PR_ERR_FORMAT).
 *
 * libhdf5 is not safe for threads: one thread at a time. Its own headers are included in core/io only.
 */
#ifndef PR_IO_HDF5_H
#define PR_IO_HDF5_H

#include "base/error.h"

enum { PR_HDF5_RANK = 8 }; /* the most axes that are read */

typedef enum pr_hdf5_type {
  PR_HDF5_U8, /* also the booleans of h5py */
  PR_HDF5_I8,
  PR_HDF5_U16,
  PR_HDF5_I16,
  PR_HDF5_U32,
  PR_HDF5_I32,
  PR_HDF5_U64,
  PR_HDF5_I64,
  PR_HDF5_F32, /* also the half precision of h5py, widened */
  PR_HDF5_F64
} pr_hdf5_type;

size_t pr_hdf5_type_size(pr_hdf5_type type);
const char *pr_hdf5_type_name(pr_hdf5_type type); /* "uint8", "float32", ... */

/* A dataset in memory: row-major, in this machine's byte order. `data` (64-byte aligned, `bytes` long)
 * belongs to whoever holds the array; it is NULL for an array that was asked for as optional and is not in
 * the file, and for one without elements. */
typedef struct pr_hdf5_array {
  bool found;
  pr_hdf5_type type;
  int rank;
  int64_t shape[PR_HDF5_RANK];
  int64_t count; /* elements */
  size_t bytes;
  void *data;
} pr_hdf5_array;

void pr_hdf5_array_free(pr_hdf5_array *array);

typedef struct pr_hdf5 pr_hdf5;

/* Open a sound file for reading, from disk or from `size` bytes in memory (copied; `name` is for messages).
 */
pr_status pr_hdf5_open(const char *path, pr_hdf5 **out);
pr_status pr_hdf5_open_bytes(const void *bytes, size_t size, const char *name, pr_hdf5 **out);
void pr_hdf5_close(pr_hdf5 *file);

/* Is there an object of this name, reached through hard links? `name` is a path inside the file ("images",
 * "group/weight"). */
bool pr_hdf5_has(pr_hdf5 *file, const char *name);

/* Read a whole dataset. Errors: no such dataset; not integers or floating point of up to 8 bytes; more than
 * PR_HDF5_RANK axes; links to other files, virtual or external storage, filters other than deflate, shuffle,
 * fletcher32, n-bit, scale-offset; damage. */
pr_status pr_hdf5_read(pr_hdf5 *file, const char *name, pr_hdf5_array *out);

/* Read datasets of a file that nobody vouches for. arrays[i] receives wanted[i]; one that is absent is an
 * error, unless it is optional: then found is false. On failure all arrays are empty. A dataset that claims
 * more than deflate could have packed into a file of this size is refused before any memory is taken. */
typedef struct pr_hdf5_wanted {
  const char *name;
  bool optional;
  bool head_only; /* type and shape without the numbers: data is NULL */
} pr_hdf5_wanted;

pr_status pr_hdf5_read_foreign(const char *path, const pr_hdf5_wanted *wanted, int count,
                               pr_hdf5_array *arrays);

/* Does the file begin as HDF5 does (signature at 0, 512, 1024, 2048, ...)? False also when it cannot be read.
 */
bool pr_hdf5_signature(const char *path);

/* For the files of core/io: prepares the library (no atexit handler, no printing of errors); before any other
 * call to it. */
void prI_hdf5_start(void);

/* A name for a file in memory. The library takes files in memory with equal names for the same file, and
 * refuses a name that a file on disk has; a name below /dev/null none can have. */
enum { PRI_HDF5_LABEL = 32 };
void prI_hdf5_label(char label[PRI_HDF5_LABEL]);

/* The reason of the latest failed library call, as the library words it; valid until the next call of this
 * function. */
const char *prI_hdf5_reason(void);

/* A dataset being read in pieces along its first axis; used by both doors. */
typedef struct prI_hdf5_source prI_hdf5_source;
pr_status prI_hdf5_source_open(pr_hdf5 *file, const char *name, pr_hdf5_array *head, prI_hdf5_source **out);
int64_t prI_hdf5_source_piece(const prI_hdf5_source *source); /* rows that are well read at once */
pr_status prI_hdf5_source_read(prI_hdf5_source *source, int64_t first, int64_t rows, void *out);
void prI_hdf5_source_close(prI_hdf5_source *source);

#endif
