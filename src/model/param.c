#include "model/param.h"

#include <stdio.h>
#include <stdlib.h>
#include <math.h>
#include <string.h>

#include "core/arena.h"
#include "core/log.h"
#include "core/rng.h"

/* Groups of neighbours start on a cache line; inside a group there are no gaps. */
enum { GROUP_ALIGN = ARENA_ALIGN_BYTES / 4 };

struct builder {
    struct param_table *t;
    const struct arch *a;
    int capacity;
    char prefix[64];
};

static void start_group(struct builder *b)
{
    b->t->n_elements = (b->t->n_elements + GROUP_ALIGN - 1) / GROUP_ALIGN * GROUP_ALIGN;
}

static void add(struct builder *b, const char *name, enum param_kind kind, int64_t rows,
                int64_t cols, double mean, double std)
{
    CHECK(b->t->n_params < b->capacity);
    struct param *p = &b->t->params[b->t->n_params++];
    *p = (struct param){.kind = kind,
                        .n_dims = cols > 0 ? 2 : 1,
                        .shape = {rows, cols > 0 ? cols : 1},
                        .offset = b->t->n_elements,
                        .init_mean = mean,
                        .init_std = std};
    p->n = p->shape[0] * p->shape[1];
    const int n = snprintf(p->name, sizeof p->name, "%s%s", b->prefix, name);
    CHECK(n > 0 && (size_t)n < sizeof p->name);
    b->t->n_elements += p->n;
    b->t->n_real += p->n;
}

static void add_matrix(struct builder *b, const char *name, int64_t out, int64_t in)
{
    add(b, name, PARAM_MATRIX, out, in, 0, b->a->init_std);
}

/* A matrix that writes into the residual stream: its start is divided by sqrt(2 L) so that the
 * stream's variance does not grow with depth (Radford et al. 2019, section 2.3). */
static void add_residual(struct builder *b, const char *name, int64_t out, int64_t in)
{
    add(b, name, PARAM_MATRIX, out, in, 0,
        b->a->init_std / sqrt(2.0 * (double)b->a->n_layers));
}

static void add_bias(struct builder *b, const char *name, int64_t n)
{
    add(b, name, PARAM_BIAS, n, 0, 0, 0);
}

static void add_norm(struct builder *b, const char *name)
{
    char full[64];
    start_group(b);
    snprintf(full, sizeof full, "%s.weight", name);
    add(b, full, PARAM_NORM, b->a->hidden, 0, 1, 0);
    if (b->a->norm != ARCH_LAYERNORM) return;
    start_group(b);
    snprintf(full, sizeof full, "%s.bias", name);
    add(b, full, PARAM_NORM, b->a->hidden, 0, 0, 0);
}

/* transformers' gpt2: q, k and v are one matrix. */
static void add_gpt2_block(struct builder *b)
{
    const int64_t C = b->a->hidden, F = b->a->ffn;
    add_norm(b, "ln_1");
    start_group(b);
    add_matrix(b, "attn.c_attn.weight", 3 * C, C);
    start_group(b);
    add_bias(b, "attn.c_attn.bias", 3 * C);
    start_group(b);
    add_residual(b, "attn.c_proj.weight", C, C);
    start_group(b);
    add_bias(b, "attn.c_proj.bias", C);
    add_norm(b, "ln_2");
    start_group(b);
    add_matrix(b, "mlp.c_fc.weight", F, C);
    start_group(b);
    add_bias(b, "mlp.c_fc.bias", F);
    start_group(b);
    add_residual(b, "mlp.c_proj.weight", C, F);
    start_group(b);
    add_bias(b, "mlp.c_proj.bias", C);
}

