/* One transformer block: the orders of struct arch's block, with
 *
 *   a(h) = attention(h) Wo^T + bo      f(h) = act(h Wu^T + bu) Wd^T + bd
 *
 * Bias and residual are added by the products themselves where no norm comes between, which saves
 * passes over memory. */
#include <math.h>

#include "model/model_impl.h"

static struct nn_norm nn_norm_of(const struct model *m, struct norm *p)
{
    return (struct nn_norm){.eps = (float)m->arch.norm_eps,
                            .w = &p->w,
                            .b = p->b.n_dims ? &p->b : NULL,
                            .dw = &p->dw,
                            .db = p->b.n_dims ? &p->db : NULL};
}

void norm_fwd(struct model *m, struct tensor *y, struct tensor *stats,
              const struct tensor *x, const struct tensor *residual, struct norm *p)
{
    const struct nn_norm n = nn_norm_of(m, p);
    if (m->arch.norm == ARCH_LAYERNORM)
        nn_layernorm_fwd(m->nn, y, stats, x, residual, &n);
    else
        nn_rmsnorm_fwd(m->nn, y, stats, x, residual, &n);
}

void norm_bwd(struct model *m, struct tensor *dx, const struct tensor *dy,
              const struct tensor *x, const struct tensor *stats, struct norm *p,
              enum nn_accum mode)
{
    const struct nn_norm n = nn_norm_of(m, p);
    if (m->arch.norm == ARCH_LAYERNORM)
        nn_layernorm_bwd(m->nn, dx, dy, x, stats, &n, mode);
    else
        nn_rmsnorm_bwd(m->nn, dx, dy, x, stats, &n, mode);
}

static struct tensor take_floats(struct arena *arena, int64_t rows, int64_t cols)
{
    return tensor_2d(arena_floats(arena, rows * cols), DTYPE_F32, rows, cols);
}

struct tensor norm_stats(const struct model *m, struct arena *arena, int64_t N)
{
    if (m->arch.norm == ARCH_LAYERNORM) return take_floats(arena, N, 2);
    return tensor_1d(arena_floats(arena, N), DTYPE_F32, N);
}

struct nn_rope rope_of(const struct model *m, const int32_t *positions)
{
    const struct shard_widths *w = &m->widths;
    return (struct nn_rope){.n_heads = w->heads + w->kv_heads, /* q and k, not v */
                            .head_size = m->arch.head_size,
                            .half = arch_rope_dims(&m->arch) / 2,
                            .table = m->rope_table,
                            .n_positions = m->arch.max_positions,
                            .positions = positions};
}

struct nn_attention attention_of(const struct model *m, const struct model_input *in)
{
    const struct shard_widths *w = &m->widths;
    return (struct nn_attention){.B = in->B,
                                 .T = in->T,
                                 .H = w->heads,
                                 .K = w->kv_heads,
                                 .D = m->arch.head_size,
                                 .group = w->group,
                                 .first = w->head_in_group,
                                 .scale = 1.0f / sqrtf((float)m->arch.head_size),
                                 .doc_start = in->doc_start};
}

bool block_keeps_norms(const struct model *m)
{
    return m->recompute == MODEL_RECOMPUTE_NONE && !tp_is_sharded(m->tp);
}

static bool norms_last(const struct model *m)
{
    return m->arch.block == ARCH_NORM_LAST;
}

/* What a half reads is what it is given: no norm in front, all rows here. */
static bool reads_as_is(const struct model *m)
{
    return norms_last(m) && !tp_is_sharded(m->tp);
}

