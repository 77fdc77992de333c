/* nn - the operations a transformer is made of, forward and backward, on any device.
 *
 * Letters: B sequences of T tokens, N = B*T rows, C channels, O outputs, F hidden width of the
 * MLP, V vocabulary, H query heads, K key/value heads (K divides H), D head size; dx = dL/dx.
 * Tensors are row-major and contiguous.  Parameter gradients (dw, db) accumulate; activation
 * gradients are assigned, except where a line says "+=".
 *
 * Activations and weights of one call have one type: fp32, or bf16 or fp16 where the device has
 * them (sums are fp32 inside).  Statistics and parameter gradients are fp32 in every precision.
 * All data is in the memory of nn's device, and work is put into its compute queue: a call may
 * return before it is done.
 *
 * Every function is one thin wrapper in <op>.c, which checks shapes, over a row of a table: the
 * CPU's is in <op>_cpu.c, compiled once per instruction set, its CUDA twin in <op>.cu, part of the
 * plug-in.  All are of the step regime: they return void, and a wrong shape dies.
 *
 * Measuring: an nn made by nn_create_measuring takes tensors without data, checks every shape,
 * adds up the scratch it would need, and computes nothing.
 *
 * Results are the same bitwise from run to run for the same number of threads. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/status.h"
#include "core/tensor.h"
#include "device/device.h"

struct nn; /* opaque: a device, its table of operations, its scratch */

/* An nn on `dev` with `n_threads` threads and `scratch_bytes` of scratch (from measuring).
 * dev is borrowed.  STATUS_NOMEM. */
MUST_USE status_t nn_create(struct nn **nn, struct device *dev, int n_threads,
                            size_t scratch_bytes);

/* An nn that only measures what an nn on `dev` with `n_threads` would need.  STATUS_NOMEM. */
MUST_USE status_t nn_create_measuring(struct nn **nn, struct device *dev, int n_threads);
void nn_destroy(struct nn **nn); /* NULL-safe; nulls */

bool nn_is_measuring(const struct nn *nn);
size_t
nn_scratch_peak_bytes(const struct nn *nn); /* largest scratch of any call so far */
int nn_threads(const struct nn *nn);
struct device *nn_device(const struct nn *nn);
/* What the operations of a type are compiled for: "base", "avx2", "avx512", "avx512bf16", "amx";
 * "sm_90". */
const char *nn_isa(const struct nn *nn, enum dtype t);
/* What this CPU multiplies bf16 with: "AMX", "AVX512-BF16"; NULL: nothing, fp32 is faster. */
const char *nn_cpu_bf16(void);

/* Whether every nn that is created from now on multiplies fp32 out of three numbers of bf16 each, which
 * CPUs with AMX can and which is as exact (gemm_bf16x6.c), or by multiply-adds, as at first.  False: this
 * CPU cannot.  Not thread-safe. */
bool nn_use_bf16x6(bool on);
/* Times products of both kinds on the calling thread, for some 50 ms; true: bf16x6 is a fifth faster or
 * more. */
bool nn_bf16x6_pays(void);

/* ---- account.c: where the time goes ------------------------------------------------------- */

/* What one operation took: of products those of one kind and shape, of others all. */
struct nn_account_entry {
    const char *name;              /* NN_ACCOUNT_..., or the operation's; static */
    int64_t rows, outputs, inputs; /* N, O, C of a product with a weight [O, C]; else 0 */
    double seconds, bytes; /* of tensors and ranges that it reads or writes, each once */
    int64_t calls;
};
/* Products with weights: forward (with what it does in passing), gradients of x and of w. */
#define NN_ACCOUNT_FORWARD "forward"
#define NN_ACCOUNT_DX      "dx"
#define NN_ACCOUNT_DW      "dw"
enum { NN_ACCOUNT_MAX = 128 };

/* Keep account from now until the end; a device is waited for at every operation, so nothing may be
 * recorded meanwhile.  STATUS_NOMEM. */
