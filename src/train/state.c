/* A trainer's state to and from checkpoints. */
#include <hdf5.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/file.h"
#include "core/log.h"
#include "train/trainer.h"

/* ---- save ---------------------------------------------------------------------------------- */

/* JSON of libraries and host: what a later reader needs to know to reproduce a number. */
static char *describe_versions(const struct trainer *t)
{
    char host[256] = "?", hdf5[32];
    unsigned major = 0, minor = 0, release = 0;
    gethostname(host, sizeof host - 1);
    H5get_libversion(&major, &minor, &release);
    snprintf(hdf5, sizeof hdf5, "%u.%u.%u", major, minor, release);
    json_t *o =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:i}", "yoke", YOKE_VERSION, "compiler",
                  YOKE_COMPILER, "hdf5", hdf5, "isa", nn_isa(t->nn), "host", host,
                  "ranks", comm_size(t->world), "threads", t->n_threads);
    char *text = o ? json_dumps(o, JSON_SORT_KEYS) : NULL;
    json_decref(o);
    return text;
}

static json_t *describe_files(const struct sampler *s, int n)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++) {
        const struct token_file *f = sampler_file(s, i);
        const struct token_file_info *info = token_file_info(f);
        json_array_append_new(list,
                              json_pack("{s:s, s:I, s:s}", "path", token_file_path(f),
                                        "tokens", (json_int_t)info->n_tokens,
                                        "tokenizer_sha256", info->tokenizer_sha256));
    }
    return list;
}

static char *describe_data(const struct trainer *t)
{
    json_t *o = json_object();
    json_object_set_new(o, "train", describe_files(t->train_data, t->config->train.n));
    if (t->validation_data)
        json_object_set_new(o, "validation",
                            describe_files(t->validation_data, t->config->validation.n));
    char *text = o ? json_dumps(o, JSON_SORT_KEYS) : NULL;
    json_decref(o);
    return text;
}

static status_t make_meta(const struct trainer *t, struct checkpoint_meta *m)
{
    *m = (struct checkpoint_meta){.step = t->progress.step,
                                  .next_sample = t->progress.next_sample,
                                  .tokens = t->progress.tokens,
                                  .skipped_steps = t->progress.skipped,
                                  .log_loss_sum = t->progress.log_loss_sum,
                                  .log_targets = t->progress.log_targets,
                                  .loss_scale =
                                      t->dtype == DTYPE_F16 ? t->progress.scale.scale : 0,
                                  .loss_scale_steps = t->progress.scale.steps,
                                  .seed = (uint64_t)t->config->seed,
                                  .versions = describe_versions(t),
                                  .data = describe_data(t)};
    TRY(config_dump(t->config, &m->config));
    if (m->versions && m->data) return STATUS_OK;
    return status_set(STATUS_NOMEM, "no memory to describe the checkpoint");
}

status_t trainer_save(struct trainer *t)
{
    struct checkpoint_meta meta = {0};
    const int64_t n = zero_n_owned(t->zero);
    struct checkpoint_range *ranges = malloc((size_t)(n + 1) * sizeof *ranges);
    mirror_begin_copy_out(&t->mirror);
    status_t st = ranges ? make_meta(t, &meta)
                         : status_set(STATUS_NOMEM, "no memory for the list of ranges");
    mirror_wait(&t->mirror);
    st = comm_agree(t->world, st);
    if (st == STATUS_OK) {
        for (int64_t i = 0; i < n; i++) {
            const struct zero_range r = zero_owned(t->zero, i);
            ranges[i] = mirror_range(&t->mirror, &r);
        }
        st = checkpoint_save(t->config->run_dir, t->world, &t->whole, &t->params, ranges,
                             (int)n, &meta);
    }
    if (st == STATUS_OK)
        log_info("saved %s/step-%08jd", t->config->run_dir, (intmax_t)t->progress.step);
    checkpoint_meta_release(&meta);
    free(ranges);
    return st;
}

/* ---- restore ------------------------------------------------------------------------------- */

/* Say which lines of the resolved configuration are not as they were; both dumps list every key
 * in the same order. */
static void log_changes(const char *before, const char *now)
{
    while (*before && *now) {
        const size_t n = strcspn(before, "\n"), m = strcspn(now, "\n");
        if (n != m || memcmp(before, now, n) != 0)
            log_info("changed since the checkpoint: %.*s -> %.*s", (int)n, before, (int)m,
                     now);
        before += n + (before[n] == '\n');
        now += m + (now[m] == '\n');
    }
}

static bool resume_auto(const struct config *c)
{
    return strcmp(c->resume, "auto") == 0;
}

/* Which checkpoint to start from, with auto the newest good one before step *before, which
 * becomes its step; path[0] == 0: none, start fresh.  Root only. */
