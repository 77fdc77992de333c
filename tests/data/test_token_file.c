/* What is written as a token file is what is read, and nothing else is left on the disk. */
#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "corpus.h"
#include "core/file.h"

static int files_in_folder(void)
{
    DIR *folder = opendir(test_folder());
    int n = 0;
    for (struct dirent *e = readdir(folder); e; e = readdir(folder))
        n += e->d_name[0] != '.';
    closedir(folder);
    return n;
}

static void check_round_trip(const struct corpus *c)
{
    corpus_write(c);
    struct token_file *f = NULL;
    ASSERT_OK(token_file_open(&f, c->path, TOKEN_FILE_CHECK_ALL));
    const struct token_file_info *info = token_file_info(f);
    int64_t n = 0;
    assert_int_equal(info->n_documents, c->n_documents);
    for (int d = 0; d < c->n_documents; d++) {
        int64_t first = -1, end = -1;
        token_file_document(f, d, &first, &end);
        assert_int_equal(first, n);
        n += c->lengths[d];
        assert_int_equal(end, n);
    }
    assert_int_equal(info->n_tokens, n);
    assert_int_equal(info->text_bytes, 3 * n);
    assert_int_equal(info->vocab_size, c->vocab_size);
    assert_int_equal(info->eos_id, c->vocab_size - 1);
    assert_int_equal(info->token_bytes, c->vocab_size <= 65536 ? 2 : 4);
    assert_string_equal(info->tokenizer_sha256,
                        c->tokenizer_sha256 ? c->tokenizer_sha256 : "");
    assert_string_equal(token_file_sources(f), "[{\"path\":\"a.txt\"}]");
    assert_string_equal(token_file_path(f), c->path);
    int32_t *ids = malloc((size_t)n * sizeof *ids);
    ASSERT_OK(token_file_read(f, 0, n, ids));
    for (int64_t i = 0; i < n; i++) assert_int_equal(ids[i], corpus_id(c, i));
    free(ids);
    token_file_close(&f);
    assert_null(f);
    token_file_close(&f);
}

static const char some_hash[] =
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

TEST(tokens_of_two_bytes_come_back)
{
    const int64_t lengths[] = {5, 1, 0, 17, 300};
    check_round_trip(&(struct corpus){.path = corpus_path("narrow.h5"),
                                      .key = 1,
                                      .vocab_size = 65536,
                                      .lengths = lengths,
                                      .n_documents = 5,
                                      .tokenizer_sha256 = some_hash});
}

TEST(tokens_of_four_bytes_come_back)
{
    const int64_t lengths[] = {2, 77};
    check_round_trip(&(struct corpus){.path = corpus_path("wide.h5"),
                                      .key = 2,
                                      .vocab_size = INT32_MAX,
                                      .lengths = lengths,
                                      .n_documents = 2});
    check_round_trip(&(struct corpus){.path = corpus_path("wide.h5"),
                                      .key = 2,
                                      .vocab_size = 65537,
                                      .lengths = lengths,
                                      .n_documents = 2});
}

TEST(more_than_the_writer_holds_in_memory_comes_back)
{
    enum { N = 150000 }; /* both columns exceed their buffer of 1 MiB */
    int64_t *lengths = test_alloc(N * sizeof *lengths);
    for (int64_t d = 0; d < N; d++) lengths[d] = 1 + d % 13;
    check_round_trip(&(struct corpus){.path = corpus_path("large.h5"),
                                      .key = 3,
                                      .vocab_size = 500,
                                      .lengths = lengths,
                                      .n_documents = N});
}

TEST(any_range_can_be_read)
{
    const struct corpus c = corpus_of("range.h5", 4, 1000, 200);
    struct token_file *f = NULL;
    ASSERT_OK(token_file_open(&f, c.path, TOKEN_FILE_CHECK_SEAL));
    for (int64_t start = 0; start <= 200; start += 7)
        for (int64_t n = 0; n <= 200 - start; n += 5) {
            int32_t ids[201];
            memset(ids, 0x5a, sizeof ids);
            ASSERT_OK(token_file_read(f, start, n, ids));
            for (int64_t i = 0; i < n; i++)
                assert_int_equal(ids[i], corpus_id(&c, start + i));
            assert_int_equal(ids[n], 0x5a5a5a5a);
        }
    token_file_close(&f);
}

TEST(the_document_of_every_token_is_found)
{
    const int64_t lengths[] = {0, 3, 1, 0, 0, 8, 2, 0};
    const struct corpus c = {.path = corpus_path("documents.h5"),
                             .key = 5,
                             .vocab_size = 9,
                             .lengths = lengths,
                             .n_documents = 8};
    corpus_write(&c);
    struct token_file *f = NULL;
    ASSERT_OK(token_file_open(&f, c.path, TOKEN_FILE_CHECK_ALL));
    int64_t at = 0;
    for (int d = 0; d < 8; d++)
        for (int64_t i = 0; i < lengths[d]; i++)
            assert_int_equal(token_file_document_at(f, at++), d);
    token_file_close(&f);
}

