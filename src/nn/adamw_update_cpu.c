#include "nn/ops_cpu.h"

#include <math.h>

#include "core/rng.h"

enum { DRAWS = 4, DRAW_BITS = 16 }; /* of stochastic rounding, out of one random number */

/* low[i] = w[i] plus 16 random bits, cut; an infinity or NaN keeps its kind. */
static void round_stochastic(const struct nn_adamw_range *r, int64_t first, int64_t end)
{
    uint16_t *low = r->low;
    for (int64_t i = first; i < end; i++) {
        const uint64_t at = (uint64_t)(r->start + i);
        const uint64_t draws = rng_u64(r->key, at / DRAWS);
        const uint32_t draw = (uint32_t)(draws >> (at % DRAWS * DRAW_BITS)) & 0xffff;
        uint32_t u;
        memcpy(&u, &r->w[i], sizeof u);
        low[i] = (u & 0x7f800000u) == 0x7f800000u ? dtype_bf16(r->w[i])
                                                  : (uint16_t)((u + draw) >> 16);
    }
}

static void round_range(const struct nn_adamw_range *r, int threads)
{
    enum { BLOCK = 4096 };
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t first = 0; first < r->n; first += BLOCK) {
        const int64_t end = r->n - first < BLOCK ? r->n : first + BLOCK;
        uint16_t *low = r->low;
        if (r->rounding == NN_ROUND_STOCHASTIC)
            round_stochastic(r, first, end);
        else
            dtype_convert(low + first, r->low_type, r->w + first, DTYPE_F32, end - first);
    }
}

void NN_CPU(adamw_update)(int threads, const struct nn_adamw_range *r,
                          const struct nn_adamw *p)
{
    /* fields are copied: the compiler cannot know that w does not overlap *p */
    const float b1 = p->beta1, b2 = p->beta2, a1 = 1.0f - b1, a2 = 1.0f - b2;
    const float scale = p->grad_scale, eps = p->eps;
    const float step = p->lr / p->c1, per_c2 = 1.0f / p->c2;
    const float keep = p->lr * p->weight_decay;
    float *w = r->w, *m = r->m, *v = r->v;
    const float *grad = r->grad;
    const int64_t n = r->n;
#pragma omp parallel for simd num_threads(threads) schedule(static)
    for (int64_t i = 0; i < n; i++) {
        const float g = scale * grad[i];
        const float mi = b1 * m[i] + a1 * g;
        const float vi = b2 * v[i] + a2 * g * g;
        m[i] = mi;
        v[i] = vi;
        w[i] -= step * mi / (sqrtf(vi * per_c2) + eps) + keep * w[i];
    }
    if (r->low) round_range(r, threads);
}
