#include "data/tokenizer_impl.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>

status_t parse_refuse(const char *file, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7F) *c = '?';
    return status_set(STATUS_DATA, "%s: %s", file, text);
}

static status_t no_memory(const struct parse *p)
{
    return status_set(STATUS_NOMEM, "%s: no memory for the tokenizer", p->file);
}

static bool is_null(const json_t *x)
{
    return !x || json_is_null(x);
}

/* ---- the frame --------------------------------------------------------------------------- */

status_t parse_known_keys(const char *file, const char *section, json_t *object,
                          const char *const *known)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        int i = 0;
        while (known[i] && strcmp(known[i], key) != 0) i++;
        if (!known[i])
            return parse_refuse(file, "%s\"%.60s\" is not implemented", section, key);
    }
    return STATUS_OK;
}

status_t parse_flag(const char *file, const char *section, const json_t *object,
                    const char *key, bool *value)
{
    const json_t *x = json_object_get(object, key);
    *value = json_is_true(x);
    if (is_null(x) || json_is_boolean(x)) return STATUS_OK;
    return parse_refuse(file, "%s%s is not a boolean", section, key);
}

/* NFC, or a Sequence of nothing else; null is none. */
static status_t read_normalizer(struct parse *p, const json_t *x)
{
    if (is_null(x)) return STATUS_OK;
    const char *type = json_string_value(json_object_get(x, "type"));
    if (type && strcmp(type, "NFC") == 0) {
        p->t->is_nfc = true;
        return STATUS_OK;
    }
    if (type && strcmp(type, "Sequence") == 0) {
        const json_t *list = json_object_get(x, "normalizers");
        if (!json_is_array(list))
            return parse_refuse(p->file,
                                "normalizer Sequence.normalizers is not an array");
        for (size_t i = 0; i < json_array_size(list); i++)
            TRY(read_normalizer(p, json_array_get(list, i)));
        return STATUS_OK;
    }
    return parse_refuse(p->file,
                        "normalizer \"%.60s\" is not implemented, valid: NFC, a Sequence "
                        "of NFC, or null",
                        type ? type : "?");
}

/* Those that only add special tokens or trim offsets do not change the ids of plain text. */
static status_t check_post_processor(const struct parse *p, const json_t *x)
{
    static const char *const known[] = {"ByteLevel", "TemplateProcessing",
                                        "RobertaProcessing", "BertProcessing"};
    if (is_null(x)) return STATUS_OK;
    const char *type = json_string_value(json_object_get(x, "type"));
    for (size_t i = 0; type && i < sizeof known / sizeof *known; i++)
        if (strcmp(type, known[i]) == 0) return STATUS_OK;
    const json_t *list = json_object_get(x, "processors");
    if (!type || strcmp(type, "Sequence") != 0 || !json_is_array(list))
        return parse_refuse(p->file,
                            "post_processor \"%.60s\" is not implemented, valid: "
                            "ByteLevel, TemplateProcessing, RobertaProcessing, "
                            "BertProcessing, a Sequence of them, or null",
                            type ? type : "?");
    for (size_t i = 0; i < json_array_size(list); i++)
        TRY(check_post_processor(p, json_array_get(list, i)));
    return STATUS_OK;
}

static status_t check_frame(struct parse *p)
{
    static const char *const known[] = {
        "version",       "truncation",     "padding", "added_tokens", "normalizer",
        "pre_tokenizer", "post_processor", "decoder", "model",        NULL};
    if (!json_is_object(p->root)) return parse_refuse(p->file, "is not a JSON object");
    TRY(parse_known_keys(p->file, "", p->root, known));
    const json_t *version = json_object_get(p->root, "version");
    if (!json_is_string(version) || strcmp(json_string_value(version), "1.0") != 0)
        return parse_refuse(p->file, "version is not the string \"1.0\"");
    TRY(read_normalizer(p, json_object_get(p->root, "normalizer")));
    TRY(check_post_processor(p, json_object_get(p->root, "post_processor")));
    const char *decoder =
        json_string_value(json_object_get(json_object_get(p->root, "decoder"), "type"));
    if (!decoder || strcmp(decoder, "ByteLevel") != 0)
        return parse_refuse(p->file,
                            "decoder \"%.60s\" is not implemented, valid: \"ByteLevel\"",
                            decoder ? decoder : "null");
    p->added = json_object_get(p->root, "added_tokens");
    if (!is_null(p->added) && !json_is_array(p->added))
        return parse_refuse(p->file, "added_tokens is not an array");
    return STATUS_OK;
}

