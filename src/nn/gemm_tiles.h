/* gemm_tiles - matrix products with fp32 sums, 32 x 32 numbers at a time, out of packed operands; rows
 * of a first operand may stay where they lie, for a kernel that takes them.
 *
 * A panel is 32 rows of an operand and some depth along the sum, packed as a kernel wants it, one step
 * of 32 numbers along the sum behind the other.  Zeros fill what is not there. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
    GEMM_SIDE = 32, /* rows of a panel */
    GEMM_STEP = 32, /* numbers along the sum */
    GEMM_LINE = 64  /* bytes */
};

/* An operand's first number, of the kernel's type, and how far apart rows are.  Element (i, k), k along
 * the sum, is x[i * ld + k], or x[k * ld + i] if `deep` rows are along the sum. */
struct gemm_operand {
    const void *x;
    int64_t ld;
    bool deep;
};

/* Rows of a product's first operand: a packed panel, or where they lie, for a kernel that takes them. */
struct gemm_rows {
    const void *x;
    int64_t row, step; /* numbers from a row to the next, from a step to the next */
};

/* What is wanted next: the lines that 32 numbers fill are brought into the second-level cache from two
 * places in every step. */
struct gemm_ahead {
    const char *x[2]; /* NULL: nothing */
    int64_t step;     /* bytes */
};

struct gemm_kernel {
    int64_t elem_bytes;  /* of a number of an operand */
    int64_t step_bytes;  /* of a step of a panel */
    int64_t depth;       /* along the sum that is multiplied at once, most */
    int64_t block_bytes; /* of panels that stay in the second-level cache, most */
    bool takes_rows; /* first operands need not be packed if all of a panel is there */

    /* around a thread's calls of multiply */
    void (*begin)(void);
    void (*end)(void);
    /* A step of a panel that is all there, rows ld apart, as the first operand of a product or the
     * second.  to: aligned to 64 bytes. */
    void (*pack_step)(void *to, const void *x, int64_t ld, bool deep, bool second);
    /* c[32][32] = or += the product of two panels.  first_passes: its rows were across the sum, and it,
     * rather than the second, will be read again at once and should stay in the first-level cache.  c:
     * aligned to 64 bytes. */
    void (*multiply)(float *c, const struct gemm_rows *first, const void *second,
                     int64_t steps, bool accumulate, bool first_passes,
                     const struct gemm_ahead *ahead);
};

/* A panel of an operand's first 32 rows, of which `rows` are there (more count as 32), and as many steps
 * as `depth` takes. */
void gemm_pack(const struct gemm_kernel *kernel, void *to, const struct gemm_operand *o,
               int64_t rows, int64_t depth, bool second);

/* The rows of a first operand's packed panel. */
struct gemm_rows gemm_packed_rows(const struct gemm_kernel *kernel, const void *panel);

/* bf16: tile registers (Intel's Advanced Matrix Extensions), 512-bit dot products (AVX512-BF16). */
extern const struct gemm_kernel gemm_amx, gemm_dot;
/* fp32: tile registers, out of three numbers of bf16 each. */
extern const struct gemm_kernel gemm_bf16x6;

/* Does this CPU have it, and does the system let this process use it? */
bool gemm_amx_usable(void);
bool gemm_dot_usable(void);
