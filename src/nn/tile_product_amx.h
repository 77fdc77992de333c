/* tile_product_amx - tile_product in bf16 with fp32 sums, in the tile registers (Intel's Advanced
 * Matrix Extensions: "Intel 64 and IA-32 Architectures Software Developer's Manual", volume 1,
 * chapter 18). */
#pragma once

#include "nn/amx_tiles.h"
#include "nn/tile_product_pairs.h"

static inline void tile_begin(void)
{
    amx_begin();
}

static inline void tile_end(void)
{
    amx_end();
}

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
