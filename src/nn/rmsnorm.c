#include "nn/nn_impl.h"

void nn_rmsnorm_fwd(struct nn *nn, struct tensor *y, struct tensor *rstd,
                    const struct tensor *x, const struct nn_norm *p)
{
    const int64_t N = x->shape[0], C = x->shape[1];
    CHECK(nn_is_2d(x, N, C) && nn_is_2d(y, N, C) && nn_is_1d(rstd, N));
    CHECK(nn_is_1d(p->w, C) && !p->b);
    if (nn->measuring) return;
    nn->ops->rmsnorm_fwd(nn->n_threads, y->data, rstd->data, x->data, p->w->data, p->eps,
                         N, C);
}

/* Each thread sums its rows' share of dw on its own. */
static int64_t partial_floats(int threads, int64_t C)
{
    return threads * C;
}

void nn_rmsnorm_bwd(struct nn *nn, struct tensor *dx, const struct tensor *dy,
                    const struct tensor *x, const struct tensor *rstd,
                    const struct nn_norm *p)
{
    const int64_t N = x->shape[0], C = x->shape[1];
    CHECK(nn_is_2d(dx, N, C) && nn_is_2d(dy, N, C) && nn_is_2d(x, N, C));
    CHECK(nn_is_1d(rstd, N) && nn_is_1d(p->w, C) && nn_is_1d(p->dw, C) && !p->db);
    const size_t mark = arena_mark(&nn->scratch);
    float *partial = arena_floats(&nn->scratch, partial_floats(nn->n_threads, C));
    if (!nn->measuring)
        nn->ops->rmsnorm_bwd(nn->n_threads, dx->data, p->dw->data, partial, dy->data,
                             x->data, rstd->data, p->w->data, N, C);
    arena_rewind(&nn->scratch, mark);
}
