#include "nn/nn_impl.h"

void nn_adamw_update(struct nn *nn, const struct nn_adamw_range *r,
                     const struct nn_adamw *p)
{
    CHECK(r->n >= 0 && r->start >= 0 && p->c1 > 0 && p->c2 > 0);
    CHECK(!r->low || r->low_type == DTYPE_BF16 ||
          (r->low_type == DTYPE_F16 && r->rounding == NN_ROUND_NEAREST));
    if (!nn->measuring && r->n > 0) nn->ops->adamw_update(nn, r, p);
}
