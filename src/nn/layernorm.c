#include "nn/nn_impl.h"

void nn_layernorm_fwd(struct nn *nn, struct tensor *y, struct tensor *stats,
                      const struct tensor *x, const struct nn_norm *p)
{
    const int64_t N = x->shape[0], C = x->shape[1];
    CHECK(nn_is_2d(x, N, C) && nn_is_2d(y, N, C) && nn_is_2d(stats, N, 2));
    CHECK(nn_is_1d(p->w, C) && nn_is_1d(p->b, C));
    if (nn->measuring) return;
    nn->ops->layernorm_fwd(nn->n_threads, y->data, stats->data, x->data, p->w->data,
                           p->b->data, p->eps, N, C);
}

/* Each thread sums its rows' share of dw and db on its own. */
static int64_t partial_floats(int threads, int64_t C)
{
    return threads * 2 * C;
}

void nn_layernorm_bwd(struct nn *nn, struct tensor *dx, const struct tensor *dy,
                      const struct tensor *x, const struct tensor *stats,
                      const struct nn_norm *p)
{
    const int64_t N = x->shape[0], C = x->shape[1];
    CHECK(nn_is_2d(dx, N, C) && nn_is_2d(dy, N, C) && nn_is_2d(x, N, C));
    CHECK(nn_is_2d(stats, N, 2) && nn_is_1d(p->w, C));
    CHECK(nn_is_1d(p->dw, C) && nn_is_1d(p->db, C));
    const size_t mark = arena_mark(&nn->scratch);
    float *partial = arena_floats(&nn->scratch, partial_floats(nn->n_threads, C));
    if (!nn->measuring)
        nn->ops->layernorm_bwd(nn->n_threads, dx->data, p->dw->data, p->db->data, partial,
                               dy->data, x->data, stats->data, p->w->data, N, C);
    arena_rewind(&nn->scratch, mark);
}
