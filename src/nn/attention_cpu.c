/* Attention forward: a thread takes a tile of query rows of one head and goes over the key rows
 * they see, tile by tile, with a running maximum and sum (Milakov and Gimelshein 2018,
 * arXiv:1805.02867, section 3). */
#include <math.h>
#include <omp.h>

#include "nn/attention_tile.h"
#include "nn/ops_cpu.h"
#include "nn/simd_math.h"

struct query_tile {
    int64_t b, h, q0, q1; /* sequence, query head, rows [q0, q1) */
    float *scores;        /* [q1 - q0, ld], ld <= ATTENTION_K */
    float *sum_v;         /* [q1 - q0, D]: sum over keys of exp(score - max) v */
    float *max, *sum;     /* [q1 - q0], running */
    const float *q;       /* q_ld apart */
    int64_t q_ld;
    float *q_copy, *k_copy, *v_copy;
};

/* The largest of `max` and the scores in the span, which is filled up with -infinity. */
static float row_max(float *s, struct attention_span span, float max)
{
    attention_fill_edges(s, span, -HUGE_VALF);
    float m = max;
#pragma omp simd reduction(max : m)
    for (int64_t j = span.from; j < span.to; j++) m = s[j] > m ? s[j] : m;
    return m;
}

/* Scores in the span become exp(s - max), the others of the n become 0; returns their sum. */
static float row_exp(float *s, struct attention_span span, int64_t n, float max)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = span.from; j < span.to; j++) {
        s[j] = nn_exp(s[j] - max);
        sum += s[j];
    }
    attention_zero_outside(s, span, n);
    return sum;
}

static void scale_row(float *x, float by, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) x[i] *= by;
}

/* Scores [nq, ld] of keys [k0, k1) become exp(score - max).  Three loops, because in one each
 * row would wait for its maximum, then for the factor, then for the sum. */
static void softmax_rows(struct query_tile *t, const struct attention_view *a, int64_t k0,
                         int64_t k1, int64_t ld)
{
    const int64_t nq = t->q1 - t->q0;
    struct attention_span span[ATTENTION_Q];
    float keep[ATTENTION_Q]; /* what was summed before is to be multiplied by */
    for (int64_t i = 0; i < nq; i++) {
        span[i] = attention_row_span(a, t->b, t->q0 + i, k0, k1);
        keep[i] = t->max[i];
        t->max[i] = row_max(t->scores + i * ld, span[i], t->max[i]);
    }
    for (int64_t i = 0; i < nq; i++)
        keep[i] = keep[i] == t->max[i] ? 1 : nn_exp(keep[i] - t->max[i]);
    for (int64_t i = 0; i < nq; i++) {
        const float sum = row_exp(t->scores + i * ld, span[i], ld, t->max[i]);
        t->sum[i] = t->sum[i] * keep[i] + sum;
        if (keep[i] != 1) scale_row(t->sum_v + i * a->D, keep[i], a->D);
    }
}

/* Key rows [k0, k1) for all query rows of the tile. */
static void add_keys(struct query_tile *t, const elem *kv_rows,
                     const struct attention_view *a, int64_t k0, int64_t k1)
{
    const int64_t D = a->D, kv_head = (t->h + a->first) / a->group;
    const elem *row = kv_rows + (t->b * a->Tk + k0) * a->kv_width + kv_head * D;
    const int64_t nq = t->q1 - t->q0, nk = k1 - k0, ld = attention_pad(nk);
    int64_t k_ld = a->kv_width, v_ld = a->kv_width;
    const float *k = rows_in_fp32(t->k_copy, row + a->k_at, &k_ld, nk, D);
    const float *v = rows_in_fp32(t->v_copy, row + a->v_at, &v_ld, nk, D);
    nn_gemm(false, true, nq, nk, D, a->scale, t->q, t->q_ld, k, k_ld, 0, t->scores, ld);
    softmax_rows(t, a, k0, k1, ld);
    nn_gemm(false, false, nq, D, nk, 1, t->scores, ld, v, v_ld, 1, t->sum_v, D);
}

