/* columns - sums over the rows of a matrix, in two stages and always in the same order: blocks sum
 * their share of the rows into `partial`, one row a block, then add_partials sums those. */
#pragma once

#include "nn/cuda_kernel.h"

/* Threads of a block of the first stage: a warp goes along a row, so many warps down the rows. */
enum { COLUMNS_WARPS = 8, COLUMNS_THREADS = COLUMNS_WARPS * CUDA_WARP };
/* Threads of a block of add_partials: one warp along the row. */
enum { ADD_WARPS = 16, ADD_THREADS = ADD_WARPS * CUDA_WARP };

/* partial[c] = the sum over the warps of a block of `sum`, for the W columns of each lane from
 * column c = (blockIdx.x * 32 + lane) * W on; all threads of the block call it. */
template <int W>
static __device__ __forceinline__ void columns_store(float *partial, const float sum[W],
                                                     int64_t C)
{
    CUDA_SHARED(float, room, (COLUMNS_THREADS * W));
    const int lane = threadIdx.x % CUDA_WARP, warp = threadIdx.x / CUDA_WARP;
    const int width = CUDA_WARP * W;
    for (int k = 0; k < W; k++) room[warp * width + lane * W + k] = sum[k];
    __syncthreads();
    const int64_t first = (int64_t)blockIdx.x * width;
    for (int j = threadIdx.x; j < width; j += COLUMNS_THREADS) {
        float total = 0.0f;
        for (int w = 0; w < COLUMNS_WARPS; w++) total += room[w * width + j];
        if (first + j < C) partial[first + j] = total;
    }
    __syncthreads(); /* room is free for another call */
}

/* out_i[c] += sum over r of partial_i[r, c]; out_i is out0 or out1, by blockIdx.y, and partial_1
 * follows partial_0, both [R, C]. */
static __global__ void __launch_bounds__(ADD_THREADS)
    add_partials(float *out0, float *out1, const float *partial, int64_t R, int64_t C)
{
    CUDA_SHARED(float, room, ADD_THREADS);
    const int lane = threadIdx.x % CUDA_WARP, warp = threadIdx.x / CUDA_WARP;
    const int64_t c = (int64_t)blockIdx.x * CUDA_WARP + lane;
    const float *x = partial + blockIdx.y * R * C;
    float sum = 0.0f;
    if (c < C)
        for (int64_t r = warp; r < R; r += ADD_WARPS) sum += x[r * C + c];
    room[threadIdx.x] = sum;
    __syncthreads();
    if (warp > 0 || c >= C) return;
    float total = 0.0f;
    for (int w = 0; w < ADD_WARPS; w++) total += room[w * CUDA_WARP + lane];
    float *out = blockIdx.y ? out1 : out0;
    out[c] += total;
}

/* out1 may be NULL: then there is one sum. */
static inline void launch_add_partials(cudaStream_t s, float *out0, float *out1,
                                       const float *partial, int64_t R, int64_t C)
{
    const dim3 grid((unsigned)ceil_div(C, CUDA_WARP), out1 ? 2 : 1);
    CUDA_LAUNCH(add_partials, grid, ADD_THREADS, 0, s, out0, out1, partial, R, C);
}
