/* Flat sums: nn_add in nn.h.  Bytes moved: 12 n. */
#include "nn/cuda_kernel.h"

enum { THREADS = 256 };

template <int W>
static __global__ void __launch_bounds__(THREADS)
    add(float *__restrict__ y, const float *__restrict__ x, int64_t n)
{
    const int64_t step = (int64_t)gridDim.x * THREADS * W;
    for (int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * W; i < n;
         i += step) {
        float a[W], b[W];
        load_floats<W>(a, y + i);
        load_floats<W>(b, x + i);
        for (int k = 0; k < W; k++) a[k] += b[k];
        store_floats<W>(y + i, a);
    }
}

extern "C" void cuda_add(cudaStream_t s, float *y, const float *x, int64_t n)
{
    if (n == 0) return;
    if (aligned_16(y, n) && aligned_16(x, n))
        CUDA_LAUNCH(add<4>, grid_size(ceil_div(n, THREADS * 4)), THREADS, 0, s, y, x, n);
    else
        CUDA_LAUNCH(add<1>, grid_size(ceil_div(n, THREADS)), THREADS, 0, s, y, x, n);
}
