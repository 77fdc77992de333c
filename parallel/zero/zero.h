/* zero - who updates what: the optimizer's state, whole or shared out among ranks.
 *
 * Stage 0: every rank updates every element; moments are as long as the parameters.
 * Stage 1: a rank updates only what it owns (dp_owned) and has moments for that alone, range
 * after range without gaps: 8 bytes an element over all ranks together.
 * Stage 2: the same; it is gradients that differ (parallel/dp/units.h).
 * While weights are fp32 they are their own master copy, so `master` points into them; otherwise
 * there are fp32 masters of what this rank updates, 4 bytes an element more.
 *
 * Source: Rajbhandari et al. 2020, arXiv:1910.02054, section 5.1 (optimizer state
 * partitioning, P_os). */
#pragma once

#include <stdint.h>

#include "core/arena.h"
#include "core/status.h"
#include "parallel/dp/dp.h"

struct zero;

/* Elements [start, start + count) of the flat buffer and their state. */
struct zero_range {
    int64_t start, count;
    float *master, *exp_avg, *exp_avg_sq; /* [count]; NULL while the arena measured */
};

/* How gradients are reduced for `stage` (0, 1, 2), to be given to dp_create. */
enum comm_op zero_reduction(int stage);

/* State for params[dp_n_elements] of type t in the memory of `dev`, which are borrowed for the
 * life of *z, as dp is until return; the stage is the one dp reduces for.  Elements at and behind
 * n_used are padding and in no range.  Moments (and masters, unless t is fp32) are zero, from
 * `arena`; while that measures, params may be NULL.  Caller owns *z.  STATUS_NOMEM.  Local. */
MUST_USE status_t zero_create(struct zero **z, const struct dp *dp, struct device *dev,
                              void *params, enum dtype t, int64_t n_used,
                              struct arena *arena);
void zero_destroy(struct zero **z); /* NULL-safe; nulls */

/* What this rank updates, in the order of the buffer. */
int64_t zero_n_ranges(const struct zero *z);
struct zero_range zero_range(const struct zero *z, int64_t i);

/* What this rank answers for in the gradient norm and in checkpoints, in the order of the
 * buffer: over all ranks every used element once. */
int64_t zero_n_owned(const struct zero *z);
struct zero_range zero_owned(const struct zero *z, int64_t i);
