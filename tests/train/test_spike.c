/* Spikes of the loss, and the time at which a run has to leave. */
#include "harness/harness.h"

#include <math.h>

#include "train/deadline.h"
#include "train/spike.h"

TEST(mean_and_variance_are_those_of_the_losses_at_first)
{
    struct spike s = {0};
    double sum = 0, squares = 0;
    for (int i = 1; i <= 100; i++) {
        const double loss = 3 + 0.1 * (i * 37 % 11);
        spike_learn(&s, loss);
        sum += loss;
        squares += loss * loss;
        const double mean = sum / i;
        assert_true(fabs(s.mean - mean) < 1e-12);
        assert_true(fabs(s.variance - (squares / i - mean * mean)) < 1e-10);
    }
}

TEST(a_spike_is_far_above_what_was_seen_and_only_if_wanted)
{
    struct spike s = {0};
    for (int i = 0; i < SPIKE_FIRST; i++) {
        assert_false(spike_is(&s, 1e9, 6));
        spike_learn(&s, 3 + 0.1 * (i % 2 ? 1 : -1));
    }
    assert_true(fabs(sqrt(s.variance) - 0.1) < 1e-9);
    assert_true(spike_is(&s, 3.61, 6));
    assert_false(spike_is(&s, 3.59, 6));
    assert_false(spike_is(&s, -100, 6));
    assert_false(spike_is(&s, 1e9, 0));
}

TEST(the_mean_follows_a_loss_that_falls)
{
    struct spike s = {0};
    for (int i = 0; i < 2000; i++) spike_learn(&s, 10 - 0.004 * i);
    assert_true(s.mean < 2.6 && s.mean > 2);
}

TEST(the_earlier_of_two_limits_counts)
{
    struct config c = {.time_limit = 0, .time_margin = 10};
    assert_true(deadline_of(&c, 1000, NULL) == 0);
    assert_true(deadline_of(&c, 1000, "") == 0);
    assert_true(deadline_of(&c, 1000, "soon") == 0);
    assert_true(deadline_of(&c, 1000, "1500") == 1490);
    c.time_limit = 100;
    assert_true(deadline_of(&c, 1000, NULL) == 1090);
    assert_true(deadline_of(&c, 1000, "1500") == 1090);
    assert_true(deadline_of(&c, 1000, "1050") == 1040);
    assert_false(deadline_passed(0));
    assert_true(deadline_passed(1));
    assert_false(deadline_passed(1e15));
}
