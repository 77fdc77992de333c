#include "nn/nn_impl.h"

static void check_linear(const struct tensor *y, const struct tensor *x,
                         const struct tensor *w, const struct tensor *b)
{
    const enum dtype t = x->dtype;
    CHECK(x->n_dims == 2 && w->n_dims == 2);
    CHECK(nn_is_2d(w, t, w->shape[0], x->shape[1]));
    CHECK(nn_is_2d(y, t, x->shape[0], w->shape[0]));
    CHECK(!b || nn_is_1d(b, t, w->shape[0]));
}

void nn_linear_fwd(struct nn *nn, struct tensor *y, const struct tensor *x,
                   const struct tensor *w, const struct tensor *b,
                   const struct tensor *residual)
{
    check_linear(y, x, w, b);
    CHECK(!residual || nn_is_2d(residual, y->dtype, y->shape[0], y->shape[1]));
    nn_ops_for(nn, x)->linear_fwd(nn, y, x, w, b, residual);
}

void nn_linear_gelu_fwd(struct nn *nn, struct tensor *y, struct tensor *u,
                        const struct tensor *x, const struct tensor *w,
                        const struct tensor *b)
{
    check_linear(y, x, w, b);
    check_linear(u, x, w, b);
    nn_ops_for(nn, x)->linear_gelu_fwd(nn, y, u, x, w, b);
}
