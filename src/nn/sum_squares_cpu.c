#include "nn/ops_cpu.h"

/* Block sums, then their sum in order.  The blocks follow from n alone, so the number of
 * threads does not show in the result; at most this many, so that they fit on the stack. */
enum { MAX_BLOCKS = 1024, BLOCK_UNIT = 1024 };

/* Within a block so many sums side by side, as one would make every addition wait for the one
 * before.  Squares of fp32 are exact in double, so it is the same in all instruction sets. */
enum { LANES = 64 };

/* One stream of reads is bound by how far ahead the processor looks: asked for so many floats ahead
 * it comes a third faster (15 to 22 GB/s of two threads). */
enum { AHEAD = 1024, LINE = 16 };

static double sum_block(const float *x, int64_t n)
{
    double lane[LANES] = {0}, s = 0;
    for (; n >= LANES; x += LANES, n -= LANES) {
        for (int j = 0; j < LANES; j += LINE) __builtin_prefetch(x + AHEAD + j);
#pragma omp simd
        for (int j = 0; j < LANES; j++) lane[j] += (double)x[j] * (double)x[j];
    }
    for (int64_t j = 0; j < n; j++) lane[j] += (double)x[j] * (double)x[j];
    for (int j = 0; j < LANES; j++) s += lane[j];
    return s;
}

double NN_CPU(sum_squares)(int threads, const float *x, int64_t n)
{
    const int64_t units = (n + BLOCK_UNIT - 1) / BLOCK_UNIT;
    const int64_t block = (units + MAX_BLOCKS - 1) / MAX_BLOCKS * BLOCK_UNIT;
    const int64_t n_blocks = block ? (n + block - 1) / block : 0;
    double partial[MAX_BLOCKS];
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < n_blocks; i++) {
        const int64_t first = i * block;
        partial[i] = sum_block(x + first, n - first < block ? n - first : block);
    }
    double s = 0;
    for (int64_t i = 0; i < n_blocks; i++) s += partial[i];
    return s;
}
