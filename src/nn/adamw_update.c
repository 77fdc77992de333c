#include "nn/nn_impl.h"

void nn_adamw_update(struct nn *nn, float *w, float *m, float *v, const float *grad,
                     int64_t n, const struct nn_adamw *p)
{
    CHECK(n >= 0 && p->c1 > 0 && p->c2 > 0);
    if (nn->measuring) return;
    nn->ops->adamw_update(nn->n_threads, w, m, v, grad, n, p);
}
