/* tile_product - the matrix products inside attention: small, on operands that were copied once into
 * the form that the CPU multiplies and are then used many times.
 *
 *   c (+)= A B      A: [m, depth]      B: [depth, 32]      c: [m, 32] in fp32
 *
 * `factor` is the type that is multiplied: bf16 in the tables of bf16 whose instruction set multiplies
 * it (AMX in tile registers, AVX512-BF16 in vector registers), fp32 in all others.  Right operands and
 * results are cut into panels of 32 columns, which lie one behind the other, each with its rows 32
 * apart.  Rows and columns are filled up with zeros to multiples of 32 (TILE_PANEL).  Room for operands
 * is aligned to 64 bytes.  An order of summation depends on nothing but the shape. */
#pragma once

#include "nn/elem.h"

enum { TILE_PANEL = 32 };

static inline int64_t tile_pad(int64_t n)
{
    return (n + TILE_PANEL - 1) / TILE_PANEL * TILE_PANEL;
}

#if defined __AVX512BF16__ && defined NN_BF16
#define TILE_BF16
typedef uint16_t factor;
#else
typedef float factor;
#endif

/* Element (i, k) of a left operand is x[i * row + k / 32 * panel + k % 32 * step]. */
struct left {
    const factor *x;
    int64_t row, panel, step;
};

#if defined TILE_BF16 && defined __AMX_BF16__
#include "nn/tile_product_amx.h"
#elif defined TILE_BF16
#include "nn/tile_product_dot.h"
#else
#include "nn/tile_product_vector.h"
#endif

/* ---- what both define ------------------------------------------------------------------------
 *
 * enum TILE_GRAIN: m and depth are multiples of it; rows of operands exist up to such a multiple.
 * enum TILE_ONE_FORM: 1 if a panel of a right operand is also a left operand of as many rows.
 *
 * void tile_begin(void), tile_end(void)
 *   Around products, on each thread.
 *
 * struct left left_rows(factor *room, const elem *x, int64_t ld, int64_t n, int64_t D)
 *   [n, D] from rows of x, ld apart.  room: tile_pad(n) * tile_pad(D).
 * struct left left_turned(factor *room, const struct left *a, int64_t n, int64_t D)
 *   [D, n], its transpose.  room: as much, unused where a itself can be read that way.
 * void right_rows(factor *room, const struct left *a, int64_t n, int64_t D)
 *   [n, D] in panels of tile_pad(n) * 32.  room: as much as for left_rows.
 * void right_turned(factor *room, const struct left *a, int64_t n, int64_t D)
 *   [D, n] in panels of tile_pad(D) * 32.  room: as much.
 *
 * void right_put(factor *panel, int64_t k, int64_t j, float at_k, float behind)
 *   Elements (k, j) and (k + 1, j) of a panel, k even.
 * void left_put(factor *x, int64_t i, int64_t k, float value)
 *   Element (i, k) of a left operand of one panel, which begins at x and has rows 32 apart.
 *
 * void tile_product(float *c, const struct left *a, const factor *b, int64_t m, int64_t depth,
 *                   bool accumulate)
 *   b: the first of `depth` rows of a panel. */

/* The rows from i on. */
static inline struct left left_from_row(const struct left *a, int64_t i)
{
    struct left rest = *a;
    rest.x += i * a->row;
    return rest;
}

/* The columns from k on, a multiple of 32 or, if all are `step` apart, any. */
static inline struct left left_from_column(const struct left *a, int64_t k)
{
    struct left rest = *a;
    rest.x += k / TILE_PANEL * a->panel + k % TILE_PANEL * a->step;
    return rest;
}

/* Row k, even, of a right panel. */
static inline factor *right_row(factor *panel, int64_t k)
{
    return panel + k * TILE_PANEL;
}
