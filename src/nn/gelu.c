#include "nn/nn_impl.h"

static bool same_shape(const struct tensor *a, const struct tensor *b)
{
    return a->dtype == b->dtype && a->n_dims == b->n_dims &&
           memcmp(a->shape, b->shape, (size_t)a->n_dims * sizeof a->shape[0]) == 0;
}

void nn_gelu_fwd(struct nn *nn, struct tensor *y, const struct tensor *x)
{
    CHECK(same_shape(y, x));
    if (!nn->measuring) nn_ops_for(nn, x)->gelu_fwd(nn, y, x);
}

void nn_gelu_bwd(struct nn *nn, struct tensor *dx, const struct tensor *dy,
                 const struct tensor *x)
{
    CHECK(same_shape(dx, x) && same_shape(dy, x));
    if (!nn->measuring) nn_ops_for(nn, x)->gelu_bwd(nn, dx, dy, x);
}

void nn_gelu_erf_fwd(struct nn *nn, struct tensor *y, const struct tensor *x)
{
    CHECK(same_shape(y, x));
    if (!nn->measuring) nn_ops_for(nn, x)->gelu_erf_fwd(nn, y, x);
}

void nn_gelu_erf_bwd(struct nn *nn, struct tensor *dx, const struct tensor *dy,
                     const struct tensor *x)
{
    CHECK(same_shape(dx, x) && same_shape(dy, x));
    if (!nn->measuring) nn_ops_for(nn, x)->gelu_erf_bwd(nn, dx, dy, x);
}
