#include "nn/nn_impl.h"

static bool same_shape(const struct tensor *a, const struct tensor *b)
{
    return a->dtype == b->dtype && a->n_dims == b->n_dims &&
           memcmp(a->shape, b->shape, (size_t)a->n_dims * sizeof a->shape[0]) == 0;
}

void nn_gelu_fwd(struct nn *nn, struct tensor *y, const struct tensor *x)
{
    CHECK(same_shape(y, x));
    float *out = tensor_f32(y);
    if (nn->measuring) return;
    nn->ops->gelu_fwd(nn->n_threads, out, x->data, tensor_elements(x));
}

void nn_gelu_bwd(struct nn *nn, struct tensor *dx, const struct tensor *dy,
                 const struct tensor *x)
{
    CHECK(same_shape(dx, x) && same_shape(dy, x));
    float *out = tensor_f32(dx);
    if (nn->measuring) return;
    nn->ops->gelu_bwd(nn->n_threads, out, dy->data, x->data, tensor_elements(x));
}
