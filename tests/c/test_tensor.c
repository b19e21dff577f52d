/* The tensor room: shapes, views, copies between all layouts and dtypes, printing, the storage cache, failing
 * allocations. */
#include "testing.h"

#include "tensor/bf16.h"
#include "tensor/tensor.h"

#define SHAPE(...) ((const int64_t[]){ __VA_ARGS__ })

/* --- shapes
 * ----------------------------------------------------------------------------------------------------------
 */

static void new_tensors_are_row_major(void **state) {
  (void)state;
  pr_tensor *t = pr_tensor_zeros(PR_F32, PR_CPU, 3, SHAPE(2, 3, 4));
  assert_non_null(t);
  assert_int_equal(t->stride[0], 12);
  assert_int_equal(t->stride[1], 4);
  assert_int_equal(t->stride[2], 1);
  assert_int_equal(pr_numel(t), 24);
  assert_true(pr_is_contiguous(t));
  assert_int_equal((uintptr_t)prT_data(t) % 64, 0);
  char text[PR_SHAPE_TEXT];
  assert_string_equal(pr_shape_text(t, text), "[2, 3, 4]");
  pr_release(t);
}

static void impossible_shapes_are_refused(void **state) {
  (void)state;
  assert_null(pr_tensor_new(PR_F32, PR_CPU, 2, SHAPE(2, -1)));
  assert_fails(pr_error_last()->code, PR_ERR_SHAPE, "[2, -1]");
  assert_null(pr_tensor_new(PR_F32, PR_CPU, 2, SHAPE(INT64_MAX, 2)));
  assert_fails(pr_error_last()->code, PR_ERR_SHAPE, "too large");
  assert_null(pr_tensor_new(PR_F64, PR_CPU, 3, SHAPE(1 << 30, 1 << 30, 4)));
  assert_fails(pr_error_last()->code, PR_ERR_SHAPE, "too large");
  assert_null(pr_tensor_new(PR_F64, PR_META, 3, SHAPE(1LL << 40, 1LL << 40, 0)));
  assert_fails(pr_error_last()->code, PR_ERR_SHAPE, "too large");
  assert_null(pr_tensor_new(PR_F32, PR_CPU, 9, SHAPE(1, 1, 1, 1, 1, 1, 1, 1, 1)));
  assert_fails(pr_error_last()->code, PR_ERR_SHAPE, "8 axes");
}

static void empty_and_scalar_tensors_work(void **state) {
  (void)state;
  pr_tensor *empty = pr_tensor_zeros(PR_F32, PR_CPU, 2, SHAPE(0, 3)), *scalar = pr_tensor_scalar(PR_I32, 7);
  double value = 0;
  assert_int_equal(pr_numel(empty), 0);
  assert_true(pr_is_contiguous(empty));
  assert_ok(pr_fill(empty, 3));
  assert_ok(pr_item(scalar, &value));
  assert_close(value, 7, 0);
  assert_fails(pr_item(empty, &value), PR_ERR_SHAPE, "[0, 3]");
  pr_release(empty), pr_release(scalar);
}

static void meta_tensors_have_no_values(void **state) {
  (void)state;
  pr_tensor *t = pr_tensor_new(PR_F32, PR_META, 2, SHAPE(100000, 100000)),
            *like = prT_new_like(t, PR_F32, 2, t->shape);
  assert_null(prT_data(t));
  assert_int_equal(like->device, PR_META);
  double value;
  assert_fails(prT_to_doubles(t, &value), PR_ERR_STATE, "meta");
  assert_fails(pr_copy(t, t), PR_ERR_STATE, "meta");
  pr_release(t), pr_release(like);
}

static void allocated_specifications_keep_their_layout(void **state) {
  (void)state;
  pr_tensor *t = prT_new_channels_last(PR_F32, PR_META, 4, SHAPE(2, 3, 4, 5));
  assert_ok(prT_allocate(t, PR_CPU));
  assert_true(prT_is_channels_last(t));
  assert_int_equal(t->storage->bytes, 120 * 4);
  pr_release(t);
}

