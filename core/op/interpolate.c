/* interpolate.c - images of another size. */
#include "op/op.h"

#include "couple/rules.h"

#include <math.h>

enum { X };
enum { Y };
enum { SIZE, SCALE, MODE, ALIGN };
enum { NEAREST, BILINEAR };

static pr_status infer(pr_call *c) {
  PR_TRY(prO_need_dim(c, X, 4, 4));
  PR_TRY(prO_need_float(c, X));
  PR_TRY(prO_check_ints(c, SIZE, 2));
  const pr_tensor *x = c->in[X];
  double scale = c->args[SCALE].real;
  bool sized = c->args[SIZE].count > 0 || c->args[SIZE].integer > 0;
  if (sized == (scale != 0)) return prO_fail(c, PR_ERR_ARGUMENT, "give either size or scale_factor");
  if (!sized && !(scale > 0 && scale <= 1 << 20))
    return prO_fail(c, PR_ERR_ARGUMENT, "scale_factor must be positive and at most 2^20, got %g", scale);
  if (c->args[ALIGN].integer && c->args[MODE].integer != BILINEAR)
    return prO_fail(c, PR_ERR_ARGUMENT, "align_corners belongs to mode bilinear");
  int64_t shape[4] = { x->shape[0], x->shape[1] };
  for (int k = 0; k < 2; k++) {
    if (sized) PR_TRY(prO_need_int(c, SIZE, k, 1));
    shape[2 + k] = sized ? prO_int(c, SIZE, k) : (int64_t)floor((double)x->shape[2 + k] * scale);
    if (shape[2 + k] < 1 || x->shape[2 + k] < 1)
      return prO_fail(c, PR_ERR_SHAPE, "cannot interpolate from size %lld to %lld",
                      (long long)x->shape[2 + k], (long long)shape[2 + k]);
  }
  return prO_output_channels_last(c, Y, x->dtype, 4, shape);
}

static void couple(pr_coupling *k) { prC_rule_spatial(k, PRC_IN(X), PRC_OUT(Y), 2, PRC_DEAD_VALUE); }

PR_OP(interpolate) = {
  .name = "interpolate",
  .inputs = "x",
  .outputs = "y",
  .args = { { "size", PR_ARG_INTS, .empty = true, .help = "height and width of y" },
            { "scale_factor", PR_ARG_REAL, .help = "size of y / size of x, instead of size" },
            { "mode", PR_ARG_CHOICE, .choices = "nearest bilinear" },
            { "align_corners", PR_ARG_BOOL,
              .help = "corner pixels' centres, not their outer edges, stay in place" } },
  .infer = infer,
  .couple = couple,
  .onnx = "Resize",
  .examples = "x:1x2x3x4 scale_factor=2\n"
              "x:1x2x3x4 size=5,3 mode=bilinear\n"
              "x:1x2x3x4 scale_factor=1.5 mode=bilinear\n"
              "x:1x2x3x4 size=6,5 mode=bilinear align_corners=true\n"
              "x:1x2x4x4 size=2",
  .help = "Resize images: x [N, C, H, W] -> y [N, C, H', W']\n"
          "nearest: y[i] = x[floor(i r)]; bilinear: between the neighbours of (i + 0.5) r - 0.5, or of\n"
          "i (H - 1) / (H' - 1) with align_corners; r = 1 / scale_factor, or H / H' with size.",
};
