/* The table of the CUDA device, the plug-in's "nn_cuda_ops": every row unpacks its tensors, takes
 * the scratch that its kernel asks for, and queues the kernel.  Matrix products: linear_cuda.c. */
#include "nn/ops_cuda.h"

#include <stdio.h>
#include <stdlib.h>

#include "device/device_cuda.h"
#include "nn/attention_cudnn.h"
#include "nn/backend_cuda.h"
#include "nn/matmul_cuda.h"

static int64_t rows_of(const struct tensor *x)
{
    return x->shape[0];
}

static int64_t cols_of(const struct tensor *x)
{
    return x->shape[1];
}

static cudaStream_t stream_of(const struct nn *nn)
{
    return backend_cuda(nn)->stream;
}

/* ---- life --------------------------------------------------------------------------------- */

static void close_backend(struct nn *nn)
{
    struct backend_cuda *b = nn->backend;
    if (!b) return;
    matmul_cuda_destroy(&b->matmul);
    nn->ops = &nn_cuda_ops; /* the copy ends with the backend */
    nn->backend = NULL;
    free(b);
}

static status_t open_backend(struct nn *nn)
{
    struct backend_cuda *b = calloc(1, sizeof *b);
    if (!b) return status_set(STATUS_NOMEM, "no memory for the state of CUDA operations");
    b->ops = nn_cuda_ops;
    b->ops.isa = b->isa;
    b->capability = device_cuda_capability(nn->device);
    b->stream = device_cuda_stream(nn->device, DEVICE_COMPUTE);
    snprintf(b->isa, sizeof b->isa, "sm_%d", b->capability);
    nn->backend = b;
    nn->ops = &b->ops;
    if (nn->measuring) return STATUS_OK;
    const status_t st = matmul_cuda_create(&b->matmul);
    if (st != STATUS_OK) close_backend(nn);
    return st;
}

/* ---- with scratch ------------------------------------------------------------------------- */

static void bias_bwd(struct nn *nn, struct tensor *db, const struct tensor *dy)
{
    const int64_t N = rows_of(dy), O = cols_of(dy);
    const size_t mark = arena_mark(&nn->scratch);
    float *partial = arena_floats(&nn->scratch, cuda_bias_bwd_floats(N, O));
    if (!nn->measuring)
        cuda_bias_bwd(stream_of(nn), dy->dtype, tensor_f32(db), partial, dy->data, N, O);
    arena_rewind(&nn->scratch, mark);
}

/* The kernels of norms add to dx. */
static void start(struct nn *nn, const struct tensor *dx, enum nn_accum mode)
{
    if (!nn->measuring && mode == NN_ASSIGN)
        device_zero(nn->device, dx->data, tensor_bytes(dx));
}

static void rmsnorm_bwd(struct nn *nn, struct tensor *dx, const struct tensor *dy,
                        const struct tensor *x, const struct tensor *rstd,
                        const struct nn_norm *p, enum nn_accum mode)
{
    const int64_t N = rows_of(x), C = cols_of(x);
    const size_t mark = arena_mark(&nn->scratch);
    float *partial = arena_floats(&nn->scratch, cuda_rmsnorm_bwd_floats(N, C));
    start(nn, dx, mode);
    if (!nn->measuring)
        cuda_rmsnorm_bwd(stream_of(nn), x->dtype, dx->data, tensor_f32(p->dw), partial,
                         dy->data, x->data, tensor_f32(rstd), p->w->data, N, C);
    arena_rewind(&nn->scratch, mark);
}

static void layernorm_bwd(struct nn *nn, struct tensor *dx, const struct tensor *dy,
                          const struct tensor *x, const struct tensor *stats,
                          const struct nn_norm *p, enum nn_accum mode)
{
    const int64_t N = rows_of(x), C = cols_of(x);
    const size_t mark = arena_mark(&nn->scratch);
    float *partial = arena_floats(&nn->scratch, cuda_layernorm_bwd_floats(N, C));
    start(nn, dx, mode);
    if (!nn->measuring)
        cuda_layernorm_bwd(stream_of(nn), x->dtype, dx->data, tensor_f32(p->dw),
                           tensor_f32(p->db), partial, dy->data, x->data,
                           tensor_f32(stats), p->w->data, N, C);
    arena_rewind(&nn->scratch, mark);
}

static void gelu_bwd(struct nn *nn, struct tensor *dx, struct tensor *y,
                     struct tensor *db, const struct tensor *dy, const struct tensor *x)
{
    if (!nn->measuring)
        cuda_gelu_bwd(stream_of(nn), x->dtype, dx->data, y ? y->data : NULL, dy->data,
                      x->data, tensor_elements(x));
    if (db) bias_bwd(nn, db, dx);
}

