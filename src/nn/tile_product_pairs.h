/* tile_product_pairs - the operands of tile_product in bf16, for instructions that take pairs of numbers
 * along the sum (TDPBF16PS, VDPBF16PS).  Left operands are panels of 32 columns, [depth / 32][rows][32];
 * right panels hold pairs of rows, [depth / 2][32][2]. */
#pragma once

#include "nn/transpose_tile.h"

enum { TILE_GRAIN = 32, TILE_ONE_FORM = 0, TILE_SIDE = 16 };

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
