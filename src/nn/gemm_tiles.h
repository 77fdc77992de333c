/* gemm_tiles - products of bf16 with fp32 sums, 32 x 32 numbers at a time, out of packed operands.
 *
 * A panel is 32 rows of an operand and some depth along the sum, packed: for every 32 numbers along the
 * sum (a step) two tiles of 1 KiB.  A tile of the first operand is 16 rows of 32 numbers; of the second,
 * 16 pairs of numbers along the sum by 16 rows of the operand, which is how TDPBF16PS and VDPBF16PS want
 * it.  Zeros fill what is not there. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
    GEMM_SIDE = 32,           /* rows of a panel */
    GEMM_STEP = 32,           /* numbers along the sum */
    GEMM_PANEL_STEP = 32 * 32 /* numbers of a panel in a step */
};

/* An operand's first number, and how far apart rows are.  Element (i, k), k along the sum, is
 * x[i * ld + k], or x[k * ld + i] if `deep` rows are along the sum. */
struct gemm_operand {
    const uint16_t *x;
    int64_t ld;
    bool deep;
};

/* A panel of an operand's first 32 rows, of which `rows` are there (more count as 32).  to: aligned to
 * 64 bytes, GEMM_PANEL_STEP numbers a step. */
void gemm_pack(uint16_t *to, const struct gemm_operand *o, int64_t rows, int64_t depth,
               bool second);

/* What is wanted next: two lines a step are brought into the second-level cache meanwhile. */
struct gemm_ahead {
    const char *x[2]; /* NULL: nothing */
    int64_t step;     /* bytes */
};

struct gemm_kernel {
    /* around a thread's calls of multiply */
    void (*begin)(void);
    void (*end)(void);
    /* c[32][32] = or += the product of two panels.  first_stays: it will be read again at once and
     * should stay in the first-level cache, rather than the second.  c: aligned to 64 bytes. */
    void (*multiply)(float *c, const uint16_t *first, const uint16_t *second,
                     int64_t steps, bool accumulate, bool first_stays,
                     const struct gemm_ahead *ahead);
};

/* Tile registers (Intel's Advanced Matrix Extensions), 512-bit dot products (AVX512-BF16). */
extern const struct gemm_kernel gemm_amx, gemm_dot;

/* Does this CPU have it, and does the system let this process use it? */
bool gemm_amx_usable(void);
bool gemm_dot_usable(void);
