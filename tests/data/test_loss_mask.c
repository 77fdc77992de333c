/* Tokens that a loss mask leaves out are read as inputs and never predicted, whatever form the
 * mask comes in; a file in rows gives each row as one sequence. */
#include <unistd.h>

#include "corpus.h"
#include "core/h5.h"
#include "data/sampler.h"
#include "published.h"

enum { V = 90, EOS = V - 1 };

/* Whether token i is to be predicted. */
static int32_t is_loss(uint64_t key, int64_t i)
{
    return (int32_t)(rng_u64(key + 77, (uint64_t)i) % 3 != 0);
}

/* corpus_write with a mask, in rows of T tokens unless T is 0. */
static void write_masked(const struct corpus *c, int64_t T)
{
    struct token_writer *w = NULL;
    ASSERT_OK(token_writer_create(&w, c->path, c->vocab_size, EOS, ""));
    int64_t at = 0;
    for (int d = 0; d < c->n_documents; d++) {
        const size_t bytes = ((size_t)c->lengths[d] + 1) * sizeof(int32_t);
        int32_t *ids = test_alloc(bytes), *loss = test_alloc(bytes);
        for (int64_t i = 0; i < c->lengths[d]; i++, at++) {
            ids[i] = corpus_id(c, at);
            loss[i] = is_loss(c->key, at);
        }
        ASSERT_OK(token_writer_masked(w, ids, loss, c->lengths[d], 0));
    }
    if (T > 0) token_writer_set_rows(w, T);
    ASSERT_OK(token_writer_set_tokenizer(w, "some/tokenizer.json"));
    ASSERT_OK(token_writer_commit(w, "[]"));
    token_writer_destroy(&w);
}

static struct corpus documents_of(const char *name, uint64_t key, int n, int64_t longest)
{
    int64_t *lengths = test_alloc((size_t)n * sizeof *lengths);
    for (int d = 0; d < n; d++)
        lengths[d] = 1 + (int64_t)(rng_u64(key, (uint64_t)d) % (uint64_t)longest);
    return (struct corpus){.path = corpus_path(name),
                           .key = key,
                           .vocab_size = V,
                           .lengths = lengths,
                           .n_documents = n};
}

static int64_t tokens_of(const struct corpus *c)
{
    int64_t n = 0;
    for (int d = 0; d < c->n_documents; d++) n += c->lengths[d];
    return n;
}

TEST(a_mask_comes_back_in_any_range)
{
    const struct corpus c = documents_of("m.h5", 3, 20, 30);
    write_masked(&c, 0);
    struct token_file *f = NULL;
    ASSERT_OK(token_file_open(&f, c.path, TOKEN_FILE_CHECK_ALL));
    const int64_t n = token_file_info(f)->n_tokens;
    assert_true(token_file_info(f)->has_loss_mask);
    assert_int_equal(token_file_info(f)->row_tokens, 0);
    assert_int_equal(n, tokens_of(&c));
    assert_string_equal(token_file_tokenizer(f), "some/tokenizer.json");
    for (int64_t start = 0; start <= n; start += 7)
        for (int64_t m = 0; m <= n - start; m += 11) {
            unsigned char loss[1024];
            memset(loss, 0x5a, sizeof loss);
            token_file_loss(f, start, m, loss);
            for (int64_t i = 0; i < m; i++)
                assert_int_equal(loss[i], is_loss(c.key, start + i));
            assert_int_equal(loss[m], 0x5a);
        }
    token_file_close(&f);
}

TEST(without_a_mask_every_token_is_to_be_predicted)
{
    const struct corpus c = corpus_of("plain.h5", 1, V, 50);
    struct token_file *f = NULL;
    unsigned char loss[50] = {0};
    ASSERT_OK(token_file_open(&f, c.path, TOKEN_FILE_CHECK_ALL));
    assert_false(token_file_info(f)->has_loss_mask);
    assert_string_equal(token_file_tokenizer(f), "");
    token_file_loss(f, 0, 50, loss);
    for (int i = 0; i < 50; i++) assert_int_equal(loss[i], 1);
    token_file_close(&f);
}

/* The mask is part of what names the contents. */
TEST(another_mask_is_another_file)
{
    struct corpus c = documents_of("h.h5", 3, 20, 30);
    struct token_file *f = NULL;
    uint64_t hash[2];
    write_masked(&c, 0);
    ASSERT_OK(token_file_open(&f, c.path, TOKEN_FILE_CHECK_ALL));
    hash[0] = token_file_info(f)->xxh3;
    token_file_close(&f);
    corpus_write(&c); /* the same tokens without one */
    ASSERT_OK(token_file_open(&f, c.path, TOKEN_FILE_CHECK_ALL));
    hash[1] = token_file_info(f)->xxh3;
    token_file_close(&f);
    assert_true(hash[0] != hash[1]);
}

