/* Which parameters a layer is made of: views into the flat buffers, found by name. */
#include <stdio.h>

#include "model/model_impl.h"

/* Names of a block's parameters behind its prefix; NULL: the family has none. */
struct block_names {
    const char *prefix, *norm1, *norm2;
    const char *qkv_w, *qkv_b, *out_w, *out_b, *up_w, *up_b, *down_w, *down_b;
};

static const struct block_names gpt2_names = {.prefix = "transformer.h.%jd.",
                                              .norm1 = "ln_1",
                                              .norm2 = "ln_2",
                                              .qkv_w = "attn.c_attn.weight",
                                              .qkv_b = "attn.c_attn.bias",
                                              .out_w = "attn.c_proj.weight",
                                              .out_b = "attn.c_proj.bias",
                                              .up_w = "mlp.c_fc.weight",
                                              .up_b = "mlp.c_fc.bias",
                                              .down_w = "mlp.c_proj.weight",
                                              .down_b = "mlp.c_proj.bias"};

/* q, k, v and gate, up lie side by side, so the first name stands for all */
static const struct block_names llama_names = {.prefix = "model.layers.%jd.",
                                               .norm1 = "input_layernorm",
                                               .norm2 = "post_attention_layernorm",
                                               .qkv_w = "self_attn.q_proj.weight",
                                               .out_w = "self_attn.o_proj.weight",
                                               .up_w = "mlp.gate_proj.weight",
                                               .down_w = "mlp.down_proj.weight"};

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

static struct view bind(const struct binding *k, const char *name)
{
    char full[128];
    snprintf(full, sizeof full, "%s%s", k->prefix, name);
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
    char full[128];
    snprintf(full, sizeof full, "%s.weight", name);
    const struct view w = bind(k, full);
    struct norm n = {.w = w.w, .dw = w.dw};
    if (k->m->arch.norm != ARCH_LAYERNORM) return n;
    snprintf(full, sizeof full, "%s.bias", name);
    const struct view b = bind(k, full);
    n.b = b.w;
    n.db = b.dw;
    return n;
}

/* A linear of `rows` outputs that starts at parameter w (and b, unless NULL). */
static struct linear bind_linear(const struct binding *k, const char *w, const char *b,
                                 int64_t rows)
{
    const struct view weight = bind(k, w);
    struct linear l = {.w = weight.w, .dw = weight.dw};
    l.w.shape[0] = l.dw.shape[0] = rows;
    if (!b) return l;
    const struct view bias = bind(k, b);
    l.b = bias.w;
    l.db = bias.dw;
    l.b.shape[0] = l.db.shape[0] = rows;
    return l;
}

static void bind_block(struct block *b, const struct binding *k,
                       const struct block_names *n)
{
    const struct arch *a = &k->m->arch;
    const struct shard_widths *w = &k->m->widths;
    b->norm1 = bind_norm(k, n->norm1);
    b->norm2 = bind_norm(k, n->norm2);
    b->qkv =
        bind_linear(k, n->qkv_w, n->qkv_b, (w->heads + 2 * w->kv_heads) * a->head_size);
    b->out = bind_linear(k, n->out_w, n->out_b, a->hidden);
    b->up = bind_linear(k, n->up_w, n->up_b,
                        a->activation == ARCH_SWIGLU ? 2 * w->ffn : w->ffn);
    b->down = bind_linear(k, n->down_w, n->down_b, a->hidden);
}

static void bind_blocks(struct model *m, struct binding *k)
{
    const struct block_names *names = m->arch.hf_gpt2_names ? &gpt2_names : &llama_names;
    int i = 0;
    for (int c = 0; c < m->shard.n_chunks; c++) {
        int64_t first, end;
        shard_layers(&m->shard, &m->arch, c, &first, &end);
        for (int64_t layer = first; layer < end; layer++, i++) {
            snprintf(k->prefix, sizeof k->prefix, names->prefix, (intmax_t)layer);
            bind_block(&m->blocks[i], k, names);
            m->blocks[i].unit = i + 1;
        }
    }
    k->prefix[0] = '\0';
}

void model_bind_all(struct model *m, void *params, float *const *unit_grads)
{
    const bool gpt2 = m->arch.hf_gpt2_names;
    const char *wte = gpt2 ? "transformer.wte.weight" : "model.embed_tokens.weight";
    const bool embeds = m->chunks[0].embeds;
    const bool heads = m->chunks[m->shard.n_chunks - 1].heads;
    struct binding k = {.m = m, .params = params, .unit_grads = unit_grads};
    bind_blocks(m, &k);
    if (embeds) {
        const struct view v = bind(&k, wte);
        m->wte = v.w;
        m->dwte = v.dw;
    }
    if (embeds && m->arch.position == ARCH_LEARNED) {
        const struct view v = bind(&k, "transformer.wpe.weight");
        m->wpe = v.w;
        m->dwpe = v.dw;
    }
    if (!heads) return;
    const struct view v = bind(&k, m->arch.tied_embeddings ? wte : "lm_head.weight");
    m->head = v.w;
    m->dhead = v.dw;
    m->final_norm = bind_norm(&k, gpt2 ? "transformer.ln_f" : "model.norm");
}
