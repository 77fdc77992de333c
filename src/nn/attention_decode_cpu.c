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

/* scores[j] = scale q k[j], for n rows ld apart */
static void score(float *scores, const elem *q, const elem *k, int64_t ld, float scale,
                  int64_t n, int64_t D)
{
    for (int64_t j = 0; j < n; j++) {
        float s = 0;
#pragma omp simd reduction(+ : s)
        for (int64_t d = 0; d < D; d++) s += get(q[d]) * get(k[j * ld + d]);
        scores[j] = scale * s;
    }
}

/* y = sum over j of p[j] v[j], summed in `sum` [D] */
static void weigh(elem *y, float *sum, const float *p, const elem *v, int64_t ld,
                  int64_t n, int64_t D)
{
    memset(sum, 0, (size_t)D * sizeof *sum);
    for (int64_t j = 0; j < n; j++)
#pragma omp simd
        for (int64_t d = 0; d < D; d++) sum[d] += p[j] * get(v[j * ld + d]);
    for (int64_t d = 0; d < D; d++) y[d] = put(sum[d]);
}

void NN_CPU(attention_decode)(int threads, elem *y, elem *cache_k, elem *cache_v,
                              float *scratch, const elem *qkv, int64_t length,
                              const struct nn_attention *a)
{
    const int64_t D = a->D, G = a->H / a->K, W = (a->H + 2 * a->K) * D, n = length + 1;
#pragma omp parallel num_threads(threads)
    {
        float *scores = scratch + omp_get_thread_num() * attention_decode_floats(a);
        float *sum = scores + attention_pad(a->T);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < a->B * a->K; i++) {
            const int64_t b = i / a->K, group = i % a->K;
            const elem *q = qkv + b * W + group * G * D;
            const elem *k = qkv + b * W + (a->H + group) * D;
            elem *ck = cache_k + (b * a->T * a->K + group) * D;
            elem *cv = cache_v + (b * a->T * a->K + group) * D;
            elem *to = y + (b * a->H + group * G) * D;
            memcpy(ck + length * a->K * D, k, (size_t)D * sizeof *k);
            memcpy(cv + length * a->K * D, k + a->K * D, (size_t)D * sizeof *k);
            for (int64_t g = 0; g < G; g++) {
                score(scores, q + g * D, ck, a->K * D, a->scale, n, D);
                softmax(scores, n);
                weigh(to + g * D, sum, scores, cv, a->K * D, n, D);
            }
        }
    }
}
