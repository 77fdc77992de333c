/* execute - one stage of a pipeline at work: it carries out its list of instructions and sends what
 * goes from stage to stage.
 *
 * A message is expected one instruction before it is needed, and sent as soon as it is made, while
 * the next instruction runs; two of each direction may be on their way.  So a stage waits only
 * for what its list says it needs (tests/parallel/test_pp_schedule.c proves that no stage then waits
 * for ever, for every schedule there is). */
#pragma once

#include "model/model.h"
#include "parallel/comm/comm.h"
#include "parallel/pp/schedule.h"

struct pp;

struct pp_options {
    struct comm *comm;                  /* along MESH_PP, borrowed */
    const struct pp_schedule *schedule; /* borrowed */
    int64_t max_own, max_all; /* most rows of a micro-batch: model_own_rows, ... */
    int64_t width;            /* of the residual stream */
    int64_t max_sum;          /* elements of pp_sum_ends, at most; 0: none */
    enum dtype dtype;
};

/* Message buffers and staging from `arena`; while that measures, *pp knows sizes but cannot
 * communicate.  Caller owns *pp.  STATUS_NOMEM.  Local. */
MUST_USE status_t pp_create(struct pp **pp, const struct pp_options *o,
                            struct arena *arena);
void pp_destroy(struct pp **pp); /* NULL-safe; nulls */
size_t pp_host_bytes(const struct pp_options *o);

/* What the caller knows of a step. */
struct pp_step {
    struct model *model;
    struct nn_loss *loss; /* device memory */
    float gradient_scale;
    /* Micro-batch m, which stays until all of the list that is about it is done. */
    struct model_input (*input)(void *context, int micro);
    /* What is told on the way; `last`: no other micro-batch's comes behind it.  The gradients of
     * embedding and head are made in backward, those of blocks there or in PP_WEIGHTS. */
    const struct model_hooks *(*hooks)(void *context, int micro, int chunk, enum pp_op op,
                                       bool last);
    void *context;
};

/* All micro-batches of a step, forward and backward.  Collective on comm.  Step regime. */
void pp_run(struct pp *pp, const struct pp_step *step);

/* Forward of one micro-batch through all stages; its loss on the last one is added to *loss, and
 * row_loss [B * T], which may be NULL, is that of each row.  Collective on comm.  Step regime. */
void pp_infer(struct pp *pp, struct model *model, const struct model_input *in,
              struct nn_loss *loss, float *row_loss);

/* x[n], fp32: the sum of the first and the last stage's, on both, a piece at a time: gradients of
 * an embedding that the last stage's head shares.  n == 0, x NULL elsewhere.  Collective on comm.
 * Step regime. */
void pp_sum_ends(struct pp *pp, struct nn *nn, float *x, int64_t n);
