/* config.json, written. */
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/hf_impl.h"
#include "core/file.h"

static void set_integer(json_t *o, const char *key, int64_t value)
{
    json_object_set_new(o, key, json_integer(value));
}

static void set_number(json_t *o, const char *key, double value)
{
    json_object_set_new(o, key, json_real(value));
}

static void set_text(json_t *o, const char *key, const char *value)
{
    json_object_set_new(o, key, json_string(value));
}

static void set_boolean(json_t *o, const char *key, bool value)
{
    json_object_set_new(o, key, json_boolean(value));
}

static json_t *describe_rope(const struct arch *a)
{
    static const char *const types[] = {"default", "linear", "llama3", "yarn"};
    const bool yarn = a->rope_scaling == ARCH_ROPE_YARN;
    json_t *o = json_object();
    set_number(o, "rope_theta", a->rope_theta);
    set_text(o, "rope_type", types[a->rope_scaling]);
    if (a->rope_fraction != 1) set_number(o, "partial_rotary_factor", a->rope_fraction);
    if (a->rope_scaling == ARCH_ROPE_NONE) return o;
    set_number(o, "factor", a->rope_factor);
    if (a->rope_scaling == ARCH_ROPE_LINEAR) return o;
    set_integer(o, "original_max_position_embeddings", a->rope_original);
    set_number(o, yarn ? "beta_slow" : "low_freq_factor", a->rope_low);
    set_number(o, yarn ? "beta_fast" : "high_freq_factor", a->rope_high);
    if (a->rope_attention > 0) set_number(o, "attention_factor", a->rope_attention);
    return o;
}

/* Versions of transformers before and since 5 look in different places; `base` and `fraction` are
 * the older names. */
static void set_rope(json_t *root, const struct arch *a, const char *base,
                     const char *fraction)
{
    set_number(root, base, a->rope_theta);
    if (fraction) set_number(root, fraction, a->rope_fraction);
    if (a->rope_scaling != ARCH_ROPE_NONE)
        json_object_set_new(root, "rope_scaling", describe_rope(a));
    json_object_set_new(root, "rope_parameters", describe_rope(a));
}

static void describe_gpt2(json_t *root, const struct arch *a)
{
    set_integer(root, "n_embd", a->hidden);
    set_integer(root, "n_layer", a->n_layers);
    set_integer(root, "n_head", a->n_heads);
    set_integer(root, "n_inner", a->ffn);
    set_integer(root, "n_positions", a->max_positions);
    set_integer(root, "n_ctx", a->max_positions); /* what llama.cpp's converter reads */
    set_number(root, "layer_norm_epsilon", a->norm_eps);
    set_text(root, "activation_function", "gelu_new");
    set_number(root, "attn_pdrop", 0);
    set_number(root, "embd_pdrop", 0);
    set_number(root, "resid_pdrop", 0);
}

static void describe_sizes(json_t *root, const struct arch *a)
{
    set_integer(root, "hidden_size", a->hidden);
    set_integer(root, "num_hidden_layers", a->n_layers);
    set_integer(root, "num_attention_heads", a->n_heads);
    set_integer(root, "intermediate_size", a->ffn);
    set_integer(root, "max_position_embeddings", a->max_positions);
    set_boolean(root, "attention_bias", a->qkv_bias);
}

static void describe_llama(json_t *root, const struct arch *a)
{
    describe_sizes(root, a);
    set_integer(root, "num_key_value_heads", a->n_kv_heads);
    set_integer(root, "head_dim", a->head_size);
    set_number(root, "rms_norm_eps", a->norm_eps);
    set_text(root, "hidden_act", "silu");
    set_boolean(root, "mlp_bias", a->mlp_bias);
    set_rope(root, a, "rope_theta", NULL);
}

static void describe_qwen2(json_t *root, const struct arch *a)
{
    describe_llama(root, a);
    set_boolean(root, "use_sliding_window", false);
}

static void describe_smollm3(json_t *root, const struct arch *a)
{
    json_t *turned = json_array();
    describe_llama(root, a);
    for (int64_t l = 0; l < a->n_layers; l++)
        json_array_append_new(turned, json_integer(arch_layer_turns(a, l)));
    json_object_set_new(root, "no_rope_layers", turned);
    if (a->rope_skip > 0) set_integer(root, "no_rope_layer_interval", a->rope_skip);
    set_boolean(root, "use_sliding_window", false);
}

