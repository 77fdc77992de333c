#include "nn/ops_cpu.h"

/* Block sums, then their sum in order.  The blocks follow from n alone, so the number of
 * threads does not show in the result; at most this many, so that they fit on the stack. */
enum { MAX_BLOCKS = 1024, BLOCK_UNIT = 1024 };

static double sum_block(const float *x, int64_t n)
{
    double s = 0;
#pragma omp simd reduction(+ : s)
    for (int64_t i = 0; i < n; i++) s += (double)x[i] * (double)x[i];
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
