/* Softmax, loss and gradient of rows of logits in place: one block a row.
 *
 * What counts is how often a row is read.  The first reading finds maximum and sum together: a
 * sum of exp(x - max) is multiplied by exp(max - new max) whenever the maximum grows.  The second
 * turns the row into its gradient, from the end back: with a row of 100 KB in each of the blocks
 * that run, the caches may hold only what was read last.  A row may begin at any address and have
 * any length: it is a body of whole 16-byte groups, and fewer than 16 loose elements before and
 * behind it. */
#include "nn/cuda_kernel.h"

#include <float.h>

enum { MAX_THREADS = 512, ADD_THREADS = 256 };

#define LOG2_E 1.4426950408889634f

static __device__ __forceinline__ float exp_fast(float x)
{
    return exp2_fast(x * LOG2_E);
}

/* How a row of V elements at x is cut. */
template <typename T> struct cut {
    int head, body, loose; /* elements before the body, groups, elements around it */
};

template <typename T> static __device__ __forceinline__ cut<T> cut_row(const T *x, int V)
{
    const int N = vec16<T>::N;
    const int past = static_cast<int>(reinterpret_cast<uintptr_t>(x) % 16 / sizeof(T));
    cut<T> c;
    c.head = past ? N - past : 0;
    if (c.head > V) c.head = V;
    c.body = (V - c.head) / N;
    c.loose = V - c.body * N;
    return c;
}

template <typename T>
static __device__ __forceinline__ int loose_index(const cut<T> &c, int i)
{
    return i < c.head ? i : i + c.body * vec16<T>::N;
}

/* sum = sum of exp(x - max) over what a thread has seen.  max is finite from the start, so that
 * columns of -infinity, which pad a vocabulary, give exp(-infinity) and not NaN. */
struct online {
    float max, sum;
};

template <int n>
static __device__ __forceinline__ void online_add(online *o, const float *x)
{
    float max = o->max;
    for (int i = 0; i < n; i++) max = fmaxf(max, x[i]);
    float sum = o->sum * exp_fast(o->max - max);
    for (int i = 0; i < n; i++) sum += exp_fast(x[i] - max);
    o->max = max;
    o->sum = sum;
}

template <typename T>
static __device__ __forceinline__ online row_statistics(const T *x, const cut<T> &c,
                                                        float *room)
{
    const int t = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    online o = {-FLT_MAX, 0.0f};
    if (t < c.loose) {
        const float one = to_float(x[loose_index(c, t)]);
        online_add<1>(&o, &one);
    }
    for (int i = t; i < c.body; i += threads) {
        float f[vec16<T>::N];
        load_floats<vec16<T>::N>(f, x + c.head + i * vec16<T>::N);
        online_add<vec16<T>::N>(&o, f);
    }
    const float max = block_max(o.max, room);
    return {max, block_sum(o.sum * exp_fast(o.max - max), room)};
}

/* x = scale * softmax(x) */
template <typename T>
static __device__ __forceinline__ void row_gradient(T *x, const cut<T> &c,
                                                    const online &o, float scale)
{
    const int t = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    const float by = scale / o.sum;
    if (t < c.loose) {
        T *one = x + loose_index(c, t);
        *one = from_float<T>(exp_fast(to_float(*one) - o.max) * by);
    }
    const int rounds = (c.body - t + threads - 1) / threads;
    for (int i = t + (rounds - 1) * threads; i >= 0; i -= threads) {
        T *at = x + c.head + i * vec16<T>::N;
        float f[vec16<T>::N];
        load_floats<vec16<T>::N>(f, at);
        for (int k = 0; k < vec16<T>::N; k++) f[k] = exp_fast(f[k] - o.max) * by;
        store_floats<vec16<T>::N>(at, f);
    }
}

template <typename T>
static __device__ __forceinline__ void row_zero(T *x, const cut<T> &c)
{
    const int t = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    vec16<T> zero;
    for (int k = 0; k < vec16<T>::N; k++) zero.x[k] = from_float<T>(0.0f);
    if (t < c.loose) x[loose_index(c, t)] = zero.x[0];
    for (int i = t; i < c.body; i += threads)
        store_16(x + c.head + i * vec16<T>::N, zero);
}

