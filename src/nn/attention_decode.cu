/* Attention of one new row against a cache.  All of it is reading the cache once, which one block
 * a head could not keep the memory busy with: the rows are cut into parts, each part's block makes
 * its own softmax and sum of values, and a second kernel puts the parts together in their order.
 *
 * The new row goes into the cache on the way: blocks of the last part take it from qkv instead,
 * since another head's block may be about to write it. */
#include "nn/cuda_kernel.h"

enum {
    DECODE_KEYS = 256, /* of a part */
    DECODE_THREADS = 128,
    DECODE_WARPS = DECODE_THREADS / CUDA_WARP,
    DECODE_COLUMNS = 8, /* of a lane: D <= 256 */
    DECODE_D = DECODE_COLUMNS * CUDA_WARP
};

/* What a part leaves in scratch: maximum and sum of its scores, sum of exp(score - max) v. */
static int64_t part_floats(const struct nn_attention *a)
{
    return 2 + a->D;
}

/* Row j of a kv head: cached, or the new one. */
template <typename T> struct cache_rows {
    const T *cached, *fresh;
    int64_t ld;
    int length;

    __device__ __forceinline__ const T *row(int j) const
    {
        return j == length ? fresh : cached + j * ld;
    }
};

/* score[j - from] of rows [from, to): a warp takes a row, its lanes every 32nd number */
template <typename T>
static __device__ __forceinline__ void decode_scores(float *score, const cache_rows<T> &k,
                                                     const T *q, int from, int to, int D,
                                                     float scale)
{
    const int lane = threadIdx.x % CUDA_WARP;
    float u[DECODE_COLUMNS];
#pragma unroll
    for (int i = 0; i < DECODE_COLUMNS; i++) {
        const int d = lane + CUDA_WARP * i;
        u[i] = d < D ? to_float(q[d]) : 0.0f;
    }
#pragma unroll 4
    for (int j = from + (int)threadIdx.x / CUDA_WARP; j < to; j += DECODE_WARPS) {
        const T *const row = k.row(j);
        float s = 0;
#pragma unroll
        for (int i = 0; i < DECODE_COLUMNS; i++) {
            const int d = lane + CUDA_WARP * i;
            if (d < D) s = fmaf(u[i], to_float(row[d]), s);
        }
        s = warp_sum(s);
        if (lane == 0) score[j - from] = s * scale;
    }
}

/* sum[w, d] = sum of p[j - from] v[j,d] over the rows of warp w */
template <typename T>
static __device__ __forceinline__ void
decode_values(float *sum, const cache_rows<T> &v, const float *p, int from, int to, int D)
{
    const int lane = threadIdx.x % CUDA_WARP, warp = threadIdx.x / CUDA_WARP;
    float o[DECODE_COLUMNS] = {};
#pragma unroll 4
    for (int j = from + warp; j < to; j += DECODE_WARPS) {
        const T *const row = v.row(j);
        const float weight = p[j - from];
#pragma unroll
        for (int i = 0; i < DECODE_COLUMNS; i++) {
            const int d = lane + CUDA_WARP * i;
            if (d < D) o[i] = fmaf(weight, to_float(row[d]), o[i]);
        }
    }
#pragma unroll
    for (int i = 0; i < DECODE_COLUMNS; i++)
        sum[warp * DECODE_D + lane + CUDA_WARP * i] = o[i];
}

