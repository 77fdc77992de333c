#include "nn/nn_impl.h"

void nn_swiglu_fwd(struct nn *nn, struct tensor *y, const struct tensor *gu)
{
    const int64_t N = y->shape[0], F = y->shape[1];
    const enum dtype t = y->dtype;
    CHECK(nn_is_2d(y, t, N, F) && nn_is_2d(gu, t, N, 2 * F));
    if (!nn->measuring) nn_ops_for(nn, gu)->swiglu_fwd(nn, y, gu);
}

void nn_swiglu_bwd(struct nn *nn, struct tensor *dgu, struct tensor *y, struct tensor *db,
                   const struct tensor *dy, const struct tensor *gu)
{
    const int64_t N = dy->shape[0], F = dy->shape[1];
    const enum dtype t = dy->dtype;
    CHECK(nn_is_2d(dy, t, N, F) && nn_is_2d(gu, t, N, 2 * F));
    CHECK(nn_is_2d(dgu, t, N, 2 * F) && (!y || nn_is_2d(y, t, N, F)));
    CHECK(!db || nn_is_1d(db, DTYPE_F32, 2 * F));
    nn_ops_for(nn, gu)->swiglu_bwd(nn, dgu, y, db, dy, gu);
}
