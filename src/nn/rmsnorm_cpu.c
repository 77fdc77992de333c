#include "nn/ops_cpu.h"

#include <math.h>

#include "nn/stripe.h"

static void rmsnorm_row_fwd(elem *restrict y, float *restrict rstd,
                            const elem *restrict x, const elem *restrict w, float eps,
                            int64_t C)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < C; c++) sum += get(x[c]) * get(x[c]);
    const float r = 1.0f / sqrtf(sum / (float)C + eps);
#pragma omp simd
    for (int64_t c = 0; c < C; c++) y[c] = put(get(x[c]) * r * get(w[c]));
    *rstd = r;
}

void NN_CPU(rmsnorm_fwd)(int threads, elem *y, float *rstd, const elem *x, const elem *w,
                         float eps, int64_t N, int64_t C)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t n = 0; n < N; n++)
        rmsnorm_row_fwd(y + n * C, rstd + n, x + n * C, w, eps, C);
}

/* g = dy * w      dx += rstd * (g - x * rstd^2 * mean(g * x))      dw += dy * x * rstd */
static void rmsnorm_row_bwd(elem *restrict dx, float *restrict dw,
                            const elem *restrict dy, const elem *restrict x, float rstd,
                            const elem *restrict w, int64_t C)
{
    float dot = 0;
#pragma omp simd reduction(+ : dot)
    for (int64_t c = 0; c < C; c++) dot += get(dy[c]) * get(w[c]) * get(x[c]);
    const float k = dot / (float)C * rstd * rstd * rstd;
#pragma omp simd
    for (int64_t c = 0; c < C; c++) {
        const float d = get(dy[c]) * rstd, xc = get(x[c]);
        dw[c] += d * xc;
        dx[c] = put(get(dx[c]) + (d * get(w[c]) - k * xc));
    }
}

void NN_CPU(rmsnorm_bwd)(int threads, elem *dx, float *dw, float *partial, const elem *dy,
                         const elem *x, const float *rstd, const elem *w, int64_t N,
                         int64_t C)
{
#pragma omp parallel num_threads(threads)
    {
        float *mine = partial + omp_get_thread_num() * C;
        memset(mine, 0, (size_t)C * sizeof *mine);
#pragma omp for schedule(static)
        for (int64_t n = 0; n < N; n++)
            rmsnorm_row_bwd(dx + n * C, mine, dy + n * C, x + n * C, rstd[n], w, C);
        stripe_add_partials(dw, partial, C);
    }
}
