/* inputs - device room for one micro-batch, filled from a host batch. */
#pragma once

#include "config/config.h"
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

/* How closely to look at these token files when they are opened (data.verify): every byte of
 * small ones costs a moment; large ones are left to yoke inspect --verify. */
enum token_file_check inputs_check(const struct config *c,
                                   const struct data_source *sources, int n);
