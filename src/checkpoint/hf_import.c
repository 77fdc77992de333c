/* A Hugging Face folder becomes a checkpoint, by any number of ranks. */
#include "checkpoint/checkpoint_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "checkpoint/hf.h"
#include "core/file.h"
#include "core/log.h"

enum { DEFAULT_BLOCK = 32 << 20 };

/* What is read at once. */
struct block {
    int param; /* in the table of the whole model */
    struct hf_rectangle at;
};

struct import {
    const struct hf *from;
    const struct hf_import_options *options;
    char folder[PATH_MAX], model[PATH_MAX];
    int64_t limit; /* elements of a block, and of a shard of several */
    struct block *blocks;
    struct ckpt_piece *pieces; /* of the blocks, once written */
    int64_t n_blocks;
    struct ckpt_shard *shards;
    int64_t n_shards, first_shard; /* this rank's */
    float *x, *zeros;              /* as long as the longest shard */
};

static int64_t elements(const struct block *b)
{
    return b->at.rows * b->at.cols;
}

/* ---- what this rank reads: pure ------------------------------------------------------------- */

/* All that is owned in `t`, in blocks of whole rows; returns how many, and fills `blocks` unless it is
 * NULL. */
static int64_t cut(const struct param_table *t, int64_t limit, struct block *blocks)
{
    int64_t n = 0;
    for (int i = 0; i < t->n_params; i++) {
        const struct param *p = &t->params[i];
        for (int k = 0; k < p->n_slices; k++) {
            const struct param_slice *s = &p->slices[k];
            const int64_t most = limit / p->local[1] > 1 ? limit / p->local[1] : 1;
            for (int64_t row = 0; s->owned && row < s->rows; row += most) {
                const int64_t rows = s->rows - row < most ? s->rows - row : most;
                if (blocks)
                    blocks[n] = (struct block){p->index,
                                               {s->row + row, s->col, rows, p->local[1]}};
                n++;
            }
        }
    }
    return n;
}

/* Blocks [first, returned) go into one shard of *n elements. */
static int64_t group(const struct import *m, int64_t first, int64_t *n)
{
    int64_t i = first;
    for (*n = 0; i < m->n_blocks; i++) {
        if (i > first && *n + elements(&m->blocks[i]) > m->limit) break;
        *n += elements(&m->blocks[i]);
    }
    return i;
}

/* Of what ranks with the same part of the model hold, one share is this rank's. */
static status_t plan(struct import *m)
{
    const struct hf_import_options *o = m->options;
    int64_t first, longest = 0, n;
    const int64_t all = cut(o->local, m->limit, NULL);
    m->blocks = malloc((size_t)all * sizeof *m->blocks + 1);
    if (!m->blocks)
        return status_set(STATUS_NOMEM, "no memory for %jd blocks", (intmax_t)all);
    cut(o->local, m->limit, m->blocks);
    comm_slice(all, o->shares, o->share, &first, &m->n_blocks);
    for (int64_t i = 0; i < m->n_blocks; i++) m->blocks[i] = m->blocks[first + i];
    for (int64_t i = 0; i < m->n_blocks; m->n_shards++) {
        i = group(m, i, &n);
        if (n > longest) longest = n;
    }
    m->pieces = calloc((size_t)m->n_blocks + 1, sizeof *m->pieces);
    m->shards = calloc((size_t)m->n_shards + 1, sizeof *m->shards);
    m->x = malloc((size_t)longest * sizeof *m->x + 1);
    m->zeros = calloc((size_t)longest + 1, sizeof *m->zeros);
    return m->pieces && m->shards && m->x && m->zeros
               ? STATUS_OK
               : status_set(STATUS_NOMEM, "no memory to import %jd numbers at a time",
                            (intmax_t)longest);
}

/* ---- files ---------------------------------------------------------------------------------- */

/* Root's part before anybody writes. */
static status_t prepare(struct import *m)
{
    return comm_rank(m->options->world) == CKPT_ROOT
               ? ckpt_folder_make(m->options->run_dir, m->folder, m->model)
               : STATUS_OK;
}

/* Ranks write their shards one behind the other's: where do this rank's begin? */
static void number_shards(struct import *m)
{
    struct comm *world = m->options->world;
    int64_t *each = calloc((size_t)comm_size(world), sizeof *each);
    if (!each) die("no memory to number the shards");
    comm_gather_all(world, &m->n_shards, sizeof m->n_shards, each);
    for (int i = 0; i < comm_rank(world); i++) m->first_shard += each[i];
    free(each);
}

