/* The loader hands every rank its share of the global order, ahead of time and within the
 * memory it announced. */
#include <signal.h>
#include <unistd.h>

#include "corpus.h"
#include "core/clock.h"
#include "core/h5.h"
#include "data/loader.h"

enum { T = 6 };

static struct sampler *sampler_over(const char *path, bool shuffle)
{
    struct data_source source = {.path = (char *)(uintptr_t)path, .weight = 1};
    struct sampler *s = NULL;
    ASSERT_OK(sampler_create(&s, &(struct sampler_options){.sources = &source,
                                                           .n_sources = 1,
                                                           .T = T,
                                                           .seed = 5,
                                                           .shuffle = shuffle,
                                                           .document_mask = true}));
    return s;
}

static struct sampler *small_sampler(void)
{
    return sampler_over(corpus_of("small.h5", 1, 100, T * 50 + 1).path, true);
}

static struct loader *loader_of(const struct loader_options *o)
{
    struct loader *l = NULL;
    ASSERT_OK(loader_create(&l, o));
    return l;
}

/* What one sequence of the global order looks like, from the sampler itself. */
static void check_sequence(const struct sampler *s, int64_t index, const struct batch *b,
                           int64_t row)
{
    int32_t rows[4][T];
    struct batch want = {.B = 1,
                         .T = T,
                         .tokens = rows[0],
                         .targets = rows[1],
                         .positions = rows[2],
                         .doc_start = rows[3]};
    ASSERT_OK(sampler_fill(s, index, &want, 0));
    assert_memory_equal(b->tokens + row * T, rows[0], sizeof rows[0]);
    assert_memory_equal(b->targets + row * T, rows[1], sizeof rows[1]);
    assert_memory_equal(b->positions + row * T, rows[2], sizeof rows[2]);
    assert_memory_equal(b->doc_start + row * T, rows[3], sizeof rows[3]);
}

/* Take one step of the loader; its sequences must be the global samples from `index` on. */
static void check_step(struct loader *l, const struct loader_options *o, int64_t index)
{
    const int64_t sequences = loader_sequences(o);
    int64_t done = 0;
    for (int64_t k = 0; k < loader_micro_batches(o); k++) {
        const struct batch *b = NULL;
        ASSERT_OK(loader_next(l, &b));
        const int64_t left = sequences - done;
        assert_int_equal(b->B, left < o->micro_batch ? left : o->micro_batch);
        assert_int_equal(b->T, T);
        int64_t n_targets = 0;
        for (int64_t i = 0; i < b->B * T; i++) n_targets += b->targets[i] >= 0;
        assert_int_equal(b->n_targets, n_targets);
        for (int64_t row = 0; row < b->B; row++)
            check_sequence(o->sampler, index + done + row, b, row);
        done += b->B;
    }
    assert_int_equal(done, sequences);
}

TEST(ranks_and_micro_batches_share_one_order)
{
    struct sampler *s = small_sampler();
    const int64_t batches[] = {4, 7, 12}, micro[] = {1, 2, 4};
    for (int g = 0; g < 3; g++)
        for (int size = 1; size <= 4; size++)
            for (int m = 0; m < 3; m++) {
                struct loader *loaders[4] = {0};
                struct loader_options o[4];
                for (int r = 0; r < size; r++) {
                    o[r] = (struct loader_options){.sampler = s,
                                                   .first_sample = 3 * batches[g],
                                                   .global_batch = batches[g],
                                                   .micro_batch = micro[m],
                                                   .T = T,
                                                   .rank = r,
                                                   .size = size,
                                                   .ahead = 1 + r};
                    loaders[r] = loader_of(&o[r]);
                }
                for (int64_t step = 3; step < 8; step++) {
                    int64_t index = step * batches[g];
                    for (int r = 0; r < size; r++) {
                        check_step(loaders[r], &o[r], index);
                        index += loader_sequences(&o[r]);
                    }
                    assert_int_equal(index, (step + 1) * batches[g]);
                }
                for (int r = 0; r < size; r++) loader_destroy(&loaders[r]);
            }
    sampler_destroy(&s);
}

TEST(uneven_shares_differ_by_one_at_most)
{
    for (int64_t G = 1; G < 40; G++)
        for (int size = 1; size <= 9 && size <= G; size++) {
            int64_t sum = 0;
            for (int r = 0; r < size; r++) {
                const struct loader_options o = {
                    .global_batch = G, .micro_batch = 3, .rank = r, .size = size};
                const int64_t n = loader_sequences(&o);
                assert_in_range(n, G / size, (G + size - 1) / size);
                assert_int_equal(loader_micro_batches(&o), (n + 2) / 3);
                sum += n;
            }
            assert_int_equal(sum, G);
        }
}

static struct loader_options plain_options(const struct sampler *s)
{
    return (struct loader_options){.sampler = s,
                                   .global_batch = 5,
                                   .micro_batch = 2,
                                   .T = T,
                                   .rank = 0,
                                   .size = 1,
                                   .ahead = 4};
}

TEST(loader_bytes_is_what_the_batches_take)
{
    struct sampler *s = small_sampler();
    for (int ahead = 1; ahead < 6; ahead++)
        for (int64_t micro = 1; micro < 9; micro++) {
            struct loader_options o = plain_options(s);
            o.ahead = ahead;
            o.micro_batch = micro;
            const int64_t most = micro < 5 ? micro : 5;
            const size_t array = ((size_t)(most * T) * 4 + 63) / 64 * 64;
            assert_int_equal(loader_bytes(&o), 4 * array * ((size_t)ahead + 1));
            struct loader *l = loader_of(&o);
            uintptr_t low = UINTPTR_MAX, high = 0;
            for (int i = 0; i <= ahead; i++) { /* every slot of the ring once */
                const struct batch *b = NULL;
                ASSERT_OK(loader_next(l, &b));
                const uintptr_t first = (uintptr_t)b->tokens;
                const uintptr_t end = (uintptr_t)b->doc_start + array;
                low = first < low ? first : low;
                high = end > high ? end : high;
            }
            assert_int_equal(high - low, loader_bytes(&o));
            loader_destroy(&l);
        }
    sampler_destroy(&s);
}