static status_t check_model(struct parse *p)
{
    static const char *const known[] = {"type",
                                        "dropout",
                                        "unk_token",
                                        "continuing_subword_prefix",
                                        "end_of_word_suffix",
                                        "fuse_unk",
                                        "byte_fallback",
                                        "ignore_merges",
                                        "vocab",
                                        "merges",
                                        NULL};
    json_t *m = p->model = json_object_get(p->root, "model");
    const char *type = json_string_value(json_object_get(m, "type"));
    if (!type || strcmp(type, "BPE") != 0)
        return parse_refuse(p->file,
                            "model.type \"%.60s\" is not implemented, valid: \"BPE\"",
                            type ? type : "?");
    TRY(parse_known_keys(p->file, "model.", m, known));
    const json_t *dropout = json_object_get(m, "dropout");
    if (!is_null(dropout) &&
        !(json_is_number(dropout) && json_number_value(dropout) == 0.0))
        return parse_refuse(p->file, "model.dropout is not implemented, valid: null");
    static const char *const texts[] = {"continuing_subword_prefix",
                                        "end_of_word_suffix"};
    for (size_t i = 0; i < 2; i++) {
        const json_t *x = json_object_get(m, texts[i]);
        if (!is_null(x) && !(json_is_string(x) && json_string_length(x) == 0))
            return parse_refuse(p->file, "model.%s is not implemented, valid: null",
                                texts[i]);
    }
    if (json_is_true(json_object_get(m, "byte_fallback")))
        return parse_refuse(p->file,
                            "model.byte_fallback is not implemented, valid: false");
    p->t->ignore_merges = json_is_true(json_object_get(m, "ignore_merges"));
    p->vocab = json_object_get(m, "vocab");
    if (!json_is_object(p->vocab))
        return parse_refuse(p->file, "model.vocab is not an object");
    return STATUS_OK;
}

/* ---- vocabulary -------------------------------------------------------------------------- */

int64_t parse_id(const json_t *x)
{
    return json_is_integer(x) ? (int64_t)json_integer_value(x) : -1;
}

/* One past the largest id, and room for all tokens.  Ids may have gaps, but not so many that a
 * small file asks for much memory. */
static status_t measure(struct parse *p)
{
    int64_t largest = -1, n_ids = (int64_t)json_object_size(p->vocab);
    size_t pool_bytes = 1;
    const char *name;
    json_t *value;
    json_object_foreach(p->vocab, name, value)
    {
        const int64_t id = parse_id(value);
        if (id < 0)
            return parse_refuse(p->file,
                                "model.vocab: the id of \"%.60s\" is not an integer "
                                "of 0 or more",
                                name);
        if (id > largest) largest = id;
        pool_bytes += strlen(name);
    }
    for (size_t i = 0; i < json_array_size(p->added); i++, n_ids++) {
        const json_t *x = json_array_get(p->added, i);
        const int64_t id = parse_id(json_object_get(x, "id"));
        if (id < 0)
            return parse_refuse(p->file,
                                "added_tokens[%zu]: the id is not an integer of 0 "
                                "or more",
                                i);
        if (id > largest) largest = id;
        pool_bytes += json_string_length(json_object_get(x, "content"));
    }
    if (n_ids == 0) return parse_refuse(p->file, "model.vocab is empty");
    const int64_t limit = 2 * n_ids + 1024;
    if (largest >= limit)
        return parse_refuse(p->file,
                            "id %lld is too large for %lld tokens, valid: below %lld",
                            (long long)largest, (long long)n_ids, (long long)limit);
    p->t->vocab_size = largest + 1;
    p->t->tokens = calloc((size_t)largest + 1, sizeof *p->t->tokens);
    p->taken = calloc((size_t)largest + 1, sizeof *p->taken);
    p->made = calloc((size_t)largest + 1, sizeof *p->made);
    p->t->pool = malloc(pool_bytes);
    return p->t->tokens && p->taken && p->made && p->t->pool ? STATUS_OK : no_memory(p);
}

status_t parse_token(struct parse *p, int64_t id, const char *name, size_t n)
{
    struct tokenizer *t = p->t;
    if (p->taken[id])
        return parse_refuse(p->file, "id %lld belongs to two tokens, \"%.60s\" is one",
                            (long long)id, name);
    int64_t *value = byte_map_add(&t->names, name, strlen(name), NULL);
    if (!value) return no_memory(p);
    *value = id;
    p->taken[id] = true;
    t->tokens[id] = (struct token){.offset = t->pool_bytes, .bytes = n};
    t->pool_bytes += n;
    return STATUS_OK;
}

static status_t read_vocab(struct parse *p)
{
    struct tokenizer *t = p->t;
    const char *name;
    json_t *value;
    json_object_foreach(p->vocab, name, value)
    {
        const size_t length = strlen(name);
        char *bytes = t->pool + t->pool_bytes;
        const int64_t n = alphabet_read(bytes, name, length);
        if (n < 0)
            memcpy(bytes, name, length); /* no merge can make it: it is as it stands */
        TRY(parse_token(p, parse_id(value), name, n < 0 ? length : (size_t)n));
        if (!t->ignore_merges || n < 0) continue;
        int64_t *id = byte_map_add(&t->whole, bytes, (size_t)n, NULL);
        if (!id) return no_memory(p);
        *id = parse_id(value);
        p->made[*id] = true;
    }
    bool complete = true;
    for (unsigned b = 0; b < 256; b++) {
        const char byte = (char)b;
        char symbol[ALPHABET_MAX_NAME_BYTES];
        const int64_t *id =
            byte_map_find(&t->names, symbol, alphabet_write(symbol, &byte, 1));
        t->byte_ids[b] = id ? (int32_t)*id : -1;
        if (id) p->made[*id] = true;
        complete = complete && id;
    }
    if (!is_null(json_object_get(p->model, "unk_token")) && !complete)
        return parse_refuse(p->file,
                            "model.unk_token is not implemented for a vocabulary "
                            "that lacks some of the 256 bytes, valid: null");
    return STATUS_OK;
}

