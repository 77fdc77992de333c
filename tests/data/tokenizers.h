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
