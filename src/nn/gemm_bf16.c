/* Four forms: an operand's rows are across the sum or along it, and it is the first or the second.  Two
 * of them need a transposition, which costs least where a register is gathered from four places. */
#include "nn/gemm_bf16.h"

#ifdef __AVX512BW__
#include <immintrin.h>

enum { TILE = 512, SIDE = 16 };

/* 8 numbers of each of four places, `step` apart */
static inline __m512i lanes(const uint16_t *x, int64_t step)
{
    const __m128i a = _mm_loadu_si128((const void *)x);
    const __m128i b = _mm_loadu_si128((const void *)(x + step));
    const __m128i c = _mm_loadu_si128((const void *)(x + 2 * step));
    const __m128i d = _mm_loadu_si128((const void *)(x + 3 * step));
    __m512i r = _mm512_mask_broadcast_i32x4(_mm512_castsi128_si512(a), 0x00f0, b);
    r = _mm512_mask_broadcast_i32x4(r, 0x0f00, c);
    return _mm512_mask_broadcast_i32x4(r, 0xf000, d);
}

/* 16 rows of 32 numbers */
static void rows_first(uint16_t *to, const uint16_t *x, int64_t ld)
{
    for (int i = 0; i < SIDE; i++)
        _mm512_store_si512(to + 32 * i, _mm512_loadu_si512(x + i * ld));
}

/* 16 rows of 16 pairs: the pairs of all rows side by side */
static void rows_second(uint16_t *to, const uint16_t *x, int64_t ld)
{
    for (int s = 0; s < 4; s++, x += 8, to += 4 * 32) {
        const __m512i a = lanes(x, 4 * ld), b = lanes(x + ld, 4 * ld);
        const __m512i c = lanes(x + 2 * ld, 4 * ld), d = lanes(x + 3 * ld, 4 * ld);
        const __m512i ab = _mm512_unpacklo_epi32(a, b), cd = _mm512_unpacklo_epi32(c, d);
        const __m512i AB = _mm512_unpackhi_epi32(a, b), CD = _mm512_unpackhi_epi32(c, d);
        _mm512_store_si512(to, _mm512_unpacklo_epi64(ab, cd));
        _mm512_store_si512(to + 32, _mm512_unpackhi_epi64(ab, cd));
        _mm512_store_si512(to + 64, _mm512_unpacklo_epi64(AB, CD));
        _mm512_store_si512(to + 96, _mm512_unpackhi_epi64(AB, CD));
    }
}

/* 32 rows along the sum of 8 numbers: 8 rows of 32 numbers */
static inline void deep_eight(uint16_t *to, const uint16_t *x, int64_t ld)
{
    __m512i t[8];
    for (int i = 0; i < 4; i++) {
        const __m512i a = lanes(x + 2 * i * ld, 8 * ld);
        const __m512i b = lanes(x + (2 * i + 1) * ld, 8 * ld);
        t[i] = _mm512_unpacklo_epi16(a, b);
        t[4 + i] = _mm512_unpackhi_epi16(a, b);
    }
    for (int half = 0; half < 2; half++, to += 4 * 32) {
        const __m512i *p = t + 4 * half;
        const __m512i a = _mm512_unpacklo_epi32(p[0], p[1]);
        const __m512i b = _mm512_unpacklo_epi32(p[2], p[3]);
        const __m512i A = _mm512_unpackhi_epi32(p[0], p[1]);
        const __m512i B = _mm512_unpackhi_epi32(p[2], p[3]);
        _mm512_store_si512(to, _mm512_unpacklo_epi64(a, b));
        _mm512_store_si512(to + 32, _mm512_unpackhi_epi64(a, b));
        _mm512_store_si512(to + 64, _mm512_unpacklo_epi64(A, B));
        _mm512_store_si512(to + 96, _mm512_unpackhi_epi64(A, B));
    }
}

static void deep_first(uint16_t *to, const uint16_t *x, int64_t ld)
{
    deep_eight(to, x, ld);
    deep_eight(to + TILE / 2, x + 8, ld);
}

/* 32 rows along the sum of 32 numbers: two tiles of pairs */
static void deep_second(uint16_t *to, const uint16_t *x, int64_t ld)
{
    const __m512i low = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
    const __m512i high = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    for (int p = 0; p < SIDE; p++, to += 32, x += 2 * ld) {
        const __m512i even = _mm512_loadu_si512(x), odd = _mm512_loadu_si512(x + ld);
        const __m512i a = _mm512_unpacklo_epi16(even, odd);
        const __m512i b = _mm512_unpackhi_epi16(even, odd);
        _mm512_store_si512(to, _mm512_permutex2var_epi64(a, low, b));
        _mm512_store_si512(to + TILE, _mm512_permutex2var_epi64(a, high, b));
    }
}

void gemm_bf16_pack_step(void *to, const void *from, int64_t ld, bool deep, bool second)
{
    const uint16_t *x = from;
    uint16_t *tiles = to;
    if (deep && second) {
        deep_second(tiles, x, ld);
        return;
    }
    const int64_t half = deep ? SIDE : SIDE * ld;
    void (*const pack)(uint16_t *, const uint16_t *, int64_t) = deep     ? deep_first
                                                                : second ? rows_second
                                                                         : rows_first;
    pack(tiles, x, ld);
    pack(tiles + TILE, x + half, ld);
}
#else
#include "core/log.h"

void gemm_bf16_pack_step(void *to, const void *x, int64_t ld, bool deep, bool second)
{
    (void)to, (void)x, (void)ld, (void)deep, (void)second;
    die("this program was built without AVX-512");
}
#endif
