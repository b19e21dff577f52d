/* tile_body.h - the two tiles for one vector width; tile.c includes this once per instruction set with
 *   TILE_NAME(x)  the name of x for this instruction set
 *   TILE_LANES    floats in a vector
 *   TILE_ROWS     rows of the largest tile: 2 * TILE_ROWS sums + 2 vectors of b + 1 of a fit the register
 * file
 */
typedef float TILE_NAME(vector) __attribute__((vector_size(TILE_LANES * 4), aligned(4), may_alias));
#define VECTOR TILE_NAME(vector)

/* Writes the finished sums. The last panel of a row of panels may be narrower than the tile: it goes through
 * a buffer. */
static inline __attribute__((always_inline)) void TILE_NAME(finish)(const int rows, const int vectors,
                                                                    VECTOR (*sum)[2], const prK_target *t) {
  if (t->bias) {
    float bias[2 * TILE_LANES] = { 0 };
    VECTOR low, high;
    for (int i = 0; i < t->columns; i++) bias[i] = t->bias[i];
    memcpy(&low, bias, sizeof low);
    memcpy(&high, bias + TILE_LANES, sizeof high);
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) sum[r][0] += low, sum[r][1] += high;
  }
  if (t->columns == vectors * TILE_LANES) {
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
      VECTOR *y = (VECTOR *)(t->y + r * t->row);
      if (t->add) sum[r][0] += y[0];
      y[0] = sum[r][0];
      if (vectors < 2) continue;
      if (t->add) sum[r][1] += y[1];
      y[1] = sum[r][1];
    }
    return;
  }
  for (int r = 0; r < rows; r++) {
    float part[2 * TILE_LANES], *y = t->y + r * t->row;
    memcpy(part, sum[r], sizeof part);
    for (int v = 0; v < t->columns; v++) y[v] = t->add ? y[v] + part[v] : part[v];
  }
}

/* Both forms: sums over k of a[r * a_row + k * a_step] * b[k * b_step + v]; the callers below make the
 * strides constants. A tile that needs only one vector computes one. */
static inline __attribute__((always_inline)) void TILE_NAME(sums)(const int rows, const int vectors,
                                                                  int segments, const prK_segment *segment,
                                                                  int64_t a_row, int64_t a_step,
                                                                  int64_t b_step, const prK_target *target) {
  VECTOR sum[TILE_ROWS][2];
#pragma GCC unroll 16
  for (int r = 0; r < rows; r++) sum[r][0] = sum[r][1] = (VECTOR){ 0 };
  for (int s = 0; s < segments; s++) {
    const float *a = segment[s].a, *b = segment[s].b;
    for (int64_t k = segment[s].depth; k > 0; k--, a += a_step, b += b_step) {
      const VECTOR low = *(const VECTOR *)b, high = *(const VECTOR *)(b + (vectors - 1) * TILE_LANES);
#pragma GCC unroll 16
      for (int r = 0; r < rows; r++) {
        const float x = a[r * a_row];
        sum[r][0] += x * low;
        if (vectors == 2) sum[r][1] += x * high;
      }
    }
  }
  TILE_NAME(finish)(rows, vectors, sum, target);
}

#define TILE_CASE(n)                                                                                         \
  case n:                                                                                                    \
    if (n <= TILE_ROWS) TILE_CALL(n <= TILE_ROWS ? n : 1);                                                   \
    break;
#define TILE_CASES                                                                                           \
  TILE_CASE(1)                                                                                               \
  TILE_CASE(2)                                                                                               \
  TILE_CASE(3)                                                                                               \
  TILE_CASE(4)                                                                                               \
  TILE_CASE(5)                                                                                               \
  TILE_CASE(6)                                                                                               \
  TILE_CASE(7) TILE_CASE(8) TILE_CASE(9) TILE_CASE(10) TILE_CASE(11) TILE_CASE(12) TILE_CASE(13) TILE_CASE(14)

#define TILE_CALL(n) TILE_NAME(sums)(n, 2, segments, segment, a_row, 1, 2 * TILE_LANES, target)
static void TILE_NAME(product_wide)(int rows, int segments, const prK_segment *segment, int64_t a_row,
                                    const prK_target *target) {
  switch (rows) { TILE_CASES }
}
#undef TILE_CALL

#define TILE_CALL(n) TILE_NAME(sums)(n, 1, segments, segment, a_row, 1, 2 * TILE_LANES, target)
static void TILE_NAME(product)(int rows, int segments, const prK_segment *segment, int64_t a_row,
                               const prK_target *target) {
  if (target->columns > TILE_LANES) {
    TILE_NAME(product_wide)(rows, segments, segment, a_row, target);
    return;
  }
  switch (rows) { TILE_CASES }
}
#undef TILE_CALL

#define TILE_CALL(n) TILE_NAME(sums)(n, 2, segments, segment, 1, a_step, b_step, target)
static void TILE_NAME(outer_wide)(int rows, int segments, const prK_segment *segment, int64_t a_step,
                                  int64_t b_step, const prK_target *target) {
  switch (rows) { TILE_CASES }
}
#undef TILE_CALL

#define TILE_CALL(n) TILE_NAME(sums)(n, 1, segments, segment, 1, a_step, b_step, target)
static void TILE_NAME(outer)(int rows, int segments, const prK_segment *segment, int64_t a_step,
                             int64_t b_step, const prK_target *target) {
  if (target->columns > TILE_LANES) {
    TILE_NAME(outer_wide)(rows, segments, segment, a_step, b_step, target);
    return;
  }
  switch (rows) { TILE_CASES }
}
#undef TILE_CALL

#undef TILE_CASE
#undef TILE_CASES
#undef VECTOR
#undef TILE_NAME
#undef TILE_LANES
#undef TILE_ROWS
