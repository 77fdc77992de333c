/* transpose_tile - blocks of 16 x 16 numbers of 32 bits, turned. */
#pragma once

#include <stdint.h>
#include <string.h>

#ifdef __AVX512F__
#include <immintrin.h>

/* Of 16 rows of 16 dwords, the columns. */
static inline void transpose_registers(__m512i r[16])
{
    __m512i t[16];
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88);
        t[4 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
        t[8 + i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
        t[12 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[4 + i], 0x88);
        r[8 + i] = _mm512_shuffle_i32x4(t[i], t[4 + i], 0xdd);
        r[4 + i] = _mm512_shuffle_i32x4(t[8 + i], t[12 + i], 0x88);
        r[12 + i] = _mm512_shuffle_i32x4(t[8 + i], t[12 + i], 0xdd);
    }
}
#endif

/* to[j, i] = from[i, j] for i, j < 16; rows of dwords, ld apart. */
static inline void transpose_tile(void *to, int64_t to_ld, const void *from,
                                  int64_t from_ld)
{
    char *y = to;
    const char *x = from;
#ifdef __AVX512F__
    __m512i r[16];
    for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_si512(x + 4 * i * from_ld);
    transpose_registers(r);
    for (int i = 0; i < 16; i++) _mm512_storeu_si512(y + 4 * i * to_ld, r[i]);
#else
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 16; j++)
            memcpy(y + 4 * (j * to_ld + i), x + 4 * (i * from_ld + j), 4);
#endif
}
