/* A trainer's state out of checkpoints. */
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>

#include "core/file.h"
#include "core/log.h"
#include "train/space.h"
#include "train/trainer.h"

static void log_change(void *context, const char *key, const char *before,
                       const char *now)
{
    (void)context;
    log_info("changed since the checkpoint: %s: %s -> %s", key, before ? before : "-",
             now ? now : "-");
}

/* The names of the training data that a checkpoint of this run would have, against those it has:
 * other tokens under the same configuration are another run. */
static void log_changed_data(const struct trainer *t, const struct checkpoint_meta *m)
{
    if (comm_rank(t->world) != 0) return;
    json_t *data = json_loads(m->data, 0, NULL);
    const json_t *files = json_object_get(data, "train");
    for (int i = 0; i < t->config->train.n && json_is_array(files); i++) {
        const struct token_file *f = sampler_file(t->train_data, i);
        const char *before =
            json_string_value(json_object_get(json_array_get(files, (size_t)i), "xxh3"));
        char now[17];
        snprintf(now, sizeof now, "%016" PRIx64, token_file_info(f)->xxh3);
        if (before && strcmp(before, now) != 0)
            log_warn("%s: its tokens or documents are not those the checkpoint was "
                     "trained on (xxh3 %s, now %s)",
                     token_file_path(f), before, now);
    }
    json_decref(data);
}

static bool resume_auto(const char *resume)
{
    return strcmp(resume, "auto") == 0;
}

/* Is the folder `path` another than `folder`, and not in it? */
static bool outside(const char *path, const char *folder)
{
    char inner[PATH_MAX], outer[PATH_MAX];
    if (!realpath(path, inner) || !realpath(folder, outer)) return true;
    const size_t n = strlen(outer);
    return strncmp(inner, outer, n) != 0 || (inner[n] != '/' && inner[n] != '\0');
}

bool restore_has_begun(const struct config *c, const char *resume)
{
    char path[PATH_MAX];
    int64_t step = INT64_MAX;
    if (resume_auto(resume) || strcmp(resume, "never") == 0) return false;
    if (!outside(resume, c->run_dir) || !file_is_dir(c->run_dir)) return false;
    return checkpoint_next(c->run_dir, &step, path) == STATUS_OK && path[0];
}

/* Which checkpoint to start from, with auto the newest good one before step *before, which
 * becomes its step; path[0] == 0: none, start fresh.  Root only. */
static status_t choose(const struct config *c, const char *resume, int64_t *before,
                       char path[PATH_MAX])
{
    char inside[PATH_MAX];
    path[0] = '\0';
    if (resume_auto(resume)) {
        if (!file_is_dir(c->run_dir)) return STATUS_OK;
        return checkpoint_find_before(c->run_dir, *before, path, before);
    }
    if (strcmp(resume, "never") == 0) {
        if (!file_is_dir(c->run_dir)) return STATUS_OK;
        TRY(checkpoint_find_latest(c->run_dir, path));
        if (!path[0]) return STATUS_OK;
        return status_set(STATUS_CONFIG,
                          "checkpoint.resume: never, but %s is there; use auto, or "
                          "another train.run_dir",
                          path);
    }
    file_join(inside, sizeof inside, resume, "model.h5");
    if (file_exists(inside)) {
        snprintf(path, PATH_MAX, "%s", resume);
        return STATUS_OK;
    }
    TRY(checkpoint_find_latest(resume, path));
    if (path[0]) return STATUS_OK;
    return status_set(STATUS_CONFIG, "checkpoint.resume: %s holds no checkpoint", resume);
}

/* The mirror's ranges, all that this rank updates; malloc'ed, caller frees. */
static status_t list_ranges(const struct trainer *t, struct checkpoint_range **ranges)
{
    const int64_t n = zero_n_ranges(t->zero);
    *ranges = malloc((size_t)(n + 1) * sizeof **ranges);
    if (!*ranges) return status_set(STATUS_NOMEM, "no memory for the list of ranges");
    for (int64_t i = 0; i < n; i++) (*ranges)[i] = mirror_range(&t->mirror, i);
    return STATUS_OK;
}

