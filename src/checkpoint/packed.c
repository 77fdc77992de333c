/* A model's state as one plain HDF5 file:
 *
 *   /model/NAME, /optimizer/exp_avg/NAME, /optimizer/exp_avg_sq/NAME   fp32, contiguous
 *   /param_names, /param_shapes     as in model.h5
 *   /param_xxh3                     uint64 [params, 3]: hash of each dataset, taken from memory
 *   attributes                      as in model.h5, without `generation`
 *
 * Sealed (kind "packed") without regions, so that every byte is under the seal's hash. */
#include "checkpoint/checkpoint_impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/h5.h"
#include "core/hash.h"

enum { PATH_BYTES = CKPT_NAME_BYTES + 64 };

static void dataset_path(char path[PATH_BYTES], int kind, const char *name)
{
    snprintf(path, PATH_BYTES, "%s/%s", ckpt_group[kind], name);
}

/* The largest tensor, in elements. */
static int64_t largest(const struct checkpoint_source *s)
{
    int64_t n = 1;
    for (int i = 0; i < s->n_params; i++) {
        const int64_t m = checkpoint_param_elements(&s->params[i]);
        if (m > n) n = m;
    }
    return n;
}

/* ---- writing -------------------------------------------------------------------------------- */

static status_t write_tensor(hid_t file, const char *path,
                             const struct checkpoint_param *p, int kind, const float *x)
{
    char name[PATH_BYTES];
    dataset_path(name, kind, p->name);
    const hsize_t shape[2] = {(hsize_t)p->shape[0], (hsize_t)p->shape[1]};
    const hid_t space = h5_must(H5Screate_simple(p->n_dims, shape, NULL));
    const hid_t lcpl = h5_must(H5Pcreate(H5P_LINK_CREATE));
    const hid_t dcpl = h5_must(H5Pcreate(H5P_DATASET_CREATE));
    H5Pset_create_intermediate_group(lcpl, 1);
    H5Pset_obj_track_times(dcpl, false);
    H5Pset_fill_time(dcpl, H5D_FILL_TIME_NEVER);
    const hid_t d =
        H5Dcreate2(file, name, H5T_IEEE_F32LE, space, lcpl, dcpl, H5P_DEFAULT);
    const bool failed =
        d < 0 || H5Dwrite(d, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, x) < 0;
    status_t st = failed ? h5_fail(STATUS_IO, path, "write a dataset") : STATUS_OK;
    st = h5_close_written(d, path, st);
    H5Pclose(dcpl);
    H5Pclose(lcpl);
    H5Sclose(space);
    return st;
}

/* xxh3: [n_params, kinds]. */
static status_t write_tensors(hid_t file, const char *path, struct checkpoint_source *s,
                              uint64_t *xxh3)
{
    float *x = malloc((size_t)largest(s) * sizeof *x);
    if (!x) return status_set(STATUS_NOMEM, "%s: no memory for a tensor", path);
    status_t st = STATUS_OK;
    for (int k = 0; k < CKPT_KINDS; k++) {
        for (int i = 0; i < s->n_params && st == STATUS_OK; i++) {
            const struct checkpoint_param *p = &s->params[i];
            st = s->read(s, i, (enum checkpoint_kind)k, x);
            if (st != STATUS_OK) break;
            xxh3[CKPT_KINDS * i + k] =
                hash_xxh3(x, (size_t)checkpoint_param_elements(p) * sizeof *x);
            st = write_tensor(file, path, p, k, x);
        }
    }
    free(x);
    return st;
}

static status_t write_all(hid_t file, const char *path, struct checkpoint_source *s)
{
    uint64_t *xxh3 = calloc((size_t)s->n_params * CKPT_KINDS + 1, sizeof *xxh3);
    if (!xxh3) return status_set(STATUS_NOMEM, "%s: no memory for the hashes", path);
    status_t st = ckpt_meta_write(file, s->meta);
    if (st == STATUS_OK) st = ckpt_params_write(file, path, s->params, s->n_params);
    if (st == STATUS_OK) st = write_tensors(file, path, s, xxh3);
    if (st == STATUS_OK)
        st = ckpt_table_write(file, path, "param_xxh3", H5T_STD_U64LE, s->n_params,
                              CKPT_KINDS, xxh3);
    free(xxh3);
    return st;
}

status_t checkpoint_pack(const char *path, struct checkpoint_source *s)
{
    hid_t file;
    char tmp[PATH_MAX];
    if (file_exists(path))
        return status_set(STATUS_IO, "%s: exists; give another name", path);
    TRY(h5_create(path, &file));
    status_t st = write_all(file, path, s);
    if (H5Fclose(file) < 0 && st == STATUS_OK)
        st = h5_fail(STATUS_IO, path, "close the file");
    if (st == STATUS_OK) st = h5_seal(path, "packed", NULL, 0);
    if (st == STATUS_OK) st = file_commit(path);
    if (st == STATUS_OK) return st;
    if (snprintf(tmp, sizeof tmp, "%s.tmp", path) < PATH_MAX) remove(tmp);
    return st;
}

