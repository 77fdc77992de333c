/* Saving: who does what when.  What a reader finds if the machine dies between two steps is
 * told in docs/checkpoint.md.
 *
 * Phases follow each other when every rank's writer is done with the one before; only the change
 * is collective, so that ranks compute while their writers write. */
#include "checkpoint/checkpoint_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/writer.h"
#include "core/clock.h"
#include "core/file.h"
#include "core/log.h"

enum { MESSAGE_BYTES = 2048 };

enum phase {
    IDLE,
    PREPARE, /* root makes the folder and finds names */
    SHARD,   /* each rank writes its own */
    INDEX    /* root writes model.h5 and commits */
};

struct checkpoint_saver {
    struct checkpoint_saver_options options;
    char run_dir[PATH_MAX], folder[PATH_MAX], model[PATH_MAX], shard_path[PATH_MAX];
    struct writer *writer;
    struct ckpt_part *parts;
    int64_t n_parts;
    enum phase phase;
    double begun;
    int64_t bytes; /* of all shards */
    struct checkpoint_meta meta;
    struct ckpt_shard row;
    struct ckpt_index index; /* root's */
    int64_t generation;
    bool index_written; /* to its .tmp */
    /* of the writer's last job */
    status_t status;
    char message[MESSAGE_BYTES];
};

static bool is_root(const struct checkpoint_saver *s)
{
    return comm_rank(s->options.world) == CKPT_ROOT;
}

/* ---- jobs of the writer ------------------------------------------------------------------ */

/* What the writer's thread has to tell the other. */
static void keep_status(struct checkpoint_saver *s, status_t st)
{
    s->status = st;
    snprintf(s->message, sizeof s->message, "%s",
             st == STATUS_OK ? "" : status_message());
}

/* Root's part before anybody writes.  Leftovers of a save that never finished go first; in a
 * folder that holds a checkpoint nothing is touched, the new shards get names of their own. */
static status_t prepare(struct checkpoint_saver *s)
{
    TRY(file_make_dirs(s->folder));
    TRY(file_sync_dir(s->run_dir));
    if (!file_exists(s->model)) ckpt_remove_others(s->folder, -1);
    return ckpt_fresh_generation(s->folder, &s->generation);
}

static void prepare_job(void *saver)
{
    keep_status(saver, prepare(saver));
}

static status_t write_shard(struct checkpoint_saver *s)
{
    TRY(file_make_dirs(s->folder)); /* a network file system may not show it here yet */
    return ckpt_shard_write(s->shard_path, s->meta.step, comm_rank(s->options.world),
                            s->parts, s->n_parts, &s->row);
}

static void shard_job(void *saver)
{
    keep_status(saver, write_shard(saver));
}

static status_t write_index(struct checkpoint_saver *s)
{
    const struct checkpoint_saver_options *o = &s->options;
    TRY(ckpt_index_check(&s->index, s->model, STATUS_INTERNAL));
    if (o->before_commit) TRY(o->before_commit(o->context));
    TRY(ckpt_model_write(s->model, &s->index, &s->meta));
    s->index_written = true;
    return file_commit(s->model);
}

static void index_job(void *saver)
{
    keep_status(saver, write_index(saver));
}

/* Nobody waits for it but the next save. */
static void clean_job(void *saver)
{
    struct checkpoint_saver *s = saver;
    ckpt_remove_others(s->folder, s->generation);
    ckpt_retain(s->run_dir, &s->options.keep, s->meta.step);
}

/* ---- between the jobs, collective -------------------------------------------------------- */

static status_t agree(struct checkpoint_saver *s)
{
    if (s->status != STATUS_OK) status_set(s->status, "%s", s->message);
    return comm_agree(s->options.world, s->status);
}

/* Take back what this save made. */
static void abandon(struct checkpoint_saver *s)
{
    char tmp[PATH_MAX + 8];
    if (s->shard_path[0]) {
        unlink(s->shard_path);
        snprintf(tmp, sizeof tmp, "%s.tmp", s->shard_path);
        unlink(tmp);
    }
    comm_barrier(s->options.world);
    if (!is_root(s)) return;
    snprintf(tmp, sizeof tmp, "%s.tmp", s->model);
    unlink(tmp);
    rmdir(s->folder); /* stays if an older checkpoint is in it */
}

/* Everybody learns the generation, and that all save the same step. */
static status_t after_prepare(struct checkpoint_saver *s)
{
    TRY(agree(s));
    struct comm *world = s->options.world;
    int64_t plan[2] = {s->meta.step, s->generation};
    comm_broadcast(world, plan, sizeof plan, CKPT_ROOT);
    s->generation = plan[1];
    ckpt_shard_path(s->shard_path, s->folder, comm_rank(world), s->generation);
    status_t st = STATUS_OK;
    if (plan[0] != s->meta.step)
        st = status_set(STATUS_INTERNAL, "saves step %lld while rank %d saves step %lld",
                        (long long)s->meta.step, CKPT_ROOT, (long long)plan[0]);
    return comm_agree(world, st);
}

/* Everybody's shard and pieces on the root; on the other ranks the index stays empty. */
static status_t gather(struct checkpoint_saver *s)
{
    struct comm *world = s->options.world;
    const size_t mine = (size_t)s->n_parts;
    struct ckpt_piece *pieces = malloc(mine * sizeof *pieces + 1);
    if (!pieces) die("no memory for the index of a checkpoint");
    for (size_t i = 0; i < mine; i++) pieces[i] = s->parts[i].piece;
    s->bytes = (int64_t)s->row.bytes;
    comm_sum_i64(world, &s->bytes, 1);
    const status_t st = ckpt_index_gather(&s->index, world, s->options.whole, &s->row, 1,
                                          pieces, s->n_parts);
    s->index.generation = s->generation;
    free(pieces);
    return st;
}

