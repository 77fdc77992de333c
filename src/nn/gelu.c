#include "nn/nn_impl.h"

static void check_fwd(const struct tensor *y, const struct tensor *x)
{
    CHECK(x->n_dims == 2 && nn_is_2d(y, x->dtype, x->shape[0], x->shape[1]));
}

static void check_bwd(const struct tensor *dx, const struct tensor *y,
                      const struct tensor *db, const struct tensor *dy,
                      const struct tensor *x)
{
    check_fwd(dx, x);
    check_fwd(dy, x);
    if (y) check_fwd(y, x);
    CHECK(!db || nn_is_1d(db, DTYPE_F32, x->shape[1]));
}

void nn_gelu_fwd(struct nn *nn, struct tensor *y, const struct tensor *x)
{
    check_fwd(y, x);
    if (!nn->measuring) nn_ops_for(nn, x)->gelu_fwd(nn, y, x);
}

void nn_gelu_bwd(struct nn *nn, struct tensor *dx, struct tensor *y, struct tensor *db,
                 const struct tensor *dy, const struct tensor *x)
{
    check_bwd(dx, y, db, dy, x);
    nn_ops_for(nn, x)->gelu_bwd(nn, dx, y, db, dy, x);
}

void nn_gelu_erf_fwd(struct nn *nn, struct tensor *y, const struct tensor *x)
{
    check_fwd(y, x);
    if (!nn->measuring) nn_ops_for(nn, x)->gelu_erf_fwd(nn, y, x);
}

void nn_gelu_erf_bwd(struct nn *nn, struct tensor *dx, struct tensor *y,
                     struct tensor *db, const struct tensor *dy, const struct tensor *x)
{
    check_bwd(dx, y, db, dy, x);
    nn_ops_for(nn, x)->gelu_erf_bwd(nn, dx, y, db, dy, x);
}
