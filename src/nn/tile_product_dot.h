/* tile_product_dot - tile_product in bf16 with fp32 sums, in vector registers (AVX512-BF16): VDPBF16PS
 * adds to each of 16 sums the products of a pair of numbers. */
#pragma once

#include <immintrin.h>

#include "nn/tile_product_pairs.h"

enum { TILE_ROWS = 8, TILE_VECTORS = 2, TILE_LANES = 16, TILE_PAIRS = TILE_PANEL / 2 };

static inline void tile_begin(void)
{
}

static inline void tile_end(void)
{
}

/* TILE_ROWS rows of c, whose sums stay in registers while the depth passes by. */
static inline void tile_rows(float *c, const factor *a, int64_t panel, const factor *b,
                             int64_t depth, bool accumulate)
{
    __m512 s[TILE_ROWS][TILE_VECTORS];
    for (int i = 0; i < TILE_ROWS; i++)
        for (int v = 0; v < TILE_VECTORS; v++)
            s[i][v] = accumulate ? _mm512_load_ps(c + i * TILE_PANEL + v * TILE_LANES)
                                 : _mm512_setzero_ps();
    for (int64_t k = 0; k < depth; k += TILE_PANEL, a += panel)
        for (int p = 0; p < TILE_PAIRS; p++, b += 2 * TILE_PANEL) {
            const __m512bh left = (__m512bh)_mm512_load_si512(b);
            const __m512bh right = (__m512bh)_mm512_load_si512(b + TILE_PANEL);
            for (int i = 0; i < TILE_ROWS; i++) {
                int pair;
                memcpy(&pair, a + i * TILE_PANEL + 2 * p, sizeof pair);
                const __m512bh x = (__m512bh)_mm512_set1_epi32(pair);
                s[i][0] = _mm512_dpbf16_ps(s[i][0], x, left);
                s[i][1] = _mm512_dpbf16_ps(s[i][1], x, right);
            }
        }
    for (int i = 0; i < TILE_ROWS; i++)
        for (int v = 0; v < TILE_VECTORS; v++)
            _mm512_store_ps(c + i * TILE_PANEL + v * TILE_LANES, s[i][v]);
}

static inline void tile_product(float *c, const struct left *a, const factor *b,
                                int64_t m, int64_t depth, bool accumulate)
{
    for (int64_t i = 0; i < m; i += TILE_ROWS)
        tile_rows(c + i * TILE_PANEL, a->x + i * TILE_PANEL, a->panel, b, depth,
                  accumulate);
}
