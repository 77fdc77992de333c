#include "train/saving.h"

#include <hdf5.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/commit.h"
#include "core/hash.h"
#include "core/log.h"
#include "train/launch.h"
#include "train/trainer.h"

/* ---- what a checkpoint says about the run ------------------------------------------------- */

enum { HOST_BYTES = 64 };

/* Each host once, with its ranks, in the order of the ranks.  Collective. */
static json_t *describe_hosts(struct comm *world)
{
    const size_t n = (size_t)comm_size(world);
    char mine[HOST_BYTES] = "", *all = calloc(n, HOST_BYTES);
    json_t *hosts = json_object();
    gethostname(mine, sizeof mine - 1);
    if (!all || !hosts) die("no memory to describe the run");
    comm_gather_all(world, mine, sizeof mine, all);
    for (size_t i = 0; i < n; i++) {
        const char *host = all + i * HOST_BYTES;
        const json_int_t ranks = json_integer_value(json_object_get(hosts, host));
        json_object_set_new(hosts, host, json_integer(ranks + 1));
    }
    free(all);
    return hosts;
}

/* What a later reader needs to know to reproduce a number.  Collective. */
static char *describe_versions(const struct trainer *t)
{
    char hdf5[32], libraries[256];
    unsigned major = 0, minor = 0, release = 0;
    struct device_info device;
    H5get_libversion(&major, &minor, &release);
    snprintf(hdf5, sizeof hdf5, "%u.%u.%u", major, minor, release);
    launch_libraries(libraries, sizeof libraries);
    device_describe(t->device, &device);
    json_t *o = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:o}", "yoke",
        YOKE_VERSION, "commit", core_commit, "compiler", YOKE_COMPILER, "hdf5", hdf5,
        "libraries", libraries, "isa", nn_isa(t->nn, t->dtype), "device", device.model,
        "device_libraries", device.libraries, "communication",
        comm_transport_name(t->world), "precision", dtype_name(t->dtype), "ranks",
        comm_size(t->world), "threads", t->n_threads, "hosts", describe_hosts(t->world));
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
        char xxh3[17];
        snprintf(xxh3, sizeof xxh3, "%016" PRIx64, info->xxh3);
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:i, s:I, s:s, s:s}", "path", token_file_path(f),
                            "format", token_file_formats[info->format], "shards",
                            info->n_shards, "tokens", (json_int_t)info->n_tokens, "xxh3",
                            xxh3, "tokenizer_sha256", info->tokenizer_sha256));
    }
    return list;
}

/* One hash of what the run computes: its recipe and the tokens it is made of. */
static void hash_recipe(const struct trainer *t, char hex[HASH_SHA256_HEX])
{
    const struct config *c = t->config;
    char *recipe = NULL, weight[64];
    if (config_recipe(config_whole(c), &recipe) != STATUS_OK) die("%s", status_message());
    struct hash_sha256_stream *h = hash_sha256_stream_create();
    hash_sha256_stream_update(h, recipe, strlen(recipe));
    for (int i = 0; i < c->train.n; i++) {
        const struct token_file_info *info =
            token_file_info(sampler_file(t->train_data, i));
        snprintf(weight, sizeof weight, "%016" PRIx64 " %.17g\n", info->xxh3,
                 c->train.items[i].weight);
        hash_sha256_stream_update(h, weight, strlen(weight));
    }
    hash_sha256_stream_finish(&h, hex);
    free(recipe);
}

static char *describe_data(const struct trainer *t)
{
    json_t *o = json_object();
    char recipe[HASH_SHA256_HEX];
    hash_recipe(t, recipe);
    json_object_set_new(o, "recipe_sha256", json_string(recipe));
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
    const struct progress *p = &t->progress;
    const bool fp16 = t->dtype == DTYPE_F16;
    *m = (struct checkpoint_meta){.step = p->step,
                                  .next_sample = p->next_sample,
                                  .data_step = p->data_step,
                                  .tokens = p->tokens,
                                  .skipped_steps = p->skipped,
                                  .log_loss_sum = p->log_loss_sum,
                                  .log_targets = p->log_targets,
                                  .loss_scale = fp16 ? p->scale.scale : 0,
                                  .loss_scale_steps = p->scale.steps,
                                  .seed = (uint64_t)t->config->seed,
                                  .spike_count = p->spike.count,
                                  .spike_mean = p->spike.mean,
                                  .spike_variance = p->spike.variance,
                                  .rollbacks = p->rollbacks,
                                  .validation_loss = p->validation_loss,
                                  .metrics_bytes =
                                      t->metrics ? metrics_bytes(t->metrics) : 0,
                                  .versions = t->saving.versions,
                                  .data = t->saving.data};
    return config_dump(config_whole(t->config), &m->config);
}

/* ---- life ----------------------------------------------------------------------------------- */

/* The run folder is still this job's, and the metrics file is made durable: no checkpoint is ahead of
 * it. */
static status_t before_commit(void *trainer)
{
    struct trainer *t = trainer;
    TRY(run_lock_check(t->lock));
    return t->metrics ? metrics_sync(t->metrics) : STATUS_OK;
}

