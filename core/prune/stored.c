/* stored.c - see stored.h. */
#include "prune/stored.h"

#include "autograd/parameter.h"
#include "base/memory.h"

#include <math.h>
#include <string.h>

/* Beside the numbers, measured on files of the models of prune.models. */
enum { FILE_BYTES = 4300, ARRAY_BYTES = 400 };

/* Of an array without a mask so many entries are looked at first, spread evenly. */
enum { SAMPLE = 64 };

/* --- what is left ------------------------------------------------------------------------------------------------------- */

static bool is_zero(const char *entry, size_t size) {
  static const char nothing[8];
  return memcmp(entry, nothing, size) == 0;
}

static bool seems_dense(const pr_tensor *t) {
  const char *data = prT_data(t);
  size_t size = pr_dtype_size(t->dtype);
  int64_t n = pr_numel(t), step = n / SAMPLE + 1;
  if (!prT_is_dense(t)) return false;
  for (int64_t i = 0; i < n; i += step)
    if (is_zero(data + (size_t)i * size, size)) return false;
  return true;
}

static void set_bit(unsigned char *bit, int64_t i) { bit[i / 8] |= (unsigned char)(1 << i % 8); }

/* false: the mask holds other numbers than 0 and 1, and is stored as numbers. */
static bool bits_of_mask(const pr_tensor *mask, unsigned char *bit) {
  const float *value = prT_data(mask);
  int64_t n = pr_numel(mask);
  for (int64_t i = 0; i < n; i++) {
    if (value[i] != 0 && value[i] != 1) return false;
    if (value[i] == 1) set_bit(bit, i);
  }
  return true;
}

static pr_status bits_of_entries(pr_tensor *t, unsigned char *bit) {
  pr_tensor *rows = pr_contiguous(t);
  if (!rows) return pr_error_last()->code;
  const char *data = prT_data(rows);
  size_t size = pr_dtype_size(rows->dtype);
  int64_t n = pr_numel(rows);
  for (int64_t i = 0; i < n; i++)
    if (!is_zero(data + (size_t)i * size, size)) set_bit(bit, i);
  pr_release(rows);
  return PR_OK;
}

static pr_status sparse_open(prP_sparse *s, pr_tensor *t) {
  pr_tensor *mask = t->parameter ? t->parameter->mask : NULL;
  if (t->device != PR_CPU || !t->storage || t->dim == 0 || pr_numel(t) == 0) return PR_OK;
  if (mask ? !pr_is_contiguous(mask) : seems_dense(t)) return PR_OK;
  s->entries = pr_numel(t), s->is_masked = mask;
  if (!(s->bit = PRB_ARRAY(unsigned char, (s->entries + 7) / 8))) return PR_ERR_MEMORY;
  if (!mask) return bits_of_entries(t, s->bit);
  if (!bits_of_mask(mask, s->bit)) PRB_ARRAY_FREE(s->bit, (s->entries + 7) / 8);
  return PR_OK;
}

/* --- opening and closing ------------------------------------------------------------------------------------------------ */

pr_status prP_stored_open(prP_stored *stored, const pr_pruning *pruning, const prC_floors *floors) {
  const pr_graph *graph = pruning->graph;
  *stored = (prP_stored){ .pruning = pruning, .labels = floors->labels };
  stored->array = PRB_ARRAY(prP_sparse, graph->n_values);
  stored->first = PRB_ARRAY(int32_t, floors->labels);
  pr_status status = stored->array && stored->first ? PR_OK : PR_ERR_MEMORY;
  for (int64_t p = floors->positions; !status && p-- > 0;) stored->first[floors->label_of[p]] = (int32_t)p;
  for (int v = 0; v < graph->n_values && !status; v++) {
    int64_t sizes = 0;
    if (!graph->values[v].tensor) continue;
    status = sparse_open(&stored->array[v], graph->values[v].tensor);
    for (int d = 0; d < graph->values[v].dim; d++) sizes += graph->values[v].shape[d];
    if (sizes > stored->longest) stored->longest = sizes;
  }
  if (!status && !(stored->alive = PRB_ARRAY(unsigned char, stored->longest))) status = PR_ERR_MEMORY;
  if (status) prP_stored_close(stored);
  return status;
}