static void add_llama_block(struct builder *b)
{
    const struct arch *a = b->a;
    const int64_t C = a->hidden, Q = a->n_heads * a->head_size,
                  KV = a->n_kv_heads * a->head_size;
    add_norm(b, "input_layernorm");
    start_group(b);
    add_matrix(b, "self_attn.q_proj.weight", Q, C);
    add_matrix(b, "self_attn.k_proj.weight", KV, C);
    add_matrix(b, "self_attn.v_proj.weight", KV, C);
    start_group(b);
    add_residual(b, "self_attn.o_proj.weight", C, Q);
    add_norm(b, "post_attention_layernorm");
    start_group(b);
    add_matrix(b, "mlp.gate_proj.weight", a->ffn, C);
    add_matrix(b, "mlp.up_proj.weight", a->ffn, C);
    start_group(b);
    add_residual(b, "mlp.down_proj.weight", C, a->ffn);
}

static void add_all(struct builder *b)
{
    const struct arch *a = b->a;
    const bool gpt2 = a->hf_gpt2_names;
    add(b, gpt2 ? "transformer.wte.weight" : "model.embed_tokens.weight", PARAM_EMBEDDING,
        a->vocab_size, a->hidden, 0, a->init_std);
    if (a->position == ARCH_LEARNED) {
        start_group(b);
        add(b, "transformer.wpe.weight", PARAM_EMBEDDING, a->max_positions, a->hidden, 0,
            a->init_std);
    }
    for (int64_t l = 0; l < a->n_layers; l++) {
        snprintf(b->prefix, sizeof b->prefix,
                 gpt2 ? "transformer.h.%jd." : "model.layers.%jd.", (intmax_t)l);
        if (gpt2)
            add_gpt2_block(b);
        else
            add_llama_block(b);
    }
    b->prefix[0] = '\0';
    add_norm(b, gpt2 ? "transformer.ln_f" : "model.norm");
    if (!a->tied_embeddings) {
        start_group(b);
        add_matrix(b, "lm_head.weight", a->vocab_size, a->hidden);
    }
    start_group(b);
}

status_t param_table_init(struct param_table *t, const struct arch *a)
{
    TRY(arch_check(a));
    struct builder b = {.t = t, .a = a, .capacity = (int)(a->n_layers * 12 + 8)};
    *t = (struct param_table){.params = calloc((size_t)b.capacity, sizeof *t->params)};
    if (!t->params) return status_set(STATUS_NOMEM, "no memory for the parameter table");
    add_all(&b);
    CHECK(t->n_real == arch_parameters(a));
    return STATUS_OK;
}

void param_table_release(struct param_table *t)
{
    free(t->params);
    *t = (struct param_table){0};
}

int param_find(const struct param_table *t, const char *name)
{
    for (int i = 0; i < t->n_params; i++)
        if (strcmp(t->params[i].name, name) == 0) return i;
    return -1;
}

static void init_part(const struct param *p, uint64_t seed, int64_t first, int64_t n,
                      float *x)
{
    const float mean = (float)p->init_mean, std = (float)p->init_std;
    if (p->init_std == 0) {
        for (int64_t i = 0; i < n; i++) x[i] = mean;
        return;
    }
    enum { BLOCK = 1 << 14 };
    const uint64_t key = rng_key(seed, "init", p->name);
#pragma omp parallel for schedule(static)
    for (int64_t start = 0; start < n; start += BLOCK) {
        const int64_t m = n - start < BLOCK ? n - start : BLOCK;
        rng_normal(key, (uint64_t)(first + start), x + start, m);
        for (int64_t i = start; i < start + m; i++) x[i] = mean + std * x[i];
    }
}

void param_init_values(const struct param_table *t, uint64_t seed, int64_t start,
                       int64_t count, float *flat)
{
    memset(flat, 0, (size_t)count * sizeof *flat);
    for (int i = 0; i < t->n_params; i++) {
        const struct param *p = &t->params[i];
        const int64_t lo = p->offset > start ? p->offset : start;
        const int64_t end = p->offset + p->n,
                      hi = end < start + count ? end : start + count;
        if (lo < hi) init_part(p, seed, lo - p->offset, hi - lo, flat + (lo - start));
    }
}
