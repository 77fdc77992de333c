#include "checkpoint/checkpoint_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/file.h"
#include "core/h5.h"
#include "core/log.h"

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
        const hid_t d = H5Dopen2(file, checkpoint_kind_name[k], H5P_DEFAULT);
        const hid_t type = d < 0 ? H5I_INVALID_HID : H5Dget_type(d);
        const bool ok = d >= 0 && H5Tequal(type, H5T_IEEE_F32LE) > 0 &&
                        h5_dataset_region(d, &region) == STATUS_OK &&
                        region.offset == c->index.shards[shard].offset[k] &&
                        region.bytes == 4 * c->index.shards[shard].elements;
        if (!ok)
            st = status_set(STATUS_CHECKPOINT,
                            "%s: dataset /%s is not where model.h5 says", path,
                            checkpoint_kind_name[k]);
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

static status_t check_model(const struct checkpoint *c)
{
    char path[PATH_MAX];
    file_join(path, sizeof path, c->path, "model.h5");
    return h5_check_seal(path, "model", STATUS_CHECKPOINT, NULL);
}

/* The first failure of several: the others are errors in the log. */
struct failure {
    status_t status;
    char sentence[2048];
};

static void note(struct failure *f, status_t st)
{
    if (st == STATUS_OK) return;
    if (f->status != STATUS_OK) {
        log_error("%s", status_message());
        return;
    }
    f->status = st;
    snprintf(f->sentence, sizeof f->sentence, "%s", status_message());
}

status_t checkpoint_verify(const struct checkpoint *c, int part, int parts)
{
    const struct ckpt_index *x = &c->index;
    float *buffer = malloc(CKPT_BUFFER * sizeof *buffer);
    if (!buffer) return status_set(STATUS_NOMEM, "%s: no memory for reading", c->path);
    struct failure f = {0};
    if (part == 0) note(&f, check_model(c));
    int64_t next = 0;
    for (int64_t s = 0; s < x->n_shards; s++) {
        while (next < x->n_pieces && x->pieces[next].shard < s) next++;
        if (s % parts != part) continue;
        status_t st = check_data(c, s, &next, buffer);
        if (st == STATUS_OK) st = check_structure(c, s);
        note(&f, st);
    }
    free(buffer);
    return f.status == STATUS_OK ? STATUS_OK : status_set(f.status, "%s", f.sentence);
}
