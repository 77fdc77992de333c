/* @ranks 1 2 3 4   @timeout 120   @devices cpu cuda
 * Who updates what, and that a sharded update equals a whole one. */
#include "harness/harness.h"

#include "core/rng.h"
#include "parallel/place.h"
#include "parallel/zero/zero.h"

struct setup {
    struct place *place;
    struct dp *dp;
    struct zero *zero;
    int64_t n_used, n; /* n: with padding */
    enum dtype t;
    void *params, *memory;
    size_t state_bytes, memory_bytes;
};

static struct setup make_typed(struct place *p, int64_t n_used, int64_t bucket, int stage,
                               enum dtype t)
{
    struct comm *c = test_world();
    struct setup s = {.place = p,
                      .n_used = n_used,
                      .n = dp_padded_elements(n_used, comm_size(c)),
                      .t = t};
    s.params = vector_in(p, randn_1d(5, s.n).data, (size_t)s.n * dtype_bytes(t));

    struct arena measure = arena_measure();
    ASSERT_OK(dp_create(&s.dp, c, dp_buckets_padded(s.n, bucket, comm_size(c)),
                        zero_reduction(stage), &measure));
    const size_t dp_bytes = measure.peak_bytes;
    ASSERT_OK(zero_create(&s.zero, s.dp, p->device, NULL, t, n_used, &measure));
    for (int64_t i = 0; i < zero_n_ranges(s.zero); i++) {
        assert_null(zero_range(s.zero, i).exp_avg);
        assert_null(zero_range(s.zero, i).master);
    }
    zero_destroy(&s.zero);
    assert_null(s.zero);
    dp_destroy(&s.dp);
    s.state_bytes = measure.peak_bytes - dp_bytes;

    char *dirty = test_alloc(measure.peak_bytes + 1);
    memset(dirty, 0x5a, measure.peak_bytes); /* moments must be zeroed */
    s.memory_bytes = measure.peak_bytes + 1;
    ASSERT_OK(device_alloc_shared(p->device, s.memory_bytes, "a test", &s.memory));
    device_copy_in(p->device, s.memory, dirty, measure.peak_bytes);
    struct arena real = arena_over(s.memory, measure.peak_bytes);
    ASSERT_OK(dp_create(&s.dp, c, dp_buckets_padded(s.n, bucket, comm_size(c)),
                        zero_reduction(stage), &real));
    ASSERT_OK(zero_create(&s.zero, s.dp, p->device, s.params, t, n_used, &real));
    assert_int_equal(real.peak_bytes, measure.peak_bytes);
    return s;
}

static struct setup make(struct place *p, int64_t n_used, int64_t bucket, int stage)
{
    return make_typed(p, n_used, bucket, stage, DTYPE_F32);
}

static void release(struct setup *s)
{
    zero_destroy(&s->zero);
    dp_destroy(&s->dp);
    device_wait(s->place->device);
    device_free(s->place->device, &s->memory, s->memory_bytes);
}

/* `count` numbers of the device, as the host sees and changes them. */
static float *fetch(const struct setup *s, const float *x, int64_t count)
{
    return vector_out(s->place, x, (size_t)count * sizeof *x);
}

static void put(const struct setup *s, float *x, const float *from, int64_t count)
{
    device_copy_in(s->place->device, x, from, (size_t)count * sizeof *x);
}

