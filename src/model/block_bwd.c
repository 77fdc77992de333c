/* Backward of a block.  One gradient of the residual stream, dx, goes through it, to which both
 * halves add.  It lies in the own rows of a tensor of all rows, so that gathering needs no
 * copy.  Weight gradients are made on the way, or, when the schedule wants them later, from what
 * struct block_later keeps. */
#include "model/model_impl.h"

static struct tensor take_vector(struct arena *arena, int64_t n)
{
    return tensor_1d(arena_floats(arena, n), DTYPE_F32, n);
}

void block_later_take(struct model *m, struct block_later *l, int64_t B, int64_t T,
                      struct arena *arena)
{
    const struct shard_widths *w = &m->widths;
    const int64_t N = B * T, C = m->arch.hidden, F = w->ffn;
    int64_t first, own;
    tp_rows(m->tp, N, &first, &own);
    l->d_out = take_from(m, arena, own, C);
    l->d_x2 = take_from(m, arena, own, C);
    l->du = take_from(m, arena, N, m->arch.activation == ARCH_SWIGLU ? 2 * F : F);
    l->dqkv = take_from(m, arena, N, (w->heads + 2 * w->kv_heads) * m->arch.head_size);
    l->dnorm1w = take_vector(arena, C);
    l->dnorm1b = take_vector(arena, C);
    l->dnorm2w = take_vector(arena, C);
    l->dnorm2b = take_vector(arena, C);
    if (m->arch.qk_norm)
        l->dqk_norm = take_vector(arena, (w->heads + w->kv_heads) * m->arch.head_size);
    if (m->recompute == MODEL_RECOMPUTE_FULL)
        block_take(m, &l->saved, B, T, arena, arena); /* what was recomputed stays */
}

static void copy(struct model *m, struct tensor *y, const struct tensor *x)
{
    nn_bias_add(m->nn, y, x, NULL);
}

static void clear(struct model *m, const struct tensor *x)
{
    if (x->data) device_zero(m->device, x->data, tensor_bytes(x));
}

/* The norm with its gradients going to `w` and `b` for now. */
static struct norm norm_later(const struct norm *p, const struct tensor *w,
                              const struct tensor *b)
{
    struct norm n = *p;
    n.dw = *w;
    if (n.b.n_dims) n.db = *b;
    return n;
}

/* du, and unless they are NULL g again and db += sum du */
static void activation_bwd(struct model *m, struct tensor *du, struct tensor *g,
                           struct tensor *db, const struct tensor *dg,
                           const struct tensor *u)
{
    if (m->arch.activation == ARCH_SWIGLU)
        nn_swiglu_bwd(m->nn, du, g, db, dg, u);
    else if (m->arch.activation == ARCH_GELU_ERF)
        nn_gelu_erf_bwd(m->nn, du, g, db, dg, u);
    else
        nn_gelu_bwd(m->nn, du, g, db, dg, u);
}

/* dh[all] = gradient of s->h2 in the own rows, from d[all], that of the half's output. */
static void mlp_bwd(struct model *m, struct block *b, struct block_saved *s,
                    struct tensor *dh, const struct tensor *d, struct block_later *later)
{
    const size_t mark = arena_mark(m->arena);
    struct tensor dg = model_take(m, s->g.shape[0], s->g.shape[1]);
    struct tensor du = later ? later->du : dg; /* GELU's gradient may be made in place */
    if (!later && m->arch.activation == ARCH_SWIGLU)
        du = model_take(m, s->u.shape[0], s->u.shape[1]);
    row_bwd(m, &dg, d, &b->down);
    if (later) {
        const struct tensor own = tp_own(m->tp, d);
        copy(m, &later->d_out, &own);
        activation_bwd(m, &du, NULL, NULL, &dg, &s->u);
    } else {
        activation_bwd(m, &du, &s->g, b->up.b.n_dims ? &b->up.db : NULL, &dg, &s->u);
        row_weights(m, d, &s->g, &b->down);
    }
    column_bwd(m, dh, &du, &s->h2, &b->up, !later);
    arena_rewind(m->arena, mark);
}

