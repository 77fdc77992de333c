/* inputs - device room for one micro-batch, filled from a host batch. */
#pragma once

#include "core/arena.h"
#include "data/sampler.h"
#include "device/device.h"
#include "model/model.h"

struct inputs {
    struct device *device;
    int32_t *tokens, *targets, *positions, *doc_start; /* [max_B * T], device memory */
};

/* Room for max_B sequences of T tokens, from `arena`, which may measure. */
struct inputs inputs_take(struct arena *arena, struct device *dev, int64_t max_B,
                          int64_t T);

/* Copy a batch in; the result points into `i`. */
struct model_input inputs_load(const struct inputs *i, const struct batch *b);
