/* GELU in both forms: the equations are nn_gelu_fwd's and nn_gelu_erf_fwd's in nn.h.  The tanh form:
 *
 * (1 + tanh(u)) / 2 = sigmoid(2u) =: s, which needs one exponential and does not cancel for x << 0:
 *   y = x s      dy/dx = s + x s (1 - s) 2 du/dx
 * with 2u = a (x + b x^3), a = 2 sqrt(2/pi), b = 0.044715.
 *
 * Bytes moved, t the size of a number: forward 2 n t, backward 3 n t, 4 n t with y.  A 16-bit number of forward
 * passes an H200 in the time of 24 instructions of a lane, hence the fast exponential and
 * reciprocal: together 5e-7 of the result, a thousandth of what bf16 rounds away. */
#include "nn/cuda_kernel.h"

#define GELU_A 1.5957691216057308f
#define GELU_B 0.044715f
#define LOG2_E 1.4426950408889634f

enum { GELU_THREADS = 256 };

static __device__ __forceinline__ float gelu_sigmoid(float x)
{
    const float u2 = GELU_A * x * (1.0f + GELU_B * x * x);
    return reciprocal_fast(1.0f + exp2_fast(-LOG2_E * u2));
}

static __device__ __forceinline__ float gelu_slope(float x)
{
    const float s = gelu_sigmoid(x);
    const float du2 = GELU_A * (1.0f + 3.0f * GELU_B * x * x);
    return s + x * s * (1.0f - s) * du2;
}

struct tanh_form {
    static __device__ __forceinline__ float value(float x)
    {
        return x * gelu_sigmoid(x);
    }
    static __device__ __forceinline__ float slope(float x)
    {
        return gelu_slope(x);
    }
};

struct erf_form {
    static __device__ __forceinline__ float cdf(float x)
    {
        return 0.5f * erfcf(-0.70710678118654752f * x);
    }
    static __device__ __forceinline__ float value(float x)
    {
        return x * cdf(x);
    }
    static __device__ __forceinline__ float slope(float x)
    {
        return cdf(x) + x * 0.39894228040143268f * exp2_fast(-0.5f * LOG2_E * x * x);
    }
};

/* Numbers first, first + W, ... of n, W at a time */
template <typename F, typename T, int W>
static __device__ __forceinline__ void gelu_fwd_range(T *y, const T *x, int64_t first,
                                                      int64_t n)
{
    const int64_t thread = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    const int64_t threads = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = first + thread * W; i < n; i += threads * W) {
        float v[W];
        load_floats<W>(v, x + i);
        for (int k = 0; k < W; k++) v[k] = F::value(v[k]);
        store_floats<W>(y + i, v);
    }
}

template <typename F, typename T, int W>
static __device__ __forceinline__ void
gelu_bwd_range(T *dx, T *y, const T *dy, const T *x, int64_t first, int64_t n)
{
    const int64_t thread = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    const int64_t threads = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = first + thread * W; i < n; i += threads * W) {
        float v[W], d[W];
        load_floats<W>(v, x + i);
        load_floats<W>(d, dy + i);
        for (int k = 0; k < W; k++) {
            d[k] *= F::slope(v[k]);
            v[k] = F::value(v[k]);
        }
        store_floats<W>(dx + i, d);
        if (y) store_floats<W>(y + i, v);
    }
}

/* The first `body` numbers 16 bytes at a time, the others one by one */
template <typename F, typename T>
static __global__ void __launch_bounds__(GELU_THREADS)
    gelu_fwd(T *y, const T *x, int64_t body, int64_t n)
{
    gelu_fwd_range<F, T, vec16<T>::N>(y, x, 0, body);
    gelu_fwd_range<F, T, 1>(y, x, body, n);
}

template <typename F, typename T>
static __global__ void __launch_bounds__(GELU_THREADS)
    gelu_bwd(T *dx, T *y, const T *dy, const T *x, int64_t body, int64_t n)
{
    gelu_bwd_range<F, T, vec16<T>::N>(dx, y, dy, x, 0, body);
    gelu_bwd_range<F, T, 1>(dx, y, dy, x, body, n);
}

template <typename F, typename T>
static void launch_fwd(cudaStream_t s, T *y, const T *x, int64_t n)
{
    const int64_t W = vec16<T>::N;
    const int64_t body = aligned_16(y, 0) && aligned_16(x, 0) ? n / W * W : 0;
    const unsigned grid = grid_size(ceil_div(body ? body / W : n, GELU_THREADS));
    CUDA_LAUNCH((gelu_fwd<F, T>), grid, GELU_THREADS, 0, s, y, x, body, n);
}

template <typename F, typename T>
static void launch_bwd(cudaStream_t s, T *dx, T *y, const T *dy, const T *x, int64_t n)
{
    const int64_t W = vec16<T>::N;
    const bool aligned =
        aligned_16(dx, 0) && aligned_16(y, 0) && aligned_16(dy, 0) && aligned_16(x, 0);
    const int64_t body = aligned ? n / W * W : 0;
    const unsigned grid = grid_size(ceil_div(body ? body / W : n, GELU_THREADS));
    CUDA_LAUNCH((gelu_bwd<F, T>), grid, GELU_THREADS, 0, s, dx, y, dy, x, body, n);
}

extern "C" void cuda_gelu_fwd(cudaStream_t s, enum dtype t, void *y, const void *x,
                              int64_t n)
{
    if (n == 0) return;
    CUDA_FOR_TYPE(
        t, launch_fwd<tanh_form>(s, static_cast<T *>(y), static_cast<const T *>(x), n));
}

extern "C" void cuda_gelu_bwd(cudaStream_t s, enum dtype t, void *dx, void *y,
                              const void *dy, const void *x, int64_t n)
{
    if (n == 0) return;
    CUDA_FOR_TYPE(t, launch_bwd<tanh_form>(s, static_cast<T *>(dx), static_cast<T *>(y),
                                           static_cast<const T *>(dy),
                                           static_cast<const T *>(x), n));
}

extern "C" void cuda_gelu_erf_fwd(cudaStream_t s, enum dtype t, void *y, const void *x,
                                  int64_t n)
{
    if (n == 0) return;
    CUDA_FOR_TYPE(
        t, launch_fwd<erf_form>(s, static_cast<T *>(y), static_cast<const T *>(x), n));
}

extern "C" void cuda_gelu_erf_bwd(cudaStream_t s, enum dtype t, void *dx, void *y,
                                  const void *dy, const void *x, int64_t n)
{
    if (n == 0) return;
    CUDA_FOR_TYPE(t, launch_bwd<erf_form>(s, static_cast<T *>(dx), static_cast<T *>(y),
                                          static_cast<const T *>(dy),
                                          static_cast<const T *>(x), n));
}
