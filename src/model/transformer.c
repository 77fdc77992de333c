/* The whole network: embedding, blocks, final norm, LM head with loss; forward, then backward
 * in the reverse order. */
#include <stdlib.h>

#include "model/model_impl.h"

struct tensor model_take(struct model *m, int64_t rows, int64_t cols)
{
    return tensor_2d(arena_floats(m->arena, rows * cols), DTYPE_F32, rows, cols);
}

static void bind_all(struct model *m, float *params, float *grads)
{
    const bool gpt2 = m->arch.hf_gpt2_names;
    const char *wte = gpt2 ? "transformer.wte.weight" : "model.embed_tokens.weight";
    const char *head = m->arch.tied_embeddings ? wte : "lm_head.weight";
    m->wte = model_bind(m, wte, params);
    m->dwte = model_bind(m, wte, grads);
    m->head = model_bind(m, head, params);
    m->dhead = model_bind(m, head, grads);
    if (m->arch.position == ARCH_LEARNED) {
        m->wpe = model_bind(m, "transformer.wpe.weight", params);
        m->dwpe = model_bind(m, "transformer.wpe.weight", grads);
    }
    m->final_norm =
        model_bind_norm(m, gpt2 ? "transformer.ln_f" : "model.norm", params, grads);
    for (int64_t l = 0; l < m->arch.n_layers; l++)
        block_bind(m, &m->blocks[l], l, params, grads);
}

static void take_rope_table(struct model *m)
{
    if (m->arch.position != ARCH_ROTARY) return;
    const int64_t half = m->arch.head_size / 2;
    m->rope_table = arena_floats(m->arena, m->arch.max_positions * half * 2);
    if (m->rope_table)
        nn_rope_table(m->rope_table, m->arch.max_positions, half, m->arch.rope_theta);
}

status_t model_create(struct model **out, const struct model_options *o, struct nn *nn,
                      float *params, float *grads, struct arena *arena)
{
    *out = NULL;
    struct model *m = calloc(1, sizeof *m);
    if (!m) return status_set(STATUS_NOMEM, "no memory for a model");
    *m = (struct model){.arch = *o->arch,
                        .params = o->params,
                        .nn = nn,
                        .device = nn_device(nn),
                        .arena = arena,
                        .recompute = o->recompute};
    m->blocks = calloc((size_t)m->arch.n_layers, sizeof *m->blocks);
    m->saved = calloc((size_t)m->arch.n_layers, sizeof *m->saved);
    if (!m->blocks || !m->saved) {
        model_destroy(&m);
        return status_set(STATUS_NOMEM, "no memory for a model");
    }
    bind_all(m, params, grads);
    take_rope_table(m);
    *out = m;
    return STATUS_OK;
}

void model_destroy(struct model **m)
{
    if (!*m) return;
    free((*m)->blocks);
    free((*m)->saved);
    free(*m);
    *m = NULL;
}

static void embed(struct model *m, struct tensor *x, const struct model_input *in)
{
    nn_embedding_fwd(m->nn, x, &m->wte, m->wpe.n_dims ? &m->wpe : NULL, in->tokens,
                     in->positions);
}

/* Forward through the blocks, keeping what backward will read; returns the last output. */
static struct tensor blocks_fwd(struct model *m, const struct model_input *in)
{
    const int64_t N = in->B * in->T, C = m->arch.hidden;
    struct tensor x = model_take(m, N, C);
    embed(m, &x, in);
    for (int64_t l = 0; l < m->arch.n_layers; l++) {
        struct block_saved *s = &m->saved[l];
        struct tensor out = model_take(m, N, C);
        const size_t mark = arena_mark(m->arena);
        s->x = x;
        block_take(m, s, in->B, in->T);
        block_fwd(m, &m->blocks[l], s, &out, in);
        if (m->recompute == MODEL_RECOMPUTE_FULL) arena_rewind(m->arena, mark);
        x = out;
    }
    return x;
}

static void blocks_bwd(struct model *m, const struct model_input *in, struct tensor *dx,
                       model_ready_fn ready, void *context)
{
    for (int64_t l = m->arch.n_layers - 1; l >= 0; l--) {
        struct block_saved *s = &m->saved[l];
        const size_t mark = arena_mark(m->arena);
        if (m->recompute == MODEL_RECOMPUTE_FULL) {
            struct tensor out = model_take(m, dx->shape[0], dx->shape[1]);
            block_take(m, s, in->B, in->T);
            block_fwd(m, &m->blocks[l], s, &out, in);
        }
        block_bwd(m, &m->blocks[l], s, dx, in);
        arena_rewind(m->arena, mark);
        if (ready) ready(context, m->blocks[l].low);
    }
}

void model_train(struct model *m, const struct model_input *in, struct nn_loss *loss,
                 model_ready_fn ready, void *context)
{
    const size_t mark = arena_mark(m->arena);
    const int64_t N = in->B * in->T, C = m->arch.hidden;
    const struct tensor x = blocks_fwd(m, in);
    struct tensor h = model_take(m, N, C), stats = norm_stats(m, N);
    struct tensor dh = model_take(m, N, C), dx = model_take(m, N, C);
    norm_fwd(m, &h, &stats, &x, &m->final_norm);
    nn_cross_entropy(m->nn, loss, NULL, &dh, &m->dhead, &h, &m->head, in->targets);
    if (dx.data) device_zero(m->device, dx.data, tensor_bytes(&dx));
    norm_bwd(m, &dx, &dh, &x, &stats, &m->final_norm);
    blocks_bwd(m, in, &dx, ready, context);
    nn_embedding_bwd(m->nn, &m->dwte, m->wpe.n_dims ? &m->dwpe : NULL, &dx, in->tokens,
                     in->positions);
    if (ready) ready(context, 0);
    arena_rewind(m->arena, mark);
}

void model_loss(struct model *m, const struct model_input *in, struct nn_loss *loss,
                float *row_loss)
{
    const size_t mark = arena_mark(m->arena);
    const int64_t N = in->B * in->T, C = m->arch.hidden;
    struct tensor x = model_take(m, N, C), out = model_take(m, N, C);
    struct block_saved s = {0}; /* nothing is kept: every block uses the same memory */
    block_take(m, &s, in->B, in->T);
    embed(m, &x, in);
    for (int64_t l = 0; l < m->arch.n_layers; l++) {
        s.x = x;
        block_fwd(m, &m->blocks[l], &s, &out, in);
        const struct tensor swap = x;
        x = out;
        out = swap;
    }
    norm_fwd(m, &s.h1, &s.stats1, &x, &m->final_norm);
    nn_cross_entropy(m->nn, loss, row_loss, NULL, NULL, &s.h1, &m->head, in->targets);
    arena_rewind(m->arena, mark);
}

status_t model_measure(const struct model_options *o, struct device *dev, int n_threads,
                       bool train, struct model_needs *needs)
{
    struct nn *nn = NULL;
    struct model *m = NULL;
    struct arena arena = arena_measure();
    const struct model_input in = {.B = o->max_B, .T = o->T};
    struct nn_loss loss = {0};
    status_t st = nn_create_measuring(&nn, dev, n_threads);
    if (st == STATUS_OK) st = model_create(&m, o, nn, NULL, NULL, &arena);
    if (st != STATUS_OK) goto out;
    if (train) model_train(m, &in, &loss, NULL, NULL);
    model_loss(m, &in, &loss, NULL);
    *needs = (struct model_needs){.activation_bytes = arena.peak_bytes,
                                  .scratch_bytes = nn_scratch_peak_bytes(nn)};
out:
    model_destroy(&m);
    nn_destroy(&nn);
    return st;
}
