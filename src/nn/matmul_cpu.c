/* Matrix products of one type.  fp32: the library's.  bf16: in blocks, with fp32 sums that are rounded
 * once, in the CPU's tile registers, or, without them, as fp32 products of blocks. */
#include <omp.h>

#include "nn/gemm_amx.h"
#include "nn/ops_cpu.h"

#ifdef NN_BF16
/* A block of sums, of one operand and of the other share the second-level cache. */
enum { ROWS = 512, COLS = 512, DEPTH = 512 };

struct product {
    struct gemm_operand a, b;
    int64_t m, n, k;
    bool amx;
};

/* Numbers [i, i + rows) by [k, k + depth) of an operand. */
static struct gemm_operand block_of(const struct gemm_operand *o, int64_t i, int64_t k)
{
    struct gemm_operand block = *o;
    block.x += o->deep ? k * o->ld + i : i * o->ld + k;
    return block;
}

static const float *block_in_fp32(float *room, const struct gemm_operand *o, int64_t n,
                                  int64_t depth, int64_t *ld)
{
    *ld = o->ld;
    return rows_in_fp32(room, o->x, ld, o->deep ? depth : n, o->deep ? n : depth);
}

/* As gemm_amx_block does it. */
static void multiply_in_fp32(float *c, int64_t ldc, const struct gemm_operand *a,
                             const struct gemm_operand *b, int64_t rows, int64_t cols,
                             int64_t depth, bool accumulate, float *room)
{
    int64_t lda, ldb;
    const float *fa = block_in_fp32(room, a, rows, depth, &lda);
    const float *fb = block_in_fp32(room + ROWS * DEPTH, b, cols, depth, &ldb);
    nn_gemm(a->deep, !b->deep, rows, cols, depth, 1, fa, lda, fb, ldb,
            accumulate ? 1.0f : 0.0f, c, ldc);
}

/* A block of c from its sums. */
static void write_block(const struct tensor *c, int64_t i0, int64_t j0, const float *sums,
                        int64_t rows, int64_t cols, enum nn_accum mode)
{
    const int64_t ldc = c->shape[1];
    for (int64_t i = 0; i < rows; i++) {
        const float *from = sums + i * COLS;
        float *to = (float *)c->data + (i0 + i) * ldc + j0;
        elem *low = (elem *)c->data + (i0 + i) * ldc + j0;
        const float keep = mode == NN_ACCUM ? 1.0f : 0.0f;
        if (c->dtype == DTYPE_F32 && mode == NN_ASSIGN)
            memcpy(to, from, (size_t)cols * sizeof *to);
        else if (c->dtype == DTYPE_F32)
#pragma omp simd
            for (int64_t j = 0; j < cols; j++) to[j] += from[j];
        else if (keep == 0)
#pragma omp simd
            for (int64_t j = 0; j < cols; j++) low[j] = put(from[j]);
        else
#pragma omp simd
            for (int64_t j = 0; j < cols; j++) low[j] = put(get(low[j]) + from[j]);
    }
}

static void make_block(const struct product *p, const struct tensor *c, int64_t i0,
                       int64_t j0, int64_t rows, int64_t cols, enum nn_accum mode,
                       float *scratch)
{
    float *room = scratch + ROWS * COLS;
    for (int64_t k = 0; k < p->k; k += DEPTH) {
        const int64_t depth = p->k - k < DEPTH ? p->k - k : DEPTH;
        const struct gemm_operand a = block_of(&p->a, i0, k), b = block_of(&p->b, j0, k);
        if (p->amx)
            gemm_amx_block(scratch, COLS, &a, &b, rows, cols, depth, k > 0,
                           (uint16_t *)(void *)room);
        else
            multiply_in_fp32(scratch, COLS, &a, &b, rows, cols, depth, k > 0, room);
    }
    write_block(c, i0, j0, scratch, rows, cols, mode);
}

/* The number of parts of n, none above `most`, and their size in whole panels. */
static int64_t part_size(int64_t n, int64_t parts)
{
    const int64_t size = (n + parts - 1) / parts;
    return (size + GEMM_AMX_PANEL - 1) / GEMM_AMX_PANEL * GEMM_AMX_PANEL;
}

int64_t NN_CPU(matmul_floats)(void)
{
    const int64_t operands = (ROWS + COLS) * DEPTH, amx = gemm_amx_room(COLS, DEPTH) / 2;
    return ROWS * COLS + (operands > amx ? operands : amx);
}

void NN_CPU(matmul)(int threads, const struct tensor *c, const struct tensor *a,
                    bool trans_a, const struct tensor *b, bool trans_b,
                    enum nn_accum mode, float *scratch)
{
    struct product p = {.a = {elems(a), a->shape[1], trans_a},
                        .b = {elems(b), b->shape[1], !trans_b},
                        .m = c->shape[0],
                        .n = b->shape[trans_b ? 0 : 1],
                        .k = b->shape[trans_b ? 1 : 0]};
#ifdef __AVX512F__
    p.amx = gemm_amx_usable();
#endif
    /* as few blocks as the cache allows, but enough for all threads */
    int64_t down = attention_ceil_div(p.m, ROWS), across = attention_ceil_div(p.n, COLS);
    while (down * across % threads != 0 && down * across < 4 * threads &&
           part_size(p.m, down + 1) >= 2 * GEMM_AMX_PANEL)
        down++;
    const int64_t rows = part_size(p.m, down), cols = part_size(p.n, across);
    down = attention_ceil_div(p.m, rows), across = attention_ceil_div(p.n, cols);
#pragma omp parallel num_threads(threads)
    {
        float *mine = scratch + omp_get_thread_num() * NN_CPU(matmul_floats)();
#pragma omp for schedule(static)
        for (int64_t t = 0; t < down * across; t++) {
            const int64_t i = t / across * rows, j = t % across * cols;
            make_block(&p, c, i, j, attention_min(rows, p.m - i),
                       attention_min(cols, p.n - j), mode, mine);
        }
    }
}
#else
int64_t NN_CPU(matmul_floats)(void)
{
    return 0;
}

void NN_CPU(matmul)(int threads, const struct tensor *c, const struct tensor *a,
                    bool trans_a, const struct tensor *b, bool trans_b,
                    enum nn_accum mode, float *scratch)
{
    (void)scratch;
    gemm_team(threads, trans_a, trans_b, c, a, b, mode);
}
#endif
