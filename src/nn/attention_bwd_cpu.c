/* Attention backward: a thread takes key tiles of one kv head of a sequence and goes over the
 * query rows that see them, of all query heads of the group, so dk and dv are written once.
 * Forward was S = scale q k^T, P = exp(S - lse), y = P v, hence
 *   dv = P^T dy    dS = P * (dy v^T - delta)    dq = scale dS k    dk = scale dS^T q */
#include <math.h>
#include <omp.h>

#include "nn/attention_tile.h"
#include "nn/ops_cpu.h"
#include "nn/simd_math.h"

struct backward {
    const struct attention_view *a;
    const elem *q, *kv, *dy;
    const float *lse, *delta;
    const struct attention_gradients *g;
    float *dq_parts;       /* [parts - direct, B*Tq, H*D] */
    int64_t parts, direct; /* direct: 1 if the first part adds to g->dq itself */
};

/* One part of the key tiles of one kv head, with the thread's buffers. */
struct key_part {
    int64_t b, kv_head, part;
    int64_t h0, h1; /* query heads that use it */
    float *dq;      /* where this part adds dq of sequence b */
    int64_t dq_ld;
    float *p, *ds;  /* [ATTENTION_Q, ATTENTION_K] */
    float *dk, *dv; /* [ATTENTION_K, D] */
    int64_t k0, k1; /* the key tile at hand, ... */
    const float *k, *v;
    int64_t k_ld, v_ld; /* ... its rows */
    float *k_copy, *v_copy, *q_copy, *dy_copy;
};

/* In the span p = exp(s - lse) over s and ds = p * (dp - delta) over dp, elsewhere 0. */
static void gradient_row(float *p, float *ds, struct attention_span span, int64_t n,
                         float lse, float delta)
{
    attention_fill_edges(p, span, -HUGE_VALF);
    attention_fill_edges(ds, span, 0);
#pragma omp simd
    for (int64_t j = span.from; j < span.to; j++) {
        p[j] = nn_exp(p[j] - lse);
        ds[j] = p[j] * (ds[j] - delta);
    }
    attention_zero_outside(p, span, n);
    attention_zero_outside(ds, span, n);
}

/* Query rows [q0, q1) of head h against key rows [k0, k1) inside the key tile. */
static void backward_tile(const struct backward *w, const struct key_part *t, int64_t h,
                          int64_t q0, int64_t q1, int64_t k0, int64_t k1)
{
    const struct attention_view *a = w->a;
    const int64_t D = a->D, HD = a->H * D, row = t->b * a->Tq;
    const int64_t nq = q1 - q0, nk = k1 - k0, ld = attention_pad(nk);
    const float *k = t->k + (k0 - t->k0) * t->k_ld, *v = t->v + (k0 - t->k0) * t->v_ld;
    int64_t q_ld = a->q_width, dy_ld = HD;
    const float *q =
        rows_in_fp32(t->q_copy, w->q + (row + q0) * a->q_width + h * D, &q_ld, nq, D);
    const float *dy =
        rows_in_fp32(t->dy_copy, w->dy + (row + q0) * HD + h * D, &dy_ld, nq, D);
    const int64_t head_row = (t->b * a->H + h) * a->Tq;
    float *dk = t->dk + (k0 - t->k0) * D, *dv = t->dv + (k0 - t->k0) * D;
    float *dq = t->dq + q0 * t->dq_ld + h * D;

    nn_gemm(false, true, nq, nk, D, a->scale, q, q_ld, k, t->k_ld, 0, t->p, ld);
    nn_gemm(false, true, nq, nk, D, 1, dy, dy_ld, v, t->v_ld, 0, t->ds, ld);
    for (int64_t i = q0; i < q1; i++) {
        const struct attention_span span = attention_row_span(a, t->b, i, k0, k1);
        gradient_row(t->p + (i - q0) * ld, t->ds + (i - q0) * ld, span, ld,
                     w->lse[head_row + i], w->delta[head_row + i]);
    }
    nn_gemm(true, false, nk, D, nq, 1, t->p, ld, dy, dy_ld, 1, dv, D);
    nn_gemm(true, false, nk, D, nq, a->scale, t->ds, ld, q, q_ld, 1, dk, D);
    nn_gemm(false, false, nq, D, nk, a->scale, t->ds, ld, k, t->k_ld, 1, dq, t->dq_ld);
}

/* Numbers [at, at + n) of a gradient. */
static void write_row(const struct tensor *g, int64_t at, const float *from, int64_t n)
{
    elem *low = (elem *)g->data + at;
    if (g->dtype == DTYPE_F32) {
        memcpy((float *)g->data + at, from, (size_t)n * sizeof *from);
        return;
    }
#pragma omp simd
    for (int64_t i = 0; i < n; i++) low[i] = put(from[i]);
}

