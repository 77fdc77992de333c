/* Saving: who does what when.  What a reader finds if the machine dies between two steps is
 * told in docs/checkpoint.md. */
#include "checkpoint/checkpoint_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/log.h"

enum { ROOT = 0 };

struct save {
    char folder[PATH_MAX], model[PATH_MAX], shard_path[PATH_MAX];
    struct comm *world;
    const struct param_table *whole, *local;
    struct ckpt_part *parts;
    int64_t n_parts;
    struct ckpt_shard row;
    int64_t generation;
};

/* Root's part before anybody writes.  Leftovers of a save that never finished go first; in a
 * folder that holds a checkpoint nothing is touched, the new shards get names of their own. */
static status_t prepare(struct save *s, const char *run_dir)
{
    TRY(file_make_dirs(s->folder));
    TRY(file_sync_dir(run_dir));
    if (!file_exists(s->model)) ckpt_remove_others(s->folder, -1);
    return ckpt_fresh_generation(s->folder, &s->generation);
}

static status_t write_shard(struct save *s, const struct checkpoint_range *ranges,
                            int n_ranges, int64_t step)
{
    const int rank = comm_rank(s->world);
    TRY(ckpt_cut(s->local, ranges, n_ranges, rank, &s->parts, &s->n_parts));
    TRY(file_make_dirs(s->folder)); /* a network file system may not show it here yet */
    return ckpt_shard_write(s->shard_path, step, rank, s->parts, s->n_parts, &s->row);
}

static status_t copy_params(struct ckpt_index *x, const struct param_table *t)
{
    x->params = calloc((size_t)t->n_params + 1, sizeof *x->params);
    if (!x->params) return status_set(STATUS_NOMEM, "no memory for the parameter list");
    x->n_params = t->n_params;
    for (int i = 0; i < t->n_params; i++) {
        const struct param *p = &t->params[i];
        x->params[i] =
            (struct ckpt_param){.n_dims = p->n_dims, .shape = {p->shape[0], p->shape[1]}};
        snprintf(x->params[i].name, CKPT_NAME_BYTES, "%s", p->name);
    }
    return STATUS_OK;
}

/* Everybody's shard and pieces on the root.  Collective; on the other ranks x stays empty. */
static status_t gather(struct save *s, struct ckpt_index *x)
{
    const size_t n = (size_t)comm_size(s->world), mine = (size_t)s->n_parts;
    struct ckpt_piece *pieces = malloc(mine * sizeof *pieces + 1);
    size_t *sizes = calloc(n, sizeof *sizes);
    x->shards = calloc(n, sizeof *x->shards);
    if (!pieces || !sizes || !x->shards) die("no memory for the index of a checkpoint");
    x->n_shards = (int64_t)n;
    comm_gather_all(s->world, &s->row, sizeof s->row, x->shards);
    for (size_t i = 0; i < mine; i++) pieces[i] = s->parts[i].piece;
    char *all;
    comm_gather_bytes(s->world, pieces, mine * sizeof *pieces, ROOT, &all, sizes);
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) bytes += sizes[i];
    free(sizes);
    free(pieces);
    if (comm_rank(s->world) != ROOT) return STATUS_OK;
    x->pieces = (struct ckpt_piece *)all;
    x->n_pieces = (int64_t)(bytes / sizeof *pieces);
    x->generation = s->generation;
    return copy_params(x, s->whole);
}

static status_t write_model(struct save *s, struct ckpt_index *x,
                            const struct checkpoint_meta *meta)
{
    TRY(ckpt_index_check(x, s->model, STATUS_INTERNAL));
    return ckpt_model_write(s->model, x, meta);
}

static status_t start(struct save *s, const char *run_dir, int64_t step)
{
    const bool root = comm_rank(s->world) == ROOT;
    TRY(comm_agree(s->world, root ? prepare(s, run_dir) : STATUS_OK));
    int64_t plan[2] = {step, s->generation};
    comm_broadcast(s->world, plan, sizeof plan, ROOT);
    s->generation = plan[1];
    ckpt_shard_path(s->shard_path, s->folder, comm_rank(s->world), s->generation);
    if (plan[0] == step) return STATUS_OK;
    return status_set(STATUS_INTERNAL, "saves step %lld while rank %d saves step %lld",
                      (long long)step, ROOT, (long long)plan[0]);
}

/* Take back what this save made.  Collective. */
static void abandon(const struct save *s)
{
    char tmp[PATH_MAX + 8];
    unlink(s->shard_path);
    snprintf(tmp, sizeof tmp, "%s.tmp", s->shard_path);
    unlink(tmp);
    comm_barrier(s->world);
    if (comm_rank(s->world) != ROOT) return;
    snprintf(tmp, sizeof tmp, "%s.tmp", s->model);
    unlink(tmp);
    rmdir(s->folder); /* stays if an older checkpoint is in it */
}

/* The last step.  A rename that cannot be made durable is a failure, but then model.h5 already
 * names the new shards and they must stay. */
static status_t commit(struct save *s, bool *renamed)
{
    const bool root = comm_rank(s->world) == ROOT;
    const status_t st = comm_agree(s->world, root ? file_commit(s->model) : STATUS_OK);
    int64_t done = 1;
    if (root && st != STATUS_OK) {
        char tmp[PATH_MAX + 8];
        snprintf(tmp, sizeof tmp, "%s.tmp", s->model);
        done = !file_exists(tmp);
    }
    comm_broadcast(s->world, &done, sizeof done, ROOT);
    *renamed = done != 0;
    return st;
}

status_t checkpoint_save(const char *run_dir, struct comm *world,
                         const struct param_table *whole, const struct param_table *local,
                         const struct checkpoint_range *ranges, int n_ranges,
                         const struct checkpoint_meta *meta)
{
    CHECK(meta->step >= 0);
    const bool root = comm_rank(world) == ROOT;
    struct save s = {.world = world, .whole = whole, .local = local};
    struct ckpt_index x = {0};
    bool renamed = false;
    char name[64];
    snprintf(name, sizeof name, "step-%08lld", (long long)meta->step);
    file_join(s.folder, sizeof s.folder, run_dir, name);
    file_join(s.model, sizeof s.model, s.folder, "model.h5");

    status_t st = start(&s, run_dir, meta->step);
    if (st == STATUS_OK) st = write_shard(&s, ranges, n_ranges, meta->step);
    st = comm_agree(world, st);
    if (st == STATUS_OK) {
        st = gather(&s, &x);
        if (st == STATUS_OK && root) st = write_model(&s, &x, meta);
        st = comm_agree(world, st);
    }
    if (st == STATUS_OK) st = commit(&s, &renamed);
    if (!renamed) abandon(&s);
    if (st == STATUS_OK && root) ckpt_remove_others(s.folder, s.generation);
    ckpt_index_release(&x);
    free(s.parts);
    return st;
}
