/* Forward and backward of one micro-batch through one chunk of layers; embedding and head at the
 * ends of the model. */
#include "model/model_impl.h"

static void need(const struct model_hooks *h, int unit)
{
    if (h && h->need) h->need(h->context, unit);
}

static void begin(const struct model_hooks *h, int unit)
{
    if (h && h->begin) h->begin(h->context, unit);
}

/* The unit's gradients are complete; b: its block, if it is one. */
static void end(struct model *m, const struct model_hooks *h, int unit, struct block *b)
{
    if (!h) return;
    if (h->sum_replicated) sum_replicated(m, unit, b);
    if (h->end) h->end(h->context, unit);
}

static int last_unit(const struct model *m)
{
    return m->params->n_units - 1;
}

/* Do embedding and head share a gradient here? */
static bool is_tied_here(const struct model *m)
{
    return m->arch.tied_embeddings && m->chunks[0].embeds &&
           m->chunks[m->shard.n_chunks - 1].heads;
}

/* ---- embedding ------------------------------------------------------------------------------ */

static int64_t first_token(const struct model *m)
{
    return tp_size(m->tp) > 1 ? m->widths.first_token : NN_ALL_TOKENS;
}

/* Tokens of the rows [first, first + n), positions too if `wpe`. */
static void embed_rows(struct model *m, const struct tensor *y, int64_t first, int64_t n,
                       const struct tensor *wpe, const struct model_input *in)
{
    struct tensor yn = tensor_rows(y, first, n);
    if (n == 0) return;
    nn_embedding_fwd(m->nn, &yn, &m->wte, wpe, in->tokens + first, in->positions + first,
                     first_token(m));
}

/* x[own] = embeddings.  Every rank has some of the tokens' rows; one adds positions. */
static void embed(struct model *m, struct tensor *x, const struct model_input *in)
{
    const struct tensor *wpe = m->wpe.n_dims ? &m->wpe : NULL;
    const size_t mark = arena_mark(m->arena);
    const int64_t N = in->B * in->T;
    struct tensor sum = *x;
    if (tp_is_sharded(m->tp)) sum = model_take(m, N, m->arch.hidden);
    int64_t first, own;
    tp_rows(m->tp, N, &first, &own);
    embed_rows(m, &sum, 0, first, NULL, in);
    embed_rows(m, &sum, first, own,
               tp_is_sharded(m->tp) || tp_rank(m->tp) == 0 ? wpe : NULL, in);
    embed_rows(m, &sum, first + own, N - first - own, NULL, in);
    tp_reduce_begin(m->tp, &sum);
    tp_reduce_end(m->tp);
    if (tp_is_sharded(m->tp)) {
        const struct tensor mine = tp_own(m->tp, &sum);
        nn_bias_add(m->nn, x, &mine, NULL);
    }
    arena_rewind(m->arena, mark);
}

/* dx[all], of which the own rows are set. */
static void embed_bwd(struct model *m, const struct tensor *dx,
                      const struct model_input *in)
{
    const int64_t N = in->B * in->T;
    int64_t first, own;
    tp_rows(m->tp, N, &first, &own);
    tp_gather_begin(m->tp, dx);
    tp_gather_end(m->tp);
    nn_embedding_bwd(m->nn, &m->dwte, m->wpe.n_dims && own == N ? &m->dwpe : NULL, dx,
                     in->tokens, in->positions, first_token(m));
    if (!m->wpe.n_dims || own == N) return;
    const struct tensor mine =
        tp_own(m->tp, dx); /* positions of these rows are no one else's */
    nn_embedding_bwd(m->nn, &m->dwpe, NULL, &mine, in->positions + first, NULL,
                     NN_ALL_TOKENS);
}

/* ---- head ----------------------------------------------------------------------------------- */

static void gather_statistics(void *context, float *stats, int64_t rows)
{
    struct model *m = context;
    tp_gather_blocks(m->tp, stats, 3 * rows);
}

