#include "nn/nn_impl.h"

void nn_copy_columns(struct nn *nn, struct tensor *y, int64_t y_col,
                     const struct tensor *x, int64_t x_col, int64_t cols)
{
    CHECK(y->n_dims == 2 && x->n_dims == 2 && y->shape[0] == x->shape[0]);
    CHECK(y->dtype <= DTYPE_F16 && x->dtype <= DTYPE_F16);
    CHECK(y_col >= 0 && x_col >= 0 && cols >= 0);
    CHECK(y_col + cols <= y->shape[1] && x_col + cols <= x->shape[1]);
    if (!nn->measuring) nn->ops->copy_columns(nn, y, y_col, x, x_col, cols);
}