/* Losses of row n, whose maximum and sum are o; one thread writes.  Returns 2 z lse: a row's gradient
 * is scale * (softmax (1 + that) - onehot). */
static __device__ __forceinline__ float row_losses(const nn_loss_rows &rows, int64_t n,
                                                   const online &o, float at_target)
{
    const float log_sum = logf(o.sum), lse = o.max + log_sum;
    if (threadIdx.x == 0) {
        rows.loss[n] = o.max - at_target + log_sum;
        if (rows.square) rows.square[n] = lse * lse;
    }
    return rows.square ? 2.0f * rows.z_loss * lse : 0.0f;
}

static __device__ __forceinline__ void no_losses(const nn_loss_rows &rows, int64_t n,
                                                 float loss)
{
    if (threadIdx.x != 0) return;
    rows.loss[n] = loss;
    if (rows.square) rows.square[n] = 0.0f;
}

/* The gradient at the target; z as row_losses has it.  In this order little is lost where the share is
 * near 1. */
static __device__ __forceinline__ float target_gradient(const online &o, float at_target,
                                                        float z, float scale)
{
    const float p = exp_fast(at_target - o.max) / o.sum;
    return (p - 1.0f + p * z) * scale;
}

template <typename T>
static __global__ void __launch_bounds__(MAX_THREADS)
    softmax_loss_row(T *logits, nn_loss_rows rows, int V, int64_t width)
{
    CUDA_SHARED(float, room, 33);
    const int64_t n = blockIdx.x;
    const float scale = rows.gradient_scale;
    T *x = logits + n * width;
    const cut<T> c = cut_row(x, V);
    const int target = rows.targets[n];
    if (target < 0 || target >= V) { /* a target outside the vocabulary shows as NaN */
        no_losses(rows, n, target < 0 ? 0.0f : NAN);
        if (scale != 0.0f) row_zero(x, c);
        return;
    }
    const float at_target = to_float(x[target]); /* before anything is overwritten */
    const online o = row_statistics(x, c, room);
    const float z = row_losses(rows, n, o, at_target);
    if (scale == 0.0f) return;
    row_gradient(x, c, o, scale * (1.0f + z));
    __syncthreads();
    if (threadIdx.x == 0)
        x[target] = from_float<T>(target_gradient(o, at_target, z, scale));
}

/* stats[n] = maximum, sum, logit of the target or -infinity */
template <typename T>
static __global__ void __launch_bounds__(MAX_THREADS)
    softmax_stats_row(float *stats, const T *logits, const int32_t *targets, int V,
                      int64_t width, int64_t first)
{
    CUDA_SHARED(float, room, 33);
    const int64_t n = blockIdx.x;
    const T *x = logits + n * width;
    const cut<T> c = cut_row(x, V);
    const int64_t target = targets[n] - first;
    const online o = row_statistics(x, c, room);
    if (threadIdx.x != 0) return;
    const bool here = targets[n] >= 0 && target >= 0 && target < V;
    stats[3 * n] = o.max;
    stats[3 * n + 1] = o.sum;
    stats[3 * n + 2] = here ? to_float(x[target]) : -INFINITY;
}

/* stats: [count][rows][3] of all parts */
template <typename T>
static __global__ void __launch_bounds__(MAX_THREADS)
    softmax_part_row(T *logits, nn_loss_rows rows, const float *stats, int V,
                     int64_t width, int64_t first, int count)
{
    const int64_t n = blockIdx.x, N = gridDim.x;
    const float scale = rows.gradient_scale;
    T *x = logits + n * width;
    const cut<T> c = cut_row(x, V);
    const int64_t target = rows.targets[n] - first;
    if (rows.targets[n] < 0) {
        no_losses(rows, n, 0.0f);
        if (scale != 0.0f) row_zero(x, c);
        return;
    }
    online o = {-FLT_MAX, 0.0f};
    float at_target = -INFINITY;
    for (int i = 0; i < count; i++) {
        const float *s = stats + 3 * (i * N + n);
        o.max = fmaxf(o.max, s[0]);
        at_target = fmaxf(at_target, s[2]);
    }
    for (int i = 0; i < count; i++) {
        const float *s = stats + 3 * (i * N + n);
        o.sum += s[1] * exp_fast(s[0] - o.max);
    }
    /* a target outside the vocabulary shows as NaN */
    const float z = row_losses(rows, n, o, at_target == -INFINITY ? NAN : at_target);
    if (scale == 0.0f) return;
    row_gradient(x, c, o, scale * (1.0f + z));
    __syncthreads();
    if (threadIdx.x == 0 && target >= 0 && target < V)
        x[target] = from_float<T>(target_gradient(o, at_target, z, scale));
}

