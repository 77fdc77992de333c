/* What a tokenizer.json may not be: each is refused with one line that names the file. */
#include <unistd.h>

#include "data/tokenizers.h"

static void refuse(json_t *root, const char *words)
{
    struct tokenizer *t = (struct tokenizer *)1;
    ASSERT_REFUSED(parse_json(&t, root), STATUS_DATA, words);
    assert_null(t);
    assert_ptr_equal(strstr(status_message(), "file: "), status_message());
    assert_null(strchr(status_message(), '\n'));
    json_decref(root);
}

/* The stored tokenizer with `value` (JSON) at `key` of the whole, or of its model. */
static json_t *with(const char *key, const char *value)
{
    json_t *root = load_fixture("tokenizer_small.json");
    json_error_t error;
    json_t *x = json_loads(value, JSON_DECODE_ANY, &error);
    if (!x) fail_msg("%s: %s", value, error.text);
    json_t *to = strncmp(key, "model.", 6) == 0 ? json_object_get(root, "model") : root;
    json_object_set_new(to, to == root ? key : key + 6, x);
    return root;
}

static json_t *with_token(const char *name, int id)
{
    json_t *root = load_fixture("tokenizer_small.json");
    json_object_set_new(json_object_get(json_object_get(root, "model"), "vocab"), name,
                        json_integer(id));
    return root;
}

static json_t *with_stage(const char *stage)
{
    char text[512];
    snprintf(
        text, sizeof text,
        "{\"type\": \"Sequence\", \"pretokenizers\": [%s, {\"type\": \"ByteLevel\"}]}",
        stage);
    return with("pre_tokenizer", text);
}

static json_t *with_pattern(const char *pattern)
{
    char text[256];
    snprintf(text, sizeof text,
             "{\"type\": \"Split\", \"behavior\": \"Isolated\", \"pattern\": {\"Regex\": "
             "\"%s\"}}",
             pattern);
    return with_stage(text);
}

TEST(text_that_is_not_json_is_refused)
{
    struct tokenizer *t;
    static const char *const texts[] = {"",
                                        "{",
                                        "[]",
                                        "null",
                                        "{\"version\": \"1.0\"",
                                        "{\"a\": 1, \"a\": 2}",
                                        "\xFF",
                                        "{\"a\n\n\": \"\t"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        ASSERT_REFUSED(tokenizer_parse(&t, "file", texts[i], strlen(texts[i])),
                       STATUS_DATA, "JSON");
        assert_null(t);
        assert_null(strchr(status_message(), '\n'));
    }
}

TEST(a_file_cut_off_anywhere_is_refused)
{
    struct tokenizer *t;
    json_t *root = load_fixture("tokenizer_small.json");
    char *text = json_dumps(root, 0);
    const size_t bytes = strlen(text);
    for (size_t n = 0; n < bytes; n += 1 + bytes / 97)
        ASSERT_REFUSED(tokenizer_parse(&t, "file", text, n), STATUS_DATA, "JSON");
    free(text);
    json_decref(root);
}

TEST(what_is_not_a_file_is_refused)
{
    struct tokenizer *t;
    char path[4096];
    ASSERT_REFUSED(tokenizer_open(&t, test_folder()), STATUS_IO, test_folder());
    file_join(path, sizeof path, test_folder(), "missing.json");
    ASSERT_REFUSED(tokenizer_open(&t, path), STATUS_IO, "missing.json");
    file_join(path, sizeof path, test_folder(), "huge.json");
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(ftruncate(fileno(f), (256 << 20) + 1), 0);
    fclose(f);
    ASSERT_REFUSED(tokenizer_open(&t, path), STATUS_IO, "huge.json");
}