TEST(no_end_token_and_long_sources_are_kept)
{
    const char *path = corpus_path("plain.h5");
    const size_t n = 300000; /* beyond the 64 KiB of an HDF5 attribute of fixed length */
    char *sources = test_alloc(n);
    memset(sources, 'x', n - 1);
    struct token_writer *w = NULL;
    ASSERT_OK(token_writer_create(&w, path, 10, -1, ""));
    ASSERT_OK(token_writer_document(w, (int32_t[]){9, 0}, 2, 5));
    ASSERT_OK(token_writer_commit(w, sources));
    token_writer_destroy(&w);
    struct token_file *f = NULL;
    ASSERT_OK(token_file_open(&f, path, TOKEN_FILE_CHECK_ALL));
    assert_int_equal(token_file_info(f)->eos_id, -1);
    assert_string_equal(token_file_sources(f), sources);
    token_file_close(&f);
}

TEST(the_same_input_gives_the_same_bytes)
{
    char *data[2];
    size_t bytes[2];
    for (int i = 0; i < 2; i++) {
        if (i == 1) sleep(1); /* time of day must not get in */
        const struct corpus c = corpus_of(i ? "twice_b.h5" : "twice_a.h5", 6, 50, 1000);
        ASSERT_OK(file_read(c.path, 1 << 20, &data[i], &bytes[i]));
    }
    assert_int_equal(bytes[0], bytes[1]);
    assert_memory_equal(data[0], data[1], bytes[0]);
    free(data[0]);
    free(data[1]);
}

TEST(without_a_commit_the_old_file_stays_and_nothing_is_left)
{
    const struct corpus c = corpus_of("kept.h5", 7, 50, 100);
    char *before = NULL, *after = NULL;
    size_t bytes[2];
    ASSERT_OK(file_read(c.path, 1 << 20, &before, &bytes[0]));
    const int n = files_in_folder();
    struct token_writer *w = NULL;
    ASSERT_OK(token_writer_create(&w, c.path, 50, -1, ""));
    ASSERT_OK(token_writer_document(w, (int32_t[]){1, 2, 3}, 3, 1));
    assert_int_equal(files_in_folder(), n);
    token_writer_destroy(&w);
    assert_null(w);
    token_writer_destroy(&w);
    ASSERT_OK(file_read(c.path, 1 << 20, &after, &bytes[1]));
    assert_int_equal(files_in_folder(), n);
    assert_int_equal(bytes[0], bytes[1]);
    assert_memory_equal(before, after, bytes[0]);
    free(before);
    free(after);
}

TEST(a_commit_leaves_one_file)
{
    const int n = files_in_folder();
    corpus_of("alone.h5", 8, 50, 100);
    assert_int_equal(files_in_folder(), n + 1);
}

TEST(a_failed_commit_leaves_the_old_file_and_nothing_else)
{
    const char *path = corpus_path("blocked.h5"), *tmp = corpus_path("blocked.h5.tmp");
    const struct corpus c = corpus_of("blocked.h5", 9, 50, 100);
    assert_int_equal(mkdir(tmp, 0777), 0); /* in the way of PATH.tmp */
    struct token_writer *w = NULL;
    ASSERT_OK(token_writer_create(&w, path, 50, -1, ""));
    ASSERT_OK(token_writer_document(w, (int32_t[]){1, 2, 3}, 3, 1));
    ASSERT_REFUSED(token_writer_commit(w, "[]"), STATUS_IO, "blocked.h5");
    token_writer_destroy(&w);
    assert_int_equal(rmdir(tmp), 0);
    struct token_file *f = NULL;
    ASSERT_OK(token_file_open(&f, c.path, TOKEN_FILE_CHECK_ALL));
    assert_int_equal(token_file_info(f)->n_tokens, 100);
    token_file_close(&f);

    const char *late = corpus_path("late"), *inside = corpus_path("late/inside");
    ASSERT_OK(token_writer_create(&w, late, 50, -1, ""));
    ASSERT_OK(token_writer_document(w, (int32_t[]){1, 2, 3}, 3, 1));
    ASSERT_OK(file_make_dirs(inside)); /* in the way of the rename */
    ASSERT_REFUSED(token_writer_commit(w, "[]"), STATUS_IO, "late");
    token_writer_destroy(&w);
    assert_false(file_exists(corpus_path("late.tmp")));
}

TEST(what_cannot_be_written_is_refused_early)
{
    struct token_writer *w = (struct token_writer *)&w;
    ASSERT_REFUSED(token_writer_create(&w, test_folder(), 9, -1, ""), STATUS_IO,
                   "directory");
    assert_null(w);
    ASSERT_REFUSED(token_writer_create(&w, corpus_path("no/such/x.h5"), 9, -1, ""),
                   STATUS_IO, "no/such/x.h5");
    const char *path = corpus_path("refused.h5");
    ASSERT_OK(token_writer_create(&w, path, 9, -1, ""));
    ASSERT_REFUSED(token_writer_document(w, (int32_t[]){0, 9}, 2, 1), STATUS_DATA,
                   "vocabulary of 9");
    token_writer_destroy(&w);
    ASSERT_OK(token_writer_create(&w, path, 9, -1, ""));
    ASSERT_REFUSED(token_writer_document(w, (int32_t[]){-1}, 1, 1), STATUS_DATA,
                   "token -1");
    token_writer_destroy(&w);
    ASSERT_OK(token_writer_create(&w, path, 9, -1, ""));
    ASSERT_OK(token_writer_document(w, NULL, 0, 0));
    ASSERT_REFUSED(token_writer_commit(w, "[]"), STATUS_DATA, "no token");
    token_writer_destroy(&w);
    assert_false(file_exists(path));
}
