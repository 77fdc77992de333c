#include "nn/nn_impl.h"

void nn_swiglu_fwd(struct nn *nn, struct tensor *y, const struct tensor *gu)
{
    const int64_t N = y->shape[0], F = y->shape[1];
    CHECK(nn_is_2d(y, N, F) && nn_is_2d(gu, N, 2 * F));
    if (nn->measuring) return;
    nn->ops->swiglu_fwd(nn->n_threads, y->data, gu->data, N, F);
}

void nn_swiglu_bwd(struct nn *nn, struct tensor *dgu, const struct tensor *dy,
                   const struct tensor *gu)
{
    const int64_t N = dy->shape[0], F = dy->shape[1];
    CHECK(nn_is_2d(dy, N, F) && nn_is_2d(gu, N, 2 * F) && nn_is_2d(dgu, N, 2 * F));
    if (nn->measuring) return;
    nn->ops->swiglu_bwd(nn->n_threads, dgu->data, dy->data, gu->data, N, F);
}