/* The same of the other half: dh[all] = gradient of s->h1. */
static void attention_bwd(struct model *m, struct block *b, struct block_saved *s,
                          struct tensor *dh, const struct tensor *d,
                          const struct model_input *in, struct block_later *later)
{
    const struct nn_attention a = attention_of(m, in);
    const size_t mark = arena_mark(m->arena);
    struct tensor datt = model_take(m, s->att.shape[0], s->att.shape[1]);
    struct tensor dqkv =
        later ? later->dqkv : model_take(m, s->qkv.shape[0], s->qkv.shape[1]);
    if (later) {
        const struct tensor own = tp_own(m->tp, d);
        copy(m, &later->d_x2, &own);
    }
    row_bwd(m, &datt, d, &b->out);
    if (!later) row_weights(m, d, &s->att, &b->out);
    if (cp_size(m->cp) > 1)
        cp_attention_bwd(m->cp, m->nn, m->arena, &dqkv, &datt, &s->att, &s->lse, &s->qkv,
                         &a, in->spans);
    else
        nn_attention_bwd(m->nn, &dqkv, &datt, &s->att, &s->lse, &s->qkv, &a);
    if (b->turns) {
        const struct nn_rope rope = rope_of(m, in->positions);
        nn_rope_bwd(m->nn, &dqkv, &rope);
    }
    if (m->arch.qk_norm)
        qk_norm_bwd(m, b, s, &dqkv, later ? &later->dqk_norm : &b->qk_norm.dw);
    column_bwd(m, dh, &dqkv, &s->h1, &b->qkv, !later);
    if (!later) column_bias_bwd(m, &dqkv, &b->qkv);
    arena_rewind(m->arena, mark);
}

/* dx += what comes back through a norm in front of a half */
static void norm_first_bwd(struct model *m, struct tensor *dx, const struct tensor *dh,
                           const struct tensor *x, const struct tensor *stats,
                           struct norm *norm)
{
    struct tensor dx_own = tp_own(m->tp, dx);
    const struct tensor dh_own = tp_own(m->tp, dh);
    norm_bwd(m, &dx_own, &dh_own, x, stats, norm, NN_ACCUM);
}

/* d[all] = gradient, in the own rows, of what a norm behind a half was made of */
static void norm_last_bwd(struct model *m, struct tensor *d, const struct tensor *dx,
                          const struct tensor *a, const struct tensor *stats,
                          struct norm *norm)
{
    struct tensor d_own = tp_own(m->tp, d);
    const struct tensor dx_own = tp_own(m->tp, dx);
    norm_bwd(m, &d_own, &dx_own, a, stats, norm, NN_ASSIGN);
}

static void add_own(struct model *m, struct tensor *dx, const struct tensor *dh)
{
    struct tensor dx_own = tp_own(m->tp, dx);
    const struct tensor dh_own = tp_own(m->tp, dh);
    nn_add(m->nn, &dx_own, &dh_own);
}

/* Through both halves, in the order of the architecture. */
static void halves_bwd(struct model *m, struct block *b, struct block_saved *s,
                       struct tensor *dx, const struct model_input *in,
                       struct block_later *later)
{
    const size_t mark = arena_mark(m->arena);
    struct norm norm1 = b->norm1, norm2 = b->norm2;
    struct tensor dh = model_take(m, s->qkv.shape[0], m->arch.hidden), other = {0};
    if (later) {
        norm1 = norm_later(&norm1, &later->dnorm1w, &later->dnorm1b);
        norm2 = norm_later(&norm2, &later->dnorm2w, &later->dnorm2b);
    }
    if (m->arch.block != ARCH_NORM_FIRST)
        other = model_take(m, s->qkv.shape[0], m->arch.hidden);
    switch (m->arch.block) {
    case ARCH_NORM_FIRST:
        mlp_bwd(m, b, s, &dh, dx, later);
        norm_first_bwd(m, dx, &dh, &s->x2, &s->stats2, &norm2);
        attention_bwd(m, b, s, &dh, dx, in, later);
        norm_first_bwd(m, dx, &dh, &s->x, &s->stats1, &norm1);
        break;
    case ARCH_NORM_LAST:
        norm_last_bwd(m, &other, dx, &s->a2, &s->stats2, &norm2);
        mlp_bwd(m, b, s, &dh, &other, later);
        add_own(m, dx, &dh);
        norm_last_bwd(m, &other, dx, &s->a1, &s->stats1, &norm1);
        attention_bwd(m, b, s, &dh, &other, in, later);
        add_own(m, dx, &dh);
        break;
    case ARCH_PARALLEL:
        mlp_bwd(m, b, s, &other, dx, later);
        attention_bwd(m, b, s, &dh, dx, in, later);
        norm_first_bwd(m, dx, &other, &s->x, &s->stats2, &norm2);
        norm_first_bwd(m, dx, &dh, &s->x, &s->stats1, &norm1);
        break;
    }
    arena_rewind(m->arena, mark);
}

