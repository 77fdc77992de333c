/* Attention backward: a thread takes key tiles of one kv head of a sequence and goes over the
 * query rows that see them, of all query heads of the group, so dk and dv are written once.
 * Forward was S = scale q k^T, P = exp(S - lse), y = P v, hence
 *   dv = P^T dy    dS = P * (dy v^T - delta)    dq = scale dS k    dk = scale dS^T q
 *   delta[b,h,i] = sum_d dy[b,i,h,d] y[b,i,h,d]
 * For 32 keys at a time P and dS are made of all query rows at hand, and used; dk and dv are summed
 * transposed, since so P and dS can be right operands. */
#include <math.h>
#include <omp.h>

#include "nn/attention_tile.h"
#include "nn/ops_cpu.h"
#include "nn/simd_math.h"

static const float LOG2_E = 1.44269504088896341f;

struct backward {
    const struct attention_view *a;
    const elem *q, *kv, *dy, *y;
    const float *lse;
    const struct attention_gradients *g;
    float *dq; /* one for each thread, or each part of the key tiles of each kv head */
    int64_t parts;
};

/* One part of the key tiles of one kv head. */
struct key_part {
    int64_t b, kv_head, part;
    int64_t h0, h1; /* query heads that use it */
    float *dq;      /* [h1 - h0][Tq / 32][D / 32][32][32] */
    struct attention_bwd_room room;
    int64_t k0, k1; /* the key tile at hand */
    int64_t q0, n;  /* the tiles of 32 query rows at hand: n from row q0 on, ... */
    struct attention_seen seen[ATTENTION_ROWS / TILE_PANEL]; /* ... what they see */
};

/* ---- weights and their gradients ------------------------------------------------------------- */

/* Of 32 query rows and 32 keys. */
struct square {
    const float *scores, *dp, *lse, *delta; /* the latter two of each row */
    factor *p, *ds, *ds_left;
    const struct attention_seen *seen;
    int32_t key; /* the first */
    float scale;
};

static inline __attribute__((always_inline)) void fill_square(const struct square *q,
                                                              bool all_seen)
{
    const bool rough = sizeof(factor) < sizeof(float);
    for (int64_t i = 0; i < TILE_PANEL; i += 2) {
        const float *s = q->scores + i * TILE_PANEL, *dp = q->dp + i * TILE_PANEL;
        const float lse0 = q->lse[i], lse1 = q->lse[i + 1];
        const float delta0 = q->delta[i], delta1 = q->delta[i + 1];
        const int32_t low0 = q->seen->low[i], low1 = q->seen->low[i + 1];
        const int32_t high0 = q->seen->high[i], high1 = q->seen->high[i + 1];
#pragma omp simd
        for (int32_t j = 0; j < TILE_PANEL; j++) {
            const int32_t k = q->key + j;
            float p0 = nn_exp2(s[j] * q->scale - lse0, rough);
            float p1 = nn_exp2(s[TILE_PANEL + j] * q->scale - lse1, rough);
            if (!all_seen) {
                p0 = low0 <= k && k < high0 ? p0 : 0;
                p1 = low1 <= k && k < high1 ? p1 : 0;
            }
            const float ds0 = p0 * (dp[j] - delta0);
            const float ds1 = p1 * (dp[TILE_PANEL + j] - delta1);
            right_put(q->p, i, j, p0, p1);
            right_put(q->ds, i, j, ds0, ds1);
            if (!TILE_ONE_FORM) {
                left_put(q->ds_left, i, j, ds0);
                left_put(q->ds_left, i + 1, j, ds1);
            }
        }
    }
}

/* p = exp(s - lse) and ds = p * (dp - delta), 0 where a row does not see a key. */
static void weights(const struct square *q)
{
    int64_t from, to;
    attention_seen_by_all(q->seen, &from, &to);
    if (from <= q->key && q->key + TILE_PANEL <= to)
        fill_square(q, true);
    else
        fill_square(q, false);
}

/* ---- query rows and a key tile --------------------------------------------------------------- */

/* Query rows of one head, as the products want them. */
struct query_operands {
    struct left q, dy, q_turned, dy_turned;
};

static struct query_operands take_queries(const struct backward *w,
                                          const struct key_part *t, int64_t h)
{
    const struct attention_view *a = w->a;
    const int64_t D = a->D, HD = a->H * D, row = t->b * a->Tq + t->q0;
    const int64_t n = attention_min(t->n * TILE_PANEL, a->Tq - t->q0);
    const elem *q = w->q + row * a->q_width + h * D, *dy = w->dy + row * HD + h * D;
    struct query_operands o = {.q = left_rows(t->room.q, q, a->q_width, n, D),
                               .dy = left_rows(t->room.dy, dy, HD, n, D)};
    o.q_turned = left_turned(t->room.q_turned, &o.q, n, D);
    o.dy_turned = left_turned(t->room.dy_turned, &o.dy, n, D);
    return o;
}