/* ---- sequences -------------------------------------------------------------------------- */

static struct sampler *sampler_of(const char *path, int64_t T, bool document_mask)
{
    const struct data_source source = {.path = (char *)(uintptr_t)path, .weight = 1};
    struct sampler *s = NULL;
    ASSERT_OK(
        sampler_create(&s, &(struct sampler_options){.sources = &source,
                                                     .n_sources = 1,
                                                     .T = T,
                                                     .vocab_size = V,
                                                     .document_mask = document_mask,
                                                     .check = TOKEN_FILE_CHECK_ALL}));
    return s;
}

static struct batch batch_of(int64_t T)
{
    const size_t bytes = (size_t)T * sizeof(int32_t);
    struct batch b = {.B = 1,
                      .T = T,
                      .tokens = test_alloc(bytes),
                      .targets = test_alloc(bytes),
                      .positions = test_alloc(bytes),
                      .doc_start = test_alloc(bytes)};
    memset(b.targets, 0x5a, bytes);
    return b;
}

/* Windows of `masked` are those of `plain` with fewer targets, as is_loss(key) says. */
static void check_masked(const char *masked, const char *plain, uint64_t key, int64_t T,
                         bool document_mask)
{
    struct sampler *a = sampler_of(masked, T, document_mask);
    struct sampler *b = sampler_of(plain, T, document_mask);
    const size_t bytes = (size_t)T * sizeof(int32_t);
    int64_t left_out = 0;
    assert_int_equal(sampler_windows(a, 0), sampler_windows(b, 0));
    for (int64_t i = 0; i < sampler_windows(a, 0); i++) {
        struct batch got = batch_of(T), want = batch_of(T);
        ASSERT_OK(sampler_fill(a, i, &got, 0));
        ASSERT_OK(sampler_fill(b, i, &want, 0));
        for (int64_t t = 0; t < T; t++) {
            if (want.targets[t] < 0 || is_loss(key, i * T + t + 1)) continue;
            want.targets[t] = -1;
            want.n_targets--;
            left_out++;
        }
        assert_memory_equal(got.tokens, want.tokens, bytes);
        assert_memory_equal(got.targets, want.targets, bytes);
        assert_memory_equal(got.positions, want.positions, bytes);
        assert_memory_equal(got.doc_start, want.doc_start, bytes);
        assert_int_equal(got.n_targets, want.n_targets);
    }
    assert_true(left_out > 0);
    sampler_destroy(&a);
    sampler_destroy(&b);
}

TEST(what_the_mask_leaves_out_is_no_target)
{
    const struct corpus masked = documents_of("masked.h5", 5, 100, 60);
    struct corpus plain = masked;
    plain.path = corpus_path("plain.h5");
    write_masked(&masked, 0);
    corpus_write(&plain);
    static const int64_t lengths[] = {1, 7, 64, 1100}; /* two blocks of the sampler */
    for (int i = 0; i < 4; i++) {
        check_masked(masked.path, plain.path, 5, lengths[i], true);
        check_masked(masked.path, plain.path, 5, lengths[i], false);
    }
}

TEST(masks_run_on_through_shards)
{
    const struct corpus masked = documents_of("all.h5", 6, 60, 30);
    struct corpus plain = masked;
    plain.path = corpus_path("plain.h5");
    corpus_write(&plain);
    char list[3 * 4096] = "";
    int64_t at = 0;
    for (int k = 0; k < 3; k++) { /* 20 documents each */
        struct token_writer *w = NULL;
        char name[16];
        snprintf(name, sizeof name, "%d.h5", k);
        const char *path = corpus_path(name);
        ASSERT_OK(token_writer_create(&w, path, V, EOS, ""));
        for (int d = 20 * k; d < 20 * k + 20; d++) {
            int32_t ids[30], loss[30];
            for (int64_t i = 0; i < masked.lengths[d]; i++, at++) {
                ids[i] = corpus_id(&masked, at);
                loss[i] = is_loss(6, at);
            }
            ASSERT_OK(token_writer_masked(w, ids, loss, masked.lengths[d], 0));
        }
        ASSERT_OK(token_writer_commit(w, "[]"));
        token_writer_destroy(&w);
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", k ? "\n" : "",
                 path);
    }
    check_masked(list, plain.path, 6, 50, true);
    struct token_file *f = NULL;
    snprintf(list + strlen(list), sizeof list - strlen(list), "\n%s", plain.path);
    ASSERT_REFUSED(token_file_open(&f, list, TOKEN_FILE_CHECK_ALL), STATUS_DATA,
                   "plain.h5 has none");
}

