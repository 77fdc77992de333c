#include "nn/nn_impl.h"

void nn_sum_squares(struct nn *nn, double *sum, const float *x, int64_t n)
{
    CHECK(n >= 0);
    if (n > 0) nn->ops->sum_squares(nn, sum, x, n);
}
