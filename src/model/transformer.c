/* The whole network: embedding, blocks, final norm, LM head with loss; forward, then backward
 * in the reverse order. */
#include <stdlib.h>
#include <string.h>

#include "model/model_impl.h"

struct tensor model_take(struct model *m, int64_t rows, int64_t cols)
{
    void *data = arena_alloc(m->arena, (size_t)(rows * cols) * dtype_bytes(m->dtype));
    return tensor_2d(data, m->dtype, rows, cols);
}

/* Flat [*low, *high) of the parameters that begin with `name`. */
static void find_span(const struct model *m, const char *name, int64_t *low,
                      int64_t *high)
{
    *low = m->params->n_elements;
    *high = 0;
    for (int i = 0; i < m->params->n_params; i++) {
        const struct param *p = &m->params->params[i];
        if (strncmp(p->name, name, strlen(name)) != 0) continue;
        if (p->offset < *low) *low = p->offset;
        if (p->offset + p->n > *high) *high = p->offset + p->n;
    }
}

static void bind_all(struct model *m, void *params, float *grads)
{
    const bool gpt2 = m->arch.hf_gpt2_names;
    const char *wte = gpt2 ? "transformer.wte.weight" : "model.embed_tokens.weight";
    const char *head = m->arch.tied_embeddings ? wte : "lm_head.weight";
    const char *norm = gpt2 ? "transformer.ln_f" : "model.norm";
    m->wte = model_bind(m, wte, params, m->dtype);
    m->dwte = model_bind(m, wte, grads, DTYPE_F32);
    m->head = model_bind(m, head, params, m->dtype);
    m->dhead = model_bind(m, head, grads, DTYPE_F32);
    if (m->arch.position == ARCH_LEARNED) {
        m->wpe = model_bind(m, "transformer.wpe.weight", params, m->dtype);
        m->dwpe = model_bind(m, "transformer.wpe.weight", grads, DTYPE_F32);
    }
    m->final_norm = model_bind_norm(m, norm, params, grads);
    find_span(m, head, &m->head_low, &m->head_high);
    find_span(m, norm, &m->norm_low, &m->norm_high);
    for (int64_t l = 0; l < m->arch.n_layers; l++)
        block_bind(m, &m->blocks[l], l, params, grads);
}

/* The table of rotary angles, in the arena; made on the host. */
static status_t take_rope_table(struct model *m)
{
    if (m->arch.position != ARCH_ROTARY) return STATUS_OK;
    const int64_t half = m->arch.head_size / 2, n = m->arch.max_positions * half * 2;
    m->rope_table = arena_floats(m->arena, n);
    if (!m->rope_table) return STATUS_OK; /* measuring */
    float *table = malloc((size_t)n * sizeof *table);
    if (!table) return status_set(STATUS_NOMEM, "no memory for the rotary angles");
    nn_rope_table(table, m->arch.max_positions, half, m->arch.rope_theta);
    device_copy_in(m->device, m->rope_table, table, (size_t)n * sizeof *table);
    free(table);
    return STATUS_OK;
}

