/* Embedding, and its backward without a race: nn_embedding_fwd and nn_embedding_bwd in nn.h.
 *
 * Backward sorts the numbers of the rows of dy by token, stably (embedding_sort.cuh), and sums the
 * rows of a token in that order: a warp does it for up to SHORT rows, a block for more.  The
 * order is a function of the tokens alone, so the sums are the same each time.
 *
 * Bytes moved, t the size of a number: forward 2 N C t (3 N C t with positions, of which those of
 * the tables may come from cache) + 4 N (8 N); backward, for each of the two tables,
 * N C t + 8 C (rows of the table that occur), and for the sort 16 N for the first digit, 20 N for
 * each other one, 12 N to read what is sorted. */
#include "nn/embedding_sort.cuh"

/* ---- forward ------------------------------------------------------------------------------- */

enum { EMBEDDING_WARPS = 8, EMBEDDING_THREADS = EMBEDDING_WARPS * CUDA_WARP };

/* A warp has a row. */
template <typename T, int W>
static __global__ void __launch_bounds__(EMBEDDING_THREADS)
    embedding_fwd(T *__restrict__ y, const T *__restrict__ wte, const T *__restrict__ wpe,
                  const int32_t *__restrict__ tokens,
                  const int32_t *__restrict__ positions, int64_t N, int64_t C,
                  int64_t first, int64_t V)
{
    const int lane = threadIdx.x % CUDA_WARP, warp = threadIdx.x / CUDA_WARP;
    const int64_t step = (int64_t)gridDim.x * EMBEDDING_WARPS;
    for (int64_t n = (int64_t)blockIdx.x * EMBEDDING_WARPS + warp; n < N; n += step) {
        const int64_t row = tokens[n] - first;
        const bool here = row >= 0 && row < V; /* else it is a row of zeros */
        const T *token = wte + (here ? row : 0) * C;
        const T *position = wpe ? wpe + positions[n] * C : NULL;
        for (int64_t c = lane * W; c < C; c += CUDA_WARP * W) {
            float v[W] = {0.0f};
            if (here) load_floats<W>(v, token + c);
            if (position) {
                float p[W];
                load_floats<W>(p, position + c);
                for (int k = 0; k < W; k++) v[k] += p[k];
            }
            store_floats<W>(y + n * C + c, v);
        }
    }
}

template <typename T>
static void fwd(cudaStream_t s, T *y, const T *wte, const T *wpe, const int32_t *tokens,
                const int32_t *positions, int64_t N, int64_t C, int64_t first, int64_t V)
{
    const bool aligned = aligned_16(y, C) && aligned_16(wte, C) && aligned_16(wpe, C);
    const unsigned grid = grid_size(ceil_div(N, EMBEDDING_WARPS));
    if (aligned)
        CUDA_LAUNCH((embedding_fwd<T, vec16<T>::N>), grid, EMBEDDING_THREADS, 0, s, y,
                    wte, wpe, tokens, positions, N, C, first, V);
    else
        CUDA_LAUNCH((embedding_fwd<T, 1>), grid, EMBEDDING_THREADS, 0, s, y, wte, wpe,
                    tokens, positions, N, C, first, V);
}

extern "C" void cuda_embedding_fwd(cudaStream_t s, enum dtype t, void *y, const void *wte,
                                   const void *wpe, const int32_t *tokens,
                                   const int32_t *positions, int64_t N, int64_t C,
                                   int64_t first, int64_t V)
{
    if (N == 0) return;
    CUDA_FOR_TYPE(t, fwd(s, static_cast<T *>(y), static_cast<const T *>(wte),
                         static_cast<const T *>(wpe), tokens, positions, N, C, first, V));
}

/* ---- backward ------------------------------------------------------------------------------ */

/* Rows of one token that a warp sums alone; exactly the lanes of a warp. */
enum { SHORT = CUDA_WARP, SHORT_AT_ONCE = 4 };
/* Warps of a block for more rows, and rows that each has in flight. */
enum { LONG_WARPS = 16, LONG_THREADS = LONG_WARPS * CUDA_WARP, LONG_AT_ONCE = 4 };

/* sum[0..W) += dy[row of lane i, c..c+W) for i = 0 .. count - 1, in that order.  All lanes of the
 * warp call it with their row; a lane with c >= C only lends its row. */