/* The tiles of query rows that see any of 32 keys from `key` on: [*from, *to). */
static void tiles_that_see(const struct key_part *t, int64_t key, int64_t *from,
                           int64_t *to)
{
    *from = t->n;
    *to = 0;
    for (int64_t i = 0; i < t->n; i++) {
        if (t->seen[i].end <= key || t->seen[i].first >= key + TILE_PANEL) continue;
        *from = attention_min(*from, i);
        *to = i + 1;
    }
}

/* dv and dk of 32 keys, and their ds. */
static void add_to_keys(const struct backward *w, const struct key_part *t, int64_t h,
                        const struct query_operands *o, int64_t key)
{
    const struct attention_view *a = w->a;
    const struct attention_bwd_room *r = &t->room;
    const int64_t D = a->D, at = (key - t->k0) * tile_pad(D);
    factor *ds_left = r->ds_left + (key - t->k0) * ATTENTION_ROWS;
    factor *ds = TILE_ONE_FORM ? ds_left : r->ds;
    int64_t from, to;
    tiles_that_see(t, key, &from, &to);
    if (from >= to) return;
    const int64_t row = from * TILE_PANEL, n = (to - from) * TILE_PANEL;
    const struct left q = left_from_row(&o->q, row), dy = left_from_row(&o->dy, row);
    tile_product(r->scores, &q, r->k_turned + at, n, D, false);
    tile_product(r->dp, &dy, r->v_turned + at, n, D, false);
    for (int64_t i = from; i < to; i++) {
        const int64_t square = (i - from) * TILE_PANEL * TILE_PANEL;
        const int64_t of_head = (h - t->h0) * tile_pad(a->Tq) + t->q0 + i * TILE_PANEL;
        const struct square s = {.scores = r->scores + square,
                                 .dp = r->dp + square,
                                 .lse = r->lse + of_head,
                                 .delta = r->delta + of_head,
                                 .p = right_row(r->p, (i - from) * TILE_PANEL),
                                 .ds = right_row(ds, i * TILE_PANEL),
                                 .ds_left = ds_left + i * TILE_PANEL * TILE_PANEL,
                                 .seen = &t->seen[i],
                                 .key = (int32_t)key,
                                 .scale = a->scale * LOG2_E};
        weights(&s);
    }
    const struct left q_turned = left_from_column(&o->q_turned, row);
    const struct left dy_turned = left_from_column(&o->dy_turned, row);
    tile_product(r->dv + at, &dy_turned, r->p, D, n, true);
    tile_product(r->dk + at, &q_turned, right_row(ds, row), D, n, true);
}

/* dq of a tile of 32 query rows. */
static void add_to_queries(const struct backward *w, const struct key_part *t, int64_t h,
                           int64_t tile)
{
    const struct attention_view *a = w->a;
    const struct attention_seen *seen = &t->seen[tile];
    const int64_t D = tile_pad(a->D), keys = tile_pad(t->k1 - t->k0);
    const int64_t row = (h - t->h0) * tile_pad(a->Tq) + t->q0 + tile * TILE_PANEL;
    const int64_t from = attention_max(seen->first - t->k0, 0) / TILE_PANEL * TILE_PANEL;
    const int64_t to = tile_pad(attention_min(seen->end, t->k1) - t->k0);
    if (from >= to) return;
    const struct left ds = {.x = t->room.ds_left + from * ATTENTION_ROWS +
                                 tile * TILE_PANEL * TILE_PANEL,
                            .row = TILE_PANEL,
                            .panel = TILE_PANEL * ATTENTION_ROWS,
                            .step = 1};
    for (int64_t d = 0; d < D; d += TILE_PANEL)
        tile_product(t->dq + row * D + d * TILE_PANEL, &ds,
                     right_row(t->room.k_right + d * keys, from), TILE_PANEL, to - from,
                     true);
}

/* ---- a key tile -------------------------------------------------------------------------------- */

static void take_keys(const struct backward *w, const struct key_part *t)
{
    const struct attention_view *a = w->a;
    const struct attention_bwd_room *r = &t->room;
    const int64_t D = a->D, n = t->k1 - t->k0;
    const elem *row = w->kv + (t->b * a->Tk + t->k0) * a->kv_width + t->kv_head * D;
    const struct left k = left_rows(r->k, row + a->k_at, a->kv_width, n, D);
    const struct left v = left_rows(r->v, row + a->v_at, a->kv_width, n, D);
    right_turned(r->k_turned, &k, n, D);
    right_turned(r->v_turned, &v, n, D);
    right_rows(r->k_right, &k, n, D);
    memset(r->dk, 0, (size_t)(tile_pad(n) * tile_pad(D)) * sizeof *r->dk);
    memset(r->dv, 0, (size_t)(tile_pad(n) * tile_pad(D)) * sizeof *r->dv);
}