static void gelu_erf_bwd(struct nn *nn, struct tensor *dx, struct tensor *y,
                         struct tensor *db, const struct tensor *dy,
                         const struct tensor *x)
{
    if (!nn->measuring)
        cuda_gelu_erf_bwd(stream_of(nn), x->dtype, dx->data, y ? y->data : NULL, dy->data,
                          x->data, tensor_elements(x));
    if (db) bias_bwd(nn, db, dx);
}

static void swiglu_bwd(struct nn *nn, struct tensor *dgu, struct tensor *y,
                       struct tensor *db, const struct tensor *dy,
                       const struct tensor *gu)
{
    if (!nn->measuring)
        cuda_swiglu_bwd(stream_of(nn), gu->dtype, dgu->data, y ? y->data : NULL, dy->data,
                        gu->data, rows_of(dy), cols_of(dy));
    if (db) bias_bwd(nn, db, dgu);
}

static void qk_norm_bwd(struct nn *nn, struct tensor *dqkv, const struct tensor *raw,
                        const struct tensor *sums, const struct tensor *dots,
                        const struct nn_qk_norm *p)
{
    const int64_t N = rows_of(raw);
    const size_t mark = arena_mark(&nn->scratch);
    float *partial = arena_floats(&nn->scratch, cuda_qk_norm_bwd_floats(N, cols_of(raw)));
    if (!nn->measuring)
        cuda_qk_norm_bwd(stream_of(nn), dqkv->dtype, dqkv->data, partial, raw->data,
                         tensor_f32(sums), tensor_f32(dots), N, cols_of(dqkv), p);
    arena_rewind(&nn->scratch, mark);
}

static void attention_fwd(struct nn *nn, struct tensor *y, struct tensor *lse,
                          const struct tensor *qkv, const struct nn_attention *a)
{
    if (attention_cudnn_fwd(nn, y, lse, qkv, a)) return;
    const size_t mark = arena_mark(&nn->scratch);
    float *scratch = arena_floats(&nn->scratch, cuda_attention_fwd_floats(qkv->dtype, a));
    if (!nn->measuring)
        cuda_attention_fwd(stream_of(nn), qkv->dtype, y->data, tensor_f32(lse), scratch,
                           qkv->data, a);
    arena_rewind(&nn->scratch, mark);
}

static void attention_bwd(struct nn *nn, struct tensor *dqkv, const struct tensor *dy,
                          const struct tensor *y, const struct tensor *lse,
                          const struct tensor *qkv, const struct nn_attention *a)
{
    if (attention_cudnn_bwd(nn, dqkv, dy, y, lse, qkv, a)) return;
    const size_t mark = arena_mark(&nn->scratch);
    float *scratch = arena_floats(&nn->scratch, cuda_attention_bwd_floats(qkv->dtype, a));
    if (!nn->measuring)
        cuda_attention_bwd(stream_of(nn), qkv->dtype, dqkv->data, scratch, dy->data,
                           y->data, tensor_f32(lse), qkv->data, a);
    arena_rewind(&nn->scratch, mark);
}

static void attention_part_fwd(struct nn *nn, struct tensor *y, struct tensor *lse,
                               const struct tensor *qkv, const struct tensor *kv,
                               const struct nn_attention_part *a, bool fresh)
{
    if (!nn->measuring)
        cuda_attention_part_fwd(stream_of(nn), qkv->dtype, tensor_f32(y), tensor_f32(lse),
                                qkv->data, kv->data, a, fresh);
}

static void attention_part_bwd(struct nn *nn, struct tensor *dq, struct tensor *dkv,
                               const struct tensor *dy, const struct tensor *y,
                               const struct tensor *lse, const struct tensor *qkv,
                               const struct tensor *kv, const struct nn_attention_part *a)
{
    const size_t mark = arena_mark(&nn->scratch);
    float *scratch = arena_floats(&nn->scratch, cuda_attention_part_bwd_floats(a));
    if (!nn->measuring)
        cuda_attention_part_bwd(stream_of(nn), qkv->dtype, tensor_f32(dq),
                                tensor_f32(dkv), scratch, dy->data, y->data,
                                tensor_f32(lse), qkv->data, kv->data, a);
    arena_rewind(&nn->scratch, mark);
}

static void attention_decode(struct nn *nn, struct tensor *y, struct tensor *cache_k,
                             struct tensor *cache_v, const struct tensor *qkv,
                             int64_t length, const struct nn_attention *a)
{
    const size_t mark = arena_mark(&nn->scratch);
    float *scratch = arena_floats(&nn->scratch, cuda_attention_decode_floats(a));
    if (!nn->measuring)
        cuda_attention_decode(stream_of(nn), qkv->dtype, y->data, cache_k->data,
                              cache_v->data, scratch, qkv->data, length, a);
    arena_rewind(&nn->scratch, mark);
}

