/* y = x in another type, rounded to nearest even.
 *
 * Bytes moved, t the sizes of the two types' numbers: n (t_from + t_to). */
#include "nn/cuda_kernel.h"

/* numbers of a thread at a time: 16 bytes of the 16-bit types, twice 16 of fp32 */
enum { CAST_THREADS = 256, CAST_WIDTH = 8 };

template <typename To, typename From, int W>
static __device__ __forceinline__ void cast_range(To *y, const From *x, int64_t first,
                                                  int64_t n)
{
    const int64_t thread = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    const int64_t threads = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = first + thread * W; i < n; i += threads * W) {
        float v[W];
        load_floats<W>(v, x + i);
        store_floats<W>(y + i, v);
    }
}

/* The first `body` numbers 16 bytes at a time, the others one by one */
template <typename To, typename From>
static __global__ void __launch_bounds__(CAST_THREADS)
    cast(To *y, const From *x, int64_t body, int64_t n)
{
    cast_range<To, From, CAST_WIDTH>(y, x, 0, body);
    cast_range<To, From, 1>(y, x, body, n);
}

template <typename To, typename From>
static void launch(cudaStream_t s, To *y, const From *x, int64_t n)
{
    const int64_t W = CAST_WIDTH;
    const int64_t body = aligned_16(y, 0) && aligned_16(x, 0) ? n / W * W : 0;
    const unsigned grid = grid_size(ceil_div(body ? body / W : n, CAST_THREADS));
    CUDA_LAUNCH((cast<To, From>), grid, CAST_THREADS, 0, s, y, x, body, n);
}

template <typename From>
static void launch_from(cudaStream_t s, void *y, enum dtype to, const From *x, int64_t n)
{
    CUDA_FOR_TYPE(to, launch(s, static_cast<T *>(y), x, n));
}

extern "C" void cuda_cast(cudaStream_t s, void *y, enum dtype to, const void *x,
                          enum dtype from, int64_t n)
{
    if (n == 0) return;
    CUDA_FOR_TYPE(from, launch_from(s, y, to, static_cast<const T *>(x), n));
}
