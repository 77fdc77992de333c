/* Files of conversations into token files: order, threads, rows, and what is too long for a row. */
#include <unistd.h>

#include "chats.h"
#include "data/token_file.h"
#include "data/tokenize.h"

static const char *in_folder(const char *name)
{
    char *path = test_alloc(4096);
    file_join(path, 4096, test_folder(), name);
    return path;
}

static const char *put(const char *name, const char *text)
{
    const char *path = in_folder(name);
    ASSERT_OK(file_replace(path, text, strlen(text)));
    return path;
}

static status_t run(const char *const *paths, int n, struct tokenize_options *o,
                    struct tokenize_counts counts[2])
{
    const struct text_options how = {.lines = true};
    struct text_reader *text;
    TRY(text_open(&text, paths, n, &how));
    o->text = text;
    if (o->n_threads == 0) o->n_threads = 1;
    const status_t st = tokenize(o, &counts[0], &counts[1]);
    text_close(&text);
    return st;
}

static struct tokenize_options options_of(const struct tokenizer *t, const char *name)
{
    return (struct tokenize_options){.tokenizer = t,
                                     .tokenizer_path = "somewhere.json",
                                     .chat = chat_template_find("chatml"),
                                     .train_path = in_folder(name)};
}

/* A conversation whose answer is `words` times a letter, how many tokens that makes, and their mask
 * (`mask` may be NULL). */
static int64_t write_line(char *line, size_t size, struct chat *c, int words, char letter,
                          int32_t *mask)
{
    struct token_list ids = {0}, loss = {0};
    int64_t bytes;
    int n =
        snprintf(line, size,
                 "{\"messages\": [{\"role\": \"user\", \"content\": \"%c\"}, {\"role\": "
                 "\"assistant\", \"content\": \"",
                 letter);
    for (int i = 0; i < words; i++)
        n += snprintf(line + n, size - (size_t)n, "%c ", letter);
    snprintf(line + n, size - (size_t)n, "\"}]}");
    ASSERT_OK(chat_encode(c, line, strlen(line), &ids, &loss, &bytes));
    const int64_t tokens = ids.n;
    if (mask) memcpy(mask, loss.ids, (size_t)loss.n * sizeof *mask);
    token_list_release(&ids);
    token_list_release(&loss);
    return tokens;
}

TEST(each_line_is_a_document_in_order_whatever_the_threads)
{
    struct tokenizer *t = chat_tokenizer();
    struct chat *c = NULL;
    char **lines = chat_lines(), text[8192] = "", *want = NULL, *got;
    size_t n_want = 0, n_got;
    ASSERT_OK(chat_create(&c, t, chat_template_find("chatml"), CHAT_LOSS_ASSISTANT));
    for (int i = 0; lines[i]; i++) {
        strcat(text, lines[i]);
        strcat(text, i % 2 ? "\n" : "\n\n  \n"); /* empty lines are nothing */
    }
    const char *paths[] = {put("a.jsonl", text), put("b.jsonl", text)};
    for (int threads = 1; threads <= 3; threads++) {
        struct tokenize_options o = options_of(t, "c.h5");
        struct tokenize_counts counts[2];
        o.n_threads = threads;
        ASSERT_OK(run(paths, 2, &o, counts));
        assert_int_equal(counts[0].n_documents, 32);
        ASSERT_OK(file_read(o.train_path, 1 << 26, &got, &n_got));
        if (want) {
            assert_int_equal(n_got, n_want);
            assert_memory_equal(got, want, n_got);
            free(got);
            continue;
        }
        want = got;
        n_want = n_got;
        struct token_file *f = NULL;
        ASSERT_OK(token_file_open(&f, o.train_path, TOKEN_FILE_CHECK_ALL));
        const struct token_file_info *info = token_file_info(f);
        assert_true(info->has_loss_mask);
        assert_int_equal(info->eos_id, -1);
        assert_int_equal(info->row_tokens, 0);
        assert_int_equal(info->n_documents, 32);
        assert_int_equal(info->n_tokens, counts[0].n_tokens);
        assert_string_equal(info->tokenizer_sha256, tokenizer_sha256(t));
        assert_string_equal(token_file_tokenizer(f), "somewhere.json");
        int64_t predicted = 0;
        for (int d = 0; d < 32; d++) {
            struct token_list ids = {0}, loss = {0};
            int64_t first, end, bytes;
            int32_t have[1024];
            unsigned char mask[1024];
            ASSERT_OK(chat_encode(c, lines[d % 16], strlen(lines[d % 16]), &ids, &loss,
                                  &bytes));
            token_file_document(f, d, &first, &end);
            assert_int_equal(end - first, ids.n);
            ASSERT_OK(token_file_read(f, first, ids.n, have));
            token_file_loss(f, first, ids.n, mask);
            for (int64_t i = 0; i < ids.n; i++) {
                assert_int_equal(have[i], ids.ids[i]);
                assert_int_equal(mask[i], loss.ids[i]);
                predicted += mask[i];
            }
            token_list_release(&ids);
            token_list_release(&loss);
        }
        assert_int_equal(counts[0].n_predicted, predicted);
        token_file_close(&f);
    }
    free(want);
    chat_destroy(&c);
    tokenizer_close(&t);
}

