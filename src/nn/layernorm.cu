/* LayerNorm: the equations are nn_layernorm_fwd's and nn_layernorm_bwd's in nn.h.
 *
 * Bytes moved, t the size of a number: forward 2 N C t + 8 N; backward 4 N C t + 8 N (dy, x, dx to
 * and fro) + 16 R C, where R, the rows of each half of `partial`, is 396 for C t <= 1536 and at
 * most 1056 else.  A row is read once and stays in registers; what is not aligned or too long is
 * read again from cache.
 *
 * The variance is taken around the mean: the sum of squares minus the squared sum would lose all
 * its digits in a row with a large mean. */
#include "nn/rows.cuh"

/* ---- forward ------------------------------------------------------------------------------- */

template <typename T, int V, bool whole_block>
static __global__ void __launch_bounds__(whole_block ? ROWS_MAX_THREADS : ROWS_THREADS)
    layernorm_fwd(T *y, float *stats, const T *x, const T *w, const T *b, float eps,
                  int64_t N, int C)
{
    CUDA_SHARED(float, room, 2 * ROWS_MAX_WARPS);
    const int W = vec16<T>::N;
    const row_share me = share_of_thread<whole_block>();
    for (int64_t n = me.first; n < N; n += me.step) {
        vec16<T> xs[V];
        row_load<T, V>(xs, x + n * C, me, C);
        float sum[1] = {0.0f}, squares[1] = {0.0f};
        for (int k = 0; k < V; k++)
            for (int i = 0; i < W; i++) sum[0] += to_float(xs[k].x[i]);
        row_sums<whole_block, 1>(sum, room);
        const float mean = sum[0] / (float)C;
        for (int k = 0; k < V; k++)
            for (int i = 0; i < W && row_column<T>(me, k) < C; i++) {
                const float d = to_float(xs[k].x[i]) - mean;
                squares[0] += d * d;
            }
        row_sums<whole_block, 1>(squares, room + ROWS_MAX_WARPS);
        const float r = 1.0f / sqrtf(squares[0] / (float)C + eps);
        for (int k = 0; k < V; k++) {
            const int c = row_column<T>(me, k);
            if (c >= C) continue;
            float ws[W], bs[W];
            load_floats<W>(ws, w + c);
            load_floats<W>(bs, b + c);
            for (int i = 0; i < W; i++)
                ws[i] = (to_float(xs[k].x[i]) - mean) * r * ws[i] + bs[i];
            store_floats<W>(y + n * C + c, ws);
        }
        if (me.lane == 0) {
            stats[2 * n] = mean;
            stats[2 * n + 1] = r;
        }
    }
}

/* Any row: a block each */
template <typename T>
static __global__ void __launch_bounds__(ROWS_ANY_THREADS)
    layernorm_fwd_any(T *y, float *stats, const T *x, const T *w, const T *b, float eps,
                      int64_t N, int64_t C)
{
    CUDA_SHARED(float, room, CUDA_WARP + 1);
    for (int64_t n = blockIdx.x; n < N; n += gridDim.x) {
        const T *xn = x + n * C;
        float sum = 0.0f, squares = 0.0f;
        for (int64_t c = threadIdx.x; c < C; c += blockDim.x) sum += to_float(xn[c]);
        const float mean = block_sum(sum, room) / (float)C;
        for (int64_t c = threadIdx.x; c < C; c += blockDim.x) {
            const float d = to_float(xn[c]) - mean;
            squares += d * d;
        }
        const float r = 1.0f / sqrtf(block_sum(squares, room) / (float)C + eps);
        for (int64_t c = threadIdx.x; c < C; c += blockDim.x) {
            const float xhat = (to_float(xn[c]) - mean) * r;
            y[n * C + c] = from_float<T>(xhat * to_float(w[c]) + to_float(b[c]));
        }
        if (threadIdx.x == 0) {
            stats[2 * n] = mean;
            stats[2 * n + 1] = r;
        }
    }
}

