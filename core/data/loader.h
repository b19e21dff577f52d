/* loader.h - batches of normalised, augmented images, prepared ahead of the training step by threads of their
 * own.
 *
 * An epoch visits every sample once. Batches hold `batch` samples; the last one holds the rest, except that a
 * rest of one joins the batch before it (batch normalisation cannot train on a single sample). With `shuffle`
 * the order is a permutation drawn for each epoch.
 *
 * Random numbers are those of (seed, PR_STREAM_SHUFFLE or PR_STREAM_AUGMENT, epoch, sample): the batches of
 * (epoch, number) are the same bits for any number of threads, and any batch can be asked for without those
 * before it.
 *
 * An image's value is (byte / divisor - mean[c]) / std[c], computed in float. Augmentation, of the bytes:
 * `crop_padding` p pads all sides with zeros and cuts the original size at a random place (offsets -p .. p);
 * `flip` then mirrors left-right with probability 1/2. (He et al., CVPR 2016, section 4.2; torchvision's
 * RandomCrop(padding) and RandomHorizontalFlip.)
 *
 * The threads are plain threads: they never enter OpenMP and take no signals. A loader belongs to one thread
 * at a time.
 */
#ifndef PR_DATA_LOADER_H
#define PR_DATA_LOADER_H

#include "data/dataset.h"

enum { PR_MAX_CHANNELS = 4 };

typedef struct pr_normalization {
  float mean[PR_MAX_CHANNELS], std[PR_MAX_CHANNELS];
} pr_normalization;

/* Published constants: "cifar10", "imagenet", "mnist", "none" (mean 0, deviation 1). PR_ERR_ARGUMENT for
 * another name, or one that has constants for another number of channels. */
pr_status pr_normalization_named(const char *name, int channels, pr_normalization *out);

/* Mean and deviation (of all pixels, divided by their number) per channel over the first `limit` samples
 * (prL_dataset_order), in units of value. Exact sums of bytes: the result does not depend on `threads` (1 to
 * 64). A channel that is constant has deviation 1. */
pr_status pr_dataset_statistics(pr_dataset *dataset, int64_t limit, int threads, pr_normalization *out);

typedef struct pr_loader_options {
  int batch;        /* samples per batch, 1 or more */
  bool shuffle;     /* a new order for each epoch; else that of the data set */
  int crop_padding; /* pixels on each side; 0 is off */
  bool flip;        /* mirror half of the images */
  int threads;      /* 1 to 64; 0: batches are made by the call of pr_loader_next */
  uint64_t seed;    /* of order and augmentation */
  int64_t limit;    /* use the first `limit` samples (prL_dataset_order); 0: all */
  pr_normalization normalization;
} pr_loader_options;

typedef struct pr_loader pr_loader;

/* The loader holds a reference to the data set. It stands before epoch 0, batch 0. */
pr_status pr_loader_open(pr_dataset *dataset, const pr_loader_options *options, pr_loader **out);
void pr_loader_close(pr_loader *loader); /* at any time; work under way is dropped. NULL is allowed */

int64_t pr_loader_samples(const pr_loader *loader); /* per epoch, after `limit` */
int64_t pr_loader_batches(const pr_loader *loader); /* per epoch */

/* Begin (or go on with) an epoch at a batch, both from 0; batch may be pr_loader_batches: nothing is left
 * then. */
pr_status pr_loader_start(pr_loader *loader, int64_t epoch, int64_t batch);

typedef struct pr_batch {
  int64_t number;        /* in its epoch */
  int count;             /* samples; 0 when the epoch is over */
  const float *images;   /* count x height x width x channels */
  const int64_t *labels; /* count, from 0 */
} pr_batch;

/* The next batch; it stays valid until the next call on this loader. A sample that cannot be read fails the
 * call for its batch; the call after that goes on with the following batch. PR_ERR_INTERRUPTED leaves the
 * position as it was. */
pr_status pr_loader_next(pr_loader *loader, pr_batch *out);

#endif
