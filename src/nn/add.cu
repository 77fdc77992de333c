/* Flat sums: nn_add in nn.h.  Bytes moved, t the size of a number: 3 n t. */
#include "nn/cuda_kernel.h"

enum { THREADS = 256 };

template <typename T, int W>
static __global__ void __launch_bounds__(THREADS) add(T *y, const T *x, int64_t n)
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

template <typename T> static void launch(cudaStream_t s, T *y, const T *x, int64_t n)
{
    const int W = vec16<T>::N;
    if (aligned_16(y, n) && aligned_16(x, n))
        CUDA_LAUNCH((add<T, W>), grid_size(ceil_div(n, THREADS * W)), THREADS, 0, s, y, x,
                    n);
    else
        CUDA_LAUNCH((add<T, 1>), grid_size(ceil_div(n, THREADS)), THREADS, 0, s, y, x, n);
}

extern "C" void cuda_add(cudaStream_t s, enum dtype t, void *y, const void *x, int64_t n)
{
    if (n == 0) return;
    CUDA_FOR_TYPE(t, launch(s, static_cast<T *>(y), static_cast<const T *>(x), n));
}