template <typename T>
static void fwd(cudaStream_t s, T *y, float *stats, const T *x, const T *w, const T *b,
                float eps, int64_t N, int64_t C)
{
    const int64_t items = C / vec16<T>::N;
    const bool aligned =
        aligned_16(y, C) && aligned_16(x, C) && aligned_16(w, C) && aligned_16(b, C);
    const unsigned few_rows = grid_size(ceil_div(N, ROWS_WARPS));
    if (!aligned || items > ROWS_FWD_MANY * ROWS_MAX_THREADS)
        CUDA_LAUNCH(layernorm_fwd_any<T>, grid_size(N), ROWS_ANY_THREADS, 0, s, y, stats,
                    x, w, b, eps, N, C);
    else if (items <= ROWS_FWD_FEW * CUDA_WARP)
        CUDA_LAUNCH((layernorm_fwd<T, ROWS_FWD_FEW, false>), few_rows, ROWS_THREADS, 0, s,
                    y, stats, x, w, b, eps, N, (int)C);
    else if (items <= ROWS_FWD_MANY * CUDA_WARP)
        CUDA_LAUNCH((layernorm_fwd<T, ROWS_FWD_MANY, false>), few_rows, ROWS_THREADS, 0,
                    s, y, stats, x, w, b, eps, N, (int)C);
    else
        CUDA_LAUNCH((layernorm_fwd<T, ROWS_FWD_MANY, true>), grid_size(N),
                    (unsigned)rows_threads(items, ROWS_FWD_MANY), 0, s, y, stats, x, w, b,
                    eps, N, (int)C);
}

extern "C" void cuda_layernorm_fwd(cudaStream_t s, enum dtype t, void *y, float *stats,
                                   const void *x, const void *w, const void *b, float eps,
                                   int64_t N, int64_t C)
{
    if (N == 0) return;
    CUDA_FOR_TYPE(t,
                  fwd(s, static_cast<T *>(y), stats, static_cast<const T *>(x),
                      static_cast<const T *>(w), static_cast<const T *>(b), eps, N, C));
}

/* ---- backward ------------------------------------------------------------------------------ */

/* The sums of dw and db stay in registers over all rows of a thread. */
template <typename T, int V, bool whole_block>
static __global__ void __launch_bounds__(whole_block ? ROWS_MAX_THREADS : ROWS_THREADS,
                                         whole_block ? 1 : 3)
    layernorm_bwd(T *dx, float *partial, const T *dy, const T *x, const float *stats,
                  const T *w, int64_t N, int C)
{
    CUDA_SHARED(float, room, 4 * ROWS_MAX_WARPS);
    const int W = vec16<T>::N;
    const row_share me = share_of_thread<whole_block>();
    float dw[V * W] = {0.0f}, db[V * W] = {0.0f};
    vec16<T> ws[V];
    row_load<T, V>(ws, w, me, C);
    int turn = 0;
    for (int64_t n = me.first; n < N; n += me.step, turn ^= 1) {
        vec16<T> dys[V], xs[V], dxs[V];
        row_load<T, V>(dys, dy + n * C, me, C);
        row_load<T, V>(xs, x + n * C, me, C);
        row_load<T, V>(dxs, dx + n * C, me, C);
        const float mean = stats[2 * n], r = stats[2 * n + 1];
        float sums[2] = {0.0f, 0.0f}; /* of g and g (x - mean); g is 0 beyond C */
        for (int k = 0; k < V; k++)
            for (int i = 0; i < W; i++) {
                const float g = to_float(dys[k].x[i]) * to_float(ws[k].x[i]);
                sums[0] += g;
                sums[1] += g * (to_float(xs[k].x[i]) - mean);
            }
        row_sums<whole_block, 2>(sums, room + turn * 2 * ROWS_MAX_WARPS);
        row_forget<T, V>(dys);
        row_forget<T, V>(xs);
        row_forget<T, V>(ws);
        const float mean_g = sums[0] / (float)C, mean_gx = sums[1] * r / (float)C;
        for (int k = 0; k < V; k++) {
            const int c = row_column<T>(me, k);
            float sum[W];
            for (int i = 0; i < W; i++) {
                const float d = to_float(dys[k].x[i]);
                const float xhat = (to_float(xs[k].x[i]) - mean) * r;
                dw[k * W + i] += d * xhat;
                db[k * W + i] += d;
                sum[i] = to_float(dxs[k].x[i]) +
                         r * (d * to_float(ws[k].x[i]) - mean_g - xhat * mean_gx);
            }
            if (c < C) store_floats<W>(dx + n * C + c, sum);
        }
    }
    float *mine = partial + blockIdx.x * (int64_t)C;
    rows_store_sums<T, V, whole_block>(mine, dw, me, C);
    rows_store_sums<T, V, whole_block>(mine + gridDim.x * (int64_t)C, db, me, C);
}

