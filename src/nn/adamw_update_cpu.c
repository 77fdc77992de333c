#include "nn/ops_cpu.h"

#include <math.h>

void NN_CPU(adamw_update)(int threads, float *w, float *m, float *v, const float *grad,
                          int64_t n, const struct nn_adamw *p)
{
    /* fields are copied: the compiler cannot know that w does not overlap *p */
    const float b1 = p->beta1, b2 = p->beta2, a1 = 1.0f - b1, a2 = 1.0f - b2;
    const float scale = p->grad_scale, eps = p->eps;
    const float step = p->lr / p->c1, per_c2 = 1.0f / p->c2;
    const float keep = p->lr * p->weight_decay;
#pragma omp parallel for simd num_threads(threads) schedule(static)
    for (int64_t i = 0; i < n; i++) {
        const float g = scale * grad[i];
        const float mi = b1 * m[i] + a1 * g;
        const float vi = b2 * v[i] + a2 * g * g;
        m[i] = mi;
        v[i] = vi;
        w[i] -= step * mi / (sqrtf(vi * per_c2) + eps) + keep * w[i];
    }
}
