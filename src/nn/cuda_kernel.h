/* cuda_kernel - what all .cu files of this folder share: number formats, 16-byte accesses,
 * reductions in a fixed order. */
#pragma once

#include "nn/cuda_instructions.h"
#include "nn/ops_cuda.h"

enum { CUDA_WARP = 32 };

/* ---- number formats ------------------------------------------------------------------------ */

static __device__ __forceinline__ float to_float(float x)
{
    return x;
}
static __device__ __forceinline__ float to_float(__nv_bfloat16 x)
{
    return __bfloat162float(x);
}
static __device__ __forceinline__ float to_float(__half x)
{
    return __half2float(x);
}

/* Round to nearest even; fp16 overflows to infinity, which the loss scale looks for. */
template <typename T> static __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x)
{
    return x;
}
template <> __device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float x)
{
    return __float2bfloat16_rn(x);
}
template <> __device__ __forceinline__ __half from_float<__half>(float x)
{
    return __float2half_rn(x);
}

/* Run `call` (uses type T) for the type that `dtype` names:
 *   CUDA_FOR_TYPE(t, gelu_fwd<T>(s, static_cast<T *>(y), ...)); */
#define CUDA_FOR_TYPE(dtype, ...)                                                        \
    do {                                                                                 \
        switch (dtype) {                                                                 \
        case DTYPE_F32: {                                                                \
            using T = float;                                                             \
            __VA_ARGS__;                                                                 \
            break;                                                                       \
        }                                                                                \
        case DTYPE_BF16: {                                                               \
            using T = __nv_bfloat16;                                                     \
            __VA_ARGS__;                                                                 \
            break;                                                                       \
        }                                                                                \
        case DTYPE_F16: {                                                                \
            using T = __half;                                                            \
            __VA_ARGS__;                                                                 \
            break;                                                                       \
        }                                                                                \
        default:                                                                         \
            device_cuda_check(cudaErrorInvalidValue, "a type no kernel has");            \
        }                                                                                \
    } while (0)

/* ---- 16-byte accesses ---------------------------------------------------------------------- */

/* As many numbers as 16 bytes hold: one load or store instruction. */
template <typename T> struct alignas(16) vec16 {
    enum { N = 16 / sizeof(T) };
    T x[16 / sizeof(T)];
};

template <typename T> static __device__ __forceinline__ vec16<T> load_16(const T *p)
{
    vec16<T> v;
    *reinterpret_cast<uint4 *>(&v) = load_uint4(p);
    return v;
}

template <typename T>
static __device__ __forceinline__ void store_16(T *p, const vec16<T> &v)
{
    store_uint4(p, *reinterpret_cast<const uint4 *>(&v));
}

/* Can rows of `n` elements at p be read 16 bytes at a time? */
template <typename T> static inline bool aligned_16(const T *p, int64_t n)
{
    return reinterpret_cast<uintptr_t>(p) % 16 == 0 && n % (16 / (int64_t)sizeof(T)) == 0;
}

/* W numbers as fp32: one of any address, or a multiple of what 16 bytes hold from an address that
 * is a multiple of 16. */
template <int W, typename T>
static __device__ __forceinline__ void load_floats(float x[W], const T *p)
{
    if constexpr (W == 1) {
        x[0] = to_float(*p);
    } else {
        for (int i = 0; i < W; i += vec16<T>::N) {
            const vec16<T> v = load_16(p + i);
            for (int k = 0; k < vec16<T>::N; k++) x[i + k] = to_float(v.x[k]);
        }
    }
}

/* Two at a time, because the hardware rounds two to 16 bits with one instruction. */
static __device__ __forceinline__ void round_pair(float *y, float a, float b)
{
    y[0] = a, y[1] = b;
}
static __device__ __forceinline__ void round_pair(__nv_bfloat16 *y, float a, float b)
{
    const __nv_bfloat162 pair = __floats2bfloat162_rn(a, b);
    y[0] = pair.x, y[1] = pair.y;
}
static __device__ __forceinline__ void round_pair(__half *y, float a, float b)
{
    const __half2 pair = __floats2half2_rn(a, b);
    y[0] = pair.x, y[1] = pair.y;
}

/* The way back, rounded to nearest even. */
template <int W, typename T>
static __device__ __forceinline__ void store_floats(T *p, const float x[W])
{
    if constexpr (W == 1) {
        *p = from_float<T>(x[0]);
    } else {
        for (int i = 0; i < W; i += vec16<T>::N) {
            vec16<T> v;
            for (int k = 0; k < vec16<T>::N; k += 2)
                round_pair(v.x + k, x[i + k], x[i + k + 1]);
            store_16(p + i, v);
        }
    }
}

/* ---- reductions ---------------------------------------------------------------------------- */

/* Over the lanes of a full warp; every lane gets the result. */
static __device__ __forceinline__ float warp_sum(float x)
{
    for (int offset = CUDA_WARP / 2; offset > 0; offset /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, offset);
    return x;
}

static __device__ __forceinline__ float warp_max(float x)
{
    for (int offset = CUDA_WARP / 2; offset > 0; offset /= 2)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
    return x;
}

/* Over all threads of a block of whole warps (at most 32); every thread gets the result, which is
 * the same each time.  `room`: 33 floats of shared memory, free again when the call returns to
 * all threads. */
static __device__ __forceinline__ float block_sum(float x, float *room)
{
    const int lane = threadIdx.x % CUDA_WARP, warp = threadIdx.x / CUDA_WARP;
    const int n_warps = blockDim.x / CUDA_WARP;
    x = warp_sum(x);
    if (lane == 0) room[warp] = x;
    __syncthreads();
    if (warp == 0) {
        const float sum = warp_sum(lane < n_warps ? room[lane] : 0.0f);
        if (lane == 0) room[32] = sum;
    }
    __syncthreads();
    const float all = room[32];
    __syncthreads();
    return all;
}

static __device__ __forceinline__ float block_max(float x, float *room)
{
    const int lane = threadIdx.x % CUDA_WARP, warp = threadIdx.x / CUDA_WARP;
    const int n_warps = blockDim.x / CUDA_WARP;
    x = warp_max(x);
    if (lane == 0) room[warp] = x;
    __syncthreads();
    if (warp == 0) {
        const float most = warp_max(lane < n_warps ? room[lane] : -INFINITY);
        if (lane == 0) room[32] = most;
    }
    __syncthreads();
    const float all = room[32];
    __syncthreads();
    return all;
}

/* The same for double and int64_t, over a block whose size is a power of two; room: one number a
 * thread. */
template <typename A> static __device__ __forceinline__ A block_tree_sum(A x, A *room)
{
    const unsigned t = threadIdx.x;
    room[t] = x;
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if (t < half) room[t] += room[t + half];
    }
    __syncthreads();
    const A all = room[0];
    __syncthreads();
    return all;
}

static __host__ __device__ inline int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* That many blocks, or as many as a launch may have; kernels stride over what is left. */
static inline unsigned grid_size(int64_t blocks)
{
    return (unsigned)(blocks < 0x7fffffff ? blocks : 0x7fffffff);
}
