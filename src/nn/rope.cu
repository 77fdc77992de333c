/* Rotary positions: the pairing is struct nn_rope's in nn.h; with (c, s) = table[position, i]
 *   a = c a - s b      b = c b + s a      for a = x[i], b = x[i + half] of each head
 * and s negated on the way back.
 *
 * Bytes moved, t the size of a number: 4 N n_heads half t + 4 N + the table's rows in use, 8 half
 * each.  A block takes a row; threads along x hold the angles of their pairs in registers and go
 * through the heads. */
#include "nn/cuda_kernel.h"

enum { ROPE_THREADS = 256, ROPE_HEADS = 4 }; /* heads of a thread, if there are as many */

/* What a launch turns: struct nn_rope without host types. */
struct turn {
    int64_t W, n_heads, head_size, half;
    const float *table;
    const int32_t *positions;
    float sign;
};

/* W pairs of every blockDim.y-th head, from pair i on */
template <typename T, int W>
static __device__ __forceinline__ void turn_pairs(T *row, const float *angles, int64_t i,
                                                  const turn &r)
{
    float table[2 * W];
    if constexpr (W == 1) {
        table[0] = angles[2 * i], table[1] = angles[2 * i + 1];
    } else {
        load_floats<2 * W>(table, angles + 2 * i);
    }
    for (int64_t h = threadIdx.y; h < r.n_heads; h += blockDim.y) {
        T *x = row + h * r.head_size + i;
        float a[W], b[W];
        load_floats<W>(a, x);
        load_floats<W>(b, x + r.half);
        for (int k = 0; k < W; k++) {
            const float c = table[2 * k], s = r.sign * table[2 * k + 1], ak = a[k];
            a[k] = ak * c - b[k] * s;
            b[k] = b[k] * c + ak * s;
        }
        store_floats<W>(x, a);
        store_floats<W>(x + r.half, b);
    }
}

template <typename T, int W>
static __global__ void __launch_bounds__(ROPE_THREADS) rope(T *x, int64_t N, turn r)
{
    for (int64_t n = blockIdx.x; n < N; n += gridDim.x) {
        const float *angles = r.table + 2 * r.half * r.positions[n];
        for (int64_t i = (int64_t)threadIdx.x * W; i < r.half;
             i += (int64_t)blockDim.x * W)
            turn_pairs<T, W>(x + n * r.W, angles, i, r);
    }
}

template <typename T, int W>
static void launch_width(cudaStream_t s, T *x, int64_t N, const turn &r)
{
    const int64_t pairs = ceil_div(r.half, W);
    const int64_t most = ROPE_THREADS;
    const unsigned along = (unsigned)(pairs < most ? pairs : most);
    const int64_t heads = ceil_div(r.n_heads, ROPE_HEADS), room = most / along;
    const unsigned across = (unsigned)(heads < room ? heads : room);
    CUDA_LAUNCH((rope<T, W>), grid_size(N), dim3(along, across), 0, s, x, N, r);
}

template <typename T> static void launch(cudaStream_t s, T *x, int64_t N, const turn &r)
{
    const bool aligned = aligned_16(x, r.W) && aligned_16(x, r.head_size) &&
                         aligned_16(x, r.half) && aligned_16(r.table, 2 * r.half);
    if (aligned)
        launch_width<T, vec16<T>::N>(s, x, N, r);
    else
        launch_width<T, 1>(s, x, N, r);
}

extern "C" void cuda_rope(cudaStream_t s, enum dtype t, void *x, int64_t N, int64_t W,
                          const struct nn_rope *r, float sign)
{
    if (N == 0 || r->n_heads == 0 || r->half == 0) return;
    const turn what = {W,        r->n_heads,   r->head_size, r->half,
                       r->table, r->positions, sign};
    CUDA_FOR_TYPE(t, launch(s, static_cast<T *>(x), N, what));
}
