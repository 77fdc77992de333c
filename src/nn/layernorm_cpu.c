#include "nn/ops_cpu.h"

#include <math.h>

#include "nn/stripe.h"

/* The variance is taken around the mean: the sum of squares minus the squared sum would lose
 * all its digits in a channel block with a large mean, and the row is in cache by then. */
static void layernorm_row_fwd(elem *restrict y, float *restrict stats,
                              const elem *restrict x, const elem *restrict w,
                              const elem *restrict b, float eps, int64_t C)
{
    float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < C; c++) sum += get(x[c]);
    const float mean = sum / (float)C;
#pragma omp simd reduction(+ : squares)
    for (int64_t c = 0; c < C; c++) squares += (get(x[c]) - mean) * (get(x[c]) - mean);
    const float rstd = 1.0f / sqrtf(squares / (float)C + eps);
#pragma omp simd
    for (int64_t c = 0; c < C; c++)
        y[c] = put((get(x[c]) - mean) * rstd * get(w[c]) + get(b[c]));
    stats[0] = mean;
    stats[1] = rstd;
}

void NN_CPU(layernorm_fwd)(int threads, elem *y, float *stats, const elem *x,
                           const elem *w, const elem *b, float eps, int64_t N, int64_t C)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t n = 0; n < N; n++)
        layernorm_row_fwd(y + n * C, stats + 2 * n, x + n * C, w, b, eps, C);
}

/* g = dy * w      dx += rstd * (g - mean(g) - xhat * mean(g * xhat))
 * dw += dy * xhat      db += dy */
static void layernorm_row_bwd(elem *restrict dx, float *restrict dw, float *restrict db,
                              const elem *restrict dy, const elem *restrict x,
                              const float *restrict stats, const elem *restrict w,
                              int64_t C)
{
    const float mean = stats[0], rstd = stats[1];
    float sum_g = 0, sum_gx = 0;
#pragma omp simd reduction(+ : sum_g, sum_gx)
    for (int64_t c = 0; c < C; c++) {
        const float g = get(dy[c]) * get(w[c]);
        sum_g += g;
        sum_gx += g * (get(x[c]) - mean);
    }
    const float mean_g = sum_g / (float)C, mean_gx = sum_gx * rstd / (float)C;
#pragma omp simd
    for (int64_t c = 0; c < C; c++) {
        const float xhat = (get(x[c]) - mean) * rstd, d = get(dy[c]);
        dw[c] += d * xhat;
        db[c] += d;
        dx[c] = put(get(dx[c]) + rstd * (d * get(w[c]) - mean_g - xhat * mean_gx));
    }
}

void NN_CPU(layernorm_bwd)(int threads, elem *dx, float *dw, float *db, float *partial,
                           const elem *dy, const elem *x, const float *stats,
                           const elem *w, int64_t N, int64_t C)
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
