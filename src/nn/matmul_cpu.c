/* Matrix products of one type.  fp32: the library's.  bf16: with fp32 sums that are rounded once, out of
 * packed panels where the CPU has instructions for bf16, else as fp32 products of blocks. */
#include <omp.h>

#include "nn/matmul_tiles.h"

#ifdef NN_BF16
/* ---- how sums become results -------------------------------------------------------------- */

static void write_floats(float *to, const float *from, int64_t n, bool adds)
{
    if (!adds) {
        memcpy(to, from, (size_t)n * sizeof *to);
        return;
    }
#pragma omp simd
    for (int64_t j = 0; j < n; j++) to[j] += from[j];
}

/* n numbers of a row; add[]: what goes on top, NULL behind the last */
static void write_elems(elem *to, const float *from, int64_t n, const elem *const add[3])
{
    if (!add[0])
#pragma omp simd
        for (int64_t j = 0; j < n; j++) to[j] = put(from[j]);
    else if (!add[1])
#pragma omp simd
        for (int64_t j = 0; j < n; j++) to[j] = put(from[j] + get(add[0][j]));
    else if (!add[2])
#pragma omp simd
        for (int64_t j = 0; j < n; j++)
            to[j] = put(from[j] + get(add[0][j]) + get(add[1][j]));
    else
#pragma omp simd
        for (int64_t j = 0; j < n; j++)
            to[j] = put(from[j] + get(add[0][j]) + get(add[1][j]) + get(add[2][j]));
}

void NN_CPU(write_block)(const struct product *p, int64_t i0, int64_t j0,
                         const float *sums, int64_t ld, int64_t rows, int64_t cols)
{
    const struct product_end *end = p->end;
    for (int64_t i = 0; i < rows; i++) {
        const int64_t at = (i0 + i) * p->c->shape[1] + j0;
        const float *from = sums + i * ld;
        if (p->c->dtype == DTYPE_F32) {
            write_floats((float *)p->c->data + at, from, cols, p->adds);
            continue;
        }
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

/* ---- without instructions for bf16 -------------------------------------------------------- */

enum { ROWS = 128, COLS = 256, DEPTH = 512 };

/* Numbers [i, i + n) by [k, k + depth) of an operand; *ld: how far apart rows are in the copy. */
static const float *block_in_fp32(float *room, const struct gemm_operand *o, int64_t i,
                                  int64_t n, int64_t k, int64_t depth, int64_t *ld)
{
    *ld = o->ld;
    return rows_in_fp32(room, o->x + (o->deep ? k * o->ld + i : i * o->ld + k), ld,
                        o->deep ? depth : n, o->deep ? n : depth);
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
static void multiply_in_fp32(int threads, const struct product *p, float *scratch)
{
    const int64_t down = attention_ceil_div(p->m, ROWS);
    const int64_t across = attention_ceil_div(p->n, COLS);
#pragma omp parallel num_threads(threads)
    {
        float *mine = scratch + omp_get_thread_num() * NN_CPU(matmul_floats)();
#pragma omp for schedule(static)
        for (int64_t t = 0; t < down * across; t++) {
            const int64_t i = t / across * ROWS, j = t % across * COLS;
            make_block(p, i, j, attention_min(ROWS, p->m - i),
                       attention_min(COLS, p->n - j), mine);
        }
    }
}

/* ---- the choice --------------------------------------------------------------------------- */

/* What multiplies panels; NULL: nothing does. */
static const struct gemm_kernel *kernel(void)
{
#ifdef __AMX_BF16__
    return &gemm_amx;
#elif defined __AVX512BF16__
    return &gemm_dot;
#else
    return NULL;
#endif
}

int64_t NN_CPU(matmul_floats)(void)
{
    return kernel() ? NN_CPU(matmul_tiles_room)() / 2
                    : ROWS * COLS + (ROWS + COLS) * DEPTH;
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
    if (kernel())
        NN_CPU(matmul_tiles)(threads, kernel(), &p, (uint16_t *)(void *)scratch);
    else
        multiply_in_fp32(threads, &p, scratch);
}
#else
int64_t NN_CPU(matmul_floats)(void)
{
    return 0;
}

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

void NN_CPU(matmul)(int threads, const struct tensor *c, const struct tensor *a,
                    bool trans_a, const struct tensor *b, bool trans_b,
                    enum nn_accum mode, const struct product_end *end, float *scratch)
{
    (void)scratch;
    struct product_end rest = *end;
    if (end->residual) {
        /* the product goes on top of residual and bias, which saves a pass over memory */
        NN_CPU(bias_add)
        (threads, elems(c), end->residual, end->bias, c->shape[0], c->shape[1]);
        mode = NN_ACCUM, rest.bias = NULL;
    }
    gemm_team(threads, trans_a, trans_b, c, a, b, mode);
    if (rest.bias || rest.gelu) finish_rows(threads, c, &rest);
}
#endif