MUST_USE status_t nn_account_begin(struct nn *nn);
void nn_account_end(struct nn *nn); /* no-op where none is kept */
/* So far, in the order of their first calls; nn's, until the end.  Returns how many: 0 where none is
 * kept. */
int nn_account_entries(const struct nn *nn, const struct nn_account_entry **entries);

/* ---- matmul.c: matrix product ----------------------------------------------------------- */

enum nn_accum { NN_ASSIGN, NN_ACCUM }; /* y = ..., y += ... */

/* y[N,O] = x[N,C] w[O,C]^T      forward of a linear layer */
void nn_matmul_nt(struct nn *nn, struct tensor *y, const struct tensor *x,
                  const struct tensor *w, enum nn_accum mode);
/* dx[N,C] = dy[N,O] w[O,C]      its activation gradient */
void nn_matmul_nn(struct nn *nn, struct tensor *dx, const struct tensor *dy,
                  const struct tensor *w, enum nn_accum mode);
/* dw[O,C] = dy[N,O]^T x[N,C]    its weight gradient */
void nn_matmul_tn(struct nn *nn, struct tensor *dw, const struct tensor *dy,
                  const struct tensor *x, enum nn_accum mode);

/* ---- linear.c: a product and what goes with it in one pass -------------------------------- */

/* y = x w^T + b + residual; b and residual may be NULL.  y, residual: [N,O], x: [N,C], w: [O,C],
 * b: [O]; y must not overlap residual. */
void nn_linear_fwd(struct nn *nn, struct tensor *y, const struct tensor *x,
                   const struct tensor *w, const struct tensor *b,
                   const struct tensor *residual);
/* u = x w^T + b, y = gelu(u); b may be NULL.  y, u: [N,O] */
void nn_linear_gelu_fwd(struct nn *nn, struct tensor *y, struct tensor *u,
                        const struct tensor *x, const struct tensor *w,
                        const struct tensor *b);

/* ---- bias.c ----------------------------------------------------------------------------- */

/* y[n,:] = x[n,:] + b; b may be NULL (a copy).  y may be x.  y, x: [N,O], b: [O] */
void nn_bias_add(struct nn *nn, struct tensor *y, const struct tensor *x,
                 const struct tensor *b);
/* db[O] += sum_n dy[n,:] */
void nn_bias_bwd(struct nn *nn, struct tensor *db, const struct tensor *dy);

/* ---- rmsnorm.c, layernorm.c ------------------------------------------------------------- */

/* One normalisation layer's parameters.  b and db are NULL for RMSNorm. */
struct nn_norm {
    float eps;
    struct tensor *w, *b;   /* [C] */
    struct tensor *dw, *db; /* [C], may be NULL in forward */
};

/* RMSNorm (Zhang and Sennrich 2019, arXiv:1910.07467, equation 4):
 *   rstd = 1/sqrt(mean(x^2) + eps)      y = x * rstd * w + residual
 * y, x, residual: [N,C]; residual may be NULL, y must not overlap it; rstd: [N], kept for
 * backward. */
void nn_rmsnorm_fwd(struct nn *nn, struct tensor *y, struct tensor *rstd,
                    const struct tensor *x, const struct tensor *residual,
                    const struct nn_norm *p);
/*   g = dy * w      dx = rstd * (g - x * rstd^2 * mean(g * x))      dw += sum_n dy * x * rstd
 * NN_ACCUM: dx +=, which is what the residual stream's gradient needs. */
void nn_rmsnorm_bwd(struct nn *nn, struct tensor *dx, const struct tensor *dy,
                    const struct tensor *x, const struct tensor *rstd,
                    const struct nn_norm *p, enum nn_accum mode);

/* LayerNorm (Ba et al. 2016, arXiv:1607.06450, section 3):
 *   xhat = (x - mean) * rstd, rstd = 1/sqrt(var + eps)      y = xhat * w + b + residual
 * stats: [N,2] = mean, rstd; residual as above. */
