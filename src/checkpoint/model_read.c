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

/* Extents of dataset d, which must be two-dimensional with `cols` columns, or one-dimensional
 * if that is 0, of elements of `type`, and no larger than the file. */
static status_t check_extents(hid_t d, const char *path, const char *name, hid_t type,
                              int64_t cols, uint64_t file_bytes, int64_t *rows)
{
    hsize_t shape[2] = {0};
    const hid_t space = H5Dget_space(d), found = H5Dget_type(d);
    const int n_dims = cols > 0 ? 2 : 1;
    bool ok = H5Tequal(found, type) > 0 && H5Sget_simple_extent_ndims(space) == n_dims &&
              H5Sget_simple_extent_dims(space, shape, NULL) == n_dims;
    const uint64_t row_bytes = H5Tget_size(type) * (uint64_t)(cols > 0 ? cols : 1);
    ok = ok && (cols == 0 || shape[1] == (hsize_t)cols) &&
         shape[0] <= file_bytes / row_bytes;
    H5Tclose(found);
    H5Sclose(space);
    if (!ok)
        return status_set(
            STATUS_CHECKPOINT,
            "%s: dataset /%s is not of the type and shape that version %d has", path,
            name, CKPT_VERSION);
    *rows = (int64_t)shape[0];
    return STATUS_OK;
}

/* A whole dataset; caller frees *data. */
static status_t read_dataset(hid_t file, const char *path, const char *name, hid_t type,
                             int64_t cols, int64_t *rows, void **data)
{
    *data = NULL;
    hsize_t file_bytes = 0;
    H5Fget_filesize(file, &file_bytes);
    const hid_t d = H5Dopen2(file, name, H5P_DEFAULT);
    if (d < 0) return status_set(STATUS_CHECKPOINT, "%s: has no dataset /%s", path, name);
    status_t st = check_extents(d, path, name, type, cols, file_bytes, rows);
    if (st == STATUS_OK) {
        const size_t bytes =
            H5Tget_size(type) * (size_t)(cols > 0 ? cols : 1) * (size_t)*rows;
        *data = malloc(bytes + 1);
        if (!*data)
            st = no_memory(path);
        else if (H5Dread(d, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, *data) < 0)
            st = h5_fail(STATUS_CHECKPOINT, path, "read a dataset");
    }
    H5Dclose(d);
    if (st != STATUS_OK) {
        free(*data);
        *data = NULL;
    }
    return st;
}

static status_t read_u64(hid_t file, const char *path, const char *name, int64_t cols,
                         int64_t *rows, uint64_t **data)
{
    void *p;
    const status_t st = read_dataset(file, path, name, H5T_STD_U64LE, cols, rows, &p);
    *data = p;
    return st;
}

/* What does not fit becomes -1, which no check lets pass. */
static int64_t to_signed(uint64_t v)
{
    return v <= INT64_MAX ? (int64_t)v : -1;
}

static status_t read_params(hid_t file, const char *path, struct ckpt_index *x)
{
    const hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, CKPT_NAME_BYTES);
    H5Tset_cset(type, H5T_CSET_UTF8);
    void *names = NULL;
    uint64_t *shapes = NULL;
    int64_t n = 0;
    status_t st = read_dataset(file, path, "param_names", type, 0, &x->n_params, &names);
    H5Tclose(type);
    if (st == STATUS_OK) st = read_u64(file, path, "param_shapes", 3, &n, &shapes);
    if (st == STATUS_OK && n != x->n_params)
        st = status_set(STATUS_CHECKPOINT,
                        "%s: has %" PRId64 " names but %" PRId64 " shapes", path,
                        x->n_params, n);
    if (st != STATUS_OK) goto out;
    x->params = calloc((size_t)n + 1, sizeof *x->params);
    if (!x->params) {
        st = no_memory(path);
        goto out;
    }
    for (int64_t i = 0; i < n; i++) {
        struct ckpt_param *p = &x->params[i];
        memcpy(p->name, (char *)names + i * CKPT_NAME_BYTES, CKPT_NAME_BYTES);
        p->n_dims = shapes[3 * i] <= 2 ? (int)shapes[3 * i] : -1;
        p->shape[0] = to_signed(shapes[3 * i + 1]);
        p->shape[1] = to_signed(shapes[3 * i + 2]);
    }
