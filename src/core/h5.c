#include "core/h5.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"

enum { REASON_BYTES = PATH_MAX + 512 };

void h5_init(void)
{
    /* Outside src/config because libhdf5 offers no other switch in 1.10 and reads it at its
     * first call; a user's own value stays. */
    setenv("HDF5_USE_FILE_LOCKING", "FALSE", 0);
    /* After a write that failed (a full disk) 1.10.8 keeps a half-closed file, which is only a
     * leak until its exit handler follows a dangling pointer.  We close what we open. */
    H5dont_atexit();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* the setting is per thread */
}

static herr_t keep_innermost(unsigned n, const H5E_error2_t *e, void *out)
{
    if (n == 0) snprintf(out, REASON_BYTES, "%s", e->desc ? e->desc : "");
    return 0;
}

status_t h5_close_written(hid_t dataset, const char *path, status_t st)
{
    if (dataset >= 0 && H5Dclose(dataset) < 0 && st == STATUS_OK)
        return h5_fail(STATUS_IO, path, "write the end of a dataset");
    return st;
}

hid_t h5_must(hid_t id)
{
    if (id < 0) die("HDF5 is out of memory");
    return id;
}

status_t h5_fail(status_t code, const char *path, const char *what)
{
    char reason[REASON_BYTES] = "";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_innermost, reason);
    H5Eclear2(H5E_DEFAULT);
    /* the file drivers bury strerror in a list that begins with ctime and its newline */
    const char *text = strstr(reason, "error message = '");
    text = text ? text + strlen("error message = '") : reason;
    const int n = (int)strcspn(text, "'\n");
    return status_set(code, "%s: HDF5 cannot %s: %.*s", path, what, n, text);
}

/* ---- files and datasets ---------------------------------------------------------------- */

status_t h5_create(const char *path, hid_t *file)
{
    *file = H5I_INVALID_HID;
    char tmp[PATH_MAX];
    if (snprintf(tmp, sizeof tmp, "%s.tmp", path) >= PATH_MAX)
        return status_set(STATUS_IO, "%s: the name is too long", path);
    h5_init();
    const hid_t fcpl = H5Pcreate(H5P_FILE_CREATE);
    if (fcpl < 0 || H5Pset_userblock(fcpl, H5_BLOCK_BYTES) < 0)
        die("HDF5 is out of memory");
    *file = H5Fcreate(tmp, H5F_ACC_TRUNC, fcpl, H5P_DEFAULT);
    const status_t st =
        *file < 0 ? h5_fail(STATUS_IO, tmp, "create the file") : STATUS_OK;
    H5Pclose(fcpl);
    return st;
}

status_t h5_open(const char *path, const char *kind, status_t bad, hid_t *file)
{
    *file = H5I_INVALID_HID;
    TRY(h5_check_seal(path, kind, bad, NULL));
    h5_init();
    *file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    return *file < 0 ? h5_fail(bad, path, "open the file") : STATUS_OK;
}

status_t h5_dataset_region(hid_t dataset, struct h5_region *region)
{
    *region = (struct h5_region){0};
    const hid_t dcpl = H5Dget_create_plist(dataset);
    const bool contiguous = H5Pget_layout(dcpl) == H5D_CONTIGUOUS;
    H5Pclose(dcpl);
    const hid_t space = H5Dget_space(dataset);
    const hssize_t points = H5Sget_simple_extent_npoints(space);
    H5Sclose(space);
    if (contiguous && points == 0) return STATUS_OK;
    const haddr_t offset = contiguous ? H5Dget_offset(dataset) : HADDR_UNDEF;
    H5Eclear2(H5E_DEFAULT);
    if (offset == HADDR_UNDEF)
        return status_set(STATUS_IO, "an HDF5 dataset is not stored in one piece");
    *region = (struct h5_region){.offset = offset, .bytes = H5Dget_storage_size(dataset)};
    return STATUS_OK;
}

/* ---- attributes ------------------------------------------------------------------------ */

