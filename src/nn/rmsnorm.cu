/* RMSNorm: the equations are nn_rmsnorm_fwd's and nn_rmsnorm_bwd's in nn.h.
 *
 * Bytes moved, t the size of a number: forward 2 N C t + 4 N; backward 4 N C t + 4 N (dy, x, dx to
 * and fro) + 8 R C, where R, the rows of `partial`, is 396 for C t <= 1536 and at most 1056 else.
 * A row is read once and stays in registers; what is not aligned or too long is read again from
 * cache. */
#include "nn/rows.cuh"

/* ---- forward ------------------------------------------------------------------------------- */

template <typename T, int V, bool whole_block>
static __global__ void __launch_bounds__(whole_block ? ROWS_MAX_THREADS : ROWS_THREADS)
    rmsnorm_fwd(T *y, float *rstd, const T *x, const T *w, float eps, int64_t N, int C)
{
    CUDA_SHARED(float, room, 2 * ROWS_MAX_WARPS);
    const int W = vec16<T>::N;
    const row_share me = share_of_thread<whole_block>();
    int turn = 0;
    for (int64_t n = me.first; n < N; n += me.step, turn ^= 1) {
        vec16<T> xs[V];
        row_load<T, V>(xs, x + n * C, me, C);
        float sum[1] = {0.0f};
        for (int k = 0; k < V; k++)
            for (int i = 0; i < W; i++) {
                const float xi = to_float(xs[k].x[i]);
                sum[0] += xi * xi;
            }
        row_sums<whole_block, 1>(sum, room + turn * ROWS_MAX_WARPS);
        const float r = 1.0f / sqrtf(sum[0] / (float)C + eps);
        for (int k = 0; k < V; k++) {
            const int c = row_column<T>(me, k);
            if (c >= C) continue;
            float ws[W];
            load_floats<W>(ws, w + c);
            for (int i = 0; i < W; i++) ws[i] *= to_float(xs[k].x[i]) * r;
            store_floats<W>(y + n * C + c, ws);
        }
        if (me.lane == 0) rstd[n] = r;
    }
}

/* Any row: a block each */
template <typename T>
static __global__ void __launch_bounds__(ROWS_ANY_THREADS)
    rmsnorm_fwd_any(T *y, float *rstd, const T *x, const T *w, float eps, int64_t N,
                    int64_t C)
{
    CUDA_SHARED(float, room, CUDA_WARP + 1);
    for (int64_t n = blockIdx.x; n < N; n += gridDim.x) {
        const T *xn = x + n * C;
        float sum = 0.0f;
        for (int64_t c = threadIdx.x; c < C; c += blockDim.x) {
            const float xi = to_float(xn[c]);
            sum += xi * xi;
        }
        const float r = 1.0f / sqrtf(block_sum(sum, room) / (float)C + eps);
        for (int64_t c = threadIdx.x; c < C; c += blockDim.x)
            y[n * C + c] = from_float<T>(to_float(xn[c]) * r * to_float(w[c]));
        if (threadIdx.x == 0) rstd[n] = r;
    }
}

template <typename T>
static void fwd(cudaStream_t s, T *y, float *rstd, const T *x, const T *w, float eps,
                int64_t N, int64_t C)
{
    const int64_t items = C / vec16<T>::N;
    const bool aligned = aligned_16(y, C) && aligned_16(x, C) && aligned_16(w, C);
    const unsigned few_rows = grid_size(ceil_div(N, ROWS_WARPS));
    if (!aligned || items > ROWS_FWD_MANY * ROWS_MAX_THREADS)
        CUDA_LAUNCH(rmsnorm_fwd_any<T>, grid_size(N), ROWS_ANY_THREADS, 0, s, y, rstd, x,
                    w, eps, N, C);
    else if (items <= ROWS_FWD_FEW * CUDA_WARP)
        CUDA_LAUNCH((rmsnorm_fwd<T, ROWS_FWD_FEW, false>), few_rows, ROWS_THREADS, 0, s,
                    y, rstd, x, w, eps, N, (int)C);
    else if (items <= ROWS_FWD_MANY * CUDA_WARP)
        CUDA_LAUNCH((rmsnorm_fwd<T, ROWS_FWD_MANY, false>), few_rows, ROWS_THREADS, 0, s,
                    y, rstd, x, w, eps, N, (int)C);
    else
        CUDA_LAUNCH((rmsnorm_fwd<T, ROWS_FWD_MANY, true>), grid_size(N),
                    (unsigned)rows_threads(items, ROWS_FWD_MANY), 0, s, y, rstd, x, w,
                    eps, N, (int)C);
}

