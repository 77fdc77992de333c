#include "checkpoint/checkpoint_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"
#include "core/h5.h"
#include "core/log.h"

static status_t size_of(const char *path, int64_t *bytes)
{
    struct stat info;
    if (stat(path, &info) != 0 && errno == ENOENT)
        return status_set(STATUS_CHECKPOINT, "%s: is missing", path);
    if (stat(path, &info) != 0)
        return status_set(STATUS_IO, "%s: cannot stat: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return status_set(STATUS_CHECKPOINT, "%s: is not a regular file", path);
    *bytes = info.st_size;
    return STATUS_OK;
}

static status_t find_shards(struct checkpoint *c)
{
    for (int64_t s = 0; s < c->index.n_shards; s++) {
        char path[PATH_MAX];
        int64_t bytes;
        ckpt_shard_path(path, c->path, s, c->index.generation);
        TRY(size_of(path, &bytes));
        if ((uint64_t)bytes != c->index.shards[s].bytes)
            return status_set(STATUS_CHECKPOINT,
                              "%s: has %" PRId64 " bytes, model.h5 says %" PRIu64, path,
                              bytes, c->index.shards[s].bytes);
        c->bytes += bytes;
    }
    return STATUS_OK;
}

static status_t open_at(struct checkpoint *c, const char *path)
{
    char model[PATH_MAX];
    if (strlen(path) >= PATH_MAX - 64)
        return status_set(STATUS_CHECKPOINT, "checkpoint %s: the name is too long", path);
    snprintf(c->path, sizeof c->path, "%s", path);
    for (size_t n = strlen(c->path); n > 1 && c->path[n - 1] == '/'; n--)
        c->path[n - 1] = '\0';
    if (!file_is_dir(c->path))
        return status_set(STATUS_CHECKPOINT, "%s: is not a folder, as a checkpoint is",
                          c->path);
    file_join(model, sizeof model, c->path, "model.h5");
    if (!file_exists(model))
        return status_set(
            STATUS_CHECKPOINT,
            "%s: holds no model.h5, so it is no finished checkpoint (those are "
            "folders RUN/step-XXXXXXXX)",
            c->path);
    TRY(size_of(model, &c->bytes));
    TRY(ckpt_model_read(c));
    return find_shards(c);
}

status_t checkpoint_open(struct checkpoint **c, const char *path)
{
    *c = calloc(1, sizeof **c);
    if (!*c) return status_set(STATUS_NOMEM, "%s: no memory to open it", path);
    const status_t st = open_at(*c, path);
    if (st != STATUS_OK) checkpoint_close(c);
    return st;
}

void checkpoint_close(struct checkpoint **c)
{
    if (!*c) return;
    checkpoint_meta_release(&(*c)->meta);
    ckpt_index_release(&(*c)->index);
    free(*c);
    *c = NULL;
}

const struct checkpoint_meta *checkpoint_meta(const struct checkpoint *c)
{
    return &c->meta;
}

const char *checkpoint_path(const struct checkpoint *c)
{
    return c->path;
}

int checkpoint_n_params(const struct checkpoint *c)
{
    return (int)c->index.n_params;
}

const struct checkpoint_param *checkpoint_params(const struct checkpoint *c)
{
    return c->index.params;
}

int checkpoint_n_shards(const struct checkpoint *c)
{
    return (int)c->index.n_shards;
}

int64_t checkpoint_bytes(const struct checkpoint *c)
{
    return c->bytes;
}
