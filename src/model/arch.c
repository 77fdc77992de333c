#include "model/arch.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* The knobs of each family; sizes are zero. */
static const struct {
    const char *name;
    struct arch knobs;
} table[] = {
    {"gpt2",
     {.norm = ARCH_LAYERNORM,
      .position = ARCH_LEARNED,
      .activation = ARCH_GELU,
      .qkv_bias = true,
      .out_bias = true,
      .mlp_bias = true,
      .tied_embeddings = true,
      .norm_eps = 1e-5,
      .names = ARCH_NAMES_GPT2}},
    {"llama",
     {.norm = ARCH_RMSNORM,
      .position = ARCH_ROTARY,
      .activation = ARCH_SWIGLU,
      .norm_eps = 1e-5,
      .names = ARCH_NAMES_LLAMA}},
    {"qwen2",
     {.norm = ARCH_RMSNORM,
      .position = ARCH_ROTARY,
      .activation = ARCH_SWIGLU,
      .qkv_bias = true,
      .norm_eps = 1e-6,
      .rope_theta = 1e6,
      .names = ARCH_NAMES_LLAMA}},
    {"olmo2",
     {.norm = ARCH_RMSNORM,
      .block = ARCH_NORM_LAST,
      .position = ARCH_ROTARY,
      .activation = ARCH_SWIGLU,
      .qk_norm = true,
      .norm_eps = 1e-6,
      .rope_theta = 5e5,
      .init = ARCH_INIT_PLAIN,
      .init_cutoff = 3,
      .names = ARCH_NAMES_OLMO2}},
    {"smollm3",
     {.norm = ARCH_RMSNORM,
      .position = ARCH_ROTARY,
      .activation = ARCH_SWIGLU,
      .tied_embeddings = true,
      .norm_eps = 1e-6,
      .rope_theta = 5e4,
      .rope_skip = 4,
      .names = ARCH_NAMES_LLAMA}},
    {"gpt_neox",
     {.norm = ARCH_LAYERNORM,
      .block = ARCH_PARALLEL,
      .position = ARCH_ROTARY,
      .activation = ARCH_GELU,
      .qkv_bias = true,
      .out_bias = true,
      .mlp_bias = true,
      .norm_eps = 1e-5,
      .rope_fraction = 0.25,
      .init = ARCH_INIT_SMALL,
      .names = ARCH_NAMES_NEOX}},
};

enum { N_FAMILIES = sizeof table / sizeof *table };

const char *const *arch_families(void)
{
    static const char *names[N_FAMILIES + 1];
    for (int i = 0; i < N_FAMILIES; i++) names[i] = table[i].name;
    return names;
}

/* What most families have in common. */
static void set_usual(struct arch *a)
{
    if (a->rope_theta == 0) a->rope_theta = 10000;
    if (a->rope_fraction == 0) a->rope_fraction = 1;
    a->rope_factor = 1;
    a->rope_low = 1;
    a->init_std = 0.02;
}

status_t arch_family(struct arch *a, const char *family)
{
    char known[256] = "";
    for (int i = 0; i < N_FAMILIES; i++) {
        const size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s", n ? ", " : "", table[i].name);
        if (strcmp(family, table[i].name) != 0) continue;
        const struct arch sizes = *a;
        *a = table[i].knobs;
        a->n_layers = sizes.n_layers;
        a->hidden = sizes.hidden;
        a->n_heads = sizes.n_heads;
        a->n_kv_heads = sizes.n_kv_heads;
        a->head_size = sizes.head_size;
        a->ffn = sizes.ffn;
        a->vocab_size = sizes.vocab_size;
        a->max_positions = sizes.max_positions;
        set_usual(a);
        return STATUS_OK;
    }
    return status_set(STATUS_CONFIG, "model.family: %s is not known; valid: %s", family,
                      known);
}

static status_t check_positive(const char *key, int64_t value)
{
    if (value > 0) return STATUS_OK;
    return status_set(STATUS_CONFIG, "%s: %jd is not valid; it must be at least 1", key,
                      (intmax_t)value);
}

static status_t check_rope(const struct arch *a)
{
    if (a->position != ARCH_ROTARY) return STATUS_OK;
    if (a->head_size % 2 != 0)
        return status_set(STATUS_CONFIG,
                          "model.head_size: %jd is odd; rotary positions turn pairs",
                          (intmax_t)a->head_size);
    if (arch_rope_dims(a) < 2)
        return status_set(STATUS_CONFIG,
                          "model.rope_fraction: %g of model.head_size %jd is not a pair",
                          a->rope_fraction, (intmax_t)a->head_size);
    if (a->rope_scaling == ARCH_ROPE_NONE || a->rope_scaling == ARCH_ROPE_LINEAR)
        return STATUS_OK;
    TRY(check_positive("model.rope_original", a->rope_original));
    if (a->rope_low > 0 && a->rope_low < a->rope_high) return STATUS_OK;
    return status_set(STATUS_CONFIG,
                      "model.rope_low: %g is not valid with model.rope_high %g; it must "
                      "be above 0 and below that",
                      a->rope_low, a->rope_high);
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
    TRY(check_rope(a));
    if (a->names == ARCH_NAMES_GPT2 &&
        (a->n_heads != a->n_kv_heads || a->n_heads * a->head_size != a->hidden))
        return status_set(STATUS_CONFIG,
                          "model.kv_heads, model.head_size: the gpt2 family has "
                          "as many kv_heads as heads, and heads x head_size "
                          "is model.hidden");
    const bool gated = a->names == ARCH_NAMES_LLAMA || a->names == ARCH_NAMES_OLMO2;
    if ((a->activation == ARCH_SWIGLU) != gated)
        return status_set(STATUS_CONFIG, "model.activation: this family has %s",
                          gated ? "swiglu" : "gelu or gelu_erf");
    if (a->names == ARCH_NAMES_NEOX && a->n_heads != a->n_kv_heads)
        return status_set(STATUS_CONFIG,
                          "model.kv_heads: %jd; the gpt_neox family has "
                          "as many as heads",
                          (intmax_t)a->n_kv_heads);
    return STATUS_OK;
}

int64_t arch_rope_dims(const struct arch *a)
{
    return (int64_t)((double)a->head_size * a->rope_fraction) / 2 * 2;
}

bool arch_layer_turns(const struct arch *a, int64_t layer)
{
    if (a->position != ARCH_ROTARY) return false;
    return a->rope_skip == 0 || (layer + 1) % a->rope_skip != 0;
}

double arch_init_std(const struct arch *a, bool writes_residual)
{
    const double L = (double)a->n_layers, C = (double)a->hidden;
    switch (a->init) {
    case ARCH_INIT_SMALL:
        return writes_residual ? 2 / (L * sqrt(C)) : sqrt(2 / (5 * C));
    case ARCH_INIT_PLAIN:
        return a->init_std;
    case ARCH_INIT_SCALED:
        break;
    }
    return writes_residual ? a->init_std / sqrt(2 * L) : a->init_std;
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
    const int64_t D = a->head_size;
    int64_t block = block_matrices(a) + 2 * per_norm;
    if (a->qkv_bias) block += (a->n_heads + 2 * a->n_kv_heads) * D;
    if (a->qk_norm) block += (a->n_heads + a->n_kv_heads) * D;
    if (a->out_bias) block += a->hidden;
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
