/* fp32 out of bf16: a number is the sum of three, x = x0 + x1 + x2, each a rounded rest, and the products of
 * two numbers that are larger than 2^-24 of x y are six,
 *   x y = x0 y0 + (x0 y1 + x1 y0) + (x1 y1 + x0 y2 + x2 y0)
 * (Henry, Tang and Heinecke 2019, arXiv:1904.06376).  The small ones are summed before the large one, and
 * the sum of a panel before it is added to what was there, so that sums are rounded less often than
 * where one number after the other is multiplied and added.  A part below 2^-126 is lost, so that numbers
 * below 2^-110 have fewer digits; infinity, which numbers from 3.396e38 on are to bf16, becomes NaN.
 * Compiled once, for CPUs with AMX. */
#include "nn/gemm_bf16.h"

enum { PARTS = 3, STEP = PARTS * GEMM_BF16_STEP };

#ifdef __AMX_BF16__
#include <immintrin.h>

#include "nn/amx_tiles.h"

enum { TILE = 512, SIDE = 16 };

/* ---- panels ------------------------------------------------------------------------------- */

/* What x has beyond a number of bf16. */
static inline __m512 rest(__m512 x, __m256i part)
{
    const __m512i rounded = _mm512_slli_epi32(_mm512_cvtepu16_epi32(part), 16);
    return _mm512_sub_ps(x, _mm512_castsi512_ps(rounded));
}

/* The parts of 32 numbers, each part GEMM_BF16_STEP behind the one before. */
static inline void split(uint16_t *to, const float *x)
{
    __m512 left = _mm512_loadu_ps(x), right = _mm512_loadu_ps(x + SIDE);
    for (int p = 0; p < PARTS; p++, to += GEMM_BF16_STEP) {
        const __m512i part = (__m512i)_mm512_cvtne2ps_pbh(right, left);
        _mm512_store_si512(to, part);
        left = rest(left, _mm512_castsi512_si256(part));
        right = rest(right, _mm512_extracti64x4_epi64(part, 1));
    }
}

static void pack_step(void *to, const void *from, int64_t ld, bool deep, bool second)
{
    _Alignas(64) uint16_t parts[STEP];
    uint16_t *panel = to;
    const float *x = from;
    for (int i = 0; i < GEMM_SIDE; i++) split(parts + i * GEMM_STEP, x + i * ld);
    for (int i = 0; i < STEP; i += GEMM_BF16_STEP)
        gemm_bf16_pack_step(panel + i, parts + i, GEMM_STEP, deep, second);
}

/* ---- products ----------------------------------------------------------------------------- */

#define A(part, half) (a + (part)*GEMM_BF16_STEP + (half)*TILE)
#define B(part, half) (b + (part)*GEMM_BF16_STEP + (half)*TILE)

/* All four products of the tiles in registers 4 and 5, of the first operand, and 6 and 7; as soon as a
 * register has met both others, it gets what comes next. */
#define ROWS_THEN(next_6, next_7)                                                        \
    _tile_dpbf16ps(0, 4, 6);                                                             \
    _tile_dpbf16ps(2, 5, 6);                                                             \
    _tile_loadd(6, next_6, 64);                                                          \
    _tile_dpbf16ps(1, 4, 7);                                                             \
    _tile_dpbf16ps(3, 5, 7);                                                             \
    _tile_loadd(7, next_7, 64);
#define COLUMNS_THEN(next_4, next_5)                                                     \
    _tile_dpbf16ps(0, 4, 6);                                                             \
    _tile_dpbf16ps(1, 4, 7);                                                             \
    _tile_loadd(4, next_4, 64);                                                          \
    _tile_dpbf16ps(2, 5, 6);                                                             \
    _tile_dpbf16ps(3, 5, 7);                                                             \
    _tile_loadd(5, next_5, 64);

/* The five small products, each with one operand of the one before. */
static void small(const uint16_t *a, const uint16_t *b, int64_t steps,
                  const struct gemm_ahead *ahead)
{
    const char *x0 = ahead->x[0], *x1 = ahead->x[1];
    for (int64_t k = 0; k < steps; k++, a += STEP, b += STEP) {
        _tile_loadd(4, A(0, 0), 64);
        _tile_loadd(6, B(2, 0), 64);
        _tile_loadd(5, A(0, 1), 64);
        _tile_loadd(7, B(2, 1), 64);
        _mm_prefetch(x0, _MM_HINT_T1);
        _mm_prefetch(x1, _MM_HINT_T1);
        ROWS_THEN(B(1, 0), B(1, 1))
        _mm_prefetch(x0 + GEMM_LINE, _MM_HINT_T1);
        _mm_prefetch(x1 + GEMM_LINE, _MM_HINT_T1);
        COLUMNS_THEN(A(1, 0), A(1, 1))
        ROWS_THEN(B(0, 0), B(0, 1))
        COLUMNS_THEN(A(2, 0), A(2, 1))
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        x0 += ahead->step, x1 += ahead->step;
    }
}

static void large(const uint16_t *a, const uint16_t *b, int64_t steps)
{
    for (int64_t k = 0; k < steps; k++, a += STEP, b += STEP) {
        _tile_loadd(4, A(0, 0), 64);
        _tile_loadd(6, B(0, 0), 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(5, A(0, 1), 64);
        _tile_dpbf16ps(2, 5, 6);
        _tile_loadd(7, B(0, 1), 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(3, 5, 7);
    }
}

static void store(float *c)
{
    enum { ROW = GEMM_SIDE * sizeof(float) };
    float *below = c + SIDE * GEMM_SIDE;
    _tile_stored(0, c, ROW);
    _tile_stored(1, c + SIDE, ROW);
    _tile_stored(2, below, ROW);
    _tile_stored(3, below + SIDE, ROW);
}

static void multiply(float *c, const struct gemm_rows *first, const void *second,
                     int64_t steps, bool accumulate, bool first_passes,
                     const struct gemm_ahead *ahead)
{
    _Alignas(64) float sums[GEMM_SIDE * GEMM_SIDE];
    (void)first_passes; /* what passes is larger than the first-level cache */
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    small(first->x, second, steps, ahead);
    large(first->x, second, steps);
    store(accumulate ? sums : c);
    if (!accumulate) return;
    for (int i = 0; i < GEMM_SIDE * GEMM_SIDE; i += SIDE)
        _mm512_store_ps(c + i,
                        _mm512_add_ps(_mm512_load_ps(c + i), _mm512_load_ps(sums + i)));
}
#else
#include "core/log.h"

static void amx_begin(void)
{
    die("this program was built without AMX");
}

static void amx_end(void)
{
}

static void pack_step(void *to, const void *x, int64_t ld, bool deep, bool second)
{
    (void)to, (void)x, (void)ld, (void)deep, (void)second;
}

static void multiply(float *c, const struct gemm_rows *first, const void *second,
                     int64_t steps, bool accumulate, bool first_passes,
                     const struct gemm_ahead *ahead)
{
    (void)c, (void)first, (void)second, (void)steps, (void)accumulate, (void)first_passes;
    (void)ahead;
}
#endif

const struct gemm_kernel gemm_bf16x6 = {.elem_bytes = sizeof(float),
                                        .step_bytes = STEP * sizeof(uint16_t),
                                        .depth = 256,
                                        .block_bytes = 960 * 1024,
                                        .begin = amx_begin,
                                        .end = amx_end,
                                        .pack_step = pack_step,
                                        .multiply = multiply};
