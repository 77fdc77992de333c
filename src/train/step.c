/* One training step.  Losses are summed and targets counted over all micro-batches and ranks,
 * and the gradient is scaled once, in the update: so the shares may be unequal and the result
 * is that of one rank. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/rng.h"
#include "optim/optim.h"
#include "train/deadline.h"
#include "train/recipe.h"
#include "train/reduced.h"
#include "train/signals.h"
#include "train/trainer.h"

/* Between the parts of a step. */
struct step_state {
    bool reducing;              /* between dp_begin and dp_finish */
    bool zeroed;                /* all gradients are: the last update left them so */
    bool *unit_final;           /* [n_units]: its gradients of this step are complete */
    int first_final;            /* all units from this one on are */
    int loaded;                 /* micro-batches of this step that the loader has given */
    struct model_input *inputs; /* [inputs.shape.slots] */
    struct model_hooks hooks;   /* as last handed out */
};

status_t step_state_create(struct step_state **s, const struct trainer *t)
{
    *s = calloc(1, sizeof **s);
    if (*s) {
        (*s)->unit_final = calloc((size_t)t->params.n_units, sizeof *(*s)->unit_final);
        (*s)->inputs = calloc((size_t)t->inputs.shape.slots, sizeof *(*s)->inputs);
        if ((*s)->unit_final && (*s)->inputs) return STATUS_OK;
    }
    step_state_destroy(s);
    return status_set(STATUS_NOMEM, "no memory for the state of a step");
}

void step_state_destroy(struct step_state **s)
{
    if (!*s) return;
    free((*s)->inputs);
    free((*s)->unit_final);
    free(*s);
    *s = NULL;
}

void train_settle(struct trainer *t)
{
    dp_gather_finish(t->dp);
}

/* ---- what the model tells on its way ------------------------------------------------------- */

/* Once a step, before the first gradient is final.  The weights have all arrived by then: forward
 * needed them. */
static void begin_reduction(struct trainer *t)
{
    if (t->step->reducing) return;
    train_settle(t);
    /* where the host computes: while they are in its caches, a bucket at a time */
    dp_set_reduced(t->dp, device_is_host(t->device) ? reduced_take : NULL, t);
    dp_begin(t->dp, t->grads);
    t->step->reducing = true;
}

/* Unit 0 is not complete before the gradients of its twin on another stage are in it. */
static bool waits_for_twin(const struct trainer *t, int unit)
{
    const struct parts_options o = trainer_parts(t);
    return unit == 0 && parts_twin_elements(&o) > 0;
}

/* This stage's gradients of a tied embedding become the sum of both stages'.  The tensor is the
 * first of its unit; of shards both stages have the same slice, because the unit is equally
 * long. */
static void add_twin(struct trainer *t)
{
    const struct parts_options o = trainer_parts(t);
    const int64_t n = parts_twin_elements(&o);
    int64_t first = 0, count;
    if (n == 0) return;
    if (t->units)
        comm_slice(t->params.unit[1], comm_size(t->layout.data),
                   comm_rank(t->layout.data), &first, &count);
    pp_sum_ends(t->pp, t->nn, trainer_gradient(t, first), n);
}

/* All sums are there on return, and their squares counted. */
static void finish_reduction(struct trainer *t)
{
    if (t->units) {
        train_settle(t);
        dp_units_finish(t->units, t->nn);
        add_twin(t);
        reduced_add_squares(t, 0, t->plan.padded_elements);
        return;
    }
    add_twin(t);
    begin_reduction(t);
    dp_finish(t->dp);
    if (!device_is_host(t->device)) reduced_take(t, 0, t->plan.padded_elements);
}

/* The unit's gradients of all micro-batches are there. */
static void unit_final(void *context, int unit)
{
    struct trainer *t = context;
    struct step_state *s = t->step;
    s->unit_final[unit] = !waits_for_twin(t, unit);
    while (s->first_final > 0 && s->unit_final[s->first_final - 1]) s->first_final--;
    begin_reduction(t);
    dp_ready(t->dp, t->params.unit[s->first_final]);
}

static void weights_needed(void *context, int unit)
{
    const struct trainer *t = context;
    dp_gather_need(t->dp, t->params.unit[unit], t->params.unit[unit + 1]);
}

