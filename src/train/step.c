/* One training step.  Losses are summed and targets counted over all micro-batches and ranks,
 * and the gradient is scaled once, in the update: so the shares may be unequal and the result
 * is that of one rank. */
#include <math.h>

#include "core/log.h"
#include "core/rng.h"
#include "optim/optim.h"
#include "train/signals.h"
#include "train/trainer.h"

void train_settle(struct trainer *t)
{
    dp_gather_finish(t->dp);
}

/* Once a step, before the first gradient is final.  The weights have all arrived by then: forward
 * needed them. */
static void begin_reduction(struct trainer *t)
{
    if (t->reducing) return;
    train_settle(t);
    dp_begin(t->dp, t->grads);
    t->reducing = true;
}

static void gradients_ready(void *context, int64_t low)
{
    struct trainer *t = context;
    begin_reduction(t);
    dp_ready(t->dp, low);
}

static void weights_needed(void *context, int64_t low, int64_t high)
{
    dp_gather_need(((struct trainer *)context)->dp, low, high);
}

/* Forward and backward of one micro-batch, recorded at its second pass and replayed from then on
 * (the first pass lets libraries choose their algorithms).  Work that waits for other ranks is
 * not recorded. */
static void run_micro_batch(struct trainer *t, const struct model_input *in,
                            const struct model_hooks *hooks)
{
    const float scale = (float)t->progress.scale.scale;
    struct nn_loss *loss = &t->inputs.sums->loss;
    const bool repeats = t->config->graphs && in->B == t->config->micro_batch &&
                         !hooks->need && !hooks->ready;
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

/* Forward and backward of this rank's share; weights of the last update still arrive under the
 * first forward, and reductions of the last micro-batch's gradients begin while its backward
 * goes on. */
static void accumulate(struct trainer *t, int64_t n_micro)
{
    const bool alone = comm_size(t->data_parallel) == 1;
    device_zero(t->device, t->grads, (size_t)t->plan.padded_elements * sizeof *t->grads);
    inputs_clear_sums(&t->inputs);
    for (int64_t i = 0; i < n_micro; i++) {
        const struct batch *b;
        const bool last = i + 1 == n_micro;
        if (loader_next(t->loader, &b) != STATUS_OK) die("%s", status_message());
        const struct model_input in = inputs_load(&t->inputs, b);
        const struct model_hooks hooks = {
            .need = i == 0 && !alone ? weights_needed : NULL,
            .ready = last && !alone ? gradients_ready : NULL,
            .context = t};
        run_micro_batch(t, &in, &hooks);
    }
    begin_reduction(t);
    dp_finish(t->dp);
    t->reducing = false;
}

static struct input_sums local_sums(struct trainer *t)
{
    for (int64_t i = 0; i < dp_n_owned(t->dp); i++) {
        int64_t start, count;
        dp_owned(t->dp, i, &start, &count);
        nn_sum_squares(t->nn, &t->inputs.sums->squares, t->grads + start, count);
    }
    return inputs_read_sums(&t->inputs);
}

/* Range by range in the order of the buffer, so that the first weights that forward needs are on
 * their way first. */
static void update(struct trainer *t, double lr, double grad_scale)
{
    const struct config *c = t->config;
    const int64_t n_updates = t->progress.step + 1 - t->progress.skipped;
    char *low = t->dtype == DTYPE_F32 ? NULL : t->weights;
    dp_gather_begin(t->dp, t->weights, t->dtype);
    for (int64_t i = 0; i < zero_n_ranges(t->zero); i++) {
        const struct zero_range r = zero_range(t->zero, i);
        const struct nn_adamw_range a = {
            .w = r.master,
            .m = r.exp_avg,
            .v = r.exp_avg_sq,
            .grad = t->grads + r.start,
            .low = low ? low + (size_t)r.start * dtype_bytes(t->dtype) : NULL,
            .low_type = t->dtype,
            .rounding = (enum nn_rounding)c->optim.rounding,
            .key =
                rng_key((uint64_t)c->seed + (uint64_t)t->progress.step, "rounding", ""),
            .start = r.start,
            .n = r.count};
        optim_adamw(t->nn, &c->optim, &t->params, &a, n_updates, lr, grad_scale);
        dp_gather_ready(t->dp, r.start + r.count);
    }
    dp_gather_ready(t->dp, t->plan.padded_elements); /* padding is nobody's */
}

static void forget_graph(struct trainer *t)
{
    log_info("loss scale: %g", t->progress.scale.scale);
    device_wait(t->device);
    device_graph_destroy(t->device, &t->graph);
    t->graph_passes = 1;
}

void train_step(struct trainer *t, struct step_stats *stats)
{
    const struct config *c = t->config;
    const struct loader_options share = memory_plan_loader_options(c, t->data_parallel);
    log_set_step(t->progress.step);
    accumulate(t, loader_micro_batches(&share));
    const struct input_sums local = local_sums(t);

    enum { LOSS, TARGETS, SQUARES, STOP, N_SUMS };
    double sums[N_SUMS] = {[LOSS] = local.loss.sum,
                           [TARGETS] = (double)local.loss.n_targets,
                           [SQUARES] = local.squares,
                           [STOP] = signals_received() != 0};
    comm_sum_f64(t->data_parallel, sums, N_SUMS);
    const double targets = sums[TARGETS] > 0 ? sums[TARGETS] : 1; /* all may be masked */
    const double scale = t->progress.scale.scale;
    *stats = (struct step_stats){.loss = sums[LOSS] / targets,
                                 .n_targets = (int64_t)sums[TARGETS],
                                 .grad_norm = sqrt(sums[SQUARES]) / (targets * scale),
                                 .stop_requested = sums[STOP] > 0};
    stats->lr = c->optim.lr * schedule_factor(&c->schedule, t->progress.step);
    stats->skipped = !isfinite(stats->loss) || !isfinite(stats->grad_norm);
    if (stats->skipped)
        t->progress.skipped++;
    else
        update(t, stats->lr,
               optim_clip_factor(stats->grad_norm, c->optim.clip) / (targets * scale));
    if (loss_scale_update(&t->progress.scale, t->dtype, !stats->skipped))
        forget_graph(t); /* the scale is part of what was recorded */
    t->progress.step++;
    t->progress.next_sample += config_global_batch(c);
    t->progress.tokens += stats->n_targets;
}
