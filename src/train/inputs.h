/* inputs - device room for one micro-batch and its loss, filled from a host batch.
 *
 * Where device memory is the host's, the batch is used as it lies.  Otherwise it goes through one
 * of two page-locked buffers, so that the host fills one while the device reads the other. */
#pragma once

#include "config/config.h"
#include "core/arena.h"
#include "data/sampler.h"
#include "device/device.h"
#include "model/model.h"

enum { INPUTS_BUFFERS = 2 };

/* What forward and backward of a step add up, in device memory. */
struct input_sums {
    struct nn_loss loss;
    double squares; /* of the gradient's elements this rank owns */
};

struct inputs {
    struct device *device;
    struct input_sums *sums;
    int32_t *arrays; /* [4, max_B * T]: tokens, targets, positions, doc_start; or NULL */
    int64_t max_rows;
    bool
        whole_sequences; /* no document masks: doc_start is not passed on; false at first */
    void *host[INPUTS_BUFFERS];
    struct device_mark *passed[INPUTS_BUFFERS]; /* the device has read it */
    int next;
};

/* Room for max_B sequences of T tokens, from `arena`; while that measures, only sizes are
 * counted.  STATUS_NOMEM; release it also after a failure. */
MUST_USE status_t inputs_init(struct inputs *i, struct arena *arena, struct device *dev,
                              int64_t max_B, int64_t T);
void inputs_release(struct inputs *i);
/* Page-locked host memory that inputs_init takes. */
size_t inputs_host_bytes(const struct device *dev, int64_t max_B, int64_t T);

/* The batch as the device's compute queue will see it; host memory that is passed on as it is
 * must stay until that queue is empty. */
struct model_input inputs_load(struct inputs *i, const struct batch *b);

/* Sums to zero; their values, for which the host waits. */
void inputs_clear_sums(struct inputs *i);
struct input_sums inputs_read_sums(struct inputs *i);

/* How closely to look at these token files when they are opened (data.verify): every byte of
 * small ones costs a moment; large ones are left to yoke inspect --verify. */
enum token_file_check inputs_check(const struct config *c,
                                   const struct data_source *sources, int n);
