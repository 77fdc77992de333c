/* A run is its segments, one after the other: the stages of its configuration, or all of it. */
#include "train/train.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/log.h"
#include "train/deadline.h"
#include "train/metrics.h"
#include "train/plot.h"
#include "train/signals.h"
#include "train/trainer.h"

/* What does not change in the run folder: configuration and tokenizer. */
static status_t prepare_folder(const struct config *c)
{
    char path[PATH_MAX], *text = NULL;
    size_t bytes;
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

/* ---- segments of a run ---------------------------------------------------------------------- */

/* What goes on from one segment to the next, which begins from the checkpoint at the border as if the
 * run had been started again. */
struct run {
    struct comm *world;
    struct config *config;
    int segment;        /* the one that is next */
    int checked;        /* all from this one on are */
    const char *resume; /* where it begins: checkpoint.resume, then "auto" */
    struct run_lock *lock;
    bool armed; /* signals are kept and the time runs */
    double deadline;
};

/* The segment in which the newest checkpoint lies; trainer_restore has the last word. */
static void foresee_segment(struct run *r)
{
    int64_t step = 0;
    r->checked = config_n_segments(r->config);
    if (r->checked == 1) return;
    if (comm_rank(r->world) == 0) step = restore_foresee(r->config);
    comm_broadcast(r->world, &step, sizeof step, 0);
    r->segment = config_segment_at(r->config, step);
    if (r->segment == r->checked) r->segment--; /* all is done */
}

/* The segments behind the next one, before anything is trained.  Collective; agreed. */
static status_t check_later(struct run *r)
{
    for (; r->checked > r->segment + 1; r->checked--) {
        struct memory_plan plan;
        struct config *c = config_segment(r->config, r->checked - 1);
        const bool loud = log_set_quiet(true);
        const status_t st = trainer_check(r->world, c, &plan);
        log_set_quiet(loud);
        if (st != STATUS_OK) return status_prefix(st, "stage %s", c->span.name);
        log_info("stage %s, steps %jd to %jd: checked, %.1f MB on rank 0", c->span.name,
                 (intmax_t)c->span.first_step, (intmax_t)c->span.end_step - 1,
                 (double)memory_plan_total_bytes(&plan) * 1e-6);
    }
    return STATUS_OK;
}

/* A run that began with a checkpoint from elsewhere goes on with its own, so that the same command does
 * for both.  Behind the lock: another job may just have saved the first.  Collective. */
static void begin_once(struct run *r)
{
    bool begun = false;
    if (comm_rank(r->world) == 0) begun = restore_has_begun(r->config, r->resume);
    comm_broadcast(r->world, &begun, sizeof begun, 0);
    if (!begun) return;
    log_info("checkpoint.resume: %s is only where %s began; it goes on with its own "
             "checkpoints",
             r->resume, r->config->run_dir);
    r->resume = "auto";
}

/* Take the folder, once, and the state out of it. */
static status_t restore(struct run *r, struct trainer *t)
{
    status_t st = STATUS_OK;
    if (comm_rank(r->world) == 0 && !r->lock)
        st = run_lock_acquire(&r->lock, r->config->run_dir, RUN_LOCK_PATIENCE_SECONDS);
    TRY(comm_agree(r->world, st));
    t->lock = r->lock;
    begin_once(r);
    t->resume = r->resume;
    return trainer_restore(t);
}

/* From the state that was restored to the end of the segment.  Collective; agreed. */
static status_t train(struct run *r, struct trainer *t)
{
    const bool root = comm_rank(r->world) == 0;
    const struct config *c = r->config;
    struct metrics *m = NULL;
    const bool same_folder = strcmp(r->resume, "auto") == 0;
    status_t st = comm_agree(r->world, root ? prepare_folder(c) : STATUS_OK);
    if (st == STATUS_OK) {
        if (root)
            st =
                metrics_open(&m, c->run_dir, c->steps, t->progress.step,
                             same_folder ? t->progress.metrics_bytes : 0, c->tensorboard);
        t->metrics = m;
        if (st == STATUS_OK) st = trainer_start_loader(t);
        st = comm_agree(r->world, st);
    }
    if (st == STATUS_OK) {
        if (!r->armed) {
            signals_arm();
            r->deadline = deadline_begin(c);
            r->armed = true;
        }
        t->deadline = r->deadline;
        st = train_loop(t, m);
        log_set_step(-1);
    }
    if (root && m) {
        const status_t closed = metrics_close(&m);
        const status_t drawn = plot_loss(c->run_dir);
        if (closed != STATUS_OK || drawn != STATUS_OK) log_warn("%s", status_message());
    }
    return st;
}

/* One segment; the next is in r->segment.  Collective; agreed. */
static status_t run_segment(struct run *r)
{
    struct trainer t = {0};
    struct config *whole = r->config, *c = config_segment(whole, r->segment);
    TRY(check_later(r));
    if (c->span.name)
        log_info("stage %s, %d of %d: steps %jd to %jd", c->span.name, r->segment + 1,
                 whole->n_stages, (intmax_t)c->span.first_step,
                 (intmax_t)c->span.end_step - 1);
    status_t st = trainer_init(&t, r->world, c);
    if (st == STATUS_OK) st = restore(r, &t);
    if (st == STATUS_OK && t.progress.step >= whole->steps) {
        log_info("nothing to do: step %jd of train.steps %jd is reached",
                 (intmax_t)t.progress.step, (intmax_t)whole->steps);
        /* what came from elsewhere ends up in this run's folder all the same */
        if (strcmp(r->resume, "auto") != 0) st = saving_now(&t);
        r->segment = config_n_segments(whole);
    } else if (st == STATUS_OK &&
               config_segment_at(whole, t.progress.step) != r->segment) {
        r->segment = config_segment_at(whole, t.progress.step);
    } else if (st == STATUS_OK) {
        st = train(r, &t);
        r->segment++;
        r->resume = "auto";
    }
    trainer_release(&t);
    return st;
}

status_t train_run(struct comm *world, struct config *c)
{
    struct run r = {.world = world, .config = c, .resume = c->resume};
    status_t st = STATUS_OK;
    foresee_segment(&r);
    while (st == STATUS_OK && r.segment < config_n_segments(c)) st = run_segment(&r);
    run_lock_release(&r.lock);
    return st;
}
