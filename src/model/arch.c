#include "model/arch.h"

#include <stddef.h>
#include <string.h>

static const char *const families[] = {"gpt2", "llama", NULL};

const char *const *arch_families(void)
{
    return families;
}

status_t arch_family(struct arch *a, const char *family)
{
    if (strcmp(family, "gpt2") == 0) {
        a->norm = ARCH_LAYERNORM;
        a->position = ARCH_LEARNED;
        a->activation = ARCH_GELU;
        a->attention_bias = a->mlp_bias = true;
        a->tied_embeddings = true;
        a->hf_gpt2_names = true;
    } else if (strcmp(family, "llama") == 0) {
        a->norm = ARCH_RMSNORM;
        a->position = ARCH_ROTARY;
        a->activation = ARCH_SWIGLU;
        a->attention_bias = a->mlp_bias = false;
        a->tied_embeddings = false;
        a->hf_gpt2_names = false;
    } else {
        return status_set(STATUS_CONFIG,
                          "model.family: %s is not known; valid: gpt2, llama", family);
    }
    a->norm_eps = 1e-5;
    a->rope_theta = 10000;
    a->init_std = 0.02;
    return STATUS_OK;
}

static status_t check_positive(const char *key, int64_t value)
{
    if (value > 0) return STATUS_OK;
    return status_set(STATUS_CONFIG, "%s: %jd is not valid; it must be at least 1", key,
                      (intmax_t)value);
}

status_t arch_check(const struct arch *a)
{
    TRY(check_positive("model.layers", a->n_layers));
    TRY(check_positive("model.hidden", a->hidden));
    TRY(check_positive("model.heads", a->n_heads));
    TRY(check_positive("model.kv_heads", a->n_kv_heads));
    TRY(check_positive("model.head_size", a->head_size));
    TRY(check_positive("model.ffn", a->ffn));
    TRY(check_positive("model.vocab_size", a->vocab_size));
    TRY(check_positive("model.max_positions", a->max_positions));
    if (a->n_heads % a->n_kv_heads != 0)
        return status_set(STATUS_CONFIG,
                          "model.kv_heads: %jd does not divide model.heads %jd",
                          (intmax_t)a->n_kv_heads, (intmax_t)a->n_heads);
    if (a->position == ARCH_ROTARY && a->head_size % 2 != 0)
        return status_set(STATUS_CONFIG,
                          "model.head_size: %jd is odd; rotary positions turn pairs",
                          (intmax_t)a->head_size);
    if (a->hf_gpt2_names &&
        (a->n_heads != a->n_kv_heads || a->n_heads * a->head_size != a->hidden))
        return status_set(STATUS_CONFIG,
                          "model.kv_heads, model.head_size: the gpt2 family has "
                          "as many kv_heads as heads, and heads x head_size "
                          "is model.hidden");
    return STATUS_OK;
}

/* Elements of one block's matrices. */
static int64_t block_matrices(const struct arch *a)
{
    const int64_t q = a->n_heads * a->head_size, kv = a->n_kv_heads * a->head_size;
    const int64_t mlp = a->activation == ARCH_SWIGLU ? 3 : 2;
    return a->hidden * (2 * q + 2 * kv) + mlp * a->hidden * a->ffn;
}

int64_t arch_parameters(const struct arch *a)
{
    const int64_t per_norm = a->norm == ARCH_LAYERNORM ? 2 * a->hidden : a->hidden;
    int64_t block = block_matrices(a) + 2 * per_norm;
    if (a->attention_bias)
        block += (a->n_heads + 2 * a->n_kv_heads) * a->head_size + a->hidden;
    if (a->mlp_bias) block += a->hidden + a->ffn * (a->activation == ARCH_SWIGLU ? 2 : 1);
    int64_t n = a->vocab_size * a->hidden * (a->tied_embeddings ? 1 : 2);
    if (a->position == ARCH_LEARNED) n += a->max_positions * a->hidden;
    return n + a->n_layers * block + per_norm;
}

double arch_flops_per_token(const struct arch *a, int64_t T)
{
    const double matrices = (double)(a->n_layers * block_matrices(a)) +
                            (double)a->vocab_size * (double)a->hidden;
    const double attention =
        (double)a->n_layers * (double)(a->n_heads * a->head_size) * (double)T;
    return 6 * matrices + 6 * attention;
}
