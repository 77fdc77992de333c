/* Attention without tensor cores: fp32, and what attention_tile.cuh's products do not serve (head
 * sizes over 128 or no multiple of 8, scale <= 0, sm_70).  Sums and scores are fp32.
 *
 * A block of 8 x 8 threads makes R x R scores; thread (y, x) has rows y + 8r and columns x + 8c,
 * so the eight threads of a row are neighbours in a warp and read eight columns from eight banks.
 * The algorithm is attention.cu's and attention_bwd.cu's, over what a row sees (attention_view.h),
 * so that parts of the keys are served too.  R falls as D grows, so that the tiles stay below the
 * 48 KiB every device has. */
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

/* to = by o, or to += by o */
template <typename Y, int DP, int R>
static __device__ __forceinline__ void plain_store(Y *to, int64_t ld, int n_rows, int D,
                                                   const float (&o)[R / 8][DP / 8],
                                                   float by, bool add)
{
#pragma unroll
    for (int r = 0; r < R / PLAIN_SIDE; r++)
#pragma unroll
        for (int c = 0; c < DP / PLAIN_SIDE; c++)
            if (plain_y(r) < n_rows && plain_x(c) < D) {
                Y *const at = to + plain_y(r) * ld + plain_x(c);
                const float before = add ? to_float(*at) : 0.0f;
                *at = from_float<Y>(fmaf(o[r][c], by, before));
            }
}

/* ---- what is seen ---------------------------------------------------------------------------- */

/* Keys [x, y) of row i of sequence b; none behind the last row. */
static __device__ __forceinline__ int2 plain_sight(const attention_view &v, int b, int i)
{
    if (i >= (int)v.Tq) return make_int2(0, 0);
    const int64_t at = b * v.Tq + i;
    return make_int2(v.low ? v.low[at] : 0, v.high ? v.high[at] : i + 1);
}

/* The first row of sequence b whose keys end behind `key` (low false), or begin behind it (low
 * true); Tq if there is none. */
