/* Attention backward.  Forward was S = scale q k^T, P = exp(S - lse), y = P v, hence
 *   delta = rowsum(dy * y)    dv = P^T dy    dS = P * (dy v^T - delta)
 *   dq = scale dS k           dk = scale dS^T q
 *
 * Three kernels: delta; dk and dv, where a block owns a key tile of a kv head and goes over the
 * query rows that see it, of all query heads of the group; dq, where a block owns a query tile.
 * The last two both make P and dS from S, so there are seven products where one kernel with
 * atomic additions to dq needs five (Dao 2023, arXiv:2307.08691, algorithm 2).  The two more buy
 * that every gradient is summed by one warp in a fixed order: same bits each run, no fp32 copy of
 * dq to add to, to clear and to round, and nobody waits for another block's turn.
 *
 * In the key kernel the keys are the rows of a warp (S^T = k q^T), so P^T and dS^T are where the
 * left side of dv and dk is wanted; a step's query rows arrive while the step before is used, and
 * what backward knows of a row (struct attention_row) with them.
 *
 * Counted as in attention.cu, with steps of 32 rows: dk and dv do 128 M D operations for the 8 D
 * bytes of a query row and its dy, each read both ways, and 2 M D of the warp's own rows: 21 a byte
 * with M = 2, 13 with M = 1, which is what two sums of D > 64 columns leave registers for.  dq does
 * 96 M D for 6 D + 2 M D bytes: 19 with M = 2. */
#include "nn/attention_tile.cuh"

/* ---- delta ----------------------------------------------------------------------------------- */

enum { DELTA_THREADS = 256, DELTA_LANES = 8 }; /* lanes that share a row of a head */