static status_t write_shard(struct import *m, int64_t k, int64_t first, int64_t end,
                            struct ckpt_part *parts)
{
    char path[PATH_MAX];
    const int64_t shard = m->first_shard + k;
    int64_t offset = 0;
    for (int64_t i = first; i < end; i++) {
        const struct block *b = &m->blocks[i];
        TRY(hf_read(m->from, b->param, &b->at, m->x + offset));
        parts[i - first] =
            (struct ckpt_part){.piece = {.param = b->param,
                                         .row = b->at.row,
                                         .col = b->at.col,
                                         .rows = b->at.rows,
                                         .cols = b->at.cols,
                                         .shard = shard,
                                         .offset = offset},
                               .data = {m->x + offset, m->zeros, m->zeros}};
        offset += elements(b);
    }
    ckpt_shard_path(path, m->folder, shard, 0);
    TRY(ckpt_shard_write(path, m->options->meta->step, shard, parts, end - first,
                         &m->shards[k]));
    for (int64_t i = first; i < end; i++) m->pieces[i] = parts[i - first].piece;
    return STATUS_OK;
}

static status_t write_shards(struct import *m)
{
    status_t st =
        file_make_dirs(m->folder); /* a network file system may not show it here yet */
    struct ckpt_part *parts = malloc((size_t)m->n_blocks * sizeof *parts + 1);
    if (!parts) st = status_set(STATUS_NOMEM, "no memory for the list of pieces");
    int64_t first = 0, n;
    for (int64_t k = 0; k < m->n_shards && st == STATUS_OK; k++) {
        const int64_t end = group(m, first, &n);
        st = write_shard(m, k, first, end, parts);
        first = end;
    }
    free(parts);
    return st;
}

static status_t write_model(struct import *m, struct ckpt_index *x)
{
    if (comm_rank(m->options->world) != CKPT_ROOT) return STATUS_OK;
    TRY(ckpt_index_check(x, m->model, STATUS_INTERNAL));
    TRY(ckpt_model_write(m->model, x, m->options->meta));
    return file_commit(m->model);
}

/* Take back what was made, unless model.h5 is there and names it. */
static void abandon(struct import *m)
{
    char path[PATH_MAX], tmp[PATH_MAX + 8];
    struct comm *world = m->options->world;
    int64_t done = file_exists(m->model);
    comm_broadcast(world, &done, sizeof done, CKPT_ROOT);
    for (int64_t k = 0; k < m->n_shards && !done; k++) {
        ckpt_shard_path(path, m->folder, m->first_shard + k, 0);
        unlink(path);
        snprintf(tmp, sizeof tmp, "%s.tmp", path);
        unlink(tmp);
    }
    comm_barrier(world);
    if (comm_rank(world) != CKPT_ROOT || done) return;
    snprintf(tmp, sizeof tmp, "%s.tmp", m->model);
    unlink(tmp);
    rmdir(m->folder);
}

static status_t import(struct import *m)
{
    struct comm *world = m->options->world;
    struct ckpt_index x = {0};
    TRY(comm_agree(world, prepare(m)));
    number_shards(m);
    status_t st = comm_agree(world, write_shards(m));
    if (st == STATUS_OK)
        st = comm_agree(world, ckpt_index_gather(&x, world, m->options->whole, m->shards,
                                                 m->n_shards, m->pieces, m->n_blocks));
    if (st == STATUS_OK) st = comm_agree(world, write_model(m, &x));
    if (st != STATUS_OK) abandon(m);
    ckpt_index_release(&x);
    return st;
}

status_t hf_import(const struct hf *h, const struct hf_import_options *o)
{
    struct import m = {
        .from = h, .options = o, .limit = o->block ? o->block : DEFAULT_BLOCK};
    ckpt_step_folder(m.folder, o->run_dir, o->meta->step);
    file_join(m.model, sizeof m.model, m.folder, "model.h5");
    status_t st = comm_agree(o->world, plan(&m));
    if (st == STATUS_OK) st = import(&m);
    free(m.zeros);
    free(m.x);
    free(m.shards);
    free(m.pieces);
    free(m.blocks);
    return st;
}