static void describe_neox(json_t *root, const struct arch *a)
{
    describe_sizes(root, a);
    set_number(root, "layer_norm_eps", a->norm_eps);
    set_text(root, "hidden_act", a->activation == ARCH_GELU_ERF ? "gelu" : "gelu_new");
    set_boolean(root, "use_parallel_residual", true);
    set_number(root, "hidden_dropout", 0);
    set_number(root, "attention_dropout", 0);
    set_rope(root, a, "rotary_emb_base", "rotary_pct");
}

/* Would it be read as the model it describes?  Initialisation is not told there. */
static bool reads_back(const json_t *root, const struct arch *a)
{
    struct arch b;
    const char *family;
    if (hf_config_parse("config.json", root, &b, &family) != STATUS_OK) return false;
    return a->n_layers == b.n_layers && a->hidden == b.hidden &&
           a->n_heads == b.n_heads && a->n_kv_heads == b.n_kv_heads &&
           a->head_size == b.head_size && a->ffn == b.ffn &&
           a->vocab_size == b.vocab_size && a->max_positions == b.max_positions &&
           a->norm == b.norm && a->block == b.block && a->position == b.position &&
           a->activation == b.activation && a->qkv_bias == b.qkv_bias &&
           a->out_bias == b.out_bias && a->mlp_bias == b.mlp_bias &&
           a->qk_norm == b.qk_norm && a->tied_embeddings == b.tied_embeddings &&
           a->norm_eps == b.norm_eps && a->names == b.names &&
           (a->position != ARCH_ROTARY ||
            (a->rope_theta == b.rope_theta && a->rope_fraction == b.rope_fraction &&
             a->rope_skip == b.rope_skip && a->rope_scaling == b.rope_scaling));
}

static status_t write_json(const char *folder, const char *name, json_t *root)
{
    char path[PATH_MAX];
    char *text = root ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(root);
    if (!text) return status_set(STATUS_NOMEM, "%s: no memory for %s", folder, name);
    file_join(path, sizeof path, folder, name);
    const status_t st = file_replace(path, text, strlen(text));
    free(text);
    return st;
}

/* An object of the family; NULL: no memory, or no such family. */
static json_t *describe(const struct arch *a, const char *family)
{
    static const struct {
        const char *family, *class;
        void (*describe)(json_t *root, const struct arch *a);
    } types[] = {{"gpt2", "GPT2LMHeadModel", describe_gpt2},
                 {"llama", "LlamaForCausalLM", describe_llama},
                 {"qwen2", "Qwen2ForCausalLM", describe_qwen2},
                 {"olmo2", "Olmo2ForCausalLM", describe_llama},
                 {"smollm3", "SmolLM3ForCausalLM", describe_smollm3},
                 {"gpt_neox", "GPTNeoXForCausalLM", describe_neox}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (strcmp(family, types[i].family) != 0) continue;
        json_t *root = json_pack("{s:[s], s:s}", "architectures", types[i].class,
                                 "model_type", family);
        if (!root) return NULL;
        types[i].describe(root, a);
        set_integer(root, "vocab_size", a->vocab_size);
        set_boolean(root, "tie_word_embeddings", a->tied_embeddings);
        set_number(root, "initializer_range", a->init_std);
        return root;
    }
    return NULL;
}

status_t hf_config_check(const struct arch *a, const char *family)
{
    json_t *root = describe(a, family);
    const bool ok = reads_back(root, a);
    json_decref(root);
    if (ok) return STATUS_OK;
    return status_set(STATUS_CHECKPOINT,
                      "the family %s of transformers has no words for this model: its "
                      "biases, activation or rotary positions are not the family's",
                      family);
}

status_t hf_config_write(const char *folder, const struct arch *a, const char *family,
                         int64_t eos, enum safetensors_dtype dtype)
{
    static const char *const dtypes[] = {"float32", "bfloat16", "float16"};
    json_t *root = describe(a, family);
    json_t *generation = json_object();
    set_text(root, "torch_dtype", dtypes[dtype]);
    set_text(root, "dtype", dtypes[dtype]);
    /* transformers has defaults that may lie outside the vocabulary */
    json_object_set_new(root, "bos_token_id", eos >= 0 ? json_integer(eos) : json_null());
    json_object_set_new(root, "eos_token_id", eos >= 0 ? json_integer(eos) : json_null());
    /* a family's own default may lie outside a smaller vocabulary */
    json_object_set_new(root, "pad_token_id", json_null());
    if (eos >= 0) {
        set_integer(generation, "bos_token_id", eos);
        set_integer(generation, "eos_token_id", eos);
    }
    const status_t st = write_json(folder, "config.json", root);
    if (st == STATUS_OK) return write_json(folder, "generation_config.json", generation);
    json_decref(generation);
    return st;
}
