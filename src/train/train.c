/* The steps of one segment, and what they are followed by. */
#include "train/trainer.h"

#include <math.h>
#include <stdio.h>

#include "core/clock.h"
#include "core/log.h"
#include "train/evaluate.h"
#include "train/metrics.h"

/* When the log interval began; its sums are part of struct progress, since a checkpoint may
 * fall inside. */
struct interval {
    double start, comm_start;
    int64_t first_step, first_tokens;
};

static struct interval interval_begin(const struct trainer *t)
{
    return (struct interval){.start = clock_seconds(),
                             .comm_start = layout_comm_seconds(&t->layout),
                             .first_step = t->progress.step,
                             .first_tokens = t->progress.tokens};
}

/* One record; collective, since memory and waits are the worst rank's. */
static void report(struct trainer *t, struct metrics *m, const struct interval *i,
                   const struct step_stats *s)
{
    struct progress *p = &t->progress;
    const double steps = (double)(p->step - i->first_step);
    const double loss = p->log_loss_sum / (double)p->log_targets;
    double worst[4] = {clock_seconds() - i->start, loader_wait_seconds(t->loader),
                       layout_comm_seconds(&t->layout) - i->comm_start,
                       (double)memory_peak_rss_bytes()};
    comm_max_f64(t->world, worst, 4);
    p->log_loss_sum = 0;
    p->log_targets = 0;
    if (!m) return;
    const double rate = (double)(p->tokens - i->first_tokens) / worst[0];
    const int64_t T =
        t->config->sequence_length; /* tokens without a target cost as much */
    const double flops = steps * (double)(config_global_batch(t->config) * T) / worst[0] *
                         arch_flops_per_token(&t->config->arch, T);
    const struct metrics_record r = {.step = p->step,
                                     .stage = t->config->span.name,
                                     .tokens = p->tokens,
                                     .skipped = p->skipped,
                                     .loss = loss,
                                     .z_loss = s->z_loss,
                                     .grad_norm = s->grad_norm,
                                     .lr = s->lr,
                                     .seconds = worst[0] / steps,
                                     .tokens_per_second = rate,
                                     .flops_per_second = flops,
                                     .gemm_share = flops / t->peak_flops,
                                     .loader_wait = worst[1] / steps,
                                     .comm_wait = worst[2] / steps,
                                     .memory_bytes = (int64_t)worst[3]};
    metrics_train(m, &r);
}

static void add_loss(void *trainer, const struct model_input *in, struct nn_loss *loss)
{
    struct trainer *t = trainer;
    if (t->pp)
        pp_infer(t->pp, t->model, in, loss, NULL);
    else
        model_loss(t->model, in, loss, NULL);
}

static status_t validate(struct trainer *t, struct metrics *m)
{
    const struct config *c = t->config;
    const struct evaluate_options o = {.sampler = t->validation_data,
                                       .sequences = c->eval_sequences,
                                       .micro_batch = c->micro_batch,
                                       .T = c->sequence_length,
                                       .inputs = &t->inputs,
                                       .vocab_size = c->arch.vocab_size,
                                       .rank = t->layout.mesh.coord[MESH_DP],
                                       .size = t->layout.mesh.size[MESH_DP],
                                       .counts = layout_counts_loss(&t->layout),
                                       .comm = t->world,
                                       .loss = add_loss,
                                       .context = t};
    struct evaluation e;
    if (!t->validation_data) return STATUS_OK;
    train_settle(t);
    TRY(evaluate(&e, &o));
    t->progress.validation_loss = e.loss;
    if (!m) return STATUS_OK;
    metrics_validation(m, &(struct metrics_eval){.step = t->progress.step,
                                                 .stage = c->span.name,
                                                 .sequences = e.n_sequences,
                                                 .targets = e.n_targets,
                                                 .loss = e.loss,
                                                 .perplexity = exp(e.loss)});
    return STATUS_OK;
}

static bool due(int64_t interval, int64_t step)
{
    return interval > 0 && step % interval == 0;
}

