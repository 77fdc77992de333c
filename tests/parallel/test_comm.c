/* @ranks 1 2 3 4   @timeout 120   @devices cpu cuda
 * Collectives against sums made in rank order on one rank, bit for bit. */
#include "harness/harness.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/rng.h"
#include "parallel/place.h"

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
    /* none, fewer than ranks, primes, exactly one piece a rank and one more, many rounds; the
     * first few again and again */
    const int64_t lengths[] = {0,       1,
                               2,       3,
                               5,       97,
                               1200,    10007,
                               1 << 18, (1 << 18) + 1,
                               4 << 18, (4 << 18) + 3,
                               4000037};
    for (struct place p = {0}; place_next(&p);)
        for (size_t k = 0; k < (p.large ? sizeof lengths / sizeof *lengths : 8); k++) {
            const int64_t n = lengths[k];
            const size_t bytes = (size_t)n * sizeof(float);
            struct comm_request *r = request_for(c, n);
            for (int op = 0; op < OPS; op++) {
                const uint64_t key = k * OPS + (uint64_t)op + p.seed;
                float *x = vector_in(&p, contribution(key, comm_rank(c), n), bytes);
                comm_start_op(r, (enum comm_op)op, x, DTYPE_F32, n, 7);
                comm_wait(r);
                check_result(c, (enum comm_op)op, key, vector_out(&p, x, bytes), n);
            }
            comm_request_destroy(&r);
            assert_null(r);
            place_forget_vectors(&p);
        }
}

static float through_bf16(float x)
{
    return dtype_from_bf16(dtype_bf16(x));
}

/* The sum that the owner of element i makes: its own part is exact, the others' have travelled. */
static float sum_over_bf16(uint64_t key, int size, int owner, int64_t i)
{
    float sum = 0;
    for (int rank = 0; rank < size; rank++) {
        const uint32_t seed = (uint32_t)(rng_u64(key, (uint64_t)rank) >> 32);
        float x = (float)(int32_t)(((uint32_t)i ^ seed) * 2654435761U) * 0x1p-31F;
        if (rank != owner) x = through_bf16(x);
        sum = rank == 0 ? x : sum + x;
    }
    return sum;
}

TEST(sums_travel_in_half_the_bytes_if_asked_to)
{
    struct comm *c = test_world();
    const int64_t lengths[] = {1, 97, 10007, (4 << 18) + 3};
    for (struct place p = {0}; place_next(&p);) {
        if (p.transport == COMM_TRANSPORT_NCCL) continue;
        comm_set_wire(c, DTYPE_BF16);
        for (size_t k = 0; k < (p.large ? 4 : 3); k++)
            for (int op = 0; op < OPS; op++) {
                const int64_t n = lengths[k];
                const size_t bytes = (size_t)n * sizeof(float);
                struct comm_request *r = request_for(c, n);
                float *x = vector_in(&p, contribution(k, comm_rank(c), n), bytes);
                const uint64_t before = comm_stats(c).bytes_sent;
                comm_start_op(r, (enum comm_op)op, x, DTYPE_F32, n, 7);
                comm_wait(r);
                const uint64_t sent = comm_stats(c).bytes_sent - before;
                const float *got = vector_out(&p, x, bytes);
                uint64_t want_sent = 0;
                for (int rank = 0; rank < comm_size(c); rank++) {
                    int64_t first, count;
                    const bool own = rank == comm_rank(c);
                    comm_slice(n, comm_size(c), rank, &first, &count);
                    if (op != COMM_ALL_GATHER && !own) want_sent += (uint64_t)count * 2;
                    if (op != COMM_REDUCE_SCATTER && own)
                        want_sent += (uint64_t)count * (uint64_t)(comm_size(c) - 1) *
                                     (op == COMM_ALL_GATHER ? 4 : 2);
                    if (op == COMM_REDUCE_SCATTER && !own) continue;
                    const float *part = contribution(k, rank, n);
                    for (int64_t i = first; i < first + count; i++) {
                        const float sum = sum_over_bf16(k, comm_size(c), rank, i);
                        const float want = op == COMM_ALL_GATHER ? part[i]
                                           : op == COMM_REDUCE_SCATTER
                                               ? sum
                                               : through_bf16(sum);
                        if (got[i] != want && comm_size(c) > 1)
                            fail_msg("operation %d, element %lld: %.9g, not %.9g", op,
                                     (long long)i, (double)got[i], (double)want);
                    }
                }
                assert_int_equal(sent, want_sent);
                comm_request_destroy(&r);
            }
        comm_set_wire(c, DTYPE_F32);
    }
}

