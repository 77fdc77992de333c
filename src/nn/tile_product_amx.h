/* tile_product_amx - tile_product in bf16 with fp32 sums, in the tile registers (Intel's Advanced
 * Matrix Extensions: "Intel 64 and IA-32 Architectures Software Developer's Manual", volume 1,
 * chapter 18).  Left operands are panels of 32 columns, [depth / 32][rows][32]; right panels hold
 * pairs of rows, [depth / 2][32][2]. */
#pragma once

#include "nn/amx_tiles.h"
#include "nn/transpose_tile.h"

enum { TILE_GRAIN = 32, TILE_ONE_FORM = 0, TILE_SIDE = 16 };

static inline void tile_begin(void)
{
    amx_begin();
}

static inline void tile_end(void)
{
    amx_end();
}

/* ---- operands ---------------------------------------------------------------------------- */

static inline struct left left_rows(factor *room, const elem *x, int64_t ld, int64_t n,
                                    int64_t D)
{
    const int64_t rows = tile_pad(n);
    for (int64_t d0 = 0; d0 < D; d0 += TILE_PANEL) {
        factor *panel = room + d0 * rows;
        const size_t some = (size_t)(D - d0 < TILE_PANEL ? D - d0 : TILE_PANEL);
        memset(panel + n * TILE_PANEL, 0,
               (size_t)((rows - n) * TILE_PANEL) * sizeof *panel);
        if (some == TILE_PANEL)
            for (int64_t i = 0; i < n; i++)
                memcpy(panel + i * TILE_PANEL, x + i * ld + d0,
                       TILE_PANEL * sizeof *panel);
        else
            for (int64_t i = 0; i < n; i++) {
                memset(panel + i * TILE_PANEL, 0, TILE_PANEL * sizeof *panel);
                memcpy(panel + i * TILE_PANEL, x + i * ld + d0, some * sizeof *panel);
            }
    }
    return (struct left){
        .x = room, .row = TILE_PANEL, .panel = rows * TILE_PANEL, .step = 1};
}

/* Of 32 rows of a panel, pairs: dword j of row i of `to` is numbers j of rows 2i and 2i + 1. */
static inline void tile_pairs(factor *to, const factor *rows)
{
    uint32_t *pairs = (uint32_t *)(void *)to;
    for (int64_t i = 0; i < TILE_SIDE; i++) {
        const factor *low = rows + 2 * i * TILE_PANEL, *high = low + TILE_PANEL;
#pragma omp simd
        for (int64_t j = 0; j < TILE_PANEL; j++)
            pairs[i * TILE_PANEL + j] = (uint32_t)low[j] | (uint32_t)high[j] << 16;
    }
}

static inline struct left left_turned(factor *room, const struct left *a, int64_t n,
                                      int64_t D)
{
    const int64_t panel = tile_pad(D) * TILE_PANEL;
    factor pairs[TILE_PANEL * TILE_PANEL];
    for (int64_t i = 0; i < n; i += TILE_PANEL)
        for (int64_t d = 0; d < D; d += TILE_PANEL) {
            factor *to = room + i / TILE_PANEL * panel + d * TILE_PANEL;
            tile_pairs(pairs, a->x + d / TILE_PANEL * a->panel + i * a->row);
            for (int64_t half = 0; half < 2; half++)
                transpose_tile(to + half * TILE_SIDE * TILE_PANEL, TILE_PANEL / 2,
                               pairs + half * TILE_PANEL, TILE_PANEL);
        }
    return (struct left){.x = room, .row = TILE_PANEL, .panel = panel, .step = 1};
}

static inline void right_rows(factor *room, const struct left *a, int64_t n, int64_t D)
{
    for (int64_t d = 0; d < D; d += TILE_PANEL)
        for (int64_t i = 0; i < n; i += TILE_PANEL)
            tile_pairs(room + d * tile_pad(n) + i * TILE_PANEL,
                       a->x + d / TILE_PANEL * a->panel + i * a->row);
}

