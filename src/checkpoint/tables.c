/* Small datasets, and the list of parameters, which is two of them. */
#include "checkpoint/checkpoint_impl.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/h5.h"
#include "core/log.h"

static const int64_t max_elements = (int64_t)1
                                    << 56; /* of a parameter: no sum overflows */

static status_t no_memory(const char *path)
{
    return status_set(STATUS_NOMEM, "%s: no memory for its tables", path);
}

status_t ckpt_table_write(hid_t file, const char *path, const char *name, hid_t type,
                          int64_t rows, int64_t cols, const void *data)
{
    const hsize_t shape[2] = {(hsize_t)rows, (hsize_t)cols};
    const hid_t space = h5_must(H5Screate_simple(cols > 0 ? 2 : 1, shape, NULL));
    const hid_t dcpl = h5_must(H5Pcreate(H5P_DATASET_CREATE));
    H5Pset_obj_track_times(dcpl, false);
    const hid_t d = H5Dcreate2(file, name, type, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);
    const bool failed =
        d < 0 || H5Dwrite(d, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0;
    status_t st = failed ? h5_fail(STATUS_IO, path, "write a dataset") : STATUS_OK;
    st = h5_close_written(d, path, st);
    H5Pclose(dcpl);
    H5Sclose(space);
    return st;
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

status_t ckpt_table_read(hid_t file, const char *path, const char *name, hid_t type,
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

/* ---- the list of parameters ---------------------------------------------------------------- */

status_t ckpt_params_write(hid_t file, const char *path,
                           const struct checkpoint_param *params, int64_t n_params)
{
    const size_t n = (size_t)n_params;
    char *names = calloc(n + 1, CKPT_NAME_BYTES);
    uint64_t *shapes = calloc(3 * n + 1, sizeof *shapes);
    status_t st = STATUS_OK;
    if (!names || !shapes) {
        st = status_set(STATUS_NOMEM, "%s: no memory for the parameter list", path);
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        const struct checkpoint_param *p = &params[i];
        memcpy(names + i * CKPT_NAME_BYTES, p->name, CKPT_NAME_BYTES);
        shapes[3 * i] = (uint64_t)p->n_dims;
        shapes[3 * i + 1] = (uint64_t)p->shape[0];
        shapes[3 * i + 2] = (uint64_t)p->shape[1];
    }
    const hid_t type = h5_must(H5Tcopy(H5T_C_S1));
    H5Tset_size(type, CKPT_NAME_BYTES);
    H5Tset_cset(type, H5T_CSET_UTF8);
    st = ckpt_table_write(file, path, "param_names", type, n_params, 0, names);
    H5Tclose(type);
    if (st == STATUS_OK)
        st = ckpt_table_write(file, path, "param_shapes", H5T_STD_U64LE, n_params, 3,
                              shapes);
out:
    free(shapes);
    free(names);
    return st;
}

/* What does not fit becomes -1, which no check lets pass. */
static int64_t to_signed(uint64_t v)
{
    return v <= INT64_MAX ? (int64_t)v : -1;
}

status_t ckpt_params_read(hid_t file, const char *path, struct checkpoint_param **params,
                          int64_t *n_params)
{
    const hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, CKPT_NAME_BYTES);
    H5Tset_cset(type, H5T_CSET_UTF8);
    void *names = NULL, *table = NULL;
    int64_t n = 0;
    status_t st = ckpt_table_read(file, path, "param_names", type, 0, n_params, &names);
    H5Tclose(type);
    if (st == STATUS_OK)
        st = ckpt_table_read(file, path, "param_shapes", H5T_STD_U64LE, 3, &n, &table);
    if (st == STATUS_OK && n != *n_params)
        st = status_set(STATUS_CHECKPOINT,
                        "%s: has %" PRId64 " names but %" PRId64 " shapes", path,
                        *n_params, n);
    if (st != STATUS_OK) goto out;
    const uint64_t *shapes = table;
    *params = calloc((size_t)n + 1, sizeof **params);
    if (!*params) {
        st = no_memory(path);
        goto out;
    }
    for (int64_t i = 0; i < n; i++) {
        struct checkpoint_param *p = &(*params)[i];
        memcpy(p->name, (char *)names + i * CKPT_NAME_BYTES, CKPT_NAME_BYTES);
        p->n_dims = shapes[3 * i] <= 2 ? (int)shapes[3 * i] : -1;
        p->shape[0] = to_signed(shapes[3 * i + 1]);
        p->shape[1] = to_signed(shapes[3 * i + 2]);
    }
out:
    free(table);
    free(names);
    return st;
}

static bool name_ok(const char name[CKPT_NAME_BYTES])
{
    if (name[0] == '\0' || !memchr(name, '\0', CKPT_NAME_BYTES)) return false;
    for (const char *p = name; *p; p++)
        if ((unsigned char)*p <= ' ' || *p == '/' || *p == 127) return false;
    return true;
}

status_t ckpt_params_check(const struct checkpoint_param *params, int64_t n,
                           const char *path, status_t bad)
{
    for (int64_t i = 0; i < n; i++) {
        const struct checkpoint_param *p = &params[i];
        if (!name_ok(p->name))
            return status_set(bad, "%s: parameter %" PRId64 " has no valid name", path,
                              i);
        if (p->n_dims < 1 || p->n_dims > 2 || p->shape[0] < 1 || p->shape[1] < 1 ||
            (p->n_dims == 1 && p->shape[1] != 1) ||
            p->shape[0] > max_elements / p->shape[1])
            return status_set(bad, "%s: parameter %s has an impossible shape", path,
                              p->name);
    }
    return STATUS_OK;
}
