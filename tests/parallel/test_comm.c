/* @ranks 1 2 3 4   @timeout 120
 * Collectives against sums made in rank order on one rank, bit for bit. */
#include "harness/harness.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "core/rng.h"

enum { OPS = 3 };

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

/* want[i] = sum over ranks in rank order. */
static float *rank_order_sum(uint64_t key, int size, int64_t n)
{
    float *want = contribution(key, 0, n);
    for (int rank = 1; rank < size; rank++) {
        const float *x = contribution(key, rank, n);
        for (int64_t i = 0; i < n; i++) want[i] += x[i];
    }
    return want;
}

/* A request with room for n, and the memory it asked for. */
static struct comm_request *request(struct comm *c, int64_t n)
{
    struct arena measure = arena_measure();
    struct comm_request *r = NULL;
    ASSERT_OK(comm_request_create(&r, c, n, &measure));
    assert_null(r);
    struct arena real =
        arena_over(test_alloc(measure.peak_bytes), arena_align(measure.peak_bytes));
    ASSERT_OK(comm_request_create(&r, c, n, &real));
    assert_non_null(r);
    assert_int_equal(real.peak_bytes, measure.peak_bytes);
    return r;
}

/* The slice of every rank in x, which holds what `op` makes of contributions(key). */
static void check_result(const struct comm *c, enum comm_op op, uint64_t key,
                         const float *x, int64_t n)
{
    const int size = comm_size(c);
    const float *sum = rank_order_sum(key, size, n);
    for (int rank = 0; rank < size; rank++) {
        int64_t first, count;
        comm_slice(n, size, rank, &first, &count);
        const float *want = op == COMM_ALL_GATHER ? contribution(key, rank, n) : sum;
        if (op == COMM_REDUCE_SCATTER && rank != comm_rank(c)) continue;
        assert_memory_equal(x + first, want + first, (size_t)count * sizeof *x);
    }
}

TEST(slices_cover_the_vector_and_differ_by_one_at_most)
{
    const int64_t lengths[] = {0, 1, 2, 3, 7, 16, 101, ((int64_t)1 << 40) + 3};
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++)
        for (int size = 1; size < 9; size++) {
            int64_t end = 0;
            for (int rank = 0; rank < size; rank++) {
                int64_t first = -1, count = -1;
                comm_slice(lengths[k], size, rank, &first, &count);
                assert_int_equal(first, end);
                assert_true(count == lengths[k] / size || count == lengths[k] / size + 1);
                end += count;
            }
            assert_int_equal(end, lengths[k]);
        }
}

TEST(large_operations_equal_the_sum_in_rank_order_bitwise)
{
    struct comm *c = test_world();
    /* none, fewer than ranks, primes, exactly one piece a rank and one more, many rounds */
    const int64_t lengths[] = {
        0,      1, 2, 3, 5, 97, 10007, 1 << 18, (1 << 18) + 1, 4 << 18, (4 << 18) + 3,
        4000037};
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        const int64_t n = lengths[k];
        struct comm_request *r = request(c, n);
        for (int op = 0; op < OPS; op++) {
            const uint64_t key = k * OPS + (uint64_t)op + 1;
            float *x = contribution(key, comm_rank(c), n);
            comm_start_op(r, (enum comm_op)op, x, DTYPE_F32, n, 7);
            comm_wait(r);
            check_result(c, (enum comm_op)op, key, x, n);
        }
        comm_request_destroy(&r);
        assert_null(r);
    }
}

TEST(a_slice_longer_than_a_message_is_gathered_whole)
{
    struct comm *c = test_world();
    if (comm_size(c) != 2) return; /* memory */
    const int64_t n = 2 * ((1 << 24) + 5);
    struct comm_request *r = request(c, n);
    float *x = test_alloc((size_t)n * sizeof *x);
    int64_t first, count;
    comm_slice(n, 2, comm_rank(c), &first, &count);
    for (int64_t i = first; i < first + count; i++) x[i] = (float)(i % 9999991);
    comm_start_op(r, COMM_ALL_GATHER, x, DTYPE_F32, n, 3);
    comm_wait(r);
    for (int64_t i = 0; i < n; i++)
        if (x[i] != (float)(i % 9999991)) fail_msg("element %lld", (long long)i);
    comm_request_destroy(&r);
}

TEST(a_request_serves_shorter_vectors_too)
{
    struct comm *c = test_world();
    struct comm_request *r = request(c, 3000017);
    const int64_t lengths[] = {3000017, 1, 0, 2000003, 3000017};
    for (uint64_t k = 0; k < 5; k++) {
        float *x = contribution(k, comm_rank(c), lengths[k]);
        comm_start_op(r, COMM_ALL_REDUCE, x, DTYPE_F32, lengths[k], 0);
        comm_wait(r);
        check_result(c, COMM_ALL_REDUCE, k, x, lengths[k]);
    }
    comm_request_destroy(&r);
}

