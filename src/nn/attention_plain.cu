/* Attention without tensor cores: fp32, and what attention_tile.cuh's products do not serve (head
 * sizes over 128 or no multiple of 8, scale <= 0, sm_70).  Sums and scores are fp32.
 *
 * A block of 8 x 8 threads makes R x R scores; thread (y, x) has rows y + 8r and columns x + 8c,
 * so the eight threads of a row are neighbours in a warp and read eight columns from eight banks.
 * The algorithm is attention.cu's and attention_bwd.cu's.  R falls as D grows, so that the tiles
 * stay below the 48 KiB every device has. */
#include "nn/attention_tile.cuh"

enum { PLAIN_SIDE = 8, PLAIN_THREADS = PLAIN_SIDE * PLAIN_SIDE };

/* One number more than DP: rows begin in different banks. */
template <int DP> struct plain_ld {
    enum { value = DP + 1 };
};

static __device__ __forceinline__ int plain_y(int r)
{
    return threadIdx.x / PLAIN_SIDE + PLAIN_SIDE * r;
}

static __device__ __forceinline__ int plain_x(int c)
{
    return threadIdx.x % PLAIN_SIDE + PLAIN_SIDE * c;
}

/* Rows [0, R) of `from`; what is not in the first n_rows rows and D columns becomes zero. */
template <typename T, int DP, int R>
static __device__ __forceinline__ void plain_load(float *tile, const T *from, int64_t ld,
                                                  int n_rows, int D)
{
    for (int i = threadIdx.x; i < R * DP; i += PLAIN_THREADS) {
        const int row = i / DP, col = i % DP;
        tile[row * plain_ld<DP>::value + col] =
            row < n_rows && col < D ? to_float(from[row * ld + col]) : 0.0f;
    }
}

/* s = left right^T, R x R */
template <int DP, int R>
static __device__ __forceinline__ void
plain_nt(float (&s)[R / 8][R / 8], const float *left, const float *right, int D)
{
    constexpr int M = R / PLAIN_SIDE, LD = plain_ld<DP>::value;
    for (int r = 0; r < M; r++)
        for (int c = 0; c < M; c++) s[r][c] = 0;
#pragma unroll 4
    for (int d = 0; d < D; d++) {
        float u[M], v[M];
#pragma unroll
        for (int i = 0; i < M; i++) {
            u[i] = left[plain_y(i) * LD + d];
            v[i] = right[plain_x(i) * LD + d];
        }
#pragma unroll
        for (int r = 0; r < M; r++)
#pragma unroll
            for (int c = 0; c < M; c++) s[r][c] = fmaf(u[r], v[c], s[r][c]);
    }
}

/* o[R, DP] += p[R, R] right[R, DP], p in shared memory */
template <int DP, int R>
static __device__ __forceinline__ void plain_add(float (&o)[R / 8][DP / 8],
                                                 const float *p, const float *right)
{
    constexpr int M = R / PLAIN_SIDE, N = DP / PLAIN_SIDE, LD = plain_ld<DP>::value;
#pragma unroll 2
    for (int j = 0; j < R; j++) {
        float u[M];
#pragma unroll
        for (int r = 0; r < M; r++) u[r] = p[plain_y(r) * (R + 1) + j];
#pragma unroll
        for (int c = 0; c < N; c++) {
            const float v = right[j * LD + plain_x(c)];
#pragma unroll
            for (int r = 0; r < M; r++) o[r][c] = fmaf(u[r], v, o[r][c]);
        }
    }
}

template <typename T, int DP, int R>
static __device__ __forceinline__ void plain_store(T *to, int64_t ld, int n_rows, int D,
                                                   const float (&o)[R / 8][DP / 8],
                                                   float by)
{
#pragma unroll
    for (int r = 0; r < R / PLAIN_SIDE; r++)
#pragma unroll
        for (int c = 0; c < DP / PLAIN_SIDE; c++)
            if (plain_y(r) < n_rows && plain_x(c) < D)
                to[plain_y(r) * ld + plain_x(c)] = from_float<T>(o[r][c] * by);
}

/* Over the eight threads of a row. */
static __device__ __forceinline__ float plain_sum(float x)
{
    for (int i = 1; i < PLAIN_SIDE; i *= 2) x += __shfl_xor_sync(0xffffffffu, x, i);
    return x;
}

static __device__ __forceinline__ float plain_max(float x)
{
    for (int i = 1; i < PLAIN_SIDE; i *= 2)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, i));
    return x;
}

