/* prune.h - prunelua's C API in one include. Each room's header is its manual. Call pr_start first. */
#ifndef PR_PRUNE_H
#define PR_PRUNE_H

#include "autograd/autograd.h"
#include "autograd/parameter.h"
#include "backend/backend.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/scope.h"
#include "base/thread.h"
#include "data/dataset.h"
#include "data/loader.h"
#include "graph/graph.h"
#include "io/checkpoint.h"
#include "io/hdf5.h"
#include "nn/initializer.h"
#include "op/op.h"
#include "optim/optim.h"
#include "prune/criterion.h"
#include "prune/mask.h"
#include "prune/obs.h"
#include "prune/pattern.h"
#include "prune/pruning.h"
#include "prune/regrow.h"
#include "prune/removal.h"
#include "prune/select.h"
#include "prune/sparsegpt.h"
#include "prune/verify.h"
#include "tensor/tensor.h"

#define PR_VERSION "0.1.0"

/* Connect the rooms' hooks. Cheap; again: no effect. */
pr_status pr_start(void);

#endif
