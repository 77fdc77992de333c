/* nn_impl - the table of operations behind nn.h; included only in this folder.
 *
 * A row has its wrapper's arguments, whose shapes the wrapper has checked.  Rows named in the
 * first half of the table take scratch from nn->scratch, so they are called while measuring too:
 * take it, return before computing; fewer sequences or rows must not take more, since a run measures
 * its largest micro-batch and the last one may be smaller.  The others are not called then. */
#pragma once

#include <string.h>

#include "core/log.h"
#include "nn/nn.h"

struct nn_ops {
    const char *isa;
    /* the backend's own state in nn->backend; both optional */
    status_t (*open)(struct nn *nn);
    void (*close)(struct nn *nn);

    /* ---- with scratch: called while measuring too ---- */

    /* c[m,n] = op(a) op(b), or c +=.  n and the depth are b's: rows of a and c may be longer, and
     * what lies behind is not touched (cross_entropy.c) */
    void (*matmul)(struct nn *nn, struct tensor *c, const struct tensor *a, bool trans_a,
                   const struct tensor *b, bool trans_b, enum nn_accum mode);
    void (*linear_fwd)(struct nn *nn, struct tensor *y, const struct tensor *x,
                       const struct tensor *w, const struct tensor *b,
                       const struct tensor *residual);
    void (*linear_gelu_fwd)(struct nn *nn, struct tensor *y, struct tensor *u,
                            const struct tensor *x, const struct tensor *w,
                            const struct tensor *b);
    void (*bias_bwd)(struct nn *nn, struct tensor *db, const struct tensor *dy);
    void (*rmsnorm_bwd)(struct nn *nn, struct tensor *dx, const struct tensor *dy,
                        const struct tensor *x, const struct tensor *rstd,
                        const struct nn_norm *p, enum nn_accum mode);
    void (*layernorm_bwd)(struct nn *nn, struct tensor *dx, const struct tensor *dy,
                          const struct tensor *x, const struct tensor *stats,
                          const struct nn_norm *p, enum nn_accum mode);
    void (*gelu_bwd)(struct nn *nn, struct tensor *dx, struct tensor *y,
                     struct tensor *db, const struct tensor *dy, const struct tensor *x);
    void (*gelu_erf_bwd)(struct nn *nn, struct tensor *dx, struct tensor *y,
                         struct tensor *db, const struct tensor *dy,
                         const struct tensor *x);
    void (*swiglu_bwd)(struct nn *nn, struct tensor *dgu, struct tensor *y,
                       struct tensor *db, const struct tensor *dy,
                       const struct tensor *gu);
    void (*attention_fwd)(struct nn *nn, struct tensor *y, struct tensor *lse,
                          const struct tensor *qkv, const struct nn_attention *a);
    void (*attention_bwd)(struct nn *nn, struct tensor *dqkv, const struct tensor *dy,
                          const struct tensor *y, const struct tensor *lse,
                          const struct tensor *qkv, const struct nn_attention *a);
    void (*attention_part_fwd)(struct nn *nn, struct tensor *y, struct tensor *lse,
                               const struct tensor *qkv, const struct tensor *kv,
                               const struct nn_attention_part *a, bool fresh);
    void (*attention_part_bwd)(struct nn *nn, struct tensor *dq, struct tensor *dkv,
                               const struct tensor *dy, const struct tensor *y,
                               const struct tensor *lse, const struct tensor *qkv,
                               const struct tensor *kv,
                               const struct nn_attention_part *a);
    void (*qk_norm_bwd)(struct nn *nn, struct tensor *dqkv, const struct tensor *raw,
                        const struct tensor *sums, const struct tensor *dots,
                        const struct nn_qk_norm *p);
    void (*attention_decode)(struct nn *nn, struct tensor *y, struct tensor *cache_k,
                             struct tensor *cache_v, const struct tensor *qkv,
                             int64_t length, const struct nn_attention *a);
    void (*embedding_bwd)(struct nn *nn, struct tensor *dwte, struct tensor *dwpe,
                          const struct tensor *dy, const int32_t *tokens,
                          const int32_t *positions, int64_t first_token);
    void (*sum_squares)(struct nn *nn, double *sum, const float *x, int64_t n);

    /* ---- without: not called while measuring ---- */

