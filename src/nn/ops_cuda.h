/* ops_cuda - the launchers of the CUDA kernels, one group for each .cu file of this folder; called
 * only by ops_cuda.c, which unpacks tensors and takes scratch.
 *
 * All pointers are device memory except the structs of parameters, which are read during the call.
 * `t` is the type of every `void` pointer; what is fp32 or wider in every precision (statistics,
 * losses, parameter gradients, optimizer state) has its own type.  Work goes to stream `s`, the
 * call does not wait.  The equations are in nn.h.  Parameter gradients accumulate.  No result
 * depends on which thread comes first. */
#pragma once

#include <cuda_runtime_api.h>

#include "core/dtype.h"
#include "nn/nn.h"

#ifdef __cplusplus
extern "C" {
#endif

/* bias.cu */
void cuda_bias_add(cudaStream_t s, enum dtype t, void *y, const void *x, const void *b,
                   int64_t N, int64_t O);
int64_t cuda_bias_bwd_floats(int64_t N, int64_t O); /* of `partial` */
void cuda_bias_bwd(cudaStream_t s, enum dtype t, float *db, float *partial,
                   const void *dy, int64_t N, int64_t O);

/* rmsnorm.cu, layernorm.cu */
void cuda_rmsnorm_fwd(cudaStream_t s, enum dtype t, void *y, float *rstd, const void *x,
                      const void *w, float eps, int64_t N, int64_t C);
int64_t cuda_rmsnorm_bwd_floats(int64_t N, int64_t C);
void cuda_rmsnorm_bwd(cudaStream_t s, enum dtype t, void *dx, float *dw, float *partial,
                      const void *dy, const void *x, const float *rstd, const void *w,
                      int64_t N, int64_t C);
void cuda_layernorm_fwd(cudaStream_t s, enum dtype t, void *y, float *stats,
                        const void *x, const void *w, const void *b, float eps, int64_t N,
                        int64_t C);
int64_t cuda_layernorm_bwd_floats(int64_t N, int64_t C);
void cuda_layernorm_bwd(cudaStream_t s, enum dtype t, void *dx, float *dw, float *db,
                        float *partial, const void *dy, const void *x, const float *stats,
                        const void *w, int64_t N, int64_t C);

/* rope.cu; sign: +1 turns, -1 turns back */
void cuda_rope(cudaStream_t s, enum dtype t, void *x, int64_t N, int64_t W,
               const struct nn_rope *r, float sign);

/* attention.cu, attention_bwd.cu, attention_decode.cu; scratch in floats */
int64_t cuda_attention_fwd_floats(enum dtype t, const struct nn_attention *a);
void cuda_attention_fwd(cudaStream_t s, enum dtype t, void *y, float *lse, float *scratch,
                        const void *qkv, const struct nn_attention *a);
int64_t cuda_attention_bwd_floats(enum dtype t, const struct nn_attention *a);
void cuda_attention_bwd(cudaStream_t s, enum dtype t, void *dqkv, float *scratch,
                        const void *dy, const void *y, const float *lse, const void *qkv,
                        const struct nn_attention *a);
void cuda_attention_part_fwd(cudaStream_t s, enum dtype t, float *y, float *lse,
                             const void *qkv, const void *kv,
                             const struct nn_attention_part *a, bool fresh);
int64_t cuda_attention_part_bwd_floats(const struct nn_attention_part *a);
void cuda_attention_part_bwd(cudaStream_t s, enum dtype t, float *dq, float *dkv,
                             float *scratch, const void *dy, const void *y,
                             const float *lse, const void *qkv, const void *kv,
                             const struct nn_attention_part *a);
int64_t cuda_attention_decode_floats(const struct nn_attention *a);
void cuda_attention_decode(cudaStream_t s, enum dtype t, void *y, void *cache_k,
                           void *cache_v, float *scratch, const void *qkv, int64_t length,
                           const struct nn_attention *a);

/* qk_norm.cu; W: width of a row of qkv */
void cuda_qk_norm_sums(cudaStream_t s, enum dtype t, float *sums, void *raw,
                       const void *qkv, int64_t N, int64_t W, const struct nn_qk_norm *p);
void cuda_qk_norm_fwd(cudaStream_t s, enum dtype t, void *qkv, const void *raw,
                      const float *sums, int64_t N, int64_t W,
                      const struct nn_qk_norm *p);
void cuda_qk_norm_dots(cudaStream_t s, enum dtype t, float *dots, const void *dqkv,
                       const void *raw, int64_t N, int64_t W, const struct nn_qk_norm *p);
int64_t cuda_qk_norm_bwd_floats(int64_t N, int64_t C);
void cuda_qk_norm_bwd(cudaStream_t s, enum dtype t, void *dqkv, float *partial,
                      const void *raw, const float *sums, const float *dots, int64_t N,
                      int64_t W, const struct nn_qk_norm *p);

/* gelu.cu, swiglu.cu; y of backward may be NULL */
void cuda_gelu_fwd(cudaStream_t s, enum dtype t, void *y, const void *x, int64_t n);
void cuda_gelu_bwd(cudaStream_t s, enum dtype t, void *dx, void *y, const void *dy,
                   const void *x, int64_t n);
void cuda_gelu_erf_fwd(cudaStream_t s, enum dtype t, void *y, const void *x, int64_t n);
void cuda_gelu_erf_bwd(cudaStream_t s, enum dtype t, void *dx, void *y, const void *dy,
                       const void *x, int64_t n);
void cuda_swiglu_fwd(cudaStream_t s, enum dtype t, void *y, const void *gu, int64_t N,
                     int64_t F);
void cuda_swiglu_bwd(cudaStream_t s, enum dtype t, void *dgu, void *y, const void *dy,
                     const void *gu, int64_t N, int64_t F);

/* embedding.cu; V rows of wte, that of token `first` the first, P of wpe (0: none).  Backward:
 * first < 0: all tokens have rows. */
void cuda_embedding_fwd(cudaStream_t s, enum dtype t, void *y, const void *wte,
                        const void *wpe, const int32_t *tokens, const int32_t *positions,
                        int64_t N, int64_t C, int64_t first, int64_t V);
int64_t cuda_embedding_bwd_ints(int64_t N, int64_t V, int64_t P); /* of `scratch` */
void cuda_embedding_bwd(cudaStream_t s, enum dtype t, float *dwte, float *dwpe,
                        int32_t *scratch, const void *dy, const int32_t *tokens,
                        const int32_t *positions, int64_t N, int64_t C, int64_t V,
                        int64_t P, int64_t first);

/* softmax_loss.cu: softmax_loss, softmax_stats and softmax_part of nn_impl.h.  `width` numbers from
 * one row to the next. */
void cuda_softmax_loss(cudaStream_t s, enum dtype t, void *logits,
                       const struct nn_loss_rows *rows, int64_t N, int64_t V,
                       int64_t width);
void cuda_softmax_stats(cudaStream_t s, enum dtype t, float *stats, const void *logits,
                        const int32_t *targets, int64_t N, int64_t V, int64_t width,
                        int64_t first);
void cuda_softmax_part(cudaStream_t s, enum dtype t, void *logits,
                       const struct nn_loss_rows *rows, const float *stats, int64_t N,
                       int64_t V, int64_t width, int64_t first, int count);
/* Losses and squares of the rows are added to *loss, which is device memory, in double, and those
 * with a target counted. */
void cuda_loss_add(cudaStream_t s, struct nn_loss *loss, const struct nn_loss_rows *rows,
                   int64_t N);

/* add.cu, columns.cu; y and x begin at the first column */
void cuda_add(cudaStream_t s, enum dtype t, void *y, const void *x, int64_t n);
void cuda_copy_columns(cudaStream_t s, void *y, enum dtype yt, int64_t y_width,
                       const void *x, enum dtype xt, int64_t x_width, int64_t N,
                       int64_t cols);

/* adamw_update.cu, sum_squares.cu, cast.cu */
void cuda_adamw_update(cudaStream_t s, const struct nn_adamw_range *r,
                       const struct nn_adamw *p);
int64_t cuda_sum_squares_doubles(int64_t n); /* of `partial` */
void cuda_sum_squares(cudaStream_t s, double *sum, double *partial, const float *x,
                      int64_t n); /* *sum += */
void cuda_cast(cudaStream_t s, void *y, enum dtype to, const void *x, enum dtype from,
               int64_t n);

#ifdef __cplusplus
}
#endif
