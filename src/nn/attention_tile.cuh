/* attention_tile - what attention.cu, attention_bwd.cu and attention_plain.cu share: where a head
 * lies, tiles of 16-bit numbers in shared memory, and their products on tensor cores.
 *
 * Tensor path.  A block has four warps; each owns 16 * M rows of the tile that stays (queries in
 * forward and for dq, keys for dk and dv) and goes with the others over tiles of the other side.
 * Scores stay in registers: the layout in which a product leaves its sums is the one in which the
 * next product wants its left side (cuda_instructions.h), so P is only rounded, never stored.
 * Head sizes are padded with zeros to DP columns. */
#pragma once

#include "nn/attention_view.h"
#include "nn/cuda_kernel.h"

/* The tensor-core shapes in use begin with sm_75; below, the plain kernels serve. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 750
#define ATTENTION_TENSOR_CORES 0
#else
#define ATTENTION_TENSOR_CORES 1
#endif

#define ATTENTION_LOG2E 1.44269504088896341f

enum { ATTENTION_WARPS = 4, ATTENTION_THREADS = ATTENTION_WARPS * CUDA_WARP };

/* What backward needs of a query row of a head, in one asynchronous copy; [B*H, T] in scratch. */
struct alignas(16) attention_row {
    float lse2;    /* lse in powers of two, for exp2 */
    float delta;   /* sum of dy * y */
    int32_t start; /* of its document */
    float lse;     /* natural, for fp32, where its rounding would show */
};

/* ---- attention_plain.cu: every type, D <= 256 ------------------------------------------------ */

/* What is read, and where results go: in type t, or in fp32 if `sums`, and then they go on from
 * what is there (y and lse unless fresh, dq). */
struct attention_operands {
    const void *q, *kv, *dy;
    void *y, *dq, *dkv;
    float *lse;
    const struct attention_row *rows;
    int64_t dq_width;
    bool sums, fresh;
};
void attention_plain_fwd(cudaStream_t s, enum dtype t, const struct attention_operands *o,
                         const struct attention_view *v);
void attention_plain_bwd(cudaStream_t s, enum dtype t, const struct attention_operands *o,
                         const struct attention_view *v);
/* rows: [B*H, Tq], from lse, y and dy */
void attention_delta_rows(cudaStream_t s, enum dtype t, struct attention_row *rows,
                          const void *dy, const void *y, const float *lse,
                          const struct attention_view *v);

/* ---- host: which kernel ---------------------------------------------------------------------- */

static inline int attention_attribute(enum cudaDeviceAttr attribute)
{
    int device = 0, value = 0;
    device_cuda_check(cudaGetDevice(&device), "cudaGetDevice");
    device_cuda_check(cudaDeviceGetAttribute(&value, attribute, device),
                      "cudaDeviceGetAttribute");
    return value;
}

/* The tensor path copies 16 bytes at a time and takes the maximum of scores before they are
 * scaled. */
static inline bool attention_on_tensor_cores(enum dtype t, const void *qkv, const void *y,
                                             const struct nn_attention *a)
{
    return t != DTYPE_F32 && a->D % 8 == 0 && a->D <= 128 && a->scale > 0 &&
           reinterpret_cast<uintptr_t>(qkv) % 16 == 0 &&
           reinterpret_cast<uintptr_t>(y) % 16 == 0 &&
           10 * attention_attribute(cudaDevAttrComputeCapabilityMajor) +
                   attention_attribute(cudaDevAttrComputeCapabilityMinor) >=
               75;
}

/* Do `blocks` blocks that take `bytes` of shared memory each fit on a multiprocessor? */
static inline bool attention_shared_fits(size_t bytes, int blocks)
{
    const size_t reserved = 1024; /* by the driver, a block */
    return bytes <=
               (size_t)attention_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin) &&
           (bytes + reserved) * (size_t)blocks <=
               (size_t)attention_attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor);
}

/* ---- where things lie ------------------------------------------------------------------------ */

/* One head of one sequence: its q, the k and v that it uses; rows are ld numbers apart. */
template <typename T> struct attention_head {
    T *q, *k, *v;
    int ld;
};

template <typename T>
static __device__ __forceinline__ T *row_at(T *p, int row, int64_t ld)
{
    return p + row * ld;
}

template <typename T>
static __device__ __forceinline__ attention_head<T>
head_at(T *qkv, const struct nn_attention &a, int b, int h)
{
    attention_head<T> at;
    at.ld = (int)((a.H + 2 * a.K) * a.D);
    T *const row = qkv + b * a.T * at.ld;
    at.q = row + h * a.D;
    at.k = row + (a.H + (h + (int)a.first) / (int)a.group) * a.D;
    at.v = at.k + a.K * a.D;
    return at;
}

