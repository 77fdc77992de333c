/* Softmax, loss and gradient of rows of logits in two passes.
 *
 * A row of a large vocabulary does not fit the first-level cache, and the whole chunk does not
 * fit any, so what counts is how often a row is read.  The first pass goes block by block and
 * finds a block's maximum and its exponentials while the block is near; the second writes. */
#include <math.h>

#include "nn/ops_cpu.h"
#include "nn/simd_math.h"

enum { BLOCK = 2048 };

static float block_max(const float *x, int64_t n)
{
    float m = -HUGE_VALF;
#pragma omp simd reduction(max : m)
    for (int64_t i = 0; i < n; i++) m = x[i] > m ? x[i] : m;
    return m;
}

static float block_sum_exp(const float *x, float max, int64_t n)
{
    float s = 0;
#pragma omp simd reduction(+ : s)
    for (int64_t i = 0; i < n; i++) s += nn_exp(x[i] - max);
    return s;
}

struct row {
    float max;
    double sum; /* of exp(x - max) */
};

static struct row row_statistics(const float *x, int64_t V)
{
    struct row r = {.max = -HUGE_VALF};
    for (int64_t i = 0; i < V; i += BLOCK) {
        const int64_t n = V - i < BLOCK ? V - i : BLOCK;
        const float m = block_max(x + i, n);
        if (m > r.max) {
            r.sum *= exp((double)r.max - (double)m);
            r.max = m;
        }
        r.sum += (double)block_sum_exp(x + i, r.max, n);
    }
    return r;
}

static void row_gradient(float *x, struct row r, int64_t V, int32_t target)
{
    const float max = r.max, scale = (float)(1 / r.sum);
#pragma omp simd
    for (int64_t i = 0; i < V; i++) x[i] = nn_exp(x[i] - max) * scale;
    x[target] -= 1;
}

void NN_CPU(softmax_loss)(int threads, float *logits, float *row_loss,
                          const int32_t *targets, int64_t N, int64_t V, bool gradient)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t n = 0; n < N; n++) {
        float *x = logits + n * V;
        const int32_t target = targets[n];
        CHECK(target < V);
        row_loss[n] = 0;
        if (target < 0) {
            if (gradient) memset(x, 0, (size_t)V * sizeof *x);
            continue;
        }
        const struct row r = row_statistics(x, V);
        row_loss[n] = (float)((double)r.max - (double)x[target] + log(r.sum));
        if (gradient) row_gradient(x, r, V, target);
    }
}
