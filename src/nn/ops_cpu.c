/* A table of the CPU: every row unpacks its tensors, takes scratch whose size follows from shapes and
 * threads, and calls the code of one instruction set and type. */
#include "nn/ops_cpu.h"

#define STRING_(x) #x
#define STRING(x)  STRING_(x)

static int64_t rows_of(const struct tensor *x)
{
    return x->shape[0];
}

static int64_t cols_of(const struct tensor *x)
{
    return x->shape[1];
}

/* Threads for a pass over x: all, or one where that is done before the others are called in.  Nothing in
 * between, because libgomp ends the threads that a smaller team leaves out and makes new ones for the next. */
static int team(const struct nn *nn, const struct tensor *x)
{
    enum { LEAST_NUMBERS = 2048 }; /* of each of two threads, or half as many of more */
    const int64_t shares = nn->n_threads > 4 ? nn->n_threads / 2 : 2;
    return tensor_elements(x) >= shares * LEAST_NUMBERS ? nn->n_threads : 1;
}

/* ---- with scratch ------------------------------------------------------------------------ */

static void product(struct nn *nn, struct tensor *c, const struct tensor *a, bool trans_a,
                    const struct tensor *b, bool trans_b, enum nn_accum mode,
                    const struct product_end *end)
{
    const size_t mark = arena_mark(&nn->scratch);
    float *scratch = arena_floats(&nn->scratch, nn->n_threads * NN_CPU(matmul_floats)());
    if (!nn->measuring)
        NN_CPU(matmul)(nn->n_threads, c, a, trans_a, b, trans_b, mode, end, scratch);
    arena_rewind(&nn->scratch, mark);
}

static void matmul(struct nn *nn, struct tensor *c, const struct tensor *a, bool trans_a,
                   const struct tensor *b, bool trans_b, enum nn_accum mode)
{
    const struct product_end end = {NULL, NULL, NULL};
    product(nn, c, a, trans_a, b, trans_b, mode, &end);
}

static void bias_add(struct nn *nn, struct tensor *y, const struct tensor *x,
                     const struct tensor *b)
{
    NN_CPU(bias_add)
    (team(nn, y), elems(y), elems(x), b ? elems(b) : NULL, rows_of(y), cols_of(y));
}

static void linear_fwd(struct nn *nn, struct tensor *y, const struct tensor *x,
                       const struct tensor *w, const struct tensor *b,
                       const struct tensor *residual)
{
    const struct product_end end = {.bias = b ? elems(b) : NULL,
                                    .residual = residual ? elems(residual) : NULL};
    product(nn, y, x, false, w, true, NN_ASSIGN, &end);
}

static void gelu_fwd(struct nn *nn, struct tensor *y, const struct tensor *x)
{
    NN_CPU(gelu_fwd)(team(nn, x), elems(y), elems(x), rows_of(x), cols_of(x));
}

static void linear_gelu_fwd(struct nn *nn, struct tensor *y, struct tensor *u,
                            const struct tensor *x, const struct tensor *w,
                            const struct tensor *b)
{
    const struct product_end end = {.bias = b ? elems(b) : NULL, .gelu = elems(y)};
    product(nn, u, x, false, w, true, NN_ASSIGN, &end);
}

static void bias_bwd(struct nn *nn, struct tensor *db, const struct tensor *dy)
{
    if (nn->measuring) return;
    NN_CPU(bias_bwd)
    (team(nn, dy), tensor_f32(db), elems(dy), rows_of(dy), cols_of(dy));
}

/* Each thread sums its rows' share of dw, and of db, on its own. */
static void rmsnorm_bwd(struct nn *nn, struct tensor *dx, const struct tensor *dy,
                        const struct tensor *x, const struct tensor *rstd,
                        const struct nn_norm *p, enum nn_accum mode)
{
    const size_t mark = arena_mark(&nn->scratch);
    float *partial = arena_floats(&nn->scratch, nn->n_threads * cols_of(x));
    if (!nn->measuring) {
        NN_CPU(rmsnorm_bwd)
        (team(nn, x), elems(dx), tensor_f32(p->dw), partial, elems(dy), elems(x),
         tensor_f32(rstd), elems(p->w), rows_of(x), cols_of(x), mode == NN_ACCUM);
    }
    arena_rewind(&nn->scratch, mark);
}

