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
#include "nn/vec.h"

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
    const vec least = vec_of(-FLT_MAX);
    vec a = least, b = least; /* two, since each max waits for the one before */
    int64_t i = 0;
    for (; i + 2 * VEC <= n; i += 2 * VEC) {
        a = vec_max(a, vec_load(x + i, VEC));
        b = vec_max(b, vec_load(x + i + VEC, VEC));
    }
    float m = vec_greatest(vec_max(a, b));
    for (; i < n; i++) m = get(x[i]) > m ? get(x[i]) : m;
    return m;
}

/* The sum of exp(x - max); in_place: also its terms where x was. */
static inline float block_exp(elem *x, float max, int64_t n, bool in_place)
{
    vec sum = {0};
    EACH_VEC(i, k, n)
    {
        const vec e = vec_exp(vec_load(x + i, k) - max);
        if (in_place) vec_store(x + i, e, k);
        sum += vec_first(e, k);
    }
    return vec_sum(sum);
}

static void row_statistics(struct row *r, elem *x, bool in_place)
{
    r->sum = 0;
    r->row_max = -HUGE_VALF;
    for (int64_t i = 0; i < r->V; i += r->block) {
        const int64_t n = r->V - i < r->block ? r->V - i : r->block;
        const float m = block_max(x + i, n), before = r->row_max;
        const float s =
            in_place ? block_exp(x + i, m, n, true) : block_exp(x + i, m, n, false);
        r->max[i / r->block] = m;
        r->row_max = m > before ? m : before;
        r->sum *= exp((double)before - (double)r->row_max);
        r->sum += (double)s * exp((double)m - (double)r->row_max);
    }
}

/* x = exp(x - max) * by */
static void scaled_exp(elem *x, float max, float by, int64_t n)
{
    EACH_VEC(i, k, n) vec_store(x + i, vec_exp(vec_load(x + i, k) - max) * by, k);
}

static void row_gradient(const struct row *r, elem *x, double scale)
{
    if (!KEEPS_EXP) {
        scaled_exp(x, r->row_max, (float)(scale / r->sum), r->V);
        return;
    }
    for (int64_t i = 0; i < r->V; i += r->block) {
        const int64_t n = r->V - i < r->block ? r->V - i : r->block;
        const double m = (double)r->max[i / r->block];
        const float by = (float)(scale * exp(m - (double)r->row_max) / r->sum);
        EACH_VEC(j, k, n) vec_store(x + i + j, vec_load(x + i + j, k) * by, k);
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
        scaled_exp(x, w.max, (float)((double)scale * (1 + z) / w.sum), V);
        if (target >= 0 && target < V)
            x[target] = put(target_gradient(exp(at_target - max) / w.sum, z, scale));
    }
}