    void (*bias_add)(struct nn *nn, struct tensor *y, const struct tensor *x,
                     const struct tensor *b);
    void (*rmsnorm_fwd)(struct nn *nn, struct tensor *y, struct tensor *rstd,
                        const struct tensor *x, const struct tensor *residual,
                        const struct nn_norm *p);
    void (*layernorm_fwd)(struct nn *nn, struct tensor *y, struct tensor *stats,
                          const struct tensor *x, const struct tensor *residual,
                          const struct nn_norm *p);
    void (*rope)(struct nn *nn, struct tensor *x, const struct nn_rope *r,
                 float sign); /* +1 turns, -1 turns back */
    void (*gelu_fwd)(struct nn *nn, struct tensor *y, const struct tensor *x);
    void (*gelu_erf_fwd)(struct nn *nn, struct tensor *y, const struct tensor *x);
    void (*qk_norm_sums)(struct nn *nn, struct tensor *sums, struct tensor *raw,
                         const struct tensor *qkv, const struct nn_qk_norm *p);
    void (*qk_norm_fwd)(struct nn *nn, struct tensor *qkv, const struct tensor *raw,
                        const struct tensor *sums, const struct nn_qk_norm *p);
    void (*qk_norm_dots)(struct nn *nn, struct tensor *dots, const struct tensor *dqkv,
                         const struct tensor *raw, const struct nn_qk_norm *p);
    void (*swiglu_fwd)(struct nn *nn, struct tensor *y, const struct tensor *gu);
    void (*embedding_fwd)(struct nn *nn, struct tensor *y, const struct tensor *wte,
                          const struct tensor *wpe, const int32_t *tokens,
                          const int32_t *positions, int64_t first_token);
    /* logits[n,:V] becomes the gradient that nn_cross_entropy has for it, zero where target < 0;
     * with gradient_scale == 0 logits are left alone.  *loss (device memory) is added to.  Rows may
     * be longer than V. */
    void (*softmax_loss)(struct nn *nn, struct nn_loss *loss, struct tensor *logits,
                         int64_t V, const struct nn_loss_rows *rows);
    /* The same of a part of the vocabulary, in two halves.  stats[n] = maximum of the row, sum of
     * exp(x - maximum), the target's logit or -infinity if it is not in this part ... */
    void (*softmax_stats)(struct nn *nn, float *stats, const struct tensor *logits,
                          int64_t V, const int32_t *targets,
                          const struct nn_vocab_slice *slice);
    /* ... and with those of all parts, [count][rows][3], the rest of softmax_loss. */
    void (*softmax_part)(struct nn *nn, struct nn_loss *loss, struct tensor *logits,
                         int64_t V, const struct nn_loss_rows *rows, const float *stats,
                         const struct nn_vocab_slice *slice);
    void (*adamw_update)(struct nn *nn, const struct nn_adamw_range *r,
                         const struct nn_adamw *p);
    void (*cast)(struct nn *nn, struct tensor *y, const struct tensor *x);
    void (*copy_columns)(struct nn *nn, struct tensor *y, int64_t y_col,
                         const struct tensor *x, int64_t x_col, int64_t cols);
    void (*add)(struct nn *nn, struct tensor *y, const struct tensor *x);
};

struct nn_account;

struct nn {
    struct device *device;
    const struct nn_ops *ops; /* for fp32, and for what has no type; on cuda for all */
    const struct nn_ops *ops_bf16; /* on cuda the same */
    void *backend;
    struct nn_account *account; /* NULL: none is kept */
    int n_threads;              /* of the CPU */
    bool measuring;
    struct arena scratch;
    void *scratch_memory;
    size_t scratch_bytes;
};

/* The table for activations and weights of x's type. */
static inline const struct nn_ops *nn_ops_for(const struct nn *nn, const struct tensor *x)
{
    return x->dtype == DTYPE_BF16 ? nn->ops_bf16 : nn->ops;
}

/* Use the tables `isa` ("base", "avx2", "avx512", "avx512bf16", "amx") from now on; false, and nothing
 * changed, if this machine cannot run it.  nn_create chooses the widest; tests compare them all. */
bool nn_force_isa(struct nn *nn, const char *isa);

/* What the wrappers CHECK of a tensor. */
static inline bool nn_is_1d(const struct tensor *x, enum dtype t, int64_t n)
{
    return x->dtype == t && x->n_dims == 1 && x->shape[0] == n;
}

static inline bool nn_is_2d(const struct tensor *x, enum dtype t, int64_t rows,
                            int64_t cols)
{
    return x->dtype == t && x->n_dims == 2 && x->shape[0] == rows && x->shape[1] == cols;
}
