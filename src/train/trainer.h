/* trainer - everything one rank holds during a run, made before step 0 and not after.
 *
 * Order of making: ranks compare notes, data is opened, the parameter table and the memory plan
 * follow from configuration and layout, the plan is printed and held against what the machine
 * has, and only then memory is taken: exactly the planned bytes. */
#pragma once

#include "checkpoint/checkpoint.h"
#include "config/config.h"
#include "data/loader.h"
#include "model/model.h"
#include "train/loss_scale.h"
#include "train/memory_plan.h"
#include "train/metrics.h"
#include "train/mirror.h"
#include "train/parts.h"
#include "train/pin.h"
#include "train/run_lock.h"
#include "train/saving.h"
#include "train/spike.h"

/* What a step's numbers depend on besides weights and moments; saved with every checkpoint. */
struct progress {
    int64_t step;        /* steps done */
    int64_t next_sample; /* index of the first sample not yet used, in an order */
    int64_t data_step;   /* that began at this step: config_span */
    int64_t tokens;      /* targets trained on */
    int64_t skipped;     /* steps whose update was left out */
    /* since the last log line: sum of losses over targets, targets */
    double log_loss_sum;
    int64_t log_targets;
    struct loss_scale scale;
    struct spike spike;
    int64_t rollbacks;
    double validation_loss; /* of the last evaluation; NaN: none yet */
    int64_t metrics_bytes;  /* that metrics.jsonl had when this was saved; 0 otherwise */
};

struct trainer {
    const struct config *config; /* borrowed; of one segment of the run */
    const char *resume; /* checkpoint.resume, or "auto" behind the first segment */
    struct comm *world; /* borrowed */
    struct layout layout;
    struct pp_schedule schedule;
    struct launch_share share; /* of its host; zero if it works by itself */
    struct pin pin;
    int n_threads;
    struct sampler *train_data, *validation_data; /* validation may be NULL */
    struct param_table whole;                     /* the model */
    struct param_table params;                    /* what of it this rank holds */
    struct memory_plan plan;
    struct device *device;
    enum dtype dtype;    /* of weights and activations */
    struct arena memory; /* one block: every other planned byte of the device */
    void *weights;       /* [padded_elements] of dtype: train/weights.h */
    float *grads;        /* [padded_elements]; NULL with ZeRO stage 2, which has units */
    float **unit_grads;  /* [params.n_units]: where backward adds those of each unit */
    struct nn *nn;
    struct tp *tp;
    struct cp *cp;
    struct pp *pp; /* NULL: one stage */
    struct model *model;
    struct dp *dp;
    struct dp_units *units; /* ZeRO stage 2 */
    struct step_state *step;
    struct zero *zero;
    struct mirror mirror;
    struct saving saving;
    struct run_lock *lock; /* borrowed; of the run folder; NULL on all ranks but one */
    struct metrics
        *metrics; /* borrowed; NULL on all ranks but one, and while nothing is kept */
    struct device_graph
        *graph;       /* one micro-batch, forward and backward; NULL: not recorded */
    int graph_passes; /* full micro-batches seen before it was recorded */
    struct inputs inputs;
    struct loader *loader;
    struct progress progress;
    double deadline;   /* deadline.h */
    double peak_flops; /* of all ranks' matrix products together, a second */
};

/* Where the sum of the gradients of flat element x is, which this rank updates, after reduction. */
float *trainer_gradient(const struct trainer *t, int64_t x);
/* Range i of what this rank updates, for update number n_updates of the run (from 1, or, before the
 * first, 0): the bits of stochastic rounding are a function of it. */
struct nn_adamw_range trainer_range(const struct trainer *t, int64_t i,
                                    int64_t n_updates);
struct parts_options trainer_parts(const struct trainer *t);

/* Collective on world; agreed.  Release it also after a failure, together. */
MUST_USE status_t trainer_init(struct trainer *t, struct comm *world, struct config *c);
void trainer_release(struct trainer *t);

/* Would trainer_init succeed, and is there room for checkpoints?  Everything short of taking the
 * memory is done, and undone.  *plan: this rank's.  Collective on world; agreed. */
MUST_USE status_t trainer_check(struct comm *world, struct config *c,
                                struct memory_plan *plan);

/* Start the loader at t->progress; call once, after the state is settled. */
MUST_USE status_t trainer_start_loader(struct trainer *t);

/* ---- step.c ------------------------------------------------------------------------------ */

/* Numbers of one step, the same on all ranks. */
struct step_stats {
    double loss;   /* mean over the step's targets, nats */
    double z_loss; /* what train.z_loss adds to it in what the gradient is of */
    int64_t n_targets;
    double grad_norm;      /* of the mean loss, before clipping */
    double gradient_scale; /* makes that of the mean loss from what was summed */
    double lr;
    bool finite;         /* loss and norm are */
    bool skipped;        /* not finite, or a spike: weights and moments are as before */
    bool stop_requested; /* some rank got a signal, or its deadline has passed */
    bool saving; /* some rank is not through with its part of the save under way */
};

/* What a step keeps for its own work; made by trainer_init.  STATUS_NOMEM. */
MUST_USE status_t step_state_create(struct step_state **s, const struct trainer *t);
void step_state_destroy(struct step_state **s); /* NULL-safe; nulls */

/* Forward, backward, reduction, update of one global batch; moves t->progress on.  Collective on
 * world.  Step regime. */
void train_step(struct trainer *t, struct step_stats *stats);

/* Its two halves: gradients are summed over all ranks, and counted; weights are updated. */
void train_gradients(struct trainer *t, struct step_stats *stats);
void train_update(struct trainer *t, const struct step_stats *stats);

/* The weights of the last step reach every rank: before anything but train_step reads them.
 * Collective on world.  Step regime. */
void train_settle(struct trainer *t);

/* ---- train.c ----------------------------------------------------------------------------- */

/* Steps from where t->progress is to the end of the segment, with metrics, evaluations and saves; the
 * last step is saved.  m: NULL on all ranks but one.  STATUS_REQUEUE: stopped before the end of the
 * run, saved.  Collective on world; agreed. */
MUST_USE status_t train_loop(struct trainer *t, struct metrics *m);

/* ---- restore.c --------------------------------------------------------------------------- */

/* Fresh weights at step 0, whatever lies in the run folder.  Collective; agreed. */
MUST_USE status_t trainer_start_fresh(struct trainer *t);
/* Fresh weights, or those of the checkpoint that checkpoint.resume names.  Collective; agreed. */
MUST_USE status_t trainer_restore(struct trainer *t);

/* Does `resume` name a checkpoint outside run_dir, where a run begins, while run_dir has checkpoints of
 * its own already, which "auto" finds?  Local. */
bool restore_has_begun(const struct config *c, const char *resume);

/* Steps that the checkpoint has done which trainer_restore would begin with, as far as can be told
 * without reading it; 0 if there is none.  Local. */
int64_t restore_foresee(const struct config *c);

/* Return to the newest good checkpoint of a step up to `step` of this segment; the data goes on where
 * it is.  The loader starts again.  STATUS_DIVERGED if there is none.  Collective; agreed. */
MUST_USE status_t trainer_roll_back(struct trainer *t, int64_t step);
