#include "nn/ops_cpu.h"
#include "nn/simd_math.h"

/* (1 + tanh(u)) / 2 = sigmoid(2u) =: s, which needs one exp and does not cancel for x << 0:
 *   y = x s      dy/dx = s + x s (1 - s) 2 du/dx
 * with 2u = a (x + b x^3), a = 2 sqrt(2/pi), b = 0.044715. */
#define GELU_A 1.5957691216057308f
#define GELU_B 0.044715f

static inline float gelu_sigmoid(float x)
{
    const float u2 = GELU_A * x * (1.0f + GELU_B * x * x);
    return 1.0f / (1.0f + nn_exp(-u2));
}

void NN_CPU(gelu_fwd)(int threads, elem *y, const elem *x, int64_t n)
{
#pragma omp parallel for simd num_threads(threads) schedule(static)
    for (int64_t i = 0; i < n; i++) y[i] = put(get(x[i]) * gelu_sigmoid(get(x[i])));
}

void NN_CPU(gelu_bwd)(int threads, elem *dx, const elem *dy, const elem *x, int64_t n)
{
#pragma omp parallel for simd num_threads(threads) schedule(static)
    for (int64_t i = 0; i < n; i++) {
        const float xi = get(x[i]), s = gelu_sigmoid(xi);
        const float du2 = GELU_A * (1.0f + 3.0f * GELU_B * xi * xi);
        dx[i] = put(get(dy[i]) * (s + xi * s * (1.0f - s) * du2));
    }
}

/* Phi(x) = erfc(-x / sqrt(2)) / 2, relative error below 2e-7: Press et al., Numerical Recipes in
 * Fortran 77, section 6.2, erfcc. */
static inline float normal_cdf(float x)
{
    const float z = fabsf(x) * 0.70710678118654752f, t = 1.0f / (1.0f + 0.5f * z);
    float p = 0.17087277f;
    p = -0.82215223f + t * p;
    p = 1.48851587f + t * p;
    p = -1.13520398f + t * p;
    p = 0.27886807f + t * p;
    p = -0.18628806f + t * p;
    p = 0.09678418f + t * p;
    p = 0.37409196f + t * p;
    p = 1.00002368f + t * p;
    p = -1.26551223f + t * p;
    const float tail = 0.5f * t * nn_exp(p - z * z);
    return x < 0 ? tail : 1.0f - tail;
}

void NN_CPU(gelu_erf_fwd)(int threads, elem *y, const elem *x, int64_t n)
{
#pragma omp parallel for simd num_threads(threads) schedule(static)
    for (int64_t i = 0; i < n; i++) y[i] = put(get(x[i]) * normal_cdf(get(x[i])));
}

/* dy/dx = Phi(x) + x phi(x), phi(x) = exp(-x^2/2) / sqrt(2 pi) */
void NN_CPU(gelu_erf_bwd)(int threads, elem *dx, const elem *dy, const elem *x, int64_t n)
{
#pragma omp parallel for simd num_threads(threads) schedule(static)
    for (int64_t i = 0; i < n; i++) {
        const float xi = get(x[i]);
        const float phi = 0.39894228040143268f * nn_exp(-0.5f * xi * xi);
        dx[i] = put(get(dy[i]) * (normal_cdf(xi) + xi * phi));
    }
}