/* loss of x[own]; with dx[all] its gradient too, in the own rows. */
static void head(struct model *m, const struct model_pass *p, struct tensor *dx,
                 const struct tensor *x, float *row_loss)
{
    const size_t mark = arena_mark(m->arena);
    const int64_t N = p->in.B * p->in.T, C = m->arch.hidden;
    struct tensor h = model_take(m, N, C), own = tp_own(m->tp, &h), dh = {0};
    struct tensor stats = norm_stats(m, m->arena, own.shape[0]);
    const struct nn_vocab_slice slice = {.first = m->widths.first_token,
                                         .vocab_size = m->arch.vocab_size,
                                         .index = tp_rank(m->tp),
                                         .count = tp_size(m->tp),
                                         .gather = gather_statistics,
                                         .context = m};
    if (dx) dh = model_take(m, N, C);
    norm_fwd(m, &own, &stats, x, NULL, &m->final_norm);
    tp_gather_begin(m->tp, &h);
    tp_gather_end(m->tp);
    nn_cross_entropy(m->nn, p->loss, row_loss, dx ? &dh : NULL, dx ? &m->dhead : NULL, &h,
                     &m->head, p->in.targets, dx ? p->gradient_scale : 0,
                     dx ? m->z_loss : 0, tp_size(m->tp) > 1 ? &slice : NULL);
    if (dx) {
        struct tensor dx_own = tp_own(m->tp, dx);
        const struct tensor dh_own = tp_own(m->tp, &dh);
        tp_reduce_begin(m->tp, &dh);
        tp_reduce_end(m->tp);
        norm_bwd(m, &dx_own, &dh_own, x, &stats, &m->final_norm, NN_ASSIGN);
    }
    arena_rewind(m->arena, mark);
}

static void head_bwd(struct model *m, const struct model_pass *p, struct tensor *dx,
                     const struct tensor *x)
{
    const bool tied = m->arch.tied_embeddings; /* its table is in the embedding's unit */
    begin(p->hooks, last_unit(m));
    need(p->hooks, last_unit(m));
    if (tied) {
        begin(p->hooks, 0);
        need(p->hooks, 0);
    }
    head(m, p, dx, x, NULL);
    end(m, p->hooks, last_unit(m), NULL);
    if (tied && !is_tied_here(m)) end(m, p->hooks, 0, NULL);
}

/* ---- passes --------------------------------------------------------------------------------- */

static struct arena slot_arena(void *memory, size_t bytes)
{
    return memory ? arena_over(memory, bytes) : arena_measure();
}

void model_forward(struct model *m, const struct model_pass *p)
{
    struct chunk *c = &m->chunks[p->chunk];
    struct slot *slot = &c->slots[p->slot];
    struct arena kept = slot_arena(slot->memory, c->slot_bytes);
    const int64_t own = model_own_rows(m, p->in.B), C = m->arch.hidden;
    struct tensor x = p->x;
    if (c->embeds) {
        x = take_from(m, &kept, own, C);
        need(p->hooks, 0);
        embed(m, &x, &p->in);
    }
    for (int l = c->first; l < c->end; l++) {
        struct block_saved *s = &slot->saved[l - c->first];
        const bool last = l + 1 == c->end;
        struct tensor out = last && !c->heads ? p->y : take_from(m, &kept, own, C);
        const size_t mark = arena_mark(m->arena);
        s->x = x;
        block_take(m, s, p->in.B, p->in.T, &kept, m->arena);
        need(p->hooks, m->blocks[l].unit);
        block_fwd(m, &m->blocks[l], s, &out, &p->in);
        arena_rewind(m->arena, mark);
        x = out;
    }
    if (c->heads) slot->out = x;
}

/* Take what backward leaves to the weight gradients. */
static struct block_later *take_later(struct model *m, const struct chunk *c, int slot,
                                      int64_t B)
{
    struct weight_slot *s = &c->weight_slots[slot];
    struct arena kept = slot_arena(s->memory, c->weight_slot_bytes);
    for (int l = c->first; l < c->end; l++)
        block_later_take(m, &s->later[l - c->first], B, m->T, &kept);
    return s->later;
}

