/* Tables of operations that time those of another: they take its place in nn while an account is
 * kept, so that nothing is paid for it otherwise.  A row that is missing here is not timed. */
#include "nn/nn_impl.h"

#include <stdlib.h>

#include "core/clock.h"

enum { FP32, BF16, N_TABLES };

struct nn_account {
    const struct nn_ops *real[N_TABLES];
    struct nn_ops timed[N_TABLES];
    struct nn_account_entry entries[NN_ACCOUNT_MAX];
    int n;
};

static double begin(struct nn *nn)
{
    device_wait(nn->device);
    return clock_seconds();
}

/* The operation that began at `start` is done. */
static void count(struct nn *nn, double start, const struct nn_account_entry *done)
{
    struct nn_account *a = nn->account;
    struct nn_account_entry *e = a->entries;
    struct nn_account_entry *const end = a->entries + a->n;
    device_wait(nn->device);
    while (e < end && (strcmp(e->name, done->name) != 0 || e->rows != done->rows ||
                       e->outputs != done->outputs || e->inputs != done->inputs))
        e++;
    if (e == end) {
        CHECK(a->n < NN_ACCOUNT_MAX);
        a->n++;
        *e = *done;
        e->seconds = e->bytes = 0;
        e->calls = 0;
    }
    e->seconds += clock_seconds() - start;
    e->bytes += done->bytes;
    e->calls++;
}

static const struct nn_ops *real_of(const struct nn *nn, const struct tensor *x)
{
    return nn->account->real[x->dtype == DTYPE_BF16 ? BF16 : FP32];
}

/* Bytes of a tensor that may be missing. */
static double of(const struct tensor *x)
{
    return x ? (double)tensor_bytes(x) : 0;
}

/* ---- products --------------------------------------------------------------------------------- */

/* w: [O, C], or what has its shape */
static void add_product(struct nn *nn, double start, const char *name, int64_t rows,
                        const struct tensor *w, double bytes)
{
    const struct nn_account_entry done = {.name = name,
                                          .rows = rows,
                                          .outputs = w->shape[0],
                                          .inputs = w->shape[1],
                                          .bytes = bytes + of(w)};
    count(nn, start, &done);
}

static void matmul(struct nn *nn, struct tensor *c, const struct tensor *a, bool trans_a,
                   const struct tensor *b, bool trans_b, enum nn_accum mode)
{
    const double start = begin(nn);
    real_of(nn, a)->matmul(nn, c, a, trans_a, b, trans_b, mode);
    if (trans_a)
        add_product(nn, start, NN_ACCOUNT_DW, a->shape[0], c, of(a) + of(b));
    else
        add_product(nn, start, trans_b ? NN_ACCOUNT_FORWARD : NN_ACCOUNT_DX, a->shape[0],
                    b, of(a) + of(c));
}

static void linear_fwd(struct nn *nn, struct tensor *y, const struct tensor *x,
                       const struct tensor *w, const struct tensor *b,
                       const struct tensor *residual)
{
    const double start = begin(nn);
    real_of(nn, x)->linear_fwd(nn, y, x, w, b, residual);
    add_product(nn, start, NN_ACCOUNT_FORWARD, x->shape[0], w,
                of(x) + of(y) + of(residual));
}

static void linear_gelu_fwd(struct nn *nn, struct tensor *y, struct tensor *u,
                            const struct tensor *x, const struct tensor *w,
                            const struct tensor *b)
{
    const double start = begin(nn);
    real_of(nn, x)->linear_gelu_fwd(nn, y, u, x, w, b);
    add_product(nn, start, NN_ACCOUNT_FORWARD, x->shape[0], w, of(x) + of(y) + of(u));
}

/* ---- the others ------------------------------------------------------------------------------- */

