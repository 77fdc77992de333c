/* dp - gradients of data-parallel ranks, summed bucket by bucket while backward goes on.
 *
 * The flat buffer is cut into buckets from its end to its start, the order in which backward
 * finishes gradients: of equal length, but for the last, or at given places.  Every bucket is cut
 * into
 * one slice a rank (comm_slice), and a rank owns its slice of each: those are the elements it
 * sums under COMM_REDUCE_SCATTER (ZeRO stage 1), and the ones it answers for in the gradient
 * norm and in checkpoints under either operation.
 *
 *   dp_begin(dp, grads);            last micro-batch of the step, before its backward
 *   dp_ready(dp, low);              often: everything at and behind low is final
 *   dp_finish(dp);                  sums are there
 *   dp_gather_begin(dp, weights, type);
 *   ... update what zero says, from the buffer's start; dp_gather_ready(dp, high) after each ...
 *   dp_gather_need(dp, low, high);  in the next forward, before these weights are used
 *
 * Sources: Li et al. 2020, arXiv:2006.15704, section 3.2 (buckets, overlap); Rajbhandari et
 * al. 2020, arXiv:1910.02054, section 5 (reduce-scatter to the owner, all-gather after). */
#pragma once

#include <stdint.h>

#include "core/arena.h"
#include "core/status.h"
#include "parallel/comm/comm.h"

/* ---- the cut: pure ----------------------------------------------------------------------- */

struct dp_buckets {
    int64_t n_elements, bucket_elements; /* of the longest bucket */
    int64_t n_buckets;
    const int64_t *bounds; /* [n_buckets + 1], ascending; NULL: equal lengths */
};

/* n_elements >= 0, bucket_elements > 0. */
struct dp_buckets dp_buckets_make(int64_t n_elements, int64_t bucket_elements);
/* The same as dp_create wants them: no longer than the buffer, which is padded, and padded. */
struct dp_buckets dp_buckets_padded(int64_t n_elements, int64_t bucket_elements,
                                    int size);
/* Buckets between bounds[0] == 0 and bounds[n]; bounds is borrowed. */
struct dp_buckets dp_buckets_between(const int64_t *bounds, int64_t n);
/* Bucket k covers [*start, *end); bucket 0 ends with the buffer. */
void dp_bucket(const struct dp_buckets *b, int64_t k, int64_t *start, int64_t *end);
/* The bucket that element x is in. */
int64_t dp_bucket_of(const struct dp_buckets *b, int64_t x);
/* How many buckets, counted from the first, lie wholly at and behind `low`. */
int64_t dp_buckets_behind(const struct dp_buckets *b, int64_t low);

/* Length of the flat buffers for n elements and `size` ranks: n rounded up so that every slice
 * of every bucket is equally long and begins on an ARENA_ALIGN_BYTES boundary. */
int64_t dp_padded_elements(int64_t n, int size);

/* ---- at work ----------------------------------------------------------------------------- */

struct dp;

/* For flat buffers of buckets.n_elements on the ranks of c, which is borrowed, as bucket_elements
 * and bounds are; all of them padded as above.  op: COMM_REDUCE_SCATTER or COMM_ALL_REDUCE.  Staging
 * comes from `arena`; while that measures, *dp knows the ranges but cannot communicate.  Caller owns
 * *dp.  STATUS_NOMEM.  Local. */
MUST_USE status_t dp_create(struct dp **dp, struct comm *c, struct dp_buckets buckets,
                            enum comm_op op, struct arena *arena);
void dp_destroy(struct dp **dp); /* NULL-safe; nulls */

/* `reduced` (NULL: nothing) hears of each bucket whose sums are there, inside the calls below, in the
 * order of the pass: elements [start, end), the caller's again.  Set between passes. */
typedef void dp_reduced(void *context, int64_t start, int64_t end);
void dp_set_reduced(struct dp *dp, dp_reduced *reduced, void *context);

/* dp lends itself grads[n_elements] until dp_finish: elements at and behind the last
 * dp_ready's low are untouchable, those before it are still the caller's.  Step regime. */
void dp_begin(struct dp *dp, float *grads);
/* Elements [low, n_elements) are final; low never grows between begin and finish.  Starts what
 * can be started, a few buckets at a time, and moves on what is under way; never waits.  The
 * same calls on all ranks are not needed: ranks may say it as often as they like. */
void dp_ready(struct dp *dp, int64_t low);
/* All elements are final: wait for the sums of the owned ranges (COMM_REDUCE_SCATTER; what lies
 * outside them is lost) or of the whole buffer.  Collective on c.  Step regime. */
void dp_finish(struct dp *dp);

/* ---- weights back to everybody: bucket by bucket, under the next forward ------------------- */

/* Owned ranges of params[n_elements], of type t, will reach all ranks.  Under COMM_ALL_REDUCE
 * ranks update everything themselves, and nothing is sent.  params is lent until
 * dp_gather_finish; what was needed (dp_gather_need) may be read. */
void dp_gather_begin(struct dp *dp, void *params, enum dtype t);
/* Owned elements in front of `high` are updated; high never shrinks.  Starts what it can. */
void dp_gather_ready(struct dp *dp, int64_t high);
/* Elements [low, high) are everybody's for work queued from now on.  Needed in any order; starts
 * what else may begin.  No-op when no gather is going on. */
void dp_gather_need(struct dp *dp, int64_t low, int64_t high);
/* The whole buffer is (all was ready, or is counted so now).  No-op when no gather is going on. */
void dp_gather_finish(struct dp *dp);

/* The ranges this rank owns, in the order of the buffer: over all ranks they cover every
 * element once. */
int64_t dp_n_owned(const struct dp *dp);
void dp_owned(const struct dp *dp, int64_t i, int64_t *start, int64_t *count);

/* Page-locked host memory that its requests take of the comm's device. */
size_t dp_host_bytes(const struct dp *dp);
int64_t dp_n_elements(const struct dp *dp);
enum comm_op dp_op(const struct dp *dp);
