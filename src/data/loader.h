/* loader - a thread that prepares micro-batches ahead of the step.
 *
 * The plan of a rank is a pure function: step s takes global samples
 * [first_sample + s * G, first_sample + (s + 1) * G); dp rank r of R takes those numbered
 * [G*r/R, G*(r+1)/R) among them, in micro-batches of at most m sequences (the last of a step
 * may be smaller). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "data/sampler.h"

struct loader_options {
    const struct sampler *sampler; /* borrowed */
    int64_t first_sample; /* global index of the first sample of the first step */
    int64_t global_batch; /* G, sequences a step over all ranks */
    int64_t micro_batch;  /* m, sequences at a time on one rank */
    int64_t T;            /* the sampler's */
    int rank, size;       /* on the data-parallel axis; size <= G */
    int ahead;            /* micro-batches kept ready, >= 1 */
};

struct loader;

/* Sequences of this rank in one step, and micro-batches they make. */
int64_t loader_sequences(const struct loader_options *o);
int64_t loader_micro_batches(const struct loader_options *o);

/* What loader_create allocates for batches: those ahead and the one in use. */
size_t loader_bytes(const struct loader_options *o);

/* Start the thread.  The sampler must outlive the loader.  STATUS_NOMEM, STATUS_INTERNAL. */
MUST_USE status_t loader_create(struct loader **l, const struct loader_options *o);
void loader_destroy(struct loader **l); /* stops the thread; NULL-safe; nulls */

/* The next micro-batch, valid until the next call; B may be smaller than micro_batch.  An
 * error of the thread is returned here, after the batches before it and from then on
 * (STATUS_DATA). */
MUST_USE status_t loader_next(struct loader *l, const struct batch **b);

double loader_wait_seconds(struct loader *l); /* waited since the last call of this */