template <typename T, int W, int at_once>
static __device__ __forceinline__ void add_rows(float sum[W], const T *dy, int row,
                                                int count, int64_t c, int64_t C)
{
    for (int i = 0; i < count; i += at_once) {
        float v[at_once][W] = {{0.0f}};
        for (int j = 0; j < at_once; j++) {
            const int64_t n = __shfl_sync(0xffffffffu, row, (i + j) % CUDA_WARP);
            if (i + j < count && c < C) load_floats<W>(v[j], dy + n * C + c);
        }
        for (int j = 0; j < at_once; j++)
            for (int k = 0; k < W; k++) sum[k] += v[j][k];
    }
}

/* keys[i], or what no key is where there is none */
static __device__ __forceinline__ int32_t key_at(const int32_t *keys, int64_t i,
                                                 int64_t N)
{
    return i >= 0 && i < N ? keys[i] : -1;
}

/* A warp for each place of the sorted rows: it has work where a run of up to SHORT rows begins.
 * All that it needs to know is asked for at once, since an answer takes longer than the sum. */
template <typename T, int W>
static __global__ void __launch_bounds__(EMBEDDING_THREADS)
    embedding_bwd_short(float *dw, const T *dy, const int32_t *keys, const int32_t *rows,
                        int64_t N, int64_t C, int64_t limit)
{
    const int lane = threadIdx.x % CUDA_WARP, warp = threadIdx.x / CUDA_WARP;
    const int64_t from = (int64_t)blockIdx.x * EMBEDDING_WARPS + warp;
    if (from >= N) return;
    const int32_t key = keys[from], before = key_at(keys, from - 1, N);
    const int32_t behind = key_at(keys, from + SHORT, N);
    const int32_t mine = key_at(keys, from + lane, N);
    const int row = from + lane < N ? rows[from + lane] : 0;
    if (before == key || behind == key || key >= limit) return;
    const int count = __popc(__ballot_sync(0xffffffffu, mine == key));
    float *to = dw + key * C;
    for (int64_t first = 0; first < C; first += CUDA_WARP * W) {
        const int64_t c = first + lane * W;
        float old[W] = {0.0f}, sum[W] = {0.0f};
        if (c < C) load_floats<W>(old, to + c);
        add_rows<T, W, SHORT_AT_ONCE>(sum, dy, row, count, c, C);
        if (c >= C) continue;
        for (int k = 0; k < W; k++) sum[k] += old[k];
        store_floats<W>(to + c, sum);
    }
}

/* Where the run of more than SHORT rows begins that has `place`, a multiple of SHORT, as its first
 * such place; -1 if there is none.  Every such run has a first one.  All lanes of a warp call it. */
static __device__ __forceinline__ int64_t long_run_at(const int32_t *keys, int64_t place,
                                                      int64_t N)
{
    const int lane = threadIdx.x % CUDA_WARP;
    const int32_t key = keys[place], before = key_at(keys, place - 1 - lane, N);
    const int n_before = __popc(__ballot_sync(0xffffffffu, before == key));
    const int64_t from = place - n_before;
    return n_before < SHORT && key_at(keys, from + SHORT, N) == key ? from : -1;
}

/* A block for each SHORT places and 32 W columns: it has work where a long run is first met. */
template <typename T, int W>
static __global__ void __launch_bounds__(LONG_THREADS)
    embedding_bwd_long(float *dw, const T *dy, const int32_t *keys, const int32_t *rows,
                       int64_t N, int64_t C, int64_t limit)
{
    CUDA_SHARED(float, room, (LONG_THREADS * W));
    const int lane = threadIdx.x % CUDA_WARP, warp = threadIdx.x / CUDA_WARP;
    const int64_t place = (int64_t)blockIdx.x * SHORT, from = long_run_at(keys, place, N);
    const int32_t key = keys[place];
    if (from < 0 || key >= limit) return;
    const int64_t first = (int64_t)blockIdx.y * CUDA_WARP * W, c = first + lane * W;
    float sum[W] = {0.0f};
    /* this warp's rows: every LONG_WARPS-th of the run, of which a lane fetches one */
    int count = CUDA_WARP;
    for (int64_t i = from + warp; count == CUDA_WARP; i += LONG_WARPS * CUDA_WARP) {
        const int64_t mine = i + lane * LONG_WARPS;
        const int row = mine < N ? rows[mine] : 0;
        count = __popc(__ballot_sync(0xffffffffu, key_at(keys, mine, N) == key));
        add_rows<T, W, LONG_AT_ONCE>(sum, dy, row, count, c, C);
    }
    for (int k = 0; k < W; k++) room[(warp * CUDA_WARP + lane) * W + k] = sum[k];
    __syncthreads();
    float *to = dw + key * C + first;
    for (int j = threadIdx.x; j < CUDA_WARP * W && first + j < C; j += LONG_THREADS) {
        float total = 0.0f;
        for (int w = 0; w < LONG_WARPS; w++) total += room[w * CUDA_WARP * W + j];
        to[j] += total;
    }
}

