/* The global order of samples is fair, stable and free of memory; a sequence shows what the
 * document mask says, against a reference that walks the documents token by token. */
#include "corpus.h"
#include "core/file.h"
#include "core/h5.h"
#include "data/mixture.h"
#include "data/sampler.h"

enum { MAX_SOURCES = 3 };

struct setup {
    struct corpus corpora[MAX_SOURCES];
    double weights[MAX_SOURCES];
    int n;
    int64_t T;
    uint64_t seed;
    bool in_order, document_mask;
};

static status_t try_sampler(struct sampler **s, const struct setup *x)
{
    struct data_source sources[MAX_SOURCES];
    for (int k = 0; k < x->n; k++)
        sources[k] = (struct data_source){.path = (char *)(uintptr_t)x->corpora[k].path,
                                          .weight = x->weights[k]};
    *s = (struct sampler *)&sources;
    return sampler_create(s,
                          &(struct sampler_options){.sources = sources,
                                                    .n_sources = x->n,
                                                    .T = x->T,
                                                    .seed = x->seed,
                                                    .shuffle = !x->in_order,
                                                    .document_mask = x->document_mask});
}

static struct sampler *sampler_of(const struct setup *x)
{
    struct sampler *s = NULL;
    ASSERT_OK(try_sampler(&s, x));
    return s;
}

static struct batch dirty_batch(int64_t B, int64_t T)
{
    const size_t bytes = (size_t)(B * T) * sizeof(int32_t);
    struct batch b = {.B = B,
                      .T = T,
                      .tokens = test_alloc(bytes),
                      .targets = test_alloc(bytes),
                      .positions = test_alloc(bytes),
                      .doc_start = test_alloc(bytes)};
    memset(b.tokens, 0x5a, bytes);
    memset(b.targets, 0x5a, bytes);
    memset(b.positions, 0x5a, bytes);
    memset(b.doc_start, 0x5a, bytes);
    return b;
}

/* ---- the order -------------------------------------------------------------------------- */

TEST(every_window_is_drawn_once_an_epoch)
{
    const struct setup x = {.corpora = {corpus_of("a.h5", 1, 50, 8 * 61 + 1),
                                        corpus_of("b.h5", 2, 50, 8 * 17 + 5),
                                        corpus_of("c.h5", 3, 50, 9)},
                            .weights = {5, 2, 0.1},
                            .n = 3,
                            .T = 8,
                            .seed = 42};
    struct sampler *s = sampler_of(&x);
    assert_int_equal(sampler_windows(s, 0), 61);
    assert_int_equal(sampler_windows(s, 1), 17);
    assert_int_equal(sampler_windows(s, 2), 1);
    assert_int_equal(sampler_total_windows(s), 79);
    int64_t drawn[3] = {0}, before[61] = {0}, moved = 0;
    char seen[3][61] = {{0}};
    for (int64_t i = 0; i < 1000; i++) {
        int k = -1;
        const int64_t window = sampler_window(s, i, &k);
        const int64_t windows = sampler_windows(s, k);
        assert_in_range(window, 0, windows - 1);
        if (drawn[k] % windows == 0) memset(seen[k], 0, sizeof seen[k]); /* new epoch */
        assert_false(seen[k][window]);
        seen[k][window] = 1;
        if (k == 0 && drawn[0] < 61) before[drawn[0]] = window;
        if (k == 0 && drawn[0] >= 61 && drawn[0] < 122)
            moved += before[drawn[0] - 61] != window;
        drawn[k]++;
    }
    assert_true(drawn[0] > 122 && drawn[1] > 34);
    assert_true(moved > 50); /* the second epoch has an order of its own */
    sampler_destroy(&s);
    assert_null(s);
    sampler_destroy(&s);
}

TEST(seeking_equals_walking)
{
    const struct setup x = {
        .corpora = {corpus_of("a.h5", 1, 50, 997), corpus_of("b.h5", 2, 50, 350)},
        .weights = {0.3, 0.7},
        .n = 2,
        .T = 3,
        .seed = 7};
    struct sampler *walked = sampler_of(&x), *sought = sampler_of(&x);
    for (int64_t step = 0; step < 5000; step++) {
        const int64_t i = (int64_t)rng_permute(9, 5000, (uint64_t)step);
        int a = -1, b = -2;
        assert_int_equal(sampler_window(sought, i, &a), sampler_window(walked, i, &b));
        assert_int_equal(a, b);
    }
    int source = -1; /* far beyond anything that could be walked */
    assert_in_range(sampler_window(sought, INT64_C(1) << 55, &source), 0, 331);
    sampler_destroy(&walked);
    sampler_destroy(&sought);
}