static status_t after_shard(struct checkpoint_saver *s)
{
    TRY(agree(s));
    return comm_agree(s->options.world, gather(s));
}

/* A rename that cannot be made durable is a failure, but then model.h5 already names the new
 * shards and they must stay. */
static status_t after_index(struct checkpoint_saver *s, bool *renamed)
{
    const status_t st = agree(s);
    int64_t done = 1;
    if (is_root(s) && st != STATUS_OK) {
        char tmp[PATH_MAX + 8];
        snprintf(tmp, sizeof tmp, "%s.tmp", s->model);
        done = s->index_written && !file_exists(tmp);
    }
    comm_broadcast(s->options.world, &done, sizeof done, CKPT_ROOT);
    *renamed = done != 0;
    return st;
}

/* ---- the interface ------------------------------------------------------------------------ */

static char *copy_text(const char *text)
{
    char *copy = strdup(text ? text : "");
    if (!copy) die("no memory to describe the checkpoint");
    return copy;
}

status_t checkpoint_saver_create(struct checkpoint_saver **saver,
                                 const struct checkpoint_saver_options *o)
{
    struct checkpoint_saver *s = calloc(1, sizeof *s);
    *saver = s;
    if (!s) return status_set(STATUS_NOMEM, "no memory for saving");
    s->options = *o;
    snprintf(s->run_dir, sizeof s->run_dir, "%s", o->run_dir);
    status_t st = ckpt_cut(o->local, o->ranges, o->n_ranges, comm_rank(o->world),
                           &s->parts, &s->n_parts);
    if (st == STATUS_OK) st = writer_create(&s->writer);
    if (st != STATUS_OK) checkpoint_saver_destroy(saver);
    return st;
}

void checkpoint_saver_destroy(struct checkpoint_saver **saver)
{
    struct checkpoint_saver *s = *saver;
    if (!s) return;
    writer_destroy(&s->writer);
    checkpoint_meta_release(&s->meta);
    ckpt_index_release(&s->index);
    free(s->parts);
    free(s);
    *saver = NULL;
}

void checkpoint_saver_begin(struct checkpoint_saver *s,
                            const struct checkpoint_meta *meta)
{
    CHECK(s->phase == IDLE && meta->step >= 0);
    writer_wait(s->writer);
    checkpoint_meta_release(&s->meta);
    s->meta = *meta;
    s->meta.config = copy_text(meta->config);
    s->meta.versions = copy_text(meta->versions);
    s->meta.data = copy_text(meta->data);
    ckpt_step_folder(s->folder, s->run_dir, meta->step);
    file_join(s->model, sizeof s->model, s->folder, "model.h5");
    s->shard_path[0] = '\0';
    s->index_written = false;
    s->begun = clock_seconds();
    s->status = STATUS_OK;
    s->phase = PREPARE;
    if (is_root(s)) writer_start(s->writer, prepare_job, s);
}

bool checkpoint_saver_busy(const struct checkpoint_saver *s)
{
    return s->phase != IDLE;
}

bool checkpoint_saver_working(const struct checkpoint_saver *s)
{
    return s->phase != IDLE && writer_working(s->writer);
}

/* *renamed: the save is over and its files stay. */
static status_t change_phase(struct checkpoint_saver *s, bool *renamed)
{
    switch (s->phase) {
    case PREPARE:
        TRY(after_prepare(s));
        s->phase = SHARD;
        writer_start(s->writer, shard_job, s);
        return STATUS_OK;
    case SHARD:
        TRY(after_shard(s));
        s->phase = INDEX;
        if (is_root(s)) writer_start(s->writer, index_job, s);
        return STATUS_OK;
    default:
        return after_index(s, renamed);
    }
}

status_t checkpoint_saver_advance(struct checkpoint_saver *s,
                                  struct checkpoint_saved *saved)
{
    bool renamed = false;
    CHECK(s->phase != IDLE);
    writer_wait(s->writer);
    *saved = (struct checkpoint_saved){0};
    const enum phase before = s->phase;
    const status_t st = change_phase(s, &renamed);
    if (st == STATUS_OK && before != INDEX) return STATUS_OK;
    /* a folder that another job has taken over is no longer ours to tidy */
    if (!renamed && st != STATUS_LOCKED) abandon(s);
    ckpt_index_release(&s->index);
    s->phase = IDLE;
    if (st == STATUS_OK && is_root(s)) writer_start(s->writer, clean_job, s);
    *saved = (struct checkpoint_saved){.over = true,
                                       .step = s->meta.step,
                                       .bytes = s->bytes,
                                       .seconds = clock_seconds() - s->begun};
    return st;
}

status_t checkpoint_saver_finish(struct checkpoint_saver *s,
                                 struct checkpoint_saved *saved)
{
    status_t st = STATUS_OK;
    do st = checkpoint_saver_advance(s, saved);
    while (st == STATUS_OK && !saved->over);
    return st;
}

status_t checkpoint_save(const char *run_dir, struct comm *world,
                         const struct param_table *whole, const struct param_table *local,
                         const struct checkpoint_range *ranges, int n_ranges,
                         const struct checkpoint_meta *meta)
{
    const struct checkpoint_saver_options o = {.run_dir = run_dir,
                                               .world = world,
                                               .whole = whole,
                                               .local = local,
                                               .ranges = ranges,
                                               .n_ranges = n_ranges};
    struct checkpoint_saver *s;
    struct checkpoint_saved saved;
    status_t st = comm_agree(world, checkpoint_saver_create(&s, &o));
    if (st == STATUS_OK) {
        checkpoint_saver_begin(s, meta);
        st = checkpoint_saver_finish(s, &saved);
    }
    checkpoint_saver_destroy(&s);
    return st;
}
