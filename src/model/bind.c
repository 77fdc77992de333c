/* Which parameters a layer is made of: views into the flat buffers, found by name. */
#include <stdio.h>

#include "model/model_impl.h"

/* Names of a block's parameters behind its prefix; NULL: the family has none. */
struct block_names {
    const char *prefix, *norm1, *norm2;
    const char *qkv_w, *qkv_b, *out_w, *out_b, *up_w, *up_b, *down_w, *down_b;
};

static const struct block_names gpt2_names = {.prefix = "transformer.h.%jd.%s",
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
static const struct block_names llama_names = {.prefix = "model.layers.%jd.%s",
                                               .norm1 = "input_layernorm",
                                               .norm2 = "post_attention_layernorm",
                                               .qkv_w = "self_attn.q_proj.weight",
                                               .out_w = "self_attn.o_proj.weight",
                                               .up_w = "mlp.gate_proj.weight",
                                               .down_w = "mlp.down_proj.weight"};

static const struct param *find(const struct model *m, const char *name)
{
    const int i = param_find(m->params, name);
    if (i < 0) die("the model has no parameter %s", name);
    return &m->params->params[i];
}

struct tensor model_bind(const struct model *m, const char *name, void *flat,
                         enum dtype t)
{
    const struct param *p = find(m, name);
    void *data = flat ? (char *)flat + (size_t)p->offset * dtype_bytes(t) : NULL;
    return p->n_dims == 1 ? tensor_1d(data, t, p->n)
                          : tensor_2d(data, t, p->shape[0], p->shape[1]);
}

struct norm model_bind_norm(const struct model *m, const char *name, void *params,
                            float *grads)
{
    char full[128];
    struct norm n = {0};
    snprintf(full, sizeof full, "%s.weight", name);
    n.w = model_bind(m, full, params, m->dtype);
    n.dw = model_bind(m, full, grads, DTYPE_F32);
    if (m->arch.norm != ARCH_LAYERNORM) return n;
    snprintf(full, sizeof full, "%s.bias", name);
    n.b = model_bind(m, full, params, m->dtype);
    n.db = model_bind(m, full, grads, DTYPE_F32);
    return n;
}

struct binding {
    const struct model *m;
    const char *prefix;
    int64_t layer;
    void *params;
    float *grads;
};

/* A linear of `rows` outputs that starts at parameter w (and b, unless NULL). */
static struct linear bind_linear(const struct binding *k, const char *w, const char *b,
                                 int64_t rows)
{
    char full[128];
    struct linear l = {0};
    snprintf(full, sizeof full, k->prefix, (intmax_t)k->layer, w);
    l.w = model_bind(k->m, full, k->params, k->m->dtype);
    l.dw = model_bind(k->m, full, k->grads, DTYPE_F32);
    l.w.shape[0] = l.dw.shape[0] = rows;
    if (!b) return l;
    snprintf(full, sizeof full, k->prefix, (intmax_t)k->layer, b);
    l.b = model_bind(k->m, full, k->params, k->m->dtype);
    l.db = model_bind(k->m, full, k->grads, DTYPE_F32);
    l.b.shape[0] = l.db.shape[0] = rows;
    return l;
}

void block_bind(struct model *m, struct block *b, int64_t layer, void *params,
                float *grads)
{
    const struct arch *a = &m->arch;
    const struct block_names *n = a->hf_gpt2_names ? &gpt2_names : &llama_names;
    const struct binding k = {
        .m = m, .prefix = n->prefix, .layer = layer, .params = params, .grads = grads};
    const int64_t up_rows = a->activation == ARCH_SWIGLU ? 2 * a->ffn : a->ffn;
    char full[128];
    snprintf(full, sizeof full, n->prefix, (intmax_t)layer, n->norm1);
    b->norm1 = model_bind_norm(m, full, params, grads);
    snprintf(full, sizeof full, n->prefix, (intmax_t)layer, n->norm2);
    b->norm2 = model_bind_norm(m, full, params, grads);
    b->qkv = bind_linear(&k, n->qkv_w, n->qkv_b,
                         (a->n_heads + 2 * a->n_kv_heads) * a->head_size);
    b->out = bind_linear(&k, n->out_w, n->out_b, a->hidden);
    b->up = bind_linear(&k, n->up_w, n->up_b, up_rows);
    b->down = bind_linear(&k, n->down_w, n->down_b, a->hidden);
    b->low = m->params->unit[layer + 1];
    b->high = m->params->unit[layer + 2];
}
