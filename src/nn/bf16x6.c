/* Whether fp32 products out of bf16 are the faster ones here. */
#include <math.h>
#include <stdlib.h>

#include "core/clock.h"
#include "nn/gemm_tiles.h"
#include "nn/nn_impl.h"

#ifdef NN_HAVE_X86
extern const struct nn_ops nn_ops_avx512_fp32, nn_ops_amx_fp32;

enum { ROWS = 512, WIDTH = 768, ROUNDS = 4 };

static void multiply(const struct nn_ops *ops, struct nn *nn, float *x)
{
    const struct tensor a = {
        .data = x, .dtype = DTYPE_F32, .n_dims = 2, .shape = {ROWS, WIDTH}};
    const struct tensor w = {.data = x + ROWS * WIDTH,
                             .dtype = DTYPE_F32,
                             .n_dims = 2,
                             .shape = {WIDTH, WIDTH}};
    struct tensor c = a;
    c.data = x + (ROWS + WIDTH) * WIDTH;
    ops->matmul(nn, &c, &a, false, &w, true, NN_ASSIGN);
}

static double seconds(const struct nn_ops *ops, struct nn *nn, float *x)
{
    const double start = clock_seconds();
    multiply(ops, nn, x);
    return clock_seconds() - start;
}

/* The least time of each, taken in turns. */
static bool is_faster(struct nn *nn, float *x)
{
    double plain = HUGE_VAL, parts = HUGE_VAL;
    for (int i = 0; i < ROUNDS; i++) {
        plain = fmin(plain, seconds(&nn_ops_avx512_fp32, nn, x));
        parts = fmin(parts, seconds(&nn_ops_amx_fp32, nn, x));
    }
    return parts * 1.2 < plain;
}

bool nn_bf16x6_pays(void)
{
    enum { FLOATS = (2 * ROWS + WIDTH) * WIDTH };
    if (!gemm_amx_usable()) return false;
    float *x = aligned_alloc(ARENA_ALIGN_BYTES, FLOATS * sizeof *x);
    struct nn nn = {.n_threads = 1, .measuring = true, .scratch = arena_measure()};
    if (x) multiply(&nn_ops_amx_fp32, &nn, x);
    const size_t bytes = nn.scratch.peak_bytes;
    void *scratch = x ? aligned_alloc(ARENA_ALIGN_BYTES, bytes) : NULL;
    bool faster = false;
    if (scratch) {
        memset(x, 0, FLOATS * sizeof *x);
        nn.measuring = false;
        nn.scratch = arena_over(scratch, bytes);
        faster = is_faster(&nn, x);
    }
    free(scratch);
    free(x);
    return faster;
}
#else
bool nn_bf16x6_pays(void)
{
    return false;
}
#endif
