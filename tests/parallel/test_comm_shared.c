/* @ranks 2 3 4  @wrap gethostname comm_map_block
 * Vectors of ranks of one host, in each other's memory: what goes there and what does not. */
#include "harness/harness.h"

#include <omp.h>
#include <string.h>
#include <time.h>

#include "core/rng.h"
#include "parallel/comm/comm_host.h"
#include "parallel/place.h"

enum { OPS = 3, N = 10007 };

static float part(uint64_t key, int rank, int64_t i)
{
    return (float)(rng_uniform(key + (uint64_t)rank, (uint64_t)i) - 0.5);
}

static void fill(float *x, uint64_t key, int rank, int64_t n)
{
    for (int64_t i = 0; i < n; i++) x[i] = part(key, rank, i);
}

static void check(const struct comm *c, enum comm_op op, uint64_t key, const float *x,
                  int64_t n)
{
    for (int rank = 0; rank < comm_size(c); rank++) {
        int64_t first, count;
        comm_slice(n, comm_size(c), rank, &first, &count);
        if (op == COMM_REDUCE_SCATTER && rank != comm_rank(c)) continue;
        for (int64_t i = first; i < first + count; i++) {
            float want = part(key, op == COMM_ALL_GATHER ? rank : 0, i);
            for (int r = 1; op != COMM_ALL_GATHER && r < comm_size(c); r++)
                want += part(key, r, i);
            if (x[i] != want)
                fail_msg("operation %d, element %lld: %.9g, not %.9g", op, (long long)i,
                         (double)x[i], (double)want);
        }
    }
}

static float *vector(struct device *d, bool shared, int64_t n)
{
    void *x = NULL;
    const size_t bytes = (size_t)n * sizeof(float);
    if (shared)
        ASSERT_OK(device_alloc_shared(d, bytes, "a test", &x));
    else
        ASSERT_OK(device_alloc(d, bytes, "a test", &x));
    return x;
}

static void give(struct device *d, float *x, int64_t n)
{
    void *p = x;
    device_free(d, &p, (size_t)n * sizeof(float));
}

static struct device *enter(struct comm *c, enum comm_transport t)
{
    const char *why;
    struct device *d = NULL;
    ASSERT_OK(test_device_open(&d));
    ASSERT_OK(comm_use_device(c, d, t, &why));
    return d;
}

static void leave(struct comm *c, struct device *d)
{
    comm_barrier(c);
    comm_leave_device(c);
    test_device_close(&d);
}

static void run(struct comm *c, enum comm_op op, float *x, int64_t n)
{
    struct comm_request *r = request_for(c, n);
    fill(x, (uint64_t)op, comm_rank(c), n);
    comm_start_op(r, op, x, DTYPE_F32, n, 0);
    comm_wait(r);
    check(c, op, (uint64_t)op, x, n);
    comm_request_destroy(&r);
}

TEST(shared_vectors_are_read_in_place)
{
    struct comm *c = test_world();
    struct device *d = enter(c, COMM_TRANSPORT_AUTO);
    float *x = vector(d, true, N);
    assert_string_equal(comm_transport_name(c), "shared memory");
    for (int op = 0; op < OPS; op++) {
        run(c, (enum comm_op)op, x, N);
        assert_int_equal(c->n_mappings, comm_size(c) - 1);
    }
    give(d, x, N);
    leave(c, d);
    assert_int_equal(c->n_mappings, 0);
    assert_string_equal(comm_transport_name(c), "mpi");
}

TEST(they_are_not_when_mpi_is_asked_for)
{
    struct comm *c = test_world();
    struct device *d = enter(c, COMM_TRANSPORT_MPI);
    float *x = vector(d, true, N);
    assert_string_equal(comm_transport_name(c), "mpi");
    run(c, COMM_ALL_REDUCE, x, N);
    assert_int_equal(c->n_mappings, 0);
    give(d, x, N);
    leave(c, d);
}

TEST(a_vector_that_others_cannot_see_is_sent)
{
    struct comm *c = test_world();
    struct device *d = enter(c, COMM_TRANSPORT_AUTO);
    for (int odd = 0; odd < comm_size(c); odd++) {
        float *x = vector(d, comm_rank(c) != odd, N);
        for (int op = 0; op < OPS; op++) run(c, (enum comm_op)op, x, N);
        give(d, x, N);
    }
    assert_int_equal(c->n_mappings, 0);
    leave(c, d);
}