/* ---- forward --------------------------------------------------------------------------------- */

/* Scores s of a row become exp(s - max) in p; returns what older sums are to be multiplied by. */
template <int M>
static __device__ __forceinline__ float plain_softmax(float (&s)[M], float *p, float *max,
                                                      float *sum)
{
    float top = *max;
#pragma unroll
    for (int c = 0; c < M; c++) top = fmaxf(top, s[c]);
    top = plain_max(top);
    /* a row that has seen nothing yet must not compute infinity - infinity */
    const float from = top == -INFINITY ? 0.0f : top, keep = expf(*max - from);
    *sum *= keep;
    *max = top;
#pragma unroll
    for (int c = 0; c < M; c++) {
        const float x = expf(s[c] - from);
        p[plain_x(c)] = x;
        *sum += x;
    }
    return keep;
}

template <typename T, int DP, int R>
static __global__ void __launch_bounds__(PLAIN_THREADS)
    attention_fwd_plain(T *y, float *lse, const T *qkv, const struct nn_attention a)
{
    constexpr int M = R / PLAIN_SIDE, LD = plain_ld<DP>::value;
    CUDA_SHARED(float, q_tile, R *LD);
    CUDA_SHARED(float, kv_tile, R *LD); /* keys, then values */
    CUDA_SHARED(float, p_tile, R *(R + 1));
    const int n = (int)a.T, D = (int)a.D, tiles = (n + R - 1) / R;
    const int unit = blockIdx.x / tiles, b = unit / (int)a.H, h = unit % (int)a.H;
    const int q0 = (tiles - 1 - blockIdx.x % tiles) * R;
    const attention_head<const T> at = head_at(qkv, a, b, h);
    const int32_t *const doc = starts_at(a, b);
    float max[M], sum[M], o[M][DP / 8] = {};
    for (int r = 0; r < M; r++) max[r] = -INFINITY, sum[r] = 0;
    plain_load<T, DP, R>(q_tile, row_at(at.q, q0, at.ld), at.ld, n - q0, D);

    for (int k0 = (doc ? doc[q0] : 0) / R * R; k0 <= q0; k0 += R) {
        __syncthreads(); /* nobody reads the last values and P */
        plain_load<T, DP, R>(kv_tile, row_at(at.k, k0, at.ld), at.ld, n - k0, D);
        __syncthreads();
        float s[M][M];
        plain_nt<DP, R>(s, q_tile, kv_tile, D);
#pragma unroll
        for (int r = 0; r < M; r++) {
            const int row = q0 + plain_y(r), start = doc && row < n ? doc[row] : 0;
#pragma unroll
            for (int c = 0; c < M; c++) {
                const int key = k0 + plain_x(c);
                s[r][c] = start <= key && key <= row ? s[r][c] * a.scale : -INFINITY;
            }
            const float keep =
                plain_softmax<M>(s[r], p_tile + plain_y(r) * (R + 1), max + r, sum + r);
#pragma unroll
            for (int c = 0; c < DP / 8; c++) o[r][c] *= keep;
        }
        __syncthreads(); /* P is there, nobody reads the keys */
        plain_load<T, DP, R>(kv_tile, row_at(at.v, k0, at.ld), at.ld, n - k0, D);
        __syncthreads();
        plain_add<DP, R>(o, p_tile, kv_tile);
    }

#pragma unroll
    for (int r = 0; r < M; r++) {
        const float all = plain_sum(sum[r]);
        const int row = q0 + plain_y(r);
        if (plain_x(0) == 0 && row < n) lse[(int64_t)unit * n + row] = max[r] + logf(all);
#pragma unroll
        for (int c = 0; c < DP / 8; c++) o[r][c] /= all;
    }
    plain_store<T, DP, R>(y + ((b * a.T + q0) * a.H + h) * D, a.H * D, n - q0, D, o, 1);
}

/* ---- backward -------------------------------------------------------------------------------- */

/* P and dS of query i, which `row` describes, and key j, from their scores before scaling */
static __device__ __forceinline__ float2 plain_gradient(float s, float dp, int i, int j,
                                                        const struct attention_row &row,
                                                        float scale)
{
    if (j < row.start || j > i) return make_float2(0, 0);
    const float p = expf(fmaf(s, scale, -row.lse));
    return make_float2(p, p * (dp - row.delta));
}

