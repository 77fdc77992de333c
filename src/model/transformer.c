/* A rank's part of the network: what it is made of, and what memory it takes. */
#include "model/model_impl.h"
#include "model/rope.h"

#include <stdlib.h>
#include <string.h>

struct tensor take_from(struct model *m, struct arena *arena, int64_t rows, int64_t cols)
{
    void *data = arena_alloc(arena, (size_t)(rows * cols) * dtype_bytes(m->dtype));
    return tensor_2d(data, m->dtype, rows, cols);
}

struct tensor model_take(struct model *m, int64_t rows, int64_t cols)
{
    return take_from(m, m->arena, rows, cols);
}

int64_t model_all_rows(const struct model *m, int64_t B)
{
    return B * m->T;
}

int64_t model_own_rows(const struct model *m, int64_t B)
{
    int64_t first, count;
    tp_rows(m->tp, model_all_rows(m, B), &first, &count);
    return count;
}

struct tensor model_own(const struct model *m, const struct tensor *all)
{
    return tp_own(m->tp, all);
}

/* The table of rotary angles, in the arena; made on the host. */
static status_t take_rope_table(struct model *m)
{
    if (m->arch.position != ARCH_ROTARY) return STATUS_OK;
    const int64_t half = arch_rope_dims(&m->arch) / 2;
    const int64_t n = m->arch.max_positions * half * 2;
    m->rope_table = arena_floats(m->arena, n);
    if (!m->rope_table) return STATUS_OK; /* measuring */
    double *frequencies = calloc((size_t)half, sizeof *frequencies);
    float *table = malloc((size_t)n * sizeof *table);
    if (frequencies && table) {
        rope_frequencies(&m->arch, frequencies);
        nn_rope_table(table, m->arch.max_positions, half, frequencies,
                      rope_attention_scale(&m->arch));
        device_copy_in(m->device, m->rope_table, table, (size_t)n * sizeof *table);
    }
    const bool ok = frequencies && table;
    free(frequencies);
    free(table);
    return ok ? STATUS_OK : status_set(STATUS_NOMEM, "no memory for the rotary angles");
}

/* ---- slots: memory of micro-batches between forward and backward --------------------------- */

/* What forward of the chunk keeps and backward leaves for later, of B sequences. */
static size_t kept_bytes(struct model *m, const struct chunk *c, int64_t B)
{
    struct arena kept = arena_measure(), work = arena_measure();
    const int64_t own = model_own_rows(m, B);
    for (int l = c->first; l < c->end; l++) {
        struct block_saved s;
        if (l > c->first || c->embeds) take_from(m, &kept, own, m->arch.hidden);
        block_take(m, &s, B, m->T, &kept, &work);
    }
    if (c->heads) take_from(m, &kept, own, m->arch.hidden);
    return kept.peak_bytes;
}

static size_t later_bytes(struct model *m, const struct chunk *c, int64_t B)
{
    struct arena kept = arena_measure();
    for (int l = c->first; l < c->end; l++) {
        struct block_later later;
        block_later_take(m, &later, B, m->T, &kept);
    }
    return kept.peak_bytes;
}

/* Memory of the slots, whose size is that of the largest micro-batch. */
static void allocate_slots(struct model *m, struct chunk *c, int64_t max_B)
{
    c->slot_bytes = kept_bytes(m, c, max_B);
    c->weight_slot_bytes = later_bytes(m, c, max_B);
    for (int i = 0; i < c->n_slots; i++)
        c->slots[i].memory = arena_alloc(m->arena, c->slot_bytes);
    for (int i = 0; i < c->n_weight_slots; i++)
        c->weight_slots[i].memory = arena_alloc(m->arena, c->weight_slot_bytes);
}

static bool list_slots(struct chunk *c)
{
    const size_t layers = (size_t)(c->end - c->first) + 1;
    c->slots = calloc((size_t)c->n_slots + 1, sizeof *c->slots);
    c->weight_slots = calloc((size_t)c->n_weight_slots + 1, sizeof *c->weight_slots);
    if (!c->slots || !c->weight_slots) return false;
    for (int i = 0; i < c->n_slots; i++) {
        c->slots[i].saved = calloc(layers, sizeof *c->slots[i].saved);
        if (!c->slots[i].saved) return false;
    }
    for (int i = 0; i < c->n_weight_slots; i++) {
        c->weight_slots[i].later = calloc(layers, sizeof *c->weight_slots[i].later);
        if (!c->weight_slots[i].later) return false;
    }
    return true;
}