static void backward_keys(const struct backward *w, struct key_part *t)
{
    const struct attention_view *a = w->a;
    const int64_t D = a->D, n = t->k1 - t->k0;
    memset(t->dk, 0, (size_t)(n * D) * sizeof *t->dk);
    memset(t->dv, 0, (size_t)(n * D) * sizeof *t->dv);
    const int64_t at = (t->b * a->Tk + t->k0) * a->kv_width + t->kv_head * D;
    t->k_ld = t->v_ld = a->kv_width;
    t->k = rows_in_fp32(t->k_copy, w->kv + at + a->k_at, &t->k_ld, n, D);
    t->v = rows_in_fp32(t->v_copy, w->kv + at + a->v_at, &t->v_ld, n, D);
    for (int64_t q0 = a->high ? 0 : t->k0; q0 < a->Tq; q0 += ATTENTION_Q) {
        const int64_t q1 = attention_min(q0 + ATTENTION_Q, a->Tq);
        int64_t first, end;
        attention_tile_keys(a, t->b, q0, q1, &first, &end);
        const int64_t k0 = first > t->k0 ? first : t->k0;
        const int64_t k1 = attention_min(t->k1, end);
        if (k0 >= k1) continue;
        for (int64_t h = t->h0; h < t->h1; h++) backward_tile(w, t, h, q0, q1, k0, k1);
    }
    for (int64_t j = 0; j < n; j++) {
        write_row(w->g->dkv, at + j * a->kv_width + a->k_at, t->dk + j * D, D);
        write_row(w->g->dkv, at + j * a->kv_width + a->v_at, t->dv + j * D, D);
    }
}

/* The key tiles of a part: in rounds, every other one backwards, because the first tiles are
 * seen by more query rows than the last. */
static void backward_part(const struct backward *w, struct key_part *t)
{
    const struct attention_view *a = w->a;
    const int64_t HD = a->H * a->D, first_head = t->kv_head * a->group - a->first;
    t->h0 = first_head > 0 ? first_head : 0;
    t->h1 = attention_min(first_head + a->group, a->H);
    const bool direct = t->part < w->direct;
    t->dq_ld = direct ? w->g->dq_width : HD;
    t->dq = direct ? tensor_f32(w->g->dq)
                   : w->dq_parts + (t->part - w->direct) * attention_bwd_part_floats(a);
    t->dq += t->b * a->Tq * t->dq_ld;
    for (int64_t i = 0; i < a->Tq && !(w->g->adds && direct); i++)
        memset(t->dq + i * t->dq_ld + t->h0 * a->D, 0,
               (size_t)((t->h1 - t->h0) * a->D) * sizeof *t->dq);

    const int64_t tiles = attention_ceil_div(a->Tk, ATTENTION_K);
    for (int64_t round = 0; round * w->parts < tiles; round++) {
        const int64_t place = round % 2 ? w->parts - 1 - t->part : t->part;
        t->k0 = (round * w->parts + place) * ATTENTION_K;
        t->k1 = attention_min(t->k0 + ATTENTION_K, a->Tk);
        if (t->k0 < t->k1) backward_keys(w, t);
    }
}

/* delta[b,h,i] = sum_d dy[b,i,h,d] y[b,i,h,d] */
static void delta_row(float *delta, const elem *dy, const elem *y,
                      const struct attention_view *a, int64_t n)
{
    const int64_t b = n / a->Tq, i = n % a->Tq, D = a->D;
    for (int64_t h = 0; h < a->H; h++) {
        const elem *u = dy + (n * a->H + h) * D, *v = y + (n * a->H + h) * D;
        float s = 0;
#pragma omp simd reduction(+ : s)
        for (int64_t d = 0; d < D; d++) s += get(u[d]) * get(v[d]);
        delta[(b * a->H + h) * a->Tq + i] = s;
    }
}

static void add_parts(const struct backward *w, int64_t n)
{
    const int64_t HD = w->a->H * w->a->D, kept = w->parts - w->direct;
    float *first =
        w->direct ? tensor_f32(w->g->dq) + n * w->g->dq_width : w->dq_parts + n * HD;
    for (int64_t part = w->direct ? 0 : 1; part < kept; part++) {
        const float *from = w->dq_parts + part * attention_bwd_part_floats(w->a) + n * HD;
#pragma omp simd
        for (int64_t i = 0; i < HD; i++) first[i] += from[i];
    }
    if (!w->direct) write_row(w->g->dq, n * w->g->dq_width, first, HD);
}

void NN_CPU(attention_bwd)(int threads, const struct attention_gradients *g,
                           float *scratch, const elem *dy, const elem *y,
                           const float *lse, const elem *q, const elem *kv,
                           const struct attention_view *a)
{
    const int64_t N = a->B * a->Tq;
    float *delta = scratch;
    struct backward w = {.a = a, .q = q, .kv = kv, .dy = dy, .lse = lse, .delta = delta};
    w.g = g;
    w.direct = g->dq->dtype == DTYPE_F32;
    w.dq_parts = delta + attention_pad(a->B * a->H * a->Tq);
    w.parts = attention_bwd_parts(a, threads);
    float *tiles = w.dq_parts + attention_bwd_parts_floats(a, threads, w.direct);
#pragma omp parallel num_threads(threads)
    {
        struct key_part t = {0};
        t.p = tiles + omp_get_thread_num() * attention_bwd_floats(a);
        t.ds = t.p + ATTENTION_Q * ATTENTION_K;
        t.dk = t.ds + ATTENTION_Q * ATTENTION_K;
        t.dv = t.dk + attention_pad(ATTENTION_K * a->D);
        t.k_copy = t.dv + attention_pad(ATTENTION_K * a->D);
        t.v_copy = t.k_copy + ATTENTION_K * a->D;
        t.q_copy = t.v_copy + ATTENTION_K * a->D;
        t.dy_copy = t.q_copy + ATTENTION_Q * a->D;
#pragma omp for schedule(static)
        for (int64_t n = 0; n < N; n++) delta_row(delta, dy, y, a, n);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < a->B * a->K * w.parts; i++) {
            t.b = i / w.parts / a->K, t.kv_head = i / w.parts % a->K;
            t.part = i % w.parts;
            backward_part(&w, &t);
        }
#pragma omp for schedule(static)
        for (int64_t n = 0; n < N; n++) add_parts(&w, n);
    }
}
