/* nn_impl - the table of operations behind nn.h; included only in this folder.
 *
 * A row takes what its wrapper has already checked.  `scratch` rows get memory that the wrapper
 * took from nn's arena: its size is a function of shapes and threads, written next to the
 * wrapper, so that measuring and computing cannot differ. */
#pragma once

#include <string.h>

#include "core/log.h"
#include "nn/nn.h"

struct nn_ops {
    const char *isa;
    void (*bias_add)(int threads, float *y, const float *x, const float *b, int64_t N,
                     int64_t O);
    void (*bias_bwd)(int threads, float *db, const float *dy, int64_t N, int64_t O);
    void (*rmsnorm_fwd)(int threads, float *y, float *rstd, const float *x,
                        const float *w, float eps, int64_t N, int64_t C);
    void (*rmsnorm_bwd)(int threads, float *dx, float *dw, float *partial,
                        const float *dy, const float *x, const float *rstd,
                        const float *w, int64_t N, int64_t C); /* partial: [threads, C] */
    void (*layernorm_fwd)(int threads, float *y, float *stats, const float *x,
                          const float *w, const float *b, float eps, int64_t N,
                          int64_t C);
    void (*layernorm_bwd)(int threads, float *dx, float *dw, float *db, float *partial,
                          const float *dy, const float *x, const float *stats,
                          const float *w, int64_t N,
                          int64_t C); /* partial: [threads, 2C] */
    void (*rope)(int threads, float *x, int64_t N, int64_t W, const struct nn_rope *r,
                 float sign); /* +1 turns, -1 turns back */
    void (*attention_fwd)(int threads, float *y, float *lse, float *scratch,
                          const float *qkv, const struct nn_attention *a);
    void (*attention_bwd)(int threads, float *dqkv, float *scratch, const float *dy,
                          const float *y, const float *lse, const float *qkv,
                          const struct nn_attention *a);
    void (*attention_decode)(int threads, float *y, float *cache_k, float *cache_v,
                             float *scratch, const float *qkv, int64_t length,
                             const struct nn_attention *a);
    void (*gelu_fwd)(int threads, float *y, const float *x, int64_t n);
    void (*gelu_bwd)(int threads, float *dx, const float *dy, const float *x, int64_t n);
    void (*swiglu_fwd)(int threads, float *y, const float *gu, int64_t N, int64_t F);
    void (*swiglu_bwd)(int threads, float *dgu, const float *dy, const float *gu,
                       int64_t N, int64_t F);
    void (*embedding_fwd)(int threads, float *y, const float *wte, const float *wpe,
                          const int32_t *tokens, const int32_t *positions, int64_t N,
                          int64_t C);
    void (*embedding_bwd)(int threads, float *dwte, float *dwpe, const float *dy,
                          const int32_t *tokens, const int32_t *positions, int64_t N,
                          int64_t C);
    /* logits[n,:] becomes softmax(logits[n,:]) - onehot(target), zero where target < 0;
     * with gradient == false logits are left alone.  row_loss[n] is assigned. */
    void (*softmax_loss)(int threads, float *logits, float *row_loss,
                         const int32_t *targets, int64_t N, int64_t V, bool gradient);
    void (*adamw_update)(int threads, float *w, float *m, float *v, const float *grad,
                         int64_t n, const struct nn_adamw *p);
    double (*sum_squares)(int threads, const float *x, int64_t n);
};

struct nn {
    struct device *device;
    const struct nn_ops *ops;
    int n_threads;
    bool measuring;
    struct arena scratch;
    void *scratch_memory;
    size_t scratch_bytes;
};

/* Use the table `isa` ("base", "avx2", "avx512") from now on; false, and nothing changed, if this
 * machine cannot run it.  nn_create chooses the widest; tests compare them all. */
bool nn_force_isa(struct nn *nn, const char *isa);

/* What the wrappers CHECK of a tensor. */
static inline bool nn_is_1d(const struct tensor *x, int64_t n)
{
    return x->dtype == DTYPE_F32 && x->n_dims == 1 && x->shape[0] == n;
}

static inline bool nn_is_2d(const struct tensor *x, int64_t rows, int64_t cols)
{
    return x->dtype == DTYPE_F32 && x->n_dims == 2 && x->shape[0] == rows &&
           x->shape[1] == cols;
}

/* c[m,n] = alpha op(a) op(b) + beta c on one thread or the whole team, row-major with leading
 * dimensions; the only caller of the BLAS library (matmul.c).  Inside a parallel region it runs
 * on the calling thread alone. */
void nn_gemm(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, float alpha,
             const float *a, int64_t lda, const float *b, int64_t ldb, float beta,
             float *c, int64_t ldc);

/* The CPU tables, one per instruction set: NN_CPU(name) is name_base, name_avx2, ... */
#define NN_JOIN_(a, b) a##_##b
#define NN_JOIN(a, b)  NN_JOIN_(a, b)
#define NN_CPU(name)   NN_JOIN(name, NN_ISA)

extern const struct nn_ops nn_ops_base, nn_ops_avx2, nn_ops_avx512;
