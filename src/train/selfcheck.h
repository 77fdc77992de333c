/* selfcheck - does a layout give what one rank gives?
 *
 * The same steps are made twice in fp32 on the same data and from the same weights: under the
 * layout, and by rank 0 alone.  Loss, norm, the gradient of every parameter and the weights after
 * the first update are compared as global tensors; those of the layout travel through a checkpoint
 * in a folder of its own, so that its pieces are checked too. */
#pragma once

#include "config/config.h"
#include "model/param.h"
#include "parallel/comm/comm.h"

enum { SELFCHECK_MAX_STEPS = 8 };

/* What some steps gave. */
struct selfcheck_trace {
    int n_steps;
    double loss[SELFCHECK_MAX_STEPS], norm[SELFCHECK_MAX_STEPS];
    struct param_table whole; /* owned, as the arrays are */
    /* [whole.n_elements]: of the mean loss of the first step; after its update.  NULL except on
     * rank 0. */
    float *gradients, *weights;
};
void selfcheck_release(struct selfcheck_trace *t); /* accepts zeroes */

/* n_steps steps of `c` under its layout.  Collective on world; agreed. */
MUST_USE status_t selfcheck_layout(struct selfcheck_trace *t, struct comm *world,
                                   const struct config *c, int n_steps);
/* The same on this rank alone, in one piece. */
MUST_USE status_t selfcheck_alone(struct selfcheck_trace *t, const struct config *c,
                                  int n_steps);

/* How far apart they may be. */
struct selfcheck_limits {
    double loss, norm;       /* relative; the norm of the first step */
    double gradient, weight; /* NMSE of a tensor */
};
extern const struct selfcheck_limits selfcheck_fp32;

/* Print a table to `out` (NULL: nothing).  STATUS_MISMATCH names the first that is too far apart.
 * Where a tensor's gradient is nothing but rounding, AdamW's first step is too: weights count whose
 * gradient is at least a thousandth of the tensor's root mean square. */
MUST_USE status_t selfcheck_compare(const struct selfcheck_trace *got,
                                    const struct selfcheck_trace *want,
                                    const struct selfcheck_limits *limits, FILE *out);

/* All of it for a command: one step; with fewer layers, and said so, if one rank cannot hold the
 * model.  Collective on world; agreed. */
MUST_USE status_t selfcheck_run(struct comm *world, const struct config *c, FILE *out);