template <typename T, int W>
static __global__ void __launch_bounds__(DELTA_THREADS)
    attention_delta(struct attention_row *rows, const T *dy, const T *y, const float *lse,
                    const struct attention_view a)
{
    const int n = (int)a.Tq, D = (int)a.D, per_block = DELTA_THREADS / DELTA_LANES;
    const int blocks = (n + per_block - 1) / per_block;
    const int unit = blockIdx.x / blocks, b = unit / (int)a.H, h = unit % (int)a.H;
    const int i = blockIdx.x % blocks * per_block + threadIdx.x / DELTA_LANES;
    const int64_t from = ((b * a.Tq + i) * a.H + h) * D;
    float sum = 0;
    for (int d = threadIdx.x % DELTA_LANES * W; i < n && d < D; d += DELTA_LANES * W) {
        float u[W], v[W];
        load_floats<W>(u, dy + from + d);
        load_floats<W>(v, y + from + d);
        for (int k = 0; k < W; k++) sum = fmaf(u[k], v[k], sum);
    }
    for (int offset = DELTA_LANES / 2; offset > 0; offset /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    if (i < n && threadIdx.x % DELTA_LANES == 0) {
        const int64_t at = (int64_t)unit * n + i;
        struct attention_row row = {};
        row.lse = lse[at];
        row.lse2 = row.lse * ATTENTION_LOG2E;
        row.delta = sum;
        row.start = a.low ? a.low[b * a.Tq + i] : 0;
        rows[at] = row;
    }
}

template <typename T>
static void delta(cudaStream_t s, struct attention_row *rows, const T *dy, const T *y,
                  const float *lse, const struct attention_view *a)
{
    constexpr int W = vec16<T>::N;
    const int64_t blocks = ceil_div(a->Tq, DELTA_THREADS / DELTA_LANES) * a->B * a->H;
    if (aligned_16(dy, a->D) && aligned_16(y, a->D))
        CUDA_LAUNCH((attention_delta<T, W>), (unsigned)blocks, DELTA_THREADS, 0, s, rows,
                    dy, y, lse, *a);
    else
        CUDA_LAUNCH((attention_delta<T, 1>), (unsigned)blocks, DELTA_THREADS, 0, s, rows,
                    dy, y, lse, *a);
}

void attention_delta_rows(cudaStream_t s, enum dtype t, struct attention_row *rows,
                          const void *dy, const void *y, const float *lse,
                          const struct attention_view *v)
{
    CUDA_FOR_TYPE(
        t, delta(s, rows, static_cast<const T *>(dy), static_cast<const T *>(y), lse, v));
}

/* ---- dq -------------------------------------------------------------------------------------- */

/* Two tiles of the side that stays, two stages of two of the other; STAY rows in all, STEP rows a
 * stage */
template <int DP, int STAY, int STEP> static constexpr size_t tile_bytes()
{
    return (2 * STAY + 4 * STEP) * attention_ld<DP>::value * 2;
}

/* ROWS query rows a warp, STEP keys a step */
template <typename T, int DP, int ROWS, int STEP>
static __global__ void __launch_bounds__(ATTENTION_THREADS)
    attention_dq_tensor(T *dqkv, const struct attention_row *rows, const T *dy,
                        const T *qkv, const struct nn_attention a)
{
#if ATTENTION_TENSOR_CORES
    constexpr int M = ROWS / 16, Q = ROWS * ATTENTION_WARPS, LD = attention_ld<DP>::value;
    CUDA_DYNAMIC_SHARED(T, q_tile);
    T *const dy_tile = q_tile + Q * LD, *const stages = dy_tile + Q * LD;

    const int n = (int)a.T, D = (int)a.D, tiles = (n + Q - 1) / Q;
    const int unit = blockIdx.x / tiles, b = unit / (int)a.H, h = unit % (int)a.H;
    const int q0 = (tiles - 1 - blockIdx.x % tiles) * Q, q1 = min(q0 + Q, n);
    const int own = warp_index() * ROWS;
    const attention_head<const T> at = head_at(qkv, a, b, h);
    const int32_t *const doc = starts_at(a, b);
    const int first = doc ? doc[q0] / STEP : 0, last = (q1 - 1) / STEP;
    const int last_start = doc ? doc[q1 - 1] : 0;
    const int HD = (int)(a.H * a.D);
    const float c = a.scale * ATTENTION_LOG2E;

    tile_load<T, DP, Q>(q_tile, row_at(at.q, q0, at.ld), at.ld, n - q0, D);
    tile_load<T, DP, Q>(dy_tile, row_at(dy + b * a.T * HD + h * D, q0, HD), HD, n - q0,
                        D);

    float lse2[M][2], delta[M][2], dq[M][DP / 8][4] = {};
#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        const int row = q0 + own + row_of(i / 2, i % 2 * 2);
        struct attention_row r = {};
        if (row < n) r = rows[(int64_t)unit * n + row];
        lse2[i / 2][i % 2] = r.lse2;
        delta[i / 2][i % 2] = r.delta;
    }

    for (int tile = first - 1; tile <= last; tile++) {
        copy_async_wait<0>(); /* this step is there, nobody reads the one before */
        __syncthreads();
        if (tile < last) {
            T *const next = stages + (tile + 1) % 2 * 2 * STEP * LD;
            const int k0 = (tile + 1) * STEP;
            tile_load<T, DP, STEP>(next, row_at(at.k, k0, at.ld), at.ld, n - k0, D);
            tile_load<T, DP, STEP>(next + STEP * LD, row_at(at.v, k0, at.ld), at.ld,
                                   n - k0, D);
            copy_async_commit();
        }
        const int k0 = tile * STEP;
        if (tile < first || k0 >= q0 + own + ROWS) continue;

        const T *const k_tile = stages + tile % 2 * 2 * STEP * LD;
        float p[M][STEP / 8][4], ds[M][STEP / 8][4];
        product_nt<T, DP, M, STEP>(p, q_tile + own * LD, k_tile);
        product_nt<T, DP, M, STEP>(ds, dy_tile + own * LD, k_tile + STEP * LD);
        if (k0 + STEP > q0 + own + 1 || k0 < last_start)
            mask_keys<M, STEP>(p, q0 + own, k0, doc, n);
#pragma unroll
        for (int i = 0; i < M * STEP / 2; i++) {
            const int m = i / (STEP / 2), e = i % 4, j = i / 4 % (STEP / 8);
            ds[m][j][e] = exp2_fast(fmaf(p[m][j][e], c, -lse2[m][e / 2])) *
                          (ds[m][j][e] - delta[m][e / 2]);
        }
        product_add<T, DP, M, STEP>(dq, ds, k_tile);
    }

#pragma unroll
    for (int i = 0; i < M * DP / 2; i++)
        dq[i / (DP / 2)][i / 4 % (DP / 8)][i % 4] *= a.scale;
    const int row = q0 + own;
    rows_store<T, DP, M>(row_at(head_at(dqkv, a, b, h).q, row, at.ld), at.ld, n - row, D,
                         q_tile + own * LD, dq);
#endif
}

/* ---- dk, dv ---------------------------------------------------------------------------------- */