template <typename T, int DP, int R>
static __global__ void __launch_bounds__(PLAIN_THREADS)
    attention_dq_plain(T *dqkv, const struct attention_row *rows, const T *dy,
                       const T *qkv, const struct nn_attention a)
{
    constexpr int M = R / PLAIN_SIDE, LD = plain_ld<DP>::value;
    CUDA_SHARED(float, q_tile, R *LD);
    CUDA_SHARED(float, dy_tile, R *LD);
    CUDA_SHARED(float, k_tile, R *LD);
    CUDA_SHARED(float, v_tile, R *LD);
    CUDA_SHARED(float, ds_tile, R *(R + 1));
    const int n = (int)a.T, D = (int)a.D, tiles = (n + R - 1) / R;
    const int unit = blockIdx.x / tiles, b = unit / (int)a.H, h = unit % (int)a.H;
    const int q0 = (tiles - 1 - blockIdx.x % tiles) * R;
    const attention_head<const T> at = head_at(qkv, a, b, h);
    const int HD = (int)(a.H * a.D);
    float dq[M][DP / 8] = {};
    struct attention_row row[M] = {};
    for (int r = 0; r < M; r++)
        if (q0 + plain_y(r) < n) row[r] = rows[(int64_t)unit * n + q0 + plain_y(r)];
    plain_load<T, DP, R>(q_tile, row_at(at.q, q0, at.ld), at.ld, n - q0, D);
    plain_load<T, DP, R>(dy_tile, row_at(dy + b * a.T * HD + h * D, q0, HD), HD, n - q0,
                         D);

    const int32_t *const doc = starts_at(a, b);
    for (int k0 = (doc ? doc[q0] : 0) / R * R; k0 <= q0; k0 += R) {
        __syncthreads();
        plain_load<T, DP, R>(k_tile, row_at(at.k, k0, at.ld), at.ld, n - k0, D);
        plain_load<T, DP, R>(v_tile, row_at(at.v, k0, at.ld), at.ld, n - k0, D);
        __syncthreads();
        float s[M][M], dp[M][M];
        plain_nt<DP, R>(s, q_tile, k_tile, D);
        plain_nt<DP, R>(dp, dy_tile, v_tile, D);
#pragma unroll
        for (int r = 0; r < M; r++)
#pragma unroll
            for (int c = 0; c < M; c++)
                ds_tile[plain_y(r) * (R + 1) + plain_x(c)] =
                    plain_gradient(s[r][c], dp[r][c], q0 + plain_y(r), k0 + plain_x(c),
                                   row[r], a.scale)
                        .y;
        __syncthreads();
        plain_add<DP, R>(dq, ds_tile, k_tile);
    }
    plain_store<T, DP, R>(row_at(head_at(dqkv, a, b, h).q, q0, at.ld), at.ld, n - q0, D,
                          dq, a.scale);
}

template <typename T, int DP, int R>
static __global__ void __launch_bounds__(PLAIN_THREADS)
    attention_dkv_plain(T *dqkv, const struct attention_row *rows, const T *dy,
                        const T *qkv, const struct nn_attention a)
{
    constexpr int M = R / PLAIN_SIDE, LD = plain_ld<DP>::value;
    CUDA_SHARED(float, q_tile, R *LD);
    CUDA_SHARED(float, dy_tile, R *LD);
    CUDA_SHARED(float, k_tile, R *LD);
    CUDA_SHARED(float, v_tile, R *LD);
    CUDA_SHARED(float, p_tile, R *(R + 1)); /* P^T, then dS^T */
    const int n = (int)a.T, D = (int)a.D, tiles = (n + R - 1) / R;
    const int unit = blockIdx.x / tiles, b = unit / (int)a.K, group = (int)(a.H / a.K);
    const int first = unit % (int)a.K * group, k0 = blockIdx.x % tiles * R;
    const attention_head<const T> at = head_at(qkv, a, b, first);
    const int HD = (int)(a.H * a.D);
    const int end = end_of_sight(starts_at(a, b), min(k0 + R, n) - 1, n);
    float dk[M][DP / 8] = {}, dv[M][DP / 8] = {};
    plain_load<T, DP, R>(k_tile, row_at(at.k, k0, at.ld), at.ld, n - k0, D);
    plain_load<T, DP, R>(v_tile, row_at(at.v, k0, at.ld), at.ld, n - k0, D);

    for (int h = first; h < first + group; h++) {
        const T *const q = head_at(qkv, a, b, h).q, *const g = dy + b * a.T * HD + h * D;
        const struct attention_row *const row = rows + (b * a.H + h) * a.T;
        for (int q0 = k0; q0 < end; q0 += R) {
            __syncthreads();
            plain_load<T, DP, R>(q_tile, row_at(q, q0, at.ld), at.ld, n - q0, D);
            plain_load<T, DP, R>(dy_tile, row_at(g, q0, HD), HD, n - q0, D);
            __syncthreads();
            float s[M][M], ds[M][M];
            plain_nt<DP, R>(s, k_tile, q_tile, D);
            plain_nt<DP, R>(ds, v_tile, dy_tile, D);
#pragma unroll
            for (int c = 0; c < M; c++) {
                const int i = q0 + plain_x(c);
                struct attention_row of = {};
                if (i < n) of = row[i];
#pragma unroll
                for (int r = 0; r < M; r++) {
                    const float2 both = plain_gradient(s[r][c], ds[r][c], i,
                                                       k0 + plain_y(r), of, a.scale);
                    p_tile[plain_y(r) * (R + 1) + plain_x(c)] = both.x;
                    ds[r][c] = both.y;
                }
            }
            __syncthreads();
            plain_add<DP, R>(dv, p_tile, dy_tile);
            __syncthreads();
#pragma unroll
            for (int r = 0; r < M; r++)
#pragma unroll
                for (int c = 0; c < M; c++)
                    p_tile[plain_y(r) * (R + 1) + plain_x(c)] = ds[r][c];
            __syncthreads();
            plain_add<DP, R>(dk, p_tile, q_tile);
        }
    }
    const attention_head<T> to = head_at(dqkv, a, b, first);
    plain_store<T, DP, R>(row_at(to.k, k0, to.ld), to.ld, n - k0, D, dk, a.scale);
    plain_store<T, DP, R>(row_at(to.v, k0, to.ld), to.ld, n - k0, D, dv, 1);
}

