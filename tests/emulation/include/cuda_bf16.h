/* cuda_bf16 - the bfloat16 type of kernels, for the emulated device: conversions, no arithmetic. */
#pragma once

#include "cuda_runtime.h"

#ifdef __cplusplus

struct __nv_bfloat16 {
    uint16_t bits;
};
struct __align__(4) __nv_bfloat162
{
    __nv_bfloat16 x, y;
};

static inline float __bfloat162float(__nv_bfloat16 x)
{
    return __uint_as_float(static_cast<unsigned>(x.bits) << 16);
}

static inline __nv_bfloat16 __float2bfloat16_rn(float x) /* to nearest, ties to even */
{
    const unsigned u = __float_as_uint(x);
    if (x != x) return {0x7FFF};
    return {static_cast<uint16_t>((u + 0x7FFF + ((u >> 16) & 1)) >> 16)};
}
static inline __nv_bfloat16 __float2bfloat16(float x)
{
    return __float2bfloat16_rn(x);
}
static inline __nv_bfloat16 __float2bfloat16_rz(float x)
{
    return x != x ? __nv_bfloat16{0x7FFF}
                  : __nv_bfloat16{static_cast<uint16_t>(__float_as_uint(x) >> 16)};
}
static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits)
{
    return {bits};
}
static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x)
{
    return x.bits;
}
static inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y)
{
    return {x, y};
}
static inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y)
{
    return {__float2bfloat16_rn(x), __float2bfloat16_rn(y)};
}
static inline float2 __bfloat1622float2(__nv_bfloat162 v)
{
    return make_float2(__bfloat162float(v.x), __bfloat162float(v.y));
}
static inline float __low2float(__nv_bfloat162 v)
{
    return __bfloat162float(v.x);
}
static inline float __high2float(__nv_bfloat162 v)
{
    return __bfloat162float(v.y);
}

#endif /* __cplusplus */
