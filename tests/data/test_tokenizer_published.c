/* The structures of the published tokenizers, and everything that decides where a text is divided,
 * against ids of Hugging Face `tokenizers` (scripts/fixtures/make_published_tokenizer_fixtures.py).
 * The real files are too large to be stored here: where the folder YOKE_TOKENIZERS has them, they
 * are tried too.
 *
 * @timeout 120 */
#include <unistd.h>

#include "data/tokenizers.h"

static void set_keys(json_t *root, json_t *x)
{
    static const char *const keys[] = {"normalizer", "post_processor", "pre_tokenizer",
                                       "added_tokens"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        json_object_set(root, keys[i], json_object_get(x, keys[i]));
    json_object_set(json_object_get(root, "model"), "ignore_merges",
                    json_object_get(x, "ignore_merges"));
}

/* Do what is asked with every case and the tokenizer it describes. */
static void for_each_case(void (*body)(struct tokenizer *t, json_t *texts, json_t *x))
{
    json_t *stored = load_fixture("tokenizer_published.json");
    json_t *texts = json_object_get(stored, "texts"), *x;
    json_t *root = load_fixture("tokenizer_small.json");
    json_object_update(json_object_get(json_object_get(root, "model"), "vocab"),
                       json_object_get(stored, "unmerged"));
    json_t *pairs = merge_anything_of(texts);
    size_t i, n_cases = 0;
    json_array_foreach(json_object_get(stored, "cases"), i, x)
    {
        struct tokenizer *t;
        json_t *base = json_is_true(json_object_get(x, "pairs")) ? pairs : root;
        set_keys(base, x);
        ASSERT_OK(parse_json(&t, base));
        body(t, texts, x);
        n_cases++;
    }
    assert_int_equal(n_cases, 23);
    json_decref(pairs);
    json_decref(root);
    json_decref(stored);
}

static void check_case(struct tokenizer *t, json_t *texts, json_t *x)
{
    check_ids(t, texts, json_object_get(x, "ids"),
              json_string_value(json_object_get(x, "name")));
}

TEST(ids_are_those_of_hugging_face_for_every_structure)
{
    for_each_case(check_case);
}

static int64_t n_cuts;

static void check_cuts(struct tokenizer *t, json_t *texts, json_t *x)
{
    struct encoder *e;
    json_t *value;
    size_t i;
    ASSERT_OK(encoder_create(&e, t));
    json_array_foreach(texts, i, value)
    {
        const char *text = json_string_value(value);
        const size_t bytes = json_string_length(value);
        struct token_list whole = encode(e, text, bytes);
        for (size_t at = 1; at < bytes; at++) {
            if (tokenizer_cut(t, text, bytes, at) != at) continue;
            if (!is_safe(e, text, bytes, at, &whole))
                fail_msg("%s: cut at %zu of %s",
                         json_string_value(json_object_get(x, "name")), at, text);
            n_cuts++;
        }
        token_list_release(&whole);
    }
    encoder_destroy(&e);
    tokenizer_close(&t);
}

TEST(every_structure_may_be_cut_where_it_says)
{
    n_cuts = 0;
    for_each_case(check_cuts);
    assert_true(n_cuts > 200);
}

TEST(real_tokenizers_give_the_ids_of_hugging_face)
{
    const char *folder = getenv("YOKE_TOKENIZERS");
    if (!folder) skip();
    json_t *stored = load_fixture("tokenizer_real.json"), *x;
    json_t *texts = json_pack("[O]", json_object_get(stored, "text"));
    size_t i, n_tried = 0;
    json_array_foreach(json_object_get(stored, "files"), i, x)
    {
        char path[4096], *json;
        size_t bytes;
        const char *name = json_string_value(json_object_get(x, "name"));
        file_join(path, sizeof path, folder, name);
        if (access(path, F_OK) != 0) {
            print_message("%s: not there\n", path);
            continue;
        }
        struct tokenizer *t;
        ASSERT_OK(file_read(path, 64 << 20, &json, &bytes));
        ASSERT_OK(tokenizer_parse(&t, path, json, bytes));
        assert_string_equal(tokenizer_sha256(t),
                            json_string_value(json_object_get(x, "sha256")));
        json_t *ids = json_pack("[O]", json_object_get(x, "ids"));
        check_ids(t, texts, ids, name);
        json_decref(ids);
        free(json);
        n_tried++;
    }
    assert_true(n_tried > 0);
    json_decref(texts);
    json_decref(stored);
}

/* The same pattern in brackets is one that only PCRE2 knows. */
static json_t *with_split(json_t *root, const char *pattern, bool in_brackets)
{
    char text[512];
    snprintf(text, sizeof text, in_brackets ? "(?:%s)" : "%s", pattern);
    json_object_set_new(root, "pre_tokenizer",
                        json_pack("{s:s, s:[{s:s, s:{s:s}, s:s, s:b}, {s:s, s:b}]}",
                                  "type", "Sequence", "pretokenizers", "type", "Split",
                                  "pattern", "Regex", text, "behavior", "Isolated",
                                  "invert", 0, "type", "ByteLevel", "use_regex", 0));
    return root;
}

/* Characters that were there before Unicode 12, which all libraries know alike. */
static size_t random_characters(uint64_t key, char *text, size_t bytes)
{
    static const uint32_t blocks[][2] = {
        {0x20, 0x7F},     {0x20, 0x7F},       {0x09, 0x0E},       {0xA0, 0x180},
        {0x17F, 0x180},   {0x300, 0x370},     {0x400, 0x450},     {0x5D0, 0x5EB},
        {0x660, 0x66A},   {0x966, 0x970},     {0x1680, 0x1681},   {0x2000, 0x2030},
        {0x2160, 0x2189}, {0x3000, 0x3010},   {0x4E00, 0x4F00},   {0xAC00, 0xAD00},
        {0xFF10, 0xFF1A}, {0x10400, 0x10450}, {0x1D7CE, 0x1D800}, {0x1F600, 0x1F640},
        {'\'', '\'' + 1}, {' ', '!'},         {'\n', '\n' + 1},   {'\r', '\r' + 1}};
    static const char *const words[] = {"'s",        "'LL", "'Re", "'VE",
                                        "'\xC5\xBF", "'m",  "'T",  "'dd"};
    size_t at = 0;
    for (uint64_t i = 0; at + 4 <= bytes; i++) {
        const uint64_t r = rng_u64(key, i);
        const uint32_t *block = blocks[r % (sizeof blocks / sizeof *blocks)];
        if (r >> 60 == 0) {
            const char *word = words[(r >> 32) % 8];
            memcpy(text + at, word, strlen(word));
            at += strlen(word);
            continue;
        }
        const uint32_t c = block[0] + (uint32_t)(r >> 32) % (block[1] - block[0]);
        at += put_utf8(text + at, c);
    }
    return at;
}

TEST(published_patterns_by_hand_divide_text_as_pcre2_does)
{
    static const char *const patterns[] = {
        "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| "
        "?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}"
        "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"
        "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"};
    char all[256];
    for (int i = 0; i < 256; i++) all[i] = (char)i;
    json_t *root = merge_anything(all, sizeof all);
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        struct tokenizer *t[2];
        struct encoder *e[2];
        for (int k = 0; k < 2; k++) {
            ASSERT_OK(parse_json(&t[k], with_split(root, patterns[i], k == 1)));
            ASSERT_OK(encoder_create(&e[k], t[k]));
        }
        for (uint64_t k = 0; k < 1000; k++) {
            char text[100];
            const size_t bytes = k % 2 ? random_text(k, text, 1 + k % 99)
                                       : random_characters(k, text, 4 + k % 95);
            struct token_list a = encode(e[0], text, bytes),
                              b = encode(e[1], text, bytes);
            if (a.n != b.n ||
                (a.n > 0 && memcmp(a.ids, b.ids, (size_t)a.n * sizeof *a.ids) != 0))
                fail_msg("pattern %zu: \"%.*s\"", i, (int)bytes, text);
            token_list_release(&a);
            token_list_release(&b);
        }
        for (int k = 0; k < 2; k++) {
            encoder_destroy(&e[k]);
            tokenizer_close(&t[k]);
        }
    }
    json_decref(root);
}

