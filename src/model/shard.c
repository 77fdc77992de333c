#include "model/shard.h"

#include <stdio.h>

#include "core/log.h"
#include "parallel/comm/comm.h"

struct shard shard_whole(void)
{
    return (struct shard){.tp_size = 1, .n_stages = 1, .n_chunks = 1};
}

/* Whole multiples of a power of two where every rank gets one: matrix products are slow when rows
 * begin at odd places. */
static void share(int64_t n, int rank, int size, int64_t *first, int64_t *count)
{
    int64_t unit = 64;
    while (unit > 1 && n < unit * size) unit /= 2;
    comm_slice((n + unit - 1) / unit, size, rank, first, count);
    *first *= unit;
    *count *= unit;
    if (*first + *count > n) *count = n - *first;
}

struct shard_widths shard_widths(const struct arch *a, int rank, int size)
{
    struct shard_widths w = {.group = a->n_heads / a->n_kv_heads};
    comm_slice(a->n_heads, size, rank, &w.first_head, &w.heads);
    w.first_kv_head = w.first_head / w.group;
    w.kv_heads = (w.first_head + w.heads - 1) / w.group - w.first_kv_head + 1;
    w.head_in_group = w.first_head % w.group;
    share(a->ffn, rank, size, &w.first_ffn, &w.ffn);
    share(a->vocab_size, rank, size, &w.first_token, &w.vocab);
    return w;
}

int shard_kv_owner(const struct arch *a, int size, int64_t kv_head, bool *shared)
{
    int owner = -1;
    *shared = false;
    for (int rank = 0; rank < size; rank++) {
        const struct shard_widths w = shard_widths(a, rank, size);
        if (kv_head < w.first_kv_head || kv_head >= w.first_kv_head + w.kv_heads)
            continue;
        if (owner >= 0) *shared = true;
        if (owner < 0) owner = rank;
    }
    return owner;
}

static int part_of(const struct shard *s, int chunk)
{
    CHECK(chunk >= 0 && chunk < s->n_chunks);
    return chunk * s->n_stages + s->stage;
}

void shard_layers(const struct shard *s, const struct arch *a, int chunk, int64_t *first,
                  int64_t *end)
{
    const int part = part_of(s, chunk);
    *first = s->first_layer ? s->first_layer[part] : 0;
    *end = s->first_layer ? s->first_layer[part + 1] : a->n_layers;
}

bool shard_has_embedding(const struct shard *s, int chunk)
{
    return part_of(s, chunk) == 0;
}

bool shard_has_head(const struct shard *s, int chunk)
{
    return part_of(s, chunk) == s->n_stages * s->n_chunks - 1;
}

status_t shard_check(const struct arch *a, int tp_size)
{
    int64_t most = a->n_heads;
    if (a->ffn < most) most = a->ffn;
    if (a->vocab_size > 0 && a->vocab_size < most) most = a->vocab_size;
    if (tp_size <= most) return STATUS_OK;
    return status_set(
        STATUS_CONFIG,
        "parallel.tp: %d ranks cannot share %jd heads, an inner width of %jd "
        "and %jd tokens; valid: 1 to %jd",
        tp_size, (intmax_t)a->n_heads, (intmax_t)a->ffn, (intmax_t)a->vocab_size,
        (intmax_t)most);
}
