#include "nn/ops_cpu.h"

#include <math.h>

#include "nn/stripe.h"
#include "nn/vec.h"

static void rmsnorm_row_fwd(elem *y, float *rstd, const elem *x, const elem *residual,
                            const elem *w, float eps, int64_t C)
{
    vec sum = {0};
    EACH_VEC(c, k, C)
    {
        const vec xc = vec_load(x + c, k);
        sum += xc * xc;
    }
    const float r = 1.0f / sqrtf(vec_sum(sum) / (float)C + eps);
    EACH_VEC(c, k, C)
    {
        vec yc = vec_load(x + c, k) * r * vec_load(w + c, k);
        if (residual) yc += vec_load(residual + c, k);
        vec_store(y + c, yc, k);
    }
    *rstd = r;
}

void NN_CPU(rmsnorm_fwd)(int threads, elem *y, float *rstd, const elem *x,
                         const elem *residual, const elem *w, float eps, int64_t N,
                         int64_t C)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t n = 0; n < N; n++)
        rmsnorm_row_fwd(y + n * C, rstd + n, x + n * C,
                        residual ? residual + n * C : NULL, w, eps, C);
}

/* g = dy * w      dx = before + rstd * (g - x * rstd^2 * mean(g * x))      dw += dy * x * rstd */
static void rmsnorm_row_bwd(elem *dx, float *dw, const elem *dy, const elem *x,
                            float rstd, const elem *w, int64_t C, bool adds)
{
    vec dots = {0};
    EACH_VEC(c, k, C)
    dots += vec_load(dy + c, k) * vec_load(w + c, k) * vec_load(x + c, k);
    const float pull = vec_sum(dots) / (float)C * rstd * rstd * rstd;
    EACH_VEC(c, k, C)
    {
        const vec d = vec_load(dy + c, k) * rstd, xc = vec_load(x + c, k);
        const vec before = adds ? vec_load(dx + c, k) : (vec){0};
        vec_add_to(dw + c, d * xc, k);
        vec_store(dx + c, before + (d * vec_load(w + c, k) - pull * xc), k);
    }
}

void NN_CPU(rmsnorm_bwd)(int threads, elem *dx, float *dw, float *partial, const elem *dy,
                         const elem *x, const float *rstd, const elem *w, int64_t N,
                         int64_t C, bool adds)
{
#pragma omp parallel num_threads(threads)
    {
        float *mine = stripe_partial(partial, C);
#pragma omp for schedule(static)
        for (int64_t n = 0; n < N; n++)
            rmsnorm_row_bwd(dx + n * C, mine, dy + n * C, x + n * C, rstd[n], w, C, adds);
        stripe_add_partials(dw, partial, C);
    }
}
