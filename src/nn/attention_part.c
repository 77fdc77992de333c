#include "nn/nn_impl.h"

static void check(const struct nn_attention_part *a, const struct tensor *lse,
                  const struct tensor *qkv, const struct tensor *kv)
{
    CHECK(a->B > 0 && a->H > 0 && a->K > 0 && a->D > 0 && a->Tq > 0 && a->Tk > 0);
    CHECK(a->group > 0 && a->first >= 0 && a->first < a->group);
    CHECK(a->K == (a->first + a->H - 1) / a->group + 1);
    CHECK(nn_is_2d(lse, DTYPE_F32, a->B * a->H, a->Tq));
    CHECK(nn_is_2d(qkv, qkv->dtype, a->B * a->Tq, (a->H + 2 * a->K) * a->D));
    CHECK(nn_is_2d(kv, qkv->dtype, a->B * a->Tk, 2 * a->K * a->D));
}

void nn_attention_part_fwd(struct nn *nn, struct tensor *y, struct tensor *lse,
                           const struct tensor *qkv, const struct tensor *kv,
                           const struct nn_attention_part *a, bool fresh)
{
    check(a, lse, qkv, kv);
    CHECK(nn_is_2d(y, DTYPE_F32, a->B * a->Tq, a->H * a->D));
    nn_ops_for(nn, qkv)->attention_part_fwd(nn, y, lse, qkv, kv, a, fresh);
}

void nn_attention_part_bwd(struct nn *nn, struct tensor *dq, struct tensor *dkv,
                           const struct tensor *dy, const struct tensor *y,
                           const struct tensor *lse, const struct tensor *qkv,
                           const struct tensor *kv, const struct nn_attention_part *a)
{
    check(a, lse, qkv, kv);
    CHECK(nn_is_2d(y, qkv->dtype, a->B * a->Tq, a->H * a->D));
    CHECK(nn_is_2d(dy, qkv->dtype, a->B * a->Tq, a->H * a->D));
    CHECK(nn_is_2d(dq, DTYPE_F32, a->B * a->Tq, a->H * a->D));
    CHECK(nn_is_2d(dkv, DTYPE_F32, a->B * a->Tk, 2 * a->K * a->D));
    nn_ops_for(nn, qkv)->attention_part_bwd(nn, dq, dkv, dy, y, lse, qkv, kv, a);
}
