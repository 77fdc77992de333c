#include "nn/ops_cpu.h"

#include <math.h>

#include "nn/stripe.h"
#include "nn/vec.h"

/* The variance is taken around the mean: the sum of squares minus the squared sum would lose
 * all its digits in a channel block with a large mean, and the row is in cache by then. */
static void layernorm_row_fwd(elem *y, float *stats, const elem *x, const elem *residual,
                              const elem *w, const elem *b, float eps, int64_t C)
{
    vec sum = {0}, squares = {0};
    EACH_VEC(c, k, C) sum += vec_load(x + c, k);
    const float mean = vec_sum(sum) / (float)C;
    EACH_VEC(c, k, C)
    {
        const vec d = vec_first(vec_load(x + c, k) - mean, k);
        squares += d * d;
    }
    const float rstd = 1.0f / sqrtf(vec_sum(squares) / (float)C + eps);
    EACH_VEC(c, k, C)
    {
        const vec xhat = (vec_load(x + c, k) - mean) * rstd;
        vec yc = xhat * vec_load(w + c, k) + vec_load(b + c, k);
        if (residual) yc += vec_load(residual + c, k);
        vec_store(y + c, yc, k);
    }
    stats[0] = mean;
    stats[1] = rstd;
}

void NN_CPU(layernorm_fwd)(int threads, elem *y, float *stats, const elem *x,
                           const elem *residual, const elem *w, const elem *b, float eps,
                           int64_t N, int64_t C)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t n = 0; n < N; n++)
        layernorm_row_fwd(y + n * C, stats + 2 * n, x + n * C,
                          residual ? residual + n * C : NULL, w, b, eps, C);
}

/* What backward needs besides rows. */
struct layernorm {
    const elem *w;
    float *dw, *db; /* of this thread */
    int64_t C;
    bool adds;
};

/* g = dy * w      dx = before + rstd * (g - mean(g) - xhat * mean(g * xhat))
 * dw += dy * xhat      db += dy */
static void layernorm_row_bwd(const struct layernorm *p, elem *dx, const elem *dy,
                              const elem *x, const float *stats)
{
    const float mean = stats[0], rstd = stats[1];
    vec sum_g = {0}, sum_gx = {0};
    EACH_VEC(c, k, p->C)
    {
        const vec g = vec_load(dy + c, k) * vec_load(p->w + c, k);
        sum_g += g;
        sum_gx += g * (vec_load(x + c, k) - mean);
    }
    const float mean_g = vec_sum(sum_g) / (float)p->C;
    const float mean_gx = vec_sum(sum_gx) * rstd / (float)p->C;
    EACH_VEC(c, k, p->C)
    {
        const vec xhat = (vec_load(x + c, k) - mean) * rstd, d = vec_load(dy + c, k);
        const vec before = p->adds ? vec_load(dx + c, k) : (vec){0};
        const vec g = d * vec_load(p->w + c, k);
        vec_add_to(p->dw + c, d * xhat, k);
        vec_add_to(p->db + c, d, k);
        vec_store(dx + c, before + rstd * (g - mean_g - xhat * mean_gx), k);
    }
}

void NN_CPU(layernorm_bwd)(int threads, elem *dx, float *dw, float *db, float *partial,
                           const elem *dy, const elem *x, const float *stats,
                           const elem *w, int64_t N, int64_t C, bool adds)
{
#pragma omp parallel num_threads(threads)
    {
        /* [threads, C] of dw, then [threads, C] of db */
        float *partial_db = partial + omp_get_num_threads() * C;
        const struct layernorm p = {.w = w,
                                    .dw = stripe_partial(partial, C),
                                    .db = stripe_partial(partial_db, C),
                                    .C = C,
                                    .adds = adds};
#pragma omp for schedule(static)
        for (int64_t n = 0; n < N; n++)
            layernorm_row_bwd(&p, dx + n * C, dy + n * C, x + n * C, stats + 2 * n);
        stripe_add_partials(dw, partial, C);
        stripe_add_partials(db, partial_db, C);
    }
}