/* Scores of keys from `key` on with query rows from `query` on, which `r` describes: what is not
 * seen becomes -infinity. */
template <int M, int N>
static __device__ __forceinline__ void mask_queries(float (&s)[M][N / 8][4], int key,
                                                    int query, const attention_row *r)
{
#pragma unroll
    for (int i = 0; i < N / 4; i++) {
        const int col = col_of(i / 2, i % 2);
        const int lo = r[col].start - key, hi = query + col - key;
#pragma unroll
        for (int m = 0; m < M; m++) {
#pragma unroll
            for (int e = 0; e < 4; e += 2) {
                const int row = row_of(m, e);
                if (row < lo || row > hi) s[m][i / 2][e + i % 2] = -INFINITY;
            }
        }
    }
}

/* Scores become P^T, and ds, which was v dy^T, dS^T. */
template <int M, int N>
static __device__ __forceinline__ void gradient_step(float (&s)[M][N / 8][4],
                                                     float (&ds)[M][N / 8][4],
                                                     const attention_row *r, float c)
{
#pragma unroll
    for (int i = 0; i < N / 4; i++) {
        const int col = col_of(i / 2, i % 2);
        const float lse2 = r[col].lse2, delta = r[col].delta;
#pragma unroll
        for (int m = 0; m < M; m++) {
#pragma unroll
            for (int e = i % 2; e < 4; e += 2) {
                const float p = exp2_fast(fmaf(s[m][i / 2][e], c, -lse2));
                s[m][i / 2][e] = p;
                ds[m][i / 2][e] = p * (ds[m][i / 2][e] - delta);
            }
        }
    }
}

/* The query rows of a step. */
template <typename T, int DP, int STEP> struct query_stage {
    T q[STEP * attention_ld<DP>::value], dy[STEP * attention_ld<DP>::value];
    struct attention_row rows[STEP];
};

/* A walk over the query rows [from, end) of each head of a group, STEP rows at a time: where this
 * thread's first pieces of a step lie. */
template <typename T, int DP, int STEP> struct query_walk {
    const T *q, *dy;
    const attention_row *row;
    int q0;

    __device__ __forceinline__ void begin(const nn_attention &a, const T *qkv,
                                          const T *all_dy, const attention_row *rows,
                                          int b, int h, int from)
    {
        const int HD = (int)(a.H * a.D);
        const attention_head<const T> at = head_at(qkv, a, b, h);
        const T *const head_dy = all_dy + b * a.T * HD + h * (int)a.D;
        q0 = from;
        q = tile_share<DP>::piece(row_at(at.q, from, at.ld), at.ld);
        dy = tile_share<DP>::piece(row_at(head_dy, from, HD), HD);
        row = rows + (b * a.H + h) * a.T + from + threadIdx.x;
    }

    __device__ __forceinline__ void load(query_stage<T, DP, STEP> *to,
                                         const nn_attention &a) const
    {
        const int n = (int)a.T - q0, D = (int)a.D, HD = (int)(a.H * a.D);
        tile_load_pieces<T, DP, STEP>(to->q, q, HD + 2 * (int)(a.K * a.D), n, D);
        tile_load_pieces<T, DP, STEP>(to->dy, dy, HD, n, D);
        const int i = threadIdx.x;
        if (i < STEP) copy_async_16(to->rows + i, row, i < n);
        copy_async_commit();
    }

    __device__ __forceinline__ void advance(const nn_attention &a, int from, int end)
    {
        const int D = (int)a.D, HD = (int)a.H * D, ld = HD + 2 * (int)a.K * D;
        q0 += STEP;
        q += STEP * ld;
        dy += STEP * HD;
        row += STEP;
        if (q0 < end) return;
        const int64_t back = q0 - from; /* to the next head's first row */
        q0 = from;
        q += D - back * ld;
        dy += D - back * HD;
        row += a.T - back;
    }
};

template <typename T, int DP, int ROWS, int STEP> static constexpr size_t dkv_bytes()
{
    return 2 * ROWS * ATTENTION_WARPS * attention_ld<DP>::value * sizeof(T) +
           2 * sizeof(query_stage<T, DP, STEP>);
}