TEST(the_order_is_the_same_for_ever)
{
    const struct setup x = {
        .corpora = {corpus_of("a.h5", 1, 50, 1001), corpus_of("b.h5", 2, 50, 501)},
        .weights = {2, 1},
        .n = 2,
        .T = 10,
        .seed = 1234};
    static const int want[12][2] = {{0, 64}, {1, 9},  {0, 67}, {0, 65}, {1, 21}, {0, 81},
                                    {0, 29}, {1, 14}, {0, 45}, {0, 50}, {1, 28}, {0, 84}};
    struct sampler *s = sampler_of(&x);
    for (int i = 0; i < 12; i++) {
        int source = -1;
        const int64_t window = sampler_window(s, 145 + i, &source);
        assert_int_equal(source, want[i][0]);
        assert_int_equal(window, want[i][1]);
    }
    sampler_destroy(&s);
}

static int64_t differences(const struct setup *x, const struct setup *y)
{
    struct sampler *s = sampler_of(x), *t = sampler_of(y);
    int64_t n = 0;
    for (int64_t i = 0; i < 100; i++) {
        int a = -1, b = -1;
        n += sampler_window(s, i, &a) != sampler_window(t, i, &b);
    }
    sampler_destroy(&s);
    sampler_destroy(&t);
    return n;
}

TEST(the_order_depends_on_the_seed_and_not_on_the_path)
{
    struct setup x = {
        .corpora = {corpus_of("a.h5", 1, 50, 1001)}, .weights = {1}, .n = 1, .T = 10};
    struct setup moved = x, reseeded = x;
    moved.corpora[0] = corpus_of("moved.h5", 1, 50, 1001);
    reseeded.seed = 1;
    assert_int_equal(differences(&x, &moved), 0);
    assert_true(differences(&x, &reseeded) > 80);
}

TEST(without_shuffling_windows_come_in_file_order)
{
    const struct setup x = {.corpora = {corpus_of("a.h5", 1, 50, 10 * 7 + 3)},
                            .weights = {1},
                            .n = 1,
                            .T = 10,
                            .in_order = true};
    struct sampler *s = sampler_of(&x);
    for (int64_t i = 0; i < 30; i++) {
        int source = -1;
        assert_int_equal(sampler_window(s, i, &source), i % 7);
    }
    sampler_destroy(&s);
}

TEST(a_window_needs_one_token_more_than_its_length)
{
    const int64_t tokens[] = {11, 20, 21, 30, 31}, windows[] = {1, 1, 2, 2, 3};
    for (int i = 0; i < 5; i++) {
        const struct setup x = {.corpora = {corpus_of("a.h5", 1, 50, tokens[i])},
                                .weights = {1},
                                .n = 1,
                                .T = 10};
        struct sampler *s = sampler_of(&x);
        assert_int_equal(sampler_windows(s, 0), windows[i]);
        sampler_destroy(&s);
    }
    const struct setup x = {
        .corpora = {corpus_of("short.h5", 1, 50, 10)}, .weights = {1}, .n = 1, .T = 10};
    struct sampler *s = NULL;
    ASSERT_REFUSED(try_sampler(&s, &x), STATUS_DATA, "short.h5: has 10 tokens");
    assert_null(s);
}

/* ---- sequences -------------------------------------------------------------------------- */

/* Token by token: whose document it is, and where that begins in the window. */
static void reference(struct batch *b, int64_t row, const struct corpus *c, int64_t start,
                      bool mask)
{
    int64_t n = 0;
    for (int d = 0; d < c->n_documents; d++) n += c->lengths[d];
    int *document = malloc((size_t)n * sizeof *document);
    n = 0;
    for (int d = 0; d < c->n_documents; d++)
        for (int64_t i = 0; i < c->lengths[d]; i++) document[n++] = d;
    for (int64_t t = 0; t < b->T; t++) {
        const int64_t at = row * b->T + t, token = start + t;
        int64_t begin = t;
        while (begin > 0 && (!mask || document[start + begin - 1] == document[token]))
            begin--;
        const bool next_is_ours = !mask || document[token + 1] == document[token];
        b->tokens[at] = corpus_id(c, token);
        b->targets[at] = next_is_ours ? corpus_id(c, token + 1) : -1;
        b->doc_start[at] = (int32_t)begin;
        b->positions[at] = (int32_t)(t - begin);
        b->n_targets += next_is_ours;
    }
    free(document);
}

