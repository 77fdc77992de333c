#include "checkpoint/checkpoint_impl.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/h5.h"

static status_t no_memory(const char *path)
{
    return status_set(STATUS_NOMEM, "%s: no memory for its tables", path);
}

static status_t read_u64(hid_t file, const char *path, const char *name, int64_t cols,
                         int64_t *rows, uint64_t **data)
{
    void *p;
    const status_t st = ckpt_table_read(file, path, name, H5T_STD_U64LE, cols, rows, &p);
    *data = p;
    return st;
}

/* What does not fit becomes -1, which no check lets pass. */
static int64_t to_signed(uint64_t v)
{
    return v <= INT64_MAX ? (int64_t)v : -1;
}

static status_t read_pieces(hid_t file, const char *path, struct ckpt_index *x)
{
    enum { P = CKPT_PIECE_COLUMNS, H = CKPT_KINDS };
    uint64_t *rows = NULL, *hashes = NULL;
    int64_t n = 0;
    status_t st = read_u64(file, path, "index", P, &x->n_pieces, &rows);
    if (st == STATUS_OK) st = read_u64(file, path, "index_xxh3", H, &n, &hashes);
    if (st == STATUS_OK && n != x->n_pieces)
        st = status_set(STATUS_CHECKPOINT,
                        "%s: has %" PRId64 " pieces but %" PRId64 " hashes", path,
                        x->n_pieces, n);
    if (st != STATUS_OK) goto out;
    x->pieces = calloc((size_t)n + 1, sizeof *x->pieces);
    if (!x->pieces) {
        st = no_memory(path);
        goto out;
    }
    for (int64_t i = 0; i < n; i++) {
        const uint64_t *r = rows + P * i;
        struct ckpt_piece *p = &x->pieces[i];
        *p = (struct ckpt_piece){.param = to_signed(r[0]),
                                 .row = to_signed(r[1]),
                                 .col = to_signed(r[2]),
                                 .rows = to_signed(r[3]),
                                 .cols = to_signed(r[4]),
                                 .shard = to_signed(r[5]),
                                 .offset = to_signed(r[6])};
        memcpy(p->xxh3, hashes + H * i, sizeof p->xxh3);
    }
out:
    free(hashes);
    free(rows);
    return st;
}

static status_t read_shards(hid_t file, const char *path, struct ckpt_index *x)
{
    enum { S = CKPT_SHARD_COLUMNS };
    uint64_t *rows;
    TRY(read_u64(file, path, "shards", S, &x->n_shards, &rows));
    x->shards = calloc((size_t)x->n_shards + 1, sizeof *x->shards);
    for (int64_t i = 0; i < x->n_shards && x->shards; i++) {
        const uint64_t *r = rows + S * i;
        x->shards[i] = (struct ckpt_shard){
            .bytes = r[0], .seal = r[1], .elements = r[2], .offset = {r[3], r[4], r[5]}};
    }
    free(rows);
    return x->shards ? STATUS_OK : no_memory(path);
}

status_t ckpt_model_read(struct checkpoint *c)
{
    char path[PATH_MAX];
    file_join(path, sizeof path, c->path, "model.h5");
    hid_t file;
    TRY(h5_open(path, "model", STATUS_CHECKPOINT, &file));
    status_t st = ckpt_meta_read(file, path, &c->meta);
    uint64_t generation = 0;
    if (st == STATUS_OK)
        st = h5_read_u64(file, path, "generation", STATUS_CHECKPOINT, &generation);
    if (st == STATUS_OK && generation > INT64_MAX)
        st =
            status_set(STATUS_CHECKPOINT,
                       "%s: attribute generation is %" PRIu64 ", valid is up to 2^63 - 1",
                       path, generation);
    c->index.generation = (int64_t)generation;
    if (st == STATUS_OK)
        st = ckpt_params_read(file, path, &c->index.params, &c->index.n_params);
    if (st == STATUS_OK) st = read_pieces(file, path, &c->index);
    if (st == STATUS_OK) st = read_shards(file, path, &c->index);
    H5Fclose(file);
    return st == STATUS_OK ? ckpt_index_check(&c->index, path, STATUS_CHECKPOINT) : st;
}
