/* inputs - device room for one micro-batch and its loss, filled from a host batch.
 *
 * Where device memory is the host's, the batch is used as it lies, unless this rank computes only
 * some of its rows (context parallelism), which are picked, or has several micro-batches on their
 * way (pipeline).  An accelerator gets it through one of
 * two page-locked buffers, so that the host fills one while the device reads the other. */
#pragma once

#include "config/config.h"
#include "core/arena.h"
#include "data/sampler.h"
#include "device/device.h"
#include "model/model.h"
#include "parallel/cp/cp.h"

enum { INPUTS_BUFFERS = 2 };

/* What forward and backward of a step add up, in device memory. */
struct input_sums {
    struct nn_loss loss;
    double squares; /* of the gradient's elements this rank owns */
};

/* Sequences as the loader makes them, and the rows of each that this rank computes. */
struct inputs_shape {
    int64_t max_B, T;     /* whole sequences */
    int cp_rank, cp_size; /* 0, 1: all rows */
    int slots;            /* micro-batches on their way at a time */
};

struct inputs {
    struct device *device;
    struct inputs_shape shape;
    int64_t rows; /* of a sequence here */
    struct input_sums *sums;
    /* [slots]: tokens, targets, positions, doc_start or spans; NULL: batches are used as they
     * lie */
    int32_t *arrays;
    int32_t *no_targets; /* [rows of a micro-batch]: -1 */
    bool
        whole_sequences; /* no document masks: doc_start is not passed on; false at first */
    void *host[INPUTS_BUFFERS];
    struct device_mark *passed[INPUTS_BUFFERS]; /* the device has read it */
    int next;
};

/* Room for one micro-batch, from `arena`; while that measures, only sizes are counted.
 * STATUS_NOMEM; release it also after a failure. */
MUST_USE status_t inputs_init(struct inputs *i, struct arena *arena, struct device *dev,
                              const struct inputs_shape *shape);
void inputs_release(struct inputs *i);
/* Page-locked host memory that inputs_init takes. */
size_t inputs_host_bytes(const struct device *dev, const struct inputs_shape *shape);

/* The batch as the device's compute queue will see it, until the slot is loaded again; host memory
 * that is passed on as it is must stay until that queue is empty. */
struct model_input inputs_load(struct inputs *i, int slot, const struct batch *b);

/* `in`, of which nothing is to be predicted: it adds nothing. */
struct model_input inputs_blank(const struct inputs *i, const struct model_input *in);

/* Sums to zero; their values, for which the host waits. */
void inputs_clear_sums(struct inputs *i);
struct input_sums inputs_read_sums(struct inputs *i);

/* How closely to look at these token files when they are opened (data.verify): every byte of
 * small ones costs a moment; large ones are left to yoke inspect --verify. */
enum token_file_check inputs_check(const struct config *c,
                                   const struct data_source *sources, int n);
