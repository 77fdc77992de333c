/* One transformer block, pre-norm:
 *
 *   x2 = x  + attention(norm1(x)) Wo^T + bo
 *   y  = x2 + act(norm2(x2) Wu^T + bu) Wd^T + bd
 *
 * Bias and residual are added by the products themselves, which saves passes over memory.
 * Backward keeps one gradient of the residual stream, dx, that every branch adds to. */
#include <math.h>

#include "model/model_impl.h"

static const struct tensor *optional(const struct tensor *t)
{
    return t->n_dims ? t : NULL;
}

/* y = x w^T + b + residual, which may be NULL */
static void linear_fwd(struct model *m, struct tensor *y, const struct tensor *x,
                       const struct linear *l, const struct tensor *residual)
{
    nn_linear_fwd(m->nn, y, x, &l->w, optional(&l->b), residual);
}

/* dx = dy w, dw += dy^T x, db += sum dy */
static void linear_bwd(struct model *m, struct tensor *dx, const struct tensor *dy,
                       const struct tensor *x, struct linear *l)
{
    nn_matmul_nn(m->nn, dx, dy, &l->w, NN_ASSIGN);
    nn_matmul_tn(m->nn, &l->dw, dy, x, NN_ACCUM);
    if (l->b.n_dims) nn_bias_bwd(m->nn, &l->db, dy);
}

static struct nn_norm nn_norm_of(const struct model *m, struct norm *p)
{
    return (struct nn_norm){.eps = (float)m->arch.norm_eps,
                            .w = &p->w,
                            .b = p->b.n_dims ? &p->b : NULL,
                            .dw = &p->dw,
                            .db = p->b.n_dims ? &p->db : NULL};
}

void norm_fwd(struct model *m, struct tensor *y, struct tensor *stats,
              const struct tensor *x, struct norm *p)
{
    const struct nn_norm n = nn_norm_of(m, p);
    if (m->arch.norm == ARCH_LAYERNORM)
        nn_layernorm_fwd(m->nn, y, stats, x, &n);
    else
        nn_rmsnorm_fwd(m->nn, y, stats, x, &n);
}

void norm_bwd(struct model *m, struct tensor *dx, const struct tensor *dy,
              const struct tensor *x, const struct tensor *stats, struct norm *p)
{
    const struct nn_norm n = nn_norm_of(m, p);
    if (m->arch.norm == ARCH_LAYERNORM)
        nn_layernorm_bwd(m->nn, dx, dy, x, stats, &n);
    else
        nn_rmsnorm_bwd(m->nn, dx, dy, x, stats, &n);
}

static struct tensor take_floats(struct model *m, int64_t rows, int64_t cols)
{
    return tensor_2d(arena_floats(m->arena, rows * cols), DTYPE_F32, rows, cols);
}

struct tensor norm_stats(struct model *m, int64_t N)
{
    if (m->arch.norm == ARCH_LAYERNORM) return take_floats(m, N, 2);
    return tensor_1d(arena_floats(m->arena, N), DTYPE_F32, N);
}

static struct nn_rope rope_of(const struct model *m, const int32_t *positions)
{
    const struct arch *a = &m->arch;
    return (struct nn_rope){.n_heads = a->n_heads + a->n_kv_heads, /* q and k, not v */
                            .head_size = a->head_size,
                            .half = a->head_size / 2,
                            .table = m->rope_table,
                            .n_positions = a->max_positions,
                            .positions = positions};
}

static struct nn_attention attention_of(const struct model *m,
                                        const struct model_input *in)
{
    const struct arch *a = &m->arch;
    return (struct nn_attention){.B = in->B,
                                 .T = in->T,
                                 .H = a->n_heads,
                                 .K = a->n_kv_heads,
                                 .D = a->head_size,
                                 .scale = 1.0f / sqrtf((float)a->head_size),
                                 .doc_start = in->doc_start};
}

void block_take(struct model *m, struct block_saved *s, int64_t B, int64_t T)
{
    const struct arch *a = &m->arch;
    const int64_t N = B * T, C = a->hidden, F = a->ffn;
    s->h1 = model_take(m, N, C);
    s->stats1 = norm_stats(m, N);
    s->qkv = model_take(m, N, (a->n_heads + 2 * a->n_kv_heads) * a->head_size);
    s->att = model_take(m, N, a->n_heads * a->head_size);
    s->lse = take_floats(m, B * a->n_heads, T);
    s->x2 = model_take(m, N, C);
    s->h2 = model_take(m, N, C);
    s->stats2 = norm_stats(m, N);
    s->u = model_take(m, N, a->activation == ARCH_SWIGLU ? 2 * F : F);
    s->g = model_take(m, N, F);
}