extern "C" void cuda_rmsnorm_fwd(cudaStream_t s, enum dtype t, void *y, float *rstd,
                                 const void *x, const void *w, float eps, int64_t N,
                                 int64_t C)
{
    if (N == 0) return;
    CUDA_FOR_TYPE(t, fwd(s, static_cast<T *>(y), rstd, static_cast<const T *>(x),
                         static_cast<const T *>(w), eps, N, C));
}

/* ---- backward ------------------------------------------------------------------------------ */

/* With k = mean(g x) rstd^3:  dx += dy rstd w - k x      dw += dy rstd x
 * The sums of dw stay in registers over all rows of a thread. */
template <typename T, int V, bool whole_block>
static __global__ void __launch_bounds__(whole_block ? ROWS_MAX_THREADS : ROWS_THREADS,
                                         whole_block ? 1 : 3)
    rmsnorm_bwd(T *dx, float *partial, const T *dy, const T *x, const float *rstd,
                const T *w, int64_t N, int C)
{
    CUDA_SHARED(float, room, 2 * ROWS_MAX_WARPS);
    const int W = vec16<T>::N;
    const row_share me = share_of_thread<whole_block>();
    vec16<T> ws[V];
    float dw[V * W] = {0.0f};
    row_load<T, V>(ws, w, me, C);
    int turn = 0;
    for (int64_t n = me.first; n < N; n += me.step, turn ^= 1) {
        vec16<T> dys[V], xs[V], dxs[V];
        row_load<T, V>(dys, dy + n * C, me, C);
        row_load<T, V>(xs, x + n * C, me, C);
        row_load<T, V>(dxs, dx + n * C, me, C);
        const float r = rstd[n];
        float dot[1] = {0.0f};
        for (int k = 0; k < V; k++)
            for (int i = 0; i < W; i++)
                dot[0] +=
                    to_float(dys[k].x[i]) * to_float(ws[k].x[i]) * to_float(xs[k].x[i]);
        row_sums<whole_block, 1>(dot, room + turn * ROWS_MAX_WARPS);
        row_forget<T, V>(dys);
        row_forget<T, V>(xs);
        row_forget<T, V>(ws);
        const float along_x = dot[0] / (float)C * r * r * r;
        for (int k = 0; k < V; k++) {
            const int c = row_column<T>(me, k);
            float sum[W];
            for (int i = 0; i < W; i++) {
                const float d = to_float(dys[k].x[i]) * r, xi = to_float(xs[k].x[i]);
                dw[k * W + i] += d * xi;
                sum[i] =
                    to_float(dxs[k].x[i]) + (d * to_float(ws[k].x[i]) - along_x * xi);
            }
            if (c < C) store_floats<W>(dx + n * C + c, sum);
        }
    }
    rows_store_sums<T, V, whole_block>(partial + blockIdx.x * (int64_t)C, dw, me, C);
}

/* dx of any row: a block each */
template <typename T>
static __global__ void __launch_bounds__(ROWS_ANY_THREADS)
    rmsnorm_bwd_any(T *dx, const T *dy, const T *x, const float *rstd, const T *w,
                    int64_t N, int64_t C)
{
    CUDA_SHARED(float, room, CUDA_WARP + 1);
    for (int64_t n = blockIdx.x; n < N; n += gridDim.x) {
        const T *dyn = dy + n * C, *xn = x + n * C;
        const float r = rstd[n];
        float dot = 0.0f;
        for (int64_t c = threadIdx.x; c < C; c += blockDim.x)
            dot += to_float(dyn[c]) * to_float(w[c]) * to_float(xn[c]);
        const float along_x = block_sum(dot, room) / (float)C * r * r * r;
        for (int64_t c = threadIdx.x; c < C; c += blockDim.x) {
            const float d =
                to_float(dyn[c]) * r * to_float(w[c]) - along_x * to_float(xn[c]);
            dx[n * C + c] = from_float<T>(to_float(dx[n * C + c]) + d);
        }
    }
}

