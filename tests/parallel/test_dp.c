/* @ranks 1 2 3 4   @timeout 120   @devices cpu cuda
 * Buckets as a pure cut; sums that travel during backward against sums in rank order; weights that
 * come back under the next forward. */
#include "harness/harness.h"

#include <unistd.h>

#include "core/rng.h"
#include "parallel/dp/dp.h"
#include "parallel/place.h"

/* What rank r puts in: a function of key and rank, so every rank knows everybody's.  Cheap, and
 * of 24 significant bits, so that another order of adding shows. */
static float *contribution(uint64_t key, int rank, int64_t n)
{
    float *x = test_alloc((size_t)n * sizeof *x);
    const uint32_t seed = (uint32_t)(rng_u64(key, (uint64_t)rank) >> 32);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(int32_t)(((uint32_t)i ^ seed) * 2654435761U) * 0x1p-31F;
    return x;
}

static float *rank_order_sum(uint64_t key, int size, int64_t n)
{
    float *want = contribution(key, 0, n);
    for (int rank = 1; rank < size; rank++) {
        const float *x = contribution(key, rank, n);
        for (int64_t i = 0; i < n; i++) want[i] += x[i];
    }
    return want;
}

/* Made twice: over nothing, then over exactly what that asked for. */
static struct dp *make(int64_t n, int64_t bucket, enum comm_op op)
{
    struct comm *c = test_world();
    struct arena measure = arena_measure();
    struct dp *dp = NULL;
    ASSERT_OK(
        dp_create(&dp, c, dp_buckets_padded(n, bucket, comm_size(c)), op, &measure));
    assert_int_equal(dp_n_elements(dp), n);
    dp_destroy(&dp);
    assert_null(dp);
    struct arena real =
        arena_over(test_alloc(measure.peak_bytes + 1), measure.peak_bytes);
    ASSERT_OK(dp_create(&dp, c, dp_buckets_padded(n, bucket, comm_size(c)), op, &real));
    assert_int_equal(real.peak_bytes, measure.peak_bytes);
    return dp;
}

TEST(buckets_cover_the_buffer_from_its_end)
{
    for (int64_t n = 0; n < 50; n++)
        for (int64_t size = 1; size < 55; size++) {
            const struct dp_buckets b = dp_buckets_make(n, size);
            int64_t behind = n;
            for (int64_t k = 0; k < b.n_buckets; k++) {
                int64_t start = -1, end = -1;
                dp_bucket(&b, k, &start, &end);
                assert_int_equal(end, behind);
                assert_true(end - start == size || (start == 0 && end - start < size));
                assert_true(end > start);
                behind = start;
            }
            assert_int_equal(behind, 0);
        }
    const struct dp_buckets one = dp_buckets_make(10, INT64_MAX);
    assert_int_equal(one.n_buckets, 1);
}

TEST(a_bucket_is_ready_when_all_of_it_is)
{
    for (int64_t n = 0; n < 30; n++)
        for (int64_t size = 1; size < 32; size++) {
            const struct dp_buckets b = dp_buckets_make(n, size);
            for (int64_t low = 0; low <= n + 1; low++) {
                int64_t want = 0;
                for (int64_t k = 0; k < b.n_buckets; k++) {
                    int64_t start, end;
                    dp_bucket(&b, k, &start, &end);
                    want += start >= low;
                }
                assert_int_equal(dp_buckets_behind(&b, low), want);
            }
        }
}

TEST(padding_makes_all_slices_equal_and_aligned)
{
    const int64_t lengths[] = {0, 1, 15, 16, 17, 1000003, ((int64_t)1 << 40) + 1};
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++)
        for (int size = 1; size < 8; size++) {
            const int64_t n = dp_padded_elements(lengths[k], size);
            assert_true(n >= lengths[k] && n < lengths[k] + 16 * size);
            assert_int_equal(n % (16 * size), 0);
        }
}

