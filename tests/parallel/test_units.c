/* @ranks 1 2 3 4   @timeout 120   @devices cpu cuda
 * Gradients in shards: whatever the units and micro-batches, each rank's shard is the sum of what
 * all ranks added to its slice. */
#include "harness/harness.h"

#include "core/rng.h"
#include "nn/nn.h"
#include "parallel/dp/units.h"
#include "parallel/place.h"

enum { UNITS = 5, MICRO = 3 };

/* Units of unlike lengths, one of them empty; padded for the ranks. */
static void make_bounds(int64_t bounds[UNITS + 1], int size)
{
    static const int64_t lengths[UNITS] = {70, 33, 0, 200, 5};
    bounds[0] = 0;
    for (int u = 0; u < UNITS; u++)
        bounds[u + 1] = bounds[u] + dp_padded_elements(lengths[u], size);
}

/* Rank r's gradient of element x in micro-batch m: sums are exact in any order. */
static float gradient(int r, int m, int64_t x)
{
    return (float)((int64_t)(rng_u64(7, (uint64_t)(x * 64 + m * 8 + r)) % 512) - 256) / 8;
}

static void add_unit(struct place *p, float *buffer, const int64_t *bounds, int u, int m)
{
    const int64_t n = bounds[u + 1] - bounds[u];
    const int rank = comm_rank(test_world());
    if (n == 0) return;
    float *x = test_alloc((size_t)n * sizeof *x);
    device_copy_out(p->device, x, buffer, (size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) {
        assert_true(x[i] == 0); /* a fresh buffer each time */
        x[i] += gradient(rank, m, bounds[u] + i);
    }
    device_copy_in(p->device, buffer, x, (size_t)n * sizeof *x);
}

static void check(struct place *p)
{
    struct comm *c = test_world();
    int64_t bounds[UNITS + 1];
    struct dp_units *units = NULL;
    struct nn *nn = NULL;
    void *memory = NULL;
    make_bounds(bounds, comm_size(c));
    const struct dp_buckets b = dp_buckets_between(bounds, UNITS);
    struct arena measure = arena_measure();
    ASSERT_OK(dp_units_create(&units, c, &b, &measure));
    assert_null(dp_units_buffer(units, 1));
    dp_units_destroy(&units);
    ASSERT_OK(device_alloc_shared(p->device, measure.peak_bytes, "a test", &memory));
    struct arena real = arena_over(memory, measure.peak_bytes);
    ASSERT_OK(dp_units_create(&units, c, &b, &real));
    assert_int_equal(real.peak_bytes, measure.peak_bytes);
    ASSERT_OK(nn_create(&nn, p->device, 1, 0));

    for (int step = 0; step < 2; step++) { /* the second finds nothing of the first */
        dp_units_clear(units, nn);
        for (int m = 0; m < MICRO; m++)
            for (int u = UNITS - 1; u >= 0; u--) {
                dp_units_begin(units, nn, u);
                add_unit(p, dp_units_buffer(units, u), bounds, u, m);
                dp_units_end(units, u);
            }
        dp_units_finish(units, nn);
        for (int u = 0; u < UNITS; u++) {
            int64_t first, count;
            comm_slice(bounds[u + 1] - bounds[u], comm_size(c), comm_rank(c), &first,
                       &count);
            if (count == 0) continue;
            float *x = test_alloc((size_t)count * sizeof *x);
            first += bounds[u];
            device_copy_out(p->device, x, dp_units_shard(units, first),
                            (size_t)count * sizeof *x);
            for (int64_t i = 0; i < count; i++) {
                float want = 0;
                for (int r = 0; r < comm_size(c); r++)
                    for (int m = 0; m < MICRO; m++) want += gradient(r, m, first + i);
                assert_true(x[i] == want);
            }
        }
    }
    nn_destroy(&nn);
    dp_units_destroy(&units);
    device_wait(p->device);
    device_free(p->device, &memory, measure.peak_bytes);
}

TEST(a_shard_is_the_sum_over_ranks_and_micro_batches)
{
    for (struct place p = {.n_seeds = 3}; place_next(&p);) check(&p);
}

TEST(buckets_between_bounds_are_found_again)
{
    static const int64_t bounds[] = {0, 16, 16, 80, 96};
    const struct dp_buckets b = dp_buckets_between(bounds, 4);
    assert_int_equal(b.bucket_elements, 64);
    for (int64_t x = 0; x < 96; x++) {
        int64_t start, end;
        const int64_t k = dp_bucket_of(&b, x);
        dp_bucket(&b, k, &start, &end);
        assert_true(start <= x && x < end);
        int64_t behind = 0;
        for (int64_t i = 0; i < b.n_buckets; i++) {
            dp_bucket(&b, i, &start, &end);
            if (start >= x) behind = i + 1;
        }
        assert_int_equal(dp_buckets_behind(&b, x), behind);
    }
}
