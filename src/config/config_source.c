/* What a source of tokens may say besides its path. */
#include "config/config_impl.h"

#include <inttypes.h>
#include <string.h>

const char *const config_source_keys[CONFIG_SOURCE_KEYS] = {
    [CONFIG_SOURCE_WEIGHT] = "weight",         [CONFIG_SOURCE_FORMAT] = "format",
    [CONFIG_SOURCE_DTYPE] = "dtype",           [CONFIG_SOURCE_EOS] = "eos",
    [CONFIG_SOURCE_VOCAB_SIZE] = "vocab_size", [CONFIG_SOURCE_BOS] = "bos"};

static const char *const valid[CONFIG_SOURCE_KEYS] = {
    [CONFIG_SOURCE_WEIGHT] = "a number from 1e-09 to 1e+09",
    [CONFIG_SOURCE_FORMAT] = "auto, h5, npy, raw, llmc, megatron, datatrove",
    [CONFIG_SOURCE_DTYPE] = "uint16, uint32",
    [CONFIG_SOURCE_VOCAB_SIZE] = "a whole number from 1 to 2147483647",
    [CONFIG_SOURCE_EOS] = "a whole number from 0 to 2147483646",
    [CONFIG_SOURCE_BOS] = "a whole number from 0 to 2147483646"};

int config_source_key(const char *name)
{
    for (int i = 0; i < CONFIG_SOURCE_KEYS; i++)
        if (strcmp(config_source_keys[i], name) == 0) return i;
    return -1;
}

static bool set_format(struct data_source *source, const char *text)
{
    for (int i = 0; i < TOKEN_FILE_FORMATS; i++) {
        if (strcmp(token_file_formats[i], text) != 0) continue;
        source->file.format = (enum token_file_format)i;
        return true;
    }
    return false;
}

static bool set_dtype(struct data_source *source, const char *text)
{
    source->file.token_bytes = strcmp(text, "uint16") == 0   ? 2
                               : strcmp(text, "uint32") == 0 ? 4
                                                             : 0;
    return source->file.token_bytes > 0;
}

static bool set_weight(struct data_source *source, const struct config_scalar *s)
{
    return s->plain && config_read_number(s->text, &source->weight) &&
           source->weight >= 1e-9 && source->weight <= 1e9;
}

static bool set_number(const struct config_scalar *s, int64_t low, int64_t *value)
{
    return s->plain && config_read_integer(s->text, value) && *value >= low &&
           *value < INT32_MAX + low;
}

static bool set(struct data_source *source, int key, const struct config_scalar *s)
{
    struct token_file_options *o = &source->file;
    switch (key) {
    case CONFIG_SOURCE_WEIGHT:
        return set_weight(source, s);
    case CONFIG_SOURCE_FORMAT:
        return set_format(source, s->text);
    case CONFIG_SOURCE_DTYPE:
        return set_dtype(source, s->text);
    case CONFIG_SOURCE_VOCAB_SIZE:
        return set_number(s, 1, &o->vocab_size);
    case CONFIG_SOURCE_EOS:
        o->has_eos = true;
        return set_number(s, 0, &o->eos_id);
    default:
        o->has_bos = true;
        return set_number(s, 0, &o->bos_id);
    }
}

status_t config_set_source(const struct config *c, const struct config_key *k,
                           struct data_source *source, int key,
                           const struct config_scalar *value)
{
    if (set(source, key, value)) return STATUS_OK;
    return config_refuse(c, value->place, "%s: %s %s is not valid (valid: %s)", k->name,
                         config_source_keys[key], config_quote(value->text).text,
                         valid[key]);
}

status_t config_source_pair(struct data_source *source, const char *key,
                            const char *value)
{
    const struct config_scalar s = {.text = value, .bytes = strlen(value), .plain = true};
    const int i = config_source_key(key);
    if (i >= 0 && set(source, i, &s)) return STATUS_OK;
    return status_set(STATUS_USAGE, "--%s: %s is not valid (valid: %s)", key,
                      config_quote(value).text, i >= 0 ? valid[i] : "");
}

void config_write_source(FILE *out, const struct data_source *source)
{
    const struct token_file_options *o = &source->file;
    if (o->format != TOKEN_FILE_AUTO)
        fprintf(out, ", format: %s", token_file_formats[o->format]);
    if (o->token_bytes > 0) fprintf(out, ", dtype: uint%d", 8 * o->token_bytes);
    if (o->vocab_size > 0) fprintf(out, ", vocab_size: %" PRId64, o->vocab_size);
    if (o->has_eos) fprintf(out, ", eos: %" PRId64, o->eos_id);
    if (o->has_bos) fprintf(out, ", bos: %" PRId64, o->bos_id);
}
