/* ops_cpu - the rows of one CPU table: each is in its <op>_cpu.c, and every one of those files is
 * compiled once per instruction set and type (elem.h), under names that NN_CPU makes different. */
#pragma once

#include "nn/attention_tile.h"
#include "nn/elem.h"
#include "nn/gemm.h"

/* What a product goes through while it is written: + bias[n] + residual[m,n]; and y[m,n] = gelu(c).  Each
 * may be NULL. */
struct product_end {
    const elem *bias, *residual;
    elem *gelu;
};
/* scratch: so many floats a thread */
int64_t NN_CPU(matmul_floats)(void);
void NN_CPU(matmul)(int threads, const struct tensor *c, const struct tensor *a,
                    bool trans_a, const struct tensor *b, bool trans_b,
                    enum nn_accum mode, const struct product_end *end, float *scratch);
void NN_CPU(bias_add)(int threads, elem *y, const elem *x, const elem *b, int64_t N,
                      int64_t O);
void NN_CPU(bias_bwd)(int threads, float *db, const elem *dy, int64_t N, int64_t O);
/* residual: NULL, or what y has in it besides the norm; adds: to dx, instead of setting it;
 * partial: [threads, C], for layernorm twice */
void NN_CPU(rmsnorm_fwd)(int threads, elem *y, float *rstd, const elem *x,
                         const elem *residual, const elem *w, float eps, int64_t N,
                         int64_t C);
void NN_CPU(rmsnorm_bwd)(int threads, elem *dx, float *dw, float *partial, const elem *dy,
                         const elem *x, const float *rstd, const elem *w, int64_t N,
                         int64_t C, bool adds);
void NN_CPU(layernorm_fwd)(int threads, elem *y, float *stats, const elem *x,
                           const elem *residual, const elem *w, const elem *b, float eps,
                           int64_t N, int64_t C);
void NN_CPU(layernorm_bwd)(int threads, elem *dx, float *dw, float *db, float *partial,
                           const elem *dy, const elem *x, const float *stats,
                           const elem *w, int64_t N, int64_t C, bool adds);
void NN_CPU(rope)(int threads, elem *x, int64_t N, int64_t W, const struct nn_rope *r,
                  float sign);
/* W: width of a row of qkv */
void NN_CPU(qk_norm_sums)(int threads, float *sums, elem *raw, const elem *qkv, int64_t N,
                          int64_t W, const struct nn_qk_norm *p);
void NN_CPU(qk_norm_fwd)(int threads, elem *qkv, const elem *raw, const float *sums,
                         int64_t N, int64_t W, const struct nn_qk_norm *p);
void NN_CPU(qk_norm_dots)(int threads, float *dots, const elem *dqkv, const elem *raw,
                          int64_t N, int64_t W, const struct nn_qk_norm *p);
void NN_CPU(qk_norm_bwd)(int threads, elem *dqkv, float *partial, const elem *raw,
                         const float *sums, const float *dots, int64_t N, int64_t W,
                         const struct nn_qk_norm *p);
/* y: elem, or fp32, which it is where it goes on from what was seen before */
void NN_CPU(attention_fwd)(int threads, const struct tensor *y, float *lse,
                           float *scratch, const elem *q, const elem *kv, bool fresh,
                           const struct attention_view *a);
/* Where gradients go, elem or fp32: dq, assigned, or added to (then it is fp32); dkv as the view's
 * kv. */
struct attention_gradients {
    const struct tensor *dq, *dkv;
    int64_t dq_width;
    bool adds;
};
void NN_CPU(attention_bwd)(int threads, const struct attention_gradients *g,
                           float *scratch, const elem *dy, const elem *y,
                           const float *lse, const elem *q, const elem *kv,
                           const struct attention_view *a);
void NN_CPU(attention_decode)(int threads, elem *y, elem *cache_k, elem *cache_v,
                              float *scratch, const elem *qkv, int64_t length,
                              const struct nn_attention *a);
/* y and db: may be NULL; partial: [threads, columns of dx] */
void NN_CPU(gelu_fwd)(int threads, elem *y, const elem *x, int64_t N, int64_t F);
void NN_CPU(gelu_bwd)(int threads, elem *dx, elem *y, float *db, float *partial,
                      const elem *dy, const elem *x, int64_t N, int64_t F);
void NN_CPU(gelu_row)(elem *y, const elem *x, int64_t n); /* on the calling thread */
void NN_CPU(gelu_erf_fwd)(int threads, elem *y, const elem *x, int64_t N, int64_t F);
void NN_CPU(gelu_erf_bwd)(int threads, elem *dx, elem *y, float *db, float *partial,
                          const elem *dy, const elem *x, int64_t N, int64_t F);
void NN_CPU(swiglu_fwd)(int threads, elem *y, const elem *gu, int64_t N, int64_t F);
void NN_CPU(swiglu_bwd)(int threads, elem *dgu, elem *y, float *db, float *partial,
                        const elem *dy, const elem *gu, int64_t N, int64_t F);
/* Tokens [first, first + n) have rows in a table. */
struct token_rows {
    int64_t first, n;
};
void NN_CPU(embedding_fwd)(int threads, elem *y, const elem *wte, const elem *wpe,
                           const int32_t *tokens, const int32_t *positions, int64_t N,
                           int64_t C, const struct token_rows *rows);
void NN_CPU(embedding_bwd)(int threads, float *dwte, float *dwpe, const elem *dy,
                           const int32_t *tokens, const int32_t *positions, int64_t N,
                           int64_t C, const struct token_rows *rows);
void NN_CPU(softmax_loss)(int threads, elem *logits, int64_t N, int64_t V,
                          const struct nn_loss_rows *rows);
void NN_CPU(softmax_stats)(int threads, float *stats, const elem *logits,
                           const int32_t *targets, int64_t N, int64_t V,
                           const struct nn_vocab_slice *slice);
void NN_CPU(softmax_part)(int threads, elem *logits, int64_t N, int64_t V,
                          const struct nn_loss_rows *rows, const float *stats,
                          const struct nn_vocab_slice *slice);
void NN_CPU(adamw_update)(int threads, const struct nn_adamw_range *r,
                          const struct nn_adamw *p);
void NN_CPU(add)(int threads, elem *y, const elem *x, int64_t n);
double NN_CPU(sum_squares)(int threads, const float *x, int64_t n);