/* Nothing was seen yet, or what y and lse tell. */
static void begin_tile(struct query_tile *t, const struct tensor *y, const float *lse,
                       bool fresh, const struct attention_view *a)
{
    for (int64_t i = 0; i < t->q1 - t->q0; i++) {
        const int64_t row = t->q0 + i, D = a->D;
        t->max[i] = fresh ? -HUGE_VALF : lse[(t->b * a->H + t->h) * a->Tq + row];
        const bool seen = t->max[i] > -HUGE_VALF;
        t->sum[i] = seen ? 1 : 0;
        if (seen)
            memcpy(t->sum_v + i * D,
                   tensor_f32(y) + ((t->b * a->Tq + row) * a->H + t->h) * D,
                   (size_t)D * sizeof(float));
        else
            memset(t->sum_v + i * D, 0, (size_t)D * sizeof(float));
    }
}

/* Numbers [at, at + n) of y. */
static void write_row(const struct tensor *y, int64_t at, const float *from, float by,
                      int64_t n)
{
    float *row = (float *)y->data + at;
    elem *low = (elem *)y->data + at;
    if (y->dtype == DTYPE_F32)
#pragma omp simd
        for (int64_t i = 0; i < n; i++) row[i] = from[i] * by;
    else
#pragma omp simd
        for (int64_t i = 0; i < n; i++) low[i] = put(from[i] * by);
}

static void forward_tile(struct query_tile *t, const struct tensor *y, float *lse,
                         const elem *q, const elem *kv, bool fresh,
                         const struct attention_view *a)
{
    const int64_t nq = t->q1 - t->q0, D = a->D;
    int64_t first, end;
    begin_tile(t, y, lse, fresh, a);
    t->q_ld = a->q_width;
    t->q = rows_in_fp32(t->q_copy, q + (t->b * a->Tq + t->q0) * a->q_width + t->h * D,
                        &t->q_ld, nq, D);
    attention_tile_keys(a, t->b, t->q0, t->q1, &first, &end);
    for (int64_t k0 = first; k0 < end; k0 += ATTENTION_K)
        add_keys(t, kv, a, k0, attention_min(k0 + ATTENTION_K, end));

    for (int64_t i = 0; i < nq; i++) {
        const bool seen = t->sum[i] > 0;
        write_row(y, ((t->b * a->Tq + t->q0 + i) * a->H + t->h) * D, t->sum_v + i * D,
                  seen ? 1 / t->sum[i] : 0, D);
        lse[(t->b * a->H + t->h) * a->Tq + t->q0 + i] =
            seen ? t->max[i] + logf(t->sum[i]) : -HUGE_VALF;
    }
}

void NN_CPU(attention_fwd)(int threads, const struct tensor *y, float *lse,
                           float *scratch, const elem *q, const elem *kv, bool fresh,
                           const struct attention_view *a)
{
    const int64_t tiles = attention_ceil_div(a->Tq, ATTENTION_Q);
#pragma omp parallel num_threads(threads)
    {
        float *mine = scratch + omp_get_thread_num() * attention_fwd_floats(a);
        struct query_tile t = {.scores = mine};
        t.sum_v = t.scores + ATTENTION_Q * ATTENTION_K;
        t.max = t.sum_v + attention_pad(ATTENTION_Q * a->D);
        t.sum = t.max + attention_pad(ATTENTION_Q);
        t.q_copy = t.sum + attention_pad(ATTENTION_Q);
        t.k_copy = t.q_copy + ATTENTION_Q * a->D;
        t.v_copy = t.k_copy + ATTENTION_K * a->D;
        /* a tile's result does not depend on who computes it; late, long tiles go first */
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < a->B * a->H * tiles; i++) {
            t.b = i / tiles / a->H, t.h = i / tiles % a->H;
            t.q0 = (tiles - 1 - i % tiles) * ATTENTION_Q;
            t.q1 = attention_min(t.q0 + ATTENTION_Q, a->Tq);
            forward_tile(&t, y, lse, q, kv, fresh, a);
        }
    }
}
