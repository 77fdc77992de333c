/* What is done with the numbers themselves: sums in rank order, copies. */
#include <stdint.h>
#include <string.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

#include "parallel/comm/comm_impl.h"

enum {
    BLOCK = 1024,          /* numbers that stay in the first cache */
    STREAM_BYTES = 1 << 20 /* copies from this length on go past the caches */
};

/* `into` may be a or b: the compiler is told that no number depends on an earlier one. */
static inline __attribute__((always_inline)) void add_loop(float *into, const float *a,
                                                           const float *b, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) into[i] = a[i] + b[i];
}

static void add_any(float *into, const float *a, const float *b, int64_t n)
{
    add_loop(into, a, b, n);
}

#ifdef __x86_64__
/* Measured on 2 ranks of one host, 512 KiB to 128 MiB each: registers as long as a line of the cache
 * make sums and copies a fifth to a half faster, and copies of 8 MiB that do not read what they
 * overwrite another 40 %; those of 512 KiB are slower so. */
__attribute__((target("avx512f"))) static void add_avx512(float *into, const float *a,
                                                          const float *b, int64_t n)
{
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        _mm512_storeu_ps(into + i,
                         _mm512_add_ps(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i)));
    add_loop(into + i, a + i, b + i, n - i);
}

__attribute__((target("avx512f"))) static void stream_avx512(char *into, const char *from,
                                                             size_t bytes)
{
    size_t i = (64 - (uintptr_t)into % 64) % 64;
    memcpy(into, from, i);
    for (; i + 64 <= bytes; i += 64)
        _mm512_stream_si512((__m512i *)(void *)(into + i), _mm512_loadu_si512(from + i));
    memcpy(into + i, from + i, bytes - i);
    _mm_sfence(); /* before anybody is told that they are there */
}

static bool has_avx512(void)
{
    return __builtin_cpu_supports("avx512f");
}
#else
static bool has_avx512(void)
{
    return false;
}
#define add_avx512    add_any
#define stream_avx512 memcpy
#endif

static void add(float *into, const float *a, const float *b, int64_t n)
{
    if (has_avx512())
        add_avx512(into, a, b, n);
    else
        add_any(into, a, b, n);
}

static void sum_f32(const struct comm_sum *s, float *into, int64_t start, int64_t n)
{
    float sum[BLOCK];
    const float *const *parts = (const float *const *)s->parts;
    const float *so_far = parts[0] + start;
    for (int k = 1; k < s->n_parts; k++) {
        float *to = k + 1 < s->n_parts ? sum : into + start;
        add(to, so_far, parts[k] + start, n);
        so_far = to;
    }
}

/* x is what it would be after a journey as t. */
static void round_to(float *x, enum dtype t, int64_t n)
{
    uint16_t low[BLOCK];
    if (t == DTYPE_F32) return;
    dtype_convert(low, t, x, DTYPE_F32, n);
    dtype_convert(x, DTYPE_F32, low, t, n);
}

static void load(const struct comm_sum *s, float *x, int k, int64_t start, int64_t n)
{
    const bool travels = k != s->own && s->wire != s->t;
    const enum dtype t = travels && s->packed ? s->wire : s->t;
    dtype_convert(x, DTYPE_F32,
                  (const char *)s->parts[k] + (size_t)start * dtype_bytes(t), t, n);
    if (travels && !s->packed) round_to(x, s->wire, n);
}

static void sum_low(const struct comm_sum *s, char *into, int64_t start, int64_t n)
{
    float sum[BLOCK], part[BLOCK];
    load(s, sum, 0, start, n);
    for (int k = 1; k < s->n_parts; k++) {
        load(s, part, k, start, n);
        add(sum, sum, part, n);
    }
    if (s->wire != s->t && s->rounds) round_to(sum, s->wire, n);
    dtype_convert(into + (size_t)start * dtype_bytes(s->t), s->t, sum, DTYPE_F32, n);
}

void comm_sum_range(const struct comm_sum *s, int64_t start, int64_t end)
{
    const size_t element = dtype_bytes(s->t);
    for (; start < end; start += BLOCK) {
        const int64_t n = end - start < BLOCK ? end - start : BLOCK;
        if (s->t == DTYPE_F32 && s->wire == DTYPE_F32)
            sum_f32(s, s->into[0], start, n);
        else
            sum_low(s, s->into[0], start, n);
        const size_t skip = (size_t)start * element;
        for (int k = 1; k < s->n_into; k++)
            memcpy((char *)s->into[k] + skip, (const char *)s->into[0] + skip,
                   (size_t)n * element);
    }
}

void comm_copy(void *into, const void *from, size_t bytes)
{
    if (bytes >= STREAM_BYTES && has_avx512())
        stream_avx512(into, from, bytes);
    else if (bytes)
        memcpy(into, from, bytes);
}