TEST(parts_that_are_not_implemented_are_refused_by_name)
{
    refuse(with("normalizer", "{\"type\": \"NFKC\"}"), "NFKC");
    refuse(with("normalizer", "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": "
                              "\"Lowercase\"}]}"),
           "Lowercase");
    refuse(with("normalizer", "{\"type\": \"Sequence\"}"), "normalizers");
    refuse(with("normalizer", "\"NFC\""), "normalizer");
    refuse(with("post_processor", "{\"type\": \"Surprise\"}"), "Surprise");
    refuse(with("post_processor", "{\"type\": \"Sequence\"}"), "Sequence");
    refuse(with("post_processor", "{\"type\": \"Sequence\", \"processors\": [{\"type\": "
                                  "\"ByteLevel\"}, {\"type\": \"Other\"}]}"),
           "Other");
    refuse(with("post_processor", "7"), "post_processor");
    refuse(with("version", "\"2.0\""), "version");
    refuse(with("decoder", "{\"type\": \"Metaspace\"}"), "Metaspace");
    refuse(with("decoder", "null"), "decoder");
    refuse(with("surprise", "1"), "surprise");
    refuse(with("model", "{\"type\": \"Unigram\"}"), "Unigram");
    refuse(with("model", "[]"), "model");
    refuse(with("model.dropout", "0.1"), "dropout");
    refuse(with("model.end_of_word_suffix", "\"</w>\""), "end_of_word_suffix");
    refuse(with("model.continuing_subword_prefix", "\"##\""),
           "continuing_subword_prefix");
    refuse(with("model.byte_fallback", "true"), "byte_fallback");
    refuse(with("model.novelty", "true"), "novelty");
    refuse(with("pre_tokenizer", "null"), "pre_tokenizer");
    refuse(with("pre_tokenizer", "{\"type\": \"Whitespace\"}"), "Whitespace");
    refuse(with("pre_tokenizer", "{\"type\": \"Digits\"}"), "ByteLevel");
    refuse(with("pre_tokenizer", "{\"type\": \"ByteLevel\", \"add_prefix_space\": 1}"),
           "add_prefix_space");
    refuse(with("pre_tokenizer", "{\"type\": \"ByteLevel\", \"use_regex\": \"no\"}"),
           "use_regex");
    refuse(with("pre_tokenizer", "{\"type\": \"ByteLevel\", \"trims\": true}"), "trims");
    refuse(with_stage("{\"type\": \"Digits\", \"individual_digits\": 1}"),
           "individual_digits");
    refuse(with_stage("{\"type\": \"Digits\", \"individual\": true}"), "individual");
    refuse(with("pre_tokenizer", "{\"type\": \"Sequence\", \"pretokenizers\": []}"),
           "ByteLevel");
    refuse(with_stage("{\"type\": \"ByteLevel\"}"), "last");
    refuse(
        with_stage("{\"type\": \"Split\", \"pattern\": {\"Regex\": \"a\"}, \"behavior\": "
                   "\"Merged\"}"),
        "Merged");
    refuse(with_stage("{\"type\": \"Split\", \"pattern\": {\"Regex\": \"a\"}}"),
           "behavior");
    refuse(
        with_stage("{\"type\": \"Split\", \"pattern\": {\"Regex\": \"a\"}, \"behavior\": "
                   "\"Removed\", \"invert\": 1}"),
        "invert");
    refuse(with_stage(
               "{\"type\": \"Split\", \"pattern\": \"a\", \"behavior\": \"Isolated\"}"),
           "pattern");
}

/* What PCRE2 would read in another way than the library the patterns are written for. */
TEST(patterns_that_would_mean_something_else_are_refused)
{
    static const char *const patterns[][2] = {
        {"^a", "^"},          {"a$", "$"},
        {"\\\\w+", "\\w"},    {"\\\\h", "\\h"},
        {"\\\\bx", "\\b"},    {"\\\\p{Han}", "Han"},
        {"\\\\p{^L}", "\\p"}, {"\\\\v", "\\v"},
        {"a{2}+", "{2}+"},    {"a{2,3}?", "{2,3}?"},
        {"a{,3}", "{"},       {"(*UTF)a", "(*"},
        {"(?P<x>a)", "(?"},   {"(?m)a", "(?"},
        {"[a-z&&b]", "&&"},   {"[[:alpha:]]", "["},
        {"[]a]", "[]"},       {"[\\\\s-a]", "s-"},
        {"[ab", "]"},         {"a)", "not valid"},
        {"(a", "not valid"},  {"\\\\p{A\\n}", "p{A?}"},
        {"a\\\\", "\\"},      {"\\\\1", "\\1"},
        {"", "bytes"}};
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++)
        refuse(with_pattern(patterns[i][0]), patterns[i][1]);
}

TEST(a_pattern_that_takes_too_many_steps_is_refused_when_it_does)
{
    struct tokenizer *t;
    struct encoder *e;
    struct token_list ids = {0};
    json_t *root = with_pattern("(a+)+b|(a*)*c");
    ASSERT_OK(parse_json(&t, root));
    ASSERT_OK(encoder_create(&e, t));
    char text[64];
    memset(text, 'a', sizeof text);
    ASSERT_REFUSED(encoder_encode(e, text, sizeof text, &ids), STATUS_DATA, "pattern");
    token_list_release(&ids);
    encoder_destroy(&e);
    tokenizer_close(&t);
    json_decref(root);
}

