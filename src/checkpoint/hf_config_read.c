/* config.json, read. */
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/hf_impl.h"
#include "core/file.h"

enum { MAX_BYTES = 16 << 20 };

/* The object, and the first thing that was wrong with it. */
struct reader {
    const char *path;
    const json_t *root;
    status_t status;
};

static void refuse(struct reader *r, const char *key, const char *why)
{
    char *found =
        json_dumps(json_object_get(r->root, key), JSON_ENCODE_ANY | JSON_COMPACT);
    if (r->status == STATUS_OK)
        r->status = status_set(STATUS_CHECKPOINT, "%s: %s is %.80s; %s", r->path, key,
                               found ? found : "missing", why);
    free(found);
}

/* A whole number of at least 1; `other` where the key is missing or null, 0: it must be there. */
static int64_t integer(struct reader *r, const char *key, int64_t other)
{
    const json_t *v = json_object_get(r->root, key);
    if ((!v || json_is_null(v)) && other > 0) return other;
    if (json_is_integer(v) && json_integer_value(v) >= 1 &&
        json_integer_value(v) <= INT32_MAX)
        return json_integer_value(v);
    refuse(r, key, "valid: a whole number from 1 to 2147483647");
    return 1;
}

static double number(struct reader *r, const char *key, double other)
{
    const json_t *v = json_object_get(r->root, key);
    if (!v || json_is_null(v)) return other;
    if (json_is_number(v) && json_number_value(v) > 0 && json_number_value(v) <= 1e12)
        return json_number_value(v);
    refuse(r, key, "valid: a number above 0, up to 1e12");
    return other;
}

static bool boolean(struct reader *r, const char *key, bool other)
{
    const json_t *v = json_object_get(r->root, key);
    if (!v || json_is_null(v)) return other;
    if (!json_is_boolean(v)) refuse(r, key, "valid: true, false");
    return json_is_true(v);
}

/* What yoke has no other way of: the key is missing or says so. */
static void must_be(struct reader *r, const char *key, bool value)
{
    if (boolean(r, key, value) != value)
        refuse(r, key, value ? "yoke knows only true" : "yoke knows only false");
}

/* Index of the text among `words`; 0 if the key is missing. */
static int one_of(struct reader *r, const char *key, const char *const *words)
{
    const json_t *v = json_object_get(r->root, key);
    const char *text = json_string_value(v);
    char why[160] = "yoke knows only";
    if (!v) return 0;
    for (int i = 0; words[i]; i++) {
        if (text && strcmp(text, words[i]) == 0) return i;
        const size_t n = strlen(why);
        snprintf(why + n, sizeof why - n, "%s %s", i ? "," : "", words[i]);
    }
    refuse(r, key, why);
    return 0;
}

/* ---- rotary positions --------------------------------------------------------------------------- */

static void read_scaling(struct reader *r, struct arch *a)
{
    static const char *const types[] = {"default", "linear", "llama3", "yarn", NULL};
    const bool named = json_object_get(r->root, "rope_type") != NULL;
    a->rope_scaling =
        (enum arch_rope_scaling)one_of(r, named ? "rope_type" : "type", types);
    if (a->rope_scaling == ARCH_ROPE_NONE) return;
    a->rope_factor = number(r, "factor", 0);
    if (a->rope_factor < 1) refuse(r, "factor", "valid: a number from 1");
    if (a->rope_scaling == ARCH_ROPE_LINEAR) return;
    const bool yarn = a->rope_scaling == ARCH_ROPE_YARN;
    a->rope_original =
        integer(r, "original_max_position_embeddings", yarn ? a->max_positions : 0);
    a->rope_low = number(r, yarn ? "beta_slow" : "low_freq_factor", 1);
    a->rope_high = number(r, yarn ? "beta_fast" : "high_freq_factor", yarn ? 32 : 4);
    if (!yarn) return;
    a->rope_attention = number(r, "attention_factor", 0);
    must_be(r, "truncate", true);
    if (json_object_get(r->root, "mscale") || json_object_get(r->root, "mscale_all_dim"))
        refuse(r, "mscale", "yoke knows only attention_factor");
}

/* Of a head's dims, those that are turned; `may`: not all of them. */
static void read_fraction(struct reader *r, struct arch *a, const char *key, bool may)
{
    a->rope_fraction = number(r, key, a->rope_fraction);
    if (a->rope_fraction > 1 || (!may && a->rope_fraction != 1))
        refuse(r, key, may ? "valid: up to 1" : "this family turns whole heads");
}

/* Older files have rope_theta and rope_scaling beside the rest, newer ones rope_parameters with all
 * of it.  `base` and `fraction`: the older names of base and share of a head, NULL: all of it. */