/* They are begun and done in order, and a few of them may be anywhere in memory. */
TEST(more_may_be_in_flight_than_have_a_notice)
{
    enum { FLIGHT = COMM_NOTICES + 20, SHORT = 203 };
    struct comm *c = test_world();
    struct device *d = enter(c, COMM_TRANSPORT_AUTO);
    struct comm_request *r[FLIGHT];
    float *x = vector(d, true, (int64_t)FLIGHT * SHORT);
    float *hidden = vector(d, false, (int64_t)FLIGHT * SHORT);
    for (int k = 0; k < FLIGHT; k++) r[k] = request_for(c, SHORT);
    for (int repeat = 0; repeat < 3; repeat++) {
        float *at[FLIGHT];
        for (int k = 0; k < FLIGHT; k++) {
            at[k] = (k % 7 == comm_rank(c) ? hidden : x) + (size_t)k * SHORT;
            fill(at[k], (uint64_t)k, comm_rank(c), SHORT);
            comm_start_op(r[k], (enum comm_op)(k % OPS), at[k], DTYPE_F32, SHORT, k);
        }
        for (int k = FLIGHT - 1; k >= 0; k--) comm_wait(r[k]);
        for (int k = 0; k < FLIGHT; k++)
            check(c, (enum comm_op)(k % OPS), (uint64_t)k, at[k], SHORT);
    }
    for (int k = 0; k < FLIGHT; k++) comm_request_destroy(&r[k]);
    give(d, x, (int64_t)FLIGHT * SHORT);
    give(d, hidden, (int64_t)FLIGHT * SHORT);
    leave(c, d);
}

/* Memory that its owner has freed is not kept by those who read it. */
TEST(blocks_come_and_go)
{
    struct comm *c = test_world();
    struct device *d = enter(c, COMM_TRANSPORT_AUTO);
    for (int k = 0; k < 3 * COMM_MAPPINGS; k++) {
        float *x = vector(d, true, N);
        run(c, (enum comm_op)(k % OPS), x, N);
        give(d, x, N);
        assert_true(c->n_mappings <= COMM_MAPPINGS + comm_size(c));
    }
    assert_int_equal(device_allocated_bytes(d), 0);
    leave(c, d);
}

/* The rank's threads share long vectors; bits do not depend on it. */
TEST(threads_share_the_work)
{
    enum { LONG = 700001 };
    struct comm *c = test_world();
    struct device *d = enter(c, COMM_TRANSPORT_AUTO);
    float *x = vector(d, true, LONG);
    for (int threads = 1; threads <= 3; threads++) {
        omp_set_num_threads(threads);
        for (int op = 0; op < OPS; op++) run(c, (enum comm_op)op, x, LONG);
    }
    give(d, x, LONG);
    leave(c, d);
}

/* ---- windows --------------------------------------------------------------------------------- */

int __real_gethostname(char *name, size_t bytes);
void *__real_comm_map_block(const struct comm *c, int rank,
                            const struct device_block *block);

static int second_host; /* ranks from this one on say that they are on another; 0: none */
static bool may_not_map; /* nor may rank 1 */

int __wrap_gethostname(char *name, size_t bytes)
{
    if (second_host == 0) return __real_gethostname(name, bytes);
    snprintf(name, bytes, comm_rank(test_world()) < second_host ? "ox1" : "ox2");
    return 0;
}

void *__wrap_comm_map_block(const struct comm *c, int rank,
                            const struct device_block *block)
{
    if (may_not_map && comm_rank(c) == 1) return NULL;
    return __real_comm_map_block(c, rank, block);
}