void nn_layernorm_fwd(struct nn *nn, struct tensor *y, struct tensor *stats,
                      const struct tensor *x, const struct tensor *residual,
                      const struct nn_norm *p);
/*   g = dy * w      dx = rstd * (g - mean(g) - xhat * mean(g * xhat)), or dx +=
 *   dw += sum_n dy * xhat      db += sum_n dy */
void nn_layernorm_bwd(struct nn *nn, struct tensor *dx, const struct tensor *dy,
                      const struct tensor *x, const struct tensor *stats,
                      const struct nn_norm *p, enum nn_accum mode);

/* ---- rope.c: rotary positions ----------------------------------------------------------- */

/* (Su et al. 2021, arXiv:2104.09864, section 3.2; "rotate-half" pairing: i with i + R/2.)
 * The first R = 2 * half dims of each of the first n_heads heads of a row are turned by the
 * angle of the row's position; the rest of the row is left alone. */
struct nn_rope {
    int64_t n_heads, head_size, half;
    const float *table; /* [positions, half, 2]: cos, sin; nn_rope_table fills it */
    int64_t n_positions;
    const int32_t *positions; /* [N], each in [0, n_positions) */
};

/* frequencies[i] = theta^(-i/half), i < half */
void nn_rope_frequencies(double *frequencies, int64_t half, double theta);
/* Fill table[n_positions, half, 2] with cos and sin of angle(p, i) = p * frequencies[i], times
 * `scale`.  Host memory. */
void nn_rope_table(float *table, int64_t n_positions, int64_t half,
                   const double *frequencies, double scale);
/* In place on x: [N, W], W >= n_heads * head_size. */
void nn_rope_fwd(struct nn *nn, struct tensor *x, const struct nn_rope *r);
void nn_rope_bwd(struct nn *nn, struct tensor *dx, const struct nn_rope *r);

/* ---- qk_norm.c: RMSNorm of queries and keys over all heads ------------------------------- */

/* (OLMo 2: Team OLMo et al. 2025, arXiv:2501.00656, section 3.1.)  A row of qkv begins with q
 * columns of queries and k of keys, of which there may be more on other ranks, as q_width and
 * k_width of the whole model say: the caller adds up over ranks what the sums say.  The first
 * k_others key columns are another rank's as well, and are its to count. */
struct nn_qk_norm {
    int64_t q, k, k_others, q_width, k_width;
    float eps;
    const struct tensor *w; /* [q + k] */
    struct tensor *dw;      /* [q + k], may be NULL in forward */
};

/* raw = the q + k columns of qkv; sums[n] = the sum of squares of its queries, of its keys.
 * raw: [N, q+k]; sums: [N,2] fp32; qkv: [N,W], W >= q + k */
void nn_qk_norm_sums(struct nn *nn, struct tensor *sums, struct tensor *raw,
                     const struct tensor *qkv, const struct nn_qk_norm *p);
/* With the sums over ranks, rstd = 1/sqrt(sum / width + eps):   qkv = raw * rstd * w */
void nn_qk_norm_fwd(struct nn *nn, struct tensor *qkv, const struct tensor *raw,
                    const struct tensor *sums, const struct nn_qk_norm *p);
/* dots[n] = sum of dqkv * w * raw over its queries, over its keys, all of them.  dots: [N,2] fp32 */
void nn_qk_norm_dots(struct nn *nn, struct tensor *dots, const struct tensor *dqkv,
                     const struct tensor *raw, const struct nn_qk_norm *p);
/* With the sums of dots over ranks, in place:   dw += sum_n dy * raw * rstd
 *   dqkv = rstd * (dy * w - raw * rstd^2 * dot / width), the second term where it is ours */
void nn_qk_norm_bwd(struct nn *nn, struct tensor *dqkv, const struct tensor *raw,
                    const struct tensor *sums, const struct tensor *dots,
                    const struct nn_qk_norm *p);

/* ---- attention.c ------------------------------------------------------------------------ */

