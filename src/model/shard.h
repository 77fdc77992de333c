/* shard - which part of a model a rank holds, as far as the model itself cares: pure.
 *
 * Tensor parallelism splits widths: query heads, the inner width of the feed-forward half, rows
 * of the vocabulary.  A split need not be even: widths are shared out as equally as whole
 * heads (or whole multiples of 64, where there are enough) allow, so that nothing is padded.  A
 * kv head is held by every rank that has one of its query heads.
 *
 * Pipeline parallelism cuts the layers into n_stages * n_chunks parts; stage s holds the parts
 * c * n_stages + s for its chunks c.  The first part has the embedding, the last one the final
 * norm and the head. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/status.h"
#include "model/arch.h"

enum { SHARD_MAX_CHUNKS = 16 };

struct shard {
    int tp_rank, tp_size;
    int stage, n_stages, n_chunks;
    const int64_t *first_layer; /* [n_stages * n_chunks + 1]; NULL: one part has all */
};

/* All of the model on one rank. */
struct shard shard_whole(void);

/* What tensor-parallel rank `rank` of `size` holds of each width. */
struct shard_widths {
    int64_t first_head, heads;
    int64_t first_kv_head, kv_heads;
    int64_t group;         /* query heads of a kv head, in the whole model */
    int64_t head_in_group; /* of first_head, inside its kv head's group */
    int64_t first_ffn, ffn;
    int64_t first_token, vocab;
};
struct shard_widths shard_widths(const struct arch *a, int rank, int size);

/* The lowest rank that holds kv head j, and whether there are others. */
int shard_kv_owner(const struct arch *a, int size, int64_t kv_head, bool *shared);

/* Layers [*first, *end) of chunk c. */
void shard_layers(const struct shard *s, const struct arch *a, int chunk, int64_t *first,
                  int64_t *end);
bool shard_has_embedding(const struct shard *s, int chunk);
bool shard_has_head(const struct shard *s, int chunk);

/* Can tensor parallelism of this size split the model?  STATUS_CONFIG lists the valid sizes. */
MUST_USE status_t shard_check(const struct arch *a, int tp_size);
