/* Text files into token files: order, threads, the split into training and validation. */
#include <unistd.h>

#include "data/tokenize.h"
#include "data/token_file.h"
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

static status_t run(const char *const *paths, int n, const struct text_options *how,
                    struct tokenize_options *o, struct tokenize_counts counts[2])
{
    struct text_reader *text;
    TRY(text_open(&text, paths, n, how));
    o->text = text;
    const status_t st = tokenize(o, &counts[0], &counts[1]);
    text_close(&text);
    return st;
}

/* The ids of document `i` must be those of `text`, ended by eos. */
static void check_document(struct tokenizer *t, struct token_file *f, int64_t i,
                           const char *text, size_t bytes)
{
    struct encoder *e;
    int64_t first, end;
    ASSERT_OK(encoder_create(&e, t));
    struct token_list want = encode(e, text, bytes);
    const int32_t eos = (int32_t)tokenizer_eos(t);
    ASSERT_OK(token_list_append(&want, &eos, 1));
    token_file_document(f, i, &first, &end);
    assert_int_equal(end - first, want.n);
    int32_t *got = malloc((size_t)want.n * sizeof *got);
    ASSERT_OK(token_file_read(f, first, want.n, got));
    assert_memory_equal(got, want.ids, (size_t)want.n * sizeof *got);
    free(got);
    token_list_release(&want);
    encoder_destroy(&e);
}

TEST(documents_come_out_in_order_each_ended_by_eos)
{
    struct tokenizer *t = small_tokenizer();
    const char *paths[] = {
        put("a.txt", "one two", 7),
        put("b.jsonl", "{\"text\": \"three\"}\n{\"text\": \"four\"}\n", 35),
        put("c.txt", "five", 4)};
    static const char *const want[] = {"one two", "three", "four", "five"};
    struct tokenize_options o = {
        .tokenizer = t, .train_path = in_folder("abc.h5"), .n_threads = 2};
    struct tokenize_counts counts[2];
    struct token_file *f;
    ASSERT_OK(run(paths, 3, NULL, &o, counts));
    ASSERT_OK(token_file_open(&f, o.train_path, TOKEN_FILE_CHECK_ALL));
    const struct token_file_info *info = token_file_info(f);
    assert_int_equal(info->n_documents, 4);
    assert_int_equal(info->vocab_size, 1000);
    assert_int_equal(info->eos_id, 0);
    assert_int_equal(info->text_bytes, 7 + 5 + 4 + 4);
    assert_string_equal(info->tokenizer_sha256, tokenizer_sha256(t));
    assert_non_null(strstr(token_file_sources(f), "b.jsonl"));
    for (int64_t i = 0; i < 4; i++) check_document(t, f, i, want[i], strlen(want[i]));
    assert_int_equal(counts[0].n_documents, 4);
    assert_int_equal(counts[0].n_tokens, info->n_tokens);
    assert_int_equal(counts[0].text_bytes, info->text_bytes);
    assert_int_equal(counts[1].n_documents, 0);
    token_file_close(&f);
    tokenizer_close(&t);
}

TEST(without_eos_the_documents_are_their_text_only)
{
    struct tokenizer *t = small_tokenizer();
    const char *path = put("no_eos.txt", "!", 1);
    struct tokenize_options o = {.tokenizer = t,
                                 .train_path = in_folder("no_eos.h5"),
                                 .no_eos = true,
                                 .n_threads = 1};
    struct tokenize_counts counts[2];
    struct token_file *f;
    ASSERT_OK(run(&path, 1, NULL, &o, counts));
    ASSERT_OK(token_file_open(&f, o.train_path, TOKEN_FILE_CHECK_ALL));
    assert_int_equal(token_file_info(f)->n_tokens, 1);
    assert_int_equal(token_file_info(f)->eos_id, -1);
    token_file_close(&f);
    tokenizer_close(&t);
}

/* One document of many batches, and many small ones around it. */
TEST(a_long_document_is_the_same_on_any_number_of_threads)
{
    struct tokenizer *t = small_tokenizer();
    const size_t capacity = 2 << 20;
    char *text = test_alloc(capacity), *want = NULL, *got;
    size_t bytes = 0, n_want = 0, n_got;
    for (uint64_t i = 0; bytes + 4000 < capacity; i++)
        bytes += random_text(i, text + bytes, 40 + rng_u64(i, 7) % 2000);
    const char *paths[] = {put("s1.txt", "short", 5), put("long.txt", text, bytes),
                           put("s2.txt", "short", 5)};
    for (int threads = 1; threads <= 3; threads++) {
        struct tokenize_options o = {
            .tokenizer = t, .train_path = in_folder("long.h5"), .n_threads = threads};
        struct tokenize_counts counts[2];
        ASSERT_OK(run(paths, 3, NULL, &o, counts));
        assert_int_equal(counts[0].n_documents, 3);
        ASSERT_OK(file_read(o.train_path, 1 << 26, &got, &n_got));
        if (want) {
            assert_int_equal(n_got, n_want);
            assert_memory_equal(got, want, n_got);
            free(got);
            continue;
        }
        want = got;
        n_want = n_got;
        struct token_file *f;
        ASSERT_OK(token_file_open(&f, o.train_path, TOKEN_FILE_CHECK_ALL));
        check_document(t, f, 1, text, bytes);
        check_document(t, f, 2, "short", 5);
        token_file_close(&f);
    }
    free(want);
    tokenizer_close(&t);
}