static void check_sequences(const struct setup *x)
{
    struct sampler *s = sampler_of(x);
    const int64_t B = sampler_total_windows(s), T = x->T;
    struct batch got = dirty_batch(B, T), want = dirty_batch(B, T);
    for (int64_t i = B - 1; i >= 0; i--) {
        int source = -1;
        const int64_t window = sampler_window(s, i, &source);
        ASSERT_OK(sampler_fill(s, i, &got, i));
        reference(&want, i, &x->corpora[source], window * T, x->document_mask);
    }
    const size_t bytes = (size_t)(B * T) * sizeof(int32_t);
    assert_memory_equal(got.tokens, want.tokens, bytes);
    assert_memory_equal(got.targets, want.targets, bytes);
    assert_memory_equal(got.doc_start, want.doc_start, bytes);
    assert_memory_equal(got.positions, want.positions, bytes);
    assert_int_equal(got.n_targets, want.n_targets);
    sampler_destroy(&s);
}

TEST(sequences_are_the_tokens_and_the_tokens_after_them)
{
    struct setup x = {
        .corpora = {corpus_of("a.h5", 1, 50, 120), corpus_of("b.h5", 2, 50, 75)},
        .weights = {1, 1},
        .n = 2,
        .T = 7,
        .seed = 3};
    check_sequences(&x);
    x.document_mask = true;
    check_sequences(&x);
    x.corpora[0] = corpus_of("a.h5", 1, 70000, 120);
    x.corpora[1] = corpus_of("b.h5", 2, 70000, 75);
    check_sequences(&x);
}

/* Random documents around the window length, some empty, some of one token. */
static struct corpus random_documents(uint64_t key, int n, int64_t longest)
{
    int64_t *lengths = test_alloc((size_t)n * sizeof *lengths);
    for (int d = 0; d < n; d++)
        lengths[d] = (int64_t)(rng_u64(key, (uint64_t)d) % (uint64_t)(longest + 1));
    const struct corpus c = {.path = corpus_path("documents.h5"),
                             .key = key,
                             .vocab_size = 40,
                             .lengths = lengths,
                             .n_documents = n};
    corpus_write(&c);
    return c;
}

TEST(document_masks_equal_the_walk_over_random_documents)
{
    for (uint64_t key = 0; key < 40; key++) {
        const int64_t longest = key % 4 == 0   ? 2
                                : key % 4 == 1 ? 8
                                : key % 4 == 2 ? 20
                                               : 60;
        const struct setup x = {.corpora = {random_documents(100 + key, 60, longest)},
                                .weights = {1},
                                .n = 1,
                                .T = 1 + (int64_t)key % 9,
                                .seed = key,
                                .document_mask = true};
        check_sequences(&x);
    }
}

TEST(a_document_that_ends_with_the_window_hides_the_next)
{
    const int64_t lengths[] = {4, 4, 1};
    struct setup x = {.corpora = {{.path = corpus_path("edge.h5"),
                                   .key = 5,
                                   .vocab_size = 40,
                                   .lengths = lengths,
                                   .n_documents = 3}},
                      .weights = {1},
                      .n = 1,
                      .T = 4,
                      .in_order = true,
                      .document_mask = true};
    corpus_write(&x.corpora[0]);
    struct sampler *s = sampler_of(&x);
    struct batch b = dirty_batch(2, 4);
    ASSERT_OK(sampler_fill(s, 0, &b, 0));
    ASSERT_OK(sampler_fill(s, 1, &b, 1));
    assert_int_equal(b.targets[3], -1);
    assert_int_equal(b.targets[7], -1);
    assert_int_equal(b.doc_start[4], 0);
    assert_int_equal(b.positions[7], 3);
    assert_int_equal(b.n_targets, 6);
    sampler_destroy(&s);
}

/* ---- what is refused -------------------------------------------------------------------- */

