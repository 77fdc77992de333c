/* units - gradients in shards: ZeRO stage 2.
 *
 * There is no buffer of all gradients.  Backward adds the gradients of one micro-batch and one unit
 * (a block, say) to a working buffer; when they are complete they are reduce-scattered at once, and
 * what this rank owns of the sum is added to its shard.  The first and the last unit have a buffer
 * each, because embedding and head may be one tensor and then get gradients at both ends of
 * backward; the units between take a ring of buffers in turn, so that one is on its way while the
 * next is being made.
 *
 *   dp_units_clear(u);
 *   for each micro-batch, for each unit from the last to the first:
 *       dp_units_begin(u, unit); ... add to dp_units_buffer(u, unit) ... dp_units_end(u, unit);
 *   dp_units_finish(u);
 *
 * Source: Rajbhandari et al. 2020, arXiv:1910.02054, section 5.2 (P_os+g). */
#pragma once

#include "nn/nn.h"
#include "parallel/dp/dp.h"

struct dp_units;

/* Units of the buckets of `b`, whose bounds are given; the owned slices are dp_owned's.  Buffers,
 * shard and staging from `arena`; while that measures, *u cannot communicate.  c and b's bounds are
 * borrowed.  Caller owns *u.  STATUS_NOMEM.  Local. */
MUST_USE status_t dp_units_create(struct dp_units **u, struct comm *c,
                                  const struct dp_buckets *b, struct arena *arena);
void dp_units_destroy(struct dp_units **u); /* NULL-safe; nulls */
size_t dp_units_host_bytes(const struct dp_units *u);

/* Where unit's gradients of a micro-batch are added up: [its length]; NULL while measuring. */
float *dp_units_buffer(const struct dp_units *u, int unit);
/* Where the sum of flat element x, which this rank owns, is. */
float *dp_units_shard(const struct dp_units *u, int64_t x);

/* Step regime; work goes into nn's queue.  Collective on c, units in the same order. */
void dp_units_clear(struct dp_units *u, struct nn *nn);
void dp_units_begin(struct dp_units *u, struct nn *nn, int unit); /* zeroes the buffer */
void dp_units_end(struct dp_units *u, int unit);
void dp_units_finish(struct dp_units *u, struct nn *nn);
