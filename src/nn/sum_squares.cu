/* Sum of squares in double, in an order that follows from n alone: sums of blocks of elements,
 * then the sum of those. */
#include "nn/cuda_kernel.h"

enum { THREADS = 256, UNIT = 4 * THREADS, MAX_BLOCKS = 1024 };

static int64_t block_elements(int64_t n)
{
    return ceil_div(ceil_div(n, UNIT), MAX_BLOCKS) * UNIT;
}

static int64_t n_blocks(int64_t n)
{
    return n > 0 ? ceil_div(n, block_elements(n)) : 0;
}

static __device__ __forceinline__ double square(float x)
{
    return static_cast<double>(x) * static_cast<double>(x);
}

/* Every thread takes four neighbours at a time; how they are loaded does not show in the sum. */
static __global__ void __launch_bounds__(THREADS)
    square_blocks(double *partial, const float *x, int64_t block, int64_t n)
{
    CUDA_SHARED(double, room, THREADS);
    const int64_t first = blockIdx.x * block,
                  last = first + block < n ? first + block : n;
    const bool aligned = reinterpret_cast<uintptr_t>(x) % 16 == 0;
    double sum = 0;
    for (int64_t i = first + 4 * threadIdx.x; i < last; i += UNIT) {
        if (aligned && i + 4 <= last) {
            const vec16<float> v = load_16(x + i);
            for (int k = 0; k < 4; k++) sum += square(v.x[k]);
        } else {
            for (int k = 0; k < 4 && i + k < last; k++) sum += square(x[i + k]);
        }
    }
    sum = block_tree_sum(sum, room);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

static __global__ void __launch_bounds__(THREADS)
    add_blocks(double *sum, const double *partial, int64_t n)
{
    CUDA_SHARED(double, room, THREADS);
    double mine = 0;
    for (int64_t i = threadIdx.x; i < n; i += THREADS) mine += partial[i];
    const double all = block_tree_sum(mine, room);
    if (threadIdx.x == 0) *sum += all;
}

extern "C" int64_t cuda_sum_squares_doubles(int64_t n)
{
    return n_blocks(n);
}

extern "C" void cuda_sum_squares(cudaStream_t s, double *sum, double *partial,
                                 const float *x, int64_t n)
{
    if (n == 0) return;
    const int64_t blocks = n_blocks(n);
    CUDA_LAUNCH(square_blocks, static_cast<unsigned>(blocks), THREADS, 0, s, partial, x,
                block_elements(n), n);
    CUDA_LAUNCH(add_blocks, 1, THREADS, 0, s, sum, partial, blocks);
}