static inline void right_turned(factor *room, const struct left *a, int64_t n, int64_t D)
{
    for (int64_t i = 0; i < n; i += TILE_PANEL)
        for (int64_t d = 0; d < D; d += TILE_PANEL) {
            factor *to = room + i * tile_pad(D) + d * TILE_PANEL;
            const factor *from = a->x + d / TILE_PANEL * a->panel + i * a->row;
            for (int64_t half = 0; half < 2; half++)
                transpose_tile(to + half * TILE_PANEL, TILE_PANEL,
                               from + half * TILE_SIDE * TILE_PANEL, TILE_PANEL / 2);
        }
}

/* Rounded to nearest, ties away from zero, which takes an instruction less than put().  NaN stays NaN
 * unless all its upper bits are zero, which no operation makes it. */
static inline uint32_t tile_rounded(float x)
{
    return nn_bits_of_float(x) + 0x8000;
}

static inline void right_put(factor *panel, int64_t k, int64_t j, float at_k,
                             float behind)
{
    uint32_t *pairs = (uint32_t *)(void *)panel;
    pairs[k / 2 * TILE_PANEL + j] =
        tile_rounded(at_k) >> 16 | (tile_rounded(behind) & 0xffff0000);
}

static inline void left_put(factor *x, int64_t i, int64_t k, float value)
{
    x[i * TILE_PANEL + k] = (factor)(tile_rounded(value) >> 16);
}

/* ---- the product --------------------------------------------------------------------------- */

enum { C_ROW = TILE_PANEL * sizeof(float), A_ROW = 64, B_ROW = 128 }; /* bytes */

/* Of depth 33 to 64: the right operand stays in registers. */
static inline void tile_shallow(float *c, const struct left *a, const factor *b,
                                int64_t m)
{
    const factor *deep = b + TILE_PANEL * TILE_PANEL;
    _tile_loadd(4, b, B_ROW);
    _tile_loadd(5, b + TILE_PANEL, B_ROW);
    _tile_loadd(6, deep, B_ROW);
    _tile_loadd(7, deep + TILE_PANEL, B_ROW);
    for (int64_t i = 0; i < m; i += TILE_SIDE, c += TILE_SIDE * TILE_PANEL) {
        const factor *left = a->x + i * TILE_PANEL;
        _tile_zero(0);
        _tile_zero(1);
        _tile_loadd(2, left, A_ROW);
        _tile_dpbf16ps(0, 2, 4);
        _tile_dpbf16ps(1, 2, 5);
        _tile_loadd(3, left + a->panel, A_ROW);
        _tile_dpbf16ps(0, 3, 6);
        _tile_dpbf16ps(1, 3, 7);
        _tile_stored(0, c, C_ROW);
        _tile_stored(1, c + TILE_SIDE, C_ROW);
    }
}

static inline void tile_product(float *c, const struct left *a, const factor *b,
                                int64_t m, int64_t depth, bool accumulate)
{
    if (depth > TILE_PANEL && depth <= 2 * TILE_PANEL && !accumulate) {
        tile_shallow(c, a, b, m);
        return;
    }
    const int64_t below = TILE_SIDE * TILE_PANEL;
    for (int64_t i = 0; i < m; i += TILE_PANEL, c += 2 * below) {
        const factor *left = a->x + i * TILE_PANEL, *right = b;
        if (accumulate) {
            _tile_loadd(0, c, C_ROW);
            _tile_loadd(1, c + TILE_SIDE, C_ROW);
            _tile_loadd(2, c + below, C_ROW);
            _tile_loadd(3, c + below + TILE_SIDE, C_ROW);
        } else {
            _tile_zero(0);
            _tile_zero(1);
            _tile_zero(2);
            _tile_zero(3);
        }
        for (int64_t k = 0; k < depth; k += TILE_PANEL) {
            _tile_loadd(4, left, A_ROW);
            _tile_loadd(6, right, B_ROW);
            _tile_dpbf16ps(0, 4, 6);
            _tile_loadd(7, right + TILE_PANEL, B_ROW);
            _tile_dpbf16ps(1, 4, 7);
            _tile_loadd(5, left + below, A_ROW);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
            left += a->panel;
            right += TILE_PANEL * TILE_PANEL;
        }
        _tile_stored(0, c, C_ROW);
        _tile_stored(1, c + TILE_SIDE, C_ROW);
        _tile_stored(2, c + below, C_ROW);
        _tile_stored(3, c + below + TILE_SIDE, C_ROW);
    }
}