static __device__ __forceinline__ int plain_first_row(const attention_view &v, int b,
                                                      int key, bool low)
{
    int from = 0, to = (int)v.Tq;
    while (from < to) {
        const int mid = (from + to) / 2;
        const int2 s = plain_sight(v, b, mid);
        if ((low ? s.x : s.y) > key)
            to = mid;
        else
            from = mid + 1;
    }
    return from;
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

template <typename T, typename Y, int DP, int R>
static __global__ void __launch_bounds__(PLAIN_THREADS)
    attention_fwd_plain(Y *y, float *lse, const T *q, const T *kv, bool fresh,
                        const attention_view v)
{
    constexpr int M = R / PLAIN_SIDE, LD = plain_ld<DP>::value;
    CUDA_SHARED(float, q_tile, R *LD);
    CUDA_SHARED(float, kv_tile, R *LD); /* keys, then values */
    CUDA_SHARED(float, p_tile, R *(R + 1));
    const int n = (int)v.Tq, keys = (int)v.Tk, D = (int)v.D, tiles = (n + R - 1) / R;
    const int unit = blockIdx.x / tiles, b = unit / (int)v.H, h = unit % (int)v.H;
    const int q0 = (tiles - 1 - blockIdx.x % tiles) * R;
    const int kv_head = (h + (int)v.first) / (int)v.group;
    const T *const k = kv + b * v.Tk * v.kv_width + v.k_at + kv_head * D;
    const T *const value = k + (v.v_at - v.k_at);
    Y *const to = y + ((b * v.Tq + q0) * v.H + h) * D;
    float max[M], sum[M], o[M][DP / 8] = {};
    int2 sight[M];
    for (int r = 0; r < M; r++) {
        const int row = q0 + plain_y(r);
        sight[r] = plain_sight(v, b, row);
        max[r] = fresh || row >= n ? -INFINITY : lse[(int64_t)unit * n + row];
        const bool seen = max[r] > -INFINITY;
        sum[r] = seen && plain_x(0) == 0 ? 1.0f : 0.0f; /* of this thread's columns */
        for (int c = 0; c < DP / 8; c++)
            if (seen && plain_x(c) < D)
                o[r][c] = to_float(to[plain_y(r) * v.H * D + plain_x(c)]);
    }
    plain_load<T, DP, R>(q_tile, q + (b * v.Tq + q0) * v.q_width + h * D, v.q_width,
                         n - q0, D);

    const int end = plain_sight(v, b, min(q0 + R, n) - 1).y;
    for (int k0 = plain_sight(v, b, q0).x / R * R; k0 < end; k0 += R) {
        __syncthreads(); /* nobody reads the last values and P */
        plain_load<T, DP, R>(kv_tile, k + k0 * v.kv_width, v.kv_width, keys - k0, D);
        __syncthreads();
        float s[M][M];
        plain_nt<DP, R>(s, q_tile, kv_tile, D);
#pragma unroll
        for (int r = 0; r < M; r++) {
#pragma unroll
            for (int c = 0; c < M; c++) {
                const int key = k0 + plain_x(c);
                s[r][c] =
                    sight[r].x <= key && key < sight[r].y ? s[r][c] * v.scale : -INFINITY;
            }
            const float keep =
                plain_softmax<M>(s[r], p_tile + plain_y(r) * (R + 1), max + r, sum + r);
#pragma unroll
            for (int c = 0; c < DP / 8; c++) o[r][c] *= keep;
        }
        __syncthreads(); /* P is there, nobody reads the keys */
        plain_load<T, DP, R>(kv_tile, value + k0 * v.kv_width, v.kv_width, keys - k0, D);
        __syncthreads();
        plain_add<DP, R>(o, p_tile, kv_tile);
    }

#pragma unroll
    for (int r = 0; r < M; r++) {
        const float all = plain_sum(sum[r]);
        const int row = q0 + plain_y(r);
        if (plain_x(0) == 0 && row < n)
            lse[(int64_t)unit * n + row] = all > 0 ? max[r] + logf(all) : -INFINITY;
#pragma unroll
        for (int c = 0; c < DP / 8; c++) o[r][c] = all > 0 ? o[r][c] / all : 0.0f;
    }
    plain_store<Y, DP, R>(to, v.H * D, n - q0, D, o, 1, false);
}

/* ---- backward -------------------------------------------------------------------------------- */

/* P and dS of a query, which `row` describes, and key j, from their scores before scaling */
static __device__ __forceinline__ float2 plain_gradient(float s, float dp, int2 sight,
                                                        int j,
                                                        const struct attention_row &row,
                                                        float scale)
{
    if (j < sight.x || j >= sight.y) return make_float2(0, 0);
    const float p = expf(fmaf(s, scale, -row.lse));
    return make_float2(p, p * (dp - row.delta));
}

template <typename T, typename Y, int DP, int R>
static __global__ void __launch_bounds__(PLAIN_THREADS)
    attention_dq_plain(Y *dq_to, int64_t dq_width, bool add,
                       const struct attention_row *rows, const T *dy, const T *q,
                       const T *kv, const attention_view v)
{
    constexpr int M = R / PLAIN_SIDE, LD = plain_ld<DP>::value;
    CUDA_SHARED(float, q_tile, R *LD);
    CUDA_SHARED(float, dy_tile, R *LD);
    CUDA_SHARED(float, k_tile, R *LD);
    CUDA_SHARED(float, v_tile, R *LD);
    CUDA_SHARED(float, ds_tile, R *(R + 1));
    const int n = (int)v.Tq, keys = (int)v.Tk, D = (int)v.D, tiles = (n + R - 1) / R;
    const int unit = blockIdx.x / tiles, b = unit / (int)v.H, h = unit % (int)v.H;
    const int q0 = (tiles - 1 - blockIdx.x % tiles) * R;
    const int kv_head = (h + (int)v.first) / (int)v.group;
    const T *const k = kv + b * v.Tk * v.kv_width + v.k_at + kv_head * D;
    const T *const value = k + (v.v_at - v.k_at);
    const int HD = (int)(v.H * v.D);
    float dq[M][DP / 8] = {};
    struct attention_row row[M] = {};
    int2 sight[M];
    for (int r = 0; r < M; r++) {
        sight[r] = plain_sight(v, b, q0 + plain_y(r));
        if (q0 + plain_y(r) < n) row[r] = rows[(int64_t)unit * n + q0 + plain_y(r)];
    }
    plain_load<T, DP, R>(q_tile, q + (b * v.Tq + q0) * v.q_width + h * D, v.q_width,
                         n - q0, D);
    plain_load<T, DP, R>(dy_tile, dy + (b * v.Tq + q0) * HD + h * D, HD, n - q0, D);

    const int end = plain_sight(v, b, min(q0 + R, n) - 1).y;
    for (int k0 = plain_sight(v, b, q0).x / R * R; k0 < end; k0 += R) {
        __syncthreads();
        plain_load<T, DP, R>(k_tile, k + k0 * v.kv_width, v.kv_width, keys - k0, D);
        plain_load<T, DP, R>(v_tile, value + k0 * v.kv_width, v.kv_width, keys - k0, D);
        __syncthreads();
        float s[M][M], dp[M][M];
        plain_nt<DP, R>(s, q_tile, k_tile, D);
        plain_nt<DP, R>(dp, dy_tile, v_tile, D);
#pragma unroll
        for (int r = 0; r < M; r++)
#pragma unroll
            for (int c = 0; c < M; c++)
                ds_tile[plain_y(r) * (R + 1) + plain_x(c)] =
                    plain_gradient(s[r][c], dp[r][c], sight[r], k0 + plain_x(c), row[r],
                                   v.scale)
                        .y;
        __syncthreads();
        plain_add<DP, R>(dq, ds_tile, k_tile);
    }
    plain_store<Y, DP, R>(dq_to + (b * v.Tq + q0) * dq_width + h * D, dq_width, n - q0, D,
                          dq, v.scale, add);
}

template <typename T, typename Y, int DP, int R>
static __global__ void __launch_bounds__(PLAIN_THREADS)
    attention_dkv_plain(Y *dkv, const struct attention_row *rows, const T *dy, const T *q,
                        const T *kv, const attention_view v)
{
    constexpr int M = R / PLAIN_SIDE, LD = plain_ld<DP>::value;
    CUDA_SHARED(float, q_tile, R *LD);
    CUDA_SHARED(float, dy_tile, R *LD);
    CUDA_SHARED(float, k_tile, R *LD);
    CUDA_SHARED(float, v_tile, R *LD);
    CUDA_SHARED(float, p_tile, R *(R + 1)); /* P^T, then dS^T */
    const int n = (int)v.Tq, keys = (int)v.Tk, D = (int)v.D, tiles = (keys + R - 1) / R;
    const int unit = blockIdx.x / tiles, b = unit / (int)v.K, kv_head = unit % (int)v.K;
    const int k0 = blockIdx.x % tiles * R;
    const int2 heads = heads_of(v.H, v.group, v.first, kv_head);
    const int64_t at = (b * v.Tk + k0) * v.kv_width + kv_head * D;
    const int HD = (int)(v.H * v.D);
    const int begin = plain_first_row(v, b, k0, false) / R * R;
    const int end = plain_first_row(v, b, min(k0 + R, keys) - 1, true);
    float dk[M][DP / 8] = {}, dv[M][DP / 8] = {};
    plain_load<T, DP, R>(k_tile, kv + at + v.k_at, v.kv_width, keys - k0, D);
    plain_load<T, DP, R>(v_tile, kv + at + v.v_at, v.kv_width, keys - k0, D);

    for (int h = heads.x; h < heads.y; h++) {
        const struct attention_row *const row = rows + (b * v.H + h) * v.Tq;
        for (int q0 = begin; q0 < end; q0 += R) {
            __syncthreads();
            plain_load<T, DP, R>(q_tile, q + (b * v.Tq + q0) * v.q_width + h * D,
                                 v.q_width, n - q0, D);
            plain_load<T, DP, R>(dy_tile, dy + (b * v.Tq + q0) * HD + h * D, HD, n - q0,
                                 D);
            __syncthreads();
            float s[M][M], ds[M][M];
            plain_nt<DP, R>(s, k_tile, q_tile, D);
            plain_nt<DP, R>(ds, v_tile, dy_tile, D);
#pragma unroll
            for (int c = 0; c < M; c++) {
                const int i = q0 + plain_x(c);
                const int2 sight = plain_sight(v, b, i);
                struct attention_row of = {};
                if (i < n) of = row[i];
#pragma unroll
                for (int r = 0; r < M; r++) {
                    const float2 both = plain_gradient(s[r][c], ds[r][c], sight,
                                                       k0 + plain_y(r), of, v.scale);
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
    plain_store<Y, DP, R>(dkv + at + v.k_at, v.kv_width, keys - k0, D, dk, v.scale,
                          false);
    plain_store<Y, DP, R>(dkv + at + v.v_at, v.kv_width, keys - k0, D, dv, 1, false);
}

/* ---- launches -------------------------------------------------------------------------------- */

template <typename T, typename Y, int DP, int R>
static void fwd(cudaStream_t s, const attention_operands &o, const attention_view &v)
{
    CUDA_LAUNCH((attention_fwd_plain<T, Y, DP, R>),
                (unsigned)(ceil_div(v.Tq, R) * v.B * v.H), PLAIN_THREADS, 0, s,
                static_cast<Y *>(o.y), o.lse, static_cast<const T *>(o.q),
                static_cast<const T *>(o.kv), o.fresh, v);
}

template <typename T, typename Y, int DP, int R>
static void bwd(cudaStream_t s, const attention_operands &o, const attention_view &v)
{
    const T *const dy = static_cast<const T *>(o.dy),
                   *const q = static_cast<const T *>(o.q),
                   *const kv = static_cast<const T *>(o.kv);
    CUDA_LAUNCH((attention_dkv_plain<T, Y, DP, R>),
                (unsigned)(ceil_div(v.Tk, R) * v.B * v.K), PLAIN_THREADS, 0, s,
                static_cast<Y *>(o.dkv), o.rows, dy, q, kv, v);
    CUDA_LAUNCH((attention_dq_plain<T, Y, DP, R>),
                (unsigned)(ceil_div(v.Tq, R) * v.B * v.H), PLAIN_THREADS, 0, s,
                static_cast<Y *>(o.dq), o.dq_width, o.sums, o.rows, dy, q, kv, v);
}

static void check_head_size(const attention_view &v)
{
    if (v.D > 256)
        device_cuda_check(cudaErrorInvalidValue, "attention with a head size over 256");
}

/* 16-bit types come here for parts of the keys, and rarely else: one size serves them */
void attention_plain_fwd(cudaStream_t s, enum dtype t, const struct attention_operands *o,
                         const struct attention_view *v)
{
    check_head_size(*v);
    if (t == DTYPE_F32 && v->D <= 64)
        fwd<float, float, 64, 32>(s, *o, *v);
    else if (t == DTYPE_F32 && v->D <= 128)
        fwd<float, float, 128, 32>(s, *o, *v);
    else if (o->sums)
        CUDA_FOR_TYPE(t, fwd<T, float, 256, 16>(s, *o, *v));
    else
        CUDA_FOR_TYPE(t, fwd<T, T, 256, 16>(s, *o, *v));
}

void attention_plain_bwd(cudaStream_t s, enum dtype t, const struct attention_operands *o,
                         const struct attention_view *v)
{
    check_head_size(*v);
    if (t == DTYPE_F32 && v->D <= 64)
        bwd<float, float, 64, 32>(s, *o, *v);
    else if (t == DTYPE_F32 && v->D <= 128)
        bwd<float, float, 128, 16>(s, *o, *v);
    else if (o->sums)
        CUDA_FOR_TYPE(t, bwd<T, float, 256, 8>(s, *o, *v));
    else
        CUDA_FOR_TYPE(t, bwd<T, T, 256, 8>(s, *o, *v));
}
