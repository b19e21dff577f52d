/* file.h - whole files: read at once, and replaced so that nobody ever finds half of one.
 *
 * Replacing: the bytes go to a temporary file in the same folder (".NAME.saving"), are synced to the disk,
 * and the file is renamed over the old one; then the folder is synced. After a crash or a loss of power at
 * any moment the path holds the old file or the new one, whole. A temporary file that a killed process left
 * is taken over by the next save of the same path; while another process is saving the path, the call fails.
 */
#ifndef PR_IO_FILE_H
#define PR_IO_FILE_H

#include "base/error.h"

/* Replace (or make) the file at `path` by `size` bytes. A symbolic link is followed; what is no regular file
 * is refused. On failure the old file is as it was, and the error says how much was needed and how much there
 * is. Mode 0644 less the umask. */
pr_status pr_file_write(const char *path, const void *data, size_t size);

/* Read a whole regular file. *data is freed with prB_aligned_free(*data, *size); it is NULL for an empty
 * file. */
pr_status pr_file_read(const char *path, void **data, size_t *size);

/* Read the first bytes, at most `most`; *size is how many there were. */
pr_status pr_file_head(const char *path, void *data, size_t most, size_t *size);

#endif