static status_t make_saver(struct trainer *t)
{
    struct saving *s = &t->saving;
    const struct config *c = t->config;
    const int64_t n = zero_n_owned(t->zero);
    s->ranges = malloc((size_t)(n + 1) * sizeof *s->ranges);
    s->data = describe_data(t);
    if (!s->ranges || !s->data || !s->versions)
        return status_set(STATUS_NOMEM, "no memory to describe the checkpoint");
    for (int64_t i = 0; i < n; i++) s->ranges[i] = mirror_owned(&t->mirror, i);
    const struct checkpoint_saver_options o = {
        .run_dir = c->run_dir,
        .world = t->world,
        .whole = &t->whole,
        .local = &t->params,
        .ranges = s->ranges,
        .n_ranges = (int)n,
        .keep = {c->keep.last, c->keep.every, c->keep.best},
        .before_commit = before_commit,
        .context = t};
    return checkpoint_saver_create(&s->saver, &o);
}

status_t saving_init(struct trainer *t)
{
    t->saving = (struct saving){.versions = describe_versions(t)};
    return comm_agree(t->world, make_saver(t));
}

void saving_release(struct trainer *t)
{
    struct saving *s = &t->saving;
    checkpoint_saver_destroy(&s->saver);
    free(s->meta.config);
    free(s->versions);
    free(s->data);
    free(s->ranges);
    *s = (struct saving){0};
}

/* ---- saving --------------------------------------------------------------------------------- */

static bool under_way(const struct saving *s)
{
    return s->copying || (s->saver && checkpoint_saver_busy(s->saver));
}

static void hand_over(struct saving *s)
{
    s->copying = false;
    checkpoint_saver_begin(s->saver, &s->meta);
    free(s->meta.config);
    s->meta = (struct checkpoint_meta){0};
}

/* `st`: of a save that is over. */
static status_t conclude(struct trainer *t, status_t st, const struct checkpoint_saved *r,
                         bool must)
{
    struct saving *s = &t->saving;
    if (st == STATUS_OK) {
        s->failures = 0;
        log_info("saved %s/step-%08jd: %.1f MB in %.2f s, %.0f MB/s; training waited "
                 "%.3f s",
                 t->config->run_dir, (intmax_t)r->step, (double)r->bytes * 1e-6,
                 r->seconds, (double)r->bytes * 1e-6 / r->seconds, s->stall_seconds);
        return STATUS_OK;
    }
    s->failures++;
    if (must || st != STATUS_IO) return st;
    if (s->failures >= t->config->checkpoint_failures)
        return status_prefix(st, "%jd saves in a row failed (checkpoint.max_failures)",
                             (intmax_t)s->failures);
    if (log_rank() == 0)
        log_warn("step %jd is not saved: %s; training goes on, the next save is tried at "
                 "the next interval (failure %jd, checkpoint.max_failures is %jd)",
                 (intmax_t)r->step, status_message(), (intmax_t)s->failures,
                 (intmax_t)t->config->checkpoint_failures);
    return STATUS_OK;
}

bool saving_working(const struct trainer *t)
{
    const struct saving *s = &t->saving;
    if (s->copying) return !mirror_copied((struct mirror *)&t->mirror);
    return s->saver && checkpoint_saver_working(s->saver);
}

status_t saving_poll(struct trainer *t, bool working)
{
    struct saving *s = &t->saving;
    struct checkpoint_saved saved;
    if (working || !under_way(s)) return STATUS_OK;
    if (s->copying) {
        hand_over(s);
        return STATUS_OK;
    }
    const status_t st = checkpoint_saver_advance(s->saver, &saved);
    return saved.over ? conclude(t, st, &saved, false) : st;
}

status_t saving_finish(struct trainer *t, bool must)
{
    struct saving *s = &t->saving;
    struct checkpoint_saved saved;
    if (!under_way(s)) return STATUS_OK;
    const double start = clock_seconds();
    if (s->copying) {
        mirror_wait(&t->mirror);
        hand_over(s);
    }
    const status_t st = checkpoint_saver_finish(s->saver, &saved);
    s->stall_seconds += clock_seconds() - start;
    return conclude(t, st, &saved, must);
}

static status_t begin(struct trainer *t)
{
    struct saving *s = &t->saving;
    if (under_way(s)) {
        log_info(
            "the save before that of step %jd is still being written: training waits "
            "for it",
            (intmax_t)t->progress.step);
        TRY(saving_finish(t, false));
    }
    const double start = clock_seconds();
    status_t st = run_lock_check(t->lock);
    if (st == STATUS_OK) st = make_meta(t, &s->meta);
    st = comm_agree(t->world, st);
    if (st != STATUS_OK) return st;
    mirror_begin_copy_out(&t->mirror);
    s->copying = true;
    if (mirror_copied(&t->mirror) && device_is_host(t->device)) hand_over(s);
    s->stall_seconds = clock_seconds() - start;
    return STATUS_OK;
}

status_t saving_begin(struct trainer *t)
{
    TRY(begin(t));
    return t->config->checkpoint_async ? STATUS_OK : saving_finish(t, false);
}

status_t saving_now(struct trainer *t)
{
    TRY(begin(t));
    return saving_finish(t, true);
}
