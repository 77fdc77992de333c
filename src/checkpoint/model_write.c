#include "checkpoint/checkpoint_impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/h5.h"
#include "core/log.h"

static status_t write_u64(hid_t file, const char *path, const char *name, int64_t rows,
                          int64_t cols, const uint64_t *data)
{
    return ckpt_table_write(file, path, name, H5T_STD_U64LE, rows, cols, data);
}

static status_t write_tables(hid_t file, const char *path, const struct ckpt_index *x)
{
    enum { P = CKPT_PIECE_COLUMNS, H = CKPT_KINDS, S = CKPT_SHARD_COLUMNS };
    const size_t n = (size_t)x->n_pieces, m = (size_t)x->n_shards;
    uint64_t *pieces = calloc(P * n + 1, 8), *hashes = calloc(H * n + 1, 8);
    uint64_t *shards = calloc(S * m + 1, 8);
    status_t st = STATUS_OK;
    if (!pieces || !hashes || !shards) {
        st = status_set(STATUS_NOMEM, "%s: no memory for the index", path);
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        const struct ckpt_piece *p = &x->pieces[i];
        const int64_t row[P] = {p->param, p->row,   p->col,   p->rows,
                                p->cols,  p->shard, p->offset};
        for (size_t k = 0; k < P; k++) pieces[P * i + k] = (uint64_t)row[k];
        memcpy(hashes + H * i, p->xxh3, sizeof p->xxh3);
    }
    for (size_t i = 0; i < m; i++) {
        const struct ckpt_shard *h = &x->shards[i];
        const uint64_t row[S] = {h->bytes,     h->seal,      h->elements,
                                 h->offset[0], h->offset[1], h->offset[2]};
        memcpy(shards + S * i, row, sizeof row);
    }
    st = write_u64(file, path, "index", x->n_pieces, P, pieces);
    if (st == STATUS_OK) st = write_u64(file, path, "index_xxh3", x->n_pieces, H, hashes);
    if (st == STATUS_OK) st = write_u64(file, path, "shards", x->n_shards, S, shards);
out:
    free(shards);
    free(hashes);
    free(pieces);
    return st;
}

/* Add one piece to the mapping of a virtual dataset. */
static bool map_piece(hid_t dcpl, hid_t space, const struct ckpt_index *x,
                      const struct ckpt_piece *p, const char *dataset)
{
    char file[64];
    ckpt_shard_name(file, p->shard, x->generation);
    const hsize_t elements = x->shards[p->shard].elements;
    const hsize_t offset = (hsize_t)p->offset, n = (hsize_t)ckpt_elements(p);
    const hsize_t start[2] = {(hsize_t)p->row, (hsize_t)p->col};
    const hsize_t count[2] = {(hsize_t)p->rows, (hsize_t)p->cols};
    const hid_t source = h5_must(H5Screate_simple(1, &elements, NULL));
    const bool ok =
        H5Sselect_hyperslab(source, H5S_SELECT_SET, &offset, NULL, &n, NULL) >= 0 &&
        H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 &&
        H5Pset_virtual(dcpl, space, file, dataset, source) >= 0;
    H5Sclose(source);
    return ok;
}

/* The virtual dataset of parameter `i`, whose pieces are those listed in order[0..n). */
static status_t write_virtual(hid_t file, const char *path, const struct ckpt_index *x,
                              int64_t i, int kind, const int64_t *order, int64_t n)
{
    const struct checkpoint_param *p = &x->params[i];
    char name[CKPT_NAME_BYTES + 64];
    snprintf(name, sizeof name, "%s/%s", ckpt_group[kind], p->name);
    const hsize_t shape[2] = {(hsize_t)p->shape[0], (hsize_t)p->shape[1]};
    const hid_t space = h5_must(H5Screate_simple(p->n_dims, shape, NULL));
    const hid_t lcpl = h5_must(H5Pcreate(H5P_LINK_CREATE));
    const hid_t dcpl = h5_must(H5Pcreate(H5P_DATASET_CREATE));
    H5Pset_create_intermediate_group(lcpl, 1);
    H5Pset_obj_track_times(dcpl, false);
    bool ok = true;
    for (int64_t k = 0; k < n && ok; k++)
        ok = map_piece(dcpl, space, x, &x->pieces[order[k]], checkpoint_kind_name[kind]);
    if (ok) ok = H5Sselect_all(space) >= 0;
    hid_t d = H5I_INVALID_HID;
    if (ok) d = H5Dcreate2(file, name, H5T_IEEE_F32LE, space, lcpl, dcpl, H5P_DEFAULT);
    status_t st = d < 0 ? h5_fail(STATUS_IO, path, "make a virtual dataset") : STATUS_OK;
    st = h5_close_written(d, path, st);
    H5Pclose(dcpl);
    H5Pclose(lcpl);
    H5Sclose(space);
    return st;
}

static status_t write_virtuals(hid_t file, const char *path, const struct ckpt_index *x)
{
    struct ckpt_order o;
    TRY(ckpt_order_init(&o, x));
    status_t st = STATUS_OK;
    for (int kind = 0; kind < CKPT_KINDS; kind++)
        for (int64_t i = 0; i < x->n_params && st == STATUS_OK; i++)
            st = write_virtual(file, path, x, i, kind, o.piece + o.first[i],
                               o.first[i + 1] - o.first[i]);
    ckpt_order_release(&o);
    return st;
}

status_t ckpt_model_write(const char *path, const struct ckpt_index *x,
                          const struct checkpoint_meta *meta)
{
    hid_t file;
    TRY(h5_create(path, &file));
    status_t st = ckpt_meta_write(file, meta);
    if (st == STATUS_OK) st = h5_write_u64(file, "generation", (uint64_t)x->generation);
    if (st == STATUS_OK) st = ckpt_params_write(file, path, x->params, x->n_params);
    if (st == STATUS_OK) st = write_tables(file, path, x);
    if (st == STATUS_OK) st = write_virtuals(file, path, x);
    if (H5Fclose(file) < 0 && st == STATUS_OK)
        st = h5_fail(STATUS_IO, path, "close the file");
    return st == STATUS_OK ? h5_seal(path, "model", NULL, 0) : st;
}
