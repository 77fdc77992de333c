/* Which parameters a layer is made of: views into the flat buffers, found by name. */
#include <stdio.h>

#include "model/model_impl.h"
#include "model/names.h"

/* Of the parameter: its weights and gradients, views of this rank's part. */
struct view {
    struct tensor w, dw;
};

struct binding {
    const struct model *m;
    char *params;
    float *const *unit_grads;
    char prefix[64]; /* of the names asked for */
};

static struct tensor tensor_of(const struct param *p, void *data, enum dtype t)
{
    return p->n_dims == 1 ? tensor_1d(data, t, p->n)
                          : tensor_2d(data, t, p->local[0], p->local[1]);
}

static float *gradient_at(const struct binding *k, int64_t offset)
{
    const struct param_table *t = k->m->params;
    int u = 0;
    if (!k->unit_grads) return NULL;
    while (offset >= t->unit[u + 1]) u++;
    return k->unit_grads[u] + (offset - t->unit[u]);
}

static struct view bind(const struct binding *k, const char *name, const char *suffix)
{
    char full[128];
    snprintf(full, sizeof full, "%s%s%s", k->prefix, name, suffix);
    const int i = param_find(k->m->params, full);
    if (i < 0) die("the model has no parameter %s", full);
    const struct param *p = &k->m->params->params[i];
    const size_t bytes = dtype_bytes(k->m->dtype);
    char *w = k->params ? k->params + (size_t)p->offset * bytes : NULL;
    return (struct view){.w = tensor_of(p, w, k->m->dtype),
                         .dw = tensor_of(p, gradient_at(k, p->offset), DTYPE_F32)};
}

static struct norm bind_norm(const struct binding *k, const char *name)
{
    const struct view w = bind(k, name, ".weight");
    struct norm n = {.w = w.w, .dw = w.dw};
    if (k->m->arch.norm != ARCH_LAYERNORM) return n;
    const struct view b = bind(k, name, ".bias");
    n.b = b.w;
    n.db = b.dw;
    return n;
}

/* A linear of `rows` outputs whose first parameter is `name`. */
static struct linear bind_linear(const struct binding *k, const char *name, bool has_bias,
                                 int64_t rows)
{
    const struct view weight = bind(k, name, ".weight");
    struct linear l = {.w = weight.w, .dw = weight.dw};
    l.w.shape[0] = l.dw.shape[0] = rows;
    if (!has_bias) return l;
    const struct view bias = bind(k, name, ".bias");
    l.b = bias.w;
    l.db = bias.dw;
    l.b.shape[0] = l.db.shape[0] = rows;
    return l;
}

/* q, k, v and gate, up lie side by side, so the first name stands for all. */
static void bind_block(struct block *b, const struct binding *k, const struct names *n)
{
    const struct arch *a = &k->m->arch;
    const struct shard_widths *w = &k->m->widths;
    const int64_t D = a->head_size;
    b->norm1 = bind_norm(k, n->norm1);
    b->norm2 = bind_norm(k, n->norm2);
    b->qkv = bind_linear(k, n->qkv ? n->qkv : n->q, a->qkv_bias,
                         (w->heads + 2 * w->kv_heads) * D);
    if (a->qk_norm) {
        const struct view v = bind(k, n->q_norm, ".weight");
        b->qk_norm = (struct norm){.w = v.w, .dw = v.dw};
        b->qk_norm.w.shape[0] = b->qk_norm.dw.shape[0] = (w->heads + w->kv_heads) * D;
    }
    b->out = bind_linear(k, n->out, a->out_bias, a->hidden);
    b->up = bind_linear(k, n->gate ? n->gate : n->up, a->mlp_bias,
                        n->gate ? 2 * w->ffn : w->ffn);
    b->down = bind_linear(k, n->down, a->mlp_bias, a->hidden);
}

static void bind_blocks(struct model *m, struct binding *k)
{
    const struct names *names = names_of(&m->arch);
    int i = 0;
    for (int c = 0; c < m->shard.n_chunks; c++) {
        int64_t first, end;
        shard_layers(&m->shard, &m->arch, c, &first, &end);
        for (int64_t layer = first; layer < end; layer++, i++) {
            snprintf(k->prefix, sizeof k->prefix, names->block, (intmax_t)layer);
            bind_block(&m->blocks[i], k, names);
            m->blocks[i].unit = i + 1;
            m->blocks[i].turns = arch_layer_turns(&m->arch, layer);
        }
    }
    k->prefix[0] = '\0';
}

void model_bind_all(struct model *m, void *params, float *const *unit_grads)
{
    const struct names *n = names_of(&m->arch);
    const bool embeds = m->chunks[0].embeds;
    const bool heads = m->chunks[m->shard.n_chunks - 1].heads;
    struct binding k = {.m = m, .params = params, .unit_grads = unit_grads};
    bind_blocks(m, &k);
    if (embeds) {
        const struct view v = bind(&k, n->embedding, ".weight");
        m->wte = v.w;
        m->dwte = v.dw;
    }
    if (embeds && m->arch.position == ARCH_LEARNED) {
        const struct view v = bind(&k, n->positions, ".weight");
        m->wpe = v.w;
        m->dwpe = v.dw;
    }
    if (!heads) return;
    const struct view v =
        bind(&k, m->arch.tied_embeddings ? n->embedding : n->head, ".weight");
    m->head = v.w;
    m->dhead = v.dw;
    m->final_norm = bind_norm(&k, n->final_norm);
}
