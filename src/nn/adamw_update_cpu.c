#include "nn/ops_cpu.h"

#include <math.h>

/* A block goes through all of its passes while it is in the first cache; its numbers of threads'
 * blocks follow from n alone. */
enum { BLOCK = 2048, DRAWS = 4, DRAW_BITS = 16 };

/* What is the same for all elements. */
struct rule {
    float b1, b2, a1, a2, scale, eps, step, per_c2, keep;
};

static void update(const struct nn_adamw_range *r, int64_t first, int64_t n,
                   const struct rule *rule)
{
    /* a copy, and restrict: the compiler cannot know that w does not overlap the rule */
    const struct rule c = *rule;
    float *restrict w = r->w + first, *restrict m = r->m + first;
    float *restrict v = r->v + first, *restrict grad = r->grad + first;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float g = c.scale * grad[i];
        const float mi = c.b1 * m[i] + c.a1 * g;
        const float vi = c.b2 * v[i] + c.a2 * g * g;
        m[i] = mi;
        v[i] = vi;
        w[i] -= c.step * mi / (sqrtf(vi * c.per_c2) + c.eps) + c.keep * w[i];
        grad[i] = 0;
    }
}

/* ---- the copy that forward and backward use -------------------------------------------------- */

static inline uint16_t nearest(uint32_t u)
{
    const bool is_nan = (u & 0x7fffffffu) > 0x7f800000u;
    return (uint16_t)((is_nan ? u | 0x400000u : u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static void round_nearest(uint16_t *restrict low, const float *restrict w, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) low[i] = nearest(nn_bits_of_float(w[i]));
}

/* bits[4 * i + j] = the 16 bits from 16 * j on of rng_u64(key, first + i) (Philox4x32-10; Salmon et
 * al. 2011, section 4.3), in lanes. */
static void draw(uint16_t *restrict bits, uint64_t key, uint64_t first, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const uint64_t counter = first + (uint64_t)i;
        uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
        uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32), c2 = 0, c3 = 0;
        for (int round = 0; round < 10; round++) {
            const uint64_t p0 = (uint64_t)0xD2511F53u * c0;
            const uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
            c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
            c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
            c1 = (uint32_t)p1;
            c3 = (uint32_t)p0;
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
        bits[DRAWS * i] = (uint16_t)c0;
        bits[DRAWS * i + 1] = (uint16_t)(c0 >> DRAW_BITS);
        bits[DRAWS * i + 2] = (uint16_t)c1;
        bits[DRAWS * i + 3] = (uint16_t)(c1 >> DRAW_BITS);
    }
}

/* low[i] = w[i] plus 16 random bits, cut; an infinity or NaN keeps its kind. */
static void round_stochastic(uint16_t *restrict low, const float *restrict w, int64_t n,
                             uint64_t key, uint64_t start)
{
    uint16_t bits[BLOCK + 2 * DRAWS];
    const uint64_t first = start / DRAWS, last = (start + (uint64_t)n - 1) / DRAWS;
    const uint16_t *mine = bits + start % DRAWS;
    draw(bits, key, first, (int64_t)(last - first) + 1);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const uint32_t u = nn_bits_of_float(w[i]);
        const bool finite = (u & 0x7f800000u) != 0x7f800000u;
        low[i] = finite ? (uint16_t)((u + mine[i]) >> 16) : nearest(u);
    }
}

static void round_block(const struct nn_adamw_range *r, int64_t first, int64_t n)
{
    uint16_t *low = (uint16_t *)r->low + first;
    const float *w = r->w + first;
    if (r->rounding == NN_ROUND_STOCHASTIC)
        round_stochastic(low, w, n, r->key, (uint64_t)(r->start + first));
    else if (r->low_type == DTYPE_BF16)
        round_nearest(low, w, n);
    else
        dtype_convert(low, r->low_type, w, DTYPE_F32, n);
}

void NN_CPU(adamw_update)(int threads, const struct nn_adamw_range *r,
                          const struct nn_adamw *p)
{
    const struct rule rule = {.b1 = p->beta1,
                              .b2 = p->beta2,
                              .a1 = 1.0f - p->beta1,
                              .a2 = 1.0f - p->beta2,
                              .scale = p->grad_scale,
                              .eps = p->eps,
                              .step = p->lr / p->c1,
                              .per_c2 = 1.0f / p->c2,
                              .keep = p->lr * p->weight_decay};
#pragma omp parallel for num_threads(threads) schedule(static) if (r->n > BLOCK)
    for (int64_t first = 0; first < r->n; first += BLOCK) {
        const int64_t n = r->n - first < BLOCK ? r->n - first : BLOCK;
        if (r->grad) update(r, first, n, &rule);
        if (r->low) round_block(r, first, n);
    }
}
