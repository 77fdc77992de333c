/* The order of the sources is fair after every slot, and a question costs no walk. */
#include <math.h>

#include "harness/harness.h"
#include "core/rng.h"
#include "data/mixture.h"

static struct mixture *mixture_of(const double *weights, int n)
{
    struct mixture *m = NULL;
    ASSERT_OK(mixture_create(&m, weights, n));
    return m;
}

/* Every source's count stays less than one from its share, over two periods and a bit. */
static void check_fair(const double *weights, int n)
{
    struct mixture *m = mixture_of(weights, n);
    int64_t *count = test_alloc((size_t)n * sizeof *count);
    for (int64_t i = 0; i < 2 * MIXTURE_PERIOD + 1000; i++) {
        int source = -1;
        int64_t nth = -1;
        mixture_at(m, i, &source, &nth);
        assert_in_range(source, 0, n - 1);
        assert_int_equal(nth, count[source]);
        count[source]++;
        const bool all = n <= 8 || i % 9973 == 0; /* all sources, or the one that moved */
        for (int k = all ? 0 : source; k < (all ? n : source + 1); k++) {
            const int64_t off = count[k] * MIXTURE_PERIOD - mixture_slots(m, k) * (i + 1);
            if (llabs(off) >= MIXTURE_PERIOD)
                fail_msg("source %d of %d is %g off after %lld slots", k, n,
                         (double)off / MIXTURE_PERIOD, (long long)i + 1);
        }
    }
    mixture_destroy(&m);
}

TEST(shares_stay_within_one_slot_at_every_prefix)
{
    check_fair((double[]){1}, 1);
    check_fair((double[]){0.7, 0.3}, 2);
    check_fair((double[]){1, 1, 1}, 3);
    check_fair((double[]){0.5, 0.2, 0.15, 0.1, 0.04995, 0.00005}, 6);
    check_fair((double[]){1e-9, 5, 1e9, 7, 0.1, 1e5}, 6);
}

TEST(many_random_sources_stay_within_one_slot)
{
    enum { N = 300 };
    double weights[N];
    for (int k = 0; k < N; k++) weights[k] = 0.001 + pow(rng_uniform(7, (uint64_t)k), 6);
    check_fair(weights, N);
}

TEST(the_largest_number_of_sources_stays_within_one_slot)
{
    double *weights = test_alloc(MIXTURE_MAX_SOURCES * sizeof *weights);
    for (int k = 0; k < MIXTURE_MAX_SOURCES; k++) weights[k] = k % 2 ? 1 : 1e-9;
    check_fair(weights, MIXTURE_MAX_SOURCES);
}

TEST(slots_are_the_rounded_share)
{
    const double weights[] = {3, 0.1, 22, 7.7, 0.003};
    struct mixture *m = mixture_of(weights, 5);
    double sum = 0;
    int64_t slots = 0;
    for (int k = 0; k < 5; k++) sum += weights[k];
    for (int k = 0; k < 5; k++) {
        const double share = weights[k] / sum * MIXTURE_PERIOD;
        assert_true(fabs((double)mixture_slots(m, k) - share) < 1);
        slots += mixture_slots(m, k);
    }
    assert_int_equal(slots, MIXTURE_PERIOD);
    mixture_destroy(&m);
}

TEST(a_tiny_weight_is_honoured_and_spread)
{
    struct mixture *m = mixture_of((double[]){0.99995, 0.00005}, 2);
    assert_int_equal(mixture_slots(m, 1), 52); /* 0.00005 * 2^20 = 52.4 */
    int64_t last = -1, drawn = 0;
    for (int64_t i = 0; i < MIXTURE_PERIOD; i++) {
        int source = -1;
        int64_t nth = -1;
        mixture_at(m, i, &source, &nth);
        if (source != 1) continue;
        assert_true(i - last <= 2 * MIXTURE_PERIOD / 52);
        last = i;
        drawn++;
    }
    assert_int_equal(drawn, 52);
    mixture_destroy(&m);
}

TEST(no_source_is_rounded_to_nothing)
{
    struct mixture *m = mixture_of((double[]){1e300, 1e-300, 1e-300}, 3);
    assert_int_equal(mixture_slots(m, 0), MIXTURE_PERIOD - 2);
    assert_int_equal(mixture_slots(m, 1), 1);
    assert_int_equal(mixture_slots(m, 2), 1);
    mixture_destroy(&m);
}

TEST(only_ratios_of_weights_matter)
{
    struct mixture *a = mixture_of((double[]){1, 2, 5}, 3);
    struct mixture *b = mixture_of((double[]){0x1p1020, 0x1p1021, 5 * 0x1p1020}, 3);
    for (int64_t i = 0; i < MIXTURE_PERIOD; i++) {
        int source[2] = {-1, -2};
        int64_t nth[2] = {-1, -2};
        mixture_at(a, i, &source[0], &nth[0]);
        mixture_at(b, i, &source[1], &nth[1]);
        assert_int_equal(source[0], source[1]);
        assert_int_equal(nth[0], nth[1]);
    }
    mixture_destroy(&a);
    mixture_destroy(&b);
}

TEST(equal_sources_take_turns_in_the_order_of_the_list)
{
    struct mixture *m = mixture_of((double[]){2, 2, 2, 2}, 4);
    for (int64_t i = 0; i < 40; i++) {
        int source = -1;
        int64_t nth = -1;
        mixture_at(m, i, &source, &nth);
        assert_int_equal(source, i % 4);
        assert_int_equal(nth, i / 4);
    }
    mixture_destroy(&m);
}

TEST(a_far_sample_needs_no_walk)
{
    struct mixture *m = mixture_of((double[]){0.9, 0.1}, 2);
    const int64_t periods = INT64_C(1) << 40;
    for (int64_t i = 0; i < 100; i++) {
        int near = -1, far = -1;
        int64_t nth_near = -1, nth_far = -1;
        mixture_at(m, i, &near, &nth_near);
        mixture_at(m, i + periods * MIXTURE_PERIOD, &far, &nth_far);
        assert_int_equal(near, far);
        assert_int_equal(nth_far - nth_near, periods * mixture_slots(m, near));
    }
    mixture_destroy(&m);
}

TEST(weights_that_are_no_shares_are_refused)
{
    const double bad[] = {0, -1, NAN, INFINITY};
    for (int i = 0; i < 4; i++) {
        const double weights[] = {1, bad[i]};
        struct mixture *m = (struct mixture *)&m;
        ASSERT_REFUSED(mixture_create(&m, weights, 2), STATUS_CONFIG, "source 2");
        assert_null(m);
    }
    struct mixture *m = NULL;
    const double one = 1;
    ASSERT_REFUSED(mixture_create(&m, &one, 0), STATUS_CONFIG, "0 sources");
    ASSERT_REFUSED(mixture_create(&m, &one, MIXTURE_MAX_SOURCES + 1), STATUS_CONFIG,
                   "4097 sources");
}