/* Query heads [first, end) use kv head j. */
static __device__ __forceinline__ int2 heads_of(int64_t H, int64_t group, int64_t first,
                                                int j)
{
    const int from = j * (int)group - (int)first;
    return make_int2(max(from, 0), min(from + (int)group, (int)H));
}

/* doc_start of sequence b, or NULL */
static __device__ __forceinline__ const int32_t *starts_at(const struct nn_attention &a,
                                                           int b)
{
    return a.doc_start ? a.doc_start + b * a.T : nullptr;
}

/* One behind the last row that sees `row`; documents are contiguous, so doc_start never
 * decreases. */
static __device__ __forceinline__ int end_of_sight(const int32_t *start, int row, int T)
{
    if (!start) return T;
    int lo = row, hi = T;
    while (lo < hi) {
        const int mid = (lo + hi) / 2;
        if (start[mid] > row)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

/* Of this thread, in a way that tells the compiler that a whole warp agrees about it. */
static __device__ __forceinline__ int warp_index()
{
    return __shfl_sync(0xffffffffu, (int)threadIdx.x / CUDA_WARP, 0);
}

/* ---- tiles of 16-bit numbers in shared memory ------------------------------------------------ */

/* From one row to the next.  DP is a multiple of 16, so with these 16 bytes more the eight rows
 * that a warp reads at a time lie in different banks. */
template <int DP> struct attention_ld {
    enum { value = DP + 8 };
};

/* How the threads of a block share the loading of a tile: eight lanes take 128 bytes of a row, so
 * that they write to different banks. */
template <int DP> struct tile_share {
    enum { LANES = DP % 64 == 0 ? 8 : 4, PASS = ATTENTION_THREADS / LANES };

    static __device__ __forceinline__ int row()
    {
        return threadIdx.x / LANES;
    }
    static __device__ __forceinline__ int col()
    {
        return threadIdx.x % LANES * 8;
    }
    /* The first piece of this thread of rows `from`, ld apart. */
    template <typename T>
    static __device__ __forceinline__ const T *piece(const T *from, int ld)
    {
        return from + row() * ld + col();
    }
};

/* ROWS rows, of which this thread's first piece is at p, begin their way into the tile; what is
 * not in the first n_rows rows and D columns becomes zero. */
template <typename T, int DP, int ROWS>
static __device__ __forceinline__ void tile_load_pieces(T *tile, const T *p, int ld,
                                                        int n_rows, int D)
{
    typedef tile_share<DP> share;
    static_assert(ROWS % share::PASS == 0, "a pass takes whole rows");
    T *const to = tile + share::row() * attention_ld<DP>::value + share::col();
#pragma unroll 2 /* more would keep addresses in registers that the products need */
    for (int row = 0; row < ROWS; row += share::PASS) {
#pragma unroll
        for (int d = 0; d < DP; d += 8 * share::LANES)
            copy_async_16(to + row * attention_ld<DP>::value + d, p + d,
                          share::row() + row < n_rows && share::col() + d < D);
        p += share::PASS * ld;
    }
}

/* The same for rows `from`. */
template <typename T, int DP, int ROWS>
static __device__ __forceinline__ void tile_load(T *tile, const T *from, int ld,
                                                 int n_rows, int D)
{
    tile_load_pieces<T, DP, ROWS>(tile, tile_share<DP>::piece(from, ld), ld, n_rows, D);
}

/* 16 rows by 16 columns of a tile as the left side of a product */
template <typename T, int DP>
static __device__ __forceinline__ void tile_left(uint32_t a[4], const T *tile, int row,
                                                 int col)
{
    const int lane = threadIdx.x % CUDA_WARP;
    load_matrix_x4(a, tile + (row + lane % 16) * attention_ld<DP>::value + col +
                          lane / 16 * 8);
}

/* 16 rows by 16 columns of a tile, transposed, as the right side: columns are the depth, b[0,1]
 * belong to the first eight rows, b[2,3] to the others */
template <typename T, int DP>
static __device__ __forceinline__ void tile_right_t(uint32_t b[4], const T *tile, int row,
                                                    int col)
{
    const int lane = threadIdx.x % CUDA_WARP;
    load_matrix_x4(b, tile + (row + lane / 16 * 8 + lane % 8) * attention_ld<DP>::value +
                          col + lane / 8 % 2 * 8);
}

/* The same as it stands: rows are the depth, b[0,1] belong to the first eight columns */
template <typename T, int DP>
static __device__ __forceinline__ void tile_right(uint32_t b[4], const T *tile, int row,
                                                  int col)
{
    const int lane = threadIdx.x % CUDA_WARP;
    load_matrix_x4_transposed(b, tile + (row + lane % 16) * attention_ld<DP>::value +
                                     col + lane / 16 * 8);
}

/* Two numbers, rounded, in a register. */
template <typename T> static __device__ __forceinline__ uint32_t pack_2(float a, float b)
{
    T pair[2];
    uint32_t r;
    round_pair(pair, a, b);
    memcpy(&r, pair, sizeof r);
    return r;
}

/* ---- products of a warp ---------------------------------------------------------------------- */

/* s[16 M, N] = left[16 M, DP] right[N, DP]^T, both in shared memory */
template <typename T, int DP, int M, int N>
static __device__ __forceinline__ void product_nt(float (&s)[M][N / 8][4], const T *left,
                                                  const T *right)
{
#pragma unroll
    for (int i = 0; i < M * N / 2; i++) s[i / (N / 2)][i / 4 % (N / 8)][i % 4] = 0;
#pragma unroll 2
    for (int k = 0; k < DP; k += 16) {
        uint32_t a[M][4];
#pragma unroll
        for (int m = 0; m < M; m++) tile_left<T, DP>(a[m], left, 16 * m, k);
#pragma unroll
        for (int n = 0; n < N / 16; n++) {
            uint32_t b[4];
            tile_right_t<T, DP>(b, right, 16 * n, k);
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma_16x8x16<T>(s[m][2 * n], a[m], b);
                mma_16x8x16<T>(s[m][2 * n + 1], a[m], b + 2);
            }
        }
    }
}

/* o[16 M, DP] += p[16 M, N] right[N, DP]; p in registers is rounded to T */
template <typename T, int DP, int M, int N>
static __device__ __forceinline__ void
product_add(float (&o)[M][DP / 8][4], const float (&p)[M][N / 8][4], const T *right)
{
#pragma unroll
    for (int k = 0; k < N / 16; k++) {
        uint32_t a[M][4];
#pragma unroll
        for (int m = 0; m < M; m++) {
#pragma unroll
            for (int i = 0; i < 4; i++)
                a[m][i] = pack_2<T>(p[m][2 * k + i / 2][i % 2 * 2],
                                    p[m][2 * k + i / 2][i % 2 * 2 + 1]);
        }
#pragma unroll
        for (int n = 0; n < DP / 16; n++) {
            uint32_t b[4];
            tile_right<T, DP>(b, right, 16 * k, 16 * n);
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma_16x8x16<T>(o[m][2 * n], a[m], b);
                mma_16x8x16<T>(o[m][2 * n + 1], a[m], b + 2);
            }
        }
    }
}

