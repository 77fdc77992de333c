#include "nn/attention_tile.h"

static void check_shapes(const struct nn_attention *a, const struct tensor *y,
                         const struct tensor *qkv, int64_t rows)
{
    CHECK(a->B > 0 && a->T > 0 && a->H > 0 && a->K > 0 && a->D > 0);
    CHECK(a->H % a->K == 0);
    CHECK(y->n_dims == 2 && y->shape[0] == rows && y->shape[1] == a->H * a->D);
    CHECK(qkv->n_dims == 2 && qkv->shape[0] == rows &&
          qkv->shape[1] == (a->H + 2 * a->K) * a->D);
}

static void check_lse(const struct nn_attention *a, const struct tensor *lse)
{
    CHECK(lse->n_dims == 2 && lse->shape[0] == a->B * a->H && lse->shape[1] == a->T);
}

void nn_attention_fwd(struct nn *nn, struct tensor *y, struct tensor *lse,
                      const struct tensor *qkv, const struct nn_attention *a)
{
    check_shapes(a, y, qkv, a->B * a->T);
    check_lse(a, lse);
    const size_t mark = arena_mark(&nn->scratch);
    float *scratch = arena_floats(&nn->scratch, nn->n_threads * attention_fwd_floats(a));
    if (!nn->measuring)
        nn->ops->attention_fwd(nn->n_threads, tensor_f32(y), tensor_f32(lse), scratch,
                               tensor_f32(qkv), a);
    arena_rewind(&nn->scratch, mark);
}

/* delta: [B*H, T], then dq of all parts but the first, then each thread's tiles */
static int64_t bwd_scratch_floats(const struct nn_attention *a, int threads)
{
    return attention_pad(a->B * a->H * a->T) +
           (attention_bwd_parts(a, threads) - 1) * attention_bwd_part_floats(a) +
           threads * attention_bwd_floats(a);
}

void nn_attention_bwd(struct nn *nn, struct tensor *dqkv, const struct tensor *dy,
                      const struct tensor *y, const struct tensor *lse,
                      const struct tensor *qkv, const struct nn_attention *a)
{
    check_shapes(a, y, qkv, a->B * a->T);
    check_shapes(a, dy, dqkv, a->B * a->T);
    check_lse(a, lse);
    const size_t mark = arena_mark(&nn->scratch);
    float *scratch = arena_floats(&nn->scratch, bwd_scratch_floats(a, nn->n_threads));
    if (!nn->measuring)
        nn->ops->attention_bwd(nn->n_threads, tensor_f32(dqkv), scratch, tensor_f32(dy),
                               tensor_f32(y), tensor_f32(lse), tensor_f32(qkv), a);
    arena_rewind(&nn->scratch, mark);
}

static void check_cache(const struct nn_attention *a, const struct tensor *cache)
{
    CHECK(cache->n_dims == 2 && cache->shape[0] == a->B * a->T &&
          cache->shape[1] == a->K * a->D);
}

void nn_attention_decode(struct nn *nn, struct tensor *y, struct tensor *cache_k,
                         struct tensor *cache_v, const struct tensor *qkv, int64_t length,
                         const struct nn_attention *a)
{
    check_shapes(a, y, qkv, a->B);
    check_cache(a, cache_k);
    check_cache(a, cache_v);
    CHECK(0 <= length && length < a->T);
    CHECK(!a->doc_start); /* a cache holds one document */
    const size_t mark = arena_mark(&nn->scratch);
    float *scratch =
        arena_floats(&nn->scratch, nn->n_threads * attention_decode_floats(a));
    if (!nn->measuring)
        nn->ops->attention_decode(nn->n_threads, tensor_f32(y), tensor_f32(cache_k),
                                  tensor_f32(cache_v), scratch, tensor_f32(qkv), length,
                                  a);
    arena_rewind(&nn->scratch, mark);
}
