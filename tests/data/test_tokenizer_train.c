/* Training a tokenizer: against a slow reference, on any number of threads, and refusals. */
#include "data/text.h"
#include "data/text_pipeline.h"
#include "data/tokenizers.h"

static const char *in_folder(const char *name)
{
    char *path = test_alloc(4096);
    file_join(path, 4096, test_folder(), name);
    return path;
}

static const char *put(const char *name, const char *text, size_t bytes)
{
    const char *path = in_folder(name);
    ASSERT_OK(file_replace(path, text, bytes));
    return path;
}

static status_t train(const char *text_path, const char *path,
                      const struct tokenizer_train_options *o)
{
    struct text_reader *text;
    TRY(text_open(&text, &text_path, 1, NULL));
    const status_t st = tokenizer_train(text, path, o);
    text_close(&text);
    return st;
}

static const char *const end_of_text[] = {"<|endoftext|>"};

/* Words of a and b, so that runs and overlaps abound: "aaaa", "abab". */
static size_t random_words(uint64_t key, char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) text[i] = "aaabb "[rng_u64(key, i) % 6];
    return bytes;
}

/* ---- the reference: recount everything before each merge, whole text as it stands --------- */

enum { SLOW_BYTES = 1400, SLOW_TOKENS = 340 };

struct slow {
    int ids[SLOW_BYTES]; /* -1 between words */
    int n, n_tokens;
    char tokens[SLOW_TOKENS][SLOW_BYTES];
};

static void slow_start(struct slow *s, const char *text, size_t bytes)
{
    s->n = 0;
    s->n_tokens = 257;
    for (size_t i = 0; i < bytes; i++) {
        /* the pattern puts one space in front of a word, the others stay together */
        const bool begins = i > 0 && text[i] == ' ' &&
                            (text[i - 1] != ' ' || (i + 1 < bytes && text[i + 1] != ' '));
        if (begins) s->ids[s->n++] = -1;
        /* ids of one byte: the special token, then the printable characters from '!' on, the
         * Latin-1 ones, and the others: the space is number 32 of those */
        s->ids[s->n++] = text[i] == ' ' ? 1 + 188 + 32 : 1 + text[i] - '!';
    }
    snprintf(s->tokens[1 + 188 + 32], SLOW_BYTES, "\xC4\xA0");
    snprintf(s->tokens[1 + 'a' - '!'], SLOW_BYTES, "a");
    snprintf(s->tokens[1 + 'b' - '!'], SLOW_BYTES, "b");
}

static int slow_count(const struct slow *s, int left, int right)
{
    int count = 0;
    for (int i = 0; i + 1 < s->n; i++)
        count += s->ids[i] == left && s->ids[i + 1] == right;
    return count;
}

/* The most frequent pair, among equals that of the smallest ids; false below two. */
static bool slow_best(const struct slow *s, int *left, int *right)
{
    int best = 1;
    for (int i = 0; i + 1 < s->n; i++) {
        const int a = s->ids[i], b = s->ids[i + 1];
        if (a < 0 || b < 0) continue;
        const int count = slow_count(s, a, b);
        const bool smaller = a < *left || (a == *left && b < *right);
        if (count < best || (count == best && (best == 1 || !smaller))) continue;
        best = count;
        *left = a;
        *right = b;
    }
    return best > 1;
}

static void slow_merge(struct slow *s, int left, int right)
{
    char both[2 * SLOW_BYTES];
    snprintf(both, sizeof both, "%s%s", s->tokens[left], s->tokens[right]);
    int id = 1, n = 0;
    while (id < s->n_tokens && strcmp(s->tokens[id], both) != 0) id++;
    if (id == s->n_tokens) snprintf(s->tokens[s->n_tokens++], SLOW_BYTES, "%.500s", both);
    for (int i = 0; i < s->n; i++) {
        const bool merged = s->ids[i] == left && i + 1 < s->n && s->ids[i + 1] == right;
        s->ids[n++] = merged ? id : s->ids[i];
        i += merged;
    }
    s->n = n;
}

