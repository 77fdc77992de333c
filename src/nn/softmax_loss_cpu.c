/* Softmax, loss and gradient of rows of logits in two passes.
 *
 * A row of a large vocabulary does not fit the first-level cache, and the whole chunk does not
 * fit any, so what counts is how often a row is read.  The first pass goes block by block: it
 * finds a block's maximum and, while the block is near, replaces it by exp(x - maximum).  The
 * second multiplies each block by what its maximum and the row's sum ask for.  In bf16 that would
 * round twice, so there the second pass makes exp again. */
#include <float.h>
#include <math.h>

#include "nn/ops_cpu.h"
#include "nn/simd_math.h"

enum { MIN_BLOCK = 2048, MAX_BLOCKS = 256, KEEPS_EXP = sizeof(elem) == sizeof(float) };

struct row {
    int64_t V, block;      /* numbers in a row, in a block */
    float max[MAX_BLOCKS]; /* of each block */
    double sum;            /* of exp(x - row_max) */
    float row_max;
};

static int64_t block_size(int64_t V)
{
    const int64_t least = (V + MAX_BLOCKS - 1) / MAX_BLOCKS;
    return least < MIN_BLOCK ? MIN_BLOCK : (least + 15) / 16 * 16;
}

/* Finite even if every x is -infinity (columns that pad a vocabulary), so that x - m is not NaN. */
static float block_max(const elem *x, int64_t n)
{
    float m = -FLT_MAX;
#pragma omp simd reduction(max : m)
    for (int64_t i = 0; i < n; i++) m = get(x[i]) > m ? get(x[i]) : m;
    return m;
}

static float block_sum_exp(const elem *x, float max, int64_t n)
{
    float s = 0;
#pragma omp simd reduction(+ : s)
    for (int64_t i = 0; i < n; i++) s += nn_exp(get(x[i]) - max);
    return s;
}

/* The same sum, to the bit, and the terms in place. */
static float block_exp(elem *x, float max, int64_t n)
{
    float s = 0;
#pragma omp simd reduction(+ : s)
    for (int64_t i = 0; i < n; i++) {
        const float e = nn_exp(get(x[i]) - max);
        x[i] = put(e);
        s += e;
    }
    return s;
}

static void row_statistics(struct row *r, elem *x, bool in_place)
{
    r->sum = 0;
    r->row_max = -HUGE_VALF;
    for (int64_t i = 0; i < r->V; i += r->block) {
        const int64_t n = r->V - i < r->block ? r->V - i : r->block;
        const float m = block_max(x + i, n), before = r->row_max;
        const float s = in_place ? block_exp(x + i, m, n) : block_sum_exp(x + i, m, n);
        r->max[i / r->block] = m;
        r->row_max = m > before ? m : before;
        r->sum *= exp((double)before - (double)r->row_max);
        r->sum += (double)s * exp((double)m - (double)r->row_max);
    }
}

static void row_gradient(const struct row *r, elem *x, double scale)
{
    if (!KEEPS_EXP) {
        const float by = (float)(scale / r->sum);
#pragma omp simd
        for (int64_t i = 0; i < r->V; i++)
            x[i] = put(nn_exp(get(x[i]) - r->row_max) * by);
        return;
    }
    for (int64_t i = 0; i < r->V; i += r->block) {
        const int64_t n = r->V - i < r->block ? r->V - i : r->block;
        const double m = (double)r->max[i / r->block];
        const float by = (float)(scale * exp(m - (double)r->row_max) / r->sum);
#pragma omp simd
        for (int64_t j = 0; j < n; j++) x[i + j] = put(get(x[i + j]) * by);
    }
}

/* Losses of row n with this maximum, log of the sum of exp(x - maximum) and target's logit.  Returns
 * 2 z lse: a row's gradient is scale * (softmax (1 + that) - onehot). */
static double row_losses(const struct nn_loss_rows *rows, int64_t n, double max,
                         double log_sum, double at_target)
{
    const double lse = max + log_sum;
    rows->loss[n] = (float)(max - at_target + log_sum);
    if (!rows->square) return 0;
    rows->square[n] = (float)(lse * lse);
    return 2 * (double)rows->z_loss * lse;
}

