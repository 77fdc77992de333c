/* @ranks 1 2 3 4
 * Who updates what, and that a sharded update equals a whole one. */
#include "harness/harness.h"

#include "core/rng.h"
#include "parallel/zero/zero.h"

struct setup {
    struct dp *dp;
    struct zero *zero;
    struct device *device;
    int64_t n_used, n; /* n: with padding */
    float *params;
    size_t state_bytes;
};

static struct setup make(int64_t n_used, int64_t bucket, int stage)
{
    struct comm *c = test_world();
    struct setup s = {.n_used = n_used, .n = dp_padded_elements(n_used, comm_size(c))};
    s.params = randn_1d(5, s.n).data;

    ASSERT_OK(device_open(&s.device, "cpu", 0));
    struct arena measure = arena_measure();
    ASSERT_OK(dp_create(&s.dp, c, s.n, bucket, zero_reduction(stage), &measure));
    const size_t dp_bytes = measure.peak_bytes;
    ASSERT_OK(zero_create(&s.zero, s.dp, s.device, NULL, DTYPE_F32, n_used, &measure));
    for (int64_t i = 0; i < zero_n_ranges(s.zero); i++) {
        assert_null(zero_range(s.zero, i).exp_avg);
        assert_null(zero_range(s.zero, i).master);
    }
    zero_destroy(&s.zero);
    assert_null(s.zero);
    dp_destroy(&s.dp);
    s.state_bytes = measure.peak_bytes - dp_bytes;

    char *memory = test_alloc(measure.peak_bytes + 1);
    memset(memory, 0x5a, measure.peak_bytes); /* dirty: moments must be zeroed */
    struct arena real = arena_over(memory, measure.peak_bytes);
    ASSERT_OK(dp_create(&s.dp, c, s.n, bucket, zero_reduction(stage), &real));
    ASSERT_OK(zero_create(&s.zero, s.dp, s.device, s.params, DTYPE_F32, n_used, &real));
    assert_int_equal(real.peak_bytes, measure.peak_bytes);
    return s;
}

static void release(struct setup *s)
{
    zero_destroy(&s->zero);
    dp_destroy(&s->dp);
    device_close(&s->device);
}

TEST(stage_0_updates_everything_and_stage_1_what_it_owns)
{
    struct setup s = make(10007, 1000, 0);
    assert_int_equal(zero_n_ranges(s.zero), 1);
    assert_int_equal(zero_range(s.zero, 0).start, 0);
    assert_int_equal(zero_range(s.zero, 0).count, 10007);
    assert_ptr_equal(zero_range(s.zero, 0).master, s.params);
    release(&s);

    s = make(10007, 1000, 1);
    int64_t n_ranges = 0;
    for (int64_t i = 0; i < dp_n_owned(s.dp); i++) {
        int64_t start, count;
        dp_owned(s.dp, i, &start, &count);
        if (start + count > s.n_used) count = s.n_used - start; /* padding is nobody's */
        if (count <= 0) continue;
        const struct zero_range r = zero_range(s.zero, n_ranges);
        const struct zero_range o = zero_owned(s.zero, n_ranges++);
        assert_int_equal(r.start, start);
        assert_int_equal(r.count, count);
        assert_memory_equal(&r, &o, sizeof r);
    }
    assert_int_equal(zero_n_ranges(s.zero), n_ranges);
    assert_int_equal(zero_n_owned(s.zero), n_ranges);
    release(&s);
}

TEST(moments_take_eight_bytes_an_element_updated)
{
    const int size = comm_size(test_world());
    struct setup s = make(48000, 4800, 0); /* divisible by 16 x 1, 2, 3, 4 */
    const size_t whole = (size_t)s.n_used * 8;
    assert_int_equal(s.state_bytes, whole);
    release(&s);
    s = make(48000, 4800, 1);
    assert_int_equal(s.state_bytes, whole / (size_t)size);
    release(&s);
}

