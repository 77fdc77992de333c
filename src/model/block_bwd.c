/* Backward of a block.  One gradient of the residual stream, dx, goes through it, to which every
 * branch adds.  It lies in the own rows of a tensor of all rows, so that gathering needs no
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

static void mlp_bwd(struct model *m, struct block *b, struct block_saved *s,
                    struct tensor *dx, struct block_later *later)
{
    const size_t mark = arena_mark(m->arena);
    struct tensor dg = model_take(m, s->g.shape[0], s->g.shape[1]);
    struct tensor dh = model_take(m, s->h2.shape[0], s->h2.shape[1]);
    struct tensor du = later ? later->du : dg; /* GELU's gradient may be made in place */
    struct norm norm = b->norm2;
    if (!later && m->arch.activation == ARCH_SWIGLU)
        du = model_take(m, s->u.shape[0], s->u.shape[1]);
    if (later) {
        const struct tensor own = tp_own(m->tp, dx);
        copy(m, &later->d_out, &own);
        norm = norm_later(&norm, &later->dnorm2w, &later->dnorm2b);
    }
    row_bwd(m, &dg, dx, &s->g, &b->down, !later);
    if (m->arch.activation == ARCH_SWIGLU)
        nn_swiglu_bwd(m->nn, &du, &dg, &s->u);
    else
        nn_gelu_bwd(m->nn, &du, &dg, &s->u);
    column_bwd(m, &dh, &du, &s->h2, &b->up, !later);
    struct tensor dx_own = tp_own(m->tp, dx);
    const struct tensor dh_own = tp_own(m->tp, &dh);
    norm_bwd(m, &dx_own, &dh_own, &s->x2, &s->stats2, &norm);
    arena_rewind(m->arena, mark);
}

static void attention_bwd(struct model *m, struct block *b, struct block_saved *s,
                          struct tensor *dx, const struct model_input *in,
                          struct block_later *later)
{
    const struct nn_attention a = attention_of(m, in);
    const size_t mark = arena_mark(m->arena);
    struct tensor datt = model_take(m, s->att.shape[0], s->att.shape[1]);
    struct tensor dh = model_take(m, s->h1.shape[0], s->h1.shape[1]);
    struct tensor dqkv =
        later ? later->dqkv : model_take(m, s->qkv.shape[0], s->qkv.shape[1]);
    struct norm norm = b->norm1;
    if (later) {
        const struct tensor own = tp_own(m->tp, dx);
        copy(m, &later->d_x2, &own);
        norm = norm_later(&norm, &later->dnorm1w, &later->dnorm1b);
    }
    row_bwd(m, &datt, dx, &s->att, &b->out, !later);
    if (cp_size(m->cp) > 1)
        cp_attention_bwd(m->cp, m->nn, m->arena, &dqkv, &datt, &s->att, &s->lse, &s->qkv,
                         &a, in->spans);
    else
        nn_attention_bwd(m->nn, &dqkv, &datt, &s->att, &s->lse, &s->qkv, &a);
    if (m->arch.position == ARCH_ROTARY) {
        const struct nn_rope rope = rope_of(m, in->positions);
        nn_rope_bwd(m->nn, &dqkv, &rope);
    }
    column_bwd(m, &dh, &dqkv, &s->h1, &b->qkv, !later);
    struct tensor dx_own = tp_own(m->tp, dx);
    const struct tensor dh_own = tp_own(m->tp, &dh);
    norm_bwd(m, &dx_own, &dh_own, &s->x, &s->stats1, &norm);
    arena_rewind(m->arena, mark);
}

/* All of what forward made is there. */
static bool keeps_all(const struct model *m)
{
    return m->recompute == MODEL_RECOMPUTE_NONE && !tp_is_sharded(m->tp);
}

/* What a pass over memory gives, made again in working memory; the rest stays where it is. */
static void cheap_again(struct model *m, struct block *b, struct block_saved *s,
                        int64_t B, int64_t T)
{
    const struct block_saved kept = *s;
    struct arena nowhere = arena_measure();
    block_take(m, s, B, T, &nowhere, m->arena);
    s->qkv = kept.qkv;
    s->att = kept.att;
    s->lse = kept.lse;
    s->x2 = kept.x2;
    s->u = kept.u;
    block_norm1(m, b, s);
    block_norm2(m, b, s);
    if (m->recompute == MODEL_RECOMPUTE_NONE)
        s->g = kept.g;
    else
        block_activate(m, s);
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
    }
    if (m->recompute == MODEL_RECOMPUTE_FULL) {
        if (later)
            now = later->saved;
        else
            block_take(m, &now, in->B, in->T, m->arena, m->arena);
        now.x = s->x;
        all_again(m, b, &now, in);
    } else if (!keeps_all(m)) {
        cheap_again(m, b, &now, in->B, in->T);
    }
    mlp_bwd(m, b, &now, dx, later);
    attention_bwd(m, b, &now, dx, in, later);
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
    if (m->recompute != MODEL_RECOMPUTE_FULL && !keeps_all(m))
        cheap_again(m, b, &s, 1, N); /* nothing of it depends on where sequences end */
    copy(m, &own, &later->d_out);
    row_weights(m, &dy, &s.g, &b->down);
    column_weights(m, &later->du, &s.h2, &b->up);
    copy(m, &own, &later->d_x2);
    row_weights(m, &dy, &s.att, &b->out);
    column_weights(m, &later->dqkv, &s.h1, &b->qkv);
    add_norm(m, &b->norm1, &later->dnorm1w, &later->dnorm1b);
    add_norm(m, &b->norm2, &later->dnorm2w, &later->dnorm2b);
    arena_rewind(m->arena, mark);
}
