/* simd_math - exp and 2^x in fp32 that the compiler can put into vector registers.
 *
 * All are straight-line code (selections, no branches, no calls, no conversions that SSE2
 * lacks), so a loop over them vectorises for every instruction set; libm's do not.  Included by
 * the *_cpu.c files of this folder. */
#pragma once

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t nn_bits_of_float(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float nn_float_of_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* exp(x), relative error below 2e-7 wherever the result is a normal number; below -87.33 it is
 * 0, above 88.72 infinity; NaN stays NaN.
 *
 *   x = n ln2 + r, |r| <= ln2/2      exp(x) = 2^n exp(r)
 *
 * exp(r) is a degree-6 polynomial (Cephes' expf coefficients, S. Moshier 1989).  Adding 1.5 * 2^23
 * rounds to an integer and leaves n in the low bits of the sum, which the shift brings to where
 * the exponent is; it is added there, so that n = 128 still works. */
static inline float nn_exp(float x)
{
    const float shift = 12582912.0f; /* 1.5 * 2^23 */
    const float t = x * 1.44269504088896341f + shift;
    const float n = t - shift;
    const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f; /* ln2 in two parts */
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    float y = nn_float_of_bits(nn_bits_of_float(p) + (nn_bits_of_float(t) << 23));
    y = x < -87.336f ? 0.0f : y;
    y = x > 88.722f ? HUGE_VALF : y;
    return x == x ? y : x;
}

/* 2^r for |r| <= 1/2: the polynomials whose largest relative error is least (Remez' algorithm). */
static inline float nn_exp2_fraction(float r) /* 8e-8 */
{
    float p = 1.327647198e-3f;
    p = p * r + 9.675541334e-3f;
    p = p * r + 5.550713274e-2f;
    p = p * r + 2.402211972e-1f;
    p = p * r + 6.931469671e-1f;
    return p * r + 1.0f;
}

static inline float nn_exp2_rough_fraction(float r) /* 2.7e-6 */
{
    float p = 9.570101908e-3f;
    p = p * r + 5.591786032e-2f;
    p = p * r + 2.402474483e-1f;
    p = p * r + 6.931218147e-1f;
    return p * r + 9.999992614e-1f;
}

/* What softmax needs of 2^x: right for x from -126 to 127, 0 below; NaN stays NaN.  Half of the work of
 * nn_exp, because scores are multiplied by something anyway and log2(e) can be part of it.  Relative
 * error below 3e-7, or, `rough`, below 3e-6, which is little where results are rounded to bf16. */
static inline float nn_exp2(float x, bool rough)
{
    const float shift = 12582912.0f; /* as in nn_exp */
    const float t = x + shift;
    const float r = x - (t - shift);
    const float p = rough ? nn_exp2_rough_fraction(r) : nn_exp2_fraction(r);
    const float y = nn_float_of_bits(nn_bits_of_float(p) + (nn_bits_of_float(t) << 23));
    return x < -126.0f ? 0.0f : y;
}