static void shard_begin(void *context, int unit)
{
    struct trainer *t = context;
    dp_units_begin(t->units, t->nn, unit);
}

static void shard_end(void *context, int unit)
{
    struct trainer *t = context;
    dp_units_end(t->units, unit);
}

/* For one pass of micro-batch `micro`; `last`: no more gradients come behind it. */
static const struct model_hooks *hooks_for(struct trainer *t, int micro, bool last)
{
    const bool alone = comm_size(t->layout.data) == 1;
    const bool told = !alone || device_is_host(t->device); /* else passes are recorded */
    t->step->hooks =
        (struct model_hooks){.need = micro == 0 && !alone ? weights_needed : NULL,
                             .begin = t->units ? shard_begin : NULL,
                             .end = t->units       ? shard_end
                                    : last && told ? unit_final
                                                   : NULL,
                             .sum_replicated = t->units || last,
                             .context = t};
    return &t->step->hooks;
}

/* ---- forward and backward ------------------------------------------------------------------- */

/* Forward and backward of one micro-batch, recorded at its second pass and replayed from then on
 * (the first pass lets libraries choose their algorithms).  Work that waits for other ranks is
 * not recorded. */
static void run_micro_batch(struct trainer *t, const struct model_input *in,
                            const struct model_hooks *hooks)
{
    const float scale = (float)t->progress.scale.scale;
    struct nn_loss *loss = &t->inputs.sums->loss;
    const bool repeats = t->config->graphs && in->B == t->config->micro_batch &&
                         !hooks->need && !hooks->begin && !hooks->end &&
                         tp_size(t->tp) == 1 && cp_size(t->cp) == 1;
    if (repeats && !t->graph && t->graph_passes++ == 1 &&
        device_record_begin(t->device)) {
        model_train(t->model, in, loss, scale, hooks);
        t->graph = device_record_end(t->device);
    }
    if (repeats && t->graph)
        device_replay(t->device, t->graph);
    else
        model_train(t->model, in, loss, scale, hooks);
}

/* Micro-batch `micro` of this step.  A rank whose share of the batch is one micro-batch shorter than
 * that of others takes part in their reductions with one that has no targets. */
static struct model_input input_of(void *context, int micro)
{
    struct trainer *t = context;
    struct step_state *s = t->step;
    const int slot = micro % t->inputs.shape.slots;
    const struct loader_options share = layout_loader_options(&t->layout, t->config);
    for (; s->loaded <= micro; s->loaded++) {
        const struct batch *b;
        struct model_input *in = &s->inputs[s->loaded % t->inputs.shape.slots];
        if (s->loaded < loader_micro_batches(&share)) {
            if (loader_next(t->loader, &b) != STATUS_OK) die("%s", status_message());
            *in = inputs_load(&t->inputs, s->loaded % t->inputs.shape.slots, b);
        } else {
            const int before = (s->loaded - 1) % t->inputs.shape.slots;
            *in = inputs_blank(&t->inputs, &s->inputs[before]);
        }
    }
    return s->inputs[slot];
}

static const struct model_hooks *pipeline_hooks(void *context, int micro, int chunk,
                                                enum pp_op op, bool last)
{
    (void)chunk, (void)op;
    return hooks_for(context, micro, last);
}

static void run_pipeline(struct trainer *t)
{
    const struct pp_step step = {.model = t->model,
                                 .loss = &t->inputs.sums->loss,
                                 .gradient_scale = (float)t->progress.scale.scale,
                                 .input = input_of,
                                 .hooks = pipeline_hooks,
                                 .context = t};
    pp_run(t->pp, &step);
}

static void clear_gradients(struct trainer *t)
{
    if (t->units)
        dp_units_clear(t->units, t->nn);
    else
        device_zero(t->device, t->grads,
                    (size_t)t->plan.padded_elements * sizeof *t->grads);
}

/* Gradients of this rank's share; weights of the last update still arrive under the first forward,
 * and reductions of the last micro-batch's gradients begin while its backward goes on. */