/* How many steps in a row were bad. */
static void count_bad(const struct trainer *t, const struct step_stats *s, int64_t *bad)
{
    *bad = s->skipped ? *bad + 1 : 0;
    if (s->skipped && log_rank() == 0)
        log_warn("step %jd: loss %g, gradient norm %g%s: the update is skipped",
                 (intmax_t)t->progress.step, s->loss, s->grad_norm,
                 s->finite ? ", a spike (train.spike_sigma)" : "");
}

/* Back to the checkpoint before `bad` bad steps, and on behind their data.  The state is saved again
 * at once, with the new place in the data, and what was saved among the bad steps is removed. */
static status_t roll_back(struct trainer *t, struct metrics *m, int64_t bad)
{
    const struct config *c = t->config;
    const struct progress before = t->progress;
    if (before.rollbacks >= c->max_rollbacks)
        return status_set(
            STATUS_DIVERGED,
            "%jd bad steps in a row (train.max_bad_steps) after %jd rollbacks "
            "(train.max_rollbacks); lower optim.lr or lengthen the warm-up",
            (intmax_t)bad, (intmax_t)before.rollbacks);
    TRY(trainer_roll_back(t, before.step - bad));
    const struct metrics_rollback r = {.step = t->progress.step,
                                       .from_step = before.step,
                                       .first_sample = before.next_sample -
                                                       bad * config_global_batch(c),
                                       .last_sample = before.next_sample - 1};
    if (log_rank() == 0)
        log_warn(
            "%jd bad steps in a row: back to step %jd; samples %jd to %jd are passed "
            "over (rollback %jd, train.max_rollbacks is %jd)",
            (intmax_t)bad, (intmax_t)r.step, (intmax_t)r.first_sample,
            (intmax_t)r.last_sample, (intmax_t)t->progress.rollbacks,
            (intmax_t)c->max_rollbacks);
    TRY(comm_agree(t->world, m ? metrics_roll_back(m, &r) : STATUS_OK));
    TRY(saving_now(t));
    if (log_rank() == 0) checkpoint_remove_after(c->run_dir, r.step);
    return STATUS_OK;
}

/* What a step is followed by; *bad: steps in a row. */
static status_t after_step(struct trainer *t, struct metrics *m, struct interval *i,
                           const struct step_stats *s, int64_t *bad)
{
    const struct config *c = t->config;
    const int64_t step = t->progress.step;
    const bool last = step == c->span.end_step;
    if (!s->skipped) {
        t->progress.log_loss_sum += s->loss * (double)s->n_targets;
        t->progress.log_targets += s->n_targets;
    }
    count_bad(t, s, bad);
    TRY(saving_poll(t, s->saving));
    if (*bad >= c->max_bad_steps) {
        TRY(roll_back(t, m, *bad));
        *bad = 0;
        *i = interval_begin(t);
        return STATUS_OK;
    }
    if (m) metrics_progress(m, step);
    if (due(c->log_interval, step) || last) {
        report(t, m, i, s);
        *i = interval_begin(t);
    }
    if (due(c->eval_interval, step) || last) TRY(validate(t, m));
    if (last || s->stop_requested) return saving_now(t);
    return due(c->checkpoint_interval, step) ? saving_begin(t) : STATUS_OK;
}

status_t train_loop(struct trainer *t, struct metrics *m)
{
    const struct config *c = t->config;
    struct interval i = interval_begin(t);
    struct step_stats s = {0};
    int64_t bad = 0;
    const int64_t end = c->span.end_step;
    if (t->progress.step < end) loader_wait_seconds(t->loader); /* the first fill */
    while (t->progress.step < end && !s.stop_requested) {
        train_step(t, &s);
        TRY(after_step(t, m, &i, &s, &bad));
    }
    if (s.stop_requested && t->progress.step < config_whole(c)->steps)
        return status_set(
            STATUS_REQUEUE,
            "stopped by a signal or the time limit after step %jd, saved; start "
            "again to continue",
            (intmax_t)t->progress.step);
    return STATUS_OK;
}
