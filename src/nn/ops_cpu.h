/* ops_cpu - the rows of one CPU table: each is in its <op>_cpu.c, and every one of those files is
 * compiled once per instruction set, under names that NN_CPU makes different. */
#pragma once

#include "nn/attention_tile.h"
#include "nn/gemm.h"

void NN_CPU(bias_add)(int threads, float *y, const float *x, const float *b, int64_t N,
                      int64_t O);
void NN_CPU(bias_bwd)(int threads, float *db, const float *dy, int64_t N, int64_t O);
void NN_CPU(rmsnorm_fwd)(int threads, float *y, float *rstd, const float *x,
                         const float *w, float eps, int64_t N, int64_t C);
void NN_CPU(rmsnorm_bwd)(int threads, float *dx, float *dw, float *partial,
                         const float *dy, const float *x, const float *rstd,
                         const float *w, int64_t N, int64_t C);
void NN_CPU(layernorm_fwd)(int threads, float *y, float *stats, const float *x,
                           const float *w, const float *b, float eps, int64_t N,
                           int64_t C);
void NN_CPU(layernorm_bwd)(int threads, float *dx, float *dw, float *db, float *partial,
                           const float *dy, const float *x, const float *stats,
                           const float *w, int64_t N, int64_t C);
void NN_CPU(rope)(int threads, float *x, int64_t N, int64_t W, const struct nn_rope *r,
                  float sign);
/* W: width of a row of qkv */
void NN_CPU(qk_norm_sums)(int threads, float *sums, float *raw, const float *qkv,
                          int64_t N, int64_t W, const struct nn_qk_norm *p);
void NN_CPU(qk_norm_fwd)(int threads, float *qkv, const float *raw, const float *sums,
                         int64_t N, int64_t W, const struct nn_qk_norm *p);
void NN_CPU(qk_norm_dots)(int threads, float *dots, const float *dqkv, const float *raw,
                          int64_t N, int64_t W, const struct nn_qk_norm *p);
void NN_CPU(qk_norm_bwd)(int threads, float *dqkv, float *partial, const float *raw,
                         const float *sums, const float *dots, int64_t N, int64_t W,
                         const struct nn_qk_norm *p);
void NN_CPU(attention_fwd)(int threads, float *y, float *lse, float *scratch,
                           const float *q, const float *kv, bool fresh,
                           const struct attention_view *a);
/* Where gradients go: dq, added to or assigned; dkv as the view's kv. */
struct attention_gradients {
    float *dq, *dkv;
    int64_t dq_width;
    bool adds;
};
void NN_CPU(attention_bwd)(int threads, const struct attention_gradients *g,
                           float *scratch, const float *dy, const float *y,
                           const float *lse, const float *q, const float *kv,
                           const struct attention_view *a);
void NN_CPU(attention_decode)(int threads, float *y, float *cache_k, float *cache_v,
                              float *scratch, const float *qkv, int64_t length,
                              const struct nn_attention *a);
void NN_CPU(gelu_fwd)(int threads, float *y, const float *x, int64_t n);
void NN_CPU(gelu_bwd)(int threads, float *dx, const float *dy, const float *x, int64_t n);
void NN_CPU(gelu_erf_fwd)(int threads, float *y, const float *x, int64_t n);
void NN_CPU(gelu_erf_bwd)(int threads, float *dx, const float *dy, const float *x,
                          int64_t n);
void NN_CPU(swiglu_fwd)(int threads, float *y, const float *gu, int64_t N, int64_t F);
void NN_CPU(swiglu_bwd)(int threads, float *dgu, const float *dy, const float *gu,
                        int64_t N, int64_t F);
/* Tokens [first, first + n) have rows in a table. */
struct token_rows {
    int64_t first, n;
};
void NN_CPU(embedding_fwd)(int threads, float *y, const float *wte, const float *wpe,
                           const int32_t *tokens, const int32_t *positions, int64_t N,
                           int64_t C, const struct token_rows *rows);
void NN_CPU(embedding_bwd)(int threads, float *dwte, float *dwpe, const float *dy,
                           const int32_t *tokens, const int32_t *positions, int64_t N,
                           int64_t C, const struct token_rows *rows);
void NN_CPU(softmax_loss)(int threads, float *logits, int64_t N, int64_t V,
                          const struct nn_loss_rows *rows);
void NN_CPU(softmax_stats)(int threads, float *stats, const float *logits,
                           const int32_t *targets, int64_t N, int64_t V,
                           const struct nn_vocab_slice *slice);
void NN_CPU(softmax_part)(int threads, float *logits, int64_t N, int64_t V,
                          const struct nn_loss_rows *rows, const float *stats,
                          const struct nn_vocab_slice *slice);
void NN_CPU(adamw_update)(int threads, const struct nn_adamw_range *r,
                          const struct nn_adamw *p);
void NN_CPU(add)(int threads, float *y, const float *x, int64_t n);
double NN_CPU(sum_squares)(int threads, const float *x, int64_t n);
