#include "nn/ops_cpu.h"

#include <math.h>

#include "nn/stripe.h"

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
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < n; c++) sum += get(x[c]) * get(x[c]);
    return sum;
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
#pragma omp simd
            for (int64_t c = 0; c < part[i].n; c++)
                y[c] = put(get(x[c]) * part[i].rstd * get(wi[c]));
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
            float dot = 0;
#pragma omp simd reduction(+ : dot)
            for (int64_t c = 0; c < part[i].n; c++)
                dot += get(dy[c]) * get(wi[c]) * get(x[c]);
            dots[2 * n + i] = dot;
        }
    }
}

static void part_bwd(elem *restrict d, float *restrict dw, const elem *restrict x,
                     const elem *restrict w, const struct part *part)
{
#pragma omp simd
    for (int64_t c = 0; c < part->others; c++) {
        const float g = get(d[c]) * part->rstd;
        dw[c] += g * get(x[c]);
        d[c] = put(g * get(w[c]));
    }
#pragma omp simd
    for (int64_t c = part->others; c < part->n; c++) {
        const float g = get(d[c]) * part->rstd;
        dw[c] += g * get(x[c]);
        d[c] = put(g * get(w[c]) - part->pull * get(x[c]));
    }
}

void NN_CPU(qk_norm_bwd)(int threads, elem *dqkv, float *partial, const elem *raw,
                         const float *sums, const float *dots, int64_t N, int64_t W,
                         const struct nn_qk_norm *p)
{
    const int64_t C = p->q + p->k;
    const elem *w = elems(p->w);
#pragma omp parallel num_threads(threads)
    {
        float *mine = partial + omp_get_thread_num() * C;
        memset(mine, 0, (size_t)C * sizeof *mine);
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