TEST(sources_of_different_tokenizers_are_refused)
{
    static const char hash_a[] =
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    static const char hash_b[] =
        "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    struct setup x = {
        .corpora = {corpus_of("a.h5", 1, 50, 100), corpus_of("b.h5", 2, 51, 100)},
        .weights = {1, 1},
        .n = 2,
        .T = 8};
    struct sampler *s = NULL;
    ASSERT_REFUSED(try_sampler(&s, &x), STATUS_DATA, "vocabulary of 50");
    assert_non_null(strstr(status_message(), "a.h5"));
    assert_non_null(strstr(status_message(), "b.h5"));

    x.corpora[1].vocab_size = 50;
    x.corpora[0].tokenizer_sha256 = hash_a;
    x.corpora[1].tokenizer_sha256 = hash_b;
    corpus_write(&x.corpora[0]);
    corpus_write(&x.corpora[1]);
    ASSERT_REFUSED(try_sampler(&s, &x), STATUS_DATA, "tokenizer aaaaaaaaaaaa");
    assert_non_null(strstr(status_message(), "a.h5"));
    assert_non_null(strstr(status_message(), "b.h5"));

    x.corpora[1].tokenizer_sha256 = NULL; /* unknown: nothing speaks against it */
    corpus_write(&x.corpora[1]);
    ASSERT_OK(try_sampler(&s, &x));
    sampler_destroy(&s);
}

TEST(bad_sources_are_refused)
{
    struct setup x = {
        .corpora = {corpus_of("a.h5", 1, 50, 100), corpus_of("b.h5", 2, 50, 100)},
        .weights = {1, -2},
        .n = 2,
        .T = 8};
    struct sampler *s = NULL;
    ASSERT_REFUSED(try_sampler(&s, &x), STATUS_CONFIG, "source 2");
    assert_null(s);
    x.weights[1] = 2;
    x.corpora[1].path = corpus_path("absent.h5");
    ASSERT_REFUSED(try_sampler(&s, &x), STATUS_IO, "absent.h5");
    assert_null(s);
}

/* Overwrite bytes of region `region` of the file (documents first, then tokens). */
static void scribble(const char *path, int region, int64_t offset, const void *data,
                     size_t bytes)
{
    struct h5_seal_info info;
    ASSERT_OK(h5_check_seal(path, "tokens", STATUS_DATA, &info));
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    fseek(f, (long)info.regions[region].offset + (long)offset, SEEK_SET);
    assert_int_equal(fwrite(data, 1, bytes, f), bytes);
    fclose(f);
}

/* Offsets are checked when a file is opened.  If somebody writes into it later, a window that
 * meets them is refused, or takes them for other documents, but stays inside its own rows. */
TEST(document_offsets_that_change_later_do_no_harm)
{
    const int64_t lengths[] = {10, 10, 10, 10, 10};
    struct setup x = {.corpora = {{.path = corpus_path("offsets.h5"),
                                   .key = 5,
                                   .vocab_size = 40,
                                   .lengths = lengths,
                                   .n_documents = 5}},
                      .weights = {1},
                      .n = 1,
                      .T = 8,
                      .document_mask = true};
    const uint64_t values[] = {0,  5,  15,       29,         31,
                               49, 51, 1u << 31, UINT64_MAX, 1ull << 63};
    int64_t refused = 0;
    for (int64_t trial = 0; trial < 40; trial++) {
        const int64_t which = 1 + trial % 4;
        const uint64_t value = values[trial / 4];
        corpus_write(&x.corpora[0]);
        struct sampler *s = sampler_of(&x);
        scribble(x.corpora[0].path, 0, which * 8, &value, 8);
        for (int64_t i = 0; i < 6; i++) {
            struct batch b = dirty_batch(1, 8);
            const status_t st = sampler_fill(s, i, &b, 0);
            if (st == STATUS_OK) {
                for (int t = 0; t < 8; t++) {
                    assert_in_range(b.doc_start[t], 0, t);
                    assert_int_equal(b.positions[t], t - b.doc_start[t]);
                }
                continue;
            }
            assert_int_equal(st, STATUS_DATA);
            assert_non_null(strstr(status_message(), "offsets.h5: document"));
            refused++;
        }
        sampler_destroy(&s);
    }
    assert_true(refused > 0);
}
