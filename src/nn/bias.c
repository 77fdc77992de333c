#include "nn/nn_impl.h"

void nn_bias_add(struct nn *nn, struct tensor *y, const struct tensor *x,
                 const struct tensor *b)
{
    const int64_t N = y->shape[0], O = y->shape[1];
    CHECK(nn_is_2d(y, y->dtype, N, O) && nn_is_2d(x, y->dtype, N, O));
    CHECK(!b || nn_is_1d(b, y->dtype, O));
    if (!nn->measuring) nn_ops_for(nn, x)->bias_add(nn, y, x, b);
}

void nn_bias_bwd(struct nn *nn, struct tensor *db, const struct tensor *dy)
{
    const int64_t N = dy->shape[0], O = dy->shape[1];
    CHECK(dy->dtype <= DTYPE_F16);
    CHECK(nn_is_2d(dy, dy->dtype, N, O) && nn_is_1d(db, DTYPE_F32, O));
    nn_ops_for(nn, dy)->bias_bwd(nn, db, dy);
}
