/* attention_tile - what ops_cpu.c, which takes the scratch, and the attention_*_cpu.c, which use it,
 * must agree upon: how queries and keys are cut, and the room for each cut. */
#pragma once

#include "nn/attention_view.h"
#include "nn/tile_product.h"

enum {
    ATTENTION_FWD_KEYS = 128, /* that are copied at a time, ... */
    ATTENTION_BWD_KEYS = 256,
    ATTENTION_MOST =
        512, /* ... and query rows that are taken through them at a time: in forward */
    ATTENTION_LEAST = 64,
    ATTENTION_ROWS = TILE_ONE_FORM ? 64 : 128, /* in backward */
};

static inline int64_t attention_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t attention_max(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static inline int64_t attention_ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static inline int64_t attention_pad(int64_t n) /* floats, to whole cache lines */
{
    return (n + 15) / 16 * 16;
}

/* ---- scratch, in floats ----------------------------------------------------------------- */

/* Room is cut off a piece of scratch, or, where there is none yet, only counted. */
struct attention_room {
    float *base; /* NULL: counted */
    int64_t used;
};

static inline void *attention_cut(struct attention_room *r, int64_t floats)
{
    float *at = r->base ? r->base + r->used : NULL;
    r->used += attention_pad(floats);
    return at;
}

static inline factor *attention_cut_factors(struct attention_room *r, int64_t rows,
                                            int64_t cols)
{
    const int64_t bytes = rows * cols * (int64_t)sizeof(factor);
    return attention_cut(r, attention_ceil_div(bytes, (int64_t)sizeof(float)));
}

/* Forward gives so many query rows of a head to a thread: many, since copies of the keys serve all of
 * them, but enough pieces for the threads to end together. */
static inline int64_t attention_fwd_rows(const struct attention_view *a, int threads)
{
    int64_t rows = ATTENTION_MOST;
    while (rows > ATTENTION_LEAST &&
           a->B * a->H * attention_ceil_div(a->Tq, rows) < 8 * threads)
        rows /= 2;
    return attention_min(rows, tile_pad(a->Tq));
}

/* Of a thread; see attention_cpu.c. */
struct attention_fwd_room {
    factor *rows, *q, *k, *v_rows, *v, *p;
    float *scores, *sum_v, *max, *sum;
};

static inline int64_t attention_fwd_room(struct attention_fwd_room *r, float *base,
                                         const struct attention_view *a, int64_t rows)
{
    struct attention_room room = {.base = base};
    const int64_t D = tile_pad(a->D);
    r->rows = attention_cut_factors(&room, TILE_PANEL, D);
    r->q = attention_cut_factors(&room, rows, D);
    r->k = attention_cut_factors(&room, ATTENTION_FWD_KEYS, D);
    r->v_rows = attention_cut_factors(&room, ATTENTION_FWD_KEYS, D);
    r->v = attention_cut_factors(&room, ATTENTION_FWD_KEYS, D);
    r->p = attention_cut_factors(&room, ATTENTION_FWD_KEYS, TILE_PANEL);
    r->scores = attention_cut(&room, attention_max(ATTENTION_FWD_KEYS, D) * TILE_PANEL);
    r->sum_v = attention_cut(&room, rows * D);
    r->max = attention_cut(&room, rows);
    r->sum = attention_cut(&room, rows);
    return room.used;
}

static inline int64_t attention_fwd_floats(const struct attention_view *a, int threads)
{
    struct attention_fwd_room unused;
    return threads * attention_fwd_room(&unused, NULL, a, attention_fwd_rows(a, threads));
}

/* Backward gives a kv head of a sequence to one thread, which needs no sums over threads.
 * Where that leaves threads idle, a head's key tiles are dealt to several, and dq, to which
 * they all add, is summed in a fixed order afterwards.  The smallest number of parts that
 * keeps nine tenths of the threads busy, or as many as there are tiles. */
static inline int64_t attention_bwd_parts(const struct attention_view *a, int threads)
{
    const int64_t most = attention_ceil_div(a->Tk, ATTENTION_BWD_KEYS);
    int64_t parts = 1;
    for (; parts < most; parts++) {
        const int64_t units = a->B * a->K * parts;
        const int64_t slots = attention_ceil_div(units, threads) * threads;
        if (10 * units >= 9 * slots) break;
    }
    return parts;
}

/* Of a thread; see attention_bwd_cpu.c. */
struct attention_bwd_room {
    factor *k, *v, *k_turned, *v_turned, *k_right;
    factor *q, *dy, *q_turned, *dy_turned, *p, *ds, *ds_left;
    float *scores, *dp, *dk, *dv, *lse, *delta;
};

static inline int64_t attention_bwd_room(struct attention_bwd_room *r, float *base,
                                         const struct attention_view *a)
{
    struct attention_room room = {.base = base};
    const int64_t D = tile_pad(a->D), rows = a->group * tile_pad(a->Tq);
    factor **of_keys[] = {&r->k, &r->v, &r->k_turned, &r->v_turned, &r->k_right};
    factor **of_rows[] = {&r->q, &r->dy, &r->q_turned, &r->dy_turned};
    for (int i = 0; i < 5; i++)
        *of_keys[i] = attention_cut_factors(&room, ATTENTION_BWD_KEYS, D);
    for (int i = 0; i < 4; i++)
        *of_rows[i] = attention_cut_factors(&room, ATTENTION_ROWS, D);
    r->p = attention_cut_factors(&room, ATTENTION_ROWS, TILE_PANEL);
    r->ds = attention_cut_factors(&room, ATTENTION_ROWS, TILE_PANEL);
    r->ds_left = attention_cut_factors(&room, ATTENTION_ROWS, ATTENTION_BWD_KEYS);
    r->scores = attention_cut(&room, attention_max(ATTENTION_ROWS, D) * TILE_PANEL);
    r->dp = attention_cut(&room, ATTENTION_ROWS * TILE_PANEL);
    r->dk = attention_cut(&room, ATTENTION_BWD_KEYS * D);
    r->dv = attention_cut(&room, ATTENTION_BWD_KEYS * D);
    r->lse = attention_cut(&room, rows);
    r->delta = attention_cut(&room, rows);
    return room.used;
}

/* dq of the query heads of one kv head: [heads][Tq / 32][D / 32][32][32] */
static inline int64_t attention_dq_floats(const struct attention_view *a)
{
    return a->group * tile_pad(a->Tq) * tile_pad(a->D);
}

/* A thread needs one dq at a time if nobody else adds to it. */
static inline int64_t attention_dqs(const struct attention_view *a, int threads)
{
    const int64_t parts = attention_bwd_parts(a, threads);
    return parts > 1 ? a->B * a->K * parts : threads;
}

/* The threads' tiles, then dq; of fewer sequences, too, which are cut into more parts. */
static inline int64_t attention_bwd_floats(const struct attention_view *a, int threads)
{
    struct attention_bwd_room unused;
    int64_t most = 0;
    for (struct attention_view v = *a; v.B > 0; v.B--)
        most = attention_max(most, attention_dqs(&v, threads));
    return threads * attention_bwd_room(&unused, NULL, a) + most * attention_dq_floats(a);
}

/* Decode, a thread: the scores of a query head, its sum. */
static inline int64_t attention_decode_floats(const struct nn_attention *a)
{
    return attention_pad(a->T) + attention_pad(a->D);
}

/* ---- what a tile sees -------------------------------------------------------------------- */

/* Keys [low, high) of query row i. */
static inline int64_t attention_low(const struct attention_view *a, int64_t b, int64_t i)
{
    return a->low ? a->low[b * a->Tq + i] : 0;
}

static inline int64_t attention_high(const struct attention_view *a, int64_t b, int64_t i)
{
    return a->high ? a->high[b * a->Tq + i] : i + 1;
}

/* A tile of 32 query rows: row i sees keys [low[i], high[i]), the tile none outside [first, end).
 * Rows behind the last see what that one sees. */
struct attention_seen {
    int32_t low[TILE_PANEL], high[TILE_PANEL];
    int64_t first, end;
};

static inline void attention_look(struct attention_seen *s,
                                  const struct attention_view *a, int64_t b, int64_t q0)
{
    s->first = a->Tk;
    s->end = 0;
    for (int64_t j = 0; j < TILE_PANEL; j++) {
        const int64_t i = attention_min(q0 + j, a->Tq - 1);
        const int64_t low = attention_low(a, b, i), high = attention_high(a, b, i);
        CHECK(0 <= low && low <= high && high <= a->Tk);
        CHECK(a->high || low < high); /* a row sees itself */
        s->low[j] = (int32_t)low, s->high[j] = (int32_t)high;
        if (low == high) continue;
        s->first = attention_min(s->first, low);
        s->end = attention_max(s->end, high);
    }
}

/* Keys [*from, *to) are seen by every row of the tile; none if *from >= *to.  (Neither low nor high
 * decreases from row to row.) */
static inline void attention_seen_by_all(const struct attention_seen *s, int64_t *from,
                                         int64_t *to)
{
    *from = s->low[TILE_PANEL - 1];
    *to = s->high[0];
}

/* ---- results ------------------------------------------------------------------------------ */

/* Columns of a panel, rows 32 apart, become rows of `to`, ld apart; D of them, filled up to 16. */
static inline void attention_turn(float *to, int64_t ld, const float *panel, int64_t D)
{
    for (int64_t d = 0; d < D; d += 16)
        for (int64_t i = 0; i < TILE_PANEL; i += 16)
            transpose_tile(to + i * ld + d, ld, panel + d * TILE_PANEL + i, TILE_PANEL);
}

/* n numbers of x, of type elem or fp32, from the one at `at` on, become or get from[i] * by. */
static inline void attention_write(const struct tensor *x, int64_t at, const float *from,
                                   float by, int64_t n, bool adds)
{
    float *row = (float *)x->data + at;
    elem *low = (elem *)x->data + at;
    if (x->dtype == DTYPE_F32 && adds)
#pragma omp simd
        for (int64_t i = 0; i < n; i++) row[i] += from[i] * by;
    else if (x->dtype == DTYPE_F32)
#pragma omp simd
        for (int64_t i = 0; i < n; i++) row[i] = from[i] * by;
    else
#pragma omp simd
        for (int64_t i = 0; i < n; i++) low[i] = put(from[i] * by);
}