/* An operator's output follows its input's layout, also through a stage with one channel or one pixel. */
static void layouts_are_inherited(void **state) {
  (void)state;
  const int64_t shapes[][4] = { { 2, 3, 4, 5 }, { 2, 1, 4, 5 }, { 2, 3, 1, 1 }, { 1, 3, 4, 5 } };
  for (int i = 0; i < 4; i++) {
    pr_tensor *last = prT_new_channels_last(PR_F32, PR_META, 4, shapes[i]);
    pr_tensor *row = pr_tensor_new(PR_F32, PR_META, 4, shapes[i]);
    pr_tensor *like_last = prT_new_like(last, PR_F32, 4, SHAPE(2, 6, 7, 8));
    pr_tensor *like_row = prT_new_like(row, PR_F32, 4, SHAPE(2, 6, 7, 8));
    assert_true(prT_is_channels_last(like_last));
    assert_true(pr_is_contiguous(like_row));
    pr_release(last), pr_release(row), pr_release(like_last), pr_release(like_row);
  }
}

static void views_share_and_keep_the_storage(void **state) {
  (void)state;
  pr_tensor *t = pr_tensor_zeros(PR_F32, PR_CPU, 2, SHAPE(3, 4));
  pr_tensor *column = prT_view(t, 1, SHAPE(3), SHAPE(4), 2);
  uint64_t version = t->storage->version;
  assert_ok(pr_fill(column, 5));
  assert_true(t->storage->version != version);
  assert_close(prT_get(t, 6), 5, 0);
  assert_close(prT_get(t, 5), 0, 0);
  assert_false(pr_is_contiguous(column));
  assert_false(prT_is_dense(column));
  pr_release(t);
  assert_close(prT_get(column, 8), 5, 0);
  pr_release(column);
}

static void swapping_content_keeps_the_handle(void **state) {
  (void)state;
  pr_tensor *a = pr_tensor_full(PR_F32, PR_CPU, 1, SHAPE(3), 1),
            *b = pr_tensor_full(PR_F64, PR_CPU, 2, SHAPE(2, 2), 2);
  a->requires_grad = true;
  prT_swap_content(a, b);
  assert_int_equal(a->dtype, PR_F64);
  assert_int_equal(a->dim, 2);
  assert_close(prT_get(a, 3), 2, 0);
  assert_close(prT_get(b, 2), 1, 0);
  assert_true(a->requires_grad && !b->requires_grad);
  pr_release(a), pr_release(b);
}

/* --- copies
 * ------------------------------------------------------------------------------------------------------------
 */

/* The layouts that copies meet: row-major, channels-last, reversed axes, every second element, an offset. */
enum { LAYOUTS = 5 };
static pr_tensor *in_layout(int layout, pr_dtype dtype, const int64_t shape[4]) {
  int64_t wide[4];
  for (int d = 0; d < 4; d++) wide[d] = 2 * shape[d];
  switch (layout) {
  case 0: return pr_tensor_zeros(dtype, PR_CPU, 4, shape);
  case 1: {
    pr_tensor *t = prT_new_channels_last(dtype, PR_CPU, 4, shape);
    assert_ok(pr_fill(t, 0));
    return t;
  }
  case 2: {
    pr_tensor *base = pr_tensor_zeros(dtype, PR_CPU, 4, SHAPE(shape[3], shape[2], shape[1], shape[0]));
    pr_tensor *t = prT_view(base, 4, shape,
                            SHAPE(base->stride[3], base->stride[2], base->stride[1], base->stride[0]), 0);
    pr_release(base);
    return t;
  }
  default: {
    pr_tensor *base = pr_tensor_zeros(dtype, PR_CPU, 4, wide);
    int64_t stride[4], step = layout == 3 ? 2 : 1;
    for (int d = 0; d < 4; d++) stride[d] = base->stride[d] * step;
    pr_tensor *t = prT_view(base, 4, shape, stride, layout == 3 ? 0 : base->stride[1] + 1);
    pr_release(base);
    return t;
  }
  }
}

static void check_copy(int to, int from, pr_dtype dst_dtype, pr_dtype src_dtype, const int64_t shape[4]) {
  pr_tensor *src = in_layout(from, src_dtype, shape), *dst = in_layout(to, dst_dtype, shape);
  prT_walk s, d;
  int64_t i = 0;
  for (prT_walk_start(&s, src); s.left > 0; prT_walk_next(&s)) prT_set(src, s.position, (double)(i++ % 251));
  assert_ok(pr_copy(dst, src));
  prT_walk_start(&s, src), prT_walk_start(&d, dst);
  for (; d.left > 0; prT_walk_next(&d), prT_walk_next(&s)) {
    double expected = prT_get(src, s.position), actual = prT_get(dst, d.position);
    if (dst_dtype == PR_BOOL) expected = expected != 0;
    if (actual != expected) {
      print_error("layout %d to %d, %s to %s\n", from, to, pr_dtype_name(src_dtype),
                  pr_dtype_name(dst_dtype));
      assert_close(actual, expected, 0);
    }
  }
  pr_release(src), pr_release(dst);
}