void model_backward(struct model *m, const struct model_pass *p)
{
    struct chunk *c = &m->chunks[p->chunk];
    struct slot *slot = &c->slots[p->slot];
    const size_t mark = arena_mark(m->arena);
    struct block_later *later =
        p->weight_slot < 0 ? NULL : take_later(m, c, p->weight_slot, p->in.B);
    struct tensor dx = p->dx;
    if (c->heads && c->embeds) dx = model_take(m, p->in.B * p->in.T, m->arch.hidden);
    if (c->heads) head_bwd(m, p, &dx, &slot->out);
    for (int l = c->end - 1; l >= c->first; l--) {
        struct block *b = &m->blocks[l];
        if (!later) begin(p->hooks, b->unit);
        block_bwd(m, b, &slot->saved[l - c->first], &dx, &p->in,
                  later ? &later[l - c->first] : NULL);
        if (!later) end(m, p->hooks, b->unit, b);
    }
    if (c->embeds) {
        if (!is_tied_here(m)) begin(p->hooks, 0);
        embed_bwd(m, &dx, &p->in);
        end(m, p->hooks, 0, NULL);
    }
    arena_rewind(m->arena, mark);
}

void model_weights(struct model *m, const struct model_pass *p)
{
    struct chunk *c = &m->chunks[p->chunk];
    struct weight_slot *slot = &c->weight_slots[p->weight_slot];
    for (int l = c->end - 1; l >= c->first; l--) {
        struct block *b = &m->blocks[l];
        begin(p->hooks, b->unit);
        block_weights(m, b, &slot->later[l - c->first]);
        end(m, p->hooks, b->unit, b);
    }
}

static bool is_in_one_piece(const struct model *m)
{
    return m->shard.n_chunks == 1 && m->chunks[0].embeds && m->chunks[0].heads;
}

void model_train(struct model *m, const struct model_input *in, struct nn_loss *loss,
                 float gradient_scale, const struct model_hooks *hooks)
{
    CHECK(is_in_one_piece(m));
    const struct model_pass p = {.weight_slot = -1,
                                 .in = *in,
                                 .loss = loss,
                                 .gradient_scale = gradient_scale,
                                 .hooks = hooks};
    model_forward(m, &p);
    model_backward(m, &p);
}

/* What forward makes of a block when nothing is kept: where training has it, a slot and working memory,
 * if there is a slot, since training is not going on; else in the arena. */
static void take_unkept(struct model *m, const struct chunk *c, struct block_saved *s,
                        int64_t B)
{
    struct arena kept = arena_measure(), work = arena_measure();
    block_take(m, s, B, m->T, &kept, &work);
    if (c->n_slots == 0 || c->slot_bytes < kept.peak_bytes) {
        block_take(m, s, B, m->T, m->arena, m->arena);
        return;
    }
    struct arena slot = slot_arena(c->slots[0].memory, c->slot_bytes);
    block_take(m, s, B, m->T, &slot, m->arena);
}

void model_infer(struct model *m, const struct model_pass *p, float *row_loss)
{
    const struct chunk *c = &m->chunks[p->chunk];
    const size_t mark = arena_mark(m->arena);
    const int64_t own = model_own_rows(m, p->in.B), C = m->arch.hidden;
    const struct tensor ends[2] = {model_take(m, own, C), model_take(m, own, C)};
    struct tensor x = p->x;
    struct block_saved s;
    take_unkept(m, c, &s, p->in.B);
    if (c->embeds) {
        x = ends[c->first % 2];
        embed(m, &x, &p->in);
    }
    for (int l = c->first; l < c->end; l++) {
        s.x = x;
        struct tensor out = l + 1 == c->end && !c->heads ? p->y : ends[(l + 1) % 2];
        block_fwd(m, &m->blocks[l], &s, &out, &p->in);
        x = out;
    }
    if (c->heads) head(m, p, NULL, &x, row_loss);
    arena_rewind(m->arena, mark);
}

void model_loss(struct model *m, const struct model_input *in, struct nn_loss *loss,
                float *row_loss)
{
    CHECK(is_in_one_piece(m));
    const struct model_pass p = {.in = *in, .loss = loss};
    model_infer(m, &p, row_loss);
}
