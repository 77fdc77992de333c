/* Attention forward: a thread takes query rows of one head and goes over the key rows they see, tile
 * by tile, with a running maximum and sum (Milakov and Gimelshein 2018, arXiv:1805.02867, section 3).
 *
 * Scores are made transposed, a row for each key and a column for each of 32 queries, so that whatever
 * softmax does to one query it does to a whole vector of them, and its weights already lie as the
 * second product wants them:
 *   S^T = K q^T      P^T = 2^(S^T scale log2(e) - max)      sum_v^T += V^T P^T */
#include <math.h>
#include <omp.h>

#include "nn/attention_tile.h"
#include "nn/ops_cpu.h"
#include "nn/simd_math.h"

static const float LOG2_E = 1.44269504088896341f, LN_2 = 0.69314718055994531f;
static const float NOTHING_SEEN =
    -1e30f; /* the maximum then; -infinity less itself would be NaN */

struct query_rows {
    int64_t b, h, q0, q1; /* sequence, query head, rows [q0, q1) */
    struct attention_seen seen[ATTENTION_MOST / TILE_PANEL];
    struct attention_fwd_room room; /* q, sum_v, max, sum: of all rows */
    int64_t k0;                     /* the first of the key rows at hand, ... */
    struct left k, v;               /* ... they themselves */
};

/* Scores of keys from `key` on, n of them, that a query does not see become -infinity. */
static void hide(float *s, const struct attention_seen *seen, int64_t key, int64_t n)
{
    int64_t from, to;
    attention_seen_by_all(seen, &from, &to);
    for (int64_t i = 0; i < n; i++, s += TILE_PANEL) {
        const int32_t k = (int32_t)(key + i);
        if (from <= k && k < to) continue;
#pragma omp simd
        for (int64_t j = 0; j < TILE_PANEL; j++)
            s[j] = seen->low[j] <= k && k < seen->high[j] ? s[j] : -HUGE_VALF;
    }
}

static inline float larger(float a, float b)
{
    return a > b ? a : b;
}

/* top[j] = the largest of column j of n rows, an even number */
static void column_max(float *top, const float *s, int64_t n)
{
    enum { AT_ONCE = 8 }; /* and in pairs: a maximum waits for the one before */
    int64_t i = 0;
    for (int64_t j = 0; j < TILE_PANEL; j++) top[j] = -HUGE_VALF;
    for (; i + AT_ONCE <= n; i += AT_ONCE, s += AT_ONCE * TILE_PANEL)
#pragma omp simd
        for (int64_t j = 0; j < TILE_PANEL; j++) {
            float m[AT_ONCE];
            for (int64_t r = 0; r < AT_ONCE; r++) m[r] = s[r * TILE_PANEL + j];
            const float a = larger(larger(m[0], m[1]), larger(m[2], m[3]));
            const float b = larger(larger(m[4], m[5]), larger(m[6], m[7]));
            top[j] = larger(top[j], larger(a, b));
        }
    for (; i < n; i++, s += TILE_PANEL)
#pragma omp simd
        for (int64_t j = 0; j < TILE_PANEL; j++) top[j] = larger(top[j], s[j]);
}

/* The maximum grows to what n rows of scores have; what was summed before shrinks. */
static void raise_max(float *max, float *sum, float *sum_v, const float *s, int64_t n,
                      float scale, int64_t D)
{
    float keep[TILE_PANEL];
    bool all_kept = true;
    column_max(keep, s, n);
    for (int64_t j = 0; j < TILE_PANEL; j++) {
        const float m = larger(max[j], keep[j] * scale);
        all_kept = all_kept && m == max[j];
        keep[j] = max[j] - m;
        max[j] = m;
    }
    if (all_kept) return;
#pragma omp simd
    for (int64_t j = 0; j < TILE_PANEL; j++) {
        keep[j] = nn_exp2(keep[j], false);
        sum[j] *= keep[j];
    }
    for (int64_t d = 0; d < D; d++, sum_v += TILE_PANEL)
#pragma omp simd
        for (int64_t j = 0; j < TILE_PANEL; j++) sum_v[j] *= keep[j];
}

