#include "train/train.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "core/file.h"
#include "core/log.h"
#include "train/evaluate.h"
#include "train/metrics.h"
#include "train/plot.h"
#include "train/signals.h"
#include "train/trainer.h"

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
    const double flops =
        rate * arch_flops_per_token(&t->config->arch, t->config->sequence_length);
    const struct metrics_record r = {.step = p->step,
                                     .tokens = p->tokens,
                                     .skipped = p->skipped,
                                     .loss = loss,
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
        pp_infer(t->pp, t->model, in, loss);
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
    if (!m) return STATUS_OK;
    metrics_validation(m, &(struct metrics_eval){.step = t->progress.step,
                                                 .sequences = e.n_sequences,
                                                 .targets = e.n_targets,
                                                 .loss = e.loss,
                                                 .perplexity = exp(e.loss)});
    return STATUS_OK;
}

/* The metrics file is made durable first: no checkpoint is ahead of it. */
static status_t save(struct trainer *t, struct metrics *m)
{
    TRY(comm_agree(t->world, m ? metrics_sync(m) : STATUS_OK));
    return trainer_save(t);
}

static bool due(int64_t interval, int64_t step)
{
    return interval > 0 && step % interval == 0;
}

/* STATUS_DIVERGED after too many steps in a row without finite numbers. */
static status_t count_bad(const struct trainer *t, const struct step_stats *s,
                          int64_t *bad)
{
    *bad = s->skipped ? *bad + 1 : 0;
    if (s->skipped && log_rank() == 0)
        log_warn("step %jd: loss %g, gradient norm %g: the update is skipped",
                 (intmax_t)t->progress.step, s->loss, s->grad_norm);
    if (*bad < t->config->max_bad_steps) return STATUS_OK;
    return status_set(STATUS_DIVERGED,
                      "%jd steps in a row without finite loss and gradient "
                      "(train.max_bad_steps); lower optim.lr or lengthen the warm-up",
                      (intmax_t)*bad);
}

static status_t loop(struct trainer *t, struct metrics *m)
{
    const struct config *c = t->config;
    struct interval i = interval_begin(t);
    struct step_stats s = {0};
    int64_t bad = 0, saved = t->progress.step;
    if (t->progress.step < c->steps) loader_wait_seconds(t->loader); /* the first fill */
    while (t->progress.step < c->steps && !s.stop_requested) {
        train_step(t, &s);
        const int64_t step = t->progress.step;
        const bool last = step == c->steps;
        if (!s.skipped) {
            t->progress.log_loss_sum += s.loss * (double)s.n_targets;
            t->progress.log_targets += s.n_targets;
        }
        TRY(count_bad(t, &s, &bad));
        if (m) metrics_progress(m, step);
        if (due(c->log_interval, step) || last) {
            report(t, m, &i, &s);
            i = interval_begin(t);
        }
        if (due(c->eval_interval, step) || last) TRY(validate(t, m));
        if (due(c->checkpoint_interval, step) || last || s.stop_requested) {
            TRY(save(t, m));
            saved = step;
        }
    }
    if (s.stop_requested && t->progress.step < c->steps)
        return status_set(STATUS_REQUEUE,
                          "stopped by a signal after step %jd, saved; start "
                          "again to continue",
                          (intmax_t)saved);
    return STATUS_OK;
}

/* The run folder and what does not change in it: configuration and tokenizer. */
static status_t prepare_folder(const struct config *c)
{
    char path[PATH_MAX], *text = NULL;
    size_t bytes;
    TRY(file_make_dirs(c->run_dir));
    TRY(config_dump(c, &text));
    file_join(path, sizeof path, c->run_dir, "config.yaml");
    status_t st = file_replace(path, text, strlen(text));
    free(text);
    if (st != STATUS_OK || !c->tokenizer[0]) return st;
    TRY(file_read(c->tokenizer, 256u << 20, &text, &bytes));
    file_join(path, sizeof path, c->run_dir, "tokenizer.json");
    st = file_replace(path, text, bytes);
    free(text);
    return st;
}

status_t train_run(struct comm *world, struct config *c)
{
    struct trainer t = {0};
    struct metrics *m = NULL;
    const bool root = comm_rank(world) == 0;
    status_t st = trainer_init(&t, world, c);
    if (st == STATUS_OK) st = trainer_restore(&t);
    if (st == STATUS_OK && t.progress.step >= c->steps) {
        log_info("nothing to do: step %jd of train.steps %jd is reached",
                 (intmax_t)t.progress.step, (intmax_t)c->steps);
        trainer_release(&t);
        return STATUS_OK;
    }
    if (st == STATUS_OK) st = comm_agree(world, root ? prepare_folder(c) : STATUS_OK);
    if (st == STATUS_OK) {
        if (root)
            st = metrics_open(&m, c->run_dir, c->steps, t.progress.step, c->tensorboard);
        if (st == STATUS_OK) st = trainer_start_loader(&t);
        st = comm_agree(world, st);
    }
    if (st == STATUS_OK) {
        signals_arm();
        st = loop(&t, m);
        log_set_step(-1);
    }
    if (root && m) {
        const status_t closed = metrics_close(&m);
        const status_t drawn = plot_loss(c->run_dir);
        if (closed != STATUS_OK || drawn != STATUS_OK) log_warn("%s", status_message());
    }
    trainer_release(&t);
    return st;
}