static void check_stages(struct place *p)
{
    struct setup s = make(p, 10007, 1000, 0);
    assert_int_equal(zero_n_ranges(s.zero), 1);
    assert_int_equal(zero_range(s.zero, 0).start, 0);
    assert_int_equal(zero_range(s.zero, 0).count, 10007);
    assert_ptr_equal(zero_range(s.zero, 0).master, s.params);
    release(&s);

    s = make(p, 10007, 1000, 1);
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

TEST(stage_0_updates_everything_and_stage_1_what_it_owns)
{
    for (struct place p = {.n_seeds = 1}; place_next(&p);) check_stages(&p);
}

TEST(state_takes_eight_bytes_an_element_updated_and_masters_four)
{
    const size_t size = (size_t)comm_size(test_world());
    for (struct place p = {.n_seeds = 1}; place_next(&p);)
        for (int stage = 0; stage < 2; stage++) {
            /* divisible by 16 x 1, 2, 3, 4 */
            const size_t n = 48000 / (stage ? size : 1);
            struct setup s = make(&p, 48000, 4800, stage);
            assert_int_equal(s.state_bytes, n * 8);
            release(&s);
            s = make_typed(&p, 48000, 4800, stage, DTYPE_BF16);
            assert_int_equal(s.state_bytes, n * 12);
            release(&s);
        }
}

/* Write 1, 2, 3, ... over a range's numbers, which must be zero; returns the next. */
static float write_over_zeros(const struct setup *s, float *x, int64_t count, float mark)
{
    float *host = fetch(s, x, count);
    for (int64_t j = 0; j < count; j++) {
        assert_true(host[j] == 0);
        host[j] = mark++;
    }
    put(s, x, host, count);
    return mark;
}

static float check_marks(const struct setup *s, const float *x, int64_t count, float mark)
{
    const float *host = fetch(s, x, count);
    for (int64_t j = 0; j < count; j++) assert_true(host[j] == mark++);
    return mark;
}

static void check_own_state(struct place *p, int stage, enum dtype t)
{
    struct setup s = make_typed(p, 10007, 1000, stage, t);
    const bool masters = t != DTYPE_F32;
    float mark = 1, seen = 1;
    for (int64_t i = 0; i < zero_n_ranges(s.zero); i++) {
        const struct zero_range r = zero_range(s.zero, i);
        mark = write_over_zeros(&s, r.exp_avg, r.count, mark);
        mark = write_over_zeros(&s, r.exp_avg_sq, r.count, mark);
        if (masters)
            mark = write_over_zeros(&s, r.master, r.count, mark);
        else
            assert_ptr_equal(r.master, (float *)s.params + r.start);
    }
    for (int64_t i = 0; i < zero_n_ranges(s.zero); i++) {
        const struct zero_range r = zero_range(s.zero, i);
        seen = check_marks(&s, r.exp_avg, r.count, seen);
        seen = check_marks(&s, r.exp_avg_sq, r.count, seen);
        if (masters) seen = check_marks(&s, r.master, r.count, seen);
    }
    release(&s);
}

TEST(ranges_have_state_of_their_own_that_starts_at_zero)
{
    for (struct place p = {.n_seeds = 2}; place_next(&p);)
        for (int stage = 0; stage < 2; stage++) {
            check_own_state(&p, stage, DTYPE_F32);
            check_own_state(&p, stage, DTYPE_BF16);
        }
}

/* start + j, plus `more`. */
static void write_places(const struct setup *s, float *x, const struct zero_range *r,
                         float more)
{
    float *host = test_alloc((size_t)r->count * sizeof *host);
    for (int64_t j = 0; j < r->count; j++) host[j] = (float)(r->start + j) + more;
    put(s, x, host, r->count);
}

static void check_places(const struct setup *s, const float *x,
                         const struct zero_range *r, float more)
{
    const float *host = fetch(s, x, r->count);
    for (int64_t j = 0; j < r->count; j++)
        assert_true(host[j] == (float)(r->start + j) + more);
}

static void check_owned_state(struct place *p, int stage, enum dtype t)
{
    struct setup s = make_typed(p, 10007, 1000, stage, t);
    for (int64_t i = 0; i < zero_n_ranges(s.zero); i++) {
        const struct zero_range r = zero_range(s.zero, i);
        write_places(&s, r.master, &r, 0);
        write_places(&s, r.exp_avg, &r, 0.25F);
        write_places(&s, r.exp_avg_sq, &r, 0.5F);
    }
    int64_t n_owned = 0;
    for (int64_t i = 0; i < zero_n_owned(s.zero); i++) {
        const struct zero_range o = zero_owned(s.zero, i);
        check_places(&s, o.master, &o, 0);
        check_places(&s, o.exp_avg, &o, 0.25F);
        check_places(&s, o.exp_avg_sq, &o, 0.5F);
        n_owned += o.count;
    }
    comm_sum_i64(test_world(), &n_owned, 1);
    assert_int_equal(n_owned, s.n_used);
    release(&s);
}

TEST(owned_state_is_the_state_that_is_updated)
{
    for (struct place p = {.n_seeds = 1}; place_next(&p);)
        for (int stage = 0; stage < 2; stage++) {
            check_owned_state(&p, stage, DTYPE_F32);
            check_owned_state(&p, stage, DTYPE_BF16);
        }
}

TEST(a_rank_may_own_nothing_but_padding)
{
    for (struct place p = {.n_seeds = 1}; place_next(&p);)
        for (int stage = 0; stage < 2; stage++) {
            struct setup s = make(&p, 5, 100, stage);
            const bool mine = comm_rank(test_world()) == 0;
            assert_int_equal(zero_n_owned(s.zero), mine ? 1 : 0);
            if (mine) assert_int_equal(zero_owned(s.zero, 0).count, 5);
            assert_int_equal(zero_n_ranges(s.zero), stage == 0 || mine ? 1 : 0);
            release(&s);
        }
}

/* A rule with memory, so that lost or mixed state shows within a few steps. */
static void update(const struct setup *s, const struct zero_range *r, const float *grads)
{
    const float *g = fetch(s, grads + r->start, r->count);
    float *x = fetch(s, r->master, r->count);
    float *m = fetch(s, r->exp_avg, r->count), *v = fetch(s, r->exp_avg_sq, r->count);
    for (int64_t j = 0; j < r->count; j++) {
        m[j] = 0.5F * m[j] + g[j];
        v[j] = 0.75F * v[j] + g[j] * g[j];
        x[j] -= 0.1F * m[j] / (1 + v[j]);
    }
    put(s, r->master, x, r->count);
    put(s, r->exp_avg, m, r->count);
    put(s, r->exp_avg_sq, v, r->count);
}

/* The weights after five steps. */
static const float *train(struct place *p, int64_t bucket, int stage, int64_t *n)
{
    struct setup s = make(p, 20011, bucket, stage);
    const uint64_t rank = (uint64_t)comm_rank(test_world());
    const size_t bytes = (size_t)s.n * sizeof(float);
    for (uint64_t step = 0; step < 5; step++) {
        float *grads = vector_in(p, randn_1d(1000 * step + rank, s.n).data, bytes);
        dp_gather_finish(s.dp); /* what the last step left going */
        dp_begin(s.dp, grads);
        for (int64_t low = s.n; low >= 0; low -= 1777) dp_ready(s.dp, low);
        dp_finish(s.dp);
        dp_gather_begin(s.dp, s.params, DTYPE_F32);
        for (int64_t i = 0; i < zero_n_ranges(s.zero); i++) {
            const struct zero_range r = zero_range(s.zero, i);
            update(&s, &r, grads);
            dp_gather_ready(s.dp, r.start + r.count);
        }
        dp_gather_ready(s.dp, s.n);
        dp_gather_need(s.dp, 0, s.n / 3);
    }
    dp_gather_finish(s.dp);
    *n = s.n_used;
    const float *weights = vector_out(p, s.params, bytes);
    release(&s);
    return weights;
}

TEST(sharded_steps_equal_whole_steps_bitwise)
{
    int64_t n = 0;
    const int64_t buckets[] = {500, 3000, 1 << 20};
    for (struct place p = {.n_seeds = 3}; place_next(&p);) {
        const float *want = train(&p, 1 << 20, 0, &n);
        for (int k = p.large ? 0 : 1; k < 3; k++) {
            const float *sharded = train(&p, buckets[k], 1, &n);
            assert_memory_equal(sharded, want, (size_t)n * sizeof *want);
            const float *whole = train(&p, buckets[k], 0, &n);
            assert_memory_equal(whole, want, (size_t)n * sizeof *want);
        }
    }
}