template <typename T, int W>
static void launch_bwd(cudaStream_t s, float *dw, const T *dy,
                       const struct sorted_rows *r, int64_t N, int64_t C, int64_t limit)
{
    const unsigned short_grid = (unsigned)ceil_div(N, EMBEDDING_WARPS);
    const dim3 long_grid((unsigned)ceil_div(N, SHORT),
                         (unsigned)ceil_div(C, CUDA_WARP * W));
    CUDA_LAUNCH((embedding_bwd_short<T, W>), short_grid, EMBEDDING_THREADS, 0, s, dw, dy,
                r->keys, r->rows, N, C, limit);
    if (N > SHORT)
        CUDA_LAUNCH((embedding_bwd_long<T, W>), long_grid, LONG_THREADS, 0, s, dw, dy,
                    r->keys, r->rows, N, C, limit);
}

template <typename T>
static void bwd(cudaStream_t s, float *dw, const T *dy, const struct sorted_rows *r,
                int64_t N, int64_t C, int64_t limit)
{
    if (aligned_16(dy, C) && aligned_16(dw, C))
        launch_bwd<T, vec16<T>::N>(s, dw, dy, r, N, C, limit);
    else
        launch_bwd<T, 1>(s, dw, dy, r, N, C, limit);
}

/* row[n] = the table's row of a token, V where it has none */
static __global__ void __launch_bounds__(EMBEDDING_THREADS)
    embedding_rows(int32_t *row, const int32_t *tokens, int64_t N, int64_t first,
                   int64_t V)
{
    const int64_t step = (int64_t)gridDim.x * EMBEDDING_THREADS;
    for (int64_t n = (int64_t)blockIdx.x * EMBEDDING_THREADS + threadIdx.x; n < N;
         n += step) {
        const int64_t r = tokens[n] - first;
        row[n] = static_cast<int32_t>(r >= 0 && r < V ? r : V);
    }
}

/* dw[index[n],:] += dy[n,:] for a table of `limit` rows; index[n] == limit: nothing */
static void table_bwd(cudaStream_t s, enum dtype t, float *dw, int32_t *scratch,
                      const void *dy, const int32_t *index, int64_t N, int64_t C,
                      int64_t limit)
{
    const struct sorted_rows r = sort_rows(s, scratch, index, N, limit + 1);
    CUDA_FOR_TYPE(t, bwd(s, dw, static_cast<const T *>(dy), &r, N, C, limit));
}

extern "C" int64_t cuda_embedding_bwd_ints(int64_t N, int64_t V, int64_t P)
{
    const int64_t tokens = N + sort_rows_ints(N, V + 1);
    const int64_t positions = sort_rows_ints(N, P + 1);
    return tokens > positions ? tokens : positions; /* one after the other */
}

extern "C" void cuda_embedding_bwd(cudaStream_t s, enum dtype t, float *dwte, float *dwpe,
                                   int32_t *scratch, const void *dy,
                                   const int32_t *tokens, const int32_t *positions,
                                   int64_t N, int64_t C, int64_t V, int64_t P,
                                   int64_t first)
{
    if (N == 0) return;
    if (first >= 0) {
        const unsigned grid = grid_size(ceil_div(N, EMBEDDING_THREADS));
        CUDA_LAUNCH(embedding_rows, grid, EMBEDDING_THREADS, 0, s, scratch, tokens, N,
                    first, V);
        table_bwd(s, t, dwte, scratch + N, dy, scratch, N, C, V);
    } else {
        table_bwd(s, t, dwte, scratch, dy, tokens, N, C, V);
    }
    if (dwpe) table_bwd(s, t, dwpe, scratch, dy, positions, N, C, P);
}
