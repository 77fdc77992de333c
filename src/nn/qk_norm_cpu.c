#include "nn/ops_cpu.h"

#include <math.h>

#include "nn/stripe.h"
#include "nn/vec.h"

/* A row's queries and keys: where each begins, and what its statistics say. */
struct part {
    int64_t first, n; /* columns */
    int64_t others;   /* of them, at the start, that another rank counts */
    float rstd, pull; /* pull: rstd^3 dot / width */
};

static void parts_of(struct part part[2], const struct nn_qk_norm *p, const float *sums,
                     const float *dots)
{
    const int64_t width[2] = {p->q_width, p->k_width};
    part[0] = (struct part){.n = p->q};
    part[1] = (struct part){.first = p->q, .n = p->k, .others = p->k_others};
    for (int i = 0; i < 2 && sums; i++) {
        const float rstd = 1.0f / sqrtf(sums[i] / (float)width[i] + p->eps);
        part[i].rstd = rstd;
        part[i].pull = dots ? dots[i] / (float)width[i] * rstd * rstd * rstd : 0;
    }
}

static float sum_of_squares(const elem *x, int64_t n)
{
    vec sum = {0};
    EACH_VEC(c, k, n)
    {
        const vec xc = vec_load(x + c, k);
        sum += xc * xc;
    }
    return vec_sum(sum);
}

void NN_CPU(qk_norm_sums)(int threads, float *sums, elem *raw, const elem *qkv, int64_t N,
                          int64_t W, const struct nn_qk_norm *p)
{
    const int64_t C = p->q + p->k, counted = p->q + p->k_others;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t n = 0; n < N; n++) {
        const elem *x = qkv + n * W;
        memcpy(raw + n * C, x, (size_t)C * sizeof *raw);
        sums[2 * n] = sum_of_squares(x, p->q);
        sums[2 * n + 1] = sum_of_squares(x + counted, C - counted);
    }
}

void NN_CPU(qk_norm_fwd)(int threads, elem *qkv, const elem *raw, const float *sums,
                         int64_t N, int64_t W, const struct nn_qk_norm *p)
{
    const int64_t C = p->q + p->k;
    const elem *w = elems(p->w);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t n = 0; n < N; n++) {
        struct part part[2];
        parts_of(part, p, sums + 2 * n, NULL);
        for (int i = 0; i < 2; i++) {
            elem *y = qkv + n * W + part[i].first;
            const elem *x = raw + n * C + part[i].first, *wi = w + part[i].first;
            EACH_VEC(c, k, part[i].n)
            vec_store(y + c, vec_load(x + c, k) * part[i].rstd * vec_load(wi + c, k), k);
        }
    }
}

void NN_CPU(qk_norm_dots)(int threads, float *dots, const elem *dqkv, const elem *raw,
                          int64_t N, int64_t W, const struct nn_qk_norm *p)
{
    const int64_t C = p->q + p->k;
    const elem *w = elems(p->w);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t n = 0; n < N; n++) {
        struct part part[2];
        parts_of(part, p, NULL, NULL);
        for (int i = 0; i < 2; i++) {
            const elem *dy = dqkv + n * W + part[i].first, *wi = w + part[i].first;
            const elem *x = raw + n * C + part[i].first;
            vec dot = {0};
            EACH_VEC(c, k, part[i].n)
            dot += vec_load(dy + c, k) * vec_load(wi + c, k) * vec_load(x + c, k);
            dots[2 * n + i] = vec_sum(dot);
        }
    }
}

static void columns_bwd(elem *d, float *dw, const elem *x, const elem *w, float rstd,
                        float pull, int64_t n)
{
    EACH_VEC(c, k, n)
    {
        const vec g = vec_load(d + c, k) * rstd, xc = vec_load(x + c, k);
        vec_add_to(dw + c, g * xc, k);
        vec_store(d + c, g * vec_load(w + c, k) - pull * xc, k);
    }
}

static void part_bwd(elem *d, float *dw, const elem *x, const elem *w,
                     const struct part *part)
{
    const int64_t o = part->others;
    columns_bwd(d, dw, x, w, part->rstd, 0, o);
    columns_bwd(d + o, dw + o, x + o, w + o, part->rstd, part->pull, part->n - o);
}

void NN_CPU(qk_norm_bwd)(int threads, elem *dqkv, float *partial, const elem *raw,
                         const float *sums, const float *dots, int64_t N, int64_t W,
                         const struct nn_qk_norm *p)
{
    const int64_t C = p->q + p->k;
    const elem *w = elems(p->w);
#pragma omp parallel num_threads(threads)
    {
        float *mine = stripe_partial(partial, C);
#pragma omp for schedule(static)
        for (int64_t n = 0; n < N; n++) {
            struct part part[2];
            parts_of(part, p, sums + 2 * n, dots + 2 * n);
            for (int i = 0; i < 2; i++)
                part_bwd(dqkv + n * W + part[i].first, mine + part[i].first,
                         raw + n * C + part[i].first, w + part[i].first, &part[i]);
        }
        stripe_add_partials(tensor_f32(p->dw), partial, C);
    }
}