static void release_slots(struct chunk *c)
{
    for (int i = 0; c->slots && i < c->n_slots; i++) free(c->slots[i].saved);
    for (int i = 0; c->weight_slots && i < c->n_weight_slots; i++)
        free(c->weight_slots[i].later);
    free(c->slots);
    free(c->weight_slots);
}

/* ---- life ---------------------------------------------------------------------------------- */

/* Chunks, and the blocks here one behind the other. */
static status_t lay_out(struct model *m, const struct model_options *o)
{
    bool ok = true;
    for (int c = 0; c < m->shard.n_chunks; c++) {
        struct chunk *k = &m->chunks[c];
        int64_t first, end;
        shard_layers(&m->shard, &m->arch, c, &first, &end);
        *k = (struct chunk){.first = m->n_blocks,
                            .end = m->n_blocks + (int)(end - first),
                            .embeds = shard_has_embedding(&m->shard, c),
                            .heads = shard_has_head(&m->shard, c),
                            .n_slots = o->slots ? o->slots[c] : 1,
                            .n_weight_slots = o->weight_slots ? o->weight_slots[c] : 0};
        m->n_blocks = k->end;
        ok = ok && list_slots(k);
    }
    m->blocks = calloc((size_t)m->n_blocks + 1, sizeof *m->blocks);
    if (ok && m->blocks) return STATUS_OK;
    return status_set(STATUS_NOMEM, "no memory for a model");
}

status_t model_create(struct model **out, const struct model_options *o, struct nn *nn,
                      void *params, float *const *unit_grads, struct arena *arena)
{
    *out = NULL;
    struct model *m = calloc(1, sizeof *m);
    if (!m) return status_set(STATUS_NOMEM, "no memory for a model");
    *m = (struct model){.arch = *o->arch,
                        .shard = o->shard ? *o->shard : shard_whole(),
                        .params = o->params,
                        .tp = o->tp,
                        .cp = o->cp,
                        .nn = nn,
                        .device = nn_device(nn),
                        .arena = arena,
                        .recompute = o->recompute,
                        .dtype = o->dtype,
                        .z_loss = o->z_loss,
                        .T = o->T,
                        .unit_grads = unit_grads};
    m->widths = shard_widths(&m->arch, m->shard.tp_rank, m->shard.tp_size);
    status_t st = lay_out(m, o);
    if (st == STATUS_OK) st = find_shared(m);
    if (st == STATUS_OK) {
        model_bind_all(m, params, unit_grads);
        st = take_rope_table(m);
    }
    for (int c = 0; st == STATUS_OK && c < m->shard.n_chunks; c++)
        allocate_slots(m, &m->chunks[c], o->max_B);
    if (st != STATUS_OK) model_destroy(&m);
    *out = m;
    return st;
}

void model_destroy(struct model **m)
{
    if (!*m) return;
    for (int c = 0; c < (*m)->shard.n_chunks; c++) release_slots(&(*m)->chunks[c]);
    free((*m)->shared);
    free((*m)->blocks);
    free(*m);
    *m = NULL;
}

/* ---- measuring ----------------------------------------------------------------------------- */

/* Every pass there is, through every chunk, with tensors of the right shapes. */
static void run_all(struct model *m, const struct model_input *in, bool train)
{
    const int64_t own = model_own_rows(m, in->B), all = model_all_rows(m, in->B);
    struct nn_loss loss = {0};
    for (int c = 0; c < m->shard.n_chunks; c++) {
        struct model_pass p = {.chunk = c,
                               .weight_slot = m->chunks[c].n_weight_slots > 0 ? 0 : -1,
                               .in = *in,
                               .loss = &loss,
                               .gradient_scale = 1};
        const struct model_hooks hooks = {.sum_replicated = true};
        p.hooks = &hooks;
        p.x = p.y = tensor_2d(NULL, m->dtype, own, m->arch.hidden);
        p.dx = tensor_2d(NULL, m->dtype, all, m->arch.hidden);
        if (train) {
            model_forward(m, &p);
            model_backward(m, &p);
            if (p.weight_slot >= 0) model_weights(m, &p);
        }
        model_infer(m, &p, NULL);
    }
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
    status_t st = nn_create_measuring(&nn, dev, n_threads);
    if (st == STATUS_OK) st = model_create(&m, o, nn, NULL, NULL, &arena);
    if (st != STATUS_OK) goto out;
    run_all(m, &in, train);
    *needs = (struct model_needs){.activation_bytes = arena.peak_bytes,
                                  .scratch_bytes = nn_scratch_peak_bytes(nn)};
out:
    model_destroy(&m);
    nn_destroy(&nn);
    return st;
}
