/* vec - as many fp32 numbers as a register of the instruction set holds, VEC of them, and what
 * passes over memory do with them.
 *
 * A vec is added, multiplied and compared as C does it.  Here is what C has no word for: loads and
 * stores in the type of activations, the last few of a row, sums, exp, reciprocal.  AVX-512 has
 * instructions for some of it, the other instruction sets get it from the compiler.  Included by
 * the *_cpu.c files of this folder after elem.h. */
#pragma once

#include "nn/elem.h"

#ifdef __AVX512F__
#include <immintrin.h>
enum { VEC = 16 };
#elif defined __AVX2__
enum { VEC = 8 };
#else
enum { VEC = 4 };
#endif

typedef float vec __attribute__((vector_size(VEC * sizeof(float))));
typedef uint32_t vec_bits __attribute__((vector_size(VEC * sizeof(float))));
typedef uint16_t vec_half_bits __attribute__((vector_size(VEC * sizeof(uint16_t))));

/* A row of `count` numbers from its start: in round i the n numbers that begin there, VEC of them
 * but in the last round. */
#define EACH_VEC(i, n, count)                                                            \
    for (int64_t i = 0, n; n = (count)-i < VEC ? (count)-i : VEC, i < (count); i += VEC)

/* VEC times x */
static inline vec vec_of(float x)
{
    return x - (vec){0};
}

/* ---- loads and stores --------------------------------------------------------------------- */

/* x[0..n), zeros behind them */
static inline vec vec_load_floats(const float *x, int64_t n)
{
    vec v = {0};
    if (n >= VEC)
        memcpy(&v, x, sizeof v);
    else
#ifdef __AVX512F__
        v = (vec)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), x);
#else
        memcpy(&v, x, (size_t)n * sizeof *x);
#endif
    return v;
}

static inline void vec_store_floats(float *x, vec v, int64_t n)
{
    if (n >= VEC)
        memcpy(x, &v, sizeof v);
    else
#ifdef __AVX512F__
        _mm512_mask_storeu_ps(x, (__mmask16)((1u << n) - 1), (__m512)v);
#else
        memcpy(x, &v, (size_t)n * sizeof *x);
#endif
}

#ifdef NN_BF16
static inline vec vec_load(const elem *x, int64_t n)
{
    vec_half_bits half = {0};
    if (n >= VEC)
        memcpy(&half, x, sizeof half);
    else
#ifdef __AVX512F__
        half = (vec_half_bits)_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), x);
    return (vec)((vec_bits)_mm512_cvtepu16_epi32((__m256i)half) << 16);
#else
        memcpy(&half, x, (size_t)n * sizeof *x);
    return (vec)(__builtin_convertvector(half, vec_bits) << 16);
#endif
}

/* put(v), each; the instruction for it takes numbers below the normal ones for 0 */
static inline vec_half_bits vec_put(vec v)
{
#ifdef __AVX512BF16__
    return (vec_half_bits)_mm512_cvtneps_pbh((__m512)v);
#else
    const vec_bits u = (vec_bits)v, rounded = u + 0x7fff + (u >> 16 & 1);
#ifdef __AVX512F__
    const __mmask16 nan = _mm512_cmp_ps_mask((__m512)v, (__m512)v, _CMP_UNORD_Q);
    const vec_bits kept = (vec_bits)_mm512_mask_or_epi32(
        (__m512i)rounded, nan, (__m512i)u, _mm512_set1_epi32(0x400000));
    return (vec_half_bits)_mm512_cvtepi32_epi16((__m512i)(kept >> 16));
#else
    const vec_bits nan = (vec_bits)(v != v);
    return __builtin_convertvector(((rounded & ~nan) | ((u | 0x400000) & nan)) >> 16,
                                   vec_half_bits);
#endif
#endif
}

static inline void vec_store(elem *x, vec v, int64_t n)
{
    const vec_half_bits half = vec_put(v);
    if (n >= VEC)
        memcpy(x, &half, sizeof half);
    else
#ifdef __AVX512F__
        _mm256_mask_storeu_epi16(x, (__mmask16)((1u << n) - 1), (__m256i)half);
#else
        memcpy(x, &half, (size_t)n * sizeof *x);
#endif
}
#else
static inline vec vec_load(const elem *x, int64_t n)
{
    return vec_load_floats(x, n);
}