TEST(what_is_wrong_with_a_line_is_said_with_its_file_and_number)
{
    struct tokenizer *t = chat_tokenizer();
    const char *paths[] = {put("good.jsonl", chat_lines()[0]),
                           put("bad.jsonl", "\n\n{\"messages\": []}\n")};
    struct tokenize_options o = options_of(t, "old.h5");
    struct tokenize_counts counts[2];
    put("old.h5", "old");
    ASSERT_REFUSED(run(paths, 2, &o, counts), STATUS_DATA,
                   "bad.jsonl:3: \"messages\" is empty");
    const char *empty = put("empty.jsonl", "\n\n");
    ASSERT_REFUSED(run(&empty, 1, &o, counts), STATUS_DATA, "no conversation");
    char *old;
    size_t n;
    ASSERT_OK(file_read(o.train_path, 100, &old, &n));
    assert_string_equal(old, "old");
    free(old);
    tokenizer_close(&t);
}

/* ---- rows ------------------------------------------------------------------------------- */

struct lengths {
    int64_t of[3]; /* tokens of the conversations a, b and c in all.jsonl */
    int32_t mask[3][512];
};

static struct lengths write_three(const struct tokenizer *t, const char **path)
{
    struct chat *c = NULL;
    struct lengths l;
    char text[3 * 2048] = "", line[2048];
    static const int words[] = {2, 40, 5};
    ASSERT_OK(chat_create(&c, t, chat_template_find("chatml"), CHAT_LOSS_ASSISTANT));
    for (int i = 0; i < 3; i++) {
        l.of[i] = write_line(line, sizeof line, c, words[i], (char)('a' + i), l.mask[i]);
        strcat(text, line);
        strcat(text, "\n");
    }
    *path = put("all.jsonl", text);
    chat_destroy(&c);
    return l;
}

/* Run with rows of T and open what came of it. */
static struct token_file *pack(const struct tokenizer *t, const char *path, int64_t T,
                               enum tokenize_overlong overlong,
                               struct tokenize_counts counts[2])
{
    struct tokenize_options o = options_of(t, "rows.h5");
    struct token_file *f = NULL;
    o.row_tokens = T;
    o.overlong = overlong;
    ASSERT_OK(run(&path, 1, &o, counts));
    ASSERT_OK(token_file_open(&f, o.train_path, TOKEN_FILE_CHECK_ALL));
    assert_int_equal(token_file_info(f)->row_tokens, T);
    assert_int_equal(token_file_info(f)->n_tokens, T * counts[0].n_rows);
    return f;
}

/* The padding of a file, in tokens: nothing else begins with the token that ends a turn. */
static int64_t padding_of(const struct token_file *f, int32_t pad)
{
    int64_t n = 0;
    for (int64_t d = 0; d < token_file_info(f)->n_documents; d++) {
        int64_t first, end;
        int32_t id;
        unsigned char loss[64] = {0};
        token_file_document(f, d, &first, &end);
        ASSERT_OK(token_file_read(f, first, 1, &id));
        if (id != pad) continue;
        n += end - first;
        for (int64_t at = first; at < end; at++) {
            token_file_loss(f, at, 1, loss);
            assert_int_equal(loss[0], 0);
        }
    }
    return n;
}

TEST(conversations_fill_rows_and_what_is_left_is_masked)
{
    struct tokenizer *t = chat_tokenizer();
    const int32_t pad = (int32_t)tokenizer_id(t, "<|im_end|>");
    const char *path;
    const struct lengths l = write_three(t, &path);
    struct tokenize_counts counts[2];
    struct token_file *f = pack(t, path, l.of[1], TOKENIZE_OVERLONG_ERROR, counts);
    assert_int_equal(counts[0].n_documents, 3);
    assert_int_equal(counts[0].n_rows, 2); /* b | c a */
    assert_int_equal(counts[0].n_overlong, 0);
    assert_int_equal(padding_of(f, pad), 2 * l.of[1] - l.of[0] - l.of[1] - l.of[2]);
    token_file_close(&f);
    tokenizer_close(&t);
}

