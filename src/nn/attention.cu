/* Attention forward, tiled with a running maximum and sum (Dao 2023, arXiv:2307.08691, algorithm
 * 1): a block takes a tile of query rows of one head and goes over the key tiles they see, from
 * the diagonal down, so that a row has seen its own key before any other.  Late query tiles see
 * most keys and go first; the tiles of a head are neighbours in the grid, so that its keys are
 * read from L2: Q operations for each byte of a key, with Q query rows in a tile.
 *
 * What bounds it, counted and not measured.  A warp with 16 M rows reads a key and its value from
 * shared memory, 4 D bytes, and for every step of S keys its query rows, 32 M D bytes, and does
 * 64 M D operations a key.  With M = 2 that is 26 operations a byte (S = 64, D <= 64) or 21
 * (S = 32, wider heads), with M = 1 it would be 13.  sm_80 has tensor cores for 2048 operations a
 * cycle and 128 bytes of shared memory, 16 a byte; hence 32 rows a warp.  sm_90 does 4096, so these
 * instructions can reach 80 or 67 % of it at most (its own ones, which read both sides from shared
 * memory for four warps together, are cuDNN's business). */
#include "nn/attention_tile.cuh"

/* The running softmax of a warp's rows; m, e / 2 as in row_of. */
template <int M> struct softmax_state {
    float max[M][2]; /* of the scores before scaling, over the whole row */
    float sum[M][2]; /* of this lane's columns only */
};

/* Scores become exp(scale * (score - max)); what was summed before is scaled to the new maximum,
 * which soon is the old one for all rows of a warp.  c = scale * log2(e). */
template <int DP, int M, int N>
static __device__ __forceinline__ void softmax_step(softmax_state<M> &r,
                                                    float (&o)[M][DP / 8][4],
                                                    float (&s)[M][N / 8][4], float c)
{
    float keep[M][2];
    bool moved = false;
#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
        for (int e = 0; e < 4; e += 2) {
            float max = r.max[m][e / 2];
#pragma unroll
            for (int n = 0; n < N / 8; n++)
                max = fmaxf(max, fmaxf(s[m][n][e], s[m][n][e + 1]));
            max = row_max(max);
            /* a row that has seen nothing yet must not compute infinity - infinity */
            const float top = max == -INFINITY ? 0.0f : __fmul_rn(max, c);
            /* rounded as top is: exactly 1 where the maximum stays */
            keep[m][e / 2] = exp2_fast(__fmul_rn(r.max[m][e / 2], c) - top);
            moved |= r.max[m][e / 2] < max;
            r.max[m][e / 2] = max;
            float sum = 0;
#pragma unroll
            for (int n = 0; n < N / 8; n++) {
                s[m][n][e] = exp2_fast(fmaf(s[m][n][e], c, -top));
                s[m][n][e + 1] = exp2_fast(fmaf(s[m][n][e + 1], c, -top));
                sum += s[m][n][e] + s[m][n][e + 1];
            }
            r.sum[m][e / 2] = fmaf(r.sum[m][e / 2], keep[m][e / 2], sum);
        }
    }
    if (!__any_sync(0xffffffffu, moved)) return;
#pragma unroll
    for (int i = 0; i < M * DP / 2; i++)
        o[i / (DP / 2)][i / 4 % (DP / 8)][i % 4] *= keep[i / (DP / 2)][i % 4 / 2];
}

/* lse of the warp's rows, the first n_rows of them; o becomes y. */
template <int DP, int M>
static __device__ __forceinline__ void softmax_end(const softmax_state<M> &r,
                                                   float (&o)[M][DP / 8][4], float *lse,
                                                   int n_rows, float scale)
{
#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
        for (int e = 0; e < 4; e += 2) {
            const float sum = row_sum(r.sum[m][e / 2]), by = 1.0f / sum;
            const int row = row_of(m, e);
            if (threadIdx.x % 4 == 0 && row < n_rows)
                lse[row] = fmaf(r.max[m][e / 2], scale, logf(sum));
#pragma unroll
            for (int n = 0; n < DP / 8; n++) o[m][n][e] *= by, o[m][n][e + 1] *= by;
        }
    }
}

/* The query tile, two stages of keys and values. */
template <int DP, int ROWS, int KEYS> static constexpr size_t fwd_bytes()
{
    return (ROWS * ATTENTION_WARPS + 4 * KEYS) * attention_ld<DP>::value * 2;
}