static void copies_between_all_layouts_agree_with_plain_loops(void **state) {
  (void)state;
  const int64_t shapes[][4] = { { 2, 3, 4, 5 }, { 2, 17, 9, 33 }, { 1, 1, 7, 1 }, { 3, 40, 1, 2 } };
  for (int s = 0; s < 4; s++)
    for (int to = 0; to < LAYOUTS; to++)
      for (int from = 0; from < LAYOUTS; from++) {
        check_copy(to, from, PR_F32, PR_F32, shapes[s]);
        check_copy(to, from, PR_U8, PR_U8, shapes[s]);
        check_copy(to, from, PR_F32, PR_F64, shapes[s]);
      }
  pr_cache_empty();
}

static void large_copies_in_several_threads_agree(void **state) {
  (void)state;
  for (int to = 0; to < LAYOUTS; to++)
    for (int from = 0; from < LAYOUTS; from++) check_copy(to, from, PR_F32, PR_F32, SHAPE(5, 33, 31, 29));
  check_copy(0, 0, PR_BF16, PR_F32, SHAPE(2, 1, 1, 100000));
  pr_cache_empty();
}

static void copies_between_all_dtypes_convert(void **state) {
  (void)state;
  for (int to = 0; to < PR_DTYPES; to++)
    for (int from = 0; from < PR_DTYPES; from++)
      check_copy(1, 0, (pr_dtype)to, (pr_dtype)from, SHAPE(2, 5, 7, 3));
}

static void copies_broadcast(void **state) {
  (void)state;
  pr_tensor *src = pr_tensor_from(PR_F32, 2, SHAPE(3, 1), (const double[]){ 1, 2, 3 });
  pr_tensor *dst = pr_tensor_zeros(PR_F32, PR_CPU, 3, SHAPE(2, 3, 4));
  assert_ok(pr_copy(dst, src));
  for (int i = 0; i < 24; i++) assert_close(prT_get(dst, i), i / 4 % 3 + 1, 0);
  assert_fails(pr_copy(src, dst), PR_ERR_SHAPE, "[2, 3, 4] does not broadcast to shape [3, 1]");
  pr_release(src), pr_release(dst);
}

static void overlapping_copies_read_before_they_write(void **state) {
  (void)state;
  pr_tensor *t = pr_tensor_from(PR_F32, 1, SHAPE(6), (const double[]){ 1, 2, 3, 4, 5, 6 });
  pr_tensor *left = prT_view(t, 1, SHAPE(5), SHAPE(1), 0), *right = prT_view(t, 1, SHAPE(5), SHAPE(1), 1);
  assert_ok(pr_copy(right, left));
  const double expected[] = { 1, 1, 2, 3, 4, 5 };
  for (int i = 0; i < 6; i++) assert_close(prT_get(t, i), expected[i], 0);
  pr_release(left), pr_release(right), pr_release(t);
}

static void expanded_destinations_are_refused(void **state) {
  (void)state;
  pr_tensor *t = pr_tensor_zeros(PR_F32, PR_CPU, 1, SHAPE(1)), *wide = prT_view(t, 1, SHAPE(4), SHAPE(0), 0);
  assert_fails(pr_fill(wide, 1), PR_ERR_STATE, "expanded");
  pr_release(t), pr_release(wide);
}

static void bf16_rounds_to_nearest_even(void **state) {
  (void)state;
  const double one = 0x1p-8; /* half of bf16's last place at 1 */
  const double values[][2] = { { 1 + one, 1 },
                               { 1 + 3 * one, 1 + 4 * one },
                               { 1 + one + 0x1p-40, 1 + 2 * one },
                               { -1 - one - 0x1p-40, -1 - 2 * one },
                               { 3.4e38, INFINITY },
                               { 0x1p-133, 0x1p-133 } };
  pr_tensor *t = pr_tensor_scalar(PR_BF16, 0);
  for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
    prT_set(t, 0, values[i][0]);
    assert_close(prT_get(t, 0), values[i][1], 0);
  }
  prT_set(t, 0, NAN);
  assert_true(isnan(prT_get(t, 0)));
  assert_true(isnan(prT_from_bf16(prT_to_bf16(NAN))));
  pr_release(t);
}