/* ROWS keys a warp, STEP query rows a step */
template <typename T, int DP, int ROWS, int STEP>
static __global__ void __launch_bounds__(ATTENTION_THREADS)
    attention_dkv_tensor(T *dqkv, const struct attention_row *rows, const T *dy,
                         const T *qkv, const struct nn_attention a)
{
#if ATTENTION_TENSOR_CORES
    constexpr int M = ROWS / 16, KEYS = ROWS * ATTENTION_WARPS,
                  LD = attention_ld<DP>::value;
    CUDA_DYNAMIC_SHARED(T, k_tile);
    T *const v_tile = k_tile + KEYS * LD;
    auto *const stages = reinterpret_cast<query_stage<T, DP, STEP> *>(v_tile + KEYS * LD);

    const int n = (int)a.T, D = (int)a.D, tiles = (n + KEYS - 1) / KEYS;
    const int unit = blockIdx.x / tiles, b = unit / (int)a.K;
    const int2 heads = heads_of(a.H, a.group, a.first, unit % (int)a.K);
    const int group = heads.y - heads.x;
    const int k0 = blockIdx.x % tiles * KEYS; /* the first are seen by most rows */
    const int own = warp_index() * ROWS, key = k0 + own;
    const int end = end_of_sight(starts_at(a, b), min(k0 + KEYS, n) - 1, n);
    const float c = a.scale * ATTENTION_LOG2E;

    const int h = heads.x;
    const attention_head<const T> at = head_at(qkv, a, b, h);
    tile_load<T, DP, KEYS>(k_tile, row_at(at.k, k0, at.ld), at.ld, n - k0, D);
    tile_load<T, DP, KEYS>(v_tile, row_at(at.v, k0, at.ld), at.ld, n - k0, D);
    query_walk<T, DP, STEP> w;
    w.begin(a, qkv, dy, rows, b, h, k0);
    w.load(stages, a);

    float dk[M][DP / 8][4] = {}, dv[M][DP / 8][4] = {};
    int stage = 0;
    for (int left = group * ((end - k0 + STEP - 1) / STEP); left > 0;
         left--, stage ^= 1) {
        const int q0 = w.q0;
        copy_async_wait<0>(); /* this step is there, nobody reads the one before */
        __syncthreads();
        w.advance(a, k0, end);
        if (left > 1) w.load(stages + (stage ^ 1), a);
        if (q0 + STEP <= key) continue; /* no row of this step sees the warp's keys */

        const query_stage<T, DP, STEP> &now = stages[stage];
        float p[M][STEP / 8][4], ds[M][STEP / 8][4];
        product_nt<T, DP, M, STEP>(p, k_tile + own * LD, now.q);
        product_nt<T, DP, M, STEP>(ds, v_tile + own * LD, now.dy);
        if (q0 < key + ROWS - 1 || now.rows[min(STEP, n - q0) - 1].start > key)
            mask_queries<M, STEP>(p, key, q0, now.rows);
        gradient_step<M, STEP>(p, ds, now.rows, c);
        product_add<T, DP, M, STEP>(dv, p, now.dy);
        product_add<T, DP, M, STEP>(dk, ds, now.q);
    }

#pragma unroll
    for (int i = 0; i < M * DP / 2; i++)
        dk[i / (DP / 2)][i / 4 % (DP / 8)][i % 4] *= a.scale;
    const attention_head<T> to = head_at(dqkv, a, b, h);
    const int row = k0 + own;
    rows_store<T, DP, M>(row_at(to.k, row, to.ld), to.ld, n - row, D, k_tile + own * LD,
                         dk);
    rows_store<T, DP, M>(row_at(to.v, row, to.ld), to.ld, n - row, D, v_tile + own * LD,
                         dv);
#endif
}

/* ---- launches -------------------------------------------------------------------------------- */

template <typename T> struct backward {
    T *dqkv;
    const struct attention_row *rows;
    const T *dy, *qkv;
    const struct nn_attention *a;
};

template <typename T, int DP, int ROWS, int STEP>
static void launch_dq(cudaStream_t s, const backward<T> &w)
{
    constexpr size_t bytes = tile_bytes<DP, ROWS * ATTENTION_WARPS, STEP>();
    const int64_t blocks = ceil_div(w.a->T, ROWS * ATTENTION_WARPS) * w.a->B * w.a->H;
    CUDA_ALLOW_SHARED((attention_dq_tensor<T, DP, ROWS, STEP>), bytes);
    CUDA_LAUNCH((attention_dq_tensor<T, DP, ROWS, STEP>), (unsigned)blocks,
                ATTENTION_THREADS, bytes, s, w.dqkv, w.rows, w.dy, w.qkv, *w.a);
}

