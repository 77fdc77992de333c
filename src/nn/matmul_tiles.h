/* matmul_tiles - matrix products out of packed panels, and how sums become results; between the
 * matmul*_cpu.c files. */
#pragma once

#include "nn/gemm_tiles.h"
#include "nn/ops_cpu.h"

/* c[m,n] = a b, and what its sums go through on their way out. */
struct product {
    struct gemm_operand a, b;
    int64_t m, n, k;
    const struct tensor *c;
    bool adds; /* to what c holds */
    const struct product_end *end;
};

/* floats of room a thread, for any product */
int64_t NN_CPU(matmul_tiles_floats)(const struct gemm_kernel *kernel);
/* room: aligned to 64 bytes */
void NN_CPU(matmul_tiles)(int threads, const struct gemm_kernel *kernel,
                          const struct product *p, float *room);

/* Rows and columns of c from i and j on, from sums that are `ld` apart. */
void NN_CPU(write_block)(const struct product *p, int64_t i, int64_t j, const float *sums,
                         int64_t ld, int64_t rows, int64_t cols);
