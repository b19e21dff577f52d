/* backend.c - the kernel table and its walk. */
#include "backend/backend.h"

#include "backend/cpu/blas.h"

#include <pthread.h>
#include <string.h>

enum { BACKENDS = 2, MOST_OPS = 256 };
static const char *const backend_names[BACKENDS + 1] = { "cpu", "reference", NULL };
static const pr_device backend_device[BACKENDS] = { PR_CPU, PR_CPU }; /* whose tensors a backend works on */

static pr_kernel_function *kernels[MOST_OPS][2][BACKENDS];
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int first_backend; /* asked first; those before it are skipped */
static _Thread_local const char *last_backend = "";

static int backend_number(const char *name) {
  for (int b = 0; b < BACKENDS; b++)
    if (strcmp(name, backend_names[b]) == 0) return b;
  return -1;
}

static void fill_table(void) {
  for (const pr_kernel_row *row = pr_kernel_rows; row->run; row++) {
    int backend = backend_number(row->backend);
    for (int i = 0; i < pr_op_count && i < MOST_OPS; i++)
      if (strcmp(pr_op_list[i]->name, row->op) == 0) kernels[i][row->direction][backend] = row->run;
  }
}

/* --- scratch --------------------------------------------------------------------------------------------------------- */

/* Scratch comes from the storages' cache: what one step needs, the next needs again. */
struct prK_block {
  struct prK_block *next;
  pr_storage *storage; /* that this block begins */
};
enum { BLOCK_HEADER = 64 }; /* keeps the payload aligned */

void *prK_scratch(pr_call *c, size_t bytes) {
  if (bytes > SIZE_MAX - BLOCK_HEADER)
    return pr_fail(PR_ERR_MEMORY, "%s: scratch memory overflows", c->op->name), NULL;
  pr_storage *storage = prT_storage_new(PR_CPU, bytes + BLOCK_HEADER);
  if (!storage) return NULL;
  struct prK_block *block = storage->data;
  block->next = c->scratch, block->storage = storage;
  c->scratch = block;
  return (char *)block + BLOCK_HEADER;
}

void prK_scratch_free(pr_call *c) {
  while (c->scratch) {
    struct prK_block *block = c->scratch;
    c->scratch = block->next;
    prT_storage_release(block->storage);
  }
}

double *prK_doubles(pr_call *c, int64_t n) {
  return prK_scratch(c, (size_t)(n > 0 ? n : 1) * sizeof(double));
}

double *prK_zeros(pr_call *c, int64_t n) {
  double *room = prK_doubles(c, n);
  if (room) memset(room, 0, (size_t)(n > 0 ? n : 1) * sizeof *room);
  return room;
}

const double *prK_load(pr_call *c, const pr_tensor *t) {
  if (!t) return NULL;
  if (t->dtype == PR_F64 && pr_is_contiguous(t) && prT_data(t))
    return prT_data(t); /* empty tensors have no data */
  double *values = prK_doubles(c, pr_numel(t));
  return values && prT_to_doubles(t, values) == PR_OK ? values : NULL;
}

pr_status prK_store(pr_tensor *t, const double *values) { return prT_from_doubles(t, values); }

/* --- running --------------------------------------------------------------------------------------------------------- */

static pr_device device_of(const pr_call *c, pr_direction direction) {
  pr_tensor *const *results = direction == PR_forward ? c->out : c->grad_out;
  for (int k = 0; k < c->n_out; k++)
    if (results[k]) return results[k]->device;
  return PR_CPU;
}

pr_status prK_run(pr_call *c, pr_direction direction) {
  pthread_once(&once, fill_table);
  pr_kernel_function *const *row = kernels[prO_number(c->op)][direction];
  pr_device device = device_of(c, direction);
  for (int b = first_backend; b < BACKENDS; b++) {
    if (!row[b] || backend_device[b] != device) continue;
    pr_status status = row[b](c);
    prK_scratch_free(c);
    if (status == PR_DECLINED) continue;
    last_backend = backend_names[b];
    return status;
  }
  return pr_fail(PR_ERR_UNSUPPORTED, "%s: no backend has a %s kernel for these inputs", c->op->name,
                 direction == PR_forward ? "forward" : "backward");
}

void prK_start(void) {
  pthread_once(&once, fill_table);
  prK_blas_start();
}

bool prK_has(const pr_op *op, pr_direction direction) {
  pthread_once(&once, fill_table);
  for (int b = 0; b < BACKENDS; b++)
    if (kernels[prO_number(op)][direction][b]) return true;
  return false;
}

const char *prK_last_backend(void) { return last_backend; }
const char *const *pr_backends(void) { return backend_names; }
const char *pr_backend_used(void) { return backend_names[first_backend]; }

pr_status pr_backend_use(const char *name) {
  int b = backend_number(name);
  if (b < 0) {
    const char *nearest = pr_nearest(name, backend_names, BACKENDS);
    return pr_fail(PR_ERR_ARGUMENT, "there is no backend '%s'; this build has cpu and reference%s%s", name,
                   nearest ? "; did you mean " : "", nearest ? nearest : "");
  }
  first_backend = b;
  return PR_OK;
}