TEST(owned_ranges_of_all_ranks_cover_every_element_once)
{
    struct comm *c = test_world();
    const int64_t n = dp_padded_elements(2003, comm_size(c));
    const int64_t sizes[] = {1, 100, 512, 1 << 20, INT64_MAX};
    for (int op = 0; op < 2; op++)
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
            struct dp *dp = make(n, sizes[k], op ? COMM_ALL_REDUCE : COMM_REDUCE_SCATTER);
            int64_t *times = test_alloc((size_t)n * sizeof *times);
            int64_t behind = 0;
            for (int64_t i = 0; i < dp_n_owned(dp); i++) {
                int64_t start = -1, count = -1;
                dp_owned(dp, i, &start, &count);
                assert_true(start >= behind && count > 0);
                assert_int_equal(start % 16, 0);
                assert_int_equal(count % 16, 0);
                behind = start + count;
                assert_true(behind <= n);
                for (int64_t j = start; j < behind; j++) times[j]++;
            }
            comm_sum_i64(c, times, (int)n);
            for (int64_t j = 0; j < n; j++) assert_int_equal(times[j], 1);
            dp_destroy(&dp);
        }
}

/* A backward that goes down to 0 in steps of its own on every rank; gradients not yet declared
 * final are still dirty when dp_ready is called.  from: the final ones, in page-locked memory. */
static void backward(struct place *p, struct dp *dp, float *grads, const float *from,
                     uint64_t steps)
{
    const int64_t n = dp_n_elements(dp);
    const uint64_t rank = (uint64_t)comm_rank(test_world());
    dp_begin(dp, grads);
    int64_t low = n;
    for (uint64_t s = 0; low > 0; s++) {
        const double u = rng_uniform(rng_key(p->seed, "step", "") + rank, s);
        const int64_t next = low - (int64_t)(2 * u * (double)n / (double)steps) - 1;
        const int64_t to = next > 0 ? next : 0;
        device_queue_copy_in(p->device, DEVICE_COMPUTE, grads + to, from + to,
                             (size_t)(low - to) * sizeof *grads);
        low = to;
        if (s % 3 == 0) usleep((useconds_t)(500 * u));
        if (s % 7 != 6) dp_ready(dp, low); /* nobody promises to call it each time */
        if (s % 5 == 0) dp_ready(dp, low);
    }
    dp_finish(dp);
}

/* The sums, of which a rank has the whole buffer or what it owns. */
static void check_sums(struct place *p, const struct dp *dp, const float *grads,
                       const float *want)
{
    const size_t bytes = (size_t)dp_n_elements(dp) * sizeof *want;
    const float *got = vector_out(p, grads, bytes);
    if (dp_op(dp) == COMM_ALL_REDUCE) assert_memory_equal(got, want, bytes);
    for (int64_t i = 0; i < dp_n_owned(dp); i++) {
        int64_t start, count;
        dp_owned(dp, i, &start, &count);
        assert_memory_equal(got + start, want + start, (size_t)count * sizeof *got);
    }
}

static void check_backward(enum comm_op op, int64_t n_real, int64_t bucket,
                           uint64_t steps)
{
    struct comm *c = test_world();
    const int64_t n = dp_padded_elements(n_real, comm_size(c));
    const size_t bytes = (size_t)n * sizeof(float);
    for (struct place p = {0}; place_next(&p);) {
        if (!p.large && n_real > 100000) continue;
        struct dp *dp = make(n, bucket, op);
        void *from = NULL;
        ASSERT_OK(device_alloc_host(p.device, bytes + 1, "a test", &from));
        for (uint64_t key = p.seed; key < p.seed + (p.large ? 2 : 1); key++) {
            float *grads = vector_in(&p, contribution(77, comm_rank(c), n), bytes);
            if (n) memcpy(from, contribution(key, comm_rank(c), n), bytes);
            backward(&p, dp, grads, from, p.large ? steps : (steps + 3) / 4);
            check_sums(&p, dp, grads, rank_order_sum(key, comm_size(c), n));
        }
        device_wait(p.device);
        device_free_host(p.device, &from, bytes + 1);
        dp_destroy(&dp);
    }
}

TEST(sums_made_during_backward_are_those_in_rank_order_bitwise)
{
    const int64_t buckets[] = {1, 999, 12000, 29989, 1 << 30};
    for (size_t k = 0; k < sizeof buckets / sizeof *buckets; k++) {
        const int64_t n = buckets[k] == 1 ? 3001 : 30011;
        check_backward(COMM_REDUCE_SCATTER, n, buckets[k], 40);
        check_backward(COMM_ALL_REDUCE, n, buckets[k], 40);
    }
}

TEST(buckets_of_many_pieces_and_a_backward_in_one_step)
{
    check_backward(COMM_REDUCE_SCATTER, 2500009, 1200000, 1);
    check_backward(COMM_ALL_REDUCE, 2500009, 1200000, 3);
}

