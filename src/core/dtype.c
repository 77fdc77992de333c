#include "core/dtype.h"

#include <string.h>

#include "core/log.h"

static const struct {
    const char *name;
    size_t bytes;
} table[DTYPE_COUNT] = {
    [DTYPE_F32] = {"fp32", 4},
    [DTYPE_BF16] = {"bf16", 2},
    [DTYPE_F16] = {"fp16", 2},
    [DTYPE_I32] = {"int32", 4},
};

size_t dtype_bytes(enum dtype t)
{
    return table[t].bytes;
}

const char *dtype_name(enum dtype t)
{
    return table[t].name;
}

static uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static float float_of(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

uint16_t dtype_bf16(float x)
{
    const uint32_t u = bits_of(x);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(u >> 16 | 0x40); /* quiet NaN */
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

float dtype_from_bf16(uint16_t x)
{
    return float_of((uint32_t)x << 16);
}

uint16_t dtype_f16(float x)
{
    const uint32_t u = bits_of(x), sign = u >> 16 & 0x8000, magnitude = u & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00);
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00); /* rounds to 65536 */
    if (magnitude < 0x38800000u) { /* below 2^-14: the addition rounds at 2^-24 */
        const float sum = float_of(magnitude) + 0.5f;
        return (uint16_t)(sign | (bits_of(sum) - 0x3f000000u));
    }
    const uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
    return (uint16_t)(sign | ((rounded - 0x38000000u) >> 13));
}

float dtype_from_f16(uint16_t x)
{
    const uint32_t sign = (uint32_t)(x & 0x8000) << 16, magnitude = x & 0x7fff;
    if (magnitude >= 0x7c00)
        return float_of(sign | 0x7f800000u | (magnitude & 0x3ff) << 13);
    if (magnitude < 0x400) { /* m * 2^-24 is exact */
        const float m = (float)magnitude * 0x1p-24f;
        return sign ? -m : m;
    }
    return float_of(sign | ((magnitude << 13) + 0x38000000u));
}

void dtype_convert(void *y, enum dtype to, const void *x, enum dtype from, int64_t n)
{
    CHECK(to <= DTYPE_F16 && from <= DTYPE_F16);
    if (to == from) {
        memcpy(y, x, (size_t)n * dtype_bytes(to));
        return;
    }
    const uint16_t *x16 = x;
    const float *x32 = x;
    uint16_t *y16 = y;
    float *y32 = y;
    for (int64_t i = 0; i < n; i++) {
        const float v = from == DTYPE_F32    ? x32[i]
                        : from == DTYPE_BF16 ? dtype_from_bf16(x16[i])
                                             : dtype_from_f16(x16[i]);
        if (to == DTYPE_F32)
            y32[i] = v;
        else
            y16[i] = to == DTYPE_BF16 ? dtype_bf16(v) : dtype_f16(v);
    }
}