out:
    free(shapes);
    free(names);
    return st;
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

static status_t read_i64(hid_t file, const char *path, const char *name, int64_t *value)
{
    uint64_t v;
    TRY(h5_read_u64(file, path, name, STATUS_CHECKPOINT, &v));
    if (v > INT64_MAX)
        return status_set(STATUS_CHECKPOINT,
                          "%s: attribute %s is %" PRIu64 ", valid is up to 2^63 - 1",
                          path, name, v);
    *value = (int64_t)v;
    return STATUS_OK;
}

static status_t read_meta(hid_t file, const char *path, struct checkpoint *c)
{
    struct checkpoint_meta *m = &c->meta;
    uint64_t version;
    TRY(h5_read_u64(file, path, "version", STATUS_CHECKPOINT, &version));
    if (version != CKPT_VERSION)
        return status_set(STATUS_CHECKPOINT,
                          "%s: is of format version %" PRIu64 ", this program reads %d",
                          path, version, CKPT_VERSION);
    TRY(read_i64(file, path, "generation", &c->index.generation));
    TRY(read_i64(file, path, "step", &m->step));
    TRY(read_i64(file, path, "next_sample", &m->next_sample));
    TRY(read_i64(file, path, "tokens", &m->tokens));
    TRY(read_i64(file, path, "skipped_steps", &m->skipped_steps));
    TRY(read_i64(file, path, "log_targets", &m->log_targets));
    TRY(h5_read_f64(file, path, "log_loss_sum", STATUS_CHECKPOINT, &m->log_loss_sum));
    TRY(h5_read_f64(file, path, "loss_scale", STATUS_CHECKPOINT, &m->loss_scale));
    TRY(read_i64(file, path, "loss_scale_steps", &m->loss_scale_steps));
    TRY(h5_read_u64(file, path, "seed", STATUS_CHECKPOINT, &m->seed));
    TRY(read_i64(file, path, "spike_count", &m->spike_count));
    TRY(h5_read_f64(file, path, "spike_mean", STATUS_CHECKPOINT, &m->spike_mean));
    TRY(h5_read_f64(file, path, "spike_variance", STATUS_CHECKPOINT, &m->spike_variance));
    TRY(read_i64(file, path, "rollbacks", &m->rollbacks));
    TRY(h5_read_f64(file, path, "validation_loss", STATUS_CHECKPOINT,
                    &m->validation_loss));
    TRY(read_i64(file, path, "metrics_bytes", &m->metrics_bytes));
    TRY(h5_read_str(file, path, "config", STATUS_CHECKPOINT, &m->config));
    TRY(h5_read_str(file, path, "versions", STATUS_CHECKPOINT, &m->versions));
    return h5_read_str(file, path, "data", STATUS_CHECKPOINT, &m->data);
}

status_t ckpt_model_read(struct checkpoint *c)
{
    char path[PATH_MAX];
    file_join(path, sizeof path, c->path, "model.h5");
    hid_t file;
    TRY(h5_open(path, "model", STATUS_CHECKPOINT, &file));
    status_t st = read_meta(file, path, c);
    if (st == STATUS_OK) st = read_params(file, path, &c->index);
    if (st == STATUS_OK) st = read_pieces(file, path, &c->index);
    if (st == STATUS_OK) st = read_shards(file, path, &c->index);
    H5Fclose(file);
    return st == STATUS_OK ? ckpt_index_check(&c->index, path, STATUS_CHECKPOINT) : st;
}