static status_t write_attribute(hid_t object, const char *name, hid_t file_type,
                                hid_t memory_type, const void *value)
{
    char path[PATH_MAX] =
        ""; /* before the call that may fail, for it empties the stack */
    H5Fget_name(object, path, sizeof path);
    const hid_t space = H5Screate(H5S_SCALAR);
    const hid_t a = H5Acreate2(object, name, file_type, space, H5P_DEFAULT, H5P_DEFAULT);
    const bool written = a >= 0 && H5Awrite(a, memory_type, value) >= 0;
    const bool closed = a >= 0 && H5Aclose(a) >= 0;
    char what[128];
    snprintf(what, sizeof what, "write attribute %s", name);
    const status_t st = written && closed ? STATUS_OK : h5_fail(STATUS_IO, path, what);
    H5Sclose(space);
    return st;
}

/* Variable length, because an attribute of fixed length ends at 64 KiB. */
static hid_t string_type(void)
{
    const hid_t type = H5Tcopy(H5T_C_S1);
    if (type < 0 || H5Tset_size(type, H5T_VARIABLE) < 0 ||
        H5Tset_cset(type, H5T_CSET_UTF8) < 0)
        die("HDF5 is out of memory");
    return type;
}

status_t h5_write_str(hid_t object, const char *name, const char *value)
{
    const hid_t type = string_type();
    const status_t st = write_attribute(object, name, type, type, &value);
    H5Tclose(type);
    return st;
}

status_t h5_write_u64(hid_t object, const char *name, uint64_t value)
{
    return write_attribute(object, name, H5T_STD_U64LE, H5T_NATIVE_UINT64, &value);
}

status_t h5_write_f64(hid_t object, const char *name, double value)
{
    return write_attribute(object, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &value);
}

bool h5_has(hid_t object, const char *name)
{
    return H5Aexists(object, name) > 0;
}

/* Is the attribute one value of the kind that `memory_type` stands for? */
static bool fits(hid_t attribute, hid_t memory_type)
{
    const hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    const H5T_class_t class = H5Tget_class(memory_type);
    bool ok = H5Tget_class(type) == class && H5Sget_simple_extent_npoints(space) == 1;
    if (class == H5T_STRING) ok = ok && H5Tis_variable_str(type) > 0;
    if (class == H5T_INTEGER) ok = ok && H5Tget_sign(type) == H5T_SGN_NONE;
    H5Tclose(type);
    H5Sclose(space);
    return ok;
}

static status_t read_attribute(hid_t object, const char *path, const char *name,
                               status_t bad, const char *wanted, hid_t memory_type,
                               void *value)
{
    if (!h5_has(object, name))
        return status_set(bad, "%s: has no attribute %s", path, name);
    const hid_t a = H5Aopen(object, name, H5P_DEFAULT);
    status_t st = STATUS_OK;
    if (a < 0)
        st = h5_fail(bad, path, "open an attribute");
    else if (!fits(a, memory_type))
        st = status_set(bad, "%s: attribute %s is not %s", path, name, wanted);
    else if (H5Aread(a, memory_type, value) < 0)
        st = h5_fail(bad, path, "read an attribute");
    if (a >= 0) H5Aclose(a);
    return st;
}

status_t h5_read_str(hid_t object, const char *path, const char *name, status_t bad,
                     char **value)
{
    *value = NULL;
    char *text = NULL; /* libhdf5's memory; NULL is how it may hand back "" */
    const hid_t type = string_type();
    const status_t st = read_attribute(object, path, name, bad,
                                       "a string of variable length", type, &text);
    H5Tclose(type);
    TRY(st);
    *value = strdup(text ? text : "");
    if (text) H5free_memory(text);
    if (!*value)
        return status_set(STATUS_NOMEM, "%s: no memory for attribute %s", path, name);
    return STATUS_OK;
}

status_t h5_read_u64(hid_t object, const char *path, const char *name, status_t bad,
                     uint64_t *value)
{
    return read_attribute(object, path, name, bad, "an unsigned integer",
                          H5T_NATIVE_UINT64, value);
}

status_t h5_read_f64(hid_t object, const char *path, const char *name, status_t bad,
                     double *value)
{
    return read_attribute(object, path, name, bad, "a floating-point number",
                          H5T_NATIVE_DOUBLE, value);
}
