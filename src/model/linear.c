/* Linear layers under tensor parallelism.
 *
 * Rows whose input is still being gathered are multiplied last, and a sum over ranks goes on while
 * weight gradients are made: a transfer has a product to hide behind. */
#include "model/model_impl.h"

static const struct tensor *optional(const struct tensor *t)
{
    return t->n_dims ? t : NULL;
}

/* Rows in front of, of and behind the own ones. */
struct parts {
    int64_t first[3], n[3];
};

enum { BEFORE, OWN, BEHIND };

static struct parts parts_of(const struct model *m, int64_t N)
{
    struct parts p = {.n = {0}};
    tp_rows(m->tp, N, &p.first[OWN], &p.n[OWN]);
    p.n[BEFORE] = p.first[OWN];
    p.first[BEHIND] = p.first[OWN] + p.n[OWN];
    p.n[BEHIND] = N - p.first[BEHIND];
    return p;
}

/* y rows [first, first + n) = x rows w^T + b + residual */
static void some_rows(struct model *m, const struct tensor *y, const struct tensor *x,
                      const struct linear *l, int64_t first, int64_t n,
                      const struct tensor *b, const struct tensor *residual)
{
    struct tensor yn = tensor_rows(y, first, n);
    const struct tensor xn = tensor_rows(x, first, n);
    if (n > 0) nn_linear_fwd(m->nn, &yn, &xn, &l->w, b, residual);
}

void column_fwd(struct model *m, struct tensor *y, const struct tensor *h,
                const struct linear *l)
{
    static const int order[] = {OWN, BEFORE, BEHIND};
    const struct parts p = parts_of(m, h->shape[0]);
    tp_gather_begin(m->tp, h);
    for (int i = 0; i < 3; i++) {
        const int k = order[i];
        some_rows(m, y, h, l, p.first[k], p.n[k], optional(&l->b), NULL);
        if (k == OWN) tp_gather_end(m->tp);
    }
}

void column_gelu_fwd(struct model *m, struct tensor *y, struct tensor *u,
                     const struct tensor *h, const struct linear *l)
{
    static const int order[] = {OWN, BEFORE, BEHIND};
    const struct parts p = parts_of(m, h->shape[0]);
    tp_gather_begin(m->tp, h);
    for (int i = 0; i < 3; i++) {
        const int k = order[i];
        struct tensor yk = tensor_rows(y, p.first[k], p.n[k]);
        struct tensor uk = tensor_rows(u, p.first[k], p.n[k]);
        const struct tensor hk = tensor_rows(h, p.first[k], p.n[k]);
        if (p.n[k] > 0) nn_linear_gelu_fwd(m->nn, &yk, &uk, &hk, &l->w, optional(&l->b));
        if (k == OWN) tp_gather_end(m->tp);
    }
}

/* The term of this rank has bias and residual in it where nobody else's has. */
static void one_term(struct model *m, struct tensor *sum, const struct tensor *x,
                     const struct linear *l, const struct tensor *residual)
{
    const struct parts p = parts_of(m, x->shape[0]);
    if (!tp_is_sharded(m->tp)) {
        const bool adds = tp_rank(m->tp) == 0;
        some_rows(m, sum, x, l, 0, x->shape[0], adds ? optional(&l->b) : NULL,
                  adds ? residual : NULL);
        return;
    }
    some_rows(m, sum, x, l, p.first[BEFORE], p.n[BEFORE], NULL, NULL);
    some_rows(m, sum, x, l, p.first[BEHIND], p.n[BEHIND], NULL, NULL);
    some_rows(m, sum, x, l, p.first[OWN], p.n[OWN], optional(&l->b), residual);
}

void row_fwd(struct model *m, struct tensor *y, const struct tensor *x,
             const struct linear *l, const struct tensor *residual)
{
    const size_t mark = arena_mark(m->arena);
    struct tensor sum = *y;
    if (tp_is_sharded(m->tp)) sum = model_take(m, x->shape[0], y->shape[1]);
    one_term(m, &sum, x, l, residual);
    tp_reduce_begin(m->tp, &sum);
    tp_reduce_end(m->tp);
    if (tp_is_sharded(m->tp)) {
        const struct tensor own = tp_own(m->tp, &sum);
        nn_bias_add(m->nn, y, &own, NULL);
    }
    arena_rewind(m->arena, mark);
}

void column_bias_bwd(struct model *m, const struct tensor *dy, struct linear *l)
{
    if (l->b.n_dims) nn_bias_bwd(m->nn, &l->db, dy);
}

void column_bwd(struct model *m, struct tensor *dh, const struct tensor *dy,
                const struct tensor *h, struct linear *l, bool weights)
{
    if (weights) tp_gather_begin(m->tp, h);
    nn_matmul_nn(m->nn, dh, dy, &l->w, NN_ASSIGN);
    tp_reduce_begin(m->tp, dh);
    if (weights) {
        tp_gather_end(m->tp);
        nn_matmul_tn(m->nn, &l->dw, dy, h, NN_ACCUM);
    }
    tp_reduce_end(m->tp);
}

void column_weights_later(struct model *m, const struct tensor *dy,
                          const struct tensor *h, struct linear *l)
{
    tp_gather_begin(m->tp, h);
    column_bias_bwd(m, dy, l);
    tp_gather_end(m->tp);
    nn_matmul_tn(m->nn, &l->dw, dy, h, NN_ACCUM);
}

/* Of the own rows: with sequence parallelism ranks have different ones, else the same. */
static void row_bias_bwd(struct model *m, const struct tensor *dy, struct linear *l)
{
    const struct tensor own = tp_own(m->tp, dy);
    if (l->b.n_dims) nn_bias_bwd(m->nn, &l->db, &own);
}

void row_bwd(struct model *m, struct tensor *dx, const struct tensor *dy,
             const struct linear *l)
{
    static const int order[] = {OWN, BEFORE, BEHIND};
    const struct parts p = parts_of(m, dy->shape[0]);
    tp_gather_begin(m->tp, dy);
    for (int i = 0; i < 3; i++) {
        const int k = order[i];
        struct tensor dxk = tensor_rows(dx, p.first[k], p.n[k]);
        const struct tensor dyk = tensor_rows(dy, p.first[k], p.n[k]);
        if (p.n[k] > 0) nn_matmul_nn(m->nn, &dxk, &dyk, &l->w, NN_ASSIGN);
        if (k == OWN) tp_gather_end(m->tp);
    }
}

void row_weights(struct model *m, const struct tensor *dy, const struct tensor *x,
                 struct linear *l)
{
    nn_matmul_tn(m->nn, &l->dw, dy, x, NN_ACCUM);
    row_bias_bwd(m, dy, l);
}

void row_weights_later(struct model *m, const struct tensor *dy, const struct tensor *x,
                       struct linear *l)
{
    tp_gather_begin(m->tp, dy);
    row_bias_bwd(m, dy, l);
    tp_gather_end(m->tp);
    nn_matmul_tn(m->nn, &l->dw, dy, x, NN_ACCUM);
}