/* The gradient at the target, whose share is p.  In this order little is lost where p is near 1. */
static float target_gradient(double p, double z, float scale)
{
    return (float)((double)scale * (p - 1 + p * z));
}

static void no_losses(const struct nn_loss_rows *rows, int64_t n)
{
    rows->loss[n] = 0;
    if (rows->square) rows->square[n] = 0;
}

void NN_CPU(softmax_loss)(int threads, elem *logits, int64_t N, int64_t V,
                          const struct nn_loss_rows *rows)
{
    const float scale = rows->gradient_scale;
    const bool gradient = scale != 0;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t n = 0; n < N; n++) {
        elem *x = logits + n * V;
        const int32_t target = rows->targets[n];
        CHECK(target < V);
        if (target < 0) {
            no_losses(rows, n);
            if (gradient) memset(x, 0, (size_t)V * sizeof *x);
            continue;
        }
        struct row r = {.V = V, .block = block_size(V)};
        const double at_target = (double)get(x[target]);
        row_statistics(&r, x, gradient && KEEPS_EXP);
        const double max = (double)r.row_max;
        const double z = row_losses(rows, n, max, log(r.sum), at_target);
        if (!gradient) continue;
        row_gradient(&r, x, (double)scale * (1 + z));
        x[target] = put(target_gradient(exp(at_target - max) / r.sum, z, scale));
    }
}

/* ---- a part of the vocabulary ---------------------------------------------------------------- */

void NN_CPU(softmax_stats)(int threads, float *stats, const elem *logits,
                           const int32_t *targets, int64_t N, int64_t V,
                           const struct nn_vocab_slice *slice)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t n = 0; n < N; n++) {
        const elem *x = logits + n * V;
        const int64_t target = targets[n] - slice->first;
        struct row r = {.V = V, .block = block_size(V)};
        CHECK(targets[n] < slice->vocab_size);
        row_statistics(&r, (elem *)(uintptr_t)x, false); /* which leaves x alone */
        stats[3 * n] = r.row_max;
        stats[3 * n + 1] = (float)r.sum;
        stats[3 * n + 2] =
            targets[n] >= 0 && target >= 0 && target < V ? get(x[target]) : -HUGE_VALF;
    }
}

/* Maximum and sum of the whole row, and the target's logit. */
struct whole_row {
    float max, at_target;
    double sum;
};

static struct whole_row put_together(const float *stats, int64_t n, int64_t N, int count)
{
    struct whole_row w = {.max = -HUGE_VALF, .at_target = -HUGE_VALF};
    for (int i = 0; i < count; i++) {
        const float *s = stats + 3 * (i * N + n);
        if (s[0] > w.max) w.max = s[0];
        if (s[2] > w.at_target) w.at_target = s[2];
    }
    for (int i = 0; i < count; i++) {
        const float *s = stats + 3 * (i * N + n);
        w.sum += (double)s[1] * exp((double)s[0] - (double)w.max);
    }
    return w;
}

void NN_CPU(softmax_part)(int threads, elem *logits, int64_t N, int64_t V,
                          const struct nn_loss_rows *rows, const float *stats,
                          const struct nn_vocab_slice *slice)
{
    const float scale = rows->gradient_scale;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t n = 0; n < N; n++) {
        elem *x = logits + n * V;
        if (rows->targets[n] < 0) {
            no_losses(rows, n);
            if (scale != 0) memset(x, 0, (size_t)V * sizeof *x);
            continue;
        }
        const struct whole_row w = put_together(stats, n, N, slice->count);
        const int64_t target = rows->targets[n] - slice->first;
        const double max = (double)w.max, at_target = (double)w.at_target;
        const double z = row_losses(rows, n, max, log(w.sum), at_target);
        if (scale == 0) continue;
        const float by = (float)((double)scale * (1 + z) / w.sum);
#pragma omp simd
        for (int64_t i = 0; i < V; i++) x[i] = put(nn_exp(get(x[i]) - w.max) * by);
        if (target >= 0 && target < V)
            x[target] = put(target_gradient(exp(at_target - max) / w.sum, z, scale));
    }
}
