/* elem - the type of activations and weights that a *_cpu.c is compiled for: fp32, or bf16 with all
 * arithmetic in fp32.  NN_BF16 says which; loops over get() and put() vectorise for both. */
#pragma once

#include "nn/nn_impl.h"
#include "nn/simd_math.h"

#ifdef NN_BF16
#define NN_TYPE bf16
typedef uint16_t elem;
#define ELEM_DTYPE DTYPE_BF16

static inline float get(elem x)
{
    return nn_float_of_bits((uint32_t)x << 16);
}

/* Rounded to nearest even; NaN stays NaN. */
static inline elem put(float x)
{
    const uint32_t u = nn_bits_of_float(x);
    const uint32_t rounded = (u + 0x7fff + (u >> 16 & 1)) >> 16;
    return (elem)(x == x ? rounded : (u >> 16 | 0x40));
}
#else
#define NN_TYPE    fp32
typedef float elem;
#define ELEM_DTYPE DTYPE_F32

static inline float get(elem x)
{
    return x;
}

static inline elem put(float x)
{
    return x;
}
#endif

/* A tensor's numbers; it must be of this type. */
static inline elem *elems(const struct tensor *x)
{
    CHECK(x->dtype == ELEM_DTYPE);
    return x->data;
}

/* rows rows of n numbers, ld apart, in fp32: themselves, or copied into `room` [rows, n]; *ld then
 * becomes n. */
static inline const float *rows_in_fp32(float *room, const elem *x, int64_t *ld,
                                        int64_t rows, int64_t n)
{
#ifdef NN_BF16
    for (int64_t i = 0; i < rows; i++) {
        const elem *from = x + i * *ld;
        float *to = room + i * n;
#pragma omp simd
        for (int64_t j = 0; j < n; j++) to[j] = get(from[j]);
    }
    *ld = n;
    return room;
#else
    (void)room, (void)ld, (void)rows, (void)n;
    return x;
#endif
}

/* The tables, one for each instruction set and type: NN_CPU(name) is name_base_fp32, ... */
#define NN_JOIN_(a, b, c) a##_##b##_##c
#define NN_JOIN(a, b, c)  NN_JOIN_(a, b, c)
#define NN_CPU(name)      NN_JOIN(name, NN_ISA, NN_TYPE)