/* Causal attention over packed documents, tiled so that T x T is never held
 * (Dao 2023, arXiv:2307.08691, algorithms 1 and 2).  Row i of a sequence sees rows
 * doc_start[i] <= j <= i.  Query head h uses key/value head h / (H/K).
 *   S = scale q k^T      P = softmax(S)      y = P v */
struct nn_attention {
    int64_t B, T, H, K, D;
    float scale;
    const int32_t *doc_start; /* [N], row index inside the sequence; NULL: 0 everywhere */
    /* Query heads [first, first + H) counted from a kv head's first, of which each kv head has
     * `group`: head h uses kv head (h + first) / group, and K are needed.  group 0: H / K, 0. */
    int64_t group, first;
};

/* y: [N, H*D]; lse: [B*H, T] log-sum-exp of S, kept for backward;
 * qkv: [N, (H + 2K) * D], a row is q heads, then k heads, then v heads. */
void nn_attention_fwd(struct nn *nn, struct tensor *y, struct tensor *lse,
                      const struct tensor *qkv, const struct nn_attention *a);
/*   delta = rowsum(dy * y)    dv = P^T dy    dS = P * (dy v^T - delta)
 *   dq = scale dS k           dk = scale dS^T q          dqkv as qkv, assigned */
void nn_attention_bwd(struct nn *nn, struct tensor *dqkv, const struct tensor *dy,
                      const struct tensor *y, const struct tensor *lse,
                      const struct tensor *qkv, const struct nn_attention *a);

/* ---- attention_part.c: keys and values in parts ------------------------------------------ */

/* Row i of sequence b sees the part's rows [low, high) of its sequence, which may be none; neither
 * decreases along the rows of a sequence. */
struct nn_attention_part {
    int64_t B, H, K, D;
    int64_t group, first; /* as above, never 0 */
    int64_t Tq, Tk;       /* rows of a sequence in q, in the part */
    float scale;
    const int32_t *low, *high; /* [B * Tq], device memory */
};

/* Attention to what was seen in earlier parts and to this one: y and lse, both fp32, go on from
 * where they are, from nothing if `fresh`.  A row that has seen nothing: y = 0, lse = -infinity.
 * y: [B*Tq, H*D]; lse: [B*H, Tq]; qkv: [B*Tq, (H + 2K) * D], of which q is read;
 * kv: [B*Tk, 2K * D], k heads, then v heads. */
void nn_attention_part_fwd(struct nn *nn, struct tensor *y, struct tensor *lse,
                           const struct tensor *qkv, const struct tensor *kv,
                           const struct nn_attention_part *a, bool fresh);
/* This part's share of the gradients, from y and lse over all parts; y, dy in qkv's type.
 * dq: [B*Tq, H*D] fp32, +=; dkv: [B*Tk, 2K * D] fp32, assigned. */
void nn_attention_part_bwd(struct nn *nn, struct tensor *dq, struct tensor *dkv,
                           const struct tensor *dy, const struct tensor *y,
                           const struct tensor *lse, const struct tensor *qkv,
                           const struct tensor *kv, const struct nn_attention_part *a);

/* One more token of each of B sequences against a cache of what was before.
 * y: [B, H*D]; qkv: [B, (H + 2K) * D] of the new token; cache_k, cache_v: [B * max_T, K*D];
 * length: rows already in each cache, the new row is appended at [length]; length < max_T.
 * A cache holds one document: a->doc_start must be NULL. */
void nn_attention_decode(struct nn *nn, struct tensor *y, struct tensor *cache_k,
                         struct tensor *cache_v, const struct tensor *qkv, int64_t length,
                         const struct nn_attention *a); /* a->T = max_T */

/* ---- gelu.c, swiglu.c ------------------------------------------------------------------- */