TEST(a_vocabulary_that_contradicts_itself_is_refused)
{
    json_t *empty = with("model.vocab", "{}");
    json_object_set_new(empty, "added_tokens", json_array());
    refuse(empty, "empty");
    refuse(with("model.vocab", "[]"), "vocab");
    refuse(with_token("twice", 5), "id 5");
    refuse(with_token("negative", -1), "negative");
    refuse(with_token("far away", 1 << 30), "1073741824");
    refuse(with("model.vocab", "{\"a\": 1.5}"), "\"a\"");
    refuse(with("model.vocab", "{\"a\": \"1\"}"), "\"a\"");
    refuse(with("model.vocab", "{\"a\": 99999999999999}"), "99999999999999");
    json_t *root = with("model.unk_token", "\"<unk>\"");
    json_object_del(json_object_get(json_object_get(root, "model"), "vocab"), "\xC3\xBF");
    refuse(root, "unk_token");
}

TEST(merges_of_what_is_no_token_are_refused)
{
    refuse(with("model.merges", "{}"), "merges");
    refuse(with("model.merges", "[1]"), "merges[0]");
    refuse(with("model.merges", "[\"a b\", \"nospace\"]"), "merges[1]");
    refuse(with("model.merges", "[\"a b c\"]"), "merges[0]");
    refuse(with("model.merges", "[[\"a\"]]"), "merges[0]");
    refuse(with("model.merges", "[[\"a\", \"b\", \"c\"]]"), "merges[0]");
    refuse(with("model.merges", "[\"zzz a\"]"), "zzz");
    refuse(with("model.merges", "[\"a zzz\"]"), "zzz");
    refuse(with("model.merges", "[\"Q Z\"]"), "QZ");
}

TEST(added_tokens_that_cannot_be_honoured_are_refused)
{
    refuse(with("added_tokens", "{}"), "added_tokens");
    refuse(with("added_tokens", "[{\"id\": 1000}]"), "content");
    refuse(with("added_tokens", "[{\"id\": 1000, \"content\": \"\"}]"), "content");
    refuse(with("added_tokens", "[{\"content\": \"x\"}]"), "id");
    refuse(with("added_tokens", "[7]"), "added_tokens[0]");
    refuse(with("added_tokens", "[{\"id\": 5, \"content\": \"<x>\"}]"), "id 5");
    refuse(with("added_tokens", "[{\"id\": 1000, \"content\": \"a\"}]"), "\"a\"");
    static const char *const flags[] = {"lstrip", "rstrip", "single_word", "normalized"};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        char text[128];
        snprintf(text, sizeof text, "[{\"id\": 1000, \"content\": \"<x>\", \"%s\": 1}]",
                 flags[i]);
        refuse(with("added_tokens", text), flags[i]);
    }
    refuse(
        with("added_tokens", "[{\"id\": 1000, \"content\": \"<x>\", \"greedy\": true}]"),
        "greedy");
    refuse(with("added_tokens", "[{\"id\": 1000, \"content\": \"<x>\"}, {\"id\": 1000, "
                                "\"content\": \"<x>\"}]"),
           "twice");
    /* Hugging Face counts on from the vocabulary, whatever the file says */
    refuse(with("added_tokens", "[{\"id\": 1001, \"content\": \"<x>\"}]"), "valid: 1000");
    refuse(with("added_tokens", "[{\"id\": 1000, \"content\": \"<x>\"}, {\"id\": 1002, "
                                "\"content\": \"<y>\"}]"),
           "valid: 1001");
    refuse(with("added_tokens", "[{\"id\": 1000, \"content\": \"<x>\", \"special\": 1}]"),
           "special");
    refuse(with("added_tokens", "[{\"id\": 500000, \"content\": \"<x>\"}]"), "500000");
}

/* An ordinary token that stands for other bytes than it is written with would not come back. */
TEST(an_added_token_that_hides_an_ordinary_one_is_refused)
{
    json_t *root = load_fixture("tokenizer_small.json");
    json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
    const char *name = "\xC4\xA0the"; /* " the" */
    json_array_append_new(
        json_object_get(root, "added_tokens"),
        json_pack("{s:O, s:s}", "id", json_object_get(vocab, name), "content", name));
    refuse(root, "other bytes");
}