TEST(many_in_flight_with_delays_are_not_confused)
{
    enum { FLIGHT = 8, REPEAT = 3 };
    struct comm *c = test_world();
    const uint64_t mine = rng_key(1, "delay", "") + (uint64_t)comm_rank(c);
    struct comm_request *r[FLIGHT];
    float *x[FLIGHT];
    int64_t n[FLIGHT];
    for (int k = 0; k < FLIGHT; k++) r[k] = request(c, 400000);
    for (uint64_t repeat = 0; repeat < REPEAT; repeat++) {
        for (int k = 0; k < FLIGHT; k++) {
            n[k] = 390001 + 1009 * k;
            x[k] = contribution(repeat * FLIGHT + (uint64_t)k, comm_rank(c), n[k]);
            comm_start_op(r[k], (enum comm_op)(k % OPS), x[k], DTYPE_F32, n[k], k);
            usleep((useconds_t)(3000 * rng_uniform(mine, repeat * 100 + (uint64_t)k)));
        }
        /* every rank asks in another order, and waits for what is left in another one */
        for (uint64_t ask = 0; ask < 20; ask++)
            comm_test(r[rng_u64(mine, repeat * 1000 + ask) % FLIGHT]);
        for (int k = 0; k < FLIGHT; k++) {
            const int j = (k * 3 + comm_rank(c)) % FLIGHT;
            while (!comm_test(r[j])) /* a wait would not move the others on */
                for (int i = 0; i < FLIGHT; i++) comm_test(r[i]);
        }
        for (int k = 0; k < FLIGHT; k++)
            check_result(c, (enum comm_op)(k % OPS), repeat * FLIGHT + (uint64_t)k, x[k],
                         n[k]);
    }
    for (int k = 0; k < FLIGHT; k++) {
        assert_true(comm_test(r[k])); /* nothing was begun */
        comm_request_destroy(&r[k]);
    }
}

TEST(a_request_staged_in_less_than_its_vector)
{
    struct comm *c = test_world();
    struct arena measure = arena_measure();
    struct comm_request *r = NULL;
    const int64_t n = (int64_t)1 << 28;
    ASSERT_OK(comm_request_create(&r, c, n, &measure));
    /* 4 pieces of 1 MiB from each other rank, and the lists */
    assert_true(measure.peak_bytes <=
                (size_t)(comm_size(c) - 1) * ((4 << 20) + 4096) + 4096);
}

TEST(all_ranks_agree_on_the_lowest_failing_rank)
{
    struct comm *c = test_world();
    const int size = comm_size(c);
    status_set(STATUS_IO, "an old sentence");
    assert_int_equal(comm_agree(c, STATUS_OK), STATUS_OK);
    for (int k = 0; k < size; k++)
        for (int step = 1; step <= size; step++) {
            /* rank k fails, and some above it, each for another reason */
            status_t local = STATUS_OK;
            status_set(STATUS_OK, "nothing wrong on rank %d", comm_rank(c));
            if (comm_rank(c) >= k && (comm_rank(c) - k) % step == 0)
                local = status_set(comm_rank(c) == k ? STATUS_DATA : STATUS_IO,
                                   "file %d is broken", comm_rank(c));
            char want[100];
            if (size > 1)
                snprintf(want, sizeof want, "rank %d of %d: file %d is broken", k, size,
                         k);
            else
                snprintf(want, sizeof want, "file %d is broken", k);
            assert_int_equal(comm_agree(c, local), STATUS_DATA);
            assert_string_equal(status_message(), want);
        }
}

TEST(a_sentence_as_long_as_can_be_is_agreed_upon)
{
    struct comm *c = test_world();
    char *text = test_alloc(3000);
    memset(text, 'x', 2999);
    status_t local = STATUS_OK;
    if (comm_rank(c) == comm_size(c) - 1) local = status_set(STATUS_CONFIG, "%s", text);
    assert_int_equal(comm_agree(c, local), STATUS_CONFIG);
    assert_true(strlen(status_message()) == 2047);
}

TEST(small_reductions_are_in_rank_order)
{
    enum { N = 150 }; /* more than travel in one call */
    struct comm *c = test_world();
    const int size = comm_size(c), rank = comm_rank(c);
    double sum[N], max[N], want_sum[N], want_max[N];
    int64_t isum[N], imax[N], want_isum[N], want_imax[N];
    for (int i = 0; i < N; i++)
        for (int r = 0; r < size; r++) {
            const double f = rng_uniform(3, (uint64_t)(r * N + i)) - 0.5;
            const int64_t k = (int64_t)rng_u64(4, (uint64_t)(r * N + i)) / 16;
            want_sum[i] = r ? want_sum[i] + f : f;
            want_max[i] = r ? fmax(want_max[i], f) : f;
            want_isum[i] = r ? want_isum[i] + k : k;
            want_imax[i] = r && want_imax[i] > k ? want_imax[i] : k;
            if (r == rank) sum[i] = max[i] = f, isum[i] = imax[i] = k;
        }
    comm_sum_f64(c, sum, N);
    comm_max_f64(c, max, N);
    comm_sum_i64(c, isum, N);
    comm_max_i64(c, imax, N);
    assert_memory_equal(sum, want_sum, sizeof sum);
    assert_memory_equal(max, want_max, sizeof max);
    assert_memory_equal(isum, want_isum, sizeof isum);
    assert_memory_equal(imax, want_imax, sizeof imax);
    comm_sum_f64(c, NULL, 0);
}

