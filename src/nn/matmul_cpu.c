/* Matrix products of one type: out of packed panels where there is a kernel for it, with sums that are
 * rounded once.  Else fp32 is the library's, and bf16 is fp32 products of blocks. */
#include <omp.h>

#include "nn/matmul_tiles.h"
#include "nn/vec.h"

/* ---- how sums become results -------------------------------------------------------------- */

#ifdef NN_BF16
static void write_floats(float *to, const float *from, int64_t n, bool adds)
{
    if (!adds)
        memcpy(to, from, (size_t)n * sizeof *to);
    else
        EACH_VEC(j, k, n) vec_add_to(to + j, vec_load_floats(from + j, k), k);
}
#endif

/* n numbers of a row; add[]: what goes on top, NULL behind the last */
static void write_elems(elem *to, const float *from, int64_t n, const elem *const add[4])
{
    EACH_VEC(j, k, n)
    {
        vec sum = vec_load_floats(from + j, k);
        for (int a = 0; add[a]; a++) sum += vec_load(add[a] + j, k);
        vec_store(to + j, sum, k);
    }
}

void NN_CPU(write_block)(const struct product *p, int64_t i0, int64_t j0,
                         const float *sums, int64_t ld, int64_t rows, int64_t cols)
{
    const struct product_end *end = p->end;
    for (int64_t i = 0; i < rows; i++) {
        const int64_t at = (i0 + i) * p->c->shape[1] + j0;
        const float *from = sums + i * ld;
#ifdef NN_BF16
        if (p->c->dtype == DTYPE_F32) {
            write_floats((float *)p->c->data + at, from, cols, p->adds);
            continue;
        }
#endif
        elem *to = (elem *)p->c->data + at;
        const elem *add[4] = {NULL};
        int n = 0;
        if (end->bias) add[n++] = end->bias + j0;
        if (end->residual) add[n++] = end->residual + at;
        if (p->adds) add[n++] = to;
        write_elems(to, from, cols, add);
        if (end->gelu) NN_CPU(gelu_row)(end->gelu + at, to, cols);
    }
}

/* ---- without a kernel -------------------------------------------------------------------- */

#ifdef NN_BF16
enum {
    ROWS = 128,
    COLS = 256,
    DEPTH = 512,
    FLOATS = ROWS * COLS + (ROWS + COLS) * DEPTH
};

/* Numbers [i, i + n) by [k, k + depth) of an operand; *ld: how far apart rows are in the copy. */
static const float *block_in_fp32(float *room, const struct gemm_operand *o, int64_t i,
                                  int64_t n, int64_t k, int64_t depth, int64_t *ld)
{
    *ld = o->ld;
    return rows_in_fp32(room,
                        (const elem *)o->x + (o->deep ? k * o->ld + i : i * o->ld + k),
                        ld, o->deep ? depth : n, o->deep ? n : depth);
}

static void make_block(const struct product *p, int64_t i, int64_t j, int64_t rows,
                       int64_t cols, float *sums)
{
    float *room = sums + ROWS * COLS;
    for (int64_t k = 0; k < p->k; k += DEPTH) {
        int64_t lda, ldb;
        const int64_t depth = attention_min(DEPTH, p->k - k);
        const float *a = block_in_fp32(room, &p->a, i, rows, k, depth, &lda);
        const float *b =
            block_in_fp32(room + ROWS * DEPTH, &p->b, j, cols, k, depth, &ldb);
        nn_gemm(p->a.deep, !p->b.deep, rows, cols, depth, 1, a, lda, b, ldb,
                k > 0 ? 1.0f : 0.0f, sums, COLS);
    }
    NN_CPU(write_block)(p, i, j, sums, COLS, rows, cols);
}

/* Blocks do not depend on the threads, because the library's sums depend on the size of a block. */
static void multiply_otherwise(int threads, const struct product *p, float *scratch)
{
    const int64_t down = attention_ceil_div(p->m, ROWS);
    const int64_t across = attention_ceil_div(p->n, COLS);
#pragma omp parallel num_threads(threads)
    {
        float *mine = scratch + omp_get_thread_num() * FLOATS;
#pragma omp for schedule(static)
        for (int64_t t = 0; t < down * across; t++) {
            const int64_t i = t / across * ROWS, j = t % across * COLS;
            make_block(p, i, j, attention_min(ROWS, p->m - i),
                       attention_min(COLS, p->n - j), mine);
        }
    }
}
#else
enum { FLOATS = 0 };

/* c += bias in every row, and its gelu, while the row is in the cache */
static void finish_rows(int threads, const struct tensor *c,
                        const struct product_end *end)
{
    const int64_t n = c->shape[1];
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < c->shape[0]; i++) {
        elem *row = elems(c) + i * n;
        if (end->bias)
#pragma omp simd
            for (int64_t j = 0; j < n; j++) row[j] += end->bias[j];
        if (end->gelu) NN_CPU(gelu_row)(end->gelu + i * n, row, n);
    }
}

static void multiply_otherwise(int threads, const struct product *p, float *scratch)
{
    (void)scratch;
    struct product_end rest = *p->end;
    bool adds = p->adds;
    if (rest.residual) {
        /* the product goes on top of residual and bias, which saves a pass over memory */
        NN_CPU(bias_add)
        (threads, elems(p->c), rest.residual, rest.bias, p->c->shape[0], p->c->shape[1]);
        adds = true, rest.bias = NULL;
    }
    gemm_team(threads, p->a.deep, !p->b.deep, p->m, p->n, p->k, p->a.x, p->a.ld, p->b.x,
              p->b.ld, adds ? 1.0f : 0.0f, elems(p->c), p->c->shape[1]);
    if (rest.bias || rest.gelu) finish_rows(threads, p->c, &rest);
}
#endif

/* ---- the choice --------------------------------------------------------------------------- */

/* What multiplies panels; NULL: nothing does. */
static const struct gemm_kernel *kernel(void)
{
#if defined __AMX_BF16__
    return sizeof(elem) == sizeof(float) ? &gemm_bf16x6 : &gemm_amx;
#elif defined __AVX512BF16__
    return &gemm_dot;
#else
    return NULL;
#endif
}

int64_t NN_CPU(matmul_floats)(void)
{
    return kernel() ? NN_CPU(matmul_tiles_floats)(kernel()) : FLOATS;
}

void NN_CPU(matmul)(int threads, const struct tensor *c, const struct tensor *a,
                    bool trans_a, const struct tensor *b, bool trans_b,
                    enum nn_accum mode, const struct product_end *end, float *scratch)
{
    const struct product p = {.a = {elems(a), a->shape[1], trans_a},
                              .b = {elems(b), b->shape[1], !trans_b},
                              .m = c->shape[0],
                              .n = b->shape[trans_b ? 0 : 1],
                              .k = b->shape[trans_b ? 1 : 0],
                              .c = c,
                              .adds = mode == NN_ACCUM,
                              .end = end};
    /* with fewer rows packing the other operand takes longer than the product */
    enum { FEW_ROWS = 16 };
    if (kernel() && (sizeof(elem) < sizeof(float) || p.m >= FEW_ROWS))
        NN_CPU(matmul_tiles)(threads, kernel(), &p, scratch);
    else
        multiply_otherwise(threads, &p, scratch);
}
