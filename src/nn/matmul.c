#include "nn/nn_impl.h"

static bool all_2d(const struct tensor *a, const struct tensor *b, const struct tensor *c)
{
    return a->n_dims == 2 && b->n_dims == 2 && c->n_dims == 2;
}

void nn_matmul_nt(struct nn *nn, struct tensor *y, const struct tensor *x,
                  const struct tensor *w, enum nn_accum mode)
{
    CHECK(all_2d(y, x, w));
    CHECK(y->shape[0] == x->shape[0]); /* N */
    CHECK(y->shape[1] == w->shape[0]); /* O */
    CHECK(x->shape[1] == w->shape[1]); /* C */
    nn_ops_for(nn, x)->matmul(nn, y, x, false, w, true, mode);
}

void nn_matmul_nn(struct nn *nn, struct tensor *dx, const struct tensor *dy,
                  const struct tensor *w, enum nn_accum mode)
{
    CHECK(all_2d(dx, dy, w));
    CHECK(dx->shape[0] == dy->shape[0]); /* N */
    CHECK(dy->shape[1] == w->shape[0]);  /* O */
    CHECK(dx->shape[1] == w->shape[1]);  /* C */
    nn_ops_for(nn, dy)->matmul(nn, dx, dy, false, w, false, mode);
}

void nn_matmul_tn(struct nn *nn, struct tensor *dw, const struct tensor *dy,
                  const struct tensor *x, enum nn_accum mode)
{
    CHECK(all_2d(dw, dy, x));
    CHECK(dy->shape[0] == x->shape[0]);  /* N */
    CHECK(dw->shape[0] == dy->shape[1]); /* O */
    CHECK(dw->shape[1] == x->shape[1]);  /* C */
    nn_ops_for(nn, dy)->matmul(nn, dw, dy, true, x, false, mode);
}
