/* What products are held against computes what it is said to. */
#include <math.h>

#include "harness/harness.h"
#include "nn/nn.h"
#include "nn/yardstick.h"

enum { M = 33, N = 50, K = 70 };

static float at(const struct tensor *x, int64_t i)
{
    return x->dtype == DTYPE_BF16 ? dtype_from_bf16(((uint16_t *)x->data)[i])
                                  : tensor_f32(x)[i];
}

static struct tensor numbers(uint64_t seed, enum dtype t, int64_t rows, int64_t cols)
{
    const struct tensor from = randn_2d(seed, rows, cols);
    void *data = test_alloc((size_t)(rows * cols) * dtype_bytes(t));
    dtype_convert(data, t, tensor_f32(&from), DTYPE_F32, rows * cols);
    return tensor_2d(data, t, rows, cols);
}

/* One layout in one type; false: the library has no such product. */
static bool check(enum yardstick_library l, enum dtype t, bool trans_a, bool trans_b,
                  enum nn_accum mode)
{
    const enum dtype out = mode == NN_ACCUM ? DTYPE_F32 : t;
    struct yardstick_product p = {
        .a = trans_a ? numbers(1, t, K, M) : numbers(1, t, M, K),
        .b = trans_b ? numbers(2, t, N, K) : numbers(2, t, K, N),
        .c = numbers(3, out, M, N),
        .trans_a = trans_a,
        .trans_b = trans_b,
        .mode = mode};
    const struct tensor before = numbers(3, out, M, N);
    struct yardstick *y = yardstick_create(l, &p);
    if (!y) return false;
    yardstick_run(y);
    yardstick_destroy(&y);
    assert_null(y);
    for (int64_t i = 0; i < M; i++)
        for (int64_t j = 0; j < N; j++) {
            double sum = mode == NN_ACCUM ? (double)at(&before, i * N + j) : 0;
            for (int64_t k = 0; k < K; k++)
                sum += (double)at(&p.a, trans_a ? k * M + i : i * K + k) *
                       (double)at(&p.b, trans_b ? j * K + k : k * N + j);
            const double got = (double)at(&p.c, i * N + j);
            const double limit = out == DTYPE_BF16 ? 0.05 + 0.01 * fabs(sum) : 1e-4;
            if (!(fabs(got - sum) < limit))
                fail_msg("%s: [%lld, %lld] is %g, not %g", yardstick_name(l),
                         (long long)i, (long long)j, got, sum);
        }
    return true;
}

TEST(libraries_multiply_every_layout)
{
    for (int l = 0; l < YARDSTICK_LIBRARIES; l++) {
        const enum yardstick_library library = (enum yardstick_library)l;
        const bool nt = check(library, DTYPE_F32, false, true, NN_ASSIGN);
        assert_true(nt || l != YARDSTICK_ONEDNN); /* which is linked */
        assert_int_equal(check(library, DTYPE_F32, false, false, NN_ASSIGN), nt);
        assert_int_equal(check(library, DTYPE_F32, true, false, NN_ACCUM), nt);
    }
}

TEST(bf16_is_multiplied_where_the_cpu_does)
{
    if (!nn_cpu_bf16()) skip();
    assert_true(check(YARDSTICK_ONEDNN, DTYPE_BF16, false, true, NN_ASSIGN));
    assert_true(check(YARDSTICK_ONEDNN, DTYPE_BF16, true, false, NN_ACCUM));
    assert_false(check(YARDSTICK_OPENBLAS, DTYPE_BF16, false, true, NN_ASSIGN));
    assert_true(yardstick_registers(DTYPE_BF16, 1) > 0);
}