static void layernorm_bwd(struct nn *nn, struct tensor *dx, const struct tensor *dy,
                          const struct tensor *x, const struct tensor *stats,
                          const struct nn_norm *p, enum nn_accum mode)
{
    const size_t mark = arena_mark(&nn->scratch);
    float *partial = arena_floats(&nn->scratch, nn->n_threads * 2 * cols_of(x));
    if (!nn->measuring) {
        NN_CPU(layernorm_bwd)
        (team(nn, x), elems(dx), tensor_f32(p->dw), tensor_f32(p->db), partial, elems(dy),
         elems(x), tensor_f32(stats), elems(p->w), rows_of(x), cols_of(x),
         mode == NN_ACCUM);
    }
    arena_rewind(&nn->scratch, mark);
}

/* The code of one activation's backward. */
typedef void activation_bwd(int threads, elem *dx, elem *y, float *db, float *partial,
                            const elem *dy, const elem *x, int64_t N, int64_t F);

static void run_activation_bwd(struct nn *nn, activation_bwd *run, struct tensor *dx,
                               struct tensor *y, struct tensor *db,
                               const struct tensor *dy, const struct tensor *x)
{
    const size_t mark = arena_mark(&nn->scratch);
    float *partial = db ? arena_floats(&nn->scratch, nn->n_threads * cols_of(dx)) : NULL;
    if (!nn->measuring)
        run(team(nn, x), elems(dx), y ? elems(y) : NULL, db ? tensor_f32(db) : NULL,
            partial, elems(dy), elems(x), rows_of(dy), cols_of(dy));
    arena_rewind(&nn->scratch, mark);
}

static void gelu_bwd(struct nn *nn, struct tensor *dx, struct tensor *y,
                     struct tensor *db, const struct tensor *dy, const struct tensor *x)
{
    run_activation_bwd(nn, NN_CPU(gelu_bwd), dx, y, db, dy, x);
}

static void gelu_erf_bwd(struct nn *nn, struct tensor *dx, struct tensor *y,
                         struct tensor *db, const struct tensor *dy,
                         const struct tensor *x)
{
    run_activation_bwd(nn, NN_CPU(gelu_erf_bwd), dx, y, db, dy, x);
}

static void swiglu_bwd(struct nn *nn, struct tensor *dgu, struct tensor *y,
                       struct tensor *db, const struct tensor *dy,
                       const struct tensor *gu)
{
    run_activation_bwd(nn, NN_CPU(swiglu_bwd), dgu, y, db, dy, gu);
}

static void qk_norm_bwd(struct nn *nn, struct tensor *dqkv, const struct tensor *raw,
                        const struct tensor *sums, const struct tensor *dots,
                        const struct nn_qk_norm *p)
{
    const size_t mark = arena_mark(&nn->scratch);
    float *partial = arena_floats(&nn->scratch, nn->n_threads * cols_of(raw));
    if (!nn->measuring) {
        NN_CPU(qk_norm_bwd)
        (team(nn, raw), elems(dqkv), partial, elems(raw), tensor_f32(sums),
         tensor_f32(dots), rows_of(raw), cols_of(dqkv), p);
    }
    arena_rewind(&nn->scratch, mark);
}

/* q and kv may be one tensor, as the view says; y is of their type or fp32. */
static void view_fwd(struct nn *nn, struct tensor *y, struct tensor *lse,
                     const struct tensor *q, const struct tensor *kv,
                     const struct attention_view *v, bool fresh)
{
    const size_t mark = arena_mark(&nn->scratch);
    float *scratch = arena_floats(&nn->scratch, attention_fwd_floats(v, nn->n_threads));
    if (!nn->measuring) {
        NN_CPU(attention_fwd)
        (nn->n_threads, y, tensor_f32(lse), scratch, elems(q), elems(kv), fresh, v);
    }
    arena_rewind(&nn->scratch, mark);
}

static void attention_fwd(struct nn *nn, struct tensor *y, struct tensor *lse,
                          const struct tensor *qkv, const struct nn_attention *a)
{
    const struct attention_view v = attention_view_of(a);
    view_fwd(nn, y, lse, qkv, qkv, &v, true);
}

static void attention_part_fwd(struct nn *nn, struct tensor *y, struct tensor *lse,
                               const struct tensor *qkv, const struct tensor *kv,
                               const struct nn_attention_part *a, bool fresh)
{
    const struct attention_view v = attention_view_of_part(a);
    view_fwd(nn, y, lse, qkv, kv, &v, fresh);
}

/* What backward reads. */
struct attention_results {
    const struct tensor *dy, *y, *lse, *q, *kv;
};

