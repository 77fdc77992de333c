#include "nn/ops_cpu.h"
#include "nn/simd_math.h"

static inline float sigmoid(float x)
{
    return 1.0f / (1.0f + nn_exp(-x));
}

static void swiglu_row_fwd(elem *restrict y, const elem *restrict gate,
                           const elem *restrict up, int64_t F)
{
#pragma omp simd
    for (int64_t f = 0; f < F; f++) {
        const float g = get(gate[f]);
        y[f] = put(g * sigmoid(g) * get(up[f]));
    }
}

void NN_CPU(swiglu_fwd)(int threads, elem *y, const elem *gu, int64_t N, int64_t F)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t n = 0; n < N; n++)
        swiglu_row_fwd(y + n * F, gu + 2 * n * F, gu + (2 * n + 1) * F, F);
}

/* s = sigmoid(gate)      dup = dy gate s      dgate = dy up s (1 + gate (1 - s)) */
static void swiglu_row_bwd(elem *restrict dgate, elem *restrict dup,
                           const elem *restrict dy, const elem *restrict gate,
                           const elem *restrict up, int64_t F)
{
#pragma omp simd
    for (int64_t f = 0; f < F; f++) {
        const float g = get(gate[f]), d = get(dy[f]), s = sigmoid(g);
        dgate[f] = put(d * get(up[f]) * s * (1.0f + g * (1.0f - s)));
        dup[f] = put(d * g * s);
    }
}

void NN_CPU(swiglu_bwd)(int threads, elem *dgu, const elem *dy, const elem *gu, int64_t N,
                        int64_t F)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t n = 0; n < N; n++)
        swiglu_row_bwd(dgu + 2 * n * F, dgu + (2 * n + 1) * F, dy + n * F, gu + 2 * n * F,
                       gu + (2 * n + 1) * F, F);
}
