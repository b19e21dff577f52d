/* checkpoint.h - a model in one file: graph, parameters, buffers, masks, optimiser state, and texts.
 *
 * The file is HDF5 (any HDF5 tool opens it) behind a block of 512 bytes, HDF5's "user block", which holds
 *
 *   prunelua-checkpoint 1\n       format version: 2 where an array is compressed as below, else 1
 *   bytes N\n                     length of the whole file
 *   xxh3-128 HEX\n                digest of everything behind the block
 *
 * and spaces up to a last newline. Reading checks all of it on the raw bytes, before the HDF5 library sees
 * any of them: libhdf5 may crash on damaged files, and most damage inside of plain arrays it would not
 * notice. (The digest finds accidents; it is no signature.)
 *
 *   /graph                        text: the architecture (graph.h); absent where a model cannot be traced
 *   /parameters/NAME              dense values, also under a mask
 *   /buffers/NAME                 running statistics and the like
 *   /constants/NAME               tensors that the model's code brought along
 *   /masks/NAME                   masks of parameters; bytes where all entries are 0 or 1
 *   /bits/GROUP/NAME              of an array with many zeros that is compressed (sparse.h): which entries
 * are there; the array itself is then the list of these, and its shape stands in the index
 *   /optimizer/NAME/SLOT          optimiser state of a parameter ("momentum_buffer", "exp_avg", ...)
 *   /NAME                         further texts of the caller (progress, environment, ...)
 *   /index                        text: one line per tensor, in the model's order
 *
 * Lines of the index are "parameter NAME DTYPE STRIDES", the same for buffer, constant and mask, "slot NAME
 * DTYPE STRIDES SLOT" and "text NAME"; strides are "-" for row-major. A compressed array has its shape behind
 * that
 * ("64,3,3,3"). "mask NAME bits -" stands for a mask that is the bits of its parameter: the values under its
 * zeros are then not in the file. That is how a masked parameter is stored unless dense values are to be
 * kept.
 *
 * Arrays are row-major; bf16 is stored as uint16 and bool as uint8, with an attribute "dtype" that says so.
 * Texts are arrays of bytes (UTF-8). A slash or a space in a name is written as %2F, %20. Equal content gives
 * equal bytes: no times, no random numbers.
 */
#ifndef PR_IO_CHECKPOINT_H
#define PR_IO_CHECKPOINT_H

#include "graph/graph.h"

enum { PR_CHECKPOINT_HEADER = 512, PR_CHECKPOINT_VERSION = 2 };

/* --- writing ------------------------------------------------------------------------------------------------------------ */

/* The file is built in memory, then written in one go (file.h: the old file stays until the new one is safe).
 * After a failure a writer only passes the failure on. */
typedef struct pr_checkpoint_writer pr_checkpoint_writer;

pr_checkpoint_writer *pr_checkpoint_begin(void);
/* From now on, store what lies under the zeros of masks too: what training goes on with, but nothing reads.
 */
void pr_checkpoint_keep_dense(pr_checkpoint_writer *w);
/* A text of the caller; "graph" and "index" and the names of the groups above are taken. */
pr_status pr_checkpoint_put_text(pr_checkpoint_writer *w, const char *name, const char *text, size_t length);
/* A parameter with its mask (and its optimiser state where `state`), a buffer, or (a tensor without
 * attachments) a constant. */
pr_status pr_checkpoint_put_tensor(pr_checkpoint_writer *w, const char *name, pr_tensor *t, bool state);
/* The architecture, and all tensors of the graph. */
pr_status pr_checkpoint_put_graph(pr_checkpoint_writer *w, const pr_graph *graph, bool state);
/* Write the file. The writer is freed, also on failure. */
pr_status pr_checkpoint_finish(pr_checkpoint_writer *w, const char *path);
void pr_checkpoint_cancel(pr_checkpoint_writer *w);

/* --- reading ------------------------------------------------------------------------------------------------------------ */

typedef struct pr_checkpoint_tensor {
  char *name;
  pr_tensor *tensor; /* parameters and buffers have their attachments */
} pr_checkpoint_tensor;

typedef struct pr_checkpoint_text {
  char *name;
  char *text; /* `length` bytes and a final 0 */
  size_t length;
} pr_checkpoint_text;

typedef struct pr_checkpoint {
  pr_checkpoint_tensor *tensors; /* in the order in which they were put */
  pr_checkpoint_text *texts;
  size_t n_tensors, n_texts, tensor_room, text_room;
} pr_checkpoint;

/* Read everything. Errors (PR_ERR_FORMAT): not a checkpoint; of a newer format; damaged; shorter or longer
 * than it says. */
pr_checkpoint *pr_checkpoint_read(const char *path);
void pr_checkpoint_free(pr_checkpoint *c);

/* Borrowed; NULL (without pr_fail) where there is none. */
const pr_checkpoint_text *pr_checkpoint_find_text(const pr_checkpoint *c, const char *name);
pr_tensor *pr_checkpoint_find_tensor(const pr_checkpoint *c, const char *name);

/* The model: a graph over the checkpoint's tensors, which it retains. Fails where the model was not traced.
 */
pr_graph *pr_checkpoint_graph(const pr_checkpoint *c);

/* Is this a whole, undamaged checkpoint? `name` is for messages. What pr_checkpoint_read asks before anything
 * else. */
pr_status pr_checkpoint_check(const void *bytes, size_t size, const char *name);

/* --- shared inside the room --------------------------------------------------------------------------------------------- */

/* The first PR_CHECKPOINT_HEADER bytes of a file whose other bytes are given; `size` is that of the whole
 * file. */
void prI_checkpoint_header(const void *rest, size_t size, int version, char header[PR_CHECKPOINT_HEADER]);

/* A name as one word, which is also one component of a path inside the file: false when it is empty or does
 * not fit. */
bool prI_checkpoint_escape(const char *name, char *word, size_t room);

#endif