/* ---- reading -------------------------------------------------------------------------------- */

struct packed {
    char path[PATH_MAX];
    hid_t file;
    struct checkpoint_meta meta;
    struct checkpoint_param *params;
    int64_t n_params;
    uint64_t *xxh3;
};

static void packed_close(struct checkpoint_source *s)
{
    struct packed *p = s->state;
    if (p->file >= 0) H5Fclose(p->file);
    checkpoint_meta_release(&p->meta);
    free(p->params);
    free(p->xxh3);
    free(p);
}

static bool dataset_fits(hid_t d, const struct checkpoint_param *q)
{
    hsize_t shape[2] = {0, 1};
    const hid_t type = H5Dget_type(d), space = H5Dget_space(d);
    const bool ok = H5Tequal(type, H5T_IEEE_F32LE) > 0 &&
                    H5Sget_simple_extent_ndims(space) == q->n_dims &&
                    H5Sget_simple_extent_dims(space, shape, NULL) == q->n_dims &&
                    shape[0] == (hsize_t)q->shape[0] && shape[1] == (hsize_t)q->shape[1];
    H5Tclose(type);
    H5Sclose(space);
    return ok;
}

static status_t packed_read(struct checkpoint_source *s, int param,
                            enum checkpoint_kind kind, float *x)
{
    const struct packed *p = s->state;
    const struct checkpoint_param *q = &p->params[param];
    char name[PATH_BYTES];
    dataset_path(name, (int)kind, q->name);
    const hid_t d = H5Dopen2(p->file, name, H5P_DEFAULT);
    if (d < 0)
        return status_set(STATUS_CHECKPOINT, "%s: has no dataset %s", p->path, name);
    status_t st = STATUS_OK;
    if (!dataset_fits(d, q))
        st = status_set(STATUS_CHECKPOINT,
                        "%s: dataset %s is not of the type and shape that /param_shapes "
                        "says",
                        p->path, name);
    else if (H5Dread(d, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, x) < 0)
        st = h5_fail(STATUS_CHECKPOINT, p->path, "read a dataset");
    else if (hash_xxh3(x, (size_t)checkpoint_param_elements(q) * sizeof *x) !=
             p->xxh3[CKPT_KINDS * param + (int)kind])
        st = status_set(STATUS_CHECKPOINT, "%s: is damaged: %s does not match its hash",
                        p->path, name);
    H5Dclose(d);
    return st;
}

static status_t read_tables(struct packed *p)
{
    int64_t n;
    void *xxh3 = NULL;
    TRY(h5_open(p->path, "packed", STATUS_CHECKPOINT, &p->file));
    TRY(ckpt_meta_read(p->file, p->path, &p->meta));
    TRY(ckpt_params_read(p->file, p->path, &p->params, &p->n_params));
    TRY(ckpt_params_check(p->params, p->n_params, p->path, STATUS_CHECKPOINT));
    TRY(ckpt_table_read(p->file, p->path, "param_xxh3", H5T_STD_U64LE, CKPT_KINDS, &n,
                        &xxh3));
    p->xxh3 = xxh3;
    if (n == p->n_params && n <= INT_MAX) return STATUS_OK;
    return status_set(STATUS_CHECKPOINT,
                      "%s: has %" PRId64 " names but %" PRId64 " hashes", p->path,
                      p->n_params, n);
}

status_t ckpt_packed_open(struct checkpoint_source *s, const char *path)
{
    struct packed *p = calloc(1, sizeof *p);
    *s = (struct checkpoint_source){0};
    if (!p) return status_set(STATUS_NOMEM, "%s: no memory to open it", path);
    p->file = H5I_INVALID_HID;
    snprintf(p->path, sizeof p->path, "%s", path);
    const status_t st = read_tables(p);
    *s = (struct checkpoint_source){.name = p->path,
                                    .meta = &p->meta,
                                    .params = p->params,
                                    .n_params = (int)p->n_params,
                                    .read = packed_read,
                                    .close = packed_close,
                                    .state = p};
    if (st != STATUS_OK) checkpoint_source_close(s);
    return st;
}

bool checkpoint_is_packed(const char *path)
{
    static const char start[] = "yoke-seal 1 packed ";
    char block[sizeof start] = "";
    FILE *f = fopen(path, "rb");
    if (!f) return false;
    const size_t n = fread(block, 1, sizeof start - 1, f);
    fclose(f);
    return n == sizeof start - 1 && strcmp(block, start) == 0;
}

status_t checkpoint_verify_packed(const char *path)
{
    struct checkpoint_source s;
    TRY(ckpt_packed_open(&s, path)); /* which checks the seal, and so every byte */
    float *x = malloc((size_t)largest(&s) * sizeof *x);
    status_t st =
        x ? STATUS_OK : status_set(STATUS_NOMEM, "%s: no memory for a tensor", path);
    for (int k = 0; k < CKPT_KINDS; k++)
        for (int i = 0; i < s.n_params && st == STATUS_OK; i++)
            st = s.read(&s, i, (enum checkpoint_kind)k, x);
    free(x);
    checkpoint_source_close(&s);
    return st;
}
