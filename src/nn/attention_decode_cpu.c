/* Attention of one new row against a cache: a thread takes a kv head of a sequence with all
 * query heads that use it, so that the cache is read once. */
#include <math.h>
#include <omp.h>

#include "nn/attention_tile.h"
#include "nn/ops_cpu.h"
#include "nn/simd_math.h"

static void softmax(float *s, int64_t n)
{
    float m = -HUGE_VALF, l = 0;
#pragma omp simd reduction(max : m)
    for (int64_t j = 0; j < n; j++) m = s[j] > m ? s[j] : m;
#pragma omp simd reduction(+ : l)
    for (int64_t j = 0; j < n; j++) {
        s[j] = nn_exp(s[j] - m);
        l += s[j];
    }
    const float by = 1 / l;
#pragma omp simd
    for (int64_t j = 0; j < n; j++) s[j] *= by;
}

void NN_CPU(attention_decode)(int threads, float *y, float *cache_k, float *cache_v,
                              float *scratch, const float *qkv, int64_t length,
                              const struct nn_attention *a)
{
    const int64_t D = a->D, G = a->H / a->K, W = (a->H + 2 * a->K) * D, n = length + 1;
#pragma omp parallel num_threads(threads)
    {
        float *scores = scratch + omp_get_thread_num() * attention_decode_floats(a);
        const int64_t ld = attention_pad(a->T);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < a->B * a->K; i++) {
            const int64_t b = i / a->K, group = i % a->K;
            const float *q = qkv + b * W + group * G * D;
            const float *k = qkv + b * W + (a->H + group) * D;
            float *ck = cache_k + (b * a->T * a->K + group) * D;
            float *cv = cache_v + (b * a->T * a->K + group) * D;
            memcpy(ck + length * a->K * D, k, (size_t)D * sizeof *k);
            memcpy(cv + length * a->K * D, k + a->K * D, (size_t)D * sizeof *k);
            nn_gemm(false, true, G, n, D, a->scale, q, D, ck, a->K * D, 0, scores, ld);
            for (int64_t g = 0; g < G; g++) softmax(scores + g * ld, n);
            nn_gemm(false, false, G, D, n, 1, scores, ld, cv, a->K * D, 0,
                    y + (b * a->H + group * G) * D, D);
        }
    }
}
