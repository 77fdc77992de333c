/* VDPBF16PS: each of 16 sums gets the products of a pair of numbers.  Compiled once, for CPUs that
 * have it. */
#include "nn/gemm_bf16.h"

#ifdef __AVX512BF16__
#include <cpuid.h>
#include <immintrin.h>
#include <string.h>

enum { TILE = 512, SIDE = 16, ROWS = 8, PAIRS = 16 };

bool gemm_dot_usable(void)
{
    unsigned a, b, c, d;
    if (!__builtin_cpu_supports("avx512bw") || !__get_cpuid_count(7, 1, &a, &b, &c, &d))
        return false;
    return a & 1U << 5;
}

/* ROWS rows of a tile by 32 columns */
static void some_rows(float *c, const struct gemm_rows *rows, const uint16_t *b,
                      int64_t steps, bool accumulate)
{
    const uint16_t *a = rows->x;
    const int64_t row = rows->row, step = rows->step;
    __m512 sum[ROWS][2];
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < 2; j++)
            sum[i][j] = accumulate ? _mm512_load_ps(c + i * GEMM_SIDE + j * SIDE)
                                   : _mm512_setzero_ps();
    for (int64_t k = 0; k < steps; k++, a += step, b += 2 * TILE)
        for (int p = 0; p < PAIRS; p++) {
            const __m512bh left = (__m512bh)_mm512_load_si512(b + 32 * p);
            const __m512bh right = (__m512bh)_mm512_load_si512(b + TILE + 32 * p);
            for (int i = 0; i < ROWS; i++) {
                int pair;
                memcpy(&pair, a + i * row + 2 * p, sizeof pair);
                const __m512bh x = (__m512bh)_mm512_set1_epi32(pair);
                sum[i][0] = _mm512_dpbf16_ps(sum[i][0], x, left);
                sum[i][1] = _mm512_dpbf16_ps(sum[i][1], x, right);
            }
        }
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < 2; j++)
            _mm512_store_ps(c + i * GEMM_SIDE + j * SIDE, sum[i][j]);
}

static void multiply(float *c, const struct gemm_rows *first, const void *second,
                     int64_t steps, bool accumulate, bool first_passes,
                     const struct gemm_ahead *ahead)
{
    struct gemm_rows rows = *first;
    (void)first_passes;
    for (int64_t k = 0; k < steps; k++) {
        _mm_prefetch(ahead->x[0] + k * ahead->step, _MM_HINT_T1);
        _mm_prefetch(ahead->x[1] + k * ahead->step, _MM_HINT_T1);
    }
    for (int i = 0; i < GEMM_SIDE; i += ROWS) {
        rows.x = (const uint16_t *)first->x + i * first->row;
        some_rows(c + i * GEMM_SIDE, &rows, second, steps, accumulate);
    }
}
#else
bool gemm_dot_usable(void)
{
    return false;
}

static void multiply(float *c, const struct gemm_rows *first, const void *second,
                     int64_t steps, bool accumulate, bool first_passes,
                     const struct gemm_ahead *ahead)
{
    (void)c, (void)first, (void)second, (void)steps, (void)accumulate, (void)first_passes;
    (void)ahead;
}
#endif

static void nothing(void)
{
}

const struct gemm_kernel gemm_dot = {.elem_bytes = sizeof(uint16_t),
                                     .step_bytes = GEMM_BF16_STEP * sizeof(uint16_t),
                                     .depth = 768,
                                     .block_bytes = 640 * 1024,
                                     .takes_rows = true,
                                     .begin = nothing,
                                     .end = nothing,
                                     .pack_step = gemm_bf16_pack_step,
                                     .multiply = multiply};
