/* image.h - JPEG and PNG files to bytes, and their scaling.
 *
 * Pixels are bytes, rows from the top, channels innermost: (height, width, channels). Which formats this
 * build knows: PRUNELUA_JPEG (libturbojpeg), PRUNELUA_PNG (libpng); the others fail with PR_ERR_UNSUPPORTED.
 *
 * Files are taken as hostile: width and height are read from the header and held against PRL_MAX_PIXELS, or
 * the size that the caller expects, before memory is taken; warnings of the decoders are errors; progressive
 * JPEGs of more than 500 scans are refused.
 */
#ifndef PR_DATA_IMAGE_H
#define PR_DATA_IMAGE_H

#include "base/error.h"

enum { PRL_MAX_PIXELS = 100000000, PRL_MAX_FILE = 1 << 30 };

/* What one thread needs for decoding; it keeps its buffers from image to image. Start from zeroed memory. */
typedef struct prL_decoder {
  void *jpeg;
  uint8_t *file;
  size_t file_capacity;
  uint8_t *pixels;
  size_t pixel_capacity;
  float *rows;
  size_t row_capacity;
  uint8_t *image; /* one image of the data set; see prL_dataset_image */
  size_t image_capacity;
} prL_decoder;

void prL_decoder_close(prL_decoder *decoder);

typedef struct prL_image {
  int width, height, channels;
  const uint8_t *pixels; /* in the decoder, until its next use */
} prL_image;

/* Read the file into decoder->file. */
pr_status prL_read_file(prL_decoder *decoder, const char *path, size_t *size);

/* Width and height from the header. The format is told by the content, not by the name; `name` is for
 * messages. */
pr_status prL_image_size(prL_decoder *decoder, const uint8_t *bytes, size_t size, const char *name,
                         int *width, int *height);

/* Decode to `channels` 1 (luma) or 3 (RGB), whatever the file holds; transparency is dropped, 16 bits are cut
 * to 8. */
pr_status prL_image_decode(prL_decoder *decoder, const uint8_t *bytes, size_t size, const char *name,
                           int channels, prL_image *out);

/* Scale so that the shorter side is `side` and cut the centre: `out` receives side x side pixels. Bilinear
 * with antialiasing: the triangle filter is widened by the factor of reduction, as in torchvision's and
 * Pillow's resize; sizes and offsets are rounded as torchvision's Resize and CenterCrop round them. */
pr_status prL_image_fit(prL_decoder *decoder, const prL_image *image, int side, uint8_t *out);

#endif