template <typename T, int DP, int ROWS, int STEP>
static void launch_dkv(cudaStream_t s, const backward<T> &w)
{
    constexpr size_t bytes = dkv_bytes<T, DP, ROWS, STEP>();
    const int64_t blocks = ceil_div(w.a->T, ROWS * ATTENTION_WARPS) * w.a->B * w.a->K;
    CUDA_ALLOW_SHARED((attention_dkv_tensor<T, DP, ROWS, STEP>), bytes);
    CUDA_LAUNCH((attention_dkv_tensor<T, DP, ROWS, STEP>), (unsigned)blocks,
                ATTENTION_THREADS, bytes, s, w.dqkv, w.rows, w.dy, w.qkv, *w.a);
}

/* Wide heads: registers leave a warp 16 keys, and large tiles are taken only where two blocks fit
 * on a multiprocessor, one to compute while the other waits. */
template <typename T> static void bwd_tensor(cudaStream_t s, const backward<T> &w)
{
    const int64_t D = w.a->D;
    if (D <= 32) {
        launch_dkv<T, 32, 32, 32>(s, w);
        launch_dq<T, 32, 32, 32>(s, w);
    } else if (D <= 64) {
        launch_dkv<T, 64, 32, 32>(s, w);
        launch_dq<T, 64, 32, 32>(s, w);
    } else if (D <= 96) {
        launch_dkv<T, 96, 16, 32>(s, w);
        if (attention_shared_fits(tile_bytes<96, 128, 32>(), 2))
            launch_dq<T, 96, 32, 32>(s, w);
        else
            launch_dq<T, 96, 16, 32>(s, w);
    } else {
        if (attention_shared_fits(dkv_bytes<T, 128, 16, 32>(), 2))
            launch_dkv<T, 128, 16, 32>(s, w);
        else
            launch_dkv<T, 128, 16, 16>(s, w);
        if (attention_shared_fits(tile_bytes<128, 128, 32>(), 2))
            launch_dq<T, 128, 32, 32>(s, w);
        else
            launch_dq<T, 128, 16, 16>(s, w);
    }
}

int64_t cuda_attention_bwd_floats(enum dtype t, const struct nn_attention *a)
{
    (void)t;
    return a->B * a->H * a->T * (int64_t)(sizeof(struct attention_row) / sizeof(float));
}

void cuda_attention_bwd(cudaStream_t s, enum dtype t, void *dqkv, float *scratch,
                        const void *dy, const void *y, const float *lse, const void *qkv,
                        const struct nn_attention *a)
{
    struct attention_row *const rows = reinterpret_cast<struct attention_row *>(scratch);
    const struct attention_view v = attention_view_of(a);
    attention_delta_rows(s, t, rows, dy, y, lse, &v);
    if (!attention_on_tensor_cores(t, qkv, dy, a) ||
        !attention_on_tensor_cores(t, dqkv, dy, a)) {
        struct attention_operands o = {};
        o.q = o.kv = qkv;
        o.dy = dy;
        o.dq = o.dkv = dqkv;
        o.dq_width = v.q_width;
        o.rows = rows;
        attention_plain_bwd(s, t, &o, &v);
    } else if (t == DTYPE_BF16) {
        typedef __nv_bfloat16 T;
        bwd_tensor<T>(s, {static_cast<T *>(dqkv), rows, static_cast<const T *>(dy),
                          static_cast<const T *>(qkv), a});
    } else {
        typedef __half T;
        bwd_tensor<T>(s, {static_cast<T *>(dqkv), rows, static_cast<const T *>(dy),
                          static_cast<const T *>(qkv), a});
    }
}

int64_t cuda_attention_part_bwd_floats(const struct nn_attention_part *a)
{
    return a->B * a->H * a->Tq * (int64_t)(sizeof(struct attention_row) / sizeof(float));
}

void cuda_attention_part_bwd(cudaStream_t s, enum dtype t, float *dq, float *dkv,
                             float *scratch, const void *dy, const void *y,
                             const float *lse, const void *qkv, const void *kv,
                             const struct nn_attention_part *a)
{
    struct attention_row *const rows = reinterpret_cast<struct attention_row *>(scratch);
    const struct attention_view v = attention_view_of_part(a);
    struct attention_operands o = {};
    attention_delta_rows(s, t, rows, dy, y, lse, &v);
    o.q = qkv;
    o.kv = kv;
    o.dy = dy;
    o.dq = dq;
    o.dkv = dkv;
    o.dq_width = a->H * a->D;
    o.rows = rows;
    o.sums = true;
    attention_plain_bwd(s, t, &o, &v);
}