static void accumulate(struct trainer *t)
{
    struct step_state *s = t->step;
    memset(s->unit_final, 0, (size_t)t->params.n_units * sizeof *s->unit_final);
    s->first_final = t->params.n_units;
    s->loaded = 0;
    if (!s->zeroed) clear_gradients(t); /* of the first step, and behind a skipped one */
    s->zeroed = false;
    inputs_clear_sums(&t->inputs);
    if (t->pp) {
        run_pipeline(t);
    } else {
        for (int i = 0; i < t->schedule.n_micro; i++) {
            const struct model_input in = input_of(t, i);
            run_micro_batch(t, &in, hooks_for(t, i, i + 1 == t->schedule.n_micro));
        }
    }
    finish_reduction(t);
    s->reducing = false;
}

/* Range by range in the order of the buffer, so that the first weights that forward needs are on
 * their way first. */
static void update(struct trainer *t, double lr, double grad_scale)
{
    const struct config *c = t->config;
    const int64_t n_updates = t->progress.step + 1 - t->progress.skipped;
    dp_gather_begin(t->dp, t->weights, t->dtype);
    for (int64_t i = 0; i < zero_n_ranges(t->zero); i++) {
        const struct nn_adamw_range r = trainer_range(t, i, n_updates);
        optim_adamw(t->nn, &c->optim, &t->params, &r, n_updates, lr, grad_scale);
        dp_gather_ready(t->dp, r.start + r.n);
    }
    dp_gather_ready(t->dp, t->plan.padded_elements); /* padding is nobody's */
    t->step->zeroed = true;
}

static void forget_graph(struct trainer *t)
{
    log_info("loss scale: %g", t->progress.scale.scale);
    device_wait(t->device);
    device_graph_destroy(t->device, &t->graph);
    t->graph_passes = 1;
}

void train_gradients(struct trainer *t, struct step_stats *stats)
{
    const struct config *c = t->config;
    log_set_step(t->progress.step);
    accumulate(t);
    const struct input_sums local = inputs_read_sums(&t->inputs);
    const bool counts = layout_counts_loss(&t->layout);

    enum { LOSS, Z, TARGETS, SQUARES, STOP, SAVING, N_SUMS };
    double sums[N_SUMS] = {[LOSS] = counts ? local.loss.sum : 0,
                           [Z] = counts ? local.loss.z_sum : 0,
                           [TARGETS] = counts ? (double)local.loss.n_targets : 0,
                           [SQUARES] = local.squares,
                           [STOP] =
                               signals_received() != 0 || deadline_passed(t->deadline),
                           [SAVING] = saving_working(t)};
    /* Behind this sum, for which all have done their passes, nobody reads weights until he has heard
     * that they are updated: only so may those of a host have one copy (comm_window_alloc). */
    comm_sum_f64(t->world, sums, N_SUMS);
    const double targets = sums[TARGETS] > 0 ? sums[TARGETS] : 1; /* all may be masked */
    const double scale = t->progress.scale.scale;
    *stats = (struct step_stats){.loss = sums[LOSS] / targets,
                                 .z_loss = c->z_loss * sums[Z] / targets,
                                 .n_targets = (int64_t)sums[TARGETS],
                                 .gradient_scale = 1 / (targets * scale),
                                 .stop_requested = sums[STOP] > 0,
                                 .saving = sums[SAVING] > 0};
    stats->grad_norm = sqrt(sums[SQUARES]) * stats->gradient_scale;
    stats->lr = recipe_lr(c, t->progress.step);
    stats->finite = isfinite(stats->loss) && isfinite(stats->grad_norm);
    stats->skipped =
        !stats->finite || spike_is(&t->progress.spike, stats->loss, c->spike_sigma);
}

void train_update(struct trainer *t, const struct step_stats *stats)
{
    const struct config *c = t->config;
    if (stats->skipped) {
        t->progress.skipped++;
    } else {
        update(t, stats->lr,
               optim_clip_factor(stats->grad_norm, c->optim.clip, c->optim.clip_eps) *
                   stats->gradient_scale);
        spike_learn(&t->progress.spike, stats->loss);
    }
    if (loss_scale_update(&t->progress.scale, t->dtype, stats->finite))
        forget_graph(t); /* the scale is part of what was recorded */
    t->progress.step++;
    t->progress.next_sample += config_global_batch(c);
    t->progress.tokens += stats->n_targets;
}

void train_step(struct trainer *t, struct step_stats *stats)
{
    train_gradients(t, stats);
    train_update(t, stats);
}
