/* image.c - decoding of JPEG and PNG. */
#include "data/image.h"

#include "base/memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#ifdef PRUNELUA_JPEG
#include <turbojpeg.h>
#endif
#ifdef PRUNELUA_PNG
#include <png.h>
#include <setjmp.h>
#endif

void prL_decoder_close(prL_decoder *decoder) {
#ifdef PRUNELUA_JPEG
  if (decoder->jpeg) tjDestroy(decoder->jpeg);
#endif
  PRB_ARRAY_FREE(decoder->file, decoder->file_capacity);
  PRB_ARRAY_FREE(decoder->pixels, decoder->pixel_capacity);
  PRB_ARRAY_FREE(decoder->rows, decoder->row_capacity);
  PRB_ARRAY_FREE(decoder->image, decoder->image_capacity);
  *decoder = (prL_decoder){ 0 };
}

pr_status prL_read_file(prL_decoder *decoder, const char *path, size_t *size) {
  struct stat info;
  FILE *f = fopen(path, "rbe");
  if (!f) return pr_fail(PR_ERR_IO, "%s: cannot be opened: %s", path, strerror(errno));
  pr_status status = PR_OK;
  if (fstat(fileno(f), &info) || !S_ISREG(info.st_mode)) {
    status = pr_fail(PR_ERR_IO, "%s: is not a file", path);
  } else if (info.st_size == 0) {
    status = pr_fail(PR_ERR_FORMAT, "%s: is empty", path);
  } else if (info.st_size > PRL_MAX_FILE) {
    status = pr_fail(PR_ERR_FORMAT, "%s: is larger than 1 GiB: not an image", path);
  } else {
    *size = (size_t)info.st_size;
    status = PRB_RESERVE(decoder->file, decoder->file_capacity, *size);
    if (!status && fread(decoder->file, 1, *size, f) != *size)
      status = pr_fail(PR_ERR_IO, "%s: cannot be read: %s", path,
                       ferror(f) ? strerror(errno) : "it got shorter meanwhile");
  }
  fclose(f);
  return status;
}

#if defined(PRUNELUA_JPEG) || defined(PRUNELUA_PNG)
static pr_status reserve_pixels(prL_decoder *decoder, const char *name, int64_t width, int64_t height,
                                int channels) {
  if (width < 1 || height < 1 || width > PRL_MAX_PIXELS || width * height > PRL_MAX_PIXELS)
    return pr_fail(PR_ERR_FORMAT, "%s: its header says %lld x %lld pixels; the limit is %d in all", name,
                   (long long)width, (long long)height, PRL_MAX_PIXELS);
  return PRB_RESERVE(decoder->pixels, decoder->pixel_capacity, (size_t)(width * height) * (size_t)channels);
}
#endif

/* --- JPEG --- */

#ifdef PRUNELUA_JPEG
static pr_status jpeg_size(prL_decoder *decoder, const uint8_t *bytes, size_t size, const char *name,
                           int *width, int *height, int *space) {
  int sampling;
  if (!decoder->jpeg && !(decoder->jpeg = tjInitDecompress()))
    return pr_fail(PR_ERR_MEMORY, "%s: no memory for a JPEG decoder", name);
  if (tjDecompressHeader3(decoder->jpeg, bytes, size, width, height, &sampling, space))
    return pr_fail(PR_ERR_FORMAT, "%s: damaged JPEG: %s", name, tjGetErrorStr2(decoder->jpeg));
  return PR_OK;
}

