/* gemm_amx - products of bf16 blocks with fp32 sums in the tile registers of a CPU (Intel's Advanced
 * Matrix Extensions: "Intel 64 and IA-32 Architectures Software Developer's Manual", volume 1,
 * chapter 18).  Compiled once, for such CPUs. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { GEMM_AMX_PANEL = 32 }; /* rows of the first operand that are packed at a time */

/* A block of an operand: its first number, and how far apart rows are.  Element (i, k), k along the
 * sum, is x[i * ld + k], or x[k * ld + i] if `deep` rows are along the sum. */
struct gemm_operand {
    const uint16_t *x;
    int64_t ld;
    bool deep;
};

/* Does this CPU have it, and does the system let this process use it? */
bool gemm_amx_usable(void);

/* uint16 of room for blocks of at most `cols` columns and `depth`. */
int64_t gemm_amx_room(int64_t cols, int64_t depth);

/* c[i, j] = or += sum over k < depth of a(i, k) b(j, k), for i < rows, j < cols, in an order that does
 * not depend on rows and cols.  c: rows ldc apart, of whole multiples of 32 rows and columns: what is
 * beyond rows and cols is written too.  c and room: aligned to 64 bytes.  On the calling thread. */
void gemm_amx_block(float *c, int64_t ldc, const struct gemm_operand *a,
                    const struct gemm_operand *b, int64_t rows, int64_t cols,
                    int64_t depth, bool accumulate, uint16_t *room);