TEST(ranges_have_state_of_their_own_that_starts_at_zero)
{
    for (int stage = 0; stage < 2; stage++) {
        struct setup s = make(10007, 1000, stage);
        float mark = 1;
        for (int64_t i = 0; i < zero_n_ranges(s.zero); i++) {
            const struct zero_range r = zero_range(s.zero, i);
            for (int64_t j = 0; j < r.count; j++) {
                assert_true(r.exp_avg[j] == 0 && r.exp_avg_sq[j] == 0);
                r.exp_avg[j] = mark++;
                r.exp_avg_sq[j] = mark++;
            }
            assert_ptr_equal(r.master, s.params + r.start);
        }
        mark = 1;
        for (int64_t i = 0; i < zero_n_ranges(s.zero); i++) {
            const struct zero_range r = zero_range(s.zero, i);
            for (int64_t j = 0; j < r.count; j++) {
                assert_true(r.exp_avg[j] == mark && r.exp_avg_sq[j] == mark + 1);
                mark += 2;
            }
        }
        release(&s);
    }
}

TEST(owned_state_is_the_state_that_is_updated)
{
    for (int stage = 0; stage < 2; stage++) {
        struct setup s = make(10007, 1000, stage);
        for (int64_t i = 0; i < zero_n_ranges(s.zero); i++) {
            const struct zero_range r = zero_range(s.zero, i);
            for (int64_t j = 0; j < r.count; j++) {
                r.master[j] = (float)(r.start + j);
                r.exp_avg[j] = (float)(r.start + j) + 0.25F;
                r.exp_avg_sq[j] = (float)(r.start + j) + 0.5F;
            }
        }
        int64_t n_owned = 0;
        for (int64_t i = 0; i < zero_n_owned(s.zero); i++) {
            const struct zero_range o = zero_owned(s.zero, i);
            for (int64_t j = 0; j < o.count; j++) {
                const float at = (float)(o.start + j);
                assert_true(o.master[j] == at && o.exp_avg[j] == at + 0.25F &&
                            o.exp_avg_sq[j] == at + 0.5F);
            }
            n_owned += o.count;
        }
        comm_sum_i64(test_world(), &n_owned, 1);
        assert_int_equal(n_owned, s.n_used);
        release(&s);
    }
}

TEST(a_rank_may_own_nothing_but_padding)
{
    for (int stage = 0; stage < 2; stage++) {
        struct setup s = make(5, 100, stage);
        const bool mine = comm_rank(test_world()) == 0;
        assert_int_equal(zero_n_owned(s.zero), mine ? 1 : 0);
        if (mine) assert_int_equal(zero_owned(s.zero, 0).count, 5);
        assert_int_equal(zero_n_ranges(s.zero), stage == 0 || mine ? 1 : 0);
        release(&s);
    }
}

/* A rule with memory, so that lost or mixed state shows within a few steps. */
static void update(const struct zero_range *r, const float *grads)
{
    for (int64_t j = 0; j < r->count; j++) {
        const float g = grads[r->start + j];
        r->exp_avg[j] = 0.5F * r->exp_avg[j] + g;
        r->exp_avg_sq[j] = 0.75F * r->exp_avg_sq[j] + g * g;
        r->master[j] -= 0.1F * r->exp_avg[j] / (1 + r->exp_avg_sq[j]);
    }
}

static float *train(int64_t bucket, int stage, int64_t *n)
{
    struct setup s = make(20011, bucket, stage);
    const uint64_t rank = (uint64_t)comm_rank(test_world());
    for (uint64_t step = 0; step < 5; step++) {
        float *grads = randn_1d(1000 * step + rank, s.n).data;
        dp_begin(s.dp, grads);
        for (int64_t low = s.n; low >= 0; low -= 1777) dp_ready(s.dp, low);
        dp_finish(s.dp);
        for (int64_t i = 0; i < zero_n_ranges(s.zero); i++) {
            const struct zero_range r = zero_range(s.zero, i);
            update(&r, grads);
        }
        dp_gather_begin(s.dp, s.params, DTYPE_F32);
        dp_gather_ready(s.dp, s.n);
        dp_gather_finish(s.dp);
    }
    *n = s.n;
    release(&s);
    return s.params;
}

TEST(sharded_steps_equal_whole_steps_bitwise)
{
    int64_t n = 0;
    const float *want = train(1 << 20, 0, &n);
    const int64_t buckets[] = {500, 3000, 1 << 20};
    for (int k = 0; k < 3; k++) {
        const float *sharded = train(buckets[k], 1, &n);
        assert_memory_equal(sharded, want, (size_t)n * sizeof *want);
        const float *whole = train(buckets[k], 0, &n);
        assert_memory_equal(whole, want, (size_t)n * sizeof *want);
    }
}