static pr_status jpeg_decode(prL_decoder *decoder, const uint8_t *bytes, size_t size, const char *name,
                             int channels, prL_image *out) {
  int width, height, space;
  PR_TRY(jpeg_size(decoder, bytes, size, name, &width, &height, &space));
  if (space == TJCS_CMYK || space == TJCS_YCCK)
    return pr_fail(PR_ERR_UNSUPPORTED, "%s: JPEG in CMYK colours; convert it to RGB", name);
  PR_TRY(reserve_pixels(decoder, name, width, height, channels));
  const int flags = TJFLAG_STOPONWARNING | TJFLAG_LIMITSCANS | TJFLAG_ACCURATEDCT;
  if (tjDecompress2(decoder->jpeg, bytes, size, decoder->pixels, width, 0, height,
                    channels == 1 ? TJPF_GRAY : TJPF_RGB, flags))
    return pr_fail(PR_ERR_FORMAT, "%s: damaged JPEG: %s", name, tjGetErrorStr2(decoder->jpeg));
  *out = (prL_image){ width, height, channels, decoder->pixels };
  return PR_OK;
}
#else
static pr_status jpeg_size(prL_decoder *decoder, const uint8_t *bytes, size_t size, const char *name,
                           int *width, int *height, int *space) {
  (void)decoder, (void)bytes, (void)size, (void)width, (void)height, (void)space;
  return pr_fail(PR_ERR_UNSUPPORTED,
                 "%s: this build cannot read JPEG; install libturbojpeg0-dev and build again", name);
}

static pr_status jpeg_decode(prL_decoder *decoder, const uint8_t *bytes, size_t size, const char *name,
                             int channels, prL_image *out) {
  (void)channels, (void)out;
  int width, height, space;
  return jpeg_size(decoder, bytes, size, name, &width, &height, &space);
}
#endif

/* --- PNG --- */

#ifdef PRUNELUA_PNG
/* libpng reports through longjmp; everything that changes between setjmp and a jump lives here, not in
 * locals. */
typedef struct png_job {
  png_structp png;
  png_infop info;
  const uint8_t *bytes;
  size_t size, at;
  char reason[160];
  pr_status status;
  png_bytep *rows;
  size_t row_capacity;
} png_job;

static void png_stop(png_structp png, png_const_charp reason) {
  png_job *job = png_get_error_ptr(png);
  snprintf(job->reason, sizeof job->reason, "%s", reason);
  png_longjmp(png, 1);
}

/* Warnings speak of side chunks (colour profiles, times); the pixels are guarded by errors. */
static void png_ignore(png_structp png, png_const_charp reason) { (void)png, (void)reason; }

static void png_take(png_structp png, png_bytep out, size_t n) {
  png_job *job = png_get_io_ptr(png);
  if (n > job->size - job->at) png_error(png, "it ends early");
  memcpy(out, job->bytes + job->at, n);
  job->at += n;
}