void prP_stored_close(prP_stored *stored) {
  for (int v = 0; stored->array && v < stored->pruning->graph->n_values; v++)
    PRB_ARRAY_FREE(stored->array[v].bit, (stored->array[v].entries + 7) / 8);
  if (stored->pruning) PRB_ARRAY_FREE(stored->array, stored->pruning->graph->n_values);
  PRB_ARRAY_FREE(stored->first, stored->labels);
  PRB_ARRAY_FREE(stored->alive, stored->longest);
  *stored = (prP_stored){ 0 };
}

/* --- counting ----------------------------------------------------------------------------------------------------------- */

/* The bits of live entries, packed anew: how many are 1, and how often each byte comes. */
typedef struct packed {
  int64_t entries, ones, often[256];
  unsigned byte;
} packed;

static void pack(packed *p, unsigned bit) {
  p->byte |= bit << p->entries % 8, p->ones += bit;
  if (++p->entries % 8 == 0) p->often[p->byte]++, p->byte = 0;
}

/* Bytes that are left of the bits. The quick deflate comes short of the entropy of the bytes: the power was
 * fitted on random bits, of which from 0.5 % to half are 1 (within 6 %). Of rows that are masked as a whole
 * it takes too much, up to a 36th of a byte per entry. */
static double deflated(const packed *p) {
  const int64_t whole = p->entries / 8;
  double bytes = (double)whole, entropy = 0;
  if (bytes == 0) return 0;
  for (int i = 0; i < 256; i++)
    if (p->often[i]) entropy -= (double)p->often[i] / bytes * log2((double)p->often[i] / bytes) / 8;
  return bytes * pow(entropy, 0.7);
}

/* Walk the axes from `axis` on; `alive` are the flags of that axis, `base` counts entries of the axes before.
 */
static void walk(const pr_graph_value *value, int axis, const unsigned char *alive, const prP_sparse *s,
                 int64_t base, packed *p) {
  int64_t size = value->shape[axis];
  for (int64_t i = 0; i < size; i++) {
    int64_t at = base * size + i;
    if (!alive[i]) continue;
    if (axis + 1 < value->dim)
      walk(value, axis + 1, alive + size, s, at, p);
    else
      pack(p, s->bit[at / 8] >> at % 8 & 1);
  }
}

/* Fill stored->alive for a value and return a hash of it. */
static uint64_t look(prP_stored *stored, const prC_floors *floors, int v) {
  const pr_graph_value *value = &stored->pruning->graph->values[v];
  unsigned char *alive = stored->alive;
  uint64_t hash = 14695981039346656037u;
  for (int d = 0; d < value->dim; d++) {
    int32_t label = floors->number[v * PRC_DIMS + d];
    for (int64_t i = 0; i < value->shape[d]; i++, alive++) {
      *alive = label < 0 || floors->dead_of[stored->first[label] + i] == 0;
      hash = (hash ^ *alive) * 1099511628211u;
    }
  }
  return hash;
}

/* Bits and values of an array that has zeros. */
static double sparse_bytes(prP_stored *stored, const prC_floors *floors, int v) {
  const pr_graph_value *value = &stored->pruning->graph->values[v];
  prP_sparse *s = &stored->array[v];
  uint64_t hash = look(stored, floors, v);
  if (s->seen == hash) return s->bytes;
  packed p = { 0 };
  walk(value, 0, stored->alive, s, 0, &p);
  s->seen = hash;
  s->bytes = ARRAY_BYTES + deflated(&p) + (double)p.ones * (double)pr_dtype_size(value->dtype);
  return s->bytes;
}

static double array_bytes(prP_stored *stored, const prC_floors *floors, int v) {
  const pr_graph_value *value = &stored->pruning->graph->values[v];
  const prP_sparse *s = &stored->array[v];
  if (s->bit && s->is_masked) return sparse_bytes(stored, floors, v);
  double whole = (double)pr_dtype_size(value->dtype);
  for (int d = 0; d < value->dim; d++) {
    int32_t label = floors->number[v * PRC_DIMS + d];
    whole *= (double)(label < 0 ? value->shape[d] : floors->live[label]);
  }
  return s->bit ? fmin(whole, sparse_bytes(stored, floors, v)) : whole;
}

int64_t prP_stored_bytes(prP_stored *stored, const prC_floors *floors) {
  const pr_graph *graph = stored->pruning->graph;
  double bytes = FILE_BYTES;
  for (int v = 0; v < graph->n_values; v++)
    if (graph->values[v].tensor) bytes += ARRAY_BYTES + array_bytes(stored, floors, v);
  return (int64_t)bytes;
}