/* dw of any row: a lane has a column */
template <typename T>
static __global__ void __launch_bounds__(COLUMNS_THREADS)
    rmsnorm_bwd_any_dw(float *partial, const T *dy, const T *x, const float *rstd,
                       int64_t N, int64_t C)
{
    const int64_t c = (int64_t)blockIdx.x * CUDA_WARP + threadIdx.x % CUDA_WARP;
    const int64_t first = (int64_t)blockIdx.y * COLUMNS_WARPS + threadIdx.x / CUDA_WARP;
    const int64_t step = (int64_t)gridDim.y * COLUMNS_WARPS;
    float dw[1] = {0.0f};
    for (int64_t n = first; c < C && n < N; n += step)
        dw[0] += to_float(dy[n * C + c]) * rstd[n] * to_float(x[n * C + c]);
    columns_store<1>(partial + blockIdx.y * C, dw, C);
}

template <typename T>
static void bwd_any(cudaStream_t s, T *dx, float *dw, float *partial, const T *dy,
                    const T *x, const float *rstd, const T *w, int64_t N, int64_t C)
{
    const int64_t R = rows_bwd_partial_rows(N, C);
    const dim3 grid((unsigned)ceil_div(C, CUDA_WARP), (unsigned)R);
    CUDA_LAUNCH(rmsnorm_bwd_any<T>, grid_size(N), ROWS_ANY_THREADS, 0, s, dx, dy, x, rstd,
                w, N, C);
    CUDA_LAUNCH(rmsnorm_bwd_any_dw<T>, grid, COLUMNS_THREADS, 0, s, partial, dy, x, rstd,
                N, C);
    launch_add_partials(s, dw, NULL, partial, R, C);
}

template <typename T>
static void bwd(cudaStream_t s, T *dx, float *dw, float *partial, const T *dy, const T *x,
                const float *rstd, const T *w, int64_t N, int64_t C)
{
    const int64_t items = C / vec16<T>::N;
    const bool aligned =
        aligned_16(dx, C) && aligned_16(dy, C) && aligned_16(x, C) && aligned_16(w, C);
    if (!aligned || items > ROWS_BWD_MANY * ROWS_MAX_THREADS) {
        bwd_any(s, dx, dw, partial, dy, x, rstd, w, N, C);
        return;
    }
    const int64_t R = rows_bwd_blocks(N, items);
    if (rows_bwd_is_few(items))
        CUDA_LAUNCH((rmsnorm_bwd<T, ROWS_BWD_FEW, false>), (unsigned)R, ROWS_THREADS, 0,
                    s, dx, partial, dy, x, rstd, w, N, (int)C);
    else
        CUDA_LAUNCH((rmsnorm_bwd<T, ROWS_BWD_MANY, true>), (unsigned)R,
                    (unsigned)rows_threads(items, ROWS_BWD_MANY), 0, s, dx, partial, dy,
                    x, rstd, w, N, (int)C);
    launch_add_partials(s, dw, NULL, partial, R, C);
}

extern "C" int64_t cuda_rmsnorm_bwd_floats(int64_t N, int64_t C)
{
    return rows_bwd_partial_rows(N, C) * C;
}

extern "C" void cuda_rmsnorm_bwd(cudaStream_t s, enum dtype t, void *dx, float *dw,
                                 float *partial, const void *dy, const void *x,
                                 const float *rstd, const void *w, int64_t N, int64_t C)
{
    if (N == 0) return;
    CUDA_FOR_TYPE(t,
                  bwd(s, static_cast<T *>(dx), dw, partial, static_cast<const T *>(dy),
                      static_cast<const T *>(x), rstd, static_cast<const T *>(w), N, C));
}