static void embedding_bwd(struct nn *nn, struct tensor *dwte, struct tensor *dwpe,
                          const struct tensor *dy, const int32_t *tokens,
                          const int32_t *positions, int64_t first_token)
{
    const int64_t N = rows_of(dy), C = cols_of(dy);
    const int64_t V = rows_of(dwte), P = dwpe ? rows_of(dwpe) : 0;
    const size_t mark = arena_mark(&nn->scratch);
    const int64_t ints = cuda_embedding_bwd_ints(N, V, P);
    int32_t *scratch = arena_alloc(&nn->scratch, (size_t)ints * sizeof *scratch);
    if (!nn->measuring)
        cuda_embedding_bwd(stream_of(nn), dy->dtype, tensor_f32(dwte),
                           dwpe ? tensor_f32(dwpe) : NULL, scratch, dy->data, tokens,
                           positions, N, C, V, P, first_token);
    arena_rewind(&nn->scratch, mark);
}

static void sum_squares(struct nn *nn, double *sum, const float *x, int64_t n)
{
    const size_t mark = arena_mark(&nn->scratch);
    const int64_t doubles = cuda_sum_squares_doubles(n);
    double *partial = arena_alloc(&nn->scratch, (size_t)doubles * sizeof *partial);
    if (!nn->measuring) cuda_sum_squares(stream_of(nn), sum, partial, x, n);
    arena_rewind(&nn->scratch, mark);
}

/* ---- without ------------------------------------------------------------------------------ */

static void bias_add(struct nn *nn, struct tensor *y, const struct tensor *x,
                     const struct tensor *b)
{
    cuda_bias_add(stream_of(nn), y->dtype, y->data, x->data, b ? b->data : NULL,
                  rows_of(y), cols_of(y));
}

static void add(struct nn *nn, struct tensor *y, const struct tensor *x)
{
    cuda_add(stream_of(nn), x->dtype, y->data, x->data, tensor_elements(y));
}

static void rmsnorm_fwd(struct nn *nn, struct tensor *y, struct tensor *rstd,
                        const struct tensor *x, const struct tensor *residual,
                        const struct nn_norm *p)
{
    cuda_rmsnorm_fwd(stream_of(nn), x->dtype, y->data, tensor_f32(rstd), x->data,
                     p->w->data, p->eps, rows_of(x), cols_of(x));
    if (residual) add(nn, y, residual);
}

static void layernorm_fwd(struct nn *nn, struct tensor *y, struct tensor *stats,
                          const struct tensor *x, const struct tensor *residual,
                          const struct nn_norm *p)
{
    cuda_layernorm_fwd(stream_of(nn), x->dtype, y->data, tensor_f32(stats), x->data,
                       p->w->data, p->b->data, p->eps, rows_of(x), cols_of(x));
    if (residual) add(nn, y, residual);
}

static void rope(struct nn *nn, struct tensor *x, const struct nn_rope *r, float sign)
{
    cuda_rope(stream_of(nn), x->dtype, x->data, rows_of(x), cols_of(x), r, sign);
}

static void gelu_fwd(struct nn *nn, struct tensor *y, const struct tensor *x)
{
    cuda_gelu_fwd(stream_of(nn), x->dtype, y->data, x->data, tensor_elements(x));
}

static void gelu_erf_fwd(struct nn *nn, struct tensor *y, const struct tensor *x)
{
    cuda_gelu_erf_fwd(stream_of(nn), x->dtype, y->data, x->data, tensor_elements(x));
}

static void qk_norm_sums(struct nn *nn, struct tensor *sums, struct tensor *raw,
                         const struct tensor *qkv, const struct nn_qk_norm *p)
{
    cuda_qk_norm_sums(stream_of(nn), qkv->dtype, tensor_f32(sums), raw->data, qkv->data,
                      rows_of(raw), cols_of(qkv), p);
}

static void qk_norm_fwd(struct nn *nn, struct tensor *qkv, const struct tensor *raw,
                        const struct tensor *sums, const struct nn_qk_norm *p)
{
    cuda_qk_norm_fwd(stream_of(nn), qkv->dtype, qkv->data, raw->data, tensor_f32(sums),
                     rows_of(raw), cols_of(qkv), p);
}

static void qk_norm_dots(struct nn *nn, struct tensor *dots, const struct tensor *dqkv,
                         const struct tensor *raw, const struct nn_qk_norm *p)
{
    cuda_qk_norm_dots(stream_of(nn), dqkv->dtype, tensor_f32(dots), dqkv->data, raw->data,
                      rows_of(raw), cols_of(dqkv), p);
}