/* A row that is timed under its name; `like` says which table it is of. */
#define ROW(row, like, moved, params, ...)                                               \
    static void row params                                                               \
    {                                                                                    \
        const double start = begin(nn);                                                  \
        real_of(nn, like)->row(nn, __VA_ARGS__);                                         \
        count(nn, start, &(struct nn_account_entry){.name = #row, .bytes = moved});      \
    }
#define OUT struct tensor *
#define IN  const struct tensor *

ROW(bias_bwd, dy, of(dy), (struct nn * nn, OUT db, IN dy), db, dy)
ROW(bias_add, x, of(x) + of(y), (struct nn * nn, OUT y, IN x, IN b), y, x, b)
ROW(rmsnorm_fwd, x, of(x) + of(residual) + of(y),
    (struct nn * nn, OUT y, OUT rstd, IN x, IN residual, const struct nn_norm *p), y,
    rstd, x, residual, p)
ROW(rmsnorm_bwd, x, of(x) + of(dy) + (mode == NN_ACCUM ? 2 : 1) * of(dx),
    (struct nn * nn, OUT dx, IN dy, IN x, IN rstd, const struct nn_norm *p,
     enum nn_accum mode),
    dx, dy, x, rstd, p, mode)
ROW(layernorm_fwd, x, of(x) + of(residual) + of(y),
    (struct nn * nn, OUT y, OUT stats, IN x, IN residual, const struct nn_norm *p), y,
    stats, x, residual, p)
ROW(layernorm_bwd, x, of(x) + of(dy) + (mode == NN_ACCUM ? 2 : 1) * of(dx),
    (struct nn * nn, OUT dx, IN dy, IN x, IN stats, const struct nn_norm *p,
     enum nn_accum mode),
    dx, dy, x, stats, p, mode)
ROW(attention_fwd, qkv, of(qkv) + of(y),
    (struct nn * nn, OUT y, OUT lse, IN qkv, const struct nn_attention *a), y, lse, qkv,
    a)
ROW(attention_bwd, qkv, of(qkv) + of(dqkv) + of(y) + of(dy),
    (struct nn * nn, OUT dqkv, IN dy, IN y, IN lse, IN qkv, const struct nn_attention *a),
    dqkv, dy, y, lse, qkv, a)
ROW(attention_part_fwd, qkv, of(kv) + of(y),
    (struct nn * nn, OUT y, OUT lse, IN qkv, IN kv, const struct nn_attention_part *a,
     bool fresh),
    y, lse, qkv, kv, a, fresh)
ROW(attention_part_bwd, qkv, of(dq) + of(dkv) + of(kv) + of(y) + of(dy),
    (struct nn * nn, OUT dq, OUT dkv, IN dy, IN y, IN lse, IN qkv, IN kv,
     const struct nn_attention_part *a),
    dq, dkv, dy, y, lse, qkv, kv, a)
ROW(embedding_fwd, y, 2 * of(y),
    (struct nn * nn, OUT y, IN wte, IN wpe, const int32_t *tokens,
     const int32_t *positions, int64_t first_token),
    y, wte, wpe, tokens, positions, first_token)
ROW(embedding_bwd, dy, of(dy) * 3,
    (struct nn * nn, OUT dwte, OUT dwpe, IN dy, const int32_t *tokens,
     const int32_t *positions, int64_t first_token),
    dwte, dwpe, dy, tokens, positions, first_token)
ROW(rope, x, 2 * of(x), (struct nn * nn, OUT x, const struct nn_rope *r, float sign), x,
    r, sign)
ROW(gelu_fwd, x, of(x) + of(y), (struct nn * nn, OUT y, IN x), y, x)
ROW(gelu_bwd, x, of(x) + of(dy) + of(dx) + of(y),
    (struct nn * nn, OUT dx, OUT y, OUT db, IN dy, IN x), dx, y, db, dy, x)
ROW(gelu_erf_fwd, x, of(x) + of(y), (struct nn * nn, OUT y, IN x), y, x)
ROW(gelu_erf_bwd, x, of(x) + of(dy) + of(dx) + of(y),
    (struct nn * nn, OUT dx, OUT y, OUT db, IN dy, IN x), dx, y, db, dy, x)
ROW(swiglu_fwd, gu, of(gu) + of(y), (struct nn * nn, OUT y, IN gu), y, gu)
ROW(swiglu_bwd, gu, of(gu) + of(dy) + of(dgu) + of(y),
    (struct nn * nn, OUT dgu, OUT y, OUT db, IN dy, IN gu), dgu, y, db, dy, gu)
ROW(qk_norm_sums, raw, 2 * of(raw),
    (struct nn * nn, OUT sums, OUT raw, IN qkv, const struct nn_qk_norm *p), sums, raw,
    qkv, p)
ROW(qk_norm_fwd, raw, 2 * of(raw),
    (struct nn * nn, OUT qkv, IN raw, IN sums, const struct nn_qk_norm *p), qkv, raw,
    sums, p)
ROW(qk_norm_dots, raw, 2 * of(raw),
    (struct nn * nn, OUT dots, IN dqkv, IN raw, const struct nn_qk_norm *p), dots, dqkv,
    raw, p)
ROW(qk_norm_bwd, raw, 3 * of(raw),
    (struct nn * nn, OUT dqkv, IN raw, IN sums, IN dots, const struct nn_qk_norm *p),
    dqkv, raw, sums, dots, p)
ROW(softmax_loss, logits, 2 * of(logits),
    (struct nn * nn, struct nn_loss *loss, OUT logits, int64_t V,
     const struct nn_loss_rows *rows),
    loss, logits, V, rows)
ROW(softmax_stats, logits, of(logits),
    (struct nn * nn, float *stats, IN logits, int64_t V, const int32_t *targets,
     const struct nn_vocab_slice *slice),
    stats, logits, V, targets, slice)
ROW(softmax_part, logits, 2 * of(logits),
    (struct nn * nn, struct nn_loss *loss, OUT logits, int64_t V,
     const struct nn_loss_rows *rows, const float *stats,
     const struct nn_vocab_slice *slice),
    loss, logits, V, rows, stats, slice)
ROW(copy_columns, y, of(y) + of(x),
    (struct nn * nn, OUT y, int64_t y_col, IN x, int64_t x_col, int64_t cols), y, y_col,
    x, x_col, cols)
ROW(add, y, 2 * of(y) + of(x), (struct nn * nn, OUT y, IN x), y, x)

static void sum_squares(struct nn *nn, double *sum, const float *x, int64_t n)
{
    const double start = begin(nn);
    nn->account->real[FP32]->sum_squares(nn, sum, x, n);
    count(nn, start,
          &(struct nn_account_entry){.name = "sum_squares", .bytes = 4 * (double)n});
}

static void adamw_update(struct nn *nn, const struct nn_adamw_range *r,
                         const struct nn_adamw *p)
{
    const double start = begin(nn);
    const double low = r->low ? (double)dtype_bytes(r->low_type) : 0;
    nn->account->real[FP32]->adamw_update(nn, r, p);
    count(nn, start,
          &(struct nn_account_entry){.name = "adamw_update",
                                     .bytes = (NN_ADAMW_BYTES + low) * (double)r->n});
}

/* ---- the account ------------------------------------------------------------------------------ */

static struct nn_ops timed(const struct nn_ops *real)
{
    struct nn_ops t = *real;
#define TIME(row) t.row = row
    TIME(matmul), TIME(linear_fwd), TIME(linear_gelu_fwd), TIME(bias_bwd), TIME(bias_add);
    TIME(rmsnorm_fwd), TIME(rmsnorm_bwd), TIME(layernorm_fwd), TIME(layernorm_bwd);
    TIME(attention_fwd), TIME(attention_bwd), TIME(attention_part_fwd);
    TIME(attention_part_bwd), TIME(embedding_fwd), TIME(embedding_bwd), TIME(rope);
    TIME(gelu_fwd), TIME(gelu_bwd), TIME(gelu_erf_fwd), TIME(gelu_erf_bwd);
    TIME(swiglu_fwd), TIME(swiglu_bwd), TIME(qk_norm_sums), TIME(qk_norm_fwd);
    TIME(qk_norm_dots), TIME(qk_norm_bwd), TIME(softmax_loss), TIME(softmax_stats);
    TIME(softmax_part), TIME(copy_columns), TIME(add), TIME(sum_squares);
    TIME(adamw_update);
#undef TIME
    return t;
}

status_t nn_account_begin(struct nn *nn)
{
    CHECK(!nn->account);
    struct nn_account *a = calloc(1, sizeof *a);
    if (!a) return status_set(STATUS_NOMEM, "no memory for an account of operations");
    a->real[FP32] = nn->ops;
    a->real[BF16] = nn->ops_bf16;
    for (int i = 0; i < N_TABLES; i++) a->timed[i] = timed(a->real[i]);
    nn->account = a;
    nn->ops = &a->timed[FP32];
    nn->ops_bf16 = &a->timed[BF16];
    return STATUS_OK;
}

void nn_account_end(struct nn *nn)
{
    struct nn_account *a = nn->account;
    if (!a) return;
    nn->ops = a->real[FP32];
    nn->ops_bf16 = a->real[BF16];
    nn->account = NULL;
    free(a);
}

int nn_account_entries(const struct nn *nn, const struct nn_account_entry **entries)
{
    *entries = nn->account ? nn->account->entries : NULL;
    return nn->account ? nn->account->n : 0;
}