/* dx of any row: a block each */
template <typename T>
static __global__ void __launch_bounds__(ROWS_ANY_THREADS)
    layernorm_bwd_any(T *dx, const T *dy, const T *x, const float *stats, const T *w,
                      int64_t N, int64_t C)
{
    CUDA_SHARED(float, room, CUDA_WARP + 1);
    for (int64_t n = blockIdx.x; n < N; n += gridDim.x) {
        const T *dyn = dy + n * C, *xn = x + n * C;
        const float mean = stats[2 * n], r = stats[2 * n + 1];
        float sum_g = 0.0f, sum_gx = 0.0f;
        for (int64_t c = threadIdx.x; c < C; c += blockDim.x) {
            const float g = to_float(dyn[c]) * to_float(w[c]);
            sum_g += g;
            sum_gx += g * (to_float(xn[c]) - mean);
        }
        const float mean_g = block_sum(sum_g, room) / (float)C;
        const float mean_gx = block_sum(sum_gx, room) * r / (float)C;
        for (int64_t c = threadIdx.x; c < C; c += blockDim.x) {
            const float xhat = (to_float(xn[c]) - mean) * r;
            const float g = to_float(dyn[c]) * to_float(w[c]);
            const float d = r * (g - mean_g - xhat * mean_gx);
            dx[n * C + c] = from_float<T>(to_float(dx[n * C + c]) + d);
        }
    }
}

/* dw and db of any row: a lane has a column */
template <typename T>
static __global__ void __launch_bounds__(COLUMNS_THREADS)
    layernorm_bwd_any_dw(float *partial, const T *dy, const T *x, const float *stats,
                         int64_t N, int64_t C)
{
    const int64_t c = (int64_t)blockIdx.x * CUDA_WARP + threadIdx.x % CUDA_WARP;
    const int64_t first = (int64_t)blockIdx.y * COLUMNS_WARPS + threadIdx.x / CUDA_WARP;
    const int64_t step = (int64_t)gridDim.y * COLUMNS_WARPS;
    float dw[1] = {0.0f}, db[1] = {0.0f};
    for (int64_t n = first; c < C && n < N; n += step) {
        const float d = to_float(dy[n * C + c]);
        dw[0] += d * (to_float(x[n * C + c]) - stats[2 * n]) * stats[2 * n + 1];
        db[0] += d;
    }
    columns_store<1>(partial + blockIdx.y * C, dw, C);
    columns_store<1>(partial + (gridDim.y + blockIdx.y) * C, db, C);
}

template <typename T>
static void bwd_any(cudaStream_t s, T *dx, float *dw, float *db, float *partial,
                    const T *dy, const T *x, const float *stats, const T *w, int64_t N,
                    int64_t C)
{
    const int64_t R = rows_bwd_partial_rows(N, C);
    const dim3 grid((unsigned)ceil_div(C, CUDA_WARP), (unsigned)R);
    CUDA_LAUNCH(layernorm_bwd_any<T>, grid_size(N), ROWS_ANY_THREADS, 0, s, dx, dy, x,
                stats, w, N, C);
    CUDA_LAUNCH(layernorm_bwd_any_dw<T>, grid, COLUMNS_THREADS, 0, s, partial, dy, x,
                stats, N, C);
    launch_add_partials(s, dw, db, partial, R, C);
}

template <typename T>
static void bwd(cudaStream_t s, T *dx, float *dw, float *db, float *partial, const T *dy,
                const T *x, const float *stats, const T *w, int64_t N, int64_t C)
{
    const int64_t items = C / vec16<T>::N;
    const bool aligned =
        aligned_16(dx, C) && aligned_16(dy, C) && aligned_16(x, C) && aligned_16(w, C);
    if (!aligned || items > ROWS_BWD_MANY * ROWS_MAX_THREADS) {
        bwd_any(s, dx, dw, db, partial, dy, x, stats, w, N, C);
        return;
    }
    const int64_t R = rows_bwd_blocks(N, items);
    if (rows_bwd_is_few(items))
        CUDA_LAUNCH((layernorm_bwd<T, ROWS_BWD_FEW, false>), (unsigned)R, ROWS_THREADS, 0,
                    s, dx, partial, dy, x, stats, w, N, (int)C);
    else
        CUDA_LAUNCH((layernorm_bwd<T, ROWS_BWD_MANY, true>), (unsigned)R,
                    (unsigned)rows_threads(items, ROWS_BWD_MANY), 0, s, dx, partial, dy,
                    x, stats, w, N, (int)C);
    launch_add_partials(s, dw, db, partial, R, C);
}

extern "C" int64_t cuda_layernorm_bwd_floats(int64_t N, int64_t C)
{
    return 2 * rows_bwd_partial_rows(N, C) * C;
}

extern "C" void cuda_layernorm_bwd(cudaStream_t s, enum dtype t, void *dx, float *dw,
                                   float *db, float *partial, const void *dy,
                                   const void *x, const float *stats, const void *w,
                                   int64_t N, int64_t C)
{
    if (N == 0) return;
    CUDA_FOR_TYPE(t, bwd(s, static_cast<T *>(dx), dw, db, partial,
                         static_cast<const T *>(dy), static_cast<const T *>(x), stats,
                         static_cast<const T *>(w), N, C));
}