static void view_bwd(struct nn *nn, const struct attention_gradients *g,
                     const struct attention_results *r, const struct attention_view *v)
{
    const size_t mark = arena_mark(&nn->scratch);
    float *scratch = arena_floats(&nn->scratch, attention_bwd_floats(v, nn->n_threads));
    if (!nn->measuring) {
        NN_CPU(attention_bwd)
        (nn->n_threads, g, scratch, elems(r->dy), elems(r->y), tensor_f32(r->lse),
         elems(r->q), elems(r->kv), v);
    }
    arena_rewind(&nn->scratch, mark);
}

static void attention_bwd(struct nn *nn, struct tensor *dqkv, const struct tensor *dy,
                          const struct tensor *y, const struct tensor *lse,
                          const struct tensor *qkv, const struct nn_attention *a)
{
    const struct attention_view v = attention_view_of(a);
    const struct attention_gradients g = {.dq = dqkv, .dq_width = v.q_width, .dkv = dqkv};
    const struct attention_results r = {dy, y, lse, qkv, qkv};
    view_bwd(nn, &g, &r, &v);
}

static void attention_part_bwd(struct nn *nn, struct tensor *dq, struct tensor *dkv,
                               const struct tensor *dy, const struct tensor *y,
                               const struct tensor *lse, const struct tensor *qkv,
                               const struct tensor *kv, const struct nn_attention_part *a)
{
    const struct attention_view v = attention_view_of_part(a);
    const struct attention_gradients g = {
        .dq = dq, .dq_width = a->H * a->D, .adds = true, .dkv = dkv};
    const struct attention_results r = {dy, y, lse, qkv, kv};
    view_bwd(nn, &g, &r, &v);
}

static void attention_decode(struct nn *nn, struct tensor *y, struct tensor *cache_k,
                             struct tensor *cache_v, const struct tensor *qkv,
                             int64_t length, const struct nn_attention *a)
{
    const size_t mark = arena_mark(&nn->scratch);
    float *scratch =
        arena_floats(&nn->scratch, nn->n_threads * attention_decode_floats(a));
    if (!nn->measuring) {
        NN_CPU(attention_decode)
        (nn->n_threads, elems(y), elems(cache_k), elems(cache_v), scratch, elems(qkv),
         length, a);
    }
    arena_rewind(&nn->scratch, mark);
}

static struct token_rows token_rows_of(const struct tensor *w, int64_t first_token)
{
    return (struct token_rows){.first = first_token < 0 ? 0 : first_token,
                               .n = rows_of(w)};
}

static void embedding_bwd(struct nn *nn, struct tensor *dwte, struct tensor *dwpe,
                          const struct tensor *dy, const int32_t *tokens,
                          const int32_t *positions, int64_t first_token)
{
    if (nn->measuring) return;
    const struct token_rows rows = token_rows_of(dwte, first_token);
    NN_CPU(embedding_bwd)
    (team(nn, dy), tensor_f32(dwte), dwpe ? tensor_f32(dwpe) : NULL, elems(dy), tokens,
     positions, rows_of(dy), cols_of(dy), &rows);
}

static void sum_squares(struct nn *nn, double *sum, const float *x, int64_t n)
{
    if (!nn->measuring) *sum += NN_CPU(sum_squares)(nn->n_threads, x, n);
}

/* ---- without ----------------------------------------------------------------------------- */

static void rmsnorm_fwd(struct nn *nn, struct tensor *y, struct tensor *rstd,
                        const struct tensor *x, const struct tensor *residual,
                        const struct nn_norm *p)
{
    NN_CPU(rmsnorm_fwd)
    (team(nn, x), elems(y), tensor_f32(rstd), elems(x), residual ? elems(residual) : NULL,
     elems(p->w), p->eps, rows_of(x), cols_of(x));
}

static void layernorm_fwd(struct nn *nn, struct tensor *y, struct tensor *stats,
                          const struct tensor *x, const struct tensor *residual,
                          const struct nn_norm *p)
{
    NN_CPU(layernorm_fwd)
    (team(nn, x), elems(y), tensor_f32(stats), elems(x),
     residual ? elems(residual) : NULL, elems(p->w), elems(p->b), p->eps, rows_of(x),
     cols_of(x));
}

static void rope(struct nn *nn, struct tensor *x, const struct nn_rope *r, float sign)
{
    NN_CPU(rope)(team(nn, x), elems(x), rows_of(x), cols_of(x), r, sign);
}

static void gelu_erf_fwd(struct nn *nn, struct tensor *y, const struct tensor *x)
{
    NN_CPU(gelu_erf_fwd)(team(nn, x), elems(y), elems(x), rows_of(x), cols_of(x));
}

static void qk_norm_sums(struct nn *nn, struct tensor *sums, struct tensor *raw,
                         const struct tensor *qkv, const struct nn_qk_norm *p)
{
    NN_CPU(qk_norm_sums)
    (team(nn, raw), tensor_f32(sums), elems(raw), elems(qkv), rows_of(raw), cols_of(qkv),
     p);
}