static status_t choose(const struct config *c, int64_t *before, char path[PATH_MAX])
{
    char inside[PATH_MAX];
    path[0] = '\0';
    if (resume_auto(c)) {
        if (!file_is_dir(c->run_dir)) return STATUS_OK;
        return checkpoint_find_before(c->run_dir, *before, path, before);
    }
    if (strcmp(c->resume, "never") == 0) {
        if (!file_is_dir(c->run_dir)) return STATUS_OK;
        TRY(checkpoint_find_latest(c->run_dir, path));
        if (!path[0]) return STATUS_OK;
        return status_set(STATUS_CONFIG,
                          "checkpoint.resume: never, but %s is there; use auto, or "
                          "another train.run_dir",
                          path);
    }
    file_join(inside, sizeof inside, c->resume, "model.h5");
    if (file_exists(inside)) {
        snprintf(path, PATH_MAX, "%s", c->resume);
        return STATUS_OK;
    }
    TRY(checkpoint_find_latest(c->resume, path));
    if (path[0]) return STATUS_OK;
    return status_set(STATUS_CONFIG, "checkpoint.resume: %s holds no checkpoint",
                      c->resume);
}

/* The mirror's ranges, all that this rank updates; malloc'ed, caller frees. */
static status_t list_ranges(const struct trainer *t, struct checkpoint_range **ranges)
{
    const int64_t n = zero_n_ranges(t->zero);
    *ranges = malloc((size_t)(n + 1) * sizeof **ranges);
    if (!*ranges) return status_set(STATUS_NOMEM, "no memory for the list of ranges");
    for (int64_t i = 0; i < n; i++) {
        const struct zero_range r = zero_range(t->zero, i);
        (*ranges)[i] = mirror_range(&t->mirror, &r);
    }
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
    mirror_copy_in(&t->mirror);
    dp_gather_begin(t->dp, t->weights, t->dtype);
    for (int64_t i = 0; i < zero_n_ranges(t->zero) && t->dtype != DTYPE_F32; i++) {
        const struct zero_range r = zero_range(t->zero, i);
        char *low = (char *)t->weights + (size_t)r.start * dtype_bytes(t->dtype);
        struct tensor y = tensor_1d(low, t->dtype, r.count);
        const struct tensor x = tensor_1d(r.master, DTYPE_F32, r.count);
        nn_cast(t->nn, &y, &x);
    }
    train_settle(t); /* counts all as ready */
}

status_t trainer_start_fresh(struct trainer *t)
{
    t->progress = (struct progress){.scale = loss_scale_begin(t->dtype, 0, 0)};
    TRY(comm_agree(t->world, init_state(t)));
    spread_state(t);
    return STATUS_OK;
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
    if (st == STATUS_OK) st = comm_agree(t->world, config_dump(t->config, &now));
    if (st == STATUS_OK) {
        const struct checkpoint_meta *m = checkpoint_meta(ckpt);
        t->progress = (struct progress){
            .step = m->step,
            .next_sample = m->next_sample,
            .tokens = m->tokens,
            .skipped = m->skipped_steps,
            .log_loss_sum = m->log_loss_sum,
            .log_targets = m->log_targets,
            .scale = loss_scale_begin(t->dtype, m->loss_scale, m->loss_scale_steps)};
        log_changes(m->config, now);
    }
    free(now);
    checkpoint_close(&ckpt);
    return st;
}

/* A checkpoint is 12 bytes an element; there must be room for one before any work. */
static status_t check_space(const struct trainer *t)
{
    struct statvfs fs;
    const double need = 12.0 * 1.01 * (double)t->whole.n_real + 1e6;
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", t->config->run_dir);
    while (!file_exists(
        folder)) { /* it may not be made yet: ask its first parent there is */
        char *slash = strrchr(folder, '/');
        if (!slash)
            snprintf(folder, sizeof folder, ".");
        else
            slash[slash == folder ? 1 : 0] = '\0';
    }
    if (statvfs(folder, &fs) != 0) return STATUS_OK; /* not every file system tells */
    const double room = (double)fs.f_bavail * (double)fs.f_frsize;
    log_info("checkpoint: %.1f MB each, %.1f GB free in %s", need * 1e-6, room * 1e-9,
             folder);
    if (need <= room) return STATUS_OK;
    return status_set(STATUS_IO,
                      "train.run_dir: a checkpoint takes %.2f GB, %s has %.2f GB free",
                      need * 1e-9, folder, room * 1e-9);
}

/* Agree on one and load it; path[0] == 0: there is none. */
static status_t restore_from(struct trainer *t, int64_t *before, char path[PATH_MAX],
                             bool *damaged)
{
    *damaged = false;
    memset(path, 0, PATH_MAX); /* it travels whole */
    const bool root = comm_rank(t->world) == 0;
    TRY(comm_agree(t->world, root ? choose(t->config, before, path) : STATUS_OK));
    comm_broadcast(t->world, path, PATH_MAX, 0);
    return path[0] ? load(t, path, damaged) : STATUS_OK;
}

status_t trainer_restore(struct trainer *t)
{
    char path[PATH_MAX];
    int64_t before = INT64_MAX, refused = 0;
    bool damaged;
    const bool root = comm_rank(t->world) == 0;
    TRY(comm_agree(t->world, root ? check_space(t) : STATUS_OK));
    status_t st = restore_from(t, &before, path, &damaged);
    for (; damaged && resume_auto(t->config); refused++) {
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
