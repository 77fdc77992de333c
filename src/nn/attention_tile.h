/* attention_tile - what ops_cpu.c, which takes the scratch, and the attention_*_cpu.c, which use it,
 * must agree upon.
 *
 * Scores are made for a tile of query rows by key rows.  Tiles are cut where no row of theirs
 * sees more, so a tile on the diagonal wastes at most half of a Q x Q square and the key side
 * can be long: fewer, larger matrix products.  Tiles are computed in fp32; rows of another type are
 * copied. */
#pragma once

#include "nn/attention_view.h"
#include "nn/elem.h"

enum {
    ATTENTION_Q = 64,
    ATTENTION_K = 256,
    ATTENTION_COPIES = sizeof(elem) < sizeof(float)
};

static inline int64_t attention_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
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

/* Copies, a thread, of so many tiles of query rows and so many of key rows. */
static inline int64_t attention_copy_floats(const struct attention_view *a, int q, int k)
{
    const int64_t rows = q * ATTENTION_Q + k * ATTENTION_K;
    return ATTENTION_COPIES ? attention_pad(rows * a->D) : 0;
}

/* Forward, a thread: scores, their product with v, maximum and sum of a row; q, k, v. */
static inline int64_t attention_fwd_floats(const struct attention_view *a)
{
    return ATTENTION_Q * ATTENTION_K + attention_pad(ATTENTION_Q * a->D) +
           2 * attention_pad(ATTENTION_Q) + attention_copy_floats(a, 1, 2);
}

/* Backward, a thread: P, dS, dk and dv of one tile of key rows; q, dy, k, v. */
static inline int64_t attention_bwd_floats(const struct attention_view *a)
{
    return 2 * ATTENTION_Q * ATTENTION_K + 2 * attention_pad(ATTENTION_K * a->D) +
           attention_copy_floats(a, 2, 2);
}

/* Backward gives a kv head of a sequence to one thread, which needs no sums over threads.
 * Where that leaves threads idle, a head's key tiles are dealt to several, and dq, to which
 * they all add, is summed in a fixed order afterwards.  The smallest number of parts that
 * keeps nine tenths of the threads busy, or as many as there are tiles. */
static inline int64_t attention_bwd_parts(const struct attention_view *a, int threads)
{
    const int64_t most = attention_ceil_div(a->Tk, ATTENTION_K);
    int64_t parts = 1;
    for (; parts < most; parts++) {
        const int64_t units = a->B * a->K * parts;
        const int64_t slots = attention_ceil_div(units, threads) * threads;
        if (10 * units >= 9 * slots) break;
    }
    return parts;
}

/* dq of one part; the first part adds to the result itself, if that is fp32. */
static inline int64_t attention_bwd_part_floats(const struct attention_view *a)
{
    return attention_pad(a->B * a->Tq * a->H * a->D);
}

/* dq of all parts that do not add to the result, or of those of fewer sequences, which are cut into
 * more */
static inline int64_t attention_bwd_parts_floats(const struct attention_view *a,
                                                 int threads, bool dq_is_fp32)
{
    int64_t most = 0;
    for (struct attention_view v = *a; v.B > 0; v.B--) {
        const int64_t n = attention_bwd_parts(&v, threads) - dq_is_fp32;
        if (n * attention_bwd_part_floats(&v) > most)
            most = n * attention_bwd_part_floats(&v);
    }
    return most;
}

/* delta: [B*H, Tq], then dq of the parts, then each thread's tiles */
static inline int64_t attention_bwd_all_floats(const struct attention_view *a,
                                               int threads, bool dq_is_fp32)
{
    return attention_pad(a->B * a->H * a->Tq) +
           attention_bwd_parts_floats(a, threads, dq_is_fp32) +
           threads * attention_bwd_floats(a);
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

/* The columns of a tile of keys [k0, k1) that query row i sees, and the whole vectors around
 * them: [from, to) holds [lo, hi), all zero if there are none. */
struct attention_span {
    int64_t lo, hi, from, to;
};

static inline struct attention_span attention_row_span(const struct attention_view *a,
                                                       int64_t b, int64_t i, int64_t k0,
                                                       int64_t k1)
{
    const int64_t low = attention_low(a, b, i);
    struct attention_span s = {.lo = low > k0 ? low - k0 : 0,
                               .hi = attention_min(attention_high(a, b, i), k1) - k0};
    if (s.lo >= s.hi) return (struct attention_span){0};
    s.from = s.lo / 16 * 16;
    s.to = attention_pad(s.hi);
    return s;
}

/* What fills the whole vectors up. */
static inline void attention_fill_edges(float *x, struct attention_span s, float value)
{
    for (int64_t j = s.from; j < s.lo; j++) x[j] = value;
    for (int64_t j = s.hi; j < s.to; j++) x[j] = value;
}

static inline void attention_zero_outside(float *x, struct attention_span s, int64_t n)
{
    if (s.from > 0) memset(x, 0, (size_t)s.from * sizeof *x);
    if (s.to < n) memset(x + s.to, 0, (size_t)(n - s.to) * sizeof *x);
}

/* Keys [*first, *end) are all that any of the query rows [q0, q1) of sequence b sees. */
static inline void attention_tile_keys(const struct attention_view *a, int64_t b,
                                       int64_t q0, int64_t q1, int64_t *first,
                                       int64_t *end)
{
    *first = a->Tk;
    *end = 0;
    for (int64_t i = q0; i < q1; i++) {
        const int64_t low = attention_low(a, b, i), high = attention_high(a, b, i);
        CHECK(0 <= low && low <= high && high <= a->Tk);
        CHECK(a->high || low < high); /* a row sees itself */
        if (low == high) continue;
        *first = attention_min(*first, low);
        if (high > *end) *end = high;
    }
}