TEST(a_nan_of_any_rank_is_the_maximum)
{
    struct comm *c = test_world();
    for (int k = 0; k < comm_size(c); k++) {
        double x = comm_rank(c) == k ? (double)NAN : 1;
        comm_max_f64(c, &x, 1);
        assert_true(isnan(x));
    }
}

TEST(broadcast_and_gather_bring_everybodys_bytes)
{
    struct comm *c = test_world();
    const int size = comm_size(c), rank = comm_rank(c);
    for (int root = 0; root < size; root++) {
        int word = rank == root ? 4711 + root : -1;
        comm_broadcast(c, &word, sizeof word, root);
        assert_int_equal(word, 4711 + root);
        comm_broadcast(c, NULL, 0, root);

        /* root gets rank r's 1000 r bytes; rank 0 has none */
        const size_t bytes = 1000 * (size_t)rank;
        char *mine = test_alloc(bytes + 1);
        memset(mine, 'a' + rank, bytes);
        char *all = (char *)&word; /* dirty */
        size_t sizes[8] = {99};
        comm_gather_bytes(c, mine, bytes, root, &all, sizes);
        if (rank != root) {
            assert_null(all);
            continue;
        }
        const char *at = all;
        for (int r = 0; r < size; r++) {
            assert_int_equal(sizes[r], 1000 * (size_t)r);
            for (size_t i = 0; i < sizes[r]; i++) assert_int_equal(*at++, 'a' + r);
        }
        free(all);
    }
    int each[8] = {0};
    const int mine = 100 + rank;
    comm_gather_all(c, &mine, sizeof mine, each);
    for (int r = 0; r < size; r++) assert_int_equal(each[r], 100 + r);
    comm_barrier(c);
}

TEST(what_is_too_long_for_one_message_is_gathered_in_several)
{
    struct comm *c = test_world();
    const size_t bytes = ((size_t)1 << 26) + 5; /* one message holds 2^26 */
    char *mine = test_alloc(bytes), *all = test_alloc(bytes * (size_t)comm_size(c));
    memset(mine, 'a' + comm_rank(c), bytes);
    comm_gather_all(c, mine, bytes, all);
    for (int r = 0; r < comm_size(c); r++) {
        const char *of_r = all + (size_t)r * bytes;
        assert_int_equal(of_r[0], 'a' + r);
        assert_int_equal(of_r[bytes / 2], 'a' + r);
        assert_int_equal(of_r[bytes - 1], 'a' + r);
    }
    char *gathered = NULL;
    size_t sizes[8];
    comm_gather_bytes(c, mine, bytes, 0, &gathered, sizes);
    if (comm_rank(c) == 0)
        assert_memory_equal(gathered, all, bytes * (size_t)comm_size(c));
    free(gathered);
}

TEST(a_line_of_the_mesh_reduces_among_itself_only)
{
    struct comm *world = test_world();
    const int size = comm_size(world), rank = comm_rank(world);
    if (size != 4) return; /* 2 x 2 */
    for (int axis = 0; axis < MESH_AXES; axis++) {
        int sizes[MESH_AXES] = {1, 1, 1, 1};
        sizes[axis] = 2;
        sizes[(axis + 1) % MESH_AXES] = 2;
        struct mesh m;
        ASSERT_OK(mesh_init(&m, rank, size, sizes));
        struct comm *line = NULL;
        ASSERT_OK(comm_create(&line, world, &m, (enum mesh_axis)axis));
        assert_int_equal(comm_size(line), 2);
        assert_int_equal(comm_rank(line), m.coord[axis]);
        int64_t ranks = 1 << rank, want = 0;
        for (int k = 0; k < 2; k++) {
            int coord[MESH_AXES];
            memcpy(coord, m.coord, sizeof coord);
            coord[axis] = k;
            want |= 1 << mesh_rank_at(&m, coord);
        }
        comm_sum_i64(line, &ranks, 1);
        assert_int_equal(ranks, want);
        comm_destroy(&line);
        assert_null(line);
    }
}

TEST(payload_is_counted)
{
    struct comm *c = test_world();
    const uint64_t others = (uint64_t)comm_size(c) - 1, n = 1200;
    struct comm_request *r = request(c, (int64_t)n);
    float *x = contribution(1, comm_rank(c), (int64_t)n);
    /* slices are equal: 1200 divides by 1, 2, 3, 4 */
    const uint64_t want = n / (others + 1) * others * sizeof(float);
    for (int op = 0; op < OPS; op++) {
        const uint64_t before = comm_stats(c).bytes_sent;
        comm_start_op(r, (enum comm_op)op, x, DTYPE_F32, (int64_t)n, 0);
        comm_wait(r);
        const uint64_t factor = op == COMM_ALL_REDUCE ? 2 : 1;
        assert_int_equal(comm_stats(c).bytes_sent - before, factor * want);
    }
    if (comm_size(c) > 1) assert_true(comm_stats(c).seconds > 0);
    comm_request_destroy(&r);
}
