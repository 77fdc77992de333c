#include "checkpoint/checkpoint_impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/h5.h"
#include "core/log.h"

/* Property lists and dataspaces fail only without memory. */
static hid_t must(hid_t id)
{
    if (id < 0) die("HDF5 is out of memory");
    return id;
}

static status_t write_dataset(hid_t file, const char *path, const char *name, hid_t type,
                              int64_t rows, int64_t cols, const void *data)
{
    const hsize_t shape[2] = {(hsize_t)rows, (hsize_t)cols};
    const hid_t space = must(H5Screate_simple(cols > 0 ? 2 : 1, shape, NULL));
    const hid_t dcpl = must(H5Pcreate(H5P_DATASET_CREATE));
    H5Pset_obj_track_times(dcpl, false);
    const hid_t d = H5Dcreate2(file, name, type, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);
    const bool failed =
        d < 0 || H5Dwrite(d, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0;
    const status_t st = failed ? h5_fail(STATUS_IO, path, "write a dataset") : STATUS_OK;
    if (d >= 0) H5Dclose(d);
    H5Pclose(dcpl);
    H5Sclose(space);
    return st;
}

static status_t write_u64(hid_t file, const char *path, const char *name, int64_t rows,
                          int64_t cols, const uint64_t *data)
{
    return write_dataset(file, path, name, H5T_STD_U64LE, rows, cols, data);
}

static status_t write_params(hid_t file, const char *path, const struct ckpt_index *x)
{
    const size_t n = (size_t)x->n_params;
    char *names = calloc(n + 1, CKPT_NAME_BYTES);
    uint64_t *shapes = calloc(3 * n + 1, sizeof *shapes);
    status_t st = STATUS_OK;
    if (!names || !shapes) {
        st = status_set(STATUS_NOMEM, "%s: no memory for the parameter list", path);
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        const struct ckpt_param *p = &x->params[i];
        memcpy(names + i * CKPT_NAME_BYTES, p->name, CKPT_NAME_BYTES);
        shapes[3 * i] = (uint64_t)p->n_dims;
        shapes[3 * i + 1] = (uint64_t)p->shape[0];
        shapes[3 * i + 2] = (uint64_t)p->shape[1];
    }
    const hid_t type = must(H5Tcopy(H5T_C_S1));
    H5Tset_size(type, CKPT_NAME_BYTES);
    H5Tset_cset(type, H5T_CSET_UTF8);
    st = write_dataset(file, path, "param_names", type, x->n_params, 0, names);
    H5Tclose(type);
    if (st == STATUS_OK)
        st = write_u64(file, path, "param_shapes", x->n_params, 3, shapes);
out:
    free(shapes);
    free(names);
    return st;
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
    const hid_t source = must(H5Screate_simple(1, &elements, NULL));
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
    const struct ckpt_param *p = &x->params[i];
    char name[CKPT_NAME_BYTES + 64];
    snprintf(name, sizeof name, "%s/%s", ckpt_group[kind], p->name);
    const hsize_t shape[2] = {(hsize_t)p->shape[0], (hsize_t)p->shape[1]};
    const hid_t space = must(H5Screate_simple(p->n_dims, shape, NULL));
    const hid_t lcpl = must(H5Pcreate(H5P_LINK_CREATE));
    const hid_t dcpl = must(H5Pcreate(H5P_DATASET_CREATE));
    H5Pset_create_intermediate_group(lcpl, 1);
    H5Pset_obj_track_times(dcpl, false);
    bool ok = true;
    for (int64_t k = 0; k < n && ok; k++)
        ok = map_piece(dcpl, space, x, &x->pieces[order[k]], ckpt_dataset[kind]);
    if (ok) ok = H5Sselect_all(space) >= 0;
    hid_t d = H5I_INVALID_HID;
    if (ok) d = H5Dcreate2(file, name, H5T_IEEE_F32LE, space, lcpl, dcpl, H5P_DEFAULT);
    const status_t st =
        d < 0 ? h5_fail(STATUS_IO, path, "make a virtual dataset") : STATUS_OK;
    if (d >= 0) H5Dclose(d);
    H5Pclose(dcpl);
    H5Pclose(lcpl);
    H5Sclose(space);
    return st;
}

static status_t write_virtuals(hid_t file, const char *path, const struct ckpt_index *x)
{
    /* pieces by parameter: a counting sort into `order`, which starts at first[i] */
    int64_t *first = calloc((size_t)x->n_params + 2, sizeof *first);
    int64_t *order = calloc((size_t)x->n_pieces + 1, sizeof *order);
    status_t st = STATUS_OK;
    if (!first || !order) {
        st = status_set(STATUS_NOMEM, "%s: no memory for the index", path);
        goto out;
    }
    for (int64_t j = 0; j < x->n_pieces; j++) first[x->pieces[j].param + 2]++;
    for (int64_t i = 0; i < x->n_params; i++) first[i + 2] += first[i + 1];
    for (int64_t j = 0; j < x->n_pieces; j++) order[first[x->pieces[j].param + 1]++] = j;
    for (int kind = 0; kind < CKPT_KINDS; kind++)
        for (int64_t i = 0; i < x->n_params && st == STATUS_OK; i++)
            st = write_virtual(file, path, x, i, kind, order + first[i],
                               first[i + 1] - first[i]);
out:
    free(order);
    free(first);
    return st;
}

static status_t write_meta(hid_t file, const struct ckpt_index *x,
                           const struct checkpoint_meta *m)
{
    TRY(h5_write_u64(file, "version", CKPT_VERSION));
    TRY(h5_write_u64(file, "generation", (uint64_t)x->generation));
    TRY(h5_write_u64(file, "step", (uint64_t)m->step));
    TRY(h5_write_u64(file, "next_sample", (uint64_t)m->next_sample));
    TRY(h5_write_u64(file, "tokens", (uint64_t)m->tokens));
    TRY(h5_write_u64(file, "skipped_steps", (uint64_t)m->skipped_steps));
    TRY(h5_write_u64(file, "log_targets", (uint64_t)m->log_targets));
    TRY(h5_write_f64(file, "log_loss_sum", m->log_loss_sum));
    TRY(h5_write_f64(file, "loss_scale", m->loss_scale));
    TRY(h5_write_u64(file, "loss_scale_steps", (uint64_t)m->loss_scale_steps));
    TRY(h5_write_u64(file, "seed", m->seed));
    TRY(h5_write_u64(file, "spike_count", (uint64_t)m->spike_count));
    TRY(h5_write_f64(file, "spike_mean", m->spike_mean));
    TRY(h5_write_f64(file, "spike_variance", m->spike_variance));
    TRY(h5_write_u64(file, "rollbacks", (uint64_t)m->rollbacks));
    TRY(h5_write_f64(file, "validation_loss", m->validation_loss));
    TRY(h5_write_u64(file, "metrics_bytes", (uint64_t)m->metrics_bytes));
    TRY(h5_write_str(file, "config", m->config ? m->config : ""));
    TRY(h5_write_str(file, "versions", m->versions ? m->versions : "{}"));
    return h5_write_str(file, "data", m->data ? m->data : "{}");
}

status_t ckpt_model_write(const char *path, const struct ckpt_index *x,
                          const struct checkpoint_meta *meta)
{
    hid_t file;
    TRY(h5_create(path, &file));
    status_t st = write_meta(file, x, meta);
    if (st == STATUS_OK) st = write_params(file, path, x);
    if (st == STATUS_OK) st = write_tables(file, path, x);
    if (st == STATUS_OK) st = write_virtuals(file, path, x);
    if (H5Fclose(file) < 0 && st == STATUS_OK)
        st = h5_fail(STATUS_IO, path, "close the file");
    return st == STATUS_OK ? h5_seal(path, "model", NULL, 0) : st;
}