/* ---- merges ------------------------------------------------------------------------------ */

/* The two names of a rule, "a b" or ["a", "b"]; *left is not terminated. */
static bool split_merge(const json_t *x, const char **left, size_t *n_left,
                        const char **right, size_t *n_right)
{
    if (json_is_array(x)) {
        const json_t *a = json_array_get(x, 0), *b = json_array_get(x, 1);
        if (json_array_size(x) != 2 || !json_is_string(a) || !json_is_string(b))
            return false;
        *left = json_string_value(a);
        *right = json_string_value(b);
        *n_left = json_string_length(a);
        *n_right = json_string_length(b);
        return true;
    }
    const char *text = json_string_value(x);
    const char *space = text ? strchr(text, ' ') : NULL;
    if (!space || strchr(space + 1, ' ')) return false;
    *left = text;
    *n_left = (size_t)(space - text);
    *right = space + 1;
    *n_right = strlen(space + 1);
    return true;
}

static status_t read_merge(struct parse *p, size_t i, const json_t *x)
{
    const char *left, *right;
    size_t n_left, n_right;
    if (!split_merge(x, &left, &n_left, &right, &n_right))
        return parse_refuse(p->file,
                            "model.merges[%zu] is neither \"a b\" nor [\"a\", \"b\"]", i);
    char *both = malloc(n_left + n_right + 1);
    if (!both) return no_memory(p);
    memcpy(both, left, n_left);
    memcpy(both + n_left, right, n_right);
    both[n_left + n_right] = '\0';
    const struct byte_map *names = &p->t->names;
    const int64_t *a = byte_map_find(names, left, n_left);
    const int64_t *b = byte_map_find(names, right, n_right);
    const int64_t *c = byte_map_find(names, both, n_left + n_right);
    status_t st = STATUS_OK;
    if (a && b && c) {
        merge_table_put(&p->t->merges, (int32_t)*a, (int32_t)*b, (int32_t)i, (int32_t)*c);
        p->made[*c] = true;
    } else
        st = parse_refuse(p->file, "model.merges[%zu]: \"%.60s\" is not in model.vocab",
                          i, !a || !b ? (a ? right : left) : both);
    free(both);
    return st;
}

static status_t read_merges(struct parse *p)
{
    const json_t *merges = json_object_get(p->model, "merges");
    if (!json_is_array(merges))
        return parse_refuse(p->file, "model.merges is not an array");
    const size_t n = json_array_size(merges);
    TRY(merge_table_init(&p->t->merges, (int64_t)n));
    for (size_t i = 0; i < n; i++) TRY(read_merge(p, i, json_array_get(merges, i)));
    p->t->n_merges = (int64_t)n;
    return STATUS_OK;
}

/* One stage must divide the text at a cut and none may be unknown. */
static bool stages_can_cut(const struct tokenizer *t)
{
    bool divides = false;
    for (int i = 0; i < t->n_stages; i++) {
        if (t->stages[i].cut == STAGE_CUT_UNKNOWN) return false;
        divides = divides || t->stages[i].cut == STAGE_CUT_DIVIDES;
    }
    return divides;
}

/* ---- all of it --------------------------------------------------------------------------- */

static status_t read_all(struct parse *p)
{
    struct tokenizer *t = p->t;
    TRY(check_frame(p));
    TRY(check_model(p));
    TRY(parse_stages(t, p->file, json_object_get(p->root, "pre_tokenizer")));
    t->can_cut = stages_can_cut(t);
    TRY(measure(p));
    TRY(read_vocab(p));
    TRY(read_merges(p));
    TRY(parse_added(p));
    static const char *const ends[] = {"<|endoftext|>", "<|end_of_text|>", "</s>",
                                       "<|im_end|>"};
    t->eos = -1;
    for (size_t i = 0; i < sizeof ends / sizeof *ends && t->eos < 0; i++)
        t->eos = tokenizer_id(t, ends[i]);
    return STATUS_OK;
}

status_t tokenizer_parse(struct tokenizer **out, const char *name, const char *json,
                         size_t bytes)
{
    *out = NULL;
    json_error_t error;
    struct parse p = {.file = name, .t = calloc(1, sizeof *p.t)};
    if (!p.t) return no_memory(&p);
    hash_sha256(json, bytes, p.t->sha256);
    p.root = json_loadb(json, bytes, JSON_REJECT_DUPLICATES, &error);
    status_t st =
        p.root ? read_all(&p)
               : parse_refuse(name, "line %d: is not JSON: %s", error.line, error.text);
    json_decref(p.root);
    free(p.taken);
    free(p.made);
    if (st != STATUS_OK) tokenizer_close(&p.t);
    *out = p.t;
    return st;
}