void block_project(struct model *m, struct block *b, struct block_saved *s,
                   const int32_t *positions)
{
    norm_fwd(m, &s->h1, &s->stats1, &s->x, &b->norm1);
    linear_fwd(m, &s->qkv, &s->h1, &b->qkv, NULL);
    if (m->arch.position == ARCH_ROTARY) {
        const struct nn_rope rope = rope_of(m, positions);
        nn_rope_fwd(m->nn, &s->qkv, &rope);
    }
}

void block_finish(struct model *m, struct block *b, struct block_saved *s,
                  struct tensor *out)
{
    linear_fwd(m, &s->x2, &s->att, &b->out, &s->x);
    norm_fwd(m, &s->h2, &s->stats2, &s->x2, &b->norm2);
    if (m->arch.activation == ARCH_SWIGLU) {
        linear_fwd(m, &s->u, &s->h2, &b->up, NULL);
        nn_swiglu_fwd(m->nn, &s->g, &s->u);
    } else {
        nn_linear_gelu_fwd(m->nn, &s->g, &s->u, &s->h2, &b->up.w, optional(&b->up.b));
    }
    linear_fwd(m, out, &s->g, &b->down, &s->x2);
}

void block_fwd(struct model *m, struct block *b, struct block_saved *s,
               struct tensor *out, const struct model_input *in)
{
    const struct nn_attention attention = attention_of(m, in);
    block_project(m, b, s, in->positions);
    nn_attention_fwd(m->nn, &s->att, &s->lse, &s->qkv, &attention);
    block_finish(m, b, s, out);
}

static void mlp_bwd(struct model *m, struct block *b, struct block_saved *s,
                    struct tensor *dx)
{
    const size_t mark = arena_mark(m->arena);
    struct tensor dg = model_take(m, s->g.shape[0], s->g.shape[1]);
    struct tensor dh = model_take(m, s->h2.shape[0], s->h2.shape[1]);
    struct tensor du = dg; /* GELU's gradient is made in place */
    linear_bwd(m, &dg, dx, &s->g, &b->down);
    if (m->arch.activation == ARCH_SWIGLU) {
        du = model_take(m, s->u.shape[0], s->u.shape[1]);
        nn_swiglu_bwd(m->nn, &du, &dg, &s->u);
    } else {
        nn_gelu_bwd(m->nn, &du, &dg, &s->u);
    }
    linear_bwd(m, &dh, &du, &s->h2, &b->up);
    norm_bwd(m, dx, &dh, &s->x2, &s->stats2, &b->norm2);
    arena_rewind(m->arena, mark);
}

static void attention_bwd(struct model *m, struct block *b, struct block_saved *s,
                          struct tensor *dx, const struct model_input *in)
{
    const struct nn_attention attention = attention_of(m, in);
    const size_t mark = arena_mark(m->arena);
    struct tensor datt = model_take(m, s->att.shape[0], s->att.shape[1]);
    struct tensor dqkv = model_take(m, s->qkv.shape[0], s->qkv.shape[1]);
    struct tensor dh = model_take(m, s->h1.shape[0], s->h1.shape[1]);
    linear_bwd(m, &datt, dx, &s->att, &b->out);
    nn_attention_bwd(m->nn, &dqkv, &datt, &s->att, &s->lse, &s->qkv, &attention);
    if (m->arch.position == ARCH_ROTARY) {
        const struct nn_rope rope = rope_of(m, in->positions);
        nn_rope_bwd(m->nn, &dqkv, &rope);
    }
    linear_bwd(m, &dh, &dqkv, &s->h1, &b->qkv);
    norm_bwd(m, dx, &dh, &s->x, &s->stats1, &b->norm1);
    arena_rewind(m->arena, mark);
}

void block_bwd(struct model *m, struct block *b, struct block_saved *s, struct tensor *dx,
               const struct model_input *in)
{
    mlp_bwd(m, b, s, dx);
    attention_bwd(m, b, s, dx, in);
}
