#include "nn/nn_impl.h"

void nn_layernorm_fwd(struct nn *nn, struct tensor *y, struct tensor *stats,
                      const struct tensor *x, const struct tensor *residual,
                      const struct nn_norm *p)
{
    const int64_t N = x->shape[0], C = x->shape[1];
    const enum dtype t = x->dtype;
    CHECK(nn_is_2d(x, t, N, C) && nn_is_2d(y, t, N, C));
    CHECK(nn_is_2d(stats, DTYPE_F32, N, 2));
    CHECK(!residual || nn_is_2d(residual, t, N, C));
    CHECK(nn_is_1d(p->w, t, C) && nn_is_1d(p->b, t, C));
    if (!nn->measuring) nn_ops_for(nn, x)->layernorm_fwd(nn, y, stats, x, residual, p);
}

void nn_layernorm_bwd(struct nn *nn, struct tensor *dx, const struct tensor *dy,
                      const struct tensor *x, const struct tensor *stats,
                      const struct nn_norm *p, enum nn_accum mode)
{
    const int64_t N = x->shape[0], C = x->shape[1];
    const enum dtype t = x->dtype;
    CHECK(nn_is_2d(dx, t, N, C) && nn_is_2d(dy, t, N, C) && nn_is_2d(x, t, N, C));
    CHECK(nn_is_2d(stats, DTYPE_F32, N, 2) && nn_is_1d(p->w, t, C));
    CHECK(nn_is_1d(p->dw, DTYPE_F32, C) && nn_is_1d(p->db, DTYPE_F32, C));
    nn_ops_for(nn, x)->layernorm_bwd(nn, dx, dy, x, stats, p, mode);
}