static status_t read_state(struct trainer *t, const struct checkpoint *ckpt)
{
    struct checkpoint_range *ranges;
    TRY(list_ranges(t, &ranges));
    const status_t st =
        checkpoint_read(ckpt, &t->whole, &t->params, ranges, (int)zero_n_ranges(t->zero));
    free(ranges);
    return st;
}

/* Initial weights; moments are zero from the start, in the device, but not in the mirror. */
static status_t init_state(struct trainer *t)
{
    struct checkpoint_range *ranges;
    TRY(list_ranges(t, &ranges));
    for (int64_t i = 0; i < zero_n_ranges(t->zero); i++) {
        const struct checkpoint_range *r = &ranges[i];
        const size_t bytes = (size_t)r->count * sizeof(float);
        param_init_values(&t->params, (uint64_t)t->config->seed, r->start, r->count,
                          r->master);
        memset(r->exp_avg, 0, bytes);
        memset(r->exp_avg_sq, 0, bytes);
    }
    free(ranges);
    return STATUS_OK;
}

/* The mirror's numbers into the device, and from there as weights to all ranks. */
static void spread_state(struct trainer *t)
{
    const struct nn_adamw nothing = {.c1 = 1, .c2 = 1};
    const int64_t n_updates = t->progress.step - t->progress.skipped;
    mirror_copy_in(&t->mirror);
    dp_gather_begin(t->dp, t->weights, t->dtype);
    for (int64_t i = 0; i < zero_n_ranges(t->zero) && t->dtype != DTYPE_F32; i++) {
        struct nn_adamw_range r = trainer_range(t, i, n_updates);
        r.grad = NULL; /* weights are only rounded, as the last update did */
        nn_adamw_update(t->nn, &r, &nothing);
    }
    train_settle(t); /* counts all as ready */
}

status_t trainer_start_fresh(struct trainer *t)
{
    t->progress = (struct progress){.scale = loss_scale_begin(t->dtype, 0, 0),
                                    .data_step = t->config->span.data_step,
                                    .validation_loss = (double)NAN};
    TRY(comm_agree(t->world, init_state(t)));
    spread_state(t);
    return STATUS_OK;
}

/* A checkpoint's place in the data is one of the order it was saved in.  In another the run begins
 * anew, and what losses were like in the other says nothing. */
static void begin_data(struct trainer *t)
{
    const int64_t data_step = t->config->span.data_step;
    struct progress *p = &t->progress;
    if (p->data_step == data_step) return;
    p->data_step = data_step;
    p->next_sample = 0;
    p->spike = (struct spike){0};
}

/* *damaged: the checkpoint is of this model, but some rank cannot have its numbers.  The status
 * is the same on all ranks.  Collective on world. */
static status_t load(struct trainer *t, const char *path, bool *damaged)
{
    struct checkpoint *ckpt = NULL;
    char *now = NULL;
    status_t st = checkpoint_open(&ckpt, path);
    if (st == STATUS_OK) st = checkpoint_match(ckpt, &t->whole);
    st = comm_agree(t->world, st);
    *damaged = st == STATUS_OK;
    if (st == STATUS_OK) st = comm_agree(t->world, read_state(t, ckpt));
    *damaged = *damaged && st == STATUS_CHECKPOINT;
    if (st == STATUS_OK)
        st = comm_agree(t->world, config_dump(config_whole(t->config), &now));
    if (st == STATUS_OK) {
        const struct checkpoint_meta *m = checkpoint_meta(ckpt);
        t->progress = (struct progress){
            .step = m->step,
            .next_sample = m->next_sample,
            .data_step = m->data_step,
            .tokens = m->tokens,
            .skipped = m->skipped_steps,
            .log_loss_sum = m->log_loss_sum,
            .log_targets = m->log_targets,
            .scale = loss_scale_begin(t->dtype, m->loss_scale, m->loss_scale_steps),
            .spike = {m->spike_count, m->spike_mean, m->spike_variance},
            .rollbacks = m->rollbacks,
            .validation_loss = m->validation_loss,
            .metrics_bytes = m->metrics_bytes};
        if (m->data_step == t->config->span.data_step) log_changed_data(t, m);
        begin_data(t);
        st = comm_agree(t->world, config_compare(m->config, now, log_change, NULL));
    }
    free(now);
    checkpoint_close(&ckpt);
    return st;
}

