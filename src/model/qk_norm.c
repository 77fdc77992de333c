/* Norms of queries and keys.  Their width is that of all heads, so tensor-parallel ranks add up two
 * sums a row in each direction. */
#include "model/model_impl.h"

/* Key heads here, at the start, that a lower rank counts. */
static int64_t others_heads(const struct model *m)
{
    const struct shard_widths *w = &m->widths;
    int64_t n = 0;
    bool shared;
    while (n < w->kv_heads &&
           shard_kv_owner(&m->arch, m->shard.tp_size, w->first_kv_head + n, &shared) !=
               m->shard.tp_rank)
        n++;
    return n;
}

static struct nn_qk_norm norm_of(const struct model *m, const struct block *b)
{
    const struct shard_widths *w = &m->widths;
    const int64_t D = m->arch.head_size;
    return (struct nn_qk_norm){.q = w->heads * D,
                               .k = w->kv_heads * D,
                               .k_others = others_heads(m) * D,
                               .q_width = m->arch.n_heads * D,
                               .k_width = m->arch.n_kv_heads * D,
                               .eps = (float)m->arch.norm_eps,
                               .w = &b->qk_norm.w};
}

static void sum_over_ranks(struct model *m, struct tensor *sums)
{
    if (tp_size(m->tp) > 1 && sums->data)
        tp_sum(m->tp, tensor_f32(sums), tensor_elements(sums));
}

void qk_norm_fwd(struct model *m, struct block *b, struct block_saved *s)
{
    const struct nn_qk_norm p = norm_of(m, b);
    nn_qk_norm_sums(m->nn, &s->qk_sums, &s->qk, &s->qkv, &p);
    sum_over_ranks(m, &s->qk_sums);
    nn_qk_norm_fwd(m->nn, &s->qkv, &s->qk, &s->qk_sums, &p);
}

void qk_norm_bwd(struct model *m, struct block *b, const struct block_saved *s,
                 struct tensor *dqkv, struct tensor *dw)
{
    struct nn_qk_norm p = norm_of(m, b);
    const size_t mark = arena_mark(m->arena);
    const int64_t N = dqkv->shape[0];
    struct tensor dots = tensor_2d(arena_floats(m->arena, 2 * N), DTYPE_F32, N, 2);
    p.dw = dw;
    nn_qk_norm_dots(m->nn, &dots, dqkv, &s->qk, &p);
    sum_over_ranks(m, &dots);
    nn_qk_norm_bwd(m->nn, dqkv, &s->qk, &s->qk_sums, &dots, &p);
    arena_rewind(m->arena, mark);
}
