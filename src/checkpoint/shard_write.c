#include "checkpoint/checkpoint_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/h5.h"
#include "core/hash.h"
#include "core/log.h"

/* The raw datasets are little-endian and are written from memory as they are. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "a little-endian machine");

/* Written, or left out, at a time. */
static const size_t chunk_bytes = (size_t)1 << 20;

/* Of all the hashes: under the seal it pins every byte of the data, so a seal hash names one
 * content and no shard can stand in for another. */
static uint64_t hash_parts(struct ckpt_part *parts, int64_t n_parts)
{
    struct hash_stream *h = hash_stream_create();
    for (int64_t i = 0; i < n_parts; i++) {
        struct ckpt_piece *p = &parts[i].piece;
        const size_t bytes = (size_t)ckpt_elements(p) * sizeof(float);
        for (int k = 0; k < CKPT_KINDS; k++)
            p->xxh3[k] = hash_xxh3(parts[i].data[k], bytes);
        hash_stream_update(h, p->xxh3, sizeof p->xxh3);
    }
    return hash_stream_finish(&h);
}

static status_t make_dataset(hid_t file, const char *path, const char *name,
                             uint64_t elements, struct h5_region *region)
{
    const hsize_t n = elements;
    const hid_t space = H5Screate_simple(1, &n, NULL),
                dcpl = H5Pcreate(H5P_DATASET_CREATE);
    if (space < 0 || dcpl < 0 || H5Pset_layout(dcpl, H5D_CONTIGUOUS) < 0 ||
        H5Pset_alloc_time(dcpl, H5D_ALLOC_TIME_EARLY) < 0 ||
        H5Pset_fill_time(dcpl, H5D_FILL_TIME_NEVER) < 0 ||
        H5Pset_obj_track_times(dcpl, false) < 0)
        die("HDF5 is out of memory");
    const hid_t d =
        H5Dcreate2(file, name, H5T_IEEE_F32LE, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);
    status_t st = d < 0 ? h5_fail(STATUS_IO, path, "create a dataset") : STATUS_OK;
    if (st == STATUS_OK) st = h5_dataset_region(d, region);
    st = h5_close_written(d, path, st);
    H5Pclose(dcpl);
    H5Sclose(space);
    return st;
}

/* The file without its data. */
static status_t make_file(const char *path, int64_t step, int64_t shard,
                          uint64_t elements, uint64_t data_xxh3,
                          struct h5_region regions[CKPT_KINDS])
{
    hid_t file;
    TRY(h5_create(path, &file));
    status_t st = h5_write_u64(file, "version", CKPT_VERSION);
    if (st == STATUS_OK) st = h5_write_u64(file, "step", (uint64_t)step);
    if (st == STATUS_OK) st = h5_write_u64(file, "shard", (uint64_t)shard);
    if (st == STATUS_OK) st = h5_write_u64(file, "data_xxh3", data_xxh3);
    for (int k = 0; k < CKPT_KINDS && st == STATUS_OK; k++)
        st = make_dataset(file, path, checkpoint_kind_name[k], elements, &regions[k]);
    if (H5Fclose(file) < 0 && st == STATUS_OK)
        st = h5_fail(STATUS_IO, path, "close the file");
    return st;
}

static bool all_zero(const char *x, size_t bytes)
{
    return x[0] == 0 && memcmp(x, x + 1, bytes - 1) == 0;
}

/* Chunks of zeros stay holes of the file: the moments before the first step take no disk. */
static status_t write_at(int fd, const char *path, const void *data, size_t bytes,
                         uint64_t offset)
{
    const char *from = data;
    while (bytes > 0) {
        const size_t want = bytes < chunk_bytes ? bytes : chunk_bytes;
        ssize_t n = (ssize_t)want;
        if (!all_zero(from, want)) n = pwrite(fd, from, want, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0)
            return status_set(STATUS_IO, "%s: cannot write: %s", path, strerror(errno));
        from += n;
        bytes -= (size_t)n;
        offset += (uint64_t)n;
    }
    return STATUS_OK;
}

static status_t write_data(const char *path, const struct ckpt_part *parts,
                           int64_t n_parts, const struct h5_region regions[CKPT_KINDS])
{
    char tmp[PATH_MAX];
    if (snprintf(tmp, sizeof tmp, "%s.tmp", path) >= PATH_MAX)
        return status_set(STATUS_IO, "%s: the name is too long", path);
    const int fd = open(tmp, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return status_set(STATUS_IO, "%s: cannot open: %s", tmp, strerror(errno));
    status_t st = STATUS_OK;
    for (int k = 0; k < CKPT_KINDS; k++) {
        for (int64_t i = 0; i < n_parts && st == STATUS_OK; i++) {
            const struct ckpt_piece *p = &parts[i].piece;
            st = write_at(fd, tmp, parts[i].data[k], (size_t)ckpt_elements(p) * 4,
                          regions[k].offset + 4 * (uint64_t)p->offset);
        }
    }
    if (close(fd) != 0 && st == STATUS_OK)
        st = status_set(STATUS_IO, "%s: cannot close: %s", tmp, strerror(errno));
    return st;
}

status_t ckpt_shard_write(const char *path, int64_t step, int64_t shard,
                          struct ckpt_part *parts, int64_t n_parts,
                          struct ckpt_shard *row)
{
    const uint64_t data_xxh3 = hash_parts(parts, n_parts);
    uint64_t elements = 0;
    for (int64_t i = 0; i < n_parts; i++)
        elements += (uint64_t)ckpt_elements(&parts[i].piece);
    struct h5_region regions[CKPT_KINDS];
    struct h5_seal_info seal;
    TRY(make_file(path, step, shard, elements, data_xxh3, regions));
    TRY(write_data(path, parts, n_parts, regions));
    TRY(h5_seal(path, "shard", regions, CKPT_KINDS));
    TRY(file_commit(path));
    TRY(h5_check_seal(path, "shard", STATUS_IO, &seal));
    *row =
        (struct ckpt_shard){.bytes = seal.bytes, .seal = seal.xxh3, .elements = elements};
    for (int k = 0; k < CKPT_KINDS; k++) row->offset[k] = regions[k].offset;
    return STATUS_OK;
}
