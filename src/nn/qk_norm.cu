/* RMSNorm of queries and keys: the equations are nn_qk_norm_sums' and those below it in nn.h.
 *
 * Bytes moved, t the size of a number, C = q + k: sums 2 N C t, forward 2 N C t, dots 2 N C t,
 * backward 5 N C t + 8 R C, R = rows_bwd_partial_rows(N, C).  A block has a row. */
#include "nn/columns.cuh"
#include "nn/rows.cuh"

/* struct nn_qk_norm without host types */
struct sizes {
    int64_t q, C, others, W; /* others: keys up to here are not counted */
    float q_width, k_width, eps;
};

static __device__ __forceinline__ float rstd_of(const float *sums, bool is_key,
                                                const sizes &z)
{
    return 1.0f / sqrtf(sums[is_key] / (is_key ? z.k_width : z.q_width) + z.eps);
}

template <typename T>
static __global__ void __launch_bounds__(ROWS_ANY_THREADS)
    qk_norm_sums(float *sums, T *raw, const T *qkv, int64_t N, sizes z)
{
    CUDA_SHARED(float, room, CUDA_WARP + 1);
    for (int64_t n = blockIdx.x; n < N; n += gridDim.x) {
        float sum[2] = {0.0f, 0.0f};
        for (int64_t c = threadIdx.x; c < z.C; c += blockDim.x) {
            const T x = qkv[n * z.W + c];
            const float xf = to_float(x);
            raw[n * z.C + c] = x;
            if (c < z.q)
                sum[0] += xf * xf;
            else if (c >= z.others)
                sum[1] += xf * xf;
        }
        for (int i = 0; i < 2; i++) {
            const float all = block_sum(sum[i], room);
            if (threadIdx.x == 0) sums[2 * n + i] = all;
            __syncthreads();
        }
    }
}

template <typename T>
static __global__ void __launch_bounds__(ROWS_ANY_THREADS)
    qk_norm_fwd(T *qkv, const T *raw, const T *w, const float *sums, int64_t N, sizes z)
{
    for (int64_t n = blockIdx.x; n < N; n += gridDim.x)
        for (int64_t c = threadIdx.x; c < z.C; c += blockDim.x) {
            const float r = rstd_of(sums + 2 * n, c >= z.q, z);
            qkv[n * z.W + c] =
                from_float<T>(to_float(raw[n * z.C + c]) * r * to_float(w[c]));
        }
}

template <typename T>
static __global__ void __launch_bounds__(ROWS_ANY_THREADS)
    qk_norm_dots(float *dots, const T *dqkv, const T *raw, const T *w, int64_t N, sizes z)
{
    CUDA_SHARED(float, room, CUDA_WARP + 1);
    for (int64_t n = blockIdx.x; n < N; n += gridDim.x) {
        float dot[2] = {0.0f, 0.0f};
        for (int64_t c = threadIdx.x; c < z.C; c += blockDim.x) {
            const float d =
                to_float(dqkv[n * z.W + c]) * to_float(w[c]) * to_float(raw[n * z.C + c]);
            if (c < z.q)
                dot[0] += d;
            else
                dot[1] += d;
        }
        for (int i = 0; i < 2; i++) {
            const float all = block_sum(dot[i], room);
            if (threadIdx.x == 0) dots[2 * n + i] = all;
            __syncthreads();
        }
    }
}

/* dw: a lane has a column */
template <typename T>
static __global__ void __launch_bounds__(COLUMNS_THREADS)
    qk_norm_bwd_dw(float *partial, const T *dqkv, const T *raw, const float *sums,
                   int64_t N, sizes z)
{
    const int64_t c = (int64_t)blockIdx.x * CUDA_WARP + threadIdx.x % CUDA_WARP;
    const int64_t first = (int64_t)blockIdx.y * COLUMNS_WARPS + threadIdx.x / CUDA_WARP;
    const int64_t step = (int64_t)gridDim.y * COLUMNS_WARPS;
    float dw[1] = {0.0f};
    for (int64_t n = first; c < z.C && n < N; n += step)
        dw[0] += to_float(dqkv[n * z.W + c]) * rstd_of(sums + 2 * n, c >= z.q, z) *
                 to_float(raw[n * z.C + c]);
    columns_store<1>(partial + blockIdx.y * z.C, dw, z.C);
}