/* In working memory: what norms give, made again unless it was kept, and room for s->g.  The rest
 * stays where it is. */
static void cheap_again(struct model *m, struct block *b, struct block_saved *s,
                        int64_t B, int64_t T)
{
    const struct block_saved kept = *s;
    if (block_keeps_norms(m)) {
        s->g = model_take(m, s->g.shape[0], s->g.shape[1]);
        return;
    }
    struct arena nowhere = arena_measure();
    block_take(m, s, B, T, &nowhere, m->arena);
    s->qkv = kept.qkv;
    s->qk = kept.qk;
    s->qk_sums = kept.qk_sums;
    s->att = kept.att;
    s->lse = kept.lse;
    s->a1 = kept.a1;
    s->a2 = kept.a2;
    s->x2 = kept.x2;
    s->u = kept.u;
    if (m->arch.block == ARCH_NORM_LAST) {
        s->stats1 = kept.stats1;
        s->stats2 = kept.stats2;
    }
    block_read1(m, b, s);
    block_read2(m, b, s);
}

static void all_again(struct model *m, struct block *b, struct block_saved *s,
                      const struct model_input *in)
{
    struct tensor out = model_take(m, s->x.shape[0], s->x.shape[1]);
    block_fwd(m, b, s, &out, in);
}

void block_bwd(struct model *m, struct block *b, struct block_saved *s, struct tensor *dx,
               const struct model_input *in, struct block_later *later)
{
    const size_t mark = arena_mark(m->arena);
    struct block_saved now = *s;
    if (later) {
        clear(m, &later->dnorm1w);
        clear(m, &later->dnorm1b);
        clear(m, &later->dnorm2w);
        clear(m, &later->dnorm2b);
        clear(m, &later->dqk_norm);
    }
    if (m->recompute == MODEL_RECOMPUTE_FULL) {
        if (later)
            now = later->saved;
        else
            block_take(m, &now, in->B, in->T, m->arena, m->arena);
        now.x = s->x;
        all_again(m, b, &now, in);
    } else {
        cheap_again(m, b, &now, in->B, in->T);
    }
    halves_bwd(m, b, &now, dx, in, later);
    if (later) later->saved = now;
    arena_rewind(m->arena, mark);
}

/* y += x, of a norm's gradients */
static void add_norm(struct model *m, struct norm *p, const struct tensor *w,
                     const struct tensor *b)
{
    nn_add(m->nn, &p->dw, w);
    if (p->b.n_dims) nn_add(m->nn, &p->db, b);
}

void block_weights(struct model *m, struct block *b, struct block_later *later)
{
    const size_t mark = arena_mark(m->arena);
    struct block_saved s = later->saved;
    const int64_t N = s.qkv.shape[0], C = m->arch.hidden;
    struct tensor dy = model_take(m, N, C), own = tp_own(m->tp, &dy);
    if (m->recompute != MODEL_RECOMPUTE_FULL) {
        cheap_again(m, b, &s, 1, N); /* nothing of it depends on where sequences end */
        block_activate(m, &s);
    }
    copy(m, &own, &later->d_out);
    row_weights_later(m, &dy, &s.g, &b->down);
    column_weights_later(m, &later->du, &s.h2, &b->up);
    copy(m, &own, &later->d_x2);
    row_weights_later(m, &dy, &s.att, &b->out);
    column_weights_later(m, &later->dqkv, &s.h1, &b->qkv);
    add_norm(m, &b->norm1, &later->dnorm1w, &later->dnorm1b);
    add_norm(m, &b->norm2, &later->dnorm2w, &later->dnorm2b);
    if (m->arch.qk_norm) nn_add(m->nn, &b->qk_norm.dw, &later->dqk_norm);
    arena_rewind(m->arena, mark);
}
