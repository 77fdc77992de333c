/* @ranks 1 2 3 4   @timeout 60   @devices cpu cuda
 * Slices of whole rows, and sums of every type. */
#include "harness/harness.h"

#include <math.h>

#include "core/rng.h"
#include "parallel/place.h"

/* Rows stay together, in every type.  All numbers, and all sums of some of them, are exact. */
static void check_rows(struct place *p, enum dtype t, int64_t rows)
{
    enum { COLS = 3, MAX_ROWS = 9 };
    struct comm *c = test_world();
    const int size = comm_size(c), rank = comm_rank(c);
    const size_t bytes = (size_t)(rows * COLS) * dtype_bytes(t);
    float x[MAX_ROWS * COLS], sum[MAX_ROWS * COLS], got[MAX_ROWS * COLS];
    char bits[sizeof x], want[sizeof x];
    int64_t first, count;
    for (int64_t i = 0; i < rows * COLS; i++) {
        sum[i] = 0;
        for (int r = 0; r < size; r++) sum[i] += (float)(1 + r) * (float)(i + 1) / 4;
        x[i] = (float)(1 + rank) * (float)(i + 1) / 4; /* exact in 16 bits */
    }
    struct comm_request *r = request_for(c, rows * COLS + 1);
    dtype_convert(bits, t, x, DTYPE_F32, rows * COLS);
    dtype_convert(want, t, sum, DTYPE_F32, rows * COLS);
    dtype_convert(sum, DTYPE_F32, want, t, rows * COLS);
    comm_slice(rows, size, rank, &first, &count);

    void *v = vector_in(p, bits, bytes);
    const uint64_t before = comm_stats(c).bytes_sent;
    comm_start_rows(r, COMM_REDUCE_SCATTER, v, t, rows, COLS, 0);
    comm_wait(r);
    if (size > 1)
        assert_int_equal(comm_stats(c).bytes_sent - before,
                         (uint64_t)((rows - count) * COLS) * dtype_bytes(t));
    dtype_convert(got, DTYPE_F32, vector_out(p, v, bytes), t, rows * COLS);
    for (int64_t i = first * COLS; i < (first + count) * COLS; i++)
        assert_true(got[i] == sum[i]);

    comm_start_rows(r, COMM_ALL_GATHER, v, t, rows, COLS, 1);
    comm_wait(r);
    dtype_convert(got, DTYPE_F32, vector_out(p, v, bytes), t, rows * COLS);
    for (int64_t i = 0; i < rows * COLS; i++) assert_true(got[i] == sum[i]);

    v = vector_in(p, bits, bytes);
    comm_start_rows(r, COMM_ALL_REDUCE, v, t, rows, COLS, 2);
    comm_wait(r);
    dtype_convert(got, DTYPE_F32, vector_out(p, v, bytes), t, rows * COLS);
    for (int64_t i = 0; i < rows * COLS; i++) assert_true(got[i] == sum[i]);
    comm_request_destroy(&r);
}

TEST(slices_of_whole_rows_in_every_type)
{
    const int64_t rows[] = {0, 1, 2, 5, 8, 9}; /* some ranks get none, some one more */
    for (struct place p = {.n_seeds = 3}; place_next(&p);)
        for (int t = DTYPE_F32; t <= DTYPE_F16; t++)
            for (size_t k = 0; k < sizeof rows / sizeof *rows; k++)
                check_rows(&p, (enum dtype)t, rows[k]);
}

/* Number i of rank r. */
static float number(int r, int64_t i)
{
    return (float)(2 * rng_uniform(11, (uint64_t)(r * 100000 + i)) - 1);
}

/* What comes out of `op` on the numbers of all ranks in type t; `want`: their sum in fp32 in rank
 * order, rounded once. */
static void *sum_of_numbers(struct place *p, enum comm_op op, enum dtype t, int64_t n,
                            void *want)
{
    struct comm *c = test_world();
    const size_t bytes = (size_t)n * dtype_bytes(t);
    float *x = test_alloc((size_t)n * sizeof *x),
          *sum = test_alloc((size_t)n * sizeof *x);
    void *mine = test_alloc(bytes), *theirs = test_alloc(bytes);
    for (int rank = 0; rank < comm_size(c); rank++) {
        for (int64_t i = 0; i < n; i++) x[i] = number(rank, i);
        dtype_convert(theirs, t, x, DTYPE_F32, n);
        dtype_convert(x, DTYPE_F32, theirs, t, n);
        for (int64_t i = 0; i < n; i++) sum[i] = rank ? sum[i] + x[i] : x[i];
        if (rank == comm_rank(c)) memcpy(mine, theirs, bytes);
    }
    dtype_convert(want, t, sum, DTYPE_F32, n);
    struct comm_request *r = request_for(c, n);
    void *v = vector_in(p, mine, bytes);
    comm_start_op(r, op, v, t, n, 0);
    comm_wait(r);
    comm_request_destroy(&r);
    return vector_out(p, v, bytes);
}

/* NCCL may add in any order and round on the way. */
static void check_near(const void *got, const void *want, enum dtype t, int64_t n)
{
    const float tolerance = t == DTYPE_F32   ? 0x1p-20F
                            : t == DTYPE_F16 ? 0x1p-8F
                                             : 0x1p-5F;
    for (int64_t i = 0; i < n; i++) {
        float a, b;
        const size_t at = (size_t)i * dtype_bytes(t);
        dtype_convert(&a, DTYPE_F32, (const char *)got + at, t, 1);
        dtype_convert(&b, DTYPE_F32, (const char *)want + at, t, 1);
        assert_true(fabsf(a - b) <= tolerance);
    }
}

static void check_sums(struct place *p, enum dtype t)
{
    enum { N = 4099 };
    struct comm *c = test_world();
    const bool rounded_once = strcmp(comm_transport_name(c), "nccl") != 0;
    const size_t element = dtype_bytes(t), bytes = N * element;
    int64_t first, count;
    comm_slice(N, comm_size(c), comm_rank(c), &first, &count);
    char *want = test_alloc(bytes), *all = test_alloc(bytes * (size_t)comm_size(c));
    const char *got = sum_of_numbers(p, COMM_ALL_REDUCE, t, N, want);
    if (rounded_once) assert_memory_equal(got, want, bytes);
    check_near(got, want, t, N);
    comm_gather_all(c, got, bytes, all);
    for (int rank = 0; rank < comm_size(c); rank++)
        assert_memory_equal(all + (size_t)rank * bytes, got, bytes);

    const size_t skip = (size_t)first * element;
    got = sum_of_numbers(p, COMM_REDUCE_SCATTER, t, N, want);
    if (rounded_once)
        assert_memory_equal(got + skip, want + skip, (size_t)count * element);
    check_near(got + skip, want + skip, t, count);
}

TEST(sums_are_made_in_fp32_and_rounded_once_and_the_same_on_all_ranks)
{
    for (struct place p = {.n_seeds = 2}; place_next(&p);)
        for (int t = DTYPE_F32; t <= DTYPE_F16; t++) check_sums(&p, (enum dtype)t);
}
