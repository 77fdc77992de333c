/* SwiGLU: the equation is nn_swiglu_fwd's in nn.h; backward, with s = sigmoid(gate):
 *   dup = dy gate s      dgate = dy up s (1 + gate (1 - s))
 *
 * Bytes moved, t the size of a number: forward 3 N F t, backward 5 N F t, 6 N F t with y.  A block takes a row,
 * so that no thread divides by F; fast exponential and reciprocal as in gelu.cu. */
#include "nn/cuda_kernel.h"

#define LOG2_E 1.4426950408889634f

enum { SWIGLU_THREADS = 256 };

static __device__ __forceinline__ float sigmoid(float x)
{
    return reciprocal_fast(1.0f + exp2_fast(-LOG2_E * x));
}

template <typename T, int W>
static __global__ void __launch_bounds__(SWIGLU_THREADS)
    swiglu_fwd(T *y, const T *gu, int64_t N, int64_t F)
{
    for (int64_t n = blockIdx.x; n < N; n += gridDim.x) {
        const T *gate = gu + 2 * n * F, *up = gate + F;
        for (int64_t f = (int64_t)threadIdx.x * W; f < F; f += (int64_t)blockDim.x * W) {
            float g[W], u[W];
            load_floats<W>(g, gate + f);
            load_floats<W>(u, up + f);
            for (int k = 0; k < W; k++) u[k] *= g[k] * sigmoid(g[k]);
            store_floats<W>(y + n * F + f, u);
        }
    }
}

template <typename T, int W>
static __global__ void __launch_bounds__(SWIGLU_THREADS)
    swiglu_bwd(T *dgu, T *y, const T *dy, const T *gu, int64_t N, int64_t F)
{
    for (int64_t n = blockIdx.x; n < N; n += gridDim.x) {
        const T *gate = gu + 2 * n * F, *up = gate + F;
        T *dgate = dgu + 2 * n * F, *dup = dgate + F;
        for (int64_t f = (int64_t)threadIdx.x * W; f < F; f += (int64_t)blockDim.x * W) {
            float d[W], g[W], u[W];
            load_floats<W>(d, dy + n * F + f);
            load_floats<W>(g, gate + f);
            load_floats<W>(u, up + f);
            for (int k = 0; k < W; k++) {
                const float s = sigmoid(g[k]), ds = d[k] * s, uk = u[k];
                u[k] *= g[k] * s;
                d[k] = ds * g[k];
                g[k] = ds * uk * (1.0f + g[k] * (1.0f - s));
            }
            if (y) store_floats<W>(y + n * F + f, u);
            store_floats<W>(dup + f, d);
            store_floats<W>(dgate + f, g);
        }
    }
}

/* As few rounds through a row as a block can do, with threads for no more than those rounds. */
static unsigned threads_for(int64_t items)
{
    const int64_t rounds = ceil_div(items, SWIGLU_THREADS);
    return (unsigned)(ceil_div(ceil_div(items, rounds), CUDA_WARP) * CUDA_WARP);
}

template <typename T>
static void launch_fwd(cudaStream_t s, T *y, const T *gu, int64_t N, int64_t F)
{
    const int W = vec16<T>::N;
    if (aligned_16(y, F) && aligned_16(gu, F))
        CUDA_LAUNCH((swiglu_fwd<T, W>), grid_size(N), threads_for(F / W), 0, s, y, gu, N,
                    F);
    else
        CUDA_LAUNCH((swiglu_fwd<T, 1>), grid_size(N), threads_for(F), 0, s, y, gu, N, F);
}

template <typename T>
static void launch_bwd(cudaStream_t s, T *dgu, T *y, const T *dy, const T *gu, int64_t N,
                       int64_t F)
{
    const int W = vec16<T>::N;
    if (aligned_16(dgu, F) && aligned_16(y, F) && aligned_16(dy, F) && aligned_16(gu, F))
        CUDA_LAUNCH((swiglu_bwd<T, W>), grid_size(N), threads_for(F / W), 0, s, dgu, y,
                    dy, gu, N, F);
    else
        CUDA_LAUNCH((swiglu_bwd<T, 1>), grid_size(N), threads_for(F), 0, s, dgu, y, dy,
                    gu, N, F);
}

extern "C" void cuda_swiglu_fwd(cudaStream_t s, enum dtype t, void *y, const void *gu,
                                int64_t N, int64_t F)
{
    if (N == 0) return;
    CUDA_FOR_TYPE(t,
                  launch_fwd(s, static_cast<T *>(y), static_cast<const T *>(gu), N, F));
}

extern "C" void cuda_swiglu_bwd(cudaStream_t s, enum dtype t, void *dgu, void *y,
                                const void *dy, const void *gu, int64_t N, int64_t F)
{
    if (N == 0) return;
    CUDA_FOR_TYPE(t, launch_bwd(s, static_cast<T *>(dgu), static_cast<T *>(y),
                                static_cast<const T *>(dy), static_cast<const T *>(gu), N,
                                F));
}