/* What a near rank writes is there, however late it writes, and what others write comes. */
static void check_window(struct comm *c, struct device *d)
{
    const int rank = comm_rank(c), size = comm_size(c);
    const size_t bytes = (size_t)N * sizeof(float);
    int index;
    void *p = NULL;
    const int n_near = comm_near(c, &index);
    ASSERT_OK(comm_window_alloc(c, d, bytes, "a test", &p));
    assert_int_equal(device_allocated_bytes(d), index == 0 ? bytes : 0);
    float *x = p;
    struct comm_request *r = request_for(c, N);
    for (int turn = 0; turn < 20; turn++) {
        const uint64_t sent = comm_stats(c).bytes_sent;
        const int64_t skip = turn % 5; /* parts of it, too */
        int64_t start, count;
        comm_slice(N - skip, size, rank, &start, &count);
        if (turn % size == rank) nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        for (int64_t i = start; i < start + count; i++)
            x[skip + i] = part((uint64_t)turn, rank, i);
        comm_start_op(r, COMM_ALL_GATHER, x + skip, DTYPE_F32, N - skip, turn);
        comm_wait(r);
        check(c, COMM_ALL_GATHER, (uint64_t)turn, x + skip, N - skip);
        assert_int_equal(comm_stats(c).bytes_sent - sent, 4 * count * (size - n_near));
        comm_barrier(c); /* before anybody writes again */
    }
    assert_int_equal(c->n_mappings, 0);
    comm_request_destroy(&r);
    comm_window_free(c, d, &p);
    assert_null(p);
    assert_int_equal(device_allocated_bytes(d), 0);
}

TEST(a_window_is_one_block_for_all)
{
    struct comm *c = test_world();
    struct device *d = enter(c, COMM_TRANSPORT_AUTO);
    int index;
    assert_int_equal(comm_near(c, &index), comm_size(c));
    assert_int_equal(index, comm_rank(c));
    check_window(c, d);
    leave(c, d);
}

TEST(of_two_hosts_each_has_a_block)
{
    struct comm *c = test_world();
    const int rank = comm_rank(c), size = comm_size(c);
    for (second_host = 1; second_host < size; second_host++) {
        struct device *d = enter(c, COMM_TRANSPORT_AUTO);
        const bool first = rank < second_host;
        int index;
        assert_string_equal(comm_transport_name(c), "mpi");
        assert_int_equal(comm_near(c, &index), first ? second_host : size - second_host);
        assert_int_equal(index, first ? rank : rank - second_host);
        check_window(c, d);
        leave(c, d);
    }
    second_host = 0;
}

TEST(a_window_that_one_rank_cannot_map_is_nobodys)
{
    struct comm *c = test_world();
    struct device *d = enter(c, COMM_TRANSPORT_AUTO);
    void *p = NULL;
    may_not_map = true;
    assert_int_equal(comm_window_alloc(c, d, 4096, "a test", &p), STATUS_COMM);
    may_not_map = false;
    assert_null(p);
    assert_non_null(strstr(status_message(), "rank 1 of "));
    assert_non_null(strstr(status_message(), "cannot map 4096 bytes"));
    assert_int_equal(device_allocated_bytes(d), 0);
    check_window(c, d);
    leave(c, d);
}

/* Whoever is done first takes it from nobody. */
TEST(a_window_lives_as_long_as_somebody_has_it)
{
    struct comm *c = test_world();
    struct device *d = enter(c, COMM_TRANSPORT_AUTO);
    const int last = comm_size(c) - 1;
    void *p = NULL;
    ASSERT_OK(comm_window_alloc(c, d, sizeof(int), "a test", &p));
    if (comm_rank(c) == 0) *(int *)p = 42;
    comm_barrier(c);
    if (comm_rank(c) != last) comm_window_free(c, d, &p);
    comm_barrier(c);
    if (comm_rank(c) == last) assert_int_equal(*(int *)p, 42);
    comm_window_free(c, d, &p);
    comm_window_free(c, d, &p); /* nothing is left of it */
    leave(c, d);
}

TEST(without_shared_memory_every_rank_has_a_window_of_its_own)
{
    struct comm *c = test_world();
    struct device *d = enter(c, COMM_TRANSPORT_MPI);
    int index;
    void *p = NULL;
    assert_int_equal(comm_near(c, &index), 1);
    assert_int_equal(index, 0);
    const size_t bytes = (size_t)N * sizeof(float);
    ASSERT_OK(comm_window_alloc(c, d, bytes, "a test", &p));
    assert_int_equal(device_allocated_bytes(d), bytes);
    run(c, COMM_ALL_GATHER, p, N);
    comm_window_free(c, d, &p);
    leave(c, d);
}