TEST(a_batch_stays_until_the_next_is_asked_for)
{
    struct sampler *s = small_sampler();
    struct loader_options o = plain_options(s);
    o.ahead = 1;
    o.global_batch = 2;
    struct loader *l = loader_of(&o);
    for (int64_t k = 0; k < 20; k++) {
        const struct batch *b = NULL;
        ASSERT_OK(loader_next(l, &b));
        usleep(2000); /* time to overwrite it */
        for (int64_t row = 0; row < 2; row++) check_sequence(s, 2 * k + row, b, row);
    }
    loader_destroy(&l);
    sampler_destroy(&s);
}

TEST(a_slow_consumer_never_waits)
{
    struct sampler *s = small_sampler();
    const struct loader_options o = plain_options(s);
    struct loader *l = loader_of(&o);
    const struct batch *b = NULL;
    usleep(50000);
    for (int i = 0; i < 20; i++) {
        ASSERT_OK(loader_next(l, &b));
        usleep(5000);
    }
    assert_true(loader_wait_seconds(l) < 0.02); /* a fifth of the time it slept */
    loader_destroy(&l);
    sampler_destroy(&s);
}

TEST(the_wait_is_counted_once)
{
    struct sampler *s =
        sampler_over(corpus_of("wait.h5", 1, 100, T * 5000 + 1).path, true);
    struct loader_options o = plain_options(s);
    o.global_batch = o.micro_batch = 4000;
    const double begin = clock_seconds();
    struct loader *l = loader_of(&o);
    const struct batch *b = NULL;
    ASSERT_OK(loader_next(l, &b)); /* cannot be ready yet */
    const double took = clock_seconds() - begin, waited = loader_wait_seconds(l);
    assert_true(waited > 0 && waited <= took);
    assert_true(loader_wait_seconds(l) == 0);
    loader_destroy(&l);
    sampler_destroy(&s);
}

TEST(destroy_stops_a_loader_in_any_state)
{
    struct sampler *s =
        sampler_over(corpus_of("stop.h5", 1, 100, T * 5000 + 1).path, true);
    struct loader_options o = plain_options(s);
    for (int at = 0; at < 4; at++) {
        if (at == 3) { /* in the middle of a batch that takes seconds */
            o.global_batch = o.micro_batch = 2000000;
            o.ahead = 1;
        }
        struct loader *l = loader_of(&o);
        const struct batch *b = NULL;
        if (at == 1) usleep(20000); /* full */
        if (at == 2) ASSERT_OK(loader_next(l, &b));
        if (at == 3) usleep(20000);
        const double begin = clock_seconds();
        loader_destroy(&l);
        assert_true(clock_seconds() - begin < 0.5);
        assert_null(l);
        loader_destroy(&l);
    }
    sampler_destroy(&s);
}

/* Ids beyond the vocabulary where the sample of token_file_open does not look. */
static const char *damaged_file(int64_t window)
{
    const struct corpus c = corpus_of("damaged.h5", 1, 100, 400000);
    struct h5_seal_info info;
    ASSERT_OK(h5_check_seal(c.path, "tokens", STATUS_DATA, &info));
    FILE *f = fopen(c.path, "r+b");
    assert_non_null(f);
    fseek(f, (long)info.regions[1].offset + 2 * T * (long)window + 4, SEEK_SET);
    const uint16_t id = 65535;
    assert_int_equal(fwrite(&id, sizeof id, 1, f), 1);
    fclose(f);
    return c.path;
}

TEST(an_error_comes_after_the_batches_before_it_and_stays)
{
    struct sampler *s = sampler_over(damaged_file(200), false);
    struct loader_options o = plain_options(s);
    o.first_sample = 190;
    struct loader *l = loader_of(&o);
    const struct batch *b = NULL;
    for (int i = 0; i < 6; i++) { /* two steps of five sequences: 2 + 2 + 1 */
        usleep(2000);             /* the thread has met the damage long before */
        ASSERT_OK(loader_next(l, &b));
    }
    for (int i = 0; i < 3; i++) {
        ASSERT_REFUSED(loader_next(l, &b), STATUS_DATA,
                       "damaged.h5: is damaged: token 1202 is 65535");
        assert_null(b);
        assert_int_equal(status_set(STATUS_OK, "overwritten"), STATUS_OK);
    }
    loader_destroy(&l);
    sampler_destroy(&s);
}

TEST(signals_are_left_to_the_training_loop)
{
    sigset_t one, before, pending;
    sigemptyset(&one);
    sigaddset(&one, SIGUSR1);
    struct sampler *s = small_sampler();
    const struct loader_options o = plain_options(s);
    struct loader *l = loader_of(&o); /* the signal is open here, at creation */
    pthread_sigmask(SIG_BLOCK, &one, &before);
    kill(getpid(), SIGUSR1); /* would end the process if the thread took it */
    usleep(20000);
    sigpending(&pending);
    assert_true(sigismember(&pending, SIGUSR1));
    int signal_number = 0;
    sigwait(&one, &signal_number);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    loader_destroy(&l);
    sampler_destroy(&s);
}
