/* Schedules against their formulas, at the steps where they turn. */
#include "harness/harness.h"

#include <math.h>

#include "optim/optim.h"

#define ASSERT_NEAR(got, want)                                                           \
    do {                                                                                 \
        const double got_ = (got), want_ = (want);                                       \
        if (!(fabs(got_ - want_) <= 1e-12))                                              \
            fail_msg("%s: got %.15g, want %.15g", #got, got_, want_);                    \
    } while (0)

TEST(warmup_is_linear_and_reaches_the_peak_at_its_last_step)
{
    for (int kind = SCHEDULE_CONSTANT; kind <= SCHEDULE_WSD; kind++) {
        const struct schedule s = {
            .kind = kind, .warmup_steps = 4, .total_steps = 20, .decay_steps = 5};
        ASSERT_NEAR(schedule_factor(&s, 0), 0.25);
        ASSERT_NEAR(schedule_factor(&s, 2), 0.75);
        ASSERT_NEAR(schedule_factor(&s, 3), 1);
        ASSERT_NEAR(schedule_factor(&s, 4), 1); /* the fall has not begun */
    }
}

TEST(without_warmup_the_first_step_has_the_peak)
{
    for (int kind = SCHEDULE_CONSTANT; kind <= SCHEDULE_WSD; kind++) {
        const struct schedule s = {.kind = kind, .total_steps = 20, .decay_steps = 5};
        ASSERT_NEAR(schedule_factor(&s, 0), 1);
    }
}

TEST(constant_stays_at_the_peak)
{
    const struct schedule s = {
        .kind = SCHEDULE_CONSTANT, .total_steps = 10, .min_ratio = 0.1};
    for (int64_t step = 0; step < 30; step++) ASSERT_NEAR(schedule_factor(&s, step), 1);
}

TEST(linear_goes_straight_to_the_floor_and_stays_there)
{
    const struct schedule s = {.kind = SCHEDULE_LINEAR,
                               .warmup_steps = 10,
                               .total_steps = 110,
                               .min_ratio = 0.2};
    for (int64_t step = 10; step <= 110; step++)
        ASSERT_NEAR(schedule_factor(&s, step), 1 - 0.8 * (double)(step - 10) / 100);
    ASSERT_NEAR(schedule_factor(&s, 110), 0.2);
    ASSERT_NEAR(schedule_factor(&s, 1000), 0.2);
}

TEST(cosine_follows_the_half_wave_to_the_floor)
{
    const struct schedule s = {.kind = SCHEDULE_COSINE,
                               .warmup_steps = 700,
                               .total_steps = 18900,
                               .min_ratio = 0.1};
    for (int64_t step = 700; step <= 18900; step += 52) {
        const double way = (double)(step - 700) / (18900 - 700);
        const double want = 0.1 + 0.45 * (1 + cos(3.14159265358979323846 * way));
        ASSERT_NEAR(schedule_factor(&s, step), want);
    }
    ASSERT_NEAR(schedule_factor(&s, 700 + (18900 - 700) / 2), 0.55);
    ASSERT_NEAR(schedule_factor(&s, 18900), 0.1);
    ASSERT_NEAR(schedule_factor(&s, 20000), 0.1);
}

TEST(a_truncated_cosine_ends_above_its_floor)
{
    const struct schedule full = {.kind = SCHEDULE_COSINE, .total_steps = 100};
    const struct schedule longer = {.kind = SCHEDULE_COSINE, .total_steps = 200};
    ASSERT_NEAR(schedule_factor(&longer, 100), 0.5);
    for (int64_t step = 0; step <= 100; step++)
        ASSERT_NEAR(schedule_factor(&longer, 2 * step), schedule_factor(&full, step));
}

TEST(wsd_stays_at_the_peak_until_its_linear_decay)
{
    const struct schedule s = {.kind = SCHEDULE_WSD,
                               .warmup_steps = 5,
                               .total_steps = 100,
                               .decay_steps = 20,
                               .decay = SCHEDULE_DECAY_LINEAR,
                               .min_ratio = 0.1};
    for (int64_t step = 5; step <= 80; step++) ASSERT_NEAR(schedule_factor(&s, step), 1);
    for (int64_t step = 80; step <= 100; step++)
        ASSERT_NEAR(schedule_factor(&s, step), 1 - 0.9 * (double)(step - 80) / 20);
    ASSERT_NEAR(schedule_factor(&s, 101), 0.1);
}

TEST(wsd_with_sqrt_falls_by_the_root_of_the_way)
{
    const struct schedule s = {.kind = SCHEDULE_WSD,
                               .total_steps = 100,
                               .decay_steps = 64,
                               .decay = SCHEDULE_DECAY_SQRT,
                               .min_ratio = 0.25};
    ASSERT_NEAR(schedule_factor(&s, 36), 1);
    ASSERT_NEAR(schedule_factor(&s, 37), 0.25 + 0.75 * (1 - 0.125));
    ASSERT_NEAR(schedule_factor(&s, 52), 0.25 + 0.75 * 0.5);
    ASSERT_NEAR(schedule_factor(&s, 100), 0.25);
    ASSERT_NEAR(schedule_factor(&s, 101), 0.25);
}

TEST(a_warmup_of_the_whole_run_is_no_division_by_zero)
{
    for (int kind = SCHEDULE_CONSTANT; kind <= SCHEDULE_WSD; kind++) {
        const struct schedule s = {
            .kind = kind, .warmup_steps = 8, .total_steps = 8, .min_ratio = 0.5};
        ASSERT_NEAR(schedule_factor(&s, 7), 1);
        const double after = schedule_factor(&s, 8);
        assert_true(after == 1 || after == 0.5);
    }
}

TEST(clipping_brings_a_large_norm_to_the_limit_only)
{
    ASSERT_NEAR(optim_clip_factor(4, 1, 0), 0.25);
    ASSERT_NEAR(optim_clip_factor(1, 1, 0), 1);
    ASSERT_NEAR(optim_clip_factor(0.5, 1, 0), 1);
    ASSERT_NEAR(optim_clip_factor(0, 1, 0), 1);
    ASSERT_NEAR(optim_clip_factor(1e6, 0, 0), 1); /* no clipping */
    ASSERT_NEAR(optim_clip_factor(1e6, 0, 1), 1);
}

/* clip_coef = max_norm / (total_norm + 1e-6), at most 1 (torch.nn.utils.clip_grad_norm_) */
TEST(clipping_adds_its_epsilon_to_the_norm)
{
    ASSERT_NEAR(optim_clip_factor(4, 1, 1e-6), 1 / (4 + 1e-6));
    ASSERT_NEAR(optim_clip_factor(1, 1, 1e-6), 1 / (1 + 1e-6));
    ASSERT_NEAR(optim_clip_factor(0.75, 1, 0.125), 1);
    ASSERT_NEAR(optim_clip_factor(0.75, 1, 0.5), 0.8);
}

/* What llm.c, nanotron, OLMo and GPT-NeoX do in a warm-up of 4 of 12 steps with a linear fall. */
TEST(the_clock_says_as_what_a_step_counts)
{
    static const double want[][6] = {
        /* step                       0     1    3     4         5         11 */
        [SCHEDULE_CLOCK_AHEAD] = {0.25, 0.5, 1, 1, 1 - 1.0 / 8, 1 - 7.0 / 8},
        [SCHEDULE_CLOCK_ZERO] = {0, 0.25, 0.75, 1, 1 - 1.0 / 8, 1 - 7.0 / 8},
        [SCHEDULE_CLOCK_ONE] = {0.25, 0.5, 1, 1 - 1.0 / 8, 1 - 2.0 / 8, 0},
        [SCHEDULE_CLOCK_NOT_ZERO] = {0.25, 0.25, 0.75, 1, 1 - 1.0 / 8, 1 - 7.0 / 8}};
    static const int64_t steps[] = {0, 1, 3, 4, 5, 11};
    for (int clock = SCHEDULE_CLOCK_AHEAD; clock <= SCHEDULE_CLOCK_NOT_ZERO; clock++) {
        struct schedule s = {.kind = SCHEDULE_LINEAR,
                             .clock = clock,
                             .warmup_steps = 4,
                             .total_steps = 12};
        for (int i = 0; i < 6; i++)
            ASSERT_NEAR(schedule_factor(&s, steps[i]), want[clock][i]);
        s.warmup_steps = 0;
        const double first = clock == SCHEDULE_CLOCK_ONE ? 1 - 1.0 / 12 : 1;
        ASSERT_NEAR(schedule_factor(&s, 0), first);
    }
}

/* nanotron's WSD: the peak up to step 16 inclusive, then steps of 1 / 4 */
TEST(wsd_counts_its_decay_by_the_clock_too)
{
    struct schedule s = {.kind = SCHEDULE_WSD,
                         .clock = SCHEDULE_CLOCK_ZERO,
                         .total_steps = 20,
                         .decay_steps = 4};
    ASSERT_NEAR(schedule_factor(&s, 16), 1);
    ASSERT_NEAR(schedule_factor(&s, 17), 0.75);
    s.clock = SCHEDULE_CLOCK_ONE;
    ASSERT_NEAR(schedule_factor(&s, 15), 1);
    ASSERT_NEAR(schedule_factor(&s, 16), 0.75);
    ASSERT_NEAR(schedule_factor(&s, 19), 0);
}
