/* tile_product_vector - tile_product in fp32, in the vector registers of whatever instruction set this
 * is compiled for: a block of c is kept in registers while the depth passes by. */
#pragma once

#include "nn/transpose_tile.h"

#if defined __AVX512F__
enum { TILE_LANES = 16, TILE_ROWS = 12 };
#elif defined __AVX__
enum { TILE_LANES = 8, TILE_ROWS = 6 };
#else
enum { TILE_LANES = 4, TILE_ROWS = 6 };
#endif
enum {
    TILE_GRAIN = 2,
    TILE_ONE_FORM = 1,
    TILE_VECTORS = 2,
    TILE_COLS = TILE_VECTORS * TILE_LANES
};

typedef float tile_vector __attribute__((vector_size(TILE_LANES * sizeof(float))));

static inline void tile_begin(void)
{
}

static inline void tile_end(void)
{
}

/* ---- operands ---------------------------------------------------------------------------- */

static inline struct left left_rows(factor *room, const elem *x, int64_t ld, int64_t n,
                                    int64_t D)
{
    for (int64_t i = 0; i < n; i++)
#pragma omp simd
        for (int64_t d = 0; d < D; d++) room[i * D + d] = get(x[i * ld + d]);
    memset(room + n * D, 0, (size_t)((tile_pad(n) - n) * D) * sizeof *room);
    return (struct left){.x = room, .row = D, .panel = TILE_PANEL, .step = 1};
}

static inline struct left left_turned(factor *room, const struct left *a, int64_t n,
                                      int64_t D)
{
    (void)room, (void)n;
    return (struct left){.x = a->x, .row = 1, .panel = TILE_PANEL * D, .step = D};
}

static inline void right_rows(factor *room, const struct left *a, int64_t n, int64_t D)
{
    const int64_t rows = tile_pad(n);
    for (int64_t d0 = 0; d0 < D; d0 += TILE_PANEL, room += rows * TILE_PANEL)
        for (int64_t i = 0; i < rows; i++)
            for (int64_t d = 0; d < TILE_PANEL; d++)
                room[i * TILE_PANEL + d] = d0 + d < D ? a->x[i * a->row + d0 + d] : 0;
}

static inline void right_turned(factor *room, const struct left *a, int64_t n, int64_t D)
{
    const int64_t whole = D / 16 * 16;
    for (int64_t i = 0; i < tile_pad(n); i += 16) {
        factor *to = room + i / TILE_PANEL * TILE_PANEL * tile_pad(D) + i % TILE_PANEL;
        for (int64_t d = 0; d < whole; d += 16)
            transpose_tile(to + d * TILE_PANEL, TILE_PANEL, a->x + i * a->row + d,
                           a->row);
        for (int64_t d = whole; d < D; d++)
            for (int64_t j = 0; j < 16; j++)
                to[d * TILE_PANEL + j] = a->x[(i + j) * a->row + d];
    }
}

static inline void right_put(factor *panel, int64_t k, int64_t j, float at_k,
                             float behind)
{
    panel[k * TILE_PANEL + j] = at_k;
    panel[(k + 1) * TILE_PANEL + j] = behind;
}

static inline void left_put(factor *x, int64_t i, int64_t k, float value)
{
    x[i * TILE_PANEL + k] = value;
}

/* ---- the product --------------------------------------------------------------------------- */

static inline tile_vector tile_load(const float *x)
{
    tile_vector v;
    memcpy(&v, x, sizeof v);
    return v;
}

/* m rows, a constant, and TILE_COLS columns.  row and step are arguments so that the one that is 1 is
 * a constant, too. */
static inline __attribute__((always_inline)) void
tile_block(const int m, float *c, const struct left *a, int64_t row, int64_t step,
           const factor *b, int64_t depth, bool accumulate)
{
    tile_vector s[TILE_ROWS][TILE_VECTORS];
    const factor *panel = a->x;
    for (int i = 0; i < m; i++)
        for (int v = 0; v < TILE_VECTORS; v++) {
            if (accumulate)
                s[i][v] = tile_load(c + i * TILE_PANEL + v * TILE_LANES);
            else
                s[i][v] = (tile_vector){0};
        }
    for (int64_t k0 = 0; k0 < depth; k0 += TILE_PANEL, panel += a->panel) {
        const int64_t n = depth - k0 < TILE_PANEL ? depth - k0 : TILE_PANEL;
        const factor *x = panel;
        for (int64_t k = 0; k < n; k++, x += step, b += TILE_PANEL) {
            tile_vector w[TILE_VECTORS];
            for (int v = 0; v < TILE_VECTORS; v++) w[v] = tile_load(b + v * TILE_LANES);
            const factor *from =
                x; /* one pointer for three rows: there are few registers */
            for (int i = 0; i < m; i++) {
                const float f = from[i % 3 * row];
                for (int v = 0; v < TILE_VECTORS; v++) s[i][v] += f * w[v];
                if (i % 3 == 2) from += 3 * row;
            }
        }
    }
    for (int i = 0; i < m; i++)
        for (int v = 0; v < TILE_VECTORS; v++)
            memcpy(c + i * TILE_PANEL + v * TILE_LANES, &s[i][v], sizeof s[i][v]);
}

static inline __attribute__((always_inline)) void
tile_columns(float *c, struct left a, int64_t row, int64_t step, const factor *b,
             int64_t m, int64_t depth, bool accumulate)
{
    int64_t i = 0;
    for (; i + TILE_ROWS <= m; i += TILE_ROWS, a.x += TILE_ROWS * row)
        tile_block(TILE_ROWS, c + i * TILE_PANEL, &a, row, step, b, depth, accumulate);
#ifdef __AVX512F__
    for (; i + 8 <= m; i += 8, a.x += 8 * row)
        tile_block(8, c + i * TILE_PANEL, &a, row, step, b, depth, accumulate);
#endif
    for (; i + 4 <= m; i += 4, a.x += 4 * row)
        tile_block(4, c + i * TILE_PANEL, &a, row, step, b, depth, accumulate);
    for (; i < m; i++, a.x += row)
        tile_block(1, c + i * TILE_PANEL, &a, row, step, b, depth, accumulate);
}

static inline void tile_product(float *c, const struct left *a, const factor *b,
                                int64_t m, int64_t depth, bool accumulate)
{
    for (int64_t j = 0; j < TILE_PANEL; j += TILE_COLS) {
        if (a->step == 1)
            tile_columns(c + j, *a, a->row, 1, b + j, m, depth, accumulate);
        else
            tile_columns(c + j, *a, 1, a->step, b + j, m, depth, accumulate);
    }
}
