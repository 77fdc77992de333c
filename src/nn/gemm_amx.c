/* Tile registers: "Intel 64 and IA-32 Architectures Software Developer's Manual", volume 1, chapter 18.
 * Compiled once, for CPUs that have them. */
#include "nn/gemm_bf16.h"

#ifdef __AMX_BF16__
#include <immintrin.h>

#include "nn/amx_tiles.h"

enum { TILE = 512, SIDE = 16 }; /* numbers of a tile, its rows */

#define LOAD_STAYING(tile, x) _tile_loadd(tile, x, 64)
#define LOAD_PASSING(tile, x) _tile_stream_loadd(tile, x, 64)
#define PREFETCH(x)           _mm_prefetch(x, _MM_HINT_T1)

/* Four tiles of sums: of 8 registers more cannot be had, and each tile is loaded for two products.  A
 * register is loaded again as soon as its last product has been given, one load a product. */
#define STEPS(LOAD_FIRST, LOAD_SECOND)                                                   \
    LOAD_SECOND(6, b);                                                                   \
    LOAD_FIRST(4, a);                                                                    \
    LOAD_FIRST(5, a + TILE);                                                             \
    for (int64_t k = 1; k < steps; k++, a += 2 * TILE, b += 2 * TILE) {                  \
        _tile_dpbf16ps(0, 4, 6);                                                         \
        LOAD_SECOND(7, b + TILE);                                                        \
        PREFETCH(x0);                                                                    \
        PREFETCH(x1);                                                                    \
        x0 += ahead->step, x1 += ahead->step;                                            \
        _tile_dpbf16ps(2, 5, 6);                                                         \
        LOAD_SECOND(6, b + 2 * TILE);                                                    \
        _tile_dpbf16ps(1, 4, 7);                                                         \
        LOAD_FIRST(4, a + 2 * TILE);                                                     \
        _tile_dpbf16ps(3, 5, 7);                                                         \
        LOAD_FIRST(5, a + 3 * TILE);                                                     \
    }                                                                                    \
    _tile_dpbf16ps(0, 4, 6);                                                             \
    LOAD_SECOND(7, b + TILE);                                                            \
    _tile_dpbf16ps(2, 5, 6);                                                             \
    _tile_dpbf16ps(1, 4, 7);                                                             \
    _tile_dpbf16ps(3, 5, 7);

static void multiply(float *c, const struct gemm_rows *first, const void *second,
                     int64_t steps, bool accumulate, bool first_passes,
                     const struct gemm_ahead *ahead)
{
    enum { ROW = GEMM_SIDE * sizeof(float) };
    const uint16_t *a = first->x, *b = second;
    float *below = c + SIDE * GEMM_SIDE;
    const char *x0 = ahead->x[0], *x1 = ahead->x[1];
    if (accumulate) {
        _tile_loadd(0, c, ROW);
        _tile_loadd(1, c + SIDE, ROW);
        _tile_loadd(2, below, ROW);
        _tile_loadd(3, below + SIDE, ROW);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    if (first_passes) {
        STEPS(LOAD_STAYING, LOAD_PASSING)
    } else {
        STEPS(LOAD_PASSING, LOAD_STAYING)
    }
    _tile_stored(0, c, ROW);
    _tile_stored(1, c + SIDE, ROW);
    _tile_stored(2, below, ROW);
    _tile_stored(3, below + SIDE, ROW);
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

static void multiply(float *c, const struct gemm_rows *first, const void *second,
                     int64_t steps, bool accumulate, bool first_passes,
                     const struct gemm_ahead *ahead)
{
    (void)c, (void)first, (void)second, (void)steps, (void)accumulate, (void)first_passes;
    (void)ahead;
}
#endif

const struct gemm_kernel gemm_amx = {.elem_bytes = sizeof(uint16_t),
                                     .step_bytes = GEMM_BF16_STEP * sizeof(uint16_t),
                                     .depth = 768,
                                     .block_bytes = 640 * 1024,
                                     .begin = amx_begin,
                                     .end = amx_end,
                                     .pack_step = gemm_bf16_pack_step,
                                     .multiply = multiply};