/* p = 2^(s scale - max), of n rows, an even number, which are summed */
static void weights(factor *p, float *sum, const float *s, int64_t n, float scale,
                    const float *max)
{
    float part[TILE_PANEL] = {0};
    for (int64_t i = 0; i < n; i += 2, s += 2 * TILE_PANEL) {
#pragma omp simd
        for (int64_t j = 0; j < TILE_PANEL; j++) {
            const bool rough = sizeof(factor) < sizeof(float);
            const float low = nn_exp2(s[j] * scale - max[j], rough);
            const float high = nn_exp2(s[TILE_PANEL + j] * scale - max[j], rough);
            part[j] += low + high;
            right_put(p, i, j, low, high);
        }
    }
    for (int64_t j = 0; j < TILE_PANEL; j++) sum[j] += part[j];
}

/* Key rows [k0, k1), which are at hand, for one tile of 32 query rows. */
static void add_keys(struct query_rows *t, const struct attention_view *a, int64_t tile,
                     int64_t k1)
{
    const struct attention_seen *seen = &t->seen[tile];
    const int64_t D = a->D, panel = tile_pad(D) * TILE_PANEL;
    int64_t from = attention_max(seen->first - t->k0, 0);
    int64_t to = attention_min(seen->end, k1) - t->k0;
    if (from >= to) return;
    from = from / TILE_GRAIN * TILE_GRAIN;
    to = attention_ceil_div(to, TILE_GRAIN) * TILE_GRAIN;
    const struct left k = left_from_row(&t->k, from);
    const struct left v = left_from_column(&t->v, from);
    const float scale = a->scale * LOG2_E;
    float *s = t->room.scores, *sum_v = t->room.sum_v + tile * panel;
    float *max = t->room.max + tile * TILE_PANEL, *sum = t->room.sum + tile * TILE_PANEL;
    tile_product(s, &k, t->room.q + tile * panel, to - from, D, false);
    hide(s, seen, t->k0 + from, to - from);
    raise_max(max, sum, sum_v, s, to - from, scale, D);
    weights(t->room.p, sum, s, to - from, scale, max);
    tile_product(sum_v, &v, t->room.p, D, to - from, true);
}

/* Nothing was seen yet, or what y and lse tell. */
static void begin_tile(struct query_rows *t, const struct tensor *y, const float *lse,
                       bool fresh, const struct attention_view *a, int64_t tile)
{
    const int64_t D = a->D, panel = tile_pad(D) * TILE_PANEL;
    float *max = t->room.max + tile * TILE_PANEL, *sum = t->room.sum + tile * TILE_PANEL;
    float *sum_v = t->room.sum_v + tile * panel;
    memset(sum_v, 0, (size_t)panel * sizeof *sum_v);
    for (int64_t j = 0; j < TILE_PANEL; j++) {
        const int64_t row = t->q0 + tile * TILE_PANEL + j;
        max[j] = NOTHING_SEEN;
        sum[j] = 0;
        if (fresh || row >= t->q1) continue;
        const float before = lse[(t->b * a->H + t->h) * a->Tq + row];
        if (before == -HUGE_VALF) continue;
        const float *from = tensor_f32(y) + ((t->b * a->Tq + row) * a->H + t->h) * D;
        max[j] = before * LOG2_E;
        sum[j] = 1;
        for (int64_t d = 0; d < D; d++) sum_v[d * TILE_PANEL + j] = from[d];
    }
}

static void end_tile(struct query_rows *t, const struct tensor *y, float *lse,
                     const struct attention_view *a, int64_t tile)
{
    const int64_t D = a->D, ld = tile_pad(D);
    const float *max = t->room.max + tile * TILE_PANEL;
    const float *sum = t->room.sum + tile * TILE_PANEL;
    float *rows = t->room.scores;
    attention_turn(rows, ld, t->room.sum_v + tile * ld * TILE_PANEL, D);
    for (int64_t j = 0; j < TILE_PANEL; j++, rows += ld) {
        const int64_t row = t->q0 + tile * TILE_PANEL + j;
        if (row >= t->q1) break;
        const bool seen = sum[j] > 0;
        attention_write(y, ((t->b * a->Tq + row) * a->H + t->h) * D, rows,
                        seen ? 1 / sum[j] : 0, D, false);
        lse[(t->b * a->H + t->h) * a->Tq + row] =
            seen ? max[j] * LN_2 + logf(sum[j]) : -HUGE_VALF;
    }
}