static void numbers_out_of_range_saturate(void **state) {
  (void)state;
  pr_tensor *t = pr_tensor_from(PR_F64, 1, SHAPE(3), (const double[]){ 1e300, -1e300, NAN });
  pr_tensor *whole = pr_to_dtype(t, PR_I64);
  const int64_t *v = prT_data(whole);
  assert_true(v[0] == INT64_MAX && v[1] == INT64_MIN && v[2] == 0);
  pr_release(t), pr_release(whole);
}

static void clones_keep_the_layout_and_contiguous_makes_rows(void **state) {
  (void)state;
  pr_tensor *t = in_layout(1, PR_F32, SHAPE(2, 3, 4, 5)), *clone = pr_clone(t), *rows = pr_contiguous(t);
  pr_tensor *same = pr_contiguous(rows), *half = pr_to_dtype(t, PR_BF16), *self = pr_to_dtype(t, PR_F32);
  assert_true(prT_is_channels_last(clone) && prT_is_channels_last(half));
  assert_true(clone->storage != t->storage);
  assert_true(pr_is_contiguous(rows));
  assert_ptr_equal(same, rows);
  assert_ptr_equal(self, t);
  pr_release(t), pr_release(clone), pr_release(rows), pr_release(same), pr_release(half), pr_release(self);
}

/* --- printing
 * ------------------------------------------------------------------------------------------------------------
 */

static char printed[1 << 16];
static void collect(void *ctx, const char *text) {
  (void)ctx;
  assert_true(strlen(printed) + strlen(text) < sizeof printed);
  strcat(printed, text);
}

static const char *print(pr_tensor *t) {
  printed[0] = 0;
  assert_ok(pr_print(t, collect, NULL));
  pr_release(t);
  return printed;
}

static void printing_aligns_columns(void **state) {
  (void)state;
  assert_string_equal(
      print(pr_tensor_from(PR_F32, 2, SHAPE(2, 3), (const double[]){ 1, -2.5, 3, 10, NAN, -INFINITY })),
      "  1.0000  -2.5000   3.0000\n"
      " 10.0000      nan     -inf\n"
      "f32 [2, 3] cpu\n");
  assert_string_equal(print(pr_tensor_from(PR_I64, 1, SHAPE(3), (const double[]){ 1, 20, -3 })),
                      "  1  20  -3\ni64 [3] cpu\n");
  assert_string_equal(print(pr_tensor_from(PR_BOOL, 1, SHAPE(2), (const double[]){ 1, 0 })),
                      "  true  false\nbool [2] cpu\n");
  assert_string_equal(print(pr_tensor_scalar(PR_F32, 1e-5)), " 1.0000e-05\nf32 [] cpu\n");
  assert_string_equal(print(pr_tensor_new(PR_F32, PR_META, 2, SHAPE(2, 3))), "f32 [2, 3] meta\n");
  assert_string_equal(print(pr_tensor_zeros(PR_F32, PR_CPU, 2, SHAPE(0, 3))), "f32 [0, 3] cpu\n");
  assert_string_equal(print(pr_tensor_zeros(PR_U8, PR_CPU, 3, SHAPE(2, 1, 2))),
                      "(0, ., .)\n 0  0\n(1, ., .)\n 0  0\nu8 [2, 1, 2] cpu\n");
}

static void printing_stays_on_one_screen(void **state) {
  (void)state;
  const int64_t shapes[][4] = {
    { 64, 3, 3, 3 }, { 1, 1, 1, 100000 }, { 1, 1, 100000, 1 }, { 100000, 1, 1, 1 }, { 1, 1, 1, 900 }
  };
  for (int i = 0; i < 5; i++) {
    print(pr_tensor_full(PR_F32, PR_CPU, 4, shapes[i], 0.5));
    int lines = 0;
    size_t longest = 0;
    for (const char *at = printed; *at; lines++) {
      size_t n = strcspn(at, "\n");
      if (n > longest) longest = n;
      at += n + 1;
    }
    assert_in_range(lines, 2, 60);
    assert_in_range(longest, 1, 100);
    assert_non_null(strstr(printed, "..."));
  }
  pr_cache_empty();
}

/* --- memory
 * ----------------------------------------------------------------------------------------------------------------
 */

