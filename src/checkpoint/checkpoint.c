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

void checkpoint_meta_release(struct checkpoint_meta *m)
{
    free(m->config);
    free(m->versions);
    free(m->data);
    *m = (struct checkpoint_meta){0};
}

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

void checkpoint_param(const struct checkpoint *c, int i, const char **name, int *n_dims,
                      int64_t shape[2])
{
    CHECK(i >= 0 && i < c->index.n_params);
    const struct ckpt_param *p = &c->index.params[i];
    *name = p->name;
    *n_dims = p->n_dims;
    shape[0] = p->shape[0];
    shape[1] = p->shape[1];
}

int checkpoint_n_shards(const struct checkpoint *c)
{
    return (int)c->index.n_shards;
}

int64_t checkpoint_bytes(const struct checkpoint *c)
{
    return c->bytes;
}

static status_t match_shape(const struct checkpoint *c, const struct ckpt_param *p,
                            const struct param_table *params)
{
    const int i = param_find(params, p->name);
    if (i < 0)
        return status_set(STATUS_CHECKPOINT,
                          "%s: holds parameter %s, which the model does not have",
                          c->path, p->name);
    const struct param *q = &params->params[i];
    if (q->n_dims == p->n_dims && q->shape[0] == p->shape[0] &&
        q->shape[1] == p->shape[1])
        return STATUS_OK;
    return status_set(STATUS_CHECKPOINT,
                      "%s: parameter %s is [%" PRId64 ", %" PRId64 "] here and [%" PRId64
                      ", %" PRId64 "] in the model",
                      c->path, p->name, p->shape[0], p->shape[1], q->shape[0],
                      q->shape[1]);
}

static bool holds(const struct ckpt_index *x, const char *name)
{
    for (int64_t i = 0; i < x->n_params; i++)
        if (strcmp(x->params[i].name, name) == 0) return true;
    return false;
}

status_t checkpoint_match(const struct checkpoint *c, const struct param_table *params)
{
    for (int64_t i = 0; i < c->index.n_params; i++)
        TRY(match_shape(c, &c->index.params[i], params));
    for (int i = 0; i < params->n_params; i++)
        if (!holds(&c->index, params->params[i].name))
            return status_set(STATUS_CHECKPOINT, "%s: lacks parameter %s of the model",
                              c->path, params->params[i].name);
    /* all are known and none is missing, so what is left over is there twice */
    if (c->index.n_params != params->n_params)
        return status_set(STATUS_CHECKPOINT, "%s: holds a parameter twice", c->path);
    return STATUS_OK;
}
