/* gemm_bf16 - panels of bf16: for every step two tiles of 1 KiB.  A tile of the first operand is 16 rows of
 * 32 numbers; of the second, 16 pairs of numbers along the sum by 16 rows of the operand, which is how
 * TDPBF16PS and VDPBF16PS want it. */
#pragma once

#include "nn/gemm_tiles.h"

enum { GEMM_BF16_STEP = 32 * 32 /* numbers of a panel */ };

/* gemm_kernel's, for CPUs with AVX-512 */
void gemm_bf16_pack_step(void *to, const void *x, int64_t ld, bool deep, bool second);
