/* One training step.  Losses are summed and targets counted over all micro-batches and ranks,
 * and the gradient is scaled once, in the update: so the shares may be unequal and the result
 * is that of one rank. */
#include <math.h>

#include "core/log.h"
#include "optim/optim.h"
#include "train/signals.h"
#include "train/trainer.h"

static void gradients_ready(void *context, int64_t low)
{
    dp_ready(context, low);
}

/* Forward and backward of this rank's share; reductions of the last micro-batch's gradients
 * begin while its backward goes on. */
static struct nn_loss accumulate(struct trainer *t, int64_t n_micro)
{
    struct nn_loss loss = {0};
    device_zero(t->device, t->grads, (size_t)t->plan.padded_elements * sizeof *t->grads);
    for (int64_t i = 0; i < n_micro; i++) {
        const struct batch *b;
        const bool last = i + 1 == n_micro;
        if (loader_next(t->loader, &b) != STATUS_OK) die("%s", status_message());
        const struct model_input in = inputs_load(&t->inputs, b);
        if (last) dp_begin(t->dp, t->grads);
        model_train(t->model, &in, &loss, last ? gradients_ready : NULL, t->dp);
    }
    dp_finish(t->dp);
    return loss;
}

static double owned_sum_squares(const struct trainer *t)
{
    double sum = 0;
    for (int64_t i = 0; i < dp_n_owned(t->dp); i++) {
        int64_t start, count;
        dp_owned(t->dp, i, &start, &count);
        sum += nn_sum_squares(t->nn, t->grads + start, count);
    }
    return sum;
}

static void update(struct trainer *t, double lr, double grad_scale)
{
    const int64_t n_updates = t->progress.step + 1 - t->progress.skipped;
    for (int i = 0; i < zero_n_ranges(t->zero); i++) {
        const struct zero_range r = zero_range(t->zero, i);
        optim_adamw(t->nn, &t->config->optim, &t->params, r.start, r.count, r.master,
                    r.exp_avg, r.exp_avg_sq, t->grads + r.start, n_updates, lr,
                    grad_scale);
    }
    dp_gather(t->dp, t->weights);
}

void train_step(struct trainer *t, struct step_stats *stats)
{
    const struct config *c = t->config;
    const struct loader_options share = memory_plan_loader_options(c, t->data_parallel);
    log_set_step(t->progress.step);
    const struct nn_loss loss = accumulate(t, loader_micro_batches(&share));

    enum { LOSS, TARGETS, SQUARES, STOP, N_SUMS };
    double sums[N_SUMS] = {[LOSS] = loss.sum,
                           [TARGETS] = (double)loss.n_targets,
                           [SQUARES] = owned_sum_squares(t),
                           [STOP] = signals_received() != 0};
    comm_sum_f64(t->data_parallel, sums, N_SUMS);
    const double targets = sums[TARGETS] > 0 ? sums[TARGETS] : 1; /* all may be masked */
    *stats = (struct step_stats){.loss = sums[LOSS] / targets,
                                 .n_targets = (int64_t)sums[TARGETS],
                                 .grad_norm = sqrt(sums[SQUARES]) / targets,
                                 .stop_requested = sums[STOP] > 0};
    stats->lr = c->optim.lr * schedule_factor(&c->schedule, t->progress.step);
    stats->skipped = !isfinite(stats->loss) || !isfinite(stats->grad_norm);
    if (stats->skipped)
        t->progress.skipped++;
    else
        update(t, stats->lr,
               optim_clip_factor(stats->grad_norm, c->optim.clip) / targets);
    t->progress.step++;
    t->progress.next_sample += config_global_batch(c);
    t->progress.tokens += stats->n_targets;
}
