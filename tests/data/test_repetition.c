/* Sequences that repeat a few tokens too often are found, no others, and are not trained on. */
#include "data/repetition.h"

#include "corpus.h"
#include "data/sampler.h"

enum { N = 60 };

/* Does some stretch consist of `count` copies of its first `period` tokens?  Tries them all. */
static bool tried(const int32_t *x, int64_t n, struct repetition_limit limit)
{
    for (int64_t p = 1; p <= limit.period && p <= n / 3; p++)
        for (int64_t at = 0; at + p * limit.count <= n; at++) {
            bool same = true;
            for (int64_t i = p; i < p * limit.count; i++)
                same = same && x[at + i] == x[at + i % p];
            if (same) return true;
        }
    return false;
}

TEST(what_is_found_is_what_trying_every_stretch_finds)
{
    int found = 0;
    for (int round = 0; round < 4000; round++) {
        int32_t x[N];
        for (uint64_t i = 0; i < N; i++)
            x[i] = (int32_t)(rng_u64((uint64_t)round, i) % (uint64_t)(2 + round % 2));
        const struct repetition_limit limit = {.period = 1 + round % 7,
                                               .count = 3 + round / 7 % 5};
        const bool want = tried(x, N, limit);
        assert_int_equal(repetition_found(x, N, limit), want);
        found += want;
    }
    assert_in_range(found, 400, 3600); /* both answers were tried */
}

TEST(olmo_s_limit_is_thirty_two_times_up_to_thirteen_tokens)
{
    const struct repetition_limit olmo = {.period = 13, .count = 32};
    enum { T = 4096 };
    for (int period = 1; period <= 14; period++)
        for (int times = 31; times <= 32; times++) {
            int32_t x[T];
            for (int i = 0; i < T; i++) x[i] = i; /* nothing is repeated */
            for (int i = 0; i < period * times; i++) x[1000 + i] = 5000 + i % period;
            assert_int_equal(repetition_found(x, T, olmo), period <= 13 && times == 32);
        }
}

TEST(short_sequences_and_no_limit_find_nothing)
{
    const int32_t x[9] = {0};
    assert_false(repetition_found(x, 9, (struct repetition_limit){.period = 13}));
    assert_false(
        repetition_found(x, 0, (struct repetition_limit){.period = 1, .count = 3}));
    assert_false(
        repetition_found(x, 2, (struct repetition_limit){.period = 1, .count = 2}));
    assert_true(
        repetition_found(x, 9, (struct repetition_limit){.period = 3, .count = 9}));
}

TEST(a_sequence_beyond_the_limit_has_no_targets)
{
    enum { T = 16, WINDOWS = 4 };
    int32_t ids[T * WINDOWS + 1];
    for (int i = 0; i <= T * WINDOWS; i++) ids[i] = i;
    for (int i = 0; i < 6; i++) ids[2 * T + 3 + i] = 1; /* in the third */
    const char *path = corpus_path("repeats.h5");
    struct token_writer *w = NULL;
    ASSERT_OK(token_writer_create(&w, path, 100, 99, ""));
    ASSERT_OK(token_writer_document(w, ids, T * WINDOWS + 1, 1));
    ASSERT_OK(token_writer_commit(w, "[]"));
    token_writer_destroy(&w);
    const struct data_source source = {.path = (char *)(uintptr_t)path, .weight = 1};
    struct sampler *s = NULL;
    ASSERT_OK(sampler_create(
        &s, &(struct sampler_options){.sources = &source,
                                      .n_sources = 1,
                                      .T = T,
                                      .repetition = {.period = 2, .count = 6}}));
    for (int window = 0; window < WINDOWS; window++) {
        int32_t tokens[T], targets[T], positions[T], doc_start[T];
        struct batch b = {.B = 1,
                          .T = T,
                          .tokens = tokens,
                          .targets = targets,
                          .positions = positions,
                          .doc_start = doc_start};
        ASSERT_OK(sampler_fill(s, window, &b, 0));
        assert_int_equal(b.n_targets, window == 2 ? 0 : T);
        for (int i = 0; i < T; i++) {
            assert_int_equal(tokens[i], ids[window * T + i]);
            assert_int_equal(targets[i], window == 2 ? -1 : ids[window * T + i + 1]);
        }
    }
    sampler_destroy(&s);
}
