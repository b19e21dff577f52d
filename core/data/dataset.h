/* dataset.h - labelled images: where they come from, what they are, how one gets at the pixels.
 *
 * A data set is a list of samples, each an image of bytes (height, width, channels; all of one size) and a
 * label counted from 0. Values are bytes divided by `divisor` (255; 16 for the embedded digits). A data set
 * does not change once it is open, so any number of threads may read it; it is counted by reference.
 *
 * What a path may lead to is told by looking:
 *   HDF5 file      `images` (N x H x W or N x H x W x C, bytes) and `labels` (N integers from 0);
 * `test_images` and `test_labels` are the test part, else the last fifth is (rows from floor(4 N / 5)).
 * Classes are named by their number. image folder   DIR/train/CLASS/... and DIR/test/CLASS/... (or
 * DIR/val/...), JPEG and PNG at any depth; classes are the sorted folder names, samples are sorted within
 * their class; always 3 channels. CIFAR-10       DIR/data_batch_1.bin ... data_batch_5.bin (at least one) and
 * DIR/test_batch.bin: records of 1 + 3072 bytes. MNIST          DIR/train-images-idx3-ubyte,
 * train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte, each plain or with .gz. Errors
 * name the file and the reason.
 */
#ifndef PR_DATA_DATASET_H
#define PR_DATA_DATASET_H

#include "base/error.h"
#include "data/image.h"

typedef struct pr_dataset pr_dataset;

typedef enum pr_split { PR_TRAIN, PR_TEST } pr_split;

typedef struct pr_dataset_options {
  int resize; /* image folders: 0 = all images must be of one size; n = shorter side to n, then the centre n x
                 n */
  size_t cache_bytes; /* image folders: how many bytes of decoded images are kept; the rest is decoded anew in
                         each epoch */
} pr_dataset_options;

extern const pr_dataset_options pr_dataset_defaults; /* no resize, 2 GiB */

/* Open the training or the test part; `options` NULL means the defaults. An option that the kind of source
 * has no use for is an error. */
pr_status pr_dataset_open(const char *path, pr_split part, const pr_dataset_options *options,
                          pr_dataset **out);

/* The digits that the library carries: 8 x 8, one channel, 1437 for training, 360 for testing. */
pr_status pr_dataset_digits(pr_split part, pr_dataset **out);

/* A data set from memory (copied): `images` count x height x width x channels bytes, labels 0 .. classes - 1.
 */
pr_status pr_dataset_memory(const uint8_t *images, const int32_t *labels, int64_t count, int height,
                            int width, int channels, int classes, float divisor, pr_dataset **out);

pr_dataset *pr_dataset_retain(pr_dataset *dataset);
void pr_dataset_release(pr_dataset *dataset); /* NULL is allowed */

int64_t pr_dataset_size(const pr_dataset *dataset);
void pr_dataset_shape(const pr_dataset *dataset, int64_t shape[3]); /* channels, height, width */
int pr_dataset_classes(const pr_dataset *dataset);
const char *pr_dataset_class_name(const pr_dataset *dataset, int index); /* from 0 */
int32_t pr_dataset_label(const pr_dataset *dataset, int64_t sample);
float pr_dataset_divisor(const pr_dataset *dataset);

/* The pixels of one sample, (height, width, channels). They stay valid until the decoder's next use. */
pr_status prL_dataset_image(pr_dataset *dataset, prL_decoder *decoder, int64_t sample,
                            const uint8_t **pixels);

/* The first `limit` samples: as they lie, or for image folders, which lie class by class, in turn from each
 * class. limit 0, or more than there are: all of them as they lie. `order` has room for pr_dataset_size;
 * *count receives how many were written. */
pr_status prL_dataset_order(const pr_dataset *dataset, int64_t limit, int64_t *order, int64_t *count);

#endif