TEST(an_empty_buffer_and_one_of_a_single_element)
{
    check_backward(COMM_REDUCE_SCATTER, 0, 100, 1);
    check_backward(COMM_REDUCE_SCATTER, 1, 100, 1);
    check_backward(COMM_ALL_REDUCE, 0, 100, 1);
}

TEST(what_is_final_is_reduced_before_dp_finish)
{
    struct comm *c = test_world();
    const int size = comm_size(c);
    const int64_t n = dp_padded_elements(1 << 16, size);
    const struct dp_buckets b = dp_buckets_make(n, dp_padded_elements(1 << 12, size));
    const uint64_t want = (uint64_t)(dp_buckets_behind(&b, n / 3) * b.bucket_elements) /
                          (uint64_t)size * (uint64_t)(size - 1) * sizeof(float);
    for (struct place p = {.n_seeds = 3}; place_next(&p);) {
        struct dp *dp = make(n, b.bucket_elements, COMM_REDUCE_SCATTER);
        float *grads =
            vector_in(&p, contribution(1, comm_rank(c), n), (size_t)n * sizeof *grads);
        const uint64_t before = comm_stats(c).bytes_sent;
        dp_begin(dp, grads);
        while (comm_stats(c).bytes_sent - before < want) dp_ready(dp, n / 3);
        dp_ready(dp, n / 3);
        assert_int_equal(comm_stats(c).bytes_sent - before, want);
        dp_finish(dp);
        dp_destroy(&dp);
    }
}

/* The host is far ahead of a GPU: what it does not queue in time waits for all that it queued. */
TEST(a_gpu_with_nccl_gets_all_buckets_that_are_final_at_once)
{
    enum { BUCKETS = 300 };
    struct comm *c = test_world();
    const int size = comm_size(c);
    const int64_t bucket = 16 * size, n = BUCKETS * bucket;
    const uint64_t want = (uint64_t)(n / size) * (uint64_t)(size - 1) * sizeof(float);
    for (struct place p = {.n_seeds = 2}; place_next(&p);) {
        if (strcmp(comm_transport_name(c), "nccl") != 0) continue;
        struct dp *dp = make(n, bucket, COMM_REDUCE_SCATTER);
        float *grads =
            vector_in(&p, contribution(1, comm_rank(c), n), (size_t)n * sizeof *grads);
        const uint64_t before = comm_stats(c).bytes_sent;
        dp_begin(dp, grads);
        dp_ready(dp, 0);
        assert_int_equal(comm_stats(c).bytes_sent - before, want);
        dp_finish(dp);
        dp_destroy(&dp);
    }
}

/* ---- weights ------------------------------------------------------------------------------- */

/* What everybody shall have. */
static char weight(size_t byte, uint64_t key)
{
    return (char)((byte * 131 + key * 17) % 251);
}

struct forward {
    struct place *p;
    struct dp *dp;
    char *params; /* in device memory */
    char *in;     /* page-locked: the weights after the update */
    char *out;    /* page-locked: what forward saw of them */
    enum dtype t;
    uint64_t mine; /* key of what this rank does at random */
};

/* Owners update from the start, each range when it is its turn, and say so now and then. */
static void update(const struct forward *f)
{
    const size_t element = dtype_bytes(f->t);
    dp_gather_begin(f->dp, f->params, f->t);
    for (int64_t i = 0; i < dp_n_owned(f->dp); i++) {
        int64_t start, count;
        dp_owned(f->dp, i, &start, &count);
        device_queue_copy_in(f->p->device, DEVICE_COMPUTE,
                             f->params + (size_t)start * element,
                             f->in + (size_t)start * element, (size_t)count * element);
        if (rng_u64(f->mine, (uint64_t)i) % 3) dp_gather_ready(f->dp, start + count);
    }
    dp_gather_ready(f->dp, dp_n_elements(f->dp));
}

/* Read [low, high) when it is needed. */
static void use(const struct forward *f, int64_t low, int64_t high)
{
    const size_t element = dtype_bytes(f->t), offset = (size_t)low * element;
    dp_gather_need(f->dp, low, high);
    if (high > low)
        device_queue_copy_out(f->p->device, DEVICE_COMPUTE, f->out + offset,
                              f->params + offset, (size_t)(high - low) * element);
}