static void qk_norm_fwd(struct nn *nn, struct tensor *qkv, const struct tensor *raw,
                        const struct tensor *sums, const struct nn_qk_norm *p)
{
    NN_CPU(qk_norm_fwd)
    (team(nn, raw), elems(qkv), elems(raw), tensor_f32(sums), rows_of(raw), cols_of(qkv),
     p);
}

static void qk_norm_dots(struct nn *nn, struct tensor *dots, const struct tensor *dqkv,
                         const struct tensor *raw, const struct nn_qk_norm *p)
{
    NN_CPU(qk_norm_dots)
    (team(nn, raw), tensor_f32(dots), elems(dqkv), elems(raw), rows_of(raw),
     cols_of(dqkv), p);
}

static void swiglu_fwd(struct nn *nn, struct tensor *y, const struct tensor *gu)
{
    NN_CPU(swiglu_fwd)
    (team(nn, gu), elems(y), elems(gu), rows_of(y), cols_of(y));
}

static void embedding_fwd(struct nn *nn, struct tensor *y, const struct tensor *wte,
                          const struct tensor *wpe, const int32_t *tokens,
                          const int32_t *positions, int64_t first_token)
{
    const struct token_rows rows = token_rows_of(wte, first_token);
    NN_CPU(embedding_fwd)
    (team(nn, y), elems(y), elems(wte), wpe ? elems(wpe) : NULL, tokens, positions,
     rows_of(y), cols_of(y), &rows);
}

static void add_losses(struct nn_loss *loss, const struct nn_loss_rows *rows, int64_t N)
{
    for (int64_t n = 0; n < N; n++) {
        loss->sum += (double)rows->loss[n];
        if (rows->square) loss->z_sum += (double)rows->square[n];
        loss->n_targets += rows->targets[n] >= 0;
    }
}

static void softmax_loss(struct nn *nn, struct nn_loss *loss, struct tensor *logits,
                         int64_t V, const struct nn_loss_rows *rows)
{
    CHECK(cols_of(logits) == V); /* here nothing is gained by longer rows */
    NN_CPU(softmax_loss)(team(nn, logits), elems(logits), rows_of(logits), V, rows);
    add_losses(loss, rows, rows_of(logits));
}

static void softmax_stats(struct nn *nn, float *stats, const struct tensor *logits,
                          int64_t V, const int32_t *targets,
                          const struct nn_vocab_slice *slice)
{
    CHECK(cols_of(logits) == V);
    NN_CPU(softmax_stats)
    (team(nn, logits), stats, elems(logits), targets, rows_of(logits), V, slice);
}

static void softmax_part(struct nn *nn, struct nn_loss *loss, struct tensor *logits,
                         int64_t V, const struct nn_loss_rows *rows, const float *stats,
                         const struct nn_vocab_slice *slice)
{
    NN_CPU(softmax_part)
    (team(nn, logits), elems(logits), rows_of(logits), V, rows, stats, slice);
    add_losses(loss, rows, rows_of(logits));
}

static void adamw_update(struct nn *nn, const struct nn_adamw_range *r,
                         const struct nn_adamw *p)
{
    NN_CPU(adamw_update)(nn->n_threads, r, p);
}

static void cast(struct nn *nn, struct tensor *y, const struct tensor *x)
{
    (void)nn;
    dtype_convert(y->data, y->dtype, x->data, x->dtype, tensor_elements(x));
}

static void copy_columns(struct nn *nn, struct tensor *y, int64_t y_col,
                         const struct tensor *x, int64_t x_col, int64_t cols)
{
    const size_t yb = dtype_bytes(y->dtype), xb = dtype_bytes(x->dtype);
#pragma omp parallel for num_threads(team(nn, y)) schedule(static)
    for (int64_t n = 0; n < rows_of(y); n++)
        dtype_convert((char *)y->data + (size_t)(n * cols_of(y) + y_col) * yb, y->dtype,
                      (const char *)x->data + (size_t)(n * cols_of(x) + x_col) * xb,
                      x->dtype, cols);
}

static void add(struct nn *nn, struct tensor *y, const struct tensor *x)
{
    NN_CPU(add)(team(nn, y), elems(y), elems(x), tensor_elements(y));
}

const struct nn_ops NN_CPU(nn_ops) = {
    .isa = STRING(NN_ISA),
    .matmul = matmul,
    .linear_fwd = linear_fwd,
    .linear_gelu_fwd = linear_gelu_fwd,
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