/* Any two bytes merge, so ids tell what text the normaliser made. */
TEST(marks_are_put_in_order_however_many_there_are)
{
    static const size_t counts[] = {1, 5, 31, 32, 33, 40, 1000, 20000};
    json_t *root = load_fixture("tokenizer_small.json");
    json_object_set_new(root, "normalizer", json_pack("{s:s}", "type", "NFC"));
    struct tokenizer *t;
    struct encoder *e;
    ASSERT_OK(parse_json(&t, root));
    ASSERT_OK(encoder_create(&e, t));
    char *text = test_alloc(1 << 17);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        /* x, then pairs of a mark of class 230 and one of 220 */
        size_t bytes = 0, n;
        text[bytes++] = 'x';
        for (size_t k = 0; k < counts[i]; k++) {
            memcpy(text + bytes, k % 2 ? "\xCC\x81\xCC\xA3" : "\xCC\x80\xCC\xA4", 4);
            bytes += 4;
        }
        struct token_list ids = encode(e, text, bytes);
        char *back;
        ASSERT_OK(tokenizer_decode(t, ids.ids, ids.n, &back, &n));
        assert_int_equal(n, bytes);
        for (size_t k = 0; k < counts[i]; k++) {
            assert_memory_equal(back + 1 + 2 * k, k % 2 ? "\xCC\xA3" : "\xCC\xA4", 2);
            assert_memory_equal(back + 1 + 2 * (counts[i] + k),
                                k % 2 ? "\xCC\x81" : "\xCC\x80", 2);
        }
        free(back);
        token_list_release(&ids);
    }
    encoder_destroy(&e);
    tokenizer_close(&t);
    json_decref(root);
}

TEST(bytes_that_are_not_utf8_join_nothing_in_the_normal_form)
{
    static const char *const texts[][2] = {
        {"e\xCC\x81", "\xC3\xA9"},            /* joined */
        {"e\xFF\xCC\x81", "e\xFF\xCC\x81"},   /* the byte stands between */
        {"\xCC\x81", "\xCC\x81"},             /* nothing in front */
        {"e\xCC", "e\xCC"},                   /* half a mark */
        {"\xE2\x84\xAB\x80", "\xC3\x85\x80"}, /* U+212B, and half a character */
        {"\xEA\xB0\x80\xE1\x86\xA8", "\xEA\xB0\x81"}};
    json_t *root = load_fixture("tokenizer_small.json");
    json_object_set_new(root, "normalizer", json_pack("{s:s}", "type", "NFC"));
    struct tokenizer *t;
    struct encoder *e;
    ASSERT_OK(parse_json(&t, root));
    ASSERT_OK(encoder_create(&e, t));
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct token_list ids = encode(e, texts[i][0], strlen(texts[i][0]));
        char *back;
        size_t n;
        ASSERT_OK(tokenizer_decode(t, ids.ids, ids.n, &back, &n));
        assert_string_equal(back, texts[i][1]);
        free(back);
        token_list_release(&ids);
    }
    encoder_destroy(&e);
    tokenizer_close(&t);
    json_decref(root);
}