static void swiglu_fwd(struct nn *nn, struct tensor *y, const struct tensor *gu)
{
    cuda_swiglu_fwd(stream_of(nn), gu->dtype, y->data, gu->data, rows_of(y), cols_of(y));
}

static void embedding_fwd(struct nn *nn, struct tensor *y, const struct tensor *wte,
                          const struct tensor *wpe, const int32_t *tokens,
                          const int32_t *positions, int64_t first_token)
{
    cuda_embedding_fwd(stream_of(nn), y->dtype, y->data, wte->data,
                       wpe ? wpe->data : NULL, tokens, positions, rows_of(y), cols_of(y),
                       first_token < 0 ? 0 : first_token, rows_of(wte));
}

static void softmax_loss(struct nn *nn, struct nn_loss *loss, struct tensor *logits,
                         int64_t V, const struct nn_loss_rows *rows)
{
    const int64_t N = rows_of(logits);
    cuda_softmax_loss(stream_of(nn), logits->dtype, logits->data, rows, N, V,
                      cols_of(logits));
    cuda_loss_add(stream_of(nn), loss, rows, N);
}

static void softmax_stats(struct nn *nn, float *stats, const struct tensor *logits,
                          int64_t V, const int32_t *targets,
                          const struct nn_vocab_slice *slice)
{
    cuda_softmax_stats(stream_of(nn), logits->dtype, stats, logits->data, targets,
                       rows_of(logits), V, cols_of(logits), slice->first);
}

static void softmax_part(struct nn *nn, struct nn_loss *loss, struct tensor *logits,
                         int64_t V, const struct nn_loss_rows *rows, const float *stats,
                         const struct nn_vocab_slice *slice)
{
    const int64_t N = rows_of(logits);
    cuda_softmax_part(stream_of(nn), logits->dtype, logits->data, rows, stats, N, V,
                      cols_of(logits), slice->first, slice->count);
    cuda_loss_add(stream_of(nn), loss, rows, N);
}

static void adamw_update(struct nn *nn, const struct nn_adamw_range *r,
                         const struct nn_adamw *p)
{
    cuda_adamw_update(stream_of(nn), r, p);
}

static void cast(struct nn *nn, struct tensor *y, const struct tensor *x)
{
    cuda_cast(stream_of(nn), y->data, y->dtype, x->data, x->dtype, tensor_elements(x));
}

static void copy_columns(struct nn *nn, struct tensor *y, int64_t y_col,
                         const struct tensor *x, int64_t x_col, int64_t cols)
{
    const size_t yb = dtype_bytes(y->dtype), xb = dtype_bytes(x->dtype);
    cuda_copy_columns(stream_of(nn), (char *)y->data + (size_t)y_col * yb, y->dtype,
                      cols_of(y), (const char *)x->data + (size_t)x_col * xb, x->dtype,
                      cols_of(x), rows_of(y), cols);
}

const struct nn_ops nn_cuda_ops = {
    .isa = "cuda",
    .open = open_backend,
    .close = close_backend,
    .matmul = matmul_cuda_row,
    .linear_fwd = linear_cuda_fwd,
    .linear_gelu_fwd = linear_gelu_cuda_fwd,
    .bias_bwd = bias_bwd,
    .rmsnorm_bwd = rmsnorm_bwd,
    .layernorm_bwd = layernorm_bwd,
    .gelu_bwd = gelu_bwd,
    .gelu_erf_bwd = gelu_erf_bwd,
    .swiglu_bwd = swiglu_bwd,
    .attention_fwd = attention_fwd,
    .attention_bwd = attention_bwd,
    .attention_part_fwd = attention_part_fwd,
    .attention_part_bwd = attention_part_bwd,
    .attention_decode = attention_decode,
    .embedding_bwd = embedding_bwd,
    .sum_squares = sum_squares,
    .bias_add = bias_add,
    .rmsnorm_fwd = rmsnorm_fwd,
    .layernorm_fwd = layernorm_fwd,
    .rope = rope,
    .gelu_fwd = gelu_fwd,
    .gelu_erf_fwd = gelu_erf_fwd,
    .qk_norm_sums = qk_norm_sums,
    .qk_norm_fwd = qk_norm_fwd,
    .qk_norm_dots = qk_norm_dots,
    .qk_norm_bwd = qk_norm_bwd,
    .swiglu_fwd = swiglu_fwd,
    .embedding_fwd = embedding_fwd,
    .softmax_loss = softmax_loss,
    .softmax_stats = softmax_stats,
    .softmax_part = softmax_part,
    .adamw_update = adamw_update,
    .cast = cast,
    .copy_columns = copy_columns,
    .add = add,
};
