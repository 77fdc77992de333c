#include "checkpoint/checkpoint_impl.h"

#include <stdlib.h>
#include <unistd.h>

#include "core/file.h"
#include "core/h5.h"

/* What other tools see: the shard as libhdf5 tells it is the shard as the index tells it. */
static status_t check_structure(const struct checkpoint *c, int64_t shard)
{
    char path[PATH_MAX];
    hid_t file;
    ckpt_shard_path(path, c->path, shard, c->index.generation);
    TRY(h5_open(path, "shard", STATUS_CHECKPOINT, &file));
    status_t st = STATUS_OK;
    for (int k = 0; k < CKPT_KINDS && st == STATUS_OK; k++) {
        struct h5_region region = {0};
        const hid_t d = H5Dopen2(file, ckpt_dataset[k], H5P_DEFAULT);
        const hid_t type = d < 0 ? H5I_INVALID_HID : H5Dget_type(d);
        const bool ok = d >= 0 && H5Tequal(type, H5T_IEEE_F32LE) > 0 &&
                        h5_dataset_region(d, &region) == STATUS_OK &&
                        region.offset == c->index.shards[shard].offset[k] &&
                        region.bytes == 4 * c->index.shards[shard].elements;
        if (!ok)
            st = status_set(STATUS_CHECKPOINT,
                            "%s: dataset /%s is not where model.h5 says", path,
                            ckpt_dataset[k]);
        if (type >= 0) H5Tclose(type);
        if (d >= 0) H5Dclose(d);
    }
    H5Fclose(file);
    return st;
}

static status_t check_data(const struct checkpoint *c, int64_t shard, int64_t *next,
                           float *buffer)
{
    const struct ckpt_index *x = &c->index;
    int fd;
    TRY(ckpt_shard_open(c, shard, &fd));
    const int64_t first = *next;
    while (*next < x->n_pieces && x->pieces[*next].shard == shard) ++*next;
    status_t st = STATUS_OK;
    for (int k = 0; k < CKPT_KINDS; k++)
        for (int64_t j = first; j < *next && st == STATUS_OK; j++)
            st = ckpt_piece_read(c, fd, &x->pieces[j], k, buffer, NULL, NULL);
    close(fd);
    return st;
}

status_t checkpoint_verify(const struct checkpoint *c)
{
    char path[PATH_MAX];
    file_join(path, sizeof path, c->path, "model.h5");
    TRY(h5_check_seal(path, "model", STATUS_CHECKPOINT, NULL));
    float *buffer = malloc(CKPT_BUFFER * sizeof *buffer);
    if (!buffer) return status_set(STATUS_NOMEM, "%s: no memory for reading", c->path);
    status_t st = STATUS_OK;
    int64_t next = 0;
    for (int64_t s = 0; s < c->index.n_shards && st == STATUS_OK; s++) {
        st = check_data(c, s, &next, buffer);
        if (st == STATUS_OK) st = check_structure(c, s);
    }
    free(buffer);
    return st;
}
