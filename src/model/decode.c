/* Generation: one token of every sequence at a time against a key/value cache. */
#include <math.h>
#include <stdlib.h>

#include "model/model_impl.h"

struct model_decoder {
    struct model *model;
    int64_t B, max_T, length;
    struct tensor *cache_k, *cache_v; /* per layer [B * max_T, K*D] */
    struct tensor x, out;             /* [B,C] */
    struct block_saved s;             /* for B rows of one token */
    int32_t *tokens, *positions;      /* [B], device memory */
    int32_t *host_positions;          /* [B] */
    struct tensor logits;             /* [B,V] */
    void *host_logits;                /* [B,V], unless that is fp32 */
};

static void take_all(struct model_decoder *d)
{
    struct model *m = d->model;
    const int64_t kv = m->arch.n_kv_heads * m->arch.head_size;
    for (int64_t l = 0; l < m->arch.n_layers; l++) {
        d->cache_k[l] = model_take(m, d->B * d->max_T, kv);
        d->cache_v[l] = model_take(m, d->B * d->max_T, kv);
    }
    d->x = model_take(m, d->B, m->arch.hidden);
    d->out = model_take(m, d->B, m->arch.hidden);
    d->tokens = arena_alloc(m->arena, (size_t)d->B * sizeof *d->tokens);
    d->positions = arena_alloc(m->arena, (size_t)d->B * sizeof *d->positions);
    d->logits = model_take(m, d->B, m->arch.vocab_size);
    block_take(m, &d->s, d->B, 1, m->arena, m->arena);
}

status_t model_decoder_create(struct model_decoder **out, struct model *m, int64_t B,
                              int64_t max_T)
{
    CHECK(B > 0 && max_T > 0 && max_T <= m->arch.max_positions);
    *out = NULL;
    struct model_decoder *d = calloc(1, sizeof *d);
    if (!d) return status_set(STATUS_NOMEM, "no memory for a decoder");
    *d = (struct model_decoder){.model = m, .B = B, .max_T = max_T};
    d->cache_k = calloc((size_t)m->arch.n_layers, sizeof *d->cache_k);
    d->cache_v = calloc((size_t)m->arch.n_layers, sizeof *d->cache_v);
    d->host_positions = calloc((size_t)B, sizeof *d->host_positions);
    d->host_logits = malloc((size_t)(B * m->arch.vocab_size) * dtype_bytes(m->dtype));
    if (!d->cache_k || !d->cache_v || !d->host_positions || !d->host_logits) {
        model_decoder_destroy(&d);
        return status_set(STATUS_NOMEM, "no memory for a decoder");
    }
    take_all(d);
    *out = d;
    return STATUS_OK;
}

void model_decoder_destroy(struct model_decoder **d)
{
    if (!*d) return;
    free((*d)->cache_k);
    free((*d)->cache_v);
    free((*d)->host_positions);
    free((*d)->host_logits);
    free(*d);
    *d = NULL;
}

static void set_inputs(struct model_decoder *d, const int32_t *tokens)
{
    const size_t bytes = (size_t)d->B * sizeof *tokens;
    for (int64_t b = 0; b < d->B; b++) d->host_positions[b] = (int32_t)d->length;
    device_copy_in(d->model->device, d->tokens, tokens, bytes);
    device_copy_in(d->model->device, d->positions, d->host_positions, bytes);
}

static void get_logits(struct model_decoder *d, float *logits)
{
    device_copy_out(d->model->device, d->host_logits, d->logits.data,
                    tensor_bytes(&d->logits));
    dtype_convert(logits, DTYPE_F32, d->host_logits, d->logits.dtype,
                  tensor_elements(&d->logits));
}

void model_decode(struct model_decoder *d, const int32_t *tokens, float *logits)
{
    struct model *m = d->model;
    const struct arch *a = &m->arch;
    CHECK(nn_is_measuring(m->nn) || d->length < d->max_T);
    const struct nn_attention attention = {.B = d->B,
                                           .T = d->max_T,
                                           .H = a->n_heads,
                                           .K = a->n_kv_heads,
                                           .D = a->head_size,
                                           .scale = 1.0f / sqrtf((float)a->head_size)};
    if (d->tokens) set_inputs(d, tokens);
    nn_embedding_fwd(m->nn, &d->x, &m->wte, m->wpe.n_dims ? &m->wpe : NULL, d->tokens,
                     d->positions, NN_ALL_TOKENS);
    for (int64_t l = 0; l < a->n_layers; l++) {
        d->s.x = d->x;
        block_project(m, &m->blocks[l], &d->s, d->positions);
        nn_attention_decode(m->nn, &d->s.att, &d->cache_k[l], &d->cache_v[l], &d->s.qkv,
                            d->length, &attention);
        block_finish(m, &m->blocks[l], &d->s, &d->out);
        const struct tensor swap = d->x;
        d->x = d->out;
        d->out = swap;
    }
    norm_fwd(m, &d->out, &d->s.stats1, &d->x, NULL, &m->final_norm);
    nn_matmul_nt(m->nn, &d->logits, &d->out, &m->head, NN_ASSIGN);
    if (logits) get_logits(d, logits);
    d->length++;
}