TEST(masks_of_datatrove_are_the_same)
{
    const struct corpus c = documents_of("plain.h5", 7, 40, 30);
    corpus_write(&c);
    const int64_t n = tokens_of(&c);
    int32_t *ids = test_alloc((size_t)n * sizeof *ids);
    int64_t *ends = test_alloc((size_t)c.n_documents * sizeof *ends), end = 0;
    for (int64_t i = 0; i < n; i++) ids[i] = corpus_id(&c, i);
    for (int d = 0; d < c.n_documents; d++) ends[d] = end += c.lengths[d];
    const struct published p = {ids, n, ends, c.n_documents, 2};
    const char *path = corpus_path("d.ds");
    published_datatrove(path, &p, true);
    FILE *out = published_create(path, ".loss");
    for (int64_t i = 0; i < n; i++) published_number(out, is_loss(7, i), 1);
    fclose(out);
    check_masked(path, c.path, 7, 33, true);
    check_masked(path, c.path, 7, 33, false);
}

TEST(a_mixture_may_have_masked_and_unmasked_sources)
{
    const struct corpus masked = documents_of("masked.h5", 8, 40, 30);
    const struct corpus plain = corpus_of("plain.h5", 9, V, 500);
    write_masked(&masked, 0);
    const struct data_source sources[] = {
        {.path = (char *)(uintptr_t)masked.path, .weight = 1},
        {.path = (char *)(uintptr_t)plain.path, .weight = 1}};
    struct sampler *s = NULL;
    ASSERT_OK(sampler_create(
        &s, &(struct sampler_options){.sources = sources, .n_sources = 2, .T = 20}));
    bool seen[2] = {false, false};
    for (int64_t i = 0; i < 20; i++) {
        int k = -1;
        const int64_t start = sampler_window(s, i, &k) * 20;
        struct batch b = batch_of(20);
        ASSERT_OK(sampler_fill(s, i, &b, 0));
        for (int64_t t = 0; t < 20; t++) {
            const bool is_target = k == 1 || is_loss(8, start + t + 1);
            assert_int_equal(b.targets[t] >= 0, is_target);
        }
        seen[k] = true;
    }
    assert_true(seen[0] && seen[1]);
    sampler_destroy(&s);
}

/* ---- rows ------------------------------------------------------------------------------- */

TEST(a_row_is_a_sequence_and_its_last_token_has_no_target)
{
    const int64_t lengths[] = {8, 3, 5, 7, 1, 8}; /* rows: 8 | 3 5 | 7 1 | 8 */
    const struct corpus c = {.path = corpus_path("rows.h5"),
                             .key = 4,
                             .vocab_size = V,
                             .lengths = lengths,
                             .n_documents = 6};
    write_masked(&c, 8);
    static const int begins[32] = {
        [0] = 0, [8] = 0, [11] = 3, [16] = 0, [23] = 7, [24] = 0};
    for (int documents = 0; documents < 2; documents++) {
        struct sampler *s = sampler_of(c.path, 8, documents);
        assert_int_equal(sampler_windows(s, 0), 4);
        for (int64_t row = 0; row < 4; row++) {
            struct batch b = batch_of(8);
            int begin = 0;
            ASSERT_OK(sampler_fill(s, row, &b, 0));
            for (int t = 0; t < 8; t++) {
                const int64_t at = 8 * row + t;
                if (documents && begins[at] > 0) begin = begins[at];
                const bool cut = documents && t < 7 && begins[at + 1] > 0;
                const bool is_target = t < 7 && !cut && is_loss(4, at + 1);
                assert_int_equal(b.tokens[t], corpus_id(&c, at));
                assert_int_equal(b.targets[t], is_target ? corpus_id(&c, at + 1) : -1);
                assert_int_equal(b.doc_start[t], begin);
                assert_int_equal(b.positions[t], t - begin);
            }
        }
        sampler_destroy(&s);
    }
}

TEST(rows_are_sequences_of_their_length_only)
{
    const int64_t lengths[] = {8, 8};
    const struct corpus c = {.path = corpus_path("rows.h5"),
                             .key = 4,
                             .vocab_size = V,
                             .lengths = lengths,
                             .n_documents = 2};
    write_masked(&c, 8);
    const struct data_source source = {.path = (char *)(uintptr_t)c.path, .weight = 1};
    struct sampler *s = NULL;
    for (int64_t T = 4; T <= 16; T += 3)
        ASSERT_REFUSED(sampler_create(&s, &(struct sampler_options){.sources = &source,
                                                                    .n_sources = 1,
                                                                    .T = T}),
                       STATUS_DATA, "rows of 8 tokens, data.sequence_length is");
    assert_non_null(strstr(status_message(), "(valid: 8)"));
}

/* ---- damage ----------------------------------------------------------------------------- */