template <typename T>
static __global__ void __launch_bounds__(DECODE_THREADS)
    attention_decode_part(float *parts, T *cache_k, T *cache_v, const T *qkv, int length,
                          const struct nn_attention a)
{
    CUDA_SHARED(float, score, DECODE_KEYS);
    CUDA_SHARED(float, sum, DECODE_WARPS *DECODE_D);
    CUDA_SHARED(float, room, 33);
    const int D = (int)a.D, n_parts = length / DECODE_KEYS + 1;
    const int unit = blockIdx.x / n_parts, b = unit / (int)a.H, h = unit % (int)a.H;
    const int from = blockIdx.x % n_parts * DECODE_KEYS;
    const int to = min(from + DECODE_KEYS, length + 1), i = threadIdx.x;
    const int group = (int)(a.H / a.K), kv = h / group;
    const T *const q = qkv + b * (a.H + 2 * a.K) * D + h * D;
    const T *const new_k = qkv + (b * (a.H + 2 * a.K) + a.H + kv) * D;
    const T *const new_v = new_k + a.K * D;
    const int64_t head = (b * a.T * a.K + kv) * D, ld = a.K * D;

    const cache_rows<T> k = {cache_k + head, new_k, ld, length};
    const cache_rows<T> v = {cache_v + head, new_v, ld, length};
    decode_scores(score, k, q, from, to, D, a.scale);
    __syncthreads();
    float max = -INFINITY, all = 0;
    for (int j = i; j < to - from; j += DECODE_THREADS) max = fmaxf(max, score[j]);
    max = block_max(max, room);
    for (int j = i; j < to - from; j += DECODE_THREADS) {
        score[j] = expf(score[j] - max);
        all += score[j];
    }
    all = block_sum(all, room); /* and everybody sees the scores */
    decode_values(sum, v, score, from, to, D);
    __syncthreads();

    float *const part = parts + (int64_t)blockIdx.x * (2 + D);
    if (i == 0) part[0] = max, part[1] = all;
    for (int d = i; d < D; d += DECODE_THREADS) {
        float s = 0;
        for (int w = 0; w < DECODE_WARPS; w++) s += sum[w * DECODE_D + d];
        part[2 + d] = s;
        if (to == length + 1 && h % group == 0) {
            cache_k[head + length * ld + d] = new_k[d];
            cache_v[head + length * ld + d] = new_v[d];
        }
    }
}

/* y of a head from its parts; a block each */
template <typename T>
static __global__ void __launch_bounds__(DECODE_THREADS)
    attention_decode_sum(T *y, const float *parts, int n_parts, int D)
{
    const float *const part = parts + (int64_t)blockIdx.x * n_parts * (2 + D);
    float max = -INFINITY;
    for (int p = 0; p < n_parts; p++) max = fmaxf(max, part[p * (2 + D)]);
    for (int d = threadIdx.x; d < D; d += DECODE_THREADS) {
        float o = 0, all = 0;
        for (int p = 0; p < n_parts; p++) {
            const float by = expf(part[p * (2 + D)] - max);
            all = fmaf(by, part[p * (2 + D) + 1], all);
            o = fmaf(by, part[p * (2 + D) + 2 + d], o);
        }
        y[(int64_t)blockIdx.x * D + d] = from_float<T>(o / all);
    }
}

template <typename T>
static void decode(cudaStream_t s, T *y, T *cache_k, T *cache_v, float *scratch,
                   const T *qkv, int length, const struct nn_attention *a)
{
    const int n_parts = length / DECODE_KEYS + 1;
    const unsigned heads = (unsigned)(a->B * a->H);
    CUDA_LAUNCH(attention_decode_part<T>, heads * (unsigned)n_parts, DECODE_THREADS, 0, s,
                scratch, cache_k, cache_v, qkv, length, *a);
    CUDA_LAUNCH(attention_decode_sum<T>, heads, DECODE_THREADS, 0, s, y, scratch, n_parts,
                (int)a->D);
}

int64_t cuda_attention_decode_floats(const struct nn_attention *a)
{
    return a->B * a->H * ceil_div(a->T, DECODE_KEYS) * part_floats(a);
}

void cuda_attention_decode(cudaStream_t s, enum dtype t, void *y, void *cache_k,
                           void *cache_v, float *scratch, const void *qkv, int64_t length,
                           const struct nn_attention *a)
{
    if (a->D > DECODE_D)
        device_cuda_check(cudaErrorInvalidValue, "attention with a head size over 256");
    CUDA_FOR_TYPE(t, decode(s, static_cast<T *>(y), static_cast<T *>(cache_k),
                            static_cast<T *>(cache_v), scratch,
                            static_cast<const T *>(qkv), (int)length, a));
}
