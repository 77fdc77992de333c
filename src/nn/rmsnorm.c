#include "nn/nn_impl.h"

void nn_rmsnorm_fwd(struct nn *nn, struct tensor *y, struct tensor *rstd,
                    const struct tensor *x, const struct tensor *residual,
                    const struct nn_norm *p)
{
    const int64_t N = x->shape[0], C = x->shape[1];
    const enum dtype t = x->dtype;
    CHECK(nn_is_2d(x, t, N, C) && nn_is_2d(y, t, N, C) && nn_is_1d(rstd, DTYPE_F32, N));
    CHECK(!residual || nn_is_2d(residual, t, N, C));
    CHECK(nn_is_1d(p->w, t, C) && !p->b);
    if (!nn->measuring) nn_ops_for(nn, x)->rmsnorm_fwd(nn, y, rstd, x, residual, p);
}

void nn_rmsnorm_bwd(struct nn *nn, struct tensor *dx, const struct tensor *dy,
                    const struct tensor *x, const struct tensor *rstd,
                    const struct nn_norm *p, enum nn_accum mode)
{
    const int64_t N = x->shape[0], C = x->shape[1];
    const enum dtype t = x->dtype;
    CHECK(nn_is_2d(dx, t, N, C) && nn_is_2d(dy, t, N, C) && nn_is_2d(x, t, N, C));
    CHECK(nn_is_1d(rstd, DTYPE_F32, N) && nn_is_1d(p->w, t, C));
    CHECK(nn_is_1d(p->dw, DTYPE_F32, C) && !p->db);
    nn_ops_for(nn, x)->rmsnorm_bwd(nn, dx, dy, x, rstd, p, mode);
}