/* ROWS query rows a warp, KEYS keys a step */
template <typename T, int DP, int ROWS, int KEYS>
static __global__ void __launch_bounds__(ATTENTION_THREADS)
    attention_fwd_tensor(T *y, float *lse, const T *qkv, const struct nn_attention a)
{
#if ATTENTION_TENSOR_CORES
    constexpr int M = ROWS / 16, Q = ROWS * ATTENTION_WARPS, LD = attention_ld<DP>::value;
    CUDA_DYNAMIC_SHARED(T, q_tile);
    T *const stages = q_tile + Q * LD;

    const int n = (int)a.T, D = (int)a.D, tiles = (n + Q - 1) / Q;
    const int unit = blockIdx.x / tiles, b = unit / (int)a.H, h = unit % (int)a.H;
    const int q0 = (tiles - 1 - blockIdx.x % tiles) * Q, q1 = min(q0 + Q, n);
    const int own = warp_index() * ROWS; /* first row of this warp in the tile */
    const attention_head<const T> at = head_at(qkv, a, b, h);
    const int32_t *const doc = starts_at(a, b);
    const int first = doc ? doc[q0] / KEYS : 0, last = (q1 - 1) / KEYS;
    const int last_start = doc ? doc[q1 - 1] : 0;
    tile_load<T, DP, Q>(q_tile, row_at(at.q, q0, at.ld), at.ld, n - q0, D);

    softmax_state<M> r;
    float o[M][DP / 8][4] = {};
#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        r.max[i / 2][i % 2] = -INFINITY;
        r.sum[i / 2][i % 2] = 0;
    }

    for (int tile = last + 1; tile >= first; tile--) {
        copy_async_wait<0>(); /* this step is there, nobody reads the one before */
        __syncthreads();
        if (tile > first) {
            T *const next = stages + (tile - 1) % 2 * 2 * KEYS * LD;
            const int k0 = (tile - 1) * KEYS;
            const T *const k = tile_share<DP>::piece(row_at(at.k, k0, at.ld), at.ld);
            tile_load_pieces<T, DP, KEYS>(next, k, at.ld, n - k0, D);
            tile_load_pieces<T, DP, KEYS>(next + KEYS * LD, k + a.K * a.D, at.ld, n - k0,
                                          D);
            copy_async_commit();
        }
        const int k0 = tile * KEYS;
        if (tile > last || k0 >= q0 + own + ROWS) continue;

        const T *const k_tile = stages + tile % 2 * 2 * KEYS * LD;
        float s[M][KEYS / 8][4];
        product_nt<T, DP, M, KEYS>(s, q_tile + own * LD, k_tile);
        if (k0 + KEYS > q0 + own + 1 || k0 < last_start)
            mask_keys<M, KEYS>(s, q0 + own, k0, doc, n);
        softmax_step<DP, M, KEYS>(r, o, s, a.scale * ATTENTION_LOG2E);
        product_add<T, DP, M, KEYS>(o, s, k_tile + KEYS * LD);
    }

    const int row = q0 + own;
    softmax_end<DP, M>(r, o, lse + (int64_t)unit * n + row, n - row, a.scale);
    rows_store<T, DP, M>(y + ((b * a.T + row) * a.H + h) * D, a.H * D, n - row, D,
                         q_tile + own * LD, o);
#endif
}

template <typename T, int DP, int ROWS, int KEYS>
static void launch(cudaStream_t s, T *y, float *lse, const T *qkv,
                   const struct nn_attention *a)
{
    const int64_t blocks = ceil_div(a->T, ROWS * ATTENTION_WARPS) * a->B * a->H;
    constexpr size_t bytes = fwd_bytes<DP, ROWS, KEYS>();
    CUDA_ALLOW_SHARED((attention_fwd_tensor<T, DP, ROWS, KEYS>), bytes);
    CUDA_LAUNCH((attention_fwd_tensor<T, DP, ROWS, KEYS>), (unsigned)blocks,
                ATTENTION_THREADS, bytes, s, y, lse, qkv, *a);
}

/* 32 rows a warp; with D = 128 they need more than the 64 KiB that sm_75 has */
template <typename T>
static void fwd_tensor(cudaStream_t s, T *y, float *lse, const T *qkv,
                       const struct nn_attention *a)
{
    if (a->D <= 32)
        launch<T, 32, 32, 64>(s, y, lse, qkv, a);
    else if (a->D <= 64)
        launch<T, 64, 32, 64>(s, y, lse, qkv, a);
    else if (a->D <= 96)
        launch<T, 96, 32, 32>(s, y, lse, qkv, a);
    else if (attention_shared_fits(fwd_bytes<128, 32, 32>(), 1))
        launch<T, 128, 32, 32>(s, y, lse, qkv, a);
    else
        launch<T, 128, 16, 32>(s, y, lse, qkv, a);
}

int64_t cuda_attention_fwd_floats(enum dtype t, const struct nn_attention *a)
{
    (void)t, (void)a;
    return 0;
}

void cuda_attention_fwd(cudaStream_t s, enum dtype t, void *y, float *lse, float *scratch,
                        const void *qkv, const struct nn_attention *a)
{
    (void)scratch;
    if (!attention_on_tensor_cores(t, qkv, y, a)) {
        const struct attention_view v = attention_view_of(a);
        struct attention_operands o = {};
        o.q = o.kv = qkv;
        o.y = y;
        o.lse = lse;
        o.fresh = true;
        attention_plain_fwd(s, t, &o, &v);
    } else if (t == DTYPE_BF16)
        fwd_tensor(s, static_cast<__nv_bfloat16 *>(y), lse,
                   static_cast<const __nv_bfloat16 *>(qkv), a);
    else
        fwd_tensor(s, static_cast<__half *>(y), lse, static_cast<const __half *>(qkv), a);
}

void cuda_attention_part_fwd(cudaStream_t s, enum dtype t, float *y, float *lse,
                             const void *qkv, const void *kv,
                             const struct nn_attention_part *a, bool fresh)
{
    const struct attention_view v = attention_view_of_part(a);
    struct attention_operands o = {};
    o.q = qkv;
    o.kv = kv;
    o.y = y;
    o.lse = lse;
    o.sums = true;
    o.fresh = fresh;
    attention_plain_fwd(s, t, &o, &v);
}
