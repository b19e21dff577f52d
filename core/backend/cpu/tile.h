/* tile.h - register tiles: the innermost loops of the convolutions.
 *
 * A tile is a block of at most `rows` x (vectors * lanes) sums that lives in registers while the depth of the
 * product runs by. Two forms are enough for everything:
 *
 *   product: y[r][v] (+)= sum over segments, k:  a[r * a_row + k] * b[k * width + v]      (forward, gradient
 * of the data) outer:   y[r][v] (+)= sum over segments, k:  a[k * a_step + r] * b[k * b_step + v] (gradient
 * of the weights)
 *
 * Segments let the depth run over taps of a filter without copying what lies between them. Each form exists
 * for AVX-512, AVX2 and the 128-bit vectors that every processor has; prK_tiles picks once, at run time.
 *
 * The order of additions depends on the shapes only, so results do not depend on the number of threads.
 */
#ifndef PR_BACKEND_CPU_TILE_H
#define PR_BACKEND_CPU_TILE_H

#include <stddef.h>
#include <stdint.h>

typedef struct prK_segment {
  const float *a, *b;
  int64_t depth;
} prK_segment;

/* Where a tile's sums go: row r to y + r * row, `columns` of them. `bias` (or NULL) is added to product
 * tiles. */
typedef struct prK_target {
  float *y;
  int64_t row;
  int columns;
  int add; /* 1: add to what y holds; 0: overwrite */
  const float *bias;
} prK_target;

typedef struct prK_tiles {
  int rows;  /* most rows of a tile */
  int width; /* columns of a full tile; panels of packed weights are this wide, zero-padded */
  /* rows in 1..rows. Panels b are padded to `width`, whatever target->columns says. */
  void (*product)(int rows, int segments, const prK_segment *segment, int64_t a_row,
                  const prK_target *target);
  /* Here b is read in whole vectors: it may be read up to one vector past target->columns. */
  void (*outer)(int rows, int segments, const prK_segment *segment, int64_t a_step, int64_t b_step,
                const prK_target *target);
} prK_tiles;

/* The form number `i` of those that this processor runs, the widest first; NULL past the last. */
const prK_tiles *prK_tiles_form(int i);

/* The widest. */
static inline const prK_tiles *prK_tiles_get(void) { return prK_tiles_form(0); }

#endif