/* ---- a warp's own rows ----------------------------------------------------------------------- */

/* Row of element e of block m of a product, of 16 M rows; column of element e of block n. */
static __device__ __forceinline__ int row_of(int m, int e)
{
    return 16 * m + e / 2 * 8 + threadIdx.x % CUDA_WARP / 4;
}

static __device__ __forceinline__ int col_of(int n, int e)
{
    return 8 * n + threadIdx.x % 4 * 2 + e % 2;
}

/* Scores of queries from `row` on with keys from `col` on: what is not seen becomes -infinity. */
template <int M, int N>
static __device__ __forceinline__ void
mask_keys(float (&s)[M][N / 8][4], int row, int col, const int32_t *start, int n_rows)
{
#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
        for (int e = 0; e < 4; e += 2) {
            const int query = row + row_of(m, e);
            const int lo = start && query < n_rows ? start[query] - col : 0;
            const int hi = query - col;
#pragma unroll
            for (int i = 0; i < N / 4; i++) {
                const int key = col_of(i / 2, i % 2);
                if (key < lo || key > hi) s[m][i / 2][e + i % 2] = -INFINITY;
            }
        }
    }
}

/* Over the four lanes that share a row. */
static __device__ __forceinline__ float row_sum(float x)
{
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

static __device__ __forceinline__ float row_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

/* Write the warp's 16 M rows, the first n_rows of them, to `to`, ld apart.  They go through
 * `tile`, rows of shared memory that only this warp reads, so that whole 16 bytes are stored. */
template <typename T, int DP, int M>
static __device__ __forceinline__ void rows_store(T *to, int ld, int n_rows, int D,
                                                  T *tile, const float (&o)[M][DP / 8][4])
{
    constexpr int LD = attention_ld<DP>::value, PIECES = DP / 8;
    __syncwarp();
#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
        for (int n = 0; n < DP / 8; n++) {
#pragma unroll
            for (int e = 0; e < 4; e += 2)
                *reinterpret_cast<uint32_t *>(tile + row_of(m, e) * LD + col_of(n, e)) =
                    pack_2<T>(o[m][n][e], o[m][n][e + 1]);
        }
    }
    __syncwarp();
    for (int i = threadIdx.x % CUDA_WARP; i < 16 * M * PIECES; i += CUDA_WARP) {
        const int row = i / PIECES, col = i % PIECES * 8;
        if (row < n_rows && col < D)
            store_16(to + row * ld + col, load_16(tile + row * LD + col));
    }
}
