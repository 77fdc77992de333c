/* memory_plan - how many bytes a rank needs, found by running the code on no memory. */
#pragma once

#include <stddef.h>

#include "config/config.h"
#include "data/loader.h"
#include "device/device.h"
#include "model/model.h"
#include "parallel/comm/comm.h"
#include "train/parts.h"

struct memory_plan {
    int64_t
        padded_elements; /* of the flat buffers: the table's, rounded up for the layout */
    int64_t owned_elements; /* of them, those that are this rank's in a checkpoint */
    /* Ranks of a host that have one copy of these weights together: the first of them has its bytes
     * in `weights`, the others none. */
    int64_t n_near;
    /* device memory */
    size_t weights, gradients, optimizer, communication, activations, inputs, scratch;
    /* host memory; page-locked, for a device of its own memory: staging and mirror */
    size_t batches; /* micro-batches the loader keeps ready */
    size_t staging; /* of micro-batches and reductions */
    size_t mirror;  /* masters and moments on their way to a checkpoint */
};

/* The plan of this rank.  STATUS_NOMEM.  Local: nothing is sent, though the sizes of the layout's
 * communicators count. */
MUST_USE status_t memory_plan_make(struct memory_plan *p, const struct parts_options *o,
                                   const struct pp_schedule *schedule, int n_threads);

size_t memory_plan_device_bytes(const struct memory_plan *p);
size_t memory_plan_pinned_bytes(const struct memory_plan *p); /* staging and mirror */
size_t memory_plan_total_bytes(const struct memory_plan *p);

/* The plan of the rank of this number, were there `ranks` of them, each on its own `dev`.  The
 * vocabulary must be known.  STATUS_CONFIG, STATUS_NOMEM.  Local. */
MUST_USE status_t memory_plan_imagine(struct memory_plan *p, const struct config *c,
                                      int rank, int ranks, struct device *dev,
                                      enum dtype dtype, int n_threads);

/* One line of log_info a part, and the sum: of rank 0, whose log it is. */
void memory_plan_print(const struct memory_plan *p, int n_ranks);

/* Do the plans of all ranks on this host fit in what it has free, and those on one GPU in what
 * that has?  STATUS_NOMEM names the bytes and the keys that would lower them.  Collective on world;
 * agreed. */
MUST_USE status_t memory_plan_check(const struct memory_plan *p, const struct config *c,
                                    const struct layout *l, struct comm *world,
                                    const struct device *dev);
/* Bytes this host can still give, containers considered; -1: it does not say. */
int64_t memory_available_bytes(void);

/* Largest resident size this process has had. */
int64_t memory_peak_rss_bytes(void);