/* Backward gives, in the same pass, what else is to be had of it: y, made again so that nobody has
 * to keep it, and db += sum_n dx[n,:], the gradient of a bias that x has in it.  Either may be
 * NULL.  dx, dy, y, x: [N,F]; db: [F].
 *
 * GELU, tanh form (Hendrycks and Gimpel 2016, arXiv:1606.08415, section 2):
 *   y = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) */
void nn_gelu_fwd(struct nn *nn, struct tensor *y, const struct tensor *x);
void nn_gelu_bwd(struct nn *nn, struct tensor *dx, struct tensor *y, struct tensor *db,
                 const struct tensor *dy, const struct tensor *x); /* dx may be dy */

/* GELU itself (section 2):   y = x Phi(x) = x/2 erfc(-x/sqrt(2)) */
void nn_gelu_erf_fwd(struct nn *nn, struct tensor *y, const struct tensor *x);
void nn_gelu_erf_bwd(struct nn *nn, struct tensor *dx, struct tensor *y,
                     struct tensor *db, const struct tensor *dy,
                     const struct tensor *x); /* dx may be dy */

/* SwiGLU (Shazeer 2020, arXiv:2002.05202, equation 6): gu[N,2F] = gate | up
 *   y = gate * sigmoid(gate) * up                  y: [N,F]; db: [2F] */
void nn_swiglu_fwd(struct nn *nn, struct tensor *y, const struct tensor *gu);
void nn_swiglu_bwd(struct nn *nn, struct tensor *dgu, struct tensor *y, struct tensor *db,
                   const struct tensor *dy, const struct tensor *gu);

/* ---- embedding.c ------------------------------------------------------------------------ */

enum { NN_ALL_TOKENS = -1 };

/* y[n,:] = wte[tokens[n],:] + wpe[positions[n],:]; wpe may be NULL.
 * y: [N,C], wte: [V,C], wpe: [P,C]; tokens, positions: [N].
 * first_token: wte holds the rows of tokens [first_token, first_token + V) of a larger vocabulary,
 * and all others count as rows of zeros; NN_ALL_TOKENS: every token must be in it. */
void nn_embedding_fwd(struct nn *nn, struct tensor *y, const struct tensor *wte,
                      const struct tensor *wpe, const int32_t *tokens,
                      const int32_t *positions, int64_t first_token);
/* dwte[tokens[n],:] += dy[n,:], dwpe[positions[n],:] += dy[n,:]; dwpe may be NULL.  Tokens that
 * dwte has no row for add to none. */
void nn_embedding_bwd(struct nn *nn, struct tensor *dwte, struct tensor *dwpe,
                      const struct tensor *dy, const int32_t *tokens,
                      const int32_t *positions, int64_t first_token);

/* ---- cross_entropy.c: LM head and loss in one ------------------------------------------- */

struct nn_loss {
    double sum;   /* sum over counted rows of -log softmax(x w^T)[target] */
    double z_sum; /* of lse^2, lse = log sum exp(x w^T); untouched without a z-loss */
    int64_t n_targets; /* counted rows: those with target >= 0 */
};

/* What a chunk of rows of logits needs to become losses and gradients; in device memory. */
struct nn_loss_rows {
    const int32_t *targets; /* [N] */
    float *loss;            /* [N] assigned, 0 where target < 0 */
    float *square;          /* [N] the same of lse^2; NULL without a z-loss */
    float gradient_scale, z_loss;
};

/* A part of the vocabulary: each of `count` ranks has one and calls with the same x and targets. */
struct nn_vocab_slice {
    int64_t first;      /* token of w's first row */
    int64_t vocab_size; /* of all parts together */
    int index, count;   /* this part among all */
    /* stats[count][rows][3], fp32 in device memory: block `index` is set by work in the compute
     * queue, and work queued after the call finds all of them */
    void (*gather)(void *context, float *stats, int64_t rows);
    void *context;
};

