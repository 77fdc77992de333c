#include "nn/nn_impl.h"

#include <math.h>

void nn_rope_frequencies(double *frequencies, int64_t half, double theta)
{
    for (int64_t i = 0; i < half; i++)
        frequencies[i] = pow(theta, -(double)i / (double)half);
}

void nn_rope_table(float *table, int64_t n_positions, int64_t half,
                   const double *frequencies, double scale)
{
    for (int64_t i = 0; i < half; i++) {
        const double turn = frequencies[i];
        for (int64_t p = 0; p < n_positions; p++) {
            float *entry = table + 2 * (p * half + i);
            entry[0] = (float)(scale * cos((double)p * turn));
            entry[1] = (float)(scale * sin((double)p * turn));
        }
    }
}

static void rope(struct nn *nn, struct tensor *x, const struct nn_rope *r, float sign)
{
    const int64_t N = x->shape[0], W = x->shape[1];
    CHECK(nn_is_2d(x, x->dtype, N, W) && r->n_heads >= 0 && r->half >= 0);
    CHECK(2 * r->half <= r->head_size && r->n_heads * r->head_size <= W);
    if (nn->measuring) return;
    if (device_is_host(nn->device))
        for (int64_t n = 0; n < N; n++)
            CHECK(r->positions[n] >= 0 && r->positions[n] < r->n_positions);
    nn_ops_for(nn, x)->rope(nn, x, r, sign);
}

void nn_rope_fwd(struct nn *nn, struct tensor *x, const struct nn_rope *r)
{
    rope(nn, x, r, 1.0f);
}

void nn_rope_bwd(struct nn *nn, struct tensor *dx, const struct nn_rope *r)
{
    rope(nn, dx, r, -1.0f);
}
