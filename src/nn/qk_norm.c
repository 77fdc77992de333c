#include "nn/nn_impl.h"

/* A row of queries, keys and what is behind them; raw has the first two. */
static void check(const struct tensor *qkv, const struct tensor *raw,
                  const struct tensor *sums, const struct nn_qk_norm *p)
{
    const int64_t N = raw->shape[0], C = p->q + p->k;
    CHECK(nn_is_2d(raw, qkv->dtype, N, C) && nn_is_2d(sums, DTYPE_F32, N, 2));
    CHECK(nn_is_2d(qkv, qkv->dtype, N, qkv->shape[1]) && qkv->shape[1] >= C);
    CHECK(nn_is_1d(p->w, qkv->dtype, C));
    CHECK(p->k_others >= 0 && p->k_others <= p->k);
}

void nn_qk_norm_sums(struct nn *nn, struct tensor *sums, struct tensor *raw,
                     const struct tensor *qkv, const struct nn_qk_norm *p)
{
    check(qkv, raw, sums, p);
    if (!nn->measuring) nn_ops_for(nn, raw)->qk_norm_sums(nn, sums, raw, qkv, p);
}

void nn_qk_norm_fwd(struct nn *nn, struct tensor *qkv, const struct tensor *raw,
                    const struct tensor *sums, const struct nn_qk_norm *p)
{
    check(qkv, raw, sums, p);
    if (!nn->measuring) nn_ops_for(nn, raw)->qk_norm_fwd(nn, qkv, raw, sums, p);
}

void nn_qk_norm_dots(struct nn *nn, struct tensor *dots, const struct tensor *dqkv,
                     const struct tensor *raw, const struct nn_qk_norm *p)
{
    check(dqkv, raw, dots, p);
    if (!nn->measuring) nn_ops_for(nn, raw)->qk_norm_dots(nn, dots, dqkv, raw, p);
}

void nn_qk_norm_bwd(struct nn *nn, struct tensor *dqkv, const struct tensor *raw,
                    const struct tensor *sums, const struct tensor *dots,
                    const struct nn_qk_norm *p)
{
    check(dqkv, raw, sums, p);
    CHECK(nn_is_2d(dots, DTYPE_F32, raw->shape[0], 2));
    CHECK(nn_is_1d(p->dw, DTYPE_F32, p->q + p->k));
    nn_ops_for(nn, raw)->qk_norm_bwd(nn, dqkv, raw, sums, dots, p);
}