/* Agree on one and load it; path[0] == 0: there is none. */
static status_t restore_from(struct trainer *t, int64_t *before, char path[PATH_MAX],
                             bool *damaged)
{
    *damaged = false;
    memset(path, 0, PATH_MAX); /* it travels whole */
    const bool root = comm_rank(t->world) == 0;
    TRY(comm_agree(t->world,
                   root ? choose(t->config, t->resume, before, path) : STATUS_OK));
    comm_broadcast(t->world, path, PATH_MAX, 0);
    return path[0] ? load(t, path, damaged) : STATUS_OK;
}

status_t trainer_restore(struct trainer *t)
{
    char path[PATH_MAX];
    int64_t before = INT64_MAX, refused = 0;
    bool damaged;
    const bool root = comm_rank(t->world) == 0;
    TRY(space_check(t));
    status_t st = restore_from(t, &before, path, &damaged);
    for (; damaged && resume_auto(t->resume); refused++) {
        if (root) log_warn("refused: %s", status_message());
        st = restore_from(t, &before, path, &damaged);
    }
    TRY(st);
    if (path[0]) {
        spread_state(t);
        log_info("resumed from %s", path);
        return STATUS_OK;
    }
    if (refused > 0)
        return status_set(STATUS_CHECKPOINT,
                          "%s: no checkpoint in it can be read, see the warnings",
                          t->config->run_dir);
    return trainer_start_fresh(t);
}

int64_t restore_foresee(const struct config *c)
{
    char path[PATH_MAX];
    int64_t step = INT64_MAX;
    struct checkpoint *ckpt = NULL;
    const char *resume = restore_has_begun(c, c->resume) ? "auto" : c->resume;
    if (choose(c, resume, &step, path) != STATUS_OK || !path[0] ||
        checkpoint_open(&ckpt, path) != STATUS_OK)
        return 0;
    step = checkpoint_meta(ckpt)->step;
    checkpoint_close(&ckpt);
    return step;
}

/* As choose, for a rollback. */
static status_t choose_before(const struct config *c, int64_t *before,
                              char path[PATH_MAX])
{
    const int64_t bound = *before;
    TRY(checkpoint_find_before(c->run_dir, bound, path, before));
    if (path[0] && *before >= c->span.first_step) return STATUS_OK;
    return status_set(STATUS_DIVERGED,
                      "%s holds no checkpoint of a step before %jd%s%s to return to",
                      c->run_dir, (intmax_t)bound, c->span.name ? " in stage " : "",
                      c->span.name ? c->span.name : "");
}

status_t trainer_roll_back(struct trainer *t, int64_t step)
{
    char path[PATH_MAX] = "";
    const bool root = comm_rank(t->world) == 0;
    const struct progress now = t->progress;
    int64_t before = step + 1;
    bool damaged = true;
    status_t st = STATUS_OK;
    TRY(saving_finish(t, false));
    train_settle(t);
    while (
        damaged) { /* behind the first agreement nobody reads weights: they may be written */
        memset(path, 0, sizeof path);
        st = root ? choose_before(t->config, &before, path) : STATUS_OK;
        TRY(comm_agree(t->world, st));
        comm_broadcast(t->world, path, PATH_MAX, 0);
        st = load(t, path, &damaged);
        if (damaged && root) log_warn("refused: %s", status_message());
    }
    TRY(st);
    spread_state(t);
    t->progress.next_sample = now.next_sample;
    t->progress.rollbacks = now.rollbacks + 1;
    loader_destroy(&t->loader);
    return comm_agree(t->world, trainer_start_loader(t));
}