TEST(what_is_longer_than_a_row_is_treated_as_asked)
{
    struct tokenizer *t = chat_tokenizer();
    const char *path;
    const struct lengths l = write_three(t, &path);
    const int64_t T = l.of[1] - 1;
    struct tokenize_counts counts[2];
    struct tokenize_options o = options_of(t, "rows.h5");
    o.row_tokens = T;
    ASSERT_REFUSED(run(&path, 1, &o, counts), STATUS_DATA, "all.jsonl:2: has");
    assert_non_null(strstr(status_message(), "--overlong drop, truncate or split"));

    struct token_file *f = pack(t, path, T, TOKENIZE_OVERLONG_DROP, counts);
    assert_int_equal(counts[0].n_documents, 2);
    assert_int_equal(counts[0].n_tokens, l.of[0] + l.of[2]);
    assert_int_equal(counts[0].n_overlong, 1);
    assert_int_equal(counts[0].n_dropped, 1);
    token_file_close(&f);

    f = pack(t, path, T, TOKENIZE_OVERLONG_TRUNCATE, counts);
    assert_int_equal(counts[0].n_documents, 3);
    assert_int_equal(counts[0].n_tokens, l.of[0] + T + l.of[2]);
    assert_int_equal(counts[0].n_overlong, 1);
    assert_int_equal(counts[0].n_dropped, 0);
    token_file_close(&f);

    /* a piece that holds a question only has nothing to learn */
    const int64_t row = 9;
    f = pack(t, path, row, TOKENIZE_OVERLONG_SPLIT, counts);
    int64_t pieces = 0, kept = 0, dropped = 0;
    for (int i = 0; i < 3; i++)
        for (int64_t at = 0; at < l.of[i]; at += row) {
            const int64_t n = l.of[i] - at < row ? l.of[i] - at : row;
            bool learns = false;
            for (int64_t k = at + 1; k < at + n; k++) learns = learns || l.mask[i][k];
            pieces += learns;
            dropped += !learns;
            kept += learns ? n : 0;
        }
    assert_int_equal(counts[0].n_documents, pieces);
    assert_int_equal(counts[0].n_tokens, kept);
    assert_int_equal(counts[0].n_dropped, dropped);
    assert_true(dropped > 0 && pieces > 3);
    token_file_close(&f);

    /* truncated in front of its answer nothing is left to learn */
    o = options_of(t, "none.h5");
    o.row_tokens = 4;
    o.overlong = TOKENIZE_OVERLONG_TRUNCATE;
    ASSERT_REFUSED(run(&path, 1, &o, counts), STATUS_DATA, "no conversation that fits");
    assert_int_equal(counts[0].n_dropped, 3);
    tokenizer_close(&t);
}

TEST(validation_gets_whole_conversations_and_rows_of_its_own)
{
    struct tokenizer *t = chat_tokenizer();
    struct chat *c = NULL;
    enum { N = 200 };
    char *text = test_alloc(N * 400), line[400];
    text[0] = '\0';
    ASSERT_OK(chat_create(&c, t, chat_template_find("chatml"), CHAT_LOSS_ASSISTANT));
    for (int i = 0; i < N; i++) {
        write_line(line, sizeof line, c, i % 30, (char)('a' + i % 26), NULL);
        strcat(text, line);
        strcat(text, "\n");
    }
    const char *path = put("many.jsonl", text);
    struct tokenize_options o = options_of(t, "train.h5");
    o.validation_path = in_folder("validation.h5");
    o.validation_share = 0.3;
    o.row_tokens = 100;
    struct tokenize_counts counts[2];
    ASSERT_OK(run(&path, 1, &o, counts));
    assert_int_equal(counts[0].n_documents + counts[1].n_documents, N);
    for (int k = 0; k < 2; k++) {
        struct token_file *f = NULL;
        assert_in_range(counts[k].n_documents, 20, 180);
        ASSERT_OK(token_file_open(&f, k ? o.validation_path : o.train_path,
                                  TOKEN_FILE_CHECK_ALL));
        assert_int_equal(token_file_info(f)->row_tokens, 100);
        assert_int_equal(token_file_info(f)->n_tokens, 100 * counts[k].n_rows);
        token_file_close(&f);
    }
    chat_destroy(&c);
    tokenizer_close(&t);
}