/* Which documents of 400, each twice, are for validation: a bit set, checked to be one. */
static void split(struct tokenizer *t, const char *const *paths, bool in_validation[400])
{
    struct tokenize_options o = {.tokenizer = t,
                                 .train_path = in_folder("train.h5"),
                                 .validation_path = in_folder("validation.h5"),
                                 .validation_share = 0.25,
                                 .n_threads = 2};
    struct tokenize_counts counts[2];
    ASSERT_OK(run(paths, 2, NULL, &o, counts));
    assert_int_equal(counts[0].n_documents + counts[1].n_documents, 800);
    assert_true(counts[1].n_documents > 150 && counts[1].n_documents < 250);
    int seen[2][400] = {{0}};
    for (int k = 0; k < 2; k++) {
        struct token_file *f;
        ASSERT_OK(token_file_open(&f, k ? o.validation_path : o.train_path,
                                  TOKEN_FILE_CHECK_ALL));
        assert_int_equal(token_file_info(f)->n_documents, counts[k].n_documents);
        assert_int_equal(token_file_info(f)->text_bytes, counts[k].text_bytes);
        for (int64_t d = 0; d < counts[k].n_documents; d++) {
            int32_t ids[64];
            int64_t first, end;
            char *text;
            size_t n;
            token_file_document(f, d, &first, &end);
            ASSERT_OK(token_file_read(f, first, end - first - 1, ids));
            ASSERT_OK(tokenizer_decode(t, ids, end - first - 1, &text, &n));
            seen[k][strtol(text, NULL, 10)]++;
            free(text);
        }
        token_file_close(&f);
    }
    for (int i = 0; i < 400; i++) {
        assert_int_equal(seen[0][i] + seen[1][i], 2);
        assert_true(seen[0][i] == 0 ||
                    seen[1][i] == 0); /* equal documents stay together */
        in_validation[i] = seen[1][i] > 0;
    }
}

TEST(the_split_depends_on_the_text_of_a_document_only)
{
    struct tokenizer *t = small_tokenizer();
    char text[2][30000];
    size_t n[2] = {0, 0};
    for (int i = 0; i < 400; i++)
        for (int k = 0; k < 2; k++) /* the second file in reverse order */
            n[k] +=
                (size_t)snprintf(text[k] + n[k], sizeof text[k] - n[k],
                                 "{\"text\": \"%d is a document\"}\n", k ? 399 - i : i);
    const char *a = put("a.jsonl", text[0], n[0]), *b = put("b.jsonl", text[1], n[1]);
    bool first[400], second[400];
    split(t, (const char *[]){a, b}, first);
    split(t, (const char *[]){b, a}, second);
    assert_memory_equal(first, second, sizeof first);
    tokenizer_close(&t);
}

TEST(a_failure_leaves_both_files_as_they_were)
{
    struct tokenizer *t = small_tokenizer();
    const char *good = put("good.txt", "one document", 12);
    const char *bad[] = {good, put("bad.jsonl", "{\"text\": 1}\n", 12)};
    struct tokenize_options o = {.tokenizer = t,
                                 .train_path = put("old.h5", "old", 3),
                                 .validation_path = put("old_validation.h5", "old", 3),
                                 .validation_share = 0.5,
                                 .n_threads = 2};
    struct tokenize_counts counts[2];
    ASSERT_REFUSED(run(bad, 2, NULL, &o, counts), STATUS_DATA, "bad.jsonl:1");
    ASSERT_REFUSED(run(&good, 1, NULL, &o, counts), STATUS_DATA, "share");
    const char *empty = put("empty.txt", "", 0);
    ASSERT_REFUSED(run(&empty, 1, NULL, &o, counts), STATUS_DATA, "no text");
    for (int k = 0; k < 2; k++) {
        char *old;
        size_t n;
        ASSERT_OK(file_read(k ? o.validation_path : o.train_path, 100, &old, &n));
        assert_string_equal(old, "old");
        free(old);
    }
    tokenizer_close(&t);
}

TEST(a_tokenizer_without_an_end_token_is_refused_unless_none_is_wanted)
{
    struct tokenizer *t;
    json_t *root = load_fixture("tokenizer_small.json");
    json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
    json_object_del(vocab, "<|endoftext|>");
    json_object_set_new(root, "added_tokens", json_array());
    ASSERT_OK(parse_json(&t, root));
    json_decref(root);
    const char *path = put("x.txt", "text", 4);
    struct tokenize_options o = {
        .tokenizer = t, .train_path = in_folder("x.h5"), .n_threads = 1};
    struct tokenize_counts counts[2];
    ASSERT_REFUSED(run(&path, 1, NULL, &o, counts), STATUS_DATA, "end-of-document");
    o.no_eos = true;
    ASSERT_OK(run(&path, 1, NULL, &o, counts));
    tokenizer_close(&t);
}
