/* A checkpoint written by one process, out of whole tensors. */
#include "checkpoint/checkpoint_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"

/* Of a shard: what is in memory at a time, for tensors that are not larger. */
static const int64_t shard_elements = (int64_t)32 << 20;

struct builder {
    char folder[PATH_MAX], model[PATH_MAX];
    struct checkpoint_source *source;
    struct ckpt_index index;
};

/* Parameters [first, *end) go into one shard. */
static int64_t group(const struct checkpoint_source *s, int first, int *end)
{
    int64_t n = 0;
    int i = first;
    for (; i < s->n_params; i++) {
        const int64_t m = checkpoint_param_elements(&s->params[i]);
        if (i > first && n + m > shard_elements) break;
        n += m;
    }
    *end = i;
    return n;
}

/* Read parameters [first, end), `elements` in all, into `x` of all kinds, and write them as the next
 * shard; parts[i] is for parameter first + i. */
static status_t write_shard(struct builder *b, int first, int end, int64_t elements,
                            float *x, struct ckpt_part *parts)
{
    struct ckpt_index *to = &b->index;
    char path[PATH_MAX];
    int64_t offset = 0;
    for (int i = first; i < end; i++) {
        const struct checkpoint_param *p = &b->source->params[i];
        struct ckpt_part *part = &parts[i - first];
        part->piece = (struct ckpt_piece){.param = i,
                                          .rows = p->shape[0],
                                          .cols = p->shape[1],
                                          .shard = to->n_shards,
                                          .offset = offset};
        for (int k = 0; k < CKPT_KINDS; k++) {
            float *at = x + k * elements + offset;
            TRY(b->source->read(b->source, i, (enum checkpoint_kind)k, at));
            part->data[k] = at;
        }
        offset += ckpt_elements(&part->piece);
    }
    ckpt_shard_path(path, b->folder, to->n_shards, 0);
    TRY(ckpt_shard_write(path, b->source->meta->step, to->n_shards, parts, end - first,
                         &to->shards[to->n_shards]));
    for (int i = first; i < end; i++) to->pieces[i] = parts[i - first].piece;
    to->n_shards++;
    return STATUS_OK;
}

static status_t write_shards(struct builder *b)
{
    status_t st = STATUS_OK;
    for (int first = 0, end; first < b->source->n_params && st == STATUS_OK;
         first = end) {
        const int64_t n = group(b->source, first, &end);
        float *x = malloc((size_t)n * CKPT_KINDS * sizeof *x);
        struct ckpt_part *parts = calloc((size_t)(end - first), sizeof *parts);
        st = x && parts ? write_shard(b, first, end, n, x, parts)
                        : status_set(STATUS_NOMEM,
                                     "%s: no memory for a shard of %lld "
                                     "parameters",
                                     b->folder, (long long)n);
        free(parts);
        free(x);
    }
    return st;
}

static status_t write_model(struct builder *b)
{
    TRY(ckpt_index_check(&b->index, b->model, STATUS_INTERNAL));
    TRY(ckpt_model_write(b->model, &b->index, b->source->meta));
    return file_commit(b->model);
}

static status_t build(struct builder *b)
{
    const size_t n = (size_t)b->source->n_params;
    struct ckpt_index *x = &b->index;
    *x = (struct ckpt_index){.params = calloc(n + 1, sizeof *x->params),
                             .pieces = calloc(n + 1, sizeof *x->pieces),
                             .shards = calloc(n + 1, sizeof *x->shards),
                             .n_params = b->source->n_params,
                             .n_pieces = b->source->n_params};
    if (!x->params || !x->pieces || !x->shards)
        return status_set(STATUS_NOMEM, "%s: no memory for its index", b->folder);
    memcpy(x->params, b->source->params, n * sizeof *x->params);
    TRY(write_shards(b));
    return write_model(b);
}

status_t checkpoint_build(const char *run_dir, struct checkpoint_source *s)
{
    struct builder b = {.source = s};
    ckpt_step_folder(b.folder, run_dir, s->meta->step);
    file_join(b.model, sizeof b.model, b.folder, "model.h5");
    TRY(ckpt_folder_make(run_dir, b.folder, b.model));
    const status_t st = build(&b);
    if (st != STATUS_OK && !file_exists(b.model)) {
        ckpt_remove_others(b.folder, -1);
        rmdir(b.folder);
    }
    ckpt_index_release(&b.index);
    return st;
}