static void released_blocks_are_used_again_within_bounds(void **state) {
  (void)state;
  pr_tensor *a = pr_tensor_new(PR_F32, PR_CPU, 1, SHAPE(1 << 20));
  pr_release(a);
  pr_memory_stats first, later;
  pr_memory_get(&first);
  for (int i = 0; i < 100; i++) pr_release(pr_tensor_new(PR_F32, PR_CPU, 1, SHAPE((1 << 20) - i)));
  for (int i = 1; i < 100; i++) pr_release(pr_tensor_new(PR_F32, PR_CPU, 1, SHAPE((1 << 20) / i)));
  pr_memory_get(&later);
  /* 4 MB, plus half of that, were live and cached at most: the second block of 4 MB is the first one. */
  assert_true(later.live <= first.live + (6 << 20) + (1 << 16));
  pr_cache_empty();
}

static void live_bytes_follow_storages(void **state) {
  (void)state;
  size_t before = pr_storage_live();
  pr_tensor *t = pr_tensor_new(PR_F64, PR_CPU, 1, SHAPE(1000)), *view = pr_detach(t);
  assert_int_equal(pr_storage_live() - before, 8000);
  pr_release(t);
  assert_int_equal(pr_storage_live() - before, 8000);
  pr_release(view);
  assert_int_equal(pr_storage_live(), before);
}

/* Everything that allocates, with the nth allocation failing, for every n: a clean failure, nothing left
 * behind. */
static pr_status work(void) {
  pr_status status = PR_ERR_MEMORY;
  pr_tensor *a = pr_tensor_full(PR_F32, PR_CPU, 4, SHAPE(2, 3, 4, 5), 1), *b = NULL, *c = NULL, *view = NULL,
            *tail = NULL;
  if (!a || !(b = prT_new_channels_last(PR_F32, PR_CPU, 4, a->shape))) goto done;
  if (pr_copy(b, a) || !(c = pr_contiguous(b)) || !(view = pr_detach(c))) goto done;
  pr_release(b);
  if (!(b = pr_to_dtype(a, PR_F64))) goto done;
  if (!(tail = prT_view(view, 1, SHAPE(50), SHAPE(1), 1))) goto done;
  pr_release(view);
  if (!(view = prT_view(tail, 1, SHAPE(49), SHAPE(1), 1))) goto done;
  pr_release(c);
  if (!(c = prT_view(tail, 1, SHAPE(49), SHAPE(1), 2)) || pr_copy(c, view)) goto done;
  status = PR_OK;
done:
  pr_release(a), pr_release(b), pr_release(c), pr_release(view), pr_release(tail);
  return status;
}

static void failing_allocations_leave_nothing_behind(void **state) {
  (void)state;
  pr_memory_stats before, after;
  int failures = 0;
  for (size_t n = 1; n < 100; n++) {
    pr_memory_get(&before);
    pr_memory_fail_after(n, false);
    pr_status status = work();
    pr_memory_fail_after(0, false);
    pr_memory_get(&after);
    assert_int_equal(before.live, after.live);
    assert_int_equal(before.blocks, after.blocks);
    if (status == PR_OK) break;
    assert_int_equal(status, PR_ERR_MEMORY);
    failures++;
  }
  assert_in_range(failures, 10, 98);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    memory_test(new_tensors_are_row_major),
    memory_test(impossible_shapes_are_refused),
    memory_test(empty_and_scalar_tensors_work),
    memory_test(meta_tensors_have_no_values),
    memory_test(allocated_specifications_keep_their_layout),
    memory_test(layouts_are_inherited),
    memory_test(views_share_and_keep_the_storage),
    memory_test(swapping_content_keeps_the_handle),
    memory_test(copies_between_all_layouts_agree_with_plain_loops),
    memory_test(large_copies_in_several_threads_agree),
    memory_test(copies_between_all_dtypes_convert),
    memory_test(copies_broadcast),
    memory_test(overlapping_copies_read_before_they_write),
    memory_test(expanded_destinations_are_refused),
    memory_test(bf16_rounds_to_nearest_even),
    memory_test(numbers_out_of_range_saturate),
    memory_test(clones_keep_the_layout_and_contiguous_makes_rows),
    memory_test(printing_aligns_columns),
    memory_test(printing_stays_on_one_screen),
    memory_test(released_blocks_are_used_again_within_bounds),
    memory_test(live_bytes_follow_storages),
    memory_test(failing_allocations_leave_nothing_behind),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