TEST(any_type_is_gathered)
{
    struct comm *c = test_world();
    const int64_t lengths[] = {1, 7, 4801, 19200};
    for (struct place p = {0}; place_next(&p);)
        for (size_t k = 0; k < 4; k++)
            for (int t = 0; t < DTYPE_COUNT; t++) {
                const int64_t n = lengths[k];
                const size_t element = dtype_bytes((enum dtype)t);
                const size_t bytes = (size_t)n * element;
                char *mine = test_alloc(bytes);
                int64_t first, count;
                comm_slice(n, comm_size(c), comm_rank(c), &first, &count);
                for (size_t i = (size_t)first * element;
                     i < (size_t)(first + count) * element; i++)
                    mine[i] = (char)(i % 251);
                struct comm_request *r = request_for(c, n);
                char *x = vector_in(&p, mine, bytes);
                comm_start_op(r, COMM_ALL_GATHER, x, (enum dtype)t, n, 7);
                comm_wait(r);
                x = vector_out(&p, x, bytes);
                for (size_t i = 0; i < bytes; i++)
                    assert_int_equal(x[i], (char)(i % 251));
                comm_request_destroy(&r);
            }
}

TEST(a_slice_longer_than_a_message_is_gathered_whole)
{
    struct comm *c = test_world();
    if (comm_size(c) != 2 || strcmp(test_device_name(), "cpu") != 0) return; /* memory */
    const int64_t n = 2 * ((1 << 24) + 5);
    struct comm_request *r = request_for(c, n);
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

TEST(a_broadcast_brings_the_roots_vector_to_all)
{
    struct comm *c = test_world();
    const int64_t lengths[] = {0, 1, 2, 5, 10007, 3000017};
    for (struct place p = {0}; place_next(&p);)
        for (size_t k = 0; k < (p.large ? 6 : 5); k++)
            for (int root = 0; root < comm_size(c); root++) {
                const size_t bytes = (size_t)lengths[k] * sizeof(float);
                struct comm_request *r = request_for(c, lengths[k]);
                float *x =
                    vector_in(&p, contribution(p.seed, comm_rank(c), lengths[k]), bytes);
                comm_start_broadcast(r, x, DTYPE_F32, lengths[k], root, 1);
                comm_wait(r);
                assert_memory_equal(vector_out(&p, x, bytes),
                                    contribution(p.seed, root, lengths[k]), bytes);
                comm_request_destroy(&r);
            }
}

/* Everybody sends to both neighbours and gets from both, of lengths and types of their own. */
TEST(messages_of_a_group_pass_each_other)
{
    struct comm *c = test_world();
    const int size = comm_size(c), rank = comm_rank(c);
    if (size == 1) return; /* nobody to write to */
    const int right = (rank + 1) % size, left = (rank + size - 1) % size;
    const int64_t n = 5003, few = 17;
    for (struct place p = {0}; place_next(&p);) {
        struct comm_request *r = request_for(c, 2 * (n + few));
        const float *mine = contribution(p.seed, rank, n + 100);
        char *to_left = vector_in(&p, mine, (size_t)few * 2);
        float *to_right = vector_in(&p, mine, (size_t)n * 4);
        char *from_right = vector_in(&p, mine + 100, (size_t)few * 2);
        float *from_left = vector_in(&p, mine + 100, (size_t)n * 4);
        const struct comm_message all[] = {{right, true, to_right, DTYPE_F32, n},
                                           {left, false, from_left, DTYPE_F32, n},
                                           {left, true, to_left, DTYPE_BF16, few},
                                           {right, false, from_right, DTYPE_BF16, few},
                                           {left, true, to_left, DTYPE_F32, 0},
                                           {right, false, from_right, DTYPE_F32, 0}};
        const uint64_t before = comm_stats(c).bytes_sent;
        comm_start_messages(r, all, 6, 5);
        comm_wait(r);
        assert_int_equal(comm_stats(c).bytes_sent - before, n * 4 + few * 2);
        assert_memory_equal(vector_out(&p, from_left, (size_t)n * 4),
                            contribution(p.seed, left, n), (size_t)n * 4);
        assert_memory_equal(vector_out(&p, from_right, (size_t)few * 2),
                            contribution(p.seed, right, n), (size_t)few * 2);
        assert_memory_equal(vector_out(&p, to_right, (size_t)n * 4), mine, (size_t)n * 4);
        comm_start_messages(r, NULL, 0, 5); /* a rank may have none */
        comm_wait(r);
        comm_request_destroy(&r);
    }
}

TEST(a_message_longer_than_mpi_takes_arrives_whole)
{
    struct comm *c = test_world();
    if (comm_size(c) != 2 || strcmp(test_device_name(), "cpu") != 0) return; /* memory */
    const int64_t n = (1 << 24) + 5;
    struct comm_request *r = request_for(c, n);
    float *x = test_alloc((size_t)n * sizeof *x);
    const bool send = comm_rank(c) == 0;
    for (int64_t i = 0; send && i < n; i++) x[i] = (float)(i % 9999991);
    comm_start_messages(
        r, &(struct comm_message){1 - comm_rank(c), send, x, DTYPE_F32, n}, 1, 0);
    comm_wait(r);
    for (int64_t i = 0; i < n; i++)
        if (x[i] != (float)(i % 9999991)) fail_msg("element %lld", (long long)i);
    comm_request_destroy(&r);
}

TEST(a_request_serves_shorter_vectors_too)
{
    struct comm *c = test_world();
    const int64_t lengths[] = {3000017, 1, 0, 2000003, 3000017};
    for (struct place p = {.n_seeds = 1}; place_next(&p);) {
        struct comm_request *r = request_for(c, lengths[0]);
        for (uint64_t k = 0; k < 5; k++) {
            const int64_t n = p.large ? lengths[k] : lengths[k] / 100;
            const size_t bytes = (size_t)n * sizeof(float);
            float *x = vector_in(&p, contribution(k, comm_rank(c), n), bytes);
            comm_start_op(r, COMM_ALL_REDUCE, x, DTYPE_F32, n, 0);
            comm_wait(r);
            check_result(c, COMM_ALL_REDUCE, k, vector_out(&p, x, bytes), n);
        }
        comm_request_destroy(&r);
    }
}

enum { FLIGHT = 8 };

/* Every rank asks in another order, and waits for what is left in another one. */
static void finish_in_some_order(struct comm_request **r, uint64_t mine, uint64_t repeat)
{
    const int rank = comm_rank(test_world());
    for (uint64_t ask = 0; ask < 20; ask++)
        comm_test(r[rng_u64(mine, repeat * 1000 + ask) % FLIGHT]);
    for (int k = 0; k < FLIGHT; k++) {
        const int j = (k * 3 + rank) % FLIGHT;
        while (!comm_test(r[j])) /* a wait would not move the others on */
            for (int i = 0; i < FLIGHT; i++) comm_test(r[i]);
    }
}

TEST(many_in_flight_with_delays_are_not_confused)
{
    struct comm *c = test_world();
    const uint64_t mine = rng_key(1, "delay", "") + (uint64_t)comm_rank(c);
    for (struct place p = {0}; place_next(&p);) {
        struct comm_request *r[FLIGHT];
        float *x[FLIGHT];
        int64_t n[FLIGHT];
        for (int k = 0; k < FLIGHT; k++) r[k] = request_for(c, 400000);
        for (uint64_t repeat = 0; repeat < (p.large ? 3 : 1); repeat++) {
            for (int k = 0; k < FLIGHT; k++) {
                const uint64_t key = repeat * FLIGHT + (uint64_t)k;
                n[k] = p.large ? 390001 + 1009 * k : 1001 + 109 * k;
                x[k] = vector_in(&p, contribution(key, comm_rank(c), n[k]),
                                 (size_t)n[k] * sizeof(float));
                comm_start_op(r[k], (enum comm_op)(k % OPS), x[k], DTYPE_F32, n[k], k);
                usleep((useconds_t)(3000 * rng_uniform(mine, repeat * 100 + key)));
            }
            finish_in_some_order(r, mine, repeat);
            for (int k = 0; k < FLIGHT; k++)
                check_result(c, (enum comm_op)(k % OPS), repeat * FLIGHT + (uint64_t)k,
                             vector_out(&p, x[k], (size_t)n[k] * sizeof(float)), n[k]);
        }
        for (int k = 0; k < FLIGHT; k++) {
            assert_true(comm_test(r[k])); /* nothing was begun */
            comm_request_destroy(&r[k]);
        }
    }
}

/* Work put behind comm_wait overwrites the vector and may not be seen in its result; work put in
 * front of the next operation must be. */
TEST(an_operation_lies_between_what_was_queued_before_and_after_it)
{
    enum { ROUNDS = 6, N = 2400 };
    struct comm *c = test_world();
    const size_t bytes = N * sizeof(float);
    for (struct place p = {0}; place_next(&p);) {
        struct comm_request *r = request_for(c, N);
        float *x = vector_in(&p, contribution(0, comm_rank(c), N), bytes);
        void *in = NULL, *out = NULL;
        ASSERT_OK(device_alloc_host(p.device, ROUNDS * bytes, "a test", &in));
        ASSERT_OK(device_alloc_host(p.device, ROUNDS * bytes, "a test", &out));
        for (uint64_t k = 0; k < ROUNDS; k++) {
            memcpy((char *)in + k * bytes, contribution(k, comm_rank(c), N), bytes);
            device_queue_copy_in(p.device, DEVICE_COMPUTE, x, (char *)in + k * bytes,
                                 bytes);
            comm_start_op(r, (enum comm_op)(k % OPS), x, DTYPE_F32, N, 0);
            comm_wait(r);
            device_queue_copy_out(p.device, DEVICE_COMPUTE, (char *)out + k * bytes, x,
                                  bytes);
            device_zero(p.device, x, bytes);
        }
        device_wait(p.device);
        for (uint64_t k = 0; k < ROUNDS; k++)
            check_result(c, (enum comm_op)(k % OPS), k, (const float *)out + k * N, N);
        comm_request_destroy(&r);
        device_free_host(p.device, &in, ROUNDS * bytes);
        device_free_host(p.device, &out, ROUNDS * bytes);
    }
}

/* What comm_test has called done needs no comm_wait. */
TEST(what_is_done_is_there_for_work_queued_from_now_on)
{
    enum { N = 4803 };
    struct comm *c = test_world();
    const size_t bytes = N * sizeof(float);
    for (struct place p = {0}; place_next(&p);) {
        struct comm_request *r = request_for(c, N);
        for (int op = 0; op < OPS; op++) {
            float *x = vector_in(&p, contribution(p.seed, comm_rank(c), N), bytes);
            comm_start_op(r, (enum comm_op)op, x, DTYPE_F32, N, 0);
            while (!comm_test(r)) usleep(10);
            check_result(c, (enum comm_op)op, p.seed, vector_out(&p, x, bytes), N);
        }
        comm_request_destroy(&r);
    }
}

TEST(a_request_takes_what_it_said_it_would)
{
    struct comm *c = test_world();
    for (struct place p = {.n_seeds = 1}; place_next(&p);) {
        const size_t before = device_host_bytes(p.device);
        struct comm_request *r = request_for(c, 100000);
        assert_int_equal(device_host_bytes(p.device) - before,
                         comm_request_host_bytes(c, 100000));
        comm_request_destroy(&r);
        assert_int_equal(device_host_bytes(p.device), before);
    }
}

TEST(a_request_staged_in_less_than_its_vector)
{
    struct comm *c = test_world();
    struct arena measure = arena_measure();
    struct comm_request *r = NULL;
    const int64_t n = (int64_t)1 << 28;
    ASSERT_OK(comm_request_create(&r, c, n, &measure));
    /* 4 pieces of 1 MiB from each other rank */
    assert_true(measure.peak_bytes <= (size_t)(comm_size(c) - 1) * (4 << 20) + 4096);
}

TEST(the_transport_has_a_name_and_a_reason)
{
    struct comm *c = test_world();
    const char *why = NULL;
    if (strcmp(test_device_name(), "cpu") == 0) {
        assert_string_equal(comm_transport_name(c), "mpi");
        struct device *d;
        ASSERT_OK(test_device_open(&d));
        ASSERT_REFUSED(comm_use_device(c, d, COMM_TRANSPORT_NCCL, &why), STATUS_COMM,
                       "NCCL needs a GPU for each rank; the device is cpu");
        ASSERT_OK(comm_use_device(c, d, COMM_TRANSPORT_AUTO, &why));
        assert_string_equal(comm_transport_name(c),
                            comm_size(c) > 1 ? "shared memory" : "mpi");
        assert_string_equal(why, comm_size(c) > 1 ? "ranks are on one host"
                                                  : "vectors are in host memory");
        comm_leave_device(c);
        test_device_close(&d);
        return;
    }
    for (struct place p = {.n_seeds = 1}; place_next(&p);)
        assert_string_equal(comm_transport_name(c),
                            p.transport == COMM_TRANSPORT_NCCL && comm_size(c) > 1
                                ? "nccl"
                                : "mpi, staged");
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

TEST(payload_is_counted)
{
    struct comm *c = test_world();
    const uint64_t others = (uint64_t)comm_size(c) - 1, n = 1200;
    struct comm_request *r = request_for(c, (int64_t)n);
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
    comm_request_destroy(&r);
}

/* Whoever waits moves the others on, too, and that is the same time. */
TEST(no_second_is_counted_twice)
{
    struct comm *c = test_world();
    for (struct place p = {.n_seeds = 1}; place_next(&p);) {
        struct comm_request *r[FLIGHT];
        for (int k = 0; k < FLIGHT; k++) r[k] = request_for(c, 1000);
        const struct comm_stats before = comm_stats(c);
        const double start = clock_seconds();
        if (comm_rank(c) == 0) usleep(20000); /* the others wait */
        for (int k = 0; k < FLIGHT; k++) {
            float *x = vector_in(&p, contribution(1, comm_rank(c), 1000), 4000);
            comm_start_op(r[k], COMM_ALL_REDUCE, x, DTYPE_F32, 1000, k);
        }
        for (int k = 0; k < FLIGHT; k++) comm_wait(r[k]);
        const double passed = clock_seconds() - start;
        const struct comm_stats after = comm_stats(c);
        if (comm_size(c) > 1) assert_true(after.seconds > before.seconds);
        assert_true(after.seconds - before.seconds <= passed);
        assert_true(after.busy_seconds - before.busy_seconds <= FLIGHT * passed);
        for (int k = 0; k < FLIGHT; k++) comm_request_destroy(&r[k]);
    }
}
