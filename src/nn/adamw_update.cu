/* AdamW on a flat range: each thread updates four neighbours and rounds them to the copy that
 * forward and backward use.  A range may begin anywhere, and its arrays with different offsets:
 * each is accessed 16 bytes at a time where its own address allows that. */
#include "nn/cuda_kernel.h"

enum { THREADS = 256, EACH = 4 };

/* What the CPU twin derives from struct nn_adamw, by the same fp32 operations. */
struct constants {
    float b1, b2, a1, a2, scale, eps, step, per_c2, keep;
};

static __device__ __forceinline__ void load_four(float x[EACH], const float *p, int count)
{
    if (count == EACH && reinterpret_cast<uintptr_t>(p) % 16 == 0) {
        const vec16<float> v = load_16(p);
        for (int k = 0; k < EACH; k++) x[k] = v.x[k];
    } else {
        for (int k = 0; k < EACH; k++) x[k] = k < count ? p[k] : 0.0f;
    }
}

static __device__ __forceinline__ void store_four(float *p, const float x[EACH],
                                                  int count)
{
    if (count == EACH && reinterpret_cast<uintptr_t>(p) % 16 == 0) {
        vec16<float> v;
        for (int k = 0; k < EACH; k++) v.x[k] = x[k];
        store_16(p, v);
    } else {
        for (int k = 0; k < EACH; k++)
            if (k < count) p[k] = x[k];
    }
}

/* The four numbers of 16 bits that belong to element i of stream `key`, i % 4 == 0: rng_u64 of
 * core/rng.c (Philox4x32-10; Salmon et al. 2011, section 4.3). */
static __device__ __forceinline__ uint64_t random_four(uint64_t key, uint64_t i)
{
    uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
    uint32_t c0 = static_cast<uint32_t>(i / 4), c1 = static_cast<uint32_t>(i / 4 >> 32);
    uint32_t c2 = 0, c3 = 0;
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = static_cast<uint64_t>(0xD2511F53u) * c0;
        const uint64_t p1 = static_cast<uint64_t>(0xCD9E8D57u) * c2;
        c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
        c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
        c1 = static_cast<uint32_t>(p1);
        c3 = static_cast<uint32_t>(p0);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return static_cast<uint64_t>(c1) << 32 | c0;
}

/* Add 16 random bits below those that bf16 keeps, and cut.  NaN stays NaN: it must not carry into
 * the sign. */
static __device__ __forceinline__ uint16_t round_stochastic(float x, uint32_t random_bits)
{
    const uint32_t bits = __float_as_uint(x);
    if (x != x) return static_cast<uint16_t>(bits >> 16 | 0x40u);
    return static_cast<uint16_t>((bits + random_bits) >> 16);
}

static __device__ __forceinline__ void
stochastic_four(uint16_t low[EACH], const float w[EACH], uint64_t key, uint64_t index)
{
    const int phase = static_cast<int>(index % 4); /* the same for all threads */
    const uint64_t first = random_four(key, index - phase);
    const uint64_t second = phase ? random_four(key, index - phase + 4) : 0;
    for (int k = 0; k < EACH; k++) {
        const int at = phase + k;
        const uint64_t four = at < 4 ? first : second;
        low[k] = round_stochastic(w[k], static_cast<uint32_t>(four >> (16 * (at % 4))) &
                                            0xffffu);
    }
}

static __device__ __forceinline__ uint16_t bits_of(__nv_bfloat16 x)
{
    return __bfloat16_as_ushort(x);
}

static __device__ __forceinline__ uint16_t bits_of(__half x)
{
    return __half_as_ushort(x);
}

static __device__ __forceinline__ void store_low(uint16_t *p, const uint16_t x[EACH],
                                                 int count)
{
    if (count == EACH && reinterpret_cast<uintptr_t>(p) % 8 == 0) {
        store_uint2(p, make_uint2(x[0] | static_cast<uint32_t>(x[1]) << 16,
                                  x[2] | static_cast<uint32_t>(x[3]) << 16));
    } else {
        for (int k = 0; k < EACH; k++)
            if (k < count) p[k] = x[k];
    }
}

/* Weights, moments and gradient of elements i, ...; w has been read. */
static __device__ __forceinline__ void update_four(float w[EACH],
                                                   const struct nn_adamw_range &r,
                                                   const struct constants &c, int64_t i,
                                                   int count)
{
    const float zeros[EACH] = {0, 0, 0, 0};
    float m[EACH], v[EACH], grad[EACH];
    load_four(m, r.m + i, count);
    load_four(v, r.v + i, count);
    load_four(grad, r.grad + i, count);
    for (int k = 0; k < EACH; k++) {
        const float g = c.scale * grad[k];
        m[k] = c.b1 * m[k] + c.a1 * g;
        v[k] = c.b2 * v[k] + c.a2 * g * g;
        w[k] -= c.step * m[k] / (sqrtf(v[k] * c.per_c2) + c.eps) + c.keep * w[k];
    }
    store_four(r.w + i, w, count);
    store_four(r.m + i, m, count);
    store_four(r.v + i, v, count);
    store_four(r.grad + i, zeros, count);
}

/* T: the type of r.low, if that is not NULL. */
template <typename T, bool stochastic>
static __global__ void __launch_bounds__(THREADS)
    adamw_update(struct nn_adamw_range r, struct constants c)
{
    const int64_t i = EACH * (blockIdx.x * static_cast<int64_t>(THREADS) + threadIdx.x);
    if (i >= r.n) return;
    const int count = r.n - i < EACH ? static_cast<int>(r.n - i) : EACH;
    float w[EACH];
    load_four(w, r.w + i, count);
    if (r.grad) update_four(w, r, c, i, count);
    if (!r.low) return;
    uint16_t low[EACH];
    if (stochastic)
        stochastic_four(low, w, r.key, static_cast<uint64_t>(r.start + i));
    else
        for (int k = 0; k < EACH; k++) low[k] = bits_of(from_float<T>(w[k]));
    store_low(static_cast<uint16_t *>(r.low) + i, low, count);
}

template <typename T, bool stochastic>
static void launch(cudaStream_t s, const struct nn_adamw_range *r,
                   const struct constants *c)
{
    const int64_t blocks = ceil_div(r->n, EACH * THREADS);
    CUDA_LAUNCH((adamw_update<T, stochastic>), static_cast<unsigned>(blocks), THREADS, 0,
                s, *r, *c);
}

extern "C" void cuda_adamw_update(cudaStream_t s, const struct nn_adamw_range *r,
                                  const struct nn_adamw *p)
{
    if (r->n == 0) return;
    const struct constants c = {p->beta1,        p->beta2,      1.0f - p->beta1,
                                1.0f - p->beta2, p->grad_scale, p->eps,
                                p->lr / p->c1,   1.0f / p->c2,  p->lr * p->weight_decay};
    if (r->low && r->low_type == DTYPE_F16)
        launch<__half, false>(s, r, &c);
    else if (r->low && r->rounding == NN_ROUND_STOCHASTIC)
        launch<__nv_bfloat16, true>(s, r, &c);
    else
        launch<__nv_bfloat16, false>(s, r, &c);
}