static void take_queries(struct query_rows *t, const elem *q,
                         const struct attention_view *a, int64_t tile)
{
    const int64_t row = t->q0 + tile * TILE_PANEL;
    const int64_t n = attention_min(t->q1 - row, TILE_PANEL);
    const struct left rows =
        left_rows(t->room.rows, q + (t->b * a->Tq + row) * a->q_width + t->h * a->D,
                  a->q_width, n, a->D);
    right_turned(t->room.q + tile * TILE_PANEL * tile_pad(a->D), &rows, n, a->D);
    attention_look(&t->seen[tile], a, t->b, row);
}

/* Key rows [k0, k1) are at hand from now on. */
static void take_keys(struct query_rows *t, const elem *kv,
                      const struct attention_view *a, int64_t k0, int64_t k1)
{
    const int64_t D = a->D, kv_head = (t->h + a->first) / a->group, n = k1 - k0;
    const elem *row = kv + (t->b * a->Tk + k0) * a->kv_width + kv_head * D;
    t->k0 = k0;
    t->k = left_rows(t->room.k, row + a->k_at, a->kv_width, n, D);
    const struct left v = left_rows(t->room.v_rows, row + a->v_at, a->kv_width, n, D);
    t->v = left_turned(t->room.v, &v, n, D);
}

static void forward_rows(struct query_rows *t, const struct tensor *y, float *lse,
                         const elem *q, const elem *kv, bool fresh,
                         const struct attention_view *a)
{
    const int64_t tiles = attention_ceil_div(t->q1 - t->q0, TILE_PANEL);
    int64_t first = a->Tk, end = 0;
    for (int64_t i = 0; i < tiles; i++) {
        take_queries(t, q, a, i);
        begin_tile(t, y, lse, fresh, a, i);
        first = attention_min(first, t->seen[i].first);
        end = attention_max(end, t->seen[i].end);
    }
    /* from a multiple of the tile, wherever the rows begin that see it */
    for (int64_t k0 = first / ATTENTION_FWD_KEYS * ATTENTION_FWD_KEYS; k0 < end;
         k0 += ATTENTION_FWD_KEYS) {
        const int64_t k1 = attention_min(k0 + ATTENTION_FWD_KEYS, end);
        take_keys(t, kv, a, k0, k1);
        for (int64_t i = 0; i < tiles; i++) add_keys(t, a, i, k1);
    }
    for (int64_t i = 0; i < tiles; i++) end_tile(t, y, lse, a, i);
}

void NN_CPU(attention_fwd)(int threads, const struct tensor *y, float *lse,
                           float *scratch, const elem *q, const elem *kv, bool fresh,
                           const struct attention_view *a)
{
    const int64_t rows = attention_fwd_rows(a, threads), heads = a->B * a->H;
    const int64_t pieces = attention_ceil_div(a->Tq, rows);
    CHECK(a->scale > 0); /* the largest score is that of the largest product */
#pragma omp parallel num_threads(threads)
    {
        struct query_rows t;
        const int64_t floats = attention_fwd_room(&t.room, NULL, a, rows);
        attention_fwd_room(&t.room, scratch + omp_get_thread_num() * floats, a, rows);
        tile_begin();
        /* a piece's result does not depend on who computes it; late, long pieces go first */
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < heads * pieces; i++) {
            t.b = i % heads / a->H, t.h = i % a->H;
            t.q0 = (pieces - 1 - i / heads) * rows;
            t.q1 = attention_min(t.q0 + rows, a->Tq);
            forward_rows(&t, y, lse, q, kv, fresh, a);
        }
        tile_end();
    }
}