status_t model_create(struct model **out, const struct model_options *o, struct nn *nn,
                      void *params, float *grads, struct arena *arena)
{
    *out = NULL;
    struct model *m = calloc(1, sizeof *m);
    if (!m) return status_set(STATUS_NOMEM, "no memory for a model");
    *m = (struct model){.arch = *o->arch,
                        .params = o->params,
                        .nn = nn,
                        .device = nn_device(nn),
                        .arena = arena,
                        .recompute = o->recompute,
                        .dtype = o->dtype};
    m->blocks = calloc((size_t)m->arch.n_layers, sizeof *m->blocks);
    m->saved = calloc((size_t)m->arch.n_layers, sizeof *m->saved);
    status_t st = STATUS_OK;
    if (!m->blocks || !m->saved) {
        st = status_set(STATUS_NOMEM, "no memory for a model");
    } else {
        bind_all(m, params, grads);
        st = take_rope_table(m);
    }
    if (st != STATUS_OK) model_destroy(&m);
    *out = m;
    return st;
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

static void need(const struct model_hooks *h, int64_t low, int64_t high)
{
    if (h && h->need) h->need(h->context, low, high);
}

static void ready(const struct model_hooks *h, int64_t low)
{
    if (h && h->ready) h->ready(h->context, low);
}

/* Forward through the blocks, keeping what backward will read; returns the last output. */
static struct tensor blocks_fwd(struct model *m, const struct model_input *in,
                                const struct model_hooks *hooks)
{
    const int64_t N = in->B * in->T, C = m->arch.hidden;
    struct tensor x = model_take(m, N, C);
    need(hooks, 0, m->blocks[0].low); /* embeddings lie in front of the blocks */
    embed(m, &x, in);
    for (int64_t l = 0; l < m->arch.n_layers; l++) {
        struct block_saved *s = &m->saved[l];
        struct tensor out = model_take(m, N, C);
        const size_t mark = arena_mark(m->arena);
        s->x = x;
        block_take(m, s, in->B, in->T);
        need(hooks, m->blocks[l].low, m->blocks[l].high);
        block_fwd(m, &m->blocks[l], s, &out, in);
        if (m->recompute == MODEL_RECOMPUTE_FULL) arena_rewind(m->arena, mark);
        x = out;
    }
    return x;
}

static void blocks_bwd(struct model *m, const struct model_input *in, struct tensor *dx,
                       const struct model_hooks *hooks)
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
        ready(hooks, m->blocks[l].low);
    }
}

void model_train(struct model *m, const struct model_input *in, struct nn_loss *loss,
                 float gradient_scale, const struct model_hooks *hooks)
{
    const size_t mark = arena_mark(m->arena);
    const int64_t N = in->B * in->T, C = m->arch.hidden;
    const struct tensor x = blocks_fwd(m, in, hooks);
    struct tensor h = model_take(m, N, C), stats = norm_stats(m, N);
    struct tensor dh = model_take(m, N, C), dx = model_take(m, N, C);
    need(hooks, m->norm_low, m->norm_high);
    need(hooks, m->head_low, m->head_high);
    norm_fwd(m, &h, &stats, &x, &m->final_norm);
    nn_cross_entropy(m->nn, loss, NULL, &dh, &m->dhead, &h, &m->head, in->targets,
                     gradient_scale);
    if (dx.data) device_zero(m->device, dx.data, tensor_bytes(&dx));
    norm_bwd(m, &dx, &dh, &x, &stats, &m->final_norm);
    blocks_bwd(m, in, &dx, hooks);
    nn_embedding_bwd(m->nn, &m->dwte, m->wpe.n_dims ? &m->dwpe : NULL, &dx, in->tokens,
                     in->positions);
    ready(hooks, 0);
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
    nn_cross_entropy(m->nn, loss, row_loss, NULL, NULL, &s.h1, &m->head, in->targets, 0);
    arena_rewind(m->arena, mark);
}

status_t model_measure(const struct model_options *o, struct device *dev, int n_threads,
                       bool train, struct model_needs *needs)
{
    struct nn *nn = NULL;
    struct model *m = NULL;
    struct arena arena = arena_measure();
    const int32_t unread = 0; /* nothing is computed */
    const struct model_input in = {
        .B = o->max_B, .T = o->T, .doc_start = o->documents ? &unread : NULL};
    struct nn_loss loss = {0};
    status_t st = nn_create_measuring(&nn, dev, n_threads);
    if (st == STATUS_OK) st = model_create(&m, o, nn, NULL, NULL, &arena);
    if (st != STATUS_OK) goto out;
    if (train) model_train(m, &in, &loss, 1, NULL);
    model_loss(m, &in, &loss, NULL);
    *needs = (struct model_needs){.activation_bytes = arena.peak_bytes,
                                  .scratch_bytes = nn_scratch_peak_bytes(nn)};
out:
    model_destroy(&m);
    nn_destroy(&nn);
    return st;
}
