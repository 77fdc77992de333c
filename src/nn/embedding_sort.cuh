/* embedding_sort - the numbers of rows sorted by token, rows of the same token in their own order:
 * a radix sort from the lowest digit up (Knuth, The Art of Computer Programming 3, 5.2.5).
 *
 * The rows are cut into tiles.  For each digit, of at most 10 bits: count what a tile has of each
 * value; sum the counts over the tiles before it, and over the smaller values; then a warp takes
 * its tile in order to the places that follow from that.  Nothing depends on which tile is first,
 * and the host never waits. */
#pragma once

#include "nn/cuda_kernel.h"

enum {
    SORT_DIGIT_BITS = 10, /* at most: counts of a tile then fill 4 KiB of shared memory */
    SORT_MAX_VALUES = 1 << SORT_DIGIT_BITS,
    SORT_MAX_TILES = 128,
    SORT_MIN_TILE = 256, /* rows of a tile, unless all fit into one */
    SORT_THREADS = 128,
    SORT_WARPS = SORT_THREADS / CUDA_WARP
};

struct sorted_rows {
    const int32_t *keys; /* [N], ascending */
    const int32_t *rows; /* [N], the row that has this key */
};

/* How a sort of N rows by keys below `limit` is cut up. */
struct sort_plan {
    int64_t tile, tiles; /* rows of a tile; how many */
    int passes, bits;    /* digits, and bits of each */
};

static inline struct sort_plan sort_plan(int64_t N, int64_t limit)
{
    struct sort_plan p = {};
    int bits = 1;
    while ((int64_t)1 << bits < limit) bits++;
    p.passes = (bits + SORT_DIGIT_BITS - 1) / SORT_DIGIT_BITS;
    p.bits = (bits + p.passes - 1) / p.passes;
    p.tile = ceil_div(ceil_div(N, SORT_MAX_TILES), CUDA_WARP) * CUDA_WARP;
    if (p.tile < SORT_MIN_TILE) p.tile = SORT_MIN_TILE;
    p.tiles = ceil_div(N, p.tile);
    return p;
}

/* counts[value, tile] = how often the digit has this value in this tile; a block has a tile */
static __global__ void __launch_bounds__(SORT_THREADS)
    sort_count(int32_t *counts, const int32_t *keys, int64_t N, int64_t tile, int shift,
               int values)
{
    CUDA_SHARED(int32_t, count, SORT_MAX_VALUES);
    for (int v = threadIdx.x; v < values; v += SORT_THREADS) count[v] = 0;
    __syncthreads();
    const int64_t first = blockIdx.x * tile, end = first + tile < N ? first + tile : N;
    for (int64_t i = first + threadIdx.x; i < end; i += SORT_THREADS)
        atomicAdd(&count[keys[i] >> shift & (values - 1)], 1);
    __syncthreads();
    for (int v = threadIdx.x; v < values; v += SORT_THREADS)
        counts[(int64_t)v * gridDim.x + blockIdx.x] = count[v];
}

/* x summed over this lane and those before it */
static __device__ __forceinline__ int sum_up_to_lane(int x)
{
    const int lane = threadIdx.x % CUDA_WARP;
    for (int by = 1; by < CUDA_WARP; by *= 2) {
        const int before = __shfl_up_sync(0xffffffffu, x, by);
        if (lane >= by) x += before;
    }
    return x;
}

/* counts[value, tile] = the sum of those of the tiles before; totals[value] = that of all; a warp
 * has a value */
static __global__ void __launch_bounds__(SORT_THREADS)
    sort_sum_tiles(int32_t *counts, int32_t *totals, int tiles, int values)
{
    const int lane = threadIdx.x % CUDA_WARP;
    const int value = blockIdx.x * SORT_WARPS + threadIdx.x / CUDA_WARP;
    if (value >= values) return;
    int32_t *of_value = counts + (int64_t)value * tiles;
    int before = 0;
    for (int first = 0; first < tiles; first += CUDA_WARP) {
        const int i = first + lane, x = i < tiles ? of_value[i] : 0;
        const int sum = sum_up_to_lane(x);
        if (i < tiles) of_value[i] = before + sum - x;
        before += __shfl_sync(0xffffffffu, sum, CUDA_WARP - 1);
    }
    if (lane == 0) totals[value] = before;
}

