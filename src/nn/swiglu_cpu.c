#include "nn/ops_cpu.h"
#include "nn/simd_math.h"

static inline float sigmoid(float x)
{
    return 1.0f / (1.0f + nn_exp(-x));
}

static void swiglu_row_fwd(float *restrict y, const float *restrict gate,
                           const float *restrict up, int64_t F)
{
#pragma omp simd
    for (int64_t f = 0; f < F; f++) y[f] = gate[f] * sigmoid(gate[f]) * up[f];
}

void NN_CPU(swiglu_fwd)(int threads, float *y, const float *gu, int64_t N, int64_t F)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t n = 0; n < N; n++)
        swiglu_row_fwd(y + n * F, gu + 2 * n * F, gu + (2 * n + 1) * F, F);
}

/* s = sigmoid(gate)      dup = dy gate s      dgate = dy up s (1 + gate (1 - s)) */
static void swiglu_row_bwd(float *restrict dgate, float *restrict dup,
                           const float *restrict dy, const float *restrict gate,
                           const float *restrict up, int64_t F)
{
#pragma omp simd
    for (int64_t f = 0; f < F; f++) {
        const float s = sigmoid(gate[f]);
        dgate[f] = dy[f] * up[f] * s * (1.0f + gate[f] * (1.0f - s));
        dup[f] = dy[f] * gate[f] * s;
    }
}

void NN_CPU(swiglu_bwd)(int threads, float *dgu, const float *dy, const float *gu,
                        int64_t N, int64_t F)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t n = 0; n < N; n++)
        swiglu_row_bwd(dgu + 2 * n * F, dgu + (2 * n + 1) * F, dy + n * F, gu + 2 * n * F,
                       gu + (2 * n + 1) * F, F);
}
