/* config.json, read and written. */
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/hf.h"
#include "core/file.h"

enum { MAX_BYTES = 16 << 20 };

/* ---- reading ----------------------------------------------------------------------------------- */

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

static void must_be_one_of(struct reader *r, const char *key, const char *a,
                           const char *b)
{
    const json_t *v = json_object_get(r->root, key);
    const char *text = json_string_value(v);
    char why[128];
    if (!v || (text && (strcmp(text, a) == 0 || strcmp(text, b) == 0))) return;
    snprintf(why, sizeof why, "yoke knows only %s%s%s", a, strcmp(a, b) ? ", " : "",
             strcmp(a, b) ? b : "");
    refuse(r, key, why);
}

/* Older files have rope_theta and rope_scaling beside the rest, newer ones rope_parameters. */
static double rope_theta(struct reader *r)
{
    const json_t *nested = json_object_get(r->root, "rope_parameters");
    const json_t *scaling = json_object_get(r->root, "rope_scaling");
    for (int k = 0; k < 2; k++) {
        const json_t *o = k ? nested : scaling;
        const char *type = json_string_value(json_object_get(o, "rope_type"));
        if (!type) type = json_string_value(json_object_get(o, "type"));
        if (json_is_object(o) && (!type ? !k : strcmp(type, "default") != 0))
            refuse(r, k ? "rope_parameters" : "rope_scaling",
                   "yoke knows only unscaled rotary positions (rope_type default)");
    }
    if (!json_is_object(nested)) return number(r, "rope_theta", 10000);
    struct reader inner = {.path = r->path, .root = nested};
    const double theta = number(&inner, "rope_theta", 10000);
    if (r->status == STATUS_OK) r->status = inner.status;
    return theta;
}

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
    must_be_one_of(r, "activation_function", "gelu_new", "gelu_pytorch_tanh");
    must_be(r, "scale_attn_weights", true);
    must_be(r, "scale_attn_by_inverse_layer_idx", false);
    must_be(r, "add_cross_attention", false);
    if (a->hidden % a->n_heads != 0) refuse(r, "n_head", "it does not divide n_embd");
}

static void read_llama(struct reader *r, struct arch *a)
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
    a->rope_theta = rope_theta(r);
    a->tied_embeddings = boolean(r, "tie_word_embeddings", false);
    must_be_one_of(r, "hidden_act", "silu", "silu");
    must_be(r, "attention_bias", false);
    must_be(r, "mlp_bias", false);
}

static status_t read_arch(struct reader *r, struct arch *a, const char **family)
{
    static const struct {
        const char *type;
        void (*read)(struct reader *r, struct arch *a);
    } types[] = {{"gpt2", read_gpt2}, {"llama", read_llama}};
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
    refuse(r, "model_type", "yoke knows gpt2 and llama");
    return r->status;
}

status_t hf_config_read(const char *folder, struct arch *a, const char **family)
{
    char path[PATH_MAX], *text = NULL;
    size_t bytes;
    json_error_t error;
    *a = (struct arch){0};
    *family = "";
    file_join(path, sizeof path, folder, "config.json");
    if (!file_exists(path))
        return status_set(STATUS_CHECKPOINT,
                          "%s: holds no config.json, so it is no Hugging Face model",
                          folder);
    TRY(file_read(path, MAX_BYTES, &text, &bytes));
    json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    free(text);
    struct reader r = {.path = path, .root = root};
    const status_t st =
        !root ? status_set(STATUS_CHECKPOINT, "%s:%d: %s", path, error.line, error.text)
        : !json_is_object(root)
            ? status_set(STATUS_CHECKPOINT, "%s: is not a JSON object", path)
            : read_arch(&r, a, family);
    json_decref(root);
    return st;
}

/* ---- writing ----------------------------------------------------------------------------------- */

static json_t *describe_gpt2(const struct arch *a)
{
    return json_pack("{s:[s], s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:s, s:f, s:f, s:f}",
                     "architectures", "GPT2LMHeadModel", "model_type", "gpt2", "n_embd",
                     (json_int_t)a->hidden, "n_layer", (json_int_t)a->n_layers, "n_head",
                     (json_int_t)a->n_heads, "n_inner", (json_int_t)a->ffn, "n_positions",
                     (json_int_t)a->max_positions, "layer_norm_epsilon", a->norm_eps,
                     "activation_function", "gelu_new", "attn_pdrop", 0.0, "embd_pdrop",
                     0.0, "resid_pdrop", 0.0);
}

/* rope_theta twice: versions of transformers before and since 5 look in different places. */
static json_t *describe_llama(const struct arch *a)
{
    return json_pack(
        "{s:[s], s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:{s:f, s:s}, s:s, "
        "s:b, "
        "s:b}",
        "architectures", "LlamaForCausalLM", "model_type", "llama", "hidden_size",
        (json_int_t)a->hidden, "num_hidden_layers", (json_int_t)a->n_layers,
        "num_attention_heads", (json_int_t)a->n_heads, "num_key_value_heads",
        (json_int_t)a->n_kv_heads, "head_dim", (json_int_t)a->head_size,
        "intermediate_size", (json_int_t)a->ffn, "max_position_embeddings",
        (json_int_t)a->max_positions, "rms_norm_eps", a->norm_eps, "rope_theta",
        a->rope_theta, "rope_parameters", "rope_theta", a->rope_theta, "rope_type",
        "default", "hidden_act", "silu", "attention_bias", 0, "mlp_bias", 0);
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

status_t hf_config_write(const char *folder, const struct arch *a, int64_t eos,
                         enum safetensors_dtype dtype)
{
    static const char *const dtypes[] = {"float32", "bfloat16", "float16"};
    json_t *root = a->hf_gpt2_names ? describe_gpt2(a) : describe_llama(a);
    json_t *generation = json_object();
    json_object_set_new(root, "vocab_size", json_integer(a->vocab_size));
    json_object_set_new(root, "tie_word_embeddings", json_boolean(a->tied_embeddings));
    json_object_set_new(root, "initializer_range", json_real(a->init_std));
    json_object_set_new(root, "torch_dtype", json_string(dtypes[dtype]));
    json_object_set_new(root, "dtype", json_string(dtypes[dtype]));
    /* transformers has defaults that may lie outside the vocabulary */
    json_object_set_new(root, "bos_token_id", eos >= 0 ? json_integer(eos) : json_null());
    json_object_set_new(root, "eos_token_id", eos >= 0 ? json_integer(eos) : json_null());
    if (eos >= 0) {
        json_object_set_new(generation, "bos_token_id", json_integer(eos));
        json_object_set_new(generation, "eos_token_id", json_integer(eos));
    }
    const status_t st = write_json(folder, "config.json", root);
    if (st != STATUS_OK) {
        json_decref(generation);
        return st;
    }
    return write_json(folder, "generation_config.json", generation);
}