/* logits = x w^T are made for a chunk of rows at a time, turned into their own gradient in
 * place, and used up: [N,V] is never held.  The gradient is that of
 *   gradient_scale * (sum + z_loss * z_sum)
 * which is gradient_scale * (softmax (1 + 2 z_loss lse) - onehot) for a row of logits.  The second
 * term keeps lse near 0 (Chowdhery et al. 2022, arXiv:2204.02311, section 5); z_loss 0: none.
 * x: [N,C]; w: [V,C]; targets: [N], -1 = not counted.
 * dx: [N,C] assigned, dw: [V,C] accumulates; both NULL: loss only.
 * *loss, in device memory, is added to.  row_loss: [N] or NULL, 0 for rows that are not counted.
 * slice: w is only that part of the vocabulary: maximum and sum of a row are put together from those
 * of all parts, so that logits stay where they are.  Losses are those of the whole vocabulary, the
 * same on all ranks; dx is this part's term of the sum that makes the gradient.  NULL: w is all. */
void nn_cross_entropy(struct nn *nn, struct nn_loss *loss, float *row_loss,
                      struct tensor *dx, struct tensor *dw, const struct tensor *x,
                      const struct tensor *w, const int32_t *targets,
                      float gradient_scale, float z_loss,
                      const struct nn_vocab_slice *slice);
/* Rows of logits that it takes at a time, of N, with V of the vocabulary in w. */
int64_t nn_cross_entropy_rows(const struct nn *nn, int64_t N, int64_t V, enum dtype t);

/* ---- adamw_update.c, sum_squares.c, cast.c: on flat ranges -------------------------------- */

enum nn_rounding { NN_ROUND_NEAREST, NN_ROUND_STOCHASTIC };

/* What an update reads and writes; every array is [n]. */
struct nn_adamw_range {
    float *w, *m, *v; /* fp32 master weights and moments */
    float *grad;      /* zero afterwards; NULL: w, m, v stay, only low is made */
    /* the rounded copy that forward and backward use; NULL where w itself is used */
    void *low;
    enum dtype low_type; /* DTYPE_BF16 or DTYPE_F16 */
    enum nn_rounding rounding;
    uint64_t key;  /* of the random bits of stochastic rounding, ... */
    int64_t start; /* ... which are a function of key and flat index start + i alone */
    int64_t n;
};

/* AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2), for i < n:
 *   g = grad_scale * grad     m = b1 m + (1-b1) g     v = b2 v + (1-b2) g^2
 *   w -= lr * ((m / c1) / (sqrt(v / c2) + eps) + weight_decay * w)
 * with c1 = 1 - b1^t, c2 = 1 - b2^t; then grad = 0, low = round(w).  Stochastic rounding (bf16 only) adds 16
 * uniform random bits below the kept ones and cuts: its expectation is w (Gupta et al. 2015,
 * arXiv:1502.02551, section 3.2).  The bits of element i are those 16 of
 * rng_u64(key, (start + i) / 4) that begin at bit 16 * ((start + i) mod 4). */
enum { NN_ADAMW_BYTES = 32 }; /* that it reads and writes of an element, without low */
struct nn_adamw {
    float lr, beta1, beta2, eps, weight_decay, c1, c2, grad_scale;
};
void nn_adamw_update(struct nn *nn, const struct nn_adamw_range *r,
                     const struct nn_adamw *p);

/* *sum, in device memory, += sum of x[i]^2 in double, in an order that does not depend on the
 * number of threads */
void nn_sum_squares(struct nn *nn, double *sum, const float *x, int64_t n);

/* y = x in y's type, rounded to nearest even; same shape */
void nn_cast(struct nn *nn, struct tensor *y, const struct tensor *x);

/* ---- columns.c, add.c --------------------------------------------------------------------- */

/* y[n, y_col + c] = x[n, x_col + c] for c < cols, in y's type.  y, x: 2-d, equally many rows. */
void nn_copy_columns(struct nn *nn, struct tensor *y, int64_t y_col,
                     const struct tensor *x, int64_t x_col, int64_t cols);
/* y += x, of one type and as many elements, any shape */
void nn_add(struct nn *nn, struct tensor *y, const struct tensor *x);
