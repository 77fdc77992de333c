/* cuda_fp16 - the half type of kernels, for the emulated device: conversions, no arithmetic. */
#pragma once

#include "cuda_runtime.h"

#ifdef __cplusplus

struct __half {
    uint16_t bits;
};
struct __align__(4) __half2
{
    __half x, y;
};

static inline float __half2float(__half h)
{
    const unsigned sign = static_cast<unsigned>(h.bits & 0x8000) << 16;
    const unsigned magnitude = static_cast<unsigned>(h.bits & 0x7FFF) << 13;
    if (magnitude >= 0x0F800000) return __uint_as_float(sign | 0x70000000 | magnitude);
    /* the exponent is 112 too low; a product is right for subnormal numbers as well */
    return __uint_as_float(sign | __float_as_uint(__uint_as_float(magnitude) * 0x1p112f));
}

static inline __half __float2half_rn(float x) /* to nearest, ties to even */
{
    const unsigned u = __float_as_uint(x), magnitude = u & 0x7FFFFFFF;
    const unsigned sign = (u >> 16) & 0x8000;
    unsigned bits;
    if (magnitude > 0x7F800000) { /* NaN */
        return {0x7FFF};
    } else if (magnitude >= 0x477FF000) { /* from 65520 on: infinity */
        bits = 0x7C00;
    } else if (magnitude < 0x38800000) {
        /* below 2^-14: in the last place of this sum one unit is 2^-24, so that adding rounds */
        bits = __float_as_uint(__uint_as_float(magnitude) + 0.5f) - 0x3F000000;
    } else {
        bits = (magnitude - 0x38000000 + 0xFFF + ((magnitude >> 13) & 1)) >> 13;
    }
    return {static_cast<uint16_t>(sign | bits)};
}
static inline __half __float2half(float x)
{
    return __float2half_rn(x);
}
static inline __half __ushort_as_half(unsigned short bits)
{
    return {bits};
}
static inline unsigned short __half_as_ushort(__half x)
{
    return x.bits;
}
static inline __half2 __halves2half2(__half x, __half y)
{
    return {x, y};
}
static inline __half2 __floats2half2_rn(float x, float y)
{
    return {__float2half_rn(x), __float2half_rn(y)};
}
static inline float2 __half22float2(__half2 v)
{
    return make_float2(__half2float(v.x), __half2float(v.y));
}
static inline float __low2float(__half2 v)
{
    return __half2float(v.x);
}
static inline float __high2float(__half2 v)
{
    return __half2float(v.y);
}

#endif /* __cplusplus */
