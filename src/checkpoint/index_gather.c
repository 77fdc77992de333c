/* The index of a checkpoint that several ranks wrote. */
#include "checkpoint/checkpoint_impl.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/log.h"

static status_t copy_params(struct ckpt_index *x, const struct param_table *t)
{
    x->params = calloc((size_t)t->n_params + 1, sizeof *x->params);
    if (!x->params) return status_set(STATUS_NOMEM, "no memory for the parameter list");
    x->n_params = t->n_params;
    for (int i = 0; i < t->n_params; i++) {
        const struct param *p = &t->params[i];
        x->params[i] = (struct checkpoint_param){.n_dims = p->n_dims,
                                                 .shape = {p->shape[0], p->shape[1]}};
        snprintf(x->params[i].name, CKPT_NAME_BYTES, "%s", p->name);
    }
    return STATUS_OK;
}

/* Everybody's bytes on the root, one rank behind the other; NULL elsewhere. */
static void *gather(struct comm *world, const void *mine, size_t bytes, size_t *all_bytes)
{
    size_t *sizes = calloc((size_t)comm_size(world), sizeof *sizes);
    char *all;
    if (!sizes) die("no memory for the index of a checkpoint");
    comm_gather_bytes(world, mine, bytes, CKPT_ROOT, &all, sizes);
    *all_bytes = 0;
    for (int i = 0; i < comm_size(world); i++) *all_bytes += sizes[i];
    free(sizes);
    return all;
}

status_t ckpt_index_gather(struct ckpt_index *x, struct comm *world,
                           const struct param_table *whole,
                           const struct ckpt_shard *shards, int64_t n_shards,
                           const struct ckpt_piece *pieces, int64_t n_pieces)
{
    size_t shard_bytes, piece_bytes;
    *x = (struct ckpt_index){0};
    void *all_shards =
        gather(world, shards, (size_t)n_shards * sizeof *shards, &shard_bytes);
    void *all_pieces =
        gather(world, pieces, (size_t)n_pieces * sizeof *pieces, &piece_bytes);
    if (comm_rank(world) != CKPT_ROOT) return STATUS_OK;
    *x = (struct ckpt_index){.shards = all_shards,
                             .n_shards = (int64_t)(shard_bytes / sizeof *shards),
                             .pieces = all_pieces,
                             .n_pieces = (int64_t)(piece_bytes / sizeof *pieces)};
    return copy_params(x, whole);
}