static inline void vec_store(elem *x, vec v, int64_t n)
{
    vec_store_floats(x, v, n);
}
#endif

/* x[0..n) += v */
static inline void vec_add_to(float *x, vec v, int64_t n)
{
    vec_store_floats(x, vec_load_floats(x, n) + v, n);
}

/* The first n numbers of v, zeros behind them. */
static inline vec vec_first(vec v, int64_t n)
{
    if (n >= VEC) return v;
    vec first = {0};
    vec_store_floats((float *)&first, v, n);
    return first;
}

/* ---- over the numbers of one vec ------------------------------------------------------------ */

/* In halves, so that rounding is that of a tree. */
static inline float vec_sum(vec v)
{
#ifdef __AVX512F__
    return _mm512_reduce_add_ps((__m512)v);
#else
    float x[VEC];
    memcpy(x, &v, sizeof x);
    for (int width = VEC / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++) x[i] += x[i + width];
    return x[0];
#endif
}

/* NaN does not count. */
static inline vec vec_max(vec a, vec b)
{
#ifdef __AVX512F__
    return (vec)_mm512_max_ps((__m512)b, (__m512)a);
#else
    const vec_bits greater = (vec_bits)(b > a);
    return (vec)(((vec_bits)b & greater) | ((vec_bits)a & ~greater));
#endif
}

static inline float vec_greatest(vec v)
{
    float x[VEC], most = -HUGE_VALF;
    memcpy(x, &v, sizeof x);
    for (int i = 0; i < VEC; i++) most = x[i] > most ? x[i] : most;
    return most;
}

/* ---- functions -------------------------------------------------------------------------------- */

#ifdef __AVX512F__
/* 2^(x by), 0 where that is below the normal numbers or x by is -infinity; `rest` is what a float
 * leaves out of `by`.
 *   t = x by      2^t = 2^floor(t) 2^r, 0 <= r < 1
 * 2^r is a polynomial of least relative error, 8e-8; r also has what rounding t took away. */
static inline vec vec_power_of_2(vec x, float by, float rest)
{
    const vec t = x * by;
    vec r = (vec)_mm512_reduce_ps((__m512)t, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    r += x * rest + (vec)_mm512_fmsub_ps((__m512)x, (__m512)vec_of(by), (__m512)t);
    vec p = 1.8671316793e-3f * r + 9.0170269832e-3f;
    p = p * r + 5.5799916386e-2f;
    p = p * r + 2.4016444385e-1f;
    p = p * r + 6.9315129519e-1f;
    p = p * r + 1.0f;
    const __mmask16 normal =
        _mm512_cmp_ps_mask((__m512)t, _mm512_set1_ps(-126.0f), _CMP_NLT_UQ);
    return (vec)_mm512_maskz_scalef_ps(normal, (__m512)p, (__m512)t);
}
#endif

/* exp(x), each, as nn_exp (simd_math.h) of numbers that are not far above 88.72: there it may be
 * NaN. */
static inline vec vec_exp(vec x)
{
#ifdef __AVX512F__
    return vec_power_of_2(x, 1.44269504f, 1.92596299e-8f);
#else
    float y[VEC];
    memcpy(y, &x, sizeof y);
    for (int i = 0; i < VEC; i++) y[i] = nn_exp(y[i]);
    memcpy(&x, y, sizeof x);
    return x;
#endif
}

/* 1 / (1 + exp(-x)), 0 below -87 */
static inline vec vec_sigmoid(vec x)
{
#ifdef __AVX512F__
    const vec d = vec_power_of_2(x, -1.44269504f, -1.92596299e-8f) + 1.0f;
    vec s = (vec)_mm512_rcp14_ps((__m512)d);
    s += s * (1.0f - d * s); /* a step of Newton's makes 28 bits of 14 */
    const __mmask16 above =
        _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(-87.0f), _CMP_NLT_UQ);
    return (vec)_mm512_maskz_mov_ps(above, (__m512)s);
#else
    return 1.0f / (vec_exp(-x) + 1.0f);
#endif
}