static __global__ void __launch_bounds__(ADD_THREADS)
    loss_add(struct nn_loss *loss, nn_loss_rows rows, int64_t N)
{
    CUDA_SHARED(double, sums, ADD_THREADS);
    CUDA_SHARED(int64_t, counts, ADD_THREADS);
    double sum = 0, square = 0;
    int64_t count = 0;
    for (int64_t n = threadIdx.x; n < N; n += ADD_THREADS) {
        sum += static_cast<double>(rows.loss[n]);
        if (rows.square) square += static_cast<double>(rows.square[n]);
        count += rows.targets[n] >= 0;
    }
    sum = block_tree_sum(sum, sums);
    count = block_tree_sum(count, counts);
    if (rows.square) square = block_tree_sum(square, sums);
    if (threadIdx.x != 0) return;
    loss->sum += sum;
    loss->z_sum += square;
    loss->n_targets += count;
}

/* No more threads than a row has groups, and whole warps: a function of V alone, because the sum
 * depends on it. */
template <typename T> static int row_threads(int64_t V)
{
    const int64_t warps = ceil_div(V, vec16<T>::N * CUDA_WARP);
    return warps * CUDA_WARP < MAX_THREADS ? static_cast<int>(warps * CUDA_WARP)
                                           : MAX_THREADS;
}

template <typename T>
static void launch_rows(cudaStream_t s, T *logits, const nn_loss_rows *rows, int64_t N,
                        int64_t V, int64_t width)
{
    CUDA_LAUNCH(softmax_loss_row<T>, static_cast<unsigned>(N), row_threads<T>(V), 0, s,
                logits, *rows, static_cast<int>(V), width);
}

template <typename T>
static void launch_stats(cudaStream_t s, float *stats, const T *logits,
                         const int32_t *targets, int64_t N, int64_t V, int64_t width,
                         int64_t first)
{
    CUDA_LAUNCH(softmax_stats_row<T>, static_cast<unsigned>(N), row_threads<T>(V), 0, s,
                stats, logits, targets, static_cast<int>(V), width, first);
}

template <typename T>
static void launch_part(cudaStream_t s, T *logits, const nn_loss_rows *rows,
                        const float *stats, int64_t N, int64_t V, int64_t width,
                        int64_t first, int count)
{
    CUDA_LAUNCH(softmax_part_row<T>, static_cast<unsigned>(N), row_threads<T>(V), 0, s,
                logits, *rows, stats, static_cast<int>(V), width, first, count);
}

extern "C" void cuda_softmax_stats(cudaStream_t s, enum dtype t, float *stats,
                                   const void *logits, const int32_t *targets, int64_t N,
                                   int64_t V, int64_t width, int64_t first)
{
    CUDA_FOR_TYPE(t, launch_stats<T>(s, stats, static_cast<const T *>(logits), targets, N,
                                     V, width, first));
}

extern "C" void cuda_softmax_part(cudaStream_t s, enum dtype t, void *logits,
                                  const struct nn_loss_rows *rows, const float *stats,
                                  int64_t N, int64_t V, int64_t width, int64_t first,
                                  int count)
{
    CUDA_FOR_TYPE(t, launch_part<T>(s, static_cast<T *>(logits), rows, stats, N, V, width,
                                    first, count));
}

extern "C" void cuda_softmax_loss(cudaStream_t s, enum dtype t, void *logits,
                                  const struct nn_loss_rows *rows, int64_t N, int64_t V,
                                  int64_t width)
{
    CUDA_FOR_TYPE(t, launch_rows<T>(s, static_cast<T *>(logits), rows, N, V, width));
}

extern "C" void cuda_loss_add(cudaStream_t s, struct nn_loss *loss,
                              const struct nn_loss_rows *rows, int64_t N)
{
    CUDA_LAUNCH(loss_add, 1, ADD_THREADS, 0, s, loss, *rows, N);
}