/* A file of version 2 whose mask has n elements of `type`, and rows of `row` tokens. */
static const char *forge(hid_t type, hsize_t n, uint64_t row, const char *without)
{
    const char *path = corpus_path("forged.h5");
    const uint16_t ids[12] = {0};
    const uint64_t documents[2] = {0, 12};
    const uint8_t mask[16] = {0};
    const hsize_t n_ids = 12, n_documents = 2;
    hid_t file = H5I_INVALID_HID;
    ASSERT_OK(h5_create(path, &file));
    const struct {
        const char *name;
        hid_t type, memory;
        const hsize_t *n;
        const void *data;
    } sets[] = {{"tokens", H5T_STD_U16LE, H5T_NATIVE_UINT16, &n_ids, ids},
                {"documents", H5T_STD_U64LE, H5T_NATIVE_UINT64, &n_documents, documents},
                {"loss_mask", type, H5T_NATIVE_UINT8, &n, mask}};
    for (int k = 0; k < 3; k++) {
        if (strcmp(sets[k].name, without) == 0) continue;
        const hid_t space = H5Screate_simple(1, sets[k].n, NULL);
        const hid_t d = H5Dcreate2(file, sets[k].name, sets[k].type, space, H5P_DEFAULT,
                                   H5P_DEFAULT, H5P_DEFAULT);
        assert_true(H5Dwrite(d, sets[k].memory, H5S_ALL, H5S_ALL, H5P_DEFAULT,
                             sets[k].data) >= 0);
        H5Dclose(d);
        H5Sclose(space);
    }
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {{"version", 2},
                   {"vocab_size", V},
                   {"total_bytes", 0},
                   {"row_tokens", row},
                   {"tokens_xxh3", hash_xxh3(ids, sizeof ids)},
                   {"documents_xxh3", hash_xxh3(documents, sizeof documents)},
                   {"loss_mask_xxh3", hash_xxh3(mask, 12)}};
    for (int k = 0; k < 7; k++)
        if (strcmp(numbers[k].name, without) != 0)
            ASSERT_OK(h5_write_u64(file, numbers[k].name, numbers[k].value));
    ASSERT_OK(h5_write_str(file, "tokenizer_sha256", ""));
    ASSERT_OK(h5_write_str(file, "sources", "[]"));
    assert_true(H5Fclose(file) >= 0);
    ASSERT_OK(h5_seal(path, "tokens", NULL, 0));
    char tmp[4200];
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    assert_int_equal(rename(tmp, path), 0);
    return path;
}

TEST(a_mask_that_does_not_fit_is_refused)
{
    struct token_file *f = NULL;
    h5_init();
    ASSERT_OK(token_file_open(&f, forge(H5T_STD_U8LE, 12, 6, ""), TOKEN_FILE_CHECK_ALL));
    assert_int_equal(token_file_info(f)->row_tokens, 6);
    token_file_close(&f);
    const struct {
        hid_t type;
        hsize_t n;
        uint64_t row;
        const char *without, *words;
    } bad[] = {
        {H5T_STD_U8LE, 11, 6, "", "/loss_mask has 11 elements of 1 bytes"},
        {H5T_STD_U8LE, 13, 6, "", "/loss_mask has 13 elements"},
        {H5T_STD_U16LE, 12, 6, "", "12 elements of 2 bytes, needed are 12 of uint8"},
        {H5T_STD_I8LE, 12, 6, "", "/loss_mask is not an array"},
        {H5T_STD_U8LE, 12, 5, "", "12 tokens are not rows of 5"},
        {H5T_STD_U8LE, 12, 0, "", "row_tokens is 0"},
        {H5T_STD_U8LE, 12, 6, "loss_mask", "has no dataset /loss_mask"},
        {H5T_STD_U8LE, 12, 6, "loss_mask_xxh3", "loss_mask_xxh3"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ASSERT_REFUSED(
            token_file_open(&f, forge(bad[i].type, bad[i].n, bad[i].row, bad[i].without),
                            TOKEN_FILE_CHECK_SEAL),
            STATUS_DATA, bad[i].words);
}

TEST(one_flipped_byte_of_a_masked_file_is_refused)
{
    const struct corpus c = documents_of("flip.h5", 3, 4, 10);
    write_masked(&c, 0);
    FILE *io = fopen(c.path, "r+b");
    fseek(io, 0, SEEK_END);
    const long n = ftell(io);
    struct token_file *f = NULL;
    for (long at = 0; at < n; at++) {
        fseek(io, at, SEEK_SET);
        const int byte = fgetc(io);
        fseek(io, at, SEEK_SET);
        fputc(byte ^ 1 << at % 8, io);
        fflush(io);
        ASSERT_REFUSED(token_file_open(&f, c.path, TOKEN_FILE_CHECK_ALL), STATUS_DATA,
                       "flip.h5");
        fseek(io, at, SEEK_SET);
        fputc(byte, io);
        fflush(io);
    }
    fclose(io);
    ASSERT_OK(token_file_open(&f, c.path, TOKEN_FILE_CHECK_ALL));
    token_file_close(&f);
}