/* place[value] = where the first row of this tile with this value goes; one warp calls it */
static __device__ __forceinline__ void sort_places(int32_t *place, const int32_t *counts,
                                                   const int32_t *totals, int values)
{
    int before = 0;
    for (int first = 0; first < values; first += CUDA_WARP) {
        const int v = first + threadIdx.x, x = v < values ? totals[v] : 0;
        const int sum = sum_up_to_lane(x);
        if (v < values)
            place[v] = before + sum - x + counts[(int64_t)v * gridDim.x + blockIdx.x];
        before += __shfl_sync(0xffffffffu, sum, CUDA_WARP - 1);
    }
    __syncwarp();
}

/* A block of one warp has a tile and takes it to its places, 32 rows at a time and in order.
 * rows_in == NULL: row i is i. */
static __global__ void __launch_bounds__(CUDA_WARP)
    sort_scatter(int32_t *keys_out, int32_t *rows_out, const int32_t *keys_in,
                 const int32_t *rows_in, const int32_t *counts, const int32_t *totals,
                 int64_t N, int64_t tile, int shift, int values)
{
    CUDA_SHARED(int32_t, place, SORT_MAX_VALUES);
    const int lane = threadIdx.x;
    sort_places(place, counts, totals, values);
    const int64_t first = blockIdx.x * tile, end = first + tile < N ? first + tile : N;
    for (int64_t of_warp = first; of_warp < end; of_warp += CUDA_WARP) {
        const int64_t i = of_warp + lane;
        const int32_t key = i < end ? keys_in[i] : 0;
        const int value = i < end ? key >> shift & (values - 1) : -1;
        int same = 0, same_before = 0; /* lanes with this value */
        for (int l = 0; l < CUDA_WARP; l++) {
            const bool equal = __shfl_sync(0xffffffffu, value, l) == value;
            same += equal;
            same_before += equal && l < lane;
        }
        const int to = i < end ? place[value] + same_before : 0;
        __syncwarp(); /* all have read their place before one lane of each value moves it on */
        if (i < end) {
            keys_out[to] = key;
            rows_out[to] = rows_in ? rows_in[i] : (int32_t)i;
            if (same_before == same - 1) place[value] = to + 1;
        }
        __syncwarp();
    }
}

/* ints of `scratch` for sort_rows: two keys and two rows each, counts, totals */
static inline int64_t sort_rows_ints(int64_t N, int64_t limit)
{
    const struct sort_plan p = sort_plan(N, limit);
    return 4 * N + ((int64_t)1 << p.bits) * (p.tiles + 1);
}

/* Sort the rows of `keys` [N], each in [0, limit).  The result lies in `scratch`. */
static inline struct sorted_rows sort_rows(cudaStream_t s, int32_t *scratch,
                                           const int32_t *keys, int64_t N, int64_t limit)
{
    const struct sort_plan p = sort_plan(N, limit);
    const int values = 1 << p.bits;
    int32_t *counts = scratch + 4 * N, *totals = counts + values * p.tiles;
    struct sorted_rows in = {keys, NULL};
    for (int pass = 0; pass < p.passes; pass++) {
        int32_t *keys_out = scratch + pass % 2 * 2 * N, *rows_out = keys_out + N;
        const int shift = pass * p.bits;
        const unsigned tiles = (unsigned)p.tiles;
        CUDA_LAUNCH(sort_count, tiles, SORT_THREADS, 0, s, counts, in.keys, N, p.tile,
                    shift, values);
        CUDA_LAUNCH(sort_sum_tiles, (unsigned)ceil_div(values, SORT_WARPS), SORT_THREADS,
                    0, s, counts, totals, (int)p.tiles, values);
        CUDA_LAUNCH(sort_scatter, tiles, CUDA_WARP, 0, s, keys_out, rows_out, in.keys,
                    in.rows, counts, totals, N, p.tile, shift, values);
        in.keys = keys_out;
        in.rows = rows_out;
    }
    return in;
}