TEST(merges_are_those_of_counting_everything_again_each_time)
{
    static struct slow s;
    for (uint64_t key = 0; key < 16; key++) {
        char text[SLOW_BYTES / 2];
        const size_t bytes = random_words(key, text, key < 8 ? 100 : sizeof text);
        const char *path = in_folder("t.json");
        const struct tokenizer_train_options o = {.vocab_size = SLOW_TOKENS,
                                                  .special = end_of_text,
                                                  .n_special = 1,
                                                  .n_threads = 1};
        ASSERT_OK(train(put("t.txt", text, bytes), path, &o));
        json_t *root = json_load_file(path, 0, NULL);
        json_t *model = json_object_get(root, "model");
        json_t *merges = json_object_get(model, "merges");
        memset(&s, 0, sizeof s);
        slow_start(&s, text, bytes);
        size_t i = 0;
        int left = 0, right = 0;
        while (s.n_tokens < SLOW_TOKENS && slow_best(&s, &left, &right)) {
            char want[3 * SLOW_BYTES];
            snprintf(want, sizeof want, "%s %s", s.tokens[left], s.tokens[right]);
            assert_true(i < json_array_size(merges));
            assert_string_equal(json_string_value(json_array_get(merges, i)), want);
            slow_merge(&s, left, right);
            i++;
        }
        assert_int_equal(json_array_size(merges), i);
        assert_int_equal(json_object_size(json_object_get(model, "vocab")), s.n_tokens);
        json_decref(root);
    }
}

TEST(the_number_of_threads_does_not_matter)
{
    /* long enough for many batches, and with lines of all lengths */
    const size_t capacity = 3 << 20;
    char *text = test_alloc(capacity);
    size_t bytes = 0;
    for (uint64_t i = 0; bytes + 4000 < capacity; i++)
        bytes += random_text(i % 3000, text + bytes, 40 + rng_u64(i, 7) % 2000);
    const char *path = put("threads.txt", text, bytes);
    char *want = NULL, *got;
    size_t n_want = 0, n_got;
    for (int threads = 1; threads <= 3; threads++) {
        const char *out = in_folder("threads.json");
        const struct tokenizer_train_options o = {.vocab_size = 1000,
                                                  .special = end_of_text,
                                                  .n_special = 1,
                                                  .n_threads = threads};
        ASSERT_OK(train(path, out, &o));
        ASSERT_OK(file_read(out, 1 << 24, &got, &n_got));
        if (want) {
            assert_int_equal(n_got, n_want);
            assert_memory_equal(got, want, n_got);
            free(got);
        } else {
            want = got;
            n_want = n_got;
        }
    }
    free(want);
}

TEST(a_trained_tokenizer_encodes_its_text_in_fewer_tokens_and_back)
{
    static const char text[] = "the cat sat on the mat; the cat sat on the hat.\n"
                               "The cat's hat sat on the mat\xFF the cat 12 12 12";
    const char *special[] = {"<|endoftext|>", "<|é|>"};
    const struct tokenizer_train_options o = {
        .vocab_size = 270, .special = special, .n_special = 2, .n_threads = 2};
    const char *path = in_folder("small.json");
    ASSERT_OK(train(put("small.txt", text, sizeof text - 1), path, &o));
    struct tokenizer *t;
    struct encoder *e;
    char *back;
    size_t n;
    ASSERT_OK(tokenizer_open(&t, path));
    assert_int_equal(tokenizer_vocab_size(t), 270);
    assert_int_equal(tokenizer_id(t, "<|endoftext|>"), 0);
    assert_int_equal(tokenizer_id(t, "<|é|>"), 1);
    assert_int_equal(tokenizer_id(t, "!"), 2);
    assert_int_equal(tokenizer_eos(t), 0);
    ASSERT_OK(encoder_create(&e, t));
    struct token_list ids = encode(e, text, sizeof text - 1);
    assert_true(ids.n < (int64_t)sizeof text / 2);
    ASSERT_OK(tokenizer_decode(t, ids.ids, ids.n, &back, &n));
    assert_int_equal(n, sizeof text - 1);
    assert_memory_equal(back, text, n);
    free(back);
    token_list_release(&ids);
    ids = encode(e, "<|é|>", strlen("<|é|>"));
    assert_int_equal(ids.n, 1);
    assert_int_equal(ids.ids[0], 1);
    token_list_release(&ids);
    encoder_destroy(&e);
    tokenizer_close(&t);
}