static void png_begin(png_job *job) {
  png_set_user_limits(job->png, PRL_MAX_PIXELS, PRL_MAX_PIXELS);
  png_set_chunk_malloc_max(job->png, 8 << 20);
  png_set_chunk_cache_max(job->png, 64);
  png_set_crc_action(job->png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
  png_set_read_fn(job->png, job, png_take);
  png_read_info(job->png, job->info);
}

/* A small file must not claim a large image: deflate packs 1032 : 1 at best. */
static void png_check_claim(png_job *job) {
  size_t claim = png_get_rowbytes(job->png, job->info) * (size_t)png_get_image_height(job->png, job->info);
  if (claim > job->size * 1040 + 65536)
    png_error(job->png, "its header claims more pixels than the file can hold");
}

static void png_convert(png_job *job, int channels) {
  int color = png_get_color_type(job->png, job->info);
  png_set_expand(job->png);
  png_set_strip_16(job->png);
  png_set_strip_alpha(job->png);
  if (channels == 3 && !(color & PNG_COLOR_MASK_COLOR)) png_set_gray_to_rgb(job->png);
  if (channels == 1 && (color & PNG_COLOR_MASK_COLOR))
    png_set_rgb_to_gray_fixed(job->png, 1, 29900, 58700); /* BT.601 */
  png_set_interlace_handling(job->png);
  png_read_update_info(job->png, job->info);
}

static pr_status png_pixels(png_job *job, prL_decoder *decoder, const char *name, int channels,
                            prL_image *out) {
  int width = (int)png_get_image_width(job->png, job->info),
      height = (int)png_get_image_height(job->png, job->info);
  PR_TRY(reserve_pixels(decoder, name, width, height, channels));
  PR_TRY(PRB_RESERVE(job->rows, job->row_capacity, (size_t)height));
  size_t row = (size_t)width * (size_t)channels;
  if (png_get_rowbytes(job->png, job->info) != row) png_error(job->png, "unknown pixel form");
  for (int y = 0; y < height; y++) job->rows[y] = decoder->pixels + (size_t)y * row;
  png_read_image(job->png, job->rows);
  png_read_end(job->png, NULL);
  *out = (prL_image){ width, height, channels, decoder->pixels };
  return PR_OK;
}

/* With `out` NULL only the header is read. */
static pr_status png_run(prL_decoder *decoder, const uint8_t *bytes, size_t size, const char *name,
                         int channels, int *width, int *height, prL_image *out) {
  png_job job = { .bytes = bytes, .size = size };
  job.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &job, png_stop, png_ignore);
  job.info = job.png ? png_create_info_struct(job.png) : NULL;
  if (!job.info) {
    png_destroy_read_struct(&job.png, NULL, NULL);
    return pr_fail(PR_ERR_MEMORY, "%s: no memory for a PNG decoder", name);
  }
  if (setjmp(png_jmpbuf(job.png))) {
    job.status = pr_fail(PR_ERR_FORMAT, "%s: damaged PNG: %s", name, job.reason);
  } else {
    png_begin(&job);
    png_check_claim(&job);
    if (out) {
      png_convert(&job, channels);
      job.status = png_pixels(&job, decoder, name, channels, out);
    } else if (width && height) {
      *width = (int)png_get_image_width(job.png, job.info),
      *height = (int)png_get_image_height(job.png, job.info);
    }
  }
  png_destroy_read_struct(&job.png, &job.info, NULL);
  PRB_ARRAY_FREE(job.rows, job.row_capacity);
  return job.status;
}
#else
static pr_status png_run(prL_decoder *decoder, const uint8_t *bytes, size_t size, const char *name,
                         int channels, int *width, int *height, prL_image *out) {
  (void)decoder, (void)bytes, (void)size, (void)channels, (void)width, (void)height, (void)out;
  return pr_fail(PR_ERR_UNSUPPORTED, "%s: this build cannot read PNG; install libpng-dev and build again",
                 name);
}
#endif

/* --- either --- */

typedef enum format { UNKNOWN, JPEG, PNG } format;

static format format_of(const uint8_t *bytes, size_t size) {
  if (size >= 3 && bytes[0] == 0xff && bytes[1] == 0xd8 && bytes[2] == 0xff) return JPEG;
  if (size >= 8 && !memcmp(bytes, "\x89PNG\r\n\x1a\n", 8)) return PNG;
  return UNKNOWN;
}

static pr_status unknown(const char *name) {
  return pr_fail(PR_ERR_FORMAT, "%s: is neither JPEG nor PNG by its content", name);
}

pr_status prL_image_size(prL_decoder *decoder, const uint8_t *bytes, size_t size, const char *name,
                         int *width, int *height) {
  int space;
  switch (format_of(bytes, size)) {
  case JPEG: return jpeg_size(decoder, bytes, size, name, width, height, &space);
  case PNG: return png_run(decoder, bytes, size, name, 0, width, height, NULL);
  default: return unknown(name);
  }
}

pr_status prL_image_decode(prL_decoder *decoder, const uint8_t *bytes, size_t size, const char *name,
                           int channels, prL_image *out) {
  int width, height;
  switch (format_of(bytes, size)) {
  case JPEG: return jpeg_decode(decoder, bytes, size, name, channels, out);
  case PNG: return png_run(decoder, bytes, size, name, channels, &width, &height, out);
  default: return unknown(name);
  }
}
