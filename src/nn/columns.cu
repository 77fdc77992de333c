/* Some columns of a matrix into some of another, in its type: nn_copy_columns in nn.h.  Bytes moved:
 * N cols of both types. */
#include "nn/cuda_kernel.h"

enum { THREADS = 256 };

struct column_copy {
    int64_t N, cols, y_width, x_width; /* numbers from one row to the next */
};

template <typename Y, typename X>
static __global__ void __launch_bounds__(THREADS)
    copy_columns(Y *__restrict__ y, const X *__restrict__ x, column_copy k)
{
    const int64_t step = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < k.N * k.cols;
         i += step) {
        const int64_t n = i / k.cols, c = i % k.cols;
        y[n * k.y_width + c] = from_float<Y>(to_float(x[n * k.x_width + c]));
    }
}

template <typename Y>
static void to_type(cudaStream_t s, Y *y, const void *x, enum dtype xt,
                    const column_copy &k)
{
    const unsigned grid = grid_size(ceil_div(k.N * k.cols, THREADS));
    CUDA_FOR_TYPE(xt, CUDA_LAUNCH((copy_columns<Y, T>), grid, THREADS, 0, s, y,
                                  static_cast<const T *>(x), k));
}

extern "C" void cuda_copy_columns(cudaStream_t s, void *y, enum dtype yt, int64_t y_width,
                                  const void *x, enum dtype xt, int64_t x_width,
                                  int64_t N, int64_t cols)
{
    const column_copy k = {N, cols, y_width, x_width};
    if (N * cols == 0) return;
    CUDA_FOR_TYPE(yt, to_type(s, static_cast<T *>(y), x, xt, k));
}