TEST(a_word_that_lies_across_two_batches_is_counted_whole)
{
    const size_t before = TEXT_BATCH_BYTES - 6;
    char *text = test_alloc(TEXT_BATCH_BYTES + 100);
    for (size_t i = 0; i < before; i++) text[i] = i % 2 ? 'b' : ' ';
    memcpy(text + before, " aaaaaaaaaa b", 13);
    const struct tokenizer_train_options o = {
        .vocab_size = 300, .min_count = 1, .n_threads = 2};
    const char *path = in_folder("across.json");
    ASSERT_OK(train(put("across.txt", text, before + 13), path, &o));
    struct tokenizer *t;
    ASSERT_OK(tokenizer_open(&t, path));
    assert_true(tokenizer_id(t, "\xC4\xA0"
                                "aaaaaaaaaa") >= 0);
    tokenizer_close(&t);
}

TEST(a_text_without_pairs_gives_the_bytes_only)
{
    const struct tokenizer_train_options o = {.vocab_size = 5000, .n_threads = 1};
    const char *path = in_folder("bytes.json");
    ASSERT_OK(train(put("bytes.txt", "a b", 3), path, &o));
    struct tokenizer *t;
    ASSERT_OK(tokenizer_open(&t, path));
    assert_int_equal(tokenizer_vocab_size(t), 256);
    assert_int_equal(tokenizer_n_merges(t), 0);
    assert_int_equal(tokenizer_eos(t), -1);
    tokenizer_close(&t);
}

/* Otherwise one id would stand for two things. */
TEST(a_token_written_like_a_special_one_is_not_merged)
{
    const char *special[] = {"aa"};
    const struct tokenizer_train_options o = {
        .vocab_size = 300, .special = special, .n_special = 1, .n_threads = 1};
    const char *path = in_folder("aa.json");
    ASSERT_OK(train(put("aa.txt", "aaaa aaaa aaaa aab aab", 22), path, &o));
    struct tokenizer *t;
    ASSERT_OK(tokenizer_open(&t, path));
    assert_int_equal(tokenizer_id(t, "aa"), 0);
    assert_int_equal(tokenizer_n_added(t), 1);
    assert_true(tokenizer_n_merges(t) > 0);
    tokenizer_close(&t);
}

TEST(options_that_cannot_be_met_are_refused_and_the_old_file_stays)
{
    const char *path = put("old.json", "old", 3), *text = put("text.txt", "some text", 9);
    const char *empty[] = {""}, *broken[] = {"\xFF\xFF"}, *byte[] = {"a"};
    const char *twice[] = {"<x>", "<x>"};
    struct tokenizer_train_options o = {
        .vocab_size = 256, .special = end_of_text, .n_special = 1, .n_threads = 1};
    ASSERT_REFUSED(train(text, path, &o), STATUS_USAGE, "257");
    o.vocab_size = INT64_MAX;
    ASSERT_REFUSED(train(text, path, &o), STATUS_USAGE, "vocabulary");
    o.vocab_size = 300;
    o.special = empty;
    ASSERT_REFUSED(train(text, path, &o), STATUS_USAGE, "special token 1");
    o.special = broken;
    ASSERT_REFUSED(train(text, path, &o), STATUS_USAGE, "special token 1");
    o.special = byte;
    ASSERT_REFUSED(train(text, path, &o), STATUS_USAGE, "\"a\"");
    o.special = twice;
    o.n_special = 2;
    ASSERT_REFUSED(train(text, path, &o), STATUS_USAGE, "twice");
    o.n_special = 1;
    ASSERT_REFUSED(train(put("bad.jsonl", "{\n", 2), path, &o), STATUS_DATA,
                   "bad.jsonl:1");
    char *old;
    size_t n;
    ASSERT_OK(file_read(path, 100, &old, &n));
    assert_string_equal(old, "old");
    free(old);
}