/* Gradients of keys or values, summed in panels of 32 of them, to where they begin in a row. */
static void write_keys(const struct backward *w, const struct key_part *t, int64_t begin,
                       const float *sums, float scale)
{
    const struct attention_view *a = w->a;
    const int64_t D = a->D, ld = tile_pad(D), n = t->k1 - t->k0;
    const int64_t at = (t->b * a->Tk + t->k0) * a->kv_width + t->kv_head * D + begin;
    for (int64_t j = 0; j < n; j++) {
        float *rows = t->room.scores;
        if (j % TILE_PANEL == 0) attention_turn(rows, ld, sums + j * ld, D);
        attention_write(w->g->dkv, at + j * a->kv_width, rows + j % TILE_PANEL * ld,
                        scale, D, false);
    }
}

static void backward_keys(const struct backward *w, struct key_part *t)
{
    const struct attention_view *a = w->a;
    take_keys(w, t);
    for (t->q0 = a->high ? 0 : t->k0 / ATTENTION_ROWS * ATTENTION_ROWS; t->q0 < a->Tq;
         t->q0 += ATTENTION_ROWS) {
        int64_t first = a->Tk, end = 0;
        t->n =
            attention_ceil_div(attention_min(ATTENTION_ROWS, a->Tq - t->q0), TILE_PANEL);
        for (int64_t i = 0; i < t->n; i++) {
            attention_look(&t->seen[i], a, t->b, t->q0 + i * TILE_PANEL);
            first = attention_min(first, t->seen[i].first);
            end = attention_max(end, t->seen[i].end);
        }
        if (first >= t->k1 || end <= t->k0) continue;
        for (int64_t h = t->h0; h < t->h1; h++) {
            const struct query_operands o = take_queries(w, t, h);
            for (int64_t key = t->k0; key < t->k1; key += TILE_PANEL)
                add_to_keys(w, t, h, &o, key);
            for (int64_t i = 0; i < t->n; i++) add_to_queries(w, t, h, i);
        }
    }
    write_keys(w, t, a->k_at, t->room.dk, a->scale);
    write_keys(w, t, a->v_at, t->room.dv, 1);
}

/* ---- a kv head ----------------------------------------------------------------------------------- */

/* Rows of a head lie too far apart for the CPU to foresee the next. */
static void fetch_row(const elem *row, int64_t D)
{
    enum { LINE = 64 / sizeof *row };
    for (int64_t d = 0; d < D; d += LINE) __builtin_prefetch(row + d);
}

/* lse in powers of two, and delta, of the query rows of a head; of rows that fill up a tile what makes
 * their weights 0. */
static void take_statistics(const struct backward *w, const struct key_part *t, int64_t h)
{
    const struct attention_view *a = w->a;
    const int64_t D = a->D, at = (h - t->h0) * tile_pad(a->Tq);
    const float *lse = w->lse + (t->b * a->H + h) * a->Tq;
    enum { AHEAD = 16 };
    for (int64_t i = 0; i < a->Tq; i++) {
        const int64_t row = ((t->b * a->Tq + i) * a->H + h) * D;
        const elem *dy = w->dy + row, *y = w->y + row;
        if (i + AHEAD < a->Tq) {
            fetch_row(dy + AHEAD * a->H * D, D);
            fetch_row(y + AHEAD * a->H * D, D);
        }
        float s = 0;
#pragma omp simd reduction(+ : s)
        for (int64_t d = 0; d < D; d++) s += get(dy[d]) * get(y[d]);
        t->room.lse[at + i] = lse[i] * LOG2_E;
        t->room.delta[at + i] = s;
    }
    for (int64_t i = a->Tq; i < tile_pad(a->Tq); i++) {
        t->room.lse[at + i] = HUGE_VALF;
        t->room.delta[at + i] = 0;
    }
}

/* The sum of `parts` dq, `apart` floats from each other, of a tile of 32 query rows from row q0 of head
 * h on, goes to where dq belongs. */
