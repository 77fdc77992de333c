#include "nn/ops_cpu.h"

#include <math.h>

#include "nn/stripe.h"

/* The variance is taken around the mean: the sum of squares minus the squared sum would lose
 * all its digits in a channel block with a large mean, and the row is in cache by then. */
static void layernorm_row_fwd(float *restrict y, float *restrict stats,
                              const float *restrict x, const float *restrict w,
                              const float *restrict b, float eps, int64_t C)
{
    float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < C; c++) sum += x[c];
    const float mean = sum / (float)C;
#pragma omp simd reduction(+ : squares)
    for (int64_t c = 0; c < C; c++) squares += (x[c] - mean) * (x[c] - mean);
    const float rstd = 1.0f / sqrtf(squares / (float)C + eps);
#pragma omp simd
    for (int64_t c = 0; c < C; c++) y[c] = (x[c] - mean) * rstd * w[c] + b[c];
    stats[0] = mean;
    stats[1] = rstd;
}

void NN_CPU(layernorm_fwd)(int threads, float *y, float *stats, const float *x,
                           const float *w, const float *b, float eps, int64_t N,
                           int64_t C)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t n = 0; n < N; n++)
        layernorm_row_fwd(y + n * C, stats + 2 * n, x + n * C, w, b, eps, C);
}

/* g = dy * w      dx += rstd * (g - mean(g) - xhat * mean(g * xhat))
 * dw += dy * xhat      db += dy */
static void layernorm_row_bwd(float *restrict dx, float *restrict dw, float *restrict db,
                              const float *restrict dy, const float *restrict x,
                              const float *restrict stats, const float *restrict w,
                              int64_t C)
{
    const float mean = stats[0], rstd = stats[1];
    float sum_g = 0, sum_gx = 0;
#pragma omp simd reduction(+ : sum_g, sum_gx)
    for (int64_t c = 0; c < C; c++) {
        const float g = dy[c] * w[c];
        sum_g += g;
        sum_gx += g * (x[c] - mean);
    }
    const float mean_g = sum_g / (float)C, mean_gx = sum_gx * rstd / (float)C;
#pragma omp simd
    for (int64_t c = 0; c < C; c++) {
        const float xhat = (x[c] - mean) * rstd;
        dw[c] += dy[c] * xhat;
        db[c] += dy[c];
        dx[c] += rstd * (dy[c] * w[c] - mean_g - xhat * mean_gx);
    }
}

void NN_CPU(layernorm_bwd)(int threads, float *dx, float *dw, float *db, float *partial,
                           const float *dy, const float *x, const float *stats,
                           const float *w, int64_t N, int64_t C)
{
#pragma omp parallel num_threads(threads)
    {
        /* [threads, C] of dw, then [threads, C] of db */
        float *partial_db = partial + omp_get_num_threads() * C;
        float *my_dw = partial + omp_get_thread_num() * C;
        float *my_db = partial_db + omp_get_thread_num() * C;
        memset(my_dw, 0, (size_t)C * sizeof *my_dw);
        memset(my_db, 0, (size_t)C * sizeof *my_db);
#pragma omp for schedule(static)
        for (int64_t n = 0; n < N; n++)
            layernorm_row_bwd(dx + n * C, my_dw, my_db, dy + n * C, x + n * C,
                              stats + 2 * n, w, C);
        stripe_add_partials(dw, partial, C);
        stripe_add_partials(db, partial_db, C);
    }
}