static void read_rope(struct reader *r, struct arch *a, const char *base,
                      const char *fraction)
{
    const json_t *nested = json_object_get(r->root, "rope_parameters");
    const json_t *scaling = json_object_get(r->root, "rope_scaling");
    const bool is_new = json_is_object(nested);
    struct reader inner = {.path = r->path, .root = is_new ? nested : scaling};
    a->rope_theta = number(r, base, 10000);
    if (fraction) read_fraction(r, a, fraction, true);
    if (nested && !json_is_null(nested) && !is_new)
        refuse(r, "rope_parameters", "valid: an object");
    if (is_new) {
        a->rope_theta = number(&inner, "rope_theta", a->rope_theta);
        read_fraction(&inner, a, "partial_rotary_factor", fraction != NULL);
    }
    if (json_is_object(inner.root))
        read_scaling(&inner, a);
    else if (inner.root && !json_is_null(inner.root))
        refuse(r, "rope_scaling", "valid: an object");
    if (r->status == STATUS_OK) r->status = inner.status;
}

/* ---- families ----------------------------------------------------------------------------------- */

static const char *const silu[] = {"silu", NULL};
/* the first two are the exact form, the others tanh's */
static const char *const gelus[] = {
    "gelu", "gelu_python", "gelu_new", "gelu_pytorch_tanh", "gelu_fast", NULL};
static const char *const tanh_gelus[] = {"gelu_new", "gelu_pytorch_tanh", "gelu_fast",
                                         NULL};

static void read_gpt2(struct reader *r, struct arch *a)
{
    a->hidden = integer(r, "n_embd", 0);
    a->n_layers = integer(r, "n_layer", 0);
    a->n_heads = a->n_kv_heads = integer(r, "n_head", 0);
    a->head_size = a->hidden / a->n_heads;
    a->ffn = integer(r, "n_inner", 4 * a->hidden);
    a->max_positions = integer(r, "n_positions", 0);
    a->norm_eps = number(r, "layer_norm_epsilon", 1e-5);
    a->tied_embeddings = boolean(r, "tie_word_embeddings", true);
    one_of(r, "activation_function", tanh_gelus);
    must_be(r, "scale_attn_weights", true);
    must_be(r, "scale_attn_by_inverse_layer_idx", false);
    must_be(r, "add_cross_attention", false);
    if (a->hidden % a->n_heads != 0) refuse(r, "n_head", "it does not divide n_embd");
}

/* What the families around llama have in common. */
static void read_common(struct reader *r, struct arch *a)
{
    a->hidden = integer(r, "hidden_size", 0);
    a->n_layers = integer(r, "num_hidden_layers", 0);
    a->n_heads = integer(r, "num_attention_heads", 0);
    a->n_kv_heads = integer(r, "num_key_value_heads", a->n_heads);
    const int64_t usual = a->hidden / a->n_heads;
    a->head_size = integer(r, "head_dim", usual > 0 ? usual : 1);
    a->ffn = integer(r, "intermediate_size", 0);
    a->max_positions = integer(r, "max_position_embeddings", 2048);
    a->norm_eps = number(r, "rms_norm_eps", 1e-6);
    read_rope(r, a, "rope_theta", NULL);
    one_of(r, "hidden_act", silu);
}

static void read_llama(struct reader *r, struct arch *a)
{
    read_common(r, a);
    a->tied_embeddings = boolean(r, "tie_word_embeddings", false);
    a->qkv_bias = a->out_bias = boolean(r, "attention_bias", false);
    a->mlp_bias = boolean(r, "mlp_bias", false);
}

/* Every layer sees all that is before it. */
static void refuse_windows(struct reader *r)
{
    const json_t *layers = json_object_get(r->root, "layer_types");
    must_be(r, "use_sliding_window", false);
    for (size_t i = 0; i < json_array_size(layers); i++) {
        const char *type = json_string_value(json_array_get(layers, i));
        if (!type || strcmp(type, "full_attention") != 0) {
            refuse(r, "layer_types", "yoke knows only full_attention");
            return;
        }
    }
}

static void read_qwen2(struct reader *r, struct arch *a)
{
    read_common(r, a);
    a->tied_embeddings = boolean(r, "tie_word_embeddings", false);
    refuse_windows(r);
}

static void read_olmo2(struct reader *r, struct arch *a)
{
    read_common(r, a);
    a->tied_embeddings = boolean(r, "tie_word_embeddings", false);
    a->qkv_bias = a->out_bias = boolean(r, "attention_bias", false);
}