template <typename T>
static __global__ void __launch_bounds__(ROWS_ANY_THREADS)
    qk_norm_bwd(T *dqkv, const T *raw, const T *w, const float *sums, const float *dots,
                int64_t N, sizes z)
{
    for (int64_t n = blockIdx.x; n < N; n += gridDim.x)
        for (int64_t c = threadIdx.x; c < z.C; c += blockDim.x) {
            const bool is_key = c >= z.q;
            const float r = rstd_of(sums + 2 * n, is_key, z);
            const float mean = dots[2 * n + is_key] / (is_key ? z.k_width : z.q_width);
            float d = to_float(dqkv[n * z.W + c]) * r * to_float(w[c]);
            if (!is_key || c >= z.others)
                d -= mean * r * r * r * to_float(raw[n * z.C + c]);
            dqkv[n * z.W + c] = from_float<T>(d);
        }
}

static sizes sizes_of(const struct nn_qk_norm *p, int64_t W)
{
    return {p->q,  p->q + p->k,       p->q + p->k_others,
            W,     (float)p->q_width, (float)p->k_width,
            p->eps};
}

extern "C" void cuda_qk_norm_sums(cudaStream_t s, enum dtype t, float *sums, void *raw,
                                  const void *qkv, int64_t N, int64_t W,
                                  const struct nn_qk_norm *p)
{
    const sizes z = sizes_of(p, W);
    if (N == 0) return;
    CUDA_FOR_TYPE(t,
                  CUDA_LAUNCH(qk_norm_sums<T>, grid_size(N), ROWS_ANY_THREADS, 0, s, sums,
                              static_cast<T *>(raw), static_cast<const T *>(qkv), N, z));
}

extern "C" void cuda_qk_norm_fwd(cudaStream_t s, enum dtype t, void *qkv, const void *raw,
                                 const float *sums, int64_t N, int64_t W,
                                 const struct nn_qk_norm *p)
{
    const sizes z = sizes_of(p, W);
    if (N == 0) return;
    CUDA_FOR_TYPE(t, CUDA_LAUNCH(qk_norm_fwd<T>, grid_size(N), ROWS_ANY_THREADS, 0, s,
                                 static_cast<T *>(qkv), static_cast<const T *>(raw),
                                 static_cast<const T *>(p->w->data), sums, N, z));
}

extern "C" void cuda_qk_norm_dots(cudaStream_t s, enum dtype t, float *dots,
                                  const void *dqkv, const void *raw, int64_t N, int64_t W,
                                  const struct nn_qk_norm *p)
{
    const sizes z = sizes_of(p, W);
    if (N == 0) return;
    CUDA_FOR_TYPE(t,
                  CUDA_LAUNCH(qk_norm_dots<T>, grid_size(N), ROWS_ANY_THREADS, 0, s, dots,
                              static_cast<const T *>(dqkv), static_cast<const T *>(raw),
                              static_cast<const T *>(p->w->data), N, z));
}

extern "C" int64_t cuda_qk_norm_bwd_floats(int64_t N, int64_t C)
{
    return rows_bwd_partial_rows(N, C) * C;
}

template <typename T>
static void bwd(cudaStream_t s, T *dqkv, float *partial, const T *raw, const float *sums,
                const float *dots, int64_t N, const struct nn_qk_norm *p, const sizes &z)
{
    const int64_t R = rows_bwd_partial_rows(N, z.C);
    const dim3 grid((unsigned)ceil_div(z.C, CUDA_WARP), (unsigned)R);
    CUDA_LAUNCH(qk_norm_bwd_dw<T>, grid, COLUMNS_THREADS, 0, s, partial, dqkv, raw, sums,
                N, z);
    launch_add_partials(s, static_cast<float *>(p->dw->data), NULL, partial, R, z.C);
    CUDA_LAUNCH(qk_norm_bwd<T>, grid_size(N), ROWS_ANY_THREADS, 0, s, dqkv, raw,
                static_cast<const T *>(p->w->data), sums, dots, N, z);
}

extern "C" void cuda_qk_norm_bwd(cudaStream_t s, enum dtype t, void *dqkv, float *partial,
                                 const void *raw, const float *sums, const float *dots,
                                 int64_t N, int64_t W, const struct nn_qk_norm *p)
{
    const sizes z = sizes_of(p, W);
    if (N == 0) return;
    CUDA_FOR_TYPE(t, bwd(s, static_cast<T *>(dqkv), partial, static_cast<const T *>(raw),
                         sums, dots, N, p, z));
}