void block_take(struct model *m, struct block_saved *s, int64_t B, int64_t T,
                struct arena *kept, struct arena *work)
{
    const struct shard_widths *w = &m->widths;
    const int64_t N = B * T, C = m->arch.hidden, F = w->ffn, D = m->arch.head_size;
    const bool full = m->recompute == MODEL_RECOMPUTE_FULL;
    struct arena *most = full ? work : kept;
    struct arena *norms = block_keeps_norms(m) ? kept : work;
    int64_t first, own;
    tp_rows(m->tp, N, &first, &own);
    s->qkv = take_from(m, most, N, (w->heads + 2 * w->kv_heads) * D);
    if (m->arch.qk_norm) {
        s->qk = take_from(m, most, N, (w->heads + w->kv_heads) * D);
        s->qk_sums = take_floats(most, N, 2);
    }
    s->att = take_from(m, most, N, w->heads * D);
    s->lse = take_floats(most, B * w->heads, T);
    s->x2 = take_from(m, m->arch.block == ARCH_PARALLEL ? work : most, own, C);
    if (norms_last(m)) {
        s->a1 = take_from(m, most, own, C);
        s->a2 = take_from(m, most, own, C);
    }
    s->u = take_from(m, most, N, m->arch.activation == ARCH_SWIGLU ? 2 * F : F);
    if (!reads_as_is(m)) s->h1 = take_from(m, norms, N, C);
    s->stats1 = norm_stats(m, norms_last(m) ? most : norms, own);
    if (!reads_as_is(m)) s->h2 = take_from(m, norms, N, C);
    s->stats2 = norm_stats(m, norms_last(m) ? most : norms, own);
    s->g =
        take_from(m, work, N, F); /* backward makes it again in a pass it needs anyway */
}

/* h = norm(x), or x where norms come last */
static void read_half(struct model *m, struct tensor *h, struct tensor *stats,
                      const struct tensor *x, struct norm *norm)
{
    if (reads_as_is(m)) {
        *h = *x;
        return;
    }
    struct tensor own = tp_own(m->tp, h);
    if (norms_last(m))
        nn_bias_add(m->nn, &own, x, NULL);
    else
        norm_fwd(m, &own, stats, x, NULL, norm);
}

void block_read1(struct model *m, struct block *b, struct block_saved *s)
{
    read_half(m, &s->h1, &s->stats1, &s->x, &b->norm1);
}

void block_read2(struct model *m, struct block *b, struct block_saved *s)
{
    const bool parallel = m->arch.block == ARCH_PARALLEL;
    read_half(m, &s->h2, &s->stats2, parallel ? &s->x : &s->x2, &b->norm2);
}

void block_activate(struct model *m, struct block_saved *s)
{
    if (m->arch.activation == ARCH_SWIGLU)
        nn_swiglu_fwd(m->nn, &s->g, &s->u);
    else if (m->arch.activation == ARCH_GELU_ERF)
        nn_gelu_erf_fwd(m->nn, &s->g, &s->u);
    else
        nn_gelu_fwd(m->nn, &s->g, &s->u);
}

void block_project(struct model *m, struct block *b, struct block_saved *s,
                   const int32_t *positions)
{
    block_read1(m, b, s);
    column_fwd(m, &s->qkv, &s->h1, &b->qkv);
    if (m->arch.qk_norm) qk_norm_fwd(m, b, s);
    if (b->turns) {
        const struct nn_rope rope = rope_of(m, positions);
        nn_rope_fwd(m->nn, &s->qkv, &rope);
    }
}

/* out = x + the half whose last product is x w^T + b; with its norm where that comes last, made
 * of `a`. */
static void write_half(struct model *m, struct tensor *out, struct tensor *a,
                       struct tensor *stats, const struct tensor *in,
                       const struct linear *l, struct norm *norm, const struct tensor *x)
{
    if (!norms_last(m)) {
        row_fwd(m, out, in, l, x);
        return;
    }
    row_fwd(m, a, in, l, NULL);
    norm_fwd(m, out, stats, a, x, norm);
}

void block_finish(struct model *m, struct block *b, struct block_saved *s,
                  struct tensor *out)
{
    write_half(m, &s->x2, &s->a1, &s->stats1, &s->att, &b->out, &b->norm1, &s->x);
    block_read2(m, b, s);
    if (m->arch.activation == ARCH_GELU) {
        column_gelu_fwd(m, &s->g, &s->u, &s->h2, &b->up);
    } else {
        column_fwd(m, &s->u, &s->h2, &b->up);
        block_activate(m, s);
    }
    write_half(m, out, &s->a2, &s->stats2, &s->g, &b->down, &b->norm2, &s->x2);
}

void block_fwd(struct model *m, struct block *b, struct block_saved *s,
               struct tensor *out, const struct model_input *in)
{
    const struct nn_attention a = attention_of(m, in);
    block_project(m, b, s, in->positions);
    if (cp_size(m->cp) > 1)
        cp_attention_fwd(m->cp, m->nn, m->arena, &s->att, &s->lse, &s->qkv, &a,
                         in->spans);
    else
        nn_attention_fwd(m->nn, &s->att, &s->lse, &s->qkv, &a);
    block_finish(m, b, s, out);
}
