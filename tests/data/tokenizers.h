/* tokenizers - the stored tokenizer, changed as a test needs it. */
#pragma once

#include <stdio.h>
#include <jansson.h>

#include "core/file.h"
#include "core/rng.h"
#include "data/tokenizer.h"
#include "harness/harness.h"

static inline json_t *load_fixture(const char *name)
{
    char path[4096];
    const char *source = getenv("YOKE_SOURCE");
    snprintf(path, sizeof path, "%s/tests/fixtures/%s", source ? source : ".", name);
    json_error_t error;
    json_t *root = json_load_file(path, JSON_ALLOW_NUL, &error);
    if (!root) fail_msg("%s: %s", path, error.text);
    return root;
}

static inline status_t parse_json(struct tokenizer **t, json_t *root)
{
    char *text = json_dumps(root, 0);
    assert_non_null(text);
    const status_t st = tokenizer_parse(t, "file", text, strlen(text));
    free(text);
    return st;
}

static inline struct tokenizer *small_tokenizer(void)
{
    struct tokenizer *t;
    json_t *root = load_fixture("tokenizer_small.json");
    ASSERT_OK(parse_json(&t, root));
    json_decref(root);
    return t;
}

static inline struct token_list encode(struct encoder *e, const char *text, size_t bytes)
{
    struct token_list ids = {0};
    ASSERT_OK(encoder_encode(e, text, bytes, &ids));
    return ids;
}

/* A model in which any two bytes of the text merge, so that ids show every place where the
 * pre-tokenizer divides it. */
static inline json_t *merge_anything(const char *text, size_t bytes)
{
    json_t *root = load_fixture("tokenizer_small.json");
    json_t *model = json_object_get(root, "model"),
           *old = json_object_get(model, "vocab");
    json_t *vocab = json_object(), *merges = json_array(), *x;
    const char *names[256], *name;
    bool occurs[256] = {false};
    for (size_t i = 0; i < bytes; i++) occurs[(unsigned char)text[i]] = true;
    struct tokenizer *t = small_tokenizer();
    json_object_foreach(old, name, x)
    {
        const int64_t id = json_integer_value(x);
        size_t n;
        if (id < 257) json_object_set(vocab, name, x);
        if (id > 0 && id < 257) names[(unsigned char)*tokenizer_bytes(t, id, &n)] = name;
    }
    tokenizer_close(&t);
    for (int a = 0; a < 256; a++)
        for (int b = 0; b < 256; b++) {
            if (!occurs[a] || !occurs[b]) continue;
            char both[16];
            snprintf(both, sizeof both, "%s%s", names[a], names[b]);
            json_object_set_new(vocab, both,
                                json_integer((json_int_t)json_object_size(vocab) + 1000));
            json_array_append_new(merges, json_pack("[s, s]", names[a], names[b]));
        }
    json_object_set_new(model, "vocab", vocab);
    json_object_set_new(model, "merges", merges);
    return root;
}

/* The same for all of `texts`. */
static inline json_t *merge_anything_of(json_t *texts)
{
    char *all = test_alloc(1 << 16);
    size_t i, bytes = 0;
    json_t *text;
    json_array_foreach(texts, i, text)
    {
        assert_true(bytes + json_string_length(text) < 1 << 16);
        memcpy(all + bytes, json_string_value(text), json_string_length(text));
        bytes += json_string_length(text);
    }
    return merge_anything(all, bytes);
}

static inline size_t put_utf8(char *to, uint32_t c)
{
    if (c < 0x80) return to[0] = (char)c, 1;
    const size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6) to[i] = (char)(0x80 | (c & 0x3F));
    to[0] = (char)((n == 2 ? 0xC0 : n == 3 ? 0xE0 : 0xF0) | c);
    return n;
}

/* Each text against its stored ids; closes the tokenizer. */
static inline void check_ids(struct tokenizer *t, json_t *texts, json_t *ids,
                             const char *name)
{
    struct encoder *e;
    ASSERT_OK(encoder_create(&e, t));
    assert_int_equal(json_array_size(ids), json_array_size(texts));
    for (size_t k = 0; k < json_array_size(texts); k++) {
        const json_t *text = json_array_get(texts, k), *want = json_array_get(ids, k);
        struct token_list got =
            encode(e, json_string_value(text), json_string_length(text));
        bool equal = got.n == (int64_t)json_array_size(want);
        for (int64_t i = 0; equal && i < got.n; i++)
            equal = got.ids[i] == json_integer_value(json_array_get(want, (size_t)i));
        if (!equal) fail_msg("%s: \"%s\"", name, json_string_value(text));
        token_list_release(&got);
    }
    encoder_destroy(&e);
    tokenizer_close(&t);
}

/* The ids of text[0..at) and of the rest must be those of the whole; false if they are not. */
static inline bool is_safe(struct encoder *e, const char *text, size_t bytes, size_t at,
                           const struct token_list *whole)
{
    struct token_list parts = encode(e, text, at);
    ASSERT_OK(encoder_encode(e, text + at, bytes - at, &parts));
    const bool same =
        parts.n == whole->n &&
        memcmp(parts.ids, whole->ids, (size_t)whole->n * sizeof *whole->ids) == 0;
    token_list_release(&parts);
    return same;
}

/* Text that is hard on a tokenizer: a mixture of letters, digits, spaces of all kinds, wide and
 * combining characters and broken UTF-8.  A function of the key; `bytes` of it or a few less. */
static inline size_t random_text(uint64_t key, char *text, size_t bytes)
{
    static const char *const parts[] = {"a",
                                        "the",
                                        "Zoo",
                                        "1",
                                        "23",
                                        "4567",
                                        " ",
                                        " ",
                                        " ",
                                        "  ",
                                        "    ",
                                        "\n",
                                        "\r\n",
                                        "\n\n",
                                        "\t",
                                        "'s",
                                        "'LL",
                                        "'",
                                        "!",
                                        "--",
                                        "é",
                                        "e\xCC\x81",
                                        "漢",
                                        "字",
                                        "😀",
                                        "\xE2\x80\xA9",
                                        "\xC2\xA0",
                                        "\xE3\x80\x80",
                                        "\xE1\xA0\x8E",
                                        "½",
                                        "\xF0\x9F",
                                        "\xFF",
                                        "\x80",
                                        "\xED\xA0\x80",
                                        "_",
                                        "ß",
                                        "ſ"};
    size_t at = 0;
    for (uint64_t i = 0;; i++) {
        const uint64_t r = rng_u64(key, i);
        const char *part = parts[r % (sizeof parts / sizeof *parts)];
        const size_t n = strlen(part);
        if (at + n > bytes) return at;
        memcpy(text + at, part, n);
        at += n;
    }
}