static void check_forward(const struct forward *f, uint64_t key)
{
    const int64_t n = dp_n_elements(f->dp);
    const size_t bytes = (size_t)n * dtype_bytes(f->t);
    const int64_t step = n / 7 + 1;
    memset(f->out, 0, bytes + 1);
    update(f);
    /* a piece from somewhere (a tied embedding), then from the start to the end */
    if (n > 0) {
        const int64_t low = (int64_t)(rng_u64(f->mine, 1000) % (uint64_t)n);
        use(f, low, low + (n - low) / 2);
    }
    for (int64_t low = 0; low < n; low += step)
        use(f, low, low + step < n ? low + step : n);
    dp_gather_finish(f->dp);
    dp_gather_finish(f->dp); /* no-op */
    device_wait(f->p->device);
    const char *whole = vector_out(f->p, f->params, bytes);
    for (size_t i = 0; i < bytes; i++) {
        if (f->out[i] != weight(i, key)) fail_msg("forward saw another byte %zu", i);
        if (whole[i] != weight(i, key)) fail_msg("byte %zu is another", i);
    }
}

static void check_gather(enum dtype t, int64_t n_real, int64_t bucket)
{
    struct comm *c = test_world();
    const int64_t n = dp_padded_elements(n_real, comm_size(c));
    const size_t bytes = (size_t)n * dtype_bytes(t);
    for (struct place p = {0}; place_next(&p);) {
        struct dp *dp = make(n, bucket, COMM_REDUCE_SCATTER);
        void *in = NULL, *out = NULL;
        ASSERT_OK(device_alloc_host(p.device, bytes + 1, "a test", &in));
        ASSERT_OK(device_alloc_host(p.device, bytes + 1, "a test", &out));
        struct forward f = {.p = &p, .dp = dp, .in = in, .out = out, .t = t};
        for (size_t i = 0; i < bytes; i++) f.in[i] = weight(i, p.seed);
        char *before = test_alloc(bytes + 1);
        f.params = vector_in(&p, before, bytes);
        f.mine = rng_key(p.seed, "forward", "") + (uint64_t)comm_rank(c);
        check_forward(&f, p.seed);
        device_free_host(p.device, &in, bytes + 1);
        device_free_host(p.device, &out, bytes + 1);
        dp_destroy(&dp);
    }
}

TEST(weights_are_everybodys_when_they_are_needed)
{
    const int64_t buckets[] = {1, 999, 12000, 1 << 30};
    for (int k = 0; k < 4; k++) {
        check_gather(DTYPE_F32, buckets[k] == 1 ? 3001 : 30011, buckets[k]);
        check_gather(DTYPE_BF16, buckets[k] == 1 ? 3001 : 30011, buckets[k]);
    }
    check_gather(DTYPE_F32, 0, 100);
    check_gather(DTYPE_BF16, 1, 100);
}

TEST(weights_travel_as_soon_as_they_are_ready)
{
    struct comm *c = test_world();
    const int64_t n = dp_padded_elements(1 << 16, comm_size(c));
    const uint64_t others = (uint64_t)comm_size(c) - 1;
    for (struct place p = {.n_seeds = 3}; place_next(&p);) {
        struct dp *dp =
            make(n, dp_padded_elements(1 << 12, comm_size(c)), COMM_REDUCE_SCATTER);
        float *params =
            vector_in(&p, contribution(1, comm_rank(c), n), (size_t)n * sizeof *params);
        uint64_t before = comm_stats(c).bytes_sent;
        dp_gather_begin(dp, params, DTYPE_F32);
        for (int64_t i = 0; i < 3; i++) {
            int64_t start, count;
            dp_owned(dp, i, &start, &count);
            dp_gather_ready(dp, start + count - 1); /* not all of it */
            assert_int_equal(comm_stats(c).bytes_sent, before);
            dp_gather_ready(dp, start + count);
            before += (uint64_t)count * others * sizeof(float);
            assert_int_equal(comm_stats(c).bytes_sent, before);
        }
        dp_gather_finish(dp);
        dp_destroy(&dp);
    }
}

TEST(ranks_that_update_everything_send_no_weights)
{
    struct comm *c = test_world();
    const int64_t n = dp_padded_elements(30011, comm_size(c));
    struct dp *dp = make(n, 999, COMM_ALL_REDUCE);
    float *params = contribution(1, comm_rank(c), n);
    const uint64_t before = comm_stats(c).bytes_sent;
    dp_gather_begin(dp, params, DTYPE_F32);
    dp_gather_ready(dp, n / 2);
    dp_gather_need(dp, 0, n); /* nothing is going on, so nothing need be ready */
    dp_gather_finish(dp);
    assert_int_equal(comm_stats(c).bytes_sent, before);
    dp_destroy(&dp);
}
