#include "nn/nn_impl.h"

void nn_bias_add(struct nn *nn, struct tensor *y, const struct tensor *x,
                 const struct tensor *b)
{
    const int64_t N = y->shape[0], O = y->shape[1];
    CHECK(nn_is_2d(y, N, O) && nn_is_2d(x, N, O) && (!b || nn_is_1d(b, O)));
    if (nn->measuring) return;
    nn->ops->bias_add(nn->n_threads, y->data, x->data, b ? b->data : NULL, N, O);
}

void nn_bias_bwd(struct nn *nn, struct tensor *db, const struct tensor *dy)
{
    const int64_t N = dy->shape[0], O = dy->shape[1];
    CHECK(nn_is_2d(dy, N, O) && nn_is_1d(db, O));
    if (nn->measuring) return;
    nn->ops->bias_bwd(nn->n_threads, db->data, dy->data, N, O);
}
