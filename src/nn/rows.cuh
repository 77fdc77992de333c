/* rows - what the normalisations share: a row of a matrix in the registers of a warp, or of a
 * block where it does not fit. */
#pragma once

#include "nn/columns.cuh"

enum {
    ROWS_WARPS = 4, /* of a block whose warps have a row each */
    ROWS_THREADS = ROWS_WARPS * CUDA_WARP,
    ROWS_MAX_THREADS = 512, /* of a block that has one row */
    ROWS_MAX_WARPS = ROWS_MAX_THREADS / CUDA_WARP,
    /* of a row that no kernel above can take: too long, or not aligned to 16 bytes */
    ROWS_ANY_THREADS = 256
};

/* The rows of a thread: first, first + step, ...; of each the 16 bytes number lane, lane + lanes,
 * ... */
struct row_share {
    int64_t first, step;
    int lane, lanes;
};

template <bool whole_block> static __device__ __forceinline__ row_share share_of_thread()
{
    if constexpr (whole_block) {
        return {blockIdx.x, gridDim.x, (int)threadIdx.x, (int)blockDim.x};
    } else {
        const int lane = threadIdx.x % CUDA_WARP, warp = threadIdx.x / CUDA_WARP;
        return {(int64_t)blockIdx.x * ROWS_WARPS + warp, (int64_t)gridDim.x * ROWS_WARPS,
                lane, CUDA_WARP};
    }
}

/* Column of the k-th 16 bytes of this thread; C and beyond: there are none. */
template <typename T>
static __device__ __forceinline__ int row_column(const row_share &me, int k)
{
    return (k * me.lanes + me.lane) * vec16<T>::N;
}

template <typename T, int V>
static __device__ __forceinline__ void row_load(vec16<T> v[V], const T *row,
                                                const row_share &me, int C)
{
    for (int k = 0; k < V; k++) {
        const int c = row_column<T>(me, k);
        if (c < C)
            v[k] = load_16(row + c);
        else
            for (int i = 0; i < vec16<T>::N; i++) v[k].x[i] = from_float<T>(0.0f);
    }
}

/* Convert v again from here on: as fp32 a row of 16-bit numbers would fill twice the registers. */
template <typename T, int V>
static __device__ __forceinline__ void row_forget(vec16<T> v[V])
{
    for (int k = 0; k < V; k++) forget_uint4(reinterpret_cast<uint4 *>(&v[k]));
}

/* Each of x[0], ..., x[n-1] summed over the threads that share a row, all of which get the sums.
 * One barrier: `room`, n * ROWS_MAX_WARPS floats, must not be that of the call before. */
template <bool whole_block, int n>
static __device__ __forceinline__ void row_sums(float x[n], float *room)
{
    for (int i = 0; i < n; i++) x[i] = warp_sum(x[i]);
    if constexpr (whole_block) {
        const int lane = threadIdx.x % CUDA_WARP, warp = threadIdx.x / CUDA_WARP;
        const int warps = blockDim.x / CUDA_WARP;
        if (lane == 0)
            for (int i = 0; i < n; i++) room[i * ROWS_MAX_WARPS + warp] = x[i];
        __syncthreads();
        for (int i = 0; i < n; i++) {
            x[i] = 0.0f;
            for (int w = 0; w < warps; w++) x[i] += room[i * ROWS_MAX_WARPS + w];
        }
    }
}

/* partial[0..C) = the sums that the threads of a block have each of their own columns.  Warps that
 * have a row each meet in shared memory, one after the other; all threads of the block call it. */
template <typename T, int V, bool whole_block>
static __device__ __forceinline__ void rows_store_sums(float *partial, const float *sum,
                                                       const row_share &me, int C)
{
    const int W = vec16<T>::N;
    if constexpr (whole_block) {
        for (int k = 0; k < V; k++) {
            const int c = row_column<T>(me, k);
            if (c < C) store_floats<W>(partial + c, sum + k * W);
        }
    } else {
        CUDA_SHARED(float, room, (V * W * CUDA_WARP));
        const int mine = threadIdx.x / CUDA_WARP;
        for (int warp = 0; warp < ROWS_WARPS; warp++) {
            if (warp == mine)
                for (int k = 0; k < V * W; k++) {
                    float *to = room + row_column<T>(me, k / W) + k % W;
                    *to = warp == 0 ? sum[k] : *to + sum[k];
                }
            __syncthreads();
        }
        for (int c = threadIdx.x; c < C; c += ROWS_THREADS) partial[c] = room[c];
        __syncthreads(); /* room is free for another call */
    }
}

/* ---- forward: how a row of `items` times 16 bytes is shared out ---------------------------- */

enum { ROWS_FWD_FEW = 4, ROWS_FWD_MANY = 8 }; /* 16 bytes of a thread */

/* Whole warps for `items`, so many to a thread */
static inline int64_t rows_threads(int64_t items, int of_a_thread)
{
    return ceil_div(items, of_a_thread * CUDA_WARP) * CUDA_WARP;
}

/* ---- backward: the same, by few blocks, since each leaves a row of partial sums -------------- */

/* 16 bytes of a lane where a warp has a row, and of a thread where a block has: the sums of two
 * parameters and three rows fill the registers. */
enum { ROWS_BWD_FEW = 3, ROWS_BWD_MANY = 2 };
/* As many blocks as the 132 multiprocessors of an H200 hold at once: by their registers three of
 * ROWS_THREADS, or 512 threads.  The same on every device, so that sums are too. */
enum { ROWS_BWD_FEW_BLOCKS = 3 * 132, ROWS_BWD_MANY_THREADS = 512 * 132 };

static inline bool rows_bwd_is_few(int64_t items)
{
    return items <= ROWS_BWD_FEW * CUDA_WARP;
}

/* Blocks for N rows of `items` times 16 bytes; each leaves one row in `partial`. */
static inline int64_t rows_bwd_blocks(int64_t N, int64_t items)
{
    const bool few = rows_bwd_is_few(items);
    const int64_t threads = rows_threads(items, ROWS_BWD_MANY);
    const int64_t needed = few ? ceil_div(N, ROWS_WARPS) : N;
    const int64_t few_blocks = ROWS_BWD_FEW_BLOCKS;
    int64_t most = few ? few_blocks : ROWS_BWD_MANY_THREADS / threads;
    if (most < 1) most = 1;
    return most < needed ? most : needed;
}

/* Rows of `partial` that are enough for every type. */
static inline int64_t rows_bwd_partial_rows(int64_t N, int64_t C)
{
    const int64_t in_16_bits = rows_bwd_blocks(N, ceil_div(C, 8));
    const int64_t in_32_bits = rows_bwd_blocks(N, ceil_div(C, 4));
    return in_16_bits > in_32_bits ? in_16_bits : in_32_bits;
}
