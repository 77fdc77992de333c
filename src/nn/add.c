#include "nn/nn_impl.h"

void nn_add(struct nn *nn, struct tensor *y, const struct tensor *x)
{
    CHECK(y->dtype == x->dtype && tensor_elements(y) == tensor_elements(x));
    if (!nn->measuring) nn_ops_for(nn, y)->add(nn, y, x);
}
