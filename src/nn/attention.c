#include "nn/nn_impl.h"

/* With its groups spelled out; checked. */
static struct nn_attention settle(const struct nn_attention *a)
{
    struct nn_attention s = *a;
    CHECK(a->B > 0 && a->T > 0 && a->H > 0 && a->K > 0 && a->D > 0);
    if (s.group == 0) {
        CHECK(a->H % a->K == 0 && s.first == 0);
        s.group = a->H / a->K;
    }
    CHECK(s.first >= 0 && s.first < s.group);
    CHECK(s.K == (s.first + s.H - 1) / s.group + 1);
    return s;
}

static void check_shapes(const struct nn_attention *a, const struct tensor *y,
                         const struct tensor *qkv, int64_t rows)
{
    CHECK(nn_is_2d(y, qkv->dtype, rows, a->H * a->D));
    CHECK(nn_is_2d(qkv, qkv->dtype, rows, (a->H + 2 * a->K) * a->D));
}

void nn_attention_fwd(struct nn *nn, struct tensor *y, struct tensor *lse,
                      const struct tensor *qkv, const struct nn_attention *attention)
{
    const struct nn_attention a = settle(attention);
    check_shapes(&a, y, qkv, a.B * a.T);
    CHECK(nn_is_2d(lse, DTYPE_F32, a.B * a.H, a.T));
    nn_ops_for(nn, qkv)->attention_fwd(nn, y, lse, qkv, &a);
}

void nn_attention_bwd(struct nn *nn, struct tensor *dqkv, const struct tensor *dy,
                      const struct tensor *y, const struct tensor *lse,
                      const struct tensor *qkv, const struct nn_attention *attention)
{
    const struct nn_attention a = settle(attention);
    check_shapes(&a, y, qkv, a.B * a.T);
    check_shapes(&a, dy, dqkv, a.B * a.T);
    CHECK(nn_is_2d(lse, DTYPE_F32, a.B * a.H, a.T));
    nn_ops_for(nn, qkv)->attention_bwd(nn, dqkv, dy, y, lse, qkv, &a);
}

static void check_cache(const struct nn_attention *a, const struct tensor *cache,
                        enum dtype t)
{
    CHECK(nn_is_2d(cache, t, a->B * a->T, a->K * a->D));
}

void nn_attention_decode(struct nn *nn, struct tensor *y, struct tensor *cache_k,
                         struct tensor *cache_v, const struct tensor *qkv, int64_t length,
                         const struct nn_attention *attention)
{
    const struct nn_attention a = settle(attention);
    CHECK(a.H == a.K * a.group);
    check_shapes(&a, y, qkv, a.B);
    check_cache(&a, cache_k, qkv->dtype);
    check_cache(&a, cache_v, qkv->dtype);
    CHECK(0 <= length && length < a.T);
    CHECK(!a.doc_start); /* a cache holds one document */
    nn_ops_for(nn, qkv)->attention_decode(nn, y, cache_k, cache_v, qkv, length, &a);
}