/* ---- launches -------------------------------------------------------------------------------- */

template <typename T, int DP, int R>
static void fwd(cudaStream_t s, void *y, float *lse, const void *qkv,
                const struct nn_attention *a)
{
    CUDA_LAUNCH((attention_fwd_plain<T, DP, R>),
                (unsigned)(ceil_div(a->T, R) * a->B * a->H), PLAIN_THREADS, 0, s,
                static_cast<T *>(y), lse, static_cast<const T *>(qkv), *a);
}

template <typename T, int DP, int R>
static void bwd(cudaStream_t s, void *dqkv, const struct attention_row *rows,
                const void *dy, const void *qkv, const struct nn_attention *a)
{
    CUDA_LAUNCH((attention_dkv_plain<T, DP, R>),
                (unsigned)(ceil_div(a->T, R) * a->B * a->K), PLAIN_THREADS, 0, s,
                static_cast<T *>(dqkv), rows, static_cast<const T *>(dy),
                static_cast<const T *>(qkv), *a);
    CUDA_LAUNCH((attention_dq_plain<T, DP, R>),
                (unsigned)(ceil_div(a->T, R) * a->B * a->H), PLAIN_THREADS, 0, s,
                static_cast<T *>(dqkv), rows, static_cast<const T *>(dy),
                static_cast<const T *>(qkv), *a);
}

/* 16-bit types come here rarely: one size serves them */
void attention_plain_fwd(cudaStream_t s, enum dtype t, void *y, float *lse,
                         const void *qkv, const struct nn_attention *a)
{
    if (a->D > 256)
        device_cuda_check(cudaErrorInvalidValue, "attention with a head size over 256");
    else if (t == DTYPE_F32 && a->D <= 64)
        fwd<float, 64, 32>(s, y, lse, qkv, a);
    else if (t == DTYPE_F32 && a->D <= 128)
        fwd<float, 128, 32>(s, y, lse, qkv, a);
    else
        CUDA_FOR_TYPE(t, fwd<T, 256, 16>(s, y, lse, qkv, a));
}

void attention_plain_bwd(cudaStream_t s, enum dtype t, void *dqkv,
                         const struct attention_row *rows, const void *dy,
                         const void *qkv, const struct nn_attention *a)
{
    if (a->D > 256)
        device_cuda_check(cudaErrorInvalidValue, "attention with a head size over 256");
    else if (t == DTYPE_F32 && a->D <= 64)
        bwd<float, 64, 32>(s, dqkv, rows, dy, qkv, a);
    else if (t == DTYPE_F32 && a->D <= 128)
        bwd<float, 128, 16>(s, dqkv, rows, dy, qkv, a);
    else
        CUDA_FOR_TYPE(t, bwd<T, 256, 8>(s, dqkv, rows, dy, qkv, a));
}
