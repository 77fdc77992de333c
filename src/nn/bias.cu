/* Bias of a linear layer: y = x + b, and db += sum of dy over the rows (nn.h).
 *
 * Bytes moved, t the size of a number: bias_add 2 N O t, bias_bwd N O t + 8 R O, where R, the rows
 * of `partial`, is at most N / 64.  A lane has the same 16 bytes of many rows, so that b is read
 * once and the sums stay in registers. */
#include "nn/columns.cuh"

enum {
    BIAS_ROWS = 4,      /* that a thread has in flight */
    BIAS_BLOCKS = 1056, /* of bias_bwd: eight for each multiprocessor of an H200 */
    BIAS_MAX_GRID_Y = 65535
};

/* Row of this thread, and how far it is to its next one. */
static __device__ __forceinline__ int64_t first_row()
{
    return (int64_t)blockIdx.y * COLUMNS_WARPS + threadIdx.x / CUDA_WARP;
}
static __device__ __forceinline__ int64_t row_step()
{
    return (int64_t)gridDim.y * COLUMNS_WARPS;
}
/* Its first column. */
template <int W> static __device__ __forceinline__ int64_t column()
{
    return ((int64_t)blockIdx.x * CUDA_WARP + threadIdx.x % CUDA_WARP) * W;
}

template <typename T, int W>
static __global__ void __launch_bounds__(COLUMNS_THREADS)
    bias_add(T *y, const T *x, const T *b, int64_t N, int64_t O)
{
    const int64_t o = column<W>(), step = row_step();
    if (o >= O) return;
    float bias[W];
    load_floats<W>(bias, b + o);
    for (int64_t n = first_row(); n < N; n += BIAS_ROWS * step) {
        float v[BIAS_ROWS][W];
        for (int i = 0; i < BIAS_ROWS; i++)
            if (n + i * step < N) load_floats<W>(v[i], x + (n + i * step) * O + o);
        for (int i = 0; i < BIAS_ROWS; i++) {
            if (n + i * step >= N) continue;
            for (int k = 0; k < W; k++) v[i][k] += bias[k];
            store_floats<W>(y + (n + i * step) * O + o, v[i]);
        }
    }
}

template <typename T, int W>
static __global__ void __launch_bounds__(COLUMNS_THREADS)
    bias_bwd(float *partial, const T *dy, int64_t N, int64_t O)
{
    const int64_t o = column<W>(), step = row_step();
    float sum[W] = {0};
    int64_t n = o < O ? first_row() : N;
    for (; n + (BIAS_ROWS - 1) * step < N; n += BIAS_ROWS * step) {
        float v[BIAS_ROWS][W];
        for (int i = 0; i < BIAS_ROWS; i++)
            load_floats<W>(v[i], dy + (n + i * step) * O + o);
        for (int k = 0; k < W; k++) sum[k] += (v[0][k] + v[1][k]) + (v[2][k] + v[3][k]);
    }
    for (; n < N; n += step) {
        float v[W];
        load_floats<W>(v, dy + n * O + o);
        for (int k = 0; k < W; k++) sum[k] += v[k];
    }
    columns_store<W>(partial + blockIdx.y * O, sum, O);
}

static int64_t at_most(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Rows of `partial`, in every type; enough that all multiprocessors have work in the widest. */
static int64_t partial_rows(int64_t N, int64_t O)
{
    const int64_t wanted = ceil_div(BIAS_BLOCKS, ceil_div(O, CUDA_WARP * 8));
    return at_most(wanted, ceil_div(N, 8 * COLUMNS_WARPS));
}

template <typename T, int W>
static void launch_add(cudaStream_t s, T *y, const T *x, const T *b, int64_t N, int64_t O)
{
    const int64_t down = ceil_div(N, COLUMNS_WARPS * BIAS_ROWS);
    const dim3 grid((unsigned)ceil_div(O, CUDA_WARP * W),
                    (unsigned)at_most(down, BIAS_MAX_GRID_Y));
    CUDA_LAUNCH((bias_add<T, W>), grid, COLUMNS_THREADS, 0, s, y, x, b, N, O);
}

template <typename T>
static void add(cudaStream_t s, T *y, const T *x, const T *b, int64_t N, int64_t O)
{
    if (aligned_16(y, O) && aligned_16(x, O) && aligned_16(b, O))
        launch_add<T, vec16<T>::N>(s, y, x, b, N, O);
    else
        launch_add<T, 1>(s, y, x, b, N, O);
}

template <typename T, int W>
static void launch_bwd(cudaStream_t s, float *db, float *partial, const T *dy, int64_t N,
                       int64_t O)
{
    const int64_t R = partial_rows(N, O);
    const dim3 grid((unsigned)ceil_div(O, CUDA_WARP * W), (unsigned)R);
    CUDA_LAUNCH((bias_bwd<T, W>), grid, COLUMNS_THREADS, 0, s, partial, dy, N, O);
    launch_add_partials(s, db, NULL, partial, R, O);
}

template <typename T>
static void bwd(cudaStream_t s, float *db, float *partial, const T *dy, int64_t N,
                int64_t O)
{
    if (aligned_16(dy, O))
        launch_bwd<T, vec16<T>::N>(s, db, partial, dy, N, O);
    else
        launch_bwd<T, 1>(s, db, partial, dy, N, O);
}

extern "C" void cuda_bias_add(cudaStream_t s, enum dtype t, void *y, const void *x,
                              const void *b, int64_t N, int64_t O)
{
    if (N == 0) return;
    if (!b) { /* a copy */
        if (y == x) return;
        const size_t bytes = (size_t)(N * O) * (t == DTYPE_F32 ? 4 : 2);
        device_cuda_check(cudaMemcpyAsync(y, x, bytes, cudaMemcpyDeviceToDevice, s),
                          "cudaMemcpyAsync(bias_add)");
        return;
    }
    CUDA_FOR_TYPE(t, add(s, static_cast<T *>(y), static_cast<const T *>(x),
                         static_cast<const T *>(b), N, O));
}

extern "C" int64_t cuda_bias_bwd_floats(int64_t N, int64_t O)
{
    return partial_rows(N, O) * O;
}

extern "C" void cuda_bias_bwd(cudaStream_t s, enum dtype t, float *db, float *partial,
                              const void *dy, int64_t N, int64_t O)
{
    if (N == 0) return;
    CUDA_FOR_TYPE(t, bwd(s, db, partial, static_cast<const T *>(dy), N, O));
}