static void write_queries(const struct backward *w, const float *dq, int64_t parts,
                          int64_t apart, int64_t b, int64_t h, int64_t q0)
{
    const struct attention_view *a = w->a;
    const int64_t rows = attention_min(a->Tq - q0, TILE_PANEL);
    for (int64_t i = 0; i < rows; i++) {
        const int64_t at = (b * a->Tq + q0 + i) * w->g->dq_width + h * a->D;
        for (int64_t d = 0; d < a->D; d += TILE_PANEL) {
            const float *from = dq + (d + i) * TILE_PANEL;
            float sum[TILE_PANEL];
            memcpy(sum, from, sizeof sum);
            for (int64_t part = 1; part < parts; part++)
#pragma omp simd
                for (int64_t j = 0; j < TILE_PANEL; j++) sum[j] += from[part * apart + j];
            attention_write(w->g->dq, at + d, sum, a->scale,
                            attention_min(a->D - d, TILE_PANEL), w->g->adds);
        }
    }
}

/* The query heads that use a kv head: [*h0, *h1). */
static void heads_of(const struct attention_view *a, int64_t kv_head, int64_t *h0,
                     int64_t *h1)
{
    const int64_t first = kv_head * a->group - a->first;
    *h0 = attention_max(first, 0);
    *h1 = attention_min(first + a->group, a->H);
}

/* The key tiles of a part: in rounds, every other one backwards, because the first tiles are
 * seen by more query rows than the last. */
static void backward_part(const struct backward *w, struct key_part *t)
{
    const struct attention_view *a = w->a;
    const int64_t head = tile_pad(a->Tq) * tile_pad(a->D);
    heads_of(a, t->kv_head, &t->h0, &t->h1);
    for (int64_t h = t->h0; h < t->h1; h++) take_statistics(w, t, h);
    memset(t->dq, 0, (size_t)((t->h1 - t->h0) * head) * sizeof *t->dq);

    const int64_t tiles = attention_ceil_div(a->Tk, ATTENTION_BWD_KEYS);
    for (int64_t round = 0; round * w->parts < tiles; round++) {
        const int64_t place = round % 2 ? w->parts - 1 - t->part : t->part;
        t->k0 = (round * w->parts + place) * ATTENTION_BWD_KEYS;
        t->k1 = attention_min(t->k0 + ATTENTION_BWD_KEYS, a->Tk);
        if (t->k0 < t->k1) backward_keys(w, t);
    }
    if (w->parts > 1) return;
    for (int64_t h = t->h0; h < t->h1; h++)
        for (int64_t q0 = 0; q0 < a->Tq; q0 += TILE_PANEL)
            write_queries(w, t->dq + (h - t->h0) * head + q0 * tile_pad(a->D), 1, 0, t->b,
                          h, q0);
}

/* dq of a tile of 32 query rows of a head, from all parts. */
static void add_parts(const struct backward *w, int64_t b, int64_t h, int64_t q0)
{
    const struct attention_view *a = w->a;
    const int64_t kv_head = (h + a->first) / a->group, apart = attention_dq_floats(a);
    int64_t h0, h1;
    heads_of(a, kv_head, &h0, &h1);
    const float *dq = w->dq + (b * a->K + kv_head) * w->parts * apart +
                      ((h - h0) * tile_pad(a->Tq) + q0) * tile_pad(a->D);
    write_queries(w, dq, w->parts, apart, b, h, q0);
}

void NN_CPU(attention_bwd)(int threads, const struct attention_gradients *g,
                           float *scratch, const elem *dy, const elem *y,
                           const float *lse, const elem *q, const elem *kv,
                           const struct attention_view *a)
{
    struct attention_bwd_room room;
    const int64_t floats = attention_bwd_room(&room, NULL, a);
    const int64_t tiles = attention_ceil_div(a->Tq, TILE_PANEL);
    struct backward w = {.a = a, .q = q, .kv = kv, .dy = dy, .y = y, .lse = lse, .g = g};
    w.parts = attention_bwd_parts(a, threads);
    w.dq = scratch + threads * floats;
#pragma omp parallel num_threads(threads)
    {
        const int64_t thread = omp_get_thread_num();
        struct key_part t = {.dq = w.dq + thread * attention_dq_floats(a)};
        attention_bwd_room(&t.room, scratch + thread * floats, a);
        tile_begin();
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < a->B * a->K * w.parts; i++) {
            t.b = i / w.parts / a->K, t.kv_head = i / w.parts % a->K;
            t.part = i % w.parts;
            if (w.parts > 1) t.dq = w.dq + i * attention_dq_floats(a);
            backward_part(&w, &t);
        }
        tile_end();
        if (w.parts > 1)
#pragma omp for schedule(static)
            for (int64_t i = 0; i < a->B * a->H * tiles; i++)
                add_parts(&w, i / tiles / a->H, i / tiles % a->H, i % tiles * TILE_PANEL);
    }
}