/* no_rope_layers: 1 where a layer is turned, 0 where it is not. */
static void read_skipped_layers(struct reader *r, struct arch *a)
{
    const json_t *list = json_object_get(r->root, "no_rope_layers");
    if (!list || json_is_null(list)) {
        a->rope_skip = integer(r, "no_rope_layer_interval", 4);
        return;
    }
    const int64_t n = (int64_t)json_array_size(list);
    a->rope_skip = 0;
    for (int64_t l = 0; l < n && a->rope_skip == 0; l++)
        if (json_integer_value(json_array_get(list, (size_t)l)) == 0)
            a->rope_skip = l + 1;
    bool ok = n == a->n_layers;
    for (int64_t l = 0; l < n; l++) {
        const json_t *turns = json_array_get(list, (size_t)l);
        ok = ok && json_is_integer(turns) &&
             json_integer_value(turns) == arch_layer_turns(a, l);
    }
    if (!ok)
        refuse(r, "no_rope_layers",
               "yoke knows one 1 or 0 for each layer, 0 at every so many layers");
}

static void read_smollm3(struct reader *r, struct arch *a)
{
    read_common(r, a);
    a->tied_embeddings = boolean(r, "tie_word_embeddings", true);
    a->qkv_bias = a->out_bias = boolean(r, "attention_bias", false);
    a->mlp_bias = boolean(r, "mlp_bias", false);
    read_skipped_layers(r, a);
    refuse_windows(r);
}

static void read_neox(struct reader *r, struct arch *a)
{
    a->hidden = integer(r, "hidden_size", 0);
    a->n_layers = integer(r, "num_hidden_layers", 0);
    a->n_heads = a->n_kv_heads = integer(r, "num_attention_heads", 0);
    a->head_size = a->hidden / a->n_heads;
    a->ffn = integer(r, "intermediate_size", 0);
    a->max_positions = integer(r, "max_position_embeddings", 2048);
    a->norm_eps = number(r, "layer_norm_eps", 1e-5);
    a->tied_embeddings = boolean(r, "tie_word_embeddings", false);
    a->activation = one_of(r, "hidden_act", gelus) < 2 ? ARCH_GELU_ERF : ARCH_GELU;
    a->qkv_bias = a->out_bias = boolean(r, "attention_bias", true);
    read_rope(r, a, "rotary_emb_base", "rotary_pct");
    must_be(r, "use_parallel_residual", true);
    if (a->hidden % a->n_heads != 0)
        refuse(r, "num_attention_heads", "it does not divide hidden_size");
}

static status_t read_arch(struct reader *r, struct arch *a, const char **family)
{
    static const struct {
        const char *type;
        void (*read)(struct reader *r, struct arch *a);
    } types[] = {{"gpt2", read_gpt2},       {"llama", read_llama},
                 {"qwen2", read_qwen2},     {"olmo2", read_olmo2},
                 {"smollm3", read_smollm3}, {"gpt_neox", read_neox}};
    const char *type = json_string_value(json_object_get(r->root, "model_type"));
    for (size_t i = 0; type && i < sizeof types / sizeof *types; i++) {
        if (strcmp(type, types[i].type) != 0) continue;
        *family = types[i].type;
        TRY(arch_family(a, *family));
        types[i].read(r, a);
        a->vocab_size = integer(r, "vocab_size", 0);
        a->init_std = number(r, "initializer_range", 0.02);
        TRY(r->status);
        const status_t st = arch_check(a);
        return st == STATUS_OK
                   ? st
                   : status_set(STATUS_CHECKPOINT, "%s: %s", r->path, status_message());
    }
    refuse(r, "model_type", "yoke knows gpt2, llama, qwen2, olmo2, smollm3, gpt_neox");
    return r->status;
}

status_t hf_config_parse(const char *path, const json_t *root, struct arch *a,
                         const char **family)
{
    struct reader r = {.path = path, .root = root};
    *a = (struct arch){0};
    *family = "";
    if (!json_is_object(root))
        return status_set(STATUS_CHECKPOINT, "%s: is not a JSON object", path);
    return read_arch(&r, a, family);
}

status_t hf_config_read(const char *folder, struct arch *a, const char **family)
{
    char path[PATH_MAX], *text = NULL;
    size_t bytes;
    json_error_t error;
    file_join(path, sizeof path, folder, "config.json");
    if (!file_exists(path))
        return status_set(STATUS_CHECKPOINT,
                          "%s: holds no config.json, so it is no Hugging Face model",
                          folder);
    TRY(file_read(path, MAX_BYTES, &text, &bytes));
    json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    free(text);
    const status_t st =
        root ? hf_config_parse(path, root, a, family)
             : status_set(STATUS_CHECKPOINT, "%s:%d: %s", path, error.line, error.text);
    json_decref(root);
    return st;
}
