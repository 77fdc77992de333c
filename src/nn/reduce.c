#include "nn/nn_impl.h"

double nn_sum_squares(struct nn *nn, const float *x, int64_t n)
{
    CHECK(n >= 0);
    if (nn->measuring) return 0;
    return nn->ops->sum_squares(nn->n_threads, x, n);
}
